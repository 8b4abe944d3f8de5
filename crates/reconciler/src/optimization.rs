//! Reconciling an OptimizationJob: dereference, validate, build, apply, update the status. Which trial comes next, and
//! what the status is, is the pipeline's to say.
//!
//! A trial is created, never applied, under the one name that its number has: whoever was killed after a create, or sees
//! an old cache, meets the TrainJob that is there and takes it for what it is.

use std::fmt;

use jiff::Timestamp;
use serde_json::{Value, json};
use trainerd_cluster::event_recorder::EventRecorder;
use trainerd_cluster::lease::{Fence, LeaseLost};
use trainerd_cluster::{CreateParams, FieldValidation, RequestError};
use trainerd_pipeline::optimization::{self, Pass};
use trainerd_pipeline::status;

use crate::cache::{Name, trim};
use crate::controller::{Outcome, record};
use crate::facts::Context;
use crate::kinds;
use crate::merge;
use crate::queue::Queue;

/// Why an OptimizationJob comes again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OptimizationError {
    /// A trial was not created.
    #[error("failed to create TrainJob {name}")]
    Create {
        /// The trial.
        name: String,
        /// Why.
        #[source]
        source: CreateError,
    },
    /// The status was not written.
    #[error("failed to write the status")]
    Status(#[source] RequestError),
    /// Another manager leads, or may.
    #[error("failed to write: this manager no longer leads")]
    NotLeading(#[from] LeaseLost),
}

/// Why a trial was not created.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CreateError {
    /// The API server, or a webhook, refused it, or was not reached.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// Somebody else has a TrainJob of that name.
    #[error(
        "there is such a TrainJob already, which this OptimizationJob does not control; delete it or rename one of them"
    )]
    Taken,
}

/// Reconciles OptimizationJobs. Clones share everything.
#[derive(Clone)]
pub(crate) struct OptimizationJobs {
    pub(crate) context: Context,
    pub(crate) recorder: EventRecorder,
    /// Of TrainJobs, which a new trial is put into.
    pub(crate) train_jobs: Queue<Name>,
    /// Tells whether this manager leads; `None` where there is no election.
    pub(crate) fence: Option<Fence>,
}

impl fmt::Debug for OptimizationJobs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OptimizationJobs").finish_non_exhaustive()
    }
}

impl OptimizationJobs {
    /// One pass.
    pub(crate) async fn reconcile(self, name: Name) -> Result<Outcome, OptimizationError> {
        let Some(job) = self.context.stores.optimization_jobs.get(&name) else { return Ok(Outcome::Done) };
        if optimization::is_finished(&job) || job["metadata"]["deletionTimestamp"].is_string() {
            return Ok(Outcome::Done);
        }
        let mut trials = self.trials(&name, &job);
        let mut failure = None;
        while let Some(trial) = optimization::next(&job, &trials) {
            self.check_leads()?;
            match self.create(&job, &trial).await {
                Ok(created) => trials.push(created),
                Err(source) => {
                    let name = Name::of(&trial).name;
                    failure = Some(OptimizationError::Create { name, source });
                    break;
                }
            }
        }
        self.settle(&name, &job, &trials, failure.as_ref()).await?;
        failure.map_or(Ok(Outcome::Done), Err)
    }

    /// The TrainJobs of the names of its trials.
    fn trials(&self, name: &Name, job: &Value) -> Vec<Value> {
        let store = &self.context.stores.train_jobs;
        let names = optimization::trial_names(job).into_iter();
        names.filter_map(|trial| store.get(&Name::new(&name.namespace, &trial))).collect()
    }

    /// Creates a trial, or finds the one that was created before.
    async fn create(&self, job: &Value, trial: &Value) -> Result<Value, CreateError> {
        let (cluster, name) = (&self.context.cluster, Name::of(trial));
        let created = match cluster.create(&kinds::train_job(), trial, CreateParams::default()).await {
            Ok(created) => created,
            Err(error @ RequestError::AlreadyExists { .. }) => {
                let found = cluster.get_opt(&kinds::train_job(), Some(&name.namespace), &name.name).await?;
                // One that went meanwhile is created in the next pass.
                let found = found.ok_or(error)?;
                if !optimization::is_trial_of(job, &found) {
                    return Err(CreateError::Taken);
                }
                found
            }
            Err(error) => return Err(error.into()),
        };
        let created = trim(created);
        // The cache knows it before the watch reports it, which is then no news that has it reconciled.
        self.context.stores.train_jobs.observe(&created);
        self.train_jobs.add(name.clone());
        tracing::info!(object = %Name::of(job), trial = name.name, "created a trial");
        Ok(created)
    }

    /// Writes the status that follows, and tells what changed with it.
    async fn settle(
        &self,
        name: &Name,
        job: &Value,
        trials: &[Value],
        failure: Option<&OptimizationError>,
    ) -> Result<(), OptimizationError> {
        let failure = failure.map(|error| trainerd_causes::one_line(error));
        let pass = Pass { job, trials, failure: failure.as_deref(), now: Timestamp::now() };
        let outcome = optimization::reconcile(&pass);
        if !outcome.is_changed {
            return Ok(());
        }
        self.check_leads()?;
        let before = Some(&job["status"]).filter(|it| it.is_object()).cloned().unwrap_or_else(|| json!({}));
        let Some(patch) = merge::diff(&before, &outcome.status) else { return Ok(()) };
        // The version that it follows from: another leader may have written one meanwhile.
        let version = &job["metadata"]["resourceVersion"];
        let patch = json!({"metadata": {"resourceVersion": version}, "status": patch});
        let params = CreateParams {
            status: true,
            field_validation: FieldValidation::Ignore,
            ..CreateParams::default()
        };
        let (cluster, resource) = (&self.context.cluster, kinds::optimization_job());
        match cluster.patch_merge(&resource, Some(&name.namespace), &name.name, &patch, params).await {
            Ok(written) => self.context.stores.optimization_jobs.observe(&trim(written)),
            Err(error) if error.is_absent() => return Ok(()),
            Err(error) => return Err(OptimizationError::Status(error)),
        }
        for event in outcome.events {
            record(&self.recorder, job, event);
        }
        if optimization::is_finished(&json!({"status": outcome.status})) {
            // Where it has failed, those that still run end with it.
            for trial in trials.iter().filter(|trial| !status::is_finished(trial)) {
                self.train_jobs.add(Name::of(trial));
            }
        }
        Ok(())
    }

    fn check_leads(&self) -> Result<(), LeaseLost> {
        self.fence.as_ref().map_or(Ok(()), Fence::check)
    }
}
