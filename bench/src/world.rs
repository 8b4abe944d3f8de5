//! Where everything is measured: one cluster, its audit log, and the programs that are measured beside it.

use std::path::{Path, PathBuf};

use serde_json::json;
use trainerd_cluster::{ApplyParams, Cluster, ConnectOptions};
use trainerd_plan::desired::Installation;
use trainerd_plan::object::Resource;

use crate::audit::AuditLog;
use crate::error::Error;

/// Field manager of the engine, as the product has it.
pub(crate) const FIELD_MANAGER: &str = "trainerd";

/// One cluster, its audit log, and the programs that are measured beside it.
pub(crate) struct World {
    /// Kubeconfig of an administrator.
    pub(crate) kubeconfig: PathBuf,
    pub(crate) audit: AuditLog,
    pub(crate) kubectl: PathBuf,
    /// The product's binary, if it is to be measured too.
    pub(crate) trainerd: Option<PathBuf>,
    /// For files of this run; kubectl's cache of what the server serves among them.
    pub(crate) folder: PathBuf,
    /// The bench's own connection, which is not counted.
    pub(crate) own: Cluster,
}

/// What goes to the cluster, under which name it does so, and what the audit log calls it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Agent {
    pub(crate) user_agent: &'static str,
    pub(crate) field_manager: &'static str,
}

/// The engine.
pub(crate) const ENGINE: Agent = Agent {
    user_agent: concat!("trainerd/", env!("CARGO_PKG_VERSION"), " (bench)"),
    field_manager: FIELD_MANAGER,
};
/// The bare client.
pub(crate) const BARE: Agent = Agent { user_agent: "bare/1", field_manager: "bare" };
/// The bench itself.
pub(crate) const OWN: Agent = Agent { user_agent: "bench/1", field_manager: FIELD_MANAGER };

/// Connects as an agent does: a new connection, nothing warm.
pub(crate) async fn connect(kubeconfig: &Path, agent: Agent) -> Result<Cluster, Error> {
    let options = ConnectOptions {
        kubeconfig: Some(kubeconfig.to_owned()),
        context: None,
        user_agent: agent.user_agent.to_owned(),
        field_manager: agent.field_manager.to_owned(),
        observer: None,
        patience: None,
        waits: None,
    };
    Ok(Cluster::connect(options).await?)
}

impl World {
    /// A new connection of an agent.
    pub(crate) async fn connect(&self, agent: Agent) -> Result<Cluster, Error> {
        connect(&self.kubeconfig, agent).await
    }

    /// A new engine on a new connection, as every command of the product begins with.
    pub(crate) async fn engine(&self, installation: Installation) -> Result<trainerd_engine::Engine, Error> {
        let cluster = self.connect(ENGINE).await?;
        Ok(trainerd_engine::Engine::new(cluster, installation, "bench".to_owned()))
    }

    /// Makes a namespace, so that nobody's figures hold it.
    pub(crate) async fn namespace(&self, name: &str) -> Result<(), Error> {
        let resource = Resource {
            group: String::new(),
            version: "v1".to_owned(),
            kind: "Namespace".to_owned(),
            plural: "namespaces".to_owned(),
            namespaced: false,
        };
        let manifest = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        let applied = self.own.apply(&resource, &manifest, &ApplyParams::default()).await;
        applied.map(drop).map_err(Error::request("apply", format!("namespace {name}")))
    }
}
