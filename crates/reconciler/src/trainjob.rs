//! Reconciling a TrainJob: dereference, validate, build, apply, update the status. What is to be done is the pipeline's to
//! say; here it is done.

mod apply;
mod build;
mod emptied;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use trainerd_cluster::event_recorder::EventRecorder;
use trainerd_cluster::lease::Fence;
use trainerd_cluster::{CreateParams, DeleteParams, FieldValidation, Propagation, RequestError};
use trainerd_pipeline::status::{self, Action, JobSetLookup, Pass};
use trainerd_pipeline::{Compatibility, optimization, runtime_kind};

use crate::cache::{Name, Store, trim};
use crate::controller::{Outcome, record};
use crate::facts::{Context, Seen};
use crate::kinds;
use crate::merge;
use crate::metrics::TrainJobMetrics;
use crate::stores::optimizer;
use apply::WriteError;
use build::Built;

/// Before a deletion is tried that must not meet a version of our own making.
const DELETE_RETRY_DELAY: Duration = Duration::from_millis(10);
/// Reason of the event that tells of a failed build; it is told whatever becomes of the status.
const CREATION_FAILED: &str = "TrainJobResourcesCreationFailed";

/// Why a TrainJob comes again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TrainJobError {
    /// The pass went wrong.
    #[error("{0}")]
    Pass(String),
    /// The status was not written.
    #[error("failed to write the status")]
    Status(#[source] WriteError),
    /// Something was not deleted.
    #[error("failed to delete {what}")]
    Delete {
        /// What.
        what: &'static str,
        /// Why.
        #[source]
        source: WriteError,
    },
}

/// Reconciles TrainJobs. Clones share everything.
#[derive(Clone)]
pub(crate) struct TrainJobs {
    pub(crate) context: Context,
    pub(crate) recorder: EventRecorder,
    /// In extended compatibility.
    pub(crate) metrics: Option<TrainJobMetrics>,
    /// Tells whether this manager leads; `None` where there is no election.
    pub(crate) fence: Option<Fence>,
    pub(crate) told: Arc<LoggedOnce>,
}

/// Missing permissions, each logged once: what needs them is left out.
#[derive(Default)]
pub(crate) struct LoggedOnce {
    pod_groups: AtomicBool,
    train_jobs: AtomicBool,
}

impl fmt::Debug for TrainJobs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TrainJobs").finish_non_exhaustive()
    }
}

impl TrainJobs {
    /// One pass.
    pub(crate) async fn reconcile(self, name: Name) -> Result<Outcome, TrainJobError> {
        let Some(job) = self.context.stores.train_jobs.get(&name) else {
            self.context.snapshots.forget(&name);
            return Ok(Outcome::Done);
        };
        if !status::is_ours(&job) {
            return Ok(Outcome::Done);
        }
        let mut seen = self.context.see(&name, &[]).await;
        let (made, failure) = match runtime_kind(&job) {
            Ok(kind) if status::builds_objects(&job, self.context.compatibility()) => {
                let made = match self.read_job_set(&name, &job, &mut seen).await {
                    Ok(()) => self.make(kind, &job, &seen).await,
                    Err(error) => Err(error.into()),
                };
                match made {
                    Ok(made) => (made, None),
                    Err(error) => (Built::default(), Some(trainerd_causes::one_line(&error))),
                }
            }
            _ => (Built::default(), None),
        };
        self.settle(&name, &job, &seen, &made, failure.as_deref()).await
    }

    /// Reads the JobSet of a TrainJob that is to be suspended: it is applied once more, in the order that it has, and of one
    /// that runs the cache does not know that.
    async fn read_job_set(&self, name: &Name, job: &Value, seen: &mut Seen) -> Result<(), WriteError> {
        let runs = |job_set: &Value| job_set["spec"]["suspend"] != true;
        if job["spec"]["suspend"] == true && seen.job_set.as_ref().is_some_and(runs) {
            let cluster = &self.context.cluster;
            if let Some(whole) = cluster.get_opt(&kinds::job_set(), Some(&name.namespace), &name.name).await?
            {
                seen.job_set = Some(trim(whole));
            }
        }
        Ok(())
    }

    /// Writes the status that follows, and does what else there is to do.
    async fn settle(
        &self,
        name: &Name,
        job: &Value,
        seen: &Seen,
        made: &Built,
        failure: Option<&str>,
    ) -> Result<Outcome, TrainJobError> {
        let job_set = made.job_set.as_ref().or(seen.job_set.as_ref());
        let now = Timestamp::now();
        let search_failed = self.search_failed(job);
        let outcome = status::reconcile(&Pass {
            train_job: job,
            job_set: job_set.map_or(JobSetLookup::Absent, JobSetLookup::Found),
            job_set_created: made.job_set.is_some() && seen.job_set.is_none(),
            has_pod_group: !self.pod_groups(name, job).is_empty(),
            failure,
            search_failed: search_failed.as_deref(),
            now,
            compatibility: self.context.compatibility(),
        });
        let written = if outcome.is_changed { self.write(name, job, &outcome.status).await } else { Ok(()) };
        for event in outcome.events.into_iter().filter(|it| written.is_ok() || it.reason == CREATION_FAILED) {
            record(&self.recorder, job, event);
        }
        written.map_err(TrainJobError::Status)?;
        if outcome.is_changed {
            self.count(job, &outcome.status, now);
        }
        if self.is_first_start(job, made)
            && let Some(metrics) = &self.metrics
        {
            metrics.started(since(&job["metadata"]["creationTimestamp"], now));
        }
        let again = self.act(name, job, &outcome.actions, outcome.is_changed).await?;
        if let Some(error) = outcome.error {
            return Err(TrainJobError::Pass(error));
        }
        let due = outcome.requeue.map(|due| time_until(due, Timestamp::now()));
        Ok(again.into_iter().chain(due).min().map_or(Outcome::Done, Outcome::After))
    }

    /// What the OptimizationJob says of which it is a trial, where that has failed.
    fn search_failed(&self, job: &Value) -> Option<String> {
        let search = self.context.stores.optimization_jobs.get(&optimizer(job)?)?;
        optimization::failure_for(&search, job)
    }

    /// Changes the status from what was read to what it is to be: fields that nobody changed are not in the patch, so that
    /// what the status server writes meanwhile stays.
    async fn write(&self, name: &Name, job: &Value, status: &Value) -> Result<(), WriteError> {
        self.check_leads()?;
        let object = |value: &Value| if value.is_object() { value.clone() } else { json!({}) };
        let patch = if status.is_null() {
            // A status has at least one field. Nothing may have come into it since it was read.
            json!({"metadata": {"resourceVersion": job["metadata"]["resourceVersion"]}, "status": null})
        } else {
            match merge::diff(&object(&job["status"]), &object(status)) {
                Some(patch) => json!({"status": patch}),
                None => return Ok(()),
            }
        };
        // Fields of ours that this CRD does not have are dropped.
        let params = CreateParams {
            status: true,
            field_validation: FieldValidation::Ignore,
            ..CreateParams::default()
        };
        let cluster = &self.context.cluster;
        match cluster
            .patch_merge(&kinds::train_job(), Some(&name.namespace), &name.name, &patch, params)
            .await
        {
            Ok(written) => {
                self.context.stores.train_jobs.observe(&trim(written));
                Ok(())
            }
            Err(error) if error.is_absent() => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Does what else there is to do. When to look again, where something had to wait for that.
    async fn act(
        &self,
        name: &Name,
        job: &Value,
        actions: &[Action],
        status_changed: bool,
    ) -> Result<Option<Duration>, TrainJobError> {
        let mut again = None;
        for action in actions {
            match action {
                Action::DeleteJobSet => {
                    if let Err(error) = self.delete(&kinds::job_set(), name, None).await {
                        tracing::error!(object = %name, %error, "failed to delete the JobSet");
                    }
                }
                Action::DeletePodGroups => self.release_pod_groups(name, job).await?,
                // Our own write made another version of it, which is to be looked at first.
                Action::DeleteTrainJob { .. } if status_changed => again = Some(DELETE_RETRY_DELAY),
                Action::DeleteTrainJob { uid, resource_version } => {
                    self.delete_train_job(name, uid, resource_version).await?;
                }
            }
        }
        Ok(again)
    }

    async fn release_pod_groups(&self, name: &Name, job: &Value) -> Result<(), TrainJobError> {
        for (resource, uid) in self.pod_groups(name, job) {
            match self.delete(&resource, name, Some(&uid)).await {
                Ok(()) => tracing::info!(object = %name, group = resource.group, "deleted the PodGroup"),
                Err(WriteError::Request(error @ RequestError::Forbidden { .. })) => {
                    if !self.told.pod_groups.swap(true, Ordering::Relaxed) {
                        tracing::warn!(%error, "PodGroups of TrainJobs that have ended may not be deleted, and stay");
                    }
                }
                // Another one of that name.
                Err(WriteError::Request(RequestError::Conflict { .. })) => {}
                Err(source) => return Err(TrainJobError::Delete { what: "the PodGroup", source }),
            }
        }
        Ok(())
    }

    /// The PodGroups that this TrainJob controls, with their uids.
    fn pod_groups(&self, name: &Name, job: &Value) -> Vec<(trainerd_object::Resource, String)> {
        let stores = &self.context.stores;
        let of = |store: &Store, resource| {
            let found = store.get(name)?;
            let owners = found["metadata"]["ownerReferences"].as_array()?;
            let is_ours = owners.iter().any(|owner| owner["uid"] == job["metadata"]["uid"]);
            let uid = found["metadata"]["uid"].as_str()?.to_owned();
            is_ours.then_some((resource, uid))
        };
        let coscheduling = of(&stores.coscheduling_pod_groups, kinds::coscheduling_pod_group());
        let volcano = of(&stores.volcano_pod_groups, kinds::volcano_pod_group());
        coscheduling.into_iter().chain(volcano).collect()
    }

    async fn delete_train_job(&self, name: &Name, uid: &str, version: &str) -> Result<(), TrainJobError> {
        let failed = |source| TrainJobError::Delete { what: "the TrainJob", source };
        self.check_leads().map_err(|lost| failed(lost.into()))?;
        let params = DeleteParams {
            uid: Some(uid.to_owned()),
            resource_version: Some(version.to_owned()),
            propagation: Some(Propagation::Foreground),
            ..DeleteParams::default()
        };
        let deleted = self
            .context
            .cluster
            .delete(&kinds::train_job(), Some(&name.namespace), &name.name, &params)
            .await;
        match deleted {
            Ok(_) => Ok(()),
            Err(error) if error.is_absent() => Ok(()),
            Err(error @ RequestError::Forbidden { .. }) => {
                if !self.told.train_jobs.swap(true, Ordering::Relaxed) {
                    tracing::warn!(%error, "TrainJobs whose time is over may not be deleted, and stay");
                }
                Ok(())
            }
            Err(error) => Err(failed(error.into())),
        }
    }

    /// Counts a TrainJob that ended with this change of its status.
    fn count(&self, job: &Value, status: &Value, now: Timestamp) {
        let Some(metrics) = &self.metrics else { return };
        let before = status::is_finished(job);
        let conditions = status["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
        let is_true = |kind: &str| conditions.iter().find(|it| it["type"] == kind && it["status"] == "True");
        let ended = [("Complete", "complete"), ("Failed", "failed")]
            .into_iter()
            .find_map(|(kind, result)| Some((result, is_true(kind)?)));
        if let Some((result, condition)) = ended.filter(|_| !before) {
            let resumed = conditions.iter().find(|it| it["type"] == "Suspended" && it["status"] == "False");
            let start = resumed.map_or(&job["metadata"]["creationTimestamp"], |it| &it["lastTransitionTime"]);
            let reason = condition["reason"].as_str().unwrap_or_default();
            metrics.finished(job, result, reason, since(start, now));
        }
    }

    /// Whether a TrainJob was started by this pass for the first time.
    fn is_first_start(&self, job: &Value, made: &Built) -> bool {
        let is_suspended = job["spec"]["suspend"] == true;
        let was_suspended = job["status"]["conditions"]
            .as_array()
            .is_some_and(|all| all.iter().any(|it| it["type"] == "Suspended" && it["status"] == "False"));
        self.context.compatibility() == Compatibility::Extended
            && made.job_set.is_some()
            && !is_suspended
            && !was_suspended
    }
}

fn since(time: &Value, now: Timestamp) -> Duration {
    let time: Option<Timestamp> = time.as_str().and_then(|time| time.parse().ok());
    time.map_or(Duration::ZERO, |time| time_until(now, time))
}

/// The time from `now` until `due`, none if that is over.
fn time_until(due: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(due.duration_since(now)).unwrap_or_default()
}
