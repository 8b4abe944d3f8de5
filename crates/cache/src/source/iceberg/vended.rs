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
                Ok(properties) => match Held::read(&properties, now) {
                    Some(renewed) => *held = renewed,
                    None => {
                        let source = "the catalog hands out no credentials any more".into();
                        return Err(object_store::Error::PermissionDenied {
                            path: "the table".to_owned(),
                            source,
                        });
                    }
                },
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
