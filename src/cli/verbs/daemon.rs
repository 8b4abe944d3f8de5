//! `daemon`: keep an installation as its options say.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::Args;

use trainerd_plan::desired::{Installation, Naming};

use crate::cli::context::Context;
use crate::daemon::{self, HostedWorkload, Setup, Tls};
use crate::options::declared::Source;
use crate::options::{STDIN, environment};
use crate::problem::Exit;
use crate::problem::{InputError, Problem};

/// Reconcile the installation with its options, until stopped
///
/// Reads options from one source and reconciles the installation with them: changed options are planned and applied,
/// drift is repaired as drift-policy says, an interrupted plan is finished. It holds the lease only while it writes, so
/// several daemons may run side by side. Without --config and --config-map, the options are declared over the API;
/// until then, the installed revision is kept.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  trainerd daemon --config options.yaml             options from a file, which is watched
  trainerd daemon --config-map trainerd-options     options from a ConfigMap; each key is an option
  trainerd daemon --socket /run/trainerd.sock       options over the API
  trainerd daemon --host reconciler                 run the reconciler here, not in the cluster
  curl http://localhost:38991/readyz                whether it reaches the cluster; /settledz: whether all is applied

Traces:
  If OTEL_EXPORTER_OTLP_ENDPOINT is set, each plan, each of its steps and each repair is exported
  as a span with OTLP over HTTP. OpenTelemetry's other variables (headers, service name,
  sampler, resource attributes) work too.")]
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

    /// Make this source of options the current one, in place of another
    ///
    /// An installation has one source of options. A daemon with another source changes nothing unless this is given. It
    /// takes effect once: if another daemon takes over ownership later, this daemon stops making changes until it is
    /// restarted.
    #[arg(long, alias = "take-over")]
    force_ownership: bool,

    /// Run in the workload container of a Juju unit, as the charm's Pebble layer does
    ///
    /// The charm declares the options over the API; the socket is on the volume that both containers share, and Pebble
    /// is notified when the status changes. By default, the installation has the name of the application and the
    /// namespace of the pod.
    #[arg(long, conflicts_with_all = ["config", "config_map"])]
    juju: bool,

    /// Workloads that this daemon runs as child processes instead of in the cluster
    ///
    /// They are restarted with backoff, health-checked, and stopped with the daemon; `trainerd status` shows their
    /// state. The reconciler runs while the option `reconciler` is `hosted`, with which it is not installed in the
    /// cluster; a lease ensures that only one is active. The cache is the program trainerd-cache, in the same folder as
    /// this one or on PATH; it serves the dataset in the daemon's environment (SOURCE_URI, or METADATA_LOC, SCHEMA_NAME
    /// and TABLE_NAME).
    #[arg(
        long,
        value_enum,
        value_name = "WORKLOADS",
        value_delimiter = ',',
        env = "TRAINERD_HOST",
        hide_env_values = true
    )]
    host: Vec<HostedWorkload>,

    /// Unix socket on which the API listens; only the user that the daemon runs as may use it
    #[arg(long, value_name = "PATH", env = "TRAINERD_SOCKET", hide_env_values = true)]
    socket: Option<PathBuf>,

    /// Address on which the API listens with TLS, for users that Kubernetes authorizes
    ///
    /// Bearer tokens are reviewed by the API server; the user needs the verb get, or update to change something, on
    /// installations.trainerd.dev. Without --tls-cert the daemon creates a self-signed certificate for localhost, for
    /// use with port-forward, and logs its fingerprint.
    #[arg(long, value_name = "ADDRESS", env = "TRAINERD_LISTEN", hide_env_values = true)]
    listen: Option<SocketAddr>,

    /// Certificate chain for --listen, PEM; reloaded when it changes
    #[arg(
        long,
        value_name = "FILE",
        requires_all = ["listen", "tls_key"],
        env = "TRAINERD_TLS_CERT",
        hide_env_values = true
    )]
    tls_cert: Option<PathBuf>,

    /// Private key of the certificate, PEM
    #[arg(
        long,
        value_name = "FILE",
        requires = "tls_cert",
        env = "TRAINERD_TLS_KEY",
        hide_env_values = true
    )]
    tls_key: Option<PathBuf>,

    /// Address of /healthz, /livez, /readyz, /settledz and /metrics
    ///
    /// Default: port 38991; in a pod on all addresses (IPv4 and IPv6), elsewhere on 127.0.0.1.
    #[arg(long, value_name = "ADDRESS", env = "TRAINERD_HEALTH", hide_env_values = true)]
    health: Option<SocketAddr>,
}

/// Runs the verb.
pub(crate) async fn run(context: &Context, args: &DaemonArgs) -> Result<Exit, Problem> {
    let source = match (&args.config, &args.config_map) {
        (Some(path), _) if path == Path::new(STDIN) => return Err(InputError::FollowStdin.into()),
        // The same file is the same source, from whichever folder the daemon was started.
        (Some(path), _) => Source::File(std::path::absolute(path).unwrap_or_else(|_| path.clone())),
        (None, Some(name)) => {
            Source::ConfigMap { namespace: context.cluster.namespace.clone(), name: name.clone() }
        }
        (None, None) => Source::Api,
    };
    let files = args.tls_cert.clone().zip(args.tls_key.clone());
    let tls = args.listen.map(|address| Tls { address, files });
    let (mut socket, mut installation) = (args.socket.clone(), context.cluster.installation());
    let mut pebble = None;
    if args.juju {
        let shared = trainerd_juju::paths::in_workload();
        socket = socket.or_else(|| Some(shared.daemon()));
        pebble = Some(shared.pebble());
        installation = of_pod(installation);
    }
    let mut host: BTreeSet<HostedWorkload> = args.host.iter().copied().collect();
    if args.juju {
        // Under Juju the options alone say whether there is one.
        host.insert(HostedWorkload::Reconciler);
    }
    let naming = if args.juju { Naming::Charm } else { context.cluster.naming.into() };
    let setup = Setup {
        connect: context.connect_options(None),
        by: context.by.clone(),
        source,
        installation,
        naming,
        socket,
        pebble,
        tls,
        health: args.health,
        force_ownership: args.force_ownership,
        host,
    };
    Box::pin(daemon::run(&context.interrupt, setup)).await
}

/// The installation of the pod that this runs in, where nobody named another: called as the application, whose pods are
/// `<application>-<number>`, in the namespace of the pod's service account.
fn of_pod(named: Installation) -> Installation {
    const NAMESPACE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";
    let given = |variable: &str| environment(variable).is_some();
    let application = || {
        let (application, number) =
            environment("HOSTNAME")?.rsplit_once('-').map(|(a, b)| (a.to_owned(), b.to_owned()))?;
        number.parse::<u32>().is_ok().then_some(application)
    };
    let namespace = || std::fs::read_to_string(NAMESPACE).ok().map(|text| text.trim().to_owned());
    let name = if given("TRAINERD_NAME") { None } else { application() };
    let namespace = if given("TRAINERD_NAMESPACE") { None } else { namespace() };
    Installation { name: name.unwrap_or(named.name), namespace: namespace.unwrap_or(named.namespace) }
}
