//! Where bytes come from: one way to every object store, and to local files.

mod identity;
mod metered;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, AwsCredentialProvider};
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::http::HttpBuilder;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreScheme, RetryConfig};
use url::Url;

use self::metered::Metered;
use crate::meters::Meters;

/// A URI that leads to no store.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not a URI.
    #[error("{0:?} is no URI")]
    NotAUri(String),
    /// No store has this scheme, or its options are wrong.
    #[error("failed to open the store of {uri}")]
    Open {
        /// Without user information and query.
        uri: String,
        /// Why.
        source: object_store::Error,
    },
    /// A path that a store cannot have.
    #[error("{uri} has no valid path")]
    Path {
        /// Without user information and query.
        uri: String,
        /// Why.
        source: object_store::path::Error,
    },
}

/// How patient this process is with a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestPolicy {
    /// Longest time of one attempt.
    pub timeout: Duration,
    /// Attempts after the first, with a growing and jittered pause in between.
    pub retries: usize,
}

impl Default for RequestPolicy {
    /// 30 seconds, 10 retries.
    fn default() -> Self {
        Self { timeout: Duration::from_secs(30), retries: 10 }
    }
}

/// The stores of this process: one for each scheme and host, made when first asked for.
#[derive(Clone, Debug, Default)]
pub struct Stores {
    /// Options of the clouds, from their usual variables.
    options: Arc<Vec<(String, String)>>,
    policy: RequestPolicy,
    /// Of S3, where others than those of the options are used.
    amazon: Option<AwsCredentialProvider>,
    open: Arc<Mutex<BTreeMap<String, Arc<dyn ObjectStore>>>>,
    meters: Option<Arc<Meters>>,
}

impl Stores {
    /// With the usual variables of the clouds (`AWS_…`, `GOOGLE_…`, `AZURE_…`) among those given.
    pub fn new(variables: impl IntoIterator<Item = (String, String)>, policy: RequestPolicy) -> Self {
        let is_ours =
            |name: &str| ["AWS_", "GOOGLE_", "AZURE_"].iter().any(|prefix| name.starts_with(prefix));
        let mut options: Vec<(String, String)> = variables
            .into_iter()
            .filter(|(name, _)| is_ours(name))
            .map(|(name, value)| (name.to_ascii_lowercase(), value))
            .collect();
        options.push(("timeout".to_owned(), format!("{}s", policy.timeout.as_secs())));
        Self { options: Arc::new(options), policy, amazon: None, open: Arc::default(), meters: None }
    }

    /// The same stores with other credentials of S3, and these options beside the others.
    #[must_use]
    pub fn with_amazon(
        &self,
        options: impl IntoIterator<Item = (String, String)>,
        credentials: AwsCredentialProvider,
    ) -> Self {
        let options = self.options.iter().cloned().chain(options).collect();
        let (policy, meters) = (self.policy, self.meters.clone());
        Self { options: Arc::new(options), policy, amazon: Some(credentials), open: Arc::default(), meters }
    }

    /// Counts requests there.
    #[must_use]
    pub fn metered(mut self, meters: Arc<Meters>) -> Self {
        self.meters = Some(meters);
        self
    }

    /// Where this process counts.
    pub fn meters(&self) -> Option<&Arc<Meters>> {
        self.meters.as_ref()
    }

    /// Credentials of AWS and the region, as the stores of S3 have them: for its other services. The region is a given
    /// one, else the variables'.
    pub fn amazon(
        &self,
        region: Option<String>,
    ) -> Result<(AwsCredentialProvider, String), object_store::Error> {
        // A bucket is asked for, and never reached.
        let mut builder = AmazonS3Builder::new().with_bucket_name("none");
        for (name, value) in self.options.iter() {
            if let Ok(key) = name.parse::<AmazonS3ConfigKey>() {
                builder = builder.with_config(key, value);
            }
        }
        let region = region.or_else(|| builder.get_config_value(&AmazonS3ConfigKey::Region));
        let region = region.or_else(|| builder.get_config_value(&AmazonS3ConfigKey::DefaultRegion));
        let region = region.unwrap_or_else(|| "us-east-1".to_owned());
        let store = builder.with_region(&region).build()?;
        Ok((Arc::clone(store.credentials()), region))
    }

    /// The store of a URI, and the path in it.
    pub fn open(&self, uri: &str) -> Result<(Arc<dyn ObjectStore>, Path), Error> {
        let url = parse(uri)?;
        let shown = redacted_url(&url);
        let (scheme, path) = ObjectStoreScheme::parse(&url)
            .map_err(|source| Error::Open { uri: shown.clone(), source: source.into() })?;
        // Paths in URIs are percent-encoded.
        let path = Path::from_url_path(path.as_ref())
            .map_err(|source| Error::Path { uri: shown.clone(), source })?;
        let key = url[..url::Position::BeforePath].to_owned();
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(store) = open.get(&key) {
            return Ok((Arc::clone(store), path));
        }
        let store = self.build(&scheme, &url).map_err(|source| Error::Open { uri: shown, source })?;
        let store = match &self.meters {
            Some(meters) => Arc::new(Metered::new(store, Arc::clone(meters))),
            None => store,
        };
        open.insert(key, Arc::clone(&store));
        Ok((store, path))
    }

    /// As [`object_store::parse_url_opts`] does, which cannot be told how often to retry.
    fn build(
        &self,
        scheme: &ObjectStoreScheme,
        url: &Url,
    ) -> Result<Arc<dyn ObjectStore>, object_store::Error> {
        let retry = RetryConfig { max_retries: self.policy.retries, ..RetryConfig::default() };
        macro_rules! configured {
            ($builder:expr) => {{
                let mut builder = $builder.with_retry(retry);
                for (name, value) in self.options.iter() {
                    // Each store has options that the others do not know.
                    if let Ok(key) = name.parse() {
                        builder = builder.with_config(key, value);
                    }
                }
                builder
            }};
        }
        macro_rules! remote {
            ($builder:expr) => {
                Ok(Arc::new(configured!($builder).build()?))
            };
        }
        match scheme {
            ObjectStoreScheme::AmazonS3 => {
                let builder = configured!(AmazonS3Builder::new().with_url(url.as_str()));
                let credentials = match &self.amazon {
                    Some(credentials) => Some(Arc::clone(credentials)),
                    None => identity::of_machine(&builder)?,
                };
                let builder = match credentials {
                    Some(credentials) => builder.with_credentials(credentials),
                    None => builder,
                };
                Ok(Arc::new(builder.build()?))
            }
            ObjectStoreScheme::GoogleCloudStorage => {
                remote!(GoogleCloudStorageBuilder::new().with_url(url.as_str()))
            }
            ObjectStoreScheme::MicrosoftAzure => {
                remote!(MicrosoftAzureBuilder::new().with_url(url.as_str()))
            }
            ObjectStoreScheme::Http => {
                remote!(HttpBuilder::new().with_url(&url[..url::Position::BeforePath]))
            }
            _ => object_store::parse_url(url).map(|(store, _)| Arc::from(store)),
        }
    }
}

/// A URI; a plain absolute path is one of a local file.
fn parse(uri: &str) -> Result<Url, Error> {
    let not = || Error::NotAUri(uri.to_owned());
    if uri.starts_with('/') {
        return Url::from_file_path(uri).map_err(|()| not());
    }
    Url::parse(uri).map_err(|_| not())
}

/// A URI as it may be shown: without user information and query, which may hold credentials.
pub fn redacted_url(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    // A URI that cannot have user information has none.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.to_string()
}

/// As [`redacted_url`], for a text that may be no URI.
pub fn redacted(uri: &str) -> String {
    parse(uri).map_or_else(|_| "the URI".to_owned(), |url| redacted_url(&url))
}

/// As [`redacted`], for the path of a unit: the URI of a table's file, or a path within the store of a directory.
pub fn redacted_path(path: &str) -> String {
    if path.contains("://") { redacted(path) } else { path.to_owned() }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use object_store::ObjectStoreExt as _;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn credentials_in_a_uri_are_not_shown() {
        assert_eq!(redacted("https://me:secret@host/a?token=x#y"), "https://host/a");
        assert_eq!(redacted("no uri with secret"), "the URI");
        assert_eq!(redacted_path("s3://key:secret@bucket/a.parquet"), "s3://bucket/a.parquet");
        assert_eq!(redacted_path("data/a b.parquet"), "data/a b.parquet");
    }

    #[test]
    fn a_store_is_opened_once_and_paths_are_read_as_uris_have_them() {
        let stores = Stores::new([], RequestPolicy::default());
        let (one, path) = stores.open("file:///tmp/a%20b/c").unwrap();
        assert_eq!(path.as_ref(), "tmp/a b/c");
        let (other, path) = stores.open("/tmp/d").unwrap();
        assert_eq!(path.as_ref(), "tmp/d");
        assert!(Arc::ptr_eq(&one, &other));
        assert!(stores.open("ftp://host/x").is_err());
        assert!(stores.open("plain").is_err());
    }

    /// A server that answers 503 so many times, and then serves one object; the requests that came.
    async fn failing_server(failures: usize) -> (String, Arc<AtomicUsize>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&requests);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = [0; 4096];
                let _ = stream.read(&mut request).await;
                let answer = if counted.fetch_add(1, Ordering::Relaxed) < failures {
                    "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
                } else {
                    "HTTP/1.1 200 OK\r\ncontent-length: 4\r\nconnection: close\r\n\
                     etag: \"1\"\r\nlast-modified: Sat, 28 Nov 2026 00:00:00 GMT\r\n\r\nrows"
                };
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        (address, requests)
    }

    #[tokio::test]
    async fn without_any_credentials_of_s3_what_is_missing_is_said() {
        // Nobody listens there.
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let machine = format!("http://{}", listener.local_addr().unwrap());
        drop(listener);
        let variables = [("AWS_METADATA_ENDPOINT".to_owned(), machine), ("AWS_REGION".into(), "here".into())];
        let stores = Stores::new(variables, RequestPolicy { retries: 0, ..RequestPolicy::default() });
        let (store, path) = stores.open("s3://data/object").unwrap();
        let source = store.get(&path).await.unwrap_err();
        let error = crate::source::Error::Read { path: "s3://data/object".to_owned(), source };
        assert_eq!(error.kind(), crate::source::Kind::Denied);
        let text = trainerd_causes::one_line(&error);
        assert!(text.contains("keys (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY)"), "{text}");
    }

    #[tokio::test]
    async fn a_request_is_repeated_as_often_as_is_told_and_no_more() {
        for (retries, failures, is_read, asked) in [(0, 1, false, 1), (2, 2, true, 3), (1, 2, false, 2)] {
            let (endpoint, requests) = failing_server(failures).await;
            let variables = [
                ("AWS_ENDPOINT", endpoint.as_str()),
                ("AWS_ALLOW_HTTP", "true"),
                ("AWS_SKIP_SIGNATURE", "true"),
                ("AWS_REGION", "here"),
            ];
            let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
            let stores = Stores::new(variables, RequestPolicy { retries, ..RequestPolicy::default() });
            let (store, path) = stores.open("s3://data/object").unwrap();
            let answer = store.get(&path).await;
            assert_eq!(answer.is_ok(), is_read, "{retries} {answer:?}");
            assert_eq!(requests.load(Ordering::Relaxed), asked, "{retries}");
        }
    }
}
