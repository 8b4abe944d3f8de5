//! Ctrl-C and SIGTERM: the first asks to stop in good order, the second stops at once.

use std::future::Future;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use trainerd_engine::Cancel;

use super::errors::Problem;
use super::exit::Exit;

/// Tells that the process was asked to stop.
#[derive(Clone, Debug)]
pub(crate) struct Interrupt {
    asked: Cancel,
}

impl Interrupt {
    /// Listens from now on, on the current runtime.
    ///
    /// # Errors
    /// When the system refuses the handlers.
    pub(crate) fn listen() -> std::io::Result<Self> {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let (ask, asked) = watch::channel(false);
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                if *ask.borrow() {
                    // The journal makes this safe: whatever was in flight is found again.
                    std::process::exit(i32::from(Exit::Interrupted.code()));
                }
                ask.send_replace(true);
            }
        });
        Ok(Self { asked })
    }

    /// For a plan that runs: it stops by itself.
    pub(crate) fn cancel(&self) -> Cancel {
        self.asked.clone()
    }

    /// For work that changes nothing: it is dropped when the process is asked to stop.
    pub(crate) async fn or<T, E: Into<Problem>>(
        &self,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, Problem> {
        let mut asked = self.asked.clone();
        tokio::select! {
            done = work => done.map_err(Into::into),
            _ = asked.wait_for(|asked| *asked) => Err(Problem::interrupted_before_changes()),
        }
    }
}
