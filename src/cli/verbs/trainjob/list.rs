//! `trainjob list` and `trainjob get`.

use std::fmt::Write as _;

use clap::Args;
use jiff::Timestamp;
use serde_json::Value;
use trainerd_causes::one_line;
use trainerd_cluster::ListParams;
use trainerd_plan::object::kinds::train_job;

use super::state::{State, TrainJobSummary, span};
use super::target::Target;
use crate::cli::args::Format;
use crate::cli::context::Context;
use crate::cli::output::{Printer, Tone, columns};
use crate::problem::Exit;
use crate::problem::Problem;
use crate::training::{Detail, PodDetail, TrainJob, detail};

/// List TrainJobs: their state, runtime and progress
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  trainerd trainjob list                            in the namespace of the context
  trainerd trainjob list -A -l team=vision
  trainerd trainjob list -o json | jq -r '.[] | select(.state == \"Failed\").name'")]
pub(crate) struct ListArgs {
    /// List TrainJobs in all namespaces
    #[arg(short = 'A', long)]
    all_namespaces: bool,

    /// Label selector, for example team=vision
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    selector: Option<String>,
}

/// Show one TrainJob: conditions, steps, progress, and what keeps its pods from running
///
/// With -o json or yaml, the object as it is stored.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  trainerd trainjob get my-job
  trainerd trainjob get my-job -o yaml")]
pub(crate) struct GetArgs {
    /// The TrainJob
    #[arg(value_name = "NAME")]
    name: String,
}

/// Runs `trainjob list`.
pub(super) async fn list(context: &Context, args: &ListArgs) -> Result<Exit, Problem> {
    let target = Target::connect(context).await?;
    let params = ListParams {
        namespace: (!args.all_namespaces).then(|| target.namespace.clone()),
        label_selector: args.selector.clone(),
        ..ListParams::default()
    };
    let found = async {
        let answer = target.cluster.list(&train_job(), &params).await;
        answer.map_err(|source| target.failed("list", "", source))
    };
    let jobs = context.interrupt.or(found).await?.items;
    let summaries: Vec<TrainJobSummary> = jobs.iter().map(TrainJobSummary::of).collect();
    if summaries.is_empty() && context.printer.format() == Format::Table {
        let place = params.namespace.map(|namespace| format!(" in namespace {namespace}"));
        context.printer.note(&format!("no TrainJobs{}", place.unwrap_or_default()));
        return Ok(Exit::Done);
    }
    let printer = context.printer.for_stdout();
    context
        .printer
        .show(&summaries, || table(&summaries, args.all_namespaces, Timestamp::now(), &printer))?;
    Ok(Exit::Done)
}

fn table(summaries: &[TrainJobSummary], with_namespace: bool, now: Timestamp, printer: &Printer) -> String {
    let headings = ["NAMESPACE", "NAME", "STATE", "RUNTIME", "STEPS", "PROGRESS", "AGE"];
    let skipped = usize::from(!with_namespace);
    let rows = summaries.iter().map(|summary| {
        let row = vec![
            summary.namespace.clone(),
            summary.name.clone(),
            painted(printer, summary.state),
            summary.runtime.rsplit('/').next().unwrap_or_default().to_owned(),
            summary.steps_text(),
            summary.progress_text(),
            age(&summary.created, now),
        ];
        row.into_iter().skip(skipped).collect()
    });
    columns(&headings[skipped..], rows)
}

/// A state in its colour.
pub(super) fn painted(printer: &Printer, state: State) -> String {
    let tone = match state {
        State::Failed => Tone::Bad,
        State::Suspended | State::Pending | State::Deleting => Tone::Attention,
        State::Running | State::Complete => Tone::Good,
    };
    printer.paint(tone, &state.to_string())
}

/// Time since then, if known.
fn age(since: &str, now: Timestamp) -> String {
    let seconds = since.parse::<Timestamp>().ok().map(|since| now.as_second() - since.as_second());
    seconds.and_then(|seconds| u64::try_from(seconds).ok()).map(span).unwrap_or_default()
}

/// Runs `trainjob get`.
pub(super) async fn get(context: &Context, args: &GetArgs) -> Result<Exit, Problem> {
    let target = Target::connect(context).await?;
    let job = target.get(context, &args.name).await?;
    let detail = if context.printer.format() == Format::Table {
        let looked = async { Ok::<_, Problem>(detail(&target.cluster, &job).await) };
        let looked = context.interrupt.or(looked).await?;
        looked
            .inspect_err(|error| {
                context.printer.note(&format!("its pods are not shown: {}", one_line(error)));
            })
            .ok()
    } else {
        None
    };
    context.printer.show(&job, || text(&job, detail.as_ref(), &context.printer.for_stdout()))?;
    Ok(Exit::Done)
}

fn text(job: &Value, detail: Option<&Detail>, printer: &Printer) -> String {
    let summary = TrainJobSummary::of(job);
    let TrainJobSummary { namespace, name, runtime, created, .. } = &summary;
    let mut text = format!("{namespace}/{name}: {}", painted(printer, summary.state));
    if !summary.reason.is_empty() {
        // Writing to a String cannot fail.
        let _ = write!(text, " ({}: {})", summary.reason, summary.message);
    }
    let _ = writeln!(text, "\nruntime {runtime}, created {created}");
    if let Some(TrainJob { phase, reason: Some(_), since, why: Some(why), .. }) = detail.map(|it| &it.job) {
        let since = since.map(|since| format!(" since {since:.0}")).unwrap_or_default();
        let _ = writeln!(text, "{}{since}: {why}", phase.word());
    }
    let progress = summary.progress_text();
    if !progress.is_empty() {
        let _ = writeln!(text, "progress: {progress}");
    }
    let steps = summary.steps.iter().map(|step| {
        let counts = [step.active, step.ready, step.succeeded, step.failed].map(|count| count.to_string());
        std::iter::once(step.name.clone()).chain(counts).collect()
    });
    section(&mut text, &columns(&["STEP", "ACTIVE", "READY", "SUCCEEDED", "FAILED"], steps));
    let pods = detail.iter().flat_map(|detail| &detail.pods).map(|pod| {
        let PodDetail { name, node, is_ready, restarts, why } = pod;
        let ready = if *is_ready { "yes" } else { "no" };
        let restarts = match restarts {
            (times, Some(end)) => format!("{times}, last {end}"),
            (times, None) => times.to_string(),
        };
        vec![name.clone(), ready.to_owned(), restarts, node.clone(), why.clone().unwrap_or_default()]
    });
    section(&mut text, &columns(&["POD", "READY", "RESTARTS", "NODE", "WHY"], pods));
    let conditions = job["status"]["conditions"].as_array().into_iter().flatten();
    let conditions = conditions.map(|condition| {
        let of = |key: &str| condition[key].as_str().unwrap_or_default().to_owned();
        ["type", "status", "reason", "lastTransitionTime", "message"].map(of).to_vec()
    });
    section(&mut text, &columns(&["CONDITION", "STATUS", "REASON", "SINCE", "MESSAGE"], conditions));
    text
}

fn section(text: &mut String, table: &str) {
    if !table.is_empty() {
        text.push('\n');
        text.push_str(table);
    }
}
