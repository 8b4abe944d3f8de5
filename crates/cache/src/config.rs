//! What the cache is told by its environment.
//!
//! Upstream's variables are read as upstream reads them, misspelt numbers included; a bad value of one of ours is an
//! error before anything is opened.

mod disk;
mod table;
mod tls;

use std::path::PathBuf;
use std::time::Duration;

pub use disk::Disk;
pub use table::Table;
pub use tls::Tls;

use trainerd_schema::Quantity;

use crate::filter::Filter;
use crate::store::RequestPolicy;

/// Where a variable's value comes from: the process's environment, or a test's.
pub type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Least memory that the cache can work with, bytes.
const LEAST_MEMORY: u64 = 256 << 20;

/// Largest message, bytes: a client's own limit is 4 MiB unless it is told otherwise.
const MOST_MESSAGE: u64 = 16 << 20;

/// A value that cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A variable of ours.
    #[error("invalid value {value:?} of {name}; must be {allowed}")]
    Value {
        /// The variable.
        name: &'static str,
        /// As it was given.
        value: String,
        /// What would do.
        allowed: &'static str,
    },
    /// The filter.
    #[error("invalid value of FILTER")]
    Filter(#[from] crate::filter::Error),
    /// None of the three sources, or more than one.
    #[error("exactly one of METADATA_LOC, CATALOG_URI and SOURCE_URI must be set; {0}")]
    Sources(String),
    /// A variable that the source needs.
    #[error("{0} environment variable must be set")]
    Missing(&'static str),
    /// A variable that is of no use alone.
    #[error("{name} is set, but {needed} is not")]
    Alone {
        /// The variable.
        name: &'static str,
        /// What must be set as well.
        needed: &'static str,
    },
}

/// Whether upstream's behaviour is reproduced for comparison.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compatibility {
    /// Ours.
    #[default]
    Extended,
    /// Upstream's assignment, tickets and readiness.
    Upstream,
}

/// Which data is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// An Iceberg table.
    Iceberg {
        /// Where its metadata is told.
        at: Table,
        /// Namespace of the table; a label only where the metadata file is named.
        schema: String,
        /// Name of the table; a label only where the metadata file is named.
        table: String,
        /// The snapshot to read; the current one where absent.
        snapshot: Option<i64>,
    },
    /// A directory of files, or one file.
    Directory {
        /// Its URI.
        uri: String,
        /// Files of this format; by their names where absent.
        format: Option<Format>,
        /// Digest of the listing that must be met.
        digest: Option<String>,
    },
}

/// Format of a directory's files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Parquet.
    Parquet,
    /// Arrow IPC files.
    Arrow,
}

/// The granule of assignment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Granule {
    /// Row groups where there are few files or one is far larger than the others.
    #[default]
    Auto,
    /// Whole files.
    File,
    /// Row groups.
    RowGroup,
}

/// When the head says that it is ready.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReadyWhen {
    /// All workers have acknowledged their assignment.
    #[default]
    Planned,
    /// Everything is in memory, or declared to be over the budget.
    Loaded,
}

/// What becomes of a dead worker's rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Failover {
    /// The others serve them until it is back.
    #[default]
    Reassign,
    /// Nobody; requests fail until it is back.
    None,
}

/// What is loaded ahead of a stream; nothing where one of them is zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrefetchLimits {
    /// Chunks.
    pub chunks: usize,
    /// Their bytes.
    pub bytes: u64,
}

impl Default for PrefetchLimits {
    /// 4 chunks, 32 MiB.
    fn default() -> Self {
        Self { chunks: 4, bytes: 32 << 20 }
    }
}

impl PrefetchLimits {
    fn read(lookup: Lookup<'_>) -> Result<Self, Error> {
        let default = Self::default();
        let chunks = number(lookup, "PREFETCH_CHUNKS", default.chunks as u64, 0, 1024, "0 to 1024")?;
        let bytes = number(
            lookup,
            "PREFETCH_BYTES",
            default.bytes,
            0,
            1 << 40,
            "at most 1Ti, in bytes or as a quantity",
        )?;
        Ok(Self { chunks: usize::try_from(chunks).unwrap_or(default.chunks), bytes })
    }
}

/// The configuration of a head or a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Whose behaviour.
    pub compatibility: Compatibility,
    /// Which data.
    pub source: Source,
    /// Columns of the dataset; all where empty.
    pub columns: Vec<String>,
    /// Which rows belong to the dataset, as it was written and as it is read; all where absent.
    pub filter: Option<(String, Filter)>,
    /// The granule of assignment.
    pub granule: Granule,
    /// When the head is ready.
    pub ready_when: ReadyWhen,
    /// What becomes of a dead worker's rows.
    pub failover: Failover,
    /// Limit of one attempt to connect to a worker.
    pub connect_timeout: Duration,
    /// How long the head waits for workers at its start.
    pub worker_wait: Duration,
    /// Port of health, status and metrics.
    pub health_port: u16,
    /// Bytes that cached data and its loading may take.
    pub memory: u64,
    /// Streams that a worker serves at the same time.
    pub max_streams: usize,
    /// Largest message, bytes.
    pub message_bytes: usize,
    /// Loads of units at the same time.
    pub load_concurrency: usize,
    /// Requests for metadata at the same time.
    pub plan_concurrency: usize,
    /// How patient it is with the store.
    pub requests: RequestPolicy,
    /// File of the token that a client must have; none where absent.
    pub token_file: Option<PathBuf>,
    /// Certificates of the Flight port; plain where absent.
    pub tls: Option<Tls>,
    /// Where rows are kept that memory has no room for; nowhere where absent.
    pub disk: Option<Disk>,
    /// What is loaded ahead of each stream.
    pub prefetch: PrefetchLimits,
    /// The trace that the start of this process belongs to, in the form of W3C's `traceparent`.
    pub traceparent: Option<String>,
}

impl Config {
    /// Reads the environment. `memory` is what the machine or the container has, bytes.
    pub fn read(lookup: Lookup<'_>, memory: u64) -> Result<Self, Error> {
        let set = |name: &str| lookup(name).filter(|value| !value.is_empty());
        let lenient =
            |name: &str, default: u64| set(name).and_then(|text| text.parse().ok()).unwrap_or(default);
        let compatibility = choice(
            lookup,
            "CACHE_COMPATIBILITY",
            "extended or upstream",
            &[("extended", Compatibility::Extended), ("upstream", Compatibility::Upstream)],
        )?;
        let is_upstream = compatibility == Compatibility::Upstream;
        let columns = set("COLUMNS").unwrap_or_default();
        let columns = columns.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned);
        let filter = set("FILTER");
        let ready_when = choice(
            lookup,
            "READY_WHEN",
            "planned or loaded",
            &[("planned", ReadyWhen::Planned), ("loaded", ReadyWhen::Loaded)],
        )?;
        let failover = choice(
            lookup,
            "FAILOVER",
            "reassign or none",
            &[("reassign", Failover::Reassign), ("none", Failover::None)],
        )?;
        let granule = choice(
            lookup,
            "UNIT",
            "auto, file or rowgroup",
            &[("auto", Granule::Auto), ("file", Granule::File), ("rowgroup", Granule::RowGroup)],
        )?;
        let message =
            number(lookup, "MAX_MESSAGE_BYTES", 2 << 20, 64 << 10, MOST_MESSAGE, "65536 to 16777216 bytes")?;
        Ok(Self {
            compatibility,
            source: source(lookup)?,
            columns: columns.collect(),
            filter: filter.map(|text| Filter::parse(&text).map(|filter| (text, filter))).transpose()?,
            granule: if is_upstream { Granule::File } else { granule },
            ready_when: if is_upstream { ReadyWhen::Loaded } else { ready_when },
            failover: if is_upstream { Failover::None } else { failover },
            connect_timeout: Duration::from_secs(lenient("CONNECT_TIMEOUT_SECS", 20)),
            worker_wait: seconds(lookup, "WORKER_WAIT_SECS", 600)?,
            health_port: set("HEALTH_PORT").and_then(|text| text.parse().ok()).unwrap_or(8080),
            memory: memory_limit(lookup, memory)?,
            max_streams: count(lookup, "MAX_STREAMS", 256)?,
            message_bytes: usize::try_from(message).unwrap_or(2 << 20),
            load_concurrency: count(lookup, "LOAD_CONCURRENCY", 8)?,
            plan_concurrency: count(lookup, "PLAN_CONCURRENCY", 64)?,
            requests: RequestPolicy {
                timeout: seconds(lookup, "STORE_TIMEOUT_SECS", 30)?,
                retries: usize::try_from(number(lookup, "STORE_RETRIES", 10, 0, 1000, "0 to 1000")?)
                    .unwrap_or(10),
            },
            token_file: set("AUTH_TOKEN_FILE").map(PathBuf::from),
            tls: Tls::read(lookup)?,
            disk: Disk::read(lookup)?,
            prefetch: PrefetchLimits::read(lookup)?,
            traceparent: set("TRACEPARENT"),
        })
    }
}

fn source(lookup: Lookup<'_>) -> Result<Source, Error> {
    let set = |name: &str| lookup(name).filter(|value| !value.is_empty());
    let given: Vec<&str> = ["METADATA_LOC", "CATALOG_URI", "SOURCE_URI"]
        .into_iter()
        .filter(|name| set(name).is_some())
        .collect();
    match given.as_slice() {
        ["METADATA_LOC" | "CATALOG_URI"] => {
            let snapshot = match set("SNAPSHOT_ID") {
                None => None,
                Some(value) => Some(value.parse().map_err(|_| Error::Value {
                    name: "SNAPSHOT_ID",
                    value,
                    allowed: "the number of a snapshot",
                })?),
            };
            Ok(Source::Iceberg {
                at: Table::read(lookup)?,
                schema: set("SCHEMA_NAME").ok_or(Error::Missing("SCHEMA_NAME"))?,
                table: set("TABLE_NAME").ok_or(Error::Missing("TABLE_NAME"))?,
                snapshot,
            })
        }
        ["SOURCE_URI"] => {
            let formats =
                [("auto", None), ("parquet", Some(Format::Parquet)), ("arrow", Some(Format::Arrow))];
            Ok(Source::Directory {
                uri: set("SOURCE_URI").ok_or(Error::Missing("SOURCE_URI"))?,
                format: choice(lookup, "SOURCE_FORMAT", "auto, parquet or arrow", &formats)?,
                digest: set("SOURCE_DIGEST"),
            })
        }
        [] => Err(Error::Sources("none is".to_owned())),
        several => Err(Error::Sources(format!("{} are", several.join(" and ")))),
    }
}

/// One of several words; the first is the default.
fn choice<T: Copy>(
    lookup: Lookup<'_>,
    name: &'static str,
    allowed: &'static str,
    words: &[(&str, T)],
) -> Result<T, Error> {
    let value = lookup(name).filter(|value| !value.is_empty());
    let place = match &value {
        None => Some(0),
        Some(value) => words.iter().position(|(word, _)| word == value),
    };
    let chosen = place.and_then(|place| words.get(place)).map(|(_, chosen)| *chosen);
    chosen.ok_or_else(|| Error::Value { name, value: value.unwrap_or_default(), allowed })
}

fn number(
    lookup: Lookup<'_>,
    name: &'static str,
    default: u64,
    least: u64,
    most: u64,
    allowed: &'static str,
) -> Result<u64, Error> {
    let Some(value) = lookup(name).filter(|value| !value.is_empty()) else { return Ok(default) };
    let number =
        value.parse().ok().and_then(Quantity::whole).filter(|number| (least..=most).contains(number));
    number.ok_or(Error::Value { name, value, allowed })
}

fn count(lookup: Lookup<'_>, name: &'static str, default: u64) -> Result<usize, Error> {
    let number = number(lookup, name, default, 1, 1 << 20, "1 to 1048576")?;
    Ok(usize::try_from(number).unwrap_or(usize::MAX))
}

fn seconds(lookup: Lookup<'_>, name: &'static str, default: u64) -> Result<Duration, Error> {
    number(lookup, name, default, 1, 86400, "1 to 86400 seconds").map(Duration::from_secs)
}

/// A limit that is given, else three quarters of what there is.
fn memory_limit(lookup: Lookup<'_>, memory: u64) -> Result<u64, Error> {
    let default = (memory / 4 * 3).max(LEAST_MEMORY);
    number(
        lookup,
        "MEMORY_LIMIT",
        default,
        LEAST_MEMORY,
        1 << 50,
        "at least 256Mi, in bytes or as a quantity",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Config, Error> {
        let lookup = |name: &str| {
            variables.iter().find(|(variable, _)| *variable == name).map(|(_, value)| (*value).to_owned())
        };
        Config::read(&lookup, 4 << 30)
    }

    const ICEBERG: [(&str, &str); 3] =
        [("METADATA_LOC", "s3://b/m.json"), ("SCHEMA_NAME", "s"), ("TABLE_NAME", "t")];

    fn with<'a>(more: &[(&'a str, &'a str)]) -> Result<Config, Error> {
        read(&[&ICEBERG[..], more].concat())
    }

    #[test]
    fn upstreams_variables_are_enough_and_its_leniency_is_kept() {
        let config = with(&[("CONNECT_TIMEOUT_SECS", "soon"), ("HEALTH_PORT", "x")]).unwrap();
        assert_eq!(config.connect_timeout, Duration::from_secs(20));
        assert_eq!(config.health_port, 8080);
        assert_eq!(config.memory, 3 << 30);
        assert_eq!(config.granule, Granule::Auto);
        let config = with(&[("HEALTH_PORT", "8082"), ("CACHE_COMPATIBILITY", "upstream")]).unwrap();
        assert_eq!(config.health_port, 8082);
        assert_eq!((config.granule, config.failover), (Granule::File, Failover::None));
        assert_eq!(config.ready_when, ReadyWhen::Loaded);
    }

    #[test]
    fn a_bad_value_is_named_with_what_would_do() {
        let cases: [(&[(&str, &str)], &str); 9] = [
            (&[], "exactly one of METADATA_LOC, CATALOG_URI and SOURCE_URI must be set; none is"),
            (
                &[("METADATA_LOC", "a"), ("SOURCE_URI", "b")],
                "exactly one of METADATA_LOC, CATALOG_URI and SOURCE_URI must be set; METADATA_LOC and SOURCE_URI are",
            ),
            (&[("METADATA_LOC", "a"), ("SCHEMA_NAME", "s")], "TABLE_NAME environment variable must be set"),
            (
                &[("SOURCE_URI", "b"), ("SOURCE_FORMAT", "csv")],
                "invalid value \"csv\" of SOURCE_FORMAT; must be auto, parquet or arrow",
            ),
            (
                &[("SOURCE_URI", "b"), ("MEMORY_LIMIT", "1Mi")],
                "invalid value \"1Mi\" of MEMORY_LIMIT; must be at least 256Mi, in bytes or as a quantity",
            ),
            (
                &[("SOURCE_URI", "b"), ("UNIT", "row")],
                "invalid value \"row\" of UNIT; must be auto, file or rowgroup",
            ),
            (
                &[("SOURCE_URI", "b"), ("MAX_STREAMS", "0")],
                "invalid value \"0\" of MAX_STREAMS; must be 1 to 1048576",
            ),
            (&[("SOURCE_URI", "b"), ("FILTER", "a =")], "invalid value of FILTER"),
            (
                &[("METADATA_LOC", "m"), ("SCHEMA_NAME", "s"), ("TABLE_NAME", "t"), ("SNAPSHOT_ID", "x")],
                "invalid value \"x\" of SNAPSHOT_ID; must be the number of a snapshot",
            ),
        ];
        for (variables, text) in cases {
            assert_eq!(read(variables).unwrap_err().to_string(), text);
        }
    }

    #[test]
    fn quantities_are_bytes() {
        assert_eq!(with(&[("MEMORY_LIMIT", "1Gi")]).unwrap().memory, 1 << 30);
        assert_eq!(with(&[("MEMORY_LIMIT", "500M")]).unwrap().memory, 500_000_000);
        assert_eq!(with(&[("MEMORY_LIMIT", "0.5Gi")]).unwrap().memory, 1 << 29);
        assert!(with(&[("MEMORY_LIMIT", "99999999999999Ti")]).is_err());
        assert!(with(&[("MEMORY_LIMIT", "-1Gi")]).is_err());
    }

    #[test]
    fn prefetching_has_limits_and_can_be_turned_off() {
        let prefetch = |variables: &[(&'static str, &'static str)]| with(variables).map(|read| read.prefetch);
        assert_eq!(prefetch(&[]).unwrap(), PrefetchLimits { chunks: 4, bytes: 32 << 20 });
        let read = prefetch(&[("PREFETCH_CHUNKS", "0"), ("PREFETCH_BYTES", "8Mi")]).unwrap();
        assert_eq!(read, PrefetchLimits { chunks: 0, bytes: 8 << 20 });
        assert!(prefetch(&[("PREFETCH_CHUNKS", "-1")]).is_err());
        assert!(prefetch(&[("PREFETCH_BYTES", "much")]).is_err());
    }

    #[test]
    fn requests_of_the_store_are_bounded_as_they_are_told() {
        let requests = |variables: &[(&'static str, &'static str)]| with(variables).map(|read| read.requests);
        assert_eq!(requests(&[]).unwrap(), RequestPolicy::default());
        let told = requests(&[("STORE_RETRIES", "0"), ("STORE_TIMEOUT_SECS", "5")]).unwrap();
        assert_eq!(told, RequestPolicy { timeout: Duration::from_secs(5), retries: 0 });
        assert!(requests(&[("STORE_RETRIES", "many")]).is_err());
    }
}
