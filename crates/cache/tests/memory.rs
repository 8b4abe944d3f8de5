//! The memory of a worker, as a process of its own.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers included")]

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::Duration;

use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::{Action, FlightDescriptor, Ticket};
use futures::TryStreamExt as _;
use futures::future::try_join_all;
use parquet::arrow::ArrowWriter;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};
use trainerd_cache::access::Access;
use trainerd_cache::arrow::{RecordBatch, StringArray};
use trainerd_cache::config::Config;
use trainerd_cache::flight::Role as _;
use trainerd_cache::head::{Address, Head};
use trainerd_cache::store::Stores;

/// Memory that the worker may have.
const LIMIT: u64 = 256 << 20;
/// Files, each a row group of 16 MiB; rows of a file.
const FILES: u64 = 4;
const ROWS: u64 = 16 << 10;
/// Streams at a time: more than there are readers within the limit, so that row groups are read again and again.
const STREAMS: u64 = 8;
/// How often everything is read from the source.
const EPOCHS: usize = 4;

struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Process {
    /// The most memory that it had, in bytes.
    fn peak(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Rows of a kilobyte each that no codec makes smaller.
fn write(path: &Path, file: u64) {
    let mut state = file + 1;
    let mut word = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        format!("{state:016x}")
    };
    let texts = StringArray::from_iter_values((0..ROWS).map(|_| (0..64).map(|_| word()).collect::<String>()));
    let batch = RecordBatch::try_from_iter([("text", Arc::new(texts) as _)]).unwrap();
    let mut writer =
        ArrowWriter::try_new(std::fs::File::create(path).unwrap(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

/// Reads a stream to its end; the number of its messages with rows.
async fn drain(mut worker: FlightServiceClient<Channel>, ticket: Ticket) -> Result<usize, Status> {
    let mut messages = worker.do_get(ticket).await?.into_inner();
    let mut count = 0;
    while let Some(message) = messages.try_next().await? {
        count += usize::from(!message.data_body.is_empty());
    }
    Ok(count)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_reads_its_source_again_and_again_stays_within_its_memory() {
    let folder = tempfile::tempdir().unwrap();
    for file in 0..FILES {
        write(&folder.path().join(format!("{file}.parquet")), file);
    }
    let (port, source, limit) = (free_port(), folder.path().display().to_string(), LIMIT.to_string());
    let variables = [("SOURCE_URI", source.as_str()), ("MEMORY_LIMIT", limit.as_str())];
    let worker = Command::new(env!("CARGO_BIN_EXE_trainerd-cache"))
        .args(["worker", "127.0.0.1", &port.to_string()])
        .envs(variables)
        .envs([("HEALTH_PORT", free_port().to_string().as_str()), ("RUST_LOG", "error")])
        .spawn()
        .unwrap();
    let worker = Process(worker);
    let lookup =
        |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
    let config = Config::read(&lookup, 1 << 30).unwrap();
    let (access, stores) = (Access::of(&config).unwrap(), Stores::new([], config.requests));
    let address = Address { host: "127.0.0.1".to_owned(), port };
    let head = Head::new(config, access, None, stores, vec![address]);
    tokio::spawn(Arc::clone(&head).run());
    let ready = async {
        while head.ready().is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_mins(1), ready).await.unwrap();
    let channel = Endpoint::from_shared(format!("http://127.0.0.1:{port}")).unwrap().connect_lazy();
    let client = FlightServiceClient::new(channel);
    for _ in 0..EPOCHS {
        let drop = Action { r#type: "drop".to_owned(), ..Action::default() };
        client.clone().do_action(drop).await.unwrap();
        let streams = (0..STREAMS).map(|partition| {
            let path = vec![partition.to_string(), STREAMS.to_string()];
            let info = head.flight_info(FlightDescriptor::new_path(path)).unwrap();
            drain(client.clone(), info.endpoint[0].ticket.clone().unwrap())
        });
        let messages = try_join_all(streams).await.unwrap();
        assert!(messages.iter().all(|count| *count > 0), "{messages:?}");
    }
    // An unoptimised program is large itself.
    let peak = worker.peak();
    assert!(peak < LIMIT + LIMIT / 4, "{} MiB", peak >> 20);
}
