//! An HTTP server on loopback that answers as a test says, well or badly.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use trainerd_cluster::{Cluster, ConnectError, ConnectOptions};
use trainerd_object::Resource;

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: BTreeMap<String, String>,
    /// Names in lower case; a header that came twice stands here twice.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Value,
}

impl Received {
    pub(crate) fn header(&self, name: &str) -> Vec<&str> {
        self.headers.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_str()).collect()
    }

    pub(crate) fn query(&self, key: &str) -> Option<&str> {
        self.query.get(key).map(String::as_str)
    }

    /// Whether it is what a connection begins with: may we do everything?
    fn is_first(&self) -> bool {
        self.body["spec"]["resourceAttributes"]["verb"] == "*"
    }

    pub(crate) fn is(&self, method: &str, path: &str) -> bool {
        self.method == method && self.path == path
    }
}

/// What becomes of a request.
pub(crate) enum Reply {
    /// An answer, with further headers.
    Answer(u16, Vec<(&'static str, String)>, String),
    /// The connection closes without an answer.
    Cut,
    /// No answer, and the connection stays open.
    Silence,
    /// A watch.
    Stream(Vec<Part>),
}

pub(crate) enum Part {
    /// One event.
    Event(&'static str, Value),
    /// Bytes as they are.
    Raw(&'static str),
    /// Nothing more, the connection stays open.
    Open,
    /// The connection closes in the middle of the answer.
    Cut,
}

pub(crate) fn ok(body: &Value) -> Reply {
    Reply::Answer(200, Vec::new(), body.to_string())
}

/// The answer to an access review.
pub(crate) fn no() -> Reply {
    ok(&json!({ "kind": "SelfSubjectAccessReview", "status": { "allowed": false } }))
}

pub(crate) fn status(code: u16, reason: &str, details: &Value) -> Reply {
    let body = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": format!("{reason} from the fake server"), "reason": reason, "details": details, "code": code,
    });
    Reply::Answer(code, Vec::new(), body.to_string())
}

type Handler = dyn FnMut(&Received) -> Reply + Send;

#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) url: String,
    log: Arc<Mutex<Vec<Received>>>,
}

impl Server {
    /// Serves until the test's runtime ends. What a connection begins with is answered by itself, by a no, and
    /// stays out of the log.
    pub(crate) async fn start(mut handler: impl FnMut(&Received) -> Reply + Send + 'static) -> Self {
        Self::start_bare(move |request| if request.is_first() { no() } else { handler(request) }).await
    }

    /// Serves also what a connection begins with by the handler.
    pub(crate) async fn start_bare(handler: impl FnMut(&Received) -> Reply + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self {
            url: format!("http://{}", listener.local_addr().unwrap()),
            log: Arc::new(Mutex::new(Vec::new())),
        };
        let handler: Arc<Mutex<Box<Handler>>> = Arc::new(Mutex::new(Box::new(handler)));
        let log = Arc::clone(&server.log);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&handler), Arc::clone(&log)));
            }
        });
        server
    }

    /// The requests so far.
    pub(crate) fn log(&self) -> Vec<Received> {
        self.log.lock().unwrap().clone()
    }

    /// A kubeconfig that leads here, and the options that name it.
    pub(crate) fn kubeconfig(&self) -> (tempfile::NamedTempFile, ConnectOptions) {
        kubeconfig(&self.url, "")
    }

    pub(crate) async fn connect(&self) -> Cluster {
        connect_to(&self.url, "").await.unwrap()
    }
}

/// A kubeconfig with this server and user (YAML of the user's fields, in braces), and the options that name it.
fn kubeconfig(url: &str, user: &str) -> (tempfile::NamedTempFile, ConnectOptions) {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    write!(
        file,
        "apiVersion: v1\nkind: Config\ncurrent-context: one\n\
         contexts: [{{name: one, context: {{cluster: c, user: u}}}}, {{name: two, context: {{cluster: c, user: u}}}}]\n\
         clusters: [{{name: c, cluster: {{server: '{url}'}}}}]\n\
         users: [{{name: u, user: {user}}}]\n",
        user = if user.is_empty() { "{}" } else { user },
    )
    .unwrap();
    let options = options(file.path());
    (file, options)
}

/// Connects by a kubeconfig with this server and user.
pub(crate) async fn connect_to(url: &str, user: &str) -> Result<Cluster, ConnectError> {
    let (_file, options) = kubeconfig(url, user);
    Cluster::connect(options).await
}

pub(crate) fn options(kubeconfig: &std::path::Path) -> ConnectOptions {
    ConnectOptions {
        kubeconfig: Some(kubeconfig.to_owned()),
        context: None,
        user_agent: "trainerd/9.9.9 (test)".to_owned(),
        field_manager: "trainerd".to_owned(),
        observer: None,
        patience: None,
        waits: None,
    }
}

pub(crate) fn configmaps() -> Resource {
    Resource {
        group: String::new(),
        version: "v1".to_owned(),
        kind: "ConfigMap".to_owned(),
        plural: "configmaps".to_owned(),
        namespaced: true,
    }
}

pub(crate) const CONFIGMAPS: &str = "/api/v1/namespaces/ns/configmaps";

pub(crate) fn configmap(name: &str, version: u64) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": { "name": name, "namespace": "ns", "resourceVersion": version.to_string() },
    })
}

async fn serve(mut stream: TcpStream, handler: Arc<Mutex<Box<Handler>>>, log: Arc<Mutex<Vec<Received>>>) {
    while let Some(request) = read(&mut stream).await {
        if !request.is_first() {
            log.lock().unwrap().push(request.clone());
        }
        let reply = (handler.lock().unwrap())(&request);
        if write(&mut stream, reply).await.is_none() {
            return;
        }
    }
}

async fn read(stream: &mut TcpStream) -> Option<Received> {
    let mut bytes = Vec::new();
    let head = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let text = String::from_utf8(bytes[..head].to_vec()).ok()?;
    let mut lines = text.split("\r\n");
    let mut first = lines.next()?.split(' ');
    let (method, target) = (first.next()?, first.next()?);
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(key, value)| (key.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let length = headers
        .iter()
        .find(|(key, _)| key == "content-length")
        .map_or(0, |(_, value)| value.parse().unwrap());
    while bytes.len() < head + 4 + length {
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let decode = |text: &str| percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned();
    Some(Received {
        method: method.to_owned(),
        path: path.to_owned(),
        query: query
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .map(|(key, value)| (decode(key), decode(value)))
            .collect(),
        headers,
        body: serde_json::from_slice(&bytes[head + 4..]).unwrap_or_default(),
    })
}

/// `None` when the connection is over.
async fn write(stream: &mut TcpStream, reply: Reply) -> Option<()> {
    match reply {
        Reply::Answer(code, headers, body) => {
            let mut head = format!("HTTP/1.1 {code} X\r\ncontent-length: {}\r\n", body.len());
            head.extend(headers.iter().map(|(key, value)| format!("{key}: {value}\r\n")));
            stream.write_all(format!("{head}\r\n{body}").as_bytes()).await.ok()
        }
        Reply::Cut => None,
        Reply::Silence => {
            tokio::time::sleep(Duration::from_hours(1)).await;
            None
        }
        Reply::Stream(parts) => {
            stream.write_all(b"HTTP/1.1 200 X\r\ntransfer-encoding: chunked\r\n\r\n").await.ok()?;
            for part in parts {
                let text = match part {
                    Part::Event(kind, object) => format!("{}\n", json!({ "type": kind, "object": object })),
                    Part::Raw(text) => text.to_owned(),
                    Part::Open => {
                        tokio::time::sleep(Duration::from_hours(1)).await;
                        return None;
                    }
                    Part::Cut => return None,
                };
                stream.write_all(format!("{:x}\r\n{text}\r\n", text.len()).as_bytes()).await.ok()?;
            }
            stream.write_all(b"0\r\n\r\n").await.ok()
        }
    }
}
