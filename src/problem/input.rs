//! What is wrong with what was given on the command line, beyond its grammar.

use std::io;
use std::path::PathBuf;

use super::Problem;
use crate::problem::Exit;

/// What is wrong with the input.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InputError {
    /// A file of options that cannot be read.
    #[error("failed to read {}", .path.display())]
    ReadFile {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A daemon that is to follow standard input, which ends.
    #[error("a daemon cannot watch standard input")]
    FollowStdin,
    /// The ConfigMap that a daemon is to follow does not exist.
    #[error("failed to find the ConfigMap {namespace}/{name}")]
    NoConfigMap {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// `bootstrap` for an installation that is called as the daemon's own is.
    #[error("a daemon cannot manage an installation called trainerd")]
    NameOfDaemon,
    /// An entry of `TRAINERD_SET` that is no assignment.
    #[error("invalid entry {entry:?} in TRAINERD_SET")]
    EnvironmentSet {
        /// The entry.
        entry: String,
    },
    /// `--to` or an argument names a component that there is not.
    #[error("unknown component {name}")]
    UnknownComponent {
        /// The name.
        name: String,
        /// What there is.
        known: Vec<String>,
    },
    /// `--to` names a component that has no version of its own to choose.
    #[error("the version of {name} cannot be chosen")]
    NotChosen {
        /// The component.
        name: String,
    },
    /// A component that is known and not part of what the options install.
    #[error("{name} is not among the components to install")]
    NotInstalledHere {
        /// The component.
        name: String,
        /// What is.
        installed: Vec<String>,
    },
    /// `upgrade` without anything to change.
    #[error("no upgrade target is given")]
    NothingNamed,
    /// An option that there is not.
    #[error("unknown option {name}")]
    UnknownOption {
        /// The name.
        name: String,
        /// One that is spelled alike.
        nearest: Option<String>,
    },
    /// A charm of this program cannot be made.
    #[error("failed to pack the charm")]
    Pack(#[from] trainerd_juju::pack::PackError),
    /// A time that is none.
    #[error("SOURCE_DATE_EPOCH={0} is not a number of seconds since 1970")]
    Epoch(String),
    /// A folder or file for the output that cannot be written.
    #[error("failed to write {}", .path.display())]
    WriteFile {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl From<InputError> for Problem {
    fn from(error: InputError) -> Self {
        let message = error.to_string();
        let input = |code| Problem::new(Exit::Input, code, message.clone());
        match &error {
            InputError::ReadFile { source, .. } => input("unreadable-file")
                .because(source.to_string())
                .hint("check the path and its permissions"),
            InputError::FollowStdin => input("follow-stdin")
                .because("a daemon watches its file for changes")
                .hint("write the options to a file, and pass it with --config"),
            InputError::NoConfigMap { .. } => input("no-config-map")
                .because("it does not exist, or may not be read")
                .hint("create it with one key for each option that you want to set; it may be empty"),
            InputError::NameOfDaemon => input("name-of-daemon")
                .because("the daemon itself is installed under this name, in the same namespace")
                .hint("name the installation that it manages with --name"),
            InputError::EnvironmentSet { .. } => input("environment")
                .because("every line must be NAME=VALUE")
                .hint("correct or unset TRAINERD_SET"),
            InputError::UnknownComponent { known, .. } => input("unknown-component")
                .because(format!("the components are {}", known.join(", ")))
                .hint("use one of these"),
            InputError::NotChosen { .. } => input("version-not-chosen")
                .because("it has the version that matches the trainer")
                .hint("use --to trainer=VERSION"),
            InputError::NotInstalledHere { installed, .. } => input("component-not-installed")
                .because(format!("the options install {}", installed.join(", ")))
                .hint("add it with --set components=… or, for data-cache, --set data-cache=true"),
            InputError::NothingNamed => input("nothing-named")
                .because("neither --to, nor --latest, nor --set is given")
                .hint("to upgrade to the newest versions: trainerd upgrade --latest"),
            InputError::UnknownOption { nearest, .. } => {
                let hint = match nearest {
                    Some(nearest) => {
                        format!("did you mean {nearest}? `trainerd config schema` lists every option")
                    }
                    None => "`trainerd config schema` lists every option".to_owned(),
                };
                input("unknown-option").because("no option has this name").hint(hint)
            }
            InputError::Pack(source) => Problem::new(Exit::Failed, "pack", message.clone())
                .because(source.to_string())
                .hint("pack with a trainerd that was built for x86_64 or aarch64"),
            InputError::Epoch(_) => input("source-date-epoch")
                .because("files in the charm get this time")
                .hint("unset it, or give seconds, for example `git log -1 --format=%ct`"),
            InputError::WriteFile { source, .. } => {
                Problem::new(Exit::Failed, "unwritable-file", message.clone())
                    .because(source.to_string())
                    .hint("check that the folder exists or can be created, and that you may write to it")
            }
        }
    }
}
