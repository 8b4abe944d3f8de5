//! What a data cache is told by the environment of the initializer.

use std::time::Duration;

use trainerd_schema::quantity::Quantity;

use crate::config::{Error, Lookup, choice, number};

/// Variables of the cache that are passed through to its pods. None of them is a secret.
pub const PASSED: [&str; 41] = [
    "CACHE_COMPATIBILITY",
    "CATALOG_URI",
    "CATALOG_TYPE",
    "CATALOG_WAREHOUSE",
    "CATALOG_TOKEN_FILE",
    "SOURCE_URI",
    "SOURCE_FORMAT",
    "SNAPSHOT_ID",
    "SOURCE_DIGEST",
    "COLUMNS",
    "FILTER",
    "UNIT",
    "READY_WHEN",
    "FAILOVER",
    "WORKER_WAIT_SECS",
    "MEMORY_LIMIT",
    "LOAD_CONCURRENCY",
    "PLAN_CONCURRENCY",
    "PREFETCH_CHUNKS",
    "PREFETCH_BYTES",
    "MAX_STREAMS",
    "MAX_MESSAGE_BYTES",
    "STORE_RETRIES",
    "STORE_TIMEOUT_SECS",
    "TLS_CERT_FILE",
    "TLS_KEY_FILE",
    "TLS_CLIENT_CA_FILE",
    "AUTH_TOKEN_FILE",
    "LOG_FORMAT",
    "RUST_LOG",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_EXPORTER_OTLP_PROTOCOL",
    "OTEL_TRACES_SAMPLER",
    "OTEL_TRACES_SAMPLER_ARG",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_ENDPOINT",
    "AWS_ENDPOINT_URL",
    "AWS_ALLOW_HTTP",
    "AWS_SKIP_SIGNATURE",
];

/// Least bytes of a disk: a tenth of it is left free, and the cache takes 128 MiB at least.
const LEAST_DISK: u64 = 256 << 20;

/// Requests and limits of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resources {
    /// CPU.
    pub cpu: String,
    /// Memory.
    pub memory: String,
}

/// Times of the readiness probe, seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Before the first one.
    pub initial_delay: u64,
    /// From one to the next.
    pub period: u64,
    /// For an answer.
    pub timeout: u64,
    /// Failures until it counts.
    pub failure_threshold: u64,
}

/// A data cache, as the initializer is asked for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Name of the TrainJob.
    pub job: String,
    /// Image of head and workers.
    pub image: String,
    /// The metadata file of the table; `None` where another source is named.
    pub metadata: Option<String>,
    /// Of the table.
    pub schema: String,
    /// Of the table.
    pub table: String,
    /// An identity of the cloud for the pods.
    pub role: Option<String>,
    /// A Secret whose keys are variables of the pods: how credentials reach a store without identities.
    pub secret: Option<String>,
    /// A Secret whose keys are files of the pods: certificates and tokens.
    pub files: Option<String>,
    /// Room of a worker on the disk of its node, as it was given and in bytes.
    pub disk: Option<(String, u64)>,
    /// Pods of a group, head included.
    pub size: u64,
    /// Groups.
    pub replicas: u64,
    /// Of the head.
    pub head: Resources,
    /// Of a worker.
    pub worker: Resources,
    /// The readiness probe.
    pub probe: Probe,
    /// A cache that is there already and is used instead of a new one.
    pub shared: Option<String>,
    /// Whether objects are made as upstream makes them.
    pub is_upstream: bool,
    /// How long the cache is waited for.
    pub patience: Duration,
    /// Variables that are passed through.
    pub passed: Vec<(&'static str, String)>,
}

impl Settings {
    /// Reads the environment.
    pub fn read(schema: String, table: String, lookup: Lookup<'_>) -> Result<Self, Error> {
        let set = |name: &str| lookup(name).filter(|value| !value.is_empty());
        let needed = |name: &'static str| set(name).ok_or(Error::Missing(name));
        let many =
            |name, default, least| number(&set, name, default, least, 4096, "a whole number up to 4096");
        let seconds = |name, default| number(&set, name, default, 1, 86400, "1 to 86400 seconds");
        let quantity = |name: &'static str, default: &str| {
            let value = set(name).unwrap_or_else(|| default.to_owned());
            let allowed = "a quantity of Kubernetes above zero, for example 500m or 2Gi";
            if is_quantity(&value) { Ok(value) } else { Err(Error::Value { name, value, allowed }) }
        };
        let shared = set("CACHE_NAME");
        let is_upstream = choice(
            &set,
            "CACHE_COMPATIBILITY",
            "extended or upstream",
            &[("extended", false), ("upstream", true)],
        )?;
        let size = set("CLUSTER_SIZE");
        let is_size =
            size.as_ref().is_none_or(|size| size.parse::<u64>().is_ok_and(|size| (2..=4096).contains(&size)));
        if !is_size {
            let allowed = "the number of pods, head included: 2 to 4096";
            return Err(Error::Value { name: "CLUSTER_SIZE", value: size.unwrap_or_default(), allowed });
        }
        let metadata = set("METADATA_LOC");
        // The cache's pods would refuse these, one after the other and for as long as they are waited for.
        let sources = [
            ("METADATA_LOC", metadata.clone()),
            ("CATALOG_URI", set("CATALOG_URI")),
            ("SOURCE_URI", set("SOURCE_URI")),
        ];
        let mut sources = sources.into_iter().filter_map(|(name, value)| Some((name, value?)));
        match (sources.next(), sources.next()) {
            (None, _) if shared.is_none() => return Err(Error::Missing("METADATA_LOC")),
            (Some(_), Some((name, uri))) => {
                let value = crate::uri::shown(&uri);
                return Err(Error::Value { name, value, allowed: "unset where another source is named" });
            }
            _ => {}
        }
        let disk = set("WORKER_DISK").map(|value| {
            let bytes =
                value.parse::<Quantity>().ok().and_then(|quantity| u64::try_from(quantity.ceil()).ok());
            let Some(bytes) = bytes.filter(|bytes| *bytes >= LEAST_DISK) else {
                let allowed = "a quantity of Kubernetes of at least 256Mi";
                return Err(Error::Value { name: "WORKER_DISK", value, allowed });
            };
            Ok((value, bytes))
        });
        let image =
            if shared.is_some() { set("CACHE_IMAGE").unwrap_or_default() } else { needed("CACHE_IMAGE")? };
        Ok(Self {
            job: needed("TRAIN_JOB_NAME")?,
            image,
            metadata,
            schema,
            table,
            role: set("IAM_ROLE"),
            secret: set("CACHE_SECRET").map(|name| secret("CACHE_SECRET", name)).transpose()?,
            files: set("CACHE_FILES").map(|name| secret("CACHE_FILES", name)).transpose()?,
            disk: disk.transpose()?,
            size: size.and_then(|size| size.parse().ok()).unwrap_or(3),
            replicas: many("CACHE_REPLICAS", 1, 1)?,
            head: Resources { cpu: quantity("HEAD_CPU", "1")?, memory: quantity("HEAD_MEM", "1Gi")? },
            worker: Resources { cpu: quantity("WORKER_CPU", "2")?, memory: quantity("WORKER_MEM", "2Gi")? },
            probe: Probe {
                initial_delay: many("READINESS_INITIAL_DELAY_SECONDS", 5, 0)?,
                period: many("READINESS_PERIOD_SECONDS", 10, 1)?,
                timeout: many("READINESS_TIMEOUT_SECONDS", 5, 1)?,
                failure_threshold: many("READINESS_FAILURE_THRESHOLD", 3, 1)?,
            },
            shared,
            is_upstream,
            patience: Duration::from_secs(seconds("CACHE_READY_TIMEOUT_SECONDS", 3600)?),
            passed: PASSED.into_iter().filter_map(|name| Some((name, set(name)?))).collect(),
        })
    }
}

/// The name of a Secret: a DNS subdomain (RFC 1123).
fn secret(name: &'static str, value: String) -> Result<String, Error> {
    let is_inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let is_label = |label: &str| {
        !label.is_empty() && label.bytes().all(is_inner) && !label.starts_with('-') && !label.ends_with('-')
    };
    if value.len() <= 253 && value.split('.').all(is_label) {
        return Ok(value);
    }
    Err(Error::Value { name, value, allowed: "the name of a Secret in the TrainJob's namespace" })
}

/// Whether a text is a quantity of Kubernetes above zero.
fn is_quantity(text: &str) -> bool {
    text.parse::<Quantity>().is_ok_and(|quantity| quantity.ceil() > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(more: &[(&str, &str)]) -> Result<Settings, Error> {
        let base = [("TRAIN_JOB_NAME", "j"), ("CACHE_IMAGE", "i"), ("METADATA_LOC", "s3://b/m.json")];
        let lookup = |name: &str| {
            let given = more.iter().chain(&base).find(|(variable, _)| *variable == name);
            given.map(|(_, value)| (*value).to_owned())
        };
        Settings::read("s".to_owned(), "t".to_owned(), &lookup)
    }

    #[test]
    fn upstreams_defaults_apply_and_the_role_is_optional() {
        let settings = read(&[]).unwrap();
        assert_eq!((settings.size, settings.replicas, settings.role), (3, 1, None));
        assert_eq!(settings.worker, Resources { cpu: "2".into(), memory: "2Gi".into() });
        assert_eq!(settings.patience, Duration::from_hours(1));
    }

    #[test]
    fn bad_values_are_refused_before_anything_is_made() {
        let cases: [(&[(&str, &str)], &str); 11] = [
            (
                &[("WORKER_DISK", "1Mi")],
                "invalid value \"1Mi\" of WORKER_DISK; must be a quantity of Kubernetes of at least 256Mi",
            ),
            (
                &[("CATALOG_URI", "http://u:p@c")],
                "invalid value \"http://c\" of CATALOG_URI; must be unset where another source is named",
            ),
            (
                &[("CACHE_SECRET", "Store/Keys")],
                "invalid value \"Store/Keys\" of CACHE_SECRET; must be the name of a Secret in the TrainJob's namespace",
            ),
            (
                &[("CLUSTER_SIZE", "1")],
                "invalid value \"1\" of CLUSTER_SIZE; must be the number of pods, head included: 2 to 4096",
            ),
            (
                &[("CLUSTER_SIZE", "three")],
                "invalid value \"three\" of CLUSTER_SIZE; must be the number of pods, head included: 2 to 4096",
            ),
            (
                &[("HEAD_MEM", "1GB")],
                "invalid value \"1GB\" of HEAD_MEM; must be a quantity of Kubernetes above zero, for example 500m or 2Gi",
            ),
            (
                &[("WORKER_CPU", "-1")],
                "invalid value \"-1\" of WORKER_CPU; must be a quantity of Kubernetes above zero, for example 500m or 2Gi",
            ),
            (&[("METADATA_LOC", "")], "METADATA_LOC environment variable must be set"),
            (&[("TRAIN_JOB_NAME", "")], "TRAIN_JOB_NAME environment variable must be set"),
            (
                &[("SOURCE_URI", "s3://u:p@b/x?y")],
                "invalid value \"s3://b/x\" of SOURCE_URI; must be unset where another source is named",
            ),
            (
                &[("CACHE_COMPATIBILITY", "no")],
                "invalid value \"no\" of CACHE_COMPATIBILITY; must be extended or upstream",
            ),
        ];
        for (variables, text) in cases {
            assert_eq!(read(variables).unwrap_err().to_string(), text);
        }
        assert!(read(&[("METADATA_LOC", ""), ("SOURCE_URI", "s3://b/x")]).is_ok());
        assert!(read(&[("METADATA_LOC", ""), ("CATALOG_URI", "https://c/api")]).is_ok());
        assert!(read(&[("METADATA_LOC", ""), ("CACHE_NAME", "shared"), ("CACHE_IMAGE", "")]).is_ok());
    }

    #[test]
    fn quantities_are_kubernetes() {
        for good in ["1", "500m", "0.5", "2Gi", "1.5M"] {
            assert!(is_quantity(good), "{good}");
        }
        for bad in ["", "0", "Gi", ".", "1..2", "1 Gi", "1gi", "inf", "-1"] {
            assert!(!is_quantity(bad), "{bad}");
        }
    }
}
