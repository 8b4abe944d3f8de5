//! What rendering guarantees: the same bytes, whole objects, options that reach them.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops where it is surprised")]

mod support;

use std::collections::BTreeMap;

use semver::Version;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use support::{catalog, chosen, given, render_with, rendered};
use trainerd_api::crds::{CrdChannel, names};
use trainerd_catalog::{Catalog, Dangling, ObjectFault, RenderError, Schema, yaml};
use trainerd_plan::desired::{Desired, DesiredObject, Installation};

fn text(desired: &Desired) -> String {
    yaml::documents(desired.objects.iter().map(|object| &object.manifest))
}

fn sha256(text: &str) -> String {
    hex::encode(Sha256::digest(text))
}

/// SHA-256 of what is printed for the cases of [`output_matches_the_committed_digests`].
const COMMITTED: [&str; 3] = [
    "e5938dedb0316b805d8d033de96b9b6928b7bac1d16d9ad9f3ccd5ff0053a132",
    "8d588d1e214cc3fd9ead1b4be79a774712d3fb00296b143a59ac5c6cb516dc6c",
    "fcfaca66d58cc00f75e32a17e07f8b8224d7d6c195f5a6c8686d80c9b32ae573",
];

/// A change of what is rendered shows here even where upstream's manifests are not at hand.
#[test]
fn output_matches_the_committed_digests() {
    let cases: [(&str, &[(&str, &str)]); 3] = [
        ("2.2.1", &[]),
        ("2.3.0", &[]),
        ("2.3.0", &[("small-footprint", "true"), ("image-pull-secrets", "a,b")]),
    ];
    let digests = cases.map(|(version, more)| sha256(&text(&render_with(version, "kubeflow-system", more))));
    assert_eq!(digests, COMMITTED);
}

#[test]
fn rendering_is_deterministic() {
    for version in ["2.2.1", "2.3.0"] {
        let render = || render_with(version, "kubeflow-system", &[]);
        assert_eq!(serde_json::to_string(&render()).unwrap(), serde_json::to_string(&render()).unwrap());
        assert_eq!(text(&render()), text(&render()));
        let keys: Vec<_> = render().objects.iter().map(DesiredObject::key).collect();
        assert!(keys.is_sorted());
    }
}

#[test]
fn objects_are_counted_by_kind() {
    for version in ["2.2.1", "2.3.0"] {
        let desired = render_with(version, "kubeflow-system", &[]);
        let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
        for object in &desired.objects {
            *kinds.entry(&object.resource.kind).or_default() += 1;
        }
        let expected = [
            ("ClusterRole", 8),
            ("ClusterRoleBinding", 7),
            ("ClusterTrainingRuntime", 10),
            ("ConfigMap", 4),
            ("CustomResourceDefinition", 5),
            ("Deployment", 3),
            ("MutatingWebhookConfiguration", 3),
            ("Namespace", 1),
            ("Role", 4),
            ("RoleBinding", 5),
            ("Secret", 3),
            ("Service", 5),
            ("ServiceAccount", 4),
            ("ValidatingWebhookConfiguration", 3),
        ];
        assert_eq!(kinds, expected.into(), "{version}");
    }
}

#[test]
fn the_desired_state_lists_components_options_and_kinds() {
    let desired = render_with("2.3.0", "team-a", &[("settle", "9")]);
    assert_eq!(desired.given, ["data-cache", "runtimes", "settle", "trainer-version"]);
    assert_eq!(desired.options["settle"], json!(9));
    let needs: Vec<(&str, Vec<&str>)> = desired
        .components
        .iter()
        .map(|(name, component)| (name.as_str(), component.needs.iter().map(String::as_str).collect()))
        .collect();
    let expected = [
        ("data-cache", vec!["lws", "trainer"]),
        ("jobset", vec![]),
        ("lws", vec![]),
        ("runtimes", vec!["trainer"]),
        ("trainer", vec!["jobset"]),
    ];
    assert_eq!(needs, expected);
    for object in &desired.objects {
        assert!(desired.components.contains_key(&object.component));
        assert_eq!(object.manifest["apiVersion"], object.resource.api_version());
        assert_eq!(object.resource.namespaced, object.key().namespace.is_some(), "{}", object.key());
        assert!(object.resource.plural.starts_with(&object.resource.kind.to_lowercase()[..4]));
        assert!(object.after.is_empty());
    }
}

#[test]
fn only_selected_components_are_rendered() {
    let render = |pairs: &[(&str, &str)]| {
        let (options, resolution) = chosen(pairs);
        let installation = Installation { name: "i".to_owned(), namespace: "n".to_owned() };
        catalog().render(&options, &resolution, &installation).unwrap()
    };
    let desired = render(&[("components", "trainer"), ("runtimes", "torch-distributed")]);
    assert_eq!(desired.components.keys().collect::<Vec<_>>(), ["runtimes", "trainer"]);
    assert_eq!(desired.left_to_others().collect::<Vec<_>>(), ["jobset"], "what somebody else has to provide");
    assert!(desired.objects.iter().all(|object| !object.key().name.starts_with("jobset")));
    let runtimes = desired.objects.iter().filter(|object| object.component == "runtimes");
    assert_eq!(runtimes.map(|object| object.key().name).collect::<Vec<_>>(), ["torch-distributed"]);
}

#[test]
fn options_reach_the_pods() {
    let pods = |more: &[(&str, &str)]| {
        let desired = render_with("2.3.0", "kubeflow-system", more);
        let deployments = desired.objects.into_iter().filter(|object| object.resource.kind == "Deployment");
        deployments
            .map(|object| (object.key().name, object.manifest["spec"].clone()))
            .collect::<BTreeMap<_, _>>()
    };
    for (name, spec) in pods(&[("small-footprint", "true"), ("image-pull-secrets", "regcred")]) {
        assert_eq!(spec["replicas"], json!(1), "{name}");
        let requests = &spec["template"]["spec"]["containers"][0]["resources"]["requests"];
        assert!(
            requests.is_null() || *requests == json!({"cpu": "20m", "memory": "64Mi"}),
            "{name}: {requests}"
        );
        assert_eq!(spec["template"]["spec"]["imagePullSecrets"], json!([{"name": "regcred"}]), "{name}");
    }
    assert_eq!(pods(&[])["lws-controller-manager"]["replicas"], json!(2));
    assert!(pods(&[]).values().all(|spec| spec["template"]["spec"].get("imagePullSecrets").is_none()));

    let desired = render_with("2.3.0", "kubeflow-system", &[("image-pull-secrets", "regcred")]);
    for object in desired.objects.iter().filter(|object| object.resource.kind == "ClusterTrainingRuntime") {
        for job in object.manifest["spec"]["template"]["spec"]["replicatedJobs"].as_array().unwrap() {
            let pod = &job["template"]["spec"]["template"]["spec"];
            assert_eq!(pod["imagePullSecrets"], json!([{"name": "regcred"}]), "{}", object.key());
        }
    }
}

/// Admission asks for it, upstream's and ours: without it a TrainJob with `spec.initializer` is refused.
#[test]
fn initializers_mount_the_volume_that_admission_requires() {
    for version in ["2.2.1", "2.3.0"] {
        let mut seen = 0;
        for (key, manifest) in rendered(version) {
            let jobs =
                manifest["spec"]["template"]["spec"]["replicatedJobs"].as_array().into_iter().flatten();
            for job in
                jobs.filter(|job| job["name"].as_str().is_some_and(|name| name.ends_with("-initializer")))
            {
                let container = &job["template"]["spec"]["template"]["spec"]["containers"][0];
                let mounts = container["volumeMounts"].as_array().into_iter().flatten();
                assert_eq!(container["name"], job["name"], "{key}");
                assert_eq!(
                    mounts.filter(|mount| mount["name"] == "initializer").count(),
                    1,
                    "{key}: {container}"
                );
                seen += 1;
            }
        }
        assert_eq!(seen, 7, "{version}: torchtune's three with two, and that of the cache");
    }
}

/// The pod specs of the controllers, on a cluster of that Kubernetes version.
fn controllers(version: &str, kubernetes: &str) -> BTreeMap<String, Value> {
    let (options, resolution) = chosen(&[("trainer-version", version), ("data-cache", "true")]);
    let resolution = resolution.on(&kubernetes.parse().unwrap());
    let installation = Installation { name: "i".to_owned(), namespace: "n".to_owned() };
    let desired = catalog().render(&options, &resolution, &installation).unwrap();
    let deployments = desired.objects.into_iter().filter(|object| object.resource.kind == "Deployment");
    let pods: BTreeMap<String, Value> = deployments
        .map(|object| (object.key().name, object.manifest["spec"]["template"]["spec"].clone()))
        .collect();
    assert_eq!(pods.len(), 3, "{pods:#?}");
    pods
}

/// A pod that ended as soon as it is deleted would still be called: it leaves the endpoints first.
#[test]
fn webhook_pods_leave_the_endpoints_before_they_stop() {
    for version in ["2.2.1", "2.3.0"] {
        for (name, pod) in controllers(version, "1.36.3") {
            let sleep = &pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"];
            assert!(sleep.as_u64().unwrap() >= 5, "{name}: {pod}");
            // What upstream gives it for its own end is left whole.
            let upstream = if name.starts_with("kubeflow-trainer") { 30 } else { 10 };
            let grace = pod["terminationGracePeriodSeconds"].as_u64().unwrap();
            assert_eq!(grace - sleep.as_u64().unwrap(), upstream, "{name}");
        }
        // A field that is not served would leave `preStop` without a handler, which is refused.
        for (name, pod) in controllers(version, "1.29.14") {
            assert!(pod["containers"][0].get("lifecycle").is_none(), "{name}: {pod}");
            let grace = pod.get("terminationGracePeriodSeconds").and_then(Value::as_u64);
            let upstream = if name.starts_with("kubeflow-trainer") { None } else { Some(10) };
            assert_eq!(grace, upstream, "{name}");
        }
    }
}

/// By the rules of the pod security standard `restricted`.
#[test]
fn pods_of_the_controllers_satisfy_pod_security_restricted() {
    for version in ["2.2.1", "2.3.0"] {
        for (name, pod) in controllers(version, "1.36.3") {
            for field in ["hostNetwork", "hostPID", "hostIPC"] {
                assert!(pod.get(field).is_none(), "{name}: {field}");
            }
            let volumes = pod["volumes"].as_array().unwrap();
            let is_allowed = |volume: &Value| volume.get("configMap").or(volume.get("secret")).is_some();
            assert!(volumes.iter().all(is_allowed), "{name}: {volumes:?}");
            for container in pod["containers"].as_array().unwrap() {
                let own = &container["securityContext"];
                let set = |field: &str| own.get(field).unwrap_or(&pod["securityContext"][field]).clone();
                assert_eq!(set("runAsNonRoot"), json!(true), "{name}");
                assert_eq!(set("seccompProfile"), json!({"type": "RuntimeDefault"}), "{name}");
                assert_eq!(own["allowPrivilegeEscalation"], json!(false), "{name}");
                assert_eq!(own["capabilities"], json!({"drop": ["ALL"]}), "{name}");
            }
        }
    }
}

/// Names, ports, selectors and webhooks stay: from one reconciler to the other is an ordinary upgrade.
#[test]
fn the_native_reconciler_replaces_upstreams_controller() {
    let by_key = |more: &[(&str, &str)]| -> BTreeMap<_, _> {
        let desired = render_with("2.3.0", "kubeflow-system", more);
        desired.objects.into_iter().map(|object| (object.key().to_string(), object.manifest)).collect()
    };
    let (upstream, native) = (by_key(&[]), by_key(&[("reconciler", "native")]));
    let only = |a: &BTreeMap<String, Value>, b: &BTreeMap<String, Value>| -> Vec<String> {
        a.keys().filter(|key| !b.contains_key(*key)).cloned().collect()
    };
    assert_eq!(only(&upstream, &native), Vec::<String>::new());
    let name = "kubeflow-system/kubeflow-trainer-controller-manager";
    let crd = |plural: &str| format!("CustomResourceDefinition {plural}.trainer.kubeflow.org");
    assert_eq!(
        only(&native, &upstream),
        [crd("optimizationjobs"), format!("Role {name}"), format!("RoleBinding {name}")]
    );
    let changed: Vec<&String> = native
        .iter()
        .filter(|(key, manifest)| upstream.get(*key).is_some_and(|other| other != *manifest))
        .map(|(key, _)| key)
        .collect();
    assert_eq!(
        changed,
        [
            "ClusterRole kubeflow-trainer-controller-manager",
            &crd("clustertrainingruntimes"),
            &crd("trainingruntimes"),
            &crd("trainjobs"),
            &format!("Deployment {name}"),
            "ValidatingWebhookConfiguration validator.trainer.kubeflow.org",
        ]
    );
    let mut pod = native[&format!("Deployment {name}")].clone();
    let container = &mut pod["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(container["image"], format!("localhost/trainerd:v{}", env!("CARGO_PKG_VERSION")));
    assert_eq!(container["args"][0], "reconciler");
    container["image"] = json!("ghcr.io/kubeflow/trainer/trainer-controller-manager:v2.3.0");
    container["args"].as_array_mut().unwrap().remove(0);
    assert_eq!(pod, upstream[&format!("Deployment {name}")]);
}

/// What the daemon hosts is not in the cluster, and nothing there waits for it; everything else stays.
#[test]
fn a_hosted_reconciler_is_not_in_the_cluster() {
    let by_key = |more: &[(&str, &str)]| -> BTreeMap<_, _> {
        let desired = render_with("2.3.0", "kubeflow-system", more);
        desired.objects.into_iter().map(|object| (object.key().to_string(), object.manifest)).collect()
    };
    let (native, hosted) = (by_key(&[("reconciler", "native")]), by_key(&[("reconciler", "hosted")]));
    let name = "kubeflow-system/kubeflow-trainer-controller-manager";
    let gone: Vec<&String> = native.keys().filter(|key| !hosted.contains_key(*key)).collect();
    let expected = [
        "ClusterRole kubeflow-trainer-controller-manager".to_owned(),
        "ClusterRoleBinding kubeflow-trainer-controller-manager".to_owned(),
        format!("Deployment {name}"),
        "MutatingWebhookConfiguration defaulter.trainer.kubeflow.org".to_owned(),
        format!("Role {name}"),
        format!("RoleBinding {name}"),
        "Secret kubeflow-system/kubeflow-trainer-webhook-cert".to_owned(),
        format!("Service {name}"),
        format!("ServiceAccount {name}"),
        "ValidatingWebhookConfiguration validator.trainer.kubeflow.org".to_owned(),
    ];
    let mut gone: Vec<String> = gone.into_iter().cloned().collect();
    gone.sort();
    assert_eq!(gone, expected);
    for (key, manifest) in &hosted {
        assert_eq!(Some(manifest), native.get(key), "{key}");
    }
    // What it is started with is the container's command line.
    let catalog = trainerd_catalog::Catalog::builtin().unwrap();
    let process = &catalog.processes("trainer", &"2.3.0".parse().unwrap())["reconciler"];
    let pod = &native[&format!("Deployment {name}")]["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(pod["args"], json!(process.arguments));
    for (probe, check) in [("livenessProbe", "alive"), ("readinessProbe", "ready")] {
        let path = process.checks.iter().find(|it| it.name == check).map(|it| it.path.as_str());
        assert_eq!(pod[probe]["httpGet"]["path"].as_str(), path, "{probe}");
    }
    for (path, key) in &process.files {
        let mount =
            pod["volumeMounts"].as_array().unwrap().iter().find(|mount| mount["mountPath"] == path.as_str());
        assert_eq!(mount.unwrap()["subPath"], key.as_str());
    }
}

#[test]
fn fields_written_by_controllers_are_not_rendered() {
    for version in ["2.2.1", "2.3.0"] {
        for (key, manifest) in rendered(version) {
            assert!(!manifest.to_string().contains("\"caBundle\":\""), "{key}");
            assert!(manifest.get("aggregationRule").is_none() || manifest.get("rules").is_none(), "{key}");
            assert!(manifest.get("status").is_none_or(Value::is_null), "{key}");
            if key.kind == "Secret" {
                assert!(manifest.get("data").is_none_or(|data| *data == json!({})), "{key}");
            }
        }
    }
}

/// A component lists the options that change it, and a catalog may be asked for them.
#[test]
fn components_list_the_options_that_change_them() {
    let changes: &[(&str, &str)] = &[
        ("auto-rollback", "false"),
        ("conflicts", "force"),
        ("data-cache", "false"),
        ("data-cache-server", "native"),
        ("image-pull-secrets", "regcred"),
        ("image-registry", "mirror.local"),
        ("initializers", "native"),
        ("jobset-image", "a.io/j:x"),
        ("kubeflow-trainer-image", "a.io/t:x"),
        ("lws-image", "a.io/l:x"),
        ("progress-deadline", "60"),
        ("reconciler", "native"),
        ("retry-failed", "60"),
        ("revision-history", "5"),
        ("runtime-images", "torch-distributed=a.io/t:1"),
        ("runtimes", "none"),
        ("settle", "0"),
        ("small-footprint", "true"),
        ("trainerd-image", "a.io/d:x"),
        ("trainjob-status", "true"),
    ];
    let catalog = catalog();
    let before = render_with("2.3.0", "kubeflow-system", &[]);
    let objects = |desired: &Desired, component: &str| -> Vec<DesiredObject> {
        desired.objects.iter().filter(|object| object.component == component).cloned().collect()
    };
    // The daemon's image is the trainer's where the reconciler is native.
    let native = render_with("2.3.0", "kubeflow-system", &[("reconciler", "native")]);
    let after: Vec<(&str, &Desired, Desired)> = changes
        .iter()
        .map(|change| match change.0 {
            "trainerd-image" => (
                change.0,
                &native,
                render_with("2.3.0", "kubeflow-system", &[("reconciler", "native"), *change]),
            ),
            _ => (change.0, &before, render_with("2.3.0", "kubeflow-system", std::slice::from_ref(change))),
        })
        .collect();
    for (name, component) in &before.components {
        let changing =
            after.iter().filter(|(_, before, after)| objects(before, name) != objects(after, name));
        let changing: Vec<&str> = changing.map(|(option, ..)| *option).collect();
        let mut listed = catalog.options_of(name, &component.version).unwrap().to_vec();
        listed.sort();
        assert_eq!(changing, listed, "{name}");
    }
}

/// Names that YAML would take for a number or a truth value stay texts.
#[test]
fn the_namespace_is_quoted() {
    for namespace in ["123", "1e3", "true", "null"] {
        let desired = render_with("2.3.0", namespace, &[]);
        assert!(desired.objects.iter().any(|object| object.key().namespace.as_deref() == Some(namespace)));
        assert!(
            !yaml::documents(desired.objects.iter().map(|o| &o.manifest))
                .contains(&format!("namespace: {namespace}\n"))
        );
    }
}

#[test]
fn an_invalid_namespace_is_rejected() {
    let (options, resolution) = chosen(&[]);
    for namespace in ["", "Team", "a.b", "-a", &"n".repeat(64)] {
        let installation = Installation { name: "i".to_owned(), namespace: namespace.to_owned() };
        assert!(matches!(
            catalog().render(&options, &resolution, &installation),
            Err(RenderError::Namespace { namespace: named }) if named == namespace
        ));
    }
}

/// Every kind that a webhook admits has a probe of that kind; pods are admitted by the same servers.
#[test]
fn every_webhook_has_a_probe() {
    for version in ["2.2.1", "2.3.0"] {
        let desired = render_with(version, "kubeflow-system", &[]);
        for object in
            desired.objects.iter().filter(|object| object.resource.kind.ends_with("WebhookConfiguration"))
        {
            let probes = &desired.components[&object.component].probes;
            for rule in
                object.manifest["webhooks"].as_array().unwrap().iter().map(|webhook| &webhook["rules"][0])
            {
                let plural = rule["resources"][0].as_str().unwrap();
                let probe = probes.iter().find(|probe| probe.resource.plural == plural);
                assert!(probe.is_some() || plural == "pods", "{}: {plural}", object.key());
                if let Some(probe) = probe {
                    assert_eq!(rule["apiGroups"][0], probe.resource.group.as_str());
                    assert!(
                        probe.manifest["metadata"].get("labels").is_none(),
                        "a label may opt out of admission"
                    );
                }
            }
        }
    }
}

/// A catalog with one component of one template, rendered.
fn render_template(component: &str, template: &str) -> Result<Desired, RenderError> {
    let head = "name: trainer\nversion: 1.0.0\nupgradesFrom: '*'\nfiles: [trainer/a.yaml]\n";
    let component = format!("{head}{component}");
    let files = [("trainer/1.0.0/component.yaml", component.as_str()), ("trainer/a.yaml", template)];
    let catalog = Catalog::new(Schema::builtin().unwrap(), &files).unwrap();
    let options = catalog.parse_options(&given(&[("components", "trainer"), ("runtimes", "none")])).unwrap();
    let resolution = catalog.resolve(&options, None).unwrap();
    catalog.render(&options, &resolution, &Installation { name: "i".to_owned(), namespace: "n".to_owned() })
}

const CONFIG_MAP: &str =
    "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, namespace: \"{{ namespace }}\"}\n";

#[test]
fn an_unknown_variable_is_reported() {
    let template = format!("{CONFIG_MAP}data:\n  a: \"{{{{ namespcae }}}}\"\n");
    let error = render_template("", &template).unwrap_err();
    assert_eq!(error.to_string(), "unknown variable namespcae in templates/trainer/a.yaml, line 5");
}

#[test]
fn invalid_objects_are_rejected() {
    let deployment = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a, namespace: n}\nspec: {template: {spec: {containers: [{name: a, image: \"a:1\"}]}}}\n";
    let cases: &[(&str, ObjectFault)] = &[
        ("kind: ConfigMap\n", ObjectFault::Nameless),
        ("apiVersion: v1\nkind: Pod\nmetadata: {name: a, namespace: n}\n", ObjectFault::UnknownKind),
        ("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n", ObjectFault::Scope),
        ("apiVersion: v1\nkind: Namespace\nmetadata: {name: a, namespace: n}\n", ObjectFault::Scope),
        (deployment, ObjectFault::UndeclaredImage("a:1".to_owned())),
        (
            "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata: {name: a}\naggregationRule: {}\nrules: []\n",
            ObjectFault::ForeignField("rules"),
        ),
        (
            "apiVersion: admissionregistration.k8s.io/v1\nkind: MutatingWebhookConfiguration\nmetadata: {name: a}\nwebhooks: [{clientConfig: {caBundle: \"\"}}]\n",
            ObjectFault::ForeignField("caBundle"),
        ),
    ];
    for (template, expected) in cases {
        match render_template("", template) {
            Err(RenderError::Object { file, fault, .. }) => {
                assert_eq!((file.as_str(), &fault), ("templates/trainer/a.yaml", expected));
            }
            other => panic!("{template}: {other:?}"),
        }
    }
    let twice = format!("{CONFIG_MAP}---\n{CONFIG_MAP}");
    assert!(
        matches!(render_template("", &twice), Err(RenderError::Twice { object }) if object == "ConfigMap n/a")
    );
    assert!(matches!(render_template("", "a: [\n"), Err(RenderError::Manifest { .. })));
}

#[test]
fn order_adds_edges() {
    let template = format!("{CONFIG_MAP}---\n{}", CONFIG_MAP.replace("name: a", "name: b"));
    let order = "order: [{object: ConfigMap a, after: ConfigMap b}]\n";
    let desired = render_template(order, &template).unwrap();
    assert_eq!(desired.objects[0].after, [desired.objects[1].key()]);
    assert!(desired.objects[1].after.is_empty());
    let order = "order: [{object: ConfigMap a, after: ConfigMap c}]\n";
    assert!(
        matches!(render_template(order, &template), Err(RenderError::Dangling(Dangling { what, .. })) if what == "object ConfigMap c")
    );
}

#[test]
fn an_error_of_the_catalog_names_the_file() {
    let new =
        |files: &[(&str, &str)]| Catalog::new(Schema::builtin().unwrap(), files).unwrap_err().to_string();
    let component = |more: &str| format!("name: a\nversion: 1.0.0\nupgradesFrom: '*'\n{more}");
    assert_eq!(new(&[("a/1/component.yaml", "name: [")]), "failed to read templates/a/1/component.yaml");
    assert_eq!(
        new(&[("a/1/component.yaml", &component("nmae: x\n"))]),
        "failed to read templates/a/1/component.yaml"
    );
    assert_eq!(
        new(&[("a/1/component.yaml", &component("files: [a/b.yaml]\n"))]),
        "templates/a/b.yaml is missing, which a 1.0.0 refers to"
    );
    assert_eq!(
        new(&[("a/1/component.yaml", &component("images: {i: {default: 'a b', option: o}}\n"))]),
        "a 1.0.0 refers to image a b, which it does not have"
    );
    let crds = component("crds: [{name: things.example.io}]\n").replace("name: a", "name: trainer");
    let catalog = Catalog::new(Schema::builtin().unwrap(), &[("trainer/1/component.yaml", &crds)]).unwrap();
    let options = catalog.parse_options(&given(&[("components", "trainer"), ("runtimes", "none")])).unwrap();
    let resolution = catalog.resolve(&options, None).unwrap();
    let installation = Installation { name: "i".to_owned(), namespace: "n".to_owned() };
    let error = catalog.render(&options, &resolution, &installation).unwrap_err();
    assert_eq!(error.to_string(), "failed to make CRD things.example.io of trainer 1.0.0");
}

/// The catalog lists the CRDs that the type table has.
#[test]
fn the_crds_are_those_of_the_type_table() {
    for version in ["2.2.1", "2.3.0"] {
        let desired = render_with(version, "kubeflow-system", &[]);
        for (name, component) in &desired.components {
            let crds = desired.objects.iter().filter(|object| {
                object.component == *name && object.resource.kind == "CustomResourceDefinition"
            });
            let crds: Vec<String> = crds.map(|object| object.key().name).collect();
            assert_eq!(crds, names(name, &component.version, CrdChannel::Release));
        }
    }
    let native = render_with("2.3.0", "kubeflow-system", &[("reconciler", "native")]);
    let crds = native.objects.iter().filter(|it| it.component == "trainer").map(DesiredObject::key);
    let crds: Vec<String> =
        crds.filter(|key| key.kind == "CustomResourceDefinition").map(|key| key.name).collect();
    assert_eq!(crds, names("trainer", &Version::new(2, 3, 0), CrdChannel::Native));
}
