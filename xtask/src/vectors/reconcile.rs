//! Cases of admission, building and single passes.

use jiff::Timestamp;
use serde_json::{Map, Value, json};
use trainerd_pipeline::status::{self, Action, JobSetLookup, Outcome, Pass};
use trainerd_pipeline::{Compatibility, build, names, validate};

use super::world::{World, sorted};

/// Admission, then building.
pub(super) fn admit(case: &Value, compatibility: Compatibility) -> Value {
    let world = World::of(case, compatibility);
    let new = &case["trainJob"];
    let old = Some(&case["oldTrainJob"]).filter(|old| old.is_object());
    let runtime = world.live_runtime(new);
    let verdict = validate(runtime.as_ref(), old, new, &world.facts(new));
    let mut out = json!({ "warnings": verdict.warnings, "errors": verdict.errors, "objects": [] });
    if verdict.errors.is_empty() {
        let (objects, error) = objects(&world, new);
        out["objects"] = sorted(objects);
        if let Some(error) = error {
            out["buildError"] = error.into();
        }
    }
    out
}

/// What is applied, and why it ends early.
fn objects(world: &World, train_job: &Value) -> (Vec<Value>, Option<String>) {
    let (runtime, snapshot) = match world.runtime(train_job) {
        Ok(found) => found,
        Err(error) => return (Vec::new(), Some(error.to_string())),
    };
    let mut objects: Vec<Value> = snapshot.into_iter().collect();
    match build(&runtime, train_job, &world.facts(train_job)) {
        Ok(built) => objects.extend(built),
        Err(error) => return (objects, Some(error.to_string())),
    }
    (objects, None)
}

/// One pass of the controller.
pub(super) fn pass(case: &Value, compatibility: Compatibility) -> Value {
    let mut world = World::of(case, compatibility);
    let train_job = &case["trainJob"];
    let now = Timestamp::now();
    if !status::is_ours(train_job) {
        let status = Some(&train_job["status"]).filter(|status| **status != json!({}));
        return json!({ "objects": [], "deleted": [], "events": [], "requeue": false, "status": status });
    }
    let had_job_set = world.job_set(train_job).is_some();
    let (applied, failure) = if status::builds_objects(train_job, compatibility) {
        objects(&world, train_job)
    } else {
        (Vec::new(), None)
    };
    for object in &applied {
        world.apply(object);
    }
    let facts = world.facts(train_job);
    let outcome = status::reconcile(&Pass {
        train_job,
        job_set: facts.job_set.map_or(JobSetLookup::Absent, JobSetLookup::Found),
        job_set_created: !had_job_set && facts.job_set.is_some(),
        has_pod_group: facts.coscheduling_pod_group || facts.volcano_pod_group,
        failure: failure.as_deref(),
        search_failed: None,
        now,
        compatibility,
    });
    shown(&outcome, applied, &world, train_job, now)
}

fn shown(outcome: &Outcome, applied: Vec<Value>, world: &World, train_job: &Value, now: Timestamp) -> Value {
    let mut out = Map::new();
    out.insert("objects".into(), sorted(applied));
    let deleted = outcome.actions.iter().map(|action| match action {
        Action::DeleteJobSet if world.job_set(train_job).is_none() => {
            let name = names::name(train_job);
            let answer = trainerd_pipeline::not_found("jobsets.jobset.x-k8s.io", name);
            format!("JobSet/{name} ({answer})")
        }
        Action::DeleteJobSet => format!("JobSet/{}", names::name(train_job)),
        Action::DeletePodGroups => format!("PodGroup/{}", names::name(train_job)),
        Action::DeleteTrainJob { .. } => format!("TrainJob/{}", names::name(train_job)),
    });
    out.insert("deleted".into(), deleted.collect());
    let events = outcome
        .events
        .iter()
        .map(|event| Value::from(format!("{} {} {}", event.kind.as_str(), event.reason, event.note)));
    out.insert("events".into(), events.collect());
    out.insert("requeue".into(), outcome.requeue.is_some().into());
    if let Some(at) = outcome.requeue {
        out.insert("requeueAt".into(), requeue_at(outcome, train_job, at, now).into());
    }
    if let Some(error) = &outcome.error {
        out.insert("error".into(), error.clone().into());
    }
    out.insert("status".into(), outcome.status.clone());
    Value::Object(out)
}

/// When a deadline counts from this very pass, it is told relative to it.
fn requeue_at(outcome: &Outcome, train_job: &Value, at: Timestamp, now: Timestamp) -> String {
    let text = |time: Timestamp| time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let conditions = outcome.status["conditions"].as_array().into_iter().flatten();
    let mut suspended = conditions.filter(|one| one["type"] == "Suspended" && one["status"] == "False");
    if suspended.any(|one| one["lastTransitionTime"] == text(now)) {
        return format!("$now+{}s", train_job["spec"]["activeDeadlineSeconds"]);
    }
    text(at)
}
