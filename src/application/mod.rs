//! What belongs to a Juju application and to no revision: it comes and goes with relations and resources, not with
//! options.

pub(crate) mod mesh;
pub(crate) mod pull_secret;

use std::error::Error;
use std::future::Future;
use std::time::Duration;

use trainerd_causes::one_line;
use trainerd_cluster::Cluster;
use trainerd_plan::desired::Installation;

use self::mesh::MeshObjects;
use self::pull_secret::PullSecret;
use crate::options::declared::OptionsSpec;

/// Objects of a Juju application.
pub(crate) trait ApplicationObjects {
    /// What the objects are built from.
    type Spec: Clone + PartialEq + Send + Sync;
    /// Why they cannot be written or removed.
    type Error: Error + Send;
    /// The subject of the log line that says that they are not up to date.
    const WHAT: &'static str;
    /// How often to check that they still exist; `None` if nobody else touches them.
    const LOOK: Option<Duration>;

    /// Their desired state; `None` if there should be none.
    fn spec(spec: &OptionsSpec) -> Option<Self::Spec>;

    /// Creates or updates them.
    fn ensure(&self, spec: &Self::Spec) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Deletes them if they exist.
    fn remove(&self) -> impl Future<Output = Result<(), Self::Error>> + Send;
}

/// Deletes all of them; returns the errors.
pub(crate) async fn remove(cluster: &Cluster, installation: &Installation) -> Vec<String> {
    let secret = PullSecret { cluster: cluster.clone(), installation: installation.clone() };
    let mesh = MeshObjects { cluster: cluster.clone(), installation: installation.clone() };
    let (secret, mesh) = tokio::join!(secret.remove(), mesh.remove());
    let secret = secret.err().map(|error| one_line(&error));
    secret.into_iter().chain(mesh.err().map(|error| one_line(&error))).collect()
}
