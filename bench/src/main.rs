//! The figures that trainerd promises, measured in one run against one real API server, next
//! to what a bare client and kubectl take there. `cargo xtask bench` brings up that server and runs this.

mod audit;
mod clock;
mod contender;
mod error;
mod figure;
mod load;
mod section;
mod world;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use serde::Serialize;
use trainerd_causes::texts;

use audit::{AuditLog, Requests};
use error::Error;
use figure::Figure;
use world::{OWN, World, connect};

#[derive(Parser)]
#[command(about = "Measures trainerd's figures against one cluster, which it fills with its objects")]
struct Arguments {
    /// Kubeconfig of an administrator of a cluster that nobody else uses, and that nobody misses
    #[arg(long, value_name = "FILE", env = "KUBECONFIG")]
    kubeconfig: PathBuf,
    /// Audit log of its API server: level Metadata, mode blocking
    #[arg(long, value_name = "FILE")]
    audit_log: PathBuf,
    /// kubectl, of the API server's version
    #[arg(long, value_name = "FILE")]
    kubectl: PathBuf,
    /// The product's binary, to measure its memory
    #[arg(long, value_name = "FILE")]
    trainerd: Option<PathBuf>,
    /// Upstream's controller manager, which the native reconciler is measured beside
    #[arg(long, value_name = "FILE")]
    manager: Option<PathBuf>,
    /// TrainJobs of that comparison
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u16).range(1..=5000))]
    train_jobs: u16,
    /// Seconds for which the daemon is left alone
    #[arg(long, default_value_t = 300)]
    idle: u64,
    /// Rounds of the figures that are compared
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=99))]
    rounds: u32,
    /// Only these sections; `memory` needs `stack` before it
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Section>,
    /// How to print the figures
    #[arg(short, long, value_enum, default_value_t = Output::Markdown)]
    output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Section {
    /// 500 changed objects, and a change undone (figures 4 and 13)
    Change,
    /// 50 MB of manifests (figure 7)
    Large,
    /// Planning 500 and 5,000 objects
    Plan,
    /// 200 Deployments that become ready (figure 8)
    Readiness,
    /// Revisions of the stack (figure 7), and planning it
    Stack,
    /// Memory of the product's binary
    Memory,
    /// A daemon: idle, restarted, and put to work (figures 1, 2, 3 and 12)
    Daemon,
    /// The native reconciler beside upstream's controller manager (`--manager`)
    Reconciler,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Output {
    Markdown,
    Json,
}

/// All that was measured.
#[derive(Debug, Serialize)]
struct Report {
    /// Version of the API server.
    kubernetes: String,
    /// How the bench, and the engine in it, was compiled.
    profile: &'static str,
    rounds: u32,
    figures: Vec<Figure>,
    /// What the engine's requests were, in the last round of each of its figures.
    requests: BTreeMap<String, Requests>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&Error::io("start the runtime")(error)),
    };
    let output = arguments.output;
    match runtime.block_on(measure(arguments)) {
        Ok(report) => print(&report, output),
        Err(error) => failed(&error),
    }
}

async fn measure(arguments: Arguments) -> Result<Report, Error> {
    let own = connect(&arguments.kubeconfig, OWN).await?;
    let folder = tempfile::tempdir().map_err(Error::io("make a folder"))?;
    let mut report = Report {
        kubernetes: own.version().await.map_err(Error::Connect)?.git_version().to_owned(),
        profile: if cfg!(debug_assertions) { "dev" } else { "release" },
        rounds: arguments.rounds,
        figures: Vec::new(),
        requests: BTreeMap::new(),
    };
    let world = World {
        kubeconfig: arguments.kubeconfig,
        audit: AuditLog::new(arguments.audit_log),
        kubectl: arguments.kubectl,
        trainerd: arguments.trainerd,
        folder: folder.path().to_owned(),
        own,
    };
    let wanted = |section| arguments.only.is_empty() || arguments.only.contains(&section);
    if wanted(Section::Change) {
        section::change::measure(&world, arguments.rounds, &mut report).await?;
    }
    if wanted(Section::Large) {
        section::revision::measure(&world, &mut report).await?;
    }
    if wanted(Section::Plan) {
        section::plan::measure(&world, &mut report).await?;
    }
    if wanted(Section::Readiness) {
        section::readiness::measure(&world, &mut report).await?;
    }
    // Last, for its webhook configurations have nobody behind them.
    if wanted(Section::Stack) {
        section::stack::measure(&world, &mut report).await?;
    }
    if wanted(Section::Memory)
        && let Some(trainerd) = &world.trainerd
    {
        section::memory::measure(&world, trainerd, &mut report)?;
    }
    if wanted(Section::Daemon) {
        section::daemon::measure(Duration::from_secs(arguments.idle), &mut report)?;
    }
    if wanted(Section::Reconciler)
        && let Some(manager) = &arguments.manager
    {
        let jobs = arguments.train_jobs.into();
        section::reconciler::measure(manager, jobs, arguments.rounds, &mut report)?;
    }
    Ok(report)
}

fn print(report: &Report, output: Output) -> ExitCode {
    let text = match output {
        Output::Json => match serde_json::to_string_pretty(report) {
            Ok(text) => text + "\n",
            Err(error) => return failed(&Error::io("print the figures")(error.into())),
        },
        Output::Markdown => markdown(report),
    };
    // A reader that went away is no failure.
    let _ = std::io::stdout().write_all(text.as_bytes());
    ExitCode::SUCCESS
}

fn markdown(report: &Report) -> String {
    let Report { kubernetes, profile, rounds, .. } = report;
    let mut text = format!(
        "Kubernetes {kubernetes}, {profile} build, {rounds} rounds interleaved. Ratios are medians of the rounds' \
         ratios; requests are counted in the API server's audit log.\n\n"
    );
    text += &figure::markdown(&report.figures);
    text += "\nRequests of trainerd:\n\n";
    let lines = report.requests.iter().map(|(what, Requests(requests))| {
        let list: Vec<String> =
            requests.iter().map(|(request, count)| format!("{count} {request}")).collect();
        format!("* {what}: {}\n", list.join(", "))
    });
    text.extend(lines);
    text
}

/// Tells what is being measured.
fn print_progress(message: impl std::fmt::Display) {
    let _ = writeln!(std::io::stderr(), "{message}");
}

fn failed(error: &Error) -> ExitCode {
    print_progress(format_args!("error: {}", texts(error).join("\n  because: ")));
    ExitCode::FAILURE
}
