//! Flux: an own scheduler in the pods of a TrainJob, which runs the command on all of them.

mod curve;

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::BuildProfile;
use crate::build::BuildError;
use crate::field_error::FieldError;
use crate::info::{Container, Info};
use crate::names::{NODE, name, namespace, owned};
use crate::upsert;
use crate::value::{int32, items, object_mut, text, texts};

const INSTALLER: &str = "flux-installer";
const INSTALL_VOLUME: &str = "flux-install";
const INSTALL_FOLDER: &str = "/mnt/flux";
const SOFTWARE_VOLUME: &str = "spack-install";
const CURVE_VOLUME: &str = "flux-curve";
const MEMORY_VOLUME: &str = "shared-memory";
const SCRIPT_FOLDER: &str = "/etc/flux-config";

const ENTRYPOINT: &str = include_str!("flux/entrypoint.sh");
const INIT: &str = include_str!("flux/init.sh");
const BROKER: &str = include_str!("flux/broker.toml");

/// What variables of the training container may change.
struct Settings {
    view_image: String,
    network_device: String,
    queue_policy: String,
}

impl Settings {
    /// Defaults, overridden by the container's variables, then by the TrainJob's.
    fn of(info: &mut Info) -> Self {
        let mut settings = Self {
            view_image: "ghcr.io/converged-computing/flux-view-ubuntu:tag-jammy".to_owned(),
            network_device: "eth0".to_owned(),
            queue_policy: "fcfs".to_owned(),
        };
        let container = info.trainer_container().map(|container| container.env.clone()).unwrap_or_default();
        for one in container {
            if let Some(value) = text(&one, &["value"]) {
                settings.set(text(&one, &["name"]), value);
            }
        }
        for one in items(&info.trainer, &["env"]) {
            settings.set(text(one, &["name"]), text(one, &["value"]).unwrap_or_default());
        }
        settings
    }

    fn set(&mut self, name: Option<&str>, value: &str) {
        let setting = match name {
            Some("FLUX_VIEW_IMAGE") => &mut self.view_image,
            Some("FLUX_NETWORK_DEVICE") => &mut self.network_device,
            Some("FLUX_QUEUE_POLICY") => &mut self.queue_policy,
            _ => return,
        };
        value.clone_into(setting);
    }
}

/// Sizes of the instance.
struct Size {
    nodes: i32,
    /// On each node.
    tasks: i32,
    gpus: i64,
}

impl Size {
    /// Upstream's profile refuses where upstream's code fails; ours falls back on the runtime.
    fn of(info: &mut Info) -> Result<Self, BuildError> {
        let asked = info.num_nodes();
        let of_runtime = int32(&info.ml_policy, &["flux", "numProcPerNode"]);
        let tasks = int32(&info.trainer, &["numProcPerNode"]).or(of_runtime);
        let (nodes, tasks) = match (info.profile, asked, tasks) {
            (_, Some(nodes), Some(tasks)) => (nodes, tasks),
            (BuildProfile::Upstream, None, _) => {
                return Err(BuildError::FluxRequires("spec.trainer.numNodes"));
            }
            (BuildProfile::Upstream, _, None) => {
                return Err(BuildError::FluxRequires("numProcPerNode of the TrainJob or its runtime"));
            }
            (BuildProfile::Extended, nodes, tasks) => {
                let pods = info.trainer_pod_set().map_or(1, |set| set.count);
                (nodes.unwrap_or(pods), tasks.unwrap_or(1))
            }
        };
        Ok(Self { nodes, tasks, gpus: info.gpus() })
    }
}

/// `0-3` for four, `0` for one.
fn range(count: i64) -> String {
    if count == 1 { "0".to_owned() } else { format!("0-{}", count - 1) }
}

fn scripts_name(train_job: &Value) -> String {
    format!("{}-flux-entrypoint", name(train_job))
}

fn curve_name(train_job: &Value) -> String {
    format!("{}-flux-curve", name(train_job))
}

/// Wraps the command, and adds what installs Flux beside it.
pub(crate) fn enforce(info: &mut Info, train_job: &Value) -> Result<(), BuildError> {
    if !info.has_policy("flux") {
        return Ok(());
    }
    if !info.has_trainer() && info.profile == BuildProfile::Upstream {
        return Err(BuildError::FluxRequires("spec.trainer"));
    }
    let settings = Settings::of(info);
    let scripts = scripts_name(train_job);
    wrap_command(info);
    let installer = Container {
        name: INSTALLER.to_owned(),
        image: settings.view_image,
        command: vec!["/bin/bash".to_owned(), format!("{SCRIPT_FOLDER}/init.sh")],
        mounts: vec![
            json!({ "name": INSTALL_VOLUME, "mountPath": INSTALL_FOLDER }),
            json!({ "name": scripts, "mountPath": SCRIPT_FOLDER, "readOnly": true }),
        ],
        ..Container::default()
    };
    let Some(set) = info.pod_set(NODE) else { return Ok(()) };
    let volumes = [
        json!({ "name": SOFTWARE_VOLUME, "emptyDir": {} }),
        json!({ "name": INSTALL_VOLUME, "emptyDir": {} }),
        json!({ "name": scripts, "configMap": { "name": scripts, "defaultMode": 0o755 } }),
        json!({ "name": MEMORY_VOLUME, "emptyDir": { "medium": "Memory" } }),
        json!({ "name": CURVE_VOLUME, "secret": { "secretName": curve_name(train_job), "defaultMode": 0o400 } }),
    ];
    upsert::volumes(&mut set.volumes, volumes);
    set.init_containers.push(installer);
    for container in set.containers.iter_mut().filter(|container| container.name == NODE) {
        let mounts = [
            json!({ "name": INSTALL_VOLUME, "mountPath": INSTALL_FOLDER }),
            json!({ "name": SOFTWARE_VOLUME, "mountPath": "/opt/software" }),
            json!({ "name": scripts, "mountPath": SCRIPT_FOLDER, "readOnly": true }),
            json!({ "name": CURVE_VOLUME, "mountPath": "/curve", "readOnly": true }),
            json!({ "name": MEMORY_VOLUME, "mountPath": "/dev/shm", "readOnly": true }),
        ];
        upsert::mounts(&mut container.mounts, mounts);
    }
    Ok(())
}

/// The command and its arguments become the last argument of the entrypoint. Arguments of the template stay.
fn wrap_command(info: &mut Info) {
    let container = info.trainer_container().map(|container| container.command.clone()).unwrap_or_default();
    let given = info.trainer.get("command").is_some_and(Value::is_array);
    let mut words = if given { texts(&info.trainer, &["command"]) } else { container };
    words.extend(texts(&info.trainer, &["args"]));
    let command = vec![
        "/bin/bash".to_owned(),
        format!("{SCRIPT_FOLDER}/entrypoint.sh"),
        words.join(" ").trim().to_owned(),
    ];
    if info.has_trainer() {
        let trainer = object_mut(&mut info.trainer, &[]);
        trainer.insert("command".into(), json!(command));
        trainer.remove("args");
    } else if let Some(container) = info.trainer_container() {
        container.command = command;
    }
}

/// Scripts and certificate.
pub(crate) fn build(info: &mut Info, train_job: &Value) -> Result<Vec<Value>, BuildError> {
    if !info.has_policy("flux") {
        return Ok(Vec::new());
    }
    let settings = Settings::of(info);
    let size = Size::of(info)?;
    let mut scripts = owned("v1", "ConfigMap", &scripts_name(train_job), train_job);
    scripts["data"] = json!({
        "entrypoint.sh": entrypoint(train_job, &size),
        "init.sh": init(train_job, &size, &settings),
    });
    let mut secret = owned("v1", "Secret", &curve_name(train_job), train_job);
    secret["data"] = json!({ "curve.cert": STANDARD.encode(curve::certificate(train_job)) });
    Ok(vec![scripts, secret])
}

fn entrypoint(train_job: &Value, size: &Size) -> String {
    let total = i64::from(size.tasks) * i64::from(size.nodes);
    let mut flags = format!("-N {} -n {total}", size.nodes);
    let mut resources = format!("--cores={}", range(size.tasks.into()));
    if size.gpus > 0 {
        flags = format!("{flags} -g {}", size.gpus);
        resources = format!("{resources} --gpu={}", range(size.gpus));
    }
    ENTRYPOINT
        .replace("{{main-host}}", &format!("{}-{NODE}-0-0", name(train_job)))
        .replace("{{resources}}", &resources)
        .replace("{{flags}}", &flags)
}

fn init(train_job: &Value, size: &Size, settings: &Settings) -> String {
    let name = name(train_job);
    let hosts = format!("{name}-{NODE}-0-[{}]", range(size.nodes.into()));
    let broker = BROKER
        .replace("{{domain}}", &format!("{name}.{}.svc.cluster.local", namespace(train_job)))
        .replace("{{hosts}}", &hosts)
        .replace("{{device}}", &toml(&settings.network_device))
        .replace("{{queue-policy}}", &toml(&settings.queue_policy));
    let script = INIT.replace("{{main-host}}", &format!("{name}-0")).replace("{{hosts}}", &hosts);
    script.replace("{{broker}}", broker.trim_end())
}

/// Inside a string of TOML, which these values of users' variables may not leave.
fn toml(value: &str) -> String {
    let mut out = String::new();
    for c in value.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => drop(write!(out, "\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out
}

/// The installer is ours; and less than one process is none. CRDs from 2.4 on refuse the latter themselves.
pub(crate) fn validate(info: &mut Info, errors: &mut Vec<FieldError>) {
    if !info.has_policy("flux") {
        return;
    }
    let of_runtime = || int32(&info.ml_policy, &["flux", "numProcPerNode"]);
    let processes = int32(&info.trainer, &["numProcPerNode"]).or_else(of_runtime);
    if let Some(processes) = processes.filter(|processes| *processes < 1) {
        let detail = "must be greater than or equal to 1 for Flux TrainJob";
        errors.push(FieldError::invalid("spec.trainer.numProcPerNode", processes, detail));
    }
    for set in info.pod_sets.iter().filter(|set| set.name == NODE) {
        for _ in set.init_containers.iter().filter(|container| container.name == INSTALLER) {
            let detail = "InitContainer 'flux-installer' is reserved";
            errors.push(FieldError::invalid_text("spec.trainer.initContainers", INSTALLER, detail));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_hold_the_sizes() {
        let train_job = json!({"metadata": {"name": "a", "namespace": "n"}});
        for (nodes, tasks, gpus, resources, flags) in [
            (1, 1, 0, "--cores=0 ", "flux run -N 1 -n 1 $"),
            (2, 4, 0, "--cores=0-3 ", "flux run -N 2 -n 8 $"),
            (2, 1, 2, "--cores=0 --gpu=0-1 ", "flux run -N 2 -n 2 -g 2 $"),
        ] {
            let script = entrypoint(&train_job, &Size { nodes, tasks, gpus });
            assert!(script.contains(resources) && script.contains(flags), "{script}");
            assert!(!script.contains("{{"), "{script}");
        }
    }

    #[test]
    fn values_cannot_break_out_of_their_string() {
        let train_job = json!({"metadata": {"name": "a", "namespace": "n"}});
        let settings = Settings {
            view_image: String::new(),
            network_device: "eth\"0\nx".to_owned(),
            queue_policy: "fcfs".to_owned(),
        };
        let script = init(&train_job, &Size { nodes: 1, tasks: 1, gpus: 0 }, &settings);
        assert!(script.contains(r#"default_bind = "tcp://eth\"0\u000ax:%p""#), "{script}");
        assert!(script.contains(r#"host="a-node-0-[0]""#) && !script.contains("{{"), "{script}");
    }
}
