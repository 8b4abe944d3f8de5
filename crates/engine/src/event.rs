//! What happens while a plan runs: the stream that the CLI draws, the daemon serves and the log keeps.

use std::time::Duration;

use serde::Serialize;
use trainerd_plan::object::ObjectKey;
use trainerd_plan::plan::{Counts, Purpose};
use trainerd_plan::reason::WaitingOn;

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Event {
    /// A plan is about to run.
    Planned {
        /// What for.
        purpose: Purpose,
        /// The revision that it leads to; `None` where it makes none.
        revision: Option<u64>,
        /// Its steps by kind.
        counts: Counts,
    },
    /// A journal was found open and is finished first.
    Recovering {
        /// What the interrupted plan was for.
        purpose: Purpose,
        /// The revision it led to.
        target: u64,
        /// Whether it had begun to go back.
        undo: bool,
    },
    /// A step's request is on its way.
    Started {
        /// The component that the object belongs to.
        component: String,
        /// Its object.
        object: ObjectKey,
        /// What is done to it.
        verb: &'static str,
    },
    /// Something is waited for. Sent again when the reason changes, not while it stays.
    Waiting {
        /// The object whose step waits; `None` where the whole plan does.
        object: Option<ObjectKey>,
        /// For what.
        on: WaitingOn,
    },
    /// A request will be repeated.
    Retrying {
        /// The object.
        object: ObjectKey,
        /// What the last try was answered.
        error: String,
        /// Milliseconds until the next try.
        after_ms: u64,
    },
    /// The answer to an apply differs from what was sent: the API server's admission changed it, and would again.
    ChangedByAdmission {
        /// The object.
        object: ObjectKey,
        /// The fields that differ.
        fields: Vec<String>,
    },
    /// A step is done.
    Done {
        /// Its object.
        object: ObjectKey,
        /// What was done to it.
        verb: &'static str,
        /// Milliseconds since it started.
        millis: u64,
        /// Steps done so far.
        done: usize,
        /// Steps in all.
        total: usize,
    },
    /// Somebody else changed what the plan was made for: it is made again, for what is there now.
    Overtaken {
        /// Its object.
        object: ObjectKey,
        /// What was met.
        why: String,
    },
    /// A step failed, and with it the plan.
    Failed {
        /// Its object; `None` where the plan as a whole failed.
        object: Option<ObjectKey>,
        /// Why.
        error: String,
    },
    /// The plan failed and the revision before it is brought back.
    RollingBack {
        /// That revision.
        to: u64,
        /// Why.
        reason: String,
    },
}

impl Event {
    /// Whether something moved: what is waited for has no end in sight while nothing does.
    pub fn is_progress(&self) -> bool {
        match self {
            Self::Planned { .. }
            | Self::Recovering { .. }
            | Self::Started { .. }
            | Self::Done { .. }
            | Self::RollingBack { .. } => true,
            Self::ChangedByAdmission { .. }
            | Self::Waiting { .. }
            | Self::Retrying { .. }
            | Self::Overtaken { .. }
            | Self::Failed { .. } => false,
        }
    }
}

/// Where events go. It must not block: it is called between requests.
pub type Sink<'a> = &'a (dyn Fn(Event) + Send + Sync);

/// Whole milliseconds, for events.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
