//! One worker, from its head's side: connected, assigned, and asked how it is.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::{Action, Ticket};
use futures::future::BoxFuture;
use futures::{FutureExt as _, TryStreamExt as _};
use tonic::Request;
use tonic::transport::Channel;
use trainerd_causes::one_line;

use super::channel::connect;
use super::{Address, Head, Planned, Reason};
use crate::access::Access;
use crate::assign::Assignment;
use crate::backoff::Backoff;
use crate::plan::range::Range;
use crate::plan::ticket;
use crate::worker::{State, WorkerStatus};

/// Time between two questions.
const INTERVAL: Duration = Duration::from_secs(2);

/// Limit of one question.
const LIMIT: Duration = Duration::from_secs(5);

/// Limit of one attempt to reach a worker again that has answered before. Its address may be that of a pod that is gone,
/// where nobody refuses either; the name leads to the next pod a few seconds later.
const AGAIN: Duration = Duration::from_secs(1);

/// So many questions without an answer, and the worker is taken for down.
const MISSES: u32 = 3;

/// Keeps a worker assigned for as long as the head lives.
pub(super) async fn keep(head: Arc<Head>, planned: Arc<Planned>, id: u32, address: Address) {
    let began = Instant::now();
    let mut backoff = Backoff::new(Duration::from_millis(200), INTERVAL);
    loop {
        let timeout = head.config.connect_timeout;
        let open = |timeout| connect(&address, timeout, head.connector.clone());
        let clients = open(timeout).and_then(|client| Ok((client, open(timeout.min(AGAIN))?)));
        match clients {
            Ok(clients) => {
                backoff = Backoff::new(Duration::from_millis(200), INTERVAL);
                let why = follow(Arc::clone(&head), Arc::clone(&planned), (id, &address), clients).await;
                let why = format!("{address}: {why}");
                head.set(id, false, Some(&Reason::WorkerUnreachable { id, why }), None);
            }
            Err(reason) => {
                let waited = began.elapsed();
                let late = if waited > head.config.worker_wait {
                    format!(" (for {} s; the limit WORKER_WAIT_SECS is over, still trying)", waited.as_secs())
                } else {
                    String::new()
                };
                let why = format!("{address}: {reason}{late}");
                head.set(id, false, Some(&Reason::WorkerUnreachable { id, why }), None);
            }
        }
        tokio::time::sleep(backoff.pause()).await;
    }
}

/// Assigns and asks until the worker no longer answers; the reason. The first client has all the time to connect that
/// there is, the second is for a worker that has answered.
async fn follow(
    head: Arc<Head>,
    planned: Arc<Planned>,
    (id, address): (u32, &Address),
    (mut client, again): (FlightServiceClient<Channel>, FlightServiceClient<Channel>),
) -> String {
    let own = planned.dataset.plan.id().to_string();
    let workers = u32::try_from(head.workers.len()).unwrap_or(u32::MAX);
    let is_bare = head.config.compatibility == crate::config::Compatibility::Upstream;
    let mut assigned_to = None;
    let mut misses = 0;
    loop {
        match question(&head.access, client.clone()).await {
            Ok(status) => {
                misses = 0;
                client = again.clone();
                // A worker that started again, or that somebody else assigned, is told anew. The bare form names no
                // plan, and only the start tells.
                let is_ours = assigned_to.as_ref() == Some(&status.boot_id)
                    && match (is_bare, &status.plan_id) {
                        (false, Some(plan)) => *plan == own && status.workers == workers,
                        (false, None) | (true, _) => true,
                    };
                if !is_ours {
                    if let Err(reason) =
                        assign(&head.access, head.message(&planned, id), client.clone()).await
                    {
                        return reason;
                    }
                    assigned_to = Some(status.boot_id.clone());
                    // What it says of itself now is from before.
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
                let is_up = status.state.is_serving();
                let reason = (!is_up).then(|| {
                    let why = format!("{address}: {}", status.reason.as_deref().unwrap_or_default());
                    match status.state {
                        State::Failed => Reason::WorkerFailed { id, why },
                        State::Empty | State::Assigned | State::Warming | State::Warm => {
                            Reason::WorkerLoading { id, why }
                        }
                    }
                });
                let is_settled = status.state == State::Warm;
                head.set(id, is_up, reason.as_ref(), Some(status));
                // While it opens and loads, somebody waits for it.
                let pause = if is_settled { INTERVAL } else { Duration::from_millis(100) };
                tokio::time::sleep(pause).await;
            }
            Err(Missed::Unknown) => return follow_upstream(&head, &planned, id, &client).await,
            // What upstream's workers do not know, they do not refuse either: they panic, which resets the stream.
            Err(Missed::Reset(_)) if is_bare => return follow_upstream(&head, &planned, id, &client).await,
            Err(Missed::Failed(reason) | Missed::Reset(reason)) => {
                misses += 1;
                if misses == MISSES {
                    return reason;
                }
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }
}

/// As [`follow`], a worker of upstream's, which cannot be asked how it is: assigned once, and taken for what it
/// acknowledged for as long as it serves rows.
async fn follow_upstream(
    head: &Head,
    planned: &Planned,
    id: u32,
    client: &FlightServiceClient<Channel>,
) -> String {
    if let Err(reason) = assign(&head.access, head.message(planned, id), client.clone()).await {
        return reason;
    }
    loop {
        head.set(id, true, None, None);
        tokio::time::sleep(INTERVAL).await;
        // One that started again has no rows; it is assigned anew.
        if let Err(reason) = ask_for_no_rows(&head.access, client.clone()).await {
            return reason;
        }
    }
}

/// Why there was no answer.
enum Missed {
    /// The worker does not know the question.
    Unknown,
    /// The worker ended the stream without an answer.
    Reset(String),
    Failed(String),
}

impl Missed {
    fn of(status: &tonic::Status) -> Self {
        match status.code() {
            tonic::Code::Unimplemented => Self::Unknown,
            tonic::Code::Cancelled => Self::Reset(format!(
                "it ended the stream of a question without an answer, as workers of Kubeflow's own image do; those \
                 need CACHE_COMPATIBILITY=upstream at the head ({})",
                status.message()
            )),
            _ => Self::Failed(one_line(status)),
        }
    }
}

/// Asks a worker how it is. Boxed, as the compiler cannot prove such futures to be `Send` where they are nested.
fn question(
    access: &Access,
    mut client: FlightServiceClient<Channel>,
) -> BoxFuture<'static, Result<WorkerStatus, Missed>> {
    let mut action = Request::new(Action { r#type: "status".to_owned(), body: bytes::Bytes::new() });
    access.authorize(&mut action);
    let ask = async move {
        let answers = client.do_action(action).await?.into_inner();
        answers.try_collect::<Vec<_>>().await
    };
    let limited = async move {
        match tokio::time::timeout(LIMIT, ask).await {
            Err(_) => Err(Missed::Failed(format!("no answer within {} s", LIMIT.as_secs()))),
            Ok(Err(status)) => Err(Missed::of(&status)),
            Ok(Ok(answers)) => {
                let body = answers.first().map(|answer| answer.body.clone()).unwrap_or_default();
                serde_json::from_slice(&body)
                    .map_err(|error| Missed::Failed(format!("not a status: {error}")))
            }
        }
    };
    limited.boxed()
}

/// Asks a worker for an empty range, which is an error where no rows are assigned to it; boxed as [`question`] is.
fn ask_for_no_rows(
    access: &Access,
    mut client: FlightServiceClient<Channel>,
) -> BoxFuture<'static, Result<(), String>> {
    let ticket = ticket::Ticket { range: Range { start: 1, end: 0 }, extension: None }.encode();
    let mut request = Request::new(Ticket { ticket: ticket.into() });
    access.authorize(&mut request);
    let ask = async move { client.do_get(request).await?.into_inner().try_next().await };
    let limited = async move {
        match tokio::time::timeout(LIMIT, ask).await {
            Err(_) => Err(format!("no answer within {} s", LIMIT.as_secs())),
            Ok(answer) => answer.map(drop).map_err(|status| one_line(&status)),
        }
    };
    limited.boxed()
}

/// Tells a worker what is its; boxed as [`question`] is.
fn assign(
    access: &Access,
    assignment: Assignment,
    mut client: FlightServiceClient<Channel>,
) -> BoxFuture<'static, Result<(), String>> {
    let access = access.clone();
    let put = async move {
        let messages = futures::stream::iter(assignment.messages().await.map_err(|error| one_line(&error))?);
        let mut request = Request::new(messages);
        access.authorize(&mut request);
        let answers = client.do_put(request).await.map_err(|status| one_line(&status))?.into_inner();
        answers.try_collect::<Vec<_>>().await.map(drop).map_err(|status| one_line(&status))
    };
    put.boxed()
}
