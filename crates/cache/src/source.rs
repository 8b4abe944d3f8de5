//! Where rows come from.
//!
//! A source is *pinned* when it is opened: what it was then is what is read, or reading fails. Data of two states is
//! never mixed.

mod directory;
mod filtered;
mod iceberg;
mod pinned;
mod progress;
mod projection;
mod statistics;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

pub use progress::{Progress, Stage};
pub use projection::select;

use async_trait::async_trait;
use futures::stream::BoxStream;
use futures::{FutureExt as _, StreamExt as _};

use crate::arrow::{RecordBatch, SchemaRef};
use crate::config::{self, Config};
use crate::plan::{self, Plan, Unit};
use crate::store::{self, Stores};

/// Name of the column that upstream's workers number rows by.
pub const INDEX_COLUMN: &str = "cache_index";

/// A source that cannot be opened or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The URI leads nowhere.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// A request to the store.
    #[error("failed to read {path}")]
    Read {
        /// Which file.
        path: String,
        /// Why.
        source: object_store::Error,
    },
    /// A file that is not what its name says, or damaged.
    #[error("failed to decode {path}")]
    Parquet {
        /// Which file.
        path: String,
        /// Why.
        source: parquet::errors::ParquetError,
    },
    /// A file over which a decoder gave up.
    #[error(
        "failed to decode {0}: the decoder panicked; the file is damaged, or of a kind that it does not know"
    )]
    Damaged(String),
    /// A file of Arrow that cannot be decoded.
    #[error("failed to decode {path}")]
    Arrow {
        /// Which file.
        path: String,
        /// Why.
        source: crate::arrow::ArrowError,
    },
    /// The Iceberg library.
    #[error("failed to read the table")]
    Iceberg(#[source] Box<::iceberg::Error>),
    /// The REST catalog of a table.
    #[error("failed to ask the catalog {uri}")]
    Catalog {
        /// Without user information and query.
        uri: String,
        /// What kind of failure it is.
        kind: Kind,
        /// Why.
        source: Box<::iceberg::Error>,
    },
    /// Glue.
    #[error("failed to ask Glue at {uri}: {what}")]
    Glue {
        /// Of the service.
        uri: String,
        /// What kind of failure it is.
        kind: Kind,
        /// Why.
        what: String,
    },
    /// The file of the catalog's token.
    #[error("failed to read the token of the catalog, {path}")]
    Token {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// No file of the format.
    #[error("{0} has no file that can be read")]
    Empty(String),
    /// Two files of a directory differ.
    #[error("{path} differs from {first}: {difference}")]
    Differs {
        /// The file.
        path: String,
        /// The one that it was compared with.
        first: String,
        /// The first difference.
        difference: String,
    },
    /// The source is no longer what it was when it was pinned.
    #[error("the source changed: {0}")]
    Changed(String),
    /// A column that is not there.
    #[error("no column {name:?}{}", nearest.as_ref().map(|name| format!("; did you mean {name:?}?")).unwrap_or_default())]
    NoColumn {
        /// As it was asked for.
        name: String,
        /// One that is there and has a similar name.
        nearest: Option<String>,
    },
    /// The reserved name.
    #[error(
        "Source schema already contains a column named '{INDEX_COLUMN}'. This conflicts with the cache index column \
         added by the data cache worker."
    )]
    IndexColumn,
    /// Something that cannot be served.
    #[error("{path} cannot be served: {what}")]
    Unsupported {
        /// Which file or table.
        path: String,
        /// What it has.
        what: String,
    },
    /// A filter that does not fit the columns.
    #[error(transparent)]
    Filter(#[from] crate::filter::Error),
    /// Too much for a plan.
    #[error(transparent)]
    Plan(#[from] plan::Error),
    /// A row that is larger than what may be decoded at a time.
    #[error(
        "row {row} of {path} has {bytes} bytes and cannot be served: {budget} bytes may be decoded at a time; raise \
         MEMORY_LIMIT, or leave its large columns out with COLUMNS"
    )]
    RowTooLarge {
        /// Which unit.
        path: String,
        /// Its place in the unit.
        row: u64,
        /// Its size, encoded.
        bytes: u64,
        /// What there is for rows that are being decoded.
        budget: u64,
    },
    /// Fewer or more rows than the plan has.
    #[error("{path} has other rows than the plan: {found} instead of {planned}")]
    Rows {
        /// Which unit.
        path: String,
        /// Rows that were read.
        found: u64,
        /// Rows that the plan has.
        planned: u64,
    },
}

/// Whether trying again may help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The store does not answer, or says that it is busy.
    Unreachable,
    /// Credentials are missing or do not suffice.
    Denied,
    /// It is no longer what was pinned.
    Changed,
    /// What was asked for is wrong or damaged.
    Invalid,
}

impl Error {
    /// Whether what is configured does not fit the source: nothing but another configuration helps.
    pub fn is_configuration(&self) -> bool {
        matches!(self, Self::IndexColumn | Self::NoColumn { .. } | Self::Filter(_))
    }

    /// What kind of failure this is.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Read { source, .. } => of_store(source),
            Self::Changed(_) | Self::Rows { .. } => Kind::Changed,
            // The library's own errors lose the kind on their way.
            Self::Iceberg(source) => match trainerd_causes::causes(&**source)
                .find_map(|cause| cause.downcast_ref::<object_store::Error>())
            {
                Some(cause) => of_store(cause),
                None if source.retryable() => Kind::Unreachable,
                None => Kind::Invalid,
            },
            Self::Catalog { kind, .. } | Self::Glue { kind, .. } => *kind,
            // Opening a store sends no request, for one: what fails is its configuration.
            _ => Kind::Invalid,
        }
    }
}

/// The kind of a store's failure.
fn of_store(error: &object_store::Error) -> Kind {
    match error {
        object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. } => {
            Kind::Denied
        }
        object_store::Error::Precondition { .. } => Kind::Changed,
        object_store::Error::Generic { .. } => Kind::Unreachable,
        _ => Kind::Invalid,
    }
}

/// Batches of a unit, in order.
pub type Batches = BoxStream<'static, Result<RecordBatch, Error>>;

/// Reads the rows of units of one pinned source.
#[async_trait]
pub trait UnitReader: Send + Sync {
    /// The rows of a unit from this one on, in order, in the dataset's schema. At most so many are decoded at a time
    /// where the format leaves that open: Arrow files have batches of their own.
    async fn read(&self, unit: &Unit, from: u64, batch_rows: usize) -> Result<Batches, Error>;

    /// Bytes that a reader of the unit holds while it is open, about.
    fn held_bytes(&self, unit: &Unit) -> u64;
}

/// A source that was opened and pinned.
#[derive(Clone)]
pub struct Dataset {
    /// The dataset's schema: its columns, dictionaries replaced by their values.
    pub schema: SchemaRef,
    /// Its units.
    pub plan: Plan,
    /// The snapshot that is read, of a table: a catalog may tell another one a moment later.
    pub snapshot: Option<i64>,
    /// Their rows.
    pub reader: Arc<dyn UnitReader>,
}

impl std::fmt::Debug for Dataset {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Dataset").field("plan", &self.plan.id()).finish_non_exhaustive()
    }
}

/// Opens and pins the source of a configuration, for so many workers. Units whose rows another process has counted
/// already are `known`; without them they are counted by reading.
pub async fn open(config: &Config, stores: &Stores, workers: u32, known: &[Unit]) -> Result<Dataset, Error> {
    open_observed(config, stores, workers, (known, &Progress::default())).await
}

/// As [`open`]; tells how far it is.
pub async fn open_observed(
    config: &Config,
    stores: &Stores,
    workers: u32,
    counts: (&[Unit], &Progress),
) -> Result<Dataset, Error> {
    match &config.source {
        config::Source::Directory { uri, format, digest } => {
            directory::open(config, stores, workers, uri, *format, digest.as_deref(), counts).await
        }
        config::Source::Iceberg { at, schema, table, snapshot } => {
            iceberg::open(config, stores, workers, at, (schema, table), *snapshot, counts).await
        }
    }
}

/// Decoders of the libraries panic over some damaged files: that is an error of the file, and of nothing else.
async fn catch_panic<T>(path: String, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let done = AssertUnwindSafe(work).catch_unwind().await;
    done.unwrap_or_else(|_| Err(Error::Damaged(store::redacted_path(&path))))
}

/// As [`catch_panic`], for rows.
fn catch_panics(path: &str, batches: Batches) -> Batches {
    let path = store::redacted_path(path);
    let caught = AssertUnwindSafe(batches).catch_unwind();
    caught.map(move |batch| batch.unwrap_or_else(|_| Err(Error::Damaged(path.clone())))).boxed()
}

/// Whether units are row groups: where that is asked for, or where files are too few or too unequal to share them.
fn by_row_group(granule: config::Granule, sizes: &[u64], workers: u32) -> bool {
    match granule {
        config::Granule::File => false,
        config::Granule::RowGroup => true,
        config::Granule::Auto => {
            let (files, bytes) = (sizes.len() as u64, sizes.iter().sum::<u64>());
            let largest = sizes.iter().max().copied().unwrap_or_default();
            files < 4 * u64::from(workers) || u128::from(largest) * u128::from(files) > 2 * u128::from(bytes)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use config::Granule;

    #[test]
    fn row_groups_are_units_where_files_cannot_be_shared() {
        assert!(by_row_group(Granule::Auto, &[1, 1, 1], 1));
        assert!(!by_row_group(Granule::Auto, &[1, 1, 1, 1], 1));
        assert!(by_row_group(Granule::Auto, &[1, 1, 1, 20], 1));
        assert!(by_row_group(Granule::RowGroup, &[1, 1, 1, 1], 1));
        assert!(!by_row_group(Granule::File, &[1], 4));
    }
}
