//! Every way to have no connection has a name.

use std::io::Write as _;

use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use trainerd_cluster::permissions::{Rule, missing};
use trainerd_cluster::{Cluster, ConnectError};

use crate::server::{Reply, Server, connect_to, no, ok, options, status};

/// What the first question is answered.
type Answer = fn() -> Reply;

/// The variant, by its debug form.
fn name(result: Result<Cluster, ConnectError>) -> String {
    match result {
        Ok(_) => "connected".to_owned(),
        Err(error) => format!("{error:?}").split([' ', '{']).next().unwrap().to_owned(),
    }
}

#[tokio::test]
async fn the_server_says_who_it_is() {
    let cases: [(&str, Answer, &str); 8] = [
        ("an API server", no, "connected"),
        (
            "one that answers no reviews",
            || status(403, "Forbidden", &json!({ "kind": "selfsubjectaccessreviews" })),
            "connected",
        ),
        ("an expired token", || status(401, "Unauthorized", &json!(null)), "Unauthorized"),
        ("a web site", || Reply::Answer(200, vec![], "<html>".to_owned()), "NotKubernetes"),
        ("another API", || ok(&json!({ "name": "x" })), "NotKubernetes"),
        ("a missing page", || Reply::Answer(404, vec![], "not found".to_owned()), "NotKubernetes"),
        ("a gateway without a server", || Reply::Answer(502, vec![], String::new()), "Unreachable"),
        ("a connection cut short", || Reply::Cut, "Unreachable"),
    ];
    for (what, reply, expected) in cases {
        let server = Server::start_bare(move |_| reply()).await;
        assert_eq!(name(connect_to(&server.url, "").await), expected, "{what}");
    }
}

#[tokio::test]
async fn what_lies_before_the_server_is_told_apart() {
    let server = Server::start(|_| Reply::Cut).await;
    let closed = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    };
    let plain = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let tls = format!("https://{}", plain.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = plain.accept().await {
            stream.write_all(b"HTTP/1.1 400 Client sent plain text\r\n\r\n").await.unwrap();
        }
    });
    let cases = [
        (closed.as_str(), "", "Unreachable"),
        ("https://name.invalid:6443", "", "Unreachable"),
        // The server does not speak TLS.
        (tls.as_str(), "", "Tls"),
        (&server.url, "{tokenFile: /nonexistent/token}", "Credentials"),
        (
            &server.url,
            "{exec: {apiVersion: client.authentication.k8s.io/v1, command: /nonexistent/plugin}}",
            "Credentials",
        ),
        (
            &server.url,
            "{client-certificate: /nonexistent.crt, client-key: /nonexistent.key}",
            "BadKubeconfig",
        ),
        ("not a url", "", "BadKubeconfig"),
    ];
    for (url, user, expected) in cases {
        assert_eq!(name(connect_to(url, user).await), expected, "{url} {user}");
    }
}

#[tokio::test]
async fn a_kubeconfig_is_found_and_read_or_said_not_to_be() {
    let missing = std::path::Path::new("/nonexistent/kubeconfig");
    match Cluster::connect(options(missing)).await {
        Err(ConnectError::NoKubeconfig { path }) => assert_eq!(path.as_deref(), Some(missing)),
        other => panic!("{other:?}"),
    }

    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(b"contexts: [").unwrap();
    assert_eq!(name(Cluster::connect(options(file.path())).await), "BadKubeconfig");

    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(b"contexts: [{name: one, context: {cluster: c}}, {name: two, context: {cluster: c}}]")
        .unwrap();
    // No current context.
    assert_eq!(name(Cluster::connect(options(file.path())).await), "BadKubeconfig");
    let mut options = options(file.path());
    options.context = Some("three".to_owned());
    match Cluster::connect(options).await {
        Err(error @ ConnectError::UnknownContext { .. }) => {
            assert_eq!(
                error.to_string(),
                "failed to find the context \"three\" in the kubeconfig (it has one, two)"
            );
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn the_version_is_asked_for_once_and_when_it_is_wanted() {
    let server = Server::start(|_| ok(&json!({ "gitVersion": "v1.30.2+k3s1" }))).await;
    let cluster = server.connect().await;
    assert!(server.log().is_empty() && !cluster.may_do_everything());
    for _ in 0..2 {
        assert_eq!(cluster.version().await.unwrap().semver().to_string(), "1.30.2");
    }
    assert_eq!(server.log().len(), 1);
    assert_eq!(cluster.server(), server.url);
    assert_eq!(cluster.default_namespace(), "default");
    for odd in [json!({ "gitVersion": "latest" }), json!({ "name": "x" })] {
        let server = Server::start(move |_| ok(&odd)).await;
        let error = server.connect().await.version().await.unwrap_err();
        assert!(matches!(error, ConnectError::NotKubernetes { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn who_may_do_everything_is_asked_nothing_more() {
    let yes = || ok(&json!({ "kind": "SelfSubjectAccessReview", "status": { "allowed": true } }));
    let server = Server::start_bare(move |_| yes()).await;
    let cluster = server.connect().await;
    assert!(cluster.may_do_everything());
    let rule = Rule {
        verb: "get".to_owned(),
        group: String::new(),
        resource: "secrets".to_owned(),
        namespace: None,
        name: None,
    };
    assert_eq!(missing(&cluster, &[rule]).await.unwrap(), []);
    assert!(server.log().is_empty());
}

#[tokio::test]
async fn a_proxy_that_the_kubeconfig_names_is_used() {
    let proxy = Server::start_bare(|_| Reply::Cut).await;
    let mut file = tempfile::NamedTempFile::new().unwrap();
    let cluster = json!({ "server": "https://10.255.255.1:6443", "proxy-url": proxy.url });
    let config = json!({
        "current-context": "one",
        "contexts": [{ "name": "one", "context": { "cluster": "c" } }],
        "clusters": [{ "name": "c", "cluster": cluster }],
    });
    file.write_all(config.to_string().as_bytes()).unwrap();
    assert_eq!(name(Cluster::connect(options(file.path())).await), "Unreachable");
    let log = proxy.log();
    assert_eq!((log[0].method.as_str(), log[0].path.as_str()), ("CONNECT", "10.255.255.1:6443"));
}
