//! How a worker is.

use serde::{Deserialize, Serialize};

/// How a worker is, as its head and its users see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkerStatus {
    /// Another one after each start.
    pub boot_id: String,
    /// The state's name.
    pub state: State,
    /// Why it is not serving.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The plan that it serves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plan_id: Option<String>,
    /// Number of workers in the assignment.
    pub workers: u32,
    /// Units that it owns, and how many of them were loaded.
    pub units: u32,
    /// Loaded ones among them.
    pub loaded: u32,
    /// Bytes of rows in memory.
    pub cached_bytes: u64,
    /// Chunks that were in memory when they were asked for, and those that were not.
    pub hits: u64,
    /// Chunks that were read from the source.
    pub misses: u64,
    /// Bytes of rows on the disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_bytes: Option<u64>,
    /// Why nothing more is kept on the disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_reason: Option<String>,
    /// Chunks that were on the disk.
    #[serde(default)]
    pub disk_hits: u64,
    /// Streams to clients.
    pub streams: u64,
}

/// State of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// Nothing is assigned.
    Empty,
    /// The source of what is assigned is being opened.
    Assigned,
    /// Rows are served, and those that are not in memory yet are being loaded.
    Warming,
    /// Loading is over: everything is in memory, or the budget is used up.
    Warm,
    /// The assignment cannot be served.
    Failed,
}

impl State {
    /// Whether rows are served.
    pub fn is_serving(self) -> bool {
        matches!(self, Self::Warming | Self::Warm)
    }
}
