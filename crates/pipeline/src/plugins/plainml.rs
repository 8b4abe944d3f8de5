//! Runtimes without a framework that needs more.

use crate::info::Info;
use crate::upsert;

/// Number of nodes and variables of the TrainJob.
pub(crate) fn enforce(info: &mut Info) {
    if ["torch", "mpi", "jax"].iter().any(|framework| info.has_policy(framework)) {
        return;
    }
    info.apply_num_nodes();
    let env = info.trainer_env();
    if let Some(container) = info.trainer_container() {
        upsert::env(&mut container.env, env);
    }
}
