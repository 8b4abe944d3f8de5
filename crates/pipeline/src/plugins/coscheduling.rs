//! Gangs of scheduler-plugins' coscheduling.

use serde_json::{Value, json};

use super::gang;
use crate::Facts;
use crate::info::Info;
use crate::names::{name, owned};
use crate::value::{at, int32, is_true};

/// Pods say which gang is theirs.
pub(crate) fn enforce(info: &mut Info, train_job: &Value) {
    if at(&info.pod_group_policy, &["coscheduling"]).is_object() {
        info.pod_labels.insert("scheduling.x-k8s.io/pod-group".into(), name(train_job).to_owned());
    }
}

/// The PodGroup, where there is none or the TrainJob is suspended.
pub(crate) fn build(info: &Info, train_job: &Value, facts: &Facts<'_>) -> Option<Value> {
    let policy = at(&info.pod_group_policy, &["coscheduling"]);
    let is_kept = facts.coscheduling_pod_group && !is_true(train_job, &["spec", "suspend"]);
    if !policy.is_object() || is_kept {
        return None;
    }
    let mut group = owned("scheduling.x-k8s.io/v1alpha1", "PodGroup", name(train_job), train_job);
    group["spec"] = gang(info);
    // The CRD's default where there is none.
    group["spec"]["scheduleTimeoutSeconds"] = json!(int32(policy, &["scheduleTimeoutSeconds"]).unwrap_or(60));
    Some(group)
}
