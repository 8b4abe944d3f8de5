//! Which pod is the daemon's, and by which certificate it is known.
//!
//! A label is no proof: every user who may create pods can set it. The pod has to belong to a ReplicaSet of
//! the very Deployment that `bootstrap` made, by uid, and its daemon has to show the certificate whose fingerprint it
//! wrote into a Secret of the namespace, which takes the same right as writing the record of the installation.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use trainerd_catalog::{DAEMON, daemon_certificate, daemon_that_keeps};
use trainerd_cluster::{Cluster, ListParams, builtin};
use trainerd_plan::applyset;
use trainerd_plan::desired::Installation;

use super::Failure;

/// A pod that is the daemon's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Trusted {
    pub(super) name: String,
    /// SHA-256 of its certificate, in lower-case hexadecimal.
    pub(super) fingerprint: String,
}

/// The daemon's pod; `None` where no daemon was put into the cluster, or it has no pod.
pub(super) async fn trusted(cluster: &Cluster, keeps: &Installation) -> Result<Option<Trusted>, Failure> {
    let namespace = keeps.namespace.as_str();
    let Some(deployment) = cluster.get_opt(&builtin::deployment(), Some(namespace), DAEMON).await? else {
        return Ok(None);
    };
    let params = ListParams {
        namespace: Some(namespace.to_owned()),
        label_selector: Some(format!("app.kubernetes.io/name={DAEMON}")),
        ..ListParams::default()
    };
    let pods = cluster.list(&builtin::pod(), &params).await?.items;
    let params = ListParams { metadata_only: true, ..params };
    let sets = cluster.list(&builtin::replica_set(), &params).await?.items;
    let Some(pod) = chosen(&daemon_that_keeps(keeps), &deployment, &sets, &pods)? else { return Ok(None) };
    let name = name_of(pod).to_owned();
    let secret = daemon_certificate(&name);
    let Some(found) = cluster.get_opt(&builtin::secret(), Some(namespace), &secret).await? else {
        let why = format!(
            "its pod {namespace}/{name} has not published the fingerprint of its certificate (Secret {secret}); `trainerd bootstrap` updates an older daemon"
        );
        return Err(why.into());
    };
    Ok(Some(Trusted { fingerprint: pinned(pod, &found)?, name }))
}

/// The pod to go to, of those that carry the label.
fn chosen<'a>(
    own: &Installation,
    deployment: &Value,
    sets: &[Value],
    pods: &'a [Value],
) -> Result<Option<&'a Value>, Failure> {
    let namespace = &own.namespace;
    let is_ours = applyset::label(deployment, applyset::INSTALLATION) == Some(&own.name)
        && applyset::label(deployment, applyset::NAMESPACE) == Some(namespace);
    if !is_ours {
        let name = name_of(deployment);
        return Err(format!("Deployment {namespace}/{name} was not created by `trainerd bootstrap`").into());
    }
    let of_deployment =
        |set: &&Value| controller(set, "Deployment").is_some_and(|own| uid(deployment) == Some(own));
    let sets: Vec<&str> = sets.iter().filter(of_deployment).filter_map(uid).collect();
    let belongs = |pod: &&Value| controller(pod, "ReplicaSet").is_some_and(|set| sets.contains(&set));
    let ours: Vec<&Value> = pods.iter().filter(belongs).collect();
    if let Some(pod) = ours.iter().find(|pod| runs(pod)) {
        return Ok(Some(pod));
    }
    let why = match (ours.first(), pods.first()) {
        (Some(pod), _) => {
            let phase = pod["status"]["phase"].as_str().unwrap_or("unknown");
            format!("its pod {namespace}/{} is not running (phase {phase})", name_of(pod))
        }
        (None, Some(pod)) => {
            format!("pod {namespace}/{} has its label but does not belong to its Deployment", name_of(pod))
        }
        (None, None) => return Ok(None),
    };
    Err(why.into())
}

/// The fingerprint that a Secret holds, if it is about this very pod.
fn pinned(pod: &Value, secret: &Value) -> Result<String, Failure> {
    let mut owners = secret["metadata"]["ownerReferences"].as_array().into_iter().flatten();
    let is_about_it = owners.any(|owner| uid(pod).is_some() && owner["uid"].as_str() == uid(pod));
    let text = secret["data"]["fingerprint"].as_str().unwrap_or_default();
    let text = STANDARD.decode(text).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let is_digest = |text: &String| text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    match text.filter(is_digest) {
        Some(fingerprint) if is_about_it => Ok(fingerprint.to_lowercase()),
        _ => Err(
            "the Secret with the fingerprint of its certificate does not belong to this pod, or is damaged"
                .into(),
        ),
    }
}

fn name_of(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or_default()
}

fn uid(object: &Value) -> Option<&str> {
    object["metadata"]["uid"].as_str()
}

/// uid of the controller of an object, if it is of that kind.
fn controller<'a>(object: &'a Value, kind: &str) -> Option<&'a str> {
    let mut owners = object["metadata"]["ownerReferences"].as_array().into_iter().flatten();
    owners.find(|owner| owner["controller"] == true && owner["kind"] == kind)?["uid"].as_str()
}

/// Whether a pod runs, and is not on its way out.
fn runs(pod: &Value) -> bool {
    pod["status"]["phase"] == "Running" && pod["metadata"]["deletionTimestamp"].is_null()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn owned(name: &str, own: &str, kind: &str, owner: &str) -> Value {
        let owner = json!({"kind": kind, "uid": owner, "controller": true});
        json!({"metadata": {"name": name, "uid": own, "ownerReferences": [owner]}})
    }

    fn pod(name: &str, set: &str, phase: &str) -> Value {
        let mut pod = owned(name, "p", "ReplicaSet", set);
        pod["status"]["phase"] = json!(phase);
        pod
    }

    #[test]
    fn the_daemons_pod_is_identified_by_its_owners() {
        let own = Installation { name: "trainerd".into(), namespace: "ns".into() };
        let labels = json!({(applyset::INSTALLATION): "trainerd", (applyset::NAMESPACE): "ns"});
        let deployment = json!({"metadata": {"name": "trainerd", "uid": "d", "labels": labels}});
        let foreign = json!({"metadata": {"name": "trainerd", "uid": "d", "labels": {}}});
        let sets = [owned("a", "s", "Deployment", "d"), owned("b", "t", "Deployment", "another")];
        let orphan = json!({"metadata": {"name": "x", "uid": "p"}, "status": {"phase": "Running"}});
        let mut leaving = pod("l", "s", "Running");
        leaving["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        let ours = || pod("ours", "s", "Running");
        for (what, deployment, pods, expected) in [
            ("ours", &deployment, vec![orphan.clone(), pod("t", "t", "Running"), ours()], Ok(Some("ours"))),
            ("none", &deployment, vec![], Ok(None)),
            ("nobody's", &deployment, vec![orphan], Err("does not belong to its Deployment")),
            (
                "another's",
                &deployment,
                vec![pod("t", "t", "Running")],
                Err("does not belong to its Deployment"),
            ),
            (
                "unknown set",
                &deployment,
                vec![pod("u", "u", "Running")],
                Err("does not belong to its Deployment"),
            ),
            ("starting", &deployment, vec![pod("p", "s", "Pending")], Err("is not running (phase Pending)")),
            ("leaving", &deployment, vec![leaving], Err("is not running")),
            ("no Deployment of ours", &foreign, vec![ours()], Err("was not created by")),
        ] {
            match (chosen(&own, deployment, &sets, &pods), expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found.map(name_of), expected, "{what}"),
                (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{what}: {error}"),
                (found, _) => panic!("{what}: {found:?}"),
            }
        }
    }

    #[test]
    fn a_fingerprint_is_valid_only_for_its_pod() {
        let digest = "ab".repeat(32);
        let secret = |owner: &str, text: &str| {
            let owner = json!([{"uid": owner}]);
            json!({"metadata": {"ownerReferences": owner}, "data": {"fingerprint": STANDARD.encode(text)}})
        };
        let pod = pod("a", "s", "Running");
        assert_eq!(pinned(&pod, &secret("p", &digest)).unwrap(), digest);
        for (owner, text) in [("q", digest.as_str()), ("p", "short"), ("p", "")] {
            assert!(pinned(&pod, &secret(owner, text)).is_err(), "{owner} {text}");
        }
        assert!(pinned(&json!({"metadata": {}}), &secret("p", &digest)).is_err());
    }
}
