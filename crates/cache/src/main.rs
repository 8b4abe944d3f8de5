//! `trainerd-cache head|worker HOST PORT`; also run as `head` or `worker`, as upstream's image has them.

use std::io::IsTerminal as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use trainerd_cache::access::Access;
use trainerd_cache::config::{Config, Lookup};
use trainerd_cache::flight::Role;
use trainerd_cache::head::{Head, addresses};
use trainerd_cache::health::{self, Health};
use trainerd_cache::meters::Meters;
use trainerd_cache::server::Port;
use trainerd_cache::store::Stores;
use trainerd_cache::tls::Tls;
use trainerd_cache::worker::Worker;
use trainerd_causes::one_line;
use trainerd_serve::Metrics;
use trainerd_traces::Service;

/// Chunks come and go all the time: what is freed is given back, or the limit of the memory would be missed by far.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Milliseconds until the allocator gives freed memory back. By default it is a second, in which a worker that reads from
/// its source frees a quarter of its limit; where it is nearly none, messages are sent more slowly.
const PURGE_DELAY: (&str, &str) = ("MIMALLOC_PURGE_DELAY", "25");

/// What is logged where nobody says. The store tells each of its attempts, and we what came of them.
const FILTER: &str = "info,object_store=warn";

/// A bad configuration: trying again does not help.
const INVALID: u8 = 2;

/// The service that traces are of.
const SERVICE: Service = Service { name: "trainerd-cache", version: env!("CARGO_PKG_VERSION") };

/// Time that open streams get at the end, shorter than the 30 s of a pod.
const GRACE: Duration = Duration::from_secs(25);

fn main() -> ExitCode {
    set_purge_delay();
    let filter = std::env::var("RUST_LOG").unwrap_or_else(|_| FILTER.to_owned());
    let is_json = std::env::var("LOG_FORMAT").is_ok_and(|format| format == "json");
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        // In the log of a pod, colours are letters.
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    if is_json {
        log.json().init();
    } else {
        log.init();
    }
    // Two libraries of TLS are in the dependencies; whoever asks for one gets this.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{}", failure.text);
            // The kubelet shows it as the reason of the pod; where it cannot be written, the log has it.
            let termination = Path::new("/dev/termination-log");
            if termination.exists() {
                let _ = std::fs::write(termination, format!("{}\n", failure.text));
            }
            ExitCode::from(failure.code)
        }
    }
}

/// Starts the program again with [`PURGE_DELAY`], unless the environment has one: the allocator reads it before `main`. The
/// process stays the same. If that is not possible, it continues as it is.
fn set_purge_delay() {
    let (name, delay) = PURGE_DELAY;
    if std::env::var_os(name).is_some() {
        return;
    }
    let mut arguments = std::env::args_os();
    let (Ok(program), Some(called)) = (std::env::current_exe(), arguments.next()) else { return };
    let error = Command::new(program).arg0(called).args(arguments).env(name, delay).exec();
    eprintln!("warning: failed to set {name}, so that more memory is used than configured: {error}");
}

/// What ends the process.
struct Failure {
    text: String,
    code: u8,
}

impl Failure {
    fn new(code: u8, text: impl Into<String>) -> Self {
        Self { text: text.into(), code }
    }

    fn of(code: u8, error: &dyn std::error::Error) -> Self {
        Self::new(code, format!("error: {}", one_line(error)))
    }
}

/// What the command line asks for.
struct Invocation {
    is_head: bool,
    host: String,
    port: u16,
}

fn invocation(arguments: Vec<String>) -> Result<Invocation, Failure> {
    let usage = "usage: trainerd-cache head|worker HOST PORT";
    let mut arguments = arguments.into_iter();
    let program = arguments.next().unwrap_or_default();
    let name = Path::new(&program).file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
    let role = match name.as_str() {
        "head" | "worker" => name,
        _ => arguments.next().unwrap_or_default(),
    };
    let is_head = match role.as_str() {
        "head" => true,
        "worker" => false,
        "--version" => {
            println!("trainerd-cache {}", env!("CARGO_PKG_VERSION"));
            return Err(Failure::new(0, ""));
        }
        _ => return Err(Failure::new(INVALID, format!("error: unknown role {role:?}; {usage}"))),
    };
    let host = arguments.next().ok_or_else(|| Failure::new(1, "Missing host argument"))?;
    let port = arguments.next().ok_or_else(|| Failure::new(1, "Missing port argument"))?;
    let port =
        port.parse().map_err(|_| Failure::new(INVALID, format!("error: invalid port {port:?}; {usage}")))?;
    Ok(Invocation { is_head, host, port })
}

fn run() -> Result<(), Failure> {
    let invocation = invocation(std::env::args().collect())?;
    let lookup = |name: &str| std::env::var(name).ok();
    let config = Config::read(&lookup, available_memory()).map_err(|error| Failure::of(INVALID, &error))?;
    let metrics = Metrics::new();
    let meters = Meters::new(&metrics).map_err(|error| Failure::of(1, &error))?;
    let stores = Stores::new(std::env::vars(), config.requests).metered(Arc::new(meters));
    let runtime = tokio::runtime::Runtime::new().map_err(|error| Failure::of(1, &error))?;
    let access = Access::of(&config).map_err(|error| Failure::of(INVALID, &error))?;
    let tls = config.tls.as_ref().map(Tls::open).transpose().map_err(|error| Failure::of(INVALID, &error))?;
    warn(access.0.is_some(), tls.is_some());
    let served = runtime.block_on(async {
        let traces = trainerd_traces::provider_from_env(SERVICE);
        if let Some(provider) = &traces {
            opentelemetry::global::set_tracer_provider(provider.clone());
        }
        let served = serve_role(invocation, config, (access, tls), (stores, metrics), &lookup).await;
        if let Some(provider) = traces {
            trainerd_traces::shut_down(provider).await;
        }
        served
    });
    // Blocking reads that are in progress are let go.
    runtime.shutdown_background();
    served
}

/// Serves as head or worker until it is stopped.
async fn serve_role(
    invocation: Invocation,
    config: Config,
    (access, tls): (Access, Option<Tls>),
    (stores, metrics): (Stores, Metrics),
    lookup: Lookup<'_>,
) -> Result<(), Failure> {
    let port = Port::open(&invocation.host, invocation.port, tls.as_ref()).await;
    let port = port.map_err(|error| Failure::of(1, &error))?;
    let health_port = config.health_port;
    if invocation.is_head {
        let workers = addresses(lookup).map_err(|error| Failure::of(INVALID, &error))?;
        let connector = tls.as_ref().map(Tls::connector).transpose();
        let connector = connector.map_err(|error| Failure::of(INVALID, &error))?;
        let head = Head::new(config, access.clone(), connector, stores, workers);
        let running = tokio::spawn(Arc::clone(&head).run());
        tokio::select! {
            served = serve(port, (health_port, metrics), access, head) => served,
            ended = running => match ended {
                Err(error) => Err(Failure::of(1, &error)),
                Ok(error) => Err(Failure::of(INVALID, &error)),
            },
        }
    } else {
        let worker = Worker::new(config, access.clone(), stores, boot_id());
        serve(port, (health_port, metrics), access, worker).await
    }
}

/// Says what others on the network may do.
fn warn(has_token: bool, has_tls: bool) {
    let what = match (has_token, has_tls) {
        (true, true) => return,
        (false, true) => {
            "rows are served without a token; only pods that may read them should reach this port"
        }
        (true, false) => "rows and the token are sent without TLS; whoever sees the traffic can read them",
        (false, false) => {
            "rows are served without TLS and tokens; only pods that may read them should reach this port"
        }
    };
    tracing::warn!("{what}");
}

async fn serve<R: Role + Health>(
    port: Port,
    (health_port, metrics): (u16, Metrics),
    access: Access,
    role: Arc<R>,
) -> Result<(), Failure> {
    let address = port.address().map_err(|error| Failure::of(1, &error))?;
    let health = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), health_port);
    let health = trainerd_serve::listen::tcp(health).await.map_err(|error| Failure::of(1, &error))?;
    let stopping = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&stopping);
    let router = health::router(&role, &metrics, move || asked.load(Ordering::Relaxed))
        .map_err(|error| Failure::of(1, &error))?;
    let (stop, stopped) = watch::channel(false);
    let ended = |mut stopped: watch::Receiver<bool>| async move {
        // A sender that is gone has ended everything, too.
        let _ = stopped.wait_for(|is_stopped| *is_stopped).await;
    };
    let probes = tokio::spawn(trainerd_serve::serve(health, router, ended(stopped.clone())));
    let flight = tokio::spawn(port.serve(role, access, ended(stopped)));
    tracing::info!(%address, health_port, "listening");
    let mut terminate = signal(SignalKind::terminate())
        .map_err(|error| Failure::new(1, format!("error: failed to wait for signals: {error}")))?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    tracing::info!("stopping; open streams have {} s", GRACE.as_secs());
    stopping.store(true, Ordering::Relaxed);
    let _ = stop.send(true);
    if tokio::time::timeout(GRACE, flight).await.is_err() {
        tracing::warn!("streams were cut off");
    }
    probes.abort();
    Ok(())
}

/// Another one for each start.
fn boot_id() -> String {
    let mut bytes = [0; 8];
    // Without randomness the time of the start tells starts apart.
    if getrandom::fill(&mut bytes).is_err() {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        bytes = u64::try_from(now.as_nanos()).unwrap_or_default().to_le_bytes();
    }
    format!("{:016x}", u64::from_be_bytes(bytes))
}

/// The container's limit, else the machine's memory, in bytes.
fn available_memory() -> u64 {
    let limit =
        |path: &str| std::fs::read_to_string(path).ok().and_then(|text| text.trim().parse::<u64>().ok());
    let of_group =
        limit("/sys/fs/cgroup/memory.max").or_else(|| limit("/sys/fs/cgroup/memory/memory.limit_in_bytes"));
    let total = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
        line.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
    });
    let total = total.unwrap_or(1 << 30);
    of_group.map_or(total, |limit| limit.min(total))
}
