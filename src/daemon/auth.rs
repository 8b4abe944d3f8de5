//! Who may talk to the API over the network: whoever Kubernetes knows, and lets.
//!
//! A token is shown to the API server (TokenReview), and its user needs a verb on the resource `installations` of the
//! group `trainerd.dev`, by the installation's name in its namespace: `get` to look, `update` to change. No such
//! resource is served; a Role grants it all the same.

use serde_json::{Value, json};
use trainerd_catalog::daemon_audience;
use trainerd_cluster::{Cluster, CreateParams, RequestError, builtin};
use trainerd_plan::desired::Installation;
use trainerd_plan::object::Resource;
use trainerd_serve::auth::{Authenticator, Denied, Identity, audiences};

/// Group of the resource that stands for an installation.
pub(crate) const GROUP: &str = "trainerd.dev";
/// That resource.
pub(crate) const RESOURCE: &str = "installations";

/// Admits users who may do this with an installation.
pub(crate) struct Reviewer {
    pub(crate) cluster: Cluster,
    pub(crate) installation: Installation,
    /// `get` or `update`.
    pub(crate) verb: &'static str,
}

impl Authenticator for Reviewer {
    async fn authenticate(&self, token: &str) -> Result<Identity, Denied> {
        // A token that was made for us is good for nothing else. One without, as everybody has it who talks to the API
        // server, is reviewed for that one.
        let ours = daemon_audience(&self.installation);
        let is_ours = audiences(token).contains(&ours);
        let mut spec = json!({"token": token});
        if is_ours {
            spec["audiences"] = json!([ours]);
        }
        let review = json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": spec,
        });
        let answer = self.ask(&builtin::token_review(), &review).await?;
        let status = &answer["status"];
        let good_for = status["audiences"].as_array().into_iter().flatten();
        // Whoever does not know of audiences says nothing of them.
        let is_good =
            status["authenticated"] == true && (!is_ours || good_for.into_iter().any(|one| *one == ours));
        if !is_good {
            return Err(Denied::BadToken);
        }
        let user = &status["user"];
        let name = user["username"].as_str().unwrap_or_default().to_owned();
        let review = json!({
            "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
            "spec": {
                "user": name,
                "groups": user["groups"],
                "uid": user["uid"],
                "extra": user["extra"],
                "resourceAttributes": {
                    "group": GROUP, "resource": RESOURCE, "verb": self.verb,
                    "namespace": self.installation.namespace, "name": self.installation.name,
                },
            },
        });
        let answer = self.ask(&builtin::subject_access_review(), &review).await?;
        if answer["status"]["allowed"] != true {
            let Installation { name: installation, namespace } = &self.installation;
            let reason = format!(
                "needs the verb {} on {RESOURCE}.{GROUP} {installation:?} in namespace {namespace}",
                self.verb
            );
            return Err(Denied::Forbidden { name, reason });
        }
        let groups = user["groups"].as_array().into_iter().flatten();
        Ok(Identity { name, groups: groups.filter_map(Value::as_str).map(str::to_owned).collect() })
    }
}

impl Reviewer {
    async fn ask(&self, kind: &Resource, review: &Value) -> Result<Value, Denied> {
        let answer = self.cluster.create(kind, review, CreateParams::default()).await;
        // What the API server says of a review it refuses may repeat the review, and with it the token.
        answer.map_err(|error| Denied::Unavailable { source: wordless(&kind.kind, &error).into() })
    }
}

/// What kind of error it was, without a word of the server's.
fn wordless(kind: &str, error: &RequestError) -> String {
    let what = match error {
        RequestError::Forbidden { .. } => "the daemon is not permitted to create one",
        RequestError::Unreachable { .. } => "the API server does not respond",
        _ => "the API server refused it",
    };
    format!("failed to create a {kind}: {what}")
}
