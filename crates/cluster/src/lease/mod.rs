//! One writer of many: a fenced lease (`coordination.k8s.io/v1`).
//!
//! # Guarantees
//! * Every write of the lease carries the resourceVersion it was read at, or tests the tenure that it succeeds,
//!   so that of two processes that see it free one gets it.
//! * [`Fence::check`] is answered locally, from a clock that runs on while the machine sleeps: it says yes only
//!   as long as nobody who follows the rules below can have taken the lease, counted from the moment the last
//!   successful renewal was *sent*.
//! * A claimed lease ([`Claim`]) is released by a holder with another name, and not acquired by others.
//! * The clocks of two machines are never compared. A foreign lease is taken over when its `renewTime` has been
//!   seen unchanged for its whole duration on our own clock, or when its holder is a process of this machine
//!   that is known to be dead.
//!
//! # Caveats
//! A request that was sent before the lease was lost may arrive after it. Writes therefore carry uid or
//! resourceVersion preconditions of their own where a late arrival would do harm.

mod acquire;
mod claim;
mod clock;
mod decide;
mod guard;
mod identity;
mod record;

use std::time::Duration;

use crate::error::RequestError;

pub use claim::{Claim, YIELD_TO};
pub use decide::{Decision, Observation, decide};
pub use guard::{Fence, LeaseGuard, LeaseLost};
pub use identity::{Identity, IdentityError, Process};
pub use record::{FencingToken, LeaseRecord};

/// How a lease is held and waited for.
#[derive(Clone, Debug)]
pub struct LeaseConfig {
    /// How long the lease is ours after a renewal. Written to the lease in whole seconds, rounded up.
    pub duration: Duration,
    /// Time between renewals. At most a third of `duration` leaves room for two that fail.
    pub renew: Duration,
    /// How long before its end the lease is no longer relied on: bounds how late a write that was checked may
    /// be sent.
    pub margin: Duration,
    /// How long to wait for a lease that somebody else holds. Less than `duration` and the lease of a holder
    /// that died on another machine is not waited out.
    pub wait: Duration,
    /// Who we are.
    pub identity: Identity,
    /// Our name in the lease, if other candidates expect another form than [`Identity`]'s. Such a holder counts as dead
    /// only when its lease has expired.
    pub holder: Option<String>,
    /// The last known tenure. A lease that was released in it and not taken since is acquired with one request.
    pub after: Option<FencingToken>,
    /// The claim of this process, if leadership is decided outside of the election.
    pub claim: Claim,
}

impl LeaseConfig {
    /// 15 s, renewed every 5 s, given up 2 s early; waits 20 s for a holder that may be dead.
    pub fn new(identity: Identity) -> Self {
        Self {
            duration: Duration::from_secs(15),
            renew: Duration::from_secs(5),
            margin: Duration::from_secs(2),
            wait: Duration::from_secs(20),
            identity,
            holder: None,
            after: None,
            claim: Claim::default(),
        }
    }
}

/// Why the lease is not ours.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LeaseError {
    /// Another process holds it and may be alive.
    #[error("failed to take the lease {namespace}/{name}: held by {holder}{}", acquired(.since.as_ref()))]
    Held {
        /// Namespace of the lease.
        namespace: String,
        /// Name of the lease.
        name: String,
        /// Identity of the holder, as the lease has it.
        holder: String,
        /// When it took the lease, by its own clock.
        since: Option<jiff::Timestamp>,
    },
    /// A request failed permanently or until the timeout.
    #[error("failed to take the lease {namespace}/{name}")]
    Request {
        /// Namespace of the lease.
        namespace: String,
        /// Name of the lease.
        name: String,
        /// The last failure.
        #[source]
        source: RequestError,
    },
}

fn acquired(time: Option<&jiff::Timestamp>) -> String {
    time.map(|time| format!(" since {time:.0}")).unwrap_or_default()
}
