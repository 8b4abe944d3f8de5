//! The product as the Trainer controller: a process that is started as test suites start one, and what it needs in the
//! cluster.

use std::fs::File;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustix::process::{Pid, Signal, kill_process};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::{Value, json};
use trainerd_cluster::{CreateParams, FieldValidation, RequestError};
use trainerd_plan::object::Resource;

use crate::Error;
use crate::cluster::TestCluster;
use crate::daemon::{Answer, exchange, usage};
use crate::stack;

/// How long a start may take on a busy machine.
const START: Duration = Duration::from_mins(1);

/// A controller that runs; dropped, it is killed.
pub struct Manager {
    child: Child,
    health: SocketAddr,
    log: PathBuf,
    /// Where its webhooks answer.
    pub webhook: SocketAddr,
    /// Authority of its certificate, PEM.
    pub authority: String,
    /// Its folder for temporary files.
    pub temporary: PathBuf,
}

/// How a controller is started.
#[derive(Clone, Debug, Default)]
pub struct Start {
    /// Further lines of the configuration file.
    pub config: String,
    /// Further arguments.
    pub arguments: Vec<String>,
    /// A kubeconfig that is not the administrator's.
    pub kubeconfig: Option<PathBuf>,
    /// Whether the API server is told nothing of its webhooks.
    pub without_webhooks: bool,
    /// Another controller manager in the product's place, which is started the same way.
    pub program: Option<PathBuf>,
}

impl TestCluster {
    /// Starts a controller that is given its certificate, known by that name among the test's files, and waits until it
    /// is ready.
    pub fn manager(&self, name: &str, start: &Start) -> Result<Manager, Error> {
        let host = self.host_address();
        let (health, webhook) = (free_port(IpAddr::from([127, 0, 0, 1]))?, free_port(host)?);
        let temporary = self.folder().join(name);
        let authority = certificate(&temporary.join("k8s-webhook-server/serving-certs"), host)?;
        let config = format!(
            "apiVersion: config.trainer.kubeflow.org/v1alpha1\nkind: Configuration\n\
             webhook: {{host: \"{host}\", port: {}}}\nhealth: {{healthProbeBindAddress: \"{health}\"}}\n\
             metrics: {{bindAddress: \"0\"}}\ncertManagement: {{enable: false}}\n{}",
            webhook.port(),
            start.config,
        );
        let mut manager = self.start_manager(&temporary, &config, start, health, webhook)?;
        manager.authority = authority;
        manager.wait_until_ready()?;
        if !start.without_webhooks {
            self.point_webhooks(&manager)?;
        }
        Ok(manager)
    }

    /// Starts a controller that keeps its certificate itself. It is not ready until that is mounted.
    pub fn manager_with_certificates(&self, name: &str) -> Result<Manager, Error> {
        let host = self.host_address();
        let (health, webhook) = (free_port(IpAddr::from([127, 0, 0, 1]))?, free_port(host)?);
        let config = format!(
            "webhook: {{host: \"{host}\", port: {}}}\nhealth: {{healthProbeBindAddress: \"{health}\"}}\n\
             metrics: {{bindAddress: \"0\"}}\n",
            webhook.port(),
        );
        let mut manager =
            self.start_manager(&self.folder().join(name), &config, &Start::default(), health, webhook)?;
        self.wait_until("the probes to answer", START, || Ok(manager.probe("/healthz").is_ok()))?;
        if let Some(ended) = manager.child.try_wait().map_err(Error::io("wait for", "the controller"))? {
            let output = format!("ended: {ended:?}\n{}", manager.log());
            return Err(Error::Command { command: "trainerd reconciler".to_owned(), output });
        }
        Ok(manager)
    }

    /// Starts a controller with a whole configuration file.
    fn start_manager(
        &self,
        temporary: &Path,
        config: &str,
        start: &Start,
        health: SocketAddr,
        webhook: SocketAddr,
    ) -> Result<Manager, Error> {
        std::fs::create_dir_all(temporary).map_err(Error::io("make", temporary))?;
        let (file, log) = (temporary.join("config.yaml"), temporary.join("log"));
        std::fs::write(&file, config).map_err(Error::io("write", &file))?;
        let output = File::options().create(true).append(true).open(&log).map_err(Error::io("open", &log))?;
        let mut arguments = vec![format!("--config={}", file.display()), "--zap-log-level=2".to_owned()];
        arguments.extend(start.arguments.iter().cloned());
        let kubeconfig = start.kubeconfig.as_deref().unwrap_or(self.kubeconfig());
        let mut command = if let Some(program) = &start.program {
            let mut command = Command::new(program);
            command.args(&arguments).env("KUBECONFIG", kubeconfig);
            command
        } else {
            arguments.insert(0, "reconciler".to_owned());
            self.trainerd().command(kubeconfig, &arguments)
        };
        command.env("TMPDIR", temporary).current_dir(temporary).stdout(Stdio::null()).stderr(output);
        let program = PathBuf::from(command.get_program());
        let child = command.spawn().map_err(Error::io("run", program))?;
        let temporary = temporary.to_owned();
        Ok(Manager { child, health, log, webhook, authority: String::new(), temporary })
    }

    /// Tells the API server where the webhooks of a controller are.
    pub fn point_webhooks(&self, manager: &Manager) -> Result<(), Error> {
        let bundle = STANDARD.encode(&manager.authority);
        let entry = |name: &str, path: &str, resource: &str| {
            json!({
                "name": format!("{name}.trainer.kubeflow.org"),
                "admissionReviewVersions": ["v1"],
                "clientConfig": {"url": format!("https://{}/{path}", manager.webhook), "caBundle": bundle},
                "failurePolicy": "Fail",
                "sideEffects": "None",
                "rules": [{
                    "apiGroups": ["trainer.kubeflow.org"], "apiVersions": ["v1alpha1"],
                    "resources": [resource], "operations": ["CREATE", "UPDATE"],
                }],
            })
        };
        let validating: Vec<Value> = [
            ("validator.clustertrainingruntime", "clustertrainingruntime", "clustertrainingruntimes"),
            ("validator.optimizationjob", "optimizationjob", "optimizationjobs"),
            ("validator.trainingruntime", "trainingruntime", "trainingruntimes"),
            ("validator.trainjob", "trainjob", "trainjobs"),
        ]
        .map(|(name, kind, plural)| {
            entry(name, &format!("validate-trainer-kubeflow-org-v1alpha1-{kind}"), plural)
        })
        .into();
        let mutating =
            [entry("defaulter.trainjob", "mutate-trainer-kubeflow-org-v1alpha1-trainjob", "trainjobs")];
        let [mutating_kind, validating_kind] = stack::webhook_configurations();
        for (resource, name, webhooks) in [
            (mutating_kind, "defaulter.trainer.kubeflow.org", json!(mutating)),
            (validating_kind, "validator.trainer.kubeflow.org", json!(validating)),
        ] {
            let object = json!({
                "apiVersion": resource.api_version(),
                "kind": resource.kind,
                "metadata": {"name": name},
                "webhooks": webhooks,
            });
            self.apply(&resource, &object)?;
        }
        // The API server takes a moment to see them: until it does, a bad TrainJob is admitted.
        let probe = json!({
            "apiVersion": "trainer.kubeflow.org/v1alpha1",
            "kind": "TrainJob",
            "metadata": {"name": "probe", "namespace": "default"},
            "spec": {"runtimeRef": {"name": "absent"}},
        });
        self.wait_until("the webhooks to be called", START, || {
            let dry = CreateParams { dry_run: true, ..CreateParams::default() };
            let answer = self.block_on(self.api().create(&stack::train_job(), &probe, dry));
            Ok(matches!(answer, Err(RequestError::AdmissionDenied { .. })))
        })
    }

    /// Installs the CRDs of the stack and of both gang schedulers, and nothing that would run.
    pub fn install_crds(&self) -> Result<(), Error> {
        self.install_crds_with(&[])
    }

    /// The same of an installation with further arguments.
    pub fn install_crds_with(&self, arguments: &[&str]) -> Result<(), Error> {
        let rendered = self.run(&[&["render"], arguments].concat())?.expect_code(0)?.stdout;
        let mut crds = Vec::new();
        for document in serde_yaml::Deserializer::from_str(&rendered) {
            let object: Value = serde::Deserialize::deserialize(document)
                .map_err(|error| Error::Missing(format!("a rendered object ({error})")))?;
            if object["kind"] == "CustomResourceDefinition" {
                crds.push(object);
            }
        }
        crds.push(pod_group("scheduling.x-k8s.io", "v1alpha1"));
        crds.push(pod_group("scheduling.volcano.sh", "v1beta1"));
        for crd in &mut crds {
            // There is one version, and nobody to convert.
            crd["spec"]["conversion"] = json!({"strategy": "None"});
            self.apply(&stack::crd(), crd)?;
        }
        for crd in &crds {
            let name = crd["metadata"]["name"].as_str().unwrap_or_default();
            self.wait_until("a CRD to be served", START, || {
                let found = self.get(&stack::crd(), "", name)?.unwrap_or_default();
                let conditions = found["status"]["conditions"].as_array().cloned().unwrap_or_default();
                Ok(conditions.iter().any(|it| it["type"] == "Established" && it["status"] == "True"))
            })?;
        }
        Ok(())
    }

    /// Changes the status of an object by a merge patch.
    pub fn patch_status(
        &self,
        resource: &Resource,
        namespace: &str,
        name: &str,
        status: &Value,
    ) -> Result<Value, Error> {
        let patch = json!({"status": status});
        let params = CreateParams {
            status: true,
            field_validation: FieldValidation::Ignore,
            ..CreateParams::default()
        };
        Ok(self.block_on(self.api().patch_merge(resource, Some(namespace), name, &patch, params))?)
    }

    /// Changes an object by a merge patch.
    pub fn patch(
        &self,
        resource: &Resource,
        namespace: &str,
        name: &str,
        patch: &Value,
    ) -> Result<Value, RequestError> {
        self.block_on(self.api().patch_merge(resource, Some(namespace), name, patch, CreateParams::default()))
    }

    /// Creates an object, whose refusal is an answer.
    pub fn try_create(&self, resource: &Resource, object: &Value) -> Result<Value, RequestError> {
        self.block_on(self.api().create(resource, object, CreateParams::default()))
    }

    /// A token of a service account for that audience.
    pub fn token_for(&self, namespace: &str, account: &str, audience: &str) -> Result<String, Error> {
        let request = json!({
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"audiences": [audience], "expirationSeconds": 3600},
        });
        let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token");
        let request = http::Request::post(path)
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(request.to_string().into_bytes())?;
        let answer: Value = self.block_on(self.api().client().request(request))?;
        Ok(answer["status"]["token"].as_str().unwrap_or_default().to_owned())
    }
}

impl Manager {
    /// What it wrote to its log.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Puts the data of a Secret where the kubelet would mount it.
    pub fn mount(&self, data: &Value) -> Result<(), Error> {
        let folder = self.temporary.join("k8s-webhook-server/serving-certs");
        std::fs::create_dir_all(&folder).map_err(Error::io("make", &folder))?;
        for (name, text) in data.as_object().into_iter().flatten() {
            let bytes = STANDARD.decode(text.as_str().unwrap_or_default());
            let bytes = bytes.map_err(|error| Error::Missing(format!("data in base64 ({error})")))?;
            let path = folder.join(name);
            std::fs::write(&path, bytes).map_err(Error::io("write", &path))?;
        }
        Ok(())
    }

    /// Asks a probe.
    pub fn probe(&self, path: &str) -> Result<Answer, Error> {
        let stream = TcpStream::connect(self.health).map_err(Error::io("reach", "the probes"))?;
        exchange(stream, "GET", path, None, None)
    }

    /// Reports progress to its status server at that port, with a token.
    pub fn report(&self, port: u16, path: &str, token: Option<&str>, body: &Value) -> Result<Answer, Error> {
        let address = SocketAddr::new(self.webhook.ip(), port);
        let stream = TcpStream::connect(address).map_err(Error::io("reach", "the status server"))?;
        stream.set_read_timeout(Some(START)).map_err(Error::io("reach", "the status server"))?;
        let failed = |error: rustls::Error| Error::Missing(format!("a TLS connection ({error})"));
        let mut roots = RootCertStore::empty();
        let authority = CertificateDer::from_pem_slice(self.authority.as_bytes());
        roots
            .add(authority.map_err(|error| Error::Missing(format!("an authority ({error})")))?)
            .map_err(failed)?;
        let config =
            ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
                .with_safe_default_protocol_versions()
                .map_err(failed)?
                .with_root_certificates(roots)
                .with_no_client_auth();
        let name = ServerName::IpAddress(address.ip().into());
        let client = ClientConnection::new(Arc::new(config), name).map_err(failed)?;
        exchange(StreamOwned::new(client, stream), "POST", path, Some(body), token)
    }

    /// Waits until it says that it is ready.
    pub fn wait_until_ready(&mut self) -> Result<(), Error> {
        let end = Instant::now() + START;
        loop {
            if self.probe("/readyz").is_ok_and(|answer| answer.code == 200) {
                return Ok(());
            }
            let ended = self.child.try_wait().map_err(Error::io("wait for", "the controller"))?;
            if ended.is_some() || Instant::now() > end {
                let output = format!("not ready (ended: {ended:?})\n{}", self.log());
                return Err(Error::Command { command: "trainerd reconciler".to_owned(), output });
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// A client for its webhooks, as the API server is one: over TLS, with connections that are kept.
    pub fn webhook_client(&self) -> Result<kube::Client, Error> {
        let failed =
            |error: &dyn std::fmt::Display| Error::Missing(format!("a client for webhooks ({error})"));
        let address = format!("https://{}", self.webhook).parse().map_err(|error| failed(&error))?;
        let authority = CertificateDer::from_pem_slice(self.authority.as_bytes());
        let mut config = kube::Config::new(address);
        config.root_cert = Some(vec![authority.map_err(|error| failed(&error))?.to_vec()]);
        kube::Client::try_from(config).map_err(|error| failed(&error))
    }

    /// Kilobytes of memory that it has in use, and the processor time that it took.
    pub fn usage(&self) -> Result<(u64, Duration), Error> {
        usage(self.child.id())
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) -> Result<(), Error> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| Error::Missing("a process id".to_owned()))?;
        kill_process(pid, signal).map_err(|error| Error::io("signal", "the controller")(error.into()))
    }

    /// Waits for its end: its exit code, or the signal that ended it, negated.
    pub fn end(&mut self) -> Result<i32, Error> {
        let ended = self.child.wait().map_err(Error::io("wait for", "the controller"))?;
        Ok(ended.code().unwrap_or_else(|| -ended.signal().unwrap_or_default()))
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        // One that has ended already cannot be killed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port of an address that nobody listens on.
fn free_port(address: IpAddr) -> Result<SocketAddr, Error> {
    let listener = TcpListener::bind((address, 0)).map_err(Error::io("bind", "a port"))?;
    listener.local_addr().map_err(Error::io("bind", "a port"))
}

/// Puts a certificate for an address into a folder, as tls.crt and tls.key; a PKCS#8 key on P-256. The authority is
/// returned.
fn certificate(folder: &Path, address: IpAddr) -> Result<String, Error> {
    let made = rcgen::generate_simple_self_signed(vec![address.to_string()]);
    let keys = made.map_err(|error| Error::Missing(format!("a certificate ({error})")))?;
    std::fs::create_dir_all(folder).map_err(Error::io("make", folder))?;
    for (name, text) in [("tls.crt", keys.cert.pem()), ("tls.key", keys.signing_key.serialize_pem())] {
        let path = folder.join(name);
        std::fs::write(&path, text).map_err(Error::io("write", &path))?;
    }
    Ok(keys.cert.pem())
}

/// A CRD of PodGroups with as much of a schema as the controller writes.
fn pod_group(group: &str, version: &str) -> Value {
    let open = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": format!("podgroups.{group}"),
            "annotations": {"api-approved.kubernetes.io": "https://github.com/kubernetes-sigs/scheduler-plugins"},
        },
        "spec": {
            "group": group,
            "names": {"kind": "PodGroup", "listKind": "PodGroupList", "plural": "podgroups", "singular": "podgroup"},
            "scope": "Namespaced",
            "versions": [{
                "name": version, "served": true, "storage": true, "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": {
                    "type": "object", "properties": {"spec": open.clone(), "status": open},
                }},
            }],
        },
    })
}
