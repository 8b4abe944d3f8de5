//! What the daemon says of an installation, for those who look at it themselves: only the daemon knows of options
//! that are wrong, of a plan that is refused, and how far one in progress is.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use trainerd_causes::one_line;
use trainerd_engine::{Engine, State};

use super::daemon_client::{DaemonClient, Failure, source_in_cluster};
use super::hosted_text::HostedStatus;
use crate::problem::Exit;
use crate::problem::Problem;

/// Time limit for the daemon: without it, the status shows the cluster's state only.
const PATIENCE: Duration = Duration::from_secs(5);

/// The daemon's word.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum DaemonStatus {
    /// What it knows.
    #[serde(rename = "says")]
    Known(Box<DaemonView>),
    /// Why it cannot be asked.
    Unreachable(String),
}

/// What the daemon knows, of its view.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DaemonView {
    /// Its version.
    version: String,
    /// Where the options are declared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    source: Option<String>,
    /// How the installation is, in a word.
    pub(crate) phase: String,
    /// Why it is not ready.
    reason: Option<Reason>,
    /// The plan that runs, or ran last.
    plan: Option<Plan>,
    /// Which newer options wait for that plan. An older daemon does not say.
    #[serde(default)]
    newer: Option<String>,
    /// Which options are in force, and which are declared.
    #[serde(default)]
    pub(crate) generation: Option<String>,
    #[serde(default)]
    pub(crate) declared: Option<String>,
    /// Whether all is as the options in force want it.
    #[serde(default)]
    pub(crate) settled: bool,
    /// The workloads that it hosts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) hosted: Vec<HostedStatus>,
}

/// A problem, as the daemon reports it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Reason {
    code: String,
    message: String,
    causes: Vec<String>,
    hint: Option<String>,
}

/// A plan, as the daemon reports it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Plan {
    purpose: String,
    done: usize,
    total: usize,
    ended: Option<String>,
}

impl DaemonStatus {
    /// What it hosts.
    pub(crate) fn hosted(&self) -> &[HostedStatus] {
        match self {
            Self::Known(knows) => &knows.hosted,
            Self::Unreachable(_) => &[],
        }
    }

    /// Whether it says that a workload which it is to host is not there: the cluster does not show that.
    pub(crate) fn is_degraded(&self) -> bool {
        matches!(self, Self::Known(knows) if knows.phase == "degraded")
    }

    /// In one line.
    pub(crate) fn text(&self) -> String {
        let DaemonView { phase, reason, plan, newer, .. }: &DaemonView = match self {
            Self::Unreachable(why) => return format!("it cannot be reached: {why}"),
            Self::Known(knows) => knows,
        };
        let running = plan.as_ref().filter(|plan| plan.ended.is_none());
        let progress = running
            .map(|Plan { purpose, done, total, .. }| format!(", {purpose}: {done} of {total} steps"))
            .unwrap_or_default();
        let why = reason.as_ref().map(Reason::text).unwrap_or_default();
        let newer = if newer.is_some() && running.is_some() {
            "; newer options are waiting and replace that plan if it makes no progress for 30 s"
        } else {
            ""
        };
        format!("{phase}{progress}{why}{newer}")
    }
}

impl DaemonView {
    /// Why the declared options will not take effect in a phase; `None` if the phase is temporary.
    pub(crate) fn problem(&self, phase: &str) -> Option<Problem> {
        let reason = self.reason.as_ref()?;
        let (exit, code) = match phase {
            "invalid" => (Exit::Input, "invalid"),
            "refused" => (Exit::Refused, "refused"),
            "held" if reason.code == "other-source" => (Exit::Refused, "held"),
            "failed" => (Exit::Failed, "failed"),
            _ => return None,
        };
        let mut problem = Problem::new(exit, code, reason.message.clone());
        problem.causes.clone_from(&reason.causes);
        Some(match &reason.hint {
            Some(hint) => problem.hint(hint.clone()),
            None => problem,
        })
    }
}

impl DaemonStatus {
    /// That the options which are declared are not in force, and why; `None` where nothing is wrong with them, or nobody
    /// says.
    pub(super) fn options_not_in_force(&self) -> Option<String> {
        let Self::Known(knows) = self else { return None };
        let DaemonView { source, phase, reason: Some(reason), .. } = &**knows else { return None };
        let what = match phase.as_str() {
            "invalid" => "are invalid",
            "refused" => "are refused",
            "failed" => "failed to be applied",
            _ => return None,
        };
        let source = source.as_ref().map(|source| format!(" in {source}")).unwrap_or_default();
        Some(format!(
            "the options declared{source} {what}; the previous ones stay in effect{}",
            reason.text()
        ))
    }
}

impl Reason {
    /// What, why, and what to do.
    fn text(&self) -> String {
        let said: Vec<&str> = [&self.message].into_iter().chain(&self.causes).map(String::as_str).collect();
        let hint = self.hint.as_ref().map(|hint| format!(" ({hint})")).unwrap_or_default();
        format!(": {}{hint}", said.join("; "))
    }
}

/// Asks the daemon, and keeps the way to it.
pub(crate) struct DaemonProbe {
    client: Option<DaemonClient>,
}

impl DaemonProbe {
    /// One that asks the daemon behind a socket, or else the one in the cluster.
    pub(crate) fn new(socket: Option<PathBuf>) -> Self {
        Self { client: socket.map(DaemonClient::Socket) }
    }

    /// What the daemon says; `None` where there is none to ask.
    pub(crate) async fn listen(&mut self, engine: &Engine, state: &State) -> Option<DaemonStatus> {
        match tokio::time::timeout(PATIENCE, self.ask(engine, state)).await {
            Ok(Ok(word)) => word.map(|knows| DaemonStatus::Known(Box::new(knows))),
            Ok(Err(error)) => {
                // It may have moved to another pod.
                if matches!(self.client, Some(DaemonClient::Pod(_))) {
                    self.client = None;
                }
                Some(DaemonStatus::Unreachable(one_line(&*error)))
            }
            Err(_) => Some(DaemonStatus::Unreachable(format!("no response within {} s", PATIENCE.as_secs()))),
        }
    }

    async fn ask(&mut self, engine: &Engine, state: &State) -> Result<Option<DaemonView>, Failure> {
        if self.client.is_none() {
            let namespace = &engine.installation().namespace;
            let owner = state.control().owner.as_ref();
            // Before its first plan a daemon has said nothing, and there is nothing installed to look at either.
            let is_there = match owner {
                Some(owner) => owner.what == source_in_cluster(namespace),
                None => state.current.is_none(),
            };
            if !is_there {
                return Ok(None);
            }
            match DaemonClient::into_cluster(engine.cluster(), engine.installation()).await? {
                Some(client) => self.client = Some(client),
                // It is said to rule, and is not there.
                None if owner.is_some() => return Err("its pod does not exist".into()),
                None => return Ok(None),
            }
        }
        match &self.client {
            Some(client) => Ok(Some(serde_json::from_value(client.view().await?)?)),
            None => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_status_line_has_state_reason_and_hint() {
        let knows = |view| DaemonStatus::Known(Box::new(serde_json::from_value(view).unwrap()));
        let view = json!({"version": "0.1.0", "phase": "ready", "reason": null, "plan": null, "more": 1});
        assert_eq!(knows(view).text(), "ready");
        let view = json!({
            "version": "0.1.0", "phase": "running", "reason": null,
            "plan": {"purpose": "upgrade", "done": 3, "total": 9, "ended": null},
        });
        assert_eq!(knows(view).text(), "running, upgrade: 3 of 9 steps");
        let view = json!({
            "version": "0.1.0", "phase": "invalid",
            "reason": {"code": "c", "message": "invalid option settle", "causes": ["must be 0 to 300"], "hint": "h"},
            "plan": {"purpose": "upgrade", "done": 9, "total": 9, "ended": "2026-01-01T00:00:00Z"},
        });
        assert_eq!(knows(view).text(), "invalid: invalid option settle; must be 0 to 300 (h)");
        let view = json!({
            "version": "0.1.0", "phase": "invalid", "source": "ConfigMap ns/o", "plan": null,
            "reason": {"code": "c", "message": "invalid option settle", "causes": [], "hint": null},
        });
        assert_eq!(
            knows(view).options_not_in_force().as_deref(),
            Some(
                "the options declared in ConfigMap ns/o are invalid; the previous ones stay in effect: invalid option settle"
            )
        );
        let word = DaemonStatus::Unreachable("no pod".to_owned());
        assert_eq!(word.text(), "it cannot be reached: no pod");
    }
}
