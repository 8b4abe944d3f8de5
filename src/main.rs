//! trainerd: installs, upgrades, repairs and runs the Kubeflow Trainer stack on Kubernetes.

fn main() {}
