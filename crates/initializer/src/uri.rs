//! `STORAGE_URI`: where the files are.

use percent_encoding::percent_decode_str;
use url::Url;

/// What is initialized.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A dataset.
    Dataset,
    /// A pre-trained model.
    Model,
}

impl Kind {
    /// In lower case.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dataset => "dataset",
            Self::Model => "model",
        }
    }
}

/// Schemes of a dataset, as they are listed to a user.
const SCHEMES: &str = "hf, s3, gs, az, abfs, http, https, file, cache";

/// A place that files, or a data cache, come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// A repository of the hub.
    Hub {
        /// `owner/name`.
        repository: String,
        /// A branch, tag or commit.
        revision: Option<String>,
    },
    /// Objects below a prefix of a bucket or container, or one object.
    Store {
        /// Which store.
        store: Store,
        /// The URI, as it is shown.
        url: Url,
        /// Key prefix without slashes at its ends; empty for the whole bucket.
        prefix: String,
    },
    /// One file of a web server.
    Http {
        /// Without fragment.
        url: Url,
        /// Of the fragment `#sha256=…`.
        sha256: Option<String>,
        /// The last part of the path.
        name: String,
    },
    /// A file or folder of this machine.
    File {
        /// Its path.
        path: std::path::PathBuf,
    },
    /// A table for a data cache.
    Cache {
        /// First part.
        schema: String,
        /// Second part.
        table: String,
    },
}

/// A kind of object store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    /// S3 and what speaks its protocol.
    S3,
    /// Google Cloud Storage.
    Gcs,
    /// Azure Blob Storage.
    Azure,
}

/// A URI that names no place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Unset, for a dataset.
    #[error("STORAGE_URI environment variable must be set")]
    UnsetDataset,
    /// Unset, for a model.
    #[error("STORAGE_URI env variable must be set.")]
    UnsetModel,
    /// A scheme that a dataset cannot have.
    #[error("Unsupported dataset storage URI scheme '{0}': expected one of {SCHEMES}")]
    DatasetScheme(String),
    /// A scheme that a model cannot have. The URI is without credentials.
    #[error("STORAGE_URI must have the valid model provider. STORAGE_URI: {0}")]
    ModelProvider(String),
    /// Not `cache://<SCHEMA_NAME>/<TABLE_NAME>`.
    #[error("Invalid cache storage URI '{0}': expected format cache://<SCHEMA_NAME>/<TABLE_NAME>")]
    Cache(String),
    /// Another form than the scheme has.
    #[error("invalid storage URI '{uri}': expected {expected}")]
    Form {
        /// Without credentials.
        uri: String,
        /// What would do.
        expected: &'static str,
    },
}

/// Reads `STORAGE_URI`.
pub fn parse(uri: &str, kind: Kind) -> Result<Location, Error> {
    let unset = match kind {
        Kind::Dataset => Error::UnsetDataset,
        Kind::Model => Error::UnsetModel,
    };
    if uri.is_empty() {
        return Err(unset);
    }
    let (scheme, rest) = uri.split_once("://").unwrap_or(("", uri));
    let form = |expected| Error::Form { uri: shown(uri), expected };
    match scheme {
        "hf" => hub(rest, kind).ok_or_else(|| form("hf://<owner>/<name>")),
        "s3" | "s3a" => store(uri, Store::S3).ok_or_else(|| form("s3://<bucket>/<prefix>")),
        "gs" => store(uri, Store::Gcs).ok_or_else(|| form("gs://<bucket>/<prefix>")),
        "az" | "abfs" | "abfss" => store(uri, Store::Azure).ok_or_else(|| form("az://<container>/<prefix>")),
        "http" | "https" => web(uri).ok_or_else(|| {
            form("http(s)://<host>/<path>/<file>, with #sha256=<64 hexadecimal digits> or nothing")
        }),
        "file" => {
            let path = Url::parse(uri).ok().and_then(|url| url.to_file_path().ok());
            path.map(|path| Location::File { path }).ok_or_else(|| form("file:///<path>"))
        }
        "cache" if kind == Kind::Dataset => match rest.split('/').collect::<Vec<_>>().as_slice() {
            [namespace, table] if !namespace.is_empty() && !table.is_empty() => {
                Ok(Location::Cache { schema: (*namespace).to_owned(), table: (*table).to_owned() })
            }
            _ => Err(Error::Cache(uri.to_owned())),
        },
        _ => Err(match kind {
            Kind::Dataset => Error::DatasetScheme(scheme.to_owned()),
            Kind::Model => Error::ModelProvider(shown(uri)),
        }),
    }
}

/// A repository: of a dataset the first two parts, of a model all of them. A revision follows the name, after `@`;
/// in it `%2F` is a slash, and `refs/pr/1` is one revision.
fn hub(rest: &str, kind: Kind) -> Option<Location> {
    let (name, revision) = match rest.split_once('@') {
        None => (rest, None),
        Some((name, after)) => {
            let parts = match (kind, after.starts_with("refs/")) {
                (Kind::Model, _) => usize::MAX,
                (Kind::Dataset, true) => 3,
                (Kind::Dataset, false) => 1,
            };
            let revision: Vec<&str> = after.split('/').take(parts).collect();
            (name, Some(percent_decode_str(&revision.join("/")).decode_utf8().ok()?.into_owned()))
        }
    };
    let parts: Vec<&str> = name.split('/').collect();
    let parts = match kind {
        Kind::Dataset => parts.get(..2)?,
        Kind::Model => parts.as_slice(),
    };
    let is_name = |part: &&str| {
        let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
        !part.is_empty() && part.chars().all(is_plain) && !matches!(*part, "." | "..")
    };
    let is_good = !parts.is_empty() && parts.len() <= 2 && parts.iter().all(is_name);
    let has_revision = revision.as_ref().is_none_or(|revision| !revision.is_empty());
    (is_good && has_revision).then(|| Location::Hub { repository: parts.join("/"), revision })
}

fn store(uri: &str, store: Store) -> Option<Location> {
    let uri = uri.strip_prefix("s3a://").map_or_else(|| uri.to_owned(), |rest| format!("s3://{rest}"));
    let url = Url::parse(&uri).ok()?;
    if url.host_str().is_none_or(str::is_empty) {
        return None;
    }
    // Keys are as they were written: `#` and `?` are letters of a key.
    let (_, rest) = uri.split_once("://")?;
    let prefix = rest.split_once('/').map_or("", |(_, prefix)| prefix).trim_matches('/').to_owned();
    Some(Location::Store { store, url, prefix })
}

fn web(uri: &str) -> Option<Location> {
    let mut url = Url::parse(uri).ok()?;
    let sha256 = match url.fragment() {
        None => None,
        Some(fragment) => {
            let digest = fragment.strip_prefix("sha256=").filter(|text| crate::digest::is_hex(text, 32))?;
            Some(digest.to_ascii_lowercase())
        }
    };
    url.set_fragment(None);
    let name = percent_decode_str(url.path_segments()?.next_back()?).decode_utf8().ok()?.into_owned();
    (!name.is_empty()).then_some(Location::Http { url, sha256, name })
}

/// A URI as it may be shown: without user information, query and fragment, which may hold credentials.
pub fn shown(uri: &str) -> String {
    let uri = uri.split(['?', '#']).next().unwrap_or_default();
    match uri.split_once("://") {
        None => uri.to_owned(),
        Some((scheme, rest)) => {
            let host = rest.split('/').next().unwrap_or_default();
            // In a repository's name the sign begins a revision.
            let rest = match host.rfind('@') {
                Some(at) if scheme != "hf" => &rest[at + 1..],
                _ => rest,
            };
            format!("{scheme}://{rest}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hub(repository: &str, revision: Option<&str>) -> Location {
        Location::Hub { repository: repository.to_owned(), revision: revision.map(str::to_owned) }
    }

    #[test]
    fn repositories_are_named_as_upstream_names_them() {
        let dataset = |uri| parse(uri, Kind::Dataset);
        let model = |uri| parse(uri, Kind::Model);
        assert_eq!(dataset("hf://tatsu-lab/alpaca").unwrap(), hub("tatsu-lab/alpaca", None));
        assert_eq!(dataset("hf://tatsu-lab/alpaca/data/x").unwrap(), hub("tatsu-lab/alpaca", None));
        assert_eq!(dataset("hf://a/b@v1/data").unwrap(), hub("a/b", Some("v1")));
        assert_eq!(
            dataset("hf://a/b@refs/convert/parquet/x").unwrap(),
            hub("a/b", Some("refs/convert/parquet"))
        );
        assert_eq!(model("hf://gpt2").unwrap(), hub("gpt2", None));
        assert_eq!(model("hf://a/b@release%2F1").unwrap(), hub("a/b", Some("release/1")));
        assert_eq!(
            dataset("hf://only-one").unwrap_err().to_string(),
            "invalid storage URI 'hf://only-one': expected hf://<owner>/<name>"
        );
        for bad in ["hf://", "hf://a/", "hf:///b", "hf://a/../b", "hf://a/b@", "hf://a b/c"] {
            assert!(dataset(bad).is_err(), "{bad}");
        }
        assert!(model("hf://a/b/c").is_err());
    }

    #[test]
    fn the_texts_of_bad_uris_are_upstreams() {
        let cases = [
            ("", Kind::Dataset, "STORAGE_URI environment variable must be set"),
            ("", Kind::Model, "STORAGE_URI env variable must be set."),
            (
                "x://a",
                Kind::Dataset,
                "Unsupported dataset storage URI scheme 'x': expected one of hf, s3, gs, az, abfs, http, https, file, cache",
            ),
            ("x://a", Kind::Model, "STORAGE_URI must have the valid model provider. STORAGE_URI: x://a"),
            (
                "cache://a/b",
                Kind::Model,
                "STORAGE_URI must have the valid model provider. STORAGE_URI: cache://a/b",
            ),
            (
                "cache://a",
                Kind::Dataset,
                "Invalid cache storage URI 'cache://a': expected format cache://<SCHEMA_NAME>/<TABLE_NAME>",
            ),
        ];
        for (uri, kind, text) in cases {
            assert_eq!(parse(uri, kind).unwrap_err().to_string(), text);
        }
        for bad in ["cache://", "cache:///b", "cache://a/", "cache://a/b/c"] {
            assert!(matches!(parse(bad, Kind::Dataset), Err(Error::Cache(_))), "{bad}");
        }
        let cache = Location::Cache { schema: "s".into(), table: "t".into() };
        assert_eq!(parse("cache://s/t", Kind::Dataset).unwrap(), cache);
    }

    #[test]
    fn prefixes_and_files_are_read() {
        let prefix = |uri| match parse(uri, Kind::Dataset).unwrap() {
            Location::Store { prefix, .. } => prefix,
            other => format!("{other:?}"),
        };
        assert_eq!(prefix("s3://bucket"), "");
        assert_eq!(prefix("s3a://bucket/a/b/"), "a/b");
        assert_eq!(prefix("gs://bucket/a#b?c"), "a#b?c");
        assert!(parse("s3:///a", Kind::Dataset).is_err());
        let digest = "a".repeat(64);
        let web = parse(&format!("https://h/x/a%20b.bin?token=1#sha256={digest}"), Kind::Model).unwrap();
        let Location::Http { url, sha256, name } = web else { panic!("not of a web server") };
        assert_eq!((url.as_str(), name.as_str()), ("https://h/x/a%20b.bin?token=1", "a b.bin"));
        assert_eq!(sha256.as_deref(), Some(digest.as_str()));
        for bad in ["https://h/x/#sha256=1", "https://h/", "https://h/x/", "https://h/a#md5=1"] {
            assert!(parse(bad, Kind::Dataset).is_err(), "{bad}");
        }
        assert_eq!(parse("file:///a%20b", Kind::Dataset).unwrap(), Location::File { path: "/a b".into() });
    }

    #[test]
    fn credentials_are_not_shown() {
        assert_eq!(shown("https://me:secret@h/a?token=x#y"), "https://h/a");
        assert_eq!(shown("hf://a/b@v1"), "hf://a/b@v1");
        assert_eq!(shown("hf://b@v1"), "hf://b@v1");
    }

    proptest::proptest! {
        #[test]
        fn no_text_is_too_odd(text in "\\PC{0,60}", scheme in "(hf|s3|gs|az|http|file|cache|x)://") {
            let _ = parse(&text, Kind::Dataset);
            let _ = parse(&format!("{scheme}{text}"), Kind::Dataset);
            let _ = parse(&format!("{scheme}{text}"), Kind::Model);
            shown(&text);
        }
    }
}
