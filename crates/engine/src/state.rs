//! What is known of an installation at the start of a command.

use crate::damage::Damage;
use crate::record::{Journal, Outcome, Record};
use crate::revision::{Header, Revision};
use crate::store::{Control, Marker, Stored};

/// What is known of an installation at the start of a command.
#[derive(Clone, Debug)]
pub struct State {
    pub(crate) stored: Stored,
    /// The revision that the cluster is at, or was last brought towards; `None` where there is none, or where its
    /// objects cannot be read.
    pub current: Option<Revision>,
    /// What is known of that revision without its objects.
    pub(crate) header: Option<Header>,
    /// What is missing.
    pub(crate) damage: Option<Damage>,
}

impl State {
    /// Nothing is there: what a removal leaves.
    pub fn nothing() -> Self {
        Self { stored: Stored::default(), current: None, header: None, damage: None }
    }

    /// The record.
    pub fn record(&self) -> &Record {
        &self.stored.record
    }

    /// Who has the say.
    pub fn control(&self) -> &Control {
        &self.stored.control
    }

    /// The same with this marker of the owner of the options.
    #[must_use]
    pub fn owned_by(mut self, note: Marker) -> Self {
        self.stored.control.owner = Some(note);
        self
    }

    /// The same without the objects of the current revision, which take much room. Whoever plans opens it again.
    #[must_use]
    pub fn without_objects(self) -> Self {
        Self { current: None, ..self }
    }

    /// Whether a revision was brought to its end.
    pub fn is_deployed(&self, revision: u64) -> bool {
        self.record().results.get(&revision) == Some(&Outcome::Deployed)
    }

    /// The resourceVersion of the record; `None` where nothing is stored yet.
    pub fn version(&self) -> Option<&str> {
        self.stored.version.as_deref()
    }

    /// What is known of the current revision, whether its objects can be read or not.
    pub fn header(&self) -> Option<&Header> {
        self.current.as_ref().map(|current| &current.header).or(self.header.as_ref())
    }

    /// What is missing of what the installation needs to be changed.
    pub fn damage(&self) -> Option<&Damage> {
        self.damage.as_ref()
    }

    /// The same where another revision is the current one: what a plan in progress leads to, say.
    #[must_use]
    pub fn at(self, revision: Revision) -> Self {
        Self { header: Some(revision.header.clone()), current: Some(revision), ..self }
    }

    /// The plan in progress, if one was interrupted.
    pub fn journal(&self) -> Option<&Journal> {
        self.stored.record.journal.as_ref()
    }
}
