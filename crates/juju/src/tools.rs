//! The hook tools: programs that Juju puts on `PATH`, one process a call.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use tokio::time::timeout;
use trainerd_causes::in_one_line;

/// Time limit of a tool.
const TOOL_TIMEOUT: Duration = Duration::from_secs(5);

/// Longest argument of a process on Linux, less the terminating zero (`MAX_ARG_STRLEN`).
const MAX_ARGUMENT_LEN: usize = 131_071;

/// Longest status message that is shown whole by `juju status`.
const MAX_MESSAGE_LEN: usize = 120;

/// Why a tool failed.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    /// It could not be started.
    #[error("failed to run {tool}")]
    Run {
        /// Which.
        tool: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// It did not end in time.
    #[error("{tool} did not end within {TOOL_TIMEOUT:?}")]
    TimedOut {
        /// Which.
        tool: &'static str,
    },
    /// It refused.
    #[error("{tool} ended with {code}: {stderr}")]
    Failed {
        /// Which.
        tool: &'static str,
        /// How it ended: a code or a signal.
        code: String,
        /// What it said.
        stderr: String,
    },
    /// Its output could not be parsed.
    #[error("failed to read what {tool} printed")]
    Json {
        /// Which.
        tool: &'static str,
        /// Why.
        source: serde_json::Error,
    },
}

/// Status value and message, as `juju status` shows them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// One of Juju's status values.
    pub status: String,
    /// One line.
    #[serde(default)]
    pub message: String,
}

/// The current statuses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Statuses {
    /// Of this unit.
    pub unit: Status,
    /// Of the application, which only its leader can read.
    pub application: Option<Status>,
}

/// Log level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Information.
    Info,
    /// Something went wrong.
    Error,
}

/// Which databag of a relation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bag<'a> {
    /// One of an application.
    App(&'a str),
    /// One of a unit.
    Unit(&'a str),
}

/// The tools.
#[derive(Debug, Default)]
pub struct Tools {
    spawned: AtomicUsize,
}

impl Tools {
    /// How many processes were started.
    pub fn spawned(&self) -> usize {
        self.spawned.load(Ordering::Relaxed)
    }

    async fn run(
        &self,
        tool: &'static str,
        arguments: &[&str],
        stdin: Option<String>,
    ) -> Result<String, ToolError> {
        self.spawned.fetch_add(1, Ordering::Relaxed);
        let failed = |source| ToolError::Run { tool, source };
        let input = if stdin.is_some() { Stdio::piped() } else { Stdio::null() };
        let mut child = Command::new(tool)
            .args(arguments)
            .stdin(input)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)?;
        let work = async {
            if let (Some(text), Some(mut pipe)) = (stdin, child.stdin.take()) {
                // A tool may end without reading; its exit code counts.
                let _ = pipe.write_all(text.as_bytes()).await;
                drop(pipe);
            }
            child.wait_with_output().await
        };
        let output =
            timeout(TOOL_TIMEOUT, work).await.map_err(|_| ToolError::TimedOut { tool })?.map_err(failed)?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let code = output.status.to_string();
        let stderr = in_one_line(&String::from_utf8_lossy(&output.stderr));
        Err(ToolError::Failed { tool, code, stderr })
    }

    async fn read<T: for<'a> Deserialize<'a>>(
        &self,
        tool: &'static str,
        arguments: &[&str],
    ) -> Result<T, ToolError> {
        let text = self.run(tool, arguments, None).await?;
        serde_json::from_str(&text).map_err(|source| ToolError::Json { tool, source })
    }

    /// The options that are set or have a default.
    pub async fn config(&self) -> Result<Map<String, Value>, ToolError> {
        self.read("config-get", &["--format=json"]).await
    }

    /// Whether this unit is the leader, which holds for the next 30 seconds.
    pub async fn is_leader(&self) -> Result<bool, ToolError> {
        self.read("is-leader", &["--format=json"]).await
    }

    /// The status of this unit and, for the leader, of the application, in one call.
    pub async fn statuses(&self, leader: bool, unit: &str) -> Result<Statuses, ToolError> {
        let scope = format!("--application={leader}");
        let answer = self.read("status-get", &["--include-data", "--format=json", &scope]).await?;
        read_statuses(&answer, unit).map_err(|source| ToolError::Json { tool: "status-get", source })
    }

    /// Sets the status of this unit, or of the application.
    pub async fn set_status(&self, application: bool, status: &Status) -> Result<(), ToolError> {
        let scope = format!("--application={application}");
        let message = truncate(&in_one_line(&status.message), MAX_MESSAGE_LEN);
        self.run("status-set", &[&scope, &status.status, "--", &message], None).await.map(drop)
    }

    /// Sets the version of the workload.
    pub async fn set_version(&self, version: &str) -> Result<(), ToolError> {
        self.run("application-version-set", &["--", version], None).await.map(drop)
    }

    /// Writes to Juju's log.
    pub async fn log(&self, level: Level, message: &str) -> Result<(), ToolError> {
        let level = match level {
            Level::Info => "INFO",
            Level::Error => "ERROR",
        };
        let message = truncate(message, MAX_ARGUMENT_LEN);
        self.run("juju-log", &["--log-level", level, "--", &message], None).await.map(drop)
    }

    /// The relations of an endpoint, as `endpoint:number`; broken ones are not among them.
    pub async fn relations(&self, endpoint: &str) -> Result<Vec<String>, ToolError> {
        self.read("relation-ids", &[endpoint, "--format=json"]).await
    }

    /// The application at the other end.
    pub async fn remote_app(&self, relation: &str) -> Result<String, ToolError> {
        self.read("relation-list", &["--format=json", "--app", "-r", relation]).await
    }

    /// A databag.
    pub async fn bag(&self, relation: &str, bag: Bag<'_>) -> Result<BTreeMap<String, String>, ToolError> {
        let (scope, whose) = match bag {
            Bag::App(name) => (Some("--app"), name),
            Bag::Unit(name) => (None, name),
        };
        let mut arguments = vec!["--format=json", "-r", relation];
        arguments.extend(scope);
        arguments.extend(["-", whose]);
        // An empty bag is `null` or an empty object, by version.
        let bag: Option<BTreeMap<String, String>> = self.read("relation-get", &arguments).await?;
        Ok(bag.unwrap_or_default())
    }

    /// Writes to a databag of this unit or, with `app`, of its application. An empty text deletes.
    pub async fn write_bag(
        &self,
        relation: &str,
        app: bool,
        values: &BTreeMap<String, String>,
    ) -> Result<(), ToolError> {
        let mut arguments = vec!["-r", relation];
        arguments.extend(app.then_some("--app"));
        arguments.extend(["--file", "-"]);
        self.run("relation-set", &arguments, Some(text_of(values))).await.map(drop)
    }

    /// The first address that this unit binds to for an endpoint, if there is any.
    pub async fn bind_address(&self, relation: &str, endpoint: &str) -> Result<Option<String>, ToolError> {
        let answer: Value = self.read("network-get", &["--format=json", "-r", relation, endpoint]).await?;
        Ok(first_address(&answer))
    }

    /// The planned units, without those that are being removed.
    pub async fn planned_units(&self) -> Result<Vec<String>, ToolError> {
        let answer: Value = self.read("goal-state", &["--format=json"]).await?;
        Ok(planned(&answer))
    }

    /// The unit's state, which the controller stores.
    pub async fn state(&self) -> Result<BTreeMap<String, String>, ToolError> {
        let state: Option<BTreeMap<String, String>> = self.read("state-get", &["--format=json"]).await?;
        Ok(state.unwrap_or_default())
    }

    /// Writes to the unit's state; an empty text deletes.
    pub async fn set_state(&self, values: &BTreeMap<String, String>) -> Result<(), ToolError> {
        self.run("state-set", &["--file", "-"], Some(text_of(values))).await.map(drop)
    }

    /// Path of a resource.
    pub async fn resource(&self, name: &str) -> Result<String, ToolError> {
        Ok(self.run("resource-get", &[name], None).await?.trim().to_owned())
    }

    /// The parameters of the action.
    pub async fn action_parameters(&self) -> Result<Map<String, Value>, ToolError> {
        let parameters: Option<Map<String, Value>> = self.read("action-get", &["--format=json"]).await?;
        Ok(parameters.unwrap_or_default())
    }

    /// Results of the action.
    pub async fn set_results(&self, results: &BTreeMap<String, String>) -> Result<(), ToolError> {
        let pairs: Vec<String> = results.iter().map(|(key, value)| format!("{key}={value}")).collect();
        if pairs.is_empty() {
            return Ok(());
        }
        let pairs: Vec<&str> = pairs.iter().map(String::as_str).collect();
        self.run("action-set", &pairs, None).await.map(drop)
    }

    /// The action failed. Juju keeps this message only where the process ends with 0.
    pub async fn fail_action(&self, message: &str) -> Result<(), ToolError> {
        let message = truncate(message, MAX_ARGUMENT_LEN);
        self.run("action-fail", &["--", &message], None).await.map(drop)
    }
}

/// Reads both shapes of `status-get`: that of a unit, and that of an application with its units inside or beside it.
fn read_statuses(answer: &Value, unit: &str) -> Result<Statuses, serde_json::Error> {
    let Some(application) = answer.get("application-status") else {
        return Ok(Statuses { unit: serde_json::from_value(answer.clone())?, application: None });
    };
    let own = [&application["units"][unit], &answer["units"][unit]].into_iter().find(|own| own.is_object());
    let unit = own.map(|own| serde_json::from_value(own.clone())).transpose()?.unwrap_or_default();
    Ok(Statuses { unit, application: Some(serde_json::from_value(application.clone())?) })
}

fn first_address(answer: &Value) -> Option<String> {
    let bind = answer["bind-addresses"].as_array().into_iter().flatten();
    let addresses = bind.flat_map(|bind| bind["addresses"].as_array().into_iter().flatten());
    addresses
        .filter_map(|address| address["value"].as_str())
        .find(|value| !value.is_empty())
        .map(str::to_owned)
}

fn planned(answer: &Value) -> Vec<String> {
    let units = answer["units"].as_object().into_iter().flatten();
    units.filter(|(_, unit)| unit["status"] != "dying").map(|(name, _)| name.clone()).collect()
}

fn text_of(values: &BTreeMap<String, String>) -> String {
    // A map of strings always serialises.
    serde_json::to_string(values).unwrap_or_default()
}

/// Cuts a text to a number of bytes, between characters.
pub fn truncate(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    let end = "…";
    let mut at = most - end.len();
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    format!("{}{end}", &text[..at])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn all_shapes_of_a_status_are_read() {
        let of = |status: &str, message: &str| Status { status: status.into(), message: message.into() };
        let unit = json!({"message": "m", "status": "active", "status-data": {}});
        let read = read_statuses(&unit, "a/0").unwrap();
        assert_eq!(read, Statuses { unit: of("active", "m"), application: None });
        let mut application = json!({"message": "", "status": "waiting", "status-data": {}});
        let beside = json!({"application-status": application, "units": {"a/0": unit}});
        application["units"] = json!({"a/0": unit});
        for answer in [json!({"application-status": application}), beside] {
            let read = read_statuses(&answer, "a/0").unwrap();
            assert_eq!(read, Statuses { unit: of("active", "m"), application: Some(of("waiting", "")) });
        }
    }

    #[test]
    fn the_first_address_is_found() {
        let some = json!({"bind-addresses": [{"addresses": null}, {"addresses": [{"value": "10.1.2.3"}]}]});
        assert_eq!(first_address(&some).as_deref(), Some("10.1.2.3"));
        assert_eq!(first_address(&json!({"bind-addresses": [{"addresses": null}]})), None);
    }

    #[test]
    fn dying_units_are_not_planned() {
        let state = json!({"units": {"a/0": {"status": "dying"}, "a/1": {"status": "active"}}});
        assert_eq!(planned(&state), ["a/1"]);
        assert!(planned(&json!({"units": {"a/0": {"status": "dying"}}})).is_empty());
    }

    #[test]
    fn messages_are_cut_at_character_boundaries() {
        assert_eq!(truncate("short", 5), "short");
        let cut = truncate(&"ä".repeat(100), 120);
        assert!(cut.len() <= 120 && cut.ends_with('…'), "{cut}");
    }
}
