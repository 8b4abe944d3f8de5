//! Three ways to bring the same ConfigMaps into a cluster.

use std::fmt;
use std::process::Stdio;

use futures::stream::{self, StreamExt, TryStreamExt};
use tokio::process::Command;
use trainerd_cluster::ApplyParams;
use trainerd_engine::{Event, RunOptions};
use trainerd_plan::allowed::Allowed;
use trainerd_plan::plan::Purpose;

use crate::audit::Requests;
use crate::clock::{Clock, Took};
use crate::error::Error;
use crate::load::{Load, config_maps};
use crate::world::{BARE, ENGINE, World};

/// Requests that the bare client has in flight; as many as the engine.
const IN_FLIGHT: usize = 16;

/// A way to bring ConfigMaps into a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Contender {
    /// The engine, with all that it keeps: revision, journal, lease, permissions checked.
    Engine,
    /// Server-side applies, 16 in flight, and nothing else: the floor of what must be sent.
    Bare,
    /// `kubectl apply --server-side --force-conflicts -f FILE`.
    Kubectl,
}

/// What it took.
#[derive(Clone, Debug)]
pub(crate) struct Measured {
    pub(crate) took: Took,
    pub(crate) requests: Requests,
}

impl fmt::Display for Contender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Engine => "trainerd",
            Self::Bare => "bare client",
            Self::Kubectl => "kubectl",
        })
    }
}

impl Contender {
    /// All of them.
    pub(crate) const ALL: [Self; 3] = [Self::Engine, Self::Bare, Self::Kubectl];

    /// A word for names of objects.
    pub(crate) fn slug(self) -> &'static str {
        match self {
            Self::Engine => "engine",
            Self::Bare => "bare",
            Self::Kubectl => "kubectl",
        }
    }

    fn user_agent(self) -> &'static str {
        match self {
            Self::Engine => ENGINE.user_agent,
            Self::Bare => BARE.user_agent,
            Self::Kubectl => "kubectl/",
        }
    }

    /// Brings the ConfigMaps, from a new connection to the last answer. Making the manifests is not part of
    /// it; what the contender makes of them is.
    pub(crate) async fn apply(self, world: &World, load: &Load) -> Result<Measured, Error> {
        let mark = world.audit.mark()?;
        let took = match self {
            Self::Engine => engine(world, load).await?,
            Self::Bare => bare(world, load).await?,
            Self::Kubectl => kubectl(world, load).await?,
        };
        Ok(Measured { took, requests: world.audit.since(mark, self.user_agent())? })
    }
}

async fn engine(world: &World, load: &Load) -> Result<Took, Error> {
    let desired = load.desired();
    let purpose = if load.generation == 0 { Purpose::Install } else { Purpose::Change };
    let clock = Clock::start();
    let engine = world.engine(load.installation()).await?;
    let state = engine.open().await.map_err(Error::engine("open the installation"))?;
    let prepared = engine.prepare(&state, desired, purpose, Allowed::default()).await;
    let prepared = prepared.map_err(Error::engine("plan"))?;
    run(&engine, state, prepared, &|_| {}).await.map_err(Error::engine("run the plan"))?;
    Ok(clock.took())
}

/// Runs a plan with patience, and tells a sink of it.
pub(crate) async fn run(
    engine: &trainerd_engine::Engine,
    state: trainerd_engine::State,
    prepared: trainerd_engine::Prepared,
    sink: &(dyn Fn(Event) + Send + Sync),
) -> Result<trainerd_engine::State, trainerd_engine::EngineError> {
    let (_running, cancel) = tokio::sync::watch::channel(false);
    let mut options = RunOptions::new(None, sink, cancel);
    engine.run(state, prepared, &mut options).await
}

async fn bare(world: &World, load: &Load) -> Result<Took, Error> {
    let manifests = load.manifests();
    let resource = config_maps();
    let clock = Clock::start();
    let cluster = world.connect(BARE).await?;
    let params = ApplyParams { force: true, ..ApplyParams::default() };
    stream::iter(&manifests)
        .map(|manifest| cluster.apply(&resource, manifest, &params))
        .buffer_unordered(IN_FLIGHT)
        .try_for_each(|_| std::future::ready(Ok(())))
        .await
        .map_err(Error::request("apply", "a ConfigMap"))?;
    Ok(clock.took())
}

async fn kubectl(world: &World, load: &Load) -> Result<Took, Error> {
    let file = world.folder.join("manifests.json");
    std::fs::write(&file, load.list().to_string()).map_err(Error::io("write the manifests"))?;
    let mut command = Command::new(&world.kubectl);
    command.args(["apply", "--server-side", "--force-conflicts", "-f"]).arg(&file);
    let clock = Clock::start();
    run_kubectl(world, command).await?;
    Ok(clock.took())
}

/// Lets kubectl learn what the server serves: people's kubectl knows it already.
pub(crate) async fn warm_kubectl(world: &World) -> Result<(), Error> {
    let mut command = Command::new(&world.kubectl);
    command.args(["get", "configmaps", "--namespace=default", "--output=name"]);
    run_kubectl(world, command).await
}

async fn run_kubectl(world: &World, mut command: Command) -> Result<(), Error> {
    command
        .arg("--cache-dir")
        .arg(world.folder.join("kubectl-cache"))
        .env("KUBECONFIG", &world.kubeconfig)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = command.output().await.map_err(Error::io("run kubectl"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(Error::Program {
        command: "kubectl".to_owned(),
        status: output.status,
        stderr: String::from_utf8_lossy(&output.stderr).trim_end().to_owned(),
    })
}
