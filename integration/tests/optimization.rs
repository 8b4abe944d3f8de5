//! OptimizationJobs on a real API server: trials, how many run, which is the best, and that a controller which is killed
//! continues where it was. There is no JobSet controller and no pod: these tests say how trials end, and what they report.

#[path = "reconciler/objects.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod objects;

use std::collections::BTreeMap;
use std::error::Error;
use std::time::{Duration, Instant};

use objects::{a_condition, a_job, a_runtime, condition, node};
use rustix::process::Signal;
use serde_json::{Value, json};
use trainerd_cluster::RequestError;
use trainerd_integration::TestCluster;
use trainerd_integration::reconciler::{Manager, Start};
use trainerd_integration::stack::{event, job_set, optimization_job, runtime, train_job};

type Result<T = (), E = Box<dyn Error>> = std::result::Result<T, E>;

const NS: &str = "default";
/// How long something may take to be reconciled on a busy machine.
const BOUND: Duration = Duration::from_secs(20);
/// How long nothing must happen before it is believed that nothing will.
const QUIET: Duration = Duration::from_millis(1500);
const OWNER: &str = "extended.trainer.kubeflow.org/optimization-job";

struct World {
    cluster: TestCluster,
    manager: Manager,
}

impl World {
    fn new() -> Result<Self> {
        let cluster = TestCluster::take()?;
        cluster.install_crds_with(&["--set", "reconciler=native"])?;
        let manager = cluster.manager("manager", &Start::default())?;
        cluster.create(&runtime(), &a_runtime("plain", &json!({"numNodes": 1})))?;
        Ok(Self { cluster, manager })
    }

    /// The trials of a job, by name.
    fn trials(&self, job: &str) -> Result<BTreeMap<String, Value>> {
        let trials = self.cluster.list(&train_job(), Some(&format!("{OWNER}={job}")))?.into_iter();
        Ok(trials.map(|it| (it["metadata"]["name"].as_str().unwrap_or_default().to_owned(), it)).collect())
    }

    /// Waits for an object that is as wanted; an error shows the last one and the log.
    fn wait(&self, name: &str, holds: impl Fn(&Value) -> bool) -> Result<Value> {
        let end = Instant::now() + BOUND;
        loop {
            let found = self.cluster.get(&optimization_job(), NS, name)?.unwrap_or_default();
            if holds(&found) {
                return Ok(found);
            }
            if Instant::now() > end {
                return Err(format!("{name} is not as wanted: {found:#}\n{}", self.manager.log()).into());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn wait_for_trials(&self, job: &str, count: usize) -> Result {
        Ok(self.cluster.wait_until("trials", BOUND, || {
            let trials =
                self.trials(job).map_err(|error| trainerd_integration::Error::Missing(error.to_string()))?;
            Ok(trials.len() >= count)
        })?)
    }

    /// A trial reports its loss, where it has one, and ends.
    fn end(&self, trial: &str, loss: Option<f64>, kind: &str) -> Result {
        self.cluster
            .wait_until("a JobSet", BOUND, || Ok(self.cluster.get(&job_set(), NS, trial)?.is_some()))?;
        if let Some(loss) = loss {
            let metrics = json!([{"name": "loss", "value": loss.to_string()}]);
            let report =
                json!({"trainerStatus": {"lastUpdatedTime": "2026-01-02T03:04:05Z", "metrics": metrics}});
            self.cluster.patch_status(&train_job(), NS, trial, &report)?;
        }
        let status = json!({"conditions": [a_condition(kind, "SaidByATest")]});
        self.cluster.patch_status(&job_set(), NS, trial, &status)?;
        Ok(())
    }

    fn events(&self, job: &str) -> Result<Vec<String>> {
        let events = self.cluster.list(&event(), None)?;
        let mut ours: Vec<String> = events
            .iter()
            .filter(|it| it["regarding"]["name"] == job && it["regarding"]["kind"] == "OptimizationJob")
            .filter_map(|it| it["reason"].as_str().map(str::to_owned))
            .collect();
        ours.sort();
        ours.dedup();
        Ok(ours)
    }
}

fn an_optimization(name: &str, more: Value) -> Value {
    let mut spec = json!({
        "objectives": [{"metric": "loss"}],
        "numTrials": 5,
        "parallelTrials": 2,
        "searchAlgorithm": {"random": {"seed": 7}},
        "parameters": [{"name": "lr", "searchSpace": {"logUniform": {"min": "1e-4", "max": "0.1"}}}],
        "trainJobTemplate": {"spec": {
            "runtimeRef": {"name": "plain"},
            "trainer": {"args": ["--lr=$(KUBEFLOW_TRAINER_OPT_LR)"]},
        }},
    });
    if let (Some(spec), Value::Object(more)) = (spec.as_object_mut(), more) {
        spec.extend(more);
    }
    json!({
        "apiVersion": "trainer.kubeflow.org/v1alpha1",
        "kind": "OptimizationJob",
        "metadata": {"name": name, "namespace": NS},
        "spec": spec,
    })
}

fn is_finished(trial: &Value) -> bool {
    ["Complete", "Failed"].iter().any(|kind| condition(trial, kind).is_some_and(|it| it["status"] == "True"))
}

fn lr(trial: &Value) -> Result<f64> {
    let env = &trial["spec"]["trainer"]["env"][0];
    assert_eq!(env["name"], "KUBEFLOW_TRAINER_OPT_LR");
    Ok(env["value"].as_str().unwrap_or_default().parse()?)
}

/// How good a learning rate is.
fn loss(lr: f64) -> f64 {
    (lr.log10() + 2.0).abs()
}

#[test]
fn a_search_completes_although_the_controller_is_killed() -> Result {
    let mut world = World::new()?;
    let created = world.cluster.create(&optimization_job(), &an_optimization("search", json!({})))?;
    let mut uids = BTreeMap::<String, Value>::new();
    let mut most = 0;
    for round in 0..5 {
        // Both that may run are there, and never a third.
        world.wait_for_trials("search", (round + 2).min(5))?;
        let trials = world.trials("search")?;
        let running: Vec<&Value> = trials.values().filter(|it| !is_finished(it)).collect();
        most = most.max(running.len());
        for (name, trial) in &trials {
            let uid = uids.entry(name.clone()).or_insert_with(|| trial["metadata"]["uid"].clone());
            assert_eq!(*uid, trial["metadata"]["uid"], "{name} was created twice");
        }
        let next = running.first().ok_or("no trial runs")?;
        let name = next["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        if round == 1 {
            world.manager.signal(Signal::KILL)?;
            world.manager.end()?;
            // It ends while nobody looks. Nobody copies that to its TrainJob either.
            let loss = loss(lr(next)?);
            world.end(&name, Some(loss), "Completed")?;
            world.manager = world.cluster.manager("again", &Start::default())?;
        } else {
            world.end(&name, Some(loss(lr(next)?)), "Completed")?;
        }
        world.cluster.wait_until("the trial to be complete", BOUND, || {
            Ok(world.cluster.get(&train_job(), NS, &name)?.is_some_and(|trial| is_finished(&trial)))
        })?;
    }
    assert_eq!(most, 2);
    let ended = world.wait("search", |job| condition(job, "Complete").is_some())?;
    std::thread::sleep(QUIET);
    let trials = world.trials("search")?;
    assert_eq!(
        trials.keys().map(String::as_str).collect::<Vec<_>>(),
        [0, 1, 2, 3, 4].map(|it| format!("search-trial-{it}"))
    );

    let complete = condition(&ended, "Complete").ok_or("not complete")?;
    assert_eq!((&complete["status"], &complete["reason"]), (&json!("True"), &json!("MaxTrialsReached")));
    let mut best: Option<(f64, &str)> = None;
    for (name, trial) in &trials {
        let loss = loss(lr(trial)?);
        if best.is_none_or(|(least, _)| loss < least) {
            best = Some((loss, name));
        }
        let owner = &trial["metadata"]["ownerReferences"];
        assert_eq!((&owner[0]["uid"], owner[1].is_null()), (&created["metadata"]["uid"], true));
        let set = world.cluster.get(&job_set(), NS, name)?.ok_or("no JobSet")?;
        let container = node(&set);
        assert_eq!(container["args"], json!(["--lr=$(KUBEFLOW_TRAINER_OPT_LR)"]));
        assert!(
            container["env"].as_array().is_some_and(|env| env.contains(&trial["spec"]["trainer"]["env"][0]))
        );
    }
    let (_, best) = best.ok_or("no trial")?;
    let value = &trials[best]["spec"]["trainer"]["env"][0]["value"];
    assert_eq!(
        ended["status"]["result"],
        json!({"trainJobName": best, "parameters": [{"name": "lr", "value": value}]})
    );
    let events = world.events("search")?;
    assert_eq!(events, ["BestTrialChanged", "Completed"]);

    // The same seed gives the same sequence, killed or not.
    let twin = an_optimization("twin", json!({"parallelTrials": 5}));
    world.cluster.create(&optimization_job(), &twin)?;
    world.wait_for_trials("twin", 5)?;
    let values = |trials: BTreeMap<String, Value>| -> Result<Vec<f64>> { trials.values().map(lr).collect() };
    assert_eq!(values(world.trials("twin")?)?, values(trials)?);
    Ok(())
}

#[test]
fn a_search_ends_when_no_trial_can_change_its_result() -> Result {
    let world = World::new()?;
    // A grid has four combinations, whatever numTrials says.
    let choices = |name: &str| json!({"name": name, "searchSpace": {"categorical": {"choices": ["1", "2"]}}});
    let grid = json!({
        "numTrials": 50, "parallelTrials": 50, "searchAlgorithm": {"grid": {}},
        "parameters": [choices("a"), choices("b")],
        "trainJobTemplate": {"spec": {"runtimeRef": {"name": "plain"}}},
        "objectives": [{"metric": "loss", "direction": "Maximize"}],
    });
    world.cluster.create(&optimization_job(), &an_optimization("grid", grid))?;
    world.wait_for_trials("grid", 4)?;
    for (at, name) in world.trials("grid")?.keys().enumerate() {
        let loss = [Some(0.5), Some(0.75), None, Some(0.25)][at];
        world.end(name, loss, "Completed")?;
    }
    let ended = world.wait("grid", |job| condition(job, "Complete").is_some())?;
    assert_eq!(condition(&ended, "Complete").ok_or("not complete")?["reason"], "GridExhausted");
    assert_eq!(
        ended["status"]["result"],
        json!({"trainJobName": "grid-trial-1", "parameters": [{"name": "a", "value": "1"}, {"name": "b", "value": "2"}]})
    );

    // More failures than may be end it, and nothing is created any more.
    let mut failing = an_optimization("failing", json!({"numTrials": 9, "parallelTrials": 1}));
    failing["metadata"]["annotations"] = json!({"extended.trainer.kubeflow.org/max-failed-trials": "1"});
    world.cluster.create(&optimization_job(), &failing)?;
    for at in 0..2 {
        world.wait_for_trials("failing", at + 1)?;
        world.end(&format!("failing-trial-{at}"), None, "Failed")?;
    }
    let ended = world.wait("failing", |job| condition(job, "Failed").is_some())?;
    let failed = condition(&ended, "Failed").ok_or("not failed")?;
    assert_eq!(failed["reason"], "MaxFailedTrialsReached");
    assert!(
        failed["message"]
            .as_str()
            .is_some_and(|text| text.contains("failing-trial-0: SaidByATest: said by a test")),
        "{failed}"
    );
    std::thread::sleep(QUIET);
    assert_eq!(world.trials("failing")?.len(), 2);
    Ok(())
}

#[test]
fn running_trials_end_with_a_failed_search() -> Result {
    let world = World::new()?;
    let mut search = an_optimization("wide", json!({"numTrials": 9, "parallelTrials": 3}));
    search["metadata"]["annotations"] = json!({"extended.trainer.kubeflow.org/max-failed-trials": "1"});
    world.cluster.create(&optimization_job(), &search)?;
    world.wait_for_trials("wide", 3)?;
    world.end("wide-trial-1", Some(0.5), "Completed")?;
    world.end("wide-trial-0", None, "Failed")?;
    world.wait_for_trials("wide", 5)?;
    // So that what is to be ended is there.
    for running in ["wide-trial-3", "wide-trial-4"] {
        let is_there = || Ok(world.cluster.get(&job_set(), NS, running)?.is_some());
        world.cluster.wait_until("a JobSet", BOUND, is_there)?;
    }
    world.end("wide-trial-2", None, "Failed")?;
    let ended = world.wait("wide", |job| condition(job, "Failed").is_some())?;
    let message = condition(&ended, "Failed").ok_or("not failed")?["message"].to_string();
    assert!(message.contains("the 2 that still ran are ended"), "{message}");

    for running in ["wide-trial-3", "wide-trial-4"] {
        world.cluster.wait_until("the trial to end", BOUND, || {
            Ok(world.cluster.get(&train_job(), NS, running)?.is_some_and(|trial| is_finished(&trial))
                && world.cluster.get(&job_set(), NS, running)?.is_none())
        })?;
        let trial = world.cluster.get(&train_job(), NS, running)?.ok_or("the trial is gone")?;
        let failed = condition(&trial, "Failed").ok_or("not failed")?;
        assert_eq!(failed["reason"], "OptimizationJobFailed", "{failed}");
        assert!(
            failed["message"].as_str().is_some_and(|text| text.contains("OptimizationJob wide")),
            "{failed}"
        );
    }
    // What had ended stays as it was, and so does how the search ended.
    let complete = world.cluster.get(&train_job(), NS, "wide-trial-1")?.ok_or("the trial is gone")?;
    assert!(condition(&complete, "Complete").is_some() && condition(&complete, "Failed").is_none());
    assert!(world.cluster.get(&job_set(), NS, "wide-trial-1")?.is_some(), "with its pods' logs");
    std::thread::sleep(QUIET);
    let still = world.wait("wide", |job| condition(job, "Failed").is_some())?;
    assert_eq!((still["status"].clone(), world.trials("wide")?.len()), (ended["status"].clone(), 5));
    Ok(())
}

#[test]
fn invalid_searches_are_rejected_and_blockers_are_reported() -> Result {
    let world = World::new()?;
    let template = |spec: Value| json!({"trainJobTemplate": {"spec": spec}});
    for (more, expected) in [
        (
            template(
                json!({"runtimeRef": {"name": "plain"}, "trainer": {"args": ["$(KUBEFLOW_TRAINER_OPT_RATE)"]}}),
            ),
            "refers to $(KUBEFLOW_TRAINER_OPT_RATE), and no parameter gives that variable",
        ),
        (
            template(json!({"runtimeRef": {"name": "absent"}})),
            "spec.trainJobTemplate: spec.RuntimeRef: Invalid value",
        ),
        (
            template(json!({"runtimeRef": {"name": "plain"}, "ttlSecondsAfterFinished": 1})),
            "spec.trainJobTemplate.spec.ttlSecondsAfterFinished: Forbidden",
        ),
    ] {
        let answer = world.cluster.try_create(&optimization_job(), &an_optimization("bad", more));
        match answer {
            Err(RequestError::AdmissionDenied { code: 403, message, .. }) if message.contains(expected) => {}
            other => return Err(format!("{expected}: {other:?}").into()),
        }
    }
    let answer =
        world.cluster.try_create(&optimization_job(), &an_optimization("bad", json!({"parallelTrials": 6})));
    assert!(matches!(&answer, Err(RequestError::Invalid { .. })), "{answer:?}");

    world.cluster.create(&train_job(), &a_job("taken-trial-0", json!({})))?;
    let theirs = world.cluster.get(&train_job(), NS, "taken-trial-0")?.ok_or("no TrainJob")?;
    world.cluster.create(
        &optimization_job(),
        &an_optimization("taken", json!({"numTrials": 1, "parallelTrials": 1})),
    )?;
    let waiting = world.wait("taken", |job| condition(job, "Created").is_some())?;
    let created = condition(&waiting, "Created").ok_or("no condition")?;
    assert_eq!(
        (&created["status"], &created["reason"]),
        (&json!("False"), &json!("TrainJobsCreationFailed"))
    );
    assert!(created["message"].as_str().is_some_and(|text| text.contains("taken-trial-0")), "{created}");
    let still = world.cluster.get(&train_job(), NS, "taken-trial-0")?.ok_or("theirs was deleted")?;
    assert_eq!(still["metadata"]["uid"], theirs["metadata"]["uid"]);
    world.cluster.delete(&train_job(), NS, "taken-trial-0")?;
    world.wait("taken", |job| condition(job, "Created").is_some_and(|it| it["status"] == "True"))?;
    world.wait_for_trials("taken", 1)?;
    Ok(())
}
