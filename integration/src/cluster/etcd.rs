//! A cluster's whole state, kept and put back.
//!
//! The API server and the controllers follow etcd by watches: what is put back there directly looks to them
//! like any other change. That takes a quarter of a second where deleting and installing again takes ten or more.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{Request, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::Error;

const ROOT: &str = "/registry/";
/// The first key after all that begin with [`ROOT`].
const ROOT_END: &str = "/registry0";
const PAGE: u64 = 500;

/// Pause between two looks.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// What changes by itself, and says nothing of what a test did.
const LIVELY: [&str; 7] = [
    "/registry/minions/",
    "/registry/leases/kube-node-lease/",
    "/registry/leases/kube-system/",
    "/registry/masterleases/",
    "/registry/peerserverleases/",
    "/registry/events/",
    "/registry/health",
];

/// A cluster's state: every key, and its value as etcd stores it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Key to base64 of the value.
    values: BTreeMap<String, String>,
}

/// etcd of a cluster on this machine.
pub(crate) struct Etcd {
    namespace: File,
    controllers: Option<Pid>,
    /// What is known to be stored: key to the modification revision and the value that it has there.
    known: HashMap<String, (u64, String)>,
}

#[derive(Deserialize)]
struct Range {
    #[serde(default)]
    kvs: Vec<Row>,
    #[serde(default)]
    more: bool,
}

#[derive(Deserialize)]
struct Row {
    key: String,
    #[serde(deserialize_with = "number")]
    mod_revision: u64,
    #[serde(default)]
    value: String,
}

/// The gateway writes 64-bit numbers as strings.
fn number<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
}

impl Etcd {
    /// etcd that listens on the loopback interface of a network namespace. `controllers`: the controller manager,
    /// which is held still while state is put back.
    pub(crate) fn new(namespace: &str, controllers: Option<i32>) -> Result<Self, Error> {
        let path = Path::new("/run/netns").join(namespace);
        let namespace = File::open(&path).map_err(Error::io("open", path))?;
        Ok(Self { namespace, controllers: controllers.and_then(Pid::from_raw), known: HashMap::new() })
    }

    /// The keys that there are, but for what changes by itself.
    pub(crate) async fn keys(&self) -> Result<BTreeSet<String>, Error> {
        Ok(self.list(true).await?.into_keys().collect())
    }

    /// Keeps the state as it is now.
    pub(crate) async fn snapshot(&mut self) -> Result<Snapshot, Error> {
        self.known = self.list(false).await?.into_iter().collect();
        let values = self.known.iter().map(|(key, (_, value))| (key.clone(), value.clone())).collect();
        Ok(Snapshot { values })
    }

    /// Keeps the state once it has not changed for `rest`, which is waited for at most `bound`.
    pub(crate) async fn settled_snapshot(
        &mut self,
        rest: Duration,
        bound: Duration,
    ) -> Result<Snapshot, Error> {
        let end = Instant::now() + bound;
        let mut last = self.snapshot().await?;
        let mut since = Instant::now();
        while since.elapsed() < rest {
            tokio::time::sleep(POLL_INTERVAL).await;
            let now = self.snapshot().await?;
            if now != last {
                if Instant::now() > end {
                    let what = now.difference(&last).join(", ");
                    return Err(Error::Restless { seconds: bound.as_secs(), what });
                }
                (last, since) = (now, Instant::now());
            }
        }
        Ok(last)
    }

    /// Puts a state back, and again whatever the controllers still do to it, until it stays.
    pub(crate) async fn restore(&mut self, wanted: &Snapshot, bound: Duration) -> Result<(), Error> {
        let end = Instant::now() + bound;
        let mut same_for = 0;
        while same_for < 2 {
            let changed = self.restore_keys(wanted).await?;
            same_for = if changed.is_empty() { same_for + 1 } else { 0 };
            if Instant::now() > end {
                return Err(Error::Restless { seconds: bound.as_secs(), what: changed.join(", ") });
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        Ok(())
    }

    async fn restore_keys(&mut self, wanted: &Snapshot) -> Result<Vec<String>, Error> {
        let there = self.list(true).await?;
        let mut operations = Vec::new();
        for key in there.keys().filter(|key| !wanted.values.contains_key(*key)) {
            let operation = json!({"request_delete_range": {"key": STANDARD.encode(key)}});
            operations.push((key.clone(), operation));
        }
        for (key, value) in &wanted.values {
            let stored = there.get(key).map(|(revision, _)| *revision);
            let known = self.known.get(key).filter(|(revision, _)| Some(*revision) == stored);
            if known.is_some_and(|(_, known)| known == value) {
                continue;
            }
            let operation = json!({"request_put": {"key": STANDARD.encode(key), "value": value}});
            operations.push((key.clone(), operation));
        }
        let changed: Vec<String> = operations.iter().map(|(key, _)| key.clone()).collect();
        if operations.is_empty() {
            return Ok(changed);
        }
        let _still = self.controllers.map(HeldStill::new);
        for transaction in transactions(operations) {
            let (keys, operations): (Vec<String>, Vec<Value>) = transaction.into_iter().unzip();
            let answer = self.post("/v3/kv/txn", &json!({"success": operations})).await?;
            let revision = answer["header"]["revision"].as_str().and_then(|text| text.parse().ok());
            let (Some(revision), Some(true)) = (revision, answer["succeeded"].as_bool()) else {
                return Err(Error::EtcdAnswer(answer.to_string()));
            };
            for key in keys {
                if let Some(value) = wanted.values.get(&key) {
                    self.known.insert(key, (revision, value.clone()));
                }
            }
        }
        Ok(changed)
    }

    async fn list(&self, keys_only: bool) -> Result<BTreeMap<String, (u64, String)>, Error> {
        let mut rows = BTreeMap::new();
        let mut from = ROOT.to_owned();
        loop {
            let asked = json!({
                "key": STANDARD.encode(&from), "range_end": STANDARD.encode(ROOT_END),
                "keys_only": keys_only, "limit": PAGE.to_string(),
            });
            let answer = self.post("/v3/kv/range", &asked).await?;
            let page: Range = serde_json::from_value(answer).map_err(Error::json("etcd's answer"))?;
            for row in page.kvs {
                let key = decode(&row.key)?;
                from = format!("{key}\0");
                if !LIVELY.iter().any(|prefix| key.starts_with(prefix)) {
                    rows.insert(key, (row.mod_revision, row.value));
                }
            }
            if !page.more {
                return Ok(rows);
            }
        }
    }

    async fn post(&self, path: &str, body: &Value) -> Result<Value, Error> {
        let stream = self.connect().await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let connection = tokio::spawn(connection);
        let request = Request::post(path)
            .header(header::HOST, "127.0.0.1")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body.to_string())))?;
        let answer = sender.send_request(request).await?;
        let status = answer.status();
        let body = answer.into_body().collect().await?.to_bytes();
        connection.abort();
        if !status.is_success() {
            return Err(Error::EtcdAnswer(String::from_utf8_lossy(&body).into_owned()));
        }
        serde_json::from_slice(&body).map_err(Error::json("etcd's answer"))
    }

    /// A connection belongs to the namespace where it was made, and making it in another takes a thread that is
    /// in there.
    async fn connect(&self) -> Result<tokio::net::TcpStream, Error> {
        let failed = || Error::io("connect to", "etcd");
        let namespace = self.namespace.try_clone().map_err(failed())?;
        let (sender, connected) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || {
            let connect = || {
                move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
                std::net::TcpStream::connect(("127.0.0.1", 2379))
            };
            let _ = sender.send(connect());
        });
        let stream =
            connected.await.map_err(|_| Error::Missing("an answer of a thread".into()))?.map_err(failed())?;
        stream.set_nonblocking(true).map_err(failed())?;
        tokio::net::TcpStream::from_std(stream).map_err(failed())
    }
}

impl Snapshot {
    /// The keys of this state.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.values.keys().map(String::as_str)
    }

    /// The keys that only one of two states has, or that differ.
    pub fn difference(&self, other: &Self) -> Vec<String> {
        let all: BTreeSet<&String> = self.values.keys().chain(other.values.keys()).collect();
        all.into_iter().filter(|key| self.values.get(*key) != other.values.get(*key)).cloned().collect()
    }
}

/// Operations in as few transactions as may be.
///
/// All keys of a transaction have one revision, which the API server makes their resourceVersion. A watch that is
/// interrupted between two of them continues after the first one's and misses the second, for ever. So a transaction
/// has one key of a kind at most.
fn transactions(operations: Vec<(String, Value)>) -> Vec<Vec<(String, Value)>> {
    let mut transactions: Vec<Vec<(String, Value)>> = Vec::new();
    let mut taken: HashMap<String, usize> = HashMap::new();
    for (key, operation) in operations {
        let next = taken.entry(kind(&key).to_owned()).or_default();
        if transactions.len() == *next {
            transactions.push(Vec::new());
        }
        transactions[*next].push((key, operation));
        *next += 1;
    }
    transactions
}

/// What a key tells of its object's kind: the plural, with a group before it where etcd has one.
fn kind(key: &str) -> &str {
    let rest = key.strip_prefix(ROOT).unwrap_or(key);
    let (first, after) = rest.split_once('/').unwrap_or((rest, ""));
    // `services/specs` and `services/endpoints` are two kinds.
    let words = if first.contains('.') || first == "services" {
        first.len() + 1 + after.find('/').unwrap_or(after.len())
    } else {
        first.len()
    };
    rest.get(..words).unwrap_or(rest)
}

fn decode(key: &str) -> Result<String, Error> {
    let bytes = STANDARD.decode(key).map_err(|error| Error::EtcdAnswer(error.to_string()))?;
    String::from_utf8(bytes).map_err(|error| Error::EtcdAnswer(error.to_string()))
}

/// A process that is stopped until this is dropped.
struct HeldStill(Pid);

impl HeldStill {
    fn new(pid: Pid) -> Self {
        let _ = kill_process(pid, Signal::STOP);
        Self(pid)
    }
}

impl Drop for HeldStill {
    fn drop(&mut self) {
        let _ = kill_process(self.0, Signal::CONT);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_has_each_key_once() {
        let keys = [
            "/registry/secrets/n/a",
            "/registry/secrets/n/b",
            "/registry/services/specs/n/a",
            "/registry/services/endpoints/n/a",
            "/registry/apiextensions.k8s.io/customresourcedefinitions/a.b",
            "/registry/apiextensions.k8s.io/customresourcedefinitions/c.b",
            "/registry/namespaces/n",
        ];
        let operations = keys.iter().map(|key| ((*key).to_owned(), Value::Null)).collect();
        let found: Vec<Vec<String>> = transactions(operations)
            .into_iter()
            .map(|transaction| transaction.into_iter().map(|(key, _)| key).collect())
            .collect();
        let first = [keys[0], keys[2], keys[3], keys[4], keys[6]].map(str::to_owned);
        assert_eq!(found, [first.to_vec(), [keys[1], keys[5]].map(str::to_owned).to_vec()]);
    }
}
