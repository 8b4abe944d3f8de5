//! What goes wrong with TrainJobs.

use trainerd_cluster::RequestError;

use super::Problem;
use super::cluster::of_request;
use crate::problem::Exit;

/// What goes wrong with a TrainJob.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TrainJobError {
    /// The cluster has no TrainJobs.
    #[error("the cluster does not support TrainJobs")]
    NotServed,
    /// There is none of that name.
    #[error("failed to find the TrainJob {namespace}/{name}")]
    NotFound {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// The API server said no.
    #[error("failed to {what} the TrainJob {namespace}/{name}")]
    Request {
        /// What was asked for.
        what: &'static str,
        /// The TrainJob's namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// What the API server said.
        source: RequestError,
    },
    /// It came to a bad end.
    #[error("the TrainJob {namespace}/{name} failed")]
    Failed {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// What its condition says.
        why: String,
    },
    /// It has ended, and cannot be suspended or resumed.
    #[error("the TrainJob {namespace}/{name} has ended")]
    Ended {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// How.
        state: String,
    },
    /// It has no pod that a log could be read of.
    #[error("the TrainJob {namespace}/{name} has no pods to read logs from")]
    NoPods {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// What pods were looked for, or what state the TrainJob is in.
        why: String,
    },
    /// Nothing says what to submit.
    #[error("nothing to submit is given")]
    NothingToSubmit,
    /// A runtime that is named in no known way.
    #[error("unknown kind of runtime {kind:?}")]
    UnknownRuntimeKind {
        /// What was given.
        kind: String,
    },
}

impl From<TrainJobError> for Problem {
    fn from(error: TrainJobError) -> Self {
        let of = |exit, code| Problem::of(exit, code, &error);
        match &error {
            TrainJobError::NotServed => of(Exit::Failed, "not-installed")
                .because("it does not serve trainjobs of trainer.kubeflow.org/v1alpha1")
                .hint("`trainerd up` installs the stack; or name another cluster with --context"),
            TrainJobError::NotFound { .. } => of(Exit::Failed, "not-found")
                .because("there is no TrainJob of this name in this namespace")
                .hint("`trainerd trainjob list -A` lists those in all namespaces; -n selects a namespace"),
            TrainJobError::Request { source, .. } => {
                let (exit, code, hint) = of_request(source);
                let hint = match source {
                    RequestError::Invalid { .. } | RequestError::AdmissionDenied { .. } => {
                        "correct the TrainJob; `trainerd trainjob validate` checks it without a cluster"
                    }
                    RequestError::AlreadyExists { .. } => {
                        "choose another name, or delete the other one first"
                    }
                    RequestError::NotFound { .. } => "create the namespace, or name another one with -n",
                    _ => hint,
                };
                of(exit, code).hint(hint)
            }
            TrainJobError::Failed { namespace, name, why } => of(Exit::Failed, "job-failed")
                .because(why.clone())
                .hint(format!("`trainerd trainjob logs {name} -n {namespace}` shows the output of its pods")),
            TrainJobError::Ended { state, .. } => of(Exit::Refused, "job-ended")
                .because(format!("it is {state} and will not run again"))
                .hint("submit it again under another name"),
            TrainJobError::NoPods { namespace, name, why } => of(Exit::Failed, "no-pods")
                .because(why.clone())
                .hint(format!("`trainerd trainjob get {name} -n {namespace}` shows its steps; --follow waits for pods")),
            TrainJobError::NothingToSubmit => of(Exit::Input, "usage")
                .because("neither --file, nor a name and --runtime are given")
                .hint("trainerd trainjob submit NAME --runtime torch-distributed -- python train.py"),
            TrainJobError::UnknownRuntimeKind { .. } => of(Exit::Input, "usage")
                .because("a runtime is a ClusterTrainingRuntime or a TrainingRuntime")
                .hint("--runtime NAME names a ClusterTrainingRuntime, --runtime TrainingRuntime/NAME one of the namespace"),
        }
    }
}
