//! The charm: what Juju runs for every hook and action.
//!
//! Thin: it maintains the Pebble layer, sends the desired state to the daemon, reads the status once, writes relation
//! data and sets the unit's status. The daemon does everything that takes long; a later hook shows its result.

/// Writes a line to stderr, which Juju logs as a warning. Errors are ignored.
macro_rules! warn_of {
    ($($text:tt)*) => {{
        use std::io::Write as _;
        drop(writeln!(std::io::stderr(), $($text)*));
    }};
}

/// Writes a line to stdout, which Juju logs as a debug message.
macro_rules! debug_of {
    ($($text:tt)*) => {{
        use std::io::Write as _;
        drop(writeln!(std::io::stdout(), $($text)*));
    }};
}

mod actions;
mod command_line;
mod daemon;
mod dispatch;
mod handlers;
mod options;
mod relations;
mod standalone;

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::process::ExitCode;

use futures::FutureExt as _;
use tokio::signal::unix::{SignalKind, signal};
use trainerd_juju::environment::{Environment, EnvironmentError};
use trainerd_juju::hook::Hook;
use trainerd_juju::status::Reason;
use trainerd_juju::tools::Tools;

use self::dispatch::Dispatch;

/// Exit code where the environment is not that of a hook; in a hook it is always 0, or Juju would stop the unit.
const NOT_A_HOOK: u8 = 2;

/// Whether this process is to run a hook: `JUJU_DISPATCH_PATH` is set, or the command is `charm dispatch`.
pub(crate) fn is_dispatched() -> bool {
    let mut arguments = std::env::args().skip(1);
    let is_explicit =
        arguments.next().as_deref() == Some("charm") && arguments.next().as_deref() == Some("dispatch");
    is_explicit || std::env::var_os("JUJU_DISPATCH_PATH").is_some_and(|path| !path.is_empty())
}

/// Runs the hook of this process.
pub(crate) fn main() -> ExitCode {
    let environment = match Environment::parse(|name| std::env::var(name).ok()) {
        Ok(environment) => environment,
        Err(error @ (EnvironmentError::Missing(_) | EnvironmentError::Unit(_))) => {
            warn_of!("error: {error}");
            return ExitCode::from(NOT_A_HOOK);
        }
    };
    // A newer Juju may have hooks that this charm does not know.
    if environment.hook == Hook::Other {
        return ExitCode::SUCCESS;
    }
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            warn_of!("error: failed to start: {error}");
            return ExitCode::SUCCESS;
        }
    };
    let signalled = runtime.block_on(run(environment));
    runtime.shutdown_background();
    if signalled {
        terminate_by_signal();
    }
    ExitCode::SUCCESS
}

/// Runs the hook; whether SIGTERM ended it early.
async fn run(environment: Environment) -> bool {
    let application = environment.unit.application.clone();
    let is_action = matches!(environment.hook, Hook::Action(_));
    let mut terminated = match signal(SignalKind::terminate()) {
        Ok(terminated) => terminated,
        Err(error) => {
            warn_of!("error: failed to listen for signals: {error}");
            return false;
        }
    };
    tokio::select! {
        completed = completes(Dispatch::new(environment).run()) => {
            if !completed {
                // The state of the hook is not to be trusted any more; the status can still be set.
                let tools = Tools::default();
                let result = if is_action {
                    tools.fail_action(&Reason::Panic.message(&application)).await
                } else {
                    tools.set_status(false, &Reason::Panic.status(&application)).await
                };
                if let Err(error) = result {
                    warn_of!("error: {error}");
                }
            }
            false
        }
        _ = terminated.recv() => true,
    }
}

/// Runs a hook; false if it panics.
async fn completes(work: impl Future<Output = ()>) -> bool {
    AssertUnwindSafe(work).catch_unwind().await.is_ok()
}

/// Ends by SIGTERM's default action: Juju then reports a termination rather than a failed hook, and discards what the
/// hook wrote to databags.
fn terminate_by_signal() {
    if let Err(error) = signal_hook::low_level::emulate_default_handler(signal_hook::consts::SIGTERM) {
        warn_of!("error: failed to end by SIGTERM: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_ends_the_work_and_not_the_hook() {
        assert!(completes(async {}).await);
        assert!(!completes(async { panic!("on purpose") }).await);
        // Release builds have to unwind for this, too.
        let manifest = include_str!("../../Cargo.toml");
        assert!(!manifest.contains("panic = \"abort\""));
    }
}
