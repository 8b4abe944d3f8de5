//! An installation that is kept by a daemon, and what somebody may do to it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use trainerd_cluster::{ApplyParams, CreateParams};
use trainerd_plan::object::Resource;

use crate::Error;
use crate::cluster::TestCluster;
use crate::daemon::Daemon;
use crate::stack::{self, NAMESPACE};

/// For whatever the daemon has to do.
pub const BOUND: Duration = Duration::from_mins(3);
/// A Deployment of the stack.
pub const JOBSET: &str = "jobset-controller-manager";

/// An installation that a daemon keeps as a file of options says.
pub struct Managed {
    /// The daemon.
    pub daemon: Daemon,
    /// Its file of options.
    pub file: PathBuf,
    /// The cluster.
    // Last: the daemon ends before its cluster is given back.
    pub cluster: TestCluster,
}

impl Managed {
    /// An installation of 2.2.1, settled.
    pub fn new() -> Result<Self, Error> {
        let cluster = TestCluster::take()?;
        let file = cluster.folder().join("options.yaml");
        write(&file, "")?;
        let daemon = cluster.daemon("daemon", &["--config", file.to_str().unwrap_or_default()])?;
        let mut world = Self { daemon, file, cluster };
        world.daemon.wait_until_settled(BOUND)?;
        Ok(world)
    }

    /// Other options, in force.
    pub fn set(&mut self, options: &str) -> Result<(), Error> {
        let before = self.daemon.read("/v1/installation")?["generation"].clone();
        write(&self.file, options)?;
        self.daemon.wait_for("settled with other options", BOUND, |view| {
            view["settled"] == true && view["generation"] != before
        })?;
        Ok(())
    }

    /// Changes an object of the stack as the field manager of the tests.
    pub fn patch(&self, kind: &Resource, name: &str, patch: &Value) -> Result<(), Error> {
        let namespace = kind.namespaced.then_some(NAMESPACE);
        let api = self.cluster.api();
        self.cluster.block_on(api.patch_merge(kind, namespace, name, patch, CreateParams::default()))?;
        Ok(())
    }

    /// Changes a field that trainerd owns.
    pub fn scale(&self, replicas: u32) -> Result<(), Error> {
        self.patch(&stack::deployment(), JOBSET, &json!({"spec": {"replicas": replicas}}))
    }

    /// Changes that field through the subresource `scale`, as `kubectl scale` does.
    pub fn scale_by_subresource(&self, manager: &str, replicas: u32) -> Result<(), Error> {
        let path =
            format!("/apis/apps/v1/namespaces/{NAMESPACE}/deployments/{JOBSET}/scale?fieldManager={manager}");
        let request = http::Request::patch(path)
            .header(http::header::CONTENT_TYPE, "application/merge-patch+json")
            .body(json!({"spec": {"replicas": replicas}}).to_string().into_bytes());
        let request = request.map_err(|error| Error::Missing(format!("a request ({error})")))?;
        let asked = self.cluster.block_on(self.cluster.api().client().request::<Value>(request));
        asked.map(drop).map_err(|error| Error::Missing(format!("an answer ({error})")))
    }

    /// As the field manager of the tests, by server-side apply, whoever owns the field.
    pub fn apply_replicas(&self, replicas: u32) -> Result<(), Error> {
        let object = json!({"apiVersion": "apps/v1", "kind": "Deployment", "spec": {"replicas": replicas},
                            "metadata": {"name": JOBSET, "namespace": NAMESPACE}});
        let params = ApplyParams { force: true, ..ApplyParams::default() };
        self.cluster.block_on(self.cluster.api().apply(&stack::deployment(), &object, &params))?;
        Ok(())
    }

    /// That field.
    pub fn replicas(&self) -> Result<Value, Error> {
        let found = self.cluster.get(&stack::deployment(), NAMESPACE, JOBSET)?;
        Ok(found.unwrap_or_default()["spec"]["replicas"].clone())
    }

    /// Waits for that field to have a value.
    pub fn wait_for_replicas(&self, replicas: u32) -> Result<(), Error> {
        self.cluster.wait_until("the replicas", BOUND, || Ok(self.replicas()? == replicas))
    }

    /// The drift of an object, once it is in that state.
    pub fn drift(&mut self, name: &str, state: &str) -> Result<Value, Error> {
        let of = |view: &Value| {
            let drift = view["outlook"]["drift"].as_array().cloned().unwrap_or_default();
            drift.into_iter().find(|drift| drift["object"]["name"] == name && drift["state"] == state)
        };
        let view = self.daemon.wait_for(&format!("{name} {state}"), BOUND, |view| of(view).is_some())?;
        Ok(of(&view).unwrap_or_default())
    }
}

/// A file of options for a test, with these among them.
pub fn text(options: &str) -> String {
    format!("small-footprint: true\nsettle: 0\ntrainer-version: \"2.2.1\"\n{options}")
}

/// Writes a file of options, with these among them.
pub fn write(file: &Path, options: &str) -> Result<(), Error> {
    std::fs::write(file, text(options)).map_err(Error::io("write", file))
}
