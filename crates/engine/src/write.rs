//! One step's request: sent when it is due, again while that is worth it.

use std::time::Duration;

use serde_json::Value;
use tokio::sync::watch;
use tokio::time::Instant;
use trainerd_cluster::lease::{Fence, LeaseLost};
use trainerd_cluster::retry::Backoff;
use trainerd_cluster::{ApplyParams, Cluster, ConflictKind, DeleteParams, Deletion, RequestError};
use trainerd_plan::order::{Role, role};
use trainerd_plan::plan::{Step, Verb};

use crate::error::one_line;
use crate::event::{Event, Sink, millis};

/// How long an answer that may be final is asked again: a CRD's new fields are served a moment after the
/// CRD itself says so, and until then an apply that uses them is answered like a fault of the server.
const DOUBT: Duration = Duration::from_secs(20);

/// The answer to a step's request.
pub(crate) struct Written {
    pub(crate) index: usize,
    pub(crate) answer: Result<Option<Value>, WriteError>,
}

/// Why a step's request was given up.
pub(crate) enum WriteError {
    /// The last answer.
    Request(RequestError),
    /// The right to write was lost before it was sent.
    LeaseLost(LeaseLost),
}

/// Sends a step's request, again and again while that is worth it, until `halt` turns true.
pub(crate) async fn write(
    cluster: &Cluster,
    step: &Step,
    namespace: &str,
    index: usize,
    guard: Option<&Fence>,
    sink: Sink<'_>,
    mut halt: watch::Receiver<bool>,
) -> Written {
    let mut backoff = Backoff::default();
    let mut doubted: Option<Instant> = None;
    loop {
        if let Some(Err(error)) = guard.map(Fence::check) {
            return Written { index, answer: Err(WriteError::LeaseLost(error)) };
        }
        let error = match send(cluster, step, namespace).await {
            Ok(answer) => return Written { index, answer: Ok(answer) },
            Err(error) => error,
        };
        let Some(wait) = worth_a_retry(&error, &mut doubted) else {
            return Written { index, answer: Err(WriteError::Request(error)) };
        };
        let wait = wait + backoff.next_wait();
        sink(Event::Retrying {
            object: step.object.clone(),
            error: one_line(&error),
            after_ms: millis(wait),
        });
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            _ = halt.wait_for(|halt| *halt) => {
                return Written { index, answer: Err(WriteError::Request(error)) };
            }
        }
    }
}

/// The least time until the next try; `None` where the answer is final.
fn worth_a_retry(error: &RequestError, doubted: &mut Option<Instant>) -> Option<Duration> {
    // A CRD is established a moment before the API server serves its objects.
    if matches!(error, RequestError::NotServed { .. }) {
        return Some(Duration::ZERO);
    }
    let retry = error.retry()?;
    if retry.doubtful && doubted.get_or_insert_with(Instant::now).elapsed() > DOUBT {
        return None;
    }
    Some(retry.after.unwrap_or_default())
}

async fn send(cluster: &Cluster, step: &Step, namespace: &str) -> Result<Option<Value>, RequestError> {
    let key = &step.object;
    match (&step.verb, &step.manifest) {
        // The namespace of the installation was made before the lease was taken.
        (Verb::Create, _) if role(key) == Role::Namespace && key.name == *namespace => {
            cluster.get(&step.resource, None, &key.name).await.map(Some)
        }
        (Verb::Create, Some(manifest)) => {
            cluster.apply(&step.resource, manifest, &ApplyParams::default()).await.map(Some)
        }
        (Verb::Apply { force, .. }, Some(manifest)) => {
            let params = ApplyParams { force: *force, ..ApplyParams::default() };
            cluster.apply(&step.resource, manifest, &params).await.map(Some)
        }
        (Verb::Delete { uid }, _) => {
            let params = DeleteParams { uid: Some(uid.clone()), ..DeleteParams::default() };
            match cluster.delete(&step.resource, key.namespace.as_deref(), &key.name, &params).await {
                Ok(Deletion::Accepted(object)) => Ok(Some(object)),
                // On a conflict the object that was to go is gone: what stands under its name is another.
                Ok(Deletion::Done) | Err(RequestError::Conflict { kind: ConflictKind::Uid, .. }) => Ok(None),
                Err(error) if error.is_absent() => Ok(None),
                Err(error) => Err(error),
            }
        }
        (Verb::Keep | Verb::Create | Verb::Apply { .. }, _) => Ok(None),
    }
}

/// What a step does, in the words of events and errors.
pub(crate) fn verb_name(verb: &Verb) -> &'static str {
    match verb {
        Verb::Create => "create",
        Verb::Apply { .. } => "apply",
        Verb::Keep => "keep",
        Verb::Delete { .. } => "delete",
    }
}
