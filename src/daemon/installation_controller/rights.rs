//! Detects permissions that are revoked while nothing is written, by access reviews.

use std::sync::Arc;

use futures::FutureExt as _;
use futures::future::LocalBoxFuture;
use trainerd_cluster::permissions::Rule;
use trainerd_engine::{EngineError, State, rights};

use super::{InstallationController, Stop};

/// The permissions of this daemon.
#[derive(Default)]
pub(super) struct Rights {
    /// Digest of the revision that they are of.
    of: Option<String>,
    /// The permissions that the current revision needs.
    needed: Vec<Rule>,
    /// Whether some were missing in the last review.
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
    /// Reviews the permissions; returns whether some are missing.
    pub(super) fn look_at_rights(&self) -> LocalBoxFuture<'static, bool> {
        let (engine, needed) = (Arc::clone(&self.engine), self.rights.needed.clone());
        async move {
            // On an error, the next review decides.
            matches!(engine.check_rights(&needed).await, Err(EngineError::Permissions(_)))
        }
        .boxed_local()
    }

    /// Permissions are missing: passes report that until they are granted again.
    pub(super) fn lacks_rights(&mut self) {
        self.rights.lacking = true;
    }

    /// Stops a pass while permissions are missing.
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
