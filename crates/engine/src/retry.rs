//! How long the engine keeps asking: one policy for everything it reads and keeps.

use std::time::Duration;

use tokio::time::Instant;
use trainerd_cluster::RequestError;
use trainerd_cluster::retry::{RetryPolicy, with_retry};

/// How long reads, and writes of trainerd's own records, are repeated: an API server restarts in less.
const PATIENCE: Duration = Duration::from_mins(1);

/// Repeats a request for as long as a passing fault may last.
pub(crate) async fn patiently<T>(
    operation: impl AsyncFn() -> Result<T, RequestError>,
) -> Result<T, RequestError> {
    let deadline = Instant::now() + PATIENCE;
    with_retry(&RetryPolicy::default(), Some(deadline), |_| {}, async |_| operation().await).await
}
