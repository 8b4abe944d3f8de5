//! Whether a pod may report the progress of a TrainJob: its token is for that TrainJob, and of its namespace.
//!
//! The API server says so (TokenReview): signature, expiry and audience are its to judge, and a pod that is gone is
//! heard no more. Good answers count for a while, since trainers report often; a token says itself when it ends.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;
use trainerd_cluster::{Cluster, CreateParams, RequestError, builtin};

/// For how long a good answer counts. Tokens live for an hour at least.
const CACHE_TTL: Duration = Duration::from_mins(1);
/// Answers that are remembered: about 100 bytes each.
const MAX_CACHED: usize = 4096;

/// Asks whose tokens are. Clones share the answers.
#[derive(Clone)]
pub(crate) struct Tokens {
    cluster: Cluster,
    good: Arc<Mutex<HashMap<[u8; 32], Instant>>>,
}

impl Tokens {
    pub(crate) fn new(cluster: Cluster) -> Self {
        Self { cluster, good: Arc::default() }
    }

    /// Whether a token is good for an audience and is of a service account of the namespace.
    pub(crate) async fn are_good(
        &self,
        token: &str,
        audience: &str,
        namespace: &str,
    ) -> Result<bool, RequestError> {
        let key = digest(token, audience);
        if self.known(&key) {
            return Ok(true);
        }
        let review = json!({
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": {"token": token, "audiences": [audience]},
        });
        let answer = self.cluster.create(&builtin::token_review(), &review, CreateParams::default()).await?;
        let good = is_valid(&answer["status"], audience, namespace);
        if good {
            self.cache_token(key);
        }
        Ok(good)
    }

    fn known(&self, key: &[u8; 32]) -> bool {
        let good = self.good.lock().unwrap_or_else(PoisonError::into_inner);
        good.get(key).is_some_and(|since| since.elapsed() < CACHE_TTL)
    }

    fn cache_token(&self, key: [u8; 32]) {
        let mut good = self.good.lock().unwrap_or_else(PoisonError::into_inner);
        if good.len() >= MAX_CACHED {
            good.retain(|_, since| since.elapsed() < CACHE_TTL);
        }
        if good.len() < MAX_CACHED {
            good.insert(key, Instant::now());
        }
    }
}

/// Reads the status of a TokenReview.
fn is_valid(status: &Value, audience: &str, namespace: &str) -> bool {
    let audiences = status["audiences"].as_array();
    let user = status["user"]["username"].as_str().unwrap_or_default();
    let account = user.strip_prefix("system:serviceaccount:").and_then(|rest| rest.split_once(':'));
    status["authenticated"] == true
        // A server that does not know audiences answers without: then nothing says whom the token is for.
        && audiences.is_some_and(|all| all.iter().any(|it| it == audience))
        && account.is_some_and(|(of, _)| of == namespace)
}

/// SHA-256, so that no token is kept.
fn digest(token: &str, audience: &str) -> [u8; 32] {
    use sha2::Digest as _;
    let mut hash = sha2::Sha256::new();
    hash.update(audience.len().to_le_bytes());
    hash.update(audience);
    hash.update(token);
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_valid_for_one_train_job() {
        let status = |authenticated: bool, audience: &str, user: &str| json!({"authenticated": authenticated, "audiences": [audience], "user": {"username": user}});
        let good = status(true, "a", "system:serviceaccount:ns:default");
        assert!(is_valid(&good, "a", "ns"));
        for (what, status) in [
            ("unknown", status(false, "a", "system:serviceaccount:ns:default")),
            ("for another", status(true, "b", "system:serviceaccount:ns:default")),
            ("of another namespace", status(true, "a", "system:serviceaccount:ns2:default")),
            ("of a person", status(true, "a", "admin")),
            (
                "for nobody",
                json!({"authenticated": true, "user": {"username": "system:serviceaccount:ns:x"}}),
            ),
        ] {
            assert!(!is_valid(&status, "a", "ns"), "{what}");
        }
        assert_ne!(digest("ab", "c"), digest("b", "ca"));
    }
}
