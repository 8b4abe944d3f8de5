//! A cluster with the CRDs and a controller, as the tests of the reconciler have it.

use std::error::Error;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use trainerd_cluster::RequestError;
use trainerd_integration::TestCluster;
use trainerd_integration::reconciler::{Manager, Start};
use trainerd_integration::stack::{job_set, runtime, train_job};
use trainerd_plan::object::Resource;

use crate::objects::{a_job, a_runtime, condition};

pub(crate) type Result<T = (), E = Box<dyn Error>> = std::result::Result<T, E>;

/// How long something may take to be reconciled on a busy machine.
pub(crate) const BOUND: Duration = Duration::from_secs(20);
/// How long nothing must happen before it is believed that nothing will.
pub(crate) const QUIET: Duration = Duration::from_millis(1500);
pub(crate) const NS: &str = "default";

/// A cluster with the CRDs, a runtime `plain` and a controller.
pub(crate) struct World {
    pub(crate) cluster: TestCluster,
    pub(crate) manager: Manager,
}

impl World {
    pub(crate) fn new(start: &Start) -> Result<Self> {
        let cluster = TestCluster::take()?;
        cluster.install_crds()?;
        let manager = cluster.manager("manager", start)?;
        let world = Self { cluster, manager };
        world.cluster.create(&runtime(), &a_runtime("plain", &json!({"numNodes": 2})))?;
        Ok(world)
    }

    pub(crate) fn create(&self, name: &str, spec: Value) -> Result<Value> {
        Ok(self.cluster.create(&train_job(), &a_job(name, spec))?)
    }

    pub(crate) fn get(&self, resource: &Resource, name: &str) -> Result<Option<Value>> {
        Ok(self.cluster.get(resource, NS, name)?)
    }

    /// Waits for an object that is as wanted; an error shows the last one and the log.
    pub(crate) fn wait(
        &self,
        resource: &Resource,
        name: &str,
        holds: impl Fn(&Value) -> bool,
    ) -> Result<Value> {
        let end = Instant::now() + BOUND;
        loop {
            let found = self.get(resource, name)?;
            match &found {
                Some(object) if holds(object) => return Ok(object.clone()),
                _ if Instant::now() > end => {
                    let seen = found.unwrap_or_default();
                    return Err(format!(
                        "{} {name} is not as wanted: {seen:#}\n{}",
                        resource.kind,
                        self.manager.log()
                    )
                    .into());
                }
                _ => std::thread::sleep(Duration::from_millis(50)),
            }
        }
    }

    pub(crate) fn wait_for_job_set(&self, name: &str) -> Result<Value> {
        self.wait(&job_set(), name, |_| true)
    }

    pub(crate) fn wait_for_condition(&self, name: &str, kind: &str, status: &str) -> Result<Value> {
        self.wait(&train_job(), name, |job| condition(job, kind).is_some_and(|it| it["status"] == status))
    }

    pub(crate) fn patch(&self, name: &str, patch: &Value) -> Result<Value, RequestError> {
        self.cluster.patch(&train_job(), NS, name, patch)
    }

    /// What the JobSet controller would say.
    pub(crate) fn job_set_status(&self, name: &str, status: &Value) -> Result {
        self.cluster.patch_status(&job_set(), NS, name, status)?;
        Ok(())
    }
}
