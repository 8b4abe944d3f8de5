//! A kubelet for a control plane without one, and the webhook servers of the controllers that it would run.
//!
//! The stand-in does what a node does and nothing more: it registers itself, takes pods, reports them
//! running and lets them go. Deployments, ReplicaSets and EndpointSlices get their status from the real
//! controller manager. Behind the Services of ready pods it answers admission and conversion reviews over
//! real TLS, and fills the `caBundle` of what points at them, as the real controllers do.

mod capacity;
mod kinds;
mod kubelet;
mod node;
mod pod;
mod raw;
mod review;
mod serve;
mod tls;
mod webhooks;

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinSet;
use trainerd_cluster::{Cluster, ConnectError, ConnectOptions, RequestError};

/// Name of the node that the stand-in registers.
pub const NODE: &str = "standin";

/// A tag that contains this is of an image that cannot be pulled.
pub const NEVER_READY: &str = "never-ready";

/// Where the stand-in works.
#[derive(Clone, Debug)]
pub struct Options {
    /// Kubeconfig of an administrator.
    pub kubeconfig: PathBuf,
    /// Address of all its pods, where the API server reaches them: of this machine or this network
    /// namespace, and not a loopback address, which Kubernetes refuses in endpoints.
    pub address: IpAddr,
    /// How it behaves at first.
    pub behaviour: Behaviour,
}

/// What may be changed while the stand-in runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Behaviour {
    /// Least and greatest time from a pod's binding to its readiness; each pod's is drawn evenly.
    pub delay: (Duration, Duration),
    /// The node's CPU, in thousandths of a core: a pod that asks for more than is left is not scheduled.
    pub cpu_millis: u64,
}

impl Default for Behaviour {
    /// At once, with 64 cores.
    fn default() -> Self {
        Self { delay: (Duration::ZERO, Duration::ZERO), cpu_millis: 64_000 }
    }
}

/// Why there is no stand-in (any more).
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No connection.
    #[error("failed to connect to the cluster")]
    Connect(#[from] ConnectError),
    /// The API server refused something.
    #[error("failed to {action}")]
    Request {
        /// What was tried.
        action: &'static str,
        /// The answer.
        #[source]
        source: Box<RequestError>,
    },
    /// The API server refused something of a subresource.
    #[error("failed to {action}")]
    Subresource {
        /// What was tried.
        action: &'static str,
        /// The answer.
        #[source]
        source: Box<kube::Error>,
    },
    /// A webhook server's port cannot be listened on.
    #[error("failed to listen on {address} port {port}")]
    Listen {
        /// Address of the pods.
        address: IpAddr,
        /// Target port of a Service.
        port: u16,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A certificate could not be made.
    #[error("failed to make a certificate")]
    Certificate(#[from] rcgen::Error),
    /// TLS cannot be set up.
    #[error("failed to set up TLS")]
    Tls(#[from] rustls::Error),
    /// A task ended that should run for ever.
    #[error("failed to go on: a task ended")]
    Ended,
}

/// A running stand-in; it stops when dropped. Its node stays, as a node's does when its kubelet dies.
pub struct StandIn {
    behaviour: Arc<Mutex<Behaviour>>,
    restart_pods: Arc<Notify>,
    tasks: JoinSet<Result<(), Error>>,
}

impl StandIn {
    /// Registers the node and begins to work.
    pub async fn start(options: Options) -> Result<Self, Error> {
        let connect = |role: &str| {
            Cluster::connect(ConnectOptions {
                kubeconfig: Some(options.kubeconfig.clone()),
                context: None,
                user_agent: format!("standin/{} ({role})", env!("CARGO_PKG_VERSION")),
                field_manager: format!("standin-{role}"),
                observer: None,
                patience: None,
                waits: None,
            })
        };
        let kubelet = connect("kubelet").await?;
        let controllers = connect("controller").await?;
        let behaviour = Arc::new(Mutex::new(options.behaviour));
        let restart_pods = Arc::new(Notify::new());
        let cpu_millis = read(&behaviour).cpu_millis;
        let node = node::Node::register(kubelet.clone(), options.address, cpu_millis).await?;
        let mut tasks = JoinSet::new();
        tasks.spawn(node.keep_alive());
        tasks.spawn(
            kubelet::Kubelet::new(
                kubelet,
                options.address,
                Arc::clone(&behaviour),
                Arc::clone(&restart_pods),
            )
            .run(),
        );
        tasks.spawn(webhooks::Webhooks::new(controllers, options.address)?.run());
        Ok(Self { behaviour, restart_pods, tasks })
    }

    /// Changes how the stand-in treats pods from now on.
    pub fn set_behaviour(&self, behaviour: Behaviour) {
        *self.behaviour.lock().unwrap_or_else(PoisonError::into_inner) = behaviour;
    }

    /// Pods that are on their way behave as pods do now, too.
    pub fn restart_pods(&self) {
        self.restart_pods.notify_one();
    }

    /// Waits until the stand-in cannot continue, and says why.
    pub async fn failed(&mut self) -> Error {
        match self.tasks.join_next().await {
            Some(Ok(Err(error))) => error,
            Some(Ok(Ok(())) | Err(_)) | None => Error::Ended,
        }
    }
}

fn read(behaviour: &Mutex<Behaviour>) -> Behaviour {
    behaviour.lock().unwrap_or_else(PoisonError::into_inner).clone()
}
