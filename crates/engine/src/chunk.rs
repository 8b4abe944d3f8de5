//! Manifests by content: packed, compressed, and shared between revisions.
//!
//! A chunk is a list of objects, one JSON text a line, compressed with zstd. Its name is the SHA-256 of the
//! text, so a damaged chunk is found by its digest, and two revisions that hold the same objects hold the
//! same chunks. A revision names its chunks and, for each, which of its lines it uses.

use std::collections::{BTreeMap, HashMap};
use std::io::Read as _;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use trainerd_plan::desired::DesiredObject;

/// Compressed bytes a chunk may have: a Secret holds 1 MiB, and its name and labels need room too.
pub const MAX_CHUNK: usize = 900 * 1024;

/// Uncompressed bytes at which a chunk is closed. Manifests compress to a tenth and better; where they do
/// not, the chunk is split by its compressed size.
const TARGET: usize = 4 * 1024 * 1024;

/// Uncompressed bytes that something stored may have. A chunk is closed at 4 MiB, and one object that the API server
/// takes has 3 MiB at most; zstd makes gigabytes of a Secret that somebody means us harm with.
pub(crate) const MOST: usize = 16 * 1024 * 1024;

/// Uncompressed bytes that the chunks of one revision may have together: five times of what is meant to work.
pub(crate) const MOST_OF_REVISION: usize = 256 * 1024 * 1024;

/// Logarithm of the bytes that reading may remember: 16 MiB.
const WINDOW: u32 = 24;

/// Chunks from which on a revision may be scattered over too many: each is a request to read.
const SCATTERED: usize = 8;

/// zstd's default level: higher ones save a few per cent of a few kB.
const LEVEL: i32 = 3;

/// Why a chunk could not be made or read.
#[derive(Debug, thiserror::Error)]
pub enum ChunkError {
    /// zstd refused.
    #[error("failed to compress or decompress")]
    Compression(#[from] std::io::Error),
    /// It decompresses to more than anything of ours.
    #[error("it decompresses to more than {most} bytes")]
    Inflated {
        /// How many are read.
        most: usize,
    },
    /// The content is not what its name says.
    #[error("chunk {digest} is damaged: its content has digest {found}")]
    Damaged {
        /// Digest by name.
        digest: String,
        /// Digest by content.
        found: String,
    },
    /// The content is no list of objects.
    #[error("chunk {digest} contains something other than objects")]
    Content {
        /// Digest by name.
        digest: String,
        /// What the parser says.
        #[source]
        source: serde_json::Error,
    },
    /// A revision names a chunk that is not there.
    #[error("chunk {digest} is missing")]
    Missing {
        /// Its digest.
        digest: String,
    },
    /// A revision names a line that the chunk does not have.
    #[error("chunk {digest} has no line {line}")]
    NoSuchLine {
        /// Digest by name.
        digest: String,
        /// Line, from 0.
        line: usize,
    },
    /// One object alone is larger than a Secret can hold.
    #[error("an object of {bytes} bytes does not fit into a Secret even when compressed")]
    TooLarge {
        /// Compressed size.
        bytes: usize,
    },
}

/// A chunk in memory.
#[derive(Clone, Debug, PartialEq)]
pub struct Chunk {
    /// SHA-256 of the text, hexadecimal.
    pub digest: String,
    /// One JSON text an object.
    pub lines: Vec<String>,
}

/// What a revision uses of a chunk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChunkUse {
    /// Digest of the chunk.
    pub digest: String,
    /// Lines that this revision does not use.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub except: Vec<usize>,
}

/// A chunk that does not exist yet, with its compressed bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct Fresh {
    /// The chunk.
    pub chunk: Chunk,
    /// What is stored of it.
    pub bytes: Vec<u8>,
}

impl Fresh {
    fn of(lines: Vec<String>) -> Result<Self, ChunkError> {
        let text = lines.join("\n");
        let bytes = zstd::encode_all(text.as_bytes(), LEVEL)?;
        let digest = hex::encode(Sha256::digest(text.as_bytes()));
        Ok(Self { chunk: Chunk { digest, lines }, bytes })
    }
}

impl Chunk {
    /// Reads compressed bytes, and believes them only if they are what the digest says.
    pub fn decompress(digest: &str, bytes: &[u8]) -> Result<Self, ChunkError> {
        let text = decompressed(bytes)?;
        let found = hex::encode(Sha256::digest(&text));
        if found != digest {
            return Err(ChunkError::Damaged { digest: digest.to_owned(), found });
        }
        let text = String::from_utf8_lossy(&text);
        Ok(Self { digest: found, lines: text.split('\n').map(str::to_owned).collect() })
    }
}

/// Decompresses bytes, and no more of them than anything of ours has.
pub(crate) fn decompressed(bytes: &[u8]) -> Result<Vec<u8>, ChunkError> {
    let mut text = Vec::new();
    let most = u64::try_from(MOST).unwrap_or(u64::MAX);
    let mut decoder = zstd::Decoder::new(bytes)?;
    // What is remembered while reading is chosen by the writer, up to 128 MiB; ours needs 8.
    decoder.window_log_max(WINDOW)?;
    decoder.take(most.saturating_add(1)).read_to_end(&mut text)?;
    if text.len() > MOST {
        return Err(ChunkError::Inflated { most: MOST });
    }
    Ok(text)
}

/// Packs the lines of objects, using lines of the chunks of the parent revision where they are the same.
///
/// Returns what the revision uses, and the chunks that do not exist yet. A revision that would be scattered
/// over more than eight chunks, twice as many as it needs, is packed again.
pub fn pack(objects: Vec<String>, parent: &[Arc<Chunk>]) -> Result<(Vec<ChunkUse>, Vec<Fresh>), ChunkError> {
    if parent.is_empty() {
        return sharing(objects, parent);
    }
    let shared = sharing(objects.clone(), parent)?;
    if shared.0.len() > SCATTERED {
        let anew = sharing(objects, &[])?;
        if anew.0.len() * 2 < shared.0.len() {
            return Ok(anew);
        }
    }
    Ok(shared)
}

fn sharing(objects: Vec<String>, parent: &[Arc<Chunk>]) -> Result<(Vec<ChunkUse>, Vec<Fresh>), ChunkError> {
    let mut known: HashMap<&str, (usize, usize)> = HashMap::new();
    for (index, chunk) in parent.iter().enumerate() {
        for (line, text) in chunk.lines.iter().enumerate() {
            known.entry(text).or_insert((index, line));
        }
    }
    let mut used: Vec<Vec<bool>> = parent.iter().map(|chunk| vec![false; chunk.lines.len()]).collect();
    let mut fresh = Vec::new();
    for text in objects {
        match known.get(text.as_str()) {
            Some(&(chunk, line)) => used[chunk][line] = true,
            None => fresh.push(text),
        }
    }
    let mut packed: Vec<ChunkUse> = parent
        .iter()
        .zip(&used)
        .filter(|(_, used)| used.contains(&true))
        .map(|(chunk, used)| ChunkUse {
            digest: chunk.digest.clone(),
            except: used.iter().enumerate().filter(|(_, used)| !**used).map(|(line, _)| line).collect(),
        })
        .collect();
    let fresh = split(fresh)?;
    packed.extend(
        fresh.iter().map(|fresh| ChunkUse { digest: fresh.chunk.digest.clone(), except: Vec::new() }),
    );
    Ok((packed, fresh))
}

/// The objects of a revision with their lines, sorted by key as they were packed.
pub fn unpack<'c>(
    uses: &[ChunkUse],
    chunks: &'c BTreeMap<String, Arc<Chunk>>,
) -> Result<Vec<(DesiredObject, &'c str)>, ChunkError> {
    let mut objects: Vec<(DesiredObject, &str)> = Vec::new();
    for used in uses {
        let chunk =
            chunks.get(&used.digest).ok_or_else(|| ChunkError::Missing { digest: used.digest.clone() })?;
        if let Some(&line) = used.except.iter().find(|&&line| line >= chunk.lines.len()) {
            return Err(ChunkError::NoSuchLine { digest: used.digest.clone(), line });
        }
        for (line, text) in chunk.lines.iter().enumerate() {
            if !used.except.contains(&line) {
                let object = serde_json::from_str(text)
                    .map_err(|source| ChunkError::Content { digest: used.digest.clone(), source })?;
                objects.push((object, text));
            }
        }
    }
    objects.sort_by_cached_key(|(object, _)| object.key());
    Ok(objects)
}

fn split(lines: Vec<String>) -> Result<Vec<Fresh>, ChunkError> {
    let mut chunks = Vec::new();
    let mut open = Vec::new();
    let mut size = 0;
    for line in lines {
        if size + line.len() > TARGET && !open.is_empty() {
            close(std::mem::take(&mut open), &mut chunks)?;
            size = 0;
        }
        size += line.len();
        open.push(line);
    }
    if !open.is_empty() {
        close(open, &mut chunks)?;
    }
    Ok(chunks)
}

/// Makes one chunk of the lines, or halves them until each part fits.
fn close(lines: Vec<String>, chunks: &mut Vec<Fresh>) -> Result<(), ChunkError> {
    let fresh = Fresh::of(lines)?;
    let bytes = fresh.bytes.len();
    if bytes <= MAX_CHUNK {
        chunks.push(fresh);
        return Ok(());
    }
    let mut lines = fresh.chunk.lines;
    if lines.len() == 1 {
        return Err(ChunkError::TooLarge { bytes });
    }
    let second = lines.split_off(lines.len() / 2);
    close(lines, chunks)?;
    close(second, chunks)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use trainerd_plan::object::Resource;

    fn object(name: &str, payload: &str) -> DesiredObject {
        DesiredObject {
            component: "test".into(),
            resource: Resource {
                group: String::new(),
                version: "v1".into(),
                kind: "ConfigMap".into(),
                plural: "configmaps".into(),
                namespaced: true,
            },
            manifest: json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "ns"}, "data": {"payload": payload}}),
            after: Vec::new(),
            yielded: Vec::new(),
        }
    }

    fn lines(objects: &[DesiredObject]) -> Vec<String> {
        objects.iter().map(|object| serde_json::to_string(object).unwrap()).collect()
    }

    /// Packs, and forgets the bytes.
    fn packed(objects: &[DesiredObject], parent: &[Arc<Chunk>]) -> (Vec<ChunkUse>, Vec<Arc<Chunk>>) {
        let (uses, fresh) = pack(lines(objects), parent).unwrap();
        (uses, fresh.into_iter().map(|fresh| Arc::new(fresh.chunk)).collect())
    }

    fn unpacked(uses: &[ChunkUse], chunks: &[Arc<Chunk>]) -> Vec<DesiredObject> {
        let chunks = chunks.iter().map(|chunk| (chunk.digest.clone(), Arc::clone(chunk))).collect();
        let objects = unpack(uses, &chunks).unwrap();
        let sent = objects.iter().map(|(object, line)| (serde_json::to_string(object).unwrap(), *line));
        assert!(sent.into_iter().all(|(object, line)| object == line));
        objects.into_iter().map(|(object, _)| object).collect()
    }

    #[test]
    fn chunks_round_trip() {
        let objects: Vec<_> = (0..20).map(|i| object(&format!("a-{i:02}"), "x")).collect();
        let (uses, chunks) = packed(&objects, &[]);
        assert_eq!(chunks.len(), 1);
        assert_eq!(unpacked(&uses, &chunks), objects);
    }

    #[test]
    fn a_changed_value_writes_one_small_chunk() {
        let mut objects: Vec<_> = (0..20).map(|i| object(&format!("a-{i:02}"), "x")).collect();
        let (_, first) = packed(&objects, &[]);
        objects[7] = object("a-07", "y");
        let (uses, second) = packed(&objects, &first);
        assert_eq!(second.len(), 1);
        assert_eq!(second[0].lines.len(), 1);
        assert_eq!(uses[0].except, [7]);
        let all: Vec<_> = first.iter().chain(&second).cloned().collect();
        assert_eq!(unpacked(&uses, &all), objects);
    }

    #[test]
    fn a_fragmented_revision_is_repacked() {
        let mut objects: Vec<_> = (0..20).map(|i| object(&format!("a-{i:02}"), "x")).collect();
        let (_, mut parent) = packed(&objects, &[]);
        let mut most = 0;
        for i in 0..20 {
            objects[i] = object(&format!("a-{i:02}"), "y");
            let (uses, fresh) = packed(&objects, &parent);
            parent.extend(fresh);
            parent.retain(|chunk| uses.iter().any(|used| used.digest == chunk.digest));
            assert_eq!(unpacked(&uses, &parent), objects);
            most = most.max(uses.len());
        }
        assert_eq!(most, 8);
    }

    #[test]
    fn incompressible_data_is_split_below_the_size_limit() {
        // A linear congruential sequence: no structure that zstd finds.
        let mut state = 1_u64;
        let mut noise = || {
            let mut bytes = Vec::new();
            for _ in 0..2000 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                bytes.extend(state.to_be_bytes());
            }
            hex::encode(bytes)
        };
        let objects: Vec<_> = (0..100).map(|i| object(&format!("a-{i:03}"), &noise())).collect();
        let (uses, fresh) = pack(lines(&objects), &[]).unwrap();
        assert!(fresh.len() > 1, "{} chunks", fresh.len());
        for Fresh { chunk, bytes } in &fresh {
            assert!(bytes.len() <= MAX_CHUNK);
            assert_eq!(Chunk::decompress(&chunk.digest, bytes).unwrap(), *chunk);
        }
        let chunks: Vec<_> = fresh.into_iter().map(|fresh| Arc::new(fresh.chunk)).collect();
        assert_eq!(unpacked(&uses, &chunks), objects);
    }

    #[test]
    fn a_damaged_chunk_is_detected_by_its_digest() {
        let (_, chunks) = packed(&[object("a", "x")], &[]);
        let (_, other) = pack(lines(&[object("a", "y")]), &[]).unwrap();
        let bytes = &other[0].bytes;
        assert!(matches!(Chunk::decompress(&chunks[0].digest, bytes), Err(ChunkError::Damaged { .. })));
        assert!(matches!(Chunk::decompress(&chunks[0].digest, b"noise"), Err(ChunkError::Compression(_))));
    }

    #[test]
    fn decompression_is_bounded() {
        let mut bomb = zstd::Encoder::new(Vec::new(), 19).unwrap();
        let zeros = vec![0; 1 << 20];
        for _ in 0..1024 {
            std::io::Write::write_all(&mut bomb, &zeros).unwrap();
        }
        let bomb = bomb.finish().unwrap();
        assert!(bomb.len() < MAX_CHUNK, "{} bytes fit into a Secret", bomb.len());
        let refused = Chunk::decompress("0", &bomb);
        assert!(matches!(refused, Err(ChunkError::Inflated { .. })), "{refused:?}");
        let (_, fresh) = pack(lines(&[object("a", "x")]), &[]).unwrap();
        assert!(decompressed(&fresh[0].bytes).is_ok());
    }
}
