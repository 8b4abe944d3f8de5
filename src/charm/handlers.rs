//! What each hook does, as a table.

use std::time::Duration;

use trainerd_juju::hook::{Endpoint, Hook, RelationEvent};

/// The relations whose databags are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Relations {
    None,
    One(Endpoint),
    All,
}

/// What a hook does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Handler {
    /// Nothing.
    Ignore,
    /// Only sets the status, without reading anything.
    Install,
    /// The daemon finishes its operation and releases the lease.
    Stop,
    /// Removes the installation if this was the last unit.
    Remove,
    /// Sends the desired state to the daemon and sets the status.
    Reconcile {
        /// Whether Pebble's layer is checked too; otherwise only the daemon's status is read.
        layer: bool,
        /// The relations whose databags are written.
        relations: Relations,
        /// Time limit.
        budget: Duration,
    },
    /// Only writes databags; the status stays.
    UpdateRelation(Endpoint),
}

/// The key of the notice that the daemon posts.
const NOTICE: &str = "trainerd.dev/state";

/// What a hook does; `notice` is the key of the notice that it is about.
pub(super) fn handler(hook: &Hook, notice: Option<&str>) -> Handler {
    let reconcile = |relations, seconds| Handler::Reconcile {
        layer: true,
        relations,
        budget: Duration::from_secs(seconds),
    };
    match hook {
        Hook::Install => Handler::Install,
        Hook::PebbleReady | Hook::LeaderElected | Hook::ConfigChanged => reconcile(Relations::All, 15),
        Hook::Start | Hook::UpdateStatus | Hook::Check(_) => reconcile(Relations::None, 10),
        Hook::LeaderSettingsChanged => reconcile(Relations::None, 5),
        Hook::UpgradeCharm => reconcile(Relations::All, 20),
        // Juju's agent repeats old notices after a restart: only the current state counts.
        Hook::CustomNotice if notice == Some(NOTICE) => {
            Handler::Reconcile { layer: false, relations: Relations::None, budget: Duration::from_secs(5) }
        }
        Hook::Relation(
            Endpoint::Mesh,
            RelationEvent::Created | RelationEvent::Changed | RelationEvent::Broken,
        ) => reconcile(Relations::One(Endpoint::Mesh), 10),
        // The mesh admits whoever scrapes us.
        Hook::Relation(Endpoint::Metrics, RelationEvent::Departed | RelationEvent::Broken)
        | Hook::Relation(Endpoint::ProvideCmr, RelationEvent::Changed | RelationEvent::Broken) => {
            Handler::UpdateRelation(Endpoint::Mesh)
        }
        Hook::Relation(endpoint @ (Endpoint::Metrics | Endpoint::Dashboard | Endpoint::RequireCmr), _) => {
            Handler::UpdateRelation(*endpoint)
        }
        Hook::Relation(Endpoint::Links, RelationEvent::Created | RelationEvent::Changed) => {
            Handler::UpdateRelation(Endpoint::Links)
        }
        Hook::Stop => Handler::Stop,
        Hook::Remove => Handler::Remove,
        Hook::CustomNotice | Hook::Relation(..) | Hook::Action(_) | Hook::Other => Handler::Ignore,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notices_of_others_are_ignored() {
        assert_eq!(handler(&Hook::CustomNotice, Some("other.dev/state")), Handler::Ignore);
        assert!(matches!(
            handler(&Hook::CustomNotice, Some(NOTICE)),
            Handler::Reconcile { layer: false, .. }
        ));
        // The key that the daemon uses.
        assert_eq!(NOTICE, "trainerd.dev/state");
    }

    #[test]
    fn a_broken_scrape_relation_updates_the_mesh_policies() {
        let hook = Hook::Relation(Endpoint::Metrics, RelationEvent::Broken);
        assert_eq!(handler(&hook, None), Handler::UpdateRelation(Endpoint::Mesh));
        let hook = Hook::Relation(Endpoint::Links, RelationEvent::Departed);
        assert_eq!(handler(&hook, None), Handler::Ignore);
    }
}
