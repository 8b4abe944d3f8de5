//! How soon it is noticed that a workload became ready, while 200 of them change (figure 8).

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures::stream::{self, StreamExt, TryStreamExt};
use jiff::Timestamp;
use semver::Version;
use serde_json::{Value, json};
use tokio::sync::watch;
use trainerd_cluster::Cluster;
use trainerd_engine::{EngineError, Event, RunOptions};
use trainerd_integration::cluster::{AuditLog, Span};
use trainerd_plan::allowed::Allowed;
use trainerd_plan::desired::{Component, Desired, DesiredObject, Installation};
use trainerd_plan::object::Resource;
use trainerd_plan::plan::Purpose;

use crate::error::Error;
use crate::figure::{Figure, Goal, Unit};
use crate::world::{Agent, FIELD_MANAGER, World};
use crate::{Report, print_progress};

/// Deployments that change.
const DEPLOYMENTS: usize = 200;
/// Changes of each status before the one that makes it ready.
const CHANGES: usize = 4;
/// Statuses that are written at the same time.
const IN_FLIGHT: usize = 4;
/// Time between two writes: each Deployment changes about once a second.
const WRITE_INTERVAL: Duration = Duration::from_millis(5);
/// For the engine to create all of them, and to notice the last one.
const BOUND: Duration = Duration::from_mins(2);
const NAMESPACE: &str = "bench-readiness";
const COMPONENT: &str = "readiness";
/// Who plays the controller.
const ACTOR: Agent = Agent { user_agent: "actor/1", field_manager: FIELD_MANAGER };
/// Marks the write that makes a Deployment ready in the audit log.
const READY: &str = "fieldManager=ready";

/// Measures how long after the status was written the engine says that the step is done.
pub(crate) async fn measure(world: &World, report: &mut Report) -> Result<(), Error> {
    print_progress(format_args!("{DEPLOYMENTS} Deployments become ready"));
    world.namespace(NAMESPACE).await?;
    let engine = world.engine(installation()).await?;
    let state = engine.open().await.map_err(Error::engine("open the installation"))?;
    let prepared = engine.prepare(&state, desired(), Purpose::Install, Allowed::default()).await;
    let prepared = prepared.map_err(Error::engine("plan"))?;

    let audit = AuditLog::new(world.audit.path().to_owned());
    let mark = audit.mark()?;
    let noticed: Mutex<BTreeMap<String, Timestamp>> = Mutex::default();
    let (created, noticed_so_far) = (watch::Sender::new(0), watch::Sender::new(0));
    let sink = |event: Event| match event {
        Event::Waiting { object: Some(object), .. } if object.kind == "Deployment" => {
            created.send_modify(|count| *count += 1);
        }
        Event::Done { object, .. } if object.kind == "Deployment" => {
            let mut noticed = noticed.lock().unwrap_or_else(PoisonError::into_inner);
            noticed.insert(object.name, Timestamp::now());
            noticed_so_far.send_replace(noticed.len());
        }
        _ => {}
    };
    let (cancel, cancelled) = watch::channel(false);
    let mut options = RunOptions::new(None, &sink, cancelled);
    let act = async {
        let acted = act(world, &created, &noticed_so_far).await;
        // The controller takes what it did not write back again, so that the plan would not end.
        cancel.send_replace(true);
        acted
    };
    let (ran, acted) = tokio::join!(engine.run(state, prepared, &mut options), act);
    acted?;
    match ran {
        Ok(_) | Err(EngineError::Interrupted) => {}
        Err(error) => return Err(Error::engine("run the plan")(error)),
    }
    let noticed = noticed.into_inner().unwrap_or_else(PoisonError::into_inner);
    report.figures.extend(evaluate(&audit.spans_since(mark)?, &noticed)?);
    Ok(())
}

/// Changes the statuses, all of them all the time, until each is ready once.
async fn act(
    world: &World,
    created: &watch::Sender<usize>,
    noticed: &watch::Sender<usize>,
) -> Result<(), Error> {
    let cluster = world.connect(ACTOR).await?;
    reached(created, "the Deployments to be created").await?;
    // Each has changed often before the first becomes ready, and others continue changing while it does.
    let mut turns: Vec<(f32, usize, bool)> = (0..DEPLOYMENTS)
        .flat_map(|index| {
            let ready = 1.0 + fastrand::f32();
            let busy = (0..CHANGES).map(move |_| (ready * fastrand::f32(), index, false));
            busy.chain([(ready, index, true)])
        })
        .collect();
    turns.sort_by(|(one, ..), (other, ..)| one.total_cmp(other));
    let turns = turns.into_iter().enumerate();
    stream::unfold((turns, tokio::time::interval(WRITE_INTERVAL)), async |(mut turns, mut ticks)| {
        ticks.tick().await;
        Some((turns.next()?, (turns, ticks)))
    })
    .map(|(turn, (_, index, ready))| write(&cluster, index, turn, ready))
    .buffered(IN_FLIGHT)
    .try_for_each(|()| std::future::ready(Ok(())))
    .await?;
    reached(noticed, "the last Deployment to be noticed").await
}

async fn reached(count: &watch::Sender<usize>, what: &str) -> Result<(), Error> {
    let mut count = count.subscribe();
    let reached = tokio::time::timeout(BOUND, count.wait_for(|count| *count >= DEPLOYMENTS)).await;
    match reached {
        Ok(Ok(_)) => Ok(()),
        _ => Err(Error::Unexpected(format!("waited {BOUND:?} for {what}"))),
    }
}

/// Writes a status.
async fn write(cluster: &Cluster, index: usize, turn: usize, ready: bool) -> Result<(), Error> {
    let manager = if ready { READY } else { "fieldManager=busy" };
    let uri = format!("/apis/apps/v1/namespaces/{NAMESPACE}/deployments/{}/status?{manager}", name(index));
    let replicas = usize::from(ready);
    let word = if ready { "True" } else { "False" };
    let message = format!("turn {turn}");
    let condition = |kind: &str, reason: &str| json!({"type": kind, "status": word, "reason": reason, "message": message});
    let patch = json!({"status": {
        "observedGeneration": 1, "replicas": 1, "updatedReplicas": 1,
        "readyReplicas": replicas, "availableReplicas": replicas, "unavailableReplicas": 1 - replicas,
        "conditions": [condition("Available", "Turn"), condition("Progressing", "NewReplicaSetAvailable")],
    }});
    let request = http::Request::patch(uri)
        .header(http::header::CONTENT_TYPE, "application/merge-patch+json")
        .body(patch.to_string().into_bytes());
    let request = request.map_err(|error| Error::Unexpected(error.to_string()))?;
    let answer: Result<Value, _> = cluster.client().request(request).await;
    answer.map(drop).map_err(|error| Error::Unexpected(format!("{}: {error}", name(index))))
}

/// From the answer to the write to the word that the step is done, by the clock that API server and engine share.
fn evaluate(spans: &[Span], noticed: &BTreeMap<String, Timestamp>) -> Result<Vec<Figure>, Error> {
    let writes = spans.iter().filter(|span| span.uri.ends_with(READY) && span.code < 300);
    let mut times = Vec::new();
    for write in writes {
        let name = write.path().trim_end_matches("/status").rsplit('/').next().unwrap_or_default();
        let at = noticed.get(name).ok_or_else(|| Error::Unexpected(format!("{name} was not noticed")))?;
        if *at < write.received {
            return Err(Error::Unexpected(format!("{name} was called ready before it was")));
        }
        // A watch may tell of it before the writer has his answer.
        times.push(at.duration_since(write.done).as_secs_f64().max(0.0));
    }
    if times.len() != DEPLOYMENTS {
        return Err(Error::Unexpected(format!("{} Deployments became ready", times.len())));
    }
    times.sort_by(f64::total_cmp);
    let at = |part: usize| times.get(times.len() * part / 100).or(times.last()).copied().unwrap_or_default();
    let what = format!("readiness of {DEPLOYMENTS} changing Deployments, from the status to its notice");
    Ok(vec![
        Figure::new("8", format!("{what}: p50"), Unit::Seconds, &[at(50)]),
        Figure::new("8", format!("{what}: p99"), Unit::Seconds, &[at(99)]).goal(Goal::Value(0.02)),
    ])
}

fn installation() -> Installation {
    Installation { name: COMPONENT.to_owned(), namespace: NAMESPACE.to_owned() }
}

fn name(index: usize) -> String {
    format!("load-{index:03}")
}

/// Deployments that are paused, so that no controller makes pods for them: only their status is played with.
fn desired() -> Desired {
    let resource = Resource {
        group: "apps".to_owned(),
        version: "v1".to_owned(),
        kind: "Deployment".to_owned(),
        plural: "deployments".to_owned(),
        namespaced: true,
    };
    let object = |index: usize| DesiredObject {
        component: COMPONENT.to_owned(),
        resource: resource.clone(),
        manifest: json!({
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": name(index), "namespace": NAMESPACE},
            "spec": {
                "paused": true,
                "replicas": 1,
                "selector": {"matchLabels": {"app": name(index)}},
                "template": {
                    "metadata": {"labels": {"app": name(index)}},
                    "spec": {"containers": [{"name": "c", "image": "registry.example.com/idle:v1"}]},
                },
            },
        }),
        after: Vec::new(),
        yielded: Vec::new(),
    };
    let component = Component { version: Version::new(1, 0, 0), needs: Vec::new(), probes: Vec::new() };
    Desired {
        installation: installation(),
        naming: trainerd_plan::desired::Naming::default(),
        components: BTreeMap::from([(COMPONENT.to_owned(), component)]),
        options: BTreeMap::from([("settle".to_owned(), json!(0))]),
        given: Vec::new(),
        objects: (0..DEPLOYMENTS).map(object).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_write_is_paired_with_its_notification() {
        let moment = |millis: i64| Timestamp::from_millisecond(millis).unwrap();
        let span = |index: usize, manager: &str| Span {
            verb: "patch".to_owned(),
            uri: format!("/apis/apps/v1/namespaces/n/deployments/{}/status?{manager}", name(index)),
            user_agent: "actor/1".to_owned(),
            code: 200,
            received: moment(1000),
            done: moment(1010),
        };
        let mut spans: Vec<Span> = (0..DEPLOYMENTS).map(|index| span(index, READY)).collect();
        spans.push(span(0, "fieldManager=busy"));
        let mut noticed: BTreeMap<String, Timestamp> =
            (0..DEPLOYMENTS).map(|index| (name(index), moment(1005))).collect();
        noticed.insert(name(7), moment(1100));
        noticed.insert(name(8), moment(1100));
        let figures = evaluate(&spans, &noticed).unwrap();
        assert!(figures[0].value.abs() < 1e-9 && (figures[1].value - 0.09).abs() < 1e-9, "{figures:?}");
        noticed.insert(name(9), moment(999));
        assert!(evaluate(&spans, &noticed).is_err(), "noticed before it was");
        noticed.remove(&name(9));
        assert!(evaluate(&spans, &noticed).is_err(), "never noticed");
    }
}
