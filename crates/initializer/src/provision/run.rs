//! Makes the objects of a cache, and waits until it is there.

use std::path::Path;
use std::time::Duration;

use futures::StreamExt as _;
use opentelemetry::trace::{Span as _, SpanBuilder, Status, TraceContextExt as _, Tracer as _};
use opentelemetry::{Context, KeyValue, global};
use serde_json::Value;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};
use trainerd_cluster::retry::{RetryPolicy, RetryWait, with_retry};
use trainerd_cluster::watch::{Event, WatchParams};
use trainerd_cluster::{
    Cluster, ConnectOptions, CreateParams, DeleteParams, ListParams, RequestError, builtin,
};
use trainerd_object::kinds;

use crate::provision::Error;
use crate::provision::objects::{Object, Owner, leader_worker_sets, objects, set_name};
use crate::provision::settings::Settings;

/// Where a pod finds its namespace.
const NAMESPACE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";

/// Where a TrainJob has the trace that it belongs to: the annotation `opentelemetry.io/traceparent`.
const TRACEPARENT: &str = "/metadata/annotations/opentelemetry.io~1traceparent";

/// How often pods are looked at while the cache is waited for.
const LOOK: Duration = Duration::from_secs(10);

/// How long a busy API server is waited for.
const PATIENCE: Duration = Duration::from_mins(5);

/// Makes a cache for a TrainJob, and waits for it.
pub async fn provision(settings: &Settings) -> Result<(), Error> {
    let agent = concat!("trainerd-initializer/", env!("CARGO_PKG_VERSION"));
    let options = ConnectOptions {
        user_agent: agent.to_owned(),
        field_manager: "trainerd-initializer".to_owned(),
        patience: Some(PATIENCE),
        ..ConnectOptions::default()
    };
    let cluster = Cluster::connect(options).await?;
    let mut owner = owner(&cluster, settings, &namespace(Path::new(NAMESPACE))).await?;
    let (span, traceparent) = trace(&owner);
    owner.traceparent = traceparent;
    let ready = create_and_wait(&cluster, settings, &owner).await;
    if let Err(error) = &ready {
        span.span().set_status(Status::error(trainerd_causes::one_line(error)));
    }
    span.span().end();
    ready
}

/// The span of the cache's creation, which continues the trace of the TrainJob, and what the cache's pods continue. Where
/// no traces are sent from here, that is the TrainJob's own.
fn trace(owner: &Owner) -> (Context, Option<String>) {
    let parent = trainerd_traces::remote(owner.traceparent.as_deref(), None);
    let attributes = vec![
        KeyValue::new("k8s.namespace.name", owner.namespace.clone()),
        KeyValue::new("trainerd.train_job", owner.name.clone()),
    ];
    let builder = SpanBuilder::from_name("create data cache").with_attributes(attributes);
    let span = global::tracer("trainerd-initializer").build_with_context(builder, &parent);
    let context = if span.span_context().is_valid() { parent.with_span(span) } else { parent };
    let traceparent = trainerd_traces::traceparent(&context);
    (context, traceparent)
}

async fn create_and_wait(cluster: &Cluster, settings: &Settings, owner: &Owner) -> Result<(), Error> {
    let mut created = Vec::new();
    let made = make(cluster, &objects(settings, owner), owner, &mut created).await;
    let ready = match made {
        Ok(()) => wait(cluster, settings, owner).await,
        Err(error) => Err(error),
    };
    // A retry of this pod finds what it made, and goes on with it; an error that stays leaves nothing behind.
    if let Err(error) = &ready
        && is_permanent(error)
    {
        clean(cluster, &created, &owner.namespace).await;
    }
    ready
}

/// The first line of the service account's file, else `default`.
fn namespace(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let line = text.lines().next().unwrap_or_default().trim();
    if line.is_empty() { "default".to_owned() } else { line.to_owned() }
}

/// Whether trying again is of no use.
pub fn is_permanent(error: &Error) -> bool {
    match error {
        Error::Request { source, .. } => source.retry().is_none(),
        Error::Foreign { .. } | Error::Uid(_) => true,
        Error::Connect(_) | Error::Gone(_) | Error::Late { .. } => false,
    }
}

/// Asks the API server, again and again while it is busy.
async fn asked<T>(action: String, ask: impl AsyncFnMut(u32) -> Result<T, RequestError>) -> Result<T, Error> {
    let waits = |wait: &RetryWait<'_>| {
        tracing::warn!("{action}: {}; trying again in {:.1} s", wait.error, wait.wait.as_secs_f64());
    };
    let answer = with_retry(&RetryPolicy::default(), Some(Instant::now() + PATIENCE), waits, ask).await;
    answer.map_err(|source| Error::Request { action: action.clone(), source })
}

/// The TrainJob, as owner.
async fn owner(cluster: &Cluster, settings: &Settings, namespace: &str) -> Result<Owner, Error> {
    let jobs = kinds::train_job();
    let action = format!("read the TrainJob {namespace}/{}", settings.job);
    let job = asked(action, async |_| cluster.get(&jobs, Some(namespace), &settings.job).await).await?;
    let uid = text(&job, "/metadata/uid").ok_or_else(|| Error::Uid(format!("TrainJob {}", settings.job)))?;
    Ok(Owner {
        api_version: jobs.api_version(),
        kind: jobs.kind,
        name: settings.job.clone(),
        uid: uid.to_owned(),
        namespace: namespace.to_owned(),
        traceparent: text(&job, TRACEPARENT).map(str::to_owned),
    })
}

/// Makes the objects. One that is there and belongs to the TrainJob is of an earlier attempt, and stays.
async fn make(
    cluster: &Cluster,
    objects: &[Object],
    owner: &Owner,
    created: &mut Vec<(Object, String)>,
) -> Result<(), Error> {
    for object in objects {
        let action = format!("create the {}", object.shown());
        let create = asked(action, async |_| {
            cluster.create(&object.resource, &object.manifest, CreateParams::default()).await
        });
        match create.await {
            Ok(stored) => {
                tracing::info!("{} is created", object.shown());
                let uid = text(&stored, "/metadata/uid").unwrap_or_default().to_owned();
                created.push((object.clone(), uid));
            }
            Err(Error::Request { source: RequestError::AlreadyExists { .. }, .. }) => {
                keep(cluster, object, owner).await?;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

async fn keep(cluster: &Cluster, object: &Object, owner: &Owner) -> Result<(), Error> {
    let action = format!("read the {}", object.shown());
    let namespace = Some(owner.namespace.as_str());
    let there =
        asked(action, async |_| cluster.get(&object.resource, namespace, object.name()).await).await?;
    let owners = there.pointer("/metadata/ownerReferences").and_then(Value::as_array);
    let is_ours = owners.is_some_and(|owners| {
        owners.iter().any(|reference| text(reference, "/uid") == Some(owner.uid.as_str()))
    });
    if is_ours {
        tracing::info!("{} is there from an earlier attempt", object.shown());
        return Ok(());
    }
    Err(Error::Foreign { object: object.shown(), job: owner.name.clone() })
}

/// Deletes what this attempt created, and nothing else.
async fn clean(cluster: &Cluster, created: &[(Object, String)], namespace: &str) {
    for (object, uid) in created.iter().rev() {
        let params = DeleteParams { uid: Some(uid.clone()), ..DeleteParams::default() };
        match cluster.delete(&object.resource, Some(namespace), object.name(), &params).await {
            Ok(_) => tracing::info!("{} is deleted again", object.shown()),
            Err(error) if error.is_absent() => {}
            Err(error) => tracing::warn!("failed to delete the {}: {error}", object.shown()),
        }
    }
}

/// Waits for the LeaderWorkerSet, and tells why it is not available.
async fn wait(cluster: &Cluster, settings: &Settings, owner: &Owner) -> Result<(), Error> {
    let name = set_name(settings);
    let object = format!("LeaderWorkerSet {name}");
    let sets = leader_worker_sets();
    let namespace = Some(owner.namespace.as_str());
    // A cache of somebody else must be there before it can be waited for.
    if settings.shared.is_some() {
        asked(format!("read the {object}"), async |_| cluster.get(&sets, namespace, &name).await).await?;
    }
    let deadline = Instant::now() + settings.patience;
    let list = ListParams {
        namespace: Some(owner.namespace.clone()),
        field_selector: Some(format!("metadata.name={name}")),
        ..ListParams::default()
    };
    let mut changes = cluster.watch(&sets, WatchParams { list, resource_version: None });
    let mut looks = interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut reason = "the LeaderWorkerSet has no condition yet".to_owned();
    let mut told = String::new();
    loop {
        let next = async {
            tokio::select! {
                change = changes.next() => change.map(Some),
                _ = looks.tick() => Some(None),
            }
        };
        let Ok(Some(next)) = timeout_at(deadline, next).await else {
            return Err(Error::Late { object, seconds: settings.patience.as_secs(), reason });
        };
        let seen = match next {
            Some(Ok(Event::Applied(set))) => Some(set),
            Some(Ok(Event::Restarted(list))) => match list.items.into_iter().next() {
                None => return Err(Error::Gone(object)),
                set => set,
            },
            Some(Ok(Event::Deleted(_))) => return Err(Error::Gone(object)),
            Some(Ok(Event::Resumed)) => None,
            Some(Err(source))
                if source.retry().is_none() && !matches!(source, RequestError::Expired { .. }) =>
            {
                return Err(Error::Request { action: format!("watch the {object}"), source });
            }
            Some(Err(error)) => {
                tracing::warn!("the watch of {object} is interrupted: {error}");
                None
            }
            None => {
                if let Some(waits) = pods(cluster, &name, owner).await {
                    reason = waits;
                }
                None
            }
        };
        if let Some(set) = seen {
            match available(&set) {
                Ok(()) => {
                    tracing::info!("{object} is available");
                    return Ok(());
                }
                Err(why) => reason = why,
            }
        }
        if reason != told {
            tracing::info!("waiting for {object}: {reason}");
            told.clone_from(&reason);
        }
    }
}

/// Whether a set is available; else what its condition says.
fn available(set: &Value) -> Result<(), String> {
    let conditions = set.pointer("/status/conditions").and_then(Value::as_array);
    let find = |kind: &str| {
        conditions.and_then(|all| all.iter().find(|condition| text(condition, "/type") == Some(kind)))
    };
    if find("Available").is_some_and(|condition| text(condition, "/status") == Some("True")) {
        return Ok(());
    }
    let said =
        find("Progressing").or_else(|| find("Available")).and_then(|condition| text(condition, "/message"));
    Err(said.unwrap_or("the LeaderWorkerSet has no condition yet").to_owned())
}

/// What the pods of a set wait for.
async fn pods(cluster: &Cluster, name: &str, owner: &Owner) -> Option<String> {
    let list = ListParams {
        namespace: Some(owner.namespace.clone()),
        label_selector: Some(format!("leaderworkerset.sigs.k8s.io/name={name}")),
        ..ListParams::default()
    };
    // The cache comes up without these reasons, too: not being allowed to see pods is no failure.
    let pods = cluster.list(&builtin::pod(), &list).await.ok()?;
    let waits: Vec<String> = pods.items.iter().filter_map(waits_for).collect();
    (!waits.is_empty()).then(|| waits.join("; "))
}

/// Why a pod is not ready.
fn waits_for(pod: &Value) -> Option<String> {
    let name = text(pod, "/metadata/name")?;
    let containers = pod.pointer("/status/containerStatuses").and_then(Value::as_array);
    for container in containers.into_iter().flatten() {
        if container.get("ready") == Some(&Value::Bool(true)) {
            continue;
        }
        let state = ["/state/waiting", "/state/terminated", "/lastState/terminated"]
            .into_iter()
            .find_map(|state| container.pointer(state));
        return Some(match state.and_then(|state| text(state, "/reason")) {
            Some(reason) => {
                let said = state.and_then(|state| text(state, "/message")).map_or("", str::trim);
                format!("{name}: {reason}{}{said}", if said.is_empty() { "" } else { ": " })
            }
            None => format!("{name} is not ready"),
        });
    }
    let conditions = pod.pointer("/status/conditions").and_then(Value::as_array)?;
    let unscheduled = conditions.iter().find(|condition| {
        text(condition, "/type") == Some("PodScheduled") && text(condition, "/status") == Some("False")
    })?;
    Some(format!("{name}: {}", text(unscheduled, "/message").unwrap_or("not scheduled")))
}

fn text<'v>(value: &'v Value, pointer: &str) -> Option<&'v str> {
    value.pointer(pointer)?.as_str()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_namespace_is_the_first_line_or_default() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("namespace");
        assert_eq!(namespace(&path), "default");
        std::fs::write(&path, "team-a\nrest\n").unwrap();
        assert_eq!(namespace(&path), "team-a");
    }

    #[test]
    fn the_trace_of_a_train_job_is_continued_by_the_cache() {
        let text = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let job = json!({"metadata": {"annotations": {"opentelemetry.io/traceparent": text}}});
        assert_eq!(super::text(&job, TRACEPARENT), Some(text));
        let owner = |traceparent: Option<&str>| Owner {
            api_version: "v1".to_owned(),
            kind: "TrainJob".to_owned(),
            name: "j".to_owned(),
            uid: "u".to_owned(),
            namespace: "ns".to_owned(),
            traceparent: traceparent.map(str::to_owned),
        };
        // Without traces of its own, the initializer passes the annotation on.
        assert_eq!(trace(&owner(Some(text))).1.as_deref(), Some(text));
        for none in [None, Some("not a traceparent")] {
            assert_eq!(trace(&owner(none)).1, None);
        }
        global::set_tracer_provider(opentelemetry_sdk::trace::SdkTracerProvider::builder().build());
        let passed = trace(&owner(Some(text))).1.unwrap();
        assert_eq!(passed[..35], text[..35], "the same trace");
        assert_ne!(passed, text, "below a span of the initializer");
    }

    #[test]
    fn a_set_says_why_it_is_not_available() {
        let set = |conditions: Value| json!({"status": {"conditions": conditions}});
        assert_eq!(available(&set(json!([{"type": "Available", "status": "True"}]))), Ok(()));
        let progressing = json!([
            {"type": "Available", "status": "False", "message": "a"},
            {"type": "Progressing", "status": "True", "message": "Replicas are progressing"},
        ]);
        assert_eq!(available(&set(progressing)), Err("Replicas are progressing".to_owned()));
        assert!(available(&json!({})).is_err());
    }

    #[test]
    fn a_pod_says_what_it_waits_for() {
        let pod = |status: Value| waits_for(&json!({"metadata": {"name": "p"}, "status": status}));
        let pulling = json!({"containerStatuses": [
            {"ready": false, "state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}},
        ]});
        assert_eq!(pod(pulling).as_deref(), Some("p: ImagePullBackOff: no such image"));
        let running = json!({"containerStatuses": [{"ready": false, "state": {"running": {}}}]});
        assert_eq!(pod(running).as_deref(), Some("p is not ready"));
        let pending =
            json!({"conditions": [{"type": "PodScheduled", "status": "False", "message": "0/1 nodes"}]});
        assert_eq!(pod(pending).as_deref(), Some("p: 0/1 nodes"));
        assert_eq!(pod(json!({"containerStatuses": [{"ready": true}], "conditions": []})), None);
    }
}
