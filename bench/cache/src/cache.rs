//! A worker as a process of its own, and its head in this one.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow_flight::Ticket;
use tokio::task::JoinHandle;
use trainerd_cache::access::Access;
use trainerd_cache::config::Config;
use trainerd_cache::flight::Role as _;
use trainerd_cache::head::{Address, Head};
use trainerd_cache::source::Error as SourceError;
use trainerd_cache::store::Stores;
use trainerd_cache::worker::{State, WorkerStatus};

use crate::error::{Error, step};

/// How long anything may take to become so.
const PATIENCE: Duration = Duration::from_mins(2);

/// A process that ends with its owner.
pub(crate) struct Process(Child);

impl Process {
    /// Starts a program.
    pub(crate) fn start(command: &mut Command) -> Result<Self, Error> {
        command.stdin(Stdio::null()).stdout(Stdio::null());
        Ok(Self(command.spawn().map_err(step(format!("start {}", command.get_program().display())))?))
    }

    /// The most memory that it had, bytes.
    pub(crate) fn peak(&self) -> Result<u64, Error> {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.0.id()))
            .map_err(step("read the memory of a process"))?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
        let kilobytes: u64 =
            line.trim().trim_end_matches(" kB").parse().map_err(step("read the memory of a process"))?;
        Ok(kilobytes * 1024)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A head with one worker.
pub(crate) struct Cache {
    pub(crate) worker: Process,
    pub(crate) uri: String,
    head: Arc<Head>,
    running: JoinHandle<SourceError>,
}

impl Cache {
    /// Over the files of a folder, with so much memory.
    pub(crate) fn start(program: &Path, folder: &Path, memory: u64) -> Result<Self, Error> {
        let port = free_port()?;
        let folder = folder.display().to_string();
        let memory = memory.to_string();
        let variables =
            [("SOURCE_URI", folder.as_str()), ("MEMORY_LIMIT", memory.as_str()), ("RUST_LOG", "error")];
        let health = free_port()?.to_string();
        let mut command = Command::new(program);
        command.args(["worker", "127.0.0.1", &port.to_string()]).envs(variables).env("HEALTH_PORT", health);
        let worker = Process::start(&mut command)?;
        let lookup = |name: &str| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        let config = Config::read(&lookup, 1 << 30).map_err(step("read the configuration"))?;
        let access = Access::of(&config).map_err(step("read the configuration"))?;
        let stores = Stores::new([], config.requests);
        let head =
            Head::new(config, access, None, stores, vec![Address { host: "127.0.0.1".to_owned(), port }]);
        let running = tokio::spawn(Arc::clone(&head).run());
        Ok(Self { worker, uri: format!("http://127.0.0.1:{port}"), head, running })
    }

    /// Waits until all that fits is in the worker's memory.
    pub(crate) async fn loaded(&self) -> Result<(), Error> {
        self.until(|status| status.state == State::Warm).await
    }

    async fn until(&self, is_so: impl Fn(&WorkerStatus) -> bool) -> Result<(), Error> {
        let begun = Instant::now();
        loop {
            let status = self.head.status();
            let told = status.workers.first().and_then(|worker| worker.status.as_ref());
            if status.state == "Ready" && told.is_some_and(&is_so) {
                return Ok(());
            }
            if begun.elapsed() > PATIENCE {
                return Err(Error::Late("the cache"));
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// The tickets of all partitions.
    pub(crate) async fn tickets(&self, partitions: u64) -> Result<Vec<Ticket>, Error> {
        self.until(|_| true).await?;
        let mut tickets = Vec::new();
        for partition in 0..partitions {
            let path = vec![partition.to_string(), partitions.to_string(), "split=even".to_owned()];
            let descriptor = arrow_flight::FlightDescriptor::new_path(path);
            let info = self.head.flight_info(descriptor).map_err(step("ask where rows are"))?;
            tickets.extend(info.endpoint.into_iter().filter_map(|endpoint| endpoint.ticket));
        }
        Ok(tickets)
    }
}

impl Drop for Cache {
    fn drop(&mut self) {
        self.running.abort();
    }
}

/// A port that nobody listens at.
pub(crate) fn free_port() -> Result<u16, Error> {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).map_err(step("find a free port"))?;
    Ok(listener.local_addr().map_err(step("find a free port"))?.port())
}
