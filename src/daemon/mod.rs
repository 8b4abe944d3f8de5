//! The daemon: reconciles an installation with its options, and reports its status.

mod api;
mod application_objects;
mod auth;
mod declared;
mod health;
pub(crate) mod hosting;
mod installation_controller;
pub(crate) mod metrics;
mod operations;
mod page;
mod pebble;
mod published;
mod reason;
mod recorder;
pub(crate) mod status_store;
mod webhook_call;

use std::collections::BTreeSet;
use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use trainerd_causes::one_line;
use trainerd_cluster::event_recorder::{EventLimits, event_recorder};
use trainerd_cluster::lease::Identity;
use trainerd_cluster::retry::Backoff;
use trainerd_cluster::{Cluster, ConnectError, ConnectOptions, Observer};
use trainerd_engine::{Cancel, Engine};
use trainerd_plan::desired::{Installation, Naming};
use trainerd_serve::certificates::CertificateError;
use trainerd_serve::listen::ListenError;
use trainerd_serve::{Certificates, Metrics, Probes, ServeError};

use self::api::ApiState;
use self::declared::{Declared, SourceError};
pub(crate) use self::hosting::HostedWorkload;
use self::hosting::{Access, HostedReconciler, Hosting, HostingError};
use self::installation_controller::{Config, InstallationController};
use self::operations::Operations;
use self::recorder::Recorder;
use self::status_store::{MeshApi, Phase, StatusStore, StatusView};
use crate::application::mesh::{MeshError, MeshObjects};
use crate::application::pull_secret::PullSecret;
use crate::interrupt::Interrupt;
use crate::options::declared::Source;
use crate::problem::{Exit, Problem};
use crate::traces::Traces;
use crate::training::jobs::{self, Jobs};
use crate::training::on_demand::{Finder, OnDemand, on_demand};
use crate::training::{self, Listed};

/// Mode of the socket: only the daemon's user may connect.
const SOCKET_MODE: u32 = 0o600;

/// How the daemon is to run.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    /// How to connect.
    pub(crate) connect: ConnectOptions,
    /// The command line, as revisions record it.
    pub(crate) by: String,
    /// Where the options are declared.
    pub(crate) source: Source,
    /// What is kept.
    pub(crate) installation: Installation,
    /// How the objects of a new installation are named.
    pub(crate) naming: Naming,
    /// The socket of the Pebble that receives the status, if any is.
    pub(crate) pebble: Option<PathBuf>,
    /// Where the API listens, if anywhere.
    pub(crate) socket: Option<PathBuf>,
    /// Where the API listens with TLS, if anywhere, and with which certificate.
    pub(crate) tls: Option<Tls>,
    /// Where probes and metrics listen; `None` for [`health::PORT`], in a pod on every address, elsewhere on loopback.
    pub(crate) health: Option<SocketAddr>,
    /// Whether to claim the options from another source.
    pub(crate) force_ownership: bool,
    /// What is hosted.
    pub(crate) host: BTreeSet<HostedWorkload>,
}

/// The API over the network.
#[derive(Clone, Debug)]
pub(crate) struct Tls {
    pub(crate) address: SocketAddr,
    /// Files of the certificate and its key; without them it makes its own.
    pub(crate) files: Option<(PathBuf, PathBuf)>,
}

impl Tls {
    /// The certificate. A self-signed one is for port-forward.
    fn certificates(&self) -> Result<Certificates, CertificateError> {
        match &self.files {
            Some((certificate, key)) => Certificates::from_files(certificate.clone(), key.clone()),
            None => Certificates::self_signed(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]),
        }
    }
}

/// Why the daemon ended on its own.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Crash {
    /// It cannot listen.
    #[error("failed to listen")]
    Listen(#[from] ListenError),
    /// There is no certificate to show.
    #[error("failed to obtain a certificate")]
    Certificate(#[from] CertificateError),
    /// A server ended.
    #[error("a server ended")]
    Serve(#[from] ServeError),
    /// The source of options can no longer be followed.
    #[error("the options can no longer be followed")]
    Source(#[from] SourceError),
    /// Nothing can be hosted.
    #[error("failed to host workloads")]
    Hosting(#[from] HostingError),
    /// The metrics are wrongly defined.
    #[error("failed to set up the metrics")]
    Metrics(#[from] trainerd_serve::metrics::MetricsError),
    /// A task that never ends has ended.
    #[error("{0} ended")]
    Ended(&'static str),
    /// A task panicked.
    #[error("{task} crashed")]
    Panicked {
        /// Which.
        task: &'static str,
        /// How.
        source: tokio::task::JoinError,
    },
}

/// Tasks that end only with the process, by name.
#[derive(Default)]
struct Tasks {
    all: JoinSet<(&'static str, Result<(), Crash>)>,
    /// Those among them that are servers.
    servers: usize,
}

/// How the names of servers begin.
const SERVER: &str = "the server of ";

impl Tasks {
    fn spawn(&mut self, name: &'static str, task: impl Future<Output = Result<(), Crash>> + Send + 'static) {
        self.servers += usize::from(name.starts_with(SERVER));
        self.all.spawn(async move {
            // A panic is caught here, where the task still has its name.
            match tokio::spawn(task).await {
                Ok(ended) => (name, ended),
                Err(source) => (name, Err(Crash::Panicked { task: name, source })),
            }
        });
    }

    /// The first that ends although the process was not asked to, and why.
    async fn crash(&mut self, asked: Cancel) -> Crash {
        loop {
            match self.all.join_next().await {
                Some(Ok((_, Err(crash)))) => return crash,
                Some(Ok((name, _))) if *asked.borrow() => {
                    self.servers = self.servers.saturating_sub(usize::from(name.starts_with(SERVER)));
                }
                Some(Ok((name, Ok(())))) => return Crash::Ended(name),
                Some(Err(source)) => return Crash::Panicked { task: "a task", source },
                None => std::future::pending().await,
            }
        }
    }

    /// Awaits the servers, which end when they are told to; the others end with the process.
    async fn ended(mut self) {
        let all = async {
            while self.servers > 0 {
                match self.all.join_next().await {
                    Some(Ok((name, _))) if name.starts_with(SERVER) => self.servers -= 1,
                    Some(_) => {}
                    None => break,
                }
            }
        };
        // Open requests may finish within the grace period.
        let _ = tokio::time::timeout(Duration::from_secs(10), all).await;
    }
}

/// Disables transparent huge pages, as little memory is in use at a time.
fn hold_little() {
    // Where the system does not know them, there is nothing to ask.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
}

/// Runs the daemon until it is asked to end.
pub(crate) async fn run(interrupt: &Interrupt, setup: Setup) -> Result<Exit, Problem> {
    let installation = setup.installation.clone();
    hold_little();
    let status = StatusStore::new(StatusView {
        name: installation.name.clone(),
        namespace: installation.namespace.clone(),
        version: env!("CARGO_PKG_VERSION"),
        source: setup.source.to_string(),
        ..StatusView::default()
    });
    let metrics = Metrics::new();
    let (train_jobs, lists) = on_demand();
    let counts = metrics::register(&metrics, &status, &train_jobs).map_err(crashed)?;
    let mut tasks = Tasks::default();
    let asked = interrupt.cancel();
    let end = || {
        let mut asked = asked.clone();
        async move { drop(asked.wait_for(|asked| *asked).await) }
    };

    let (health, health_address) =
        health::listen(setup.health, health::is_in_pod()).await.map_err(crashed)?;
    let scraped = metrics::ask_before_scrapes(metrics.router(), &status, &train_jobs);
    let router = probes(&status).router().merge(scraped);
    let ended = end();
    tasks.spawn(
        "the server of probes",
        async move { Ok(trainerd_serve::serve(health, router, ended).await?) },
    );

    let requests = counts.requests.clone();
    let observer = Observer::new(move |request| {
        requests.with([request.verb.as_str(), request.resource, &request.code.to_string()]).inc();
    });
    let cluster = match connect(&setup.connect, interrupt, &status, observer).await {
        Ok(cluster) => cluster,
        // Shutdown before anything began is no failure.
        Err(_) if *asked.borrow() => return Ok(Exit::Done),
        Err(problem) => return Err(problem),
    };
    let engine =
        Engine::new(cluster.clone(), installation.clone(), setup.by.clone()).with_naming(setup.naming);
    let (declare, declared) = watch::channel(Declared::Nothing);
    let (command, commands) = mpsc::channel(1);
    let instance = Identity::of_this_process().to_string();
    let limits = EventLimits { queue: 32, burst: Some(20) };
    let (event_recorder, writer) = event_recorder(cluster.clone(), "trainerd".to_owned(), instance, limits);
    let traces = Traces::of_environment(&installation);
    let recorder = Recorder::new(counts, event_recorder, traces.clone(), &installation, &setup.source);
    tasks.spawn("the Kubernetes Events", async move {
        writer.run().await;
        Ok(())
    });
    // Declared before the first pass, so that this is not made twice.
    if let Source::File(path) = &setup.source {
        declare.send_replace(declared::read_file(path));
    }
    let events = api::channel();
    let jobs = look_at_train_jobs(&mut tasks, &cluster, lists);
    let api_routes = api::routes(ApiState {
        status: status.clone(),
        jobs,
        train_jobs,
        source: setup.source.clone(),
        declared: declare.clone(),
        commands: command,
        events: events.clone(),
        operations: Operations::default(),
    });
    listen(&mut tasks, &setup, api_routes, &cluster, &installation, end).await?;
    let told = status.clone();
    tasks.spawn("the events", async move {
        api::announce(told, events).await;
        Ok(())
    });
    keep_what_relations_bring(&mut tasks, &setup, &cluster, &declared, &status);
    tell_pebble(&mut tasks, setup.pebble.clone(), &status);
    let source = setup.source.clone();
    tasks.spawn("the options", async move { Ok(declared::follow(source, cluster, declare).await?) });

    let (hosting, hosted) = watch::channel(None);
    let stopped = host(&mut tasks, interrupt, &setup, hosted, &status, &recorder).map_err(crashed)?;
    let controller = InstallationController::new(Config {
        engine,
        source: setup.source,
        declared,
        commands,
        status,
        recorder,
        force_ownership: setup.force_ownership,
        hosting,
        shutdown: interrupt.cancel(),
    });
    tracing::info!(health = %health_address, socket = ?setup.socket, "the daemon runs");
    let ended = tokio::select! {
        () = controller.run() => Ok(Exit::Done),
        crash = tasks.crash(asked.clone()) => Err(crashed(crash)),
    };
    if ended.is_ok() {
        // An error says that they have been stopped, too.
        let _ = stopped.await;
        tasks.ended().await;
    }
    traces.close().await;
    ended
}

/// Hosts what the setup says. What is returned is done once all of it was stopped, as it is when the process is to end.
fn host(
    tasks: &mut Tasks,
    interrupt: &Interrupt,
    setup: &Setup,
    reconciler: watch::Receiver<Option<HostedReconciler>>,
    status: &StatusStore,
    recorder: &Recorder,
) -> Result<oneshot::Receiver<()>, HostingError> {
    let (ended, stopped) = oneshot::channel();
    if setup.host.is_empty() {
        return Ok(stopped);
    }
    let is_quiet = setup.pebble.is_some();
    let access =
        Access { kubeconfig: setup.connect.kubeconfig.clone(), context: setup.connect.context.clone() };
    let hosting = Hosting::new(&setup.host, &access, is_quiet, reconciler, status.clone(), recorder.clone())?;
    interrupt.give(hosting::stop_bound());
    let asked = interrupt.cancel();
    tasks.spawn("the hosted workloads", async move {
        hosting.run(asked, ended).await;
        Ok(())
    });
    Ok(stopped)
}

/// Reconciles the objects of a Juju application that are in no revision and follow relations and resources.
fn keep_what_relations_bring(
    tasks: &mut Tasks,
    setup: &Setup,
    cluster: &Cluster,
    declared: &watch::Receiver<Declared>,
    status: &StatusStore,
) {
    // Outside of Juju there is none of it.
    if setup.pebble.is_none() {
        return;
    }
    let (cluster, installation) = (cluster.clone(), setup.installation.clone());
    let mesh = MeshObjects { cluster: cluster.clone(), installation: installation.clone() };
    let status = status.clone();
    let mesh = application_objects::reconcile(mesh, declared.clone(), move |came_of_it| {
        let is_missing = matches!(came_of_it, Err(MeshError::NotServed));
        let api = if is_missing { MeshApi::Missing } else { MeshApi::Served };
        status.write(|view| view.mesh_api = api);
    });
    tasks.spawn("the service mesh", async move {
        mesh.await;
        Ok(())
    });
    let secret =
        application_objects::reconcile(PullSecret { cluster, installation }, declared.clone(), |_| {});
    tasks.spawn("the Secret of the image", async move {
        secret.await;
        Ok(())
    });
}

/// Waits for a moment; for ever where there is none.
async fn at(after: Option<Duration>) {
    match after {
        Some(after) => tokio::time::sleep(after).await,
        None => std::future::pending().await,
    }
}

/// Notifies Pebble of the status, if there is a Pebble.
fn tell_pebble(tasks: &mut Tasks, socket: Option<PathBuf>, status: &StatusStore) {
    let Some(socket) = socket else { return };
    let status = status.clone();
    tasks.spawn("the notices", async move {
        pebble::tell(status, socket).await;
        Ok(())
    });
}

/// Authorizes users, if configured.
async fn listen<E: Future<Output = ()> + Send + 'static>(
    tasks: &mut Tasks,
    setup: &Setup,
    api_routes: api::Routes,
    cluster: &Cluster,
    installation: &Installation,
    end: impl Fn() -> E,
) -> Result<(), Problem> {
    if let Some(socket) = &setup.socket {
        let listener = trainerd_serve::listen::unix(socket, SOCKET_MODE).await.map_err(crashed)?;
        let (router, ended) = (api_routes.clone().open(), end());
        tasks.spawn("the server of the API", async move {
            Ok(trainerd_serve::serve(listener, router, ended).await?)
        });
    }
    if let Some(tls) = &setup.tls {
        let certificates = tls.certificates().map_err(crashed)?;
        tracing::info!(address = %tls.address, fingerprint = certificates.fingerprint(), "the API listens");
        if let Some(pod) = published::Pod::of_environment(installation) {
            let publish = published::publish(cluster.clone(), pod, certificates.clone());
            tasks.spawn("the fingerprint of the certificate", publish);
        }
        let listener = trainerd_serve::listen::tls(tls.address, certificates).await.map_err(crashed)?;
        let (router, ended) = (api_routes.guarded(cluster, installation), end());
        tasks.spawn("the server of the API over TLS", async move {
            Ok(trainerd_serve::serve(listener, router, ended).await?)
        });
    }
    Ok(())
}

/// The TrainJobs, counted and listed when somebody asks.
fn look_at_train_jobs(tasks: &mut Tasks, cluster: &Cluster, lists: Finder<Listed>) -> OnDemand<Jobs> {
    let (jobs, counts) = on_demand();
    let cluster = cluster.clone();
    tasks.spawn("the look at TrainJobs", async move {
        let count = || {
            let cluster = cluster.clone();
            async move { jobs::count(&cluster).await }
        };
        let list = || {
            let cluster = cluster.clone();
            async move {
                let listed = training::list(&cluster).await.map_err(|error| one_line(&error));
                if let Err(error) = &listed {
                    tracing::warn!(error, "failed to list TrainJobs");
                }
                Some(Arc::new(listed))
            }
        };
        tokio::join!(counts.run(count), lists.run(list));
        Ok(())
    });
    jobs
}

/// Connects with retries: the API server may start later than the daemon.
async fn connect(
    connect: &ConnectOptions,
    interrupt: &Interrupt,
    status: &StatusStore,
    observer: Observer,
) -> Result<Cluster, Problem> {
    let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));
    loop {
        // Waiting is done here, where it is shown.
        let patience = Some(Duration::ZERO);
        let options = ConnectOptions { patience, observer: Some(observer.clone()), ..connect.clone() };
        let error = match interrupt.or(async { Ok::<_, Problem>(Cluster::connect(options).await) }).await? {
            Ok(cluster) => return Ok(cluster),
            Err(error) => error,
        };
        let passing = matches!(error, ConnectError::Unreachable { .. } | ConnectError::Busy { .. });
        let problem = Problem::from(&error);
        if !passing {
            return Err(problem);
        }
        let wait = backoff.next_wait();
        tracing::warn!(why = problem.why().join("; "), ?wait, "{}", problem.message);
        status.write(|view| (view.phase, view.reason) = (Phase::Disconnected, Some(problem)));
        let pause = async {
            tokio::time::sleep(wait).await;
            Ok::<_, Problem>(())
        };
        interrupt.or(pause).await?;
    }
}

fn probes(status: &StatusStore) -> Probes {
    let own = status.clone();
    let observed = move || match own.view() {
        view if view.observed => Ok(()),
        _ => Err("not everything has been observed yet".to_owned()),
    };
    let own = status.clone();
    let reached = move || {
        let view = own.view();
        match (view.phase, &view.reason) {
            (Phase::Disconnected, Some(problem)) => Err(problem.message.clone()),
            _ => Ok(()),
        }
    };
    let own = status.clone();
    let settled = move || {
        let view = own.view();
        let is_active = view.settled || matches!(view.phase, Phase::Paused | Phase::Standby);
        if is_active {
            return Ok(());
        }
        let why = view.reason.as_ref().map(|problem| format!(": {}", problem.message)).unwrap_or_default();
        Err(format!("{}{why}", view.phase.word()))
    };
    Probes::new().ready("observed", observed).ready("api-server", reached).settled("installation", settled)
}

fn crashed(crash: impl Into<Crash>) -> Problem {
    Problem::crashed(&crash.into())
}
