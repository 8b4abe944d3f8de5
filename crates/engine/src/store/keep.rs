//! Which revisions and chunks are kept: storing, trimming and erasing them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::stream::{self, StreamExt, TryStreamExt};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use trainerd_cluster::{DeleteParams, ListParams, RequestError, builtin};
use trainerd_plan::applyset;
use trainerd_plan::desired::Desired;

use super::{CHUNKS, QUIETLY, RECORD, Store, Stored, bytes_of, compressed, damaged, unpacked, unsound};
use crate::chunk::{self, Chunk, ChunkError, ChunkUse, Fresh};
use crate::error::EngineError;
use crate::observe::IN_FLIGHT;
use crate::retry::{fenced, patiently};
use crate::revision::{self, Header};

/// How often something that is in the way of a write is deleted before the write is given up.
const REPLACEMENTS: usize = 3;

/// A Secret of ours.
pub(super) struct OwnedSecret {
    pub(super) name: String,
    pub(super) uid: String,
    /// What it holds: `record`, `revision`, `chunk`.
    what: String,
    /// Names of its chunks, where it says so.
    chunks: Option<BTreeSet<String>>,
    /// As it was listed: the whole Secret, or its metadata.
    pub(super) object: Value,
}

impl OwnedSecret {
    /// Whether it holds that.
    pub(super) fn is(&self, what: &str) -> bool {
        self.what == what
    }

    fn of(item: Value) -> Self {
        let metadata = &item["metadata"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let chunks = metadata["annotations"][CHUNKS].as_str();
        Self {
            name: text(&metadata["name"]),
            uid: text(&metadata["uid"]),
            what: text(&metadata["labels"][RECORD]),
            chunks: chunks
                .map(|names| names.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect()),
            object: item,
        }
    }
}

/// The objects of a desired state as they will be stored.
#[derive(Clone, Debug)]
pub(crate) struct Package {
    /// Digest of the desired state.
    pub(crate) digest: String,
    uses: Vec<ChunkUse>,
    fresh: Vec<Fresh>,
}

impl Package {
    fn of(desired: &Desired, parent: &[Arc<Chunk>]) -> Result<Self, ChunkError> {
        let lines = revision::lines(desired);
        let digest = revision::digest_with(desired, lines.iter().map(String::as_str));
        let (uses, fresh) = chunk::pack(lines, parent)?;
        Ok(Self { digest, uses, fresh })
    }
}

/// A package in the making.
pub(crate) struct Packing(JoinHandle<Result<Package, ChunkError>>);

impl Packing {
    /// Waits for it.
    pub(crate) async fn done(self) -> Result<Package, EngineError> {
        // It neither panics nor is aborted; a runtime that goes down takes us with it.
        let packed = self.0.await.map_err(std::io::Error::other).map_err(ChunkError::from);
        packed.flatten().map_err(EngineError::Packing)
    }
}

impl Store {
    /// The numbers of the revisions that exist, ascending.
    pub(crate) async fn numbers(&self) -> Result<Vec<u64>, EngineError> {
        Ok(self.numbered(&self.listed("=revision").await?).into_keys().collect())
    }

    /// What is missing of each revision that is kept, by number: the names of its own Secret and of its chunks.
    pub(crate) async fn missing(&self) -> Result<BTreeMap<u64, Vec<String>>, EngineError> {
        let kept = self.listed(" in (chunk,revision)").await?;
        let there: BTreeSet<&str> = kept.iter().map(|kept| kept.name.as_str()).collect();
        let mut missing = BTreeMap::new();
        for header in self.known_headers() {
            let chunks = header.chunks.iter().map(|used| self.chunk_name(&used.digest));
            let names = [self.revision_name(header.number)].into_iter().chain(chunks);
            let gone: Vec<String> = names.filter(|name| !there.contains(name.as_str())).collect();
            if !gone.is_empty() {
                missing.insert(header.number, gone);
            }
        }
        Ok(missing)
    }

    /// Revisions by number.
    pub(super) fn numbered<'k>(&self, kept: &'k [OwnedSecret]) -> BTreeMap<u64, &'k OwnedSecret> {
        let prefix = format!("trainerd-{}-r", self.installation.name);
        kept.iter()
            .filter(|kept| kept.what == "revision")
            .filter_map(|kept| Some((kept.name.strip_prefix(&prefix)?.parse().ok()?, kept)))
            .collect()
    }

    /// The metadata of our Secrets whose label matches, for example `=chunk` or ` in (chunk,revision)`.
    async fn listed(&self, matching: &str) -> Result<Vec<OwnedSecret>, EngineError> {
        Ok(self.list(matching, true).await?.0)
    }

    /// Our Secrets whose label matches, whole; and the resourceVersion of the list.
    pub(super) async fn kept(&self, matching: &str) -> Result<(Vec<OwnedSecret>, String), EngineError> {
        self.list(matching, false).await
    }

    async fn list(
        &self,
        matching: &str,
        metadata_only: bool,
    ) -> Result<(Vec<OwnedSecret>, String), EngineError> {
        let params = ListParams {
            namespace: Some(self.namespace().to_owned()),
            label_selector: Some(format!(
                "{}={},{RECORD}{matching}",
                applyset::INSTALLATION,
                self.installation.name
            )),
            metadata_only,
            ..ListParams::default()
        };
        match patiently(async || self.cluster.list(&builtin::secret(), &params).await).await {
            Ok(list) => Ok((list.items.into_iter().map(OwnedSecret::of).collect(), list.resource_version)),
            Err(error) if error.is_absent() => Ok(Default::default()),
            Err(error) => Err(EngineError::request("list", "trainerd's own Secrets")(error)),
        }
    }

    /// Packs a desired state, sharing what it has in common with a revision. One that cannot be read costs only
    /// space: what it shares is stored again. The work is done aside, while others wait for the API server.
    pub(crate) async fn packing(
        &self,
        parent: Option<u64>,
        desired: Arc<Desired>,
    ) -> Result<Packing, EngineError> {
        let parent = match parent {
            Some(number) => self.shareable(number).await?,
            None => Vec::new(),
        };
        Ok(Packing(tokio::task::spawn_blocking(move || Package::of(&desired, &parent))))
    }

    /// Stores a revision with its objects; what already exists of it is not written again, and what is damaged of
    /// it is replaced. Its chunks go first, so a header never names a chunk that does not exist.
    ///
    /// A different revision of the same number is replaced: the caller knows that no journal names it.
    pub(crate) async fn save(&self, header: Header, package: Package) -> Result<(), EngineError> {
        let name = self.revision_name(header.number);
        for Fresh { chunk, bytes } in package.fresh {
            let sound = |found: &[u8]| Chunk::decompress(&chunk.digest, found).is_ok();
            let manifest = self.manifest(&self.chunk_name(&chunk.digest), "chunk", &bytes);
            self.create(manifest, "chunk", sound).await?;
            self.chunks.lock().await.insert(chunk.digest.clone(), Arc::new(chunk));
        }
        let header = Header { digest: package.digest, chunks: package.uses, ..header };
        let bytes = compressed(&header).map_err(damaged(&name))?;
        let mut manifest = self.manifest(&name, "revision", &bytes);
        let names: Vec<String> = header.chunks.iter().map(|used| self.chunk_name(&used.digest)).collect();
        manifest["metadata"]["annotations"] = json!({CHUNKS: names.join(",")});
        // An interrupted run that wanted the same may have left it, at another time and by another command.
        let same = |found: &[u8]| {
            unpacked::<Header>(found).is_ok_and(|found| {
                let (created, by, asked_by) = (header.created, header.by.clone(), header.asked_by.clone());
                Header { created, by, asked_by, ..found } == header
            })
        };
        self.create(manifest, "revision", same).await?;
        self.headers().insert(header.number, header);
        Ok(())
    }

    /// The sound chunks of a revision.
    async fn shareable(&self, number: u64) -> Result<Vec<Arc<Chunk>>, EngineError> {
        let header = self.header(number).await.map(Some).or_else(unsound)?;
        let used = header.into_iter().flat_map(|header| header.chunks);
        // In their order, so that the same revision is packed the same way again.
        let chunks: Vec<Option<Arc<Chunk>>> = stream::iter(used)
            .map(|used| async move { self.chunk(&used.digest).await.or_else(unsound) })
            .buffered(IN_FLIGHT)
            .try_collect()
            .await?;
        Ok(chunks.into_iter().flatten().collect())
    }

    pub(super) fn manifest(&self, name: &str, what: &str, bytes: &[u8]) -> Value {
        json!({
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
        })
    }

    /// Creates a Secret. One of that name that is there stays if its content is `sound`: it is our own, and
    /// only its answer was lost, or an interrupted run left it. Otherwise it is replaced.
    async fn create(
        &self,
        manifest: Value,
        key: &'static str,
        sound: impl Fn(&[u8]) -> bool,
    ) -> Result<(), EngineError> {
        let name = manifest["metadata"]["name"].as_str().unwrap_or_default();
        let failed = || EngineError::request("write", format!("Secret {name}"));
        let fence = self.fence();
        let create = async || self.cluster.create(&builtin::secret(), &manifest, QUIETLY).await;
        let mut replacements = 0;
        loop {
            let error = match fenced(fence.as_ref(), create).await {
                Ok(created) => return Ok(created.map(drop)?),
                Err(error @ RequestError::AlreadyExists { .. }) if replacements < REPLACEMENTS => error,
                Err(error) => return Err(failed()(error)),
            };
            let found = match self.get(name).await {
                Ok(found) => found,
                Err(gone) if gone.is_absent() => {
                    replacements += 1;
                    continue;
                }
                Err(error) => return Err(failed()(error)),
            };
            if bytes_of(&found, key).is_ok_and(|bytes| sound(&bytes)) {
                return Ok(());
            }
            // Only what is ours may go; anything else that has the name stands against us.
            if found["metadata"]["labels"][RECORD] != manifest["metadata"]["labels"][RECORD] {
                return Err(failed()(error));
            }
            tracing::warn!(secret = name, "damaged, or left by an interrupted run; replacing it");
            self.delete(name, found["metadata"]["uid"].as_str().unwrap_or_default()).await?;
            replacements += 1;
        }
    }

    /// Keeps the revisions named and those that are newer than all of them, and deletes the others and every chunk that
    /// none of the kept ones uses. Returns the numbers that went.
    ///
    /// One list and the deletes: a revision's chunks are in its metadata.
    pub(crate) async fn trim(&self, needed: &BTreeSet<u64>) -> Result<Vec<u64>, EngineError> {
        let kept = self.listed(" in (chunk,revision)").await?;
        let revisions = self.numbered(&kept);
        // One that is newer was stored by somebody who has not begun it yet.
        let newest = needed.last().copied().unwrap_or_default();
        let gone: Vec<u64> =
            revisions.keys().copied().filter(|n| *n < newest && !needed.contains(n)).collect();
        if gone.is_empty() {
            return Ok(gone);
        }
        let staying: BTreeSet<u64> =
            revisions.keys().chain(needed).copied().filter(|n| !gone.contains(n)).collect();
        let mut used = BTreeSet::new();
        for number in staying {
            if let Some(chunks) = revisions.get(&number).and_then(|revision| revision.chunks.as_ref()) {
                used.extend(chunks.iter().cloned());
            } else {
                // Somebody took its annotation or its labels away: it is read by its name all the same. What
                // cannot be read needs no chunks either.
                let header = self.header(number).await.map(Some).or_else(unsound)?;
                let chunks = header.into_iter().flat_map(|header| header.chunks);
                used.extend(chunks.map(|used| self.chunk_name(&used.digest)));
            }
        }
        // Revisions first: a chunk without a revision is swept later, a revision without its chunk is damage.
        self.delete_all(revisions.iter().filter(|(number, _)| gone.contains(number)).map(|(_, r)| *r))
            .await?;
        self.delete_all(kept.iter().filter(|kept| kept.what == "chunk" && !used.contains(&kept.name)))
            .await?;
        self.headers().retain(|number, _| !gone.contains(number));
        Ok(gone)
    }

    /// Deletes everything that is stored of the installation.
    ///
    /// `stored` is the record of a removal whose plan is done. It first releases its revisions and keeps its
    /// journal, then they go, then the record: whoever comes after a kill in between finds a removal in progress
    /// that needs no revision.
    pub(crate) async fn erase(&self, stored: &Stored) -> Result<(), EngineError> {
        if stored.version.is_some() && stored.record.current.is_some() {
            let mut letting_go = stored.clone();
            letting_go.record.current = None;
            self.write(&letting_go).await?;
        }
        self.headers().clear();
        let kept = self.listed("").await?;
        // The notes last: a daemon that is paused is so until there is nothing left for it to keep.
        for what in ["revision", "chunk", "record", "paused", "ruler"] {
            self.delete_all(kept.iter().filter(|kept| kept.what == what)).await?;
        }
        Ok(())
    }

    async fn delete_all(&self, kept: impl Iterator<Item = &OwnedSecret>) -> Result<(), EngineError> {
        stream::iter(kept)
            .map(|kept| self.delete(&kept.name, &kept.uid))
            .buffer_unordered(IN_FLIGHT)
            .try_collect()
            .await
    }

    async fn delete(&self, name: &str, uid: &str) -> Result<(), EngineError> {
        let params = DeleteParams { uid: Some(uid.to_owned()), ..DeleteParams::default() };
        let fence = self.fence();
        let delete =
            async || self.cluster.delete(&builtin::secret(), Some(self.namespace()), name, &params).await;
        match fenced(fence.as_ref(), delete).await {
            Ok(deleted) => Ok(deleted.map(drop)?),
            Err(error) if error.is_absent() => Ok(()),
            Err(error) => Err(EngineError::request("delete", format!("Secret {name}"))(error)),
        }
    }
}
