//! The charm: what Juju runs for every hook and action.
//!
//! Thin: it keeps the Pebble layer right, tells the daemon what shall be, asks once how it is, writes relation data and
//! sets the status. Whatever takes long the daemon does, and a later hook shows.

/// Writes a line to stderr, of which Juju makes a warning. Where nobody reads it, nothing fails.
macro_rules! warn_of {
    ($($text:tt)*) => {{
        use std::io::Write as _;
        drop(writeln!(std::io::stderr(), $($text)*));
    }};
}

/// The same to stdout, of which Juju makes a debug message.
macro_rules! debug_of {
    ($($text:tt)*) => {{
        use std::io::Write as _;
        drop(writeln!(std::io::stdout(), $($text)*));
    }};
}

mod actions;
mod command_line;
mod course;
mod daemon;
mod dispatch;
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

/// Whether Juju runs this process: `JUJU_DISPATCH_PATH` says so, or somebody who wants to know what it would do.
pub(crate) fn is_dispatched() -> bool {
    let mut words = std::env::args().skip(1);
    let asked = words.next().as_deref() == Some("charm") && words.next().as_deref() == Some("dispatch");
    asked || std::env::var_os("JUJU_DISPATCH_PATH").is_some_and(|path| !path.is_empty())
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
    // Juju may run hooks that this charm was written before.
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
        die_by_signal();
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
        came_through = comes_through(Dispatch::new(environment).run()) => {
            if !came_through {
                // What is left of the hook is not to be trusted; the status can be set by itself.
                let tools = Tools::default();
                let told = if is_action {
                    tools.fail_action(&Reason::Panic.message(&application)).await
                } else {
                    tools.set_status(false, &Reason::Panic.shown(&application)).await
                };
                if let Err(error) = told {
                    warn_of!("error: {error}");
                }
            }
            false
        }
        _ = terminated.recv() => true,
    }
}

/// Whether a hook comes to its end; one that panics does not.
async fn comes_through(work: impl Future<Output = ()>) -> bool {
    AssertUnwindSafe(work).catch_unwind().await.is_ok()
}

/// Ends as a process does that does not listen: Juju then reports a termination, not a hook that failed, and writes none
/// of the hook's databags.
fn die_by_signal() {
    if let Err(error) = signal_hook::low_level::emulate_default_handler(signal_hook::consts::SIGTERM) {
        warn_of!("error: failed to end by SIGTERM: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_ends_the_work_and_not_the_hook() {
        assert!(comes_through(async {}).await);
        assert!(!comes_through(async { panic!("on purpose") }).await);
        // What is caught has to unwind in what users run, too.
        let manifest = include_str!("../../Cargo.toml");
        assert!(!manifest.contains("panic = \"abort\""));
    }
}
