//! What a plan says about a small stack: order, verbs, refusals, prune and removal.

#![expect(clippy::unwrap_used, reason = "a helper that finds nothing fails its test")]
#![expect(clippy::needless_pass_by_value, reason = "the tests read better without ampersands")]

use std::collections::BTreeMap;

use semver::Version;
use serde_json::{Value, json};
use trainerd_plan::applyset;
use trainerd_plan::desired::{Component, Desired, DesiredObject, Installation};
use trainerd_plan::object::{ObjectKey, Resource};
use trainerd_plan::observed::{LiveObject, Observed};
use trainerd_plan::plan::{Plan, Purpose, Until, Verb};
use trainerd_plan::planner::{self, Conflicts, Request};
use trainerd_plan::refused::Refused;
use trainerd_plan::removal::{self, Extent};
use trainerd_plan::{order, planner::plan};

const MANAGER: &str = "trainerd";

fn installation() -> Installation {
    Installation { name: "kubeflow-trainer".into(), namespace: "kf".into() }
}

fn object(component: &str, resource: (&str, &str, &str, bool), name: &str, body: Value) -> DesiredObject {
    let (group, kind, plural, namespaced) = resource;
    let resource = Resource {
        group: group.into(),
        version: "v1".into(),
        kind: kind.into(),
        plural: plural.into(),
        namespaced,
    };
    let mut manifest =
        json!({"apiVersion": resource.api_version(), "kind": kind, "metadata": {"name": name}});
    if namespaced {
        manifest["metadata"]["namespace"] = json!("kf");
    }
    for (key, value) in body.as_object().unwrap() {
        manifest[key] = value.clone();
    }
    DesiredObject { component: component.into(), resource, manifest, after: Vec::new() }
}

const DEPLOYMENT: (&str, &str, &str, bool) = ("apps", "Deployment", "deployments", true);
const CONFIG_MAP: (&str, &str, &str, bool) = ("", "ConfigMap", "configmaps", true);
const SERVICE_ACCOUNT: (&str, &str, &str, bool) = ("", "ServiceAccount", "serviceaccounts", true);
const NAMESPACE: (&str, &str, &str, bool) = ("", "Namespace", "namespaces", false);
const CRD: (&str, &str, &str, bool) =
    ("apiextensions.k8s.io", "CustomResourceDefinition", "customresourcedefinitions", false);
const WEBHOOK: (&str, &str, &str, bool) = (
    "admissionregistration.k8s.io",
    "ValidatingWebhookConfiguration",
    "validatingwebhookconfigurations",
    false,
);
const RUNTIME: (&str, &str, &str, bool) = ("trainer.example.org", "Runtime", "runtimes", false);

fn stack() -> Desired {
    let component = |needs: &[&str]| Component {
        version: Version::new(1, 0, 0),
        needs: needs.iter().map(|name| (*name).to_owned()).collect(),
        probes: Vec::new(),
    };
    let mut objects = vec![
        object("trainer", NAMESPACE, "kf", json!({})),
        object(
            "trainer",
            CRD,
            "runtimes.trainer.example.org",
            json!({"spec": {"group": "trainer.example.org", "names": {"kind": "Runtime"}}}),
        ),
        object("trainer", SERVICE_ACCOUNT, "manager", json!({})),
        object("trainer", CONFIG_MAP, "config", json!({"data": {"a": "1"}})),
        object(
            "trainer",
            DEPLOYMENT,
            "manager",
            json!({"spec": {"replicas": 1, "template": {"spec": {
                "serviceAccountName": "manager",
                "containers": [{"name": "manager", "image": "example.org/manager:v1"}],
            }}}}),
        ),
        object(
            "trainer",
            WEBHOOK,
            "validator",
            json!({"webhooks": [{
                "name": "validator.example.org",
                "clientConfig": {"service": {"name": "manager", "namespace": "kf"}},
                "rules": [{"apiGroups": ["trainer.example.org"], "resources": ["runtimes"]}],
            }]}),
        ),
        object("runtimes", RUNTIME, "torch", json!({"spec": {"image": "x:1"}})),
    ];
    objects.sort_by_cached_key(DesiredObject::key);
    Desired {
        installation: installation(),
        components: BTreeMap::from([
            ("trainer".to_owned(), component(&[])),
            ("runtimes".to_owned(), component(&["trainer"])),
        ]),
        options: BTreeMap::new(),
        given: Vec::new(),
        objects,
    }
}

/// The object as the API server has it after we applied it.
fn applied(desired: &Desired, object: &DesiredObject) -> LiveObject {
    fn fields(value: &Value) -> Value {
        match value {
            Value::Object(map) if !map.is_empty() => {
                map.iter().map(|(key, value)| (format!("f:{key}"), fields(value))).collect()
            }
            _ => json!({}),
        }
    }
    let sent = applyset::owned(desired, object);
    let mut value = sent.clone();
    value["metadata"]["uid"] = json!(format!("uid-of-{}", object.key()));
    let owned: Value = sent
        .as_object()
        .unwrap()
        .iter()
        .filter(|(key, _)| !matches!(key.as_str(), "apiVersion" | "kind"))
        .map(|(key, value)| {
            let labels = json!({"f:labels": fields(&sent["metadata"]["labels"])});
            (format!("f:{key}"), if key == "metadata" { labels } else { fields(value) })
        })
        .collect();
    value["metadata"]["managedFields"] = json!([
        {"manager": MANAGER, "operation": "Apply", "fieldsType": "FieldsV1", "fieldsV1": owned}
    ]);
    LiveObject { resource: object.resource.clone(), value }
}

fn all_applied(desired: &Desired) -> Observed {
    let objects = desired.objects.iter().map(|object| (object.key(), applied(desired, object)));
    Observed { objects: objects.collect(), ..Observed::default() }
}

fn request<'a>(desired: &'a Desired, last: Option<&'a Desired>, observed: &'a Observed) -> Request<'a> {
    Request {
        purpose: Purpose::Change,
        desired,
        last,
        observed,
        conflicts: Conflicts::Refuse,
        allow_lossy: false,
        field_manager: MANAGER,
    }
}

fn position(plan: &Plan, kind: &str) -> usize {
    plan.steps.iter().position(|step| step.object.kind == kind).unwrap()
}

fn set(desired: &mut Desired, kind: &str, pointer: &str, value: Value) {
    let object = desired.objects.iter_mut().find(|object| object.resource.kind == kind).unwrap();
    *object.manifest.pointer_mut(pointer).unwrap() = value;
}

#[test]
fn a_fresh_stack_is_created_in_the_order_of_its_edges() {
    let desired = stack();
    let observed = Observed::default();
    let plan = plan(&request(&desired, None, &observed)).unwrap();
    assert!(plan.steps.iter().all(|step| step.verb == Verb::Create));
    for (index, step) in plan.steps.iter().enumerate() {
        assert!(
            step.after.iter().all(|before| *before < index),
            "{} comes before what it waits for",
            step.object
        );
    }
    let chain = ["Namespace", "ServiceAccount", "Deployment", "ValidatingWebhookConfiguration", "Runtime"];
    for pair in chain.windows(2) {
        let later = &plan.steps[position(&plan, pair[1])];
        assert!(later.after.contains(&position(&plan, pair[0])), "{} waits for {}", pair[1], pair[0]);
    }
    let webhook = &plan.steps[position(&plan, "ValidatingWebhookConfiguration")];
    assert_eq!(webhook.until, Until::Admitting { services: vec!["kf/manager".to_owned()] });
}

#[test]
fn nothing_changed_is_an_empty_plan() {
    let desired = stack();
    let observed = all_applied(&desired);
    let plan = plan(&request(&desired, Some(&desired), &observed)).unwrap();
    assert!(plan.is_empty(), "{:?}", plan.steps.iter().filter(|step| step.verb.writes()).collect::<Vec<_>>());
}

#[test]
fn a_changed_image_is_one_apply_with_its_field_and_the_observed_uid() {
    let old = stack();
    let mut new = stack();
    set(&mut new, "Deployment", "/spec/template/spec/containers/0/image", json!("example.org/manager:v2"));
    let observed = all_applied(&old);
    let plan = plan(&request(&new, Some(&old), &observed)).unwrap();
    let writes: Vec<_> = plan.steps.iter().filter(|step| step.verb.writes()).collect();
    assert_eq!(writes.len(), 1);
    let uid = format!("uid-of-{}", writes[0].object);
    assert_eq!(writes[0].verb, Verb::Apply { uid: uid.clone(), force: true });
    assert_eq!(writes[0].manifest.as_ref().unwrap()["metadata"]["uid"], json!(uid));
    assert_eq!(writes[0].why, "the new revision differs");
    assert!(writes[0].changes[0].path.to_string().ends_with("image") || writes[0].changes.len() == 1);
}

#[test]
fn a_foreign_edit_is_put_right_because_the_field_was_ours() {
    let desired = stack();
    let mut observed = all_applied(&desired);
    let key = desired.objects.iter().find(|object| object.resource.kind == "ConfigMap").unwrap().key();
    observed.objects.get_mut(&key).unwrap().value["data"]["a"] = json!("edited");
    let plan = plan(&request(&desired, Some(&desired), &observed)).unwrap();
    let step = plan.steps.iter().find(|step| step.verb.writes()).unwrap();
    assert_eq!((step.object.clone(), step.why.as_str()), (key, "changed in the cluster"));
    assert_eq!(step.changes[0].path.to_string(), ".data.a");
}

#[test]
fn what_is_in_other_hands_is_refused_with_their_name() {
    let desired = stack();
    let mut observed = Observed::default();
    let config = desired.objects.iter().find(|object| object.resource.kind == "ConfigMap").unwrap();
    let mut live = applied(&desired, config);
    live.value["metadata"]["labels"] = json!({});
    live.value["metadata"]["annotations"] = json!({"meta.helm.sh/release-name": "trainer"});
    observed.objects.insert(config.key(), live);
    let refused = plan(&request(&desired, None, &observed)).unwrap_err();
    assert_eq!(refused, [Refused::Collision { object: config.key(), owner: "Helm release trainer".into() }]);
}

#[test]
fn the_namespace_may_be_anybodys_but_must_not_be_going_away() {
    let desired = stack();
    let mut observed = Observed::default();
    let namespace = desired.objects.iter().find(|object| object.resource.kind == "Namespace").unwrap();
    let mut live = applied(&desired, namespace);
    live.value["metadata"]["labels"] = json!({});
    observed.objects.insert(namespace.key(), live.clone());
    let planned = plan(&request(&desired, None, &observed)).unwrap();
    assert_eq!(planned.steps[position(&planned, "Namespace")].verb, Verb::Keep);

    live.value["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    observed.objects.insert(namespace.key(), live);
    let refused = plan(&request(&desired, None, &observed)).unwrap_err();
    assert_eq!(refused, [Refused::NamespaceTerminating { name: "kf".into() }]);
}

#[test]
fn a_rollback_that_changes_a_crd_needs_a_word() {
    let desired = stack();
    let mut newer = stack();
    set(
        &mut newer,
        "CustomResourceDefinition",
        "/spec/names",
        json!({"kind": "Runtime", "shortNames": ["rt"]}),
    );
    let observed = all_applied(&newer);
    let mut request = request(&desired, Some(&newer), &observed);
    request.purpose = Purpose::Rollback;
    let refused = plan(&request).unwrap_err();
    assert_eq!(refused, [Refused::LossyRollback { crds: vec!["runtimes.trainer.example.org".into()] }]);
    request.allow_lossy = true;
    let planned = plan(&request).unwrap();
    assert_eq!(planned.point_of_no_return, Some(position(&planned, "CustomResourceDefinition")));
}

#[test]
fn what_is_no_longer_desired_is_deleted_by_uid_after_all_else() {
    let old = stack();
    let mut new = stack();
    new.objects.retain(|object| object.resource.kind != "ConfigMap");
    let mut observed = all_applied(&old);
    // Somebody else's object of the same kind is none of our business.
    let mut foreign = applied(&old, old.objects.iter().find(|o| o.resource.kind == "ConfigMap").unwrap());
    foreign.value["metadata"]["labels"] = json!({});
    let key = ObjectKey {
        group: String::new(),
        kind: "ConfigMap".into(),
        namespace: Some("kf".into()),
        name: "theirs".into(),
    };
    observed.objects.insert(key, foreign);
    let plan = plan(&request(&new, Some(&old), &observed)).unwrap();
    let deletes: Vec<_> = plan.steps.iter().filter(|step| matches!(step.verb, Verb::Delete { .. })).collect();
    assert_eq!(deletes.len(), 1);
    assert_eq!(deletes[0].verb, Verb::Delete { uid: "uid-of-ConfigMap kf/config".into() });
    assert_eq!(deletes[0].after.len(), new.objects.len());
}

#[test]
fn a_removal_stops_admission_first_and_keeps_crds_unless_told() {
    let desired = stack();
    let mut observed = all_applied(&desired);
    let kinds = |plan: &Plan| plan.steps.iter().map(|step| step.object.kind.clone()).collect::<Vec<_>>();

    let keep = removal::plan(&installation(), &observed, Extent::KeepStored).unwrap();
    assert_eq!(
        kinds(&keep),
        ["ValidatingWebhookConfiguration", "Runtime", "Deployment", "ConfigMap", "ServiceAccount"]
    );
    for pair in keep.steps.windows(2) {
        assert!(order::role(&pair[0].object) <= order::role(&pair[1].object));
    }
    assert!(keep.steps[0].after.is_empty() && keep.steps[1].after == [0]);

    let job = ObjectKey {
        group: "trainer.example.org".into(),
        kind: "Runtime".into(),
        namespace: None,
        name: "mine".into(),
    };
    let mut live = observed.objects.values().find(|live| live.resource.kind == "Runtime").unwrap().clone();
    live.value["metadata"]["name"] = json!("mine");
    live.value["metadata"]["labels"] = json!({});
    observed.custom_objects.insert(job.clone(), live);
    let refused = removal::plan(&installation(), &observed, Extent::Purge).unwrap_err();
    assert_eq!(refused, [Refused::CustomObjectsExist { objects: vec![job.clone()] }]);

    let purge = removal::plan(&installation(), &observed, Extent::PurgeWithJobs).unwrap();
    assert_eq!(kinds(&purge).last().unwrap(), "CustomResourceDefinition");
    assert!(purge.steps.iter().any(|step| step.object == job));
}

#[test]
fn a_circle_is_named() {
    let mut desired = stack();
    let webhook =
        desired.objects.iter().find(|o| o.resource.kind == "ValidatingWebhookConfiguration").unwrap().key();
    let deployment = desired.objects.iter_mut().find(|object| object.resource.kind == "Deployment").unwrap();
    let key = deployment.key();
    deployment.after.push(webhook.clone());
    let observed = Observed::default();
    let refused = plan(&request(&desired, None, &observed)).unwrap_err();
    let [Refused::Cycle { circle }] = refused.as_slice() else { panic!("{refused:?}") };
    assert!(circle.contains(&key) && circle.contains(&webhook));
    assert_eq!(circle.first(), circle.last());
}

#[test]
fn an_untagged_image_is_refused() {
    let mut desired = stack();
    set(
        &mut desired,
        "Deployment",
        "/spec/template/spec/containers/0/image",
        json!("example.org:5000/manager"),
    );
    let observed = Observed::default();
    let refused = plan(&request(&desired, None, &observed)).unwrap_err();
    let [Refused::Lint { finding }] = refused.as_slice() else { panic!("{refused:?}") };
    assert_eq!(finding.code, "image-without-tag");
}

#[test]
fn jobsets_that_use_a_dropped_field_stand_against_the_upgrade() {
    let crd = |fields: Value| {
        object(
            "jobset",
            CRD,
            "jobsets.jobset.x-k8s.io",
            json!({"spec": {"group": "jobset.x-k8s.io", "names": {"kind": "JobSet"}, "versions": [{"schema": fields}]}}),
        )
    };
    let mut old = stack();
    old.objects.push(crd(json!({"workloadRef": {}})));
    let mut new = stack();
    new.objects.push(crd(json!({"other": {}})));
    let mut observed = all_applied(&old);
    assert!(planner::drops_workload_ref(&new, &observed));
    assert!(!planner::drops_workload_ref(&old, &observed));
    let job_set = ObjectKey {
        group: "jobset.x-k8s.io".into(),
        kind: "JobSet".into(),
        namespace: Some("team".into()),
        name: "a".into(),
    };
    observed.workload_refs.push(job_set.clone());
    let refused = plan(&request(&new, Some(&old), &observed)).unwrap_err();
    assert_eq!(refused, [Refused::WorkloadRefInUse { objects: vec![job_set] }]);
}
