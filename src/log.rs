//! The log of this process: to stderr, at a level that may change while it runs.

use std::io::IsTerminal as _;
use std::sync::OnceLock;

use tracing_subscriber::EnvFilter;

/// Changes the filter.
type Change = Box<dyn Fn(EnvFilter) + Send + Sync>;

/// What changes it. Absent where somebody else chose it: by `RUST_LOG`, or by the command line.
static CHANGE: OnceLock<Change> = OnceLock::new();

/// What sets the log level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogLevelSource {
    /// The option of a daemon, which may change.
    Daemon,
    /// The command line or the environment, once and for all.
    Fixed,
}

/// Begins to log. `RUST_LOG` counts more than `level`.
pub(crate) fn begin(source: LogLevelSource, level: &str, colors: bool, json: bool) {
    let from_environment = EnvFilter::try_from_default_env().ok();
    let may_change = source == LogLevelSource::Daemon && from_environment.is_none();
    let filter = from_environment.unwrap_or_else(|| EnvFilter::new(level));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // Colours in a file are noise; NO_COLOR is heeded besides.
    let is_terminal = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let log = log.with_ansi(is_terminal && colors);
    // A second subscriber in the same process is refused; there is none. Whoever reads documents reads the log as
    // documents too: one a line.
    let change: Option<Change> = if json {
        let log = log.json().flatten_event(true).with_filter_reloading();
        let handle = log.reload_handle();
        log.try_init().ok().map(|()| Box::new(move |filter| drop(handle.reload(filter))) as Change)
    } else {
        let log = log.with_filter_reloading();
        let handle = log.reload_handle();
        log.try_init().ok().map(|()| Box::new(move |filter| drop(handle.reload(filter))) as Change)
    };
    if let (true, Some(change)) = (may_change, change) {
        // Nobody else sets it.
        let _ = CHANGE.set(change);
    }
}

/// Logs as much as the option `log-level` says from now on, where nobody said otherwise.
pub(crate) fn set_level(level: &str) {
    if let Some(change) = CHANGE.get() {
        change(EnvFilter::new(of_daemon(level)));
    }
}

/// The filter for a value of the option: kube's client repeats what our own errors say, and other crates' details help
/// only who looks for a fault of theirs.
pub(crate) fn of_daemon(level: &str) -> String {
    let others = match level {
        "error" => "error",
        "trace" => "info",
        _ => "warn",
    };
    format!("{others},kube_client=off,trainerd={level},trainerd_engine={level},trainerd_cluster={level}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_level_is_a_filter() {
        for level in ["error", "warn", "info", "debug", "trace"] {
            let filter = EnvFilter::try_new(of_daemon(level)).unwrap();
            assert_eq!(filter.max_level_hint().unwrap().to_string(), level, "{filter}");
        }
    }
}
