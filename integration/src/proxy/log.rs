//! What passed through the proxy.

use http::{Method, Uri};
use serde_json::Value;

/// A request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its place, counted from 1.
    pub number: usize,
    /// Method.
    pub method: Method,
    /// Path without the query.
    pub path: String,
    /// The object's path; for a create, with the name that the body gives.
    pub object: String,
    /// Whether the API server is asked to store nothing.
    pub dry_run: bool,
    /// Whether it is a watch.
    pub watch: bool,
    /// The API server's answer; `None` when it got none or was not asked.
    pub status: Option<u16>,
}

impl Entry {
    /// Reads a request.
    pub(crate) fn new(number: usize, method: &Method, uri: &Uri, body: &[u8]) -> Self {
        let has = |wanted: &[&str]| {
            uri.query().is_some_and(|query| query.split('&').any(|pair| wanted.contains(&pair)))
        };
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        let path = uri.path().to_owned();
        let object = match (method, body.pointer("/metadata/name").and_then(Value::as_str)) {
            (&Method::POST, Some(name)) => format!("{path}/{name}"),
            _ => path.clone(),
        };
        Self {
            number,
            method: method.clone(),
            path,
            object,
            dry_run: has(&["dryRun=All"]) || body["dryRun"].is_array(),
            watch: has(&["watch=true", "watch=1"]),
            status: None,
        }
    }

    /// Whether the request is to store something: neither a read, nor a dry-run, nor a question about access.
    pub fn is_write(&self) -> bool {
        !self.dry_run
            && !matches!(self.method, Method::GET | Method::HEAD)
            && !self.path.starts_with("/apis/authorization.k8s.io/")
    }

    /// Whether the request stored something.
    pub fn wrote(&self) -> bool {
        self.is_write() && self.status.is_some_and(|status| (200..300).contains(&status))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_are_distinguished_from_reads() {
        let cases: [(Method, &str, &str, &str, bool); 7] = [
            (Method::GET, "/api/v1/pods?watch=true", "", "/api/v1/pods", false),
            (Method::PATCH, "/api/v1/namespaces/n?fieldManager=x", "{}", "/api/v1/namespaces/n", true),
            (Method::PATCH, "/api/v1/namespaces/n?dryRun=All", "{}", "/api/v1/namespaces/n", false),
            (
                Method::POST,
                "/api/v1/namespaces",
                r#"{"metadata":{"name":"n"}}"#,
                "/api/v1/namespaces/n",
                true,
            ),
            (Method::DELETE, "/api/v1/namespaces/n", r#"{"dryRun":["All"]}"#, "/api/v1/namespaces/n", false),
            (Method::DELETE, "/api/v1/namespaces/n", "{}", "/api/v1/namespaces/n", true),
            (
                Method::POST,
                "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
                "{}",
                "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
                false,
            ),
        ];
        for (method, uri, body, object, write) in cases {
            let entry = Entry::new(1, &method, &uri.parse().unwrap(), body.as_bytes());
            assert_eq!((entry.object.as_str(), entry.is_write()), (object, write), "{method} {uri}");
        }
    }
}
