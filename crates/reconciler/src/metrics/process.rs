//! What the system knows of this process: `process_*`.

use std::fs;

use trainerd_serve::Metrics;
use trainerd_serve::metrics::{Counter, Definition, Gauge, MetricsError, Unit};

const CPU: Definition<Counter, 0> =
    Definition::counter("process_cpu_seconds", "User and system time", []).unit(Unit::Seconds);
const OPEN_FILES: Definition<Gauge, 0> = Definition::gauge("process_open_fds", "Open file descriptors", []);
const MAX_FILES: Definition<Gauge, 0> =
    Definition::gauge("process_max_fds", "Most open file descriptors", []);
const VIRTUAL: Definition<Gauge, 0> =
    Definition::gauge("process_virtual_memory_bytes", "Virtual memory", []).unit(Unit::Bytes);
const RESIDENT: Definition<Gauge, 0> =
    Definition::gauge("process_resident_memory_bytes", "Resident memory", []).unit(Unit::Bytes);
const START: Definition<Gauge, 0> =
    Definition::gauge("process_start_time_seconds", "Start of the process since 1970", [])
        .unit(Unit::Seconds);

/// The kernel counts in these, whatever its own tick is.
const TICKS_A_SECOND: f64 = 100.0;

pub(super) fn register(metrics: &Metrics) -> Result<(), MetricsError> {
    let value = |value: Option<f64>| value.map(|value| vec![([], value)]).unwrap_or_default();
    metrics.compute(&CPU, move || value(stat().map(|stat| (stat.user + stat.system) / TICKS_A_SECOND)))?;
    metrics.compute(&OPEN_FILES, move || value(open_files()))?;
    metrics.compute(&MAX_FILES, move || value(max_files()))?;
    metrics.compute(&VIRTUAL, move || value(status("VmSize:")))?;
    metrics.compute(&RESIDENT, move || value(status("VmRSS:")))?;
    metrics.compute(&START, move || {
        value(stat().zip(boot_time()).map(|(stat, boot)| boot + stat.start / TICKS_A_SECOND))
    })
}

/// Numbers of `/proc/self/stat`, in ticks.
struct Stat {
    user: f64,
    system: f64,
    start: f64,
}

fn stat() -> Option<Stat> {
    let text = fs::read_to_string("/proc/self/stat").ok()?;
    // The command, in parentheses, may hold spaces and parentheses.
    let (_, fields) = text.rsplit_once(')')?;
    let field = |at: usize| fields.split_ascii_whitespace().nth(at)?.parse().ok();
    Some(Stat { user: field(11)?, system: field(12)?, start: field(19)? })
}

/// A size of `/proc/self/status`, in bytes.
fn status(name: &str) -> Option<f64> {
    let text = fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kilobytes: f64 = line.split_ascii_whitespace().next()?.parse().ok()?;
    Some(kilobytes * 1024.0)
}

fn boot_time() -> Option<f64> {
    let text = fs::read_to_string("/proc/stat").ok()?;
    text.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

#[expect(clippy::cast_precision_loss, reason = "nobody has 2^53 files open")]
fn open_files() -> Option<f64> {
    Some(fs::read_dir("/proc/self/fd").ok()?.count() as f64)
}

fn max_files() -> Option<f64> {
    let text = fs::read_to_string("/proc/self/limits").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn process_metrics_are_read_from_the_system() {
        let metrics = Metrics::new();
        register(&metrics).unwrap();
        let text = metrics.encode().unwrap();
        for name in [
            "process_cpu_seconds_total",
            "process_open_fds",
            "process_max_fds",
            "process_virtual_memory_bytes",
            "process_resident_memory_bytes",
            "process_start_time_seconds",
        ] {
            let value = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
            assert!(value.trim().parse::<f64>().is_ok_and(|value| value >= 0.0), "{name}: {text}");
        }
    }
}
