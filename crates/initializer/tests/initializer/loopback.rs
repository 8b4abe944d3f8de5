//! A web server and a hub on this machine, with the faults of real ones: latency, throttling, answers that are cut
//! off, servers that are busy.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path as Parts, Query, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use futures::StreamExt as _;
use serde_json::json;
use sha2::Digest as _;
use trainerd_initializer::digest::Digest;

/// The commit of the hub's only repository.
pub(crate) const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// A token that only the hub itself may see.
pub(crate) const TOKEN: &str = "hf_sesame";

/// What goes wrong.
#[derive(Clone, Debug, Default)]
pub(crate) struct Faults {
    /// Before each answer.
    pub(crate) latency: Duration,
    /// Bytes of a block, and the pause after it.
    pub(crate) throttle: Option<(usize, Duration)>,
    /// An answer ends after so many bytes.
    pub(crate) cut: Option<usize>,
    /// Every so many requests one is answered with 503.
    pub(crate) busy: Option<u64>,
    /// Ranges are not served.
    pub(crate) whole: bool,
    /// The bytes of a file are others than its digest says, so many times.
    pub(crate) damaged: u64,
}

/// What is served, and what was asked for.
#[derive(Debug, Default)]
pub(crate) struct Served {
    pub(crate) files: Mutex<BTreeMap<String, Bytes>>,
    pub(crate) faults: Mutex<Faults>,
    pub(crate) requests: AtomicU64,
    pub(crate) sent: AtomicU64,
    /// Seen by the host that large files are fetched from.
    pub(crate) tokens: AtomicU64,
    cdn: Mutex<Option<SocketAddr>>,
}

impl Served {
    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    pub(crate) fn fault(&self, change: impl FnOnce(&mut Faults)) {
        change(&mut self.faults.lock().unwrap());
    }
}

/// A running server.
pub(crate) struct Server {
    pub(crate) served: Arc<Served>,
    pub(crate) address: SocketAddr,
    _runtime: tokio::runtime::Runtime,
}

impl Server {
    pub(crate) fn start(files: BTreeMap<String, Bytes>) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let served = Arc::new(Served { files: Mutex::new(files), ..Served::default() });
        let listen = |router: Router| {
            let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
            let address = listener.local_addr().unwrap();
            runtime.spawn(async move { axum::serve(listener, router).await });
            address
        };
        let cdn = Router::new().route("/cdn/{*path}", get(large)).with_state(Arc::clone(&served));
        *served.cdn.lock().unwrap() = Some(listen(cdn));
        let router = Router::new()
            .route("/web/{*path}", get(web))
            .route("/api/{kind}/{owner}/{name}/revision/{revision}", get(revision))
            .route("/api/{kind}/{owner}/{name}/tree/{revision}", get(tree))
            .route("/datasets/{owner}/{name}/resolve/{revision}/{*path}", get(resolve))
            .with_state(Arc::clone(&served));
        let address = listen(router);
        Self { served, address, _runtime: runtime }
    }

    pub(crate) fn web(&self, path: &str) -> String {
        format!("http://{}/web/{path}", self.address)
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }
}

async fn web(
    State(served): State<Arc<Served>>,
    Parts(path): Parts<String>,
    method: Method,
    headers: HeaderMap,
) -> Response {
    serve(&served, &path, &method, &headers).await
}

async fn large(
    State(served): State<Arc<Served>>,
    Parts(path): Parts<String>,
    method: Method,
    headers: HeaderMap,
) -> Response {
    if headers.contains_key(header::AUTHORIZATION) {
        served.tokens.fetch_add(1, Ordering::Relaxed);
    }
    serve(&served, &path, &method, &headers).await
}

/// Whether a file is stored apart from the repository.
fn is_large(path: &str) -> bool {
    Path::new(path).extension().is_some_and(|extension| extension == "bin" || extension == "safetensors")
}

fn is_allowed(headers: &HeaderMap) -> bool {
    headers.get(header::AUTHORIZATION).is_some_and(|value| value == &format!("Bearer {TOKEN}"))
}

async fn revision(
    Parts((_, _, name, revision)): Parts<(String, String, String, String)>,
    headers: HeaderMap,
) -> Response {
    if !is_allowed(&headers) {
        return (StatusCode::UNAUTHORIZED, [("x-error-code", "RepoNotFound")], "").into_response();
    }
    match name.as_str() {
        "gated" => (StatusCode::FORBIDDEN, [("x-error-code", "GatedRepo")], "").into_response(),
        _ if revision == "main" => axum::Json(json!({ "sha": COMMIT })).into_response(),
        _ => (StatusCode::NOT_FOUND, [("x-error-code", "RevisionNotFound")], "").into_response(),
    }
}

async fn tree(
    State(served): State<Arc<Served>>,
    Parts((kind, owner, name, _)): Parts<(String, String, String, String)>,
    Query(query): Query<BTreeMap<String, String>>,
    headers: HeaderMap,
) -> Response {
    let files = served.files.lock().unwrap().clone();
    let entries: Vec<_> = files
        .iter()
        .map(|(path, content)| {
            let size = content.len();
            let sha256 = hex::encode(sha2::Sha256::digest(content));
            let blob = Digest::GitBlob(String::new()).of(&mut content.as_ref(), size as u64).unwrap();
            if is_large(path) {
                let lfs = json!({ "oid": sha256, "size": size, "pointerSize": 130 });
                json!({ "type": "file", "path": path, "size": size, "oid": "0".repeat(40), "lfs": lfs })
            } else {
                json!({ "type": "file", "path": path, "size": size, "oid": blob })
            }
        })
        .collect();
    // Pages of two, as the hub has pages of a thousand.
    let page: usize = query.get("cursor").and_then(|cursor| cursor.parse().ok()).unwrap_or(0);
    let shown: Vec<_> = entries.iter().skip(page * 2).take(2).cloned().collect();
    let mut response = axum::Json(shown).into_response();
    if entries.len() > (page + 1) * 2 {
        let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        let next = format!(
            "http://{host}/api/{kind}/{owner}/{name}/tree/{COMMIT}?recursive=true&cursor={}",
            page + 1
        );
        response.headers_mut().insert(header::LINK, format!("<{next}>; rel=\"next\"").parse().unwrap());
    }
    response
}

async fn resolve(
    State(served): State<Arc<Served>>,
    Parts((_, _, _, path)): Parts<(String, String, String, String)>,
    method: Method,
    headers: HeaderMap,
) -> Response {
    if !is_allowed(&headers) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    if !is_large(&path) {
        return serve(&served, &path, &method, &headers).await;
    }
    let cdn = served.cdn.lock().unwrap().unwrap();
    (StatusCode::FOUND, [(header::LOCATION, format!("http://{cdn}/cdn/{path}?signature=sesame"))])
        .into_response()
}

async fn serve(served: &Arc<Served>, path: &str, method: &Method, headers: &HeaderMap) -> Response {
    let faults = served.faults.lock().unwrap().clone();
    tokio::time::sleep(faults.latency).await;
    let number = served.requests.fetch_add(1, Ordering::Relaxed);
    if faults.busy.is_some_and(|every| number % every == every - 1) {
        return (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "0")]).into_response();
    }
    let Some(content) = served.files.lock().unwrap().get(path).cloned() else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let etag = format!("\"{}\"", &hex::encode(sha2::Sha256::digest(&content))[..16]);
    if headers.get(header::IF_MATCH).is_some_and(|wanted| wanted != &etag) {
        return StatusCode::PRECONDITION_FAILED.into_response();
    }
    let mut content = content;
    if faults.damaged > 0 && method != Method::HEAD {
        served.faults.lock().unwrap().damaged -= 1;
        let mut damaged = content.to_vec();
        damaged[0] ^= 1;
        content = damaged.into();
    }
    let total = content.len();
    let range = headers.get(header::RANGE).and_then(|value| value.to_str().ok()).filter(|_| !faults.whole);
    let range = range.and_then(|text| {
        let (start, end) = text.strip_prefix("bytes=")?.split_once('-')?;
        Some((start.parse::<usize>().ok()?, end.parse::<usize>().ok()?))
    });
    let mut response = Response::builder().header(header::ETAG, etag);
    if !faults.whole {
        response = response.header(header::ACCEPT_RANGES, "bytes");
    }
    let (status, body) = match range {
        Some((start, end)) => {
            let end = end.min(total - 1);
            response = response.header(header::CONTENT_RANGE, format!("bytes {start}-{end}/{total}"));
            (StatusCode::PARTIAL_CONTENT, content.slice(start..=end))
        }
        None => (StatusCode::OK, content),
    };
    response = response.status(status).header(header::CONTENT_LENGTH, body.len());
    if method == Method::HEAD {
        return response.body(Body::empty()).unwrap();
    }
    response.body(stream(Arc::clone(served), body, &faults)).unwrap()
}

/// The bytes in blocks, with pauses, and perhaps not all of them.
fn stream(served: Arc<Served>, body: Bytes, faults: &Faults) -> Body {
    let (block, pause) = faults.throttle.unwrap_or((1 << 16, Duration::ZERO));
    let cut = faults.cut.filter(|cut| *cut < body.len());
    let blocks = futures::stream::unfold(0, move |at| {
        let (served, body) = (Arc::clone(&served), body.clone());
        async move {
            if at >= body.len() {
                return None;
            }
            if cut.is_some_and(|cut| at >= cut) {
                return Some((Err(std::io::Error::other("cut off")), body.len()));
            }
            tokio::time::sleep(pause).await;
            let end = (at + block).min(body.len()).min(cut.unwrap_or(usize::MAX));
            served.sent.fetch_add((end - at) as u64, Ordering::Relaxed);
            Some((Ok(body.slice(at..end)), end))
        }
    });
    Body::from_stream(blocks.boxed())
}

/// Bytes that compress badly and differ by file.
pub(crate) fn noise(seed: u64, bytes: usize) -> Bytes {
    let mut random = fastrand::Rng::with_seed(seed);
    std::iter::repeat_with(|| random.u8(..)).take(bytes).collect::<Vec<u8>>().into()
}

/// The initializer with these variables and no others.
pub(crate) fn command(kind: &str, target: &Path, variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_trainerd-initializer"));
    command.arg(kind).env_clear().env("OUTPUT_PATH", target).env("PROGRESS", "json");
    command
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Runs it to its end.
pub(crate) fn run(kind: &str, target: &Path, variables: &[(&str, &str)]) -> Output {
    command(kind, target, variables).output().unwrap()
}

/// What it said on standard error.
pub(crate) fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Files of the target that are not as they should be; those that are missing count only if `all` is asked for.
pub(crate) fn wrong(target: &Path, files: &BTreeMap<String, Bytes>, all: bool) -> Vec<String> {
    let mut wrong = Vec::new();
    for (path, content) in files {
        match std::fs::read(target.join(path)) {
            Ok(found) if found == *content => {}
            Ok(found) => wrong.push(format!("{path}: {} of {} bytes, or others", found.len(), content.len())),
            Err(_) if !all => {}
            Err(error) => wrong.push(format!("{path}: {error}")),
        }
    }
    wrong
}

/// Kills a process, and waits for its end.
pub(crate) fn kill(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}
