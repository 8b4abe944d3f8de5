//! What people are told of: the alerts of the group `Trainerd`.

use super::query::Pick::{Any, Each, Is, Like};
use super::query::Scope;
use super::rules::{Alert, Annotations, Group, Labels, RuleFile, Runbook, Severity};
use crate::daemon::metrics::{
    DRIFT_REPAIRED, DRIFTED, PHASE, PLANS, REPAIR_SECONDS, REQUESTS, SETTLED, WAITS, WATCHES,
};
use crate::daemon::status_store::Phase;

/// Name of the group.
const GROUP: &str = "Trainerd";

/// Scrape jobs of daemons: Juju puts words before and after the name that the charm gives.
const JOBS: &str = ".*trainerd.*";

/// Repairs an hour of one kind beyond which somebody works against the daemon.
const REPAIRS_AN_HOUR: u32 = 30;

/// Seconds that a repair may take; a bound of the histogram's buckets, so that nothing is interpolated there.
pub(super) const REPAIR_SECONDS_MOST: f64 = 1.0;

/// Share of the requests that may fail.
const FAILING_MOST: f64 = 0.05;

/// The rule file.
pub(crate) fn rules() -> RuleFile {
    rules_about(&[])
}

/// The same about series that have these labels, as Juju's Prometheus labels what it scrapes of an application.
pub(crate) fn rules_about(labels: &[(&str, &str)]) -> RuleFile {
    let scope = Scope::every_daemon().labelled(labels);
    let rules = [health(&scope), plans(&scope), drift(&scope), api_server(&scope)].concat();
    RuleFile { groups: vec![Group { name: GROUP, rules }] }
}

/// The metrics of a phase, where it is this one.
fn phase(scope: &Scope, phases: &[Phase]) -> String {
    let words: Vec<&str> = phases.iter().map(|phase| phase.word()).collect();
    let pick = if let [word] = words[..] { Is(word) } else { Like(&words) };
    format!("{} == 1", scope.select(&PHASE, [pick]))
}

fn health(scope: &Scope) -> Vec<Alert> {
    let up = scope.up(JOBS);
    // Paused or on standby it is not the daemon's turn, and absent is what was asked for.
    let excused = phase(scope, &[Phase::Paused, Phase::Standby, Phase::Absent]);
    let settled = scope.select(&SETTLED, []);
    vec![
        Alert {
            name: "TrainerdDown",
            expression: format!("{up} == 0 or absent({up})"),
            lasting: "5m",
            labels: Labels { severity: Severity::Critical },
            annotations: Annotations {
                summary: "The daemon does not answer, or does not run",
                description: Runbook {
                    means: "Prometheus cannot scrape trainerd{{ with $labels.instance }} at {{ . }}{{ end }}. \
                            What it installed goes on running, but nobody repairs drift or finishes a plan.",
                    then: "Look at the pod and its log (`kubectl logs`): a daemon that ends says why in its last \
                           lines. `trainerd status` shows the installation without a daemon; another \
                           `trainerd daemon` goes on where this one stopped.",
                },
            },
        },
        Alert {
            name: "TrainerdNotSettled",
            expression: format!("{settled} == 0 unless {} {excused}", scope.on()),
            lasting: "15m",
            labels: Labels { severity: Severity::Warning },
            annotations: Annotations {
                summary: "The installation is not what the options want, or not ready",
                description: Runbook {
                    means: "For 15 minutes trainerd at {{ $labels.instance }} has not seen the installation at \
                            the options with every object ready. Another alert may name the cause.",
                    then: "`trainerd status` shows what each object waits for; `trainerd doctor` checks cluster, \
                           permissions and webhooks; `trainerd plan` with the same options shows what is still to be \
                           changed. The dashboard shows the phases that the daemon went through.",
                },
            },
        },
        Alert {
            name: "TrainerdPaused",
            expression: phase(scope, &[Phase::Paused]),
            lasting: "1d",
            labels: Labels { severity: Severity::Info },
            annotations: Annotations {
                summary: "The daemon has been paused for a day",
                description: Runbook {
                    means: "Somebody paused trainerd at {{ $labels.instance }}. It looks on, but changes nothing: \
                            drift stays, and new options are not applied.",
                    then: "`trainerd status` shows who paused it and when. `trainerd resume` lets it go on; \
                           `trainerd plan` shows before what it would do.",
                },
            },
        },
    ]
}

fn plans(scope: &Scope) -> Vec<Alert> {
    vec![
        Alert {
            name: "TrainerdPlanFailed",
            expression: format!("{} > 0", scope.select(&PLANS, [Each, Is("failed")]).increase("15m").sum()),
            lasting: "0m",
            labels: Labels { severity: Severity::Warning },
            annotations: Annotations {
                summary: "A plan failed",
                description: Runbook {
                    means: "In the last 15 minutes a plan of trainerd at {{ $labels.instance }} failed (purpose: \
                            {{ $labels.purpose }}). A failed upgrade is rolled back where the option \
                            auto-rollback says so; other plans are tried again by the daemon, minutes apart.",
                    then: "`trainerd history` shows what came of each revision, and why; `trainerd status` what is \
                           not ready now. Change the options that led there, or go back with `trainerd rollback`.",
                },
            },
        },
        Alert {
            name: "TrainerdRefused",
            expression: phase(scope, &[Phase::Refused]),
            lasting: "10m",
            labels: Labels { severity: Severity::Warning },
            annotations: Annotations {
                summary: "What the options want is refused",
                description: Runbook {
                    means: "trainerd at {{ $labels.instance }} will not do what the options want: it would harm \
                            something, or a permission is missing. Nothing was changed.",
                    then: "`trainerd plan` with the same options names what is refused and what would help; \
                           `trainerd doctor` lists missing permissions.",
                },
            },
        },
        Alert {
            name: "TrainerdOptionsInvalid",
            expression: phase(scope, &[Phase::Invalid]),
            lasting: "10m",
            labels: Labels { severity: Severity::Warning },
            annotations: Annotations {
                summary: "The options cannot be read, or are wrong",
                description: Runbook {
                    means: "trainerd at {{ $labels.instance }} cannot use the options that are declared. The \
                            installation is kept as the last good ones had it.",
                    then: "`trainerd plan --config FILE` says which option is wrong, and why; \
                           `trainerd config schema` lists every option with its type. The daemon reads them anew \
                           as soon as they change.",
                },
            },
        },
        Alert {
            name: "TrainerdWaiting",
            expression: format!("{} > 0", scope.select(&WAITS, [Each])),
            lasting: "15m",
            labels: Labels { severity: Severity::Warning },
            annotations: Annotations {
                summary: "A plan has been waiting for the same reason for 15 minutes",
                description: Runbook {
                    means: "The plan that trainerd at {{ $labels.instance }} runs waits for something that does \
                            not come (reason: {{ $labels.reason }}). It waits on, and nothing is lost meanwhile.",
                    then: "`trainerd status` names each object and what it waits for, for example \
                           `Insufficient cpu`. Put that right, and the plan goes on by itself. To go back \
                           instead, `trainerd pause` breaks the plan off, and `trainerd rollback` replaces it.",
                },
            },
        },
    ]
}

fn drift(scope: &Scope) -> Vec<Alert> {
    // Between two tries a fight is no fight for a moment: what was one in the last minutes still is.
    let contended = scope.select(&DRIFTED, [Is("contended")]).highest("5m");
    let often = scope.select(&DRIFT_REPAIRED, [Each, Any]).rate("15m").sum();
    let slow = scope.select(&REPAIR_SECONDS, []).quantile(0.99, "15m");
    vec![
        Alert {
            name: "TrainerdDriftContended",
            expression: format!("{contended} > 0"),
            lasting: "5m",
            labels: Labels { severity: Severity::Warning },
            annotations: Annotations {
                summary: "Somebody changes an object back again and again",
                description: Runbook {
                    means: "Another writer changes back what trainerd at {{ $labels.instance }} puts right. The \
                            daemon leaves the object alone for longer and longer between its tries ({{ $value }} \
                            such objects now).",
                    then: "`kubectl get events` names the object, the field and the other field manager (reason \
                           Contended). Stop that writer, or leave it the field with the option drift-ignore: \
                           `trainerd config get drift-ignore --installed` shows what is left to others \
                           already.",
                },
            },
        },
        Alert {
            name: "TrainerdDriftFrequent",
            expression: format!("{often} * 3600 > {REPAIRS_AN_HOUR}"),
            lasting: "1h",
            labels: Labels { severity: Severity::Warning },
            annotations: Annotations {
                summary: "Drift is repaired more than 30 times an hour",
                description: Runbook {
                    means: "For an hour trainerd at {{ $labels.instance }} has kept putting right objects of kind \
                            {{ $labels.kind }}: {{ $value | humanize }} an hour. Some controller or script works \
                            against it, too slowly or on too many objects to count as a fight over one.",
                    then: "`kubectl get events` names the objects and who changed them (reason DriftRepaired). \
                           Stop that writer, or leave it the fields with drift-ignore. To \
                           let drift be while you search, set drift-policy to report where the options are \
                           declared; `trainerd config show --installed` shows what is in force.",
                },
            },
        },
        Alert {
            name: "TrainerdDriftUnrepaired",
            expression: format!("{} > 0", scope.select(&DRIFTED, [Is("failed")])),
            lasting: "15m",
            labels: Labels { severity: Severity::Warning },
            annotations: Annotations {
                summary: "Drift cannot be repaired",
                description: Runbook {
                    means: "The API server, or an admission webhook, refuses what trainerd at \
                            {{ $labels.instance }} writes to repair {{ $value }} objects. It is tried again.",
                    then: "`trainerd status` lists the objects, and the log of the daemon the answers. \
                           `trainerd doctor` finds missing permissions and webhooks that do not answer.",
                },
            },
        },
        Alert {
            name: "TrainerdDriftLeft",
            expression: format!("{} > 0", scope.select(&DRIFTED, [Is("left")])),
            lasting: "15m",
            labels: Labels { severity: Severity::Info },
            annotations: Annotations {
                summary: "Objects differ from the revision, and are left so",
                description: Runbook {
                    means: "{{ $value }} objects that trainerd at {{ $labels.instance }} looks after were changed \
                            by others. They are left so on purpose: by the policy report, or because putting them \
                            right would do harm.",
                    then: "`trainerd status` lists the objects and fields. To have them repaired, set drift-policy to \
                           enforce where the options are declared; `trainerd config get drift-policy --installed` \
                           shows what is in force.",
                },
            },
        },
        Alert {
            name: "TrainerdRepairsSlow",
            expression: format!("{slow} > {REPAIR_SECONDS_MOST}"),
            lasting: "15m",
            labels: Labels { severity: Severity::Warning },
            annotations: Annotations {
                summary: "Putting drift right takes more than a second",
                description: Runbook {
                    means: "One repair in a hundred of trainerd at {{ $labels.instance }} takes longer than a \
                            second, counted from when the change was seen ({{ $value | humanizeDuration }}). The \
                            API server or a webhook is slow, or another writer holds the lease.",
                    then: "The row API server of the dashboard shows requests and errors; `trainerd doctor` tells \
                           of webhooks that do not answer. A plan that somebody runs by hand holds the lease: \
                           `trainerd status` shows it.",
                },
            },
        },
    ]
}

fn api_server(scope: &Scope) -> Vec<Alert> {
    let disconnected = phase(scope, &[Phase::Disconnected]);
    // Without an answer there is no code, which is written 0.
    let failing = scope.select(&REQUESTS, [Any, Any, Like(&["0", "5.."])]).rate("5m").sum();
    let requests = scope.select(&REQUESTS, [Any, Any, Any]).rate("5m").sum();
    vec![
        Alert {
            name: "TrainerdDisconnected",
            expression: disconnected.clone(),
            lasting: "5m",
            labels: Labels { severity: Severity::Critical },
            annotations: Annotations {
                summary: "The daemon cannot reach the API server",
                description: Runbook {
                    means: "trainerd at {{ $labels.instance }} gets no answer from the API server, or a watch is \
                            interrupted: it does not see the installation, and changes nothing.",
                    then: "The log of the daemon says why: name, certificate, network or permission. \
                           `trainerd doctor` run in the same place meets the same blocked. The daemon goes on by \
                           itself once it gets through.",
                },
            },
        },
        Alert {
            name: "TrainerdWatchInterrupted",
            // A daemon that says it is disconnected has an alert already.
            expression: format!(
                "{} > 0 unless {} {disconnected}",
                scope.select(&WATCHES, [Each]),
                scope.on()
            ),
            lasting: "5m",
            labels: Labels { severity: Severity::Warning },
            annotations: Annotations {
                summary: "A kind of object cannot be watched",
                description: Runbook {
                    means: "trainerd at {{ $labels.instance }} does not see changes of {{ $labels.resource }}: \
                            the watch of them breaks off, or is refused.",
                    then: "`trainerd doctor` checks the permissions, of which `watch` is one, and whether the CRDs \
                           are served. The daemon tries again until it succeeds.",
                },
            },
        },
        Alert {
            name: "TrainerdRequestsFail",
            // Looked at for longer than the window is, so that one failed request of a daemon at rest is no alert.
            expression: format!("{failing} / {requests} > {FAILING_MOST}"),
            lasting: "15m",
            labels: Labels { severity: Severity::Warning },
            annotations: Annotations {
                summary: "More than 5 % of the requests to the API server fail",
                description: Runbook {
                    means: "{{ $value | humanizePercentage }} of the requests of trainerd at \
                            {{ $labels.instance }} are answered with an error of the server (5xx), or not at all. \
                            They are tried again, so plans and repairs take longer.",
                    then: "The row API server of the dashboard shows which requests, and with which code. Look at \
                           the API server and at the webhooks; `trainerd doctor` tells of webhooks that do not \
                           answer.",
                },
            },
        },
    ]
}
