//! The initializer against a real S3 server, over a line with faults. `TRAINERD_S3_SERVER` names the program: the
//! Versity S3 gateway (`versitygw`).

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::line::{Faults, Line};
use crate::loopback::{command, noise, run, said, wrong};
use bytes::Bytes;
use http::{Request, header};
use object_store::aws::{AmazonS3, AmazonS3Builder, AwsAuthorizer};
use object_store::client::{HttpRequest, HttpRequestBody};
use object_store::path::Path;
use object_store::{ObjectStoreExt as _, PutPayload, WriteMultipart};

const KEY: &str = "loopback";
const SECRET: &str = "loopback-sesame";

/// The server, where it is named.
fn program() -> Option<PathBuf> {
    let program = std::env::var_os("TRAINERD_S3_SERVER").map(PathBuf::from);
    if program.is_none() {
        eprintln!("skipped: TRAINERD_S3_SERVER names no versitygw");
    }
    program
}

/// An address that nobody listens at.
fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// A gateway and what it keeps.
struct Gateway {
    child: Child,
    address: SocketAddr,
    folder: tempfile::TempDir,
}

impl Gateway {
    /// Started, with a bucket of these objects; `None` where no program is named.
    fn start(objects: &BTreeMap<String, Bytes>) -> Option<Self> {
        let program = program()?;
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("bucket")).unwrap();
        let gateway = Self::start_at(program, free_address(), folder);
        gateway.put(objects);
        Some(gateway)
    }

    /// Started at this address, with the buckets that this folder has.
    fn start_at(program: PathBuf, address: SocketAddr, folder: tempfile::TempDir) -> Self {
        let child = Command::new(program)
            .args(["--access", KEY, "--secret", SECRET, "--port", &address.to_string(), "--quiet", "posix"])
            .arg(folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        while TcpStream::connect(address).is_err() {
            std::thread::sleep(Duration::from_millis(20));
        }
        Self { child, address, folder }
    }

    /// Ends the server; the folder with its buckets.
    fn stop(mut self) -> tempfile::TempDir {
        std::mem::replace(&mut self.folder, tempfile::tempdir().unwrap())
    }

    fn store(&self) -> AmazonS3 {
        AmazonS3Builder::new()
            .with_bucket_name("bucket")
            .with_endpoint(format!("http://{}", self.address))
            .with_allow_http(true)
            .with_region("us-east-1")
            .with_access_key_id(KEY)
            .with_secret_access_key(SECRET)
            .build()
            .unwrap()
    }

    /// Makes what consoles make when they are asked for a folder: an empty object whose key ends in a slash.
    fn put_folder(&self, key: &str) {
        let (store, url) = (self.store(), format!("http://{}/bucket/{key}/", self.address));
        tokio::runtime::Runtime::new().unwrap().block_on(async {
            let credential = store.credentials().get_credential().await.unwrap();
            let mut request: HttpRequest = Request::put(&url)
                .header(header::CONTENT_LENGTH, "0")
                .body(HttpRequestBody::empty())
                .unwrap();
            AwsAuthorizer::new(&credential, "s3", "us-east-1").authorize(&mut request, None);
            let headers = request.into_parts().0.headers;
            let made = reqwest::Client::new().put(url).headers(headers).send().await.unwrap();
            assert!(made.status().is_success(), "{key}: {}", made.status());
        });
    }

    fn put(&self, objects: &BTreeMap<String, Bytes>) {
        let store = self.store();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            for (key, content) in objects {
                let path = Path::parse(key).unwrap();
                if content.len() > 8 << 20 {
                    // In pieces: its ETag is no digest.
                    let upload = store.put_multipart(&path).await.unwrap();
                    let mut upload = WriteMultipart::new(upload);
                    upload.write(content);
                    upload.finish().await.unwrap();
                } else {
                    store.put(&path, PutPayload::from(content.clone())).await.unwrap();
                }
            }
        });
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn objects() -> BTreeMap<String, Bytes> {
    let mut objects: BTreeMap<String, Bytes> = (0..20)
        .map(|number| (format!("data/d{}/f {number}+é.bin", number % 3), noise(number, 90_000)))
        .collect();
    objects.insert("data/multi.bin".to_owned(), noise(50, 12 << 20));
    objects.insert("data/single.bin".to_owned(), noise(51, 3 << 20));
    objects.insert("data/empty".to_owned(), Bytes::new());
    objects.insert("data2/other".to_owned(), noise(52, 100));
    objects
}

/// Those below `data`, by their names at the target.
pub(crate) fn below(objects: &BTreeMap<String, Bytes>) -> BTreeMap<String, Bytes> {
    let named = objects.iter().filter_map(|(key, content)| Some((key.strip_prefix("data/")?, content)));
    named.map(|(name, content)| (name.to_owned(), content.clone())).collect()
}

fn variables(endpoint: &str) -> Vec<(&str, &str)> {
    vec![
        ("STORAGE_URI", "s3://bucket/data"),
        ("ENDPOINT", endpoint),
        ("ACCESS_KEY_ID", KEY),
        ("SECRET_ACCESS_KEY", SECRET),
        ("PART_BYTES", "256Ki"),
    ]
}

#[test]
fn a_prefix_comes_whole_over_a_line_that_breaks() {
    let Some(gateway) = Gateway::start(&objects()) else { return };
    let faults =
        Faults { latency: Duration::from_millis(5), pause: Duration::from_micros(200), cut: Some(400_000) };
    let line = Line::start(gateway.address, faults);
    let target = tempfile::tempdir().unwrap();
    let endpoint = line.endpoint();
    let output = run("dataset", target.path(), &variables(&endpoint));
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(wrong(target.path(), &below(&objects()), true), Vec::<String>::new());
    assert!(!target.path().join("other").exists() && !target.path().join("data2").exists());
    assert!(!said(&output).contains("sesame"), "{}", said(&output));
    let total: usize = below(&objects()).values().map(Bytes::len).sum();
    let brought = line.brought.load(Ordering::Relaxed);
    assert!(brought < total as u64 * 5 / 4, "{brought} of {total}");
}

#[test]
fn a_store_that_is_not_there_yet_is_waited_for() {
    let objects = objects();
    let (Some(program), Some(gateway)) = (program(), Gateway::start(&objects)) else { return };
    // It has everything as soon as it answers: what is still being uploaded is not waited for.
    let (folder, address) = (gateway.stop(), free_address());
    let (target, endpoint) = (tempfile::tempdir().unwrap(), format!("http://{address}"));
    let initializer = command("dataset", target.path(), &variables(&endpoint)).spawn().unwrap();
    std::thread::sleep(Duration::from_secs(2));
    let gateway = Gateway::start_at(program, address, folder);
    let output = initializer.wait_with_output().unwrap();
    drop(gateway);
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(wrong(target.path(), &below(&objects), true), Vec::<String>::new());
    let waited = said(&output);
    assert!(waited.contains("s3://bucket/data cannot be reached"), "{waited}");
    assert!(waited.contains("it is waited for, 300 s at most"), "{waited}");
}

#[test]
fn a_store_that_never_comes_is_waited_for_as_long_as_is_told() {
    let (refusing, nowhere) = (format!("http://{}", free_address()), "http://store.invalid:9000".to_owned());
    for (endpoint, region) in [(&refusing, "here"), (&refusing, ""), (&nowhere, "here"), (&nowhere, "")] {
        let target = tempfile::tempdir().unwrap();
        let mut variables = variables(endpoint);
        variables.extend([("SOURCE_WAIT_SECONDS", "2"), ("REGION", region)]);
        let output = run("dataset", target.path(), &variables);
        assert_eq!(output.status.code(), Some(5), "{endpoint}: {}", said(&output));
        let last = said(&output).lines().last().unwrap_or_default().to_owned();
        assert!(last.contains("s3://bucket/data could not be reached for "), "{last}");
        assert!(last.contains("raise SOURCE_WAIT_SECONDS"), "{last}");
    }
}

#[test]
fn markers_of_folders_become_no_files() {
    let Some(gateway) = Gateway::start(&objects()) else { return };
    for folder in ["data", "data/d0", "data/none", "data/none/below", "hollow", "hollow/none"] {
        gateway.put_folder(folder);
    }
    let endpoint = format!("http://{}", gateway.address);
    let fetch = |uri: &'static str| {
        let target = tempfile::tempdir().unwrap();
        let mut variables = variables(&endpoint);
        variables.push(("STORAGE_URI", uri));
        (run("dataset", target.path(), &variables), target)
    };
    // The empty object that is a file stays one.
    for (uri, content) in [("s3://bucket/data", below(&objects())), ("s3://bucket", objects())] {
        let (output, target) = fetch(uri);
        assert!(output.status.success(), "{uri}: {}", said(&output));
        assert_eq!(wrong(target.path(), &content, true), Vec::<String>::new(), "{uri}");
        for folder in ["none", "data/none", "hollow"] {
            assert!(!target.path().join(folder).exists(), "{uri}: {folder}");
        }
    }
    for uri in ["s3://bucket/hollow", "s3://bucket/hollow/none", "s3://bucket/data/none/"] {
        let (output, _) = fetch(uri);
        assert_eq!(output.status.code(), Some(4), "{uri}: {}", said(&output));
        assert!(said(&output).contains("it has no files"), "{uri}: {}", said(&output));
    }
}

#[test]
fn refusals_and_damage_have_their_codes() {
    let Some(gateway) = Gateway::start(&objects()) else { return };
    let endpoint = format!("http://{}", gateway.address);
    let target = tempfile::tempdir().unwrap();
    let with = |name: &str, value: &'static str| {
        let mut variables = variables(&endpoint);
        variables.retain(|(other, _)| *other != name);
        variables.push((if name == "STORAGE_URI" { "STORAGE_URI" } else { "SECRET_ACCESS_KEY" }, value));
        run("dataset", target.path(), &variables)
    };
    for (name, value, code) in [
        ("STORAGE_URI", "s3://bucket/nothing", 4),
        ("STORAGE_URI", "s3://no-such-bucket/data", 4),
        ("STORAGE_URI", "s3://bucket/dat", 4),
        ("SECRET_ACCESS_KEY", "wrong", 3),
    ] {
        let output = with(name, value);
        assert_eq!(output.status.code(), Some(code), "{value}: {}", said(&output));
    }
    // The disk of the server has other bytes than were stored.
    let path = gateway.folder.path().join("bucket/data/single.bin");
    let mut file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
    file.write_all(b"other bytes").unwrap();
    let output = run("dataset", target.path(), &variables(&endpoint));
    assert_eq!(output.status.code(), Some(6), "{}", said(&output));
    assert!(said(&output).contains("single.bin has the MD5"), "{}", said(&output));
    assert!(!target.path().join("single.bin").exists());
    let one = with("STORAGE_URI", "s3://bucket/data2/other");
    assert!(one.status.success(), "{}", said(&one));
    assert_eq!(std::fs::read(target.path().join("other")).unwrap(), objects()["data2/other"]);
}

/// How often it is killed: a sample, or as often as `TRAINERD_KILLS` says.
pub(crate) fn kills() -> u32 {
    std::env::var("TRAINERD_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(12)
}

#[test]
fn killed_at_any_instant_nothing_half_written_is_taken_for_whole() {
    let Some(gateway) = Gateway::start(&objects()) else { return };
    let faults = Faults { latency: Duration::ZERO, pause: Duration::from_micros(500), cut: None };
    let line = Line::start(gateway.address, faults);
    let endpoint = line.endpoint();
    crate::line::kill_often(&variables(&endpoint), &below(&objects()), kills());
}

/// The machine's identity is asked for at an address where nobody answers.
#[test]
fn without_any_credentials_what_is_missing_is_said() {
    let target = tempfile::tempdir().unwrap();
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let machine = format!("http://{address}");
    let variables = [
        ("STORAGE_URI", "s3://bucket/data"),
        ("REGION", "us-east-1"),
        ("ENDPOINT", machine.as_str()),
        ("AWS_METADATA_ENDPOINT", machine.as_str()),
    ];
    let output = run("dataset", target.path(), &variables);
    assert_eq!(output.status.code(), Some(3), "{}", said(&output));
    let said = said(&output);
    assert!(said.contains("S3 needs credentials, and none are set: neither keys (ACCESS_KEY_ID"), "{said}");
}
