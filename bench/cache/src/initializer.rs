//! The initializer against a client that fetches the same object in parallel and forgets it.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path as Key;
use object_store::{ObjectStoreExt as _, WriteMultipart};

use crate::cache::{Process, free_port};
use crate::error::{Error, step};

const ID: &str = "bench";
const SECRET: &str = "bench-sesame";
/// As many parts at the same time, and as large, as the initializer has by default.
const PARTS: (usize, u64) = (16, 16 << 20);

/// An S3 server with one object.
pub(crate) struct Server {
    _process: Process,
    store: Arc<AmazonS3>,
    endpoint: String,
    bytes: u64,
}

impl Server {
    /// Started over a folder, with an object of so many bytes.
    pub(crate) async fn start(program: &Path, folder: &Path, bytes: u64) -> Result<Self, Error> {
        let port = free_port()?;
        std::fs::create_dir(folder.join("bucket")).map_err(step("make a bucket"))?;
        let address = format!("127.0.0.1:{port}");
        let mut command = Command::new(program);
        command
            .args(["--access", ID, "--secret", SECRET, "--port", &address, "--quiet", "posix"])
            .arg(folder);
        let process = Process::start(&mut command)?;
        let begun = Instant::now();
        while std::net::TcpStream::connect(&address).is_err() {
            if begun.elapsed() > Duration::from_mins(2) {
                return Err(Error::Late("the S3 server"));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let endpoint = format!("http://{address}");
        let store = AmazonS3Builder::new()
            .with_bucket_name("bucket")
            .with_endpoint(&endpoint)
            .with_allow_http(true)
            .with_region("us-east-1")
            .with_access_key_id(ID)
            .with_secret_access_key(SECRET)
            .build()
            .map_err(step("open the store"))?;
        let mut content = vec![0; 16 << 20];
        fastrand::Rng::with_seed(1).fill(&mut content);
        let content = Bytes::from(content);
        let upload =
            store.put_multipart(&Key::from("data/object")).await.map_err(step("upload the object"))?;
        let mut upload = WriteMultipart::new_with_chunk_size(upload, content.len());
        let mut written = 0;
        while written < bytes {
            upload.wait_for_capacity(2).await.map_err(step("upload the object"))?;
            upload.put(content.clone());
            written += content.len() as u64;
        }
        upload.finish().await.map_err(step("upload the object"))?;
        Ok(Self { _process: process, store: Arc::new(store), endpoint, bytes: written })
    }

    /// Fetches the object in parallel, and keeps nothing of it; seconds.
    pub(crate) async fn raw(&self) -> Result<f64, Error> {
        let begun = Instant::now();
        let (parts, size) = PARTS;
        let ranges =
            (0..self.bytes.div_ceil(size)).map(|part| part * size..self.bytes.min((part + 1) * size));
        let fetched = stream::iter(ranges.map(|range| {
            let store = Arc::clone(&self.store);
            async move {
                let answer = store.get_range(&Key::from("data/object"), range).await;
                answer.map(|bytes| bytes.len() as u64)
            }
        }));
        let sizes: Vec<u64> =
            fetched.buffer_unordered(parts).try_collect().await.map_err(step("fetch the object"))?;
        debug_assert_eq!(sizes.iter().sum::<u64>(), self.bytes);
        Ok(begun.elapsed().as_secs_f64())
    }

    /// Lets the initializer fetch it into an empty folder; seconds.
    pub(crate) async fn fetched(&self, program: &Path) -> Result<f64, Error> {
        let folder = tempfile::tempdir().map_err(step("make a folder"))?;
        let mut command = tokio::process::Command::new(program);
        command
            .arg("dataset")
            .env("STORAGE_URI", "s3://bucket/data")
            .env("ENDPOINT", &self.endpoint)
            .env("REGION", "us-east-1")
            .env("ACCESS_KEY_ID", ID)
            .env("SECRET_ACCESS_KEY", SECRET)
            .env("OUTPUT_PATH", folder.path())
            .env("PROGRESS", "none")
            .env("RUST_LOG", "error")
            .stdout(std::process::Stdio::null());
        let begun = Instant::now();
        let ended = command.status().await.map_err(step("start the initializer"))?;
        let seconds = begun.elapsed().as_secs_f64();
        if ended.success() { Ok(seconds) } else { Err(Error::Initializer(ended)) }
    }
}
