//! Keeping the certificate good, and the webhook configurations up to it.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use serde_json::Value;
use tokio::sync::watch;
use trainerd_cluster::builtin;
use trainerd_cluster::retry::Backoff;
use trainerd_cluster::watch::{Event, WatchParams};
use trainerd_cluster::{Cluster, CreateParams, ListParams, RequestError};

use super::authority::{self, IssueError, PemPair};
use super::check::{Verdict, judge};
use super::injection;
use crate::controller::Outcome;
use crate::queue::Queue;

/// Time between looks at the certificate's age.
const CHECK_INTERVAL: Duration = Duration::from_hours(12);
/// Tries of a write that fails, and the waits between them.
const MAX_ATTEMPTS: u32 = 10;
const INITIAL_BACKOFF: Duration = Duration::from_millis(10);
const MAX_BACKOFF: Duration = Duration::from_millis(10 << MAX_ATTEMPTS);

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RotationError {
    /// A request failed.
    #[error("failed to keep the webhook certificate in Secret {namespace}/{name}")]
    Request {
        /// Namespace of the Secret.
        namespace: String,
        /// Its name.
        name: String,
        /// What the API server said.
        #[source]
        source: RequestError,
    },
    /// The authority could not be told to the API server.
    #[error("failed to write the authority into the webhook configurations")]
    Inject(#[source] RequestError),
    /// A certificate could not be made.
    #[error("failed to renew the webhook certificate")]
    Make(#[from] IssueError),
}

/// Keeps the certificate of one Secret. Clones share it.
#[derive(Clone)]
pub(crate) struct Rotation(Arc<Inner>);

struct Inner {
    cluster: Cluster,
    namespace: String,
    secret: String,
    /// DNS name of the server.
    server: String,
    injected: watch::Sender<bool>,
}

impl Rotation {
    /// Of the Secret `namespace/secret`, for the Service of that name.
    pub(crate) fn new(cluster: Cluster, namespace: &str, secret: &str, service: &str) -> Self {
        Self(Arc::new(Inner {
            cluster,
            namespace: namespace.to_owned(),
            secret: secret.to_owned(),
            server: format!("{service}.{namespace}.svc"),
            injected: watch::Sender::new(false),
        }))
    }

    /// Sees to it that the Secret holds a certificate that stays good for 90 days. The authority is returned.
    pub(crate) async fn refresh(&self) -> Result<String, RotationError> {
        let mut backoff = Backoff::new(INITIAL_BACKOFF, MAX_BACKOFF);
        let mut tries = 1;
        loop {
            match self.try_refresh().await {
                // Somebody else wrote it first, another replica for one: what they wrote is judged.
                Err(RotationError::Request { source, .. })
                    if tries < MAX_ATTEMPTS
                        && (source.retry().is_some() || matches!(source, RequestError::Conflict { .. })) =>
                {
                    tracing::info!(error = %source, tries, "the webhook certificate could not be stored yet");
                    tries += 1;
                    tokio::time::sleep(backoff.next_wait()).await;
                }
                ended => return ended,
            }
        }
    }

    async fn try_refresh(&self) -> Result<String, RotationError> {
        let Inner { cluster, namespace, secret: name, server, .. } = &*self.0;
        let failed =
            |source| RotationError::Request { namespace: namespace.clone(), name: name.clone(), source };
        let mut secret = cluster.get(&builtin::secret(), Some(namespace), name).await.map_err(failed)?;
        let (old, olds) = (pair(&secret, "ca"), pair(&secret, "tls"));
        let now = SystemTime::now();
        let (authority, server) = match judge(&old, &olds, server, now) {
            Verdict::Good => return Ok(old.certificate),
            Verdict::ReplaceServer => {
                let servers = authority::server(&old, server, now)?;
                (old, servers)
            }
            Verdict::ReplaceBoth => {
                let authority = authority::authority(now)?;
                let servers = authority::server(&authority, server, now)?;
                (authority, servers)
            }
        };
        put(&mut secret, "ca", &authority);
        put(&mut secret, "tls", &server);
        let params = CreateParams { metadata_only: true, ..CreateParams::default() };
        cluster.replace(&builtin::secret(), &secret, params).await.map_err(failed)?;
        tracing::info!(namespace, name, "renewed the webhook certificate");
        Ok(authority.certificate)
    }

    /// A pass: the certificate is kept good, and its authority is in the webhook configurations.
    pub(crate) async fn reconcile(self) -> Result<Outcome, RotationError> {
        let authority = self.refresh().await?;
        injection::inject(&self.0.cluster, &STANDARD.encode(authority))
            .await
            .map_err(RotationError::Inject)?;
        self.0.injected.send_replace(true);
        Ok(Outcome::After(CHECK_INTERVAL))
    }

    /// Waits until the authority was first written into the webhook configurations.
    pub(crate) async fn injected(&self) {
        // The sender lives as long as we do.
        let _ = self.0.injected.subscribe().wait_for(|injected| *injected).await;
    }

    /// Has a pass made whenever the Secret or a webhook configuration changes.
    pub(crate) async fn watch(self, queue: Queue<&'static str>) {
        let secret = (builtin::secret(), Some(self.0.namespace.as_str()), self.0.secret.as_str());
        let mut watched = vec![secret];
        let configurations = injection::configurations();
        watched.extend(configurations.iter().map(|(resource, name)| (resource.clone(), None, *name)));
        let streams: Vec<BoxStream<'static, Result<Event, RequestError>>> = watched
            .into_iter()
            .map(|(resource, namespace, name)| {
                let list = ListParams {
                    namespace: namespace.map(str::to_owned),
                    field_selector: Some(format!("metadata.name={name}")),
                    metadata_only: true,
                    ..ListParams::default()
                };
                self.0.cluster.watch(&resource, WatchParams { list, resource_version: None })
            })
            .collect();
        let mut events = futures::stream::select_all(streams);
        while let Some(event) = events.next().await {
            match event {
                Ok(_) => queue.add("certificate"),
                Err(error) => tracing::warn!(%error, "a watch of the certificate is interrupted"),
            }
        }
    }
}

/// The pair under `<name>.crt` and `<name>.key`; what is absent or unreadable is empty.
fn pair(secret: &Value, name: &str) -> PemPair {
    let text = |key: String| {
        let encoded = secret["data"][key].as_str().unwrap_or_default();
        STANDARD.decode(encoded).ok().and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_default()
    };
    PemPair { certificate: text(format!("{name}.crt")), key: text(format!("{name}.key")) }
}

fn put(secret: &mut Value, name: &str, pair: &PemPair) {
    if !secret["data"].is_object() {
        secret["data"] = serde_json::json!({});
    }
    secret["data"][format!("{name}.crt")] = STANDARD.encode(&pair.certificate).into();
    secret["data"][format!("{name}.key")] = STANDARD.encode(&pair.key).into();
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_secret_may_be_empty_and_keeps_other_keys() {
        let mut secret = json!({"metadata": {"name": "s"}, "data": {"other": "eA=="}});
        assert!(pair(&secret, "ca") == PemPair { certificate: String::new(), key: String::new() });
        let ours = PemPair { certificate: "c".to_owned(), key: "k".to_owned() };
        put(&mut secret, "ca", &ours);
        assert!(pair(&secret, "ca") == ours);
        assert_eq!(secret["data"]["other"], "eA==");
        let mut empty = json!({"metadata": {"name": "s"}});
        put(&mut empty, "tls", &ours);
        assert!(pair(&empty, "tls") == ours);
    }
}
