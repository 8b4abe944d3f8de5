//! Rights that were taken back while nothing is written: no write is refused, so that they are asked for.

use std::sync::Arc;

use futures::FutureExt as _;
use futures::future::LocalBoxFuture;
use trainerd_cluster::permissions::Rule;
use trainerd_engine::{EngineError, State, rights};

use super::{InstallationController, Stop};

/// What is known of the rights of this daemon.
#[derive(Default)]
pub(super) struct Rights {
    /// Digest of the revision that they are of.
    of: Option<String>,
    /// What keeping the current revision takes.
    needed: Vec<Rule>,
    /// Whether some of it was missing when it was asked for last.
    lacking: bool,
}

impl Rights {
    /// Of the revision that is current now; of one that cannot be read it stays what it was.
    pub(super) fn follow(&mut self, state: &State) {
        let Some(current) = &state.current else { return };
        if self.of.as_ref() != Some(&current.header.digest) {
            self.needed = rights::upkeep(&current.desired);
            self.of = Some(current.header.digest.clone());
        }
    }
}

impl InstallationController {
    /// Asks whether everything may still be done; whether something may not.
    pub(super) fn look_at_rights(&self) -> LocalBoxFuture<'static, bool> {
        let (engine, needed) = (Arc::clone(&self.engine), self.rights.needed.clone());
        async move {
            // What cannot be told now is asked for the next time.
            matches!(engine.check_rights(&needed).await, Err(EngineError::Permissions(_)))
        }
        .boxed_local()
    }

    /// Rights are missing: a pass says so, and the passes after it until they are there again.
    pub(super) fn lacks_rights(&mut self) {
        self.rights.lacking = true;
    }

    /// Stops a pass where rights were missing and still are.
    pub(super) async fn with_rights(&mut self) -> Result<(), Stop> {
        if !self.rights.lacking {
            return Ok(());
        }
        let (engine, needed) = (Arc::clone(&self.engine), self.rights.needed.clone());
        match self.aside(engine.check_rights(&needed)).await? {
            Ok(()) => {
                self.rights.lacking = false;
                Ok(())
            }
            Err(error) => Err(self.stopped(error)),
        }
    }
}
