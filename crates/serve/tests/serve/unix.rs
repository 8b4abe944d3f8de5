//! The socket, with a server on it.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use axum::routing::get as on_get;
use axum::{Extension, Router};
use tokio::net::UnixStream;
use trainerd_serve::auth::Identity;
use trainerd_serve::listen::{self, ListenError};
use trainerd_serve::{Limits, Probes, problem};

use crate::client::{Server, get};

#[tokio::test]
async fn a_server_owns_its_socket_until_it_ends() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("trainerd.sock");
    let router = Probes::new().router().fallback(problem::not_found);
    let mut server = Server::start(listen::unix(&path, 0o600).await.unwrap(), router, Limits::default());
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let answer = get(UnixStream::connect(&path).await.unwrap(), "/livez").await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("\r\n\r\nok\n"), "{answer}");
    let answer = get(UnixStream::connect(&path).await.unwrap(), "/else?q").await;
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
    assert!(answer.ends_with(r#"{"reason":"NotFound","message":"there is nothing at /else"}"#), "{answer}");
    assert!(matches!(listen::unix(&path, 0o600).await, Err(ListenError::InUse { .. })));
    server.stop();
    server.ended().await.unwrap();
    assert!(!path.exists());
}

#[tokio::test]
async fn the_socket_of_a_killed_server_is_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("trainerd.sock");
    // Its file outlives a listener of the standard library, as that of a killed process would.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let router: Router = Probes::new().router();
    let _server = Server::start(listen::unix(&path, 0o660).await.unwrap(), router, Limits::default());
    let answer = get(UnixStream::connect(&path).await.unwrap(), "/readyz").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test]
async fn a_handler_knows_the_uid_of_the_client() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("trainerd.sock");
    let handler = async |Extension(identity): Extension<Identity>| identity.name;
    let router = Router::new().route("/who", on_get(handler));
    let _server = Server::start(listen::unix(&path, 0o600).await.unwrap(), router, Limits::default());
    let answer = get(UnixStream::connect(&path).await.unwrap(), "/who").await;
    let own = std::os::unix::fs::MetadataExt::uid(&fs::metadata(directory.path()).unwrap());
    assert!(answer.ends_with(&format!("\r\n\r\nuid {own}")), "{answer}");
}
