//! The API over the network: for whom Kubernetes knows and lets, and for nobody else.

use std::error::Error;
use std::io::{BufRead as _, BufReader};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::{Value, json};
use trainerd_integration::TestCluster;
use trainerd_integration::daemon::{Answer, exchange};
use trainerd_integration::managed::BOUND;
use trainerd_integration::service_account::TokenListener;
use trainerd_integration::stack::NAMESPACE;

type Result<T = (), E = Box<dyn Error>> = std::result::Result<T, E>;

#[test]
fn api_access_follows_kubernetes_permissions() -> Result {
    let cluster = TestCluster::take()?;
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}});
    cluster.create(&trainerd_integration::stack::namespace(), &namespace)?;
    let listener = TokenListener::new(&cluster)?;
    let mut daemon = cluster.daemon("daemon", &listener.arguments())?;
    daemon.wait_for("absent", BOUND, |view| view["phase"] == "absent")?;

    let looker = cluster.account(NAMESPACE, "looker", &["get"])?;
    let changer = cluster.account(NAMESPACE, "changer", &["get", "update"])?;
    let stranger = cluster.account(NAMESPACE, "stranger", &["list"])?;
    for (method, path, token, code) in [
        ("GET", "/", None, 200),
        ("GET", "/v1/installation", None, 401),
        ("GET", "/v1/installation", Some("nonsense"), 401),
        ("GET", "/v1/installation", Some(stranger.as_str()), 403),
        ("GET", "/v1/installation", Some(looker.as_str()), 200),
        ("POST", "/v1/actions/dance", Some(looker.as_str()), 403),
        ("POST", "/v1/actions/dance", Some(changer.as_str()), 404),
        ("GET", "/v1/nowhere", Some(changer.as_str()), 404),
    ] {
        let answer = listener.ask(method, path, token)?;
        assert_eq!(answer.code, code, "{method} {path}: {}", answer.body);
        assert!(token.is_none_or(|token| !answer.body.contains(token)), "{}", answer.body);
    }

    // A token for this daemon opens it, and is of no use towards the API server; one for another opens nothing.
    let ours = cluster.token_for(NAMESPACE, "looker", "trainerd.dev/kubeflow-system/kubeflow-trainer")?;
    assert_eq!(listener.ask("GET", "/v1/installation", Some(&ours))?.code, 200);
    let useless = cluster.kubeconfig_with(&ours)?;
    let refused = cluster.run_as(&useless, &["status"])?.expect_code(5)?;
    assert!(refused.stderr.contains("Unauthorized"), "{}", refused.stderr);
    for audience in ["trainerd.dev/kubeflow-system/another", "vault"] {
        let theirs = cluster.token_for(NAMESPACE, "looker", audience)?;
        assert_eq!(listener.ask("GET", "/v1/installation", Some(&theirs))?.code, 401, "{audience}");
    }
    let log = daemon.log();
    for token in [looker, changer, stranger] {
        assert!(!log.contains(&token), "a token is in the log");
    }
    Ok(())
}

#[test]
fn the_local_page_is_open_to_whoever_has_its_address() -> Result {
    let cluster = TestCluster::take()?;
    let mut daemon = cluster.daemon("daemon", &[])?;
    daemon.wait_for("absent", BOUND, |view| view["phase"] == "absent")?;
    let missing = cluster.run(&["status", "--web", "--socket", "/nowhere/trainerd.sock"])?.expect_code(1)?;
    assert!(missing.stderr.contains("/nowhere/trainerd.sock"), "{}", missing.stderr);

    let socket = cluster.folder().join("daemon.sock").display().to_string();
    let (command, mut child) =
        cluster.spawn(cluster.kubeconfig(), &["status", "--web", "--socket", &socket])?;
    let mut address = String::new();
    BufReader::new(child.stdout.take().ok_or("no stdout")?).read_line(&mut address)?;
    let (place, token) =
        address.trim().trim_start_matches("http://").split_once("/#token=").ok_or(command)?;
    let ask = |method: &str, path: &str, token: Option<&str>| -> Result<Answer> {
        let stream = TcpStream::connect(place)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        Ok(exchange(stream, method, path, None, token)?)
    };
    for (method, path, token, code) in [
        ("GET", "/", None, 200),
        ("GET", "/page/script.js", None, 200),
        ("GET", "/v1/installation", None, 401),
        ("GET", "/v1/installation", Some("x"), 401),
        ("GET", "/v1/installation", Some(token), 200),
        ("POST", "/v1/actions/pause", Some(token), 405),
    ] {
        let answer = ask(method, path, token)?;
        assert_eq!(answer.code, code, "{method} {path}: {}", answer.body);
    }
    let view: Value = serde_json::from_str(&ask("GET", "/v1/installation", Some(token))?.body)?;
    assert_eq!(view["phase"], "absent");
    let pid =
        i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw).ok_or("a process id")?;
    rustix::process::kill_process(pid, rustix::process::Signal::INT)?;
    assert_eq!(child.wait()?.code(), Some(0));
    Ok(())
}
