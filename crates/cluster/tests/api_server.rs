//! The connection against a real API server: what only it can say.
//!
//! Runs where `TRAINERD_TEST_CLUSTER=existing` and `KUBECONFIG` name one; says so and passes elsewhere.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, its helpers included")]

use std::io::Write as _;
use std::time::Duration;

use futures::StreamExt;
use serde_json::{Value, json};
use trainerd_cluster::lease::{Claim, Identity, LeaseConfig, LeaseError, LeaseGuard};
use trainerd_cluster::permissions::{Rule, missing};
use trainerd_cluster::watch::{Event, WatchParams};
use trainerd_cluster::{
    ApplyParams, Cluster, ConflictKind, ConnectError, ConnectOptions, CreateParams, DeleteParams, Deletion,
    ListParams, RequestError,
};
use trainerd_object::Resource;

fn options() -> ConnectOptions {
    ConnectOptions {
        kubeconfig: None,
        context: None,
        user_agent: "trainerd/0.0.0 (test)".to_owned(),
        field_manager: "trainerd".to_owned(),
        observer: None,
        patience: None,
        waits: None,
    }
}

fn resource(group: &str, version: &str, kind: &str, plural: &str, namespaced: bool) -> Resource {
    Resource {
        group: group.to_owned(),
        version: version.to_owned(),
        kind: kind.to_owned(),
        plural: plural.to_owned(),
        namespaced,
    }
}

fn configmaps() -> Resource {
    resource("", "v1", "ConfigMap", "configmaps", true)
}

/// A namespace of its own for a test; `None` where there is no cluster.
struct World {
    cluster: Cluster,
    namespace: String,
}

impl World {
    async fn new(test: &str) -> Option<Self> {
        if std::env::var("TRAINERD_TEST_CLUSTER").as_deref() != Ok("existing") {
            println!("skipped: TRAINERD_TEST_CLUSTER is not `existing`");
            return None;
        }
        let cluster = Cluster::connect(options()).await.unwrap();
        let namespace = format!("cluster-{test}-{:08x}", fastrand::u32(..));
        let manifest = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": namespace } });
        cluster.create(&Self::namespaces(), &manifest, CreateParams::default()).await.unwrap();
        Some(Self { cluster, namespace })
    }

    fn namespaces() -> Resource {
        resource("", "v1", "Namespace", "namespaces", false)
    }

    fn configmap(&self, name: &str, data: &Value) -> Value {
        json!({
            "apiVersion": "v1", "kind": "ConfigMap", "data": data,
            "metadata": { "name": name, "namespace": self.namespace, "labels": { "test": "yes" } },
        })
    }

    async fn apply(&self, manifest: &Value, manager: &str) -> Result<Value, RequestError> {
        let params = ApplyParams { field_manager: Some(manager.to_owned()), ..ApplyParams::default() };
        self.cluster.apply(&configmaps(), manifest, &params).await
    }

    async fn end(self) {
        self.cluster
            .delete(&Self::namespaces(), None, &self.namespace, &DeleteParams::default())
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn conflicts_and_refusals_are_typed() {
    let Some(world) = World::new("errors").await else { return };
    let ours = world.configmap("a", &json!({ "k": "1" }));
    let stored = world.apply(&ours, "one").await.unwrap();
    let theirs = world.configmap("a", &json!({ "k": "2" }));
    match world.apply(&theirs, "two").await {
        Err(RequestError::Conflict { kind: ConflictKind::FieldManager { fields }, .. }) => {
            assert_eq!(fields.len(), 1);
            assert_eq!(fields[0].field, ".data.k");
            assert!(fields[0].detail.contains("one"));
        }
        other => panic!("{other:?}"),
    }
    let force = ApplyParams { force: true, dry_run: true, ..ApplyParams::default() };
    let forced = world.cluster.apply(&configmaps(), &theirs, &force).await.unwrap();
    assert_eq!(forced["data"]["k"], "2");
    let namespace = Some(world.namespace.as_str());
    assert_eq!(
        world.cluster.get(&configmaps(), namespace, "a").await.unwrap(),
        stored,
        "a dry run stores nothing"
    );

    let mut old = ours.clone();
    old["metadata"]["resourceVersion"] = json!("1");
    let mut other = ours.clone();
    other["metadata"]["uid"] = json!("00000000-0000-0000-0000-000000000000");
    let replace = |manifest: Value| {
        let cluster = world.cluster.clone();
        async move { cluster.replace(&configmaps(), &manifest, CreateParams::default()).await }
    };
    for (what, result, expected) in [
        ("apply, old", world.apply(&old, "one").await, ConflictKind::ResourceVersion),
        ("apply, other", world.apply(&other, "one").await, ConflictKind::Uid),
        ("replace, old", replace(old).await, ConflictKind::ResourceVersion),
        ("replace, other", replace(other).await, ConflictKind::Uid),
    ] {
        match result {
            Err(RequestError::Conflict { kind, .. }) => assert_eq!(kind, expected, "{what}"),
            other => panic!("{what}: {other:?}"),
        }
    }

    let unknown = json!({ "apiVersion": "v1", "kind": "ConfigMap", "dat": {}, "metadata": { "name": "b", "namespace": world.namespace } });
    let created = world.cluster.create(&configmaps(), &unknown, CreateParams::default()).await;
    assert!(matches!(created, Err(RequestError::BadRequest { .. })), "{created:?}");
    let applied = world.apply(&unknown, "one").await;
    assert!(matches!(applied, Err(RequestError::Unexplained { .. })), "{applied:?}");
    let again = world.cluster.create(&configmaps(), &ours, CreateParams::default()).await;
    assert!(matches!(again, Err(RequestError::AlreadyExists { .. })), "{again:?}");
    let mut nowhere = ours.clone();
    nowhere["metadata"]["namespace"] = json!("nowhere");
    match world.cluster.create(&configmaps(), &nowhere, CreateParams::default()).await {
        Err(RequestError::NotFound { resource, name, .. }) => {
            assert_eq!((resource.as_str(), name.as_str()), ("namespaces", "nowhere"));
        }
        other => panic!("{other:?}"),
    }
    let unserved = resource("example.invalid", "v1", "Nothing", "nothings", true);
    let got = world.cluster.get(&unserved, namespace, "a").await;
    assert!(matches!(got, Err(RequestError::NotServed { .. })), "{got:?}");
    assert!(!world.cluster.serves(&unserved).await.unwrap());
    assert!(world.cluster.serves(&configmaps()).await.unwrap());
    let listable = world.cluster.namespaced_resources().await.unwrap();
    assert!(listable.contains(&configmaps()));
    assert!(listable.contains(&resource("coordination.k8s.io", "v1", "Lease", "leases", true)));
    assert!(listable.iter().all(|kind| kind.kind != "Namespace"));
    world.end().await;
}

#[tokio::test]
async fn deletes_respect_preconditions() {
    let Some(world) = World::new("delete").await else { return };
    let stored = world.apply(&world.configmap("a", &json!({})), "one").await.unwrap();
    let namespace = Some(world.namespace.as_str());
    let delete = |params: DeleteParams| {
        let cluster = world.cluster.clone();
        async move { cluster.delete(&configmaps(), namespace, "a", &params).await }
    };
    let uid = stored["metadata"]["uid"].as_str().map(str::to_owned);
    let version = stored["metadata"]["resourceVersion"].as_str().map(str::to_owned);
    let wrong = DeleteParams { uid: Some("other".to_owned()), ..DeleteParams::default() };
    let old = DeleteParams { resource_version: Some("1".to_owned()), ..DeleteParams::default() };
    for (params, expected) in [(wrong, ConflictKind::Uid), (old, ConflictKind::ResourceVersion)] {
        match delete(params).await {
            Err(RequestError::Conflict { kind, .. }) => assert_eq!(kind, expected),
            other => panic!("{other:?}"),
        }
    }
    let right = DeleteParams { uid, resource_version: version, ..DeleteParams::default() };
    assert_eq!(delete(right.clone()).await.unwrap(), Deletion::Done);
    assert!(matches!(delete(right).await, Err(RequestError::NotFound { .. })));
    assert!(world.cluster.get_opt(&configmaps(), namespace, "a").await.unwrap().is_none());

    let mut held = world.configmap("a", &json!({}));
    held["metadata"]["finalizers"] = json!(["trainerd.test/hold"]);
    world.cluster.create(&configmaps(), &held, CreateParams::default()).await.unwrap();
    match delete(DeleteParams::default()).await.unwrap() {
        Deletion::Accepted(object) => assert!(object["metadata"]["deletionTimestamp"].is_string()),
        Deletion::Done => panic!("it has a finalizer"),
    }
    let freed = json!({ "metadata": { "finalizers": null } });
    world.cluster.patch_merge(&configmaps(), namespace, "a", &freed, CreateParams::default()).await.unwrap();
    assert!(world.cluster.get_opt(&configmaps(), namespace, "a").await.unwrap().is_none());
    world.end().await;
}

#[tokio::test]
async fn lists_are_paged_and_watches_follow_them() {
    let Some(world) = World::new("watch").await else { return };
    futures::stream::iter(0..1001)
        .for_each_concurrent(16, |n| {
            let manifest = world.configmap(&format!("n{n}"), &json!({}));
            let cluster = world.cluster.clone();
            async move { drop(cluster.create(&configmaps(), &manifest, CreateParams::default()).await.unwrap()) }
        })
        .await;
    let params = ListParams {
        namespace: Some(world.namespace.clone()),
        label_selector: Some("test=yes".to_owned()),
        metadata_only: true,
        ..ListParams::default()
    };
    let list = world.cluster.list(&configmaps(), &params).await.unwrap();
    assert_eq!(list.items.len(), 1001);
    assert!(
        list.items
            .iter()
            .all(|item| item["kind"] == "ConfigMap" && item["apiVersion"] == "v1" && item["data"].is_null())
    );

    let watch = WatchParams { list: params, resource_version: Some(list.resource_version) };
    let mut stream = world.cluster.watch(&configmaps(), watch);
    let namespace = Some(world.namespace.as_str());
    let label = json!({ "metadata": { "labels": { "test": "no" } } });
    world.cluster.patch_merge(&configmaps(), namespace, "n7", &label, CreateParams::default()).await.unwrap();
    world.cluster.delete(&configmaps(), namespace, "n8", &DeleteParams::default()).await.unwrap();
    world.apply(&world.configmap("new", &json!({ "k": "v" })), "one").await.unwrap();
    let mut seen = Vec::new();
    while seen.len() < 3 {
        let event =
            tokio::time::timeout(Duration::from_secs(10), stream.next()).await.unwrap().unwrap().unwrap();
        seen.push(match &event {
            Event::Applied(object) => format!("+{}", object["metadata"]["name"].as_str().unwrap()),
            Event::Deleted(object) => format!("-{}", object["metadata"]["name"].as_str().unwrap()),
            Event::Restarted(_) | Event::Resumed => panic!("started from a known list, and not interrupted"),
        });
    }
    assert_eq!(seen, ["-n7", "-n8", "+new"]);
    world.end().await;
}

#[tokio::test]
async fn a_lease_has_one_holder() {
    let Some(world) = World::new("lease").await else { return };
    let config = || LeaseConfig {
        duration: Duration::from_secs(3),
        renew: Duration::from_millis(500),
        margin: Duration::from_millis(500),
        wait: Duration::from_secs(10),
        identity: Identity::of_this_process(),
        holder: None,
        after: None,
        claim: Claim::default(),
    };
    let take =
        async |config| LeaseGuard::acquire(&world.cluster, &world.namespace, "writer", config, |_| {}).await;
    let acquire = async || take(config()).await;
    let first = acquire().await.unwrap();
    let token = first.fence().token().clone();
    match acquire().await.err() {
        Some(LeaseError::Held { holder, since: Some(_), .. }) => assert_eq!(holder, first.holder()),
        other => panic!("{other:?}"),
    }
    tokio::time::sleep(Duration::from_secs(4)).await;
    first.check().unwrap();
    first.release().await.unwrap();
    // A second one would find the lease held, and wait for longer than this lets it.
    let known = || LeaseConfig { after: Some(token.clone()), wait: Duration::ZERO, ..config() };
    let second = take(known()).await.unwrap();
    assert!(second.fence().token().follows(&token));
    assert!(matches!(take(known()).await.err(), Some(LeaseError::Held { .. })));
    let leases = resource("coordination.k8s.io", "v1", "Lease", "leases", true);
    let lease = world.cluster.get(&leases, Some(&world.namespace), "writer").await.unwrap();
    assert_eq!(lease["spec"]["leaseTransitions"], 1);
    assert_eq!(lease["spec"]["holderIdentity"], second.holder());
    // Not released, by a holder that (as far as anybody can see) may still live: the next one waits it out.
    let mut vanished = lease.clone();
    vanished["spec"]["holderIdentity"] = json!("elsewhere");
    drop(second);
    let mut written = world.cluster.replace(&leases, &vanished, CreateParams::default()).await;
    if written.is_err() {
        // The last renewal came in between.
        vanished["metadata"]["resourceVersion"] = world
            .cluster
            .get(&leases, Some(&world.namespace), "writer")
            .await
            .unwrap()["metadata"]["resourceVersion"]
            .take();
        written = world.cluster.replace(&leases, &vanished, CreateParams::default()).await;
    }
    written.unwrap();
    let start = std::time::Instant::now();
    let third = acquire().await.unwrap();
    assert!(start.elapsed() >= Duration::from_secs(3));
    third.release().await.unwrap();
    world.end().await;
}

#[tokio::test]
async fn missing_permissions_are_found_in_advance() {
    let Some(world) = World::new("rbac").await else { return };
    let account = json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": "small", "namespace": world.namespace } });
    let accounts = resource("", "v1", "ServiceAccount", "serviceaccounts", true);
    world.cluster.create(&accounts, &account, CreateParams::default()).await.unwrap();
    let reader = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": { "name": "small", "namespace": world.namespace },
        "rules": [{ "apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list"] }],
    });
    let roles = resource("rbac.authorization.k8s.io", "v1", "Role", "roles", true);
    world.cluster.create(&roles, &reader, CreateParams::default()).await.unwrap();
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": { "name": "small", "namespace": world.namespace },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "small" },
        "subjects": [{ "kind": "ServiceAccount", "name": "small", "namespace": world.namespace }],
    });
    let bindings = resource("rbac.authorization.k8s.io", "v1", "RoleBinding", "rolebindings", true);
    world.cluster.create(&bindings, &binding, CreateParams::default()).await.unwrap();

    let mut config = kubeconfig();
    for user in config["users"].as_array_mut().unwrap() {
        user["user"]["as"] = json!(format!("system:serviceaccount:{}:small", world.namespace));
    }
    let small = connect_by(&config).await.unwrap();
    let rule = |verb: &str, resource: &str| Rule {
        verb: verb.to_owned(),
        group: String::new(),
        resource: resource.to_owned(),
        namespace: Some(world.namespace.clone()),
        name: None,
    };
    let needed = [
        rule("get", "configmaps"),
        rule("create", "configmaps"),
        rule("list", "configmaps"),
        rule("get", "secrets"),
    ];
    // RBAC is cached for a moment.
    let mut lacking = Vec::new();
    for _ in 0..50 {
        lacking = missing(&small, &needed).await.unwrap();
        if lacking.len() == 2 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(lacking, [rule("create", "configmaps"), rule("get", "secrets")]);
    assert!(missing(&world.cluster, &needed).await.unwrap().is_empty());
    match small.create(&configmaps(), &world.configmap("a", &json!({})), CreateParams::default()).await {
        Err(RequestError::Forbidden { resource, .. }) => assert_eq!(resource, "configmaps"),
        other => panic!("{other:?}"),
    }
    world.end().await;
}

#[tokio::test]
async fn bad_credentials_and_foreign_servers_are_distinguished() {
    let Some(world) = World::new("connect").await else { return };
    let mut config = kubeconfig();
    for user in config["users"].as_array_mut().unwrap() {
        user["user"] = json!({ "token": "expired" });
    }
    let error = connect_by(&config).await.err();
    assert!(matches!(error, Some(ConnectError::Unauthorized { .. })), "{error:?}");

    let mut config = kubeconfig();
    for cluster in config["clusters"].as_array_mut().unwrap() {
        // Without the cluster's own authority, the machine's are asked.
        cluster["cluster"] = json!({ "server": cluster["cluster"]["server"] });
    }
    let error = connect_by(&config).await.err();
    assert!(matches!(error, Some(ConnectError::Tls { .. })), "{error:?}");
    world.end().await;
}

fn kubeconfig() -> Value {
    let path = std::env::var("KUBECONFIG").unwrap();
    serde_json::to_value(kube::config::Kubeconfig::read_from(path).unwrap()).unwrap()
}

async fn connect_by(config: &Value) -> Result<Cluster, ConnectError> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    // JSON is YAML.
    file.write_all(config.to_string().as_bytes()).unwrap();
    Cluster::connect(ConnectOptions { kubeconfig: Some(file.path().to_owned()), ..options() }).await
}
