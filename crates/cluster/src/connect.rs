//! Finding the cluster and the way to it.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use http::HeaderValue;
use http::header::USER_AGENT;
use hyper_util::client::proxy::matcher::Matcher;
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};
use tokio::sync::OnceCell;

use crate::builtin;
use crate::cluster::{Cluster, Shared};
use crate::error::{RequestError, TransportFailure};
use crate::observer::Observer;
use crate::params::CreateParams;
use crate::permissions::{self, Rule};
use crate::proxy;
use crate::transport::transport_failure;

/// Time limit of a TCP and TLS handshake.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Which cluster, and as whom.
#[derive(Clone, Debug, Default)]
pub struct ConnectOptions {
    /// The only kubeconfig to read. `None`: `KUBECONFIG`, then `~/.kube/config`, then the pod's service account.
    pub kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig; `None` for its current one.
    pub context: Option<String>,
    /// Sent with every request, for example `trainerd/0.1.0 (up)`.
    pub user_agent: String,
    /// Field manager of every write.
    pub field_manager: String,
    /// Is told of every request.
    pub observer: Option<Observer>,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// There is no kubeconfig and this is not a pod, or the named file does not exist.
    #[error("failed to find a kubeconfig{}", .path.as_ref().map(|path| format!(" at {}", path.display())).unwrap_or_default())]
    NoKubeconfig {
        /// The file that was named; `None` when the usual places were searched.
        path: Option<PathBuf>,
    },
    /// The kubeconfig, or a file it points to, cannot be read or makes no sense.
    #[error("failed to use the kubeconfig")]
    BadKubeconfig {
        /// What is wrong with it.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The kubeconfig has no such context.
    #[error("failed to find the context {name:?} in the kubeconfig (it has {})", list(.known))]
    UnknownContext {
        /// What was asked for.
        name: String,
        /// What there is.
        known: Vec<String>,
    },
    /// The user agent cannot be sent.
    #[error("failed to use {user_agent:?} as user agent")]
    BadUserAgent {
        /// The text.
        user_agent: String,
    },
    /// The credentials could not be had: a token file that cannot be read, an exec plugin that failed.
    #[error("failed to obtain credentials for {server}")]
    Credentials {
        /// URL of the server.
        server: String,
        /// What went wrong.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Nothing answers at the server's address, or not in time.
    #[error("failed to reach the API server at {server}")]
    Unreachable {
        /// URL of the server.
        server: String,
        /// What went wrong.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The server's certificate is not trusted, or it does not trust ours.
    #[error("failed to trust the API server at {server}")]
    Tls {
        /// URL of the server.
        server: String,
        /// What went wrong.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The server does not accept the credentials: an expired token or client certificate.
    #[error("failed to authenticate to {server}")]
    Unauthorized {
        /// URL of the server.
        server: String,
        /// The server's answer.
        #[source]
        source: Box<RequestError>,
    },
    /// The server answered, but not as an API server does.
    #[error("failed to recognise a Kubernetes API server at {server}")]
    NotKubernetes {
        /// URL of the server.
        server: String,
        /// What it answered.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

fn list(names: &[String]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

impl Cluster {
    /// Finds the configuration, connects and asks whether our user may do everything: one request, which shows
    /// that an API server is there and takes the credentials.
    pub async fn connect(options: ConnectOptions) -> Result<Self, ConnectError> {
        let mut config = configuration(&options).await?;
        let user_agent = HeaderValue::from_str(&options.user_agent)
            .map_err(|_| ConnectError::BadUserAgent { user_agent: options.user_agent.clone() })?;
        // kube sets no user agent of its own, and appends these headers to each request's.
        config.headers.push((USER_AGENT, user_agent));
        config.connect_timeout = Some(CONNECT_TIMEOUT);
        // kube's own retries would be silent and unbounded by our time limits.
        config.default_retry = false;
        config.apply_debug_overrides();
        let server = config.cluster_url.to_string().trim_end_matches('/').to_owned();

        let client = Client::try_from(config).map_err(|source| not_built(&server, source))?;
        let field_manager = options.field_manager;
        let shared = |may_do_everything| Shared {
            client: client.clone(),
            server: server.clone(),
            field_manager: field_manager.clone(),
            observer: options.observer.clone(),
            may_do_everything,
            version: OnceCell::new(),
        };
        let may_do_everything = Self::new(shared(false)).ask_for_everything().await?;
        Ok(Self::new(shared(may_do_everything)))
    }

    async fn ask_for_everything(&self) -> Result<bool, ConnectError> {
        let review = Rule::everything().review();
        match self.create(&builtin::self_subject_access_review(), &review, CreateParams::default()).await {
            Ok(answer) => permissions::is_allowed(&answer).ok_or_else(|| ConnectError::NotKubernetes {
                server: self.server().to_owned(),
                source: NoReview.into(),
            }),
            // Nobody may ask here: whatever is needed is asked for, and refused, by itself.
            Err(RequestError::Forbidden { .. }) => Ok(false),
            Err(error) => Err(not_answered(self.server().to_owned(), error)),
        }
    }
}

async fn configuration(options: &ConnectOptions) -> Result<Config, ConnectError> {
    let selected = KubeConfigOptions { context: options.context.clone(), ..KubeConfigOptions::default() };
    let read = match &options.kubeconfig {
        Some(path) => Kubeconfig::read_from(path),
        None => Kubeconfig::read(),
    };
    let kubeconfig = match read {
        Ok(kubeconfig) => kubeconfig,
        Err(error) if is_missing(&error) => return outside_kubeconfig(options),
        Err(source) => return Err(ConnectError::BadKubeconfig { source: source.into() }),
    };
    if kubeconfig.contexts.is_empty() && options.kubeconfig.is_none() && options.context.is_none() {
        return outside_kubeconfig(options);
    }
    let named = names_proxy(&kubeconfig, options.context.as_ref());
    let known = kubeconfig.contexts.iter().map(|context| context.name.clone()).collect();
    let mut config =
        Config::from_custom_kubeconfig(kubeconfig, &selected).await.map_err(|error| match error {
            KubeconfigError::LoadContext(name) => ConnectError::UnknownContext { name, known },
            source => ConnectError::BadKubeconfig { source: source.into() },
        })?;
    config.proxy_url = proxy::choose(named, config.proxy_url, &config.cluster_url, &Matcher::from_env());
    Ok(config)
}

/// Whether the context's cluster has a `proxy-url`.
fn names_proxy(kubeconfig: &Kubeconfig, context: Option<&String>) -> bool {
    let Some(context) = context.or(kubeconfig.current_context.as_ref()) else { return false };
    let cluster = kubeconfig
        .contexts
        .iter()
        .find(|named| named.name == *context)
        .and_then(|named| Some(&named.context.as_ref()?.cluster));
    kubeconfig.clusters.iter().filter(|named| Some(&named.name) == cluster).any(|named| {
        named.cluster.as_ref().and_then(|it| it.proxy_url.as_ref()).is_some_and(|url| !url.is_empty())
    })
}

/// The pod's service account, where neither a file nor a context was asked for.
fn outside_kubeconfig(options: &ConnectOptions) -> Result<Config, ConnectError> {
    let none = || ConnectError::NoKubeconfig { path: options.kubeconfig.clone() };
    if options.kubeconfig.is_some() || options.context.is_some() {
        return Err(none());
    }
    Config::incluster().map_err(|error| match error {
        kube::config::InClusterError::ReadEnvironmentVariable(_) => none(),
        source => ConnectError::BadKubeconfig { source: source.into() },
    })
}

fn is_missing(error: &KubeconfigError) -> bool {
    match error {
        KubeconfigError::FindPath => true,
        KubeconfigError::ReadConfig(source, _) => source.kind() == io::ErrorKind::NotFound,
        _ => false,
    }
}

/// Certificates, keys and tokens are read when the client is built.
fn not_built(server: &str, source: kube::Error) -> ConnectError {
    match transport_failure(&source) {
        TransportFailure::Credentials => {
            ConnectError::Credentials { server: server.to_owned(), source: source.into() }
        }
        _ => ConnectError::BadKubeconfig { source: source.into() },
    }
}

/// An answer that is no review.
#[derive(Debug, thiserror::Error)]
#[error("the answer to an access review is none")]
struct NoReview;

/// The first request to a server was not answered as an API server does.
pub(crate) fn not_answered(server: String, error: RequestError) -> ConnectError {
    match error {
        RequestError::Unreachable { failure, source, .. } => {
            let source = source.into();
            match failure {
                TransportFailure::Tls => ConnectError::Tls { server, source },
                TransportFailure::Credentials => ConnectError::Credentials { server, source },
                TransportFailure::Connect | TransportFailure::Broken => {
                    ConnectError::Unreachable { server, source }
                }
            }
        }
        source @ RequestError::Unauthorized { .. } => {
            ConnectError::Unauthorized { server, source: source.into() }
        }
        source if source.retry().is_some() => ConnectError::Unreachable { server, source: source.into() },
        source => ConnectError::NotKubernetes { server, source: source.into() },
    }
}
