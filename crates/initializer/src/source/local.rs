//! Files of this machine: a volume that is mounted.

use std::ops::Range;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt as _;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};

use crate::error::Error;
use crate::name::Name;
use crate::source::{Content, Listing, Remote, Source};

/// Bytes that are read at a time.
const BLOCK: usize = 1 << 20;

/// A file, or the files below a folder.
#[derive(Debug)]
pub struct Local {
    path: PathBuf,
}

impl Local {
    /// The file or folder at a path.
    pub fn new(path: PathBuf) -> Self {
        Self { path }
    }

    fn walk(&self) -> Result<Listing, Error> {
        let metadata = std::fs::metadata(&self.path).map_err(failed(&self.path))?;
        let mut files = Vec::new();
        if metadata.is_file() {
            let name = self.path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            files.push(remote(name, &self.path, &metadata)?);
            return Ok(Listing { files, commit: None });
        }
        let mut folders = vec![self.path.clone()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(&folder).map_err(failed(&folder))? {
                let entry = entry.map_err(failed(&folder))?;
                let path = entry.path();
                let kind = entry.file_type().map_err(failed(&path))?;
                if kind.is_dir() {
                    folders.push(path);
                    continue;
                }
                // The target of a link is read where it is a file; a folder behind a link may lead in a circle.
                let metadata = std::fs::metadata(&path).map_err(failed(&path))?;
                if metadata.is_file() {
                    let name = path.strip_prefix(&self.path).ok().and_then(Path::to_str);
                    let name = name.ok_or_else(|| Error::Answer {
                        what: path.display().to_string(),
                        why: "a name that is no text".to_owned(),
                    })?;
                    files.push(remote(name, &path, &metadata)?);
                } else {
                    tracing::warn!("{} is left out: it is no file", path.display());
                }
            }
        }
        Ok(Listing { files, commit: None })
    }
}

fn failed(path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    let what = path.display().to_string();
    move |error| match error.kind() {
        std::io::ErrorKind::NotFound => Error::NotFound { what, why: String::new() },
        std::io::ErrorKind::PermissionDenied => Error::Denied { what, why: error.to_string() },
        _ => Error::Interrupted { what, source: Box::new(error) },
    }
}

fn remote(name: &str, path: &Path, metadata: &std::fs::Metadata) -> Result<Remote, Error> {
    Ok(Remote {
        name: Name::new(name)?,
        key: path.to_str().unwrap_or_default().to_owned(),
        size: Some(metadata.len()),
        version: Some(version(metadata)),
        digest: None,
        ranged: true,
    })
}

fn version(metadata: &std::fs::Metadata) -> String {
    format!("{}-{}.{:09}-{}", metadata.ino(), metadata.mtime(), metadata.mtime_nsec(), metadata.len())
}

#[async_trait]
impl Source for Local {
    async fn list(&self) -> Result<Listing, Error> {
        self.walk()
    }

    async fn read(&self, file: &Remote, range: Range<u64>) -> Result<Content, Error> {
        let path = PathBuf::from(&file.key);
        let mut open = tokio::fs::File::open(&path).await.map_err(failed(&path))?;
        let metadata = open.metadata().await.map_err(failed(&path))?;
        let found = version(&metadata);
        if file.version.as_ref() != Some(&found) {
            let why = "its size or time is another one".to_owned();
            return Err(Error::Changed { what: file.key.clone(), why });
        }
        open.seek(std::io::SeekFrom::Start(range.start)).await.map_err(failed(&path))?;
        let rest = open.take(range.end - range.start);
        let blocks = futures::stream::try_unfold((rest, path), |(mut rest, path)| async move {
            let mut block = vec![0; BLOCK];
            let read = rest.read(&mut block).await.map_err(failed(&path))?;
            block.truncate(read);
            Ok((read > 0).then(|| (Bytes::from(block), (rest, path))))
        });
        Ok(blocks.boxed())
    }
}
