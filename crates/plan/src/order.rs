//! What must be ready before what is written: edges by object, derived from kinds and references.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::desired::{Desired, DesiredObject};
use crate::object::{ObjectKey, Resource};

/// For every object of a [`Desired`], in its order, the indexes of the objects that must be ready first.
pub type Edges = Vec<BTreeSet<usize>>;

/// Objects that wait for one another in a circle, each waiting for the next.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("objects wait for one another: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join(" -> "))]
pub struct Cycle(pub Vec<ObjectKey>);

/// What an object is to the order of a plan; the order of deletion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ObjectClass {
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

/// The class of an object, by its kind.
pub fn object_class(key: &ObjectKey) -> ObjectClass {
    match (key.group.as_str(), key.kind.as_str()) {
        ("", "Namespace") => ObjectClass::Namespace,
        ("apiextensions.k8s.io", "CustomResourceDefinition") => ObjectClass::Crd,
        ("apps", "Deployment" | "StatefulSet" | "DaemonSet") | ("batch", "Job" | "CronJob") => {
            ObjectClass::Workload
        }
        ("admissionregistration.k8s.io", _) => ObjectClass::Webhook,
        (group, _) if is_builtin_group(group) => ObjectClass::Support,
        _ => ObjectClass::Custom,
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
    let index = Index::new(&nodes);
    let before = |node: (usize, &Node<'_>)| {
        let mut before = index.before(node.1, &nodes, desired);
        before.remove(&node.0);
        before.extend(node.1.object.after.iter().filter_map(|key| index.by_key.get(key)));
        before
    };
    let edges: Edges = nodes.iter().enumerate().map(before).collect();
    match cycle(&edges) {
        None => Ok(edges),
        Some(path) => Err(Cycle(path.into_iter().map(|i| nodes[i].key.clone()).collect())),
    }
}

struct Node<'a> {
    object: &'a DesiredObject,
    key: ObjectKey,
    class: ObjectClass,
}

impl<'a> Node<'a> {
    fn new(object: &'a DesiredObject) -> Self {
        let key = object.key();
        Self { object, class: object_class(&key), key }
    }
}

/// The nodes by what others wait for them by: looking every pair over takes seconds with thousands of objects.
struct Index<'n> {
    by_key: BTreeMap<&'n ObjectKey, usize>,
    by_part: BTreeMap<(ObjectClass, &'n str), Vec<usize>>,
    crds: Vec<usize>,
    /// Webhook configurations with the (group, plural) pairs that they admit.
    webhooks: Vec<(usize, Vec<(String, String)>)>,
}

impl<'n> Index<'n> {
    fn new(nodes: &'n [Node<'_>]) -> Self {
        let mut index = Self {
            by_key: BTreeMap::new(),
            by_part: BTreeMap::new(),
            crds: Vec::new(),
            webhooks: Vec::new(),
        };
        for (i, node) in nodes.iter().enumerate() {
            index.by_key.insert(&node.key, i);
            index.by_part.entry((node.class, &node.object.component)).or_default().push(i);
            match node.class {
                ObjectClass::Crd => index.crds.push(i),
                ObjectClass::Webhook => index.webhooks.push((i, admitted(&node.object.manifest))),
                _ => {}
            }
        }
        index
    }

    /// What must be ready before `later` is written, itself perhaps among it.
    fn before(&self, later: &Node<'_>, nodes: &[Node<'_>], desired: &Desired) -> BTreeSet<usize> {
        let own = later.object.component.as_str();
        let needs =
            || desired.components.get(own).into_iter().flat_map(|c| c.needs.iter().map(String::as_str));
        let part = |class, component| self.by_part.get(&(class, component)).into_iter().flatten().copied();
        let mut before: BTreeSet<usize> = self.namespace_of(&later.key).into_iter().collect();
        match later.class {
            ObjectClass::Workload => {
                before.extend(part(ObjectClass::Support, own));
                before.extend(
                    [own].into_iter().chain(needs()).flat_map(|component| part(ObjectClass::Crd, component)),
                );
            }
            ObjectClass::Webhook => before.extend(part(ObjectClass::Workload, own)),
            ObjectClass::Custom => {
                let defining = |crd: &usize| defines(&nodes[*crd].object.manifest, &later.key);
                before.extend(self.crds.iter().copied().filter(defining));
                before.extend([own].into_iter().chain(needs()).flat_map(|c| part(ObjectClass::Workload, c)));
                before.extend(needs().flat_map(|component| part(ObjectClass::Webhook, component)));
                let admitting =
                    self.webhooks.iter().filter(|(_, pairs)| admits(pairs, &later.object.resource));
                before.extend(admitting.map(|(webhook, _)| *webhook));
            }
            ObjectClass::Support => before.extend(self.role_of(later)),
            ObjectClass::Crd | ObjectClass::Namespace => {}
        }
        before
    }

    fn namespace_of(&self, key: &ObjectKey) -> Option<usize> {
        let name = key.namespace.clone()?;
        let namespace =
            ObjectKey { group: String::new(), kind: "Namespace".to_owned(), namespace: None, name };
        self.by_key.get(&namespace).copied()
    }

    /// The role that a binding binds.
    fn role_of(&self, binding: &Node<'_>) -> Option<usize> {
        if !matches!(binding.key.kind.as_str(), "RoleBinding" | "ClusterRoleBinding") {
            return None;
        }
        let reference = &binding.object.manifest["roleRef"];
        let kind = reference["kind"].as_str()?;
        let role = ObjectKey {
            group: "rbac.authorization.k8s.io".to_owned(),
            kind: kind.to_owned(),
            namespace: binding.key.namespace.clone().filter(|_| kind == "Role"),
            name: reference["name"].as_str()?.to_owned(),
        };
        self.by_key.get(&role).copied()
    }
}

fn admits(pairs: &[(String, String)], resource: &Resource) -> bool {
    pairs.iter().any(|(group, plural)| {
        (group == "*" || *group == resource.group) && (plural == "*" || *plural == resource.plural)
    })
}

/// Whether a CRD defines the kind of an object.
pub fn defines(crd: &Value, key: &ObjectKey) -> bool {
    let spec = &crd["spec"];
    spec["group"].as_str() == Some(&key.group) && spec["names"]["kind"].as_str() == Some(&key.kind)
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
