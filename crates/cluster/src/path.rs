//! Request paths.

use std::fmt::Write as _;

use percent_encoding::{AsciiSet, CONTROLS, NON_ALPHANUMERIC, utf8_percent_encode};
use trainerd_object::Resource;

use crate::error::RequestError;

/// What a path segment must not hold as it is. Names of RBAC objects hold `:`, which may stay.
const SEGMENT: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'/')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'[')
    .add(b'\\')
    .add(b']')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// `/apis/apps/v1`, or `/api/v1` for the core group.
pub(crate) fn group_version(resource: &Resource) -> String {
    if resource.group.is_empty() {
        format!("/api/{}", segment(&resource.version))
    } else {
        format!("/apis/{}/{}", segment(&resource.group), segment(&resource.version))
    }
}

/// The collection of a kind, in one namespace or, with `None`, in all.
pub(crate) fn collection(resource: &Resource, namespace: Option<&str>) -> String {
    let base = group_version(resource);
    let plural = segment(&resource.plural);
    match namespace {
        Some(namespace) if resource.namespaced => {
            format!("{base}/namespaces/{}/{plural}", segment(namespace))
        }
        _ => format!("{base}/{plural}"),
    }
}

/// The collection that an object is created in.
pub(crate) fn home(resource: &Resource, namespace: Option<&str>) -> Result<String, RequestError> {
    if resource.namespaced && namespace.is_none_or(str::is_empty) {
        return Err(RequestError::Address { what: "metadata.namespace" });
    }
    Ok(collection(resource, namespace))
}

/// One object.
pub(crate) fn object(
    resource: &Resource,
    namespace: Option<&str>,
    name: &str,
) -> Result<String, RequestError> {
    if name.is_empty() {
        return Err(RequestError::Address { what: "metadata.name" });
    }
    Ok(format!("{}/{}", home(resource, namespace)?, segment(name)))
}

/// One object, or only its `status` subresource.
pub(crate) fn part(
    resource: &Resource,
    namespace: Option<&str>,
    name: &str,
    status: bool,
) -> Result<String, RequestError> {
    let object = object(resource, namespace, name)?;
    Ok(if status { format!("{object}/status") } else { object })
}

/// Query parameters, in the order given; nothing when there are none.
#[derive(Clone, Debug, Default)]
pub(crate) struct Query(String);

impl Query {
    pub(crate) fn set(&mut self, key: &str, value: &str) -> &mut Self {
        let separator = if self.0.is_empty() { '?' } else { '&' };
        // Writing to a String cannot fail.
        let _ = write!(self.0, "{separator}{key}={}", utf8_percent_encode(value, NON_ALPHANUMERIC));
        self
    }

    pub(crate) fn set_some(&mut self, key: &str, value: Option<&str>) -> &mut Self {
        if let Some(value) = value { self.set(key, value) } else { self }
    }

    pub(crate) fn append_to(&self, path: &str) -> String {
        format!("{path}{}", self.0)
    }
}

fn segment(text: &str) -> String {
    // `.` and `..` would climb; no object may be called so, and a server answers 404 to the encoded form.
    match text {
        "." => "%2E".to_owned(),
        ".." => "%2E%2E".to_owned(),
        _ => utf8_percent_encode(text, SEGMENT).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resource(group: &str, plural: &str, namespaced: bool) -> Resource {
        Resource {
            group: group.to_owned(),
            version: "v1".to_owned(),
            kind: String::new(),
            plural: plural.to_owned(),
            namespaced,
        }
    }

    #[test]
    fn objects_have_the_paths_the_server_serves() {
        let cases = [
            (resource("", "configmaps", true), Some("ns"), "a", "/api/v1/namespaces/ns/configmaps/a"),
            (
                resource("apps", "deployments", true),
                Some("ns"),
                "a",
                "/apis/apps/v1/namespaces/ns/deployments/a",
            ),
            (resource("", "namespaces", false), None, "ns", "/api/v1/namespaces/ns"),
            // A namespace given for a cluster-scoped kind is not part of its path.
            (resource("", "namespaces", false), Some("x"), "ns", "/api/v1/namespaces/ns"),
            (
                resource("rbac.authorization.k8s.io", "clusterroles", false),
                None,
                "system:auth-delegator",
                "/apis/rbac.authorization.k8s.io/v1/clusterroles/system:auth-delegator",
            ),
            // Nothing that a person typed as a namespace leads to another path.
            (
                resource("", "pods", true),
                Some("a/../b?x#"),
                "..",
                "/api/v1/namespaces/a%2F..%2Fb%3Fx%23/pods/%2E%2E",
            ),
        ];
        for (resource, namespace, name, expected) in cases {
            assert_eq!(object(&resource, namespace, name).unwrap(), expected);
        }
    }

    #[test]
    fn a_status_has_its_own_path() {
        let pods = resource("", "pods", true);
        assert_eq!(part(&pods, Some("ns"), "a", false).unwrap(), "/api/v1/namespaces/ns/pods/a");
        assert_eq!(part(&pods, Some("ns"), "a", true).unwrap(), "/api/v1/namespaces/ns/pods/a/status");
    }

    #[test]
    fn collections_span_namespaces_when_none_is_named() {
        let pods = resource("", "pods", true);
        assert_eq!(collection(&pods, None), "/api/v1/pods");
        assert_eq!(collection(&pods, Some("ns")), "/api/v1/namespaces/ns/pods");
    }

    #[test]
    fn an_incomplete_address_is_an_error() {
        let pods = resource("", "pods", true);
        for (namespace, name, what) in [
            (None, "a", "metadata.namespace"),
            (Some(""), "a", "metadata.namespace"),
            (Some("ns"), "", "metadata.name"),
        ] {
            match object(&pods, namespace, name) {
                Err(RequestError::Address { what: got }) => assert_eq!(got, what),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn queries_are_encoded() {
        let mut query = Query::default();
        assert_eq!(query.append_to("/api"), "/api");
        query.set("labelSelector", "a=b,c!=d").set_some("continue", None).set("force", "true");
        assert_eq!(query.append_to("/api"), "/api?labelSelector=a%3Db%2Cc%21%3Dd&force=true");
    }
}
