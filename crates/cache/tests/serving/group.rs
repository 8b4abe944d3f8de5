//! Heads and workers on loopback.

use std::net::SocketAddr;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::error::FlightError;
use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::{FlightDescriptor, FlightEndpoint};
use futures::TryStreamExt as _;
use hyper_util::rt::TokioIo;
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;
use rustls::pki_types::ServerName;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::runtime::Runtime;
use tokio_rustls::TlsConnector;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};
use trainerd_cache::access::Access;
use trainerd_cache::arrow::{
    AsArray as _, DataType, Field, Int64Array, RecordBatch, Schema, StringArray, types,
};
use trainerd_cache::config::Config;
use trainerd_cache::flight::Role;
use trainerd_cache::head::{Address, Head, HeadStatus};
use trainerd_cache::plan::ticket::Ticket;
use trainerd_cache::server::Port;
use trainerd_cache::store::{RequestPolicy, Stores};
use trainerd_cache::tls::Tls;
use trainerd_cache::worker::Worker;

/// How long anything may take to become so.
const PATIENCE: Duration = Duration::from_mins(1);

/// A head and its workers.
pub(crate) struct Group {
    config: Config,
    head: Arc<Head>,
    port: u16,
    workers: Vec<(u16, Option<Runtime>)>,
}

impl Group {
    /// Over the files of a folder, once every worker has its assignment.
    pub(crate) async fn start(folder: &Path, variables: &[(&str, &str)], workers: usize) -> Self {
        let group = Self::begin(folder, variables, workers).await;
        group.until(|status| status.state == "Ready").await;
        group
    }

    /// As [`Group::start`], not waiting for anything.
    pub(crate) async fn begin(folder: &Path, variables: &[(&str, &str)], workers: usize) -> Self {
        let config = config(folder, variables);
        let mut started = Vec::new();
        for _ in 0..workers {
            let (port, running) = worker(&config, 0);
            started.push((port, Some(running)));
        }
        let address = |port| Address { host: "127.0.0.1".to_owned(), port };
        let addresses = started.iter().map(|(port, _)| address(*port)).collect();
        let access = Access::of(&config).unwrap();
        let tls = tls(&config);
        let connector = tls.as_ref().map(|tls| tls.connector().unwrap());
        let head = Head::new(config.clone(), access.clone(), connector, stores(), addresses);
        tokio::spawn(Arc::clone(&head).run());
        let port = serve(Arc::clone(&head), access, 0, tls).await;
        Self { config, head, port, workers: started }
    }

    /// Stops a worker, its connections included.
    pub(crate) fn stop(&mut self, number: usize) {
        if let Some(running) = self.workers[number].1.take() {
            running.shutdown_background();
        }
    }

    /// Starts a worker again, at its old port.
    pub(crate) fn restart(&mut self, number: usize) {
        let (_, running) = worker(&self.config, self.workers[number].0);
        self.workers[number].1 = Some(running);
    }

    /// Where the head is.
    pub(crate) fn head(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Whether the head answers clients.
    pub(crate) fn head_ready(&self) -> Result<(), String> {
        self.head.ready()
    }

    /// Where a worker is.
    pub(crate) fn worker(&self, number: usize) -> String {
        format!("http://127.0.0.1:{}", self.workers[number].0)
    }

    /// Waits until the head is so.
    pub(crate) async fn until(&self, is_so: impl Fn(&HeadStatus) -> bool) {
        let look = async {
            while !is_so(&self.head.status()) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let ended = tokio::time::timeout(PATIENCE, look).await;
        assert!(ended.is_ok(), "{:?}", self.head.status());
    }

    /// What the head answers.
    pub(crate) async fn endpoints(&self, partition: u64, partitions: u64) -> Vec<FlightEndpoint> {
        self.info(partition, partitions, &[]).await.unwrap()
    }

    async fn info(
        &self,
        partition: u64,
        partitions: u64,
        options: &[&str],
    ) -> Result<Vec<FlightEndpoint>, Status> {
        let mut path = vec![partition.to_string(), partitions.to_string()];
        path.extend(options.iter().map(|option| (*option).to_owned()));
        let uri = format!("http://127.0.0.1:{}", self.port);
        let mut head = client(&uri);
        Ok(head.get_flight_info(FlightDescriptor::new_path(path)).await?.into_inner().endpoint)
    }

    /// First and last position of every message of a partition.
    pub(crate) async fn positions(
        &self,
        partition: u64,
        partitions: u64,
        options: &[&str],
    ) -> Vec<(u64, u64)> {
        let mut positions = Vec::new();
        for endpoint in self.info(partition, partitions, options).await.unwrap() {
            let mut worker = client(&endpoint.location[0].uri.replace("grpc://", "http://"));
            let mut messages = worker.do_get(endpoint.ticket.unwrap()).await.unwrap().into_inner();
            while let Some(message) = messages.try_next().await.unwrap() {
                if !message.data_body.is_empty() {
                    let range = Ticket::decode(&message.app_metadata).unwrap().range;
                    positions.push((range.start, range.end));
                }
            }
        }
        positions
    }

    /// Reads a partition as a client does: the endpoints one after the other.
    pub(crate) async fn read(
        &self,
        partition: u64,
        partitions: u64,
        options: &[&str],
    ) -> Result<Vec<RecordBatch>, Status> {
        let mut batches = Vec::new();
        for endpoint in self.info(partition, partitions, options).await? {
            assert_eq!(endpoint.location.len(), 1);
            let uri = endpoint.location[0].uri.replace("grpc://", "http://");
            let mut worker = client(&uri);
            let messages = worker.do_get(endpoint.ticket.unwrap()).await?.into_inner();
            let messages = messages.map_err(|status| FlightError::Tonic(Box::new(status)));
            let read: Result<Vec<_>, _> =
                FlightRecordBatchStream::new_from_flight_data(messages).try_collect().await;
            batches.extend(read.map_err(|error| match error {
                FlightError::Tonic(status) => *status,
                other => Status::internal(other.to_string()),
            })?);
        }
        Ok(batches)
    }
}

/// A client; it connects with its first request.
pub(crate) fn client(uri: &str) -> FlightServiceClient<Channel> {
    FlightServiceClient::new(Endpoint::from_shared(uri.to_owned()).unwrap().connect_lazy())
}

/// A client's connection with TLS; it connects with its first request.
pub(crate) fn dial(uri: &str, connector: TlsConnector) -> Channel {
    let address = uri.trim_start_matches("http://").to_owned();
    let connect = tower::service_fn(move |_: tonic::transport::Uri| {
        let (connector, address) = (connector.clone(), address.clone());
        async move {
            let stream = TcpStream::connect(address).await?;
            let name = ServerName::try_from("127.0.0.1").map_err(std::io::Error::other)?;
            Ok::<_, std::io::Error>(TokioIo::new(connector.connect(name, stream).await?))
        }
    });
    Endpoint::from_shared(uri.to_owned()).unwrap().connect_with_connector_lazy(connect)
}

/// Listens at an address, and never answers: connections beyond the few that wait are not even refused.
pub(crate) async fn swallow(uri: &str) -> (TcpListener, Vec<TcpStream>) {
    let address: SocketAddr = uri.trim_start_matches("http://").parse().unwrap();
    let listener = loop {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        // What listened there before may still be on its way out.
        match socket.bind(address).and_then(|()| socket.listen(0)) {
            Ok(listener) => break listener,
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    };
    let mut waiting = Vec::new();
    while let Ok(connected) =
        tokio::time::timeout(Duration::from_millis(200), TcpStream::connect(address)).await
    {
        waiting.push(connected.unwrap());
    }
    (listener, waiting)
}

/// The stores of this process.
pub(crate) fn stores() -> Stores {
    // Glue wants a signature, whoever checks it.
    let key = [("AWS_ACCESS_KEY_ID", "id"), ("AWS_SECRET_ACCESS_KEY", "secret")];
    Stores::new(key.map(|(name, value)| (name.to_owned(), value.to_owned())), RequestPolicy::default())
}

/// The configuration for the files of a folder.
pub(crate) fn config(folder: &Path, variables: &[(&str, &str)]) -> Config {
    let folder = folder.to_str().unwrap().to_owned();
    let is_given = variables.iter().any(|(name, _)| *name == "SOURCE_URI");
    let lookup = |name: &str| match name {
        "SOURCE_URI" if !is_given => Some(folder.clone()),
        _ => variables.iter().find(|(variable, _)| *variable == name).map(|(_, value)| (*value).to_owned()),
    };
    Config::read(&lookup, 1 << 30).unwrap()
}

/// A worker in a runtime of its own, so that it can be stopped as a process is.
fn worker(config: &Config, port: u16) -> (u16, Runtime) {
    let boot = format!("{:?}", std::time::Instant::now());
    let access = Access::of(config).unwrap();
    let worker = Worker::new(config.clone(), access.clone(), stores(), boot);
    let running = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let started = running.spawn(serve(worker, access, port, tls(config)));
    let port = futures::executor::block_on(started).unwrap();
    (port, running)
}

fn tls(config: &Config) -> Option<Tls> {
    config.tls.as_ref().map(|files| Tls::open(files).unwrap())
}

async fn serve<R: Role>(role: Arc<R>, access: Access, port: u16, tls: Option<Tls>) -> u16 {
    let port = Port::open("127.0.0.1", port, tls.as_ref()).await.unwrap();
    let number = port.address().unwrap().port();
    tokio::spawn(async move { port.serve(role, access, std::future::pending()).await.unwrap() });
    number
}

impl Drop for Group {
    fn drop(&mut self) {
        for number in 0..self.workers.len() {
            self.stop(number);
        }
    }
}

/// Writes a Parquet file with two columns: a number and a text.
pub(crate) fn write(path: &Path, ids: Range<i64>, rows_a_group: usize) {
    let schema = Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, false),
        Field::new("text", DataType::Utf8, true),
    ]));
    let text: StringArray = ids.clone().map(|id| (id % 3 > 0).then(|| format!("row {id}"))).collect();
    let columns = vec![Arc::new(Int64Array::from_iter_values(ids)) as _, Arc::new(text) as _];
    save(path, &RecordBatch::try_new(schema, columns).unwrap(), rows_a_group);
}

/// Writes a Parquet file with another column.
pub(crate) fn write_other(path: &Path) {
    let schema = Arc::new(Schema::new(vec![Field::new("other", DataType::Int64, false)]));
    let column = Arc::new(Int64Array::from_iter_values(0..3));
    save(path, &RecordBatch::try_new(schema, vec![column]).unwrap(), 10);
}

/// Writes a Parquet file of a batch.
pub(crate) fn save(path: &Path, batch: &RecordBatch, rows_a_group: usize) {
    let properties = WriterProperties::builder().set_max_row_group_row_count(Some(rows_a_group)).build();
    let file = std::fs::File::create(path).unwrap();
    let mut writer = ArrowWriter::try_new(file, batch.schema(), Some(properties)).unwrap();
    writer.write(batch).unwrap();
    writer.close().unwrap();
}

/// The numbers of all rows, in the order in which they came.
pub(crate) fn ids(batches: &[RecordBatch]) -> Vec<i64> {
    let column =
        |batch: &RecordBatch| batch.column_by_name("id").unwrap().as_primitive::<types::Int64Type>().clone();
    batches.iter().flat_map(|batch| column(batch).values().to_vec()).collect()
}

/// The number of rows.
pub(crate) fn rows(batches: &[RecordBatch]) -> usize {
    batches.iter().map(RecordBatch::num_rows).sum()
}
