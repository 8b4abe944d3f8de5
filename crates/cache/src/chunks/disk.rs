//! The disk tier: a file a chunk, written once, until the room is used up.
//!
//! Epochs read all rows again and again. What is written stays: driving chunks out in the order in which they came, as
//! caches on disks do, would meet none of them again where the data is larger than the disk, and would write all of it
//! in each epoch. Nothing depends on this tier: what fails here is read from the source, and it is turned off.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use memmap2::MmapMut;
use tokio::sync::Semaphore;

use super::{Chunk, Key, file};
use crate::config;
use crate::plan::PlanId;

/// What folders of plans begin with; other files in the folder are not ours.
const PREFIX: &str = "plan-";

/// The file that a process holds while it uses the folder.
const LOCK: &str = "in-use";

/// Ending of a chunk's file, and of one that is being written.
const WHOLE: &str = "chunk";
const PARTIAL: &str = "part";

/// The folder of a process, which no other uses meanwhile.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    limit: u64,
    /// Locked for as long as it is open.
    _lock: fs::File,
}

impl Folder {
    /// Takes a folder into use.
    pub fn open(disk: &config::Disk) -> io::Result<Self> {
        fs::create_dir_all(&disk.folder)?;
        let lock = fs::File::create(disk.folder.join(LOCK))?;
        rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive).map_err(|_| {
            io::Error::other("another process uses it; each worker needs a folder of its own")
        })?;
        let limit = if let Some(bytes) = disk.bytes {
            bytes
        } else {
            let volume = rustix::fs::statvfs(&disk.folder)?;
            (volume.f_bavail * volume.f_frsize + taken(&disk.folder)?) / 10 * 8
        };
        Ok(Self { path: disk.folder.clone(), limit, _lock: lock })
    }

    /// Removes the chunks of other plans: nobody asks for them again.
    fn keep_only(&self, kept: &str) -> io::Result<()> {
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            let name = entry.file_name();
            let Some(name) = name.to_str().filter(|name| name.starts_with(PREFIX) && *name != kept) else {
                continue;
            };
            tracing::info!(folder = name, "removing the chunks of another plan from the disk");
            fs::remove_dir_all(entry.path())?;
        }
        Ok(())
    }
}

/// Bytes that chunks of earlier processes have.
fn taken(folder: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() && entry.file_name().to_string_lossy().starts_with(PREFIX) {
            for file in fs::read_dir(entry.path())? {
                bytes += file?.metadata()?.len();
            }
        }
    }
    Ok(bytes)
}

/// What chunks a disk has depends on more than the plan: their rows, and how these are cut into messages.
#[derive(Clone, Copy, Debug)]
pub(super) struct Form {
    pub(super) plan: PlanId,
    pub(super) chunk_bytes: u64,
    pub(super) message_bytes: usize,
}

/// The chunks of one plan on the disk.
#[derive(Debug)]
pub(super) struct Disk {
    folder: Arc<Folder>,
    path: PathBuf,
    /// Those that are there, with their bytes.
    there: Mutex<HashMap<Key, u64>>,
    /// Those that are being written.
    writing: Mutex<HashSet<Key>>,
    used: AtomicU64,
    chunk_bytes: u64,
    /// Writes in progress, by bytes; whoever finds no room goes without.
    room: Semaphore,
    buffers: usize,
    off: AtomicBool,
    reason: Mutex<Option<String>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Disk {
    /// Finds what an earlier process left of the same plan. Chunks that are written take so many bytes of memory at most.
    pub(super) fn open(folder: Arc<Folder>, form: Form, buffers: u64) -> io::Result<Self> {
        let name = format!("{PREFIX}{}-{}-{}", form.plan, form.chunk_bytes, form.message_bytes);
        folder.keep_only(&name)?;
        let path = folder.path.join(name);
        fs::create_dir_all(&path)?;
        let mut there = HashMap::new();
        for entry in fs::read_dir(&path)? {
            let entry = entry?;
            match key(&entry.path()) {
                Some(key) => {
                    there.insert(key, entry.metadata()?.len());
                }
                // What was being written when the process before ended.
                None => fs::remove_file(entry.path())?,
            }
        }
        let used = there.values().sum();
        if used > 0 {
            tracing::info!(chunks = there.len(), bytes = used, "found chunks of this plan on the disk");
        }
        // One chunk at least, and a chunk may be somewhat larger than that.
        let buffers = usize::try_from(buffers.max(form.chunk_bytes * 2)).unwrap_or(usize::MAX);
        let buffers = buffers.min(Semaphore::MAX_PERMITS);
        Ok(Self {
            folder,
            path,
            there: Mutex::new(there),
            writing: Mutex::default(),
            used: AtomicU64::new(used),
            chunk_bytes: form.chunk_bytes,
            room: Semaphore::new(buffers),
            buffers,
            off: AtomicBool::new(false),
            reason: Mutex::default(),
        })
    }

    /// Bytes of the chunks that are there.
    pub(super) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// Bytes that wait to be written.
    pub(super) fn reserved(&self) -> u64 {
        self.buffers.saturating_sub(self.room.available_permits()) as u64
    }

    /// Why nothing is written any more.
    pub(super) fn reason(&self) -> Option<String> {
        locked(&self.reason).clone()
    }

    /// Whether nothing more is written: the room is used up, or the disk is off.
    pub(super) fn is_full(&self) -> bool {
        self.off.load(Ordering::Relaxed) || self.used() + self.chunk_bytes > self.folder.limit
    }

    /// Whether the chunk is there.
    pub(super) fn has(&self, key: Key) -> bool {
        locked(&self.there).contains_key(&key)
    }

    /// A chunk, where it is there and whole.
    pub(super) async fn read(self: &Arc<Self>, key: Key) -> Option<Chunk> {
        if !self.has(key) {
            return None;
        }
        let path = self.file(key, WHOLE);
        let read = tokio::task::spawn_blocking(move || pages(&path)).await.ok()?;
        match read {
            Ok(bytes) => {
                let chunk = file::read(&bytes);
                if chunk.is_some() {
                    return chunk;
                }
                tracing::warn!(unit = key.0, chunk = key.1, "a chunk on the disk is damaged");
            }
            Err(error) => self.turn_off("read from", &error),
        }
        self.forget(key);
        None
    }

    /// Writes a chunk behind whoever read it, where there is room for it.
    pub(super) fn write(self: &Arc<Self>, key: Key, chunk: &Arc<Chunk>) {
        let bytes = chunk.size() as u64;
        let is_over = self.used() + bytes > self.folder.limit;
        if is_over || self.off.load(Ordering::Relaxed) || self.has(key) || !locked(&self.writing).insert(key)
        {
            return;
        }
        // A disk that is slower than the source holds nobody up.
        let Ok(permits) = u32::try_from(bytes) else { return };
        let disk = Arc::clone(self);
        let chunk = Arc::clone(chunk);
        if disk.room.try_acquire_many(permits).map(tokio::sync::SemaphorePermit::forget).is_err() {
            locked(&self.writing).remove(&key);
            return;
        }
        tokio::task::spawn_blocking(move || {
            match disk.save(key, &file::write(&chunk)) {
                Ok(bytes) => {
                    disk.used.fetch_add(bytes, Ordering::Relaxed);
                    locked(&disk.there).insert(key, bytes);
                }
                Err(error) => disk.turn_off("write to", &error),
            }
            locked(&disk.writing).remove(&key);
            disk.room.add_permits(usize::try_from(permits).unwrap_or(0));
        });
    }

    /// A file has its name only when it is whole. It is not brought to the disk by force: after a loss of power its
    /// checksum tells.
    fn save(&self, key: Key, bytes: &[u8]) -> io::Result<u64> {
        let partial = self.file(key, PARTIAL);
        let saved = fs::write(&partial, bytes).and_then(|()| fs::rename(&partial, self.file(key, WHOLE)));
        if let Err(error) = saved {
            // It may not even be there.
            let _ = fs::remove_file(&partial);
            return Err(error);
        }
        Ok(bytes.len() as u64)
    }

    /// Removes all chunks.
    pub(super) async fn clear(self: &Arc<Self>) {
        let disk = Arc::clone(self);
        let removed = tokio::task::spawn_blocking(move || {
            let keys: Vec<Key> = locked(&disk.there).keys().copied().collect();
            for key in keys {
                disk.forget(key);
            }
        });
        // A runtime that ends has no use for chunks either.
        let _ = removed.await;
    }

    fn forget(&self, key: Key) {
        if let Some(bytes) = locked(&self.there).remove(&key) {
            self.used.fetch_sub(bytes, Ordering::Relaxed);
            // It may be gone already.
            let _ = fs::remove_file(self.file(key, WHOLE));
        }
    }

    /// Said once; what is there is read as long as it can be.
    fn turn_off(&self, what: &str, error: &io::Error) {
        let text = format!("failed to {what} {}: {error}", self.path.display());
        if !self.off.swap(true, Ordering::Relaxed) {
            tracing::warn!("{text}; nothing more is kept on the disk");
            *locked(&self.reason) = Some(text);
        }
    }

    fn file(&self, (unit, number): Key, ending: &str) -> PathBuf {
        self.path.join(format!("{unit}-{number}.{ending}"))
    }
}

/// A file's bytes, in memory that the system has back with them.
fn pages(path: &Path) -> io::Result<Bytes> {
    let mut file = fs::File::open(path)?;
    let length = usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
    // Nothing cannot be mapped.
    let mut pages = MmapMut::map_anon(length.max(1))?;
    let read = pages.get_mut(..length).ok_or(io::ErrorKind::UnexpectedEof)?;
    file.read_exact(read)?;
    Ok(Bytes::from_owner(pages).slice(..length))
}

/// The chunk that a file is of.
fn key(path: &Path) -> Option<Key> {
    if path.extension()? != WHOLE {
        return None;
    }
    let (unit, number) = path.file_stem()?.to_str()?.split_once('-')?;
    Some((unit.parse().ok()?, number.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Frame;

    fn chunk(bytes: usize) -> Arc<Chunk> {
        let frame = Frame::from_parts(Bytes::from_static(b"head"), vec![b'x'; bytes].into(), 9);
        Arc::new(Chunk { frames: vec![frame] })
    }

    fn form(plan: u8) -> Form {
        Form { plan: PlanId::from_bytes(&[plan; 16]).unwrap(), chunk_bytes: 1 << 20, message_bytes: 1 << 20 }
    }

    fn folder(path: &Path, bytes: u64) -> io::Result<Arc<Folder>> {
        Folder::open(&config::Disk { folder: path.to_owned(), bytes: Some(bytes) }).map(Arc::new)
    }

    async fn settled(disk: &Arc<Disk>) {
        while !locked(&disk.writing).is_empty() {
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
    }

    #[tokio::test]
    async fn chunks_stay_over_a_restart_and_go_with_their_plan() {
        let root = tempfile::tempdir().unwrap();
        let disk = Arc::new(Disk::open(folder(root.path(), 10_000).unwrap(), form(1), 0).unwrap());
        for number in 0..20 {
            disk.write((3, number), &chunk(900));
            settled(&disk).await;
        }
        let many = u64::try_from(locked(&disk.there).len()).unwrap();
        assert!((8..=10).contains(&many) && disk.used() <= 11_000, "{many} chunks, {} bytes", disk.used());
        assert_eq!(disk.read((3, 0)).await.unwrap().size(), 904);
        assert!(disk.read((3, 19)).await.is_none(), "the room was used up");
        let path = disk.path.clone();
        fs::write(path.join("4-4.part"), "half").unwrap();
        fs::write(path.join("3-1.chunk"), "damaged").unwrap();
        fs::write(root.path().join("notes"), "somebody else's").unwrap();
        assert!(folder(root.path(), 10_000).is_err(), "it is in use");
        drop(disk);
        let again = Arc::new(Disk::open(folder(root.path(), 10_000).unwrap(), form(1), 0).unwrap());
        assert!(again.read((3, 0)).await.is_some());
        assert!(again.read((3, 1)).await.is_none() && !again.has((3, 1)));
        assert!(!path.join("4-4.part").exists());
        assert_eq!(again.reason(), None);
        drop(again);
        let other = Disk::open(folder(root.path(), 10_000).unwrap(), form(2), 0).unwrap();
        assert_eq!((other.used(), path.exists()), (0, false));
        assert!(root.path().join("notes").exists());
    }

    #[tokio::test]
    async fn a_disk_that_fails_is_turned_off_and_says_why() {
        let root = tempfile::tempdir().unwrap();
        let disk = Arc::new(Disk::open(folder(root.path(), 1 << 20).unwrap(), form(1), 0).unwrap());
        fs::remove_dir_all(&disk.path).unwrap();
        disk.write((0, 0), &chunk(100));
        settled(&disk).await;
        assert!(disk.reason().unwrap().contains("No such file"), "{:?}", disk.reason());
        fs::create_dir_all(&disk.path).unwrap();
        disk.write((0, 1), &chunk(100));
        settled(&disk).await;
        assert!(!disk.has((0, 1)), "it is off");
    }
}
