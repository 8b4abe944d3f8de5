//! A unit's containers in a pod, as Juju shapes it (3.6, `ApplicationPodSpec` of its Kubernetes provider): one volume in
//! parts, Pebble in both containers, user 170, probes, service account.
//!
//! Two things are not Juju's: the images of its own containers, which hold a program that does nothing, and its agent.
//! What the agent does in the init container, and when it runs a hook, this test does from outside: it fills the volume
//! by way of the init container's mounts, and enters the charm's container for each hook.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};
use trainerd_cluster::builtin::pod;
use trainerd_cluster::{CreateParams, LogParams, RequestError};
use trainerd_plan::object::Resource;

use super::{HOOK_TOOL, MODEL, Programs, agent, kill, link_tools, packed, tools, unpack};
use crate::{Error, TestCluster, stack};

/// Image of Juju's own containers.
pub(crate) const BASE: &str = "trainerd.test/pause:1";
/// Image of the resource `trainerd-image`.
pub(crate) const WORKLOAD: &str = "localhost/trainerd:v0.1.0";

/// Where the charm's container has Juju's world.
pub(super) const WORLD: &str = "/var/lib/juju/world";

/// Juju's user for charms that ask for no rights.
const USER: u32 = 170;

/// Time limit for a pod to start or to end; its grace period is 30 seconds.
const POD_TIMEOUT: Duration = Duration::from_mins(2);

/// A pod of the application.
pub(crate) struct Pod<'c> {
    cluster: &'c TestCluster,
    programs: Programs,
    application: String,
    number: usize,
    /// UID of the current or last pod.
    uid: String,
    /// First process of the charm's container, on this machine.
    charm: u32,
    /// The same of the workload's.
    workload: u32,
}

impl<'c> Pod<'c> {
    /// The pod of a unit, which may not exist yet.
    pub(super) fn new(
        cluster: &'c TestCluster,
        programs: &Programs,
        application: &str,
        number: usize,
    ) -> Self {
        let (programs, application) = (programs.clone(), application.to_owned());
        Self { cluster, programs, application, number, uid: String::new(), charm: 0, workload: 0 }
    }

    fn name(&self) -> String {
        format!("{}-{}", self.application, self.number)
    }

    /// Waits for a new pod, and does in it what Juju does before any hook.
    pub(super) fn wait(&mut self) -> Result<(), Error> {
        let before = self.uid.clone();
        let (uid, init) = self.running(&before, "initContainerStatuses", "charm-init")?;
        self.prepare_volume(&root(init))?;
        kill(init, Signal::TERM);
        self.uid = uid;
        self.charm = self.running(&before, "containerStatuses", "charm")?.1;
        self.workload = self.running(&before, "containerStatuses", "trainerd")?.1;
        if packed().is_none() {
            // The charm's program is that of the image: a static one, as the charm's container has no libraries.
            let dispatch = self.file(&format!("{}/dispatch", agent(&self.application, self.number)));
            copy(&root(self.workload).join("usr/bin/trainerd"), &dispatch)?;
        }
        Ok(())
    }

    /// Whether the unit has had a pod.
    pub(crate) fn exists(&self) -> bool {
        !self.uid.is_empty()
    }

    /// Deletes the pod, and waits until it has ended.
    pub(crate) fn delete(&self) -> Result<(), Error> {
        self.cluster.delete(&pod(), MODEL, &self.name())?;
        self.wait_until_deleted()
    }

    /// Waits until the pod has ended.
    pub(crate) fn wait_until_deleted(&self) -> Result<(), Error> {
        let is_gone = || {
            let found = self.cluster.get(&pod(), MODEL, &self.name())?;
            Ok(found.is_none_or(|found| found["metadata"]["uid"] != self.uid))
        };
        self.cluster.wait_until("the unit's pod to end", POD_TIMEOUT, is_gone)
    }

    /// Waits until a container of a pod with another uid runs; that uid, and the container's first process.
    fn running(&self, not: &str, list: &str, name: &str) -> Result<(String, u32), Error> {
        let mut found = None;
        let runs = || {
            let pod = self.cluster.get(&pod(), MODEL, &self.name())?.unwrap_or_default();
            let uid = pod["metadata"]["uid"].as_str().unwrap_or_default();
            let mut all = pod["status"][list].as_array().into_iter().flatten();
            let status = all.find(|status| status["name"] == name);
            let running = status.filter(|status| uid != not && status["state"]["running"].is_object());
            let id = running.and_then(|status| status["containerID"].as_str()?.split("//").nth(1));
            found = id.and_then(first_process).map(|pid| (uid.to_owned(), pid));
            Ok(found.is_some())
        };
        let what = format!("container {name} of pod {} to run on this machine", self.name());
        self.cluster.wait_until(&what, POD_TIMEOUT, runs)?;
        found.ok_or(Error::Missing(what))
    }

    /// Does what Juju's agent does in the init container: installs its programs, the charm and Pebble's identities.
    fn prepare_volume(&self, root: &Path) -> Result<(), Error> {
        let below = |path: &str| root.join(path.trim_start_matches('/'));
        let (agent, tools) = (agent(&self.application, self.number), tools(&self.application, self.number));
        let resources = format!("{WORLD}/resources");
        for path in [agent.as_str(), &tools, &resources, "/containeragent/pebble/layers"] {
            let path = below(path);
            std::fs::create_dir_all(&path).map_err(Error::io("make", &path))?;
        }
        copy(&self.programs.pebble, &below("/charm/bin/pebble"))?;
        copy(&self.programs.hook_tool, &below(&tools).join(HOOK_TOOL))?;
        link_tools(&below(&tools))?;
        if let Some(packed) = packed() {
            unpack(&packed, &below(&agent))?;
        }
        let identities = json!({"identities": {"charm": {"access": "admin", "local": {"user-id": USER}}}});
        let path = below("/charm/etc/pebble/identities.yaml");
        std::fs::write(&path, identities.to_string()).map_err(Error::io("write", &path))?;
        for path in ["/var/lib/juju", "/containeragent/pebble", "/charm/etc/pebble"] {
            chown_to_juju(&below(path))?;
        }
        Ok(())
    }

    /// The folder of Juju's world.
    pub(super) fn world(&self) -> PathBuf {
        self.file(WORLD)
    }

    pub(super) fn file(&self, path: &str) -> PathBuf {
        root(self.charm).join(path.trim_start_matches('/'))
    }

    /// As Juju's agent runs it: in the container's namespaces, as the user that the charm asks for.
    pub(super) fn command(&self, program: &str, directory: &str) -> Command {
        let mut command = Command::new("/usr/bin/nsenter");
        command.arg(format!("--target={}", self.charm));
        command.args(["--mount", "--net", "--ipc", "--uts"]);
        command.args([format!("--setuid={USER}"), format!("--setgid={USER}")]);
        command.arg(format!("--wdns={directory}")).arg("--").arg(program);
        command
    }

    /// The kubelet's variables about the API server, which Juju passes on to hooks.
    pub(super) fn environment(&self) -> Vec<(String, String)> {
        let text = std::fs::read_to_string(format!("/proc/{}/environ", self.charm)).unwrap_or_default();
        let variables = text.split('\0').filter_map(|variable| variable.split_once('='));
        let about = variables.filter(|(name, _)| name.starts_with("KUBERNETES_"));
        about.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    /// What Pebble and the daemon wrote.
    pub(super) fn log(&self) -> String {
        let read = async {
            let params = LogParams { container: Some("trainerd".to_owned()), ..LogParams::default() };
            let mut lines = self.cluster.api().logs(MODEL, &self.name(), &params).await?;
            let mut text = String::new();
            while let Some(line) = lines.next().await {
                text.push_str(&line);
                text.push('\n');
            }
            Ok::<_, RequestError>(text)
        };
        self.cluster.block_on(read).unwrap_or_else(|error| error.to_string())
    }

    pub(super) fn contains(&self, pid: u32) -> bool {
        let of = |pid: u32| std::fs::read_link(format!("/proc/{pid}/ns/mnt")).ok();
        of(pid).is_some_and(|namespace| of(self.workload) == Some(namespace))
    }
}

/// A container's root, as this process sees it.
fn root(pid: u32) -> PathBuf {
    format!("/proc/{pid}/root").into()
}

/// The process that a container began with: the first of its own numbering.
fn first_process(container: &str) -> Option<u32> {
    std::fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        let read = |file: &str| std::fs::read_to_string(entry.path().join(file)).ok();
        let status = read("cgroup")?.contains(container).then(|| read("status"))??;
        let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
        (numbers.split_whitespace().last() == Some("1")).then_some(pid)
    })
}

/// Copies a program.
fn copy(from: &Path, to: &Path) -> Result<(), Error> {
    std::fs::copy(from, to).map_err(Error::io("copy", from))?;
    std::fs::set_permissions(to, PermissionsExt::from_mode(0o755)).map_err(Error::io("set the mode of", to))
}

/// Changes the owner of everything in a folder to Juju's user.
fn chown_to_juju(path: &Path) -> Result<(), Error> {
    std::os::unix::fs::lchown(path, Some(USER), Some(USER)).map_err(Error::io("set the owner of", path))?;
    if path.is_dir() && !path.is_symlink() {
        for entry in std::fs::read_dir(path).map_err(Error::io("read", path))? {
            chown_to_juju(&entry.map_err(Error::io("read", path))?.path())?;
        }
    }
    Ok(())
}

fn stateful_set() -> Resource {
    let own = str::to_owned;
    let (group, version, kind, plural) = (own("apps"), own("v1"), own("StatefulSet"), own("statefulsets"));
    Resource { group, version, kind, plural, namespaced: true }
}

/// Creates the objects that Juju creates for an application, without units, except the service account.
pub(super) fn deploy(cluster: &TestCluster, application: &str) -> Result<(), Error> {
    let selector = json!({"app.kubernetes.io/name": application});
    let labels = json!({"app.kubernetes.io/name": application, "app.kubernetes.io/managed-by": "juju"});
    for (name, address) in [(application.to_owned(), ""), (format!("{application}-endpoints"), "None")] {
        let mut service = json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": name, "namespace": MODEL, "labels": labels},
            "spec": {
                "selector": selector, "publishNotReadyAddresses": true,
                "ports": [{"name": "placeholder", "port": 65535, "protocol": "TCP"}],
            },
        });
        if !address.is_empty() {
            service["spec"]["clusterIP"] = address.into();
        }
        cluster.create(&stack::service(), &service)?;
    }
    let set = json!({
        "apiVersion": "apps/v1", "kind": "StatefulSet",
        "metadata": {"name": application, "namespace": MODEL, "labels": labels},
        "spec": {
            "replicas": 0, "selector": {"matchLabels": selector}, "podManagementPolicy": "Parallel",
            "serviceName": format!("{application}-endpoints"),
            "template": {"metadata": {"labels": selector}, "spec": pod_of(application)},
        },
    });
    cluster.create(&stateful_set(), &set).map(drop)
}

/// Sets the number of units.
pub(super) fn scale(cluster: &TestCluster, application: &str, units: usize) -> Result<(), Error> {
    let patch = json!({"spec": {"replicas": units}});
    let params = CreateParams::default();
    let resource = stateful_set();
    let patched = cluster.api().patch_merge(&resource, Some(MODEL), application, &patch, params);
    cluster.block_on(patched).map(drop).map_err(Error::from)
}

fn pod_of(application: &str) -> Value {
    let mount = |path: &str, part: &str, read_only: bool| json!({"name": "charm-data", "mountPath": path, "subPath": part, "readOnly": read_only});
    let user = json!({"runAsUser": USER, "runAsGroup": USER});
    let probe = |level: &str, port: u16, period: u16, failures: u16| {
        json!({
            "httpGet": {"path": format!("/v1/health?level={level}"), "port": port},
            "timeoutSeconds": 1, "periodSeconds": period, "successThreshold": 1, "failureThreshold": failures,
        })
    };
    let container = |name: &str, image: &str, port: u16| {
        json!({
            "name": name, "image": image, "imagePullPolicy": "IfNotPresent", "securityContext": user,
            "command": ["/charm/bin/pebble"],
            "startupProbe": probe("alive", port, 1, 30),
            "livenessProbe": probe("alive", port, 5, 3),
            "readinessProbe": probe("ready", port, 5, 1),
        })
    };
    let mut charm = container("charm", BASE, 38812);
    charm["workingDir"] = "/var/lib/juju".into();
    charm["args"] = json!(["run", "--http", ":38812", "--verbose"]);
    charm["env"] = json!([{"name": "JUJU_CONTAINER_NAMES", "value": "trainerd"}, {"name": "HTTP_PROBE_PORT", "value": "3856"}]);
    charm["resources"] = json!({"requests": {"memory": "64Mi"}, "limits": {"memory": "1024Mi"}});
    charm["volumeMounts"] = json!([
        mount("/charm/bin", "charm/bin", true),
        mount("/var/lib/juju", "var/lib/juju", false),
        mount("/charm/containers", "charm/containers", false),
        mount("/var/lib/pebble/default", "containeragent/pebble", false),
    ]);
    let mut workload = container("trainerd", WORKLOAD, 38813);
    let identities = "/charm/etc/pebble/identities.yaml";
    workload["args"] = json!([
        "run",
        "--create-dirs",
        "--hold",
        "--http",
        ":38813",
        "--verbose",
        "--identities",
        identities
    ]);
    workload["env"] = json!([
        {"name": "JUJU_CONTAINER_NAME", "value": "trainerd"},
        {"name": "PEBBLE_SOCKET", "value": "/charm/container/pebble.socket"},
        {"name": "PEBBLE", "value": "/charm/container/pebble"},
        {"name": "PEBBLE_COPY_ONCE", "value": "/var/lib/pebble/default"},
    ]);
    workload["volumeMounts"] = json!([
        mount("/charm/bin/pebble", "charm/bin/pebble", true),
        mount("/charm/container", "charm/containers/trainerd", false),
        mount(identities, "charm/etc/pebble/identities.yaml", true),
    ]);
    json!({
        "serviceAccountName": application, "automountServiceAccountToken": true,
        "terminationGracePeriodSeconds": 30,
        "securityContext": {"fsGroup": USER, "supplementalGroups": [USER]},
        "volumes": [{"name": "charm-data", "emptyDir": {}}],
        "initContainers": [{
            "name": "charm-init", "image": BASE, "imagePullPolicy": "IfNotPresent", "securityContext": user,
            "workingDir": "/var/lib/juju", "command": ["/pause"],
            "volumeMounts": [
                mount("/var/lib/juju", "var/lib/juju", false),
                mount("/charm/bin", "charm/bin", false),
                mount("/charm/containers", "charm/containers", false),
                mount("/containeragent/pebble", "containeragent/pebble", false),
                mount("/charm/etc/pebble/", "charm/etc/pebble/", false),
            ],
        }],
        "containers": [charm, workload],
    })
}
