//! Hosted workloads in the status: how each is, and what is wrong with them together.

use serde::Serialize;
use trainerd_juju::status::Reason;
use trainerd_supervise::Report;

use crate::problem::{Exit, Problem};

/// A hosted workload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct HostedView {
    /// The component that it belongs to.
    pub(crate) component: &'static str,
    /// How it is.
    #[serde(flatten)]
    pub(crate) report: Report,
}

/// Where the reconciler of an installation is to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ReconcilerPlace {
    /// The revision leaves it to a daemon.
    pub(crate) is_left_to_daemons: bool,
    /// This daemon would host it.
    pub(crate) may_be_here: bool,
}

/// What is wrong with the hosted workloads; `None` if all that are to run are ready.
pub(crate) fn problem(hosted: &[HostedView], place: ReconcilerPlace) -> Option<Problem> {
    if place.is_left_to_daemons && !place.may_be_here {
        let what = "the options say reconciler=hosted, and this daemon hosts none";
        let cause = "nothing reconciles TrainJobs unless another daemon does".to_owned();
        let reason = Reason::HostedDegraded { workload: "reconciler".to_owned(), cause: cause.clone() };
        let problem = Problem::new(Exit::Failed, "not-hosted", what).because(cause).with_reason(reason);
        return Some(problem.hint("start the daemon with --host reconciler, or set reconciler=native"));
    }
    let down = hosted.iter().find(|view| view.report.wanted && !view.report.ready);
    let is_there = hosted.iter().any(|view| view.component == "trainer" && view.report.ready);
    let Some(HostedView { report, .. }) = down else {
        // It was left to this daemon a moment ago.
        return (place.is_left_to_daemons && !is_there)
            .then(|| degraded("reconciler", "not started yet".to_owned()));
    };
    let (name, state) = (&report.name, report.state.text());
    let waits = report.waiting.as_ref().map(|waiting| format!(", waiting for {waiting}")).unwrap_or_default();
    let mut cause = format!("{state}{waits}");
    if let Some(failure) = &report.failure {
        cause = format!("{cause}; {}", failure.message);
    }
    Some(degraded(name, cause))
}

fn degraded(name: &str, cause: String) -> Problem {
    let reason = Reason::HostedDegraded { workload: name.to_owned(), cause: cause.clone() };
    let what = format!("hosted workload {name} is not ready");
    let problem = Problem::new(Exit::Failed, "hosted-degraded", what).because(cause).with_reason(reason);
    problem.hint("it is restarted automatically; `trainerd status` shows its last failure and log lines")
}
