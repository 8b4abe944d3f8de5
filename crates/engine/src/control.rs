//! Who controls an installation: pausing and resuming reconciliation, and the owner of its options.

use jiff::Timestamp;

use crate::engine::Engine;
use crate::error::EngineError;
use crate::store::{Control, Marker, MarkerKind};

impl Engine {
    /// Suspends reconciliation by daemons until [`Engine::resume`]; whether it was not suspended before. `reason`: why, for
    /// those who find it so; `asked_by`: who asked a daemon for it over its API.
    ///
    /// # Errors
    /// [`EngineError::NotInstalled`] where nothing is installed.
    pub async fn pause(&self, reason: String, asked_by: Option<String>) -> Result<bool, EngineError> {
        if self.store.record().await?.version.is_none() {
            return Err(self.not_installed());
        }
        let note = Marker { asked_by, ..self.noted(reason) };
        self.store.note(MarkerKind::Paused, note).await.map(|note| note.is_some())
    }

    /// Takes back what [`Engine::pause`] said; whether it was said.
    ///
    /// # Errors
    /// [`EngineError::NotInstalled`] where there is nothing that could be paused.
    pub async fn resume(&self) -> Result<bool, EngineError> {
        // The note comes first: that of an installation which is gone is taken back all the same.
        if self.store.take_back(MarkerKind::Paused, None).await? {
            return Ok(true);
        }
        if self.store.record().await?.version.is_none() {
            return Err(self.not_installed());
        }
        Ok(false)
    }

    /// Says that a daemon brings the installation to the options of this source, in place of the one of which that was
    /// said before; what is said now. Nothing is written where it is said already.
    ///
    /// # Errors
    /// [`EngineError::ChangedMeanwhile`] where somebody else was faster.
    pub async fn claim(&self, control: &Control, source: &str) -> Result<Marker, EngineError> {
        match &control.owner {
            Some(owner) if owner.what == source => return Ok(owner.clone()),
            Some(owner) => drop(self.store.take_back(MarkerKind::Owner, Some(&owner.uid)).await?),
            None => {}
        }
        let noted = self.store.note(MarkerKind::Owner, self.noted(source.to_owned())).await?;
        noted.ok_or(EngineError::ChangedMeanwhile { added: Vec::new() })
    }

    /// Takes back what [`Engine::rule`] said of a source; what is said of another one stays.
    pub async fn release(&self, source: &str) -> Result<(), EngineError> {
        match self.store.open().await?.control.owner {
            Some(owner) if owner.what == source => {
                self.store.take_back(MarkerKind::Owner, Some(&owner.uid)).await.map(drop)
            }
            _ => Ok(()),
        }
    }

    fn noted(&self, what: String) -> Marker {
        Marker { what, by: self.by.clone(), asked_by: None, since: Timestamp::now(), uid: String::new() }
    }
}
