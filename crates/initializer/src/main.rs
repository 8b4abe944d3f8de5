//! `trainerd-initializer dataset|model`; also run as `dataset-initializer` or `model-initializer`.

use std::io::IsTerminal as _;
use std::path::Path;
use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};
use trainerd_initializer::exit::{self, Class};
use trainerd_initializer::run::{self, Error};
use trainerd_initializer::uri::Kind;
use trainerd_traces::Service;

/// Ended by SIGTERM; what was fetched is kept.
const TERMINATED: u8 = 143;

/// The service that traces are of.
const SERVICE: Service = Service { name: "trainerd-initializer", version: env!("CARGO_PKG_VERSION") };

const USAGE: &str = "\
usage: trainerd-initializer dataset|model

Brings the files of STORAGE_URI to the volume of a TrainJob, or makes a data cache for it. All else is said by
environment variables: docs/how-to/initializers.md.";

fn main() -> ExitCode {
    let kind = match kind(std::env::args().collect()) {
        Ok(kind) => kind,
        Err(code) => return code,
    };
    let filter = std::env::var("RUST_LOG").unwrap_or_else(|_| "info".to_owned());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        .event_format(trainerd_initializer::log::Lines)
        .with_writer(std::io::stderr)
        .init();
    // Two libraries of TLS are in the dependencies; whoever asks for one gets this.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: failed to start: {error}");
            return ExitCode::from(Class::Internal.code());
        }
    };
    let ended = runtime.block_on(async {
        let traces = trainerd_traces::provider_from_env(SERVICE);
        if let Some(provider) = &traces {
            opentelemetry::global::set_tracer_provider(provider.clone());
        }
        let mut terminate = signal(SignalKind::terminate()).ok();
        let terminated = async {
            match &mut terminate {
                Some(terminate) => terminate.recv().await,
                None => std::future::pending().await,
            }
        };
        let lookup = |name: &str| std::env::var(name).ok();
        let ended = tokio::select! {
            done = run::run(kind, &lookup, std::io::stderr().is_terminal()) => Some(done),
            _ = terminated => None,
        };
        if let Some(provider) = traces {
            trainerd_traces::shut_down(provider).await;
        }
        ended
    });
    // Blocking writes that are in progress are let go: they are in no journal.
    runtime.shutdown_background();
    match ended {
        Some(Ok(())) => ExitCode::SUCCESS,
        Some(Err(error)) => {
            failed(&error);
            ExitCode::from(exit::class(&error).code())
        }
        None => {
            tracing::info!("terminated; what was fetched is kept, and another attempt goes on from there");
            ExitCode::from(TERMINATED)
        }
    }
}

fn kind(arguments: Vec<String>) -> Result<Kind, ExitCode> {
    let mut arguments = arguments.into_iter();
    let program = arguments.next().unwrap_or_default();
    let name = Path::new(&program).file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let first = arguments.next();
    match (name, first.as_deref()) {
        (_, Some("--version" | "-V")) => {
            println!("trainerd-initializer {}", env!("CARGO_PKG_VERSION"));
            Err(ExitCode::SUCCESS)
        }
        (_, Some("--help" | "-h")) => {
            println!("{USAGE}");
            Err(ExitCode::SUCCESS)
        }
        ("dataset-initializer", None) | (_, Some("dataset")) => Ok(Kind::Dataset),
        ("model-initializer", None) | (_, Some("model")) => Ok(Kind::Model),
        (_, other) => {
            match other {
                Some(other) => eprintln!("error: unknown argument {other:?}\n\n{USAGE}"),
                None => eprintln!("error: dataset or model must be named\n\n{USAGE}"),
            }
            Err(ExitCode::from(Class::Invalid.code()))
        }
    }
}

/// Tells a failure in the log, and to the kubelet, which shows it as the reason of the pod.
fn failed(error: &Error) {
    let text = exit::told(error);
    tracing::error!("{text}");
    let termination = Path::new("/dev/termination-log");
    if termination.exists() {
        // Where it cannot be written, the log has it.
        let _ = std::fs::write(termination, format!("{text}\n"));
    }
}
