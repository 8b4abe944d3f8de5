//! What a removal leaves at the very end: the namespace, if trainerd made it and nothing else is in it.

use std::collections::BTreeSet;

use futures::stream::{self, StreamExt, TryStreamExt};
use serde_json::Value;
use trainerd_causes::one_line;
use trainerd_cluster::lease::Fence;
use trainerd_cluster::{DeleteParams, ListParams, RequestError, builtin};
use trainerd_plan::applyset;
use trainerd_plan::object::Resource;
use trainerd_plan::observed::true_conditions;

use super::NamespaceLeft;
use crate::engine::Engine;
use crate::error::EngineError;
use crate::observe::{self, IN_FLIGHT};
use crate::retry::{fenced, patiently};

/// How often the namespace is looked at again because somebody changed it between the look and the delete.
const LOOKS: usize = 5;

/// Kinds that Kubernetes and controllers keep for themselves and do not take back.
const TRACES: [&str; 5] = ["Event", "Lease", "EndpointSlice", "Endpoints", "PodMetrics"];

impl Engine {
    /// For an installation without a record: whether its namespace is on its way out, and everything left of
    /// it with it.
    ///
    /// # Errors
    /// [`EngineError::NotInstalled`] where nothing is left of it: no namespace of ours, no lease.
    pub(super) async fn namespace_is_going(&self) -> Result<bool, EngineError> {
        let name = &self.installation().namespace;
        let namespace = observe::namespace(&self.cluster, name).await;
        let namespace = namespace.map_err(EngineError::request("read", format!("namespace {name}")))?;
        let Some(namespace) = namespace else { return Err(self.not_installed()) };
        let lease = applyset::parent_name(self.installation());
        let kind = builtin::lease();
        let lease = patiently(async || self.cluster.get_opt(&kind, Some(name), &lease).await).await;
        let lease = lease.map_err(EngineError::request("read", "the installation's lease"))?;
        if !self.created(&namespace) && lease.is_none() {
            return Err(self.not_installed());
        }
        Ok(!namespace["metadata"]["deletionTimestamp"].is_null())
    }

    /// What happened to the namespace, as far as it can be seen now; `deleted`: its deletion was accepted.
    pub(super) async fn namespace_left(&self, deleted: bool) -> Result<NamespaceLeft, EngineError> {
        if !deleted {
            return Ok(NamespaceLeft::Stays);
        }
        let name = &self.installation().namespace;
        let found = observe::namespace(&self.cluster, name).await;
        let found = found.map_err(EngineError::request("read", format!("namespace {name}")))?;
        Ok(match found {
            None => NamespaceLeft::Gone,
            Some(value) => NamespaceLeft::Going { conditions: true_conditions(&value) },
        })
    }

    /// Deletes what people edit, as far as trainerd made it: what somebody else made is his.
    pub(super) async fn remove_edited(&self, fence: &Fence) -> Result<(), EngineError> {
        for key in &self.store.edited {
            // ConfigMaps are all there is of the kind.
            let kind = builtin::config_map();
            let namespace = key.namespace.as_deref();
            let found = patiently(async || self.cluster.get_opt(&kind, namespace, &key.name).await).await;
            let found = found.map_err(EngineError::request("read", key))?;
            let Some(found) = found.filter(|found| self.made(found)) else { continue };
            let params = DeleteParams {
                uid: found["metadata"]["uid"].as_str().map(str::to_owned),
                ..DeleteParams::default()
            };
            let delete = async || self.cluster.delete(&kind, namespace, &key.name, &params).await;
            match fenced(Some(fence), delete).await {
                Ok(deleted) => drop(deleted?),
                Err(error) if error.is_absent() => {}
                // Another one is there now, which is not ours.
                Err(RequestError::Conflict { .. }) => {}
                Err(error) => return Err(EngineError::request("delete", key)(error)),
            }
        }
        Ok(())
    }

    /// Whether trainerd made an object that people edit: it says so, or an earlier version applied it.
    pub fn made(&self, found: &Value) -> bool {
        self.created(found)
            || applyset::label(found, applyset::PART_OF) == Some(&applyset::id(self.installation()))
    }

    /// Whether trainerd made that namespace for this installation.
    fn created(&self, namespace: &Value) -> bool {
        namespace["metadata"]["annotations"][applyset::CREATED_FOR].as_str()
            == Some(&self.installation().name)
    }

    /// Deletes the namespace if trainerd made it and nothing else is in it; says whether it goes.
    ///
    /// It is deleted only as it was when it was found to be empty. Who may not look into it, or not delete it,
    /// leaves it there.
    pub(super) async fn remove_namespace(&self, fence: &Fence) -> Result<bool, EngineError> {
        let namespace = &self.installation().namespace;
        let kind = builtin::namespace();
        let mut looks = 0;
        loop {
            looks += 1;
            let found = observe::namespace(&self.cluster, namespace).await;
            let found = found.map_err(EngineError::request("read", format!("namespace {namespace}")))?;
            let Some(found) = found.filter(|found| self.created(found)) else { return Ok(false) };
            if !found["metadata"]["deletionTimestamp"].is_null() {
                return Ok(true);
            }
            if let Some(other) = self.anything_else().await? {
                tracing::info!(%namespace, %other, "the namespace stays: it is not empty");
                return Ok(false);
            }
            let params = DeleteParams {
                uid: found["metadata"]["uid"].as_str().map(str::to_owned),
                resource_version: found["metadata"]["resourceVersion"].as_str().map(str::to_owned),
                ..DeleteParams::default()
            };
            let delete = async || self.cluster.delete(&kind, None, namespace, &params).await;
            return match fenced(Some(fence), delete).await {
                Ok(deleted) => Ok(deleted.map(|_| true)?),
                Err(error) if error.is_absent() => Ok(true),
                Err(RequestError::Conflict { .. }) if looks < LOOKS => continue,
                Err(error @ RequestError::Forbidden { .. }) => {
                    tracing::warn!(%namespace, error = %one_line(&error), "the namespace stays");
                    Ok(false)
                }
                Err(error) => Err(EngineError::request("delete", format!("namespace {namespace}"))(error)),
            };
        }
    }

    /// Something in the namespace that is neither Kubernetes' own nor on its way out.
    async fn anything_else(&self) -> Result<Option<String>, EngineError> {
        let resources = patiently(async || self.cluster.namespaced_resources().await).await;
        let resources =
            resources.map_err(EngineError::request("list", "the kinds that the API server serves"))?;
        let params = &ListParams {
            namespace: Some(self.installation().namespace.clone()),
            metadata_only: true,
            ..ListParams::default()
        };
        let listed = resources.iter().filter(|resource| resource.kind == "Lease" || !trace(&resource.kind));
        let lists: Result<Vec<Vec<Value>>, Unlisted> = stream::iter(listed)
            .map(|resource| async move {
                match patiently(async || self.cluster.list(resource, params).await).await {
                    Ok(list) => Ok(list.items),
                    Err(error) if error.is_absent() => Ok(Vec::new()),
                    Err(RequestError::Forbidden { .. }) => Err(Unlisted::Forbidden(resource.plural.clone())),
                    Err(error) => {
                        Err(Unlisted::Failed(EngineError::request("list", &resource.plural)(error)))
                    }
                }
            })
            .buffer_unordered(IN_FLIGHT)
            .try_collect()
            .await;
        match lists {
            Ok(lists) => {
                let items: Vec<Value> = lists.into_iter().flatten().collect();
                Ok(staying(&items, &resources, &applyset::parent_name(self.installation())))
            }
            Err(Unlisted::Forbidden(plural)) => Ok(Some(format!("{plural}, which may not be listed"))),
            Err(Unlisted::Failed(error)) => Err(error),
        }
    }
}

/// Why a kind was not listed.
enum Unlisted {
    Forbidden(String),
    Failed(EngineError),
}

fn trace(kind: &str) -> bool {
    TRACES.contains(&kind)
}

/// The first object, by kind and name, that holds the namespace.
///
/// What is being deleted does not, nor what Kubernetes makes in every namespace, nor what the garbage collector
/// takes: an object all of whose owners are going or gone. An owner that is not among `items` is gone if its
/// kind lives in a namespace, for owners are in the namespace of what they own; of one without a namespace it
/// is not known, so it counts as alive. `lease` is the name of our own; another installation's holds.
fn staying(items: &[Value], namespaced: &[Resource], lease: &str) -> Option<String> {
    let uid = |value: &Value| value["uid"].as_str().unwrap_or_default().to_owned();
    let present: BTreeSet<String> = items.iter().map(|item| uid(&item["metadata"])).collect();
    let mut going: BTreeSet<String> = items
        .iter()
        .filter(|item| !item["metadata"]["deletionTimestamp"].is_null())
        .map(|item| uid(&item["metadata"]))
        .collect();
    let lives_here = |owner: &Value| {
        let group = owner["apiVersion"].as_str().and_then(|text| text.split_once('/')).map_or("", |(g, _)| g);
        namespaced.iter().any(|known| known.group == group && owner["kind"].as_str() == Some(&known.kind))
    };
    loop {
        let orphaned = |item: &&Value| {
            let owners = item["metadata"]["ownerReferences"].as_array().map_or(&[][..], Vec::as_slice);
            let lost = |owner: &Value| {
                going.contains(&uid(owner)) || (!present.contains(&uid(owner)) && lives_here(owner))
            };
            !owners.is_empty() && owners.iter().all(lost)
        };
        let more: Vec<String> = items
            .iter()
            .filter(orphaned)
            .map(|item| uid(&item["metadata"]))
            .filter(|uid| !going.contains(uid))
            .collect();
        if more.is_empty() {
            break;
        }
        going.extend(more);
    }
    let holds = |item: &&Value| {
        let name = item["metadata"]["name"].as_str().unwrap_or_default();
        let kind = item["kind"].as_str().unwrap_or_default();
        let passing = match (kind, name) {
            ("ServiceAccount", "default") | ("ConfigMap", "kube-root-ca.crt") => true,
            ("Lease", name) => name == lease || !name.starts_with("trainerd-"),
            (kind, _) => trace(kind),
        };
        !passing && !going.contains(&uid(&item["metadata"]))
    };
    let name = |item: &Value| {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        format!("{} {}", text(&item["kind"]), text(&item["metadata"]["name"]))
    };
    items.iter().filter(holds).map(name).min()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(kind: &str, name: &str) -> Value {
        json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "uid": format!("{kind}/{name}")}})
    }

    fn owned(kind: &str, name: &str, owners: &[(&str, &str)]) -> Value {
        let mut object = object(kind, name);
        let reference = |(kind, name): &(&str, &str)| json!({"apiVersion": "v1", "kind": kind, "name": name, "uid": format!("{kind}/{name}")});
        object["metadata"]["ownerReferences"] = owners.iter().map(reference).collect();
        object
    }

    fn going(mut object: Value) -> Value {
        object["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        object
    }

    #[test]
    fn only_garbage_collected_objects_leave_the_namespace_empty() {
        let resource = |kind: &str| Resource {
            group: String::new(),
            version: "v1".into(),
            kind: kind.into(),
            plural: kind.to_lowercase(),
            namespaced: true,
        };
        let namespaced: Vec<Resource> = ["Pod", "ReplicaSet", "Deployment", "Lease", "Secret"]
            .iter()
            .map(|kind| resource(kind))
            .collect();
        let cases: Vec<(&str, Vec<Value>, Option<&str>)> = vec![
            ("nothing", vec![], None),
            (
                "what every namespace has",
                vec![
                    object("ServiceAccount", "default"),
                    object("ConfigMap", "kube-root-ca.crt"),
                    object("Event", "e"),
                    object("Lease", "trainerd-mine"),
                    object("Lease", "leader"),
                ],
                None,
            ),
            ("somebody's Secret", vec![object("Secret", "s")], Some("Secret s")),
            (
                "another installation's lease",
                vec![object("Lease", "trainerd-other")],
                Some("Lease trainerd-other"),
            ),
            ("a Pod that ends", vec![going(object("Pod", "p"))], None),
            (
                "the Pods of a Deployment that is gone",
                vec![
                    owned("ReplicaSet", "r", &[("Deployment", "d")]),
                    owned("Pod", "p", &[("ReplicaSet", "r")]),
                ],
                None,
            ),
            (
                "the Pods of a Deployment that lives",
                vec![
                    owned("Pod", "p", &[("ReplicaSet", "r")]),
                    owned("ReplicaSet", "r", &[("Deployment", "d")]),
                    object("Deployment", "d"),
                ],
                Some("Deployment d"),
            ),
            (
                "two owners, one of which lives",
                vec![owned("Pod", "p", &[("ReplicaSet", "gone"), ("Secret", "s")]), object("Secret", "s")],
                Some("Pod p"),
            ),
            ("an owner without a namespace", vec![owned("Pod", "p", &[("Node", "n")])], Some("Pod p")),
            (
                "owned by what is being deleted",
                vec![going(object("Deployment", "d")), owned("Secret", "s", &[("Deployment", "d")])],
                None,
            ),
        ];
        for (what, items, expected) in cases {
            assert_eq!(staying(&items, &namespaced, "trainerd-mine").as_deref(), expected, "{what}");
        }
    }
}
