//! trainerd: installs, upgrades, repairs and runs the Kubeflow Trainer stack on Kubernetes.

mod application;
mod charm;
mod cli;
mod daemon;
mod interrupt;
mod log;
mod monitoring;
mod options;
mod problem;
mod target;
mod traces;
mod training;
mod written;

/// Gives memory that a plan took back to the system: a daemon is idle most of its life.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    // Juju says so in the environment, before there is any command line to read.
    if charm::is_dispatched() { charm::main() } else { cli::main() }
}
