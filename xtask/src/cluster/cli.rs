//! `cargo xtask cluster`.

use clap::{Args, Subcommand, ValueEnum};

use super::{Error, Name, Part, Parts, Profile, Request, Status, parts};
use crate::cli::Failure;
use crate::home::Home;
use crate::terminal::{print, say};

/// Exit code of anything that failed.
const FAILED: u8 = 1;
/// Exit code when a signal ended it.
const INTERRUPTED: u8 = 130;

/// The arguments of `cargo xtask cluster`.
#[derive(Args)]
pub struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Starts a cluster, waits until it serves and prints its KUBECONFIG
    ///
    /// The programs are built from source the first time (about five minutes for a control plane).
    Up {
        #[command(flatten)]
        which: Which,
        /// Run the control plane in a network namespace of its own, where webhooks can be reached (root)
        #[arg(long)]
        netns: bool,
    },
    /// Stops a cluster and removes all of it
    Down(Which),
    /// Tells what runs; ends 1 when something does not that should
    Status {
        #[command(flatten)]
        which: Which,
        /// How to print it
        #[arg(short, long, value_enum, default_value_t = Output::Table)]
        output: Output,
    },
    /// Kills a cluster's API server and starts it again, to see how others bear it; it serves seconds later
    Restart(Which),
    /// Stops or starts a node's kubelet, to see how others bear it; its pods continue
    Kubelet {
        /// What to do with it
        act: KubeletCommand,
        #[command(flatten)]
        node: NodeArguments,
    },
    /// Restarts a node as its machine would without its power: every pod ends at once, and is started again
    Reboot(NodeArguments),
    /// Prints the path of a cluster's kubeconfig
    Kubeconfig(Which),
    /// Prints the path of a program that the charm's tests run; builds it first where that was not done yet
    Program {
        /// Which
        name: CharmProgram,
    },
}

#[derive(Args)]
struct Which {
    /// Name of the cluster [default: `control-plane`, with --node `node`]
    name: Option<Name>,
    /// A whole node, which runs pods (root)
    #[arg(long)]
    node: bool,
}

#[derive(Args)]
struct NodeArguments {
    /// Name of the cluster
    #[arg(default_value = "node")]
    name: Name,
}

#[derive(Clone, Copy, ValueEnum)]
enum KubeletCommand {
    /// Stop it: a minute later the cluster takes the node for lost
    Stop,
    /// Start it again
    Start,
}

#[derive(Clone, Copy, ValueEnum)]
enum Output {
    Table,
    Json,
}

/// What the tests of the charm run beside a cluster.
#[derive(Clone, Copy, ValueEnum)]
enum CharmProgram {
    /// Juju's hook tools over a world in a file
    HookTool,
    /// Juju's reader of charm files
    ReadCharm,
    /// The service manager of workload containers
    Pebble,
}

impl CharmProgram {
    fn part(self) -> &'static Part {
        match self {
            Self::HookTool => &parts::HOOK_TOOL,
            Self::ReadCharm => &parts::READ_CHARM,
            Self::Pebble => &parts::PEBBLE,
        }
    }
}

impl Which {
    fn profile(&self) -> Profile {
        if self.node { Profile::Node } else { Profile::ControlPlane }
    }

    fn name(&self) -> Result<Name, Failure> {
        match &self.name {
            Some(name) => Ok(name.clone()),
            None => self.profile().to_string().parse().map_err(|error: super::name::Invalid| fail(error)),
        }
    }
}

/// Runs the verb.
pub fn run(arguments: Arguments) -> Result<(), Failure> {
    let home = Home::from_environment().map_err(fail)?;
    match arguments.verb {
        Verb::Up { which, netns } => {
            let profile = which.profile();
            let own_network = netns || profile == Profile::Node;
            let request = Request { name: which.name()?, profile, own_network };
            let status = super::up(&home, &request).map_err(cluster_failure)?;
            print(format_args!("export KUBECONFIG={}", status.kubeconfig.display()));
        }
        Verb::Down(which) => {
            let name = which.name()?;
            let removed = super::down(&home, &name).map_err(cluster_failure)?;
            say(if removed { format!("removed cluster {name}") } else { format!("no cluster {name} here") });
        }
        Verb::Status { which, output } => {
            let status = existing(&home, &which)?;
            match output {
                Output::Json => print(serde_json::to_string(&status).map_err(fail)?),
                Output::Table => table(&status),
            }
            if !status.ready || !status.is_whole() {
                return Err(Failure {
                    code: FAILED,
                    error: "the cluster is not healthy".into(),
                    hint: Some(format!("{} removes it and starts a new one", up_again(&status))),
                });
            }
        }
        Verb::Restart(which) => {
            let name = which.name()?;
            if !super::restart(&home, &name).map_err(cluster_failure)? {
                return Err(missing(&name));
            }
            say(format_args!("restarted the API server of cluster {name}"));
        }
        Verb::Kubelet { act, node: NodeArguments { name } } => {
            let (acted, done) = match act {
                KubeletCommand::Stop => (super::stop_kubelet(&home, &name), "stopped"),
                KubeletCommand::Start => (super::start_kubelet(&home, &name), "started"),
            };
            if !acted.map_err(cluster_failure)? {
                return Err(missing(&name));
            }
            say(format_args!("{done} the kubelet of cluster {name}"));
        }
        Verb::Reboot(NodeArguments { name }) => {
            if !super::reboot(&home, &name).map_err(cluster_failure)? {
                return Err(missing(&name));
            }
            say(format_args!("restarted the node of cluster {name}"));
        }
        Verb::Program { name } => {
            let path =
                Parts::find(&home).and_then(|found| found.path(name.part())).map_err(cluster_failure)?;
            print(path.display());
        }
        Verb::Kubeconfig(which) => print(existing(&home, &which)?.kubeconfig.display()),
    }
    Ok(())
}

fn up_again(status: &Status) -> String {
    let flag = match (status.profile, &status.network) {
        (Profile::Node, _) => " --node",
        (Profile::ControlPlane, Some(_)) => " --netns",
        (Profile::ControlPlane, None) => "",
    };
    format!("`cargo xtask cluster up {}{flag}`", status.name)
}

fn existing(home: &Home, which: &Which) -> Result<Status, Failure> {
    let name = which.name()?;
    super::find(home, &name).map_err(cluster_failure)?.ok_or_else(|| missing(&name))
}

fn missing(name: &Name) -> Failure {
    Failure {
        code: FAILED,
        error: format!("no cluster {name} here").into(),
        hint: Some(format!("`cargo xtask cluster up {name}` starts one")),
    }
}

fn table(status: &Status) {
    print(format_args!("name        {}", status.name));
    print(format_args!("profile     {}", status.profile));
    print(format_args!("kubeconfig  {}", status.kubeconfig.display()));
    print(format_args!("audit log   {}", status.audit_log.display()));
    if let Some(network) = &status.network {
        print(format_args!("namespace   {} ({})", network.namespace, network.node_address));
    }
    for process in &status.processes {
        print(format_args!("process     {:<24} {}", process.name, process.pid));
    }
    for name in &status.ended {
        print(format_args!("process     {name:<24} ended"));
    }
}

fn fail(error: impl std::error::Error + 'static) -> Failure {
    Failure { code: FAILED, error: Box::new(error), hint: None }
}

fn cluster_failure(error: Error) -> Failure {
    let code = if matches!(error, Error::Interrupted) { INTERRUPTED } else { FAILED };
    Failure { code, hint: error.hint(), error: Box::new(error) }
}
