//! Ctrl-C and SIGTERM: the first asks to stop in good order, the second stops at once. And `--timeout`, when it is
//! over.

use std::future::Future;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::Instant;
use trainerd_engine::Cancel;

use crate::problem::{Exit, Problem};

/// How long the good order may take. A pod has 30 seconds for its end, and a person less patience; what a hung API
/// server has not answered by then is journalled, and found again.
const ORDERLY: Duration = Duration::from_millis(1500);

/// Tells that the process was asked to stop, or that its time is over.
#[derive(Clone, Debug)]
pub(crate) struct Interrupt {
    asked: Cancel,
    /// How long the command may take in all, and when that is over.
    limit: Option<(Duration, Instant)>,
    /// How long the good order may take.
    orderly: watch::Sender<Duration>,
}

impl Interrupt {
    /// Listens from now on, on the current runtime; `timeout` counts from now, too.
    ///
    /// # Errors
    /// When the system refuses the handlers.
    pub(crate) fn listen(timeout: Option<Duration>) -> std::io::Result<Self> {
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
        let limit = timeout.map(|timeout| (timeout, Instant::now() + timeout));
        Ok(Self { asked, limit, orderly: watch::Sender::new(ORDERLY) })
    }

    /// Gives the good order more time, for processes that are to be stopped with this one.
    pub(crate) fn give(&self, more: Duration) {
        self.orderly.send_modify(|orderly| *orderly += more);
    }

    /// For a plan that runs: it stops by itself.
    pub(crate) fn cancel(&self) -> Cancel {
        self.asked.clone()
    }

    /// When the command's time is over, if that is limited.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.limit.map(|(_, deadline)| deadline)
    }

    /// The moment at which the process was asked to stop or its time is over.
    pub(crate) async fn ended(&self) {
        let mut asked = self.asked.clone();
        tokio::select! {
            _ = asked.wait_for(|asked| *asked) => {}
            _ = self.over() => {}
        }
    }

    /// The moment at which the process was asked to stop and has had its time for that.
    pub(crate) async fn overdue(&self) {
        let mut asked = self.asked.clone();
        // The sender lives as long as the process.
        let _ = asked.wait_for(|asked| *asked).await;
        let orderly = *self.orderly.borrow();
        tokio::time::sleep(orderly).await;
    }

    async fn over(&self) -> Duration {
        match self.limit {
            Some((timeout, deadline)) => {
                tokio::time::sleep_until(deadline).await;
                timeout
            }
            None => std::future::pending().await,
        }
    }

    /// For work that changes nothing: it is dropped when the process is asked to stop, or its time is over.
    pub(crate) async fn or<T, E: Into<Problem>>(
        &self,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, Problem> {
        let mut asked = self.asked.clone();
        tokio::select! {
            done = work => done.map_err(Into::into),
            _ = asked.wait_for(|asked| *asked) => Err(Problem::interrupted_before_changes()),
            timeout = self.over() => Err(Problem::timed_out_before_changes(timeout)),
        }
    }
}
