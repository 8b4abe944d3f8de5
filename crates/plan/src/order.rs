//! What must be ready before what is written: edges by object, derived from kinds and references.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::desired::{Desired, DesiredObject};
use crate::object::ObjectKey;

/// For every object of a [`Desired`], in its order, the indexes of the objects that must be ready first.
pub type Edges = Vec<BTreeSet<usize>>;

/// Objects that wait for one another in a circle, each waiting for the next.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("objects wait for one another: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join(" -> "))]
pub struct Cycle(pub Vec<ObjectKey>);

/// The part an object plays in the order of things.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Calls out before a write is admitted.
    Webhook,
    /// An instance of a kind that a CRD of ours defines.
    Custom,
    /// Runs pods.
    Workload,
    /// What a workload needs to start: accounts, permissions, configuration, Services.
    Support,
    /// Defines a kind.
    Crd,
    /// Holds namespaced objects.
    Namespace,
}

/// The role of an object by its kind.
pub fn role(key: &ObjectKey) -> Role {
    match (key.group.as_str(), key.kind.as_str()) {
        ("", "Namespace") => Role::Namespace,
        ("apiextensions.k8s.io", "CustomResourceDefinition") => Role::Crd,
        ("apps", "Deployment" | "StatefulSet" | "DaemonSet") | ("batch", "Job" | "CronJob") => Role::Workload,
        ("admissionregistration.k8s.io", _) => Role::Webhook,
        (group, _) if is_builtin_group(group) => Role::Support,
        _ => Role::Custom,
    }
}

/// Kubernetes' own groups: one word, or a name under k8s.io that is not a community project's x-k8s.io.
fn is_builtin_group(group: &str) -> bool {
    !group.contains('.') || (group.ends_with(".k8s.io") && !group.ends_with(".x-k8s.io"))
}

/// The edges of a desired state.
///
/// namespace → its contents; CRD → its objects, and the workloads of its component and of those that need
/// it; accounts, permissions, configuration and Services → the component's workloads; role → its
/// binding; workload → the webhook configurations that call it → the objects that they admit; the
/// workloads and webhooks of a component → the custom objects of those that need it; and whatever
/// [`DesiredObject::after`] adds.
pub fn edges(desired: &Desired) -> Result<Edges, Cycle> {
    let nodes: Vec<Node<'_>> = desired.objects.iter().map(Node::new).collect();
    let by_key: BTreeMap<&ObjectKey, usize> = nodes.iter().enumerate().map(|(i, n)| (&n.key, i)).collect();
    let mut edges: Edges = vec![BTreeSet::new(); nodes.len()];
    for (i, node) in nodes.iter().enumerate() {
        for (j, other) in nodes.iter().enumerate() {
            if i != j && other.precedes(node, desired) {
                edges[i].insert(j);
            }
        }
        edges[i].extend(node.object.after.iter().filter_map(|key| by_key.get(key).copied()));
    }
    match cycle(&edges) {
        None => Ok(edges),
        Some(path) => Err(Cycle(path.into_iter().map(|i| nodes[i].key.clone()).collect())),
    }
}

struct Node<'a> {
    object: &'a DesiredObject,
    key: ObjectKey,
    role: Role,
    /// For a webhook configuration: the (group, plural) pairs that it admits.
    admits: Vec<(String, String)>,
}

impl<'a> Node<'a> {
    fn new(object: &'a DesiredObject) -> Self {
        let key = object.key();
        let role = role(&key);
        let admits = if role == Role::Webhook { admitted(&object.manifest) } else { Vec::new() };
        Self { object, key, role, admits }
    }

    /// Whether `self` must be ready before `later` is written.
    fn precedes(&self, later: &Node<'_>, desired: &Desired) -> bool {
        let same = self.object.component == later.object.component;
        let needed = || {
            desired
                .components
                .get(&later.object.component)
                .is_some_and(|c| c.needs.contains(&self.object.component))
        };
        match (self.role, later.role) {
            (Role::Namespace, _) => later.key.namespace.as_deref() == Some(&self.key.name),
            (Role::Crd, Role::Custom) => self.defines(later),
            (Role::Crd, Role::Workload) | (Role::Workload, Role::Custom) => same || needed(),
            (Role::Support, Role::Workload) | (Role::Workload, Role::Webhook) => same,
            (Role::Support, Role::Support) => binds(&later.object.manifest, &later.key, &self.key),
            (Role::Webhook, Role::Custom) => self.admits(later) || needed(),
            _ => false,
        }
    }

    fn defines(&self, later: &Node<'_>) -> bool {
        let spec = &self.object.manifest["spec"];
        spec["group"].as_str() == Some(&later.key.group)
            && spec["names"]["kind"].as_str() == Some(&later.key.kind)
    }

    fn admits(&self, later: &Node<'_>) -> bool {
        let resource = &later.object.resource;
        self.admits.iter().any(|(group, plural)| {
            (group == "*" || *group == resource.group) && (plural == "*" || *plural == resource.plural)
        })
    }
}

/// Every (group, plural) that the rules of a webhook configuration name, subresources left out.
pub fn admitted(configuration: &Value) -> Vec<(String, String)> {
    let mut pairs = Vec::new();
    for webhook in items(&configuration["webhooks"]) {
        for rule in items(&webhook["rules"]) {
            for group in strings(&rule["apiGroups"]) {
                for plural in strings(&rule["resources"]).filter(|plural| !plural.contains('/')) {
                    pairs.push((group.to_owned(), plural.to_owned()));
                }
            }
        }
    }
    pairs
}

fn binds(binding: &Value, key: &ObjectKey, role: &ObjectKey) -> bool {
    matches!(key.kind.as_str(), "RoleBinding" | "ClusterRoleBinding")
        && role.group == "rbac.authorization.k8s.io"
        && binding["roleRef"]["kind"].as_str() == Some(&role.kind)
        && binding["roleRef"]["name"].as_str() == Some(&role.name)
        && (role.namespace.is_none() || role.namespace == key.namespace)
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn strings(value: &Value) -> impl Iterator<Item = &str> {
    items(value).filter_map(Value::as_str)
}

/// The first circle found, as the path that leads back to its first node.
fn cycle(edges: &Edges) -> Option<Vec<usize>> {
    #[derive(Clone, Copy, PartialEq)]
    enum Mark {
        New,
        Open,
        Done,
    }
    fn visit(node: usize, edges: &Edges, marks: &mut [Mark], path: &mut Vec<usize>) -> Option<Vec<usize>> {
        marks[node] = Mark::Open;
        path.push(node);
        for &next in &edges[node] {
            match marks[next] {
                Mark::Done => {}
                Mark::Open => {
                    let start = path.iter().position(|&n| n == next).unwrap_or_default();
                    let mut circle = path[start..].to_vec();
                    circle.push(next);
                    return Some(circle);
                }
                Mark::New => {
                    if let Some(found) = visit(next, edges, marks, path) {
                        return Some(found);
                    }
                }
            }
        }
        path.pop();
        marks[node] = Mark::Done;
        None
    }
    let mut marks = vec![Mark::New; edges.len()];
    (0..edges.len()).find_map(|node| {
        if marks[node] == Mark::New { visit(node, edges, &mut marks, &mut Vec::new()) } else { None }
    })
}
