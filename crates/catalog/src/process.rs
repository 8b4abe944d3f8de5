//! What is run of ours: the same description makes a container's command line and a process of the daemon.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A program of ours that a component runs.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Process {
    /// The program.
    pub program: String,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Further variables of its environment.
    #[serde(default)]
    pub variables: BTreeMap<String, String>,
    /// Files that it reads, by path: the key of the component's ConfigMap that holds each. An argument may name the path.
    #[serde(default)]
    pub files: BTreeMap<String, String>,
    /// Processes of the same component that are started before, and the check of each that has to be up.
    #[serde(default)]
    pub after: BTreeMap<String, String>,
    /// What is asked of it over HTTP.
    #[serde(default)]
    pub checks: Vec<ProcessCheck>,
}

/// A question over HTTP to a process.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ProcessCheck {
    /// Its name.
    pub name: String,
    /// The path.
    pub path: String,
    /// Seconds between two questions.
    #[serde(default = "ten")]
    pub period_seconds: u16,
    /// Seconds that an answer may take.
    #[serde(default = "three")]
    pub timeout_seconds: u16,
    /// Failures in a row until it is down.
    #[serde(default = "three")]
    pub threshold: u16,
    /// Whether the process is restarted then.
    #[serde(default)]
    pub restarts: bool,
}

fn ten() -> u16 {
    10
}

fn three() -> u16 {
    3
}
