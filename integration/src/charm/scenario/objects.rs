//! Steps that change the cluster as people, Juju or other webhooks do.

use std::net::TcpListener;
use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use trainerd_cluster::CreateParams;
use trainerd_plan::object::Resource;

use super::{MODEL, Runner, StepResult};
use crate::charm::{trust, workspace};
use crate::proxy::{Fault, Rule, When};
use crate::standin::Behaviour;
use crate::{Error, stack};

/// Name of the webhook configuration that cannot be called.
const BROKEN: &str = "broken";

impl Runner<'_> {
    /// Steps that change the cluster; `None` for other steps.
    pub(super) fn cluster_step(
        &mut self,
        verb: &str,
        rest: &str,
        words: &[&str],
    ) -> Result<Option<StepResult>, Error> {
        match (verb, words) {
            ("pods", [when @ ("late" | "quick")]) => {
                let late = if *when == "late" { Duration::from_hours(1) } else { Duration::ZERO };
                self.cluster.set_behaviour(Behaviour { delay: (late, late), ..Behaviour::default() });
                self.cluster.restart_pods();
            }
            ("apply", [file]) => self.apply_file(file)?,
            ("delete", [kind, name]) => {
                self.cluster.delete(&resource(kind)?, MODEL, name)?;
            }
            ("edit", [kind, name, ..]) => {
                let patch = rest.splitn(3, ' ').nth(2).unwrap_or_default();
                let patch: Value = serde_json::from_str(patch).map_err(Error::json("the edit"))?;
                let resource = resource(kind)?;
                let namespace = resource.namespaced.then_some(MODEL);
                let params = CreateParams::default();
                self.cluster
                    .block_on(self.cluster.api().patch_merge(&resource, namespace, name, &patch, params))?;
            }
            ("job", [name]) => {
                self.cluster.create(&stack::train_job(), &stack::a_train_job(name))?;
            }
            ("end-job", [name]) => self.end_job(name)?,
            ("trust", [whether]) => {
                trust::set(self.cluster, &self.unit.world.application, *whether == "true")?;
            }
            ("proxied", []) => self.unit.local()?.use_proxy()?,
            ("api", ["down"]) => {
                let when = When::Each { of: 1, times: None };
                self.cluster.proxy().add(Rule { when, fault: Fault::Reset });
                self.cluster.block_on(async { self.cluster.proxy().cut_watches() });
            }
            ("api", ["up"]) => self.cluster.proxy().clear_faults(),
            ("api", [code, method, path, times]) => {
                let (Ok(code), Ok(method), Ok(times)) =
                    (code.parse(), method.parse::<Method>(), times.parse())
                else {
                    return Ok(Some(Err("api CODE METHOD PATH TIMES".to_owned())));
                };
                let when = When::Matching { method, path: (*path).to_owned(), times: Some(times) };
                self.cluster.proxy().add(Rule { when, fault: Fault::Answer(code) });
            }
            ("webhook", ["mended"]) => {
                self.cluster.delete(&resource("ValidatingWebhookConfiguration")?, "", BROKEN)?;
            }
            ("webhook", [how]) => return self.break_webhook(how).map(Some),
            ("juju", ["labels", generation]) => self.label(generation)?,
            ("juju", ["removes", ..]) => self.juju_removes()?,
            ("elsewhere", [namespace]) => {
                let words = ["up", "--yes", "--namespace", namespace, "--set", "trainer-version=2.3.0"];
                self.cluster.run(&[&words[..], &stack::QUICK].concat())?.expect_code(0)?;
            }
            _ => return Ok(None),
        }
        Ok(Some(Ok(())))
    }

    /// A webhook that every runtime has to pass, and that cannot be called.
    fn break_webhook(&mut self, how: &str) -> Result<StepResult, Error> {
        let server = || {
            let text = std::fs::read_to_string(self.cluster.kubeconfig()).unwrap_or_default();
            let line = text.lines().find_map(|line| line.trim().strip_prefix("server: ").map(str::to_owned));
            line.ok_or_else(|| Error::Missing("the API server's address".to_owned()))
        };
        let client = match how {
            // Nobody listens there.
            "refused" => json!({"url": "https://127.0.0.1:9/"}),
            "timeout" => {
                let listener = TcpListener::bind((self.cluster.host_address(), 0));
                let listener = listener.map_err(Error::io("listen on", "a port"))?;
                let address = listener.local_addr().map_err(Error::io("listen on", "a port"))?;
                self.unanswered = Some(listener);
                json!({"url": format!("https://{address}/")})
            }
            // Its certificate has an unknown authority.
            "x509" => json!({"url": server()?}),
            "no-endpoints" => {
                let service = json!({
                    "apiVersion": "v1", "kind": "Service", "metadata": {"name": "nobody", "namespace": MODEL},
                    "spec": {"ports": [{"port": 443}], "selector": {"nobody": "there"}},
                });
                self.cluster.create(&stack::service(), &service)?;
                json!({"service": {"name": "nobody", "namespace": MODEL}})
            }
            _ => return Ok(Err("refused, timeout, x509 or no-endpoints".to_owned())),
        };
        let rule = json!({
            "apiGroups": ["trainer.kubeflow.org"], "apiVersions": ["*"], "operations": ["CREATE", "UPDATE"],
            "resources": ["clustertrainingruntimes"],
        });
        let webhook = json!({
            "name": "broken.example.com", "clientConfig": client, "rules": [rule], "failurePolicy": "Fail",
            "sideEffects": "None", "admissionReviewVersions": ["v1"], "timeoutSeconds": 1,
        });
        let configuration = json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
            "metadata": {"name": BROKEN}, "webhooks": [webhook],
        });
        self.cluster.create(&resource("ValidatingWebhookConfiguration")?, &configuration)?;
        Ok(Ok(()))
    }

    /// Labels what the application writes, as generations of Juju's webhook do.
    fn label(&self, generation: &str) -> Result<(), Error> {
        let application = &self.unit.world.application;
        let mut labels = vec![("app.juju.is/created-by", application.as_str())];
        if generation != "v1" {
            labels.extend([
                ("model.juju.is/name", MODEL),
                ("model.juju.is/id", "0d1a0b1e-2b3c-4d5e-8f90-123456789abc"),
                ("app.kubernetes.io/managed-by", "juju"),
            ]);
        }
        if generation == "v3" {
            labels.push(("app.kubernetes.io/name", application));
        }
        let adds: Vec<String> = labels
            .iter()
            .map(|(label, value)| {
                let path = format!("/metadata/labels/{}", label.replace('/', "~1"));
                format!("JSONPatch{{op: \"add\", path: \"{path}\", value: \"{value}\"}}")
            })
            .collect();
        let all = adds.join(", ");
        let expression = format!(
            "has(object.metadata.labels) ? [{all}] : \
             [JSONPatch{{op: \"add\", path: \"/metadata/labels\", value: Object.metadata.labels{{}}}}, {all}]"
        );
        let failure_report = format!("system:serviceaccount:{MODEL}:{application}");
        let policy = json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingAdmissionPolicy",
            "metadata": {"name": "juju-labels"},
            "spec": {
                "failurePolicy": "Fail", "reinvocationPolicy": "Never",
                "matchConstraints": {
                    "objectSelector": {"matchExpressions": [
                        {"key": "model.juju.is/disable-webhook", "operator": "DoesNotExist"},
                    ]},
                    "resourceRules": [{
                        "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*"],
                        "operations": ["CREATE", "UPDATE"],
                    }],
                },
                "matchConditions": [{"name": "ours", "expression": format!("request.userInfo.username == '{failure_report}'")}],
                "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": expression}}],
            },
        });
        self.cluster.create(&resource("MutatingAdmissionPolicy")?, &policy)?;
        let binding = json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingAdmissionPolicyBinding",
            "metadata": {"name": "juju-labels"}, "spec": {"policyName": "juju-labels"},
        });
        self.cluster.create(&resource("MutatingAdmissionPolicyBinding")?, &binding)?;
        Ok(())
    }

    /// Deletes the objects with the application's label, of every kind, as Juju does on removal.
    fn juju_removes(&self) -> Result<(), Error> {
        let selector = format!("app.juju.is/created-by={}", self.unit.world.application);
        for kind in self.cluster.kinds()? {
            for object in self.cluster.list(&kind, Some(&selector))? {
                let text = |key: &str| object["metadata"][key].as_str().unwrap_or_default();
                self.cluster.delete(&kind, text("namespace"), text("name"))?;
            }
        }
        Ok(())
    }

    /// Sets a TrainJob to complete, as its controller does.
    fn end_job(&self, name: &str) -> Result<(), Error> {
        let condition = json!({
            "type": "Complete", "status": "True", "reason": "Done", "message": "done",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        });
        let params = CreateParams { status: true, ..CreateParams::default() };
        let patch = json!({"status": {"conditions": [condition]}});
        let (resource, namespace) =
            (stack::train_job(), stack::a_train_job(name)["metadata"]["namespace"].clone());
        let namespace = namespace.as_str().map(str::to_owned);
        let api = self.cluster.api();
        let patched = api.patch_merge(&resource, namespace.as_deref(), name, &patch, params);
        self.cluster.block_on(patched)?;
        Ok(())
    }

    /// Applies the objects of a file beside the scenarios, in the model.
    fn apply_file(&self, file: &str) -> Result<(), Error> {
        let path = workspace().join("integration/scenarios/charm/objects").join(file);
        let text = std::fs::read_to_string(&path).map_err(Error::io("read", &path))?;
        for document in text.split("---\n") {
            let mut object: Value = serde_yaml::from_str(document)
                .map_err(|_| Error::Missing(format!("YAML in {}", path.display())))?;
            let resource = resource(object["kind"].as_str().unwrap_or_default())?;
            if resource.namespaced {
                object["metadata"]["namespace"] = MODEL.into();
            }
            self.cluster.create(&resource, &object)?;
        }
        Ok(())
    }
}

pub(super) fn resource(kind: &str) -> Result<Resource, Error> {
    let own = |group: &str, version: &str, plural: &str, namespaced| Resource {
        group: group.to_owned(),
        version: version.to_owned(),
        kind: kind.to_owned(),
        plural: plural.to_owned(),
        namespaced,
    };
    Ok(match kind {
        "Deployment" => stack::deployment(),
        "Service" => stack::service(),
        "CustomResourceDefinition" => stack::crd(),
        "ClusterTrainingRuntime" => stack::runtime(),
        "ClusterRole" => own("rbac.authorization.k8s.io", "v1", "clusterroles", false),
        "ValidatingWebhookConfiguration" => {
            own("admissionregistration.k8s.io", "v1", "validatingwebhookconfigurations", false)
        }
        "TrainJob" => stack::train_job(),
        "JobSet" => stack::job_set(),
        "MutatingAdmissionPolicy" => {
            own("admissionregistration.k8s.io", "v1", "mutatingadmissionpolicies", false)
        }
        "MutatingAdmissionPolicyBinding" => {
            own("admissionregistration.k8s.io", "v1", "mutatingadmissionpolicybindings", false)
        }
        "ConfigMap" => stack::config_map(),
        "Lease" => stack::lease(),
        "Secret" => stack::secret(),
        "StatefulSet" => own("apps", "v1", "statefulsets", true),
        "AuthorizationPolicy" => own("security.istio.io", "v1", "authorizationpolicies", true),
        other => return Err(Error::Missing(format!("how kind {other} is served"))),
    })
}
