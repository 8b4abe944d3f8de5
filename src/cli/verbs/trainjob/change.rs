//! `trainjob suspend`, `trainjob resume` and `trainjob delete`.

use clap::Args;
use futures::StreamExt as _;
use serde_json::{Value, json};
use trainerd_cluster::watch::{Event, WatchParams};
use trainerd_cluster::{CreateParams, DeleteParams, Deletion, ListParams};
use trainerd_plan::object::kinds::train_job;

use super::state::{State, TrainJobSummary};
use super::target::Target;
use crate::cli::ask::{Risk, confirm};
use crate::cli::context::Context;
use crate::problem::Exit;
use crate::problem::{Problem, TrainJobError};

/// Suspend TrainJobs: their pods are deleted; resume starts them from the beginning
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  trainerd trainjob suspend my-job")]
pub(crate) struct SuspendArgs {
    /// The TrainJobs
    #[arg(value_name = "NAME", required = true)]
    names: Vec<String>,
}

/// Resume TrainJobs that are suspended
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  trainerd trainjob resume my-job")]
pub(crate) struct ResumeArgs {
    /// The TrainJobs
    #[arg(value_name = "NAME", required = true)]
    names: Vec<String>,
}

/// Delete TrainJobs, with their pods; asks for confirmation
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  trainerd trainjob delete my-job
  trainerd trainjob delete one other --yes --no-wait")]
pub(crate) struct DeleteArgs {
    /// The TrainJobs
    #[arg(value_name = "NAME", required = true)]
    names: Vec<String>,

    /// Do not wait until they are gone
    #[arg(long)]
    no_wait: bool,
}

/// Runs `trainjob suspend`.
pub(super) async fn suspend(context: &Context, args: &SuspendArgs) -> Result<Exit, Problem> {
    set(context, &args.names, true).await
}

/// Runs `trainjob resume`.
pub(super) async fn resume(context: &Context, args: &ResumeArgs) -> Result<Exit, Problem> {
    set(context, &args.names, false).await
}

async fn set(context: &Context, names: &[String], suspend: bool) -> Result<Exit, Problem> {
    let target = Target::connect(context).await?;
    let mut changed = Vec::new();
    for name in names {
        let job = target.get(context, name).await?;
        let summary = TrainJobSummary::of(&job);
        let namespace = &target.namespace;
        if summary.has_ended() || summary.state == State::Deleting {
            let (namespace, name, state) = (namespace.clone(), name.clone(), summary.state.to_string());
            return Err(TrainJobError::Ended { namespace, name, state }.into());
        }
        let (done, already) =
            if suspend { ("suspended", "is suspended already") } else { ("resumed", "is not suspended") };
        if (job["spec"]["suspend"] == true) == suspend {
            context.printer.note(&format!("{namespace}/{name} {already}"));
            changed.push(summary);
            continue;
        }
        // Only the very TrainJob that was looked at.
        let patch = json!({"metadata": {"uid": job["metadata"]["uid"]}, "spec": {"suspend": suspend}});
        let patched = async {
            let params = CreateParams::default();
            let answer =
                target.cluster.patch_merge(&train_job(), Some(namespace), name, &patch, params).await;
            answer.map_err(|source| target.failed("change", name, source))
        };
        let job = context.interrupt.or(patched).await?;
        context.printer.note(&format!("{done} the TrainJob {namespace}/{name}{}", queue(&job)));
        changed.push(TrainJobSummary::of(&job));
    }
    context.printer.show(&changed, String::new)?;
    Ok(Exit::Done)
}

/// Who else has a say in whether it runs.
fn queue(job: &Value) -> String {
    match job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"].as_str() {
        Some(queue) => format!("; Kueue's queue {queue} may suspend and resume it, too"),
        None => String::new(),
    }
}

/// Runs `trainjob delete`.
pub(super) async fn delete(context: &Context, args: &DeleteArgs) -> Result<Exit, Problem> {
    let target = Target::connect(context).await?;
    let mut jobs = Vec::new();
    for name in &args.names {
        jobs.push(target.get(context, name).await?);
    }
    for summary in jobs.iter().map(TrainJobSummary::of) {
        context.printer.note(&format!("{}/{}: {}", summary.namespace, summary.name, summary.state));
    }
    confirm(context, "Delete these TrainJobs and their pods?", Risk::Destructive).await?;
    for (name, job) in args.names.iter().zip(&jobs) {
        let uid = job["metadata"]["uid"].as_str().map(str::to_owned);
        let deleted = async {
            let params = DeleteParams { uid, ..DeleteParams::default() };
            let answer = target.cluster.delete(&train_job(), Some(&target.namespace), name, &params).await;
            answer.map_err(|source| target.failed("delete", name, source))
        };
        let done = context.interrupt.or(deleted).await? == Deletion::Done;
        if !done && !args.no_wait {
            gone(context, &target, job).await?;
        }
        context.printer.note(&format!("deleted the TrainJob {}/{name}", target.namespace));
    }
    Ok(Exit::Done)
}

/// Waits until a TrainJob is gone, and says what holds it.
async fn gone(context: &Context, target: &Target, job: &Value) -> Result<(), Problem> {
    let (name, uid) = (job["metadata"]["name"].as_str().unwrap_or_default(), &job["metadata"]["uid"]);
    let list = ListParams {
        namespace: Some(target.namespace.clone()),
        field_selector: Some(format!("metadata.name={name}")),
        metadata_only: true,
        ..ListParams::default()
    };
    let mut events = target.cluster.watch(&train_job(), WatchParams { list, resource_version: None });
    let mut told = String::new();
    loop {
        let next = async { Ok::<_, Problem>(events.next().await) };
        let held = match context.interrupt.or(next).await? {
            Some(Ok(Event::Restarted(list))) => {
                list.items.into_iter().find(|it| it["metadata"]["uid"] == *uid)
            }
            Some(Ok(Event::Applied(object))) => Some(object).filter(|it| it["metadata"]["uid"] == *uid),
            Some(Ok(Event::Resumed)) => continue,
            Some(Ok(Event::Deleted(_))) | None => None,
            Some(Err(error)) if error.is_absent() => None,
            Some(Err(error)) => {
                context.printer.note(&format!("failed to watch TrainJobs: {error}; retrying"));
                continue;
            }
        };
        let Some(held) = held else { return Ok(()) };
        let finalizers = held["metadata"]["finalizers"].as_array().into_iter().flatten();
        let by: Vec<&str> = finalizers.filter_map(Value::as_str).collect();
        let text = format!("waiting for {name} to be deleted: finalizers {}", by.join(", "));
        if !by.is_empty() && text != told {
            context.printer.note(&text);
            told = text;
        }
    }
}
