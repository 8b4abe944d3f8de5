//! The figures that the data cache and the initializers promise, measured in one run on loopback. `cargo xtask bench cache`
//! builds what is measured, and runs this.

mod bare;
mod cache;
mod client;
mod data;
mod error;
mod figure;
mod initializer;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;

use arrow_flight::Ticket;
use clap::{Args, Parser, Subcommand, ValueEnum};
use futures::TryStreamExt as _;
use trainerd_causes::texts;

use cache::{Cache, Process, free_port};
use client::float;
use error::{Error, step};
use figure::{Figure, Goal};
use initializer::Server;

/// The allocator of the programs that are measured.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Streams that are read at the same time.
const STREAMS: [u64; 3] = [1, 4, 16];
/// Streams that nobody reads, while the memory is measured.
const STALLED: u64 = 8;
/// The memory that a worker may have where there is more data than that, and how much more.
const LIMIT: (u64, u64) = (256 << 20, 4);
const GIGABYTE: f64 = 1e9;

#[derive(Parser)]
#[command(about = "Measures the data cache and the initializers on loopback")]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Measures
    Run(Arguments),
    /// Serves what another server sends, out of a list: what the cache is compared with
    Bare {
        from: String,
        port: u16,
        /// In hexadecimal
        tickets: Vec<String>,
    },
}

#[derive(Args)]
struct Arguments {
    /// The data cache
    #[arg(long, value_name = "FILE")]
    cache: PathBuf,
    /// The initializer
    #[arg(long, value_name = "FILE")]
    initializer: PathBuf,
    /// The S3 server
    #[arg(long, value_name = "FILE")]
    s3_server: PathBuf,
    /// Rounds of each figure
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=99))]
    rounds: u32,
    /// Megabytes of the table and of the object
    #[arg(long, default_value_t = 512, value_parser = clap::value_parser!(u64).range(16..=65536))]
    megabytes: u64,
    /// Only these figures
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Section>,
    /// How to print the figures
    #[arg(short, long, value_enum, default_value_t = Output::Markdown)]
    output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Section {
    /// Bytes a second, beside a bare server
    Throughput,
    /// From the start of the process to the first rows
    Start,
    /// Memory, with more data than it may have
    Memory,
    /// The initializer, beside a bare client
    Initializer,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Output {
    Markdown,
    Json,
}

fn main() -> ExitCode {
    // Two libraries of TLS are in the dependencies; whoever asks for one gets this.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&step("start the runtime")(error)),
    };
    let done = match Cli::parse().verb {
        Verb::Run(arguments) => {
            runtime.block_on(measure(&arguments)).and_then(|figures| print(&figures, arguments.output))
        }
        Verb::Bare { from, port, tickets } => {
            let tickets = tickets.iter().map(|ticket| hex::decode(ticket).map(Ticket::new));
            let tickets: Vec<Ticket> = tickets.flatten().collect();
            runtime.block_on(bare::serve(&from, &tickets, port))
        }
    };
    done.map_or_else(|error| failed(&error), |()| ExitCode::SUCCESS)
}

fn failed(error: &Error) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "error: {}", texts(error).join("\n  because: "));
    ExitCode::FAILURE
}

fn print(figures: &[Figure], output: Output) -> Result<(), Error> {
    let text = match output {
        Output::Markdown => figure::table(figures),
        Output::Json => serde_json::to_string_pretty(figures).map_err(step("print the figures"))?,
    };
    writeln!(std::io::stdout(), "{text}").map_err(step("print the figures"))
}

async fn measure(arguments: &Arguments) -> Result<Vec<Figure>, Error> {
    let is_wanted = |section| arguments.only.is_empty() || arguments.only.contains(&section);
    let bytes = arguments.megabytes << 20;
    let mut figures = Vec::new();
    let folder = tempfile::tempdir().map_err(step("make a folder"))?;
    if is_wanted(Section::Throughput) || is_wanted(Section::Start) {
        data::write(folder.path(), bytes)?;
    }
    if is_wanted(Section::Throughput) {
        figures.extend(throughput(arguments, folder.path(), bytes).await?);
    }
    if is_wanted(Section::Start) {
        figures.push(start(arguments, folder.path(), bytes).await?);
    }
    drop(folder);
    if is_wanted(Section::Memory) {
        figures.push(memory(arguments).await?);
    }
    if is_wanted(Section::Initializer) {
        figures.push(initializer(arguments, bytes).await?);
    }
    Ok(figures)
}

/// Every stream once from ours and once from a list, in turn.
async fn throughput(arguments: &Arguments, folder: &Path, bytes: u64) -> Result<Vec<Figure>, Error> {
    // All of it fits: of the limit, 70 of 100 parts are for rows.
    let cache = Cache::start(&arguments.cache, folder, bytes * 2 + (512 << 20))?;
    cache.loaded().await?;
    let mut figures = Vec::new();
    for streams in STREAMS {
        let tickets = cache.tickets(streams).await?;
        let port = free_port()?;
        let mut command = Command::new(std::env::current_exe().map_err(step("find this program"))?);
        command
            .args(["bare", &cache.uri, &port.to_string()])
            .args(tickets.iter().map(|ticket| hex::encode(&ticket.ticket)));
        let _bare = Process::start(&mut command)?;
        let uri = format!("http://127.0.0.1:{port}");
        let numbers: Vec<Ticket> = (0..tickets.len()).map(|number| Ticket::new(number.to_string())).collect();
        // The first time, both begin.
        let (bare, _) = client::drain(&uri, &numbers).await?;
        let (ours, _) = client::drain(&cache.uri, &tickets).await?;
        if bare != ours {
            let (bare_bytes, our_bytes) = (bare.bytes, ours.bytes);
            return Err(Error::Differs { bare: bare.messages, bare_bytes, ours: ours.messages, our_bytes });
        }
        let (mut own, mut other) = (Vec::new(), Vec::new());
        for _ in 0..arguments.rounds {
            other.push(client::drain(&uri, &numbers).await?.1 / GIGABYTE);
            own.push(client::drain(&cache.uri, &tickets).await?.1 / GIGABYTE);
        }
        let what = format!("rows in memory, {streams} {}", if streams == 1 { "stream" } else { "streams" });
        figures.push(Figure::of_rounds(what, "GB/s", &own, &other, "bare Flight", Goal::AtLeast(0.9)));
    }
    Ok(figures)
}

/// From the start of the process until the first rows are there, read from the source.
async fn start(arguments: &Arguments, folder: &Path, bytes: u64) -> Result<Figure, Error> {
    let mut seconds = Vec::new();
    for _ in 0..arguments.rounds {
        let begun = Instant::now();
        let cache = Cache::start(&arguments.cache, folder, bytes * 2 + (512 << 20))?;
        let tickets = cache.tickets(1).await?;
        let first = tickets.first().ok_or(Error::Late("the first ticket"))?;
        let mut stream = client::open(&cache.uri, first).await?;
        loop {
            match stream.try_next().await.map_err(step("read rows"))? {
                Some(message) if message.data_body.is_empty() => {}
                Some(_) => break,
                None => return Err(Error::Late("the first batch")),
            }
        }
        seconds.push(begun.elapsed().as_secs_f64());
    }
    let limit = vec![1.0; seconds.len()];
    Ok(Figure::of_rounds(
        "start of the process to the first batch".to_owned(),
        "s",
        &seconds,
        &limit,
        "1 s",
        Goal::AtMost(1.0),
    ))
}

/// Twice all rows over several streams, with others open that nobody reads.
async fn memory(arguments: &Arguments) -> Result<Figure, Error> {
    let (limit, times) = LIMIT;
    let folder = tempfile::tempdir().map_err(step("make a folder"))?;
    data::write(folder.path(), limit * times)?;
    let mut peaks = Vec::new();
    for _ in 0..arguments.rounds.min(3) {
        let cache = Cache::start(&arguments.cache, folder.path(), limit)?;
        let mut stalled = Vec::new();
        for ticket in cache.tickets(STALLED).await? {
            let mut stream = client::open(&cache.uri, &ticket).await?;
            let _ = stream.try_next().await.map_err(step("read rows"))?;
            stalled.push(stream);
        }
        let tickets = cache.tickets(4).await?;
        for _ in 0..2 {
            client::drain(&cache.uri, &tickets).await?;
        }
        peaks.push(float(cache.worker.peak()?) / float(1 << 20));
    }
    let limits = vec![float(limit) / float(1 << 20); peaks.len()];
    let what = format!("most memory of a worker, {times} times as much data, {STALLED} stalled streams");
    Ok(Figure::of_rounds(what, "MiB", &peaks, &limits, "its limit", Goal::AtMost(1.1)))
}

async fn initializer(arguments: &Arguments, bytes: u64) -> Result<Figure, Error> {
    let folder = tempfile::tempdir().map_err(step("make a folder"))?;
    let server = Server::start(&arguments.s3_server, folder.path(), bytes).await?;
    // The first time, the object comes into the server's memory.
    server.raw().await?;
    let (mut own, mut other) = (Vec::new(), Vec::new());
    for _ in 0..arguments.rounds {
        other.push(float(bytes) / GIGABYTE / server.raw().await?);
        own.push(float(bytes) / GIGABYTE / server.fetched(&arguments.initializer).await?);
    }
    let what = "dataset of one object, to the disk and verified".to_owned();
    Ok(Figure::of_rounds(what, "GB/s", &own, &other, "parallel GET to nowhere", Goal::AtLeast(0.9)))
}
