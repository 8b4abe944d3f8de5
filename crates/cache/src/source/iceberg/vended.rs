//! Credentials of S3 that a REST catalog hands out for one table, and how they are renewed before they end.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use futures::future::BoxFuture;
use object_store::CredentialProvider;
use object_store::aws::AwsCredential;
use tokio::sync::Mutex;

use crate::source::{Error, Kind};
use crate::store::Stores;

/// How long before their end credentials are asked for again.
const MARGIN: Duration = Duration::from_mins(2);

/// How long credentials are taken for good where the catalog does not say: services give them for a quarter of an hour
/// at least.
const UNTOLD: Duration = Duration::from_mins(10);

/// What a catalog says of a table's files.
pub(super) type Properties = HashMap<String, String>;

/// Asks the catalog again.
pub(super) type Ask = Arc<dyn Fn() -> BoxFuture<'static, Result<Properties, Error>> + Send + Sync>;

/// The stores of a table's files: with the catalog's credentials, where it hands some out.
pub(super) fn stores(stores: &Stores, properties: &Properties, ask: Ask) -> Stores {
    let Some(held) = Held::read(properties, SystemTime::now()) else { return stores.clone() };
    let property = |names: &[&str]| names.iter().find_map(|name| properties.get(*name)).cloned();
    let mut options = Vec::new();
    let mut set =
        |name: &str, value: Option<String>| options.extend(value.map(|value| (name.to_owned(), value)));
    let endpoint = property(&["s3.endpoint"]);
    let is_plain = endpoint.as_ref().is_some_and(|endpoint| endpoint.starts_with("http://"));
    set("aws_allow_http", is_plain.then(|| "true".to_owned()));
    set("aws_endpoint", endpoint);
    set("aws_region", property(&["s3.region", "client.region"]));
    let is_by_host = property(&["s3.path-style-access"]).is_some_and(|by_path| by_path == "false");
    set("aws_virtual_hosted_style_request", is_by_host.then(|| "true".to_owned()));
    stores.with_amazon(options, Arc::new(Vended { ask, held: Mutex::new(held) }))
}

struct Vended {
    ask: Ask,
    held: Mutex<Held>,
}

impl fmt::Debug for Vended {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Vended").finish_non_exhaustive()
    }
}

struct Held {
    credential: Arc<AwsCredential>,
    until: SystemTime,
}

impl Held {
    fn read(properties: &Properties, now: SystemTime) -> Option<Self> {
        let property = |name: &str| properties.get(name).cloned();
        let credential = AwsCredential {
            key_id: property("s3.access-key-id")?,
            secret_key: property("s3.secret-access-key")?,
            token: property("s3.session-token"),
        };
        let end = property("s3.session-token-expires-at-ms").and_then(|text| text.parse().ok());
        let until = end.map_or(now + UNTOLD, |end| SystemTime::UNIX_EPOCH + Duration::from_millis(end));
        Some(Self { credential: Arc::new(credential), until })
    }
}

#[async_trait]
impl CredentialProvider for Vended {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        let mut held = self.held.lock().await;
        let now = SystemTime::now();
        if now + MARGIN >= held.until {
            match (self.ask)().await {
                Ok(properties) => {
                    *held = Held::read(&properties, now).ok_or_else(|| {
                        let source = "the catalog hands out no credentials any more".into();
                        object_store::Error::PermissionDenied { path: "the table".to_owned(), source }
                    })?;
                }
                // They are good for a moment, and the next request asks again.
                Err(error) if now < held.until => {
                    let error = trainerd_causes::one_line(&error);
                    tracing::warn!(error, "failed to renew the credentials of a table");
                }
                Err(error) => {
                    let kind = error.kind();
                    let source = Box::new(error);
                    return Err(match kind {
                        Kind::Denied => {
                            object_store::Error::PermissionDenied { path: "the table".to_owned(), source }
                        }
                        _ => object_store::Error::Generic { store: "the catalog", source },
                    });
                }
            }
        }
        Ok(Arc::clone(&held.credential))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex as StdMutex;

    use futures::FutureExt as _;
    use object_store::ObjectStoreExt as _;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;
    use crate::store::RequestPolicy;

    /// A server with one object at each key; what the requests said of who asks.
    async fn server() -> (String, Arc<StdMutex<Vec<String>>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let seen: Arc<StdMutex<Vec<String>>> = Arc::default();
        let told = Arc::clone(&seen);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = vec![0; 8192];
                let read = stream.read(&mut request).await.unwrap();
                let request = String::from_utf8_lossy(&request[..read]).into_owned();
                let part = |from: &str, to: &str| {
                    let (_, rest) = request.split_once(from)?;
                    rest.split_once(to).map(|(part, _)| part.to_owned())
                };
                let key = part("Credential=", "/").unwrap_or_default();
                let token = part("x-amz-security-token: ", "\r\n").unwrap_or_default();
                told.lock().unwrap().push(format!("{key} {token}"));
                let answer = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\nconnection: close\r\n\
                     etag: \"1\"\r\nlast-modified: Sat, 28 Nov 2026 00:00:00 GMT\r\n\r\nrows";
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        (address, seen)
    }

    fn properties(endpoint: &str, number: u32, seconds: u64) -> Properties {
        let end = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis();
        let end = end + u128::from(seconds) * 1000;
        [
            ("s3.access-key-id", format!("key{number}")),
            ("s3.secret-access-key", "secret".to_owned()),
            ("s3.session-token", format!("token{number}")),
            ("s3.session-token-expires-at-ms", end.to_string()),
            ("s3.endpoint", endpoint.to_owned()),
            ("client.region", "here".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }

    fn own() -> Stores {
        let variables = [
            ("AWS_ACCESS_KEY_ID", "own"),
            ("AWS_SECRET_ACCESS_KEY", "own"),
            ("AWS_ENDPOINT", "http://127.0.0.1:9"),
            ("AWS_REGION", "there"),
        ];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Stores::new(variables, RequestPolicy { retries: 0, ..RequestPolicy::default() })
    }

    #[tokio::test]
    async fn the_catalogs_credentials_are_used_and_renewed_before_they_end() {
        let (endpoint, seen) = server().await;
        let asked: Arc<StdMutex<u32>> = Arc::default();
        let counted = Arc::clone(&asked);
        let renewed = endpoint.clone();
        let ask: Ask = Arc::new(move || {
            *counted.lock().unwrap() += 1;
            let number = *counted.lock().unwrap();
            let properties = properties(&renewed, number + 1, 3600);
            async move { Ok::<_, Error>(properties) }.boxed()
        });
        let stores = stores(&own(), &properties(&endpoint, 1, 3600), Arc::clone(&ask));
        let (store, path) = stores.open("s3://bucket/a").unwrap();
        store.get(&path).await.unwrap();
        // Less than the margin is left of these.
        let ending = super::stores(&own(), &properties(&endpoint, 1, 60), ask);
        let (store, path) = ending.open("s3://bucket/a").unwrap();
        for _ in 0..2 {
            store.get(&path).await.unwrap();
        }
        assert_eq!(*seen.lock().unwrap(), ["key1 token1", "key2 token2", "key2 token2"]);
        assert_eq!(*asked.lock().unwrap(), 1);
    }

    #[tokio::test]
    async fn a_catalog_that_is_away_holds_up_only_what_has_no_credentials_left() {
        let (endpoint, seen) = server().await;
        let ask: Ask = Arc::new(|| {
            let source = iceberg::Error::new(iceberg::ErrorKind::Unexpected, "away").into();
            async {
                Err::<Properties, _>(Error::Catalog {
                    uri: "http://c".to_owned(),
                    kind: Kind::Unreachable,
                    source,
                })
            }
            .boxed()
        });
        for (seconds, is_read) in [(60, true), (0, false)] {
            let stores = stores(&own(), &properties(&endpoint, 1, seconds), Arc::clone(&ask));
            let (store, path) = stores.open("s3://bucket/a").unwrap();
            assert_eq!(store.get(&path).await.is_ok(), is_read, "{seconds}");
        }
        assert_eq!(*seen.lock().unwrap(), ["key1 token1"]);
        // A catalog that hands out none leaves ours.
        let none = stores(&own(), &Properties::new(), ask);
        assert!(format!("{none:?}").contains("amazon: None"));
    }
}
