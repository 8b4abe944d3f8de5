//! A manager, from its start to its end.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use tokio::sync::watch;
use tokio::task::JoinSet;
use trainerd_cluster::event_recorder::{EventLimits, event_recorder};
use trainerd_cluster::lease::{Fence, LeaseGuard};
use trainerd_cluster::{Cluster, ConnectError, ConnectOptions};
use trainerd_object::Resource;
use trainerd_pipeline::Compatibility;
use trainerd_serve::Certificates;
use trainerd_serve::certificates::CertificateError;
use trainerd_serve::metrics::MetricsError;

use crate::address::{self, AddressError};
use crate::cache::{Change, Store};
use crate::certificates::{Mount, NotMounted, Rotation, RotationError};
use crate::controller::{self, Queues};
use crate::controllers::{
    CLUSTER_TRAINING_RUNTIME, Controllers, OPTIMIZATION_JOB, TRAIN_JOB, TRAINING_RUNTIME,
};
use crate::facts::Context;
use crate::flags::Flags;
use crate::metrics::{ManagerMetrics, TrainJobMetrics};
use crate::optimization::OptimizationJobs;
use crate::probes::Checks;
use crate::servers::{Port, PortError, Stop, stopped};
use crate::settings::{Environment, Rate, Settings, SettingsError};
use crate::snapshots::Snapshots;
use crate::status_server::StatusServer;
use crate::stores::Stores;
use crate::trainjob::TrainJobs;
use crate::webhook_handlers::WebhookHandlers;
use crate::{dial, kinds, metrics_auth, runtimes, webhook};

/// How long the API server may leave a connection to the webhooks unused. It drops them after 90 s itself: whoever closes
/// one first may do so while a call is on its way, which the API server then fails for good.
const IDLE_TIMEOUT: Duration = Duration::from_mins(2);
/// How long it may still use one once this program is to end: each use ends it, and on a busy node both of us are late.
const SHUTDOWN_LINGER: Duration = Duration::from_secs(4);
/// Read limit of the status server.
const STATUS_READ: Duration = Duration::from_secs(10);
/// Who the Events of TrainJobs are from.
const REPORTING_CONTROLLER: &str = "trainer-trainjob-controller";
/// How long what is in progress at the end may take.
const GRACE: Duration = Duration::from_secs(10);
/// How long Events may take that wait to be written then.
const LAST_EVENTS: Duration = Duration::from_secs(2);
/// How long it may take to know what there is.
const SYNC: Duration = Duration::from_mins(2);

/// Why a manager does not run.
#[derive(Debug, thiserror::Error)]
pub enum ManagerError {
    /// The API server cannot be talked to.
    #[error("failed to connect to the API server")]
    Connect(#[from] ConnectError),
    /// The configuration says something that cannot be.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// Another leads.
    #[error("leader election lost")]
    LeaderLost,
    /// An address makes no sense.
    #[error("failed to find an address to listen on")]
    Address(#[from] AddressError),
    /// Something of the manager failed that it cannot continue without.
    #[error("failed to {what}")]
    Part {
        /// What.
        what: &'static str,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// What there is could not be seen in time.
    #[error("failed to see what there is within {SYNC:?}: timed out waiting for cache to be synced")]
    NotSynced,
}

impl ManagerError {
    fn part(what: &'static str) -> impl FnOnce(Box<dyn std::error::Error + Send + Sync>) -> Self {
        move |source| Self::Part { what, source }
    }
}

/// How far the start has come: what the probes tell.
#[derive(Default)]
struct Progress {
    has_certificates: AtomicBool,
    webhooks: OnceLock<SocketAddr>,
    status_server: OnceLock<SocketAddr>,
}

/// Everything that the parts of a manager share.
#[derive(Clone)]
struct Manager {
    settings: Arc<Settings>,
    environment: Arc<Environment>,
    /// Without a bound on its requests: what a lease and a certificate need must not wait behind TrainJobs.
    unbounded: Cluster,
    cluster: Cluster,
    metrics: Arc<ManagerMetrics>,
    stores: Stores,
    context: Context,
    /// In extended compatibility.
    train_job_metrics: Option<TrainJobMetrics>,
    queues: Queues,
    progress: Arc<Progress>,
    stop: Stop,
}

/// Runs a manager until `stop` is done, or something fails that it cannot continue without.
pub async fn run(
    flags: &Flags,
    environment: Environment,
    stop: impl Future<Output = ()>,
) -> Result<(), ManagerError> {
    let settings = Settings::load(flags, &environment)?;
    let metrics = Arc::new(ManagerMetrics::new().map_err(metrics_failed)?);
    let context = environment.hosted.as_ref().and_then(|hosted| hosted.context.clone());
    let unbounded = connect(flags, context, &metrics).await?;
    let (tell, told) = watch::channel(false);
    let cluster = unbounded.with_rate(settings.client.a_second, settings.client.burst);
    let stores = Stores::new();
    let train_job_metrics = match settings.build.compatibility {
        Compatibility::Extended => {
            let registered = TrainJobMetrics::register(&metrics.registry, stores.train_jobs.clone());
            Some(registered.map_err(metrics_failed)?)
        }
        Compatibility::Upstream => None,
    };
    let context = Context {
        cluster: cluster.clone(),
        snapshots: Snapshots::new(cluster.clone(), stores.config_maps.clone()),
        stores: stores.clone(),
        build: Arc::clone(&settings.build),
        namespace: environment.namespace.as_str().into(),
        told_priorities: Arc::default(),
    };
    let manager = Manager {
        cluster,
        settings: Arc::new(settings),
        environment: Arc::new(environment),
        unbounded,
        metrics,
        stores,
        context,
        train_job_metrics,
        queues: Queues::default(),
        progress: Arc::default(),
        stop: told,
    };
    let mut parts = manager.start()?;
    let ended = tokio::select! {
        () = stop => Ok(()),
        ended = first(&mut parts) => ended,
    };
    tracing::info!("stopping");
    tell.send_replace(true);
    if tokio::time::timeout(GRACE, rest(&mut parts)).await.is_err() {
        tracing::warn!("failed to end everything within {GRACE:?}");
    }
    ended
}

/// The first part that fails; none does while all continue, or have nothing left to do.
async fn first(parts: &mut JoinSet<Result<(), ManagerError>>) -> Result<(), ManagerError> {
    while let Some(ended) = parts.join_next().await {
        flat(ended)?;
    }
    std::future::pending().await
}

/// Waits for what is left, whose failures are no news any more.
async fn rest(parts: &mut JoinSet<Result<(), ManagerError>>) {
    while let Some(ended) = parts.join_next().await {
        if let Err(error) = flat(ended) {
            tracing::debug!(error = trainerd_causes::one_line(&error), "a part failed at the end");
        }
    }
}

fn flat(ended: Result<Result<(), ManagerError>, tokio::task::JoinError>) -> Result<(), ManagerError> {
    ended.unwrap_or_else(|error| Err(ManagerError::part("run")(error.into())))
}

fn metrics_failed(error: MetricsError) -> ManagerError {
    ManagerError::part("register the metrics")(error.into())
}

fn certificate_failed(error: CertificateError) -> ManagerError {
    ManagerError::part("read the webhook certificate")(error.into())
}

async fn connect(
    flags: &Flags,
    context: Option<String>,
    metrics: &ManagerMetrics,
) -> Result<Cluster, ManagerError> {
    let host = Arc::new(OnceLock::new());
    let cluster = Cluster::connect(ConnectOptions {
        kubeconfig: flags.kubeconfig.clone(),
        context,
        user_agent: concat!("trainerd/", env!("CARGO_PKG_VERSION"), " (reconciler)").to_owned(),
        field_manager: "trainer".to_owned(),
        observer: Some(metrics.observer(Arc::clone(&host))),
        ..ConnectOptions::default()
    })
    .await?;
    let server = cluster.server();
    let authority = server.split_once("://").map_or(server, |(_, rest)| rest);
    let _ = host.set(authority.split('/').next().unwrap_or_default().to_owned());
    Ok(cluster)
}

impl Manager {
    /// Starts everything. What comes after the certificate waits for it.
    fn start(&self) -> Result<JoinSet<Result<(), ManagerError>>, ManagerError> {
        let queues = self.queues.clone();
        self.metrics.watch_work(move || queues.processing_times()).map_err(metrics_failed)?;
        let mut parts = JoinSet::new();
        parts.spawn(self.clone().probes());
        let controllers = self.controllers();
        parts.spawn(self.clone().keep(controllers.clone()));
        parts.spawn(self.clone().after_certificates(controllers));
        Ok(parts)
    }

    /// Answers the probes.
    async fn probes(self) -> Result<(), ManagerError> {
        let Some(health) = &self.settings.health else { return Ok(()) };
        let address = address::resolve(health).await?;
        let mut live = Checks::default();
        live.add("healthz", || async { Ok(()) });
        let mut ready = Checks::default();
        let progress = Arc::clone(&self.progress);
        ready.add("readyz", move || {
            let progress = Arc::clone(&progress);
            async move {
                if !progress.has_certificates.load(Ordering::Acquire) {
                    return Err("certificates are not ready".to_owned());
                }
                match progress.webhooks.get() {
                    Some(address) => dial::dial(*address).await,
                    None => Err("webhook server has not been started yet".to_owned()),
                }
            }
        });
        if self.settings.status_server.is_some() {
            for (name, checks) in [("status-server-healthz", &mut live), ("status-server-readyz", &mut ready)]
            {
                let progress = Arc::clone(&self.progress);
                checks.add(name, move || {
                    let address = progress.status_server.get().copied();
                    async move {
                        match address {
                            Some(address) => dial::dial(address).await,
                            None => Err("status server has not been started yet".to_owned()),
                        }
                    }
                });
            }
        }
        let mut router = Router::new();
        for path in &self.settings.liveness {
            router = router.merge(live.clone().router(path));
        }
        for path in &self.settings.readiness {
            router = router.merge(ready.clone().router(path));
        }
        let port =
            Port { name: "health", address, router, limits: trainerd_serve::Limits::default(), tls: None };
        port.serve(self.stop, |_| {}).await.map_err(port_failed)
    }

    /// Keeps the caches, until the end.
    async fn keep(self, controllers: Controllers) -> Result<(), ManagerError> {
        let mut tasks = JoinSet::new();
        let extended = self.settings.build.compatibility == Compatibility::Extended;
        let tell = move |source, change: &Change| controllers.tell(source, change);
        self.stores.keep(&self.cluster, extended, &mut tasks, tell);
        stopped(self.stop).await;
        Ok(())
    }

    /// Everything that needs the certificate.
    async fn after_certificates(self, controllers: Controllers) -> Result<(), ManagerError> {
        let mount = Mount::below(&self.environment.temporary);
        let mut tasks = JoinSet::new();
        if let Some(rotation) = self.rotate(&mut tasks).await? {
            tokio::select! {
                () = stopped(self.stop.clone()) => return Ok(()),
                ready = async {
                    rotation.injected().await;
                    mount.wait().await
                } => ready.map_err(|error: NotMounted| ManagerError::part("find the certificate")(error.into()))?,
            }
        }
        let certificates = if self.environment.hosted.is_some() && !mount.is_there() {
            // Nobody mounts anything here, and without webhooks nobody calls.
            Certificates::self_signed(vec!["localhost".to_owned()])
        } else {
            mount.read()
        };
        let certificates = certificates.map_err(certificate_failed)?;
        self.metrics.watch_certificates(&certificates).map_err(metrics_failed)?;
        self.progress.has_certificates.store(true, Ordering::Release);
        tokio::try_join!(
            self.clone().webhooks(certificates.clone()),
            self.clone().serve_metrics(&mount),
            self.clone().serve_status(certificates),
            self.clone().run_as_leader(controllers),
        )?;
        Ok(())
    }

    /// Keeps the certificate, where that is ours to do.
    async fn rotate(&self, tasks: &mut JoinSet<()>) -> Result<Option<Rotation>, ManagerError> {
        let Some(settings) = &self.settings.rotation else { return Ok(None) };
        let namespace = &self.environment.namespace;
        let rotation = Rotation::new(self.unbounded.clone(), namespace, &settings.secret, &settings.service);
        let failed = |error: RotationError| ManagerError::part("set up certificate rotation")(error.into());
        rotation.refresh().await.map_err(failed)?;
        let queue = crate::queue::Queue::new(self.metrics.queue(ROTATOR));
        self.queues.add(ROTATOR, &queue);
        queue.add("certificate");
        tasks.spawn(rotation.clone().watch(queue.clone()));
        let reconciled = rotation.clone();
        let metrics = self.metrics.controller(ROTATOR, 1);
        tasks.spawn(controller::run(queue, metrics, 1, move |_| reconciled.clone().reconcile()));
        Ok(Some(rotation))
    }
}

/// Controller label of the certificate's upkeep.
const ROTATOR: &str = "cert-rotator";

fn port_failed(error: PortError) -> ManagerError {
    ManagerError::part("serve")(error.into())
}

/// The ports and the controllers.
impl Manager {
    fn controllers(&self) -> Controllers {
        let extended = self.settings.build.compatibility == Compatibility::Extended;
        Controllers::new(&self.metrics, &self.queues, &self.stores, extended)
    }

    /// Answers the webhooks.
    async fn webhooks(self, certificates: Certificates) -> Result<(), ManagerError> {
        let address = address::resolve(&self.settings.webhook).await?;
        let port = Port {
            name: "webhook",
            address,
            router: webhook::router(WebhookHandlers::new(self.context.clone()).hooks(), &self.metrics),
            limits: trainerd_serve::Limits {
                header_time: IDLE_TIMEOUT,
                linger: SHUTDOWN_LINGER,
                ..trainerd_serve::Limits::default()
            },
            tls: Some((certificates, self.settings.tls.clone())),
        };
        let progress = Arc::clone(&self.progress);
        let opened = move |address| {
            let _ = progress.webhooks.set(address);
        };
        port.serve(self.stop, opened).await.map_err(port_failed)
    }

    /// Answers scrapes.
    async fn serve_metrics(self, mount: &Mount) -> Result<(), ManagerError> {
        let Some(settings) = &self.settings.metrics else { return Ok(()) };
        let address = address::resolve(&settings.address).await?;
        let mut router = self.metrics.registry.router();
        if settings.authenticate {
            let cluster = self.unbounded.clone();
            router = router.layer(axum::middleware::from_fn_with_state(cluster, metrics_auth::require));
        }
        let tls = if settings.secure {
            let certificates = if mount.is_there() {
                mount.read()
            } else {
                Certificates::self_signed(vec!["localhost".to_owned()])
            };
            Some((certificates.map_err(certificate_failed)?, self.settings.tls.clone()))
        } else {
            None
        };
        let limits = trainerd_serve::Limits::default();
        let port = Port { name: "metrics", address, router, limits, tls };
        port.serve(self.stop, |_| {}).await.map_err(port_failed)
    }

    /// Answers pods that report their progress, where they do.
    async fn serve_status(self, certificates: Certificates) -> Result<(), ManagerError> {
        let Some(settings) = &self.settings.status_server else { return Ok(()) };
        let address = address::resolve(&settings.address).await?;
        let cluster = self.unbounded.with_rate(settings.rate.a_second, settings.rate.burst);
        let limits = trainerd_serve::Limits {
            header_time: STATUS_READ,
            body_time: STATUS_READ,
            ..trainerd_serve::Limits::default()
        };
        let port = Port {
            name: "status",
            address,
            router: StatusServer::new(cluster, self.train_job_metrics.clone()).router(),
            limits,
            tls: Some((certificates, self.settings.tls.clone())),
        };
        let progress = Arc::clone(&self.progress);
        let opened = move |address| {
            let _ = progress.status_server.set(address);
        };
        port.serve(self.stop, opened).await.map_err(port_failed)
    }

    /// Reconciles what the queues hold, until they end.
    async fn reconcile(&self, controllers: Controllers, fence: Option<Fence>) {
        // What Events take, JobSets must not lack.
        let Rate { a_second, burst } = self.settings.client;
        let beside = self.unbounded.with_rate(a_second / 2.0, burst);
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let (recorder, writer) = event_recorder(
            beside,
            REPORTING_CONTROLLER.to_owned(),
            format!("{REPORTING_CONTROLLER}-{host}"),
            EventLimits { queue: 5000, burst: None },
        );
        let queue = controllers.train_jobs.clone();
        let (context, optimizing) = (self.context.clone(), fence.clone());
        let optimization_jobs = OptimizationJobs {
            context,
            recorder: recorder.clone(),
            train_jobs: controllers.train_jobs.clone(),
            fence: optimizing,
        };
        let train_jobs = TrainJobs {
            context: self.context.clone(),
            recorder,
            metrics: self.train_job_metrics.clone(),
            fence,
            told: Arc::default(),
        };
        let workers = |kind: &str| {
            let key = format!("{kind}.{}", kinds::TRAINER);
            self.settings.concurrency.get(&key).copied().unwrap_or(1)
        };
        let finalizer = |resource: Resource, store: &Store| {
            let (cluster, store) = (self.cluster.clone(), store.clone());
            move |name| runtimes::reconcile(cluster.clone(), resource.clone(), store.clone(), name)
        };
        let (jobs, namespaced, wide) =
            (workers("TrainJob"), workers("TrainingRuntime"), workers("ClusterTrainingRuntime"));
        let stores = &self.stores;
        let searches = controllers.optimization_jobs.clone();
        let optimize = async {
            let Some(queue) = searches else { return };
            let workers = workers("OptimizationJob");
            let metrics = self.metrics.controller(OPTIMIZATION_JOB, workers);
            controller::run(queue, metrics, workers, move |name| optimization_jobs.clone().reconcile(name))
                .await;
        };
        let all = async {
            tokio::join!(
                optimize,
                controller::run(
                    controllers.train_jobs,
                    self.metrics.controller(TRAIN_JOB, jobs),
                    jobs,
                    move |name| train_jobs.clone().reconcile(name),
                ),
                controller::run(
                    controllers.training_runtimes,
                    self.metrics.controller(TRAINING_RUNTIME, namespaced),
                    namespaced,
                    finalizer(kinds::training_runtime(), &stores.training_runtimes),
                ),
                controller::run(
                    controllers.cluster_training_runtimes,
                    self.metrics.controller(CLUSTER_TRAINING_RUNTIME, wide),
                    wide,
                    finalizer(kinds::cluster_training_runtime(), &stores.cluster_training_runtimes),
                ),
            );
        };
        let ended = async move {
            all.await;
            tokio::time::sleep(LAST_EVENTS).await;
        };
        // The recorder goes with the last worker, and with it, once all is written, the writer.
        tokio::select! {
            () = writer.run_after(move || queue.is_busy()) => {}
            () = ended => tracing::debug!("Events that were not written are dropped"),
        }
    }

    /// Leads, and then reconciles, until the end.
    async fn run_as_leader(self, controllers: Controllers) -> Result<(), ManagerError> {
        tokio::select! {
            () = stopped(self.stop.clone()) => return Ok(()),
            synced = tokio::time::timeout(SYNC, self.stores.synced()) => {
                synced.map_err(|_| ManagerError::NotSynced)?;
            }
        }
        let election = self.settings.election.as_ref();
        let lease = match election {
            Some(election) => {
                self.metrics.leads(&election.name, false);
                tokio::select! {
                    () = stopped(self.stop.clone()) => return Ok(()),
                    lease = election.win(&self.unbounded) => Some(lease),
                }
            }
            None => None,
        };
        if let Some(election) = election {
            self.metrics.leads(&election.name, true);
        }
        let lost = async {
            match &lease {
                Some(lease) => lease.lost().await,
                None => std::future::pending().await,
            }
        };
        let work = self.reconcile(controllers.clone(), lease.as_ref().map(LeaseGuard::fence));
        tokio::pin!(work);
        tokio::select! {
            () = &mut work => Ok(()),
            lost = lost => {
                tracing::error!(%lost, "the lease is lost");
                Err(ManagerError::LeaderLost)
            }
            () = stopped(self.stop.clone()) => {
                controllers.end();
                work.await;
                // Not released, as client-go does not by default: the next one waits until it has run out.
                drop(lease);
                Ok(())
            }
        }
    }
}
