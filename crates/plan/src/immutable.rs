//! Fields that no update may change, per kind and path: known beforehand, never learnt from a refusal.
//!
//! Source: the update validation of Kubernetes 1.36, JobSet's webhook, and the transition rules
//! (`self == oldSelf`) of the CRDs. A rule speaks of the live object where the API does: a suspended Job,
//! a claim that is bound.

use serde_json::Value;
use trainerd_schema::Quantity;

use crate::object::ObjectKey;
use crate::ownership::{FieldChange, Segment};

/// Whether a change at, above or below `fields` is forbidden, given the live object.
type Forbids = fn(live: &Value, change: &FieldChange, fields: &[&str]) -> bool;

struct Rule {
    group: &'static str,
    kinds: &'static [&'static str],
    /// Field names from the root; steps into lists are left out.
    fields: &'static [&'static str],
    forbids: Forbids,
    why: &'static str,
}

const fn rule(
    group: &'static str,
    kinds: &'static [&'static str],
    fields: &'static [&'static str],
    forbids: Forbids,
    why: &'static str,
) -> Rule {
    Rule { group, kinds, fields, forbids, why }
}

const WORKLOADS: &[&str] = &["Deployment", "ReplicaSet", "DaemonSet", "StatefulSet"];
const BINDINGS: &[&str] = &["RoleBinding", "ClusterRoleBinding"];
const RUNTIMES: &[&str] = &["TrainingRuntime", "ClusterTrainingRuntime"];
const CORE: &str = "";
const STORAGE: &str = "storage.k8s.io";
const EXTENSIONS: &str = "apiextensions.k8s.io";
const JOBSET: &str = "jobset.x-k8s.io";
const TRAINER: &str = "trainer.kubeflow.org";

const SELECTOR: &str = "the selector of a workload is immutable";
const FIXED: &str = "it is set once, at creation";
const TRANSITION: &str = "the CRD lets it be set or removed, not replaced";
const SEALED: &str = "the object is marked immutable";

#[rustfmt::skip]
const RULES: &[Rule] = &[
    rule("apps", WORKLOADS, &["spec", "selector"], any, SELECTOR),
    rule("apps", &["StatefulSet"], &["spec"], stateful_set, "a StatefulSet lets only replicas, ordinals, template, updateStrategy and retention change"),
    rule("batch", &["Job"], &["spec", "selector"], any, SELECTOR),
    rule("batch", &["Job"], &["spec", "template"], job_template, "the pod template of a Job is immutable once it may have started"),
    rule("batch", &["Job"], &["spec", "completions"], completions, "completions are immutable unless the Job is Indexed"),
    rule("batch", &["Job"], &["spec", "completionMode"], any, FIXED),
    rule("batch", &["Job"], &["spec", "podFailurePolicy"], any, FIXED),
    rule("batch", &["Job"], &["spec", "backoffLimitPerIndex"], any, FIXED),
    rule("batch", &["Job"], &["spec", "successPolicy"], any, FIXED),
    rule("batch", &["Job"], &["spec", "managedBy"], any, FIXED),
    rule(CORE, &["Service"], &["spec", "clusterIP"], allocated, "an allocated cluster IP is kept for life"),
    rule(CORE, &["Service"], &["spec", "clusterIPs"], first_allocated, "an allocated cluster IP is kept for life"),
    rule(CORE, &["Service"], &["spec", "ipFamilies"], first_allocated, "the primary IP family is kept for life"),
    rule(CORE, &["Service"], &["spec", "loadBalancerClass"], load_balancer, "the class of a load balancer is kept for life"),
    rule(CORE, &["Secret"], &["type"], any, "the type of a Secret is immutable"),
    rule(CORE, &["Secret", "ConfigMap"], &["data"], sealed, SEALED),
    rule(CORE, &["Secret", "ConfigMap"], &["stringData"], sealed, SEALED),
    rule(CORE, &["Secret", "ConfigMap"], &["binaryData"], sealed, SEALED),
    rule(CORE, &["Secret", "ConfigMap"], &["immutable"], sealed, SEALED),
    rule(CORE, &["PersistentVolumeClaim"], &["spec"], claim, "of a claim only the requested storage may change: grow, once it is bound"),
    rule("rbac.authorization.k8s.io", BINDINGS, &["roleRef"], any, "the role of a binding is immutable"),
    rule(STORAGE, &["StorageClass"], &["provisioner"], any, FIXED),
    rule(STORAGE, &["StorageClass"], &["parameters"], any, FIXED),
    rule(STORAGE, &["StorageClass"], &["reclaimPolicy"], any, FIXED),
    rule(STORAGE, &["StorageClass"], &["volumeBindingMode"], any, FIXED),
    rule(STORAGE, &["CSIDriver"], &["spec", "attachRequired"], any, FIXED),
    rule(STORAGE, &["CSIDriver"], &["spec", "volumeLifecycleModes"], any, FIXED),
    rule("networking.k8s.io", &["IngressClass"], &["spec", "controller"], any, FIXED),
    rule("scheduling.k8s.io", &["PriorityClass"], &["value"], any, FIXED),
    rule("scheduling.k8s.io", &["PriorityClass"], &["preemptionPolicy"], any, FIXED),
    rule(EXTENSIONS, &["CustomResourceDefinition"], &["spec", "group"], any, FIXED),
    rule(EXTENSIONS, &["CustomResourceDefinition"], &["spec", "scope"], any, FIXED),
    rule(EXTENSIONS, &["CustomResourceDefinition"], &["spec", "names", "kind"], any, FIXED),
    rule(EXTENSIONS, &["CustomResourceDefinition"], &["spec", "names", "plural"], any, FIXED),
    rule(JOBSET, &["JobSet"], &["spec", "replicatedJobs"], replicated_jobs, "the jobs of a JobSet are immutable unless it is suspended"),
    rule(JOBSET, &["JobSet"], &["spec", "managedBy"], any, FIXED),
    rule(JOBSET, &["JobSet"], &["spec", "failurePolicy"], replaces, TRANSITION),
    rule(JOBSET, &["JobSet"], &["spec", "network"], replaces, TRANSITION),
    rule(JOBSET, &["JobSet"], &["spec", "startupPolicy"], replaces, TRANSITION),
    rule(JOBSET, &["JobSet"], &["spec", "successPolicy"], replaces, TRANSITION),
    rule(JOBSET, &["JobSet"], &["spec", "volumeClaimPolicies"], replaces, TRANSITION),
    rule(TRAINER, RUNTIMES, &["spec", "template", "spec", "failurePolicy"], replaces, TRANSITION),
    rule(TRAINER, RUNTIMES, &["spec", "template", "spec", "network"], replaces, TRANSITION),
    rule(TRAINER, RUNTIMES, &["spec", "template", "spec", "replicatedJobs", "dependsOn"], replaces, TRANSITION),
    rule(TRAINER, RUNTIMES, &["spec", "template", "spec", "startupPolicy"], replaces, TRANSITION),
    rule(TRAINER, RUNTIMES, &["spec", "template", "spec", "successPolicy"], replaces, TRANSITION),
    rule(TRAINER, RUNTIMES, &["spec", "template", "spec", "volumeClaimPolicies"], replaces, TRANSITION),
    rule(TRAINER, &["TrainJob"], &["spec", "activeDeadlineSeconds"], replaces, TRANSITION),
    rule(TRAINER, &["TrainJob"], &["spec", "initializer"], replaces, TRANSITION),
    rule(TRAINER, &["TrainJob"], &["spec", "managedBy"], replaces, TRANSITION),
    rule(TRAINER, &["TrainJob"], &["spec", "runtimeRef"], replaces, TRANSITION),
    rule(TRAINER, &["TrainJob"], &["spec", "trainer"], replaces, TRANSITION),
];

/// Why `change` cannot be made to the object `key` in place, where its state is `live`; `None` where it can.
///
/// One field at a time: a rule that only a whole object can break is not judged.
pub fn violates(key: &ObjectKey, live: &Value, change: &FieldChange) -> Option<&'static str> {
    RULES
        .iter()
        .filter(|rule| rule.group == key.group && rule.kinds.contains(&key.kind.as_str()))
        .find(|rule| change.path.overlaps(rule.fields) && (rule.forbids)(live, change, rule.fields))
        .map(|rule| rule.why)
}

/// What stands at `fields` in `value`, which itself stands at the path of `change`; lists on the way
/// are gone through. Empty where the path of the change is not above `fields`.
fn below<'v>(change: &FieldChange, value: Option<&'v Value>, fields: &[&str]) -> Vec<&'v Value> {
    let Some(rest) = fields.get(change.path.fields().count()..) else { return Vec::new() };
    let mut found: Vec<&Value> = value.into_iter().collect();
    let step = |values: Vec<&'v Value>, name: &str| -> Vec<&'v Value> {
        let items = values.into_iter().flat_map(|value| match value {
            Value::Array(items) => items.as_slice(),
            other => std::slice::from_ref(other),
        });
        items.filter_map(|item| item.get(name)).filter(|value| !value.is_null()).collect()
    };
    for name in rest {
        found = step(found, name);
    }
    found
}

/// Whether the change is inside the field: below its value, in a list or a map of it.
fn inside(change: &FieldChange, fields: &[&str]) -> bool {
    change.path.fields().count() > fields.len()
        || change.path.fields().count() == fields.len()
            && !matches!(change.path.segments().last(), Some(Segment::Field(_)))
}

fn any(_: &Value, change: &FieldChange, fields: &[&str]) -> bool {
    inside(change, fields)
        || below(change, change.from.as_ref(), fields) != below(change, change.to.as_ref(), fields)
}

/// A transition rule holds between an old and a new value: it is silent where one of them is absent.
fn replaces(_: &Value, change: &FieldChange, fields: &[&str]) -> bool {
    if inside(change, fields) {
        return true;
    }
    let from = below(change, change.from.as_ref(), fields);
    let to = below(change, change.to.as_ref(), fields);
    !from.is_empty() && !to.is_empty() && from != to
}

fn stateful_set(_: &Value, change: &FieldChange, _: &[&str]) -> bool {
    const MUTABLE: [&str; 7] = [
        "replicas",
        "ordinals",
        "template",
        "updateStrategy",
        "persistentVolumeClaimRetentionPolicy",
        "minReadySeconds",
        "revisionHistoryLimit",
    ];
    change.path.fields().nth(1).is_some_and(|field| !MUTABLE.contains(&field))
}

/// Where pods are scheduled may be changed before they exist. Resources too, but only from Kubernetes
/// 1.36 on: the older rule is kept.
fn is_scheduling(change: &FieldChange, template: &[&str]) -> bool {
    const MUTABLE: [&[&str]; 6] = [
        &["metadata", "labels"],
        &["metadata", "annotations"],
        &["spec", "nodeSelector"],
        &["spec", "tolerations"],
        &["spec", "schedulingGates"],
        &["spec", "affinity", "nodeAffinity"],
    ];
    let only_node_affinity = |value: &Option<Value>| {
        value
            .as_ref()
            .and_then(Value::as_object)
            .is_none_or(|map| map.keys().all(|name| name == "nodeAffinity"))
    };
    let whole_affinity = !inside(change, &[template, &["spec", "affinity"]].concat())
        && change.path.is_under(&[template, &["spec", "affinity"]].concat());
    MUTABLE.iter().any(|field| change.path.is_under(&[template, field].concat()))
        || whole_affinity && only_node_affinity(&change.from) && only_node_affinity(&change.to)
}

fn suspended(live: &Value) -> bool {
    live.pointer("/spec/suspend") == Some(&Value::Bool(true))
}

fn job_template(live: &Value, change: &FieldChange, fields: &[&str]) -> bool {
    let unstarted = suspended(live) && live.pointer("/status/startTime").is_none_or(Value::is_null);
    !(unstarted && is_scheduling(change, fields)) && any(live, change, fields)
}

fn replicated_jobs(live: &Value, change: &FieldChange, fields: &[&str]) -> bool {
    let template = [fields, &["template", "spec", "template"]].concat();
    let affinity = change.path.fields().any(|field| field == "affinity");
    !(suspended(live) && !affinity && is_scheduling(change, &template)) && any(live, change, fields)
}

fn completions(live: &Value, change: &FieldChange, fields: &[&str]) -> bool {
    live.pointer("/spec/completionMode").and_then(Value::as_str) != Some("Indexed")
        && any(live, change, fields)
}

fn sealed(live: &Value, change: &FieldChange, fields: &[&str]) -> bool {
    live.get("immutable") == Some(&Value::Bool(true)) && any(live, change, fields)
}

fn text(value: Option<&Value>) -> &str {
    value.and_then(Value::as_str).unwrap_or_default()
}

/// An ExternalName service has no addresses to keep.
fn has_addresses(live: &Value) -> bool {
    text(live.pointer("/spec/type")) != "ExternalName"
}

/// Leaving it out keeps it: the API server fills it in from the live object.
fn allocated(live: &Value, change: &FieldChange, _: &[&str]) -> bool {
    has_addresses(live) && !text(change.from.as_ref()).is_empty() && !text(change.to.as_ref()).is_empty()
}

/// The first is for life; a second may come and go.
fn first_allocated(live: &Value, change: &FieldChange, _: &[&str]) -> bool {
    let first = |value: &Option<Value>| match value {
        Some(Value::Array(items)) => items.first().cloned(),
        other => other.clone(),
    };
    let (from, to) = (first(&change.from), first(&change.to));
    let at_first = !matches!(change.path.segments().last(), Some(Segment::Index(place)) if *place > 0);
    has_addresses(live) && at_first && from.is_some() && to.is_some() && from != to
}

fn load_balancer(live: &Value, change: &FieldChange, fields: &[&str]) -> bool {
    text(live.pointer("/spec/type")) == "LoadBalancer" && any(live, change, fields)
}

fn claim(live: &Value, change: &FieldChange, _: &[&str]) -> bool {
    let bound = text(live.pointer("/status/phase")) == "Bound";
    let (from, to) = (change.from.as_ref(), change.to.as_ref());
    let mut way = change.path.fields().skip(1);
    match way.next() {
        Some("resources") if change.path.is_under(&["spec", "resources", "requests", "storage"]) => {
            let grows = from.and_then(Quantity::of) <= to.and_then(Quantity::of);
            !(bound && grows)
        }
        Some("volumeAttributesClassName") => !bound,
        // Each may be given once, by whoever binds the claim.
        Some("volumeName" | "storageClassName") | None => from.is_some(),
        Some(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::violates;
    use crate::object::ObjectKey;
    use crate::ownership::FieldChange;

    fn change(path: &str, from: Value, to: Value) -> FieldChange {
        let some = |value: Value| (!value.is_null()).then_some(value);
        FieldChange { path: path.parse().unwrap(), from: some(from), to: some(to) }
    }

    fn check(kind: &str, live: &Value, rows: &[(&str, Value, Value, bool)]) {
        let (kind, group) = kind.split_once('.').unwrap_or((kind, ""));
        let key = ObjectKey { group: group.into(), kind: kind.into(), namespace: None, name: "x".into() };
        for (path, from, to, forbidden) in rows {
            let why = violates(&key, live, &change(path, from.clone(), to.clone()));
            assert_eq!(why.is_some(), *forbidden, "{kind} {path}: {from} -> {to}: {why:?}");
        }
    }

    #[test]
    fn workloads() {
        let none = Value::Null;
        for kind in ["Deployment.apps", "ReplicaSet.apps", "DaemonSet.apps", "StatefulSet.apps", "Job.batch"]
        {
            check(
                kind,
                &none,
                &[
                    (".spec.selector.matchLabels.app", json!("a"), json!("b"), true),
                    (".spec.selector.matchLabels.app", none.clone(), json!("b"), true),
                    (r#".spec.selector.matchLabels["a/b"]"#, json!("a"), none.clone(), true),
                    (".metadata.labels.app", json!("a"), json!("b"), false),
                ],
            );
        }
        check(
            "Deployment.apps",
            &none,
            &[
                (".spec.template.metadata.labels.app", json!("a"), json!("b"), false),
                (".spec", json!({"selector": {"a": 1}}), json!({"selector": {"a": 2}}), true),
                (
                    ".spec",
                    json!({"selector": {"a": 1}, "x": 1}),
                    json!({"selector": {"a": 1}, "x": 2}),
                    false,
                ),
            ],
        );
        // The group counts, not the kind alone.
        check("Deployment.x.org", &none, &[(".spec.selector", json!("a"), json!("b"), false)]);
        check(
            "StatefulSet.apps",
            &none,
            &[
                (".spec.serviceName", json!("a"), json!("b"), true),
                (".spec.podManagementPolicy", none.clone(), json!("Parallel"), true),
                (".spec.volumeClaimTemplates[0].spec.x", json!(1), json!(2), true),
                (".spec.replicas", json!(1), json!(2), false),
                (".spec.template.spec.x", json!(1), json!(2), false),
                (".spec.minReadySeconds", json!(1), none.clone(), false),
            ],
        );
    }

    #[test]
    fn jobs() {
        let image = ".spec.template.spec.containers[name=a].image";
        let selector = ".spec.template.spec.nodeSelector.zone";
        let waiting = json!({"spec": {"suspend": true}});
        let started = json!({"spec": {"suspend": true}, "status": {"startTime": "t"}});
        let indexed = json!({"spec": {"completionMode": "Indexed"}});
        let row = |path: &'static str, forbidden: bool| (path, json!("a"), json!("b"), forbidden);
        check(
            "Job.batch",
            &json!({}),
            &[row(image, true), row(selector, true), row(".spec.completions", true)],
        );
        check("Job.batch", &waiting, &[row(image, true), row(selector, false)]);
        let affinity = ".spec.template.spec.affinity";
        check(
            "Job.batch",
            &waiting,
            &[
                (affinity, Value::Null, json!({"nodeAffinity": {}}), false),
                (affinity, Value::Null, json!({"podAffinity": {}}), true),
            ],
        );
        check("Job.batch", &started, &[row(selector, true), row(".spec.suspend", false)]);
        check("Job.batch", &indexed, &[row(".spec.completions", false), row(".spec.completionMode", true)]);

        let image = ".spec.replicatedJobs[name=a].template.spec.template.spec.containers[name=a].image";
        let labels = ".spec.replicatedJobs[name=a].template.spec.template.metadata.labels.q";
        let affinity = ".spec.replicatedJobs[name=a].template.spec.template.spec.affinity.nodeAffinity.x";
        check("JobSet.jobset.x-k8s.io", &json!({}), &[row(image, true), row(labels, true)]);
        check(
            "JobSet.jobset.x-k8s.io",
            &waiting,
            &[
                row(image, true),
                row(labels, false),
                row(affinity, true),
                row(".spec.managedBy", true),
                row(".spec.suspend", false),
                row(".spec.network.subdomain", true),
                (".spec.replicatedJobs[name=b]", Value::Null, json!({"name": "b"}), true),
            ],
        );
    }

    #[test]
    fn a_transition_rule_allows_setting_and_unsetting() {
        let depends = ".spec.template.spec.replicatedJobs[name=a].dependsOn";
        let inside = ".spec.template.spec.replicatedJobs[name=a].dependsOn[name=b]";
        let one = json!([{"name": "b"}]);
        for kind in ["TrainingRuntime.trainer.kubeflow.org", "ClusterTrainingRuntime.trainer.kubeflow.org"] {
            check(
                kind,
                &Value::Null,
                &[
                    (depends, Value::Null, one.clone(), false),
                    (depends, one.clone(), Value::Null, false),
                    (depends, one.clone(), json!([{"name": "c"}]), true),
                    (inside, json!({"name": "b"}), Value::Null, true),
                    (".spec.template.spec.network", Value::Null, json!({"x": 1}), false),
                    (".spec.template.spec.network.x", json!(1), Value::Null, true),
                    // A job that comes brings its own; a list as a whole is compared by what stands in it.
                    (
                        ".spec.template.spec.replicatedJobs[name=b]",
                        Value::Null,
                        json!({"dependsOn": one}),
                        false,
                    ),
                    (
                        ".spec.template.spec.replicatedJobs",
                        json!([{"name": "a", "dependsOn": 1}]),
                        json!([{"name": "a", "dependsOn": 2}]),
                        true,
                    ),
                    (".spec.template.spec.replicatedJobs[name=a].replicas", json!(1), json!(2), false),
                ],
            );
        }
        check(
            "TrainJob.trainer.kubeflow.org",
            &Value::Null,
            &[
                (".spec.runtimeRef.name", json!("a"), json!("b"), true),
                (".spec.trainer", json!({}), Value::Null, false),
                (".spec.suspend", json!(true), json!(false), false),
            ],
        );
    }

    #[test]
    fn services_keep_their_addresses() {
        let cluster = json!({"spec": {"type": "ClusterIP"}});
        check(
            "Service",
            &cluster,
            &[
                (".spec.clusterIP", json!("10.0.0.1"), json!("10.0.0.2"), true),
                (".spec.clusterIP", json!("None"), json!("10.0.0.2"), true),
                (".spec.clusterIP", Value::Null, json!("10.0.0.2"), false),
                (".spec.clusterIP", json!("10.0.0.1"), Value::Null, false),
                (".spec.clusterIPs", json!(["1", "2"]), json!(["1"]), false),
                (".spec.clusterIPs", json!(["1"]), json!(["2"]), true),
                (".spec.ipFamilies", json!(["IPv4"]), json!(["IPv6"]), true),
                (".spec.ipFamilies", json!(["IPv4"]), json!(["IPv4", "IPv6"]), false),
                (".spec.selector.app", json!("a"), json!("b"), false),
                (".spec.loadBalancerClass", json!("a"), Value::Null, false),
            ],
        );
        let row = (".spec.clusterIP", json!("10.0.0.1"), json!("10.0.0.2"), false);
        check("Service", &json!({"spec": {"type": "ExternalName"}}), &[row]);
        let row = (".spec.loadBalancerClass", json!("a"), json!("b"), true);
        check("Service", &json!({"spec": {"type": "LoadBalancer"}}), &[row]);
    }

    #[test]
    fn configuration_and_secrets() {
        let sealed = json!({"immutable": true});
        for kind in ["Secret", "ConfigMap"] {
            check(
                kind,
                &sealed,
                &[
                    (".data.a", json!("x"), json!("y"), true),
                    (".data", json!({"a": "x"}), Value::Null, true),
                    (".immutable", json!(true), json!(false), true),
                    (".metadata.labels.a", json!("x"), json!("y"), false),
                ],
            );
            check(
                kind,
                &json!({"immutable": false}),
                &[
                    (".data.a", json!("x"), json!("y"), false),
                    (".immutable", json!(false), json!(true), false),
                ],
            );
        }
        check("Secret", &json!({}), &[(".type", json!("Opaque"), json!("kubernetes.io/tls"), true)]);
    }

    #[test]
    fn bound_claims_can_only_grow() {
        let size = ".spec.resources.requests.storage";
        check(
            "PersistentVolumeClaim",
            &json!({"status": {"phase": "Bound"}}),
            &[
                (size, json!("1Gi"), json!("2Gi"), false),
                (size, json!("1Gi"), json!("512Mi"), true),
                (size, json!("1Gi"), Value::Null, true),
                (".spec.volumeAttributesClassName", json!("a"), json!("b"), false),
                (".spec.accessModes", json!(["ReadWriteOnce"]), json!(["ReadWriteMany"]), true),
                (".spec.storageClassName", json!("a"), json!("b"), true),
                (".spec.storageClassName", Value::Null, json!("b"), false),
                (".spec.volumeName", json!("a"), json!("b"), true),
            ],
        );
        check("PersistentVolumeClaim", &json!({}), &[(size, json!("1Gi"), json!("2Gi"), true)]);
    }

    #[test]
    fn cluster_wide_kinds() {
        let rows = [
            ("RoleBinding.rbac.authorization.k8s.io", ".roleRef.name", ".subjects"),
            ("ClusterRoleBinding.rbac.authorization.k8s.io", ".roleRef.name", ".subjects"),
            ("StorageClass.storage.k8s.io", ".parameters.type", ".allowVolumeExpansion"),
            ("CSIDriver.storage.k8s.io", ".spec.attachRequired", ".spec.podInfoOnMount"),
            ("IngressClass.networking.k8s.io", ".spec.controller", ".spec.parameters"),
            ("PriorityClass.scheduling.k8s.io", ".value", ".globalDefault"),
            ("CustomResourceDefinition.apiextensions.k8s.io", ".spec.scope", ".spec.names.shortNames"),
        ];
        for (kind, fixed, free) in rows {
            check(
                kind,
                &Value::Null,
                &[(fixed, json!("a"), json!("b"), true), (free, json!("a"), json!("b"), false)],
            );
        }
    }
}
