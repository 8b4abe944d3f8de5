//! Waiting with a bound, ended early by a dead process or Ctrl-C.

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::process::Process;
use super::{Error, Folder};
use crate::command::tail;
use crate::files;

/// Time between two looks.
const INTERVAL: Duration = Duration::from_millis(50);
/// Lines of a log that an error shows.
const SHOWN_LINES: usize = 15;

static INTERRUPTED: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// From now on SIGINT and SIGTERM end waiting with [`Error::Interrupted`], so that a start clears up.
pub(super) fn watch_signals() -> Result<(), Error> {
    let flag = INTERRUPTED.get_or_init(Arc::default);
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(flag))
            .map_err(|source| Error::Start { process: "the signal handler".into(), source })?;
    }
    Ok(())
}

/// Fails once a signal came.
pub(super) fn check_interrupted() -> Result<(), Error> {
    match INTERRUPTED.get() {
        Some(flag) if flag.load(Ordering::Relaxed) => Err(Error::Interrupted),
        _ => Ok(()),
    }
}

/// Waits until `done` says so, while `process` runs, at most `bound`.
///
/// `what` ends the sentence "failed to wait for …".
pub(super) fn until(
    folder: &Folder,
    process: &Process,
    what: &str,
    bound: Duration,
    mut done: impl FnMut() -> bool,
) -> Result<(), Error> {
    let start = Instant::now();
    loop {
        if done() {
            return Ok(());
        }
        check_interrupted()?;
        let why = if !process.is_alive() {
            "it ended".to_owned()
        } else if start.elapsed() > bound {
            format!("not there after {} s", bound.as_secs())
        } else {
            sleep(INTERVAL);
            continue;
        };
        let log = folder.log(process.name());
        return Err(Error::NotReady {
            what: what.to_owned(),
            why,
            tail: tail(&files::read(&log).unwrap_or_default(), SHOWN_LINES),
            // By the time this is read, the folder is gone and its logs are kept beside it.
            log: folder.kept_logs().join(format!("{}.log", process.name())),
        });
    }
}
