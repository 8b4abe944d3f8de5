//! Admission that changes what is applied: named, not repeated, and nobody fights it.

use std::error::Error;
use std::time::Duration;

use serde_json::{Value, json};
use trainerd_cluster::CreateParams;
use trainerd_integration::TestCluster;
use trainerd_integration::cluster::AuditLog;
use trainerd_integration::stack::{NAMESPACE, QUICK, config_map, deployment};
use trainerd_plan::object::Resource;

type Result<T = (), E = Box<dyn Error>> = std::result::Result<T, E>;

const JOBSET: &str = "jobset-controller-manager";
const CONFIG: &str = "jobset-manager-config";
const CPU: &str = ".spec.template.spec.containers[name=manager].resources.requests.cpu";
const NAMED: &str = "changed by admission control";
/// As long as a repair would take, many times over.
const PEACE: Duration = Duration::from_secs(3);
const BOUND: Duration = Duration::from_mins(1);

fn policies(kind: &str, plural: &str) -> Resource {
    let (group, version) = ("admissionregistration.k8s.io".to_owned(), "v1".to_owned());
    Resource { group, version, kind: kind.to_owned(), plural: plural.to_owned(), namespaced: false }
}

/// A policy that replaces a field of one object in every write.
fn replace(cluster: &TestCluster, resource: (&str, &str), name: &str, path: &str, value: &str) -> Result {
    let (group, plural) = resource;
    let policy_name = format!("replace-{name}");
    let rule = json!({"apiGroups": [group], "apiVersions": ["v1"], "resources": [plural],
        "operations": ["CREATE", "UPDATE"]});
    let expression = format!("[JSONPatch{{op: \"replace\", path: \"{path}\", value: \"{value}\"}}]");
    let policy = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingAdmissionPolicy",
        "metadata": {"name": policy_name},
        "spec": {
            "failurePolicy": "Fail", "reinvocationPolicy": "Never",
            "matchConstraints": {"resourceRules": [rule]},
            "matchConditions": [{"name": "ours", "expression": format!("object.metadata.name == '{name}'")}],
            "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": expression}}],
        },
    });
    cluster.create(&policies("MutatingAdmissionPolicy", "mutatingadmissionpolicies"), &policy)?;
    let binding = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingAdmissionPolicyBinding",
        "metadata": {"name": policy_name}, "spec": {"policyName": policy_name},
    });
    cluster
        .create(&policies("MutatingAdmissionPolicyBinding", "mutatingadmissionpolicybindings"), &binding)?;
    Ok(())
}

fn annotate(cluster: &TestCluster, resource: &Resource, name: &str, value: &str) -> Result {
    let patch = json!({"metadata": {"annotations": {"somebody.example/was": value}}});
    let params = CreateParams::default();
    cluster.block_on(cluster.api().patch_merge(resource, Some(NAMESPACE), name, &patch, params))?;
    Ok(())
}

fn cpu(cluster: &TestCluster) -> Result<Value, trainerd_integration::Error> {
    let found = cluster.get(&deployment(), NAMESPACE, JOBSET)?.unwrap_or_default();
    Ok(found["spec"]["template"]["spec"]["containers"][0]["resources"]["requests"]["cpu"].clone())
}

/// Writes somebody else's annotation until the policy is in force, which takes a moment.
fn until_changed(cluster: &TestCluster) -> Result {
    let mut times = 0;
    cluster.wait_until("the policy to be in force", BOUND, || {
        times += 1;
        annotate(cluster, &deployment(), JOBSET, &times.to_string())
            .map_err(|error| trainerd_integration::Error::Missing(error.to_string()))?;
        Ok(cpu(cluster)? == "50m")
    })?;
    Ok(())
}

/// What a command prints, and the objects of the stack that it wrote.
fn run(cluster: &TestCluster, arguments: &[&str], code: i32) -> Result<(String, Vec<String>)> {
    let mark = cluster.audit().map(AuditLog::mark).transpose()?;
    let run = cluster.run(arguments)?.expect_code(code)?;
    let mut written = Vec::new();
    if let (Some(audit), Some(mark)) = (cluster.audit(), mark) {
        let writes = audit.writes_since(mark, "trainerd/")?.into_iter().map(|write| format!("{write:?}"));
        written.extend(writes.filter(|write| !write.contains("leases")));
    }
    Ok((format!("{}{}", run.stdout, run.stderr), written))
}

fn up<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&["up", "--yes", "--timeout", "3m", "--set", "trainer-version=2.2.1"][..], &QUICK, more].concat()
}

#[test]
fn admission_changes_are_reported_and_not_repaired_again() -> Result {
    let cluster = TestCluster::take()?;
    if !cluster.is_local() {
        println!("skipped: a policy that changes objects is for the local cluster");
        return Ok(());
    }
    cluster.install("2.2.1", &[])?;
    let path = "/spec/template/spec/containers/0/resources/requests/cpu";
    replace(&cluster, ("apps", "deployments"), JOBSET, path, "50m")?;
    // A kind that is followed by its metadata alone.
    let text = "/data/controller_manager_config.yaml";
    replace(&cluster, ("", "configmaps"), CONFIG, text, "changed")?;
    until_changed(&cluster)?;
    annotate(&cluster, &config_map(), CONFIG, "1")?;

    // Tried once, for what was seen may have been an accident; then known, by every process.
    let (said, written) = run(&cluster, &up(&[]), 0)?;
    assert!(said.contains(NAMED) && said.contains(CPU), "{said}");
    assert!(!written.is_empty());
    let (said, written) = run(&cluster, &up(&[]), 0)?;
    assert_eq!(written, Vec::<String>::new(), "{said}");
    assert!(said.contains("nothing to do") && said.contains(NAMED), "{said}");
    let plan: Vec<&str> = up(&[]).into_iter().skip(4).collect();
    let (said, _) = run(&cluster, &[&["plan"][..], &plan].concat(), 0)?;
    assert!(said.contains(NAMED) && said.contains("50m"), "{said}");
    let status: Value = cluster.run(&["status", "-o", "json"])?.expect_code(0)?.json()?;
    let object = |object: &&Value| object["object"]["name"] == JOBSET;
    let told = status["objects"].as_array().into_iter().flatten().find(object).cloned().unwrap_or_default();
    assert_eq!((&told["admission"], &told["drift"]), (&json!([CPU]), &json!([])), "{status:#}");

    // Another intent is tried, and known in its turn.
    let (_, written) = run(&cluster, &up(&["--set", "small-footprint=false"]), 0)?;
    assert!(!written.is_empty());
    let (said, written) = run(&cluster, &up(&["--set", "small-footprint=false"]), 0)?;
    assert_eq!(written, Vec::<String>::new(), "{said}");
    Ok(())
}

#[test]
fn a_daemon_does_not_fight_admission() -> Result {
    let cluster = TestCluster::take()?;
    if !cluster.is_local() {
        println!("skipped: a policy that changes objects is for the local cluster");
        return Ok(());
    }
    cluster.install("2.2.1", &[])?;
    let options = cluster.folder().join("options.yaml");
    std::fs::write(&options, "trainer-version: 2.2.1\nsmall-footprint: true\nsettle: 0\n")?;
    let mut daemon = cluster.daemon("admission", &["--config", &options.to_string_lossy()])?;
    daemon.wait_until_settled(BOUND)?;
    replace(
        &cluster,
        ("apps", "deployments"),
        JOBSET,
        "/spec/template/spec/containers/0/resources/requests/cpu",
        "50m",
    )?;
    until_changed(&cluster)?;
    let is_left = |view: &Value| {
        let drift = view["outlook"]["drift"].as_array().into_iter().flatten();
        view["settled"] == true
            && drift
                .into_iter()
                .any(|drift| drift["why"]["reason"] == "Admission" && drift["state"] == "left")
    };
    daemon.wait_for("at peace with admission", BOUND, is_left)?;
    let mark = cluster.audit().map(AuditLog::mark).transpose()?;
    annotate(&cluster, &deployment(), JOBSET, "once more")?;
    std::thread::sleep(PEACE);
    if let (Some(audit), Some(mark)) = (cluster.audit(), mark) {
        let mut writes = audit.writes_since(mark, "trainerd/")?;
        // What becomes of the drift is told.
        writes.retain(|write| !write.path.ends_with("/events"));
        assert_eq!(writes, [], "nothing is written again");
    }
    assert!(is_left(&daemon.read("/v1/installation")?), "{}", daemon.log());
    assert!(!daemon.log().contains("repaired"), "{}", daemon.log());
    // What somebody else changes beside it is drift as before.
    let scale = json!([{"op": "replace", "path": "/spec/replicas", "value": 2}]);
    cluster.block_on(cluster.api().patch_json(&deployment(), Some(NAMESPACE), JOBSET, &scale))?;
    cluster.wait_until("the scale to be repaired", BOUND, || {
        Ok(cluster.get(&deployment(), NAMESPACE, JOBSET)?.unwrap_or_default()["spec"]["replicas"] == 1)
    })?;
    daemon.wait_for("at peace again", BOUND, is_left)?;
    Ok(())
}

#[test]
fn ignored_fields_are_not_repaired() -> Result {
    let cluster = TestCluster::take()?;
    if !cluster.is_local() {
        println!("skipped: a policy that changes objects is for the local cluster");
        return Ok(());
    }
    let ignore = ["--set", "drift-ignore=Deployment:/spec/template/spec/containers/0/resources"];
    cluster.install("2.2.1", &ignore)?;
    let path = "/spec/template/spec/containers/0/resources/requests/cpu";
    replace(&cluster, ("apps", "deployments"), JOBSET, path, "50m")?;
    until_changed(&cluster)?;
    let (said, written) = run(&cluster, &up(&ignore), 0)?;
    assert_eq!(written, Vec::<String>::new(), "{said}");
    assert_eq!(cpu(&cluster)?, "50m");
    Ok(())
}
