//! Which change has which object reconciled.

use serde_json::Value;
use trainerd_pipeline::status;

use crate::cache::{Change, Name, Stored};
use crate::controller::Queues;
use crate::metrics::ManagerMetrics;
use crate::queue::Queue;
use crate::stores::{Source, Stores, optimizer, owner};

/// The controllers, as their labels have them.
pub(crate) const TRAIN_JOB: &str = "trainjob_controller";
pub(crate) const OPTIMIZATION_JOB: &str = "optimizationjob_controller";
pub(crate) const TRAINING_RUNTIME: &str = "trainingruntime_controller";
pub(crate) const CLUSTER_TRAINING_RUNTIME: &str = "clustertrainingruntime_controller";

/// The queues of the controllers. Clones share them.
#[derive(Clone)]
pub(crate) struct Controllers {
    pub(crate) train_jobs: Queue<Name>,
    /// Of OptimizationJobs, where they are reconciled at all.
    pub(crate) optimization_jobs: Option<Queue<Name>>,
    pub(crate) training_runtimes: Queue<Name>,
    pub(crate) cluster_training_runtimes: Queue<Name>,
    stores: Stores,
    /// Whether a job whose status alone changed is let be: it is mostly ourselves who changed it.
    ignore_status: bool,
}

impl Controllers {
    pub(crate) fn new(metrics: &ManagerMetrics, queues: &Queues, stores: &Stores, extended: bool) -> Self {
        let queue = |name: &'static str| {
            let queue = Queue::new(metrics.queue(name));
            queues.add(name, &queue);
            queue
        };
        Self {
            train_jobs: queue(TRAIN_JOB),
            optimization_jobs: extended.then(|| queue(OPTIMIZATION_JOB)),
            training_runtimes: queue(TRAINING_RUNTIME),
            cluster_training_runtimes: queue(CLUSTER_TRAINING_RUNTIME),
            stores: stores.clone(),
            ignore_status: extended,
        }
    }

    /// Has reconciled what a change concerns.
    pub(crate) fn tell(&self, source: Source, change: &Change) {
        let name = change.name.clone();
        match source {
            Source::TrainJob => {
                if !self.ignore_status || is_relevant(change) {
                    self.train_jobs.add(name);
                }
                self.enqueue_optimization_job(change);
            }
            Source::OptimizationJob => {
                if let Some(queue) = self.optimization_jobs.as_ref().filter(|_| is_relevant(change)) {
                    queue.add(name);
                }
            }
            Source::TrainingRuntime => self.training_runtimes.add(name),
            Source::ClusterTrainingRuntime => self.cluster_training_runtimes.add(name),
            // A pass that wrote it looked at what it wrote, and comes again if it went wrong after that.
            Source::Owned if change.is_own_write() => {}
            Source::Owned => {
                // One that changed its owner concerns both.
                let owners = [&change.old, &change.new].map(|stored| owner(&stored.as_ref()?.read()));
                for owner in owners.into_iter().flatten() {
                    self.train_jobs.add(owner);
                }
            }
            Source::LimitRange => self.add_suspended(|job| job.namespace == name.namespace),
            Source::RuntimeClass => {
                let names_it = format!("\"runtimeClassName\":{}", Value::from(name.name.as_str()));
                let runtimes = [&self.stores.training_runtimes, &self.stores.cluster_training_runtimes];
                let is_named = |stored: &Stored| stored.holds(&names_it);
                if runtimes.iter().any(|store| store.all().iter().any(|(_, stored)| is_named(stored))) {
                    self.add_suspended(|_| true);
                }
            }
        }
    }

    /// Has the OptimizationJob of a trial reconciled that has ended or is gone. Not of one that has just ended: where we
    /// wrote that ourselves, the cache knew it before the watch reported.
    fn enqueue_optimization_job(&self, change: &Change) {
        let Some(queue) = &self.optimization_jobs else { return };
        let Some(trial) = change.new.as_ref().or(change.old.as_ref()) else { return };
        if !trial.holds("\"OptimizationJob\"") {
            return;
        }
        let trial = trial.read();
        if let Some(job) = optimizer(&trial).filter(|_| change.new.is_none() || status::is_finished(&trial)) {
            queue.add(job);
        }
    }

    /// Has the suspended TrainJobs reconciled: what their gang asks for may change. Those that run keep what they have.
    fn add_suspended(&self, concerned: impl Fn(&Name) -> bool) {
        for (name, stored) in self.stores.train_jobs.all() {
            if concerned(&name)
                && stored.holds("\"suspend\":true")
                && stored.read()["spec"]["suspend"] == true
            {
                self.train_jobs.add(name);
            }
        }
    }

    /// Ends all of them.
    pub(crate) fn end(&self) {
        self.train_jobs.end();
        self.optimization_jobs.iter().for_each(Queue::end);
        self.training_runtimes.end();
        self.cluster_training_runtimes.end();
    }
}

/// Whether a change of a job is more than one of its status.
fn is_relevant(change: &Change) -> bool {
    let (Some(old), Some(new)) = (&change.old, &change.new) else { return true };
    let (old, new) = (old.read(), new.read());
    ["generation", "labels", "annotations", "deletionTimestamp", "uid"]
        .iter()
        .any(|field| old["metadata"][field] != new["metadata"][field])
}
