//! How Prometheus writes alert rules: <https://prometheus.io/docs/prometheus/latest/configuration/alerting_rules/>.

use std::fmt;

use serde::{Serialize, Serializer};

/// A rule file.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct RuleFile {
    pub(crate) groups: Vec<Group>,
}

/// Rules that are evaluated together.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Group {
    pub(crate) name: &'static str,
    pub(crate) rules: Vec<Alert>,
}

/// A rule that alerts for each series of its expression.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Alert {
    #[serde(rename = "alert")]
    pub(crate) name: &'static str,
    #[serde(rename = "expr")]
    pub(crate) expression: String,
    /// How long a series must last, as Prometheus writes durations.
    #[serde(rename = "for")]
    pub(crate) lasting: &'static str,
    pub(crate) labels: Labels,
    pub(crate) annotations: Annotations,
}

/// What an alert is routed by.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Labels {
    pub(crate) severity: Severity,
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Severity {
    /// Nobody looks after the installation: wake somebody.
    Critical,
    /// Something will not go away by itself: look today.
    Warning,
    /// Good to know.
    Info,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Serialize::serialize(self, f)
    }
}

/// What is said to people.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Annotations {
    /// In one sentence.
    pub(crate) summary: &'static str,
    pub(crate) description: Runbook,
}

/// What an alert means, and what to do about it. Labels of the series are given as `{{ $labels.name }}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Runbook {
    pub(crate) means: &'static str,
    pub(crate) then: &'static str,
}

impl fmt::Display for Runbook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n{}", self.means, self.then)
    }
}

impl Serialize for Runbook {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
