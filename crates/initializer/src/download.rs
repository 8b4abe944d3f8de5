//! Brings files to the target: many parts at a time, each file whole or not at all.

use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use crate::error::Error;
use crate::part::Partial;
use crate::progress::Progress;
use crate::record;
use crate::retry::{self, Attempts};
use crate::source::{Remote, Source};
use crate::target::{Target, sync_folder};

/// Bytes that are written at a time.
const BLOCK: usize = 1 << 20;

/// Pieces that are written at a time: Linux takes 1,024.
const MOST_PIECES: usize = 512;

/// Bytes after which an attempt got on: a connection that is cut after that many is no reason to give up.
const ADVANCE: u64 = 64 << 10;

/// How the content of a file is made sure of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verify {
    /// Its digest, where the source knows one, and its length.
    #[default]
    Full,
    /// Its length.
    Size,
}

/// Bounds of a download.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Requests at a time.
    pub concurrency: usize,
    /// Bytes of a part: what is lost at most where a request's bytes are.
    pub part_bytes: u64,
    /// How content is made sure of.
    pub verify: Verify,
    /// How long a source is waited for that cannot be reached.
    pub patience: Duration,
}

/// A download.
pub struct Download {
    /// Where files come from.
    pub source: Arc<dyn Source>,
    /// The commit of a repository; the hub's own records are left then.
    pub commit: Option<String>,
    /// Where they go.
    pub target: Arc<Target>,
    /// Its bounds.
    pub limits: Limits,
    /// Is told of each byte.
    pub progress: Arc<Progress>,
    turns: Semaphore,
}

impl std::fmt::Debug for Download {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Download").field("limits", &self.limits).finish_non_exhaustive()
    }
}

/// A task that ends with whoever waits for it.
struct Owned<T>(JoinHandle<Result<T, Error>>);

impl<T: Send + 'static> Owned<T> {
    fn spawn(work: impl Future<Output = Result<T, Error>> + Send + 'static) -> Self {
        Self(tokio::spawn(work))
    }

    async fn join(mut self) -> Result<T, Error> {
        (&mut self.0).await.map_err(Error::Task)?
    }
}

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.map_err(Error::Task)?
}

impl Download {
    /// From a source to a target.
    pub fn new(
        source: Arc<dyn Source>,
        commit: Option<String>,
        target: Arc<Target>,
        limits: Limits,
        progress: Arc<Progress>,
    ) -> Arc<Self> {
        let turns = Semaphore::new(limits.concurrency);
        Arc::new(Self { source, commit, target, limits, progress, turns })
    }

    /// Brings the files; those that are there whole are left alone.
    pub async fn run(self: &Arc<Self>, files: Vec<Remote>) -> Result<(), Error> {
        self.progress.expect(files.len() as u64, files.iter().filter_map(|file| file.size).sum());
        let asked = Arc::clone(self);
        let missing = blocking(move || asked.missing(files)).await?;
        futures::stream::iter(missing)
            .map(|file| {
                let download = Arc::clone(self);
                Owned::spawn(async move { download.file(file).await }).join()
            })
            .buffer_unordered(self.limits.concurrency)
            .try_collect()
            .await
    }

    /// The files that are not there; an error where they do not fit.
    fn missing(&self, files: Vec<Remote>) -> Result<Vec<Remote>, Error> {
        let mut missing = Vec::new();
        let mut needed: u64 = 0;
        for file in files {
            if record::is_whole(&self.target, &file) {
                tracing::debug!("{} is there", file.name);
                self.leave_for_hub(&file)?;
                self.progress.bring(file.size.unwrap_or(0));
                self.progress.file_done();
                continue;
            }
            let partial = std::fs::metadata(self.target.about(&file.name, "part"));
            let taken = partial.map_or(0, |metadata| metadata.blocks() * 512);
            needed += file.size.unwrap_or(0).saturating_sub(taken);
            missing.push(file);
        }
        match self.target.free() {
            Some(free) if needed > free => {
                let target = self.target.folder().display().to_string();
                Err(Error::Space { target, needed, free })
            }
            _ => Ok(missing),
        }
    }

    /// Brings one file. Where its bytes are wrong although each of its parts was brought, it is brought once more.
    async fn file(self: Arc<Self>, file: Remote) -> Result<(), Error> {
        self.target.prepare(&file.name)?;
        let file = Arc::new(file);
        let mut is_second = false;
        loop {
            let partial = Arc::new(self.parts(&file).await?);
            let (download, own, remote) = (Arc::clone(&self), Arc::clone(&partial), Arc::clone(&file));
            match blocking(move || download.finish(&remote, &own)).await {
                Err(error @ Error::Digest { .. }) if !is_second => {
                    tracing::warn!("{error}; the file is fetched again");
                    self.progress.take_back(file.size.unwrap_or(0));
                    is_second = true;
                }
                Err(error) => return Err(error),
                Ok(()) => {
                    self.progress.file_done();
                    return Ok(());
                }
            }
        }
    }

    /// Brings the parts of a file that are missing.
    async fn parts(self: &Arc<Self>, file: &Arc<Remote>) -> Result<Partial, Error> {
        let (download, remote) = (Arc::clone(self), Arc::clone(file));
        let part_bytes = self.limits.part_bytes;
        let partial = blocking(move || Partial::open(&download.target, &remote, part_bytes)).await?;
        if partial.kept() > 0 {
            tracing::info!("{} goes on: {} bytes are there", file.name, partial.kept());
            self.progress.bring(partial.kept());
        }
        let missing = partial.missing();
        let partial = Arc::new(partial);
        futures::stream::iter(missing)
            .map(|number| {
                let (download, file, partial) = (Arc::clone(self), Arc::clone(file), Arc::clone(&partial));
                Owned::spawn(async move { download.part(&file, &partial, number).await }).join()
            })
            .buffer_unordered(self.limits.concurrency)
            .try_collect::<()>()
            .await?;
        Arc::into_inner(partial).ok_or_else(|| Error::Answer {
            what: file.name.to_string(),
            why: "a part is still being written".to_owned(),
        })
    }

    async fn part(&self, file: &Remote, partial: &Arc<Partial>, number: u64) -> Result<(), Error> {
        // Nobody closes the semaphore; if it were closed, the part would be brought without a turn.
        let _turn = self.turns.acquire().await;
        let range = partial.range(number);
        let what = file.name.as_str();
        let mut written = Written { at: range.start, hasher: crc32fast::Hasher::new() };
        let mut attempts = Attempts::new(self.limits.patience);
        loop {
            let before = written.at;
            let failure = match self.stream(file, partial, range.end, &mut written).await {
                Ok(()) if written.at == range.end || file.size.is_none() => break,
                Ok(()) => Error::Interrupted {
                    what: what.to_owned(),
                    source: crate::source::wire::cause(format!("the answer ended at byte {}", written.at)),
                },
                Err(error) => error,
            };
            if written.at - before >= ADVANCE && file.ranged {
                attempts.advanced();
            }
            retry::pause(&mut attempts, what, failure).await?;
            if !file.ranged {
                self.progress.take_back(written.at);
                written = Written { at: range.start, hasher: crc32fast::Hasher::new() };
            }
        }
        let (own, checksum) = (Arc::clone(partial), written.hasher.finalize());
        blocking(move || own.written(number, checksum)).await
    }

    /// Writes what one answer brings.
    async fn stream(
        &self,
        file: &Remote,
        partial: &Arc<Partial>,
        end: u64,
        written: &mut Written,
    ) -> Result<(), Error> {
        let mut content = self.source.read(file, written.at..end).await?;
        // Pieces are written as they came, many at a time: joining them would be another copy of every byte.
        let mut block: Vec<Bytes> = Vec::new();
        let mut length = 0;
        loop {
            let next = content.next().await;
            let is_end = !matches!(next, Some(Ok(_)));
            if let Some(Ok(bytes)) = &next {
                length += bytes.len();
                block.push(bytes.clone());
            }
            if written.at + length as u64 > end {
                let why = "more bytes than were asked for".to_owned();
                return Err(Error::Answer { what: file.name.to_string(), why });
            }
            if length >= BLOCK || block.len() >= MOST_PIECES || (is_end && length > 0) {
                let (own, at, pieces) = (Arc::clone(partial), written.at, std::mem::take(&mut block));
                let mut hasher = std::mem::take(&mut written.hasher);
                written.hasher = blocking(move || {
                    own.write(&pieces, at)?;
                    for piece in &pieces {
                        hasher.update(piece);
                    }
                    own.flush()?;
                    Ok(hasher)
                })
                .await?;
                written.at += length as u64;
                self.progress.bring(length as u64);
                length = 0;
            }
            match next {
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error),
                None => return Ok(()),
            }
        }
    }

    /// Makes sure of a file's bytes, and gives it its name.
    fn finish(&self, file: &Remote, partial: &Partial) -> Result<(), Error> {
        let mut content = partial.content()?;
        let length = content.metadata().map_err(Error::disk("look at", partial.path()))?.len();
        let size = file.size.unwrap_or(length);
        if self.limits.verify == Verify::Full
            && let Some(digest) = file.digest.as_ref().filter(|digest| self.source.trusts(digest))
        {
            let found = digest.of(&mut content, size).map_err(Error::disk("read", partial.path()))?;
            if found != digest.expected() {
                // What is there is of no use for another attempt either.
                let _ = std::fs::remove_file(partial.journal());
                return Err(Error::Digest {
                    what: file.name.to_string(),
                    kind: digest.kind(),
                    expected: digest.expected().to_owned(),
                    found,
                });
            }
        }
        let metadata = partial.complete(size)?;
        let path = self.target.file(&file.name);
        self.target.prepare(&file.name)?;
        record::record(&self.target, file, &metadata)?;
        std::fs::rename(partial.path(), &path).map_err(Error::disk("create", &path))?;
        sync_folder(&path)?;
        // Without the journal nothing goes on from here; it is of no use any more.
        let _ = std::fs::remove_file(partial.journal());
        self.leave_for_hub(file)
    }

    fn leave_for_hub(&self, file: &Remote) -> Result<(), Error> {
        match &self.commit {
            Some(commit) => record::for_hub(&self.target, file, commit, jiff::Timestamp::now()),
            None => Ok(()),
        }
    }
}

/// How far a part is.
struct Written {
    at: u64,
    hasher: crc32fast::Hasher,
}
