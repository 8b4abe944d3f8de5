//! Where TrainJobs are: the cluster and the namespace that the command line names.

use serde_json::Value;
use trainerd_cluster::{Cluster, RequestError};
use trainerd_plan::object::kinds::train_job;

use crate::cli::context::Context;
use crate::problem::{Problem, TrainJobError};

/// A namespace of a cluster.
pub(super) struct Target {
    pub(super) cluster: Cluster,
    pub(super) namespace: String,
}

impl Target {
    /// The namespace of the command line, or that of the kubeconfig's context: users of the stack work in theirs.
    pub(super) async fn connect(context: &Context) -> Result<Self, Problem> {
        let cluster = context.connect().await?;
        let given = context.namespace_given.clone();
        let namespace = given.unwrap_or_else(|| cluster.default_namespace().to_owned());
        Ok(Self { cluster, namespace })
    }

    /// A TrainJob.
    pub(super) async fn get(&self, context: &Context, name: &str) -> Result<Value, Problem> {
        let found = async {
            let answer = self.cluster.get(&train_job(), Some(&self.namespace), name).await;
            answer.map_err(|source| self.failed("read", name, source))
        };
        context.interrupt.or(found).await
    }

    /// What a request about a TrainJob came to.
    pub(super) fn failed(&self, what: &'static str, name: &str, source: RequestError) -> TrainJobError {
        let (namespace, name) = (self.namespace.clone(), name.to_owned());
        match source {
            RequestError::NotServed { .. } => TrainJobError::NotServed,
            RequestError::NotFound { ref resource, .. } if resource == "trainjobs" => {
                TrainJobError::NotFound { namespace, name }
            }
            source => TrainJobError::Request { what, namespace, name, source },
        }
    }
}
