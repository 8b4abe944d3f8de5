//! Exit codes: what a script may rely on.

use std::process::ExitCode;

/// How the process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done.
    Done,
    /// Failed.
    Failed,
    /// `plan` found something to do.
    Pending,
    /// Refused for safety; nothing was changed.
    Refused,
    /// The input is wrong: the command line, an option, a file.
    Input,
    /// The cluster is unreachable, or a permission is missing.
    Cluster,
    /// `--timeout` is over; the journal stays open.
    TimedOut,
    /// Somebody else holds the lease.
    Held,
    /// Broken off by a signal; what was begun is journalled.
    Interrupted,
}

/// Every exit code with its meaning, as help and the reference show them.
pub(crate) const MEANINGS: [(Exit, &str); 9] = [
    (Exit::Done, "done"),
    (Exit::Failed, "failed"),
    (Exit::Pending, "changes are pending (plan only)"),
    (Exit::Refused, "refused for safety, nothing was changed"),
    (Exit::Input, "the command line, an option or a file is wrong"),
    (Exit::Cluster, "the cluster is unreachable, or a permission is missing"),
    (Exit::TimedOut, "timed out waiting (--timeout); the journal stays open"),
    (Exit::Held, "somebody else holds the lease"),
    (Exit::Interrupted, "interrupted; the plan is journalled"),
];

impl Exit {
    /// The number.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Pending => 2,
            Self::Refused => 3,
            Self::Input => 4,
            Self::Cluster => 5,
            Self::TimedOut => 6,
            Self::Held => 7,
            Self::Interrupted => 130,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}
