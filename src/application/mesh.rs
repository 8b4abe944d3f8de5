//! The service mesh that the charm's application is in: labels that put its own pods into it, and policies that let
//! callers reach the controllers.
//!
//! None of it belongs to a revision: it comes and goes with a relation, not with options. A ConfigMap remembers the
//! labels, and that there is something to take away; it is written first and deleted last.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Map, Value, json};
use trainerd_cluster::{ApplyParams, Cluster, CreateParams, DeleteParams, RequestError, builtin};
use trainerd_juju::desired::Mesh;
use trainerd_plan::desired::Installation;
use trainerd_plan::object::Resource;

use super::ApplicationObjects;
use crate::options::declared::OptionsSpec;

/// The controllers that the policies let callers reach, as the label `app.kubernetes.io/name` calls them.
const CONTROLLERS: [&str; 3] = ["manager", "lws", "jobset"];

/// The label by which the policies are known as the charm's own.
const SCOPE: &str = "kubernetes-resource-handler-scope";

/// Why the mesh is not as it should be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MeshError {
    /// The mesh's kinds are not served (yet).
    #[error("the API server does not serve AuthorizationPolicies of security.istio.io/v1")]
    NotServed,
    /// A request failed.
    #[error("failed to {what}")]
    Request {
        /// What was asked for.
        what: String,
        /// The answer.
        source: RequestError,
    },
}

fn failed(what: String) -> impl FnOnce(RequestError) -> MeshError {
    |source| MeshError::Request { what, source }
}

/// The objects of one application.
pub(crate) struct MeshObjects {
    pub(crate) cluster: Cluster,
    pub(crate) installation: Installation,
}

impl ApplicationObjects for MeshObjects {
    type Spec = Mesh;
    type Error = MeshError;
    const WHAT: &'static str = "the service mesh is";
    /// Five requests each time.
    const LOOK: Option<Duration> = Some(Duration::from_mins(10));

    fn spec(spec: &OptionsSpec) -> Option<Mesh> {
        spec.mesh.clone()
    }

    async fn ensure(&self, mesh: &Mesh) -> Result<(), MeshError> {
        self.join(mesh).await
    }

    async fn remove(&self) -> Result<(), MeshError> {
        self.leave().await
    }
}

impl MeshObjects {
    fn name(&self) -> &str {
        &self.installation.name
    }

    fn namespace(&self) -> &str {
        &self.installation.namespace
    }

    fn record_name(&self) -> String {
        format!("juju-service-mesh-{}-labels", self.name())
    }

    fn scope(&self) -> String {
        format!("{}-allow-all", self.name())
    }

    /// Puts the application into the mesh.
    async fn join(&self, mesh: &Mesh) -> Result<(), MeshError> {
        let served = self.cluster.serves(&policy_kind()).await;
        if !served.map_err(failed("look for the kinds of the mesh".to_owned()))? {
            return Err(MeshError::NotServed);
        }
        let known = self.record().await?.map(|record| labels_of(&record)).unwrap_or_default();
        let all: BTreeMap<String, String> = known.clone().into_iter().chain(mesh.labels.clone()).collect();
        if all != known {
            self.remember(&all).await?;
        }
        for controller in CONTROLLERS {
            self.allow(&self.policy(controller)).await?;
        }
        // Those that the mesh no longer names go.
        let gone = known.keys().filter(|label| !mesh.labels.contains_key(*label)).cloned().collect();
        self.label(&mesh.labels, &gone).await?;
        if all != mesh.labels {
            self.remember(&mesh.labels).await?;
        }
        Ok(())
    }

    /// Takes away what was made for the mesh, where anything was.
    async fn leave(&self) -> Result<(), MeshError> {
        let Some(record) = self.record().await? else { return Ok(()) };
        for controller in CONTROLLERS {
            let name = policy_name(self.name(), controller);
            let what = || format!("delete AuthorizationPolicy {name}");
            let policy = self.cluster.get_opt(&policy_kind(), Some(self.namespace()), &name).await;
            let Some(policy) = policy.map_err(failed(what()))? else { continue };
            if policy["metadata"]["labels"][SCOPE] == self.scope() {
                self.delete(&policy_kind(), &policy).await.or_else(absent).map_err(failed(what()))?;
            }
        }
        let gone = labels_of(&record).into_keys().collect();
        self.label(&BTreeMap::new(), &gone).await?;
        let what = format!("delete ConfigMap {}", self.record_name());
        self.delete(&builtin::config_map(), &record).await.or_else(absent).map_err(failed(what))
    }

    async fn record(&self) -> Result<Option<Value>, MeshError> {
        let name = self.record_name();
        let record = self.cluster.get_opt(&builtin::config_map(), Some(self.namespace()), &name).await;
        record.map_err(failed(format!("read ConfigMap {name}")))
    }

    async fn remember(&self, labels: &BTreeMap<String, String>) -> Result<(), MeshError> {
        let name = self.record_name();
        let manifest = json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": name, "namespace": self.namespace()},
            "data": {"labels": json!(labels).to_string()},
        });
        self.apply(&builtin::config_map(), &manifest).await
    }

    async fn apply(&self, resource: &Resource, manifest: &Value) -> Result<(), MeshError> {
        let what = format!("apply {} {}", resource.kind, manifest["metadata"]["name"].as_str().unwrap_or(""));
        let params = ApplyParams { force: true, ..ApplyParams::default() };
        self.cluster.apply(resource, manifest, &params).await.map(drop).map_err(failed(what))
    }

    fn policy(&self, controller: &str) -> Value {
        let (app, model) = (self.name(), self.namespace());
        json!({
            "apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
            "metadata": {
                "name": policy_name(app, controller),
                "namespace": model,
                "labels": {"app.kubernetes.io/instance": format!("{app}-{model}"), SCOPE: self.scope()},
            },
            "spec": {
                "selector": {"matchLabels": {"app.kubernetes.io/name": format!("{app}-{controller}")}},
                "action": "ALLOW",
                "rules": [{}],
            },
        })
    }

    /// Applies a policy where it is not there as it should be.
    async fn allow(&self, policy: &Value) -> Result<(), MeshError> {
        let name = policy["metadata"]["name"].as_str().unwrap_or_default();
        let live = self.cluster.get_opt(&policy_kind(), Some(self.namespace()), name).await;
        let live = live.map_err(failed(format!("read AuthorizationPolicy {name}")))?.unwrap_or_default();
        let wanted = policy["metadata"]["labels"].as_object().into_iter().flatten();
        let is_labelled =
            wanted.into_iter().all(|(label, value)| live["metadata"]["labels"].get(label) == Some(value));
        if live["spec"] == policy["spec"] && is_labelled {
            return Ok(());
        }
        self.apply(&policy_kind(), policy).await
    }

    /// Sets labels of the application's own pods and Service, and takes others off. Its pods start again where theirs
    /// change, and only then.
    async fn label(
        &self,
        wanted: &BTreeMap<String, String>,
        gone: &BTreeSet<String>,
    ) -> Result<(), MeshError> {
        let places = [
            (builtin::service(), "/metadata/labels"),
            (builtin::stateful_set(), "/spec/template/metadata/labels"),
        ];
        for (resource, place) in places {
            let what = || format!("label {} {}", resource.kind, self.name());
            let live = self.cluster.get_opt(&resource, Some(self.namespace()), self.name()).await;
            // Outside of a pod that Juju made there is neither.
            let Some(live) = live.map_err(failed(what()))? else { continue };
            let changes = changes(live.pointer(place).unwrap_or(&Value::Null), wanted, gone);
            if changes.is_empty() {
                continue;
            }
            let steps = place.split('/').skip(1).collect::<Vec<_>>();
            let patch = steps.iter().rev().fold(Value::Object(changes), |inner, step| json!({*step: inner}));
            let (namespace, name) = (Some(self.namespace()), self.name());
            let params = CreateParams::default();
            self.cluster
                .patch_merge(&resource, namespace, name, &patch, params)
                .await
                .map_err(failed(what()))?;
        }
        Ok(())
    }

    /// Deletes an object as it was read, and no other of its name.
    async fn delete(&self, resource: &Resource, object: &Value) -> Result<(), RequestError> {
        let text = |key: &str| object["metadata"][key].as_str();
        let params = DeleteParams { uid: text("uid").map(str::to_owned), ..DeleteParams::default() };
        let name = text("name").unwrap_or_default();
        self.cluster.delete(resource, Some(self.namespace()), name, &params).await.map(drop)
    }
}

/// What is gone already need not be deleted.
fn absent(error: RequestError) -> Result<(), RequestError> {
    if error.is_absent() { Ok(()) } else { Err(error) }
}

/// The labels that have to change, as a merge patch has them.
fn changes(live: &Value, wanted: &BTreeMap<String, String>, gone: &BTreeSet<String>) -> Map<String, Value> {
    let off =
        gone.iter().filter(|label| live.get(*label).is_some()).map(|label| (label.clone(), Value::Null));
    let on = wanted.iter().filter(|(label, value)| live.get(*label).and_then(Value::as_str) != Some(*value));
    off.chain(on.map(|(label, value)| (label.clone(), value.as_str().into()))).collect()
}

fn labels_of(record: &Value) -> BTreeMap<String, String> {
    let text = record["data"]["labels"].as_str().unwrap_or_default();
    serde_json::from_str(text).unwrap_or_default()
}

fn policy_name(application: &str, controller: &str) -> String {
    format!("{application}-{controller}-allow-all")
}

fn policy_kind() -> Resource {
    Resource::namespaced("security.istio.io", "v1", "AuthorizationPolicy", "authorizationpolicies")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_changed_labels_are_patched_and_only_ours_are_removed() {
        let labels = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
        };
        let gone =
            |names: &[&str]| -> BTreeSet<String> { names.iter().map(|name| (*name).to_owned()).collect() };
        let live = json!({"a": "1", "b": "2", "app": "x"});
        let patch = |wanted: &[(&str, &str)], off: &[&str]| {
            Value::Object(changes(&live, &labels(wanted), &gone(off)))
        };
        assert_eq!(patch(&[("a", "1")], &[]), json!({}));
        assert_eq!(patch(&[("a", "2")], &["b", "c"]), json!({"a": "2", "b": null}));
        assert_eq!(
            Value::Object(changes(&Value::Null, &labels(&[("a", "1")]), &gone(&["b"]))),
            json!({"a": "1"})
        );
    }
}
