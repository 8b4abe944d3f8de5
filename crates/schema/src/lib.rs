//! The type language: what a field of a Kubernetes type is.
