//! No process outlives its supervisor, however that ends.
//!
//! The system sends a signal to a process when its parent is gone (`PR_SET_PDEATHSIG`), but the process has to ask for it
//! itself. So the supervisor's program is started once more with a command line that only [`Guard::enter`] reads; it asks
//! for SIGKILL, and then becomes the program that is meant, which keeps that.

use std::convert::Infallible;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;

use rustix::process::{Signal, getppid, set_parent_process_death_signal};

/// The first argument of a command line that is a guard's.
const GUARD_ARGUMENT: &str = "hosted-process";

/// A program that calls [`Guard::enter`] first of all.
#[derive(Clone, Debug)]
pub struct Guard {
    program: PathBuf,
    arguments: Vec<OsString>,
}

/// Why a guard did not become what it was to be.
#[derive(Debug, thiserror::Error)]
pub enum GuardError {
    /// A command line that no supervisor makes.
    #[error(
        "failed to read the command line of a hosted process: PARENT NAME PROGRAM [ARGUMENT...] is expected"
    )]
    CommandLine,
    /// The system does not know the signal.
    #[error("failed to ask for a signal at the end of the supervisor")]
    Ask(#[source] io::Error),
    /// The supervisor has ended already.
    #[error("failed to find the supervisor, process {0}: it has ended")]
    Orphan(i32),
    /// The program cannot be run.
    #[error("failed to run {}", program.display())]
    Run {
        /// The program.
        program: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Guard {
    /// The program of this process. The path leads to the file that it was started from, whatever has taken its place.
    pub fn of_this_program() -> Self {
        Self { program: PathBuf::from("/proc/self/exe"), arguments: Vec::new() }
    }

    /// The same, with arguments before those that [`Guard::enter`] is given.
    #[must_use]
    pub fn with_arguments<A: Into<OsString>>(self, arguments: impl IntoIterator<Item = A>) -> Self {
        Self { arguments: arguments.into_iter().map(Into::into).collect(), ..self }
    }

    /// A command line that runs a program, called `name` among the processes, under this guard.
    pub(crate) fn command(&self, program: &OsStr, name: &OsStr) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(&self.arguments)
            .arg(GUARD_ARGUMENT)
            .arg(std::process::id().to_string())
            .arg(name)
            .arg(program);
        command
    }

    /// Whether a command line, the program's name not among it, is a guard's.
    pub fn is_guard(arguments: &[OsString]) -> bool {
        arguments.first().is_some_and(|verb| verb == GUARD_ARGUMENT)
    }

    /// Becomes the program that a guard's command line names; returns only where it cannot.
    pub fn enter(arguments: &[OsString]) -> Result<Infallible, GuardError> {
        let [_, parent, name, program, rest @ ..] = arguments else { return Err(GuardError::CommandLine) };
        let parent: i32 =
            parent.to_str().and_then(|text| text.parse().ok()).ok_or(GuardError::CommandLine)?;
        set_parent_process_death_signal(Some(Signal::KILL)).map_err(|error| GuardError::Ask(error.into()))?;
        // It may have ended before that, and then nobody sends anything.
        if getppid().map(|pid| pid.as_raw_nonzero().get()) != Some(parent) {
            return Err(GuardError::Orphan(parent));
        }
        let source = Command::new(program).arg0(name).args(rest).exec();
        Err(GuardError::Run { program: program.into(), source })
    }
}
