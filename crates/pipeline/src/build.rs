//! Objects of a TrainJob.

use serde_json::Value;

use crate::info::Info;
use crate::plugins::{
    coscheduling, flux, jax, jobset, mpi, plainml, torch, train_job_status, volcano, xgboost,
};
use crate::{Facts, live_order};

/// Why the objects of a TrainJob cannot be built.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// The type table does not read: a defect of this build, which its tests rule out.
    #[error("failed to read the type table")]
    TypeTable,
    /// A runtime patch does not merge.
    #[error("failed to merge a runtime patch: {0}")]
    Patch(trainerd_schema::MergeError),
    /// The runtime injects variables into a container that it does not have.
    #[error("envInjection target podSet {} container {} not found in runtime template", crate::go::quoted(.job), crate::go::quoted(.container))]
    InjectionTarget {
        /// The replicated Job.
        job: String,
        /// The container.
        container: String,
    },
    /// An MPI that is none of ours.
    #[error("MPI implementation for {0} doesn't supported")]
    MpiImplementation(String),
    /// More hosts than a ConfigMap holds.
    #[error("the hostfile of {nodes} nodes does not fit a ConfigMap")]
    HostfileTooLarge {
        /// Pods of one set.
        nodes: i32,
    },
    /// A key pair could not be made.
    #[error("failed to build SSH Auth secret: {0}")]
    SshKey(String),
    /// Flux must be told more, in upstream's profile.
    #[error("Flux requires {0}")]
    FluxRequires(&'static str),
    /// There are fewer Jobs than sets of pods.
    #[error("runtime template has {jobs} replicatedJobs but runtime info has {sets} podSets")]
    TooFewJobs {
        /// Replicated Jobs.
        jobs: usize,
        /// Sets of pods.
        sets: usize,
    },
    /// The status server has no port.
    #[error("missing status server port")]
    NoStatusPort,
    /// The webhook Secret could not be read, in the API server's words.
    #[error("failed to look up status server tls secret: {0}")]
    NoCertificateSecret(String),
    /// The webhook Secret has no authority.
    #[error("failed to find status server ca.crt in tls secret")]
    NoCertificateAuthority,
}

/// The objects to apply for a TrainJob, in order: nothing that a pod needs comes after the JobSet. The snapshot of the
/// runtime is not among them.
///
/// # Errors
/// Why nothing can be built. No object is to be applied then.
pub fn build(runtime: &Value, train_job: &Value, facts: &Facts<'_>) -> Result<Vec<Value>, BuildError> {
    let mut info = Info::new(runtime, train_job, facts.profile)?;
    // In byte order of the plugins' names; upstream's order is random.
    flux::enforce(&mut info, train_job)?;
    jax::enforce(&mut info, train_job);
    mpi::enforce(&mut info, train_job)?;
    plainml::enforce(&mut info);
    torch::enforce(&mut info, train_job)?;
    xgboost::enforce(&mut info, train_job);
    coscheduling::enforce(&mut info, train_job);
    volcano::enforce(&mut info, train_job);
    if facts.train_job_status {
        train_job_status::enforce(&mut info, train_job, facts)?;
    }
    jobset::sync_counts(&mut info);

    let mut objects = Vec::new();
    if facts.train_job_status {
        objects.push(train_job_status::build(train_job, facts)?);
    }
    objects.extend(mpi::build(&info, train_job, facts)?);
    objects.extend(flux::build(&mut info, train_job)?);
    objects.extend(coscheduling::build(&info, train_job, facts));
    objects.extend(volcano::build(&info, train_job, facts));
    if let Some(mut job_set) = jobset::build(info, train_job, facts)? {
        if let Some(live) = facts.job_set {
            live_order::restore(&mut job_set, live);
        }
        objects.push(job_set);
    }
    Ok(objects)
}
