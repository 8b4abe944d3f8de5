//! The option `patches`: what operators of real clusters must set, and how what cannot be set is refused.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops where it is surprised")]

mod support;

use std::collections::BTreeMap;

use serde_json::{Value, json};
use support::{catalog, given, render_with, rendered};
use trainerd_api::kinds;
use trainerd_catalog::{Catalog, Current, InvalidOptions, Raw, RenderError, ResolveError, Schema};
use trainerd_plan::desired::{Desired, Installation, Naming};
use trainerd_plan::object::ObjectKey;

fn installation() -> Installation {
    Installation { name: "kubeflow-trainer".to_owned(), namespace: "kubeflow-system".to_owned() }
}

fn render_in(catalog: &Catalog, pairs: &[(&str, &str)]) -> Result<Desired, InvalidOptions> {
    let options = catalog.parse_options(&given(pairs))?;
    let resolution = match catalog.resolve(&options, None) {
        Err(ResolveError::Options(invalid)) => return Err(invalid),
        other => other.unwrap(),
    };
    bad_patches(catalog.render(&options, &resolution, &installation()))
}

fn bad_patches(rendered: Result<Desired, RenderError>) -> Result<Desired, InvalidOptions> {
    match rendered {
        Err(RenderError::Patches(invalid)) => Err(invalid),
        other => Ok(other.unwrap()),
    }
}

fn render(patches: &str) -> Result<Desired, InvalidOptions> {
    render_in(catalog(), &[("patches", patches)])
}

fn object(desired: &Desired, kind: &str, name: &str) -> Value {
    let is = |key: &ObjectKey| key.kind == kind && key.name == name;
    desired.objects.iter().find(|object| is(&object.key())).unwrap().manifest.clone()
}

/// Rule and nearest spelling of each fault.
fn wrong(result: Result<Desired, InvalidOptions>) -> Vec<(String, Option<String>)> {
    match result {
        Err(invalid) => {
            let row = |error: &trainerd_catalog::OptionError| {
                assert_eq!(error.option, "patches");
                (error.rule.to_string(), error.nearest.clone())
            };
            invalid.errors().iter().map(row).collect()
        }
        other => panic!("{:?}", other.map(|desired| desired.objects.len())),
    }
}

const CONTROLLERS: [&str; 3] =
    ["jobset-controller-manager", "kubeflow-trainer-controller-manager", "lws-controller-manager"];

/// Tolerations, nodeSelector, affinity, annotations and labels of pods, resources, priority, seccomp and
/// environment, for all controllers at once.
const EVERYTHING: &str = r#"
- target: {kind: Deployment}
  patch:
    spec:
      template:
        metadata:
          annotations: {cluster-autoscaler.kubernetes.io/safe-to-evict: "true"}
          labels: {team: ml}
        spec:
          priorityClassName: system-cluster-critical
          nodeSelector: {node-role.kubernetes.io/infra: ""}
          tolerations:
          - {key: infra, operator: Exists, effect: NoSchedule, tolerationSeconds: 30}
          affinity:
            podAntiAffinity:
              preferredDuringSchedulingIgnoredDuringExecution:
              - weight: 1
                podAffinityTerm:
                  topologyKey: kubernetes.io/hostname
                  labelSelector: {matchLabels: {team: ml}}
          securityContext: {seccompProfile: {type: Localhost, localhostProfile: p.json}}
          containers:
          - name: manager
            env: [{name: HTTPS_PROXY, value: "http://proxy.example.com:3128"}]
            resources: {limits: {cpu: "2", memory: 512Mi}, requests: {cpu: 100m}}
"#;

#[test]
fn patches_reach_the_pods_of_every_controller() {
    let before = render("").unwrap();
    let desired = render(EVERYTHING).unwrap();
    for name in CONTROLLERS {
        let old = object(&before, "Deployment", name);
        let new = object(&desired, "Deployment", name);
        let template = &new["spec"]["template"];
        let (pod, manager) = (&template["spec"], &template["spec"]["containers"][0]);
        assert_eq!(template["metadata"]["labels"]["team"], "ml", "{name}");
        assert_eq!(
            template["metadata"]["annotations"]["cluster-autoscaler.kubernetes.io/safe-to-evict"],
            "true"
        );
        assert_eq!(pod["priorityClassName"], "system-cluster-critical", "{name}");
        assert_eq!(pod["nodeSelector"], json!({"node-role.kubernetes.io/infra": ""}), "{name}");
        assert_eq!(pod["tolerations"][0]["tolerationSeconds"], 30, "{name}");
        assert_eq!(pod["securityContext"]["seccompProfile"]["localhostProfile"], "p.json", "{name}");
        assert_eq!(manager["env"][0]["name"], "HTTPS_PROXY", "{name}");
        assert_eq!(manager["resources"]["limits"], json!({"cpu": "2", "memory": "512Mi"}), "{name}");
        // What no patch names is as it was.
        let was = &old["spec"]["template"]["spec"]["containers"];
        assert_eq!(pod["containers"].as_array().unwrap().len(), was.as_array().unwrap().len(), "{name}");
        for field in ["image", "args", "ports", "volumeMounts", "livenessProbe", "securityContext"] {
            assert_eq!(manager[field], was[0][field], "{name} {field}");
        }
        assert_eq!(new["spec"]["selector"], old["spec"]["selector"], "{name}");
    }
    let changed =
        before.objects.iter().zip(&desired.objects).filter(|(old, new)| old.manifest != new.manifest);
    assert_eq!(changed.count(), CONTROLLERS.len());
    assert_eq!(desired.options["patches"], EVERYTHING);
}

#[test]
fn targets_match_kind_name_and_component_and_patches_apply_in_order() {
    let desired = render(
        "- target: {kind: Deployment, component: jobset}\n  patch: {spec: {replicas: 2}}\n\
         - target: {kind: Deployment, name: lws-controller-manager}\n  patch: '{spec: {replicas: 3}}'\n\
         - target: {kind: Deployment, name: lws-controller-manager, component: lws}\n  patch:\n  \
         - {op: test, path: /spec/replicas, value: 3}\n  - {op: replace, path: /spec/replicas, value: 4}\n\
         - target: {kind: ClusterTrainingRuntime, name: torch-distributed}\n  patch:\n    \
         spec: {template: {spec: {replicatedJobs: [{name: node, \
         template: {spec: {template: {spec: {tolerations: [{operator: Exists}]}}}}}]}}}\n\
         - target: {kind: Secret, name: jobset-webhook-server-cert}\n  patch: {metadata: {labels: {a: b}}}\n",
    )
    .unwrap();
    let replicas = |name: &str| object(&desired, "Deployment", name)["spec"]["replicas"].clone();
    assert_eq!(replicas("jobset-controller-manager"), 2);
    assert_eq!(replicas("lws-controller-manager"), 4);
    assert_eq!(replicas("kubeflow-trainer-controller-manager"), Value::Null);
    let runtime = object(&desired, "ClusterTrainingRuntime", "torch-distributed");
    let pod =
        &runtime["spec"]["template"]["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"];
    assert_eq!(pod["tolerations"], json!([{"operator": "Exists"}]));
    assert!(pod["containers"][0]["image"].is_string());
}

#[test]
fn an_options_file_may_contain_patches_as_a_list() {
    let text = "- target: {kind: Deployment, component: jobset}\n  patch: {spec: {replicas: 2}}\n";
    let list: Value = serde_yaml::from_str(text).unwrap();
    let raw = BTreeMap::from([("patches".to_owned(), Raw::Typed(list))]);
    let options = catalog().parse_options(&raw).unwrap();
    assert!(options.values()["patches"].is_string());
    let again = BTreeMap::from([("patches".to_owned(), Raw::Typed(options.values()["patches"].clone()))]);
    assert_eq!(catalog().parse_options(&again).unwrap(), options);
    let desired =
        catalog().render(&options, &catalog().resolve(&options, None).unwrap(), &installation()).unwrap();
    assert_eq!(object(&desired, "Deployment", "jobset-controller-manager")["spec"]["replicas"], 2);
}

/// An entry for the JobSet controller's container, with these fields.
fn manager(fields: &str) -> String {
    format!(
        "- target: {{kind: Deployment, component: jobset}}\n  patch: \
         {{spec: {{template: {{spec: {{containers: [{{name: manager, {fields}}}]}}}}}}}}\n"
    )
}

/// The same in errors.
const JOBSET: &str = "Deployment kubeflow-system/jobset-controller-manager";

/// Asserts that the patches have one error, which begins so, with that suggestion.
fn assert_wrong(patches: &str, error: &str, nearest: Option<&str>) {
    let found = wrong(render(patches));
    assert_eq!(found.len(), 1, "{patches}: {found:?}");
    assert!(found[0].0.starts_with(error), "{patches}\n found {}\n not   {error}", found[0].0);
    assert_eq!(found[0].1.as_deref(), nearest, "{patches}: {}", found[0].0);
}

#[test]
fn an_invalid_entry_is_named_with_its_cause() {
    let good = deployment("{spec: {replicas: 2}}");
    assert_wrong("a: b", "must be a list of patches in YAML: it is not a list", None);
    assert_wrong("- 1", "entry 1: it must be a mapping", None);
    assert_wrong(&format!("{good}- {{}}"), "entry 2: target must be given", None);
    let runtimes = format!("{good}- {{target: {{kind: Deployment, component: runtimes}}, patch: {{a: b}}}}");
    assert_wrong(&runtimes, "entry 2: no target: there is no Deployment of runtimes", None);
    // The daemon's patches are checked although the daemon is rendered elsewhere.
    let daemon = format!(
        "{good}- {{target: {{kind: Deployment, component: trainerd}}, patch: {{spec: {{replica: 2}}}}}}"
    );
    assert_wrong(&daemon, "entry 2: Deployment kubeflow-system/trainerd: spec.replica: unknown field", None);

    let neither = "patch must be a mapping (strategic merge) or a list (JSON patch, RFC 6902)";
    assert_wrong("- {target: {kind: Deployment}}", &format!("entry 1: {neither}"), None);
    let misspelt = "- {taget: {kind: Deployment}, patch: {a: b}}";
    assert_wrong(misspelt, "entry 1: unknown key taget; an entry has target, patch", Some("target"));
    for (target, patch, error, nearest) in [
        ("kind: Deployment", "7", neither, None),
        (
            "kind: Deployment, nam: x",
            "{a: b}",
            "unknown key nam; a target has kind, name, component",
            Some("name"),
        ),
        ("name: x", "{a: b}", "target.kind must be given", None),
        ("kind: Deployment, name: 1", "{a: b}", "target.name must be a text", None),
        ("kind: Deploymnt", "{a: b}", "no object of kind Deploymnt is rendered", Some("Deployment")),
        ("kind: Deployment, component: job-set", "{a: b}", "unknown component job-set", Some("jobset")),
        ("kind: Deployment", "'{a: ['", "its patch is not YAML", None),
        (
            "kind: Deployment",
            "[{op: put, path: /a}]",
            "its patch is not a JSON patch (RFC 6902): unknown variant `put`",
            None,
        ),
        (
            "kind: Deployment, name: jobset-controller-manger",
            "{spec: {replicas: 2}}",
            "no target: there is no Deployment jobset-controller-manger (there is jobset-controller-manager, \
             kubeflow-trainer-controller-manager, lws-controller-manager)",
            Some("jobset-controller-manager"),
        ),
        (
            "kind: Deployment, name: trainerd",
            "{spec: {replicas: 2}}",
            "no target: Deployment trainerd belongs to the daemon; give `component: trainerd`",
            None,
        ),
        (
            "kind: Secret, name: jobset-webhook-server-cert",
            "{data: {a: Yg==}}",
            "Secret kubeflow-system/jobset-webhook-server-cert: only labels and annotations can be patched \
             of a Secret",
            None,
        ),
        (
            "kind: CustomResourceDefinition, name: trainjobs.trainer.kubeflow.org",
            "{spec: {group: x}}",
            "CustomResourceDefinition trainjobs.trainer.kubeflow.org: only labels and annotations \
             can be patched of a CRD",
            None,
        ),
    ] {
        let patches = format!("- {{target: {{{target}}}, patch: {patch}}}");
        assert_wrong(&patches, &format!("entry 1: {error}"), nearest);
    }
}

#[test]
fn an_invalid_field_is_named_with_its_path() {
    for (patch, error) in [
        ("{spec: {replica: 2}}", "spec.replica: unknown field"),
        ("{spec: {replica: null}}", "spec.replica: unknown field"),
        ("{spec: {replicas: two}}", "spec.replicas: must be a whole number of 32 bits, not a string"),
        ("{spec: {selector: null}}", "spec.selector: is required"),
        ("[{op: add, path: /spec/replica, value: 2}]", "spec.replica: unknown field"),
        ("[{op: add, path: /spec/paused, value: 'on'}]", "spec.paused: must be true or false, not a string"),
        ("[{op: remove, path: /spec/paused}]", "operation '/0' failed at path '/spec/paused'"),
        ("{spec: {strategy: {$patch: remove}}}", "spec.strategy: `$patch` must be delete, replace or merge"),
        // What no patch may do.
        ("{metadata: {name: other}}", "metadata.name cannot be patched"),
        ("[{op: replace, path: /metadata/namespace, value: x}]", "metadata.namespace cannot be patched"),
        (
            "{spec: {template: {metadata: {labels: {control-plane: null}}}}}",
            "the pods would lose label control-plane",
        ),
        (
            "{metadata: {labels: {applyset.kubernetes.io/part-of: x}}}",
            "applyset.kubernetes.io/part-of is trainerd's own",
        ),
    ] {
        assert_wrong(&deployment(patch), &format!("entry 1: {JOBSET}: {error}"), None);
    }
    for (fields, error) in [
        ("resources: {limits: {memory: lots}}", ".resources.limits.memory: does not match"),
        ("env: {A: b}", ".env: must be a list, not an object"),
        ("env: [{value: b}]", ".env[0].name: is required"),
        ("env: [{name: A, value: 1}]", ".env[A].value: must be a string, not a number"),
    ] {
        let path = "spec.template.spec.containers[manager]";
        assert_wrong(&manager(fields), &format!("entry 1: {JOBSET}: {path}{error}"), None);
    }
    let image = format!("entry 1: {JOBSET}: image evil.example.com/x:1 cannot be set by a patch");
    assert_wrong(&manager("image: evil.example.com/x:1"), &image, None);
    let container = format!("entry 1: {JOBSET}: there is no container mangaer (there is manager)");
    assert_wrong(&manager("").replace("manager,", "mangaer,"), &container, None);
}

/// An entry for the JobSet controller, with this patch.
fn deployment(patch: &str) -> String {
    format!("- target: {{kind: Deployment, component: jobset}}\n  patch: {patch}\n")
}

#[test]
fn all_invalid_entries_are_reported() {
    let text = "- {target: {kind: Deployment, name: a}, patch: {spec: {replicas: 1}}}\n\
                - {target: {kind: Deployment}, patch: {spec: {replicas: 1}}}\n\
                - {target: {kind: Service, name: b}, patch: {spec: {type: ClusterIP}}}\n";
    let found = wrong(render(text));
    assert!(
        found[0].0.starts_with("entry 1: no target") && found[1].0.starts_with("entry 3: no target"),
        "{found:?}"
    );
}

#[test]
fn patches_of_the_daemon_apply_only_to_the_daemon() {
    let text = "- {target: {kind: Deployment, component: trainerd}, patch: {spec: {replicas: 2}}}\n\
                - {target: {kind: Deployment, component: lws}, patch: {spec: {replicas: 5}}}\n";
    let options = catalog().parse_options(&given(&[("patches", text)])).unwrap();
    let daemon = catalog().render_daemon(&options, &installation()).unwrap();
    assert_eq!(object(&daemon, "Deployment", "trainerd")["spec"]["replicas"], 2);
    let stack = render(text).unwrap();
    assert_eq!(object(&stack, "Deployment", "lws-controller-manager")["spec"]["replicas"], 5);
}

/// Two versions of a component; the later one has no ConfigMap `b` any more.
fn two_versions() -> Catalog {
    let component = |version: &str, files: &str| {
        format!("name: trainer\nversion: {version}\nupgradesFrom: '*'\nfiles: [{files}]\n")
    };
    let map = |name: &str| {
        format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: \
             {{name: {name}, namespace: \"{{{{ namespace }}}}\"}}\n"
        )
    };
    let (old, new) =
        (component("1.0.0", "trainer/a.yaml, trainer/b.yaml"), component("1.1.0", "trainer/a.yaml"));
    let (a, b) = (map("a"), map("b"));
    let files = [
        ("trainer/1.0.0/component.yaml", old.as_str()),
        ("trainer/1.1.0/component.yaml", new.as_str()),
        ("trainer/a.yaml", a.as_str()),
        ("trainer/b.yaml", b.as_str()),
    ];
    Catalog::new(Schema::builtin().unwrap(), &files).unwrap()
}

#[test]
fn a_target_missing_in_a_newer_version_is_reported() {
    let catalog = two_versions();
    let text = "- {target: {kind: ConfigMap, name: b}, patch: {data: {x: y}}}\n";
    let base = [("components", "trainer"), ("runtimes", "none"), ("patches", text)];
    assert!(render_in(&catalog, &[&base[..], &[("trainer-version", "1.0.0")]].concat()).is_ok());

    let options =
        catalog.parse_options(&given(&[&base[..], &[("trainer-version", "1.1.0")]].concat())).unwrap();
    let installed = BTreeMap::from([("trainer".to_owned(), "1.0.0".parse().unwrap())]);
    let resolution = catalog.resolve(&options, Some(Current { components: &installed })).unwrap();
    let change = |from| catalog.render_change(&options, &resolution, &installation(), Naming::Upstream, from);
    let found = wrong(bad_patches(change(&installed)));
    assert_eq!(
        found[0].0,
        "entry 1: the target no longer exists: trainer 1.0.0 has ConfigMap b, trainer 1.1.0 does not"
    );
    // Where no installed version has it either, nothing is gone.
    let never = BTreeMap::from([("trainer".to_owned(), "1.1.0".parse().unwrap())]);
    let found = wrong(bad_patches(change(&never)));
    assert_eq!(found[0].0, "entry 1: no target: there is no ConfigMap b (there is a)");
}

/// The table must know every rendered field, or it would refuse patches of other fields.
#[test]
fn every_rendered_object_is_valid_by_the_type_table() {
    let table = trainerd_api::table().unwrap();
    for version in ["2.2.1", "2.3.0"] {
        let desired = render_with(version, "kubeflow-system", &[("image-pull-secrets", "a")]);
        let daemon =
            catalog().render_daemon(&catalog().parse_options(&given(&[])).unwrap(), &installation()).unwrap();
        assert_eq!(desired.objects.len(), rendered(version).len());
        for object in desired.objects.iter().chain(&daemon.objects) {
            let key = object.key();
            let described = kinds::describe(&key.group, &key.kind).unwrap();
            let levels = match described.component {
                Some(component) => kinds::levels(component, &desired.components[component].version).unwrap(),
                None => kinds::kubernetes_levels(None),
            };
            let faults = table.check(described.type_name, &levels, &object.manifest).unwrap();
            assert_eq!(faults, [], "{key}");
        }
    }
}
