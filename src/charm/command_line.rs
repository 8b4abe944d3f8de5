//! Runs the command line of this program in the charm's container, for a hook or an action.

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
    /// Code of the error, with the format JSON.
    pub(super) problem: String,
    /// What it printed to stdout.
    pub(super) output: String,
    /// The error message and its causes.
    pub(super) cause: String,
}

/// How data is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Json,
    /// For people.
    Text,
}

/// Runs a verb for the application's installation; `None` if it did not end in time.
pub(super) async fn run(
    environment: &Environment,
    verb: &[&str],
    options: &BTreeMap<String, Value>,
    format: Format,
    timeout: Duration,
) -> Option<Run> {
    // It gets a second less, so that it ends with its own timeout error rather than killed.
    let own_timeout = timeout.saturating_sub(Duration::from_secs(1)).as_millis();
    let mut command = Command::new("/proc/self/exe");
    command.args(verb).args(["--name", &environment.unit.application, "--namespace", &environment.model]);
    command.args(["--timeout", &format!("{own_timeout}ms"), "--for-daemon"]);
    command.args(["-o", if format == Format::Json { "json" } else { "table" }]);
    for (name, value) in options {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        command.args(["--set", &format!("{name}={value}")]);
    }
    command.env("TRAINERD_NAMING", "charm").env_remove("JUJU_DISPATCH_PATH");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let output = match tokio::time::timeout(timeout, command.output()).await {
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

/// Code and message of the last line that is an error in JSON.
fn json_cause(stderr: &str) -> (String, String) {
    let problem = stderr.lines().rev().find_map(|line| serde_json::from_str::<Value>(line).ok());
    let problem = problem.unwrap_or_default();
    let causes = problem["causes"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let texts: Vec<&str> = problem["message"].as_str().into_iter().chain(causes).collect();
    (problem["code"].as_str().unwrap_or_default().to_owned(), texts.join(": "))
}

/// The error message and its causes, without hints.
fn text_cause(stderr: &str) -> String {
    let lines = stderr.lines().map(str::trim);
    let messages = lines.filter_map(|line| line.strip_prefix("error:").or(line.strip_prefix("why:")));
    messages.map(str::trim).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cause_is_read_from_either_format() {
        let json = "{\"event\":\"x\"}\n\
                    {\"code\":\"c\",\"message\":\"no plan\",\"causes\":[\"no host\",\"errno 2\"]}\n";
        assert_eq!(json_cause(json), ("c".to_owned(), "no plan: no host: errno 2".to_owned()));
        let text = "error: no plan\n  why: no host\n  why: errno 2\n hint: look at it\n";
        assert_eq!(text_cause(text), "no plan: no host: errno 2");
        assert_eq!(text_cause("revision 2 is current\n"), "");
    }
}
