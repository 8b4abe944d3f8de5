//! `status`: where the installation is, and what it waits for.

mod wait;
mod watch;

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde::Serialize;
use trainerd_causes::one_line;
use trainerd_engine::{Control, Engine, Marker, Status};

use super::plan::{GOES_ON, journal_text};
use crate::cli::args::Format;
use crate::cli::context::{Context, ahead};
use crate::cli::daemon_client::DaemonClient;
use crate::cli::daemon_status::{DaemonProbe, DaemonStatus};
use crate::cli::hosted_text::hosted_text;
use crate::cli::output::{Printer, Tone, columns};
use crate::cli::web;
use crate::problem::Exit;
use crate::problem::{LEFT_REMEDY, Problem, damage_text, left_text, remedy};
use crate::target::external::absent;
use crate::target::hosted;
use crate::training::{self, Phase, TrainJobs};

/// Show components, versions, readiness, and what each object is waiting for
///
/// The exit code is 0 whether or not everything is ready (see `ready` with -o json), and 1 if nothing is installed.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  trainerd status                                   now
  trainerd status --watch                           again whenever something changes
  trainerd status --wait --timeout 10m              until the declared options are applied
  trainerd status -o json                           for a script: see .ready
  trainerd status --web                             the page of the daemon in the cluster
  trainerd status --web --socket /run/trainerd.sock the page of the daemon that listens there")]
pub(crate) struct StatusArgs {
    /// Print again whenever something changes, until interrupted
    #[arg(short, long, conflicts_with = "web")]
    watch: bool,

    /// Wait until the declared options are applied and everything is ready; otherwise say why not
    ///
    /// If a daemon reconciles the installation, waits until the currently declared options are applied and everything
    /// is ready; otherwise, waits until the last plan is done and everything is ready. Options that are invalid,
    /// refused or failed end the wait at once; --timeout limits it.
    #[arg(long, conflicts_with_all = ["watch", "web"])]
    wait: bool,

    /// Open the page of the daemon in a browser, until interrupted; the address is printed too
    ///
    /// The daemon that `bootstrap` installed is reached by port-forward, with a read-only token; a daemon on this
    /// machine is reached through --socket.
    #[arg(long)]
    web: bool,

    /// Unix socket of a daemon on this machine, instead of the one in the cluster
    #[arg(long, value_name = "PATH", env = "TRAINERD_SOCKET", hide_env_values = true)]
    socket: Option<PathBuf>,
}

/// Runs the verb.
pub(crate) async fn run(context: &Context, args: &StatusArgs) -> Result<Exit, Problem> {
    if args.web {
        let client = client_of_page(context, args.socket.as_ref()).await?;
        return web::show(context, client, context.printer.draws()).await;
    }
    let engine = context.engine().await?;
    let mut daemon_probe = DaemonProbe::new(args.socket.clone());
    if args.wait {
        wait::wait(context, &engine, &mut daemon_probe).await?;
    }
    if args.watch {
        return Box::pin(watch::watch(context, &engine, &mut daemon_probe)).await;
    }
    let status = look(context, &engine, &mut daemon_probe).await?;
    print(&context.printer, &status, false)?;
    Ok(Exit::Done)
}

async fn client_of_page(context: &Context, socket: Option<&PathBuf>) -> Result<DaemonClient, Problem> {
    if let Some(socket) = socket {
        return Ok(DaemonClient::Socket(socket.clone()));
    }
    let cluster = context.connect().await?;
    let found = async {
        Ok::<_, Problem>(DaemonClient::into_cluster(&cluster, &context.cluster.installation()).await)
    };
    match context.interrupt.or(found).await? {
        Ok(Some(client)) => Ok(client),
        Ok(None) => {
            let namespace = &context.cluster.namespace;
            let what = format!("failed to find a daemon in namespace {namespace}");
            Err(Problem::new(Exit::Failed, "no-daemon", what)
                .hint("`trainerd bootstrap` installs one; `--socket PATH` names the one on this machine"))
        }
        Err(error) => {
            let what = "failed to find the daemon in the cluster";
            Err(Problem::new(Exit::Failed, "no-daemon", what).because(one_line(&*error)))
        }
    }
}

/// Where the installation is, and what its daemon says.
#[derive(PartialEq, Serialize)]
struct StatusReport {
    #[serde(flatten)]
    status: Status,
    #[serde(skip_serializing_if = "Option::is_none")]
    daemon: Option<DaemonStatus>,
    /// Nothing where the kind is not served, or they cannot be listed.
    #[serde(rename = "trainJobs", skip_serializing_if = "Option::is_none")]
    train_jobs: Option<TrainJobs>,
}

/// How often it is looked again because a plan ended between two requests of a look.
const LOOKS: usize = 3;

async fn look(
    context: &Context,
    engine: &Engine,
    daemon_probe: &mut DaemonProbe,
) -> Result<StatusReport, Problem> {
    for _ in 1..LOOKS {
        let (report, version) = look_once(context, engine, daemon_probe).await?;
        let has_ended = report.status.journal.is_some() && report.status.writer.is_none();
        // The record was read before the lease: only where it is still the same was the plan interrupted.
        if !has_ended || context.interrupt.or(engine.open_damaged()).await?.version() == version.as_deref() {
            return Ok(report);
        }
    }
    Ok(look_once(context, engine, daemon_probe).await?.0)
}

async fn look_once(
    context: &Context,
    engine: &Engine,
    daemon_probe: &mut DaemonProbe,
) -> Result<(StatusReport, Option<String>), Problem> {
    let state = context.interrupt.or(engine.open_damaged()).await?;
    let state = context.interrupt.or(ahead(engine, state)).await?;
    let heard = async { Ok::<_, Problem>(daemon_probe.listen(engine, &state).await) };
    let daemon = context.interrupt.or(heard).await?;
    match context.interrupt.or(engine.status(&state)).await {
        Ok(mut status) => {
            status.ready &= !daemon.as_ref().is_some_and(DaemonStatus::is_degraded);
            if let Some(current) = &state.current {
                let mut absent = context.interrupt.or(absent(engine, &current.desired)).await?;
                if context.interrupt.or(hosted::is_absent(engine, &current.desired)).await? {
                    absent.push("a reconciler (`trainerd daemon --host reconciler` runs one)".to_owned());
                }
                status.ready &= absent.is_empty();
                status.missing = absent;
            }
            let train_jobs = train_jobs(context, engine).await?;
            Ok((StatusReport { status, daemon, train_jobs }, state.version().map(str::to_owned)))
        }
        Err(problem @ Problem { code: "not-installed", .. }) => {
            let left = context.interrupt.or(engine.left_behind()).await?;
            if left.is_empty() {
                return Err(problem);
            }
            Err(problem.because(left_text(&left)).hint(LEFT_REMEDY))
        }
        Err(error) => {
            let mut problem: Problem = error;
            problem.causes.extend(daemon.map(|word| format!("the daemon: {}", word.text())));
            Err(problem)
        }
    }
}

/// How long TrainJobs are listed: where there are tens of thousands, what is asked for first is how the stack is.
const LISTED: Duration = Duration::from_secs(5);

/// The TrainJobs; none, with a note, if the user may not list them or they are too many.
async fn train_jobs(context: &Context, engine: &Engine) -> Result<Option<TrainJobs>, Problem> {
    let listed = tokio::time::timeout(LISTED, training::list(engine.cluster()));
    let why = match context.interrupt.or(async { Ok::<_, Problem>(listed.await) }).await? {
        Ok(Ok(listed)) => return Ok(listed),
        Ok(Err(error)) => one_line(&error),
        Err(_) => format!("listing them takes longer than {} s", LISTED.as_secs()),
    };
    context.printer.note(&format!("TrainJobs are not shown: {why}"));
    Ok(None)
}

fn print(printer: &Printer, status: &StatusReport, again: bool) -> Result<(), Problem> {
    match printer.format() {
        Format::Table => printer.data(&text(status, &printer.for_stdout())),
        // One per line, so that readers can separate them.
        Format::Json if again => printer.line_of_json(status),
        Format::Yaml if again => {
            printer.data("---\n")?;
            printer.document(Format::Yaml, status)
        }
        format => printer.document(format, status),
    }
}

fn text(report: &StatusReport, printer: &Printer) -> String {
    let StatusReport { status, daemon, train_jobs } = report;
    let ready = if status.ready {
        printer.paint(Tone::Good, "ready")
    } else {
        printer.paint(Tone::Attention, "not ready")
    };
    let outcome = match (&status.outcome, &status.writer) {
        (Some(outcome), _) => outcome.to_string(),
        (None, Some(_)) => "in progress".to_owned(),
        (None, None) if status.journal.is_some() => "interrupted".to_owned(),
        (None, None) => "not known".to_owned(),
    };
    let mut text = format!(
        "{} in {}: {ready}, revision {} ({outcome})\n",
        status.name, status.namespace, status.revision
    );
    // What the options want and what is installed are two things: the second line says so at once.
    if let Some(why) = daemon.as_ref().and_then(DaemonStatus::options_not_in_force) {
        let _ = writeln!(text, "{}", printer.paint(Tone::Bad, &why));
    }
    if let Some(damage) = &status.damage {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{}; {}", damage_text(damage), remedy(damage));
    }
    text.push('\n');
    text.push_str(&control_text(&status.control, daemon.as_ref()));
    text.push_str(&columns(
        &["COMPONENT", "VERSION", "READY"],
        status.components.iter().map(|(name, component)| {
            vec![
                name.clone(),
                component.version.to_string(),
                format!("{}/{}", component.ready, component.total),
            ]
        }),
    ));
    section(&mut text, &hosted_text(daemon.as_ref().map(DaemonStatus::hosted).unwrap_or_default()));
    let waiting = status.objects.iter().filter_map(|object| Some((object, object.waiting.as_ref()?)));
    let waiting: Vec<Vec<String>> = waiting
        .map(|(object, on)| vec![object.component.clone(), object.object.to_string(), on.clone()])
        .collect();
    section(&mut text, &columns(&["COMPONENT", "OBJECT", "WAITING FOR"], waiting));
    let drifted = status.objects.iter().filter(|object| !object.drift.is_empty());
    let drifted: Vec<Vec<String>> = drifted
        .map(|object| vec![object.component.clone(), object.object.to_string(), object.drift.join(", ")])
        .collect();
    section(&mut text, &columns(&["COMPONENT", "OBJECT", "CHANGED IN THE CLUSTER"], drifted));
    let admitted = status.objects.iter().filter(|object| !object.admission.is_empty());
    let admitted: Vec<Vec<String>> = admitted
        .map(|object| vec![object.component.clone(), object.object.to_string(), object.admission.join(", ")])
        .collect();
    section(&mut text, &columns(&["COMPONENT", "OBJECT", "CHANGED BY ADMISSION CONTROL"], admitted));
    let missing = status.missing.iter().map(|name| vec![name.clone()]).collect::<Vec<_>>();
    section(&mut text, &columns(&["NEEDED, AND NOT IN THE CLUSTER"], missing));
    let deleting = status.deleting.iter().map(|pending| vec![pending.object.to_string(), pending.by()]);
    section(&mut text, &columns(&["BEING DELETED", "HELD BY"], deleting.collect::<Vec<_>>()));
    if let Some(jobs) = train_jobs {
        section(&mut text, &train_jobs_text(jobs));
    }
    if let Some(journal) = &status.journal {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "\n{}; {GOES_ON}", journal_text(journal, status.writer.as_deref()));
    }
    text
}

/// How many TrainJobs there are, and those that are not complete one by one.
fn train_jobs_text(jobs: &TrainJobs) -> String {
    if jobs.count.is_empty() {
        return String::new();
    }
    let count = jobs.count.iter().map(|(phase, count)| format!("{count} {}", phase.word()));
    let mut text = format!("TrainJobs: {}\n", count.collect::<Vec<_>>().join(", "));
    let rows = jobs.unfinished.iter().map(|job| {
        vec![
            format!("{}/{}", job.namespace, job.name),
            job.phase.word().to_owned(),
            format!("{}/{}", job.pods_ready, job.pods),
            job.restarts.to_string(),
            job.progress.map(|percent| format!("{percent} %")).unwrap_or_default(),
            job.why.clone().unwrap_or_default(),
        ]
    });
    text.push_str(&columns(&["TRAINJOB", "IS", "PODS", "RESTARTS", "PROGRESS", "WHY"], rows));
    let unfinished: usize =
        jobs.count.iter().filter(|(phase, _)| **phase != Phase::Complete).map(|(_, count)| count).sum();
    if unfinished > jobs.unfinished.len() {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "and {} more", unfinished - jobs.unfinished.len());
    }
    text
}

/// Who has the say, a line each.
fn control_text(control: &Control, daemon: Option<&DaemonStatus>) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    if let Some(Marker { what, by, asked_by, since, .. }) = &control.paused {
        let why = if what.is_empty() { String::new() } else { format!(": {what}") };
        let who = asked_by.as_ref().map(|who| format!("{who}, over the API of ")).unwrap_or_default();
        let _ = writeln!(
            text,
            "paused by {who}`trainerd {by}` since {since:.0}{why}; `trainerd resume` resumes reconciliation"
        );
    }
    if let Some(Marker { what, since, .. }) = &control.owner {
        let _ = writeln!(text, "reconciled by a daemon with the options of {what}, since {since:.0}");
    }
    if let Some(word) = daemon {
        let _ = writeln!(text, "the daemon: {}", word.text());
    }
    if !text.is_empty() {
        text.push('\n');
    }
    text
}

fn section(text: &mut String, table: &str) {
    if !table.is_empty() {
        text.push('\n');
        text.push_str(table);
    }
}
