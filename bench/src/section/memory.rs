//! The most memory that the product's binary holds at once.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::error::Error;
use crate::figure::{Figure, Unit, number};
use crate::section::stack::installation;
use crate::world::World;
use crate::{Report, print_progress};

/// Pause between two looks. The kernel keeps the peak itself, so that only what a process grew in its last
/// such moment is missed.
const SAMPLE_INTERVAL: Duration = Duration::from_micros(500);

/// Measures `render` and `plan` of the stack; the plan is at what [`super::stack`] installed.
pub(crate) fn measure(world: &World, trainerd: &Path, report: &mut Report) -> Result<(), Error> {
    print_progress("memory of the product's binary");
    for verb in ["render", "plan"] {
        let mut peaks = Vec::new();
        for _ in 0..3 {
            let mut command = Command::new(trainerd);
            let installation = installation();
            command
                .args([verb, "--namespace", &installation.namespace, "--name", &installation.name])
                .arg("--kubeconfig")
                .arg(&world.kubeconfig);
            peaks.push(number(peak(command)?));
        }
        let what = format!("trainerd {verb} of the stack, peak resident memory");
        report.figures.push(Figure::new("memory", what, Unit::Bytes, &peaks));
    }
    Ok(())
}

/// Runs a command to its end; bytes of its greatest resident set. Exit code 2 says that changes are pending.
fn peak(mut command: Command) -> Result<u64, Error> {
    let line = format!("{command:?}");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(Error::io(format!("run {line}")))?;
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    while child.try_wait().map_err(Error::io(format!("wait for {line}")))?.is_none() {
        // A process that has ended and was not waited for has no memory left to tell of.
        peak = peak.max(std::fs::read_to_string(&status).ok().as_deref().and_then(high_water).unwrap_or(0));
        std::thread::sleep(SAMPLE_INTERVAL);
    }
    let output = child.wait_with_output().map_err(Error::io(format!("wait for {line}")))?;
    if matches!(output.status.code(), Some(0 | 2)) {
        return Ok(peak);
    }
    Err(Error::Program {
        command: line,
        status: output.status,
        stderr: String::from_utf8_lossy(&output.stderr).trim_end().to_owned(),
    })
}

/// `VmHWM:     12345 kB` of a process's status, in bytes.
fn high_water(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_high_water_mark_is_read_in_bytes() {
        assert_eq!(high_water("Name:\tx\nVmHWM:\t   12345 kB\nVmRSS:\t 1 kB\n"), Some(12_641_280));
        assert_eq!(high_water("Name:\tx\n"), None);
    }

    #[test]
    fn the_peak_of_a_process_is_seen() {
        // Fills 30 MB and lets them go again before it ends.
        let mut command = Command::new("sh");
        command.args(["-c", "x=$(head -c 30000000 /dev/zero | tr '\\0' a); x=; sleep 0.2"]);
        let peak = peak(command).unwrap();
        assert!(peak > 30_000_000, "{peak}");
    }
}
