//! Finding the cluster and the way to it.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use http::header::USER_AGENT;
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::OnceCell;
use tokio::time::Instant;

use crate::builtin;
use crate::cluster::{Cluster, Shared};
use crate::credentials;
use crate::error::{RequestError, TransportFailure, Verb};
use crate::kubeconfig::{self, Found};
use crate::observer::Observer;
use crate::params::CreateParams;
use crate::permissions::{self, Rule};
use crate::proxy::{self, NamedBy, NotAProxy, Proxy};
use crate::retry::{RetryPolicy, RetryWait, with_retry};
use crate::transport::{Call, transport_failure};
use crate::version::{KubernetesVersion, VersionError};

/// Time limit of a TCP and TLS handshake.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a busy server is waited for unless [`ConnectOptions::patience`] says otherwise: one that restarts takes
/// less.
const PATIENCE: Duration = Duration::from_mins(1);
/// Attempts where it may have been a coincidence.
const ATTEMPTS: u32 = 3;

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
    /// Receives every request.
    pub observer: Option<Observer>,
    /// How long a server that is busy is waited for; `None` for a minute, as for every request that follows.
    pub patience: Option<Duration>,
    /// Receives each wait for a server that is busy.
    pub waits: Option<Waits>,
}

/// Receives each wait for a server that is busy. It must not block.
#[derive(Clone)]
pub struct Waits(Arc<dyn Fn(&RetryWait<'_>) + Send + Sync>);

impl Waits {
    /// Tells this.
    pub fn new(tell: impl Fn(&RetryWait<'_>) + Send + Sync + 'static) -> Self {
        Self(Arc::new(tell))
    }
}

impl fmt::Debug for Waits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Waits")
    }
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// There is no kubeconfig and this is not a pod, or none of the named files exists.
    #[error("failed to find a kubeconfig{}", places(.paths))]
    NoKubeconfig {
        /// The files that were named, by an option or by `KUBECONFIG`; none when the usual places were searched.
        paths: Vec<PathBuf>,
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
    /// The kubeconfig has no current context, and none was named.
    #[error("failed to choose a context of the kubeconfig: it has no current-context")]
    NoCurrentContext {
        /// What there is.
        known: Vec<String>,
    },
    /// A proxy that is named cannot be used.
    #[error("failed to use the proxy that {named_by} names")]
    BadProxy {
        /// Who names it.
        named_by: NamedBy,
        /// Why it cannot.
        #[source]
        source: NotAProxy,
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
    /// Nothing answers at the server's address.
    #[error("failed to reach the API server at {server}{}", through(.proxy.as_ref()))]
    Unreachable {
        /// URL of the server.
        server: String,
        /// The proxy that was to lead there.
        proxy: Option<Proxy>,
        /// What went wrong.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The server, or what stands before it, answered that it cannot now, for as long as was waited for it; or it
    /// took a request and did not answer in time.
    #[error("the API server at {server} is busy")]
    Busy {
        /// URL of the server.
        server: String,
        /// Its last answer.
        #[source]
        source: Box<RequestError>,
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

fn places(paths: &[PathBuf]) -> String {
    let paths: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
    if paths.is_empty() { String::new() } else { format!(" at {}", paths.join(", ")) }
}

fn through(proxy: Option<&Proxy>) -> String {
    proxy
        .map(|proxy| format!(" through the proxy {proxy}, which {} names", proxy.named_by))
        .unwrap_or_default()
}

fn list(names: &[String]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

impl Cluster {
    /// Finds the configuration, connects and asks whether our user may do everything: one request, which shows
    /// that an API server is there and takes the credentials; again while the server is busy.
    pub async fn connect(options: ConnectOptions) -> Result<Self, ConnectError> {
        let ClientConfig { mut config, proxy, plugin } = configuration(&options).await?;
        let user_agent = HeaderValue::from_str(&options.user_agent)
            .map_err(|_| ConnectError::BadUserAgent { user_agent: options.user_agent.clone() })?;
        // kube sets no user agent of its own, and appends these headers to each request's.
        config.headers.push((USER_AGENT, user_agent));
        config.connect_timeout = Some(CONNECT_TIMEOUT);
        // kube's own retries would be silent and unbounded by our time limits.
        config.default_retry = false;
        config.apply_debug_overrides();
        let server = config.cluster_url.to_string().trim_end_matches('/').to_owned();

        // An exec plugin is run here, and may take as long as a person takes to log in: whoever waits for this may
        // give up meanwhile.
        let built = tokio::task::spawn_blocking(move || Client::try_from(config)).await;
        let client = match built {
            Ok(built) => built.map_err(|source| not_built(&server, plugin.as_deref(), source))?,
            Err(source) => return Err(ConnectError::BadKubeconfig { source: source.into() }),
        };
        let field_manager = options.field_manager.clone();
        let shared = |may_do_everything| Shared {
            client: client.clone(),
            server: server.clone(),
            field_manager: field_manager.clone(),
            observer: options.observer.clone(),
            proxy: proxy.clone(),
            plugin: plugin.clone(),
            may_do_everything,
            version: OnceCell::new(),
        };
        let may_do_everything = Self::new(shared(false)).ask_for_everything(&options).await?;
        Ok(Self::new(shared(may_do_everything)))
    }

    /// As every request after it, this one is repeated while the server is busy. A server that does not answer at
    /// all is not waited for: a wrong address would not get better.
    async fn ask_for_everything(&self, options: &ConnectOptions) -> Result<bool, ConnectError> {
        let review = Rule::everything().review();
        let resource = builtin::self_subject_access_review();
        let patience = options.patience.unwrap_or(PATIENCE);
        let answer = self.asked_again(patience, options.waits.as_ref(), async || {
            self.create(&resource, &review, CreateParams::default()).await
        });
        match answer.await {
            Ok(answer) => permissions::is_allowed(&answer).ok_or_else(|| ConnectError::NotKubernetes {
                server: self.server().to_owned(),
                source: NoReview.into(),
            }),
            // Nobody may ask here: whatever is needed is asked for, and refused, by itself.
            Err(RequestError::Forbidden { .. }) => Ok(false),
            Err(error) => Err(self.not_answered(error)),
        }
    }

    /// Asks what shows whether there is an API server, again while it is busy.
    async fn asked_again(
        &self,
        patience: Duration,
        waits: Option<&Waits>,
        ask: impl AsyncFn() -> Result<Value, RequestError>,
    ) -> Result<Value, RequestError> {
        let told = |wait: &RetryWait<'_>| {
            if let Some(Waits(tell)) = waits {
                tell(wait);
            }
        };
        let deadline = Some(Instant::now() + patience);
        let policy = RetryPolicy::default();
        let answer = with_retry(&policy, deadline, told, async |attempt| match ask().await {
            Err(error) if is_busy(&error) || attempt < ATTEMPTS && may_pass(&error) => Err(error),
            answer => Ok(answer),
        });
        answer.await.and_then(|answer| answer)
    }

    /// The API server's version when it was first asked for: one request, then none.
    ///
    /// # Errors
    /// As [`Cluster::connect`].
    pub async fn version(&self) -> Result<&KubernetesVersion, ConnectError> {
        self.told_version().get_or_try_init(|| self.read_version()).await
    }

    /// Asks as patiently as everything else.
    async fn read_version(&self) -> Result<KubernetesVersion, ConnectError> {
        let ask = async || self.call(Call::get(Verb::Get, "/version".to_owned())).await;
        let asked = self.asked_again(PATIENCE, None, ask);
        let answer = asked.await.map_err(|error| self.not_answered(error))?;
        let info: Option<VersionInfo> = serde_json::from_value(answer).ok();
        let version = match info {
            Some(info) => KubernetesVersion::parse(&info.git_version),
            None => Err(VersionError("without gitVersion".to_owned())),
        };
        version.map_err(|source| ConnectError::NotKubernetes {
            server: self.server().to_owned(),
            source: source.into(),
        })
    }
}

/// Whether the server, or what stands before it, said that it cannot answer now.
fn is_busy(error: &RequestError) -> bool {
    use RequestError::{ServerBusy, Timeout, TooManyRequests};
    matches!(error, TooManyRequests { .. } | ServerBusy { .. } | Timeout { answered: true, .. })
}

/// Whether it may have been a coincidence: a connection that broke, a server that failed inside.
fn may_pass(error: &RequestError) -> bool {
    match error {
        RequestError::Unreachable { failure, .. } => *failure == TransportFailure::Broken,
        RequestError::Timeout { .. } => false,
        error => error.retry().is_some(),
    }
}

/// How to reach the server, and as whom.
struct ClientConfig {
    config: Config,
    proxy: Option<Proxy>,
    plugin: Option<String>,
}

async fn configuration(options: &ConnectOptions) -> Result<ClientConfig, ConnectError> {
    let list = std::env::var_os("KUBECONFIG");
    let found = kubeconfig::find(options.kubeconfig.as_deref(), list.as_deref(), std::env::home_dir());
    let mut kubeconfig =
        match found.map_err(|source| ConnectError::BadKubeconfig { source: in_words(source) })? {
            Found::Kubeconfig(kubeconfig) => *kubeconfig,
            Found::Missing(paths) => return Err(ConnectError::NoKubeconfig { paths }),
            Found::Nothing => return outside_kubeconfig(options),
        };
    let known = kubeconfig.contexts.iter().map(|context| context.name.clone()).collect();
    let context = options.context.clone().or_else(|| kubeconfig.current_context.clone());
    let named = take_proxy(&mut kubeconfig, context.as_ref());
    let selected = KubeConfigOptions { context, ..KubeConfigOptions::default() };
    let mut config =
        Config::from_custom_kubeconfig(kubeconfig, &selected).await.map_err(|error| match error {
            KubeconfigError::LoadContext(name) => ConnectError::UnknownContext { name, known },
            KubeconfigError::CurrentContextNotSet => ConnectError::NoCurrentContext { known },
            KubeconfigError::ParseNoProxy(_) => ConnectError::BadProxy {
                named_by: NamedBy::Variable("NO_PROXY"),
                source: NotAProxy::Exemptions,
            },
            source => ConnectError::BadKubeconfig { source: source.into() },
        })?;
    let proxy = proxy::choose(named.as_deref(), &config.cluster_url, |name| std::env::var(name).ok())
        .map_err(|(named_by, source)| ConnectError::BadProxy { named_by, source })?;
    config.proxy_url = proxy.as_ref().map(|proxy| proxy.url.clone());
    let plugin = config.auth_info.exec.as_ref().and_then(|exec| exec.command.clone());
    Ok(ClientConfig { config, proxy, plugin })
}

/// What stands in the way of a kubeconfig; a file that cannot be read is named as people write it.
fn in_words(error: KubeconfigError) -> Box<dyn std::error::Error + Send + Sync> {
    match error {
        KubeconfigError::ReadConfig(source, path) => {
            format!("failed to read {}: {source}", path.display()).into()
        }
        other => other.into(),
    }
}

/// The `proxy-url` of the context's cluster. Where there is one, or the environment names one, a harmless text takes
/// its place, for kube reads the environment by itself otherwise and blames the kubeconfig for it.
fn take_proxy(kubeconfig: &mut Kubeconfig, context: Option<&String>) -> Option<String> {
    let context = kubeconfig.contexts.iter().find(|named| Some(&named.name) == context)?;
    let name = context.context.as_ref()?.cluster.clone();
    let cluster = kubeconfig.clusters.iter_mut().find(|named| named.name == name)?.cluster.as_mut()?;
    let named = cluster.proxy_url.take().filter(|url| !url.is_empty());
    let is_set = |name: &&str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    if named.is_some() || ["HTTPS_PROXY", "https_proxy"].iter().any(is_set) {
        cluster.proxy_url = Some("http://proxy".to_owned());
    }
    named
}

/// The pod's service account, where neither a file nor a context was asked for.
fn outside_kubeconfig(options: &ConnectOptions) -> Result<ClientConfig, ConnectError> {
    let none = || ConnectError::NoKubeconfig { paths: Vec::new() };
    if options.context.is_some() {
        return Err(none());
    }
    let config = Config::incluster().map_err(|error| match error {
        kube::config::InClusterError::ReadEnvironmentVariable(_) => none(),
        source => ConnectError::BadKubeconfig { source: source.into() },
    })?;
    Ok(ClientConfig { config, proxy: None, plugin: None })
}

/// Certificates, keys and tokens are read when the client is built.
fn not_built(server: &str, plugin: Option<&str>, source: kube::Error) -> ConnectError {
    match transport_failure(&source) {
        TransportFailure::Credentials => {
            let source = credentials::read(&source, plugin).into();
            ConnectError::Credentials { server: server.to_owned(), source }
        }
        _ => ConnectError::BadKubeconfig { source: source.into() },
    }
}

/// An answer that is no review.
#[derive(Debug, thiserror::Error)]
#[error("the response is not an access review")]
struct NoReview;

impl Cluster {
    /// The first request to a server was not answered as an API server does.
    pub(crate) fn not_answered(&self, error: RequestError) -> ConnectError {
        let server = self.server().to_owned();
        match error {
            RequestError::Unreachable { failure, source, .. } => {
                let source = source.into();
                match failure {
                    TransportFailure::Tls => ConnectError::Tls { server, source },
                    TransportFailure::Credentials => ConnectError::Credentials { server, source },
                    TransportFailure::Connect | TransportFailure::Broken => {
                        ConnectError::Unreachable { server, proxy: self.proxy().cloned(), source }
                    }
                }
            }
            source @ RequestError::Unauthorized { .. } => {
                ConnectError::Unauthorized { server, source: source.into() }
            }
            // What gave an answer was reached.
            source if source.retry().is_some() => ConnectError::Busy { server, source: source.into() },
            source => ConnectError::NotKubernetes { server, source: source.into() },
        }
    }
}

/// What `/version` answers, as far as it matters.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct VersionInfo {
    git_version: String,
}
