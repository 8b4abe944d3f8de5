//! trainerd: installs, upgrades, repairs and runs the Kubeflow Trainer stack on Kubernetes.

mod cli;
mod daemon;
mod monitoring;
mod traces;

/// Gives memory that a plan took back to the system: a daemon is idle most of its life.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    cli::main()
}
