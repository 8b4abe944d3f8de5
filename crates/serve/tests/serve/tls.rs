//! TLS, with certificates that change and clients that are slow.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use axum::serve::Listener;
use rcgen::{CertificateParams, KeyPair};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use trainerd_serve::{Certificates, Limits, Probes, listen};

use crate::client::{SOON, Server, begin, get, is_closed};

async fn server(certificates: Certificates) -> (Server, SocketAddr) {
    let listener = listen::tls("127.0.0.1:0".parse().unwrap(), certificates).await.unwrap();
    let addr = listener.local_addr().unwrap();
    (Server::start(listener, Probes::new().router(), Limits::default()), addr)
}

/// A client that trusts these certificates only.
fn trusting(roots: &[CertificateDer<'static>]) -> TlsConnector {
    let mut store = RootCertStore::empty();
    for root in roots {
        store.add(root.clone()).unwrap();
    }
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(store)
        .with_no_client_auth();
    TlsConnector::from(Arc::new(config))
}

async fn connect(client: &TlsConnector, addr: SocketAddr) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(addr).await.unwrap();
    client.connect(ServerName::try_from("localhost").unwrap(), stream).await
}

/// The leaf it is shown, after a request that was answered.
async fn ask(client: &TlsConnector, addr: SocketAddr) -> CertificateDer<'static> {
    let mut stream = connect(client, addr).await.unwrap();
    let leaf = stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned();
    let answer = get(&mut stream, "/livez").await;
    assert!(answer.ends_with("ok\n"), "{answer}");
    leaf
}

/// Writes a new pair and gives its certificate.
fn write_pair(directory: &Path) -> CertificateDer<'static> {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
    fs::write(directory.join("tls.crt"), certificate.pem()).unwrap();
    fs::write(directory.join("tls.key"), key.serialize_pem()).unwrap();
    certificate.der().clone()
}

#[tokio::test]
async fn the_self_signed_certificate_can_be_trusted_and_pinned() {
    let names = ["localhost", "127.0.0.1"].map(str::to_owned).to_vec();
    let certificates = Certificates::self_signed(names).unwrap();
    let (_server, addr) = server(certificates.clone()).await;
    let shown = ask(&trusting(&[certificates.leaf()]), addr).await;
    assert_eq!(shown, certificates.leaf());

    let other = Certificates::self_signed(vec!["localhost".to_owned()]).unwrap();
    assert!(connect(&trusting(&[other.leaf()]), addr).await.is_err());
    let elsewhere = Certificates::self_signed(vec!["elsewhere".to_owned()]).unwrap();
    let (_server, addr) = server(elsewhere.clone()).await;
    assert!(connect(&trusting(&[elsewhere.leaf()]), addr).await.is_err());
}

#[tokio::test]
async fn a_new_certificate_file_is_used_for_new_connections() {
    let directory = tempfile::tempdir().unwrap();
    let first = write_pair(directory.path());
    let seconds = Arc::new(AtomicU64::new(1_000_000));
    let hand = Arc::clone(&seconds);
    let clock = move || SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.load(Ordering::Relaxed));
    let (certificate, key) = (directory.path().join("tls.crt"), directory.path().join("tls.key"));
    let certificates = Certificates::from_files_by(certificate, key, Arc::new(clock)).unwrap();
    let (_server, addr) = server(certificates.clone()).await;

    // One client throughout: it would resume its session if it were let.
    let both = [first.clone(), write_pair(directory.path())];
    let client = trusting(&both);
    assert_eq!(ask(&client, addr).await, first, "not looked at within a second");
    hand.fetch_add(1, Ordering::Relaxed);
    assert_eq!(ask(&client, addr).await, both[1]);
    assert_eq!(certificates.leaf(), both[1]);

    fs::write(directory.path().join("tls.key"), "junk").unwrap();
    hand.fetch_add(1, Ordering::Relaxed);
    assert_eq!(ask(&client, addr).await, both[1], "the old one stays");
}

#[tokio::test]
async fn slow_tls_clients_delay_nobody_and_are_cut_off() {
    let certificates = Certificates::self_signed(vec!["localhost".to_owned()]).unwrap();
    let (_server, addr) = server(certificates.clone()).await;
    let mut slow = Vec::new();
    for _ in 0..50 {
        // A TLS record that never gets complete.
        slow.push(begin(addr, "\u{16}\u{3}\u{1}").await);
    }
    let client = trusting(&[certificates.leaf()]);
    timeout(SOON, ask(&client, addr)).await.expect("nobody is held up");
    sleep(Duration::from_secs(4)).await;
    for stream in &mut slow {
        assert!(is_closed(stream).await);
    }
}

#[tokio::test]
async fn plain_http_is_rejected() {
    let (_server, addr) = server(Certificates::self_signed(vec!["localhost".to_owned()]).unwrap()).await;
    let answer = timeout(SOON, async {
        let mut stream = begin(addr, "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n").await;
        is_closed(&mut stream).await
    });
    assert!(answer.await.unwrap());
}
