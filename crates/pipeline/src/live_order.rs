//! The order of environment variables in a JobSet that exists already: JobSet refuses to change it while suspended, and
//! which order upstream chose differs from process to process.

use serde_json::Value;

use crate::info::POD_SPEC;
use crate::value::{at, items, object_mut, text};
use crate::wire;

/// Takes the live order of every list of variables that holds the same ones.
pub(crate) fn restore(job_set: &mut Value, live: &Value) {
    let Some(Value::Array(jobs)) = object_mut(job_set, &["spec"]).get_mut("replicatedJobs") else { return };
    let live_jobs = items(live, &["spec", "replicatedJobs"]);
    for job in jobs {
        let Some(live) = named(live_jobs, text(job, &["name"])) else { continue };
        for list in ["containers", "initContainers"] {
            let live = items(at(live, &POD_SPEC), &[list]).to_vec();
            let Some(Value::Array(containers)) = object_mut(job, &POD_SPEC).get_mut(list) else { continue };
            for container in containers {
                let live = named(&live, text(container, &["name"])).map(|live| items(live, &["env"]));
                if let (Some(Value::Array(ours)), Some(live)) = (container.get_mut("env"), live) {
                    reorder(ours, live);
                }
            }
        }
    }
}

fn named<'v>(list: &'v [Value], name: Option<&str>) -> Option<&'v Value> {
    list.iter().find(|item| text(item, &["name"]) == name)
}

fn reorder(ours: &mut Vec<Value>, live: &[Value]) {
    if ours.len() != live.len() {
        return;
    }
    let normal =
        |list: &[Value]| -> Vec<Value> { list.iter().map(|one| wire::normal("EnvVar", one)).collect() };
    let (known, live) = (normal(ours), normal(live));
    let places: Option<Vec<usize>> =
        live.iter().map(|one| known.iter().position(|other| other == one)).collect();
    let Some(places) = places else { return };
    let mut distinct = places.clone();
    distinct.sort_unstable();
    distinct.dedup();
    if distinct.len() == ours.len() {
        *ours = places.into_iter().map(|at| ours[at].clone()).collect();
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_a_list_with_the_same_variables_is_reordered() {
        let job_set = |env: Value| {
            json!({"spec": {"replicatedJobs": [{"name": "node", "template": {"spec": {"template": {"spec":
                {"containers": [{"name": "node", "env": env}]}}}}}]}})
        };
        let ours = json!([{"name": "A", "value": ""}, {"name": "B", "value": "2"}]);
        for (live, expected) in [
            (
                json!([{"name": "B", "value": "2"}, {"name": "A"}]),
                json!([{"name": "B", "value": "2"}, {"name": "A", "value": ""}]),
            ),
            (json!([{"name": "B", "value": "3"}, {"name": "A"}]), ours.clone()),
            (json!([{"name": "B", "value": "2"}]), ours.clone()),
            (json!([{"name": "A"}, {"name": "A"}]), ours.clone()),
        ] {
            let mut built = job_set(ours.clone());
            restore(&mut built, &job_set(live));
            assert_eq!(built, job_set(expected));
        }
    }
}
