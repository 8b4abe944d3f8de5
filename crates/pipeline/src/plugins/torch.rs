//! PyTorch: `torchrun` and its like find each other by `PET_*`.

use serde_json::{Value, json};

use super::{reserved_env, target_not_found, torchtune};
use crate::build::BuildError;
use crate::field_error::FieldError;
use crate::info::Info;
use crate::names::{PORT, RANK_FIELD, head_address};
use crate::upsert::{self, field_variable, variable};
use crate::value::{int32, items, text, texts};

const NODES: &str = "PET_NNODES";
const PROCESSES: &str = "PET_NPROC_PER_NODE";
const RANK: &str = "PET_NODE_RANK";
const MASTER_ADDRESS: &str = "PET_MASTER_ADDR";
const MASTER_PORT: &str = "PET_MASTER_PORT";
const RESERVED: [&str; 5] = [NODES, PROCESSES, RANK, MASTER_ADDRESS, MASTER_PORT];

/// Processes of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Processes {
    /// `torchrun` counts the GPUs.
    Auto,
    /// So many.
    Count(i64),
}

impl Processes {
    /// What the TrainJob says, without a look at resources.
    pub(super) fn requested(info: &Info) -> Self {
        int32(&info.trainer, &["numProcPerNode"]).map_or(Self::Auto, |count| Self::Count(count.into()))
    }

    fn of(info: &Info) -> Self {
        match Self::requested(info) {
            Self::Auto if info.gpus() == 0 => Self::Count(info.cpus().max(1)),
            requested => requested,
        }
    }
}

impl std::fmt::Display for Processes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Count(count) => write!(f, "{count}"),
        }
    }
}

/// Containers beside the trainer's that get the variables too: Job and container.
fn injection_targets(info: &Info) -> Vec<(&Value, String, String)> {
    let targets = items(&info.ml_policy, &["torch", "envInjection", "targets"]).iter();
    let pairs = targets.flat_map(|target| {
        let job = text(target, &["jobName"]).unwrap_or_default();
        texts(target, &["containerNames"]).into_iter().map(move |name| (target, job.to_owned(), name))
    });
    pairs.collect()
}

/// Number of nodes, variables, port, and the command of torchtune.
pub(crate) fn enforce(info: &mut Info, train_job: &Value) -> Result<(), BuildError> {
    if !info.has_policy("torch") {
        return Ok(());
    }
    let nodes = info.apply_num_nodes();
    let processes = Processes::of(info);
    let distributed = [
        variable(NODES, nodes.to_string()),
        variable(PROCESSES, processes.to_string()),
        field_variable(RANK, RANK_FIELD),
    ];
    let master = [variable(MASTER_ADDRESS, head_address(train_job)), variable(MASTER_PORT, PORT.to_string())];
    let tunes = torchtune::is_asked(info);
    let env = info.trainer_env();
    let injects = info.injects();
    if let Some(container) = info.trainer_container().filter(|_| injects) {
        upsert::env(&mut container.env, env);
        upsert::env(&mut container.env, distributed.clone());
        if !tunes {
            upsert::env(&mut container.env, master.clone());
        }
        upsert::ports(&mut container.ports, [json!({ "containerPort": PORT })]);
        if tunes {
            torchtune::extend_command(info, train_job, nodes, processes);
        }
    }
    let targets: Vec<_> = injection_targets(info).into_iter().map(|(_, job, name)| (job, name)).collect();
    for (job, name) in targets {
        match info.pod_set(&job).and_then(|set| set.container(&name)) {
            Some(container) => {
                upsert::env(&mut container.env, distributed.clone());
                upsert::env(&mut container.env, master.clone());
            }
            None => return Err(BuildError::InjectionTarget { job, container: name }),
        }
    }
    Ok(())
}

/// Targets that exist, variables that are the framework's, and what torchtune can do.
pub(crate) fn validate(info: &mut Info, train_job: &Value, errors: &mut Vec<FieldError>) {
    if !info.has_policy("torch") {
        return;
    }
    let targets: Vec<_> =
        injection_targets(info).into_iter().map(|(target, job, name)| (target.clone(), job, name)).collect();
    for (target, job, name) in targets {
        if info.pod_set(&job).and_then(|set| set.container(&name)).is_none() {
            let value = crate::wire::json("EnvInjectionTarget", &target);
            errors.push(FieldError::invalid("spec.runtimeRef", value, target_not_found(&job, &name)));
        }
    }
    if info.has_trainer() {
        errors.extend(reserved_env(info, &RESERVED));
        if torchtune::is_asked(info) {
            torchtune::validate(info, train_job, errors);
        }
    }
}
