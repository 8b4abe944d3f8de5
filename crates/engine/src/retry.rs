//! How long the engine keeps asking: one policy for everything it reads and keeps.

use std::time::Duration;

use tokio::time::Instant;
use trainerd_cluster::RequestError;
use trainerd_cluster::lease::{Fence, LeaseLost};
use trainerd_cluster::retry::{RetryPolicy, with_retry};

/// How long reads, and writes of trainerd's own records, are repeated: an API server restarts in less.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// Repeats a request for as long as a passing fault may last.
pub(crate) async fn patiently<T>(
    operation: impl AsyncFn() -> Result<T, RequestError>,
) -> Result<T, RequestError> {
    let deadline = Instant::now() + PATIENCE;
    with_retry(&RetryPolicy::default(), Some(deadline), |_| {}, async |_| operation().await).await
}

/// As [`patiently`], and no attempt is made once the lease is not known to be ours: `Ok(Err(_))` then.
///
/// Without a fence every attempt is made.
pub(crate) async fn fenced<T>(
    fence: Option<&Fence>,
    operation: impl AsyncFn() -> Result<T, RequestError>,
) -> Result<Result<T, LeaseLost>, RequestError> {
    patiently(async || match fence.map_or(Ok(()), Fence::check) {
        Ok(()) => operation().await.map(Ok),
        Err(lost) => Ok(Err(lost)),
    })
    .await
}
