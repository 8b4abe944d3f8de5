//! What each hook does: the table of hooks, as data.

use std::time::Duration;

use trainerd_juju::hook::{Endpoint, Hook, RelationEvent};

/// Which relations' databags are looked after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Relations {
    None,
    One(Endpoint),
    All,
}

/// What a hook does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Course {
    /// Nothing.
    Nothing,
    /// Only this status, with no look at anything.
    Install,
    /// The daemon finishes what it is at and lets go.
    Stop,
    /// All goes, if this was the last unit.
    Remove,
    /// The daemon is told what shall be, and the status is shown.
    Converge {
        /// Whether Pebble's layer is looked after: else the daemon is only asked.
        layer: bool,
        /// Whose databags are written.
        relations: Relations,
        /// Longest that it may take.
        budget: Duration,
    },
    /// Only databags are written; the status stays.
    Relate(Endpoint),
}

/// The key of the notice that the daemon posts.
const NOTICE: &str = "trainerd.dev/state";

/// The course of a hook; `notice` is the key of the notice that it is about.
pub(super) fn course(hook: &Hook, notice: Option<&str>) -> Course {
    let converge = |relations, seconds| Course::Converge {
        layer: true,
        relations,
        budget: Duration::from_secs(seconds),
    };
    match hook {
        Hook::Install => Course::Install,
        Hook::PebbleReady | Hook::LeaderElected | Hook::ConfigChanged => converge(Relations::All, 15),
        Hook::Start | Hook::UpdateStatus | Hook::Check(_) => converge(Relations::None, 10),
        Hook::LeaderSettingsChanged => converge(Relations::None, 5),
        Hook::UpgradeCharm => converge(Relations::All, 20),
        // Old notices are told again after a restart of Juju's agent: what counts is how it is now.
        Hook::CustomNotice if notice == Some(NOTICE) => {
            Course::Converge { layer: false, relations: Relations::None, budget: Duration::from_secs(5) }
        }
        Hook::Relation(
            Endpoint::Mesh,
            RelationEvent::Created | RelationEvent::Changed | RelationEvent::Broken,
        ) => converge(Relations::One(Endpoint::Mesh), 10),
        // Who scrapes us, by whatever name, is whom the mesh lets in.
        Hook::Relation(Endpoint::Metrics, RelationEvent::Departed | RelationEvent::Broken)
        | Hook::Relation(Endpoint::ProvideCmr, RelationEvent::Changed | RelationEvent::Broken) => {
            Course::Relate(Endpoint::Mesh)
        }
        Hook::Relation(endpoint @ (Endpoint::Metrics | Endpoint::Dashboard | Endpoint::RequireCmr), _) => {
            Course::Relate(*endpoint)
        }
        Hook::Relation(Endpoint::Links, RelationEvent::Created | RelationEvent::Changed) => {
            Course::Relate(Endpoint::Links)
        }
        Hook::Stop => Course::Stop,
        Hook::Remove => Course::Remove,
        Hook::CustomNotice | Hook::Relation(..) | Hook::Action(_) | Hook::Other => Course::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_notice_means_something() {
        assert_eq!(course(&Hook::CustomNotice, Some("other.dev/state")), Course::Nothing);
        assert!(matches!(course(&Hook::CustomNotice, Some(NOTICE)), Course::Converge { layer: false, .. }));
        // The daemon's own word for it.
        assert_eq!(NOTICE, "trainerd.dev/state");
    }

    #[test]
    fn who_stops_scraping_changes_what_the_mesh_lets_in() {
        let hook = Hook::Relation(Endpoint::Metrics, RelationEvent::Broken);
        assert_eq!(course(&hook, None), Course::Relate(Endpoint::Mesh));
        let hook = Hook::Relation(Endpoint::Links, RelationEvent::Departed);
        assert_eq!(course(&hook, None), Course::Nothing);
    }
}
