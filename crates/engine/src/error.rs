//! Why the engine stopped.

use std::fmt;

use trainerd_causes::one_line;
use trainerd_cluster::lease::{LeaseError, LeaseLost};
use trainerd_cluster::{ConflictKind, ConnectError, RequestError};
use trainerd_plan::in_use::PendingDeletion;
use trainerd_plan::object::ObjectKey;
use trainerd_plan::refused::Refused;

use crate::chunk::ChunkError;
use crate::event::{Event, Sink};
use crate::record::IllegalTransition;

/// Why the engine stopped.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// No connection.
    #[error("failed to connect to the cluster")]
    Connect(#[from] ConnectError),
    /// A request failed for good.
    #[error("failed to {action} {what}")]
    Request {
        /// What was tried, for example `read`.
        action: &'static str,
        /// On what.
        what: String,
        /// The answer.
        #[source]
        source: RequestError,
    },
    /// No plan was made, for these reasons.
    #[error("refused: {}", Listed(.0))]
    Refused(Vec<Refused>),
    /// The plan failed and stopped where it was.
    #[error("the {purpose} to revision {revision} failed")]
    Failed {
        /// What the plan was for.
        purpose: trainerd_plan::plan::Purpose,
        /// Its revision.
        revision: u64,
        /// What failed.
        #[source]
        cause: Box<Failure>,
    },
    /// The plan failed, and the revision before it is back.
    #[error("the {purpose} to revision {revision} failed and was rolled back to revision {back}")]
    RolledBack {
        /// What the plan was for.
        purpose: trainerd_plan::plan::Purpose,
        /// Its revision.
        revision: u64,
        /// The revision that is back.
        back: u64,
        /// What failed.
        reason: String,
    },
    /// The time that the caller gave is over; the journal stays open.
    #[error("timed out after {seconds} s waiting for {waiting}")]
    TimedOut {
        /// Seconds given.
        seconds: u64,
        /// What was waited for.
        waiting: String,
    },
    /// The caller broke off; the journal stays open.
    #[error("interrupted")]
    Interrupted,
    /// The lease could not be had.
    #[error("failed to acquire the lease of this installation")]
    Lease(#[from] LeaseError),
    /// The lease was lost; the journal stays open.
    #[error("lost the lease of this installation")]
    LeaseLost(#[from] LeaseLost),
    /// A stored record, revision or chunk cannot be believed.
    #[error("failed to read {what}")]
    Stored {
        /// Which.
        what: String,
        /// What is wrong with it.
        #[source]
        source: StoredError,
    },
    /// The objects of the current revision cannot be read. Nothing was written.
    #[error("failed to read the current revision, {revision}: {why}")]
    Unreadable {
        /// Its number.
        revision: u64,
        /// What is missing or damaged.
        why: String,
        /// Whether its options are known, so that its objects can be rendered again.
        renderable: bool,
        /// The newest other revision that can be read.
        readable: Option<u64>,
    },
    /// The new revision cannot be stored. Nothing was written.
    #[error("failed to pack the new revision")]
    Packing(#[source] ChunkError),
    /// A revision that does not exist.
    #[error("no revision {number}; known: {}", numbers(known))]
    NoSuchRevision {
        /// Its number.
        number: u64,
        /// Those that exist.
        known: Vec<u64>,
    },
    /// There is no installation here.
    #[error("no installation {name} in namespace {namespace}")]
    NotInstalled {
        /// Its name.
        name: String,
        /// Its namespace.
        namespace: String,
    },
    /// The installation has no such component.
    #[error("no component {name}; there are: {}", known.join(", "))]
    NoSuchComponent {
        /// Its name.
        name: String,
        /// Those that it has.
        known: Vec<String>,
    },
    /// A part of a revision cannot be repaired before the whole was once brought about.
    #[error("revision {revision} was not brought to its end")]
    NotDeployed {
        /// Its number.
        revision: u64,
    },
    /// There is no earlier revision to go back to.
    #[error("revision {0} has no revision before it")]
    NothingBefore(u64),
    /// The record does not allow what was asked.
    #[error("failed to write the journal")]
    Journal(#[from] IllegalTransition),
    /// The installation is not what it was when the plan was made: somebody else wrote its record, or more would be done
    /// now than was planned. Nothing of that was done.
    #[error("the installation changed while this plan waited")]
    ChangedMeanwhile {
        /// What would be done now and was not planned; empty where the record was written.
        added: Vec<ObjectKey>,
    },
    /// The plan is done but for objects whose deletion is pending.
    #[error("{} cannot be created again yet", pending.iter().map(|pending| pending.object.to_string()).collect::<Vec<_>>().join(", "))]
    PendingDeletion {
        /// Them.
        pending: Vec<PendingDeletion>,
    },
    /// Permissions are missing.
    #[error("permission missing: {}", .0.join("; "))]
    Permissions(Vec<String>),
}

/// What is wrong with something stored.
#[derive(Debug, thiserror::Error)]
pub enum StoredError {
    /// A key that must be there is not.
    #[error("it has no {0}")]
    NoData(&'static str),
    /// It is no JSON of the expected shape.
    #[error("its content is damaged")]
    Json(#[from] serde_json::Error),
    /// It is no base64.
    #[error("its content is damaged")]
    Base64(#[from] base64::DecodeError),
    /// A chunk is missing or damaged.
    #[error(transparent)]
    Chunk(#[from] ChunkError),
    /// It does not decompress.
    #[error("its content is damaged")]
    Compression(#[from] std::io::Error),
    /// The objects are not those that the revision was made of.
    #[error("its objects have digest {found}, not {expected}")]
    Digest {
        /// As recorded.
        expected: String,
        /// As found.
        found: String,
    },
}

/// Why a plan failed while it ran.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// A request was refused for good.
    #[error("failed to {verb} {object}")]
    Write {
        /// What was tried.
        verb: &'static str,
        /// On which object.
        object: ObjectKey,
        /// The answer.
        #[source]
        source: RequestError,
    },
    /// An object that was to be deleted was taken out of the installation after the plan was made.
    #[error("{object} was to be deleted, but is no longer part of this installation")]
    ChangedHands {
        /// Which.
        object: ObjectKey,
    },
    /// An object that the plan was to make was made by somebody else meanwhile; it is as they made it.
    #[error("{object} was created by {owner} while the plan was running")]
    Overtaken {
        /// Which.
        object: ObjectKey,
        /// By whom.
        owner: String,
    },
    /// As [`Self::Overtaken`], and what was added to it could not be taken back.
    #[error("failed to undo the changes to {object}, which somebody else created while the plan was running")]
    NotGivenBack {
        /// Which.
        object: ObjectKey,
        /// The answer.
        #[source]
        source: RequestError,
    },
    /// Going on with a plan that was interrupted is refused, for these reasons.
    #[error("refused: {}", Listed(.0))]
    Refused(Vec<Refused>),
    /// An object reached a state that does not get better without intervention.
    #[error("{object}: {message}")]
    NeverReady {
        /// Which.
        object: ObjectKey,
        /// What its readiness rule says.
        message: String,
    },
    /// An object that the plan counts on is gone.
    #[error("{object} was deleted by somebody else while the plan was running")]
    Deleted {
        /// Which.
        object: ObjectKey,
    },
    /// Nothing moved for as long as `progress-deadline` allows.
    #[error("no progress for {seconds} s, waiting for {waiting}")]
    NoProgress {
        /// Seconds.
        seconds: u64,
        /// What was waited for.
        waiting: String,
    },
    /// A watch cannot be kept up.
    #[error("failed to watch {kind}")]
    Watch {
        /// The kind.
        kind: String,
        /// The answer.
        #[source]
        source: RequestError,
    },
}

impl Failure {
    /// Tells what [`crate::execute`] has left to be told, since another plan might have been made.
    pub(crate) fn tell(&self, sink: Sink<'_>) {
        if let Some(object) = self.overtaken().cloned() {
            sink(Event::Failed { object: Some(object), error: one_line(self) });
        }
    }

    /// The object that somebody else deleted or made since the plan was made: another plan, made for what is there
    /// now, may end well. Who took a field of it meanwhile is not overruled so.
    pub fn overtaken(&self) -> Option<&ObjectKey> {
        use ConflictKind::{ResourceVersion, Uid, UidOrResourceVersion};
        let (object, source) = match self {
            Self::Deleted { object } | Self::Overtaken { object, .. } => return Some(object),
            Self::Write { object, source, .. } => (object, source),
            _ => return None,
        };
        let overtaken = matches!(
            source,
            RequestError::AlreadyExists { .. }
                | RequestError::Conflict { kind: Uid | ResourceVersion | UidOrResourceVersion, .. }
        );
        overtaken.then_some(object)
    }
}

impl EngineError {
    /// A [`EngineError::Request`].
    pub(crate) fn request(
        action: &'static str,
        what: impl fmt::Display,
    ) -> impl FnOnce(RequestError) -> Self {
        move |source| Self::Request { action, what: what.to_string(), source }
    }
}

struct Listed<'a>(&'a [Refused]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, refused) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("; ")?;
            }
            write!(f, "{refused}")?;
        }
        Ok(())
    }
}

fn numbers(known: &[u64]) -> String {
    known.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use trainerd_cluster::FieldConflict;

    use super::*;

    #[test]
    fn only_changes_of_the_object_lead_to_another_plan() {
        let object = || ObjectKey {
            group: String::new(),
            kind: "ConfigMap".to_owned(),
            namespace: None,
            name: "a".to_owned(),
        };
        let conflict = |kind| RequestError::Conflict { kind, message: String::new() };
        let taken = FieldConflict { field: ".data.a".to_owned(), detail: String::new() };
        for (source, overtaken) in [
            (conflict(ConflictKind::Uid), true),
            (conflict(ConflictKind::UidOrResourceVersion), true),
            (conflict(ConflictKind::FieldManager { fields: vec![taken] }), false),
            // A webhook may say so, for ever.
            (conflict(ConflictKind::Other), false),
            (RequestError::Internal { message: String::new() }, false),
        ] {
            let failure = Failure::Write { verb: "apply", object: object(), source };
            assert_eq!(failure.overtaken().is_some(), overtaken, "{failure:?}");
        }
        assert_eq!(Failure::Deleted { object: object() }.overtaken(), Some(&object()));
        let never = Failure::NeverReady { object: object(), message: String::new() };
        assert_eq!(never.overtaken(), None);
    }
}
