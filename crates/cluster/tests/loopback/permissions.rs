//! Asking what is allowed.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;
use trainerd_cluster::permissions::{Rule, missing};

use crate::server::{Reply, Server, ok, status};

fn rule(verb: &str, resource: &str) -> Rule {
    Rule {
        verb: verb.to_owned(),
        group: "apps".to_owned(),
        resource: resource.to_owned(),
        namespace: Some("ns".to_owned()),
        name: None,
    }
}

#[tokio::test]
async fn missing_permissions_are_listed_in_the_order_of_the_request() {
    let requests = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&requests);
    let server = Server::start(move |request| {
        // A review that fails at first is asked again.
        if count.fetch_add(1, Ordering::SeqCst) == 3 {
            return Reply::Answer(503, vec![], String::new());
        }
        let attributes = &request.body["spec"]["resourceAttributes"];
        let allowed = attributes["verb"] != "delete" && attributes["subresource"] == "";
        ok(&json!({ "status": { "allowed": allowed } }))
    })
    .await;
    let cluster = server.connect().await;
    let mut needed: Vec<Rule> = (0..40).map(|n| rule("get", &format!("kind{n}"))).collect();
    needed[3] = rule("delete", "b");
    needed[30] = rule("delete", "a");
    needed[17] = rule("patch", "deployments/status");
    let missing = missing(&cluster, &needed).await.unwrap();
    assert_eq!(missing, [rule("delete", "b"), rule("patch", "deployments/status"), rule("delete", "a")]);
    assert_eq!(requests.load(Ordering::SeqCst), 41);
}

#[tokio::test]
async fn a_refused_review_is_an_error() {
    let server =
        Server::start(|_| status(403, "Forbidden", &json!({ "kind": "selfsubjectaccessreviews" }))).await;
    let cluster = server.connect().await;
    assert!(missing(&cluster, &[rule("get", "deployments")]).await.is_err());
}
