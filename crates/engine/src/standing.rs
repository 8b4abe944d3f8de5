//! Who has the say over an installation: pausing and resuming it, and whose options rule.

use jiff::Timestamp;

use crate::engine::Engine;
use crate::error::EngineError;
use crate::store::{About, Note, Standing};

impl Engine {
    /// The daemon's hand off the installation, until [`Engine::resume`]; whether it was on it. `asked_by`: who asked a
    /// daemon for it over its API.
    ///
    /// # Errors
    /// [`EngineError::NotInstalled`] where there is nothing to keep it off.
    pub async fn pause(&self, asked_by: Option<String>) -> Result<bool, EngineError> {
        if self.store.record().await?.version.is_none() {
            return Err(self.not_installed());
        }
        let note = Note { asked_by, ..self.noted(String::new()) };
        self.store.note(About::Paused, note).await.map(|note| note.is_some())
    }

    /// Takes back what [`Engine::pause`] said; whether it was said.
    ///
    /// # Errors
    /// [`EngineError::NotInstalled`] where there is nothing that could be paused.
    pub async fn resume(&self) -> Result<bool, EngineError> {
        // The note comes first: that of an installation which is gone is taken back all the same.
        if self.store.take_back(About::Paused, None).await? {
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
    pub async fn rule(&self, standing: &Standing, source: &str) -> Result<Note, EngineError> {
        match &standing.ruler {
            Some(ruler) if ruler.what == source => return Ok(ruler.clone()),
            Some(ruler) => drop(self.store.take_back(About::Ruler, Some(&ruler.uid)).await?),
            None => {}
        }
        let noted = self.store.note(About::Ruler, self.noted(source.to_owned())).await?;
        noted.ok_or(EngineError::ChangedMeanwhile { added: Vec::new() })
    }

    /// Takes back what [`Engine::rule`] said of a source; what is said of another one stays.
    pub async fn rule_no_more(&self, source: &str) -> Result<(), EngineError> {
        match self.store.open().await?.standing.ruler {
            Some(ruler) if ruler.what == source => {
                self.store.take_back(About::Ruler, Some(&ruler.uid)).await.map(drop)
            }
            _ => Ok(()),
        }
    }

    fn noted(&self, what: String) -> Note {
        Note { what, by: self.by.clone(), asked_by: None, since: Timestamp::now(), uid: String::new() }
    }
}
