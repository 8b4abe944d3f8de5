//! XGBoost: workers find their tracker.

use serde_json::{Value, json};

use crate::field_error::FieldError;
use crate::info::Info;
use crate::names::{PORT, RANK_FIELD, TRAINER, head_address};
use crate::upsert::{self, field_variable, variable};
use crate::value::{items, text};

const RESERVED: [&str; 4] = ["DMLC_TRACKER_URI", "DMLC_TRACKER_PORT", "DMLC_TASK_ID", "DMLC_NUM_WORKER"];

/// Number of nodes, variables and port.
pub(crate) fn enforce(info: &mut Info, train_job: &Value) {
    if !info.has_policy("xgboost")
        || !info.pod_sets.iter().any(|set| set.ancestor.as_deref() == Some(TRAINER))
    {
        return;
    }
    let nodes = info.apply_num_nodes();
    if !info.injects() {
        return;
    }
    // One worker for each GPU, or one for the node.
    let workers = i64::from(nodes).saturating_mul(info.gpus().max(1));
    if let Some(container) = info.trainer_container() {
        let env = [
            variable(RESERVED[0], head_address(train_job)),
            variable(RESERVED[1], PORT.to_string()),
            field_variable(RESERVED[2], RANK_FIELD),
            variable(RESERVED[3], workers.to_string()),
        ];
        upsert::env(&mut container.env, env);
        upsert::ports(&mut container.ports, [json!({ "containerPort": PORT })]);
    }
}

/// Variables that are the framework's.
pub(crate) fn validate(info: &Info, errors: &mut Vec<FieldError>) {
    if !info.has_policy("xgboost") {
        return;
    }
    for (at, name) in items(&info.trainer, &["env"]).iter().map(|one| text(one, &["name"])).enumerate() {
        if let Some(name) = name.filter(|name| RESERVED.contains(name)) {
            let detail = format!("{name} is reserved for the XGBoost runtime");
            errors.push(FieldError::forbidden(format!("spec.trainer.env[{at}]"), detail));
        }
    }
}
