//! Where records, revisions and chunks are kept: Secrets in the installation's namespace.
//!
//! The record is the ApplySet parent (KEP-3659) and is written only at the resourceVersion that was read.
//! Revisions and chunks are immutable and named by number and content, so writing one twice does nothing.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::Mutex;
use trainerd_cluster::{Cluster, CreateParams, DeleteParams, ListParams, RequestError};
use trainerd_plan::applyset;
use trainerd_plan::desired::{Desired, Installation};
use trainerd_plan::object::GroupKind;

use crate::chunk::{self, Chunk};
use crate::error::{EngineError, StoredError};
use crate::kinds;
use crate::record::Record;
use crate::retry::patiently;
use crate::revision::{Header, Revision};

/// Label that says what a Secret of ours holds.
const RECORD: &str = "trainerd.dev/record";

/// Access to what is stored of one installation.
pub(crate) struct Store {
    cluster: Cluster,
    installation: Installation,
    /// Chunks that were read or written; they never change.
    chunks: Mutex<BTreeMap<String, Chunk>>,
}

/// A record with what its next write must carry.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stored {
    /// The record.
    pub record: Record,
    /// resourceVersion that was read; `None` where nothing is stored yet.
    pub version: Option<String>,
    /// The group-kinds that members may have, as the parent says.
    pub group_kinds: BTreeSet<GroupKind>,
    /// Namespaces of members other than the installation's.
    pub namespaces: BTreeSet<String>,
}

impl Store {
    /// The store of an installation.
    pub(crate) fn new(cluster: Cluster, installation: Installation) -> Self {
        Self { cluster, installation, chunks: Mutex::default() }
    }

    /// Whose store it is.
    pub(crate) fn installation(&self) -> &Installation {
        &self.installation
    }

    fn namespace(&self) -> &str {
        &self.installation.namespace
    }

    async fn get(&self, name: &str) -> Result<Value, RequestError> {
        patiently(async || self.cluster.get(&kinds::secret(), Some(self.namespace()), name).await).await
    }

    fn revision_name(&self, number: u64) -> String {
        format!("trainerd-{}-r{number}", self.installation.name)
    }

    fn chunk_name(&self, digest: &str) -> String {
        // 128 bits of the digest: names hold 63 characters where they become labels, and the whole digest
        // is checked when the chunk is read.
        format!("trainerd-{}-c-{}", self.installation.name, digest.get(..32).unwrap_or(digest))
    }

    fn selector(&self, what: &str) -> String {
        format!("{}={},{RECORD}={what}", applyset::INSTALLATION, self.installation.name)
    }

    /// The record, or an empty one.
    pub(crate) async fn record(&self) -> Result<Stored, EngineError> {
        let name = applyset::parent_name(&self.installation);
        let secret = match self.get(&name).await {
            Ok(secret) => secret,
            Err(error) if error.is_absent() => return Ok(Stored::default()),
            Err(error) => return Err(EngineError::request("read", format!("Secret {name}"))(error)),
        };
        let record = json_of(&secret, "record").map_err(damaged(&name))?;
        let annotation =
            |name: &str| secret["metadata"]["annotations"][name].as_str().unwrap_or_default().to_owned();
        Ok(Stored {
            record,
            version: secret["metadata"]["resourceVersion"].as_str().map(str::to_owned),
            group_kinds: annotation(applyset::CONTAINS_GROUP_KINDS)
                .split(',')
                .filter_map(group_kind)
                .collect(),
            namespaces: annotation(applyset::ADDITIONAL_NAMESPACES)
                .split(',')
                .filter(|name| !name.is_empty())
                .map(str::to_owned)
                .collect(),
        })
    }

    /// Writes the record over the one that was read, and nothing else.
    pub(crate) async fn write(&self, stored: &Stored) -> Result<Stored, EngineError> {
        let name = applyset::parent_name(&self.installation);
        let text = serde_json::to_vec(&stored.record).map_err(StoredError::from).map_err(damaged(&name))?;
        let list = |items: Vec<String>| items.join(",");
        let mut secret = json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {
                "name": name,
                "namespace": self.installation.namespace,
                "labels": {
                    applyset::ID: applyset::id(&self.installation),
                    applyset::INSTALLATION: self.installation.name,
                    RECORD: "record",
                },
                "annotations": {
                    applyset::TOOLING: concat!("trainerd/v", env!("CARGO_PKG_VERSION")),
                    applyset::CONTAINS_GROUP_KINDS: list(stored.group_kinds.iter().map(ToString::to_string).collect()),
                    applyset::ADDITIONAL_NAMESPACES: list(stored.namespaces.iter().cloned().collect()),
                },
            },
            "type": "trainerd.dev/record",
            "data": {"record": STANDARD.encode(text)},
        });
        if let Some(version) = &stored.version {
            secret["metadata"]["resourceVersion"] = json!(version);
        }
        let secret = &secret;
        let written = patiently(async || match &stored.version {
            None => self.cluster.create(&kinds::secret(), secret, CreateParams::default()).await,
            Some(_) => self.cluster.replace(&kinds::secret(), secret, CreateParams::default()).await,
        })
        .await;
        let version = match written {
            Ok(written) => written["metadata"]["resourceVersion"].as_str().map(str::to_owned),
            // A repeated request meets its own first try where only the answer was lost.
            Err(error @ (RequestError::AlreadyExists { .. } | RequestError::Conflict { .. })) => {
                let found = self.record().await?;
                if found.record != stored.record {
                    return Err(EngineError::request("write", format!("Secret {name}"))(error));
                }
                found.version
            }
            Err(error) => return Err(EngineError::request("write", format!("Secret {name}"))(error)),
        };
        Ok(Stored { version, ..stored.clone() })
    }

    /// The numbers of the revisions that exist, ascending.
    pub(crate) async fn numbers(&self) -> Result<Vec<u64>, EngineError> {
        let prefix = format!("trainerd-{}-r", self.installation.name);
        let names = self.names("revision").await?;
        let mut numbers: Vec<u64> =
            names.keys().filter_map(|name| name.strip_prefix(&prefix)?.parse().ok()).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// Names and uids of our Secrets of a sort.
    async fn names(&self, what: &str) -> Result<BTreeMap<String, String>, EngineError> {
        let params = ListParams {
            namespace: Some(self.namespace().to_owned()),
            label_selector: Some(self.selector(what)),
            metadata_only: true,
            ..ListParams::default()
        };
        let list = match patiently(async || self.cluster.list(&kinds::secret(), &params).await).await {
            Ok(list) => list,
            Err(error) if error.is_absent() => return Ok(BTreeMap::new()),
            Err(error) => return Err(EngineError::request("list", format!("{what}s"))(error)),
        };
        let text = |item: &Value, key: &str| item["metadata"][key].as_str().unwrap_or_default().to_owned();
        Ok(list.items.iter().map(|item| (text(item, "name"), text(item, "uid"))).collect())
    }

    /// A revision's header.
    pub(crate) async fn header(&self, number: u64) -> Result<Header, EngineError> {
        let name = self.revision_name(number);
        let secret = match self.get(&name).await {
            Ok(secret) => secret,
            Err(error) if error.is_absent() => {
                return Err(EngineError::NoSuchRevision { number, known: self.numbers().await? });
            }
            Err(error) => return Err(EngineError::request("read", format!("revision {number}"))(error)),
        };
        decompressed(&secret, "revision").map_err(damaged(&name))
    }

    /// A revision with its objects, believed only if their digest is the recorded one.
    pub(crate) async fn load(&self, number: u64) -> Result<Revision, EngineError> {
        let header = self.header(number).await?;
        let chunks = self.read_chunks(&header).await?;
        let name = self.revision_name(number);
        let objects =
            chunk::unpack(&header.chunks, &chunks).map_err(StoredError::from).map_err(damaged(&name))?;
        let desired = Desired {
            installation: header.installation.clone(),
            components: header.components.clone(),
            options: header.options.clone(),
            given: header.given.clone(),
            objects,
        };
        let found = crate::revision::digest(&desired);
        if found != header.digest {
            return Err(damaged(&name)(StoredError::Digest { expected: header.digest, found }));
        }
        Ok(Revision { header, desired })
    }

    async fn read_chunks(&self, header: &Header) -> Result<BTreeMap<String, Chunk>, EngineError> {
        let mut chunks = self.chunks.lock().await;
        for used in &header.chunks {
            if chunks.contains_key(&used.digest) {
                continue;
            }
            let name = self.chunk_name(&used.digest);
            let secret = match self.get(&name).await {
                Ok(secret) => secret,
                // The revision says which chunk it lacks.
                Err(error) if error.is_absent() => continue,
                Err(error) => return Err(EngineError::request("read", format!("Secret {name}"))(error)),
            };
            let bytes = bytes_of(&secret, "chunk").map_err(damaged(&name))?;
            let chunk =
                Chunk::decompress(&used.digest, &bytes).map_err(StoredError::from).map_err(damaged(&name))?;
            chunks.insert(used.digest.clone(), chunk);
        }
        Ok(chunks.clone())
    }

    /// Stores a revision; what already exists of it is not written again. Its chunks go first, so a header
    /// never names a chunk that does not exist.
    pub(crate) async fn save(&self, mut header: Header, desired: &Desired) -> Result<Revision, EngineError> {
        let parent = match header.parent {
            Some(number) => {
                let parent = self.header(number).await?;
                let chunks = self.read_chunks(&parent).await?;
                parent.chunks.iter().filter_map(|used| chunks.get(&used.digest).cloned()).collect()
            }
            None => Vec::new(),
        };
        let name = self.revision_name(header.number);
        let (uses, fresh) =
            chunk::pack(&desired.objects, &parent).map_err(StoredError::from).map_err(damaged(&name))?;
        for chunk in fresh {
            let bytes = chunk.compress().map_err(StoredError::from).map_err(damaged(&name))?;
            self.create(&self.chunk_name(&chunk.digest), "chunk", &bytes).await?;
            self.chunks.lock().await.insert(chunk.digest.clone(), chunk);
        }
        header.chunks = uses;
        let bytes = compressed(&header).map_err(damaged(&name))?;
        self.create(&name, "revision", &bytes).await?;
        Ok(Revision { header, desired: desired.clone() })
    }

    async fn create(&self, name: &str, what: &str, bytes: &[u8]) -> Result<(), EngineError> {
        let secret = json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {
                "name": name,
                "namespace": self.installation.namespace,
                "labels": {applyset::INSTALLATION: self.installation.name, RECORD: what},
            },
            "type": format!("trainerd.dev/{what}"),
            "immutable": true,
            "data": {what: STANDARD.encode(bytes)},
        });
        let secret = &secret;
        match patiently(async || self.cluster.create(&kinds::secret(), secret, CreateParams::default()).await)
            .await
        {
            // Its name says its content, or it is the same revision, left by an interrupted run.
            Ok(_) | Err(RequestError::AlreadyExists { .. }) => Ok(()),
            Err(error) => Err(EngineError::request("write", format!("Secret {name}"))(error)),
        }
    }

    /// Deletes the revision of that number, if it exists.
    pub(crate) async fn forget(&self, number: u64) -> Result<(), EngineError> {
        let name = self.revision_name(number);
        if let Some(uid) = self.names("revision").await?.get(&name) {
            self.delete(&name, uid).await?;
        }
        Ok(())
    }

    /// Keeps the newest `keep` revisions and those named, and deletes the others and every chunk that none
    /// of the kept ones uses. Returns the numbers that went.
    pub(crate) async fn trim(&self, keep: usize, needed: &BTreeSet<u64>) -> Result<Vec<u64>, EngineError> {
        let numbers = self.numbers().await?;
        let surplus = numbers.len().saturating_sub(keep);
        let gone: Vec<u64> = numbers.iter().take(surplus).copied().filter(|n| !needed.contains(n)).collect();
        if gone.is_empty() {
            return Ok(gone);
        }
        let mut used = BTreeSet::new();
        for number in numbers.iter().filter(|number| !gone.contains(number)) {
            let header = self.header(*number).await?;
            used.extend(header.chunks.iter().map(|used| self.chunk_name(&used.digest)));
        }
        // Headers first: a chunk without a header is swept later, a header without its chunk is damage.
        for number in &gone {
            self.forget(*number).await?;
        }
        for (name, uid) in self.names("chunk").await? {
            if !used.contains(&name) {
                self.delete(&name, &uid).await?;
            }
        }
        Ok(gone)
    }

    /// Deletes everything that is stored of the installation, the record last.
    pub(crate) async fn erase(&self) -> Result<(), EngineError> {
        for what in ["revision", "chunk", "record"] {
            for (name, uid) in self.names(what).await? {
                self.delete(&name, &uid).await?;
            }
        }
        Ok(())
    }

    async fn delete(&self, name: &str, uid: &str) -> Result<(), EngineError> {
        let params = DeleteParams { uid: Some(uid.to_owned()), ..DeleteParams::default() };
        match patiently(async || {
            self.cluster.delete(&kinds::secret(), Some(self.namespace()), name, &params).await
        })
        .await
        {
            Ok(_) => Ok(()),
            Err(error) if error.is_absent() => Ok(()),
            Err(error) => Err(EngineError::request("delete", format!("Secret {name}"))(error)),
        }
    }
}

fn damaged(name: &str) -> impl FnOnce(StoredError) -> EngineError {
    let what = format!("Secret {name}");
    move |source| EngineError::Stored { what, source }
}

fn bytes_of(secret: &Value, key: &'static str) -> Result<Vec<u8>, StoredError> {
    let text = secret["data"][key].as_str().ok_or(StoredError::NoData(key))?;
    Ok(STANDARD.decode(text)?)
}

fn json_of<T: DeserializeOwned>(secret: &Value, key: &'static str) -> Result<T, StoredError> {
    Ok(serde_json::from_slice(&bytes_of(secret, key)?)?)
}

fn decompressed<T: DeserializeOwned>(secret: &Value, key: &'static str) -> Result<T, StoredError> {
    Ok(serde_json::from_slice(&zstd::decode_all(bytes_of(secret, key)?.as_slice())?)?)
}

fn compressed<T: Serialize>(value: &T) -> Result<Vec<u8>, StoredError> {
    Ok(zstd::encode_all(serde_json::to_vec(value)?.as_slice(), 19)?)
}

/// Parses `Deployment.apps` and `Namespace`.
fn group_kind(text: &str) -> Option<GroupKind> {
    let (kind, group) = text.split_once('.').unwrap_or((text, ""));
    (!kind.is_empty()).then(|| GroupKind { group: group.to_owned(), kind: kind.to_owned() })
}
