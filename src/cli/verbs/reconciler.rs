//! `reconciler`: the Trainer controller, also under its usual name `manager`.

use std::error::Error;
use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use clap::Args;
use tokio::signal::unix::{Signal, SignalKind, signal};
use trainerd_reconciler::flags::{FlagsError, USAGE};
use trainerd_reconciler::{Environment, Flags, log};

/// Exit code of Go's flag package for a command line that it cannot read.
const BAD_FLAGS: u8 = 2;

/// Run the Trainer controller in place of Kubeflow's controller manager
///
/// A drop-in replacement for Kubeflow Trainer's controller manager, with the same flags and configuration file: it
/// reconciles TrainJobs with JobSets, validates TrainJobs and runtimes with webhooks, maintains the certificate of the
/// webhooks, and serves probes and metrics. Flags have Go's syntax, with one dash or two. A copy of the program with
/// the name `manager` behaves the same.
#[derive(Clone, Debug, Args)]
#[command(
    disable_help_flag = true,
    after_help = "\
Examples:
  trainerd reconciler --config=/controller_manager_config.yaml --zap-log-level=2
  trainerd reconciler --feature-gates=TrainJobStatus=true --kubeconfig ~/.kube/config
  trainerd reconciler --help                        its flags

Exit codes: 0 stopped by a signal, 1 failed, 2 unknown flag."
)]
pub(crate) struct ReconcilerArgs {
    /// Flags of the manager
    #[arg(value_name = "FLAG", trailing_var_arg = true, allow_hyphen_values = true)]
    flags: Vec<String>,
}

/// The flags among a command line, where it starts the reconciler: as `trainerd reconciler ...` or under the name
/// `manager`. They are not for the parser of the other verbs, whose flags have other meanings.
pub(crate) fn flags(arguments: &[OsString]) -> Option<&[OsString]> {
    let (program, rest) = arguments.split_first()?;
    if Path::new(program).file_name().is_some_and(|name| name == "manager") {
        return Some(rest);
    }
    let (verb, rest) = rest.split_first()?;
    (verb == "reconciler").then_some(rest)
}

/// Runs the verb until a signal ends it.
pub(crate) fn run(arguments: &[OsString]) -> ExitCode {
    let words = arguments.iter().map(|word| word.to_string_lossy());
    let flags = match Flags::parse(words) {
        Ok(flags) => flags,
        Err(FlagsError::Help) => {
            say(USAGE);
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            say(&format!("{error}\n{USAGE}"));
            return ExitCode::from(BAD_FLAGS);
        }
    };
    // A second subscriber in the same process is refused; there is none.
    let _ = tracing::subscriber::set_global_default(log::subscriber(flags.log));
    match start(&flags) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let error: &dyn Error = &*error;
            tracing::error!(error, "the manager ended");
            ExitCode::FAILURE
        }
    }
}

/// What Go's flag package prints, it prints to stderr.
fn say(text: &str) {
    use std::io::Write as _;
    // Without stderr, errors cannot be reported.
    let _ = std::io::stderr().write_all(text.as_bytes());
}

fn start(flags: &Flags) -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let ended = runtime.block_on(async {
        let stop = ended(signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        trainerd_reconciler::run(flags, Environment::of_this_process(), stop).await?;
        Ok(())
    });
    runtime.shutdown_background();
    ended
}

/// Done at the first signal; the second ends the process at once.
async fn ended(mut interrupt: Signal, mut terminate: Signal) {
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        std::process::exit(1);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reconciler_has_two_names() {
        let words = |line: &str| line.split(' ').map(OsString::from).collect::<Vec<_>>();
        for line in ["trainerd reconciler --config x", "/manager --config x", "manager --config x"] {
            assert_eq!(flags(&words(line)), Some(&words("--config x")[..]), "{line}");
        }
        for line in ["trainerd", "trainerd daemon --config x", "trainerd status reconciler"] {
            assert_eq!(flags(&words(line)), None, "{line}");
        }
    }
}
