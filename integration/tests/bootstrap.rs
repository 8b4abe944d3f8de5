//! The daemon as a component: what `bootstrap` puts into the cluster, and that it can do its work with the rights it
//! gets there, all of which it needs.

use std::collections::BTreeSet;
use std::error::Error;
use std::time::Duration;

use serde_json::{Value, json};
use trainerd_cluster::CreateParams;
use trainerd_integration::TestCluster;
use trainerd_integration::cluster::AuditedRequest;
use trainerd_integration::daemon::Daemon;
use trainerd_integration::managed::BOUND;
use trainerd_integration::service_account::TokenListener;
use trainerd_integration::stack::{self, NAMESPACE, QUICK};
use trainerd_integration::standin::Behaviour;
use trainerd_plan::object::Resource;

type Result<T = (), E = Box<dyn Error>> = std::result::Result<T, E>;

/// How the API server calls the daemon's account.
const USER: &str = "system:serviceaccount:kubeflow-system:trainerd";
/// The installation that the daemon is.
const DAEMON: &str = "trainerd";
const OPTIONS: &str = "trainerd-options";

fn resource(group: &str, kind: &str, plural: &str, namespaced: bool) -> Resource {
    let (version, text) = ("v1".to_owned(), str::to_owned);
    Resource { group: text(group), version, kind: text(kind), plural: text(plural), namespaced }
}

fn bootstrap(cluster: &TestCluster, more: &[&str]) -> Result {
    let arguments = [&["bootstrap", "--yes", "--timeout", "3m"][..], more].concat();
    cluster.run(&arguments)?.expect_code(0)?;
    Ok(())
}

fn declared(cluster: &TestCluster) -> Result<Value> {
    let map = cluster.get(&stack::config_map(), NAMESPACE, OPTIONS)?.ok_or("no ConfigMap")?;
    Ok(map["data"].clone())
}

/// Changes options as somebody does who edits the ConfigMap.
fn declare(cluster: &TestCluster, options: &Value) -> Result {
    let patch = json!({ "data": options });
    let map = stack::config_map();
    let params = CreateParams::default();
    let write = cluster.api().patch_merge(&map, Some(NAMESPACE), OPTIONS, &patch, params);
    cluster.block_on(write)?;
    Ok(())
}

/// A daemon with the rights that it has in its pod.
fn daemon(cluster: &TestCluster, more: &[&str]) -> Result<Daemon> {
    let kubeconfig = cluster.kubeconfig_with(&cluster.token(NAMESPACE, DAEMON)?)?;
    let arguments = [&["--config-map", OPTIONS][..], more].concat();
    Ok(cluster.daemon_as(&kubeconfig, "daemon", &arguments)?)
}

fn settled_at(daemon: &mut Daemon, revision: u64) -> Result {
    daemon.wait_for(&format!("settled at revision {revision}"), BOUND, |view| {
        view["settled"] == true && view["outlook"]["revision"] == revision
    })?;
    Ok(())
}

#[test]
fn the_daemon_is_installed_and_removed() -> Result {
    let cluster = TestCluster::take()?;
    cluster.install("2.2.1", &[])?;
    bootstrap(&cluster, &[])?;
    let given = json!({"small-footprint": "true", "settle": "0", "trainer-version": "2.2.1"});
    assert_eq!(declared(&cluster)?, given, "what is installed is what is declared");
    let deployment = cluster.get(&stack::deployment(), NAMESPACE, DAEMON)?.ok_or("no Deployment")?;
    assert_eq!(deployment["status"]["readyReplicas"], 1);
    let mut daemon = daemon(&cluster, &[])?;
    settled_at(&mut daemon, 1)?;

    // What somebody wrote there since stays, and so does the image.
    declare(&cluster, &json!({"revision-history": "5"}))?;
    settled_at(&mut daemon, 2)?;
    bootstrap(&cluster, &["--image", "registry.test/trainerd:v9", "--set", "settle=1"])?;
    bootstrap(&cluster, &[])?;
    let mut wanted = given.clone();
    wanted["revision-history"] = json!("5");
    wanted["settle"] = json!("1");
    wanted["trainerd-image"] = json!("registry.test/trainerd:v9");
    assert_eq!(declared(&cluster)?, wanted);
    let deployment = cluster.get(&stack::deployment(), NAMESPACE, DAEMON)?.ok_or("no Deployment")?;
    let image = &deployment["spec"]["template"]["spec"]["containers"][0]["image"];
    assert_eq!(image, "registry.test/trainerd:v9");
    settled_at(&mut daemon, 3)?;

    // The command line tells who rules, and that the daemon's pod (none runs here) cannot be asked.
    let up = [&["up", "--yes"][..], &QUICK].concat();
    let refused = cluster.run(&up)?.expect_code(3)?;
    assert!(refused.stderr.contains("ConfigMap kubeflow-system/trainerd-options"), "{}", refused.stderr);
    let status: Value = cluster.run(&["status", "-o", "json"])?.expect_code(0)?.json()?;
    assert!(status["daemon"]["unreachable"].is_string(), "{status:#}");

    drop(daemon);
    cluster.run(&["bootstrap", "--remove", "--yes", "--timeout", "3m"])?.expect_code(0)?;
    assert!(cluster.get(&stack::deployment(), NAMESPACE, DAEMON)?.is_none());
    assert!(cluster.get(&stack::config_map(), NAMESPACE, OPTIONS)?.is_none());
    let status: Value = cluster.run(&["status", "-o", "json"])?.expect_code(0)?.json()?;
    assert_eq!((&status["ready"], &status["ruler"]), (&json!(true), &Value::Null));
    assert_eq!(status.get("daemon"), None);
    cluster.run(&[&up[..], &["--timeout", "3m"]].concat())?.expect_code(0)?;
    // Once more is no error: a script that was killed tries again.
    cluster.run(&["bootstrap", "--remove", "--yes"])?.expect_code(0)?;
    Ok(())
}

#[test]
fn the_options_config_map_survives_the_daemon() -> Result {
    let cluster = TestCluster::take()?;
    cluster.install("2.2.1", &["--set", "progress-deadline=30"])?;
    bootstrap(&cluster, &[])?;
    declare(&cluster, &json!({"runtimes": "torch-distributed,mpi-distributed"}))?;
    let edited = declared(&cluster)?;

    // A daemon that never comes up goes back to the one before, and the options stay as they were edited.
    let never = Duration::from_mins(10);
    cluster.set_behaviour(Behaviour { delay: (never, never), ..Behaviour::default() });
    let bad = ["--image", "registry.test/trainerd:bad"];
    let failed =
        cluster.run(&[&["bootstrap", "--yes", "--timeout", "3m"][..], &bad].concat())?.expect_code(1)?;
    assert!(failed.stderr.contains("rolled back to revision"), "{}", failed.stderr);
    assert_eq!(declared(&cluster)?, edited);
    cluster.set_behaviour(Behaviour::default());
    cluster.run(&["rollback", "--name", "trainerd", "--yes", "--timeout", "3m"])?.expect_code(4)?;
    bootstrap(&cluster, &["--set", "settle=1"])?;
    cluster.run(&["rollback", "--name", "trainerd", "--yes", "--timeout", "3m"])?.expect_code(0)?;
    let mut wanted = edited;
    wanted["settle"] = json!("1");
    assert_eq!(declared(&cluster)?, wanted, "a rollback of the daemon is none of the options");

    // Made again by hand, or by GitOps, it is as good as one that bootstrap made; and it stays when the daemon goes.
    cluster.delete(&stack::config_map(), NAMESPACE, OPTIONS)?;
    let data = json!({"small-footprint": "true", "settle": "0", "trainer-version": "2.2.1"});
    let metadata = json!({"name": OPTIONS, "namespace": NAMESPACE});
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data});
    cluster.apply(&stack::config_map(), &map)?;
    bootstrap(&cluster, &["--image", "registry.test/trainerd:v9"])?;
    let mut wanted = data;
    wanted["trainerd-image"] = json!("registry.test/trainerd:v9");
    assert_eq!(declared(&cluster)?, wanted);
    cluster.run(&["bootstrap", "--remove", "--yes", "--timeout", "3m"])?.expect_code(0)?;
    assert_eq!(declared(&cluster)?, wanted);

    // One that an earlier version of trainerd held is let go.
    let labels =
        json!({"applyset.kubernetes.io/part-of": "applyset-tGihnAwI4K4kIJeYkzd6Uq3TDhSImW2noYKBWP2D878-v1"});
    let params = CreateParams::default();
    let patch = json!({"metadata": {"labels": labels}});
    let (kind, api) = (stack::config_map(), cluster.api());
    cluster.block_on(api.patch_merge(&kind, Some(NAMESPACE), OPTIONS, &patch, params))?;
    bootstrap(&cluster, &[])?;
    let map = cluster.get(&stack::config_map(), NAMESPACE, OPTIONS)?.ok_or("no ConfigMap")?;
    assert_eq!((&map["data"], &map["metadata"]["labels"]), (&wanted, &Value::Null));
    Ok(())
}

#[test]
fn an_invalid_bootstrap_is_refused_and_writes_nothing() -> Result {
    let cluster = TestCluster::take()?;
    for (arguments, code, word) in [
        (&["bootstrap", "--name", "trainerd"][..], 4, "--name"),
        (&["bootstrap", "--image", "no image"], 4, "trainerd-image"),
        (&["bootstrap", "--set", "settle=1000"], 4, "settle"),
        (&["bootstrap", "--set", "lws-version=0.7"], 4, "lws-version"),
    ] {
        let run = cluster.run(&[arguments, &["--yes"]].concat())?.expect_code(code)?;
        assert!(run.stderr.contains(word), "{arguments:?}: {}", run.stderr);
    }
    assert!(cluster.get(&stack::namespace(), "", NAMESPACE)?.is_none());

    // A daemon with another source rules already.
    let file = cluster.folder().join("options.yaml");
    trainerd_integration::managed::write(&file, "")?;
    let mut other = cluster.daemon("daemon", &["--config", file.to_str().unwrap_or_default()])?;
    other.wait_until_settled(BOUND)?;
    let run = cluster.run(&["bootstrap", "--yes"])?.expect_code(3)?;
    assert!(run.stderr.contains("options.yaml"), "{}", run.stderr);
    assert!(cluster.get(&stack::deployment(), NAMESPACE, DAEMON)?.is_none());
    Ok(())
}

#[test]
fn the_source_of_the_options_changes_only_on_request() -> Result {
    let cluster = TestCluster::take()?;
    let file = |name: &str, options: &str| -> Result<String> {
        let path = cluster.folder().join(name);
        trainerd_integration::managed::write(&path, options)?;
        Ok(path.display().to_string())
    };
    let first = file("first.yaml", "")?;
    let second = file("second.yaml", "runtimes: torch-distributed\n")?;
    let mut ruling = cluster.daemon("ruling", &["--config", &first])?;
    settled_at(&mut ruling, 1)?;

    let is_held = |by: String| {
        move |view: &Value| {
            view["phase"] == "held"
                && view["settled"] == false
                && view["reason"]["code"] == "other-source"
                && view["reason"]["message"].as_str().is_some_and(|message| message.contains(&by))
        }
    };
    let mut newcomer = cluster.daemon("newcomer", &["--config", &second])?;
    newcomer.wait_for("held by the first", BOUND, is_held(first.clone()))?;
    drop(newcomer);
    // Who took over counts, also for a daemon that was there before; and it does not come back without intervention.
    let mut newcomer = cluster.daemon("newcomer", &["--config", &second, "--force-ownership"])?;
    settled_at(&mut newcomer, 2)?;
    ruling.wait_for("held by the second", BOUND, is_held(second.clone()))?;
    std::thread::sleep(std::time::Duration::from_secs(2));
    let record = cluster.record()?.ok_or("no record")?;
    assert_eq!((&record["current"], &record["journal"]), (&json!(2), &Value::Null), "{record}");

    // The way into the cluster: its hand taken off first, and what rules there counts from then on.
    cluster.run(&["pause"])?.expect_code(0)?;
    bootstrap(&cluster, &[])?;
    newcomer.wait_for("paused", BOUND, |view| view["phase"] == "paused")?;
    cluster.run(&["resume"])?.expect_code(0)?;
    let map = format!("ConfigMap {NAMESPACE}/{OPTIONS}");
    newcomer.wait_for("held by the ConfigMap", BOUND, is_held(map))?;
    Ok(())
}

/// A right, or a request: namespace (none: all, or what is in none), group, resource, verb.
type Right = (Option<String>, String, String, String);

/// Adds the rights of a role as stored.
fn add(rights: &mut BTreeSet<Right>, role: &Value) {
    let namespace = role["metadata"]["namespace"].as_str().map(str::to_owned);
    let texts = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    for rule in role["rules"].as_array().into_iter().flatten() {
        for group in texts(&rule["apiGroups"]) {
            for resource in texts(&rule["resources"]) {
                for verb in texts(&rule["verbs"]) {
                    rights.insert((namespace.clone(), group.clone(), resource.clone(), verb));
                }
            }
        }
    }
}

/// The roles of the cluster with a label, and what they allow.
fn rights(cluster: &TestCluster, selector: &str) -> Result<BTreeSet<Right>> {
    let mut rights = BTreeSet::new();
    for (kind, plural, namespaced) in [("Role", "roles", true), ("ClusterRole", "clusterroles", false)] {
        let kind = resource("rbac.authorization.k8s.io", kind, plural, namespaced);
        for role in cluster.list(&kind, Some(selector))? {
            // What others may do by it is not what it may do.
            if role["metadata"]["name"] != "trainerd-viewer" {
                add(&mut rights, &role);
            }
        }
    }
    Ok(rights)
}

/// What the roles of the native reconciler allow: it is not installed here, and the daemon may be told to at any time.
fn rights_of_native(cluster: &TestCluster) -> Result<BTreeSet<Right>> {
    let rendered = cluster.run(&["render", "trainer", "--set", "reconciler=native", "-o", "json"])?;
    let document: Value = rendered.expect_code(0)?.json()?;
    let mut rights = BTreeSet::new();
    let objects = document["items"].as_array().into_iter().flatten();
    for role in objects.filter(|object| matches!(object["kind"].as_str(), Some("Role" | "ClusterRole"))) {
        add(&mut rights, role);
    }
    Ok(rights)
}

/// Takes one object of each kind away, and waits for all of them to come back.
fn disturb(cluster: &TestCluster, daemon: &mut Daemon) -> Result {
    let selector = format!("{}=kubeflow-trainer", stack::INSTALLATION);
    let mut taken = Vec::new();
    for kind in cluster.kinds()? {
        if matches!(kind.kind.as_str(), "EndpointSlice" | "Endpoints" | "ReplicaSet" | "Pod") {
            continue;
        }
        let Some(object) = cluster.list(&kind, Some(&selector))?.into_iter().next() else { continue };
        let text = |key: &str| object["metadata"][key].as_str().unwrap_or_default().to_owned();
        let (namespace, name) = (text("namespace"), text("name"));
        cluster.delete(&kind, &namespace, &name)?;
        taken.push((kind, namespace, name, object["metadata"]["uid"].clone()));
    }
    assert!(taken.len() > 8, "{taken:?}");
    for (kind, namespace, name, uid) in taken {
        cluster.wait_until(&format!("{} {name} to come back", kind.kind), BOUND, || {
            let now = cluster.get(&kind, &namespace, &name)?;
            Ok(now.is_some_and(|now| now["metadata"]["uid"] != uid))
        })?;
    }
    daemon.wait_until_settled(BOUND)?;
    Ok(())
}

/// Rights that the plan asks for before it begins, and that take somebody else's write in the same moment to be used:
/// what could not be created, or deleted, is looked at again.
fn is_second_look(right: &Right) -> bool {
    right.3 == "get"
}

#[test]
fn the_daemon_has_only_the_permissions_that_it_uses_or_grants() -> Result {
    let cluster = TestCluster::take()?;
    let Some(audit) = cluster.audit().cloned() else {
        println!("skipped: the audit log of this cluster cannot be read");
        return Ok(());
    };
    let options = [
        &QUICK[..],
        &["--set", "trainer-version=2.2.1", "--set", "runtimes=all", "--set", "data-cache=true"],
    ];
    bootstrap(&cluster, &options.concat())?;
    let mark = audit.mark()?;
    let listener = TokenListener::new(&cluster)?;
    let mut daemon = daemon(&cluster, &listener.arguments())?;
    settled_at(&mut daemon, 1)?;
    let stack_label = format!("{}=kubeflow-trainer", stack::INSTALLATION);
    let mut granted = rights(&cluster, &stack_label)?;
    disturb(&cluster, &mut daemon)?;

    let viewer = cluster.token(NAMESPACE, "trainerd-viewer")?;
    assert_eq!(listener.ask("GET", "/v1/status", Some(&viewer))?.code, 200);
    assert_eq!(listener.ask("POST", "/v1/actions/pause", Some(&viewer))?.code, 403, "it is for looking only");
    assert_eq!(daemon.api("POST", "/v1/actions/pause", None)?.code, 200);
    daemon.wait_for("paused", BOUND, |view| view["phase"] == "paused")?;
    assert_eq!(daemon.api("POST", "/v1/actions/resume", None)?.code, 200);
    daemon.wait_until_settled(BOUND)?;

    declare(&cluster, &json!({"trainer-version": "2.3.0"}))?;
    settled_at(&mut daemon, 2)?;
    granted.extend(rights(&cluster, &stack_label)?);
    granted.extend(rights_of_native(&cluster)?);
    let fewer = json!({
        "runtimes": "torch-distributed", "components": "trainer,jobset", "data-cache": "false", "crd-policy": "delete",
    });
    declare(&cluster, &fewer)?;
    settled_at(&mut daemon, 3)?;
    drop(daemon);

    let asked: BTreeSet<AuditedRequest> = audit.audited_requests_since(mark, USER)?;
    let refused: Vec<&AuditedRequest> = asked.iter().filter(|asked| asked.forbidden).collect();
    assert!(refused.is_empty(), "the daemon lacks a right: {refused:#?}");
    let of = |asked: &AuditedRequest, verb: &str| {
        (asked.namespace.clone(), asked.group.clone(), asked.resource.clone(), verb.to_owned())
    };
    let created = asked.iter().filter(|asked| asked.created).map(|asked| of(asked, "create"));
    let used: BTreeSet<Right> = asked.iter().map(|asked| of(asked, &asked.verb)).chain(created).collect();
    let held = rights(&cluster, &format!("{}={DAEMON}", stack::INSTALLATION))?;
    let needed = |right: &&Right| {
        let everywhere = (None, right.1.clone(), right.2.clone(), right.3.clone());
        let by_grant = granted.contains(*right) || granted.contains(&everywhere);
        !by_grant && !used.contains(*right)
    };
    let needless: Vec<&Right> = held.iter().filter(needed).filter(|right| !is_second_look(right)).collect();
    assert!(needless.is_empty(), "the daemon holds what it neither uses nor grants: {needless:#?}");
    Ok(())
}
