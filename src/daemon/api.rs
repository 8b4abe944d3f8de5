//! The API for the charm, the command line and the status page.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Extension, Json, Router};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use trainerd_catalog::{Catalog, Raw};
use trainerd_cluster::Cluster;
use trainerd_engine::EngineError;
use trainerd_juju::desired::{self, Desired, Intent, Role};
use trainerd_juju::status::{Reason, StatusValue};
use trainerd_plan::desired::Installation;
use trainerd_serve::auth::Identity;
use trainerd_serve::{Event, Problem, auth, events, problem};

use super::auth::Reviewer;
use super::declared::Declared;
use super::installation_controller::{Command, Operation};
use super::operations::{OperationState, Operations};
use super::page;
use super::reason::reason;
use super::status_store::{Phase, StatusStore, StatusView};
use crate::application::pull_secret;
use crate::options::Given;
use crate::options::declared::{OptionsSpec, Source};
use crate::training::jobs::Jobs;
use crate::training::on_demand::OnDemand;
use crate::training::{Listed, TrainJobs};

/// The only mesh whose policies are known.
const ISTIO: &str = "istio";

/// Version of the API.
const API: u32 = 1;

/// Longest wait of a request that waits.
const LONGEST: Duration = Duration::from_mins(1);

/// Time limit of a command: users and the charm's hooks wait for it.
const ANSWER: Duration = Duration::from_millis(1500);

/// Events that a slow reader may be behind before it misses some.
const BACKLOG: usize = 256;

/// What the routes work with.
#[derive(Clone)]
pub(crate) struct ApiState {
    pub(crate) status: StatusStore,
    pub(crate) jobs: OnDemand<Jobs>,
    pub(crate) train_jobs: OnDemand<Listed>,
    pub(crate) source: Source,
    pub(crate) declared: watch::Sender<Declared>,
    pub(crate) commands: mpsc::Sender<Command>,
    pub(crate) events: broadcast::Sender<Event>,
    pub(crate) operations: Operations,
}

/// The routes of the API.
pub(crate) fn routes(api: ApiState) -> Routes {
    Routes {
        looking: Router::new()
            .route("/v1/version", get(version))
            .route("/v1/installation", get(installation))
            .route("/v1/status", get(status))
            .route("/v1/trainjobs", get(train_jobs))
            .route("/v1/events", get(follow))
            .route("/v1/operations/{id}", get(operation))
            .with_state(api.clone()),
        changing: Router::new()
            .route("/v1/desired", put(desire))
            .route("/v1/actions/{name}", post(act))
            .with_state(api),
    }
}

/// The routes of the API, by the required access.
#[derive(Clone)]
pub(crate) struct Routes {
    looking: Router,
    changing: Router,
}

impl Routes {
    /// For clients of the socket, who may do everything.
    pub(crate) fn open(self) -> Router {
        self.looking.merge(self.changing).merge(page::router()).fallback(problem::not_found)
    }

    /// For users that Kubernetes authorizes. The page itself is public and has no data.
    pub(crate) fn guarded(self, cluster: &Cluster, installation: &Installation) -> Router {
        let guarded = |routes, verb| {
            let (cluster, installation) = (cluster.clone(), installation.clone());
            auth::require(routes, Reviewer { cluster, installation, verb }, auth::Caching::default())
        };
        guarded(self.looking, "get")
            .merge(guarded(self.changing, "update"))
            .merge(page::router())
            .fallback(problem::not_found)
    }
}

/// Sends changes of the status to subscribers.
pub(crate) async fn announce(status: StatusStore, events: broadcast::Sender<Event>) {
    let (mut view, mut progress) = (status.follow(), status.events());
    let mut id = 0;
    loop {
        let event = tokio::select! {
            changed = view.changed() => match changed {
                Ok(()) => {
                    let now = Arc::clone(&view.borrow_and_update());
                    // Without subscribers nothing is serialized.
                    if events.receiver_count() == 0 { continue }
                    Event::new(id, "view", &*now)
                }
                Err(_) => return,
            },
            event = progress.recv() => match event {
                Ok(event) => Event::new(id, "progress", &*event),
                Err(broadcast::error::RecvError::Lagged(_)) => continue,
                Err(broadcast::error::RecvError::Closed) => return,
            },
        };
        id += 1;
        match event {
            // An error says that nobody follows.
            Ok(event) => drop(events.send(event)),
            Err(error) => tracing::warn!(%error, "an event could not be written"),
        }
    }
}

/// A channel for [`announce`].
pub(crate) fn channel() -> broadcast::Sender<Event> {
    broadcast::channel(BACKLOG).0
}

async fn version() -> Json<Value> {
    Json(json!({"version": env!("CARGO_PKG_VERSION"), "api": API}))
}

async fn installation(State(api): State<ApiState>) -> Json<StatusView> {
    Json(StatusView::clone(&api.status.view()))
}

async fn follow(State(api): State<ApiState>) -> Response {
    // Subscribed before looking, so that nothing is missed.
    let receiver = api.events.subscribe();
    match Event::new(0, "view", &*api.status.view()) {
        Ok(first) => events::stream(receiver, vec![first]),
        Err(error) => {
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "Unreadable", error.to_string()).into_response()
        }
    }
}

/// What a status is asked for with.
#[derive(Deserialize)]
struct StatusQuery {
    /// Wait until the installation is settled for this generation.
    generation: Option<String>,
    /// At most this long, for example `5s`.
    wait: Option<String>,
}

impl StatusQuery {
    fn wait(&self) -> Result<Duration, Problem> {
        match &self.wait {
            None => Ok(Duration::ZERO),
            Some(text) => {
                // Unlike a timeout it may be zero: what is known now.
                let span = text.parse::<SignedDuration>().ok();
                let wait = span.and_then(|span| Duration::try_from(span).ok());
                let refused = || bad("BadWait", format!("wait={text}: must be a duration, for example 5s"));
                wait.map(|wait| wait.min(LONGEST)).ok_or_else(refused)
            }
        }
    }
}

/// The status as the charm reads it.
#[derive(Debug, Serialize)]
struct StatusAnswer {
    generation: Option<String>,
    settled: bool,
    phase: &'static str,
    reason: Reason,
    revision: Option<u64>,
    versions: BTreeMap<String, String>,
    progress: Option<Progress>,
    drift: DriftCount,
    paused: bool,
    /// Nothing where they cannot be counted now.
    jobs: Option<Jobs>,
}

#[derive(Debug, Serialize)]
struct Progress {
    done: usize,
    total: usize,
}

#[derive(Debug, Serialize)]
struct DriftCount {
    count: usize,
    first: String,
}

async fn status(
    State(api): State<ApiState>,
    query: Result<Query<StatusQuery>, axum::extract::rejection::QueryRejection>,
) -> Result<Json<StatusAnswer>, Problem> {
    let Query(query) = query?;
    let wait = query.wait()?;
    let mut view = api.status.follow();
    let wanted = query.generation.as_deref();
    let settled = |view: &StatusView| view.settled && is_of(view, wanted);
    // The deadline, or the end of the daemon: what is known is the answer.
    let _ = tokio::time::timeout(wait, view.wait_for(|view| settled(view))).await.is_ok();
    let view = api.status.view();
    let jobs = api.jobs.now().await;
    Ok(Json(answer(&view, wanted, jobs, Timestamp::now())))
}

/// Whether what is known is of that generation; of any where none is named.
fn is_of(view: &StatusView, generation: Option<&str>) -> bool {
    generation.is_none_or(|wanted| view.generation.as_deref() == Some(wanted))
}

/// The TrainJobs that are not complete, and why each does not run: listed when somebody asks, and kept for a while.
async fn train_jobs(State(api): State<ApiState>) -> Result<Json<TrainJobs>, Problem> {
    let unavailable = |why: String| Problem::new(StatusCode::SERVICE_UNAVAILABLE, "Unavailable", why);
    let listed = api.train_jobs.now().await;
    let listed = listed.ok_or_else(|| unavailable("TrainJobs are being listed; try again".to_owned()))?;
    match &*listed {
        Ok(listed) => Ok(Json(listed.clone().unwrap_or_default())),
        Err(why) => Err(unavailable(format!("failed to list TrainJobs: {why}"))),
    }
}

/// The response to a request with or without a generation.
fn answer(view: &StatusView, wanted: Option<&str>, jobs: Option<Jobs>, now: Timestamp) -> StatusAnswer {
    let is_wanted = is_of(view, wanted);
    let reason = match reason(view, now) {
        // "Active" refers to other options than the requested ones, which are not processed yet. A pause applies to any
        // options.
        reason if reason.value() == StatusValue::Active && !is_wanted && view.paused.is_none() => {
            Reason::Starting
        }
        reason => reason,
    };
    let snapshot = view.snapshot.as_ref();
    let drift = || snapshot.into_iter().flat_map(|snapshot| &snapshot.drift);
    let first = drift().next();
    let plan = view.plan.as_ref().filter(|plan| plan.ended.is_none());
    StatusAnswer {
        generation: view.generation.clone(),
        settled: view.settled && is_wanted,
        phase: view.phase.word(),
        reason,
        revision: snapshot.map(|snapshot| snapshot.status.revision),
        versions: snapshot
            .into_iter()
            .flat_map(|snapshot| &snapshot.status.components)
            .map(|(name, component)| (name.clone(), component.version.to_string()))
            .collect(),
        progress: plan.map(|plan| Progress { done: plan.done, total: plan.total }),
        drift: DriftCount {
            count: drift().count(),
            first: first
                .map(|drift| format!("{}/{}", drift.object.kind, drift.object.name))
                .unwrap_or_default(),
        },
        paused: view.paused.is_some(),
        jobs,
    }
}

async fn desire(
    State(api): State<ApiState>,
    caller: Option<Extension<Identity>>,
    body: Result<Json<Value>, axum::extract::rejection::JsonRejection>,
) -> Response {
    let body = match body {
        Ok(Json(body)) => body,
        Err(rejection) => return Problem::from(rejection).into_response(),
    };
    match desired(&api, body, named(caller)) {
        Ok(()) => Json(json!({"accepted": true})).into_response(),
        Err(refusal) => *refusal,
    }
}

fn desired(api: &ApiState, body: Value, asked_by: Option<String>) -> Result<(), Box<Response>> {
    let refuse = |problem: Problem| Box::new(problem.into_response());
    let digest = desired::generation(&body);
    let mut wanted: Desired = serde_json::from_value(body)
        .map_err(|error| refuse(bad("BadDesired", format!("invalid desired state: {error}"))))?;
    if wanted.schema != desired::SCHEMA {
        let message = format!("schema {} is not {API}", wanted.schema);
        return Err(refuse(Problem::new(StatusCode::CONFLICT, "ApiMismatch", message)));
    }
    if wanted.generation != digest {
        let message = format!("generation is {}, but the body has {digest}", wanted.generation);
        return Err(refuse(bad("BadGeneration", message)));
    }
    if api.source != Source::Api {
        let message = format!("the options are declared in {}: change them there", api.source);
        return Err(refuse(Problem::new(StatusCode::CONFLICT, "OtherSource", message)));
    }
    let own = api.status.view();
    for (what, named, own) in [("app", &wanted.app, &own.name), ("model", &wanted.model, &own.namespace)] {
        if let Some(named) = named.as_ref().filter(|named| *named != own) {
            let message = format!("{what} is {named}, but this daemon manages {own}");
            return Err(refuse(Problem::new(StatusCode::CONFLICT, "OtherInstallation", message)));
        }
    }
    if let Some(mesh) = wanted.mesh.as_ref().filter(|mesh| mesh.kind != ISTIO) {
        let rule = format!("must be {ISTIO}, not {}", mesh.kind);
        let errors = json!({"errors": [{"option": "mesh", "rule": rule}]});
        return Err(Box::new((StatusCode::UNPROCESSABLE_ENTITY, Json(errors)).into_response()));
    }
    if let Some(image) = &wanted.image {
        // What the charm's own resource holds is what the native reconciler runs.
        wanted.options.insert("trainerd-image".to_owned(), image.registrypath.clone().into());
        if !image.password.is_empty() {
            pull_secret::add(&mut wanted.options, &own.name);
        }
    }
    let values: BTreeMap<String, Raw> =
        wanted.options.into_iter().map(|(name, value)| (name, Raw::Typed(value))).collect();
    let catalog = Catalog::builtin().map_err(|error| {
        let message = error.to_string();
        refuse(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "BrokenCatalog", message))
    })?;
    if let Err(invalid) = catalog.parse_options(&values) {
        let errors: Vec<Value> = invalid
            .errors()
            .iter()
            .map(|error| json!({"option": error.option, "rule": error.rule.to_string()}))
            .collect();
        let answer = (StatusCode::UNPROCESSABLE_ENTITY, Json(json!({"errors": errors})));
        return Err(Box::new(answer.into_response()));
    }
    let spec = OptionsSpec {
        given: Given::of(values, &crate::options::Source::Api),
        generation: wanted.generation,
        standby: wanted.role == Role::Standby || wanted.intent == Intent::Drain,
        intent: wanted.intent,
        mesh: wanted.mesh,
        unit: wanted.unit,
        image: wanted.image.filter(|image| !image.password.is_empty()),
        asked_by,
        uid: None,
    };
    // A repeated removal is tried again: the obstacle may be gone.
    let asks_again = spec.intent == Intent::Remove;
    if asks_again {
        api.status.write(|view| view.generation = None);
    }
    // Any other equal generation is what is done already.
    let is_news = api.declared.send_if_modified(|declared| {
        let same = !asks_again
            && matches!(declared, Declared::Options(known) if known.generation == spec.generation);
        if !same {
            *declared = Declared::Options(spec);
        }
        !same
    });
    // Permissions may have been revoked meanwhile, which a daemon without writes does not notice. If it is busy with
    // other commands, it will.
    if !is_news {
        let _ = api.commands.try_send(Command::LookAtRights);
    }
    Ok(())
}

/// Parameters of an action.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct ActionRequest {
    /// `rollback`: the revision to go back to; the one before the current where none is named.
    to: Option<u64>,
    /// `upgrade`, `rollback`: CRD changes may drop what is stored.
    #[serde(default)]
    allow_lossy: bool,
    /// `force-reconcile`: objects whose immutable fields differ are deleted and recreated.
    #[serde(default)]
    recreate: bool,
    /// `force-reconcile`: limits it to a component.
    component: Option<String>,
    /// `pause`: why.
    #[serde(default)]
    reason: String,
}

/// Who asks, as revisions, notes and Events name them.
fn named(caller: Option<Extension<Identity>>) -> Option<String> {
    caller.map(|Extension(identity)| identity.name)
}

async fn act(
    State(api): State<ApiState>,
    Path(name): Path<String>,
    caller: Option<Extension<Identity>>,
    body: Bytes,
) -> Result<Response, Problem> {
    let view = api.status.view();
    let asked_by = named(caller);
    let snapshot = view.snapshot.as_ref();
    let revision = snapshot.map(|snapshot| snapshot.status.revision);
    let done = Json(json!({"revision": revision})).into_response();
    let conflict = |reason, message| Problem::new(StatusCode::CONFLICT, reason, message);
    let asking = if body.is_empty() { Ok(ActionRequest::default()) } else { serde_json::from_slice(&body) };
    let ActionRequest { to, allow_lossy, recreate, component, reason } =
        asking.map_err(|error| bad("BadAction", format!("invalid request: {error}")))?;
    let operation = match name.as_str() {
        // What is declared, and not the phase: a watch that is down hides it there.
        "pause" | "resume" | "force-reconcile" | "upgrade" | "rollback"
            if api.declared.borrow().is_standby() =>
        {
            return Err(conflict(
                "Standby",
                "on standby: another daemon is active; send the request to that one",
            ));
        }
        "pause" => {
            let is_new = ask(&api, |answer| Command::Pause { reason, asked_by, answer }).await?;
            return is_new.then_some(done).ok_or_else(|| conflict("AlreadyPaused", "Already paused"));
        }
        "resume" => {
            let was_paused = ask(&api, |answer| Command::Resume { asked_by, answer }).await?;
            if was_paused {
                // The state is read again at once, so that the next command is not refused for an outdated one.
                api.status.write(|view| (view.paused, view.phase) = (None, Phase::Running));
            }
            return was_paused.then_some(done).ok_or_else(|| conflict("NotPaused", "Not paused"));
        }
        "retry" => {
            let has_failed = ask(&api, |answer| Command::Retry { asked_by, answer }).await?;
            return has_failed.then_some(done).ok_or_else(|| conflict("NothingFailed", "Nothing failed"));
        }
        "force-reconcile" | "upgrade" | "rollback" if view.paused.is_some() => {
            return Err(conflict("Paused", "Paused"));
        }
        "force-reconcile" => {
            let known = snapshot.into_iter().flat_map(|snapshot| snapshot.status.components.keys());
            let known: Vec<&str> = known.map(String::as_str).collect();
            if let Some(name) = component.as_deref().filter(|name| !known.contains(name)) {
                let message = format!("no component {name}; there are: {}", known.join(", "));
                return Err(bad("UnknownComponent", message));
            }
            Operation::Reconcile { recreate, component }
        }
        "upgrade" => Operation::Upgrade { allow_lossy },
        "rollback" => Operation::Rollback { to, allow_lossy },
        other => {
            let message = format!(
                "no action {other}; there are pause, resume, retry, force-reconcile, upgrade and rollback"
            );
            return Err(Problem::new(StatusCode::NOT_FOUND, "UnknownAction", message));
        }
    };
    let (id, handle) = api.operations.open();
    match tokio::time::timeout(ANSWER, api.commands.send(Command::Start { operation, asked_by, handle }))
        .await
    {
        Ok(sent) => sent.map_err(|_| ending())?,
        Err(_) => return Err(unanswered()),
    }
    Ok((StatusCode::ACCEPTED, Json(json!({"operation": id.to_string()}))).into_response())
}

/// The result of an operation, now or at the end of the wait.
async fn operation(
    State(api): State<ApiState>,
    Path(id): Path<u64>,
    query: Result<Query<StatusQuery>, axum::extract::rejection::QueryRejection>,
) -> Result<Json<OperationState>, Problem> {
    let Query(query) = query?;
    let wait = query.wait()?;
    let unknown = || Problem::new(StatusCode::NOT_FOUND, "UnknownOperation", format!("no operation {id}"));
    let mut operation = api.operations.find(id).ok_or_else(unknown)?;
    let over = operation.wait_for(|operation| *operation != OperationState::InProgress);
    // The deadline, or the end of the daemon: what is known is the answer.
    let _ = tokio::time::timeout(wait, over).await.is_ok();
    let now = operation.borrow().clone();
    Ok(Json(now))
}

/// Asks the controller, and waits for its answer.
async fn ask(
    api: &ApiState,
    command: impl FnOnce(oneshot::Sender<Result<bool, EngineError>>) -> Command,
) -> Result<bool, Problem> {
    let (sender, answer) = oneshot::channel();
    let asked = async {
        api.commands.send(command(sender)).await.map_err(|_| ending())?;
        answer.await.map_err(|_| ending())?.map_err(failed)
    };
    tokio::time::timeout(ANSWER, asked).await.unwrap_or_else(|_| Err(unanswered()))
}

fn unanswered() -> Problem {
    let message = format!(
        "the API server did not respond within {} s: the request may still be carried out; check the status, or try again",
        ANSWER.as_secs_f32()
    );
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "Unanswered", message)
}

fn ending() -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "Ending", "the daemon is ending")
}

fn failed(error: EngineError) -> Problem {
    let problem = crate::problem::Problem::from(error);
    let why = problem.why().join("; ");
    let message = if why.is_empty() { problem.message } else { format!("{}: {why}", problem.message) };
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "Failed", message)
}

fn bad(reason: &'static str, message: String) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, reason, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unprocessed_options_are_not_active() {
        let view = |phase| StatusView {
            phase,
            settled: true,
            generation: Some("old".to_owned()),
            ..StatusView::default()
        };
        let ready = view(Phase::Ready);
        let staged = StatusView { staged: Some("2.3.0".to_owned()), ..ready.clone() };
        let note = serde_json::from_value(json!({"since": Timestamp::UNIX_EPOCH, "by": "a"})).unwrap();
        let paused = StatusView { paused: Some(note), settled: false, ..view(Phase::Paused) };
        for (view, wanted, reason, settled) in [
            (&ready, None, Reason::Settled, true),
            (&ready, Some("old"), Reason::Settled, true),
            (&ready, Some("new"), Reason::Starting, false),
            (&staged, Some("old"), Reason::Staged { version: "2.3.0".to_owned() }, true),
            (&staged, Some("new"), Reason::Starting, false),
            (&view(Phase::Standby), Some("new"), Reason::Starting, false),
            (&paused, Some("new"), Reason::Paused { revision: 0 }, false),
        ] {
            let answer = answer(view, wanted, None, Timestamp::UNIX_EPOCH);
            assert_eq!((answer.reason, answer.settled), (reason, settled), "{wanted:?}");
        }
    }
}
