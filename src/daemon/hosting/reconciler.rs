//! The native reconciler as a process: started with the configuration that the revision holds, at addresses of this
//! machine.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use semver::Version;
use serde_json::{Value, json};
use tokio::sync::watch;
use trainerd_catalog::{Catalog, Process};
use trainerd_cluster::lease::Identity;
use trainerd_plan::desired::Desired;
use trainerd_reconciler::Hosted;
use trainerd_supervise::{Launch, LaunchError, Policy, Service};

use super::{Access, check, free_port, program};

/// The process in the catalog, and the service.
const RECONCILER: &str = "reconciler";
/// Its component.
const TRAINER: &str = "trainer";
/// Where it listens: nobody else is to call it.
const LOOPBACK: &str = "127.0.0.1";

/// What a hosted reconciler is made of, from a revision that asks for one.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct HostedReconciler {
    /// Version of the trainer.
    version: Version,
    /// Namespace of the installation, where the lease is.
    namespace: String,
    /// Its files by the key of the ConfigMap that holds each.
    files: Vec<(String, String)>,
}

impl HostedReconciler {
    /// What a desired state asks for; `None` where its reconciler is in the cluster.
    pub(crate) fn of(desired: &Desired) -> Option<Self> {
        if desired.options.get("reconciler").and_then(Value::as_str) != Some("hosted") {
            return None;
        }
        let of_trainer = desired.objects.iter().filter(|object| object.component == TRAINER);
        let data = of_trainer
            .filter(|object| object.resource.kind == "ConfigMap")
            .filter_map(|object| object.manifest["data"].as_object())
            .flatten();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        Some(Self {
            version: desired.components.get(TRAINER)?.version.clone(),
            namespace: desired.installation.namespace.clone(),
            files: data.map(|(key, value)| (key.clone(), text(value))).collect(),
        })
    }
}

/// The service, which is started with whatever is asked for then.
pub(super) fn service(
    access: &Access,
    wanted: watch::Receiver<Option<HostedReconciler>>,
    folder: &Path,
) -> Service {
    let (access, folder) = (access.clone(), folder.join(RECONCILER));
    // One holder for all its processes, of which there is one at a time: the next one has the lease at once.
    let holder = format!("{}_hosted", Identity::of_this_process());
    let prepare = move || {
        let wanted = wanted.borrow().clone();
        let wanted = wanted.ok_or_else(|| fault("find what it is started with", "nothing asks for it"))?;
        prepare(&access, &wanted, &folder, &holder)
    };
    Service {
        name: RECONCILER.to_owned(),
        policy: Policy::default(),
        after: Vec::new(),
        prepare: Arc::new(prepare),
    }
}

fn fault(what: &str, why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> LaunchError {
    LaunchError::Prepare { what: what.to_owned(), source: io::Error::other(why) }
}

fn prepare(
    access: &Access,
    wanted: &HostedReconciler,
    folder: &Path,
    holder: &str,
) -> Result<Launch, LaunchError> {
    let catalog = Catalog::builtin().map_err(|error| fault("read the catalog", error))?;
    let mut processes = catalog.processes(TRAINER, &wanted.version);
    let process = processes.remove(RECONCILER);
    let process = process.ok_or_else(|| fault("find it in the catalog", "this version has none"))?;
    std::fs::create_dir_all(folder)
        .map_err(|source| LaunchError::Prepare { what: format!("make {}", folder.display()), source })?;
    let ports = Ports { health: free_port()?, webhook: free_port()? };
    let files = put(&process, wanted, folder, &ports)?;
    let mut arguments: Vec<OsString> =
        process.arguments.iter().map(|argument| argument_of(argument, &files)).collect();
    if let Some(kubeconfig) = &access.kubeconfig {
        arguments.push("--kubeconfig".into());
        arguments.push(kubeconfig.into());
    }
    let mut variables: Vec<(String, OsString)> =
        process.variables.iter().map(|(name, value)| (name.clone(), value.into())).collect();
    variables.push((Hosted::NAMESPACE.to_owned(), wanted.namespace.clone().into()));
    variables.push((Hosted::HOLDER.to_owned(), holder.into()));
    variables.extend(access.context.iter().map(|context| (Hosted::CONTEXT.to_owned(), context.into())));
    variables.push(("TMPDIR".to_owned(), folder.into()));
    let address = format!("{LOOPBACK}:{}", ports.health);
    Ok(Launch {
        program: program(&process.program),
        name: process.program.clone(),
        arguments,
        variables,
        checks: process.checks.iter().map(|described| check(described, &address)).collect(),
    })
}

/// Where a process listens.
struct Ports {
    health: u16,
    webhook: u16,
}

/// Puts the files of a process in place: by the path that its description has, the one that each has here.
fn put(
    process: &Process,
    wanted: &HostedReconciler,
    folder: &Path,
    ports: &Ports,
) -> Result<Vec<(String, PathBuf)>, LaunchError> {
    let mut files = Vec::new();
    for (path, key) in &process.files {
        let text = wanted.files.iter().find(|(known, _)| known == key).map(|(_, text)| text);
        let text =
            text.ok_or_else(|| fault(&format!("find {key} in the revision"), "no ConfigMap holds it"))?;
        let local = folder.join(key);
        let text = at_home(text, &wanted.namespace, ports)
            .map_err(|error| fault(&format!("read {key} of the revision"), error))?;
        std::fs::write(&local, text)
            .map_err(|source| LaunchError::Prepare { what: format!("write {}", local.display()), source })?;
        files.push((path.clone(), local));
    }
    Ok(files)
}

/// An argument, with the paths of files as they are here.
fn argument_of(argument: &str, files: &[(String, PathBuf)]) -> OsString {
    let found = files.iter().find_map(|(path, local)| {
        let before = argument.strip_suffix(path.as_str())?;
        let mut argument = OsString::from(before);
        argument.push(local);
        Some(argument)
    });
    found.unwrap_or_else(|| argument.into())
}

/// The configuration of the revision, at addresses of this machine: probes and webhooks listen where nobody else comes,
/// metrics nowhere, the lease is in the installation's namespace, and the certificate, which no webhook shows, is not kept.
fn at_home(text: &str, namespace: &str, ports: &Ports) -> Result<String, serde_yaml::Error> {
    let mut config: Value = serde_yaml::from_str(text)?;
    config["health"]["healthProbeBindAddress"] = json!(format!("{LOOPBACK}:{}", ports.health));
    config["metrics"]["bindAddress"] = json!("0");
    config["webhook"] = json!({"host": LOOPBACK, "port": ports.webhook});
    config["certManagement"]["enable"] = json!(false);
    if config["leaderElection"]["leaderElect"] == true {
        config["leaderElection"]["resourceNamespace"] = json!(namespace);
    }
    serde_yaml::to_string(&config)
}

#[cfg(test)]
mod tests {
    use trainerd_catalog::Raw;
    use trainerd_plan::desired::Installation;

    use super::*;

    fn desired(reconciler: &str) -> Desired {
        let catalog = Catalog::builtin().unwrap();
        let given = [("reconciler".to_owned(), Raw::from(reconciler))].into();
        let options = catalog.parse_options(&given).unwrap();
        let resolution = catalog.resolve(&options, None).unwrap();
        let installation = Installation { name: "a".into(), namespace: "home".into() };
        catalog.render(&options, &resolution, &installation).unwrap()
    }

    #[test]
    fn the_reconciler_is_hosted_only_if_the_revision_says_so() {
        assert_eq!(HostedReconciler::of(&desired("native")), None);
        assert_eq!(HostedReconciler::of(&desired("upstream")), None);
        assert!(HostedReconciler::of(&desired("hosted")).is_some());
    }

    #[test]
    fn the_hosted_reconciler_has_the_containers_flags_and_local_configuration() {
        let wanted = HostedReconciler::of(&desired("hosted")).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let access = Access { kubeconfig: Some("/k".into()), context: Some("c".to_owned()) };
        let launch = prepare(&access, &wanted, folder.path(), "me").unwrap();
        let file = folder.path().join("controller_manager_config.yaml");
        let arguments: Vec<String> =
            launch.arguments.iter().map(|argument| argument.to_string_lossy().into_owned()).collect();
        let config = format!("--config={}", file.display());
        assert_eq!(arguments, ["reconciler", &config, "--zap-log-level=2", "--kubeconfig", "/k"]);
        let value = |name: &str| launch.variables.iter().find(|(known, _)| known == name).unwrap().1.clone();
        assert_eq!((value(Hosted::NAMESPACE), value(Hosted::HOLDER)), ("home".into(), "me".into()));
        assert_eq!(value(Hosted::CONTEXT), "c");
        let names: Vec<&str> = launch.checks.iter().map(|check| check.name.as_str()).collect();
        assert_eq!(names, ["alive", "ready"]);

        let text = std::fs::read_to_string(&file).unwrap();
        let config = trainerd_pipeline::config::Config::read(&text).unwrap();
        assert_eq!(config.metrics().0, "0");
        assert_eq!(config.health().0, launch.checks[0].address);
        assert_eq!(config.webhook().0, LOOPBACK);
        assert!(!config.certificates().0);
        assert_eq!(config.leader_election().unwrap().resource_namespace, "home");
        // What is not about addresses is the revision's.
        assert_eq!(config.concurrency()["TrainJob.trainer.kubeflow.org"], 5);
    }
}
