//! A counting proxy between a process and the API server.
//!
//! It speaks plain HTTP on loopback to the process and TLS as an administrator to the API server, numbers
//! every request, notes its outcome, and lets a chosen one go wrong. Requests that were forwarded are
//! always answered to the end, whether or not the process lives to see it: what a kill leaves behind is
//! exactly what a kill of the process alone would leave.

mod fault;
mod log;

pub use fault::{Fault, Rule, When};
pub use log::Entry;

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::stream;
use http::{HeaderName, Request, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use kube::client::Body;
use kube::config::{KubeConfigOptions, Kubeconfig};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

/// How long a fault waits to be told which process to kill: that of a spawn.
const CHILD_BOUND: Duration = Duration::from_secs(5);

/// Headers between two parties, not for the next.
const HOP_BY_HOP: [HeaderName; 5] =
    [header::HOST, header::CONNECTION, header::TRANSFER_ENCODING, header::CONTENT_LENGTH, header::UPGRADE];

/// Why there is no proxy.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kubeconfig cannot be used.
    #[error("failed to use the kubeconfig")]
    Kubeconfig(#[from] kube::config::KubeconfigError),
    /// No client for the API server.
    #[error("failed to set up a client for the API server")]
    Client(#[from] kube::Error),
    /// Nothing to listen on, or no place for the kubeconfig.
    #[error("failed to set up the proxy")]
    Io(#[from] std::io::Error),
}

/// A running proxy; it stops when dropped.
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

struct Shared {
    client: kube::Client,
    state: Mutex<State>,
    child: watch::Sender<Option<Pid>>,
    in_flight: watch::Sender<usize>,
    /// Told when every watch is to be cut.
    cut: watch::Sender<()>,
}

#[derive(Default)]
struct State {
    entries: Vec<Entry>,
    rules: Vec<Rule>,
    killed: bool,
}

/// Ends a connection without an answer.
#[derive(Debug, thiserror::Error)]
#[error("the connection is closed without an answer")]
struct Broken;

type BodyError = Box<dyn std::error::Error + Send + Sync>;
type Reply = Response<UnsyncBoxBody<Bytes, BodyError>>;

impl Proxy {
    /// Listens on a free port of an address of this machine, for the cluster of a kubeconfig's current context.
    pub async fn start(kubeconfig: &Path, address: IpAddr) -> Result<Self, Error> {
        let kubeconfig = Kubeconfig::read_from(kubeconfig)?;
        let mut config =
            kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        // A watch may be silent for long, and what is retried is the child's to decide.
        config.read_timeout = None;
        config.default_retry = false;
        let client = kube::Client::try_from(config)?;
        let listener = TcpListener::bind((address, 0)).await?;
        let address = listener.local_addr()?;
        let (child, in_flight) = (watch::Sender::new(None), watch::Sender::new(0));
        let cut = watch::Sender::new(());
        let shared = Arc::new(Shared { client, state: Mutex::default(), child, in_flight, cut });
        let accepting = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Ok(Self { address, shared, accepting })
    }

    /// Writes a kubeconfig that leads here.
    pub fn write_kubeconfig(&self, path: &Path) -> Result<(), Error> {
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "proxy", "cluster": {"server": format!("http://{}", self.address)}}],
            "users": [{"name": "proxy", "user": {}}],
            "contexts": [{"name": "proxy", "context": {"cluster": "proxy", "user": "proxy"}}],
            "current-context": "proxy",
        });
        Ok(std::fs::write(path, config.to_string())?)
    }

    /// Counts from 1 again, with these faults, once everything of before is answered.
    pub async fn begin(&self, rules: Vec<Rule>) {
        self.drained().await;
        self.shared.child.send_replace(None);
        *self.shared.state() = State { rules, ..State::default() };
    }

    /// Adds a fault to those that there are; a number counts from now.
    pub fn add(&self, mut rule: Rule) {
        let mut state = self.shared.state();
        if let When::Number(number) = &mut rule.when {
            *number += state.entries.len();
        }
        state.rules.push(rule);
    }

    /// Drops every fault that has not happened yet.
    pub fn clear_faults(&self) {
        self.shared.state().rules.clear();
    }

    /// Drops a fault that happens always.
    pub fn remove(&self, rule: &Rule) {
        self.shared.state().rules.retain(|known| known != rule);
    }

    /// Serves the next process after one that was killed; the other faults stay, and so does the count.
    pub fn replace_client(&self, pid: u32) {
        self.set_child(Some(pid));
        self.shared.state().killed = false;
    }

    /// Cuts the connection of every watch that is open.
    pub fn cut_watches(&self) {
        self.shared.cut.send_replace(());
    }

    /// Names the process that a fault kills; `None` when it has ended.
    pub fn set_child(&self, pid: Option<u32>) {
        let pid = pid.and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
        self.shared.child.send_replace(pid);
    }

    /// Waits until every forwarded request, watches aside, is answered.
    pub async fn drained(&self) {
        // The sender lives in `self`: this cannot end early.
        let _ = self.shared.in_flight.subscribe().wait_for(|count| *count == 0).await;
    }

    /// The requests since [`Proxy::begin`], in order.
    pub fn log(&self) -> Vec<Entry> {
        self.shared.state().entries.clone()
    }

    /// Whether a fault has killed the child.
    pub fn killed(&self) -> bool {
        self.shared.state().killed
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            let answer = service_fn(|request| Arc::clone(&shared).answer(request));
            // An error is a connection that was broken, by a fault or by the end of the child.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
        });
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Result<Reply, Broken> {
        let (mut parts, body) = request.into_parts();
        let body = body.collect().await.map_err(|_| Broken)?.to_bytes();
        let (index, watch, fault) = {
            let mut state = self.state();
            if state.killed {
                // What the dead process had sent, but nobody had taken yet.
                return Err(Broken);
            }
            let number = state.entries.len() + 1;
            let entry = Entry::new(number, &parts.method, &parts.uri, &body);
            let rule = state.rules.iter_mut().find_map(|rule| {
                rule.matches_request(number, &entry.method, &entry.path).then(|| rule.fault.clone())
            });
            let watch = entry.watch;
            state.entries.push(entry);
            state.killed |= rule == Some(Fault::KillBefore);
            (number - 1, watch, rule)
        };
        match fault {
            Some(Fault::KillBefore) => {
                self.kill().await;
                return Err(Broken);
            }
            Some(Fault::Reset) => return Err(Broken),
            Some(Fault::Answer(code)) => return Ok(status(code)),
            Some(Fault::Say(ref document)) => return Ok(reply(200, document.clone())),
            Some(Fault::Delay(time)) => tokio::time::sleep(time).await,
            Some(Fault::KillAfter | Fault::Lose) | None => {}
        }
        for name in HOP_BY_HOP {
            parts.headers.remove(name);
        }
        let request = Request::from_parts(parts, Body::from(body.to_vec()));
        let (sender, answer) = oneshot::channel();
        if !watch {
            self.in_flight.send_modify(|count| *count += 1);
        }
        let shared = Arc::clone(&self);
        // On its own, so that it is brought to its end when the child's connection is gone.
        tokio::spawn(async move {
            let reply = shared.forward(request, watch, index).await;
            if !watch {
                shared.in_flight.send_modify(|count| *count -= 1);
            }
            let _ = sender.send(reply);
        });
        let reply = answer.await.map_err(|_| Broken)?;
        match fault {
            Some(Fault::KillAfter) => {
                self.state().killed = true;
                self.kill().await;
                Err(Broken)
            }
            Some(Fault::Lose) => Err(Broken),
            _ => reply,
        }
    }

    async fn forward(&self, request: Request<Body>, watch: bool, index: usize) -> Result<Reply, Broken> {
        let answer = self.client.send(request).await.map_err(|_| Broken)?;
        let (mut parts, body) = answer.into_parts();
        let body = if watch {
            until_cut(body, self.cut.subscribe())
        } else {
            let body = body.collect().await.map_err(|_| Broken)?.to_bytes();
            Full::new(body).map_err(|never| match never {}).boxed_unsync()
        };
        if let Some(entry) = self.state().entries.get_mut(index) {
            entry.status = Some(parts.status.as_u16());
        }
        for name in HOP_BY_HOP {
            parts.headers.remove(name);
        }
        // What the connection to the API server speaks is not what this one does.
        parts.version = http::Version::HTTP_11;
        Ok(Response::from_parts(parts, body))
    }

    async fn kill(&self) {
        let mut child = self.child.subscribe();
        let named = tokio::time::timeout(CHILD_BOUND, child.wait_for(Option::is_some)).await;
        if let Ok(Ok(pid)) = named
            && let Some(pid) = *pid
        {
            // Whoever spawned it has not reaped it: it is in the middle of a request.
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

/// A watch, interrupted when it is to be cut: whoever reads it sees its connection closed in the middle.
fn until_cut(body: Body, cut: watch::Receiver<()>) -> UnsyncBoxBody<Bytes, BodyError> {
    let frames = stream::unfold(Some((body, cut)), async |open| {
        let (mut body, mut cut) = open?;
        tokio::select! {
            frame = body.frame() => match frame? {
                Ok(frame) => Some((Ok(frame), Some((body, cut)))),
                Err(error) => Some((Err(Box::new(error) as BodyError), None)),
            },
            _ = cut.changed() => Some((Err(Box::new(Broken) as BodyError), None)),
        }
    });
    StreamBody::new(frames).boxed_unsync()
}

/// A status as the API server words it.
fn status(code: u16) -> Reply {
    let body = json!({
        "apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Failure", "code": code,
        "reason": fault::reason(code), "message": "the test's proxy answers in the API server's place",
    });
    reply(code, body.to_string())
}

/// An answer of the proxy's own.
fn reply(code: u16, document: String) -> Reply {
    let body = Full::new(Bytes::from(document)).map_err(|never| match never {}).boxed_unsync();
    let mut reply = Response::new(body);
    *reply.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = reply.headers_mut();
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    if code == 429 {
        headers.insert(header::RETRY_AFTER, header::HeaderValue::from_static("1"));
    }
    reply
}
