//! Our kinds and the Kubernetes types they embed.
