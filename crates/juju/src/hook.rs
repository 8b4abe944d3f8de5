//! Why Juju runs the charm: the value of `JUJU_DISPATCH_PATH`.

use std::fmt;
use std::str::FromStr;

/// An endpoint of `metadata.yaml`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Endpoint {
    /// Prometheus scrapes us.
    Metrics,
    /// Grafana shows our dashboard.
    Dashboard,
    /// The Kubeflow dashboard links to our documentation.
    Links,
    /// A service mesh lets the scraper in.
    Mesh,
    /// Tells applications of other models who we are.
    ProvideCmr,
    /// Is told who the applications of other models are.
    RequireCmr,
}

impl Endpoint {
    /// Every endpoint.
    pub const ALL: [Self; 6] =
        [Self::Metrics, Self::Dashboard, Self::Links, Self::Mesh, Self::ProvideCmr, Self::RequireCmr];

    /// Its name in `metadata.yaml`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Metrics => "metrics-endpoint",
            Self::Dashboard => "grafana-dashboard",
            Self::Links => "dashboard-links",
            Self::Mesh => "service-mesh",
            Self::ProvideCmr => "provide-cmr-mesh",
            Self::RequireCmr => "require-cmr-mesh",
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What happened to a relation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RelationEvent {
    /// It was made.
    Created,
    /// A remote unit entered.
    Joined,
    /// A databag changed.
    Changed,
    /// A remote unit left.
    Departed,
    /// It is gone.
    Broken,
}

/// A check of Pebble changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckEvent {
    /// It is down.
    Failed,
    /// It is up again.
    Recovered,
}

/// Why Juju runs the charm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hook {
    /// The unit is new.
    Install,
    /// Pebble of the workload container answers.
    PebbleReady,
    /// The unit starts.
    Start,
    /// Options changed, or trust.
    ConfigChanged,
    /// This unit leads now.
    LeaderElected,
    /// Another unit leads.
    LeaderSettingsChanged,
    /// Some minutes passed.
    UpdateStatus,
    /// The charm is another one.
    UpgradeCharm,
    /// Somebody told Pebble something.
    CustomNotice,
    /// A check of Pebble changed.
    Check(CheckEvent),
    /// Something happened to a relation.
    Relation(Endpoint, RelationEvent),
    /// The unit stops: for ever, or to come back as another pod.
    Stop,
    /// The unit goes.
    Remove,
    /// A person runs an action.
    Action(String),
    /// A hook that this charm does nothing about.
    Other,
}

/// Name of the workload container in `metadata.yaml`.
pub const CONTAINER: &str = "trainerd";

impl FromStr for Hook {
    type Err = std::convert::Infallible;

    /// Reads a dispatch path: `hooks/<hook>` or `actions/<action>`. Every path means something.
    fn from_str(path: &str) -> Result<Self, Self::Err> {
        if let Some(action) = path.strip_prefix("actions/") {
            return Ok(Self::Action(action.to_owned()));
        }
        let name = path.strip_prefix("hooks/").unwrap_or(path);
        Ok(match name {
            "install" => Self::Install,
            "start" => Self::Start,
            "config-changed" => Self::ConfigChanged,
            "leader-elected" => Self::LeaderElected,
            "leader-settings-changed" => Self::LeaderSettingsChanged,
            "update-status" => Self::UpdateStatus,
            "upgrade-charm" => Self::UpgradeCharm,
            "stop" => Self::Stop,
            "remove" => Self::Remove,
            _ => match name.strip_prefix(CONTAINER).and_then(|rest| rest.strip_prefix("-pebble-")) {
                Some("ready") => Self::PebbleReady,
                Some("custom-notice") => Self::CustomNotice,
                Some("check-failed") => Self::Check(CheckEvent::Failed),
                Some("check-recovered") => Self::Check(CheckEvent::Recovered),
                Some(_) => Self::Other,
                None => relation(name).unwrap_or(Self::Other),
            },
        })
    }
}

fn relation(name: &str) -> Option<Hook> {
    Endpoint::ALL.into_iter().find_map(|endpoint| {
        let event = match name.strip_prefix(endpoint.name())?.strip_prefix("-relation-")? {
            "created" => RelationEvent::Created,
            "joined" => RelationEvent::Joined,
            "changed" => RelationEvent::Changed,
            "departed" => RelationEvent::Departed,
            "broken" => RelationEvent::Broken,
            _ => return None,
        };
        Some(Hook::Relation(endpoint, event))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dispatch_paths_are_parsed() {
        let action = Hook::Action("upgrade".to_owned());
        for (path, hook) in [
            ("hooks/install", Hook::Install),
            ("hooks/trainerd-pebble-ready", Hook::PebbleReady),
            ("hooks/trainerd-pebble-custom-notice", Hook::CustomNotice),
            ("hooks/trainerd-pebble-check-failed", Hook::Check(CheckEvent::Failed)),
            ("hooks/trainerd-pebble-check-recovered", Hook::Check(CheckEvent::Recovered)),
            ("hooks/trainerd-pebble-stopped", Hook::Other),
            ("hooks/other-pebble-ready", Hook::Other),
            (
                "hooks/metrics-endpoint-relation-joined",
                Hook::Relation(Endpoint::Metrics, RelationEvent::Joined),
            ),
            ("hooks/service-mesh-relation-broken", Hook::Relation(Endpoint::Mesh, RelationEvent::Broken)),
            ("hooks/service-mesh-relation-mended", Hook::Other),
            ("hooks/secret-rotate", Hook::Other),
            ("actions/upgrade", action),
        ] {
            assert_eq!(path.parse(), Ok(hook), "{path}");
        }
    }
}
