//! Where records, revisions and chunks are kept: Secrets in the installation's namespace.
//!
//! The record is the ApplySet parent (KEP-3659) and is written only at the resourceVersion that was read.
//! Revisions and chunks are immutable and named by number and content, so writing one twice does nothing.
//! While a lease is held ([`Store::hold`]), each attempt to write first asks whether it is still ours.

mod installations;
mod keep;
mod markers;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::stream::{self, StreamExt, TryStreamExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use trainerd_causes::one_line;
use trainerd_cluster::lease::Fence;
use trainerd_cluster::{Cluster, CreateParams, FieldValidation, RequestError, builtin};
use trainerd_plan::applyset;
use trainerd_plan::desired::{Desired, Installation};
use trainerd_plan::object::{GroupKind, ObjectKey};

pub use self::installations::{Found, installations};
pub(crate) use self::keep::Package;
pub(crate) use self::markers::MarkerKind;
pub use self::markers::{Control, Marker};
use crate::chunk::{self, Chunk};
use crate::error::{EngineError, StoredError};
use crate::observe::IN_FLIGHT;
use crate::record::Record;
use crate::retry::{fenced, patiently};
use crate::revision::{self, Header, Revision};

/// Label that says what a Secret of ours holds.
pub(crate) const RECORD: &str = "trainerd.dev/record";

/// Annotation of a revision: the names of its chunks, comma-separated, so that whether a chunk is still
/// needed is known from a list of metadata.
const CHUNKS: &str = "trainerd.dev/chunks";

/// The key of the record under which it keeps copies of the revisions that matter now, without their objects.
const COPIES: &str = "revisions";

/// Nobody wants back what was just sent.
const QUIETLY: CreateParams = CreateParams {
    dry_run: false,
    field_validation: FieldValidation::Strict,
    metadata_only: true,
    status: false,
};

/// Access to what is stored of one installation.
pub(crate) struct Store {
    cluster: Cluster,
    installation: Installation,
    /// Chunks that were read or written; they never change.
    chunks: tokio::sync::Mutex<BTreeMap<String, Arc<Chunk>>>,
    /// Headers as [`Store::open`] saw them, and those that were read or written since. A revision never
    /// changes, but one that no journal names may be replaced by another of its number: whoever relies on
    /// these holds the lease, or plans and has the record's version checked before anything is written.
    headers: Mutex<BTreeMap<u64, Header>>,
    /// What every write has to pass; `None` while no lease is held.
    fence: RwLock<Option<Fence>>,
    /// What people edit: earlier versions of trainerd kept it in revisions, and it is left out when one is read.
    pub(crate) edited: BTreeSet<ObjectKey>,
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
    /// Who has the say, as [`Store::open`] found it.
    pub control: Control,
    /// resourceVersion of the list that [`Store::open`] made.
    pub listed: String,
    /// The numbers of the revisions whose Secrets exist, and can be read so far, as [`Store::open`] found them.
    pub revisions: BTreeSet<u64>,
}

impl Store {
    /// The store of an installation.
    pub(crate) fn new(cluster: Cluster, installation: Installation) -> Self {
        Self {
            cluster,
            installation,
            chunks: tokio::sync::Mutex::default(),
            headers: Mutex::default(),
            fence: RwLock::default(),
            edited: BTreeSet::new(),
        }
    }

    /// From now on nothing is written once the lease of this fence is not known to be ours.
    pub(crate) fn hold(&self, fence: Fence) {
        *self.fence.write().unwrap_or_else(PoisonError::into_inner) = Some(fence);
    }

    /// The lease is about to be given back: writes are no longer bound to it.
    pub(crate) fn let_go(&self) {
        *self.fence.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn headers(&self) -> MutexGuard<'_, BTreeMap<u64, Header>> {
        self.headers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fence(&self) -> Option<Fence> {
        self.fence.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whose store it is.
    pub(crate) fn installation(&self) -> &Installation {
        &self.installation
    }

    fn namespace(&self) -> &str {
        &self.installation.namespace
    }

    async fn get(&self, name: &str) -> Result<Value, RequestError> {
        patiently(async || self.cluster.get(&builtin::secret(), Some(self.namespace()), name).await).await
    }

    fn revision_name(&self, number: u64) -> String {
        format!("trainerd-{}-r{number}", self.installation.name)
    }

    fn chunk_name(&self, digest: &str) -> String {
        // 128 bits of the digest: names hold 63 characters where they become labels, and the whole digest
        // is checked when the chunk is read.
        format!("trainerd-{}-c-{}", self.installation.name, digest.get(..32).unwrap_or(digest))
    }

    /// The record, or an empty one; and, in the same request, the header of every revision that can be read.
    pub(crate) async fn open(&self) -> Result<Stored, EngineError> {
        let name = applyset::parent_name(&self.installation);
        let (secrets, listed) = self.kept(" in (record,revision,paused,ruler)").await?;
        let listed_revisions = self.numbered(&secrets).into_iter();
        // One that is damaged says so when it is needed.
        let sound: BTreeMap<u64, Header> = listed_revisions
            .filter_map(|(number, secret)| {
                Some((number, decompressed::<Header>(&secret.object, "revision").ok()?))
            })
            .collect();
        let revisions = sound.keys().copied().collect();
        *self.headers() = sound;
        let (stored, copies) = match secrets.iter().find(|secret| secret.name == name) {
            Some(secret) => (self.stored(&secret.object)?, copies(&secret.object)),
            // Somebody may have taken its labels away.
            None => self.record_with_copies().await?,
        };
        for copy in copies {
            self.headers().entry(copy.number).or_insert(copy);
        }
        Ok(Stored { control: Self::control(&secrets)?, listed, revisions, ..stored })
    }

    /// The record, or an empty one.
    pub(crate) async fn record(&self) -> Result<Stored, EngineError> {
        Ok(self.record_with_copies().await?.0)
    }

    async fn record_with_copies(&self) -> Result<(Stored, Vec<Header>), EngineError> {
        let name = applyset::parent_name(&self.installation);
        match self.get(&name).await {
            Ok(secret) => Ok((self.stored(&secret)?, copies(&secret))),
            Err(error) if error.is_absent() => Ok(<(Stored, Vec<Header>)>::default()),
            Err(error) => Err(EngineError::request("read", format!("Secret {name}"))(error)),
        }
    }

    fn stored(&self, secret: &Value) -> Result<Stored, EngineError> {
        let name = applyset::parent_name(&self.installation);
        let record = json_of(secret, "record").map_err(damaged(&name))?;
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
            control: Control::default(),
            listed: String::new(),
            revisions: BTreeSet::new(),
        })
    }

    /// Writes the record over the one that was read, and nothing else.
    ///
    /// # Errors
    /// [`EngineError::LeaseLost`] before anything is sent; a conflict where somebody else wrote meanwhile. One that
    /// somebody deleted meanwhile is created again by whoever holds the lease.
    pub(crate) async fn write(&self, stored: &Stored) -> Result<Stored, EngineError> {
        let name = applyset::parent_name(&self.installation);
        let fence = self.fence();
        let mut stored = stored.clone();
        stored.record.token = fence.as_ref().map(|fence| fence.token().clone());
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
        // A revision whose own Secret is lost is known from here.
        let copies: Vec<Header> =
            stored.record.concerned().iter().filter_map(|number| self.known_header(*number)).collect();
        if !copies.is_empty() {
            let copies = compressed(&copies).map_err(damaged(&name))?;
            secret["data"][COPIES] = json!(STANDARD.encode(copies));
        }
        let anew = secret.clone();
        if let Some(version) = &stored.version {
            secret["metadata"]["resourceVersion"] = json!(version);
        }
        let secret = &secret;
        let create = async || self.cluster.create(&builtin::secret(), &anew, QUIETLY).await;
        let written = fenced(fence.as_ref(), async || match &stored.version {
            None => create().await,
            Some(_) => match self.cluster.replace(&builtin::secret(), secret, QUIETLY).await {
                Err(error) if error.is_absent() && fence.is_some() => {
                    tracing::warn!(secret = name, "somebody deleted the record; it is being written again");
                    create().await
                }
                answer => answer,
            },
        })
        .await;
        let version = match written {
            Ok(written) => written?["metadata"]["resourceVersion"].as_str().map(str::to_owned),
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
        Ok(Stored { version, ..stored })
    }

    /// A revision's header: as it was read last, or else read now.
    pub(crate) async fn header(&self, number: u64) -> Result<Header, EngineError> {
        if let Some(header) = self.known_header(number) {
            return Ok(header);
        }
        let name = self.revision_name(number);
        let secret = match self.get(&name).await {
            Ok(secret) => secret,
            Err(error) if error.is_absent() => {
                return Err(EngineError::NoSuchRevision { number, known: self.numbers().await? });
            }
            Err(error) => return Err(EngineError::request("read", format!("revision {number}"))(error)),
        };
        let header: Header = decompressed(&secret, "revision").map_err(damaged(&name))?;
        self.headers().insert(number, header.clone());
        Ok(header)
    }

    /// Lets go of the chunks that were read or written.
    pub(crate) async fn forget(&self) {
        self.chunks.lock().await.clear();
    }

    /// A revision's header, as far as this process has read or written it.
    pub(crate) fn known_header(&self, number: u64) -> Option<Header> {
        self.headers().get(&number).cloned()
    }

    /// The headers of all revisions that this process has read or written, ascending.
    pub(crate) fn known_headers(&self) -> Vec<Header> {
        self.headers().values().cloned().collect()
    }

    /// A revision with its objects, believed only if their digest is the recorded one.
    pub(crate) async fn load(&self, number: u64) -> Result<Revision, EngineError> {
        let header = self.header(number).await?;
        let chunks = self.read_chunks(&header).await?;
        let name = self.revision_name(number);
        let known = header.clone();
        // Aside, so that others continue, and that nothing of the memory it takes is left among what stays.
        let unpacked = tokio::task::spawn_blocking(move || unpacked_state(&known, &chunks)).await;
        let unpacked = unpacked.map_err(std::io::Error::other).map_err(chunk::ChunkError::from).flatten();
        let (mut desired, found) = unpacked.map_err(StoredError::from).map_err(damaged(&name))?;
        if found != header.digest {
            return Err(damaged(&name)(StoredError::Digest { expected: header.digest, found }));
        }
        desired.objects.retain(|object| !self.edited.contains(&object.key()));
        Ok(Revision { header, desired: Arc::new(desired) })
    }

    /// A revision with its objects; `None`, and a warning, where it is missing or damaged.
    ///
    /// # Errors
    /// Everything else, for example an API server that does not answer.
    pub(crate) async fn load_if_sound(&self, number: u64) -> Result<Option<Revision>, EngineError> {
        self.load(number).await.map(Some).or_else(unsound)
    }

    /// The chunks of a revision that exist, read side by side.
    async fn read_chunks(&self, header: &Header) -> Result<BTreeMap<String, Arc<Chunk>>, EngineError> {
        let chunks = stream::iter(&header.chunks).map(|used| self.chunk(&used.digest));
        let mut chunks = chunks.buffer_unordered(IN_FLIGHT);
        let (mut read, mut bytes) = (BTreeMap::new(), 0);
        while let Some(chunk) = chunks.try_next().await? {
            let Some(chunk) = chunk else { continue };
            bytes += chunk.lines.iter().map(String::len).sum::<usize>();
            if bytes > chunk::MOST_OF_REVISION {
                let inflated = chunk::ChunkError::Inflated { most: chunk::MOST_OF_REVISION };
                return Err(damaged(&self.revision_name(header.number))(inflated.into()));
            }
            read.insert(chunk.digest.clone(), chunk);
        }
        Ok(read)
    }

    /// A chunk that is what its digest says; `None` where it is missing.
    async fn chunk(&self, digest: &str) -> Result<Option<Arc<Chunk>>, EngineError> {
        if let Some(chunk) = self.chunks.lock().await.get(digest) {
            return Ok(Some(Arc::clone(chunk)));
        }
        let name = self.chunk_name(digest);
        let secret = match self.get(&name).await {
            Ok(secret) => secret,
            // The revision says which chunk it lacks.
            Err(error) if error.is_absent() => return Ok(None),
            Err(error) => return Err(EngineError::request("read", format!("Secret {name}"))(error)),
        };
        let bytes = bytes_of(&secret, "chunk").map_err(damaged(&name))?;
        let chunk = Chunk::decompress(digest, &bytes).map_err(StoredError::from).map_err(damaged(&name))?;
        let chunk = Arc::new(chunk);
        self.chunks.lock().await.insert(digest.to_owned(), Arc::clone(&chunk));
        Ok(Some(chunk))
    }
}

/// The desired state of a revision, and the digest of what was found.
fn unpacked_state(
    header: &Header,
    chunks: &BTreeMap<String, Arc<Chunk>>,
) -> Result<(Desired, String), chunk::ChunkError> {
    let (objects, lines): (Vec<_>, Vec<_>) = chunk::unpack(&header.chunks, chunks)?.into_iter().unzip();
    let desired = Desired {
        installation: header.installation.clone(),
        naming: header.naming,
        components: header.components.clone(),
        options: header.options.clone(),
        given: header.given.clone(),
        objects,
    };
    let found = revision::digest_with(&desired, lines.into_iter());
    Ok((desired, found))
}

/// The revisions that a record keeps copies of: none where they cannot be read, for each has a Secret of its own.
fn copies(record: &Value) -> Vec<Header> {
    // One that an earlier version wrote has none.
    decompressed(record, COPIES).unwrap_or_default()
}

fn damaged(name: &str) -> impl FnOnce(StoredError) -> EngineError {
    let what = format!("Secret {name}");
    move |source| EngineError::Stored { what, source }
}

/// Nothing, and a warning, in place of what is missing or damaged.
fn unsound<T>(error: EngineError) -> Result<Option<T>, EngineError> {
    match error {
        EngineError::Stored { .. } | EngineError::NoSuchRevision { .. } => {
            tracing::warn!(error = %one_line(&error), "a revision cannot be read; continuing without it");
            Ok(None)
        }
        error => Err(error),
    }
}

fn bytes_of(secret: &Value, key: &'static str) -> Result<Vec<u8>, StoredError> {
    let text = secret["data"][key].as_str().ok_or(StoredError::NoData(key))?;
    Ok(STANDARD.decode(text)?)
}

fn json_of<T: DeserializeOwned>(secret: &Value, key: &'static str) -> Result<T, StoredError> {
    Ok(serde_json::from_slice(&bytes_of(secret, key)?)?)
}

fn decompressed<T: DeserializeOwned>(secret: &Value, key: &'static str) -> Result<T, StoredError> {
    unpacked(&bytes_of(secret, key)?)
}

fn unpacked<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, StoredError> {
    Ok(serde_json::from_slice(&chunk::decompressed(bytes)?)?)
}

fn compressed<T: Serialize>(value: &T) -> Result<Vec<u8>, StoredError> {
    Ok(zstd::encode_all(serde_json::to_vec(value)?.as_slice(), 19)?)
}

/// Parses `Deployment.apps` and `Namespace`.
fn group_kind(text: &str) -> Option<GroupKind> {
    let (kind, group) = text.split_once('.').unwrap_or((text, ""));
    (!kind.is_empty()).then(|| GroupKind { group: group.to_owned(), kind: kind.to_owned() })
}
