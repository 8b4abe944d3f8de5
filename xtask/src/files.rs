//! File operations whose errors name the path.

use std::fs;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// A file operation that did not work, with the path it was about.
#[derive(Debug, thiserror::Error)]
#[error("failed to {action} {}", path.display())]
pub struct Error {
    action: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl Error {
    /// Names `action` ("read", "lock", …) and `path` next to what the system said.
    pub fn new(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self { action, path: path.to_owned(), source }
    }
}

/// Reads a whole text file.
pub fn read(path: &Path) -> Result<String, Error> {
    fs::read_to_string(path).map_err(|source| Error::new("read", path, source))
}

/// Writes a file whole and makes the folders above it.
pub fn write(path: &Path, content: impl AsRef<[u8]>) -> Result<(), Error> {
    if let Some(parent) = path.parent() {
        make_folder(parent)?;
    }
    fs::write(path, content).map_err(|source| Error::new("write", path, source))
}

/// Writes a file that only its owner may read; for keys and what holds them.
pub fn write_private(path: &Path, content: impl AsRef<[u8]>) -> Result<(), Error> {
    if let Some(parent) = path.parent() {
        make_folder(parent)?;
    }
    fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| io::Write::write_all(&mut file, content.as_ref()))
        .map_err(|source| Error::new("write", path, source))
}

/// Makes a folder and those above it.
pub fn make_folder(path: &Path) -> Result<(), Error> {
    fs::create_dir_all(path).map_err(|source| Error::new("make folder", path, source))
}

/// Removes a folder with all that is in it; none there is fine.
pub fn remove_folder(path: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(Error::new("remove folder", path, source))
        }
        _ => Ok(()),
    }
}

/// Removes a file; none there is fine.
pub fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(Error::new("remove", path, source)),
        _ => Ok(()),
    }
}

/// An exclusive lock between processes, held until dropped (or the process ends).
///
/// The file stays where it is: removing it would let a third process lock a new file of the same name.
#[derive(Debug)]
pub struct Lock {
    _file: fs::File,
}

impl Lock {
    /// Takes the lock at `path`; waits for whoever has it, after calling `waiting` once.
    pub fn take(path: &Path, waiting: impl FnOnce()) -> Result<Self, Error> {
        if let Some(parent) = path.parent() {
            make_folder(parent)?;
        }
        let failed = |source| Error::new("lock", path, source);
        let file =
            fs::OpenOptions::new().create(true).truncate(false).write(true).open(path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => {
                waiting();
                file.lock().map_err(failed)?;
            }
            Err(fs::TryLockError::Error(source)) => return Err(failed(source)),
        }
        Ok(Self { _file: file })
    }
}
