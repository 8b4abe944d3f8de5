//! Whether the pods of a plan's workloads would be let in. Pod security, quotas, LimitRanges and policies judge pods,
//! which a controller makes later: nobody says so when its Deployment is applied.

use serde_json::{Value, json};
use trainerd_causes::one_line;
use trainerd_cluster::permissions::{self, Rule};
use trainerd_cluster::{CreateParams, RequestError, builtin};
use trainerd_plan::object::ObjectKey;
use trainerd_plan::observed::Observed;
use trainerd_plan::plan::Step;

use crate::engine::Engine;
use crate::error::EngineError;
use crate::prepared::Prepared;

/// What happened to the dry-run creates of pods.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodsChecked {
    /// The workloads whose pods would be let in.
    pub admitted: Vec<ObjectKey>,
    /// Those whose pods would not, and why.
    pub refused: Vec<(ObjectKey, String)>,
    /// Why nothing could be asked.
    pub unasked: Option<String>,
}

impl Engine {
    /// Asks by dry-run creates whether a pod of each workload that a plan makes or changes would be let in. Each is
    /// asked by itself: that a quota has room for one does not mean that it has room for all.
    ///
    /// # Errors
    /// [`EngineError::Request`] where the API server does not answer.
    pub async fn check_pods(&self, prepared: &Prepared) -> Result<PodsChecked, EngineError> {
        let mut checked = PodsChecked::default();
        let pods = prepared.plan.steps.iter().filter(|step| step.verb.writes());
        let pods: Vec<(&ObjectKey, Value)> =
            pods.filter_map(|step| Some((&step.object, pod(step, &prepared.observed)?))).collect();
        let namespace = &self.installation().namespace;
        if pods.is_empty() {
            return Ok(checked);
        }
        let create = Rule {
            verb: "create".to_owned(),
            group: String::new(),
            resource: builtin::pod().plural,
            namespace: Some(namespace.clone()),
            name: None,
        };
        let missing = permissions::missing(&self.cluster, std::slice::from_ref(&create)).await;
        if !missing.map_err(EngineError::request("check", "permissions"))?.is_empty() {
            checked.unasked = Some(format!("the permission to {create} is missing"));
            return Ok(checked);
        }
        let dry_run = CreateParams { dry_run: true, ..CreateParams::default() };
        for (workload, pod) in pods {
            match self.cluster.create(&builtin::pod(), &pod, dry_run).await {
                Ok(_) => checked.admitted.push(workload.clone()),
                Err(RequestError::NotFound { .. }) => {
                    checked.unasked = Some(format!("namespace {namespace} does not exist yet"));
                    break;
                }
                Err(error) if error.retry().is_some() => {
                    return Err(EngineError::request("check", "the pods of the workloads")(error));
                }
                Err(error) => checked.refused.push((workload.clone(), one_line(&error))),
            }
        }
        Ok(checked)
    }
}

/// A pod as the controller of a workload would make it; `None` for what makes none.
fn pod(step: &Step, observed: &Observed) -> Option<Value> {
    let spec = step.manifest.as_ref()?.get("spec")?;
    if spec["replicas"] == 0 || step.resource.group != "apps" {
        return None;
    }
    let template = spec.get("template")?;
    let mut pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": template.get("metadata").cloned().unwrap_or_default(),
        "spec": template.get("spec")?,
    });
    pod["metadata"]["generateName"] = json!(format!("{}-", step.object.name));
    pod["metadata"]["namespace"] = json!(step.object.namespace);
    // An account that the same plan makes does not exist yet, and would be what is refused.
    let account = pod["spec"]["serviceAccountName"].as_str().map(str::to_owned);
    let exists = |name: &String| {
        observed.objects.keys().any(|key| {
            key.kind == "ServiceAccount" && key.name == *name && key.namespace == step.object.namespace
        })
    };
    if account.is_some_and(|name| !exists(&name))
        && let Some(spec) = pod["spec"].as_object_mut()
    {
        spec.remove("serviceAccountName");
    }
    Some(pod)
}
