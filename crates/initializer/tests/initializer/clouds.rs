//! The initializer against servers of Google Cloud Storage and Azure Blob Storage, over a line with faults.
//! `TRAINERD_GCS_SERVER` names the program `fake-gcs-server`, `TRAINERD_AZURE_SERVER` the program `azurite-blob`.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, header};
use object_store::azure::{AzureAuthorizer, MicrosoftAzureBuilder};
use object_store::client::{HttpRequest, HttpRequestBody};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _, PutPayload};

use crate::line::{Faults, Line, kill_often};
use crate::loopback::{run, said, wrong};
use crate::s3::{below, kills, objects};

/// The account that every emulator has, and its key.
const ACCOUNT: &str = "devstoreaccount1";
const KEY: &str = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

/// A server and where it is.
struct Server {
    child: Child,
    address: SocketAddr,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    /// Started with these arguments, once it listens; `None` where no program is named.
    fn start(
        variable: &str,
        program: &str,
        arguments: impl FnOnce(SocketAddr) -> Vec<String>,
    ) -> Option<Self> {
        let Some(path) = std::env::var_os(variable).map(PathBuf::from) else {
            eprintln!("skipped: {variable} names no {program}");
            return None;
        };
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut command = Command::new(path);
        command.args(arguments(address)).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().unwrap();
        while TcpStream::connect(address).is_err() {
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(Self { child, address })
    }
}

/// A cloud on this machine with a bucket of objects.
struct Cloud {
    server: Server,
    scheme: &'static str,
    /// Variables of the initializer, with a given endpoint.
    variables: fn(&str) -> Vec<(&'static str, String)>,
}

async fn put(store: &dyn ObjectStore, objects: &BTreeMap<String, Bytes>) {
    for (key, content) in objects {
        store.put(&Path::parse(key).unwrap(), PutPayload::from(content.clone())).await.unwrap();
    }
}

/// An account without credentials, at an endpoint.
fn google_key(endpoint: &str) -> String {
    format!(
        r#"{{"gcs_base_url":"{endpoint}","disable_oauth":true,"client_email":"","private_key":"","private_key_id":""}}"#
    )
}

fn google(objects: &BTreeMap<String, Bytes>) -> Option<Cloud> {
    let server = Server::start("TRAINERD_GCS_SERVER", "fake-gcs-server", |address| {
        // The host without a port: it is asked by way of another port, too.
        let arguments = format!(
            "-scheme http -host 127.0.0.1 -port {} -backend memory -public-host {}",
            address.port(),
            address.ip()
        );
        arguments.split(' ').map(str::to_owned).collect()
    })?;
    let endpoint = format!("http://{}", server.address);
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let made = reqwest::Client::new()
            .post(format!("{endpoint}/storage/v1/b?project=loopback"))
            .header(header::CONTENT_TYPE, "application/json")
            .body(r#"{"name":"bucket"}"#)
            .send()
            .await
            .unwrap();
        assert!(made.status().is_success(), "{}", made.status());
        // The server takes objects over its JSON interface only; it is read over the other, as the cloud is.
        for (key, content) in objects {
            let at = format!("{endpoint}/upload/storage/v1/b/bucket/o?uploadType=media");
            let at = url::Url::parse_with_params(&at, [("name", key)]).unwrap();
            let put = reqwest::Client::new().post(at).body(content.clone()).send().await.unwrap();
            assert!(put.status().is_success(), "{key}: {}", put.status());
        }
    });
    let variables = |endpoint: &str| vec![("GOOGLE_SERVICE_ACCOUNT_KEY", google_key(endpoint))];
    Some(Cloud { server, scheme: "gs", variables })
}

fn azure(objects: &BTreeMap<String, Bytes>) -> Option<Cloud> {
    let server = Server::start("TRAINERD_AZURE_SERVER", "azurite-blob", |address| {
        let arguments = format!(
            "--blobHost 127.0.0.1 --blobPort {} --inMemoryPersistence --skipApiVersionCheck --silent",
            address.port()
        );
        arguments.split(' ').map(str::to_owned).collect()
    })?;
    let endpoint = format!("http://{}/{ACCOUNT}", server.address);
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let store = MicrosoftAzureBuilder::new()
            .with_account(ACCOUNT)
            .with_access_key(KEY)
            .with_endpoint(endpoint.clone())
            .with_container_name("bucket")
            .with_allow_http(true)
            .build()
            .unwrap();
        let url = format!("{endpoint}/bucket?restype=container");
        let mut request: HttpRequest =
            Request::put(&url).header(header::CONTENT_LENGTH, "0").body(HttpRequestBody::empty()).unwrap();
        let credential = store.credentials().get_credential().await.unwrap();
        AzureAuthorizer::new(&credential, ACCOUNT).authorize(&mut request);
        let made =
            reqwest::Client::new().put(url).headers(request.into_parts().0.headers).send().await.unwrap();
        assert!(made.status().is_success(), "{}", made.status());
        put(&store, objects).await;
    });
    let variables = |endpoint: &str| {
        vec![
            ("AZURE_STORAGE_ACCOUNT_NAME", ACCOUNT.to_owned()),
            ("AZURE_STORAGE_ACCOUNT_KEY", KEY.to_owned()),
            ("AZURE_STORAGE_ENDPOINT", format!("{endpoint}/{ACCOUNT}")),
        ]
    };
    Some(Cloud { server, scheme: "az", variables })
}

impl Cloud {
    /// Runs the initializer for a prefix over a line.
    fn variables(&self, line: &Line, prefix: &str) -> Vec<(&'static str, String)> {
        let mut variables = (self.variables)(&line.endpoint());
        variables.push(("STORAGE_URI", format!("{}://bucket/{prefix}", self.scheme)));
        variables.push(("PART_BYTES", "256Ki".to_owned()));
        variables
    }

    /// Over a line that is slow and breaks, a prefix comes whole, and what is there is not fetched again.
    fn comes_whole(&self) {
        let faults = Faults {
            latency: Duration::from_millis(5),
            pause: Duration::from_micros(200),
            cut: Some(400_000),
        };
        let line = Line::start(self.server.address, faults);
        let variables = self.variables(&line, "data");
        let variables: Vec<(&str, &str)> =
            variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let target = tempfile::tempdir().unwrap();
        let output = run("dataset", target.path(), &variables);
        assert!(output.status.success(), "{}", said(&output));
        let content = below(&objects());
        assert_eq!(wrong(target.path(), &content, true), Vec::<String>::new());
        assert!(!target.path().join("other").exists() && !target.path().join("data2").exists());
        assert!(!said(&output).contains(KEY), "{}", said(&output));
        let total: usize = content.values().map(Bytes::len).sum();
        let brought = line.brought.load(Ordering::Relaxed);
        assert!(brought < total as u64 * 5 / 4, "{brought} of {total}");
        let again = run("dataset", target.path(), &variables);
        assert!(again.status.success(), "{}", said(&again));
        let more = line.brought.load(Ordering::Relaxed) - brought;
        assert!(more < 100_000, "{more} bytes for what was there");
    }

    fn refuses(&self) {
        let line = Line::start(
            self.server.address,
            Faults { latency: Duration::ZERO, pause: Duration::ZERO, cut: None },
        );
        for prefix in ["nothing", "dat"] {
            let variables = self.variables(&line, prefix);
            let variables: Vec<(&str, &str)> =
                variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
            let target = tempfile::tempdir().unwrap();
            let output = run("dataset", target.path(), &variables);
            assert_eq!(output.status.code(), Some(4), "{prefix}: {}", said(&output));
        }
    }

    fn killed(&self) {
        let faults = Faults { latency: Duration::ZERO, pause: Duration::from_micros(500), cut: None };
        let line = Line::start(self.server.address, faults);
        let variables = self.variables(&line, "data");
        let variables: Vec<(&str, &str)> =
            variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
        kill_often(&variables, &below(&objects()), kills());
    }
}

#[test]
fn a_prefix_of_google_comes_whole_over_a_line_that_breaks() {
    let Some(cloud) = google(&objects()) else { return };
    cloud.comes_whole();
    cloud.refuses();
}

#[test]
fn a_prefix_of_azure_comes_whole_over_a_line_that_breaks() {
    let Some(cloud) = azure(&objects()) else { return };
    cloud.comes_whole();
    cloud.refuses();
}

#[test]
fn killed_while_it_reads_from_google_nothing_half_written_is_taken_for_whole() {
    let Some(cloud) = google(&objects()) else { return };
    cloud.killed();
}

#[test]
fn killed_while_it_reads_from_azure_nothing_half_written_is_taken_for_whole() {
    let Some(cloud) = azure(&objects()) else { return };
    cloud.killed();
}
