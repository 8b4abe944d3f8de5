//! Building a TrainJob: its runtime, its objects, and writing them in order.

use std::time::Instant;

use serde_json::Value;
use trainerd_pipeline::BuildError;
use trainerd_pipeline::{BuildProfile, build, snapshot};
use trainerd_pipeline::{RuntimeError, RuntimeKind};

use super::TrainJobs;
use super::apply::WriteError;
use crate::facts::Seen;

/// Why a TrainJob is not built.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BuildFailure {
    /// Its runtime cannot be had.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// Nothing can be built of it.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// An object could not be written.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// The outcome of a build.
#[derive(Default)]
pub(super) struct Built {
    /// The JobSet as stored, where it was applied.
    pub(super) job_set: Option<Value>,
}

impl TrainJobs {
    /// Builds a TrainJob and applies its objects in order. The first that fails ends it.
    pub(super) async fn make(
        &self,
        kind: RuntimeKind,
        job: &Value,
        seen: &Seen,
    ) -> Result<Built, BuildFailure> {
        let started = Instant::now();
        let (runtime, profile, is_first) = self.runtime(kind, job, seen).await?;
        let objects = build(&runtime, job, &seen.facts(&self.context, profile))?;
        let built = Instant::now();
        let mut made = Built::default();
        for object in &objects {
            let applied = self.apply(object).await?;
            if object["kind"] == "JobSet" {
                made.job_set = Some(applied);
            }
        }
        if let Some(metrics) = &self.metrics {
            metrics.built("build", built - started);
            metrics.built("apply", built.elapsed());
            if is_first {
                metrics.created(job);
            }
        }
        Ok(made)
    }

    /// The runtime to build from and whose content to build, both pinned at the first build.
    async fn runtime(
        &self,
        kind: RuntimeKind,
        job: &Value,
        seen: &Seen,
    ) -> Result<(Value, BuildProfile, bool), BuildFailure> {
        let (compatibility, job_set) = (self.context.compatibility(), seen.job_set.as_ref());
        let not_written = |error: WriteError| RuntimeError::SnapshotNotWritten(error.to_string());
        if let Some((config_map, runtime)) = self.context.snapshot(kind, job).await? {
            let (profile, to_write) = snapshot::profile(compatibility, Some(&config_map), job_set, job);
            if let Some(profile) = to_write {
                let pinned = snapshot::with_profile(&config_map, job, profile);
                self.apply(&pinned).await.map_err(not_written)?;
            }
            return Ok((runtime, profile, false));
        }
        let live = self.context.live_runtime(kind, job).await?;
        let (profile, to_write) = snapshot::profile(compatibility, None, job_set, job);
        let taken = snapshot::config_map(&live, kind, job, to_write);
        let applied = self.apply(&taken).await.map_err(not_written)?;
        // From what was written, as every later pass does.
        let runtime =
            snapshot::runtime(&applied, job).map_err(|cause| RuntimeError::Snapshot { kind, cause })?;
        Ok((runtime, profile, job_set.is_none()))
    }
}
