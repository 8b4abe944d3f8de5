//! The stand-in as a process of its own, for a cluster that somebody looks at by hand:
//!
//! `nsenter --net=/run/netns/NAME standin --kubeconfig FILE --address NODE_ADDRESS`

use std::io::Write;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use trainerd_integration::standin::{Behaviour, Error, Options, StandIn};

/// Plays a node and the controllers' webhook servers for a control plane that has neither.
#[derive(Parser)]
struct Arguments {
    /// Kubeconfig of an administrator
    #[arg(long, env = "KUBECONFIG")]
    kubeconfig: PathBuf,
    /// Address of all pods: of this network namespace, reached by the API server, not a loopback address
    #[arg(long)]
    address: IpAddr,
    /// Milliseconds from a pod's binding to its readiness: N, or N-M for a random time between
    #[arg(long, default_value = "0", value_parser = delay)]
    delay_ms: (Duration, Duration),
    /// The node's CPU in thousandths of a core; pods that ask for more than is left are not scheduled
    #[arg(long, default_value_t = Behaviour::default().cpu_millis)]
    cpu_millis: u64,
}

fn delay(text: &str) -> Result<(Duration, Duration), std::num::ParseIntError> {
    let (least, greatest) = text.split_once('-').unwrap_or((text, text));
    Ok((Duration::from_millis(least.parse()?), Duration::from_millis(greatest.parse()?)))
}

#[tokio::main]
async fn main() -> ExitCode {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let error = run(Arguments::parse()).await;
    tracing::error!(error = &error as &dyn std::error::Error, "the stand-in ended");
    ExitCode::FAILURE
}

async fn run(arguments: Arguments) -> Error {
    let Arguments { kubeconfig, address, delay_ms, cpu_millis } = arguments;
    let behaviour = Behaviour { delay: delay_ms, cpu_millis };
    match StandIn::start(Options { kubeconfig, address, behaviour }).await {
        Ok(mut standin) => {
            // Whoever started this may be gone already, and does not mind then.
            let _ = writeln!(std::io::stdout(), "standin ready on {address}");
            standin.failed().await
        }
        Err(error) => error,
    }
}
