//! A client that takes what it is sent, and does nothing with it.

use std::time::{Duration, Instant};

use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::{FlightData, Ticket};
use futures::TryStreamExt as _;
use futures::future::try_join_all;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Streaming};

use crate::error::{Error, step};

/// What was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Read {
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
}

/// A connection.
pub(crate) fn connect(uri: &str) -> Result<FlightServiceClient<Channel>, Error> {
    let endpoint = Endpoint::from_shared(uri.to_owned()).map_err(step("connect"))?.tcp_nodelay(true);
    Ok(FlightServiceClient::new(endpoint.connect_lazy()).max_decoding_message_size(32 << 20))
}

/// A stream, asked for again until the server is there.
pub(crate) async fn open(uri: &str, ticket: &Ticket) -> Result<Streaming<FlightData>, Error> {
    let begun = Instant::now();
    loop {
        match connect(uri)?.do_get(ticket.clone()).await {
            Ok(stream) => return Ok(stream.into_inner()),
            Err(status) if status.code() == Code::Unavailable && begun.elapsed() < Duration::from_mins(2) => {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            Err(status) => return Err(step("ask for rows")(status)),
        }
    }
}

/// Reads one stream to its end.
pub(crate) async fn read(uri: &str, ticket: &Ticket) -> Result<Read, Error> {
    let mut stream = open(uri, ticket).await?;
    let mut read = Read::default();
    while let Some(message) = stream.try_next().await.map_err(step("read rows"))? {
        read.messages += 1;
        read.bytes += message.data_body.len() as u64;
    }
    Ok(read)
}

/// Reads all streams at the same time, each over a connection of its own; what was read, and bytes a second.
pub(crate) async fn drain(uri: &str, tickets: &[Ticket]) -> Result<(Read, f64), Error> {
    let begun = Instant::now();
    let streams = tickets.iter().map(|ticket| {
        let (uri, ticket) = (uri.to_owned(), ticket.clone());
        async move {
            let joined = tokio::spawn(async move { read(&uri, &ticket).await }).await;
            joined.map_err(step("read rows"))?
        }
    });
    let mut all = Read::default();
    for read in try_join_all(streams).await? {
        all.messages += read.messages;
        all.bytes += read.bytes;
    }
    let seconds = begun.elapsed().as_secs_f64();
    Ok((all, float(all.bytes) / seconds))
}

/// Counts here are far below what a float holds exactly.
#[expect(clippy::cast_precision_loss)]
pub(crate) fn float(number: u64) -> f64 {
    number as f64
}
