//! The cluster that a test runs against.

mod audit;
mod discovery;
mod etcd;
pub(crate) mod local;

pub use audit::{AuditLog, AuditedRequest, Mark, Span, Write};
pub use etcd::Snapshot;

use std::collections::BTreeSet;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use trainerd_cluster::{Cluster, ConnectOptions, ListParams, RequestError};
use trainerd_plan::object::Resource;

use crate::Error;
use crate::product::Trainerd;
use crate::proxy::Proxy;
use crate::stack;
use crate::standin::{Behaviour, Options, StandIn};
use etcd::Etcd;
use local::Sheet;

/// Name of the local cluster of these tests, where `TRAINERD_INTEGRATION_CLUSTER` names no other.
const NAME: &str = "integration";

/// For whatever the cluster's own controllers have to do; a busy machine takes seconds for it.
const BOUND: Duration = Duration::from_mins(1);

/// For a namespace with everything in it to go.
const LEAVING: Duration = Duration::from_mins(3);

/// How long a state must stay the same: a controller that acts on a change does so within this.
const REST: Duration = Duration::from_millis(500);
/// The same for a new cluster, where some controllers have only just begun.
const NEW: Duration = Duration::from_secs(3);

/// A cluster, empty at first, that belongs to one test at a time on this machine.
///
/// With `TRAINERD_TEST_CLUSTER=existing` it is the one of `KUBECONFIG`: nothing is started, a cluster that has an
/// installation already is not touched, and what a test installed is removed at its end. Otherwise it is a local
/// control plane with the stand-in as its node, whose state is put back.
pub struct TestCluster {
    // Before the runtime, whose tasks these are.
    local: Option<Local>,
    name: String,
    proxy: Proxy,
    api: Cluster,
    trainerd: Trainerd,
    kubeconfig: PathBuf,
    folder: TempDir,
    runtime: Runtime,
    /// Whether what is installed at the end is this test's to remove.
    clears: bool,
    _turn: std::fs::File,
}

/// What only the local cluster has.
struct Local {
    standin: StandIn,
    address: std::net::IpAddr,
    etcd: Etcd,
    audit: AuditLog,
    empty: Snapshot,
    /// Name of the network namespace that it runs in.
    network: String,
}

impl TestCluster {
    /// Waits for its turn and takes the cluster, emptied.
    pub fn take() -> Result<Self, Error> {
        let name = std::env::var("TRAINERD_INTEGRATION_CLUSTER").unwrap_or_else(|_| NAME.to_owned());
        let turn = lock_cluster(&name)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .map_err(Error::io("start", "a runtime"))?;
        let trainerd = Trainerd::find()?;
        let folder = tempfile::tempdir().map_err(Error::io("make", "a folder"))?;
        let (local, kubeconfig) = if is_existing() {
            let path = std::env::var_os("KUBECONFIG").ok_or_else(|| Error::Missing("KUBECONFIG".into()))?;
            (None, PathBuf::from(path))
        } else {
            let sheet = local::up(&name)?;
            let local = runtime.block_on(Local::start(&sheet))?;
            (Some(local), sheet.kubeconfig)
        };
        let api = runtime.block_on(Cluster::connect(ConnectOptions {
            kubeconfig: Some(kubeconfig.clone()),
            context: None,
            user_agent: "integration".into(),
            field_manager: "integration".into(),
            observer: None,
            patience: None,
            waits: None,
        }))?;
        let proxy = runtime.block_on(Proxy::start(&kubeconfig, host_address(local.as_ref())))?;
        proxy.write_kubeconfig(&folder.path().join("proxy.kubeconfig"))?;
        let mut cluster = Self {
            local,
            name,
            proxy,
            api,
            trainerd,
            kubeconfig,
            folder,
            runtime,
            clears: false,
            _turn: turn,
        };
        if !cluster.is_local() {
            if !cluster.is_free()? {
                return Err(Error::InTheWay);
            }
            cluster.clears = true;
        }
        Ok(cluster)
    }

    /// Whether nothing of the stack is there; a namespace that is on its way out is waited for.
    fn is_free(&self) -> Result<bool, Error> {
        let namespace = || self.get(&stack::namespace(), "", stack::NAMESPACE);
        self.wait_until("the namespace to go", LEAVING, || {
            Ok(namespace()?.is_none_or(|found| found["metadata"]["deletionTimestamp"].is_null()))
        })?;
        // A removal that kept what is stored leaves CRDs, and perhaps somebody's jobs under them.
        let stack = ["trainer.kubeflow.org", "jobset.x-k8s.io", "leaderworkerset.x-k8s.io"];
        let is_of_the_stack =
            |crd: &Value| crd["spec"]["group"].as_str().is_some_and(|group| stack.contains(&group));
        Ok(namespace()?.is_none() && !self.list(&stack::crd(), None)?.iter().any(is_of_the_stack))
    }

    /// Removes what a test installed in somebody's cluster, and what it stored there.
    fn clear(&self) -> Result<(), Error> {
        let remove = ["remove", "--purge", "--delete-jobs", "--yes", "--timeout", "3m"];
        self.run(&remove)?.expect_code(0)?;
        self.delete(&stack::namespace(), "", stack::NAMESPACE)?;
        let gone = || Ok(self.get(&stack::namespace(), "", stack::NAMESPACE)?.is_none());
        self.wait_until("the namespace to go", LEAVING, gone)
    }

    /// The product.
    pub fn trainerd(&self) -> &Trainerd {
        &self.trainerd
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// A kubeconfig that leads through [`TestCluster::proxy`].
    pub fn proxied(&self) -> PathBuf {
        self.folder.path().join("proxy.kubeconfig")
    }

    /// A folder for files of this test.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The proxy.
    pub fn proxy(&self) -> &Proxy {
        &self.proxy
    }

    /// The API server, as an administrator.
    pub fn api(&self) -> &Cluster {
        &self.api
    }

    /// Runs a future to its end.
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.runtime.block_on(future)
    }

    /// An address of this machine that the API server reaches: the host's end of the cluster's own pair of interfaces,
    /// or, of a cluster that somebody else keeps, the loopback interface.
    pub fn host_address(&self) -> std::net::IpAddr {
        host_address(self.local.as_ref())
    }

    /// Whether the stand-in is the node: whether pods can be told how to behave, and state put back.
    pub fn is_local(&self) -> bool {
        self.local.is_some()
    }

    /// The audit log, which only the local cluster has.
    pub fn audit(&self) -> Option<&AuditLog> {
        self.local.as_ref().map(|local| &local.audit)
    }

    /// Name of the network namespace that the local cluster runs in.
    pub fn network(&self) -> Option<&str> {
        self.local.as_ref().map(|local| local.network.as_str())
    }

    /// Tells the stand-in how to treat pods from now on.
    pub fn set_behaviour(&self, behaviour: Behaviour) {
        if let Some(local) = &self.local {
            local.standin.set_behaviour(behaviour);
        }
    }

    /// Pods that are on their way behave as pods do now, too.
    pub fn restart_pods(&self) {
        if let Some(local) = &self.local {
            local.standin.restart_pods();
        }
    }

    /// The state as it is once it has come to rest.
    pub fn snapshot(&mut self) -> Result<Snapshot, Error> {
        let Some(local) = &mut self.local else { return Err(only_local()) };
        self.runtime.block_on(local.etcd.settled_snapshot(REST, BOUND))
    }

    /// Puts a state back.
    pub fn restore(&mut self, snapshot: &Snapshot) -> Result<(), Error> {
        let Some(local) = &mut self.local else { return Err(only_local()) };
        self.runtime.block_on(local.etcd.restore(snapshot, BOUND))
    }

    /// Puts back the state without any installation.
    pub fn restore_empty(&mut self) -> Result<(), Error> {
        let Some(local) = &mut self.local else { return Err(only_local()) };
        self.runtime.block_on(local.etcd.restore(&local.empty, BOUND))
    }

    /// Kills the API server and starts it again; it serves a few seconds later.
    pub fn restart_api_server(&self) -> Result<(), Error> {
        if self.local.is_none() {
            return Err(only_local());
        }
        local::restart(&self.name)
    }

    /// The keys of everything stored.
    pub fn keys(&self) -> Result<BTreeSet<String>, Error> {
        let Some(local) = &self.local else { return Err(only_local()) };
        self.runtime.block_on(local.etcd.keys())
    }

    /// An object; `None` when it does not exist or its kind is not served.
    pub fn get(&self, resource: &Resource, namespace: &str, name: &str) -> Result<Option<Value>, Error> {
        self.retry_while_busy(|| self.api.get_opt(resource, Some(namespace), name))
    }

    /// The objects of a kind in all namespaces that a label selector chooses; none where it is not served.
    pub fn list(&self, resource: &Resource, selector: Option<&str>) -> Result<Vec<Value>, Error> {
        let params = ListParams { label_selector: selector.map(str::to_owned), ..ListParams::default() };
        self.retry_while_busy(async || match self.api.list(resource, &params).await {
            Ok(list) => Ok(list.items),
            Err(error) if error.is_absent() => Ok(Vec::new()),
            Err(error) => Err(error),
        })
    }

    /// The kinds that the API server serves, each in its preferred version, but for Events and what cannot be
    /// listed.
    pub fn kinds(&self) -> Result<Vec<Resource>, Error> {
        const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
        let mut kinds = Vec::new();
        for path in ["/api", "/apis"] {
            let request =
                http::Request::get(path).header(http::header::ACCEPT, AGGREGATED).body(Vec::new())?;
            let answer: Value = self.block_on(self.api.client().request(request))?;
            kinds.extend(discovery::listable(&answer));
        }
        Ok(kinds)
    }

    /// Asks again while that is worth it: a CRD that was just changed answers 429 for a second.
    fn retry_while_busy<T>(&self, ask: impl AsyncFn() -> Result<T, RequestError>) -> Result<T, Error> {
        let end = Instant::now() + BOUND;
        loop {
            match self.block_on(ask()) {
                Ok(answer) => return Ok(answer),
                Err(error) => match error.retry() {
                    Some(_) if Instant::now() < end => std::thread::sleep(Duration::from_millis(100)),
                    _ => return Err(error.into()),
                },
            }
        }
    }

    /// Waits until a condition holds.
    pub fn wait_until(
        &self,
        what: &str,
        bound: Duration,
        mut holds: impl FnMut() -> Result<bool, Error>,
    ) -> Result<(), Error> {
        let end = Instant::now() + bound;
        while !holds()? {
            if Instant::now() > end {
                return Err(Error::Restless { seconds: bound.as_secs(), what: what.to_owned() });
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }
}

impl Drop for TestCluster {
    fn drop(&mut self) {
        if self.clears
            && let Err(error) = self.clear()
        {
            // The next test says so, too.
            tracing::error!(error = &error as &dyn std::error::Error, "the cluster is not as it was");
        }
    }
}

impl Local {
    async fn start(sheet: &Sheet) -> Result<Self, Error> {
        let network =
            sheet.network.as_ref().ok_or_else(|| Error::Missing("the cluster's network namespace".into()))?;
        // The host's end of the cluster's own pair of interfaces: the API server reaches it, and nobody else.
        let address = network.host_address;
        let options =
            Options { kubeconfig: sheet.kubeconfig.clone(), address, behaviour: Behaviour::default() };
        let standin = StandIn::start(options).await?;
        let mut etcd = Etcd::new(&network.namespace, sheet.pid("kube-controller-manager"))?;
        // What the cluster was like when it was new is kept with it, and goes with it.
        let kept = sheet.kubeconfig.with_file_name("empty-state.json");
        let empty = if let Ok(text) = std::fs::read_to_string(&kept) {
            serde_json::from_str(&text).map_err(Error::json("the empty cluster's state"))?
        } else {
            let empty = etcd.settled_snapshot(NEW, BOUND).await?;
            let text = serde_json::to_string(&empty).map_err(Error::json("the empty cluster's state"))?;
            std::fs::write(&kept, text).map_err(Error::io("write", &kept))?;
            empty
        };
        etcd.restore(&empty, BOUND).await?;
        let (audit, network) = (AuditLog::new(sheet.audit_log.clone()), network.namespace.clone());
        Ok(Self { standin, address, etcd, audit, empty, network })
    }
}

fn host_address(local: Option<&Local>) -> std::net::IpAddr {
    let loopback = std::net::IpAddr::from([127, 0, 0, 1]);
    local.map_or(loopback, |local| local.address)
}

/// Whether the tests run against a cluster that somebody else keeps.
pub fn is_existing() -> bool {
    std::env::var_os("TRAINERD_TEST_CLUSTER").is_some_and(|value| value == "existing")
}

fn only_local() -> Error {
    Error::Missing("the local cluster: this test needs it".into())
}

/// One test at a time in a cluster, whatever runs them: all use the same cluster-scoped objects.
fn lock_cluster(cluster: &str) -> Result<std::fs::File, Error> {
    let path = std::env::temp_dir().join(format!("trainerd-{cluster}.lock"));
    let file = std::fs::File::create(&path).map_err(Error::io("open", &path))?;
    file.lock().map_err(Error::io("lock", &path))?;
    Ok(file)
}

/// Runs `cargo build` for a package of the workspace.
pub(crate) fn build(package: &str) -> Result<(), Error> {
    let mut command = Command::new(env!("CARGO"));
    command.args(["build", "--quiet", "--package", package]).current_dir(local::workspace());
    local::output(command).map(drop)
}
