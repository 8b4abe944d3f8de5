//! Running a program to its end, with errors that say what it said.

use std::io;
use std::process::{Command, ExitStatus, Output, Stdio};

/// A program that could not be run, or that failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The program is not there, or may not be run.
    #[error("failed to run {program}")]
    Start {
        /// The program's name or path.
        program: String,
        /// What the system said.
        source: io::Error,
    },
    /// The program ended with an error.
    #[error("failed: {command} ({status}){}", said(stderr))]
    Failed {
        /// The command line.
        command: String,
        /// How it ended.
        status: ExitStatus,
        /// The end of what it wrote to stderr.
        stderr: String,
    },
}

impl Error {
    /// The program is not installed.
    pub fn is_missing_program(&self) -> bool {
        matches!(self, Self::Start { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

fn said(stderr: &str) -> String {
    if stderr.is_empty() { String::new() } else { format!(": {stderr}") }
}

/// Lines of stderr that an error keeps: enough for a compiler's complaint, not a log.
const KEPT_LINES: usize = 20;

/// Runs a command to its end without a stdin and returns what it wrote; failure when its status is not 0.
pub fn run(command: &mut Command) -> Result<Output, Error> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|source| Error::Start { program: program_of(command), source })?;
    if output.status.success() {
        return Ok(output);
    }
    Err(Error::Failed {
        command: line_of(command),
        status: output.status,
        stderr: tail(&String::from_utf8_lossy(&output.stderr), KEPT_LINES),
    })
}

/// The last `lines` lines of a text, trimmed.
pub fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.trim_end().lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

fn program_of(command: &Command) -> String {
    command.get_program().to_string_lossy().into_owned()
}

fn line_of(command: &Command) -> String {
    let mut line = program_of(command);
    for argument in command.get_args() {
        line.push(' ');
        line.push_str(&argument.to_string_lossy());
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_says_the_command_and_its_stderr() {
        let error = run(Command::new("sh").args(["-c", "echo because >&2; exit 3"])).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("because") && text.contains("exit status: 3"), "{text}");
        assert!(!error.is_missing_program());
    }

    #[test]
    fn a_missing_program_is_distinguished() {
        assert!(run(&mut Command::new("no-such-program-here")).unwrap_err().is_missing_program());
    }

    #[test]
    fn tail_keeps_the_end() {
        assert_eq!(tail("a\nb\nc\n", 2), "b\nc");
        assert_eq!(tail("a\n", 2), "a");
        assert_eq!(tail("", 2), "");
    }
}
