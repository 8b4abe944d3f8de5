//! What the cluster's objects say, and what trainerd says of its revisions.

use serde_json::Value;

/// A pod, as far as the demo looks at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pod {
    pub(super) name: String,
    pub(super) uid: String,
    pub(super) phase: String,
    /// Restarts of all its containers.
    pub(super) restarts: u64,
}

impl Pod {
    /// It is the very same pod, and none of its containers ended in between.
    pub(super) fn is_unchanged_from(&self, later: &Pod) -> bool {
        self.uid == later.uid && self.restarts == later.restarts
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list["items"].as_array().into_iter().flatten()
}

/// How often the containers of a pod were started again.
pub(crate) fn restarts(pod: &Value) -> u64 {
    let containers = pod["status"]["containerStatuses"].as_array().into_iter().flatten();
    containers.filter_map(|container| container["restartCount"].as_u64()).sum()
}

/// The pods of a list.
pub(super) fn pods(list: &Value) -> Vec<Pod> {
    let pod = |pod: &Value| Pod {
        name: text(&pod["metadata"]["name"]),
        uid: text(&pod["metadata"]["uid"]),
        phase: text(&pod["status"]["phase"]),
        restarts: restarts(pod),
    };
    items(list).map(pod).collect()
}

/// How far a TrainJob is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Progress {
    UnderWay,
    Complete,
    Failed(String),
}

/// Reads a TrainJob's conditions.
pub(super) fn progress(job: &Value) -> Progress {
    let conditions = job["status"]["conditions"].as_array().into_iter().flatten();
    for condition in conditions.filter(|condition| condition["status"] == "True") {
        match condition["type"].as_str() {
            Some("Complete") => return Progress::Complete,
            Some("Failed") => return Progress::Failed(text(&condition["message"])),
            _ => {}
        }
    }
    Progress::UnderWay
}

/// A controller's Deployment.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Controller {
    /// Last part of its image's name, with its tag.
    pub(super) image: String,
    /// All its replicas are available, in the generation that was written last.
    pub(super) is_available: bool,
}

/// The Deployments of a list, sorted by image.
pub(super) fn controllers(list: &Value) -> Vec<Controller> {
    let mut controllers: Vec<_> = items(list)
        .map(|deployment| {
            let image = text(&deployment["spec"]["template"]["spec"]["containers"][0]["image"]);
            let (spec, status) = (&deployment["spec"], &deployment["status"]);
            let wanted = spec["replicas"].as_u64().unwrap_or(1);
            let count = |field: &str| status[field].as_u64().unwrap_or_default();
            Controller {
                image: image.rsplit('/').next().unwrap_or_default().to_owned(),
                is_available: count("availableReplicas") >= wanted
                    && count("updatedReplicas") >= wanted
                    && status["observedGeneration"] == deployment["metadata"]["generation"],
            }
        })
        .collect();
    controllers.sort_by(|one, other| one.image.cmp(&other.image));
    controllers
}

/// Number, purpose and result of each revision, from what `trainerd history` prints.
pub(super) fn revisions(history: &Value) -> Vec<String> {
    let rows = history.as_array().into_iter().flatten();
    let row = |row: &Value| format!("{} {} {}", row["revision"], text(&row["purpose"]), text(&row["result"]));
    rows.map(row).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(uid: &str, restarts: [u64; 2]) -> Pod {
        let list = json!({"items": [{
            "metadata": {"name": "p", "uid": uid},
            "status": {"phase": "Running", "containerStatuses": [
                {"restartCount": restarts[0]}, {"restartCount": restarts[1]},
            ]},
        }]});
        pods(&list).remove(0)
    }

    #[test]
    fn a_pod_continued_only_with_the_same_uid_and_no_restarts() {
        let before = pod("a", [0, 1]);
        assert_eq!((before.restarts, before.phase.as_str()), (1, "Running"));
        assert!(before.is_unchanged_from(&pod("a", [1, 0])));
        assert!(!before.is_unchanged_from(&pod("a", [1, 1])));
        assert!(!before.is_unchanged_from(&pod("b", [0, 1])));
    }

    #[test]
    fn only_true_conditions_show_progress() {
        let job = |kind: &str, status: &str| {
            json!({"status": {"conditions": [
                {"type": "Suspended", "status": "True"},
                {"type": kind, "status": status, "message": "why"},
            ]}})
        };
        assert_eq!(progress(&json!({})), Progress::UnderWay);
        assert_eq!(progress(&job("Complete", "False")), Progress::UnderWay);
        assert_eq!(progress(&job("Complete", "True")), Progress::Complete);
        assert_eq!(progress(&job("Failed", "True")), Progress::Failed("why".into()));
    }

    #[test]
    fn revisions_are_shown_with_their_outcome() {
        let history = json!([
            {"revision": 1, "purpose": "install", "result": "deployed", "current": false},
            {"revision": 2, "purpose": "upgrade", "result": "failed", "reason": "no progress"},
        ]);
        assert_eq!(revisions(&history), ["1 install deployed", "2 upgrade failed"]);
        assert!(revisions(&json!({})).is_empty());
    }

    #[test]
    fn a_controller_is_available_only_in_its_current_generation() {
        let deployment = |generation: u64, available: u64, updated: u64| {
            let list = json!({"items": [{
                "metadata": {"generation": 2},
                "spec": {"replicas": 2, "template": {"spec": {"containers": [
                    {"image": "registry.k8s.io/lws/lws:v0.8.0"},
                ]}}},
                "status": {
                    "observedGeneration": generation,
                    "availableReplicas": available,
                    "updatedReplicas": updated,
                },
            }]});
            let Controller { image, is_available } = controllers(&list).remove(0);
            assert_eq!(image, "lws:v0.8.0");
            is_available
        };
        assert!(deployment(2, 2, 2));
        assert!(!deployment(1, 2, 2));
        assert!(!deployment(2, 1, 2));
        assert!(!deployment(2, 2, 1));
    }
}
