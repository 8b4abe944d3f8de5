//! Ownership of the installation's options: this daemon's source, or another one.

use std::sync::Arc;

use trainerd_engine::State;
use trainerd_engine::drift_controller::OwnerSeen;
use trainerd_juju::status::Reason;

use super::blocked::{Stop, blocked};
use super::{Declared, InstallationController, Phase};
use crate::problem::Problem;

/// The relation of this daemon to the owner of the options.
#[derive(Debug)]
pub(super) struct Ownership {
    /// Whether our source is to take over ownership: once, as a later takeover by another source must prevail.
    force_ownership: bool,
    /// Another source owns the options: this daemon only observes.
    held: bool,
}

impl Ownership {
    pub(super) fn new(force_ownership: bool) -> Self {
        Self { force_ownership, held: false }
    }

    /// Decides again.
    pub(super) fn begin(&mut self) {
        self.held = false;
    }

    pub(super) fn is_held(&self) -> bool {
        self.held
    }
}

/// Whether a watch reports another owner of the options than was read or written last.
pub(super) fn is_news(state: Option<&State>, told: &OwnerSeen) -> bool {
    let note = state.and_then(|state| state.control().owner.as_ref());
    differs(note.map(|note| note.uid.as_str()), told)
}

/// Whether a reported marker differs from the known one, by uid.
fn differs(known: Option<&str>, told: &OwnerSeen) -> bool {
    match told {
        OwnerSeen::Is(uid) => known != Some(uid),
        OwnerSeen::Gone(uid) => known == Some(uid),
        OwnerSeen::Nobody => known.is_some(),
    }
}

impl InstallationController {
    /// Claims the lease for this daemon's unit once it is the leader: the former leader's daemon may not know yet.
    pub(super) async fn claim_lease(&mut self) -> Result<(), Stop> {
        let Some(unit) = self.declared.borrow().leader().map(str::to_owned) else {
            self.engine.lease_claim().withdraw();
            return Ok(());
        };
        let engine = Arc::clone(&self.engine);
        if !engine.lease_claim().make(&unit) {
            return Ok(());
        }
        let announced = self.aside(engine.announce()).await?;
        announced.map_err(|error| {
            engine.lease_claim().withdraw();
            self.stopped(error)
        })
    }

    /// Whether another unit's daemon is to have the lease.
    pub(super) fn is_outranked(&self) -> bool {
        let problem = self.blocked.as_ref().map(|blocked| &blocked.problem);
        problem.is_some_and(|problem| matches!(problem.reason.as_deref(), Some(Reason::LeaseHeld { .. })))
    }

    /// Records the owner of the options, once there is an installation and valid options. If another source owns them,
    /// nothing is done: two daemons would keep undoing each other's changes.
    pub(super) async fn claim(&mut self) -> Result<(), Stop> {
        let Some(state) = self.state.as_ref().filter(|state| state.version().is_some()) else {
            return Ok(());
        };
        let (engine, control) = (Arc::clone(&self.engine), state.control().clone());
        let source = self.source.to_string();
        if let Some(owner) = control.other_owner(&source)
            && !self.ownership.force_ownership
        {
            self.ownership.held = true;
            let hint =
                "change the options there, or stop that daemon and start this one with --force-ownership";
            return Err(blocked(Phase::Held, Problem::other_source(owner).hint(hint), None));
        }
        // A removed source is not restored automatically.
        if !matches!(*self.declared.borrow(), Declared::Options(_)) {
            return Ok(());
        }
        match self.aside(engine.claim(&control, &source)).await? {
            Ok(note) => {
                self.ownership.force_ownership = false;
                self.state = self.state.take().map(|state| state.owned_by(note));
                Ok(())
            }
            Err(error) => Err(self.stopped(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_changed_notes_are_reported() {
        let (none, ours) = (None, Some("a"));
        let uid = |uid: &str| uid.to_owned();
        for (known, told, is_news) in [
            (none, OwnerSeen::Nobody, false),
            (none, OwnerSeen::Is(uid("a")), true),
            (none, OwnerSeen::Gone(uid("a")), false),
            (ours, OwnerSeen::Is(uid("a")), false),
            (ours, OwnerSeen::Is(uid("b")), true),
            (ours, OwnerSeen::Gone(uid("a")), true),
            // The marker that ours replaced.
            (ours, OwnerSeen::Gone(uid("b")), false),
            (ours, OwnerSeen::Nobody, true),
        ] {
            assert_eq!(differs(known, &told), is_news, "{known:?} {told:?}");
        }
    }
}
