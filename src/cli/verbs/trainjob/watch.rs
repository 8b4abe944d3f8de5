//! `trainjob watch`: a TrainJob until its end.

use clap::Args;
use futures::StreamExt as _;
use serde_json::Value;
use trainerd_causes::one_line;
use trainerd_cluster::watch::{Event, WatchParams};
use trainerd_cluster::{ListParams, RequestError};
use trainerd_plan::object::kinds::train_job;

use super::progress::Progress;
use super::state::{State, TrainJobSummary};
use super::target::Target;
use crate::cli::context::Context;
use crate::problem::Exit;
use crate::problem::{Problem, TrainJobError};
use crate::training::{Change, WatchedPods};

/// Follow a TrainJob until it ends
///
/// On a terminal, shows a progress bar if the training reports its progress, and otherwise the number of its pods.
/// Elsewhere, prints a line for each change, or an object with -o json. Also reports what keeps pods from running. The
/// exit code is 0 when it is Complete and 1 when it is Failed or deleted.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  trainerd trainjob watch my-job
  trainerd trainjob watch my-job --timeout 2h
  trainerd trainjob watch my-job -o json | jq .progress")]
pub(crate) struct WatchArgs {
    /// The TrainJob
    #[arg(value_name = "NAME")]
    name: String,
}

/// Runs the verb.
pub(super) async fn run(context: &Context, args: &WatchArgs) -> Result<Exit, Problem> {
    let target = Target::connect(context).await?;
    until_ended(context, &target, &args.name).await?;
    Ok(Exit::Done)
}

/// Shows a TrainJob until it is complete.
///
/// # Errors
/// [`TrainJobError::Failed`], and [`TrainJobError::NotFound`] where it is gone.
pub(super) async fn until_ended(context: &Context, target: &Target, name: &str) -> Result<(), Problem> {
    let mut progress = Progress::new(&context.printer);
    let ended = follow(context, target, name, &mut progress).await;
    progress.clear();
    let summary = ended?;
    let TrainJobSummary { namespace, name, reason, message, .. } = summary;
    if summary.state == State::Failed {
        let why =
            [reason, message].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(": ");
        return Err(TrainJobError::Failed { namespace, name, why }.into());
    }
    context.printer.note(&format!("{namespace}/{name} is complete"));
    Ok(())
}

async fn follow(
    context: &Context,
    target: &Target,
    name: &str,
    progress: &mut Progress,
) -> Result<TrainJobSummary, Problem> {
    let mut events = target.cluster.watch(&train_job(), one(target, name));
    let mut pods = Some(WatchedPods::new(&target.cluster, &target.namespace, name));
    let (mut last, mut seen) = (None, None);
    let mut trouble = String::new();
    loop {
        let next = async {
            tokio::select! {
                event = events.next() => Ok::<_, Problem>(Update::Job(event)),
                change = changed(&mut pods) => Ok(Update::Pods(change)),
            }
        };
        match context.interrupt.or(next).await? {
            Update::Job(Some(Ok(event))) => match job_of(event) {
                Some(Value::Null) => return Err(not_found(target, name).into()),
                Some(job) => seen = Some(job),
                None => continue,
            },
            Update::Job(Some(Err(error))) if is_final(&error) => {
                return Err(target.failed("watch", name, error).into());
            }
            Update::Job(Some(Err(error))) => {
                let now = error.to_string();
                if trouble != now {
                    context.printer.note(&format!("failed to watch the TrainJob: {now}; retrying"));
                    trouble = now;
                }
                continue;
            }
            Update::Job(None) => return Err(not_found(target, name).into()),
            Update::Pods(Change::Updated) => {}
            // Whoever watches the TrainJob receives a lost connection by that.
            Update::Pods(Change::Interrupted(_)) => continue,
            Update::Pods(Change::Impossible(error)) => {
                context.printer.note(&format!("its pods are not shown: {}", one_line(&error)));
                pods = None;
                continue;
            }
        }
        let Some(job) = &seen else { continue };
        let why = pods.as_ref().and_then(|pods| pods.why(job));
        let summary = TrainJobSummary { why, ..TrainJobSummary::of(job) };
        if last.as_ref() != Some(&summary) {
            progress.show(&summary)?;
            last = Some(summary.clone());
        }
        if summary.has_ended() {
            return Ok(summary);
        }
    }
}

/// What a watch reports.
enum Update {
    Job(Option<Result<Event, RequestError>>),
    Pods(Change),
}

/// Waits until the pods change; for ever where they cannot be watched.
async fn changed(pods: &mut Option<WatchedPods>) -> Change {
    match pods {
        Some(pods) => pods.changed().await,
        None => std::future::pending().await,
    }
}

fn not_found(target: &Target, name: &str) -> TrainJobError {
    let (namespace, name) = (target.namespace.clone(), name.to_owned());
    TrainJobError::NotFound { namespace, name }
}

/// What to watch for one TrainJob.
pub(super) fn one(target: &Target, name: &str) -> WatchParams {
    let list = ListParams {
        namespace: Some(target.namespace.clone()),
        field_selector: Some(format!("metadata.name={name}")),
        ..ListParams::default()
    };
    WatchParams { list, resource_version: None }
}

/// The TrainJob that a watch of one tells of; null where it is gone, `None` where nothing is new.
pub(super) fn job_of(event: Event) -> Option<Value> {
    match event {
        Event::Restarted(mut list) => Some(list.items.pop().unwrap_or_default()),
        Event::Applied(job) => Some(job),
        Event::Deleted(_) => Some(Value::Null),
        Event::Resumed => None,
    }
}

/// Whether a watch will not come back.
pub(super) fn is_final(error: &RequestError) -> bool {
    matches!(
        error,
        RequestError::NotServed { .. } | RequestError::Forbidden { .. } | RequestError::Unauthorized { .. }
    )
}
