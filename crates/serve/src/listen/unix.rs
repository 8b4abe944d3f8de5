//! A unix socket with exact permissions.

use std::fs::{self, File, Metadata, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::serve::Listener;
use tokio::net::unix::SocketAddr;
use tokio::net::{UnixListener, UnixSocket, UnixStream};
use tokio::time::sleep;

use super::{ListenError, pause};

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 128;

/// What the socket is called until it is complete. Short, since a socket's path holds 107 bytes; the same for
/// everybody, since the directory is locked.
const UNFINISHED: &str = ".binding";

/// Connections to a unix socket. Dropping it removes the socket's file, unless another has taken its place.
#[derive(Debug)]
pub struct Unix {
    listener: UnixListener,
    path: PathBuf,
    identity: Identity,
}

/// Listens on a unix socket whose file has exactly `mode`, whatever the umask.
///
/// There is no instant at which others could connect: the file gets its mode before anybody can connect at all, and
/// its name after that. A socket that nobody answers on is replaced, atomically; one that a live process answers on is
/// [`ListenError::InUse`], anything else at the path [`ListenError::NotASocket`]. Two processes that come at
/// the same time are distinguished by a lock on the directory, held for as long as this takes.
pub async fn unix(path: &Path, mode: u32) -> Result<Unix, ListenError> {
    let failed = |source| ListenError::Unix { path: path.to_owned(), source };
    let directory = directory(path);
    let _lock = lock(directory, path).await?;

    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            return Err(ListenError::NotASocket { path: path.to_owned() });
        }
        Ok(_) if answers(path).await.map_err(failed)? => {
            return Err(ListenError::InUse { path: path.to_owned() });
        }
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        Ok(_) | Err(_) => {}
    }

    let unfinished = directory.join(UNFINISHED);
    // Left by a process that was killed at this point: whoever held the lock is gone.
    if fs::symlink_metadata(&unfinished).is_ok_and(|found| found.file_type().is_socket()) {
        fs::remove_file(&unfinished).map_err(failed)?;
    }
    make(&unfinished, path, mode).map_err(|error| {
        // Says nothing new where it fails: there was no file to remove.
        if error.kind() != io::ErrorKind::AddrInUse {
            let _ = fs::remove_file(&unfinished);
        }
        failed(error)
    })
}

/// Binds to one name and ends at the other.
fn make(unfinished: &Path, path: &Path, mode: u32) -> io::Result<Unix> {
    let socket = UnixSocket::new_stream()?;
    socket.bind(unfinished)?;
    fs::set_permissions(unfinished, Permissions::from_mode(mode))?;
    let identity = Identity::of(&fs::symlink_metadata(unfinished)?);
    let listener = socket.listen(BACKLOG)?;
    fs::rename(unfinished, path)?;
    Ok(Unix { listener, path: path.to_owned(), identity })
}

fn directory(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Locks the directory; the lock ends with the file. Whoever else binds there does it in far less than the second
/// this waits.
async fn lock(directory: &Path, path: &Path) -> Result<File, ListenError> {
    let failed = |source| ListenError::Unix { path: path.to_owned(), source };
    let file = File::open(directory).map_err(failed)?;
    for _ in 0..100 {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => sleep(Duration::from_millis(10)).await,
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
    }
    Err(ListenError::Locked { path: path.to_owned() })
}

/// Whether a process listens there. A full backlog is one, too.
async fn answers(path: &Path) -> io::Result<bool> {
    match UnixStream::connect(path).await {
        Ok(_) => Ok(true),
        Err(error) => match error.kind() {
            io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => Ok(false),
            io::ErrorKind::WouldBlock => Ok(true),
            _ => Err(error),
        },
    }
}

/// Which file it is. The kernel keeps the inode for as long as the socket is bound, so that its number is not given
/// to another meanwhile.
#[derive(Debug, PartialEq)]
struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    fn of(file: &Metadata) -> Self {
        Self { device: file.dev(), inode: file.ino() }
    }
}

impl Drop for Unix {
    fn drop(&mut self) {
        // Without the lock another may be about to take the name; then the file is theirs to replace.
        let Ok(directory) = File::open(directory(&self.path)) else { return };
        if directory.try_lock().is_err() {
            return;
        }
        if fs::symlink_metadata(&self.path).is_ok_and(|found| Identity::of(&found) == self.identity)
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "failed to remove the socket");
        }
    }
}

impl Listener for Unix {
    type Io = UnixStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (UnixStream, SocketAddr) {
        loop {
            match self.listener.accept().await {
                Ok(connection) => return connection,
                Err(error) => pause(&error).await,
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener as Plain;

    use super::*;

    fn place() -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("trainerd.sock");
        (directory, path)
    }

    fn files(directory: &tempfile::TempDir) -> Vec<String> {
        let entries = fs::read_dir(directory.path()).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[tokio::test]
    async fn the_socket_has_the_exact_mode() {
        for mode in [0o600, 0o660, 0o777] {
            let (directory, path) = place();
            let listener = unix(&path, mode).await.unwrap();
            assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, mode, "{mode:o}");
            assert_eq!(files(&directory), ["trainerd.sock"]);
            drop(listener);
            assert!(files(&directory).is_empty());
        }
    }

    #[tokio::test]
    async fn a_stale_socket_is_replaced() {
        let (directory, path) = place();
        drop(Plain::bind(&path).unwrap());
        drop(Plain::bind(directory.path().join(UNFINISHED)).unwrap());
        let mut listener = unix(&path, 0o600).await.unwrap();
        assert_eq!(files(&directory), ["trainerd.sock"]);
        let (client, _) = tokio::join!(UnixStream::connect(&path), listener.accept());
        client.unwrap();
    }

    #[tokio::test]
    async fn a_live_socket_is_refused() {
        let (_directory, path) = place();
        let live = unix(&path, 0o600).await.unwrap();
        let error = unix(&path, 0o600).await.unwrap_err();
        assert!(matches!(&error, ListenError::InUse { path: at } if *at == path), "{error:?}");
        assert!(UnixStream::connect(&path).await.is_ok(), "the live one stays");
        drop(live);
        unix(&path, 0o600).await.unwrap();
    }

    #[tokio::test]
    async fn a_live_socket_whose_backlog_is_full_is_refused() {
        let (_directory, path) = place();
        let _live = unix(&path, 0o600).await.unwrap();
        let mut waiting = Vec::new();
        while let Ok(client) = UnixStream::connect(&path).await {
            waiting.push(client);
        }
        assert!(waiting.len() >= BACKLOG as usize);
        assert!(matches!(unix(&path, 0o600).await, Err(ListenError::InUse { .. })));
    }

    #[tokio::test]
    async fn a_file_that_is_not_a_socket_is_kept() {
        let (_directory, path) = place();
        fs::write(&path, "precious").unwrap();
        assert!(matches!(unix(&path, 0o600).await, Err(ListenError::NotASocket { .. })));
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    }

    #[tokio::test]
    async fn a_socket_of_another_process_is_not_removed() {
        let (directory, path) = place();
        let listener = unix(&path, 0o600).await.unwrap();
        fs::remove_file(&path).unwrap();
        let _other = Plain::bind(&path).unwrap();
        drop(listener);
        assert_eq!(files(&directory), ["trainerd.sock"]);
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_for_a_locked_directory_times_out() {
        let (directory, path) = place();
        let lock = File::open(directory.path()).unwrap();
        lock.try_lock().unwrap();
        assert!(matches!(unix(&path, 0o600).await, Err(ListenError::Locked { .. })));
        let (listener, ()) = tokio::join!(unix(&path, 0o600), async move {
            sleep(Duration::from_millis(500)).await;
            drop(lock);
        });
        listener.unwrap();
    }

    #[tokio::test]
    async fn errors_name_the_failed_operation() {
        let error = unix(Path::new("/nowhere/at/all.sock"), 0o600).await.unwrap_err();
        assert_eq!(error.to_string(), "failed to listen on /nowhere/at/all.sock");
        assert!(std::error::Error::source(&error).is_some());
    }
}
