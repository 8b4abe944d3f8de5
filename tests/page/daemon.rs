//! The daemon as the page sees it: the page, and the events that a test sends.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::serve::Listener as _;
use serde_json::Value;
use tokio::sync::broadcast;
use trainerd_serve::{Event, Problem, events, listen};

/// Events that the page may be behind.
const BACKLOG: usize = 16;

/// A daemon on a port of this machine.
pub(crate) struct Daemon {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    view: Mutex<Value>,
    train_jobs: Mutex<Value>,
    events: Mutex<broadcast::Sender<Event>>,
    token: Option<&'static str>,
    down: AtomicBool,
    ids: AtomicU64,
}

impl Daemon {
    /// A daemon that knows this, and tells it to everybody, or to who has the token.
    pub(crate) async fn start(view: Value, token: Option<&'static str>) -> Self {
        let shared = Arc::new(Shared {
            view: Mutex::new(view),
            train_jobs: Mutex::new(Value::Object(serde_json::Map::new())),
            events: Mutex::new(broadcast::channel(BACKLOG).0),
            token,
            down: AtomicBool::new(false),
            ids: AtomicU64::new(0),
        });
        let listener = listen::tcp(([127, 0, 0, 1], 0).into()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let api = Router::new()
            .route("/v1/events", get(follow))
            .route("/v1/trainjobs", get(train_jobs))
            .with_state(Arc::clone(&shared));
        let router = crate::page::router().merge(api);
        tokio::spawn(trainerd_serve::serve(listener, router, std::future::pending()));
        Self { address, shared }
    }

    /// Where something of it is.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// What it answers when it is asked for the TrainJobs: at first that there are none.
    pub(crate) fn list(&self, train_jobs: Value) {
        *self.shared.train_jobs.lock().unwrap() = train_jobs;
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// It knows something new.
    pub(crate) fn show(&self, view: &Value) {
        *self.shared.view.lock().unwrap() = view.clone();
        self.tell("view", view);
    }

    /// It tells of an event. Nobody may be listening.
    pub(crate) fn tell(&self, name: &'static str, data: &Value) {
        let event = self.shared.event(name, data);
        let _ = self.shared.events.lock().unwrap().send(event);
    }

    /// Every stream ends, and no other begins until it is `up` again.
    pub(crate) fn down(&self) {
        self.shared.down.store(true, Ordering::SeqCst);
        // The streams end with their sender.
        *self.shared.events.lock().unwrap() = broadcast::channel(BACKLOG).0;
    }

    /// It answers again.
    pub(crate) fn up(&self) {
        self.shared.down.store(false, Ordering::SeqCst);
    }
}

impl Shared {
    fn event(&self, name: &'static str, data: &Value) -> Event {
        Event::new(self.ids.fetch_add(1, Ordering::SeqCst), name, data).unwrap()
    }
}

async fn train_jobs(State(shared): State<Arc<Shared>>) -> Response {
    axum::Json(shared.train_jobs.lock().unwrap().clone()).into_response()
}

async fn follow(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Response {
    if shared.down.load(Ordering::SeqCst) {
        return Problem::new(StatusCode::SERVICE_UNAVAILABLE, "Down", "it is down").into_response();
    }
    let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    if shared.token.is_some_and(|token| given != Some(&format!("Bearer {token}"))) {
        return Problem::new(StatusCode::UNAUTHORIZED, "Unauthorized", "the token is not valid")
            .into_response();
    }
    let receiver = shared.events.lock().unwrap().subscribe();
    let first = shared.event("view", &shared.view.lock().unwrap());
    events::stream(receiver, vec![first])
}
