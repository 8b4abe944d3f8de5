//! `trainjob watch`: a TrainJob until its end.

use clap::Args;
use futures::StreamExt as _;
use serde_json::Value;
use trainerd_cluster::watch::{Event, WatchParams};
use trainerd_cluster::{ListParams, RequestError};
use trainerd_plan::object::kinds::train_job;

use super::progress::Progress;
use super::state::{Glance, State};
use super::target::Target;
use crate::cli::context::Context;
use crate::problem::Exit;
use crate::problem::{Problem, TrainJobError};

/// Follow a TrainJob until it ends
///
/// On a terminal, shows a progress bar if the training reports its progress, and the counts of its pods otherwise;
/// elsewhere prints a line for each change, or an object with -o json. The exit code is 0 when it is Complete and 1
/// when it is Failed or deleted.
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
    let glance = ended?;
    let Glance { namespace, name, reason, message, .. } = glance;
    if glance.state == State::Failed {
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
) -> Result<Glance, Problem> {
    let mut events = target.cluster.watch(&train_job(), one(target, name));
    let mut last = None;
    let mut trouble = String::new();
    loop {
        let next = async { Ok::<_, Problem>(events.next().await) };
        let job = match context.interrupt.or(next).await? {
            Some(Ok(event)) => match job_of(event) {
                Some(job) => job,
                None => continue,
            },
            Some(Err(error)) if is_final(&error) => return Err(target.failed("watch", name, error).into()),
            Some(Err(error)) => {
                let now = error.to_string();
                if trouble != now {
                    context.printer.note(&format!("failed to watch the TrainJob: {now}; it is tried again"));
                    trouble = now;
                }
                continue;
            }
            None => Value::Null,
        };
        if job.is_null() {
            let (namespace, name) = (target.namespace.clone(), name.to_owned());
            return Err(TrainJobError::NotFound { namespace, name }.into());
        }
        let glance = Glance::of(&job);
        if last.as_ref() != Some(&glance) {
            progress.show(&glance)?;
            last = Some(glance.clone());
        }
        if glance.has_ended() {
            return Ok(glance);
        }
    }
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
