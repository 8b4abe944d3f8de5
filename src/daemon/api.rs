//! The API: what the charm, the command line and the status page talk to.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Extension, Json, Router};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use trainerd_catalog::{Catalog, Raw};
use trainerd_cluster::Cluster;
use trainerd_engine::EngineError;
use trainerd_engine::chunk::hex;
use trainerd_plan::desired::Installation;
use trainerd_serve::auth::Identity;
use trainerd_serve::{Event, Problem, auth, events, problem};

use super::auth::Reviewer;
use super::board::{Board, View};
use super::declared::{Declared, Source, Wish};
use super::desired::{Desired, Intent, Role};
use super::jobs::{JobCount, Jobs};
use super::keeper::Command;
use super::page;
use crate::cli;
use crate::cli::options::Given;

/// Version of the API.
const API: u32 = 1;

/// Longest wait of a request that waits.
const LONGEST: Duration = Duration::from_mins(1);

/// How long whoever asks for something waits for its answer: people and the charm's hooks wait for it.
const ANSWER: Duration = Duration::from_millis(1500);

/// Events that a slow reader may be behind before it misses some.
const BACKLOG: usize = 256;

/// What the routes work with.
#[derive(Clone)]
pub(crate) struct Desk {
    pub(crate) board: Board,
    pub(crate) jobs: JobCount,
    pub(crate) source: Source,
    pub(crate) declared: watch::Sender<Declared>,
    pub(crate) commands: mpsc::Sender<Command>,
    pub(crate) events: broadcast::Sender<Event>,
}

/// The routes of the API.
pub(crate) fn routes(desk: Desk) -> Routes {
    Routes {
        looking: Router::new()
            .route("/v1/version", get(version))
            .route("/v1/installation", get(installation))
            .route("/v1/status", get(status))
            .route("/v1/events", get(follow))
            .with_state(desk.clone()),
        changing: Router::new()
            .route("/v1/desired", put(desire))
            .route("/v1/actions/{name}", post(act))
            .with_state(desk),
    }
}

/// The routes of the API, by what they take to use.
#[derive(Clone)]
pub(crate) struct Routes {
    looking: Router,
    changing: Router,
}

impl Routes {
    /// For those who may do everything: whoever can open the socket.
    pub(crate) fn open(self) -> Router {
        self.looking.merge(self.changing).merge(page::router()).fallback(problem::not_found)
    }

    /// For those whom Kubernetes knows and lets. The page itself tells nothing.
    pub(crate) fn guarded(self, cluster: &Cluster, installation: &Installation) -> Router {
        let require = |verb| {
            let (cluster, installation) = (cluster.clone(), installation.clone());
            auth::require(Reviewer { cluster, installation, verb }, auth::Caching::default())
        };
        let looking = self.looking.layer(require("get"));
        looking
            .merge(self.changing.layer(require("update")))
            .merge(page::router())
            .fallback(problem::not_found)
    }
}

/// Sends what changes on the board to whoever follows, for as long as the board lives.
pub(crate) async fn announce(board: Board, events: broadcast::Sender<Event>) {
    let (mut view, mut progress) = (board.follow(), board.events());
    let mut id = 0;
    loop {
        let event = tokio::select! {
            changed = view.changed() => match changed {
                Ok(()) => {
                    let now = Arc::clone(&view.borrow_and_update());
                    // Nobody pays for what nobody reads.
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

async fn installation(State(desk): State<Desk>) -> Json<View> {
    Json(View::clone(&desk.board.view()))
}

async fn follow(State(desk): State<Desk>) -> Response {
    // Subscribed before looking, so that nothing is missed.
    let receiver = desk.events.subscribe();
    match Event::new(0, "view", &*desk.board.view()) {
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

/// The status as the charm reads it.
#[derive(Debug, Serialize)]
struct StatusAnswer {
    generation: Option<String>,
    settled: bool,
    phase: &'static str,
    reason: Option<Reason>,
    revision: Option<u64>,
    versions: BTreeMap<String, String>,
    progress: Option<Progress>,
    drift: DriftCount,
    paused: bool,
    /// Nothing where they cannot be counted now.
    jobs: Option<Jobs>,
}

#[derive(Debug, Serialize)]
struct Reason {
    code: String,
    args: Value,
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
    State(desk): State<Desk>,
    query: Result<Query<StatusQuery>, axum::extract::rejection::QueryRejection>,
) -> Result<Json<StatusAnswer>, Problem> {
    let Query(query) = query?;
    let wait = match &query.wait {
        None => Duration::ZERO,
        Some(text) => text
            .parse::<cli::args::Timeout>()
            .map(|timeout| timeout.0.min(LONGEST))
            .map_err(|error| bad("BadWait", format!("wait={text}: {error}")))?,
    };
    let mut view = desk.board.follow();
    let settled = |view: &View| {
        view.settled
            && query.generation.as_ref().is_none_or(|wanted| view.generation.as_ref() == Some(wanted))
    };
    // The deadline, or the end of the daemon: what is known is the answer.
    let _ = tokio::time::timeout(wait, view.wait_for(|view| settled(view))).await.is_ok();
    let view = desk.board.view();
    let jobs = desk.jobs.now().await;
    Ok(Json(answer(&view, settled(&view), jobs)))
}

fn answer(view: &View, settled: bool, jobs: Option<Jobs>) -> StatusAnswer {
    let outlook = view.outlook.as_ref();
    let drift = || outlook.into_iter().flat_map(|outlook| &outlook.drift);
    let first = drift().next();
    let plan = view.plan.as_ref().filter(|plan| plan.ended.is_none());
    StatusAnswer {
        generation: view.generation.clone(),
        settled,
        phase: view.phase.word(),
        reason: view.reason.as_ref().map(|problem| Reason {
            code: problem.code.to_owned(),
            args: json!({"message": problem.message, "causes": problem.causes, "object": problem.object}),
        }),
        revision: outlook.map(|outlook| outlook.status.revision),
        versions: outlook
            .into_iter()
            .flat_map(|outlook| &outlook.status.components)
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
    State(desk): State<Desk>,
    caller: Option<Extension<Identity>>,
    body: Result<Json<Value>, axum::extract::rejection::JsonRejection>,
) -> Response {
    let body = match body {
        Ok(Json(body)) => body,
        Err(rejection) => return Problem::from(rejection).into_response(),
    };
    match desired(&desk, body, named(caller)) {
        Ok(()) => Json(json!({"accepted": true})).into_response(),
        Err(refusal) => *refusal,
    }
}

fn desired(desk: &Desk, body: Value, asked_by: Option<String>) -> Result<(), Box<Response>> {
    let refuse = |problem: Problem| Box::new(problem.into_response());
    let digest = generation(&body);
    let wanted: Desired = serde_json::from_value(body)
        .map_err(|error| refuse(bad("BadDesired", format!("the desired state makes no sense: {error}"))))?;
    if wanted.schema != API {
        let message = format!("schema {} is not {API}", wanted.schema);
        return Err(refuse(Problem::new(StatusCode::CONFLICT, "ApiMismatch", message)));
    }
    if wanted.generation != digest {
        let message = format!("generation is {}, but the body has {digest}", wanted.generation);
        return Err(refuse(bad("BadGeneration", message)));
    }
    if desk.source != Source::Api {
        let message = format!("the options are declared in {}: change them there", desk.source);
        return Err(refuse(Problem::new(StatusCode::CONFLICT, "OtherSource", message)));
    }
    if wanted.intent != Intent::Run {
        let message = "only the intent run is available yet";
        return Err(refuse(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "NotYet", message)));
    }
    let values: BTreeMap<String, Raw> =
        wanted.options.into_iter().map(|(name, value)| (name, Raw::Typed(value))).collect();
    let catalog = Catalog::builtin().map_err(|error| {
        let message = error.to_string();
        refuse(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "BrokenCatalog", message))
    })?;
    if let Err(invalid) = trainerd_catalog::Options::parse(&catalog, &values) {
        let errors: Vec<Value> = invalid
            .errors()
            .iter()
            .map(|error| json!({"option": error.option, "rule": error.rule.to_string()}))
            .collect();
        let answer = (StatusCode::UNPROCESSABLE_ENTITY, Json(json!({"errors": errors})));
        return Err(Box::new(answer.into_response()));
    }
    let standby = wanted.role == Role::Standby;
    let (given, generation) = (Given::of(values, &cli::options::Source::Api), wanted.generation);
    let wish = Wish { given, generation, standby, asked_by, uid: None };
    // An equal generation is what is done already.
    desk.declared.send_if_modified(|declared| {
        let same = matches!(declared, Declared::Options(known) if known.generation == wish.generation);
        if !same {
            *declared = Declared::Options(wish);
        }
        !same
    });
    Ok(())
}

/// SHA-256 of a body without its generation, in canonical JSON: sorted keys, no spaces.
fn generation(body: &Value) -> String {
    let mut body = body.clone();
    if let Some(fields) = body.as_object_mut() {
        fields.remove("generation");
    }
    hex(&Sha256::digest(canonical(&body).as_bytes()))
}

fn canonical(value: &Value) -> String {
    match value {
        Value::Object(fields) => {
            let sorted: BTreeMap<&String, &Value> = fields.iter().collect();
            let fields: Vec<String> = sorted
                .into_iter()
                .map(|(name, value)| format!("{}:{}", Value::from(name.as_str()), canonical(value)))
                .collect();
            format!("{{{}}}", fields.join(","))
        }
        Value::Array(items) => {
            format!("[{}]", items.iter().map(canonical).collect::<Vec<_>>().join(","))
        }
        scalar => scalar.to_string(),
    }
}

/// Who asks, as revisions, notes and Events name them.
fn named(caller: Option<Extension<Identity>>) -> Option<String> {
    caller.map(|Extension(identity)| identity.name)
}

async fn act(
    State(desk): State<Desk>,
    Path(name): Path<String>,
    caller: Option<Extension<Identity>>,
) -> Result<Json<Value>, Problem> {
    let view = desk.board.view();
    let asked_by = named(caller);
    let done = Json(json!({"revision": view.outlook.as_ref().map(|outlook| outlook.status.revision)}));
    let conflict = |reason, message| Problem::new(StatusCode::CONFLICT, reason, message);
    match name.as_str() {
        // What is declared, and not the phase: a watch that is down hides it there.
        "pause" | "resume" if desk.declared.borrow().is_standby() => {
            Err(conflict("Standby", "On standby: another daemon acts; ask that one"))
        }
        "pause" => {
            let is_new = ask(&desk, |answer| Command::Pause { asked_by, answer }).await?;
            is_new.then_some(done).ok_or_else(|| conflict("AlreadyPaused", "Already paused"))
        }
        "resume" => {
            let was_paused = ask(&desk, |answer| Command::Resume { asked_by, answer }).await?;
            was_paused.then_some(done).ok_or_else(|| conflict("NotPaused", "Not paused"))
        }
        "force-reconcile" if view.paused.is_some() => Err(conflict("Paused", "Paused")),
        "force-reconcile" => {
            match tokio::time::timeout(ANSWER, desk.commands.send(Command::Reconcile { asked_by })).await {
                Ok(Ok(())) => Ok(done),
                Ok(Err(_)) => Err(ending()),
                Err(_) => Err(unanswered()),
            }
        }
        other => {
            let message = format!("no action {other}; there are pause, resume and force-reconcile");
            Err(Problem::new(StatusCode::NOT_FOUND, "UnknownAction", message))
        }
    }
}

/// Asks the keeper, and waits for its answer.
async fn ask(
    desk: &Desk,
    command: impl FnOnce(oneshot::Sender<Result<bool, EngineError>>) -> Command,
) -> Result<bool, Problem> {
    let (sender, answer) = oneshot::channel();
    let asked = async {
        desk.commands.send(command(sender)).await.map_err(|_| ending())?;
        answer.await.map_err(|_| ending())?.map_err(failed)
    };
    tokio::time::timeout(ANSWER, asked).await.unwrap_or_else(|_| Err(unanswered()))
}

fn unanswered() -> Problem {
    let message = format!(
        "the API server did not answer within {} s: what was asked for may still be done when it does; look at the \
         status, or ask again",
        ANSWER.as_secs_f32()
    );
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "Unanswered", message)
}

fn ending() -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "Ending", "the daemon is ending")
}

fn failed(error: EngineError) -> Problem {
    let problem = cli::errors::Problem::from(error);
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
    fn a_generation_is_the_digest_of_the_body_whatever_the_order() {
        let one = json!({"schema": 1, "options": {"b": 1, "a": [true, null, "x"]}, "generation": "g"});
        let other = json!({"options": {"a": [true, null, "x"], "b": 1}, "schema": 1});
        assert_eq!(canonical(&other), r#"{"options":{"a":[true,null,"x"],"b":1},"schema":1}"#);
        assert_eq!(generation(&one), generation(&other));
    }
}
