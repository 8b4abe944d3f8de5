//! The one way to talk to Kubernetes.
