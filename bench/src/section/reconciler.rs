//! The native reconciler beside upstream's controller manager: the same TrainJobs on the same API server, one after the other.
//!
//! Both have five workers a kind, which upstream does not heed, and no bound on their requests: what is measured is the
//! controllers, and not the rate that they are configured to. There is no JobSet controller, and the API server calls no
//! webhook: they are asked by the bench itself, many at a time. What the API server itself takes is shown by a client that
//! makes the same three writes for each TrainJob (create it, create its JobSet, write its status) and does nothing else.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use futures::stream::{self, StreamExt as _};
use serde_json::{Value, json};
use trainerd_cluster::watch::{Event, WatchParams};
use trainerd_cluster::{CreateParams, RequestError};
use trainerd_integration::TestCluster;
use trainerd_integration::reconciler::{Manager, Start};
use trainerd_integration::stack::{job_set, runtime, train_job};

use crate::error::Error;
use crate::figure::{Figure, Goal, Unit, number};
use crate::{Report, print_progress};

/// TrainJobs that are created at a time.
const WIDTH: usize = 16;
/// How long all JobSets may take.
const BOUND: Duration = Duration::from_mins(15);
/// After the last JobSet, for what else is done: statuses, and a look at each once more.
const SETTLE: Duration = Duration::from_secs(5);
/// Admission requests, and how many of them are in progress at a time.
const ADMISSIONS: u32 = 5000;
const AT_A_TIME: usize = 100;

const NAMESPACE: &str = "default";

/// What one of them took.
#[derive(Default)]
struct Took {
    start: Vec<f64>,
    each: Vec<f64>,
    p50: Vec<f64>,
    p99: Vec<f64>,
    cpu: Vec<f64>,
    memory: Vec<f64>,
    admission_p50: Vec<f64>,
    admission_p99: Vec<f64>,
}

/// Measures both; `manager` is upstream's.
pub(crate) fn measure(manager: &Path, jobs: usize, rounds: u32, report: &mut Report) -> Result<(), Error> {
    // The cluster of the tests has a runtime of its own, which must not be within ours.
    let figures = std::thread::scope(|scope| scope.spawn(|| figures(manager, jobs, rounds)).join());
    report.figures.extend(figures.map_err(|_| Error::Unexpected("the measurement panicked".to_owned()))??);
    Ok(())
}

fn figures(manager: &Path, jobs: usize, rounds: u32) -> Result<Vec<Figure>, Error> {
    let (mut ours, mut theirs, mut bare) = (Took::default(), Took::default(), Vec::new());
    for round in 1..=rounds {
        for (name, program, took) in [("trainerd", None, &mut ours), ("upstream", Some(manager), &mut theirs)]
        {
            print_progress(format_args!("reconciler: {jobs} TrainJobs, {name}, round {round} of {rounds}"));
            one(name, program, jobs, took, &mut bare)?;
        }
    }
    let row = |what: &str, unit, of: fn(&Took) -> &[f64]| {
        let mine = Figure::new("R", format!("{what}: trainerd"), unit, of(&ours));
        [
            mine.with_ratio_to("upstream", of(&ours), of(&theirs)),
            Figure::new("R", format!("{what}: upstream"), unit, of(&theirs)),
        ]
    };
    let each = format!("{jobs} TrainJobs, time for each from the first create to the last JobSet");
    let latency = "from the answer to the create to the JobSet";
    let admission = format!("validation of a TrainJob, {AT_A_TIME} requests at a time");
    let third = 0.33;
    let writes = format!("{jobs} TrainJobs, time for each if a bare client makes the same writes");
    let mut figures = vec![
        Figure::new("R", format!("{writes}: trainerd"), Unit::Seconds, &ours.each)
            .with_ratio_to("bare", &ours.each, &bare),
        Figure::new("R", format!("{writes}: upstream"), Unit::Seconds, &theirs.each).with_ratio_to(
            "bare",
            &theirs.each,
            &bare,
        ),
        Figure::new("R", format!("{writes}: bare"), Unit::Seconds, &bare),
    ];
    for (rows, goal) in [
        (row("start to ready", Unit::Seconds, |it| &it.start), Some(0.2)),
        (row(&each, Unit::Seconds, |it| &it.each), Some(third)),
        (row(&format!("{latency}, p50"), Unit::Seconds, |it| &it.p50), None),
        (row(&format!("{latency}, p99"), Unit::Seconds, |it| &it.p99), None),
        (row("processor time for a TrainJob", Unit::Seconds, |it| &it.cpu), None),
        (row(&format!("resident memory with {jobs} TrainJobs"), Unit::Bytes, |it| &it.memory), Some(0.25)),
        (row(&format!("{admission}, p50"), Unit::Seconds, |it| &it.admission_p50), None),
        (row(&format!("{admission}, p99"), Unit::Seconds, |it| &it.admission_p99), None),
    ] {
        let [mine, other] = rows;
        figures.push(match goal {
            Some(goal) => mine.goal(Goal::Ratio(goal)),
            None => mine,
        });
        figures.push(other);
    }
    Ok(figures)
}

/// One of them, on a cluster that has nothing yet. After ours, the same writes by a bare client.
fn one(
    name: &str,
    program: Option<&Path>,
    jobs: usize,
    took: &mut Took,
    bare: &mut Vec<f64>,
) -> Result<(), Error> {
    let cluster = TestCluster::take()?;
    cluster.install_crds()?;
    cluster.create(&runtime(), &a_runtime())?;
    let start = Start {
        config: "clientConnection: {qps: 10000, burst: 10000}\n\
                 controller: {groupKindConcurrency: {TrainJob.trainer.kubeflow.org: 5}}\n"
            .to_owned(),
        without_webhooks: true,
        program: program.map(Path::to_owned),
        ..Start::default()
    };
    let started = Instant::now();
    let manager = cluster.manager(name, &start)?;
    took.start.push(started.elapsed().as_secs_f64());
    let (_, before) = manager.usage()?;
    let (whole, latencies) = cluster.block_on(load(&cluster, jobs))?;
    took.each.push(whole.as_secs_f64() / number(count(jobs)));
    took.p50.push(part(&latencies, 50));
    took.p99.push(part(&latencies, 99));
    std::thread::sleep(SETTLE);
    let (kilobytes, after) = manager.usage()?;
    took.cpu.push(after.saturating_sub(before).as_secs_f64() / number(count(jobs)));
    took.memory.push(number(kilobytes * 1024));
    let latencies = cluster.block_on(ask(&manager))?;
    took.admission_p50.push(part(&latencies, 50));
    took.admission_p99.push(part(&latencies, 99));
    if program.is_none() {
        drop(manager);
        let whole = cluster.block_on(write(&cluster, jobs))?;
        bare.push(whole.as_secs_f64() / number(count(jobs)));
    }
    Ok(())
}

/// Creates as many TrainJobs again, each with a JobSet and a status as those that are there have: how long all of it took.
async fn write(cluster: &TestCluster, jobs: usize) -> Result<Duration, Error> {
    let api = cluster.api();
    let built = api.get(&job_set(), Some(NAMESPACE), "job-0").await;
    let built = built.map_err(Error::request("read", "the JobSet of a TrainJob"))?;
    let job = api.get(&train_job(), Some(NAMESPACE), "job-0").await;
    let status = job.map_err(Error::request("read", "a TrainJob"))?["status"].take();
    let first = Instant::now();
    let writes = (0..jobs).map(|number| {
        let (name, status) = (format!("bare-{number}"), &status);
        let (job, mut built) =
            (a_train_job(&name), json!({"spec": built["spec"], "metadata": built["metadata"]}));
        async move {
            let created = api.create(&train_job(), &job, CreateParams::default()).await?;
            for (key, value) in [("apiVersion", "jobset.x-k8s.io/v1alpha2"), ("kind", "JobSet")] {
                built[key] = value.into();
            }
            let labels = built["metadata"]["labels"].take();
            let mut owner = built["metadata"]["ownerReferences"].take();
            owner[0]["name"] = name.clone().into();
            owner[0]["uid"] = created["metadata"]["uid"].clone();
            built["metadata"] = json!({
                "name": name, "namespace": NAMESPACE, "labels": labels, "ownerReferences": owner,
            });
            api.create(&job_set(), &built, CreateParams::default()).await?;
            let params = CreateParams { status: true, ..CreateParams::default() };
            let patch = json!({"status": status});
            api.patch_merge(&train_job(), Some(NAMESPACE), &name, &patch, params).await.map(drop)
        }
    });
    let answers: Vec<Result<(), RequestError>> = stream::iter(writes).buffer_unordered(WIDTH).collect().await;
    let took = first.elapsed();
    for answer in answers {
        answer.map_err(Error::request("write", "a TrainJob, its JobSet or its status"))?;
    }
    Ok(took)
}

/// Asks the webhook whether TrainJobs may be created, so many at a time: how long each answer took, sorted.
async fn ask(manager: &Manager) -> Result<Vec<f64>, Error> {
    let client = manager.webhook_client()?;
    let failed = |what: String| Error::Unexpected(format!("a webhook did not answer: {what}"));
    let one = |number: u32| {
        let client = client.clone();
        async move {
            let mut object = a_train_job(&format!("asked-{number}"));
            // As the API server has defaulted it by then.
            for (key, value) in [("apiGroup", "trainer.kubeflow.org"), ("kind", "ClusterTrainingRuntime")] {
                object["spec"]["runtimeRef"][key] = value.into();
            }
            let kind = json!({"group": "trainer.kubeflow.org", "version": "v1alpha1", "kind": "TrainJob"});
            let review = json!({
                "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
                "request": {
                    "uid": number.to_string(), "operation": "CREATE", "namespace": "default", "kind": kind,
                    "name": object["metadata"]["name"], "object": object, "userInfo": {"username": "bench"},
                    "resource": {"group": "trainer.kubeflow.org", "version": "v1alpha1", "resource": "trainjobs"},
                },
            });
            let request = http::Request::post("/validate-trainer-kubeflow-org-v1alpha1-trainjob?timeout=10s")
                .header(http::header::CONTENT_TYPE, "application/json")
                .body(review.to_string().into_bytes())
                .map_err(|error| failed(error.to_string()))?;
            let asked = Instant::now();
            let answer: Value = client.request(request).await.map_err(|error| failed(error.to_string()))?;
            let took = asked.elapsed().as_secs_f64();
            if answer["response"]["allowed"] == true {
                Ok((number, took))
            } else {
                Err(failed(answer.to_string()))
            }
        }
    };
    // Connections are made by the first of them, whenever those are answered.
    let warm = u32::try_from(AT_A_TIME).unwrap_or_default();
    let answers: Vec<Result<(u32, f64), Error>> =
        stream::iter(0..ADMISSIONS + warm).map(one).buffer_unordered(AT_A_TIME).collect().await;
    let answers = answers.into_iter().collect::<Result<Vec<_>, Error>>()?.into_iter();
    let mut latencies: Vec<f64> =
        answers.filter(|(number, _)| *number >= warm).map(|(_, took)| took).collect();
    latencies.sort_by(f64::total_cmp);
    Ok(latencies)
}

/// Creates the TrainJobs and waits for their JobSets: how long all of it took, and each, sorted.
async fn load(cluster: &TestCluster, jobs: usize) -> Result<(Duration, Vec<f64>), Error> {
    let api = cluster.api().clone();
    let watched = api.clone();
    // From before the first create on, so that no JobSet is missed.
    let seen = tokio::spawn(async move {
        let mut seen = BTreeMap::<String, Instant>::new();
        let mut events = watched.watch(&job_set(), WatchParams::default());
        while seen.len() < jobs {
            let names: Vec<Value> = match events.next().await {
                Some(Ok(Event::Restarted(list))) => list.items,
                Some(Ok(Event::Applied(object))) => vec![object],
                Some(_) => Vec::new(),
                None => break,
            };
            let now = Instant::now();
            for object in names {
                let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
                seen.entry(name).or_insert(now);
            }
        }
        seen
    });
    let first = Instant::now();
    let creates = (0..jobs).map(|number| {
        let (api, job) = (api.clone(), a_train_job(&format!("job-{number}")));
        async move {
            api.create(&train_job(), &job, CreateParams::default()).await?;
            Ok::<_, RequestError>((format!("job-{number}"), Instant::now()))
        }
    });
    let answers: Vec<Result<(String, Instant), RequestError>> =
        stream::iter(creates).buffer_unordered(WIDTH).collect().await;
    let seen = tokio::time::timeout(BOUND, seen).await;
    let seen = seen.map_err(|_| Error::Unexpected(format!("not every JobSet was there within {BOUND:?}")))?;
    let seen = seen.map_err(|error| Error::Unexpected(error.to_string()))?;
    let mut latencies = Vec::new();
    let mut last = first;
    for answer in answers {
        let (name, at) = answer.map_err(Error::request("create", "a TrainJob"))?;
        let seen = *seen.get(&name).ok_or_else(|| Error::Unexpected(format!("{name} has no JobSet")))?;
        last = last.max(seen);
        // It may be there before the answer to the create is.
        latencies.push(seen.saturating_duration_since(at).as_secs_f64());
    }
    latencies.sort_by(f64::total_cmp);
    Ok((last - first, latencies))
}

/// The value below which that many of a hundred are.
fn part(sorted: &[f64], percent: usize) -> f64 {
    sorted.get(sorted.len() * percent / 100).or(sorted.last()).copied().unwrap_or_default()
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

fn a_runtime() -> Value {
    json!({
        "apiVersion": "trainer.kubeflow.org/v1alpha1",
        "kind": "ClusterTrainingRuntime",
        "metadata": {"name": "bench"},
        "spec": {
            "mlPolicy": {"numNodes": 1, "torch": {}},
            "template": {"spec": {"replicatedJobs": [{
                "name": "node",
                "template": {
                    "metadata": {"labels": {"trainer.kubeflow.org/trainjob-ancestor-step": "trainer"}},
                    "spec": {"template": {"spec": {"containers": [{"name": "node", "image": "example.com/train:v1"}]}}},
                },
            }]}},
        },
    })
}

fn a_train_job(name: &str) -> Value {
    json!({
        "apiVersion": "trainer.kubeflow.org/v1alpha1",
        "kind": "TrainJob",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"runtimeRef": {"name": "bench"}, "trainer": {"numNodes": 2}},
    })
}
