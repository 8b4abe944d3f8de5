//! What the dashboard shows.

use serde_json::Value;

use super::grafana::{Color, Dashboard, Mapping, Panel, Row, Shows, Step, Target, Unit, Variable};
use super::query::Pick::{Any, Each, Is, Like};
use super::query::{Query, Scope};
use crate::daemon::metrics::{
    BUILD, DRIFT_FOUND, DRIFT_REPAIRED, DRIFTED, LEADER, OBJECTS, PASS_SECONDS, PASSES, PHASE, PLANS,
    REPAIR_SECONDS, REQUESTS, REVISION, REVISIONS, SETTLED, WAITS, WATCHES,
};
use crate::daemon::status_store::Phase;

/// A window that holds some scrapes, however far one looks back.
const WINDOW: &str = "$__rate_interval";

/// The dashboard, as Grafana imports it.
pub(crate) fn dashboard() -> Value {
    let series = |scope: Scope| scope.select(&BUILD, [Any]).to_string();
    let dashboard = Dashboard {
        uid: "trainerd",
        title: "trainerd",
        description: "How the Kubeflow Trainer stack is, and what trainerd does to keep it so.",
        variables: vec![
            Variable { name: "job", label: "Job", series: series(Scope::every_daemon()) },
            Variable { name: "instance", label: "Daemon", series: series(Scope::chosen_jobs()) },
        ],
        rows: vec![
            Row { title: "How is it", panels: now().into_iter().chain(over_time()).collect() },
            Row { title: "Plans", panels: plans() },
            Row { title: "Drift", panels: drift() },
            Row { title: "API server", panels: api_server() },
        ],
    };
    dashboard.to_json()
}

impl Target {
    fn new(query: &Query, legend: &'static str) -> Self {
        Self { expression: query.to_string(), legend }
    }
}

/// The numbers of the phases: what a mapping makes a word of again.
fn phase_of_each_daemon() -> Target {
    let each = Scope::each_chosen();
    let number = |(phase, at): (Phase, usize)| format!("{} * {at}", each.select(&PHASE, [Is(phase.word())]));
    let numbers: Vec<String> = Phase::ALL.into_iter().zip(1..).map(number).collect();
    // One of the series is 1 and the others are 0, so that the sum is the number of that one.
    Target { expression: each.sum(&numbers.join(" or ")), legend: "{{instance}}" }
}

fn phases() -> Vec<Mapping> {
    let mapping = |(phase, value): (Phase, usize)| {
        let color = match phase {
            Phase::Ready => Color::Good,
            Phase::Starting | Phase::Running => Color::Active,
            Phase::Waiting | Phase::Held => Color::Attention,
            Phase::Refused | Phase::Failed | Phase::Invalid | Phase::Disconnected => Color::Bad,
            Phase::Absent | Phase::Paused | Phase::Standby => Color::Aside,
        };
        Mapping { value, word: phase.word(), color }
    };
    Phase::ALL.into_iter().zip(1..).map(mapping).collect()
}

fn yes_or_no(no: Color, yes: Color) -> Vec<Mapping> {
    vec![Mapping { value: 0, word: "no", color: no }, Mapping { value: 1, word: "yes", color: yes }]
}

/// The last values, in one line.
fn now() -> Vec<Panel> {
    let (all, each) = (Scope::chosen(), Scope::each_chosen());
    let objects = |state: &str| all.select(&OBJECTS, [Any, Is(state)]).sum();
    let number = |title, description, width, expression: String, steps| Panel {
        title,
        description,
        width,
        height: 5,
        unit: Unit::Count,
        shows: Shows::Number(steps),
        targets: vec![Target { expression, legend: title }],
    };
    vec![
        Panel {
            title: "Phase",
            description: "What the daemon is at. Ready is how it should be; red needs somebody to look.",
            width: 6,
            height: 5,
            unit: Unit::Count,
            shows: Shows::DaemonStatus(phases()),
            targets: vec![phase_of_each_daemon()],
        },
        Panel {
            title: "Settled",
            description: "Whether the installation is what the options want, and all of it ready. A paused daemon, and \
                          one on standby, say no.",
            width: 4,
            height: 5,
            unit: Unit::Count,
            shows: Shows::DaemonStatus(yes_or_no(Color::Attention, Color::Good)),
            targets: vec![Target::new(&each.select(&SETTLED, []).max(), "{{instance}}")],
        },
        Panel {
            title: "Objects ready",
            description: "Share of the objects of the revision that are ready.",
            width: 4,
            height: 5,
            unit: Unit::Share,
            shows: Shows::Number(vec![
                Step { from: 0.0, color: Color::Attention },
                Step { from: 1.0, color: Color::Good },
            ]),
            targets: vec![Target {
                expression: format!("{} / {}", objects("ready"), objects("total")),
                legend: "ready",
            }],
        },
        number(
            "Drifted objects",
            "Objects that somebody changed, and that differ from the revision now. None is how it should be.",
            4,
            // Daemons side by side see the same.
            all.sum(&all.select(&DRIFTED, [Each]).max().to_string()),
            vec![Step { from: 0.0, color: Color::Good }, Step { from: 1.0, color: Color::Attention }],
        ),
        number(
            "Revision",
            "Number of the revision that the installation is at. `trainerd history` shows what is in it.",
            3,
            all.select(&REVISION, []).max().to_string(),
            Vec::new(),
        ),
        number(
            "Revisions kept",
            "Revisions that one can go back to with `trainerd rollback`.",
            3,
            all.select(&REVISIONS, []).max().to_string(),
            Vec::new(),
        ),
    ]
}

fn over_time() -> Vec<Panel> {
    let (all, each) = (Scope::chosen(), Scope::each_chosen());
    let objects = |state: &str| Target::new(&all.select(&OBJECTS, [Each, Is(state)]).max(), "");
    vec![
        Panel {
            title: "Phases",
            description: "What each daemon was at, over time.",
            width: 24,
            height: 6,
            unit: Unit::Count,
            shows: Shows::Timeline(phases()),
            targets: vec![phase_of_each_daemon()],
        },
        Panel {
            title: "Components",
            description: "Objects of each component, and how many of them are ready. `trainerd status` names those that \
                          are not.",
            width: 8,
            height: 8,
            unit: Unit::Count,
            shows: Shows::Table(
                &[("component", "Component"), ("Value #A", "Ready"), ("Value #B", "Objects")],
                &["Time"],
            ),
            targets: vec![objects("ready"), objects("total")],
        },
        Panel {
            title: "Drifted objects by what is done about them",
            description: "Repairing: about to be repaired. Waiting: another writer has the lease. Paused: the daemon \
                          is. Left: on purpose, as the policy says. Contended: somebody changes it back again and \
                          again. Failed: the API server refuses the repair.",
            width: 10,
            height: 8,
            unit: Unit::Count,
            shows: Shows::Bars,
            targets: vec![Target::new(&all.select(&DRIFTED, [Each]).max(), "{{state}}")],
        },
        Panel {
            title: "Daemons",
            description: "The daemons that run, and their version.",
            width: 6,
            height: 8,
            unit: Unit::Count,
            shows: Shows::Table(
                &[("instance", "Daemon"), ("version", "Version")],
                &["Time", "Value", "Value #A"],
            ),
            targets: vec![Target::new(&each.select(&BUILD, [Each]).max(), "")],
        },
    ]
}

fn plans() -> Vec<Panel> {
    let (all, each) = (Scope::chosen(), Scope::each_chosen());
    let pass = |quantile| all.select(&PASS_SECONDS, []).quantile(quantile, WINDOW);
    let panel = |title, description, unit, shows, targets| Panel {
        title,
        description,
        width: 12,
        height: 8,
        unit,
        shows,
        targets,
    };
    vec![
        panel(
            "Plans that ended",
            "By what they were for, and how they ended. One that failed says why in `trainerd history`.",
            Unit::Count,
            Shows::Bars,
            vec![Target::new(
                &all.select(&PLANS, [Each, Each]).increase(WINDOW).sum(),
                "{{purpose}}: {{result}}",
            )],
        ),
        panel(
            "What the plan under way waits for",
            "Things waited for, by reason. `trainerd status` names the objects.",
            Unit::Count,
            Shows::Bars,
            vec![Target::new(&all.select(&WAITS, [Each]).sum(), "{{reason}}")],
        ),
        panel(
            "Time of a pass",
            "A pass reads the facts, decides, and runs a plan where one is needed: milliseconds where nothing is to be \
             done, minutes with an upgrade.",
            Unit::Seconds,
            Shows::Lines,
            vec![Target::new(&pass(0.5), "half are faster"), Target::new(&pass(0.99), "99 % are faster")],
        ),
        panel(
            "Passes by how they ended",
            "A pass that met an blocked failed, and is tried again: the phase says which.",
            Unit::Count,
            Shows::Bars,
            vec![Target::new(&all.select(&PASSES, [Each]).increase(WINDOW).sum(), "{{result}}")],
        ),
        Panel {
            width: 24,
            height: 5,
            ..panel(
                "Who holds the lease",
                "The one writer. The lease is held only while something is written: nobody holding it is how it should \
                 be.",
                Unit::Count,
                Shows::Timeline(yes_or_no(Color::Aside, Color::Active)),
                vec![Target::new(&each.select(&LEADER, []).max(), "{{instance}}")],
            )
        },
    ]
}

fn drift() -> Vec<Panel> {
    let all = Scope::chosen();
    let repair = |quantile| all.select(&REPAIR_SECONDS, []).quantile(quantile, WINDOW);
    let panel = |title, description, unit, shows, targets| Panel {
        title,
        description,
        width: 8,
        height: 8,
        unit,
        shows,
        targets,
    };
    vec![
        panel(
            "Found",
            "Objects that were found to be changed by others, by kind.",
            Unit::Count,
            Shows::Bars,
            vec![Target::new(&all.select(&DRIFT_FOUND, [Each]).increase(WINDOW).sum(), "{{kind}}")],
        ),
        panel(
            "Put right",
            "Objects that were repaired, by kind and by what was done. The same ones all the time: somebody works \
             against the daemon.",
            Unit::Count,
            Shows::Bars,
            vec![Target::new(
                &all.select(&DRIFT_REPAIRED, [Each, Each]).increase(WINDOW).sum(),
                "{{kind}}: {{verb}}",
            )],
        ),
        panel(
            "Time until it is repaired",
            "From when a change was seen to the answer of the write that repaired it. Below a second is good.",
            Unit::Seconds,
            Shows::Lines,
            vec![
                Target::new(&repair(0.5), "half are faster"),
                Target::new(&repair(0.9), "90 % are faster"),
                Target::new(&repair(0.99), "99 % are faster"),
            ],
        ),
    ]
}

fn api_server() -> Vec<Panel> {
    let all = Scope::chosen();
    let requests = |picks| all.select(&REQUESTS, picks).rate(WINDOW).sum();
    let failing = requests([Any, Any, Like(&["0", "5.."])]);
    let panel = |title, description, unit, shows, targets| Panel {
        title,
        description,
        width: 12,
        height: 8,
        unit,
        shows,
        targets,
    };
    vec![
        panel(
            "Requests by verb",
            "A daemon at rest makes hardly any: what changes comes over its watches.",
            Unit::Requests,
            Shows::Bars,
            vec![Target::new(&requests([Each, Any, Any]), "{{verb}}")],
        ),
        panel(
            "Requests by resource",
            "Which objects the requests are about.",
            Unit::Requests,
            Shows::Bars,
            vec![Target::new(&requests([Any, Each, Any]), "{{resource}}")],
        ),
        panel(
            "Requests by status code",
            "0 stands for no answer. 404 and 409 are part of the work; 403 is a missing permission; 5xx is the API \
             server, or a webhook.",
            Unit::Requests,
            Shows::Bars,
            vec![Target::new(&requests([Any, Any, Each]), "{{code}}")],
        ),
        panel(
            "Share of requests that fail",
            "Answered with an error of the server (5xx), or not at all. They are tried again.",
            Unit::Share,
            Shows::Lines,
            vec![Target {
                expression: format!("{failing} / {}", requests([Any, Any, Any])),
                legend: "failing",
            }],
        ),
        Panel {
            width: 24,
            height: 5,
            ..panel(
                "Interrupted watches",
                "Kinds of which changes are not seen for now. Empty is how it should be.",
                Unit::Count,
                Shows::Timeline(yes_or_no(Color::Good, Color::Bad)),
                vec![Target::new(&all.select(&WATCHES, [Each]).max(), "{{resource}}")],
            )
        },
    ]
}
