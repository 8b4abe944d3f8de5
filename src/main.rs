//! trainerd: installs, upgrades, repairs and runs the Kubeflow Trainer stack on Kubernetes.

mod cli;
mod daemon;
mod monitoring;

fn main() -> std::process::ExitCode {
    cli::main()
}
