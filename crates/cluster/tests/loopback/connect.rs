//! Every way to have no connection has a name.

use std::io::Write as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use trainerd_cluster::permissions::{Rule, missing};
use trainerd_cluster::{Cluster, ConnectError, Waits};

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
async fn servers_other_than_kubernetes_are_recognized() {
    let cases: [(&str, Answer, &str); 7] = [
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
        ("a connection cut short", || Reply::Cut, "Unreachable"),
    ];
    for (what, reply, expected) in cases {
        let server = Server::start_bare(move |_| reply()).await;
        assert_eq!(name(connect_to(&server.url, "").await), expected, "{what}");
    }
}

#[tokio::test]
async fn connection_errors_are_distinguished() {
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
async fn a_missing_or_invalid_kubeconfig_is_reported() {
    let missing = std::path::Path::new("/nonexistent/kubeconfig");
    match Cluster::connect(options(missing)).await {
        Err(ConnectError::NoKubeconfig { paths }) => assert_eq!(paths, [missing]),
        other => panic!("{other:?}"),
    }

    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(b"contexts: [").unwrap();
    assert_eq!(name(Cluster::connect(options(file.path())).await), "BadKubeconfig");

    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(b"contexts: [{name: one, context: {cluster: c}}, {name: two, context: {cluster: c}}]")
        .unwrap();
    match Cluster::connect(options(file.path())).await {
        Err(ConnectError::NoCurrentContext { known }) => assert_eq!(known, ["one", "two"]),
        other => panic!("{other:?}"),
    }
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
async fn the_version_is_requested_once_on_demand() {
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
async fn a_cluster_admin_needs_a_single_access_review() {
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
async fn the_proxy_of_the_kubeconfig_is_used() {
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

/// A busy answer, of the API server or of what stands before it.
fn busy(code: u16) -> Reply {
    let after = vec![("retry-after", "1".to_owned())];
    match code {
        429 => Reply::Answer(429, after, r#"{"kind":"Status","status":"Failure","reason":"TooManyRequests","code":429,"message":"too many requests"}"#.to_owned()),
        code => Reply::Answer(code, after, "<html><body><h1>Unavailable</h1></body></html>".to_owned()),
    }
}

#[tokio::test]
async fn retry_after_is_respected_and_an_overloaded_server_is_reported() {
    let second = Duration::from_secs(1);
    let codes = [429, 502, 503, 504];
    let connected = codes.map(|code| async move {
        let mut left = 2;
        let server = Server::start_bare(move |_| {
            left -= 1;
            if left >= 0 { busy(code) } else { no() }
        })
        .await;
        let told = Arc::new(Mutex::new(Vec::new()));
        let waits = Arc::clone(&told);
        let (_file, mut options) = server.kubeconfig();
        options.waits = Some(Waits::new(move |wait| waits.lock().unwrap().push((wait.attempt, wait.wait))));
        Cluster::connect(options).await.unwrap();
        let told = told.lock().unwrap().clone();
        assert_eq!(told.iter().map(|(attempt, _)| *attempt).collect::<Vec<_>>(), [1, 2], "{code}");
        assert!(told.iter().all(|(_, wait)| *wait >= second), "{code}: {told:?}");
    });
    let given_up = codes.map(|code| async move {
        let server = Server::start_bare(move |_| busy(code)).await;
        let (_file, mut options) = server.kubeconfig();
        options.patience = Some(second / 2);
        let error = Cluster::connect(options).await.unwrap_err();
        assert!(matches!(error, ConnectError::Busy { .. }), "{code}: {error:?}");
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert!(!source.contains('<'), "{source}");
    });
    futures::future::join(futures::future::join_all(connected), futures::future::join_all(given_up)).await;
}

#[tokio::test]
async fn a_failing_exec_plugin_is_reported_without_its_arguments_and_output() {
    let server = Server::start_bare(|_| no()).await;
    let exec = |script: &str| {
        format!(
            "{{exec: {{apiVersion: client.authentication.k8s.io/v1, interactiveMode: Never, command: sh, \
             args: ['-c', '{script}'], env: [{{name: PASSWORD, value: hunter2}}]}}}}"
        )
    };
    for (user, expected) in [
        (
            exec("echo {token: hunter2; echo first >&2; echo log in first >&2; exit 3"),
            "the exec plugin sh failed (exit status: 3): log in first",
        ),
        (exec("echo hunter2"), "the exec plugin sh printed no credentials (an ExecCredential with a status)"),
        (
            "{exec: {apiVersion: client.authentication.k8s.io/v1, command: /nonexistent/plugin}}".to_owned(),
            "failed to start the exec plugin /nonexistent/plugin",
        ),
        ("{tokenFile: /nonexistent/token}".to_owned(), "failed to read the token file /nonexistent/token"),
    ] {
        let error = connect_to(&server.url, &user).await.unwrap_err();
        assert!(matches!(error, ConnectError::Credentials { .. }), "{error:?}");
        let source = std::error::Error::source(&error).unwrap();
        assert_eq!(source.to_string(), expected);
        assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
    }
}

#[tokio::test]
async fn an_unreachable_proxy_is_named_with_its_source() {
    let closed = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    let mut file = tempfile::NamedTempFile::new().unwrap();
    let mut connect = async |proxy: &str| {
        let cluster = json!({ "server": "https://10.255.255.1:6443", "proxy-url": proxy });
        let config = json!({
            "current-context": "one",
            "contexts": [{ "name": "one", "context": { "cluster": "c" } }],
            "clusters": [{ "name": "c", "cluster": cluster }],
        });
        file.as_file().set_len(0).unwrap();
        std::io::Seek::rewind(&mut file).unwrap();
        file.write_all(config.to_string().as_bytes()).unwrap();
        Cluster::connect(options(file.path())).await.unwrap_err()
    };
    let error = connect(&format!("http://user:secret@{closed}")).await;
    let text = format!(
        "failed to reach the API server at https://10.255.255.1:6443 through the proxy http://{closed}, \
         which proxy-url in the kubeconfig names"
    );
    assert_eq!(error.to_string(), text);
    let error = connect("gopher://proxy:1").await;
    assert!(matches!(error, ConnectError::BadProxy { .. }), "{error:?}");
}
