//! What head and workers have in common as Flight servers.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use arrow_flight::flight_service_server::FlightService;
use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightData, FlightDescriptor, FlightInfo, HandshakeRequest,
    HandshakeResponse, PollInfo, PutResult, SchemaAsIpc, SchemaResult, Ticket,
};
use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{FutureExt as _, StreamExt as _};
use tonic::{Request, Response, Status, Streaming};
use trainerd_causes::one_line;

use crate::arrow::{IpcWriteOptions, SchemaRef};
use crate::source::{Error, Kind};
use crate::spans::Span;

/// Messages to a client.
pub type Messages<T> = BoxStream<'static, Result<T, Status>>;

/// What a head or a worker answers; everything else is not implemented there, and says so.
#[async_trait]
pub trait Role: Send + Sync + 'static {
    /// Actions with what they do.
    const ACTIONS: &'static [(&'static str, &'static str)];

    /// The dataset's schema.
    fn schema(&self) -> Result<SchemaRef, Status>;

    /// Which rows are where.
    fn flight_info(&self, _descriptor: FlightDescriptor) -> Result<FlightInfo, Status> {
        Err(Status::unimplemented("only the head tells where rows are"))
    }

    /// Rows; the span ends with them.
    async fn get(&self, _ticket: &[u8], _span: Span) -> Result<Messages<FlightData>, Status> {
        Err(Status::unimplemented("only workers serve rows; ask for a FlightInfo first"))
    }

    /// An assignment.
    async fn put(self: Arc<Self>, _messages: Streaming<FlightData>) -> Result<(), Status> {
        Err(Status::unimplemented("the cache reads its source; nothing is put into it"))
    }

    /// One of [`Role::ACTIONS`]: its answers, each of which is JSON.
    async fn action(&self, name: &str) -> Result<Vec<serde_json::Value>, Status>;
}

/// A failure of the source as a client sees it.
pub fn status(error: &Error) -> Status {
    let text = one_line(error);
    match error.kind() {
        Kind::Unreachable => Status::unavailable(text),
        Kind::Denied => Status::permission_denied(text),
        Kind::Changed => Status::failed_precondition(text),
        Kind::Invalid => Status::internal(text),
    }
}

/// A role as a Flight service.
#[derive(Debug)]
pub struct Service<R>(Arc<R>);

impl<R: Role> Service<R> {
    /// Of a role.
    pub fn new(role: Arc<R>) -> Self {
        Self(role)
    }
}

/// No panic crosses a call: the client is told a number, under which the log says what failed.
async fn guarded<T>(work: impl Future<Output = Result<T, Status>>) -> Result<Response<T>, Status> {
    if let Ok(answer) = AssertUnwindSafe(work).catch_unwind().await {
        return answer.map(Response::new);
    }
    Err(panicked())
}

/// What a client is told of a panic.
pub fn panicked() -> Status {
    let mut id = [0; 4];
    // Without randomness all of them have the same number.
    let _ = getrandom::fill(&mut id);
    let id = hex::encode(id);
    tracing::error!(id, "a call panicked; the panic stands above");
    Status::internal(format!("internal error {id}"))
}

fn encoded(schema: &SchemaRef) -> Result<SchemaResult, Status> {
    SchemaAsIpc::new(schema, &IpcWriteOptions::default())
        .try_into()
        .map_err(|error| Status::internal(format!("failed to encode the schema: {error}")))
}

#[async_trait]
impl<R: Role> FlightService for Service<R> {
    type HandshakeStream = Messages<HandshakeResponse>;
    type ListFlightsStream = Messages<FlightInfo>;
    type DoGetStream = Messages<FlightData>;
    type DoPutStream = Messages<PutResult>;
    type DoExchangeStream = Messages<FlightData>;
    type DoActionStream = Messages<arrow_flight::Result>;
    type ListActionsStream = Messages<ActionType>;

    async fn handshake(
        &self,
        request: Request<Streaming<HandshakeRequest>>,
    ) -> Result<Response<Self::HandshakeStream>, Status> {
        // Whoever comes here was let in already: clients that ask for a token at the start get the one that they have.
        let bearer = request.metadata().get("authorization").cloned();
        let token =
            bearer.as_ref().and_then(|value| value.to_str().ok()?.strip_prefix("Bearer ")).map(str::to_owned);
        let answered = guarded(async {
            let asked = request.into_inner().message().await?.unwrap_or_default();
            let payload = token.map_or(asked.payload, Bytes::from);
            let answer = HandshakeResponse { protocol_version: asked.protocol_version, payload };
            Ok(stream::iter([Ok(answer)]).boxed())
        });
        let mut answered = answered.await?;
        if let Some(bearer) = bearer {
            answered.metadata_mut().insert("authorization", bearer);
        }
        Ok(answered)
    }

    async fn list_flights(
        &self,
        _request: Request<Criteria>,
    ) -> Result<Response<Self::ListFlightsStream>, Status> {
        guarded(async {
            let schema = self.0.schema()?;
            let info = FlightInfo::new()
                .try_with_schema(&schema)
                .map_err(|error| Status::internal(format!("failed to encode the schema: {error}")))?;
            Ok(stream::iter([Ok(info)]).boxed())
        })
        .await
    }

    async fn get_flight_info(
        &self,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        let span = Span::server("GetFlightInfo", request.metadata());
        let answered = guarded(async { self.0.flight_info(request.into_inner()) }).await;
        answered.inspect_err(|status| span.fail(status.message()))
    }

    async fn poll_flight_info(
        &self,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<PollInfo>, Status> {
        guarded(async {
            let info = self.0.flight_info(request.into_inner())?;
            Ok(PollInfo {
                info: Some(info),
                flight_descriptor: None,
                progress: Some(1.0),
                expiration_time: None,
            })
        })
        .await
    }

    async fn get_schema(
        &self,
        _request: Request<FlightDescriptor>,
    ) -> Result<Response<SchemaResult>, Status> {
        guarded(async { encoded(&self.0.schema()?) }).await
    }

    async fn do_get(&self, request: Request<Ticket>) -> Result<Response<Self::DoGetStream>, Status> {
        let span = Span::server("DoGet", request.metadata());
        guarded(self.0.get(&request.into_inner().ticket, span)).await
    }

    async fn do_put(
        &self,
        request: Request<Streaming<FlightData>>,
    ) -> Result<Response<Self::DoPutStream>, Status> {
        guarded(async {
            Arc::clone(&self.0).put(request.into_inner()).await?;
            Ok(stream::iter([Ok(PutResult { app_metadata: Bytes::new() })]).boxed())
        })
        .await
    }

    async fn do_exchange(
        &self,
        _request: Request<Streaming<FlightData>>,
    ) -> Result<Response<Self::DoExchangeStream>, Status> {
        Err(Status::unimplemented("rows are read with DoGet"))
    }

    async fn do_action(&self, request: Request<Action>) -> Result<Response<Self::DoActionStream>, Status> {
        guarded(async {
            let name = request.into_inner().r#type;
            if !R::ACTIONS.iter().any(|(known, _)| *known == name) {
                let known: Vec<_> = R::ACTIONS.iter().map(|(known, _)| *known).collect();
                let known = known.join(", ");
                return Err(Status::invalid_argument(format!("unknown action {name:?}; known are {known}")));
            }
            let answers = self.0.action(&name).await?;
            let answers = answers
                .into_iter()
                .map(|answer| Ok(arrow_flight::Result { body: answer.to_string().into() }));
            Ok(stream::iter(answers.collect::<Vec<_>>()).boxed())
        })
        .await
    }

    async fn list_actions(
        &self,
        _request: Request<Empty>,
    ) -> Result<Response<Self::ListActionsStream>, Status> {
        let one = |(name, description): &(&str, &str)| {
            Ok(ActionType { r#type: (*name).to_owned(), description: (*description).to_owned() })
        };
        Ok(Response::new(stream::iter(R::ACTIONS.iter().map(one).collect::<Vec<_>>()).boxed()))
    }
}
