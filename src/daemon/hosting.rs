//! Workloads that the daemon hosts: processes of its own in the place of Deployments.
//!
//! Which there may be, the command line says (`--host`); the reconciler runs while the options say `reconciler: hosted`,
//! the data cache as long as the daemon. What a process is started with comes from the catalog's description of it, as a
//! container's command line does.

mod cache;
mod reconciler;
pub(crate) mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;
use jiff::Timestamp;
use tempfile::TempDir;
use tokio::sync::{oneshot, watch};
use trainerd_catalog::{LoadError, ProcessCheck};
use trainerd_engine::Cancel;
use trainerd_supervise::{Check, Guard, LaunchError, OnFailure, Policy, Report, ServiceState, Supervisor};

pub(crate) use self::reconciler::HostedReconciler;
use self::view::HostedView;
use super::recorder::Recorder;
use super::status_store::StatusStore;

/// What a daemon can host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum HostedWorkload {
    /// The native reconciler, while the option `reconciler` is `hosted`
    Reconciler,
    /// The data cache: a head and two workers for the dataset in the daemon's environment
    Cache,
}

/// Why nothing can be hosted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HostingError {
    /// There is nowhere to put what processes need.
    #[error("failed to create a folder for hosted workloads")]
    Folder(#[source] std::io::Error),
    /// The build is broken.
    #[error("failed to read hosted workloads from the catalog")]
    Catalog(#[from] LoadError),
    /// The catalog describes no such process.
    #[error("failed to find the process {0} in the catalog")]
    NoProcess(&'static str),
    /// They wait for each other.
    #[error("failed to order the hosted workloads")]
    Graph(#[from] trainerd_supervise::GraphError),
}

/// How the daemon itself reaches the cluster, for those that it hosts.
#[derive(Clone, Debug)]
pub(crate) struct Access {
    pub(crate) kubeconfig: Option<PathBuf>,
    pub(crate) context: Option<String>,
}

/// The time that a stop takes at most.
pub(crate) fn stop_bound() -> Duration {
    let policy = Policy::default();
    policy.kill_delay + policy.kill_bound + Duration::from_secs(1)
}

/// A hosted process, beside its service: what status calls it by.
struct Hosted {
    component: &'static str,
    /// Whether it runs as long as the daemon.
    always: bool,
}

/// The hosted workloads of a daemon.
pub(crate) struct Hosting {
    supervisor: Supervisor,
    hosted: BTreeMap<String, Hosted>,
    reconciler: watch::Receiver<Option<HostedReconciler>>,
    /// Counts changes of what the reconciler is started with.
    generation: u64,
    /// Whether only workloads that run, or are to run, are shown, as under Juju.
    is_quiet: bool,
    status: StatusStore,
    recorder: Recorder,
    /// What processes need in files; gone with the daemon.
    _folder: TempDir,
}

impl Hosting {
    /// The workloads, none of which runs yet.
    pub(crate) fn new(
        workloads: &BTreeSet<HostedWorkload>,
        access: &Access,
        is_quiet: bool,
        reconciler: watch::Receiver<Option<HostedReconciler>>,
        status: StatusStore,
        recorder: Recorder,
    ) -> Result<Self, HostingError> {
        // Only this user may look into it: a configuration is nobody else's business.
        let folder =
            tempfile::Builder::new().prefix("trainerd-hosted-").tempdir().map_err(HostingError::Folder)?;
        let (mut services, mut hosted) = (Vec::new(), BTreeMap::new());
        for workload in workloads {
            let (component, always, more) = match workload {
                HostedWorkload::Reconciler => {
                    let service = reconciler::service(access, reconciler.clone(), folder.path());
                    ("trainer", false, vec![service])
                }
                HostedWorkload::Cache => ("data-cache", true, cache::services()?),
            };
            for service in more {
                hosted.insert(service.name.clone(), Hosted { component, always });
                services.push(service);
            }
        }
        let supervisor = Supervisor::new(&services, Some(&Guard::of_this_program()))?;
        let may_be_here = workloads.contains(&HostedWorkload::Reconciler);
        status.write(|view| view.reconciler_place.may_be_here = may_be_here);
        Ok(Self {
            supervisor,
            hosted,
            reconciler,
            generation: 0,
            is_quiet,
            status,
            recorder,
            _folder: folder,
        })
    }

    /// Runs them until the process is to end, and stops them then. `ended` is dropped after that.
    pub(crate) async fn run(mut self, mut asked: Cancel, ended: oneshot::Sender<()>) {
        let mut known: BTreeMap<String, Report> = BTreeMap::new();
        self.want();
        loop {
            self.tell(&mut known);
            tokio::select! {
                biased;
                _ = asked.wait_for(|asked| *asked) => break,
                Ok(()) = self.reconciler.changed() => {
                    self.generation += 1;
                    self.want();
                }
                () = self.supervisor.changed() => {}
            }
        }
        for stopped in self.supervisor.stop().await {
            if !stopped.is_gone {
                tracing::error!(workload = stopped.name, "a hosted process did not end");
            }
        }
        drop(ended);
    }

    fn want(&mut self) {
        let wants_reconciler = self.reconciler.borrow_and_update().is_some();
        for (name, hosted) in &self.hosted {
            let generation = if hosted.always { 0 } else { self.generation };
            self.supervisor.want(name, hosted.always || wants_reconciler, generation);
        }
    }

    /// Writes down how they are, and what happened since the last time.
    fn tell(&mut self, known: &mut BTreeMap<String, Report>) {
        let reports = self.supervisor.reports();
        for report in &reports {
            let before = known.get(&report.name);
            self.recorder.hosted(before, report);
        }
        let component = |name: &str| self.hosted.get(name).map(|hosted| hosted.component).unwrap_or_default();
        let views: Vec<HostedView> = reports
            .iter()
            .filter(|report| !self.is_quiet || report.wanted || report.state != ServiceState::Initial)
            .map(|report| HostedView { component: component(&report.name), report: report.clone() })
            .collect();
        self.status.write(|view| view.hosted = views);
        *known = reports.into_iter().map(|report| (report.name.clone(), report)).collect();
    }
}

/// For how long a workload was not ready, where it was ready before.
pub(crate) fn outage(before: &Report, now: &Report) -> Option<Duration> {
    let gone = !before.ready && now.ready && before.failure.is_some();
    let since = Timestamp::duration_since(now.ready_since, before.ready_since);
    gone.then(|| since.try_into().unwrap_or_default())
}

/// A check as the catalog describes it, asked at that address.
fn check(described: &ProcessCheck, address: &str) -> Check {
    Check {
        period: Duration::from_secs(described.period_seconds.into()),
        timeout: Duration::from_secs(described.timeout_seconds.into()),
        threshold: described.threshold.into(),
        on_failure: if described.restarts { OnFailure::Restart } else { OnFailure::Ignore },
        ..Check::new(&described.name, address, &described.path)
    }
}

/// A port of loopback that nobody listens on. Somebody may before the process does; then the next start takes another.
fn free_port() -> Result<u16, LaunchError> {
    let free = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr();
    let failed = |source| LaunchError::Prepare { what: "find a free port".to_owned(), source };
    Ok(free().map_err(failed)?.port())
}

/// A program of ours: this one, or one that is beside it or on PATH.
fn program(name: &str) -> PathBuf {
    if name == env!("CARGO_PKG_NAME") {
        // Leads to the file that this process was started from, whatever has taken its place.
        return PathBuf::from("/proc/self/exe");
    }
    let beside = std::env::current_exe().ok().and_then(|own| Some(own.parent()?.join(name)));
    beside.filter(|path| path.is_file()).unwrap_or_else(|| PathBuf::from(name))
}
