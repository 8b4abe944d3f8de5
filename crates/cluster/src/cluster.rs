//! The connection.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use crate::error::{RequestError, Verb};
use crate::transport::Call;
use crate::version::{KubernetesVersion, VersionError};

/// Time limit of a request that is not a watch, unless [`Cluster::with_timeout`] says otherwise. The API
/// server's own limit is 60 s; webhooks may take 30 s of it.
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// A connection to an API server. Clones share it and are cheap.
#[derive(Clone)]
pub struct Cluster {
    shared: Arc<Shared>,
    timeout: Duration,
}

pub(crate) struct Shared {
    pub(crate) client: kube::Client,
    pub(crate) server: String,
    pub(crate) field_manager: String,
    pub(crate) version: KubernetesVersion,
}

impl Cluster {
    pub(crate) fn new(shared: Shared) -> Self {
        Self { shared: Arc::new(shared), timeout: REQUEST_TIMEOUT }
    }

    /// The same connection with another time limit for each request, watches aside.
    #[must_use]
    pub fn with_timeout(&self, timeout: Duration) -> Self {
        Self { shared: Arc::clone(&self.shared), timeout }
    }

    /// The API server's version when the connection was made.
    pub fn version(&self) -> &KubernetesVersion {
        &self.shared.version
    }

    /// URL of the API server.
    pub fn server(&self) -> &str {
        &self.shared.server
    }

    /// Field manager of every write.
    pub fn field_manager(&self) -> &str {
        &self.shared.field_manager
    }

    /// Namespace of the kubeconfig's context, of the pod, or `default`.
    pub fn default_namespace(&self) -> &str {
        self.shared.client.default_namespace()
    }

    /// kube's client, with the same user agent, for what this crate does not offer. It does not retry and has
    /// no time limit.
    pub fn client(&self) -> &kube::Client {
        &self.shared.client
    }

    pub(crate) fn request_timeout(&self) -> Duration {
        self.timeout
    }
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster").field("server", &self.shared.server).finish_non_exhaustive()
    }
}

/// What `/version` answers, as far as it matters.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct VersionInfo {
    git_version: String,
}

/// Why the server's version is not known.
#[derive(Debug)]
pub(crate) enum ReadVersionError {
    Request(RequestError),
    Version(VersionError),
}

/// Asks a server that nothing is known of yet.
pub(crate) async fn read_version(
    client: &kube::Client,
    server: &str,
    field_manager: &str,
) -> Result<KubernetesVersion, ReadVersionError> {
    let placeholder = KubernetesVersion::parse("v0.0.0").map_err(ReadVersionError::Version)?;
    let cluster = Cluster::new(Shared {
        client: client.clone(),
        server: server.to_owned(),
        field_manager: field_manager.to_owned(),
        version: placeholder,
    });
    let answer =
        cluster.call(Call::get(Verb::Get, "/version".to_owned())).await.map_err(ReadVersionError::Request)?;
    let info: VersionInfo = serde_json::from_value(answer)
        .map_err(|_| ReadVersionError::Version(VersionError("without gitVersion".to_owned())))?;
    KubernetesVersion::parse(&info.git_version).map_err(ReadVersionError::Version)
}
