//! Image references: parsed once, rewritten and printed ever after.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// Longest name a registry accepts, host included (distribution specification).
const MAX_NAME: usize = 255;
/// Longest tag (OCI distribution specification).
const MAX_TAG: usize = 128;

/// A text that is no image reference.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("not an image reference")]
pub struct NotAnImage;

/// A container image reference: `[host[:port]/]path[:tag][@digest]`, spelled as it was given.
///
/// Holds only what the distribution reference grammar allows. It may lack both tag and digest; such a one
/// is never rendered (see [`ImageRef::tagged`]).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ImageRef {
    host: Option<String>,
    path: String,
    tag: Option<String>,
    digest: Option<String>,
}

impl ImageRef {
    /// The tag, `None` where there is none.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// Whether the reference says which registry it is at.
    pub fn has_host(&self) -> bool {
        self.host.is_some()
    }

    /// Whether the reference names one image rather than whatever `latest` is.
    pub fn is_pinned(&self) -> bool {
        self.tag.is_some() || self.digest.is_some()
    }

    /// This reference, with `tag` if it has neither tag nor digest.
    #[must_use]
    pub fn tagged(mut self, tag: &str) -> Self {
        if !self.is_pinned() {
            self.tag = Some(tag.to_owned());
        }
        self
    }

    /// This reference at another registry: path, tag and digest stay, after the normalisation that a
    /// container runtime makes (`x` is `docker.io/library/x`). What is already there stays as it is.
    #[must_use]
    pub fn at(mut self, registry: &Registry) -> Self {
        if self.to_string().starts_with(&format!("{registry}/")) {
            return self;
        }
        let docker_hub =
            self.host.as_deref().is_none_or(|host| matches!(host, "docker.io" | "index.docker.io"));
        if docker_hub && !self.path.contains('/') {
            self.path = format!("library/{}", self.path);
        }
        self.host = Some(registry.0.clone());
        self
    }
}

impl fmt::Display for ImageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(host) = &self.host {
            write!(f, "{host}/")?;
        }
        f.write_str(&self.path)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl FromStr for ImageRef {
    type Err = NotAnImage;

    fn from_str(text: &str) -> Result<Self, NotAnImage> {
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest)),
            None => (text, None),
        };
        // A colon after the last slash starts the tag; one before it belongs to the port.
        let slash = rest.rfind('/').map_or(0, |at| at + 1);
        let (name, tag) = match rest[slash..].find(':') {
            Some(colon) => (&rest[..slash + colon], Some(&rest[slash + colon + 1..])),
            None => (rest, None),
        };
        let (host, path) = match name.split_once('/') {
            Some((first, path)) if names_host(first) => (Some(first), path),
            _ => (None, name),
        };
        let valid = name.len() <= MAX_NAME
            && host.is_none_or(is_host)
            && is_path(path)
            && tag.is_none_or(is_tag)
            && digest.is_none_or(is_digest);
        if !valid {
            return Err(NotAnImage);
        }
        let owned = |part: Option<&str>| part.map(str::to_owned);
        Ok(Self { host: owned(host), path: path.to_owned(), tag: owned(tag), digest: owned(digest) })
    }
}

/// A text that names no registry.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("must be host[:port][/path] without scheme")]
pub struct NotARegistry;

/// Where images are pulled from: `host[:port][/path]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registry(String);

impl fmt::Display for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Registry {
    type Err = NotARegistry;

    /// The host must be one that a container runtime takes for a host: with a dot, a port, or `localhost`.
    /// Of `mirror/pytorch` it would make `docker.io/mirror/pytorch`, and pull from where nobody meant to.
    fn from_str(text: &str) -> Result<Self, NotARegistry> {
        let (host, path) = match text.split_once('/') {
            Some((host, path)) => (host, Some(path)),
            None => (text, None),
        };
        let valid = names_host(host) && is_host(host) && path.is_none_or(is_path);
        if valid { Ok(Self(text.to_owned())) } else { Err(NotARegistry) }
    }
}

/// Whether the first part of a name is a host, by the rule that container runtimes share.
fn names_host(first: &str) -> bool {
    first == "localhost" || first.contains(['.', ':']) || first.bytes().any(|byte| byte.is_ascii_uppercase())
}

fn is_host(host: &str) -> bool {
    let (name, port) = match host.split_once(':') {
        Some((name, port)) => (name, Some(port)),
        None => (host, None),
    };
    let label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    name.split('.').all(label) && port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0))
}

fn is_path(path: &str) -> bool {
    path.split('/').all(is_path_part)
}

/// `[a-z0-9]+` joined by one dot, one or two underscores, or dashes.
fn is_path_part(part: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let ends = part.bytes().next().is_some_and(word) && part.bytes().last().is_some_and(word);
    ends && part.split(|c: char| c.is_ascii() && word(c as u8)).all(|separator| {
        matches!(separator, "" | "." | "_" | "__") || separator.bytes().all(|byte| byte == b'-')
    })
}

fn is_tag(tag: &str) -> bool {
    tag.len() <= MAX_TAG
        && tag.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && tag.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'))
}

fn is_digest(digest: &str) -> bool {
    let Some((algorithm, hex)) = digest.split_once(':') else { return false };
    let length = match algorithm {
        "sha256" => 64,
        "sha512" => 128,
        _ => return false,
    };
    hex.len() == length && hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

    #[test]
    fn references_are_parsed_and_printed_as_given() {
        for text in [
            "x",
            "x:1",
            "pytorch/pytorch:2.13.0-cuda13.0-cudnn9-runtime",
            "docker.io/library/x:1",
            "localhost:5000/a/b__c/d--e.f:v1_2",
            "registry.k8s.io/jobset/jobset:v0.12.0",
            "LOCAL/x",
        ] {
            assert_eq!(
                text.parse::<ImageRef>().map(|image| image.to_string()),
                Ok(text.to_owned()),
                "{text}"
            );
        }
        let pinned = format!("ghcr.io/a/b:1@{DIGEST}");
        let image: ImageRef = pinned.parse().unwrap();
        assert_eq!((image.tag(), image.is_pinned(), image.to_string()), (Some("1"), true, pinned));
    }

    #[test]
    fn invalid_references_are_rejected() {
        for text in [
            "",
            ":1",
            "x:",
            "x@",
            "x y",
            "https://ghcr.io/a",
            "ghcr.io/",
            "ghcr.io//a",
            "a/B",
            "a/b:-1",
            "a_-b",
            "a___b",
            "-a",
            "a-",
            "host.io:0/a",
            "host.io:port/a",
            "a@sha256:12",
            "a@md5:d41d8cd98f00b204e9800998ecf8427e",
            "é",
        ] {
            assert_eq!(text.parse::<ImageRef>(), Err(NotAnImage), "{text}");
        }
        assert!(format!("x:{}", "t".repeat(MAX_TAG + 1)).parse::<ImageRef>().is_err());
        assert!("a/".repeat(MAX_NAME).trim_end_matches('/').parse::<ImageRef>().is_err());
    }

    #[test]
    fn another_registry_keeps_path_tag_and_digest() {
        let registry: Registry = "mirror.local:5000/team".parse().unwrap();
        let digest = format!("ghcr.io/a/b@{DIGEST}");
        let moved = format!("mirror.local:5000/team/a/b@{DIGEST}");
        for (from, to) in [
            ("pytorch/pytorch:t", "mirror.local:5000/team/pytorch/pytorch:t"),
            ("x:1", "mirror.local:5000/team/library/x:1"),
            ("docker.io/x:1", "mirror.local:5000/team/library/x:1"),
            ("docker.io/library/x:1", "mirror.local:5000/team/library/x:1"),
            ("localhost/x:1", "mirror.local:5000/team/x:1"),
            ("nvcr.io/nvidia/jax:25.10-py3", "mirror.local:5000/team/nvidia/jax:25.10-py3"),
            ("mirror.local:5000/team/a:1", "mirror.local:5000/team/a:1"),
            ("mirror.local:5000/teams/a:1", "mirror.local:5000/team/teams/a:1"),
            (digest.as_str(), moved.as_str()),
        ] {
            assert_eq!(from.parse::<ImageRef>().unwrap().at(&registry).to_string(), to);
        }
    }

    #[test]
    fn a_tag_is_added_only_without_tag_or_digest() {
        let tagged = |text: &str| text.parse::<ImageRef>().unwrap().tagged("v2.3.0").to_string();
        assert_eq!(tagged("ghcr.io/a/b"), "ghcr.io/a/b:v2.3.0");
        assert_eq!(tagged("ghcr.io/a/b:1"), "ghcr.io/a/b:1");
        assert_eq!(tagged(&format!("ghcr.io/a/b@{DIGEST}")), format!("ghcr.io/a/b@{DIGEST}"));
    }

    #[test]
    fn registries_need_a_host_that_container_runtimes_recognize() {
        for text in ["ghcr.io", "localhost", "localhost:5000", "r.local:5000/a/b", "10.0.0.1:5000"] {
            assert!(text.parse::<Registry>().is_ok(), "{text}");
        }
        for text in [
            "",
            "https://ghcr.io",
            "mirror",
            "mirror/a",
            "ghcr.io/",
            "ghcr.io/A",
            "r.local:x",
            "r.local:70000",
            "a b.io",
        ] {
            assert_eq!(text.parse::<Registry>(), Err(NotARegistry), "{text}");
        }
    }
}
