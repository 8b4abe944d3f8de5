//! The connection.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OnceCell;

use crate::classify::RequestInfo;
use crate::observer::Observer;
use crate::proxy::Proxy;
use crate::rate::Rate;
use crate::version::KubernetesVersion;

/// Time limit of a request that is not a watch, unless [`Cluster::with_timeout`] says otherwise. The API
/// server's own limit is 60 s; webhooks may take 30 s of it.
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// A connection to an API server. Clones share it and are cheap.
#[derive(Clone)]
pub struct Cluster {
    shared: Arc<Shared>,
    timeout: Duration,
    rate: Option<Arc<Rate>>,
}

pub(crate) struct Shared {
    pub(crate) client: kube::Client,
    pub(crate) server: String,
    pub(crate) field_manager: String,
    pub(crate) observer: Option<Observer>,
    /// The proxy that requests go through.
    pub(crate) proxy: Option<Proxy>,
    /// The program of the exec plugin that credentials come from.
    pub(crate) plugin: Option<String>,
    pub(crate) may_do_everything: bool,
    pub(crate) version: OnceCell<KubernetesVersion>,
}

impl Cluster {
    pub(crate) fn new(shared: Shared) -> Self {
        Self { shared: Arc::new(shared), timeout: REQUEST_TIMEOUT, rate: None }
    }

    /// The same connection with another time limit for each request, watches aside.
    #[must_use]
    pub fn with_timeout(&self, timeout: Duration) -> Self {
        Self { timeout, ..self.clone() }
    }

    /// The same connection with a bound on requests a second, which all its clones share: `burst` at once, and then
    /// so many `a_second`. Watches do not count.
    #[must_use]
    pub fn with_rate(&self, a_second: f64, burst: u32) -> Self {
        Self { rate: Some(Arc::new(Rate::new(a_second, burst))), ..self.clone() }
    }

    /// Waits until a request may be sent.
    pub(crate) async fn turn(&self) {
        if let Some(rate) = &self.rate {
            rate.turn().await;
        }
    }

    /// The version that the API server told, if it was asked.
    pub(crate) fn told_version(&self) -> &OnceCell<KubernetesVersion> {
        &self.shared.version
    }

    /// Whether our user could do everything when the connection was made.
    pub fn may_do_everything(&self) -> bool {
        self.shared.may_do_everything
    }

    /// URL of the API server.
    pub fn server(&self) -> &str {
        &self.shared.server
    }

    /// Field manager of every write.
    pub fn field_manager(&self) -> &str {
        &self.shared.field_manager
    }

    /// Logs a request, and tells the observer. Code 0: there was no answer.
    pub(crate) fn note(&self, info: &RequestInfo, code: u16) {
        tracing::debug!(verb = %info.verb, path = %info.path, code, "request");
        if let Some(observer) = &self.shared.observer {
            observer.tell(info.verb, &info.path, code);
        }
    }

    /// Namespace of the kubeconfig's context, of the pod, or `default`.
    pub fn default_namespace(&self) -> &str {
        self.shared.client.default_namespace()
    }

    /// kube's client, with the same user agent, for what this crate does not offer. It does not retry and has
    /// no time limit.
    pub fn client(&self) -> &kube::Client {
        &self.shared.client
    }

    pub(crate) fn proxy(&self) -> Option<&Proxy> {
        self.shared.proxy.as_ref()
    }

    pub(crate) fn plugin(&self) -> Option<&str> {
        self.shared.plugin.as_deref()
    }

    pub(crate) fn request_timeout(&self) -> Duration {
        self.timeout
    }
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster").field("server", &self.shared.server).finish_non_exhaustive()
    }
}
