//! Who receives every request.

use std::fmt;
use std::sync::Arc;

use crate::error::Verb;

/// A request that was answered, or given up.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// What was asked for.
    pub verb: Verb,
    /// Plural of the resource, with its subresource if any; empty for what is none, such as `/version`.
    pub resource: &'a str,
    /// Status code; 0 where there was no answer.
    pub code: u16,
}

/// Receives every request. It must not block.
#[derive(Clone)]
pub struct Observer(Arc<dyn Fn(&Request<'_>) + Send + Sync>);

impl Observer {
    /// An observer that calls this.
    pub fn new(observe: impl Fn(&Request<'_>) + Send + Sync + 'static) -> Self {
        Self(Arc::new(observe))
    }

    pub(crate) fn tell(&self, verb: Verb, path: &str, code: u16) {
        (self.0)(&Request { verb, resource: resource(path), code });
    }
}

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Observer")
    }
}

/// The resource that a request path is about.
fn resource(path: &str) -> &str {
    let path = path.split('?').next().unwrap_or_default();
    let mut parts = path.trim_start_matches('/').split('/');
    let skipped = match parts.next() {
        Some("api") => 1,
        Some("apis") => 2,
        _ => return "",
    };
    let mut rest = parts.skip(skipped);
    match (rest.next(), rest.nth(1)) {
        (Some("namespaces"), Some(resource)) | (Some(resource), _) => resource,
        (None, _) => "",
    }
}

#[cfg(test)]
mod tests {
    use super::resource;

    #[test]
    fn a_path_names_its_resource() {
        for (path, expected) in [
            ("/api/v1/namespaces/ns/secrets/a?x=1", "secrets"),
            ("/api/v1/namespaces/ns/secrets?watch=true", "secrets"),
            ("/api/v1/namespaces/ns", "namespaces"),
            ("/api/v1/namespaces", "namespaces"),
            ("/apis/apps/v1/deployments", "deployments"),
            ("/apis/apps/v1/namespaces/ns/deployments/a", "deployments"),
            ("/apis/apps/v1", ""),
            ("/version", ""),
        ] {
            assert_eq!(resource(path), expected, "{path}");
        }
    }
}
