//! Why there are no credentials, in a sentence.
//!
//! What kube says of an exec plugin repeats its command line with the variables it is given, and all that it printed,
//! which may be half a token. Here is told which plugin it was, how it ended and what it said last to people.

use std::error::Error;
use std::path::PathBuf;

use kube::client::AuthError;
use trainerd_causes::causes;

/// Why there are no credentials.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// An exec plugin could not be started.
    #[error("failed to start the exec plugin {plugin}")]
    PluginStart {
        /// Its program.
        plugin: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// An exec plugin failed.
    #[error("the exec plugin {plugin} failed ({status}){}", said(.last))]
    PluginFailed {
        /// Its program.
        plugin: String,
        /// How it ended, for example `exit status: 1`.
        status: String,
        /// The last line that it wrote to stderr, where that was not a terminal's.
        last: String,
    },
    /// An exec plugin printed something else than credentials.
    #[error("the exec plugin {plugin} printed no credentials (an ExecCredential with a status)")]
    PluginAnswer {
        /// Its program.
        plugin: String,
    },
    /// A token file cannot be read.
    #[error("failed to read the token file {}", .path.display())]
    TokenFile {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Anything else, in kube's own words.
    #[error("{0}")]
    Other(String),
}

fn said(last: &str) -> String {
    if last.is_empty() { String::new() } else { format!(": {last}") }
}

/// Reads the error of kube's that says why there are no credentials. `plugin`: the program of the exec plugin, if any.
pub(crate) fn read(error: &(dyn Error + 'static), plugin: Option<&str>) -> CredentialsError {
    let plugin = || plugin.unwrap_or("of the kubeconfig").to_owned();
    // The io::Error of a file is found no more once its owner is borrowed: its kind and text are what is told.
    let io = |source: &std::io::Error| std::io::Error::new(source.kind(), source.to_string());
    match causes(error).find_map(|cause| cause.downcast_ref::<AuthError>()) {
        Some(AuthError::AuthExecStart(source)) => {
            CredentialsError::PluginStart { plugin: plugin(), source: io(source) }
        }
        Some(AuthError::AuthExecRun { out, .. }) => {
            let text = String::from_utf8_lossy(&out.stderr);
            let last = text.lines().rev().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
            let last = last.chars().filter(|c| !c.is_control()).take(LONGEST).collect();
            CredentialsError::PluginFailed { plugin: plugin(), status: out.status.to_string(), last }
        }
        Some(AuthError::AuthExecParse(_) | AuthError::ExecPluginFailed) => {
            CredentialsError::PluginAnswer { plugin: plugin() }
        }
        Some(AuthError::ReadTokenFile(source, path)) => {
            CredentialsError::TokenFile { path: path.clone(), source: io(source) }
        }
        Some(other) => CredentialsError::Other(other.to_string()),
        None => CredentialsError::Other(error.to_string()),
    }
}

/// Characters of what a plugin said that are repeated.
const LONGEST: usize = 200;
