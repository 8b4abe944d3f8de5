//! The folder that files are brought to.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use crate::error::Error;
use crate::name::{Name, STATE};

/// A folder that this process alone writes to.
#[derive(Debug)]
pub struct Target {
    folder: PathBuf,
    state: PathBuf,
    /// Held until the process ends.
    _lock: File,
}

impl Target {
    /// Makes the folder where it is missing, and waits for another initializer that still writes to it: a pod that is
    /// being replaced goes on for a while.
    pub async fn open(folder: &Path) -> Result<Self, Error> {
        let state = folder.join(STATE);
        std::fs::create_dir_all(folder).map_err(Error::disk("create the folder", folder))?;
        no_links(folder, Path::new(STATE))?;
        std::fs::create_dir_all(&state).map_err(Error::disk("create the folder", &state))?;
        let path = state.join("lock");
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
        let lock = lock.map_err(Error::disk("write to", &path))?;
        let mut is_told = false;
        // Some network file systems have no locks; the records still keep what is whole from what is not.
        while let Err(rustix::io::Errno::WOULDBLOCK) =
            rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive)
        {
            if !is_told {
                tracing::info!("waiting for another initializer that writes to {}", folder.display());
                is_told = true;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        Ok(Self { folder: folder.to_owned(), state, _lock: lock })
    }

    /// The folder itself.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where a file is when it is whole.
    pub fn file(&self, name: &Name) -> PathBuf {
        name.below(&self.folder)
    }

    /// Where something about a file is kept.
    pub fn about(&self, name: &Name, end: &str) -> PathBuf {
        self.state.join(format!("{}.{end}", hex::encode(Sha256::digest(name.as_str()))))
    }

    /// Where the hub's own record of a file is.
    pub fn hub_record(&self, name: &Name) -> PathBuf {
        self.folder.join(".cache/huggingface/download").join(format!("{name}.metadata"))
    }

    /// Makes the folders of a file. A link on the way is refused: it may lead out of the target.
    pub fn prepare(&self, name: &Name) -> Result<(), Error> {
        no_links(&self.folder, Path::new(name.as_str()))?;
        let path = self.file(name);
        if path.is_dir() {
            let is_folder = std::io::Error::from(std::io::ErrorKind::IsADirectory);
            return Err(Error::disk("replace", path)(is_folder));
        }
        match path.parent() {
            Some(folder) => std::fs::create_dir_all(folder).map_err(Error::disk("create the folder", folder)),
            None => Ok(()),
        }
    }

    /// Bytes that are free for us; `None` where the file system does not say.
    pub fn free(&self) -> Option<u64> {
        let free = rustix::fs::statvfs(&self.folder).ok()?;
        Some(free.f_bavail.saturating_mul(free.f_frsize))
    }
}

/// Refuses a link at any part of a path below a folder.
fn no_links(folder: &Path, below: &Path) -> Result<(), Error> {
    let mut path = folder.to_owned();
    for part in below.components() {
        path.push(part);
        match std::fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_symlink() => return Err(Error::Link(path)),
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(Error::disk("look at", path)(error)),
        }
    }
    Ok(())
}

/// Makes the entries of a folder outlive a crash of the machine.
pub fn sync_folder(path: &Path) -> Result<(), Error> {
    let Some(folder) = path.parent() else { return Ok(()) };
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(Error::disk("write to", folder))
}

/// Writes a small file so that it is there whole or not at all.
pub fn write_whole(path: &Path, content: &[u8]) -> Result<(), Error> {
    use std::io::Write as _;
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    let write = || {
        let mut file = File::create(&new)?;
        file.write_all(content)?;
        file.sync_all()?;
        std::fs::rename(&new, path)
    };
    write().map_err(Error::disk("write", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn links_below_the_target_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        let target = Target::open(folder.path()).await.unwrap();
        std::os::unix::fs::symlink(outside.path(), folder.path().join("a")).unwrap();
        std::os::unix::fs::symlink(outside.path().join("x"), folder.path().join("file")).unwrap();
        for name in ["a/b", "file"] {
            let error = target.prepare(&Name::new(name).unwrap()).unwrap_err();
            assert!(matches!(error, Error::Link(_)), "{error}");
        }
        assert!(std::fs::read_dir(outside.path()).unwrap().next().is_none());
        std::fs::create_dir(folder.path().join("folder")).unwrap();
        assert!(target.prepare(&Name::new("folder").unwrap()).is_err());
        assert!(target.prepare(&Name::new("new/er/file").unwrap()).is_ok());
    }

    #[tokio::test]
    async fn a_second_initializer_waits_for_the_first() {
        let folder = tempfile::tempdir().unwrap();
        let first = Target::open(folder.path()).await.unwrap();
        let second = Target::open(folder.path());
        assert!(tokio::time::timeout(Duration::from_millis(300), second).await.is_err());
        drop(first);
        Target::open(folder.path()).await.unwrap();
    }
}
