//! The command line of this very program, run by a hook or an action in the charm's own container.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::process::Command;
use trainerd_juju::environment::Environment;

use super::dispatch::warn;

/// How a run of the command line ended.
pub(super) struct Run {
    pub(super) code: Option<i32>,
    /// What kind of problem, where it ended with one and was asked for JSON.
    pub(super) problem: String,
    /// What it printed: the data of a verb that has any.
    pub(super) output: String,
    /// What it says is wrong.
    pub(super) cause: String,
}

/// How data is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Json,
    /// As people read it.
    Text,
}

/// Runs it about the application's installation; `None` where it took too long, which it says itself where it can.
pub(super) async fn run(
    environment: &Environment,
    verb: &[&str],
    options: &BTreeMap<String, Value>,
    format: Format,
    left: Duration,
) -> Option<Run> {
    // It ends by itself before it is made to.
    let timeout = left.saturating_sub(Duration::from_secs(1)).as_millis();
    let mut command = Command::new("/proc/self/exe");
    command.args(verb).args(["--name", &environment.unit.application, "--namespace", &environment.model]);
    command.args(["--timeout", &format!("{timeout}ms"), "--for-daemon"]);
    command.args(["-o", if format == Format::Json { "json" } else { "table" }]);
    for (name, value) in options {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        command.args(["--set", &format!("{name}={value}")]);
    }
    command.env("TRAINERD_NAMING", "charm").env_remove("JUJU_DISPATCH_PATH");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let output = match tokio::time::timeout(left, command.output()).await {
        Ok(Ok(output)) => output,
        Ok(Err(error)) => {
            warn(&error);
            let (output, problem) = (String::new(), String::new());
            return Some(Run { code: None, problem, output, cause: error.to_string() });
        }
        Err(_) => return None,
    };
    let stderr = String::from_utf8_lossy(&output.stderr);
    let (problem, cause) = match format {
        Format::Json => json_cause(&stderr),
        Format::Text => (String::new(), text_cause(&stderr)),
    };
    let output_text = String::from_utf8_lossy(&output.stdout).into_owned();
    Some(Run { code: output.status.code(), problem, output: output_text, cause })
}

/// The last line that is a problem as JSON: its kind, and why.
fn json_cause(stderr: &str) -> (String, String) {
    let problem = stderr.lines().rev().find_map(|line| serde_json::from_str::<Value>(line).ok());
    let problem = problem.unwrap_or_default();
    let causes = problem["causes"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let texts: Vec<&str> = problem["message"].as_str().into_iter().chain(causes).collect();
    (problem["code"].as_str().unwrap_or_default().to_owned(), texts.join(": "))
}

/// What is wrong and why, without what a person at a terminal could do about it.
fn text_cause(stderr: &str) -> String {
    let lines = stderr.lines().map(str::trim);
    let told = lines.filter_map(|line| line.strip_prefix("error:").or(line.strip_prefix("why:")));
    told.map(str::trim).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_found_in_either_format() {
        let json = "{\"event\":\"x\"}\n\
                    {\"code\":\"c\",\"message\":\"no plan\",\"causes\":[\"no host\",\"errno 2\"]}\n";
        assert_eq!(json_cause(json), ("c".to_owned(), "no plan: no host: errno 2".to_owned()));
        let text = "error: no plan\n  why: no host\n  why: errno 2\n hint: look at it\n";
        assert_eq!(text_cause(text), "no plan: no host: errno 2");
        assert_eq!(text_cause("revision 2 is current\n"), "");
    }
}
