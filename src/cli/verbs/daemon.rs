//! `daemon`: keep an installation as its options say.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

use crate::cli::context::Context;
use crate::cli::errors::Problem;
use crate::cli::exit::Exit;
use crate::daemon::{self, Setup, Source};

/// Keep the installation as its options say, until told to end
///
/// Brings the installation to the options of one declared source and keeps it there: what somebody changes or deletes
/// is put right as drift-policy says, changed options are planned and run, a plan that was broken off is finished. It
/// takes the lease only to write, so daemons may run side by side. Without --config and --config-map the options come
/// over the API, and until then what is installed is kept.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  trainerd daemon --config options.yaml             the file rules, and is watched
  trainerd daemon --config-map trainerd-options     a ConfigMap rules: each of its keys is an option
  trainerd daemon --socket /run/trainerd.sock       the API rules
  curl http://localhost:38991/readyz                whether it sees the cluster; /settledz: whether all is done")]
pub(crate) struct DaemonArgs {
    /// File with the options, watched: one `name: value` a line
    #[arg(
        long,
        value_name = "FILE",
        env = "TRAINERD_CONFIG",
        hide_env_values = true,
        conflicts_with = "config_map"
    )]
    config: Option<PathBuf>,

    /// ConfigMap with the options, in the installation's namespace, watched
    #[arg(long, value_name = "NAME", env = "TRAINERD_CONFIG_MAP", hide_env_values = true)]
    config_map: Option<String>,

    /// Unix socket on which the API listens; only the user that the daemon runs as may talk to it
    #[arg(long, value_name = "PATH", env = "TRAINERD_SOCKET", hide_env_values = true)]
    socket: Option<PathBuf>,

    /// Address of /healthz, /livez, /readyz, /settledz and /metrics
    #[arg(
        long,
        value_name = "ADDRESS",
        default_value = "0.0.0.0:38991",
        env = "TRAINERD_HEALTH",
        hide_env_values = true
    )]
    health: SocketAddr,
}

/// Runs the verb.
pub(crate) async fn run(context: &Context, args: &DaemonArgs) -> Result<Exit, Problem> {
    let source = match (&args.config, &args.config_map) {
        (Some(path), _) => Source::File(path.clone()),
        (None, Some(name)) => {
            Source::ConfigMap { namespace: context.cluster.namespace.clone(), name: name.clone() }
        }
        (None, None) => Source::Api,
    };
    let setup = Setup { source, socket: args.socket.clone(), health: args.health };
    Box::pin(daemon::run(context, setup)).await
}
