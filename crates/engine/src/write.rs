//! One step's request: sent when it is due, again while that is worth it.

use std::time::Duration;

use serde_json::Value;
use tokio::sync::watch;
use tokio::time::Instant;
use trainerd_causes::one_line;
use trainerd_cluster::lease::Fence;
use trainerd_cluster::retry::Backoff;
use trainerd_cluster::{ApplyParams, Cluster, DeleteParams, Deletion, RequestError};
use trainerd_plan::order::{ObjectClass, object_class};
use trainerd_plan::plan::{Step, Verb};
use trainerd_plan::{admission_changes, applyset};

use crate::adoption;
use crate::event::{Event, Sink, millis};
use crate::write_error::WriteError;

/// How long an answer that may be final is asked again: a CRD's new fields are served a moment after the
/// CRD itself says so, and until then an apply that uses them is answered like a fault of the server.
const DOUBT: Duration = Duration::from_secs(20);

/// How often an object that keeps changing is looked at again before its delete is given up.
const LOOKS: usize = 10;

/// The answer to a step's request.
pub(crate) struct Written {
    pub(crate) index: usize,
    pub(crate) answer: Result<Option<Value>, WriteError>,
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
        let error = match send(cluster, step, namespace, guard).await {
            Ok(Some(answer)) => {
                let answer = proven(cluster, step, guard, sink, answer).await;
                return Written { index, answer: Ok(Some(answer)) };
            }
            Ok(None) => return Written { index, answer: Ok(None) },
            Err(WriteError::Request(error)) => error,
            Err(error) => return Written { index, answer: Err(error) },
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

/// Notes with the object what admission changed of it, where the answer to an apply proves that: one more write, so that
/// no other is made in vain. Whether or not it succeeds the object is what it can be.
async fn proven(
    cluster: &Cluster,
    step: &Step,
    guard: Option<&Fence>,
    sink: Sink<'_>,
    answer: Value,
) -> Value {
    let force = match &step.verb {
        Verb::Apply { force, .. } => *force,
        Verb::Create => false,
        Verb::Keep | Verb::Release { .. } | Verb::Delete { .. } => return answer,
    };
    let Some(manifest) =
        step.manifest.as_ref().filter(|_| object_class(&step.object) != ObjectClass::Namespace)
    else {
        return answer;
    };
    let Some((again, differ)) = admission_changes::proven(manifest, &answer, cluster.field_manager()) else {
        return answer;
    };
    if !differ.is_empty() {
        let fields = differ.iter().map(|change| change.path.to_string()).collect();
        sink(Event::ChangedByAdmission { object: step.object.clone(), fields });
    }
    if guard.is_some_and(|guard| guard.check().is_err()) {
        return answer;
    }
    let params = ApplyParams { force, ..ApplyParams::default() };
    match cluster.apply(&step.resource, &again, &params).await {
        Ok(answer) => answer,
        Err(error) => {
            // The next apply proves it again.
            tracing::debug!(object = %step.object, %error, "failed to record what admission changed");
            answer
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

async fn send(
    cluster: &Cluster,
    step: &Step,
    namespace: &str,
    guard: Option<&Fence>,
) -> Result<Option<Value>, WriteError> {
    let key = &step.object;
    match (&step.verb, &step.manifest) {
        // The namespace of the installation was made before the lease was taken.
        (Verb::Create, _) if object_class(key) == ObjectClass::Namespace && key.name == *namespace => {
            Ok(Some(cluster.get(&step.resource, None, &key.name).await?))
        }
        (Verb::Create, Some(manifest)) => {
            // The whole answer: what differs from what was sent was changed on the way.
            let params = ApplyParams::default();
            Ok(Some(adoption::create(cluster, step, manifest, &params, guard).await?))
        }
        (Verb::Release { uid }, _) => adoption::release(cluster, step, uid, guard).await,
        (Verb::Apply { force, .. }, Some(manifest)) => {
            let params = ApplyParams { force: *force, ..ApplyParams::default() };
            Ok(Some(cluster.apply(&step.resource, manifest, &params).await?))
        }
        (Verb::Delete { uid, resource_version, part_of }, _) => {
            delete(cluster, step, guard, uid, resource_version, part_of.as_deref()).await
        }
        (Verb::Keep | Verb::Create | Verb::Apply { .. }, _) => Ok(None),
    }
}

/// Deletes an object as it was planned, and as it is now where only what the plan did not go by has changed:
/// its status, say. Answers with what is left of it.
async fn delete(
    cluster: &Cluster,
    step: &Step,
    guard: Option<&Fence>,
    uid: &str,
    planned: &str,
    part_of: Option<&str>,
) -> Result<Option<Value>, WriteError> {
    let (namespace, name) = (step.object.namespace.as_deref(), &step.object.name);
    let mut version = planned.to_owned();
    for look in 0.. {
        // Whoever took the lease meanwhile may want the object: the look did not ask.
        guard.map_or(Ok(()), Fence::check).map_err(WriteError::LeaseLost)?;
        let params = DeleteParams {
            uid: Some(uid.to_owned()),
            resource_version: (!version.is_empty()).then(|| version.clone()),
            ..DeleteParams::default()
        };
        let conflict = match cluster.delete(&step.resource, namespace, name, &params).await {
            Ok(Deletion::Accepted(object)) => return Ok(Some(object)),
            Ok(Deletion::Done) => return Ok(None),
            Err(error) if error.is_absent() => return Ok(None),
            Err(error @ RequestError::Conflict { .. }) if look < LOOKS => error,
            Err(error) => return Err(error.into()),
        };
        let now = match cluster.get_metadata(&step.resource, namespace, name).await {
            Ok(now) => now,
            Err(error) if error.is_absent() => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        // What was to go is gone: what stands under its name is another.
        if now["metadata"]["uid"].as_str() != Some(uid) {
            return Ok(None);
        }
        if applyset::label(&now, applyset::PART_OF) != part_of {
            return Err(WriteError::ChangedHands);
        }
        tracing::debug!(object = %step.object, %conflict, "changed since it was planned; looking again");
        now["metadata"]["resourceVersion"].as_str().unwrap_or_default().clone_into(&mut version);
    }
    Ok(None)
}

/// What a step does, in the words of events and errors.
pub(crate) fn verb_name(verb: &Verb) -> &'static str {
    match verb {
        Verb::Create => "create",
        Verb::Apply { .. } => "apply",
        Verb::Keep => "keep",
        Verb::Release { .. } => "release",
        Verb::Delete { .. } => "delete",
    }
}
