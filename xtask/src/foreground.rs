//! Running a program in sight of the person at the terminal, who may end it with Ctrl-C.

use std::io::{self, BufRead as _, BufReader, Read, Write as _};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Time between two looks at a running program.
const INTERVAL: Duration = Duration::from_millis(50);
/// How long a program that was told to end may take for it, before it is killed.
const TERMINATE_TIMEOUT: Duration = Duration::from_secs(20);

static INTERRUPTED: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// A program that could not be run, or that failed. What it said has been seen already.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The signal handler could not be set.
    #[error("failed to watch for signals")]
    Signals(#[source] io::Error),
    /// The program is not there, or may not be run.
    #[error("failed to run {program}")]
    Start {
        /// The program's name or path.
        program: String,
        /// What the system said.
        source: io::Error,
    },
    /// The program ended with an error.
    #[error("failed: {command} ({status})")]
    Failed {
        /// The command line.
        command: String,
        /// How it ended.
        status: ExitStatus,
    },
    /// Someone pressed Ctrl-C, or a signal asked for the end.
    #[error("interrupted")]
    Interrupted,
}

/// From now on SIGINT and SIGTERM do not end this process but end what it runs, with [`Error::Interrupted`],
/// so that a verb can clear up.
pub fn watch_signals() -> Result<(), Error> {
    let flag = INTERRUPTED.get_or_init(Arc::default);
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(flag)).map_err(Error::Signals)?;
    }
    Ok(())
}

/// Fails once a signal came.
pub fn check_interrupted() -> Result<(), Error> {
    match INTERRUPTED.get() {
        Some(flag) if flag.load(Ordering::Relaxed) => Err(Error::Interrupted),
        _ => Ok(()),
    }
}

/// Runs a command to its end; what it writes goes where this process's output goes.
pub fn run(command: &mut Command) -> Result<(), Error> {
    let mut child = command.stdin(Stdio::null()).spawn().map_err(|source| start_error(command, source))?;
    let status = wait(&mut child).map_err(|source| start_error(command, source))?;
    check_status(command, status)
}

/// Runs a command to its end and returns how it ended and what it wrote to stdout, which may be `shown`
/// meanwhile. Its stderr is always shown.
pub fn run_piped(command: &mut Command, shown: bool) -> Result<(ExitStatus, String), Error> {
    run_piped_showing(command, move |_| shown)
}

/// As [`run_piped`]; `show` chooses the lines that are shown.
pub fn run_piped_showing(
    command: &mut Command,
    show: impl FnMut(&str) -> bool + Send + 'static,
) -> Result<(ExitStatus, String), Error> {
    let failed = |command: &Command, source| start_error(command, source);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|source| failed(command, source))?;
    let pipe = child.stdout.take();
    let reader = thread::spawn(move || pipe.map(|pipe| copy(pipe, show)).transpose());
    let status = wait(&mut child).map_err(|source| failed(command, source))?;
    let read = reader.join().unwrap_or_else(|_| Err(io::Error::other("the reading thread ended early")));
    let bytes = read.map_err(|source| failed(command, source))?.unwrap_or_default();
    check_interrupted()?;
    Ok((status, String::from_utf8_lossy(&bytes).into_owned()))
}

/// Runs a command that must succeed and returns what it wrote to stdout; its stderr is shown meanwhile.
pub fn run_for_data(command: &mut Command) -> Result<String, Error> {
    let (status, data) = run_piped(command, false)?;
    check_status(command, status).map(|()| data)
}

fn copy(pipe: impl Read, mut show: impl FnMut(&str) -> bool) -> io::Result<Vec<u8>> {
    let mut pipe = BufReader::new(pipe);
    let mut all = Vec::new();
    loop {
        let from = all.len();
        if pipe.read_until(b'\n', &mut all)? == 0 {
            return Ok(all);
        }
        if show(&String::from_utf8_lossy(&all[from..])) {
            // A closed terminal is no reason to stop.
            let mut out = io::stdout();
            let _ = out.write_all(&all[from..]).and_then(|()| out.flush());
        }
    }
}

/// Waits for a program's end. After a signal it is told to end too: Ctrl-C reaches it anyway, but a signal
/// to this process alone would not.
fn wait(child: &mut Child) -> io::Result<ExitStatus> {
    let mut told: Option<Instant> = None;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        match told {
            None if check_interrupted().is_err() => {
                if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
                    // It may have ended by itself meanwhile.
                    let _ = kill_process(pid, Signal::TERM);
                }
                told = Some(Instant::now());
            }
            Some(since) if since.elapsed() > TERMINATE_TIMEOUT => child.kill()?,
            _ => {}
        }
        sleep(INTERVAL);
    }
}

fn check_status(command: &Command, status: ExitStatus) -> Result<(), Error> {
    check_interrupted()?;
    if status.success() {
        return Ok(());
    }
    Err(Error::Failed { command: line_of(command), status })
}

fn start_error(command: &Command, source: io::Error) -> Error {
    Error::Start { program: command.get_program().to_string_lossy().into_owned(), source }
}

/// A command line as a person would type it: the program without its folders, then its arguments.
pub fn line_of(command: &Command) -> String {
    let program = std::path::Path::new(command.get_program());
    let name = program.file_name().unwrap_or(command.get_program());
    let words = std::iter::once(name).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_failure_names_the_command_and_its_status() {
        run(&mut sh("exit 0")).unwrap();
        let error = run(&mut sh("exit 3")).unwrap_err().to_string();
        assert!(error.contains("sh -c exit 3") && error.contains("exit status: 3"), "{error}");
        assert!(matches!(run(&mut Command::new("no-such-program-here")), Err(Error::Start { .. })));
    }

    #[test]
    fn the_output_of_a_successful_program_is_returned() {
        assert_eq!(run_for_data(&mut sh("echo data; echo text >&2")).unwrap(), "data\n");
        assert!(matches!(run_for_data(&mut sh("echo data; exit 1")), Err(Error::Failed { .. })));
    }

    #[test]
    fn the_output_of_a_failed_program_can_be_kept() {
        let (status, text) = run_piped(&mut sh("echo before the end; exit 2"), false).unwrap();
        assert_eq!((status.code(), text.as_str()), (Some(2), "before the end\n"));
    }
}
