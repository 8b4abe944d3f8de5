//! A Flight server of the same gRPC stack that has its messages in a list: as fast as ours could be.

use std::sync::Arc;

use arrow_flight::flight_service_server::FlightServiceServer;
use arrow_flight::{FlightData, Ticket};
use async_trait::async_trait;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::Status;
use trainerd_cache::arrow::SchemaRef;
use trainerd_cache::flight::{Messages, Role, Service};
use trainerd_cache::spans::Span;

use crate::client;
use crate::error::{Error, step};

/// Lists of messages; a ticket is the number of one.
struct Lists(Vec<Vec<FlightData>>);

#[async_trait]
impl Role for Lists {
    const ACTIONS: &'static [(&'static str, &'static str)] = &[];

    fn schema(&self) -> Result<SchemaRef, Status> {
        Err(Status::unimplemented("messages, and nothing else"))
    }

    async fn get(&self, ticket: &[u8], _span: Span) -> Result<Messages<FlightData>, Status> {
        let number = std::str::from_utf8(ticket).ok().and_then(|text| text.parse::<usize>().ok());
        let list = number.and_then(|number| self.0.get(number)).cloned();
        let list = list.ok_or_else(|| Status::not_found("there is no such list"))?;
        Ok(stream::iter(list.into_iter().map(Ok)).boxed())
    }

    async fn action(&self, _name: &str) -> Result<Vec<serde_json::Value>, Status> {
        Err(Status::unimplemented("messages, and nothing else"))
    }
}

/// Reads what the tickets are for, once, and serves it until the process is killed.
pub(crate) async fn serve(from: &str, tickets: &[Ticket], port: u16) -> Result<(), Error> {
    let mut lists = Vec::new();
    for ticket in tickets {
        let stream = client::open(from, ticket).await?;
        lists.push(stream.try_collect::<Vec<_>>().await.map_err(step("read rows"))?);
    }
    let listener = TcpListener::bind(("127.0.0.1", port)).await.map_err(step("listen"))?;
    tonic::transport::Server::builder()
        .tcp_nodelay(true)
        .add_service(FlightServiceServer::new(Service::new(Arc::new(Lists(lists)))))
        .serve_with_incoming(TcpListenerStream::new(listener))
        .await
        .map_err(step("serve"))
}
