//! The permissions that Juju gives the pods of an application.

use std::path::PathBuf;

use serde_json::{Value, json};
use trainerd_plan::object::Resource;

use super::MODEL;
use crate::{Error, TestCluster};

const GROUP: &str = "rbac.authorization.k8s.io";

/// The rules of an application in its namespace (`Role`) and in the cluster.
fn rules(trusted: bool, kind: &str) -> Value {
    if !trusted {
        // Only its own namespace and pods.
        return json!([
            {"apiGroups": [""], "resources": ["pods", "services"], "verbs": ["get", "list", "patch"]},
            {"apiGroups": [""], "resources": ["pods/exec"], "verbs": ["create"]},
            {"apiGroups": [""], "resources": ["namespaces"], "verbs": ["get", "list"]},
        ]);
    }
    let mut rules = vec![json!({"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]})];
    if kind == "ClusterRole" {
        rules.push(json!({"nonResourceURLs": ["*"], "verbs": ["*"]}));
    }
    rules.into()
}

/// A kubeconfig of the application's service account.
pub(super) fn kubeconfig(cluster: &TestCluster, application: &str) -> Result<PathBuf, Error> {
    cluster.kubeconfig_with(&cluster.token(MODEL, application)?)
}

/// Creates the application's service account, which is trusted at first.
pub(super) fn create_account(cluster: &TestCluster, application: &str) -> Result<(), Error> {
    let name = cluster_name(application);
    let meta = json!({"name": application, "namespace": MODEL});
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta});
    cluster.create(&kind("", "ServiceAccount", "serviceaccounts", true), &account)?;
    let subjects = json!([{"kind": "ServiceAccount", "name": application, "namespace": MODEL}]);
    for (what, plural, meta, name) in [
        ("Role", "roles", meta, application.to_owned()),
        ("ClusterRole", "clusterroles", json!({"name": name}), name),
    ] {
        let role = json!({"apiVersion": format!("{GROUP}/v1"), "kind": what, "metadata": meta, "rules": rules(true, what)});
        cluster.create(&kind(GROUP, what, plural, what == "Role"), &role)?;
        let bound = format!("{what}Binding");
        let binding = json!({
            "apiVersion": format!("{GROUP}/v1"), "kind": bound, "metadata": meta, "subjects": subjects,
            "roleRef": {"apiGroup": GROUP, "kind": what, "name": name},
        });
        cluster.create(
            &kind(GROUP, &bound, &format!("{}bindings", what.to_lowercase()), what == "Role"),
            &binding,
        )?;
    }
    Ok(())
}

/// Deletes the application's cluster-wide roles, which are not deleted with the namespace.
pub(super) fn delete_cluster_roles(cluster: &TestCluster, application: &str) -> Result<(), Error> {
    let name = cluster_name(application);
    for (what, plural) in [("ClusterRoleBinding", "clusterrolebindings"), ("ClusterRole", "clusterroles")] {
        cluster.delete(&kind(GROUP, what, plural, false), "", &name)?;
    }
    Ok(())
}

/// Sets the permissions as `juju trust` does, or resets them.
pub(super) fn set(cluster: &TestCluster, application: &str, trusted: bool) -> Result<(), Error> {
    for (what, plural, name) in [
        ("Role", "roles", application.to_owned()),
        ("ClusterRole", "clusterroles", cluster_name(application)),
    ] {
        let resource = kind(GROUP, what, plural, what == "Role");
        let namespace = resource.namespaced.then_some(MODEL);
        let patch = json!({"rules": rules(trusted, what)});
        cluster.block_on(cluster.api().patch_merge(
            &resource,
            namespace,
            &name,
            &patch,
            trainerd_cluster::CreateParams::default(),
        ))?;
    }
    Ok(())
}

fn cluster_name(application: &str) -> String {
    format!("{MODEL}-{application}")
}

fn kind(group: &str, kind: &str, plural: &str, namespaced: bool) -> Resource {
    let text = str::to_owned;
    Resource { group: text(group), version: text("v1"), kind: text(kind), plural: text(plural), namespaced }
}
