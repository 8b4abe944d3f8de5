//! What is sent, and what is made of the answer.

use serde_json::{Value, json};
use trainerd_cluster::{
    ApplyParams, ConflictKind, CreateParams, DeleteParams, Deletion, ListParams, Propagation, RequestError,
};
use trainerd_object::Resource;

use crate::server::{CONFIGMAPS, Reply, Server, configmap, configmaps, ok, status};

fn object() -> String {
    format!("{CONFIGMAPS}/a")
}

#[tokio::test]
async fn every_request_has_user_agent_and_field_manager() {
    let server = Server::start(|_| ok(&configmap("a", 1))).await;
    let cluster = server.connect().await;
    let manifest = configmap("a", 1);
    let dry = CreateParams { dry_run: true, ..CreateParams::default() };
    cluster.get(&configmaps(), Some("ns"), "a").await.unwrap();
    cluster.apply(&configmaps(), &manifest, &ApplyParams::default()).await.unwrap();
    let forced = ApplyParams {
        force: true,
        dry_run: true,
        field_manager: Some("other".to_owned()),
        ..ApplyParams::default()
    };
    cluster.apply(&configmaps(), &manifest, &forced).await.unwrap();
    cluster.create(&configmaps(), &manifest, dry).await.unwrap();
    cluster.replace(&configmaps(), &manifest, CreateParams::default()).await.unwrap();
    cluster.patch_merge(&configmaps(), Some("ns"), "a", &json!({ "data": null }), dry).await.unwrap();
    cluster.delete(&configmaps(), Some("ns"), "a", &DeleteParams::default()).await.unwrap();

    let log = server.log();
    for request in &log {
        assert_eq!(request.header("user-agent"), ["trainerd/9.9.9 (test)"]);
    }
    let sent: Vec<_> = log
        .iter()
        .map(|request| {
            let query: Vec<_> = request.query.iter().map(|(key, value)| format!("{key}={value}")).collect();
            format!(
                "{} {} {} {}",
                request.method,
                request.path,
                request.header("content-type").concat(),
                query.join("&")
            )
        })
        .collect();
    let object = object();
    let expected = [
        format!("GET {object}  "),
        format!("PATCH {object} application/apply-patch+yaml fieldManager=trainerd&fieldValidation=Strict"),
        format!(
            "PATCH {object} application/apply-patch+yaml dryRun=All&fieldManager=other&fieldValidation=Strict&force=true"
        ),
        format!("POST {CONFIGMAPS} application/json dryRun=All&fieldManager=trainerd&fieldValidation=Strict"),
        format!("PUT {object} application/json fieldManager=trainerd&fieldValidation=Strict"),
        format!(
            "PATCH {object} application/merge-patch+json dryRun=All&fieldManager=trainerd&fieldValidation=Strict"
        ),
        format!("DELETE {object} application/json "),
    ];
    assert_eq!(sent, expected);
    assert_eq!(log[1].body, manifest);
}

#[tokio::test]
async fn a_delete_has_preconditions_and_a_typed_outcome() {
    let server = Server::start(|request| match request.body["preconditions"]["uid"].as_str() {
        Some("old") => status(409, "Conflict", &json!({ "name": "a", "kind": "ConfigMap" })),
        Some(_) => ok(&json!({ "kind": "Status", "apiVersion": "v1", "status": "Success" })),
        None => ok(&configmap("a", 2)),
    })
    .await;
    let cluster = server.connect().await;
    let delete = |params: DeleteParams| {
        let cluster = cluster.clone();
        async move { cluster.delete(&configmaps(), Some("ns"), "a", &params).await }
    };
    let full = DeleteParams {
        uid: Some("u".to_owned()),
        resource_version: Some("7".to_owned()),
        propagation: Some(Propagation::Foreground),
        dry_run: true,
    };
    assert_eq!(delete(full).await.unwrap(), Deletion::Done);
    assert_eq!(
        server.log()[0].body,
        json!({
            "apiVersion": "v1", "kind": "DeleteOptions",
            "preconditions": { "uid": "u", "resourceVersion": "7" },
            "propagationPolicy": "Foreground", "dryRun": ["All"],
        })
    );
    assert_eq!(delete(DeleteParams::default()).await.unwrap(), Deletion::Accepted(configmap("a", 2)));
    let old = DeleteParams { uid: Some("old".to_owned()), ..DeleteParams::default() };
    match delete(old).await {
        Err(RequestError::Conflict { kind: ConflictKind::Uid, .. }) => {}
        other => panic!("{other:?}"),
    }
}

fn page(items: &[&str], version: &str, token: &str) -> Reply {
    let items: Vec<Value> = items.iter().map(|name| json!({ "metadata": { "name": name } })).collect();
    ok(&json!({ "metadata": { "resourceVersion": version, "continue": token }, "items": items }))
}

fn names(items: &[Value]) -> Vec<&str> {
    items.iter().map(|item| item["metadata"]["name"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_list_is_paged_and_its_items_have_their_kind() {
    let server = Server::start(|request| match request.query("continue") {
        None => page(&["a", "b"], "9", "next=1&"),
        Some("next=1&") => page(&["c"], "9", ""),
        other => panic!("{other:?}"),
    })
    .await;
    let cluster = server.connect().await;
    let params = ListParams {
        namespace: Some("ns".to_owned()),
        label_selector: Some("app in (x,y)".to_owned()),
        metadata_only: true,
        ..ListParams::default()
    };
    let list = cluster.list(&configmaps(), &params).await.unwrap();
    assert_eq!(names(&list.items), ["a", "b", "c"]);
    assert_eq!(list.resource_version, "9");
    for item in &list.items {
        assert_eq!((&item["apiVersion"], &item["kind"]), (&json!("v1"), &json!("ConfigMap")));
    }
    for request in server.log() {
        assert!(request.is("GET", CONFIGMAPS));
        assert_eq!(request.query("limit"), Some("1000"));
        assert_eq!(request.query("labelSelector"), Some("app in (x,y)"));
        assert_eq!(
            request.header("accept"),
            ["application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"]
        );
    }
}

#[tokio::test]
async fn an_expired_page_restarts_the_list() {
    let server = Server::start(|request| match (request.query("continue"), request.query("limit")) {
        (None, Some(_)) => page(&["a", "gone"], "9", "next"),
        (Some(_), _) => status(410, "Expired", &json!(null)),
        (None, None) => page(&["a", "b"], "20", ""),
    })
    .await;
    let list = server.connect().await.list(&configmaps(), &ListParams::default()).await.unwrap();
    assert_eq!(names(&list.items), ["a", "b"]);
    assert_eq!(list.resource_version, "20");
    assert_eq!(server.log().len(), 3);
}

#[tokio::test]
async fn a_missing_object_is_none() {
    let server = Server::start(|request| match request.path.rsplit('/').next().unwrap() {
        "absent" => status(404, "NotFound", &json!({ "name": "absent", "kind": "configmaps" })),
        "unserved" => Reply::Answer(404, vec![], "404 page not found".to_owned()),
        "forbidden" => status(403, "Forbidden", &json!({ "name": "forbidden", "kind": "configmaps" })),
        name => ok(&configmap(name, 1)),
    })
    .await;
    let cluster = server.connect().await;
    for (name, expected) in
        [("there", Some(true)), ("absent", Some(false)), ("unserved", Some(false)), ("forbidden", None)]
    {
        let found =
            cluster.get_opt(&configmaps(), Some("ns"), name).await.ok().map(|object| object.is_some());
        assert_eq!(found, expected, "{name}");
    }
}

#[tokio::test]
async fn served_kinds_are_found_by_group() {
    let server = Server::start(|request| match request.path.as_str() {
        "/apis/jobset.x-k8s.io/v1alpha2" => {
            ok(&json!({ "resources": [{ "name": "jobsets" }, { "name": "jobsets/status" }] }))
        }
        _ => Reply::Answer(404, vec![], "404 page not found".to_owned()),
    })
    .await;
    let cluster = server.connect().await;
    let resource = |version: &str, plural: &str| Resource {
        group: "jobset.x-k8s.io".to_owned(),
        version: version.to_owned(),
        kind: "JobSet".to_owned(),
        plural: plural.to_owned(),
        namespaced: true,
    };
    for (version, plural, expected) in
        [("v1alpha2", "jobsets", true), ("v1alpha2", "others", false), ("v1", "jobsets", false)]
    {
        assert_eq!(cluster.serves(&resource(version, plural)).await.unwrap(), expected, "{version} {plural}");
    }
}

#[tokio::test]
async fn a_list_is_visited_page_by_page() {
    let server = Server::start(|request| match request.query.get("continue").map(String::as_str) {
        None => page(&["a", "b"], "5", "second"),
        Some("second") => page(&["c"], "5", "third"),
        Some(_) => status(410, "Expired", &json!({})),
    })
    .await;
    let cluster = server.connect().await;
    let mut seen = Vec::new();
    let each = |item: Value| seen.push(item["metadata"]["name"].as_str().unwrap_or_default().to_owned());
    let gone = cluster.for_each(&configmaps(), &ListParams::default(), 2, each).await;
    assert!(matches!(gone, Err(RequestError::Expired { .. })), "{gone:?}");
    assert_eq!(seen, ["a", "b", "c"]);
    let limits: Vec<_> = server.log().iter().map(|request| request.query.get("limit").cloned()).collect();
    assert_eq!(limits, vec![Some("2".to_owned()); 3], "never without a bound");
}
