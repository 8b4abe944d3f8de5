//! What stands in the way is said, with the exit code that belongs to it, and nothing is changed.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Value, json};
use trainerd_integration::TestCluster;
use trainerd_integration::cluster::AuditLog;
use trainerd_integration::product::Run;
use trainerd_integration::proxy::{Fault, Rule, When};
use trainerd_integration::stack::{self, NAMESPACE, RECORD};
use trainerd_plan::object::Resource;

const UP: [&str; 4] = ["up", "--yes", "--timeout", "2m"];

/// Runs a command that must end so, say that, and write nothing.
fn refused(
    cluster: &TestCluster,
    arguments: &[&str],
    code: i32,
    says: &[&str],
) -> Result<Run, Box<dyn Error>> {
    refused_as(cluster, cluster.kubeconfig(), arguments, code, says)
}

fn refused_as(
    cluster: &TestCluster,
    kubeconfig: &Path,
    arguments: &[&str],
    code: i32,
    says: &[&str],
) -> Result<Run, Box<dyn Error>> {
    let mark = cluster.audit().map(AuditLog::mark).transpose()?;
    let run = cluster.run_as(kubeconfig, arguments)?.expect_code(code)?;
    for part in says {
        assert!(run.stderr.contains(part), "{part:?} is not in: {}", run.stderr);
    }
    assert!(run.stderr.contains(" hint: "), "there is a hint in: {}", run.stderr);
    if let (Some(audit), Some(mark)) = (cluster.audit(), mark) {
        assert_eq!(audit.writes_since(mark, "trainerd/")?, [], "nothing is changed");
    }
    Ok(run)
}

fn service_account() -> Resource {
    Resource {
        group: String::new(),
        version: "v1".into(),
        kind: "ServiceAccount".into(),
        plural: "serviceaccounts".into(),
        namespaced: true,
    }
}

/// A kubeconfig of a ServiceAccount that may do these things with everything, and nothing else.
fn onlooker(cluster: &TestCluster, verbs: &[&str]) -> Result<PathBuf, Box<dyn Error>> {
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount",
                         "metadata": {"name": "onlooker", "namespace": "default"}});
    cluster.apply(&service_account(), &account)?;
    let rbac = |kind: &str, plural: &str| Resource {
        group: "rbac.authorization.k8s.io".into(),
        version: "v1".into(),
        kind: kind.into(),
        plural: plural.into(),
        namespaced: false,
    };
    cluster.apply(
        &rbac("ClusterRole", "clusterroles"),
        &json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "onlooker"},
                "rules": [{"apiGroups": ["*"], "resources": ["*"], "verbs": verbs}]}),
    )?;
    cluster.apply(
        &rbac("ClusterRoleBinding", "clusterrolebindings"),
        &json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
                "metadata": {"name": "onlooker"},
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "onlooker"},
                "subjects": [{"kind": "ServiceAccount", "name": "onlooker", "namespace": "default"}]}),
    )?;
    Ok(cluster.kubeconfig_with(&cluster.token("default", "onlooker")?)?)
}

#[test]
fn every_missing_permission_is_listed_before_anything_is_changed() -> Result<(), Box<dyn Error>> {
    let cluster = TestCluster::take()?;
    let kubeconfig = onlooker(&cluster, &["get", "list", "watch"])?;
    let lacking =
        ["deployments.apps", "customresourcedefinitions", "leases", "secrets", "webhookconfigurations"];
    let run = refused_as(&cluster, &kubeconfig, &UP, 5, &lacking)?;
    assert!(run.stderr.contains("create") && run.stderr.contains("patch"), "verbs are named: {}", run.stderr);
    assert!(cluster.get(&stack::namespace(), "", NAMESPACE)?.is_none());
    Ok(())
}

#[test]
fn missing_permissions_for_role_grants_are_reported_before_any_change() -> Result<(), Box<dyn Error>> {
    let cluster = TestCluster::take()?;
    // Enough for every object, but not for what the roles among them grant: reading `/metrics`, which is no
    // resource.
    let verbs = ["get", "list", "watch", "create", "update", "patch", "delete"];
    let kubeconfig = onlooker(&cluster, &verbs)?;
    let run = refused_as(&cluster, &kubeconfig, &UP, 5, &["granting ClusterRole", "/metrics"])?;
    assert!(
        !run.stderr.contains("granting ClusterRole jobset-manager-role"),
        "only what lacks: {}",
        run.stderr
    );
    assert!(cluster.get(&stack::namespace(), "", NAMESPACE)?.is_none());
    Ok(())
}

#[test]
fn unreachable_and_foreign_servers_are_reported() -> Result<(), Box<dyn Error>> {
    let cluster = TestCluster::take()?;
    // A port of this machine that was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let server = format!("http://127.0.0.1:{port}");
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": server}}],
        "users": [{"name": "c", "user": {}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "c"}}],
    });
    let path = cluster.folder().join("nowhere.kubeconfig");
    std::fs::write(&path, config.to_string())?;
    for verb in
        [&["up", "--yes"][..], &["plan"], &["status"], &["history"], &["rollback"], &["remove", "--yes"]]
    {
        refused_as(&cluster, &path, verb, 5, &[&server])?;
    }
    let absent = cluster.folder().join("absent.kubeconfig");
    refused_as(&cluster, &absent, &UP, 4, &["absent.kubeconfig"])?;
    Ok(())
}

#[test]
fn objects_of_other_owners_are_not_changed() -> Result<(), Box<dyn Error>> {
    let cluster = TestCluster::take()?;
    let role = Resource {
        group: "rbac.authorization.k8s.io".into(),
        version: "v1".into(),
        kind: "ClusterRole".into(),
        plural: "clusterroles".into(),
        namespaced: false,
    };
    let theirs = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "metadata": {
            "name": "jobset-manager-role",
            "labels": {"app.kubernetes.io/managed-by": "Helm"},
            "annotations": {"meta.helm.sh/release-name": "gang", "meta.helm.sh/release-namespace": "batch"},
        },
        "rules": [],
    });
    let theirs = cluster.create(&role, &theirs)?;
    refused(&cluster, &UP, 3, &["ClusterRole jobset-manager-role", "gang"])?;
    assert_eq!(cluster.get(&role, "", "jobset-manager-role")?, Some(theirs));
    cluster.delete(&role, "", "jobset-manager-role")?;

    // Another installation of ours is somebody else, too.
    cluster.install("2.2.1", &[])?;
    let second = ["up", "--yes", "--namespace", "second"];
    refused(
        &cluster,
        &second,
        3,
        &["in this cluster already, in namespace kubeflow-system", "one a cluster"],
    )?;
    Ok(())
}

#[test]
fn a_held_lease_is_respected() -> Result<(), Box<dyn Error>> {
    let cluster = TestCluster::take()?;
    cluster.install("2.2.1", &[])?;
    let now = || Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string();
    let lease = || {
        json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {"name": RECORD, "namespace": NAMESPACE},
            "spec": {"holderIdentity": "some-laptop:00000001", "leaseDurationSeconds": 15,
                     "acquireTime": now(), "renewTime": now()},
        })
    };
    cluster.apply(&stack::lease(), &lease())?;
    let (command, child) = cluster
        .spawn(cluster.kubeconfig(), &["upgrade", "--to", "trainer=2.3.0", "--yes", "--timeout", "1m"])?;
    // It lives: it renews.
    let started = std::time::Instant::now();
    let renewing = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| trainerd_integration::product::wait(command, child, started));
        while !waiting.is_finished() {
            cluster.apply(&stack::lease(), &lease())?;
            std::thread::sleep(Duration::from_millis(500));
        }
        waiting.join().map_err(|_| trainerd_integration::Error::Missing("the end of a thread".into()))?
    });
    let run = renewing?.expect_code(7)?;
    assert!(run.stderr.contains("some-laptop"), "{}", run.stderr);
    assert!(cluster.record()?.is_some_and(|record| record["current"] == 1 && record["journal"].is_null()));
    assert_eq!(cluster.lease_holder()?.as_deref(), Some("some-laptop:00000001"));
    Ok(())
}

#[test]
fn an_unknown_kubernetes_is_refused() -> Result<(), Box<dyn Error>> {
    let cluster = TestCluster::take()?;
    let version = json!({"major": "1", "minor": "19", "gitVersion": "v1.19.16"}).to_string();
    let when = When::Matching { method: http::Method::GET, path: "/version".into(), times: None };
    let rule = Rule { when, fault: Fault::Say(version) };
    let (run, log) = cluster.run_proxied(&UP, vec![rule])?;
    let run = run.expect_code(3)?;
    assert!(run.stderr.contains("1.19.16"), "{}", run.stderr);
    assert!(log.iter().all(|entry| !entry.is_write()), "nothing is changed");
    Ok(())
}

#[test]
fn a_damaged_revision_is_named_and_never_applied() -> Result<(), Box<dyn Error>> {
    let cluster = TestCluster::take()?;
    cluster.install("2.2.1", &[])?;
    let secrets = cluster.list(&stack::secret(), Some("trainerd.dev/record=chunk"))?;
    cluster.run(&["upgrade", "--to", "trainer=2.3.0", "--yes", "--timeout", "3m"])?.expect_code(0)?;
    let newer: Vec<Value> = cluster
        .list(&stack::secret(), Some("trainerd.dev/record=chunk"))?
        .into_iter()
        .filter(|chunk| secrets.iter().all(|old| old["metadata"]["name"] != chunk["metadata"]["name"]))
        .collect();
    assert!(!newer.is_empty(), "the upgrade wrote a chunk of its own");
    let old = cluster.get(&stack::secret(), NAMESPACE, &format!("{RECORD}-r1"))?.unwrap_or_default();
    assert!(old.is_object() && !secrets.is_empty(), "there are a revision and its chunks");

    // Secrets of revisions are immutable: whoever damages one replaces it.
    let replace = |secret: &Value, data: Value| -> Result<(), Box<dyn Error>> {
        let name = secret["metadata"]["name"].as_str().unwrap_or_default();
        cluster.delete(&stack::secret(), NAMESPACE, name)?;
        let mut other = json!({
            "apiVersion": "v1", "kind": "Secret", "type": secret["type"], "immutable": true,
            "metadata": {"name": name, "namespace": NAMESPACE, "labels": secret["metadata"]["labels"]},
        });
        other["data"] = data;
        cluster.create(&stack::secret(), &other)?;
        Ok(())
    };
    let back = ["rollback", "1", "--allow", "lossy", "--yes", "--timeout", "2m"];
    for chunk in &secrets {
        let name = chunk["metadata"]["name"].as_str().unwrap_or_default();
        let mut bytes = STANDARD.decode(chunk["data"]["chunk"].as_str().unwrap_or_default())?;
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x10;
        replace(chunk, json!({"chunk": STANDARD.encode(&bytes)}))?;
        refused(&cluster, &back, 1, &[name])?;
        cluster.delete(&stack::secret(), NAMESPACE, name)?;
        let digest = name.rsplit('-').next().unwrap_or_default();
        refused(&cluster, &back, 1, &[digest])?;
        replace(chunk, chunk["data"].clone())?;
    }
    let name = format!("{RECORD}-r1");
    replace(&old, json!({"revision": STANDARD.encode("not a revision")}))?;
    refused(&cluster, &back, 1, &[&name])?;
    replace(&old, old["data"].clone())?;

    // What is damaged of the revision that the cluster is at is named, and stands neither against continuing, for its
    // options are known, nor against going back.
    for chunk in &newer {
        replace(chunk, json!({"chunk": STANDARD.encode("not a chunk")}))?;
    }
    let name = newer[0]["metadata"]["name"].as_str().unwrap_or_default();
    let upgrade = ["upgrade", "--set", "settle=1", "--yes", "--timeout", "2m"];
    let upgraded = cluster.run(&upgrade)?.expect_code(0)?;
    assert!(upgraded.stderr.contains(name), "{}", upgraded.stderr);
    cluster.run(&back)?.expect_code(0)?;
    Ok(())
}

#[test]
fn a_rejected_token_is_reported() -> Result<(), Box<dyn Error>> {
    let cluster = TestCluster::take()?;
    let path = cluster.kubeconfig_with("of yesterday")?;
    refused_as(&cluster, &path, &UP, 5, &["authenticate"])?;
    Ok(())
}

#[test]
fn a_terminating_namespace_is_refused() -> Result<(), Box<dyn Error>> {
    let cluster = TestCluster::take()?;
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}});
    cluster.create(&stack::namespace(), &namespace)?;
    let mut held = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "held", "namespace": NAMESPACE, "finalizers": ["example.com/hold"]},
    });
    cluster.apply(&stack::config_map(), &held)?;
    cluster.delete(&stack::namespace(), "", NAMESPACE)?;
    refused(&cluster, &UP, 3, &[NAMESPACE, "being deleted"])?;

    held["metadata"]["finalizers"] = json!([]);
    cluster.apply(&stack::config_map(), &held)?;
    cluster.wait_until("the namespace to go", Duration::from_mins(1), || {
        Ok(cluster.get(&stack::namespace(), "", NAMESPACE)?.is_none())
    })?;
    cluster.install("2.2.1", &[])?;
    Ok(())
}

#[test]
fn an_exhausted_quota_is_reported() -> Result<(), Box<dyn Error>> {
    let cluster = TestCluster::take()?;
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}});
    cluster.create(&stack::namespace(), &namespace)?;
    let quotas = Resource {
        group: String::new(),
        version: "v1".into(),
        kind: "ResourceQuota".into(),
        plural: "resourcequotas".into(),
        namespaced: true,
    };
    let quota = json!({
        "apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "tight", "namespace": NAMESPACE},
        "spec": {"hard": {"count/deployments.apps": "1"}},
    });
    cluster.create(&quotas, &quota)?;
    cluster.wait_until("the quota to be counted", Duration::from_mins(1), || {
        let quota = cluster.get(&quotas, NAMESPACE, "tight")?.unwrap_or_default();
        Ok(quota["status"]["hard"].is_object())
    })?;
    let arguments = [&UP[..], &["--set", "trainer-version=2.2.1"], &stack::QUICK].concat();
    let run = cluster.run(&arguments)?.expect_code(1)?;
    assert!(run.stderr.contains("tight") && run.stderr.contains("quota"), "{}", run.stderr);

    cluster.delete(&quotas, NAMESPACE, "tight")?;
    cluster.run(&arguments)?.expect_code(0)?;
    Ok(())
}
