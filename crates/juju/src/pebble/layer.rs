//! The layer that runs the daemon in the workload container.

use sha2::{Digest as _, Sha256};

/// Name of the service.
pub const SERVICE: &str = "trainerd";

/// Label of the layer.
pub const LABEL: &str = "trainerd";

/// Placeholder of the digest while it is computed.
const ZEROS: &str = "000000000000";

/// It has no options, so that another configuration never restarts the daemon. `settled` has no level, so that it
/// affects neither liveness nor readiness; its failure and recovery reach the charm as hooks.
const TEXT: &str = r#"# <hash>: first 12 hex of the sha256 of this text with <hash> as twelve zeros
services:
  trainerd:
    override: replace
    summary: trainerd daemon <hash>
    command: /usr/bin/trainerd daemon --juju
    startup: enabled
    on-success: restart
    on-failure: restart
    on-check-failure: {alive: restart}
    backoff-delay: 500ms
    backoff-factor: 2.0
    backoff-limit: 30s
    kill-delay: 5s
checks:
  alive:   {override: replace, level: alive, period: 5s, timeout: 2s, threshold: 3, http: {url: "http://127.0.0.1:38991/livez"}}
  ready:   {override: replace, level: ready, period: 10s, timeout: 3s, threshold: 3, http: {url: "http://127.0.0.1:38991/readyz"}}
  settled: {override: replace, period: 10s, timeout: 3s, threshold: 2, http: {url: "http://127.0.0.1:38991/settledz"}}
"#;

/// A layer that contains its own digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    text: String,
    hash: String,
}

impl Layer {
    /// The daemon's layer.
    pub fn daemon() -> Self {
        Self::of(TEXT)
    }

    fn of(text: &str) -> Self {
        let digest = Sha256::digest(text.replace("<hash>", ZEROS).as_bytes());
        let hash = hex::encode(&digest[..6]);
        Self { text: text.replace("<hash>", &hash), hash }
    }

    /// The layer as YAML.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The summary of the service, which a plan contains if it has this layer.
    pub fn summary(&self) -> String {
        format!("trainerd daemon {}", self.hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layer_contains_its_own_digest() {
        let layer = Layer::daemon();
        let zeroed = layer.text().replace(&layer.hash, ZEROS);
        let digest = hex::encode(Sha256::digest(zeroed.as_bytes()));
        assert_eq!(layer.hash, digest[..12]);
        let yaml: serde_json::Value = serde_yaml::from_str(layer.text()).unwrap();
        assert_eq!(yaml["services"]["trainerd"]["summary"], layer.summary());
        assert_eq!(yaml["services"]["trainerd"]["on-check-failure"]["alive"], "restart");
        assert_eq!(yaml["checks"]["settled"].get("level"), None);
        insta::assert_snapshot!(layer.text());
    }
}
