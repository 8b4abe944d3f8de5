//! What an initializer is told by its environment. An empty variable is an unset one.

use std::path::PathBuf;
use std::time::Duration;

use trainerd_schema::Quantity;

use crate::download::{Limits, Verify};
use crate::pattern::{Filter, Pattern};
use crate::progress::Shown;
use crate::uri::{Kind, Location};

/// Where a variable's value comes from: the process's environment, or a test's.
pub type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// What of a model is fetched from the hub.
const MODEL_FILES: [&str; 5] = ["*.json", "*.safetensors", "*.model", "*.txt", "*.gguf"];

/// What of a model is not fetched, unless `IGNORE_PATTERNS` says otherwise.
const MODEL_IGNORED: &str = "*.msgpack,*.h5,*.bin,*.pt,*.pth";

/// Bounds of a part, bytes.
const PART: (u64, u64) = (64 << 10, 1 << 30);

/// A value that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Of a variable.
    #[error("invalid value {value:?} of {name}; must be {allowed}")]
    Value {
        /// The variable.
        name: &'static str,
        /// As it was given.
        value: String,
        /// What would do.
        allowed: &'static str,
    },
    /// A variable that is needed.
    #[error("{0} environment variable must be set")]
    Missing(&'static str),
    /// Half of a pair.
    #[error("ACCESS_KEY_ID and SECRET_ACCESS_KEY must be set together; only {0} is")]
    HalfKey(&'static str),
    /// The hub may not be asked.
    #[error("HF_HUB_OFFLINE is set, and the files of a repository are on the hub")]
    Offline,
    /// `STORAGE_URI`.
    #[error(transparent)]
    Uri(#[from] crate::uri::Error),
}

/// How S3 is reached.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct S3 {
    /// Of another service than Amazon's.
    pub endpoint: Option<String>,
    /// `None` for the bucket's own.
    pub region: Option<String>,
    /// The key's id and its secret; the ambient identity without them.
    pub key: Option<(String, String)>,
    /// Of temporary keys.
    pub session_token: Option<String>,
    /// A role that is assumed.
    pub role: Option<String>,
}

impl std::fmt::Debug for S3 {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("S3")
            .field("endpoint", &self.endpoint)
            .field("region", &self.region)
            .field("role", &self.role)
            .finish_non_exhaustive()
    }
}

/// How the hub is reached.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct HubAccess {
    /// Its address.
    pub endpoint: Option<String>,
    /// A token.
    pub token: Option<String>,
    /// A branch, tag or commit.
    pub revision: Option<String>,
}

impl std::fmt::Debug for HubAccess {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("HubAccess").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

/// The configuration of a download.
#[derive(Clone, Debug)]
pub struct Config {
    /// What is brought.
    pub kind: Kind,
    /// As it is shown.
    pub uri: String,
    /// Where it is.
    pub location: Location,
    /// Which files.
    pub filter: Filter,
    /// Where they go.
    pub target: PathBuf,
    /// Bounds.
    pub limits: Limits,
    /// How progress is shown.
    pub shown: Shown,
    /// Of S3.
    pub s3: S3,
    /// Of the hub.
    pub hub: HubAccess,
}

impl Config {
    /// Reads the environment.
    pub fn read(kind: Kind, lookup: Lookup<'_>) -> Result<Self, Error> {
        let set = |name: &str| lookup(name).filter(|value| !value.is_empty());
        let uri = set("STORAGE_URI").unwrap_or_default();
        let mut location = crate::uri::parse(&uri, kind)?;
        if let Location::Hub { revision, .. } = &mut location {
            *revision = revision.take().or_else(|| set("REVISION"));
            if set("HF_HUB_OFFLINE").is_some_and(|value| is_true(&value)) {
                return Err(Error::Offline);
            }
        }
        let is_hub = matches!(location, Location::Hub { .. });
        let key = match (set("ACCESS_KEY_ID"), set("SECRET_ACCESS_KEY")) {
            (Some(id), Some(secret)) => Some((id, secret)),
            (None, None) => None,
            (Some(_), None) => return Err(Error::HalfKey("ACCESS_KEY_ID")),
            (None, Some(_)) => return Err(Error::HalfKey("SECRET_ACCESS_KEY")),
        };
        let default = match kind {
            Kind::Dataset => "/workspace/dataset",
            Kind::Model => "/workspace/model",
        };
        Ok(Self {
            kind,
            uri: crate::uri::shown(&uri),
            location,
            filter: filter(kind, is_hub, &set),
            target: set("OUTPUT_PATH").unwrap_or_else(|| default.to_owned()).into(),
            limits: Limits {
                concurrency: usize::try_from(number(&set, "MAX_CONCURRENCY", 16, 1, 256, "1 to 256")?)
                    .unwrap_or(16),
                part_bytes: number(
                    &set,
                    "PART_BYTES",
                    16 << 20,
                    PART.0,
                    PART.1,
                    "64Ki to 1Gi, in bytes or as a quantity",
                )?,
                verify: choice(
                    &set,
                    "VERIFY",
                    "full or size",
                    &[("full", Verify::Full), ("size", Verify::Size)],
                )?,
                patience: Duration::from_secs(number(
                    &set,
                    "SOURCE_WAIT_SECONDS",
                    300,
                    0,
                    86400,
                    "0 to 86400 seconds",
                )?),
            },
            shown: choice(
                &set,
                "PROGRESS",
                "auto, bar, json or none",
                &[("auto", Shown::Auto), ("bar", Shown::Bar), ("json", Shown::Json), ("none", Shown::None)],
            )?,
            s3: S3 {
                endpoint: set("ENDPOINT"),
                region: set("REGION").filter(|region| region != "auto"),
                key,
                session_token: set("SESSION_TOKEN"),
                role: set("ROLE_ARN"),
            },
            hub: HubAccess {
                endpoint: set("HF_ENDPOINT"),
                token: set("ACCESS_TOKEN").or_else(|| set("HF_TOKEN")),
                revision: set("REVISION"),
            },
        })
    }
}

/// As the hub's own client reads its variables.
fn is_true(value: &str) -> bool {
    matches!(value.to_ascii_uppercase().as_str(), "1" | "ON" | "YES" | "TRUE")
}

fn filter(kind: Kind, is_hub: bool, set: &impl Fn(&str) -> Option<String>) -> Filter {
    let patterns = |text: String| -> Vec<Pattern> {
        text.split(',').map(str::trim).filter(|text| !text.is_empty()).map(Pattern::new).collect()
    };
    let is_hubs_model = kind == Kind::Model && is_hub;
    let ignore = match set("IGNORE_PATTERNS") {
        Some(text) if text == "none" => String::new(),
        Some(text) => text,
        None if kind == Kind::Model => MODEL_IGNORED.to_owned(),
        None => String::new(),
    };
    let allow = match set("ALLOW_PATTERNS") {
        Some(text) => text,
        None if is_hubs_model => MODEL_FILES.join(","),
        None => String::new(),
    };
    Filter { allow: patterns(allow), ignore: patterns(ignore) }
}

/// One of several words; the first is the default.
pub(crate) fn choice<T: Copy>(
    set: &impl Fn(&str) -> Option<String>,
    name: &'static str,
    allowed: &'static str,
    words: &[(&str, T)],
) -> Result<T, Error> {
    let value = set(name);
    let place = match &value {
        None => Some(0),
        Some(value) => words.iter().position(|(word, _)| word == value),
    };
    let chosen = place.and_then(|place| words.get(place)).map(|(_, chosen)| *chosen);
    chosen.ok_or_else(|| Error::Value { name, value: value.unwrap_or_default(), allowed })
}

pub(crate) fn number(
    set: &impl Fn(&str) -> Option<String>,
    name: &'static str,
    default: u64,
    least: u64,
    most: u64,
    allowed: &'static str,
) -> Result<u64, Error> {
    let Some(value) = set(name) else { return Ok(default) };
    let number =
        value.parse().ok().and_then(Quantity::whole).filter(|number| (least..=most).contains(number));
    number.ok_or(Error::Value { name, value, allowed })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(kind: Kind, variables: &[(&str, &str)]) -> Result<Config, Error> {
        let lookup = |name: &str| {
            variables.iter().find(|(variable, _)| *variable == name).map(|(_, value)| (*value).to_owned())
        };
        Config::read(kind, &lookup)
    }

    #[test]
    fn a_uri_is_enough_and_upstreams_defaults_apply() {
        let config = read(Kind::Model, &[("STORAGE_URI", "hf://a/b"), ("IGNORE_PATTERNS", "")]).unwrap();
        assert_eq!(config.target, PathBuf::from("/workspace/model"));
        assert!(
            config.filter.wants("config.json")
                && !config.filter.wants("x.bin")
                && !config.filter.wants("a.py")
        );
        assert_eq!((config.limits.concurrency, config.limits.part_bytes), (16, 16 << 20));
        let all = read(Kind::Model, &[("STORAGE_URI", "s3://b/p"), ("IGNORE_PATTERNS", "none")]).unwrap();
        assert!(all.filter.wants("x.bin"));
        let data =
            read(Kind::Dataset, &[("STORAGE_URI", "hf://a/b"), ("IGNORE_PATTERNS", " *.md , x/ ")]).unwrap();
        assert!(data.filter.wants("a.bin") && !data.filter.wants("a.md") && !data.filter.wants("x/y"));
        assert_eq!(data.target, PathBuf::from("/workspace/dataset"));
    }

    #[test]
    fn revisions_and_tokens_are_found_where_they_may_be() {
        let config = read(
            Kind::Dataset,
            &[("STORAGE_URI", "hf://a/b"), ("REVISION", "v1"), ("HF_TOKEN", "h"), ("ACCESS_TOKEN", "a")],
        )
        .unwrap();
        assert_eq!(config.hub.token.as_deref(), Some("a"));
        assert!(
            matches!(config.location, Location::Hub { revision: Some(revision), .. } if revision == "v1")
        );
        let config = read(Kind::Dataset, &[("STORAGE_URI", "hf://a/b@v2"), ("REVISION", "v1")]).unwrap();
        assert!(
            matches!(config.location, Location::Hub { revision: Some(revision), .. } if revision == "v2")
        );
    }

    #[test]
    fn a_bad_value_is_named_with_what_would_do() {
        let uri = ("STORAGE_URI", "s3://b/p");
        let cases: [(&[(&str, &str)], &str); 5] = [
            (&[], "STORAGE_URI environment variable must be set"),
            (&[uri, ("MAX_CONCURRENCY", "0")], "invalid value \"0\" of MAX_CONCURRENCY; must be 1 to 256"),
            (&[uri, ("VERIFY", "no")], "invalid value \"no\" of VERIFY; must be full or size"),
            (
                &[uri, ("ACCESS_KEY_ID", "x")],
                "ACCESS_KEY_ID and SECRET_ACCESS_KEY must be set together; only ACCESS_KEY_ID is",
            ),
            (
                &[("STORAGE_URI", "hf://a/b"), ("HF_HUB_OFFLINE", "1")],
                "HF_HUB_OFFLINE is set, and the files of a repository are on the hub",
            ),
        ];
        for (variables, text) in cases {
            assert_eq!(read(Kind::Dataset, variables).unwrap_err().to_string(), text);
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        let config = read(
            Kind::Dataset,
            &[
                ("STORAGE_URI", "hf://a/b"),
                ("ACCESS_TOKEN", "sesame"),
                ("ACCESS_KEY_ID", "sesame"),
                ("SECRET_ACCESS_KEY", "sesame"),
            ],
        )
        .unwrap();
        assert!(!format!("{config:?}").contains("sesame"));
    }
}
