//! TLS between head, workers and clients.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::{FlightDescriptor, FlightInfo};
use futures::TryStreamExt as _;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::group::{Group, client, dial, write};

type Issuer = CertifiedIssuer<'static, KeyPair>;

fn authority(name: &str) -> Issuer {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A certificate for this machine and its key, PEM.
fn issue(issuer: &Issuer, change: impl FnOnce(&mut CertificateParams)) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    change(&mut params);
    (params.signed_by(&key, issuer).unwrap().pem(), key.serialize_pem())
}

fn save(folder: &Path, (certificate, key): &(String, String), authority: &Issuer) {
    for (name, text) in [("tls.crt", certificate), ("tls.key", key), ("ca.crt", &authority.pem())] {
        std::fs::write(folder.join(name), text).unwrap();
    }
}

/// Variables of the files, with and without the authority of clients.
fn variables(folder: &Path, is_mutual: bool) -> Vec<(&'static str, String)> {
    let file = |name: &str| folder.join(name).display().to_string();
    let mut variables = vec![("TLS_CERT_FILE", file("tls.crt")), ("TLS_KEY_FILE", file("tls.key"))];
    if is_mutual {
        variables.push(("TLS_CLIENT_CA_FILE", file("ca.crt")));
    }
    variables
}

async fn start(rows: &Path, variables: &[(&'static str, String)]) -> Group {
    let variables: Vec<(&str, &str)> =
        variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
    Group::start(rows, &variables, 2).await
}

/// How a client connects that trusts an authority, and shows a certificate where it has one.
fn connector(authority: &Issuer, own: Option<&(String, String)>) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots.add(authority.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match own {
        None => config.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
            config.with_client_auth_cert(chain, key).unwrap()
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    TlsConnector::from(Arc::new(config))
}

async fn info(uri: &str, connector: Option<TlsConnector>) -> Result<FlightInfo, tonic::Status> {
    let mut client = match connector {
        None => client(uri),
        Some(connector) => FlightServiceClient::new(dial(uri, connector)),
    };
    let descriptor = FlightDescriptor::new_path(vec!["0".to_owned(), "1".to_owned()]);
    client.get_flight_info(descriptor).await.map(tonic::Response::into_inner)
}

/// The rows of all workers, each read over a connection of its own.
async fn count(info: FlightInfo, connector: &TlsConnector) -> usize {
    let mut rows = 0;
    for endpoint in info.endpoint {
        let uri = &endpoint.location[0].uri;
        assert!(uri.starts_with("grpc+tls://"), "{uri}");
        let uri = uri.replace("grpc+tls://", "http://");
        let mut client = FlightServiceClient::new(dial(&uri, connector.clone()));
        let messages = client.do_get(endpoint.ticket.unwrap()).await.unwrap().into_inner();
        let messages = messages.map_err(|status| arrow_flight::error::FlightError::Tonic(Box::new(status)));
        let batches: Vec<_> = arrow_flight::decode::FlightRecordBatchStream::new_from_flight_data(messages)
            .try_collect()
            .await
            .unwrap();
        rows += crate::group::rows(&batches);
    }
    rows
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_read_over_tls_and_not_without_it() {
    let (rows, files) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    write(&rows.path().join("a.parquet"), 0..500, 100);
    let (issuer, other) = (authority("ours"), authority("another"));
    save(files.path(), &issue(&issuer, |_| {}), &issuer);
    // That the group gets ready says that the head reaches its workers.
    let group = start(rows.path(), &variables(files.path(), false)).await;
    let trusted = connector(&issuer, None);
    assert_eq!(count(info(&group.head(), Some(trusted.clone())).await.unwrap(), &trusted).await, 500);
    assert!(info(&group.head(), None).await.is_err(), "a plain client");
    let refused = info(&group.head(), Some(connector(&other, None))).await.unwrap_err();
    assert!(format!("{refused:?}").contains("UnknownIssuer"), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_show_certificates_of_the_authority_that_are_still_good() {
    let (rows, files) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    write(&rows.path().join("a.parquet"), 0..500, 100);
    let (issuer, other) = (authority("ours"), authority("another"));
    save(files.path(), &issue(&issuer, |_| {}), &issuer);
    let group = start(rows.path(), &variables(files.path(), true)).await;
    let good = connector(&issuer, Some(&issue(&issuer, |_| {})));
    assert_eq!(count(info(&group.head(), Some(good.clone())).await.unwrap(), &good).await, 500);
    let expired = issue(&issuer, |params| params.not_after = rcgen::date_time_ymd(2020, 1, 1));
    for (what, own) in [
        ("no certificate", None),
        ("one of another authority", Some(issue(&other, |_| {}))),
        ("an expired one", Some(expired)),
    ] {
        let refused = info(&group.head(), Some(connector(&issuer, own.as_ref()))).await;
        assert!(refused.is_err(), "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_is_replaced_is_shown_to_the_next_client_and_cuts_nobody_off() {
    let (rows, files) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    write(&rows.path().join("a.parquet"), 0..200_000, 10_000);
    let issuer = authority("ours");
    let first = issue(&issuer, |_| {});
    save(files.path(), &first, &issuer);
    let mut group = start(rows.path(), &variables(files.path(), false)).await;
    let trusted = connector(&issuer, None);
    let told = info(&group.head(), Some(trusted.clone())).await.unwrap();
    let uri = told.endpoint[0].location[0].uri.replace("grpc+tls://", "http://");
    let mut reader = FlightServiceClient::new(dial(&uri, trusted.clone()));
    let mut open = reader.do_get(told.endpoint[0].ticket.clone().unwrap()).await.unwrap().into_inner();
    assert!(open.try_next().await.unwrap().is_some());
    let second = issue(&issuer, |_| {});
    save(files.path(), &second, &issuer);
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let shown = |certificate: &str| CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
    assert_eq!(leaf(&group.head(), &trusted).await, shown(&second.0));
    // A worker that starts meanwhile has the new one, and the head takes it.
    group.stop(1);
    group.until(|status| status.state == "Degraded").await;
    group.restart(1);
    group.until(|status| status.state == "Ready").await;
    while open.try_next().await.unwrap().is_some() {}
    let told = info(&group.head(), Some(trusted.clone())).await.unwrap();
    assert_eq!(count(told, &trusted).await, 200_000);
}

/// The certificate that a server shows.
async fn leaf(uri: &str, connector: &TlsConnector) -> CertificateDer<'static> {
    let stream = TcpStream::connect(uri.trim_start_matches("http://")).await.unwrap();
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let stream = connector.connect(name, stream).await.unwrap();
    stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned()
}
