//! The daemon: idle, restarted, and while somebody edits and deletes (figures 1, 2, 3 and 12).
//!
//! On the cluster of the integration tests, whose stand-in makes the stack ready.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::{Value, json};
use trainerd_cluster::DeleteParams;
use trainerd_integration::cluster::Span;
use trainerd_integration::managed::{BOUND, Managed};
use trainerd_plan::object::{ObjectKey, Resource};
use trainerd_plan::ownership;

use crate::error::Error;
use crate::figure::{Figure, Goal, Unit, number};
use crate::{Report, print_progress};

/// The user agent of a daemon.
const DAEMON: &str = concat!("trainerd/", env!("CARGO_PKG_VERSION"), " (daemon)");
/// Restarts that are measured.
const RESTARTS: usize = 5;
/// Edits and deletes in all.
const CHANGES: usize = 1000;
/// Of so many changes, one is a delete.
const DELETES: usize = 5;
/// Deletes of one object: a fifth within a minute would be a fight.
const DELETES_EACH: usize = 4;
/// Time between two changes.
const WRITE_INTERVAL: Duration = Duration::from_millis(20);
/// A label of ours that nothing depends on: whoever changes it disturbs nobody but us.
const LABEL: &str = "trainerd.dev/component";

/// Measures a daemon; `idle`: how long it is left alone.
pub(crate) fn measure(idle: Duration, report: &mut Report) -> Result<(), Error> {
    // The cluster of the tests has a runtime of its own, which must not be within ours.
    let figures = std::thread::scope(|scope| scope.spawn(|| figures(idle)).join());
    report.figures.extend(figures.map_err(|_| Error::Unexpected("the measurement panicked".to_owned()))??);
    Ok(())
}

fn figures(idle: Duration) -> Result<Vec<Figure>, Error> {
    print_progress("a daemon: restarted");
    let mut kept = Managed::new()?;
    let mut figures = restarts(&mut kept)?;
    print_progress(format_args!("a daemon: idle for {idle:?}"));
    figures.extend(idles(&kept, idle)?);
    print_progress(format_args!("a daemon: {CHANGES} edits and deletes"));
    figures.extend(changes(&mut kept)?);
    Ok(figures)
}

fn audit(kept: &Managed) -> Result<&trainerd_integration::cluster::AuditLog, Error> {
    kept.cluster
        .audit()
        .ok_or_else(|| Error::Unexpected("the cluster of the tests has no audit log".to_owned()))
}

fn restarts(kept: &mut Managed) -> Result<Vec<Figure>, Error> {
    let (mut times, mut lists, mut writes) = (Vec::new(), Vec::new(), Vec::new());
    let file = kept.file.to_string_lossy().into_owned();
    for round in 0..RESTARTS {
        kept.daemon.signal(rustix::process::Signal::TERM)?;
        kept.daemon.end()?;
        let mark = audit(kept)?.mark()?;
        let started = Instant::now();
        kept.daemon = kept.cluster.daemon(&format!("restart-{round}"), &["--config", &file])?;
        kept.daemon.wait_until_settled(BOUND)?;
        times.push(started.elapsed().as_secs_f64());
        let requests = audit(kept)?.requests_since(mark, DAEMON)?;
        let mut kinds: BTreeMap<&str, u64> = BTreeMap::new();
        // The account of the installation is read with what it holds, and is no kind of the stack.
        let of_stack = |line: &&str| line.starts_with("list ") && !line.contains("trainerd%2Edev%2Frecord");
        for line in requests.iter().map(String::as_str).filter(of_stack) {
            *kinds.entry(line.split('?').next().unwrap_or_default()).or_default() += 1;
        }
        lists.push(number(kinds.values().copied().max().unwrap_or_default()));
        writes.push(number(count(audit(kept)?.writes_since(mark, DAEMON)?.len())));
    }
    Ok(vec![
        Figure::new("2", "restart of a daemon, nothing changed, to settled", Unit::Seconds, &times)
            .goal(Goal::Value(0.4)),
        Figure::new("2", "its most lists of a kind", Unit::Requests, &lists).goal(Goal::Value(1.0)),
        Figure::new("2", "its writes", Unit::Requests, &writes).goal(Goal::Value(0.0)),
    ])
}

fn idles(kept: &Managed, idle: Duration) -> Result<Vec<Figure>, Error> {
    // What a start asks for has been answered.
    std::thread::sleep(Duration::from_secs(5));
    let mark = audit(kept)?.mark()?;
    let (_, before) = kept.daemon.usage()?;
    std::thread::sleep(idle);
    let (kilobytes, after) = kept.daemon.usage()?;
    let requests = audit(kept)?.requests_since(mark, DAEMON)?;
    let others = requests.iter().filter(|line| !line.starts_with("watch ")).count();
    let what = format!("idle daemon, {} s", idle.as_secs());
    let cpu = after.saturating_sub(before).as_secs_f64();
    Ok(vec![
        Figure::new(
            "1",
            format!("{what}, requests beside watches"),
            Unit::Requests,
            &[number(count(others))],
        )
        .goal(Goal::Value(0.0)),
        Figure::new("1", format!("{what}, processor time (told in 10 ms)"), Unit::Seconds, &[cpu]),
        Figure::new(
            "12",
            "idle daemon with the stack, resident memory",
            Unit::Bytes,
            &[number(kilobytes * 1024)],
        )
        .goal(Goal::Value(15.0 * 1024.0 * 1024.0)),
    ])
}

/// Something that is edited or deleted.
struct Target {
    resource: Resource,
    namespace: Option<String>,
    name: String,
    path: String,
    deletes: usize,
}

fn targets(kept: &Managed) -> Result<Vec<Target>, Error> {
    let mut targets = Vec::new();
    for resource in kept.cluster.kinds()? {
        if matches!(resource.kind.as_str(), "CustomResourceDefinition" | "Event") {
            continue;
        }
        let listed = kept.cluster.list(&resource, Some("applyset.kubernetes.io/part-of"))?;
        // Endpoints carry the labels of their Service, and are nobody's of ours.
        for object in listed.into_iter().filter(|object| ownership::applied_by(object, "trainerd")) {
            let Some(key) = ObjectKey::of(&object).or_else(|| key(&resource, &object)) else { continue };
            let deletes = match resource.kind.as_str() {
                "ConfigMap" | "Role" | "RoleBinding" | "ClusterRole" | "ClusterRoleBinding" => DELETES_EACH,
                _ => 0,
            };
            let path = path(&resource, key.namespace.as_deref(), &key.name);
            let (namespace, name, resource) = (key.namespace, key.name, resource.clone());
            targets.push(Target { resource, namespace, name, path, deletes });
        }
    }
    Ok(targets)
}

fn key(resource: &Resource, object: &Value) -> Option<ObjectKey> {
    let text = |field: &str| object["metadata"][field].as_str().map(str::to_owned);
    let (group, kind) = (resource.group.clone(), resource.kind.clone());
    Some(ObjectKey { group, kind, namespace: text("namespace"), name: text("name")? })
}

fn path(resource: &Resource, namespace: Option<&str>, name: &str) -> String {
    let root =
        if resource.group.is_empty() { "/api".to_owned() } else { format!("/apis/{}", resource.group) };
    let place = namespace.map(|namespace| format!("/namespaces/{namespace}")).unwrap_or_default();
    format!("{root}/{}{place}/{}/{name}", resource.version, resource.plural)
}

fn changes(kept: &mut Managed) -> Result<Vec<Figure>, Error> {
    let mut targets = targets(kept)?;
    let mark = audit(kept)?.mark()?;
    let mut deletable = (0..targets.len()).cycle();
    for change in 0..CHANGES {
        let mut next = || deletable.by_ref().take(targets.len()).find(|place| targets[*place].deletes > 0);
        let delete = if change % DELETES == 0 { next() } else { None };
        match delete {
            Some(place) => {
                targets[place].deletes -= 1;
                let Target { resource, namespace, name, .. } = &targets[place];
                let params = DeleteParams::default();
                let deleted = kept.cluster.api().delete(resource, namespace.as_deref(), name, &params);
                // Deleted a moment ago and not yet there again.
                if let Err(error) = kept.cluster.block_on(deleted)
                    && !error.is_absent()
                {
                    return Err(Error::request("delete", name.clone())(error));
                }
            }
            None => edit(kept, &targets[change % targets.len()], change)?,
        }
        std::thread::sleep(WRITE_INTERVAL);
    }
    kept.daemon.wait_for("without drift", BOUND, |view| {
        view["settled"] == true && view["outlook"]["drift"] == json!([])
    })?;
    evaluate(&audit(kept)?.spans_since(mark)?)
}

/// Changes a label of ours, each time as another manager: the same one would be a fight.
fn edit(kept: &Managed, target: &Target, change: usize) -> Result<(), Error> {
    let patch = json!({"metadata": {"labels": {LABEL: format!("somebody-{change}")}}});
    let request = http::Request::patch(format!("{}?fieldManager=somebody-{change}", target.path))
        .header(http::header::CONTENT_TYPE, "application/merge-patch+json")
        .body(patch.to_string().into_bytes());
    let request = request.map_err(|error| Error::Unexpected(error.to_string()))?;
    let answer: Result<Value, _> = kept.cluster.block_on(kept.cluster.api().client().request(request));
    match answer {
        Ok(_) => Ok(()),
        Err(error) if error.to_string().contains("not found") => Ok(()),
        Err(error) => Err(Error::Unexpected(format!("{}: {error}", target.path))),
    }
}

/// Pairs each change with the write that repaired it, by the API server's own clock.
fn evaluate(spans: &[Span]) -> Result<Vec<Figure>, Error> {
    let ours = |span: &&Span| span.user_agent.starts_with(DAEMON);
    let is_change = |span: &&Span| {
        !span.user_agent.starts_with(DAEMON)
            && span.code < 300
            && (span.verb == "delete" || span.uri.contains("fieldManager=somebody-"))
    };
    let mut repairs: BTreeMap<&str, Vec<(Timestamp, Timestamp)>> = BTreeMap::new();
    for span in spans.iter().filter(ours).filter(|span| span.verb == "patch" && span.code < 300) {
        repairs.entry(span.path()).or_default().push((span.received, span.done));
    }
    let mut times = Vec::new();
    let changes: Vec<&Span> = spans.iter().filter(is_change).collect();
    for change in &changes {
        let made = repairs.get(change.path()).into_iter().flatten();
        let next = made.filter(|(_, done)| *done > change.done).map(|(_, done)| *done).min();
        let next = next.ok_or_else(|| Error::Unexpected(format!("{} was not repaired", change.path())))?;
        times.push(next.duration_since(change.done).as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    let at = |part: usize| times.get(times.len() * part / 100).or(times.last()).copied().unwrap_or_default();
    // A lease is no object that somebody changed.
    let written = |to: &dyn Fn(&str) -> bool| {
        let to = repairs.iter().filter(|(path, _)| to(path));
        number(count(to.map(|(_, writes)| writes.len()).sum()))
    };
    let repairs = written(&|path| !path.contains("/leases/"));
    let held = written(&|path| path.contains("/leases/"));
    let made = number(count(changes.len()));
    let what =
        format!("{made} foreign edits and deletes, from the answer to the change to that of the repair");
    Ok(vec![
        Figure::new("3", format!("{what}: p50"), Unit::Seconds, &[at(50)]).goal(Goal::Value(0.01)),
        Figure::new("3", format!("{what}: p99"), Unit::Seconds, &[at(99)]).goal(Goal::Value(0.05)),
        Figure::new("3", "writes that repair them", Unit::Requests, &[repairs]).goal(Goal::Value(made)),
        Figure::new("3", "lease taken for them", Unit::Requests, &[held]),
    ])
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}
