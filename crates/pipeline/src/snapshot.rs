//! The snapshot of a runtime: what a TrainJob is built from after its first build, whatever becomes of the runtime.

use serde_json::{Value, json};

use crate::names::{EXTENDED, name, owned, uid};
use crate::runtime_ref::RuntimeKind;
use crate::value::{at, items, text};
use crate::{BuildProfile, Compatibility, go, wire};

const KEY: &str = "runtime";

/// Why a snapshot is not to be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// The ConfigMap is somebody else's.
    #[error("invalid runtime snapshot: a snapshot configmap exists but is owned by another object")]
    Owner,
    /// It holds no runtime.
    #[error("invalid runtime snapshot: snapshot ConfigMap missing \"runtime\" data key")]
    Missing,
    /// It holds something else.
    #[error("invalid runtime snapshot: unable to unmarshal the snapshot: {0}")]
    Unreadable(String),
    /// It holds another runtime.
    #[error(
        "invalid runtime snapshot: the snapshot refers to the wrong runtime: expecting a runtime with name, api group and \
         kind of {expected} but found runtime with name, api group and kind of {found}"
    )]
    Other {
        /// Name, group and kind, quoted.
        expected: String,
        /// Name, group and kind, quoted.
        found: String,
    },
}

/// Name of the ConfigMap.
pub fn config_map_name(train_job: &Value) -> String {
    format!("{}-runtime-snapshot", name(train_job))
}

fn annotation() -> String {
    format!("{EXTENDED}/build-profile")
}

/// The ConfigMap with the snapshot of a live runtime. A profile is written where one is given.
pub fn config_map(
    runtime: &Value,
    kind: RuntimeKind,
    train_job: &Value,
    profile: Option<BuildProfile>,
) -> Value {
    with_text(&to_yaml(&typed(runtime, kind)), train_job, profile)
}

/// An existing snapshot with its profile written into it; to be applied as a whole.
pub fn with_profile(config_map: &Value, train_job: &Value, profile: BuildProfile) -> Value {
    with_text(text(config_map, &["data", KEY]).unwrap_or_default(), train_job, Some(profile))
}

fn with_text(runtime: &str, train_job: &Value, profile: Option<BuildProfile>) -> Value {
    let mut config_map = owned("v1", "ConfigMap", &config_map_name(train_job), train_job);
    if let Some(profile) = profile {
        config_map["metadata"]["annotations"] = json!({ annotation(): profile.as_str() });
    }
    config_map["data"] = json!({ KEY: runtime });
    config_map
}

/// The runtime as its type holds it, under the kind that a read of it may leave out.
fn typed(runtime: &Value, kind: RuntimeKind) -> Value {
    let mut typed = wire::normal_object("TrainingRuntime", runtime);
    typed.insert("apiVersion".into(), crate::names::API_VERSION.into());
    typed.insert("kind".into(), kind.as_str().into());
    Value::Object(typed)
}

/// The runtime in a snapshot.
///
/// # Errors
/// When the snapshot is not of this TrainJob's runtime.
pub fn runtime(config_map: &Value, train_job: &Value) -> Result<Value, SnapshotError> {
    let owners = items(config_map, &["metadata", "ownerReferences"]);
    let owner = owners.iter().find(|owner| at(owner, &["controller"]).as_bool() == Some(true));
    if owner.is_none_or(|owner| text(owner, &["uid"]) != Some(uid(train_job))) {
        return Err(SnapshotError::Owner);
    }
    let text = text(config_map, &["data", KEY]).ok_or(SnapshotError::Missing)?;
    let runtime = from_yaml(text).map_err(SnapshotError::Unreadable)?;
    check_reference(&runtime, train_job)?;
    Ok(runtime)
}

fn check_reference(runtime: &Value, train_job: &Value) -> Result<(), SnapshotError> {
    let expected = |key: &str| text(train_job, &["spec", "runtimeRef", key]);
    let kind = text(runtime, &["kind"]).unwrap_or_default();
    let version = text(runtime, &["apiVersion"]).unwrap_or_default();
    let group = version.split_once('/').map_or("", |(group, _)| group);
    let found = [name(runtime), group, kind];
    let wanted = [Some(expected("name").unwrap_or_default()), expected("apiGroup"), expected("kind")];
    if wanted.iter().zip(found).all(|(wanted, found)| wanted.is_none_or(|wanted| wanted == found)) {
        return Ok(());
    }
    let list = |parts: [&str; 3]| parts.map(go::quoted).join(", ");
    Err(SnapshotError::Other {
        expected: list(wanted.map(|wanted| wanted.unwrap_or("<any>"))),
        found: list(found),
    })
}

/// Whose content a TrainJob's objects have, and the profile to write into its snapshot, if any. A snapshot without a
/// profile beside a JobSet was taken by upstream.
pub fn profile(
    compatibility: Compatibility,
    snapshot: Option<&Value>,
    job_set: Option<&Value>,
    train_job: &Value,
) -> (BuildProfile, Option<BuildProfile>) {
    if compatibility == Compatibility::Upstream {
        return (BuildProfile::Upstream, None);
    }
    let pinned = snapshot.and_then(|snapshot| text(snapshot, &["metadata", "annotations", &annotation()]));
    match pinned {
        Some("upstream") => (BuildProfile::Upstream, None),
        Some("extended") => (BuildProfile::Extended, None),
        _ => {
            let is_ours = |job_set: &Value| {
                items(job_set, &["metadata", "ownerReferences"]).iter().any(|owner| {
                    at(owner, &["controller"]).as_bool() == Some(true)
                        && text(owner, &["uid"]) == Some(uid(train_job))
                })
            };
            let profile =
                if job_set.is_some_and(is_ours) { BuildProfile::Upstream } else { BuildProfile::Extended };
            (profile, Some(profile))
        }
    }
}

/// A document of YAML as JSON. The error is worded as upstream's reader words it.
fn from_yaml(text: &str) -> Result<Value, String> {
    let value: Value = serde_yaml::from_str(text)
        .map_err(|error| format!("error converting YAML to JSON: {}", crate::yaml::error(&error)))?;
    match value {
        Value::Object(_) => Ok(value),
        Value::Null => Ok(json!({})),
        other => {
            let found = match other {
                Value::Bool(_) => "bool",
                Value::Number(_) => "number",
                Value::String(_) => "string",
                _ => "array",
            };
            Err(format!(
                "error unmarshaling JSON: while decoding JSON: json: cannot unmarshal {found} into Go value of type v1alpha1.TrainingRuntime"
            ))
        }
    }
}

fn to_yaml(value: &Value) -> String {
    crate::yaml::document(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn train_job() -> Value {
        json!({
            "metadata": {"name": "a", "namespace": "n", "uid": "u"},
            "spec": {"runtimeRef": {"name": "r", "apiGroup": crate::names::GROUP, "kind": "ClusterTrainingRuntime"}},
        })
    }

    fn live() -> Value {
        json!({
            "metadata": {"name": "r", "resourceVersion": "7"},
            "spec": {"template": {"spec": {"replicatedJobs": [{"name": "no", "replicas": 1, "template": {"spec": {"template": {"spec":
                {"containers": [{"name": "y", "env": [{"name": "ON", "value": "off"}, {"name": "N", "value": "0x1"}, {"name": "M", "value": "a: b\n#c"}]}]}}}}}]}}},
        })
    }

    #[test]
    fn a_snapshot_restores_the_runtime() {
        let train_job = train_job();
        let snapshot = config_map(&live(), RuntimeKind::Cluster, &train_job, Some(BuildProfile::Extended));
        let runtime = runtime(&snapshot, &train_job).unwrap();
        assert_eq!(runtime, typed(&live(), RuntimeKind::Cluster));
        assert_eq!(text(&runtime, &["kind"]), Some("ClusterTrainingRuntime"));
        assert_eq!(
            at(&with_profile(&snapshot, &train_job, BuildProfile::Upstream), &["data"]),
            at(&snapshot, &["data"])
        );
    }

    #[test]
    fn strings_that_yaml_1_1_reads_as_something_else_are_quoted() {
        let snapshot = config_map(&live(), RuntimeKind::Cluster, &train_job(), None);
        let written = text(&snapshot, &["data", "runtime"]).unwrap();
        for quoted in
            ["name: \"no\"", "name: \"y\"", "value: \"off\"", "name: \"ON\"", "name: \"N\"", "value: \"0x1\""]
        {
            assert!(written.contains(quoted), "{quoted} in\n{written}");
        }
    }

    #[test]
    fn every_check_has_its_text() {
        let good = config_map(&live(), RuntimeKind::Cluster, &train_job(), None);
        let with = |change: fn(&mut Value)| {
            let mut snapshot = good.clone();
            change(&mut snapshot);
            runtime(&snapshot, &train_job()).unwrap_err().to_string()
        };
        assert_eq!(
            with(|snapshot| snapshot["metadata"]["ownerReferences"][0]["uid"] = json!("v")),
            "invalid runtime snapshot: a snapshot configmap exists but is owned by another object"
        );
        assert_eq!(
            with(|snapshot| snapshot["data"] = json!({})),
            "invalid runtime snapshot: snapshot ConfigMap missing \"runtime\" data key"
        );
        let unreadable = with(|snapshot| snapshot["data"]["runtime"] = json!("a: [b"));
        assert!(unreadable.starts_with("invalid runtime snapshot: unable to unmarshal the snapshot: error converting YAML to JSON: yaml: line"), "{unreadable}");
        assert_eq!(
            with(|snapshot| snapshot["data"]["runtime"] = json!("kind: TrainingRuntime\nmetadata: {name: q}")),
            "invalid runtime snapshot: the snapshot refers to the wrong runtime: expecting a runtime with name, api group and \
             kind of \"r\", \"trainer.kubeflow.org\", \"ClusterTrainingRuntime\" but found runtime with name, api group and kind \
             of \"q\", \"\", \"TrainingRuntime\""
        );
    }

    #[test]
    fn a_profile_is_recorded_once() {
        let train_job = train_job();
        let snapshot = |profile| config_map(&live(), RuntimeKind::Cluster, &train_job, profile);
        let ours = owned("jobset.x-k8s.io/v1alpha2", "JobSet", "a", &train_job);
        let (upstream, extended) = (BuildProfile::Upstream, BuildProfile::Extended);
        for (compatibility, pinned, job_set, expected) in [
            (Compatibility::Upstream, Some(extended), None, (upstream, None)),
            (Compatibility::Extended, Some(extended), Some(&ours), (extended, None)),
            (Compatibility::Extended, Some(upstream), None, (upstream, None)),
            (Compatibility::Extended, None, None, (extended, Some(extended))),
            (Compatibility::Extended, None, Some(&ours), (upstream, Some(upstream))),
            (Compatibility::Extended, None, Some(&json!({})), (extended, Some(extended))),
        ] {
            assert_eq!(profile(compatibility, Some(&snapshot(pinned)), job_set, &train_job), expected);
        }
    }
}
