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

/// Objects of that sort.
pub(crate) trait Kept {
    /// What makes them what they are.
    type Spec: Clone + PartialEq + Send + Sync;
    /// Why they are not as they should be.
    type Error: Error + Send;
    /// What they are, as a log says that they are not as they should be.
    const WHAT: &'static str;
    /// How often it is looked whether they are still there; nothing where nobody else touches them.
    const LOOK: Option<Duration>;

    /// What they shall be; nothing where they shall not be.
    fn spec(spec: &OptionsSpec) -> Option<Self::Spec>;

    /// Brings them about.
    fn bring(&self, spec: &Self::Spec) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Takes them away, where they are there.
    fn remove(&self) -> impl Future<Output = Result<(), Self::Error>> + Send;
}

/// Takes all of it away, as far as it is there; what stood in the way.
pub(crate) async fn remove(cluster: &Cluster, installation: &Installation) -> Vec<String> {
    let secret = PullSecret { cluster: cluster.clone(), installation: installation.clone() };
    let mesh = MeshObjects { cluster: cluster.clone(), installation: installation.clone() };
    let (secret, mesh) = tokio::join!(secret.remove(), mesh.remove());
    let secret = secret.err().map(|error| one_line(&error));
    secret.into_iter().chain(mesh.err().map(|error| one_line(&error))).collect()
}
