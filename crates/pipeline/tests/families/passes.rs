use super::*;
use jiff::Timestamp;
use trainerd_pipeline::status::{self, Action, JobSetLookup, Outcome, Pass};

const NOW: &str = "2026-06-07T08:00:00Z";

fn pass(
    train_job: &Value,
    job_set: Option<&Value>,
    failure: Option<&str>,
    compatibility: Compatibility,
) -> Outcome {
    status::reconcile(&Pass {
        train_job,
        job_set: job_set.map_or(JobSetLookup::Absent, JobSetLookup::Found),
        job_set_created: false,
        has_pod_group: true,
        failure,
        search_failed: None,
        now: NOW.parse::<Timestamp>().unwrap(),
        compatibility,
    })
}

/// Conditions as `Type=Status/Reason`.
fn conditions(outcome: &Outcome) -> Vec<String> {
    let list = outcome.status["conditions"].as_array().into_iter().flatten();
    let word = |one: &Value, key: &str| one[key].as_str().unwrap().to_owned();
    list.map(|one| format!("{}={}/{}", word(one, "type"), word(one, "status"), word(one, "reason"))).collect()
}

fn ended(kind: &str) -> Value {
    json!({ "type": kind, "status": "True", "reason": "R", "message": "m", "lastTransitionTime": "2026-06-07T07:00:00Z" })
}

fn live(ends: &[&str], active: i32) -> Value {
    let ends: Vec<Value> = ends.iter().map(|kind| ended(kind)).collect();
    let job =
        json!({ "name": "node", "ready": 1, "succeeded": 0, "failed": 0, "active": active, "suspended": 0 });
    json!({
        "spec": { "replicatedJobs": [node()] },
        "status": { "conditions": ends, "replicatedJobsStatus": [job] },
    })
}

fn of(spec: Value, conditions: Vec<Value>) -> Value {
    let mut job = train_job(spec);
    job["metadata"]["creationTimestamp"] = json!("2026-06-07T07:59:00Z");
    job["metadata"]["resourceVersion"] = json!("7");
    job["status"]["conditions"] = json!(conditions);
    job
}

#[test]
fn trials_end_with_their_search() {
    let pass = |train_job: &Value, job_set: Option<&Value>| {
        status::reconcile(&Pass {
            train_job,
            job_set: job_set.map_or(JobSetLookup::Absent, JobSetLookup::Found),
            job_set_created: false,
            has_pod_group: false,
            failure: None,
            search_failed: Some("the search has failed"),
            now: NOW.parse::<Timestamp>().unwrap(),
            compatibility: Compatibility::Extended,
        })
    };
    let running = live(&[], 1);
    let outcome = pass(&of(json!({}), vec![]), Some(&running));
    let failed = "Failed=True/OptimizationJobFailed";
    assert!(conditions(&outcome).iter().any(|it| it == failed), "{:?}", conditions(&outcome));
    assert_eq!(outcome.actions, [Action::DeleteJobSet]);
    assert!(outcome.events.iter().any(|it| it.reason == "Failed" && it.note == "the search has failed"));
    // Whoever did that was killed before it deleted the JobSet.
    let mut ended_here = ended("Failed");
    ended_here["reason"] = json!("OptimizationJobFailed");
    let again = of(json!({}), vec![ended_here]);
    assert_eq!(pass(&again, Some(&running)).actions, [Action::DeleteJobSet]);
    assert!(pass(&again, None).actions.is_empty());
    // One that has ended by itself stays as it is, and so does one that ends at the same time.
    for (train_job, job_set) in [
        (of(json!({}), vec![ended("Complete")]), live(&["Completed"], 0)),
        (of(json!({}), vec![ended("Failed")]), live(&["Failed"], 0)),
        (of(json!({}), vec![]), live(&["Completed"], 0)),
    ] {
        let outcome = pass(&train_job, Some(&job_set));
        assert!(conditions(&outcome).iter().all(|it| it != failed), "{:?}", conditions(&outcome));
        assert!(outcome.actions.is_empty());
    }
    let mut leaving = of(json!({}), vec![]);
    leaving["metadata"]["deletionTimestamp"] = json!(NOW);
    assert!(pass(&leaving, Some(&running)).actions.is_empty());
}

#[test]
fn conditions_follow_spec_and_job_set() {
    let suspended = json!({ "type": "Suspended", "status": "True", "reason": "Suspended", "message": "m", "lastTransitionTime": "2026-06-07T07:00:00Z" });
    for (train_job, job_set, upstream, extended) in [
        (of(json!({}), vec![]), live(&[], 1), vec![], None),
        (of(json!({ "suspend": true }), vec![]), live(&[], 0), vec!["Suspended=True/Suspended"], None),
        (
            of(json!({}), vec![suspended.clone()]),
            live(&["Completed"], 0),
            vec!["Suspended=False/Resumed", "Complete=True/R"],
            None,
        ),
        (
            of(json!({}), vec![]),
            live(&["Completed", "Failed"], 0),
            vec!["Complete=True/R", "Failed=True/R"],
            Some(vec!["Complete=True/R"]),
        ),
    ] {
        assert_eq!(conditions(&pass(&train_job, Some(&job_set), None, Compatibility::Upstream)), upstream);
        assert_eq!(
            conditions(&pass(&train_job, Some(&job_set), None, Compatibility::Extended)),
            extended.unwrap_or(upstream)
        );
    }
}

#[test]
fn a_missing_job_set_is_an_error_until_the_train_job_finished() {
    let running = pass(&of(json!({}), vec![]), None, None, Compatibility::Upstream);
    assert_eq!(running.error.as_deref(), Some("jobsets.jobset.x-k8s.io \"a\" not found"));
    let complete = pass(&of(json!({}), vec![ended("Complete")]), None, None, Compatibility::Upstream);
    assert_eq!((complete.error, complete.is_changed), (None, false));
}

#[test]
fn the_deadline_ends_a_train_job() {
    let resumed = json!({ "type": "Suspended", "status": "False", "reason": "Resumed", "message": "m", "lastTransitionTime": "2026-06-07T07:59:50Z" });
    for (spec, known, requeue, deleted) in [
        (json!({ "activeDeadlineSeconds": 30 }), vec![], None, true),
        (json!({ "activeDeadlineSeconds": 90 }), vec![], Some("2026-06-07T08:00:30Z"), false),
        (json!({ "activeDeadlineSeconds": 30 }), vec![resumed], Some("2026-06-07T08:00:20Z"), false),
        (json!({ "activeDeadlineSeconds": 30, "suspend": true }), vec![], None, false),
        (json!({ "activeDeadlineSeconds": i64::MAX }), vec![], None, false),
        (json!({ "activeDeadlineSeconds": 60 }), vec![], Some("2026-06-07T08:00:01Z"), false),
    ] {
        let outcome = pass(&of(spec.clone(), known), Some(&live(&[], 1)), None, Compatibility::Upstream);
        assert_eq!(outcome.requeue.map(|at| at.to_string()).as_deref(), requeue, "{spec}");
        assert_eq!(outcome.actions == [Action::DeleteJobSet], deleted, "{spec}");
        assert_eq!(conditions(&outcome).contains(&"Failed=True/DeadlineExceeded".to_owned()), deleted);
    }
}

#[test]
fn an_unsupported_runtime_fails_permanently() {
    let mut job = of(json!({}), vec![]);
    job["spec"]["runtimeRef"]["kind"] = json!("Other");
    for compatibility in [Compatibility::Upstream, Compatibility::Extended] {
        let outcome = pass(&job, None, None, compatibility);
        assert_eq!(conditions(&outcome), ["Failed=True/TrainingRuntimeNotSupported"]);
        assert_eq!((outcome.error, outcome.events.len()), (None, 1));
    }
    assert!(!status::builds_objects(&job, Compatibility::Upstream));
}

#[test]
fn failures_are_events_and_in_native_mode_conditions() {
    let long = "é".repeat(1000);
    let job = of(json!({}), vec![]);
    let upstream = pass(&job, Some(&live(&[], 0)), Some(&long), Compatibility::Upstream);
    assert_eq!((conditions(&upstream), upstream.events.len()), (vec![], 1));
    assert!(upstream.events[0].note.ends_with("é ...") && upstream.events[0].note.chars().count() < 1024);
    let ours = pass(&job, Some(&live(&[], 0)), Some("%s"), Compatibility::Extended);
    assert_eq!(conditions(&ours), ["ResourcesCreationFailed=True/TrainJobResourcesCreationFailed"]);
    assert_eq!(ours.events[0].note, "TrainJob resources reconciliation failed: %s");
    let mut mended = job;
    mended["status"] = ours.status;
    assert_eq!(
        conditions(&pass(&mended, Some(&live(&[], 0)), None, Compatibility::Extended)),
        Vec::<String>::new()
    );
}

#[test]
fn native_conditions_need_an_annotation() {
    let with = |annotations: Value, known: Vec<Value>| {
        let mut job = of(json!({}), known);
        job["metadata"]["annotations"] = annotations;
        job
    };
    let phases = with(json!({ "extended.trainer.kubeflow.org/phase-conditions": "true" }), vec![]);
    assert_eq!(
        conditions(&pass(&phases, Some(&live(&[], 1)), None, Compatibility::Extended)),
        ["Running=True/TrainersReady"]
    );
    assert_eq!(
        conditions(&pass(&phases, None, None, Compatibility::Extended)),
        ["Pending=True/TrainersNotReady"]
    );
    assert_eq!(
        conditions(&pass(&phases, Some(&live(&["Completed"], 0)), None, Compatibility::Extended)),
        ["Complete=True/R"]
    );
    assert_eq!(
        conditions(&pass(&phases, Some(&live(&[], 1)), None, Compatibility::Upstream)),
        Vec::<String>::new()
    );

    let times = with(json!({ "extended.trainer.kubeflow.org/timestamps": "true" }), vec![]);
    assert_eq!(pass(&times, Some(&live(&[], 1)), None, Compatibility::Extended).status["startTime"], NOW);
    assert_eq!(
        pass(&times, Some(&live(&["Failed"], 0)), None, Compatibility::Extended).status["completionTime"],
        "2026-06-07T07:00:00Z"
    );

    for (annotation, requeue, gone) in
        [("3600", None, true), ("3601", Some("2026-06-07T08:00:01Z"), false), ("soon", None, false)]
    {
        let job = with(
            json!({ "extended.trainer.kubeflow.org/ttl-seconds-after-finished": annotation }),
            vec![ended("Complete")],
        );
        let outcome = pass(&job, None, None, Compatibility::Extended);
        assert_eq!(outcome.requeue.map(|at| at.to_string()).as_deref(), requeue);
        let delete = Action::DeleteTrainJob { uid: "u".to_owned(), resource_version: "7".to_owned() };
        assert_eq!(outcome.actions.contains(&delete), gone, "{annotation}");
        assert!(
            outcome.actions.contains(&Action::DeletePodGroups),
            "the gang of a TrainJob that has ended goes"
        );
    }
}

#[test]
fn a_deleted_train_job_is_not_reconciled() {
    let mut job = of(json!({ "activeDeadlineSeconds": 1 }), vec![]);
    job["metadata"]["deletionTimestamp"] = json!(NOW);
    assert!(
        status::builds_objects(&job, Compatibility::Upstream)
            && !status::builds_objects(&job, Compatibility::Extended)
    );
    let outcome = pass(&job, None, None, Compatibility::Extended);
    assert_eq!((outcome.error, outcome.actions), (None, vec![]));
}
