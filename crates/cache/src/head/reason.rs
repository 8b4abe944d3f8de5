//! What a head waits for, or why it failed: the same text in the status, in the log and to clients.

use std::fmt;

use crate::source::{Error, Kind};

/// What a head waits for, or why it failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The source is being opened.
    Opening,
    /// Files, their footers and the table's manifests are being read.
    Planning,
    /// The source does not answer.
    SourceUnreachable(String),
    /// The source refuses, or credentials are missing.
    SourceDenied(String),
    /// The source is no longer what was pinned.
    SourceChanged(String),
    /// What is configured cannot be served.
    Invalid(String),
    /// Rows are counted by reading them.
    CountingRows {
        /// Rows that were read.
        counted: u64,
        /// Rows to read.
        rows: u64,
    },
    /// A worker does not answer.
    WorkerUnreachable {
        /// Its id.
        id: u32,
        /// Its address, and why.
        why: String,
    },
    /// A worker cannot serve its assignment.
    WorkerFailed {
        /// Its id.
        id: u32,
        /// Its address, and why.
        why: String,
    },
    /// A worker does not serve yet, or has not loaded its rows.
    WorkerLoading {
        /// Its id.
        id: u32,
        /// Its address, and what it waits for.
        why: String,
    },
}

impl Reason {
    /// Of a source that cannot be opened.
    pub(super) fn of(error: &Error) -> Self {
        let text = trainerd_causes::one_line(error);
        match error.kind() {
            Kind::Unreachable => Self::SourceUnreachable(text),
            Kind::Denied => Self::SourceDenied(text),
            Kind::Changed => Self::SourceChanged(text),
            Kind::Invalid => Self::Invalid(text),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Opening => formatter.write_str("the source is being opened"),
            Self::Planning => formatter.write_str("manifests and footers are being read"),
            Self::SourceUnreachable(why) => write!(formatter, "SourceUnreachable: {why}"),
            Self::SourceDenied(why) => write!(formatter, "SourceDenied: {why}"),
            Self::SourceChanged(why) => write!(formatter, "SourceChanged: {why}"),
            Self::Invalid(why) => formatter.write_str(why),
            Self::CountingRows { counted, rows } => write!(formatter, "CountingRows({counted}/{rows})"),
            Self::WorkerUnreachable { id, why } => write!(formatter, "WorkerUnreachable({id}): {why}"),
            Self::WorkerFailed { id, why } => write!(formatter, "WorkerFailed({id}): {why}"),
            Self::WorkerLoading { id, why } => write!(formatter, "WorkerLoading({id}): {why}"),
        }
    }
}
