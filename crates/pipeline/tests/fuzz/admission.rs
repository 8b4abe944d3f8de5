//! Objects that webhooks are asked about, from the API server's schema to what is built of them.

use fastrand::Rng;
use jiff::Timestamp;
use serde_json::{Value, json};
use trainerd_pipeline::api_server::{self, Part};
use trainerd_pipeline::status::{self, JobSetLookup, Pass};
use trainerd_pipeline::{
    BuildError, BuildProfile, Compatibility, RuntimeKind, build, defaulting, runtime_admission, runtime_kind,
    snapshot, validate,
};

use crate::random::{fuzz, mutate};
use crate::{a_runtime, a_train_job, facts, policies};

/// What an apply and a webhook say of an object that is wrong: a path, then what is wrong there; or a sentence.
fn is_named(error: &str) -> bool {
    error.len() > 8 && error.contains(' ')
}

#[test]
fn webhook_bodies() {
    let runtimes: Vec<Value> = policies().iter().map(a_runtime).collect();
    let whole = a_train_job();
    let now: Timestamp = "2026-01-02T04:00:00Z".parse().unwrap();
    fuzz("webhook bodies", 1000, |random| {
        let mut runtime = runtimes[random.usize(0..runtimes.len())].clone();
        let mut job = whole.clone();
        // Either, or both: what is wrong with one must not hide what is wrong with the other.
        if random.bool() {
            mutate(random, &mut job);
        } else {
            mutate(random, &mut runtime);
            mutate(random, &mut job);
        }
        let (compatibility, profile) = [
            (Compatibility::Upstream, BuildProfile::Upstream),
            (Compatibility::Extended, BuildProfile::Extended),
        ][random.usize(0..2)];
        // The API server's part takes ten times the rest.
        let schemas =
            if random.u8(0..32) == 0 { vec![(&job, &whole), (&runtime, &runtimes[0])] } else { Vec::new() };
        for (object, old) in schemas {
            if let Ok(stored) = api_server::store(object, random.bool().then_some(old), Part::Main) {
                assert!(stored.errors.iter().all(|error| is_named(error)), "{:?}", stored.errors);
            }
        }
        let verdict = runtime_admission::validate(&runtime, random.bool(), compatibility);
        assert!(verdict.errors.iter().all(|error| is_named(error)), "{:?}", verdict.errors);

        let old = random.bool().then_some(&whole);
        let changes = defaulting::patch_times(old, &job, now);
        let _ = defaulting::with_times(&job, &changes);
        assert!(defaulting::json_patch(&changes).is_array());
        let live = random.bool().then(|| a_job_set(random));
        let facts = facts(compatibility, profile, live.as_ref());
        let verdict = validate(Ok(&runtime), old, &job, &facts);
        assert!(verdict.errors.iter().all(|error| is_named(error)), "{:?}", verdict.errors);

        let failure = match build(&runtime, &job, &facts) {
            Ok(objects) => {
                assert!(
                    objects.iter().all(|object| object["kind"].is_string() && object["metadata"].is_object())
                );
                None
            }
            Err(error) => {
                assert!(!matches!(error, BuildError::TypeTable), "{error}");
                assert!(is_named(&error.to_string()), "{error}");
                Some(error.to_string())
            }
        };
        if let Ok(kind @ (RuntimeKind::Cluster | RuntimeKind::Namespaced)) = runtime_kind(&job) {
            let config_map = snapshot::config_map(&runtime, kind, &job, Some(profile));
            if let Err(error) = snapshot::runtime(&config_map, &job) {
                assert!(is_named(&error.to_string()), "{error}");
            }
        }
        let pass = Pass {
            train_job: &job,
            job_set: live.as_ref().map_or(JobSetLookup::Absent, JobSetLookup::Found),
            job_set_created: random.bool(),
            has_pod_group: random.bool(),
            failure: failure.as_deref(),
            search_failed: None,
            now,
            compatibility,
        };
        let outcome = status::reconcile(&pass);
        assert!(outcome.error.is_none_or(|error| is_named(&error)));
    });
}

/// A JobSet as it may be found.
fn a_job_set(random: &mut Rng) -> Value {
    let mut found = json!({
        "apiVersion": "jobset.x-k8s.io/v1alpha2", "kind": "JobSet",
        "metadata": {"name": "a", "namespace": "n", "ownerReferences": [{"uid": "u", "controller": true}]},
        "spec": {"suspend": true, "replicatedJobs": [{"name": "node", "template": {"spec": {"template": {"spec": {
            "containers": [{"name": "node", "env": [{"name": "A", "value": "1"}]}],
        }}}}}]},
        "status": {
            "conditions": [{"type": "Completed", "status": "True", "reason": "r", "lastTransitionTime": "2026-01-02T03:05:05Z"}],
            "replicatedJobsStatus": [{"name": "node", "ready": 1, "succeeded": 0, "failed": 0, "active": 1, "suspended": 0}],
        },
    });
    mutate(random, &mut found);
    found
}
