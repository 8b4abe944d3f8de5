//! `doctor`: whether a change can succeed, before anything is changed.

use std::fmt;

use clap::Args;
use serde::Serialize;
use trainerd_catalog::Catalog;
use trainerd_engine::{Engine, PodsChecked, State};
use trainerd_plan::allowed::Allowed;

use crate::cli::args::OptionArgs;
use crate::cli::context::{Context, ahead};
use crate::cli::output::{Tone, columns};
use crate::cli::plan_text::counts;
use crate::options::Given;
use crate::problem::Exit;
use crate::problem::{LEFT_REMEDY, Problem, damage_text, left_text, remedy};
use crate::target::resolve;

/// Check whether the stack can be installed or changed; changes nothing
///
/// Checks the cluster, versions, permissions, collisions and images; if something is installed, also its webhooks and
/// its readiness. Without options, checks those of the installed revision, or else the default ones. The exit code is
/// that of `up` with the first failed check.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  trainerd doctor                                   with the installed options, or the default ones
  trainerd doctor --config options.yaml
  trainerd doctor -o json                           for a script")]
pub(crate) struct DoctorArgs {
    #[command(flatten)]
    options: OptionArgs,
}

/// What a check found.
#[derive(Clone, Debug, Serialize)]
struct Check {
    #[serde(rename = "check")]
    name: &'static str,
    result: Finding,
    message: String,
    hint: Option<String>,
    #[serde(skip)]
    exit: Exit,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Finding {
    Ok,
    Warn,
    Fail,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        })
    }
}

impl Check {
    fn ok(name: &'static str, message: impl Into<String>) -> Self {
        Self { name, result: Finding::Ok, message: message.into(), hint: None, exit: Exit::Done }
    }

    fn warn(name: &'static str, message: impl Into<String>, hint: &str) -> Self {
        let hint = Some(hint.to_owned());
        Self { name, result: Finding::Warn, message: message.into(), hint, exit: Exit::Done }
    }

    fn fail(name: &'static str, problem: &Problem) -> Self {
        let why = problem.why().join("; ");
        let message =
            if why.is_empty() { problem.message.clone() } else { format!("{}: {why}", problem.message) };
        Self { name, result: Finding::Fail, message, hint: problem.hint.clone(), exit: problem.exit }
    }
}

/// Runs the verb.
pub(crate) async fn run(context: &Context, args: &DoctorArgs) -> Result<Exit, Problem> {
    let catalog = Catalog::builtin()?;
    let given = args.options.given(&catalog)?;
    given.parse(&catalog)?;
    let checks = checks(context, &catalog, &given).await?;
    context.printer.show(&checks, || {
        columns(
            &["CHECK", "RESULT", "FOUND"],
            checks
                .iter()
                .map(|check| vec![check.name.to_owned(), check.result.to_string(), check.message.clone()]),
        )
    })?;
    for check in &checks {
        if let Some(hint) = &check.hint {
            let tone = if check.result == Finding::Fail { Tone::Bad } else { Tone::Attention };
            context
                .printer
                .note(&format!("{} {hint}", context.printer.paint(tone, &format!("{}:", check.name))));
        }
    }
    Ok(checks.iter().find(|check| check.result == Finding::Fail).map_or(Exit::Done, |check| check.exit))
}

/// One check after the other, as far as those before allow.
async fn checks(context: &Context, catalog: &Catalog, given: &Given) -> Result<Vec<Check>, Problem> {
    let mut checks = Vec::new();
    let engine = match context.engine().await {
        Ok(engine) => engine,
        Err(problem) if problem.exit == Exit::Interrupted => return Err(problem),
        Err(problem) => return Ok(vec![Check::fail("cluster", &problem)]),
    };
    let cluster = engine.cluster();
    match context.interrupt.or(cluster.version()).await {
        Ok(version) => {
            checks.push(Check::ok("cluster", format!("Kubernetes {version} at {}", cluster.server())));
        }
        Err(problem) if problem.exit == Exit::Interrupted => return Err(problem),
        Err(problem) => return Ok(vec![Check::fail("cluster", &problem)]),
    }
    let state = match context.interrupt.or(engine.open_damaged()).await {
        Ok(state) => state,
        Err(problem) if problem.exit == Exit::Interrupted => return Err(problem),
        Err(problem) => {
            checks.push(Check::fail("records", &problem));
            return Ok(checks);
        }
    };
    checks.push(records(context, &engine, &state).await?);
    let state = context.interrupt.or(ahead(&engine, state)).await?;
    let installed = state.header().filter(|_| given.is_empty());
    let installed = installed.map(|header| Given::of_revision(&header.given, &header.options));
    let given = installed.as_ref().unwrap_or(given);
    let wanted = match context.interrupt.or(resolve(catalog, &engine, &state, given)).await {
        Ok(wanted) => wanted,
        Err(problem) => {
            checks.push(Check::fail("versions", &problem));
            return Ok(checks);
        }
    };
    let versions = wanted.resolution.components.iter();
    let versions: Vec<String> =
        versions.map(|(name, resolved)| format!("{name} {}", resolved.version)).collect();
    checks.push(Check::ok("versions", versions.join(", ")));
    // Rendering refuses an image without tag, or one that is not listed.
    let images = catalog.images(&given.parse(catalog)?, &wanted.resolution)?;
    checks.push(Check::ok("images", format!("{} images, all with tag or digest", images.len())));
    let allow = Allowed { lossy: true, ..Allowed::default() };
    match context.interrupt.or(engine.prepare(&state, wanted.desired, wanted.purpose, allow)).await {
        Err(problem) => checks.push(Check::fail("collisions", &problem)),
        Ok(prepared) => {
            checks.push(Check::ok("collisions", format!("none; {}", counts(&prepared.plan.counts()))));
            checks.push(match context.interrupt.or(engine.check_permissions(&prepared)).await {
                Ok(()) => Check::ok("permissions", "all permissions that the plan needs are granted"),
                Err(problem) => Check::fail("permissions", &problem),
            });
            checks.push(match context.interrupt.or(engine.check_pods(&prepared)).await {
                Ok(checked) => pods(&checked),
                Err(problem) if problem.exit == Exit::Interrupted => return Err(problem),
                Err(problem) => Check::fail("pods", &problem),
            });
        }
    }
    if state.header().is_some() {
        checks.push(readiness(context, &engine, &state).await?);
    }
    Ok(checks)
}

/// Whether the pods that the plan leads to would be let in.
fn pods(checked: &PodsChecked) -> Check {
    if let Some(why) = &checked.unasked {
        return Check::ok("pods", format!("not checked: {why}"));
    }
    if checked.refused.is_empty() {
        let (count, noun) =
            (checked.admitted.len(), if checked.admitted.len() == 1 { "workload" } else { "workloads" });
        return Check::ok("pods", format!("those of {count} {noun} in the plan would be admitted"));
    }
    let refused = checked.refused.iter().map(|(workload, why)| format!("{workload}: {why}"));
    let problem = Problem::new(Exit::Failed, "pods-refused", "pods would be refused")
        .because(refused.collect::<Vec<_>>().join("; "))
        .hint(
            "change the label, quota, LimitRange or policy that the message names, or the options that affect the pods",
        );
    Check::fail("pods", &problem)
}

async fn records(context: &Context, engine: &Engine, state: &State) -> Result<Check, Problem> {
    if let Some(damage) = state.damage() {
        return Ok(Check::warn("records", damage_text(damage), &remedy(damage)));
    }
    if let Some(journal) = state.journal() {
        let writer = context.interrupt.or(engine.writer(state)).await?;
        return Ok(Check::warn(
            "records",
            super::plan::journal_text(journal, writer.as_deref()),
            super::plan::GOES_ON,
        ));
    }
    let Some(current) = state.header() else {
        let left = context.interrupt.or(engine.left_behind()).await?;
        if left.is_empty() {
            return Ok(Check::ok("records", "nothing is installed here yet"));
        }
        return Ok(Check::warn(
            "records",
            format!("nothing is installed here, but {}", left_text(&left)),
            LEFT_REMEDY,
        ));
    };
    let missing = context.interrupt.or(engine.missing()).await?;
    let mut older: Vec<u64> = engine.unreadable(state);
    older.extend(missing.into_keys());
    if older.is_empty() {
        return Ok(Check::ok("records", format!("installed, at revision {}", current.number)));
    }
    let numbers = older.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let hint = "only a rollback to them needs these; `trainerd repair` restores them from their options";
    Ok(Check::warn("records", format!("installed, but data of earlier revisions is lost: {numbers}"), hint))
}

/// Whether what is installed is ready, webhooks and their certificates included: a configuration without CA
/// bundle is not.
async fn readiness(context: &Context, engine: &Engine, state: &State) -> Result<Check, Problem> {
    let status = match context.interrupt.or(engine.status(state)).await {
        Ok(status) => status,
        Err(problem) if problem.exit == Exit::Interrupted => return Err(problem),
        Err(problem) => return Ok(Check::fail("readiness", &problem)),
    };
    if status.ready {
        return Ok(Check::ok("readiness", "every object is ready"));
    }
    let waiting = status
        .objects
        .iter()
        .filter_map(|object| Some(format!("{}: {}", object.object, object.waiting.as_ref()?)));
    let waiting: Vec<String> = waiting.collect();
    let message = match waiting.as_slice() {
        [first, rest @ ..] if !rest.is_empty() => format!("{first}, and {} more not ready", rest.len()),
        waiting => waiting.join(""),
    };
    Ok(Check::warn("readiness", message, "`trainerd status` shows what each object is waiting for"))
}
