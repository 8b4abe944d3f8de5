//! JAX: processes find their coordinator.

use serde_json::{Value, json};

use crate::info::Info;
use crate::names::{PORT, RANK_FIELD, head_address};
use crate::upsert::{self, field_variable, variable};

/// Number of nodes, variables and port.
pub(crate) fn enforce(info: &mut Info, train_job: &Value) {
    if !info.has_policy("jax") {
        return;
    }
    let nodes = info.apply_num_nodes();
    if !info.injects() {
        return;
    }
    if let Some(container) = info.trainer_container() {
        let env = [
            variable("JAX_NUM_PROCESSES", nodes.to_string()),
            field_variable("JAX_PROCESS_ID", RANK_FIELD),
            variable("JAX_COORDINATOR_ADDRESS", format!("{}:{PORT}", head_address(train_job))),
        ];
        upsert::env(&mut container.env, env);
        upsert::ports(&mut container.ports, [json!({ "containerPort": PORT })]);
    }
}
