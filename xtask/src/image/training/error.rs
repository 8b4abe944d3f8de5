//! Why a training image could not be made.

use std::path::PathBuf;

use crate::image::oci;
use crate::{command, files, foreground};

/// A training image that could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such recipe.
    #[error("failed to find an image {name}: there are trainerd, {known}")]
    Unknown {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// A recipe cannot be read.
    #[error("failed to read the recipe {}", path.display())]
    Recipe {
        /// Its file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_yaml::Error,
    },
    /// Debian's packages are installed into a root by root.
    #[error("failed to build the layer of Debian packages: this needs root")]
    NeedsRoot,
    /// Another option of the verb makes no sense for a training image.
    #[error("failed to make {name}: {option} is for trainerd's own image")]
    NotForTraining {
        /// The image.
        name: String,
        /// The option.
        option: &'static str,
    },
    /// A program that makes a layer.
    #[error(transparent)]
    Command(#[from] command::Error),
    /// A signal, or the program could not be run.
    #[error(transparent)]
    Foreground(#[from] foreground::Error),
    /// A file.
    #[error(transparent)]
    Files(#[from] files::Error),
    /// The archive could not be written.
    #[error(transparent)]
    Write(#[from] oci::Error),
    /// What pip or the cache wrote cannot be read.
    #[error("failed to read what was written as JSON")]
    Json(#[from] serde_json::Error),
    /// pip's report lacks a package's digest.
    #[error("failed to pin {0}: pip reports no digest of it")]
    NoDigest(String),
}

impl Error {
    /// What to do about it, where that can be told.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Unknown { .. } => "`cargo xtask image` without a name builds trainerd's own image",
            Self::NeedsRoot => "run it as root, or build the recipe's Containerfile with a container engine",
            Self::Command(error) if error.is_missing_program() => {
                "install Debian's packages mmdebstrap and python3-pip"
            }
            _ => return None,
        };
        Some(hint.to_owned())
    }
}
