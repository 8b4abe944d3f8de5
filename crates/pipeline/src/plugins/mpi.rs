//! MPI: pods that reach each other by SSH, a hostfile, and what Open MPI needs to know of both.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::reserved_env;
use crate::build::BuildError;
use crate::field_error::FieldError;
use crate::info::Info;
use crate::names::{LAUNCHER, NODE, name, owned};
use crate::ssh;
use crate::upsert::{self, variable};
use crate::value::{int32, items, text};
use crate::{Facts, go};

const SSH_VOLUME: &str = "mpi-ssh-auth";
const HOSTFILE_VOLUME: &str = "mpi-hostfile";
const HOSTFILE: &str = "hostfile";
const HOSTFILE_FOLDER: &str = "/etc/mpi";
const RESERVED: [&str; 4] = [
    "OMPI_MCA_orte_default_hostfile",
    "OMPI_MCA_orte_keep_fqdn_hostnames",
    "OMPI_MCA_orte_set_default_slots",
    "OMPI_MCA_plm_rsh_args",
];
/// What the API server takes of a ConfigMap, in bytes.
const CONFIG_MAP_LIMIT: usize = 1 << 20;

/// The implementation; the CRD's default where there is none.
fn implementation(info: &Info) -> &str {
    text(&info.ml_policy, &["mpi", "mpiImplementation"]).unwrap_or("OpenMPI")
}

/// Number of nodes, slots, volumes, mounts and the launcher's variables.
pub(crate) fn enforce(info: &mut Info, train_job: &Value) -> Result<(), BuildError> {
    if !info.has_policy("mpi") {
        return Ok(());
    }
    if let Some(asked) = info.num_nodes() {
        let count = if info.launcher_is_node() { asked.saturating_sub(1).max(1) } else { asked };
        if let Some(node) = info.pod_set(NODE) {
            node.count = count;
        }
    }
    if let Some(asked) = int32(&info.trainer, &["numProcPerNode"]) {
        info.slots = asked;
    } else if info.slots == 1 {
        info.slots = i32::try_from(info.gpus().max(1)).unwrap_or(i32::MAX);
    }
    let slots = info.slots;
    let implementation = implementation(info).to_owned();
    let mount_path = text(&info.ml_policy, &["mpi", "sshAuthMountPath"]).unwrap_or("/root/.ssh").to_owned();
    for set in info.pod_sets.iter_mut().filter(|set| set.name == NODE || set.name == LAUNCHER) {
        let is_launcher = set.name == LAUNCHER;
        upsert::volumes(&mut set.volumes, [ssh_volume(train_job)]);
        if is_launcher {
            upsert::volumes(&mut set.volumes, [hostfile_volume(train_job)]);
        }
        for container in set.containers.iter_mut().filter(|container| container.name == NODE) {
            upsert::mounts(&mut container.mounts, [json!({ "name": SSH_VOLUME, "mountPath": mount_path })]);
            if !is_launcher {
                continue;
            }
            upsert::mounts(
                &mut container.mounts,
                [json!({ "name": HOSTFILE_VOLUME, "mountPath": HOSTFILE_FOLDER })],
            );
            if implementation != "OpenMPI" {
                return Err(BuildError::MpiImplementation(go::quoted(&implementation)));
            }
            let env = [
                variable(RESERVED[0], format!("{HOSTFILE_FOLDER}/{HOSTFILE}")),
                variable(RESERVED[1], "true"),
                variable(RESERVED[2], slots.to_string()),
                variable(RESERVED[3], "-o ConnectionAttempts=10"),
            ];
            upsert::env(&mut container.env, env);
        }
    }
    Ok(())
}

fn ssh_volume(train_job: &Value) -> Value {
    json!({
        "name": SSH_VOLUME,
        "secret": {
            "secretName": secret_name(train_job),
            "defaultMode": 0o400,
            "items": [
                { "key": ssh::PRIVATE_KEY, "path": "id_rsa", "mode": 0o640 },
                { "key": ssh::PUBLIC_KEY, "path": "id_rsa.pub", "mode": 0o644 },
                { "key": ssh::PUBLIC_KEY, "path": "authorized_keys", "mode": 0o644 },
            ],
        },
    })
}

fn hostfile_volume(train_job: &Value) -> Value {
    json!({
        "name": HOSTFILE_VOLUME,
        "configMap": {
            "name": format!("{}-mpi-hostfile", name(train_job)),
            "items": [{ "key": HOSTFILE, "path": HOSTFILE, "mode": 0o444 }],
        },
    })
}

fn secret_name(train_job: &Value) -> String {
    format!("{}-mpi-ssh-auth", name(train_job))
}

/// The SSH Secret, where there is none, and the hostfile.
pub(crate) fn build(info: &Info, train_job: &Value, facts: &Facts<'_>) -> Result<Vec<Value>, BuildError> {
    if !info.has_policy("mpi") {
        return Ok(Vec::new());
    }
    let mut objects = Vec::new();
    if !facts.ssh_secret {
        let key = facts.keys.generate().map_err(BuildError::SshKey)?;
        let mut secret = owned("v1", "Secret", &secret_name(train_job), train_job);
        secret["type"] = "kubernetes.io/ssh-auth".into();
        secret["immutable"] = true.into();
        secret["data"] = json!({
            ssh::PRIVATE_KEY: STANDARD.encode(ssh::private_pem(&key)),
            ssh::PUBLIC_KEY: STANDARD.encode(ssh::authorized_key(&key)),
        });
        objects.push(secret);
    }
    let mut hostfile = owned("v1", "ConfigMap", &format!("{}-mpi-hostfile", name(train_job)), train_job);
    hostfile["data"] = json!({ HOSTFILE: hosts(info, train_job)? });
    objects.push(hostfile);
    Ok(objects)
}

/// A line for each pod that trains.
fn hosts(info: &Info, train_job: &Value) -> Result<String, BuildError> {
    let mut text = String::new();
    if implementation(info) != "OpenMPI" {
        return Ok(text);
    }
    let train_job = name(train_job);
    let subdomain = self::text(&info.template, &["network", "subdomain"]).unwrap_or(train_job);
    for (set, job) in info.pod_sets.iter().zip(items(&info.template, &["replicatedJobs"])) {
        if set.name != NODE && !(set.name == LAUNCHER && info.launcher_is_node()) {
            continue;
        }
        for replica in 0..int32(job, &["replicas"]).unwrap_or(1) {
            for pod in 0..set.count {
                let line =
                    format!("{train_job}-{}-{replica}-{pod}.{subdomain} slots={}\n", set.name, info.slots);
                text.push_str(&line);
                if text.len() > CONFIG_MAP_LIMIT {
                    return Err(BuildError::HostfileTooLarge { nodes: set.count });
                }
            }
        }
    }
    Ok(text)
}

/// Sets of pods that the number of nodes needs, and variables that are the framework's.
pub(crate) fn validate(info: &mut Info, errors: &mut Vec<FieldError>) {
    if !info.has_policy("mpi") || !info.has_trainer() {
        return;
    }
    let nodes = info.num_nodes().unwrap_or(1);
    if nodes >= 2
        && info.launcher_is_node()
        && !(info.pod_set(LAUNCHER).is_some() && info.pod_set(NODE).is_some())
    {
        let detail = "must have 1 when MPI trainingRuntime with enabled runLauncherAsNode does not have either launcher and node";
        errors.push(FieldError::invalid("spec.trainer.numNodes", nodes, detail));
    }
    errors.extend(reserved_env(info, &RESERVED));
}
