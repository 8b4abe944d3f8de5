//! A file that is being brought: its bytes so far, and which of them are right.
//!
//! The file has its full length from the beginning. A journal beside it has a line for each part that was written,
//! with a checksum: what is not in the journal, or does not have the checksum, is brought again. A process may thus be
//! killed at any instant, and a machine may lose power: nothing is taken for there that is not.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{IoSlice, Write as _};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::source::Remote;
use crate::target::Target;

/// Bytes that are read at a time.
const BLOCK: usize = 1 << 20;

/// Bytes that are brought to the disk at a time, at least: each time costs the file system a commit.
const FLUSHED: u64 = 16 << 20;

/// The first line of a journal: which content its parts are of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Header {
    path: String,
    size: u64,
    version: String,
    part_bytes: u64,
}

/// An open partial file.
#[derive(Debug)]
pub struct Partial {
    file: File,
    path: PathBuf,
    journal_path: PathBuf,
    journal: Mutex<Option<File>>,
    /// Bytes that may not be on the disk yet.
    unflushed: AtomicU64,
    flushing: Mutex<()>,
    size: Option<u64>,
    part_bytes: u64,
    whole: BTreeMap<u64, u32>,
}

impl Partial {
    /// Opens what there is of a file, or begins anew. Reads all of what there is: call it where blocking is allowed.
    pub fn open(target: &Target, remote: &Remote, part_bytes: u64) -> Result<Self, Error> {
        let path = target.about(&remote.name, "part");
        let journal_path = target.about(&remote.name, "parts");
        let part_bytes = match remote.size {
            Some(size) if !remote.ranged => size.max(1),
            None => u64::MAX,
            Some(_) => part_bytes,
        };
        let header = match (&remote.version, remote.size) {
            (Some(version), Some(size)) if remote.ranged => Some(Header {
                path: remote.name.as_str().to_owned(),
                size,
                version: version.clone(),
                part_bytes,
            }),
            _ => None,
        };
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let file = file.map_err(Error::disk("write to", &path))?;
        let mut partial = Self {
            file,
            path,
            journal_path,
            journal: Mutex::default(),
            unflushed: AtomicU64::default(),
            flushing: Mutex::default(),
            size: remote.size,
            part_bytes,
            whole: BTreeMap::new(),
        };
        let Some(header) = header else {
            partial.restart()?;
            return Ok(partial);
        };
        let text = std::fs::read_to_string(&partial.journal_path).unwrap_or_default();
        match parts(&text, &header) {
            Some(written) => partial.keep(&written)?,
            None => partial.restart()?,
        }
        partial.begin(&header)?;
        Ok(partial)
    }

    /// Keeps the parts whose bytes are right.
    fn keep(&mut self, written: &BTreeMap<u64, u32>) -> Result<(), Error> {
        let length = self.file.metadata().map_err(Error::disk("look at", &self.path))?.len();
        for (&part, &checksum) in written {
            let range = self.range(part);
            if range.start < range.end && range.end <= length && self.checksum(range)? == checksum {
                self.whole.insert(part, checksum);
            }
        }
        if let Some(size) = self.size {
            self.file.set_len(size).map_err(Error::disk("write to", &self.path))?;
        }
        Ok(())
    }

    fn checksum(&self, range: Range<u64>) -> Result<u32, Error> {
        let mut hasher = crc32fast::Hasher::new();
        let mut block = vec![0; BLOCK];
        let mut at = range.start;
        while at < range.end {
            let wanted = usize::try_from(range.end - at).unwrap_or(BLOCK).min(BLOCK);
            self.file.read_exact_at(&mut block[..wanted], at).map_err(Error::disk("read", &self.path))?;
            hasher.update(&block[..wanted]);
            at += wanted as u64;
        }
        Ok(hasher.finalize())
    }

    /// Forgets all that there is.
    pub fn restart(&mut self) -> Result<(), Error> {
        self.whole.clear();
        *self.journal.get_mut().unwrap_or_else(PoisonError::into_inner) = None;
        match std::fs::remove_file(&self.journal_path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::disk("remove", &self.journal_path)(error));
            }
            _ => {}
        }
        let resized = self.file.set_len(0).and_then(|()| self.file.set_len(self.size.unwrap_or(0)));
        resized.map_err(Error::disk("write to", &self.path))
    }

    /// Writes a journal of what is right so far, and keeps it open.
    fn begin(&mut self, header: &Header) -> Result<(), Error> {
        let mut text = serde_json::to_string(header).unwrap_or_default();
        text.push('\n');
        for (part, checksum) in &self.whole {
            text.push_str(&line(*part, *checksum));
        }
        crate::target::write_whole(&self.journal_path, text.as_bytes())?;
        let journal = OpenOptions::new().append(true).open(&self.journal_path);
        let journal = journal.map_err(Error::disk("write to", &self.journal_path))?;
        *self.journal.get_mut().unwrap_or_else(PoisonError::into_inner) = Some(journal);
        Ok(())
    }

    /// The bytes of a part.
    pub fn range(&self, part: u64) -> Range<u64> {
        let size = self.size.unwrap_or(u64::MAX);
        let start = part.saturating_mul(self.part_bytes).min(size);
        start..start.saturating_add(self.part_bytes).min(size)
    }

    /// The parts that are missing.
    pub fn missing(&self) -> Vec<u64> {
        let parts = self.size.map_or(1, |size| size.div_ceil(self.part_bytes));
        (0..parts).filter(|part| !self.whole.contains_key(part)).collect()
    }

    /// Bytes that are there from an earlier attempt.
    pub fn kept(&self) -> u64 {
        self.whole.keys().map(|part| self.range(*part)).map(|range| range.end - range.start).sum()
    }

    /// Writes pieces one behind the other, from a place on.
    pub fn write(&self, pieces: &[Bytes], mut at: u64) -> Result<(), Error> {
        let mut rest: Vec<IoSlice<'_>> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
        let mut rest = rest.as_mut_slice();
        while rest.iter().any(|piece| !piece.is_empty()) {
            let written = match rustix::io::pwritev(&self.file, rest, at) {
                Ok(0) => Err(std::io::ErrorKind::WriteZero.into()),
                Err(rustix::io::Errno::INTR) => continue,
                done => done.map_err(std::io::Error::from),
            };
            let written = written.map_err(Error::disk("write to", &self.path))?;
            at += written as u64;
            self.unflushed.fetch_add(written as u64, Ordering::Relaxed);
            IoSlice::advance_slices(&mut rest, written);
        }
        Ok(())
    }

    /// Brings what was written to the disk while more still comes, so that the disk is never idle and little is left at
    /// the end. One of those who ask does it; the others go on.
    pub fn flush(&self) -> Result<(), Error> {
        if self.unflushed.load(Ordering::Relaxed) < FLUSHED {
            return Ok(());
        }
        let Ok(_turn) = self.flushing.try_lock() else { return Ok(()) };
        self.unflushed.store(0, Ordering::Relaxed);
        self.file.sync_data().map_err(Error::disk("write to", &self.path))
    }

    /// A part is written: from now on it is not brought again.
    pub fn written(&self, part: u64, checksum: u32) -> Result<(), Error> {
        let mut journal = self.journal.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *journal {
            Some(journal) => journal
                .write_all(line(part, checksum).as_bytes())
                .map_err(Error::disk("write to", &self.journal_path)),
            None => Ok(()),
        }
    }

    /// The file, from its beginning.
    pub fn content(&self) -> Result<File, Error> {
        File::open(&self.path).map_err(Error::disk("read", &self.path))
    }

    /// Its path.
    pub fn path(&self) -> &std::path::Path {
        &self.path
    }

    /// The path of its journal.
    pub fn journal(&self) -> &std::path::Path {
        &self.journal_path
    }

    /// Sets the length, where the source told none before its last byte, and brings all to the disk.
    pub fn complete(&self, size: u64) -> Result<std::fs::Metadata, Error> {
        let complete = || {
            self.file.set_len(size)?;
            self.file.sync_all()?;
            self.file.metadata()
        };
        complete().map_err(Error::disk("write to", &self.path))
    }
}

fn line(part: u64, checksum: u32) -> String {
    format!("{part} {checksum:08x}\n")
}

/// The parts of a journal, where it is one of this content. A line that was cut off counts for nothing.
fn parts(text: &str, header: &Header) -> Option<BTreeMap<u64, u32>> {
    let mut lines = text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
    if serde_json::from_str::<Header>(lines.next()?).ok()? != *header {
        return None;
    }
    let read = |line: &str| {
        let (part, checksum) = line.split_once(' ')?;
        if checksum.len() != 8 {
            return None;
        }
        Some((part.parse().ok()?, u32::from_str_radix(checksum, 16).ok()?))
    };
    Some(lines.map_while(read).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::Name;

    fn remote(version: Option<&str>, ranged: bool) -> Remote {
        let name = Name::new("a").unwrap();
        Remote {
            name,
            key: "a".into(),
            size: Some(25),
            version: version.map(str::to_owned),
            digest: None,
            ranged,
        }
    }

    async fn target(folder: &std::path::Path) -> Target {
        Target::open(folder).await.unwrap()
    }

    fn fill(partial: &Partial, part: u64) {
        let range = partial.range(part);
        let bytes = vec![b'x'; usize::try_from(range.end - range.start).unwrap()];
        let (first, rest) = bytes.split_at(bytes.len() / 3);
        let pieces = [first, &[], rest].map(Bytes::copy_from_slice);
        partial.write(&pieces, range.start).unwrap();
        partial.written(part, crc32fast::hash(&bytes)).unwrap();
    }

    #[tokio::test]
    async fn parts_that_were_written_are_kept_and_no_others() {
        let folder = tempfile::tempdir().unwrap();
        let target = target(folder.path()).await;
        let open = |version| Partial::open(&target, &remote(version, true), 10).unwrap();
        let partial = open(Some("1"));
        assert_eq!(partial.missing(), [0, 1, 2]);
        fill(&partial, 0);
        fill(&partial, 2);
        // Written, but not in the journal.
        partial.write(&[Bytes::from_static(b"yyyyyyyyyy")], 10).unwrap();
        assert_eq!(open(Some("1")).missing(), [1]);
        assert_eq!(open(Some("1")).kept(), 15);
        // In the journal, but lost by the disk.
        partial.write(&[Bytes::from_static(b"\0")], 3).unwrap();
        assert_eq!(open(Some("1")).missing(), [0, 1]);
        // Another content.
        assert_eq!(open(Some("2")).missing(), [0, 1, 2]);
        assert_eq!(open(Some("1")).missing(), [0, 1, 2]);
        // Without a version nothing tells one content from another.
        fill(&open(None), 0);
        assert_eq!(open(None).missing(), [0, 1, 2]);
        assert_eq!(Partial::open(&target, &remote(Some("1"), false), 10).unwrap().missing(), [0]);
    }

    #[test]
    fn a_journal_that_was_cut_off_counts_as_far_as_it_goes() {
        let header = Header { path: "a".into(), size: 25, version: "1".into(), part_bytes: 10 };
        let first = serde_json::to_string(&header).unwrap();
        let read = |rest: &str| parts(&format!("{first}\n{rest}"), &header).map(|parts| parts.len());
        assert_eq!(read("0 00000001\n1 00000002\n"), Some(2));
        assert_eq!(read("0 00000001\n1 0000000"), Some(1));
        assert_eq!(read("0 00000001\n1 000\n"), Some(1));
        assert_eq!(parts(&first, &header), None);
        assert_eq!(parts("", &header), None);
    }

    proptest::proptest! {
        #[test]
        fn no_journal_is_too_odd(text in "\\PC{0,80}", rest in "[0-9a-f \\n]{0,60}") {
            let header = Header { path: "a".into(), size: 25, version: "1".into(), part_bytes: 10 };
            parts(&text, &header);
            parts(&format!("{}\n{rest}", serde_json::to_string(&header).unwrap()), &header);
        }
    }
}
