//! A worker as upstream's image has it: it panics over everything but assignments and tickets.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use arrow_flight::flight_service_server::{FlightService, FlightServiceServer};
use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightData, FlightDescriptor, FlightInfo, HandshakeRequest,
    HandshakeResponse, PollInfo, PutResult, Result as ActionResult, SchemaResult, Ticket,
};
use futures::stream::{self, BoxStream};
use futures::{StreamExt as _, TryStreamExt as _};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status, Streaming};
use trainerd_cache::access::Access;
use trainerd_cache::head::{Address, Head};

use crate::group::{config, stores, write};

type Answer<T> = Result<Response<BoxStream<'static, Result<T, Status>>>, Status>;

/// How often it was assigned, and how often it panicked.
#[derive(Clone, Default)]
struct UpstreamWorker {
    assigned: Arc<AtomicU32>,
    panicked: Arc<AtomicU32>,
}

impl UpstreamWorker {
    fn todo<T>(&self) -> T {
        self.panicked.fetch_add(1, Ordering::Relaxed);
        panic!("not yet implemented")
    }
}

#[tonic::async_trait]
impl FlightService for UpstreamWorker {
    type HandshakeStream = BoxStream<'static, Result<HandshakeResponse, Status>>;
    type ListFlightsStream = BoxStream<'static, Result<FlightInfo, Status>>;
    type DoGetStream = BoxStream<'static, Result<FlightData, Status>>;
    type DoPutStream = BoxStream<'static, Result<PutResult, Status>>;
    type DoExchangeStream = BoxStream<'static, Result<FlightData, Status>>;
    type DoActionStream = BoxStream<'static, Result<ActionResult, Status>>;
    type ListActionsStream = BoxStream<'static, Result<ActionType, Status>>;

    async fn handshake(&self, _: Request<Streaming<HandshakeRequest>>) -> Answer<HandshakeResponse> {
        self.todo()
    }

    async fn list_flights(&self, _: Request<Criteria>) -> Answer<FlightInfo> {
        self.todo()
    }

    async fn get_flight_info(&self, _: Request<FlightDescriptor>) -> Result<Response<FlightInfo>, Status> {
        self.todo()
    }

    async fn poll_flight_info(&self, _: Request<FlightDescriptor>) -> Result<Response<PollInfo>, Status> {
        self.todo()
    }

    async fn get_schema(&self, _: Request<FlightDescriptor>) -> Result<Response<SchemaResult>, Status> {
        self.todo()
    }

    async fn do_get(&self, _: Request<Ticket>) -> Answer<FlightData> {
        if self.assigned.load(Ordering::Relaxed) == 0 {
            return Err(Status::internal("Error executing query: table 'memtable' not found"));
        }
        Ok(Response::new(stream::empty().boxed()))
    }

    async fn do_put(&self, request: Request<Streaming<FlightData>>) -> Answer<PutResult> {
        request.into_inner().try_collect::<Vec<_>>().await?;
        self.assigned.fetch_add(1, Ordering::Relaxed);
        Ok(Response::new(stream::iter([Ok(PutResult::default())]).boxed()))
    }

    async fn do_exchange(&self, _: Request<Streaming<FlightData>>) -> Answer<FlightData> {
        self.todo()
    }

    async fn do_action(&self, _: Request<Action>) -> Answer<ActionResult> {
        self.todo()
    }

    async fn list_actions(&self, _: Request<Empty>) -> Answer<ActionType> {
        self.todo()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_of_upstreams_image_is_assigned_in_upstreams_mode_and_otherwise_named() {
    let folder = tempfile::tempdir().unwrap();
    write(&folder.path().join("a.parquet"), 0..10, 10);
    for compatibility in ["upstream", "extended"] {
        let worker = UpstreamWorker::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let service = FlightServiceServer::new(worker.clone());
        tokio::spawn(
            Server::builder().add_service(service).serve_with_incoming(TcpListenerStream::new(listener)),
        );
        let config = config(folder.path(), &[("CACHE_COMPATIBILITY", compatibility)]);
        let access = Access::of(&config).unwrap();
        let address = Address { host: "127.0.0.1".to_owned(), port };
        let head = Head::new(config, access, None, stores(), vec![address]);
        tokio::spawn(Arc::clone(&head).run());
        let named = "those need CACHE_COMPATIBILITY=upstream at the head";
        let wait = async {
            loop {
                let status = head.status();
                match compatibility {
                    "upstream" if head.ready().is_ok() => return,
                    "extended" if status.reason.is_some_and(|reason| reason.contains(named)) => return,
                    _ => tokio::time::sleep(Duration::from_millis(20)).await,
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(20), wait).await.unwrap();
        if compatibility == "upstream" {
            // It lost its rows, as one that started again.
            worker.assigned.store(0, Ordering::Relaxed);
            let again = async {
                while worker.assigned.load(Ordering::Relaxed) == 0 {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            };
            tokio::time::timeout(Duration::from_secs(20), again).await.unwrap();
            assert!(worker.panicked.load(Ordering::Relaxed) <= 2, "it is not asked what it cannot answer");
        }
    }
}
