//! What frameworks, schedulers and the status server add to a TrainJob's pods, a plugin a file.

pub(crate) mod coscheduling;
pub(crate) mod flux;
pub(crate) mod jax;
pub(crate) mod jobset;
pub(crate) mod mpi;
pub(crate) mod plainml;
pub(crate) mod torch;
pub(crate) mod torchtune;
pub(crate) mod train_job_status;
pub(crate) mod volcano;
pub(crate) mod xgboost;

use serde_json::Value;

use crate::field_error::FieldError;
use crate::go;
use crate::info::Info;
use crate::value::{items, text};
use crate::wire;

/// The error of reserved variables in the trainer's environment, names sorted.
fn reserved_env(info: &Info, reserved: &[&str]) -> Option<FieldError> {
    let env = items(&info.trainer, &["env"]);
    let mut found: Vec<&str> = env.iter().filter_map(|one| text(one, &["name"])).collect();
    found.retain(|name| reserved.contains(name));
    found.sort_unstable();
    found.dedup();
    (!found.is_empty()).then(|| {
        let detail = format!("must not have reserved envs, invalid envs configured: [{}]", found.join(" "));
        FieldError::invalid("spec.trainer.env", env_json(info), detail)
    })
}

fn env_json(info: &Info) -> String {
    wire::json("[]EnvVar", crate::value::at(&info.trainer, &["env"]))
}

/// Errors about the reference to the runtime carry it.
fn invalid_runtime_ref(train_job: &Value, detail: impl Into<String>) -> FieldError {
    let reference = crate::value::at(train_job, &["spec", "runtimeRef"]);
    FieldError::invalid("spec.runtimeRef", wire::json("RuntimeRef", reference), detail)
}

/// `podSet "a" container "b"`, as upstream quotes them.
fn target_not_found(job: &str, container: &str) -> String {
    let (job, container) = (go::quoted(job), go::quoted(container));
    format!("envInjection target podSet {job} container {container} not found in runtime template")
}

/// How many pods a gang has, and what all of them request.
fn gang(info: &Info) -> Value {
    let mut members = 0_i32;
    let mut total = crate::requests::Resources::new();
    for set in &info.pod_sets {
        members = members.wrapping_add(set.count);
        let all = set.requests.iter().map(|(name, amount)| (name.clone(), amount.times(set.count.into())));
        crate::requests::add(&mut total, &all.collect());
    }
    let total = total.into_iter().map(|(name, amount)| (name, Value::from(amount.to_string())));
    serde_json::json!({ "minMember": members, "minResources": Value::Object(total.collect()) })
}
