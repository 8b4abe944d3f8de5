//! What users do with TrainJobs on the command line, on a real API server with the native reconciler. There is no JobSet
//! controller: the test says what JobSets have come to.

#[path = "reconciler/objects.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod objects;

use std::error::Error;
use std::time::Duration;

use objects::{a_condition, a_runtime};
use serde_json::{Value, json};
use trainerd_cluster::builtin;
use trainerd_integration::TestCluster;
use trainerd_integration::product::{Run, wait};
use trainerd_integration::reconciler::Start;
use trainerd_integration::stack::{job_set, runtime, train_job};

type Result<T = (), E = Box<dyn Error>> = std::result::Result<T, E>;

const BOUND: Duration = Duration::from_secs(30);
const NS: &str = "default";

fn trainjob(cluster: &TestCluster, arguments: &[&str], code: i32) -> Result<Run> {
    Ok(cluster.run(&[&["trainjob"], arguments].concat())?.expect_code(code)?)
}

/// The code of the error that a run ended with.
fn error_code(run: &Run) -> Result<String> {
    let line = run.stderr.lines().find(|line| line.starts_with('{')).ok_or("no error as a document")?;
    let error: Value = serde_json::from_str(line)?;
    Ok(error["code"].as_str().unwrap_or_default().to_owned())
}

fn wait_for_job_set(cluster: &TestCluster, name: &str, holds: impl Fn(&Value) -> bool) -> Result {
    cluster.wait_until("the JobSet", BOUND, || {
        Ok(cluster.get(&job_set(), NS, name)?.is_some_and(|set| holds(&set)))
    })?;
    Ok(())
}

#[test]
fn a_train_job_is_submitted_and_watched_until_it_finishes() -> Result {
    let cluster = TestCluster::take()?;
    cluster.install_crds()?;
    let _manager = cluster.manager("manager", &Start::default())?;
    cluster.create(&runtime(), &a_runtime("plain", &json!({"numNodes": 1})))?;

    let submit = ["submit", "a", "--runtime", "plain", "--num-nodes", "2", "-o", "json", "--", "run", "it"];
    let created: Value = trainjob(&cluster, &submit, 0)?.json()?;
    assert_eq!((&created[0]["namespace"], &created[0]["state"]), (&json!(NS), &json!("Pending")));
    let stored = cluster.get(&train_job(), NS, "a")?.ok_or("no TrainJob")?;
    assert_eq!(stored["spec"]["trainer"], json!({"command": ["run", "it"], "numNodes": 2}));
    wait_for_job_set(&cluster, "a", |_| true)?;
    assert_eq!(error_code(&trainjob(&cluster, &submit, 1)?)?, "conflict");
    let refused = ["submit", "b", "--runtime", "absent", "-o", "json"];
    assert_eq!(error_code(&trainjob(&cluster, &refused, 1)?)?, "admission-denied");
    trainjob(&cluster, &["submit", "c", "--runtime", "plain", "--dry-run"], 0)?;
    assert_eq!(cluster.get(&train_job(), NS, "c")?, None, "a dry run creates nothing");

    let watched = cluster.spawn(cluster.kubeconfig(), &["trainjob", "watch", "a", "-o", "json"])?;
    let counts =
        json!({"name": "node", "ready": 2, "succeeded": 0, "failed": 0, "active": 2, "suspended": 0});
    cluster.patch_status(&job_set(), NS, "a", &json!({"replicatedJobsStatus": [counts]}))?;
    cluster.wait_until("the counts", BOUND, || {
        Ok(cluster
            .get(&train_job(), NS, "a")?
            .is_some_and(|job| job["status"]["jobsStatus"][0]["ready"] == 2))
    })?;
    let report =
        json!({"trainerStatus": {"progressPercentage": 40, "lastUpdatedTime": "2026-01-01T00:00:00Z"}});
    cluster.patch_status(&train_job(), NS, "a", &report)?;
    let list: Value = trainjob(&cluster, &["list", "-o", "json"], 0)?.json()?;
    assert_eq!((&list[0]["state"], &list[0]["progress"]), (&json!("Running"), &json!(40)));
    // Long enough for the one who watches to be told.
    std::thread::sleep(Duration::from_secs(1));
    cluster.patch_status(&job_set(), NS, "a", &json!({"conditions": [a_condition("Completed", "Done")]}))?;
    let watched = wait(watched.0, watched.1, std::time::Instant::now())?.expect_code(0)?.json_lines()?;
    assert!(watched.iter().any(|line| line["progress"] == 40 && line["state"] == "Running"), "{watched:?}");
    let ended = watched.last().ok_or("nothing was told")?;
    assert_eq!((&ended["state"], &ended["reason"]), (&json!("Complete"), &json!("Done")));
    assert_eq!(error_code(&trainjob(&cluster, &["suspend", "a", "-o", "json"], 3)?)?, "job-ended");
    Ok(())
}

/// A container as its kubelet reports it.
fn a_container(ready: bool, restarts: u8, state: &Value, last: &Value) -> Value {
    json!({"name": "node", "image": "i", "imageID": "", "ready": ready, "restartCount": restarts, "state": state,
           "lastState": last})
}

#[test]
fn the_pods_of_a_train_job_are_shown_with_their_restarts_and_why_they_do_not_run() -> Result {
    let cluster = TestCluster::take()?;
    cluster.install_crds()?;
    let _manager = cluster.manager("manager", &Start::default())?;
    cluster.create(&runtime(), &a_runtime("plain", &json!({"numNodes": 1})))?;
    trainjob(&cluster, &["submit", "a", "--runtime", "plain"], 0)?;

    let ended = json!({"terminated": {"exitCode": 137, "reason": "OOMKilled"}});
    let pods = [
        ("a-0", "True", a_container(true, 2, &json!({"running": {}}), &ended)),
        (
            "a-1",
            "False",
            a_container(
                false,
                0,
                &json!({"waiting": {"reason": "ErrImagePull", "message": "no such host"}}),
                &json!({}),
            ),
        ),
    ];
    for (name, ready, container) in pods {
        let labels = json!({"jobset.sigs.k8s.io/jobset-name": "a"});
        cluster.create(
            &builtin::pod(),
            &json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {"namespace": NS, "name": name, "labels": labels},
                // No kubelet is there to say something else.
                "spec": {"nodeName": "elsewhere", "containers": [{"name": "node", "image": "i"}]},
            }),
        )?;
        let status = json!({"phase": "Running", "containerStatuses": [container],
                            "conditions": [{"type": "Ready", "status": ready}]});
        cluster.patch_status(&builtin::pod(), NS, name, &status)?;
    }
    let shown = trainjob(&cluster, &["get", "a"], 0)?.stdout;
    let row = |pod: &str| {
        let row = shown.lines().find(|line| line.starts_with(pod)).unwrap_or_default();
        row.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(row("a-0"), "a-0 yes 2, last OOMKilled (exit code 137) elsewhere", "{shown}");
    assert_eq!(row("a-1"), "a-1 no 0 elsewhere container node: ErrImagePull: no such host", "{shown}");
    assert!(shown.contains("waiting"), "{shown}");
    Ok(())
}

#[test]
fn train_jobs_are_suspended_resumed_and_deleted() -> Result {
    let cluster = TestCluster::take()?;
    cluster.install_crds()?;
    let _manager = cluster.manager("manager", &Start::default())?;
    cluster.create(&runtime(), &a_runtime("plain", &json!({"numNodes": 1})))?;

    trainjob(&cluster, &["submit", "a", "--runtime", "plain", "--suspend"], 0)?;
    wait_for_job_set(&cluster, "a", |set| set["spec"]["suspend"] == true)?;
    let again = trainjob(&cluster, &["suspend", "a"], 0)?;
    assert!(again.stderr.contains("is suspended already"), "{}", again.stderr);
    trainjob(&cluster, &["resume", "a"], 0)?;
    wait_for_job_set(&cluster, "a", |set| set["spec"]["suspend"] == false)?;

    let none = trainjob(&cluster, &["logs", "a", "-o", "json"], 1)?;
    assert_eq!(error_code(&none)?, "no-pods");
    cluster.patch_status(&job_set(), NS, "a", &json!({"conditions": [a_condition("Failed", "Broken")]}))?;
    let failed = trainjob(&cluster, &["watch", "a"], 1)?;
    assert!(failed.stderr.contains("Broken: said by a test"), "{}", failed.stderr);

    // One that a finalizer holds is waited for, by name, until it goes; nobody deletes without a yes.
    cluster.patch(&train_job(), NS, "a", &json!({"metadata": {"finalizers": ["example.com/held"]}}))?;
    assert_eq!(error_code(&trainjob(&cluster, &["delete", "a", "-o", "json"], 4)?)?, "unconfirmed");
    let deleting = cluster.spawn(cluster.kubeconfig(), &["trainjob", "delete", "a", "--yes"])?;
    cluster.wait_until("the deletion", BOUND, || {
        Ok(cluster
            .get(&train_job(), NS, "a")?
            .is_some_and(|job| job["metadata"]["deletionTimestamp"].is_string()))
    })?;
    std::thread::sleep(Duration::from_secs(1));
    cluster.patch(&train_job(), NS, "a", &json!({"metadata": {"finalizers": null}}))?;
    let deleted = wait(deleting.0, deleting.1, std::time::Instant::now())?.expect_code(0)?;
    assert!(deleted.stderr.contains("finalizers example.com/held"), "{}", deleted.stderr);
    assert_eq!(cluster.get(&train_job(), NS, "a")?, None);
    for verb in ["get", "watch", "logs", "resume"] {
        assert_eq!(error_code(&trainjob(&cluster, &[verb, "a", "-o", "json"], 1)?)?, "not-found", "{verb}");
    }
    Ok(())
}
