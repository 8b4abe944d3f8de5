//! What blocks the controller: the meaning of a plan's error, and when to retry.

use std::time::Duration;

use trainerd_cluster::RequestError;
use trainerd_engine::EngineError;
use trainerd_juju::status::Reason;
use trainerd_plan::plan::Purpose;

use super::{InstallationController, Phase};
use crate::problem::Exit;
use crate::problem::Problem;

/// What blocks the controller, and when to retry.
pub(super) struct Blocked {
    pub(super) phase: Phase,
    pub(super) problem: Problem,
    /// `None`: not before something changes.
    pub(super) again: Option<Duration>,
}

/// Why a pass ended early.
pub(super) enum Stop {
    /// The process is to end.
    Shutdown,
    /// The installation was paused, or options changed, while a plan ran.
    Requeue,
    /// The pass is blocked.
    Blocked(Box<Blocked>),
}

impl InstallationController {
    /// Converts the error of a plan.
    pub(super) fn stopped(&mut self, error: EngineError) -> Stop {
        let (phase, again) = match &error {
            EngineError::Interrupted => return Stop::Requeue,
            EngineError::Lease(_) => (Phase::Held, Some(Duration::from_secs(5))),
            EngineError::LeaseLost(_) => (Phase::Held, Some(self.soon.next_wait())),
            EngineError::ChangedMeanwhile { .. } | EngineError::Journal(_) => {
                (Phase::Running, Some(self.soon.next_wait()))
            }
            EngineError::Connect(_) => (Phase::Disconnected, Some(self.soon.next_wait())),
            EngineError::Request { source, .. } if is_passing(source) => {
                (Phase::Disconnected, Some(self.soon.next_wait()))
            }
            // Users who grant permissions wait for the effect: `juju trust` right after `juju deploy`.
            EngineError::Permissions(_) => (Phase::Refused, Some(self.soon.next_wait())),
            EngineError::Request { source: RequestError::Forbidden { .. }, .. } => {
                (Phase::Failed, Some(self.soon.next_wait()))
            }
            EngineError::Refused(_) => (Phase::Refused, Some(self.late.next_wait())),
            EngineError::PendingDeletion { .. } => (Phase::Waiting, Some(self.late.next_wait())),
            EngineError::RolledBack { .. } => (Phase::Failed, None),
            _ => (Phase::Failed, Some(self.late.next_wait())),
        };
        let reason = self.failed_upgrade(&error);
        let problem = Problem::from(error);
        let problem = match reason {
            Some(reason) => problem.with_reason(reason),
            None => problem,
        };
        blocked(phase, problem, again)
    }

    /// The status of an upgrade that was rolled back, with versions in place of revisions.
    fn failed_upgrade(&self, error: &EngineError) -> Option<Reason> {
        let EngineError::RolledBack { purpose: Purpose::Upgrade, revision, back, reason } = error else {
            return None;
        };
        let history = self.engine.known_history(self.state.as_ref()?);
        let version = |number: u64| {
            let (header, _) = history.iter().find(|(header, _)| header.number == number)?;
            Some(header.components.get("trainer")?.version.to_string())
        };
        Some(Reason::UpgradeFailed {
            to: version(*revision)?,
            back: version(*back)?,
            cause: innermost(reason).to_owned(),
        })
    }

    /// Converts an error of resolving the desired state.
    pub(super) fn unwanted(&mut self, problem: Problem) -> Stop {
        let (phase, again) = match problem.exit {
            Exit::Input => (Phase::Invalid, None),
            Exit::Cluster => (Phase::Disconnected, Some(self.soon.next_wait())),
            _ => (Phase::Refused, Some(self.late.next_wait())),
        };
        blocked(phase, problem, again)
    }
}

/// See [`Blocked`].
pub(super) fn blocked(phase: Phase, problem: Problem, again: Option<Duration>) -> Stop {
    Stop::Blocked(Box::new(Blocked { phase, problem, again }))
}

/// The message of a pod, if there is one among the causes: a status is short.
fn innermost(reason: &str) -> &str {
    let pod = reason.split_once("; pod ").and_then(|(_, pod)| pod.split_once(": "));
    pod.map_or(reason, |(_, said)| said)
}

/// Whether the same request may succeed later without intervention.
fn is_passing(error: &RequestError) -> bool {
    error.retry().is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_of_a_pod_is_the_cause_of_a_failed_upgrade() {
        let waited = "no progress for 60 s, waiting for Deployment kubeflow/a: 1 more to terminate; \
                      pod a-7f7-l7rws: container manager: ImagePullBackOff, cannot pull r.example/a:v1";
        assert_eq!(innermost(waited), "container manager: ImagePullBackOff, cannot pull r.example/a:v1");
        assert_eq!(
            innermost("no progress for 60 s, waiting for CRD b"),
            "no progress for 60 s, waiting for CRD b"
        );
    }
}
