//! What a plan may not do is known before its first write.

use std::collections::BTreeSet;

use futures::stream::{self, StreamExt};
use trainerd_cluster::permissions::{self, Rule};
use trainerd_cluster::{ApplyParams, Cluster, RequestError, builtin};
use trainerd_plan::object::Resource;
use trainerd_plan::order::{ObjectClass, object_class};
use trainerd_plan::plan::{Plan, Purpose, Step, Until, Verb};

use crate::error::EngineError;
use crate::observe::IN_FLIGHT;
use crate::retry::patiently;

const RBAC: &str = "rbac.authorization.k8s.io";

/// The permissions that a plan and its bookkeeping need, each once.
///
/// Left out is what the plan does not tell: deleting the namespace and looking for what else is in it, which a
/// removal that lacks them does without.
pub(crate) fn needed(plan: &Plan) -> Vec<Rule> {
    let mut rules = Rules::default();
    rules.bookkeeping(plan);
    for step in &plan.steps {
        rules.step(step, &plan.installation.namespace);
    }
    if plan.steps.iter().any(|step| matches!(step.until, Until::Admitting { .. })) {
        for probe in &plan.probes {
            let namespace = probe.resource.namespaced.then_some(plan.installation.namespace.as_str());
            rules.need("create", &probe.resource, namespace);
        }
    }
    rules.smallest()
}

#[derive(Default)]
struct Rules(BTreeSet<Rule>);

impl Rules {
    fn need(&mut self, verb: &str, resource: &Resource, namespace: Option<&str>) {
        self.0.insert(Rule {
            verb: verb.to_owned(),
            group: resource.group.clone(),
            resource: resource.plural.clone(),
            namespace: namespace.map(str::to_owned),
            name: None,
        });
    }

    /// Record, revisions, lease, and what says why something is not ready.
    fn bookkeeping(&mut self, plan: &Plan) {
        let namespace = Some(plan.installation.namespace.as_str());
        for verb in ["get", "list", "create", "update", "delete"] {
            self.need(verb, &builtin::secret(), namespace);
        }
        for verb in ["get", "create", "update", "patch"] {
            self.need(verb, &builtin::lease(), namespace);
        }
        if plan.purpose == Purpose::Remove {
            self.need("delete", &builtin::lease(), namespace);
        }
        self.need("get", &builtin::namespace(), None);
        for verb in ["list", "watch"] {
            self.need(verb, &builtin::pod(), namespace);
            self.need(verb, &builtin::endpoint_slice(), namespace);
        }
    }

    fn step(&mut self, step: &Step, home: &str) {
        let namespace = step.object.namespace.as_deref();
        let class = object_class(&step.object);
        if class == ObjectClass::Namespace {
            match &step.verb {
                // The installation's own is made before the lease is taken, and not applied.
                Verb::Create if step.object.name == home => self.need("create", &step.resource, None),
                Verb::Create | Verb::Apply { .. } => {
                    self.need("create", &step.resource, None);
                    self.need("patch", &step.resource, None);
                }
                Verb::Delete { .. } => self.delete(&step.resource, None),
                Verb::Keep | Verb::Release { .. } => {}
            }
            return;
        }
        // Objects are found by their label wherever they are, and watched the same way.
        self.need("list", &step.resource, None);
        let waited_for = matches!(class, ObjectClass::Workload | ObjectClass::Crd | ObjectClass::Webhook)
            || (step.until == Until::Gone && class == ObjectClass::Custom);
        if waited_for {
            self.need("watch", &step.resource, None);
        }
        match &step.verb {
            Verb::Create => {
                self.need("get", &step.resource, namespace);
                // A server-side apply that creates needs both.
                self.need("create", &step.resource, namespace);
                self.need("patch", &step.resource, namespace);
            }
            Verb::Apply { .. } => self.need("patch", &step.resource, namespace),
            Verb::Release { .. } => {
                self.need("get", &step.resource, namespace);
                self.need("patch", &step.resource, namespace);
            }
            Verb::Delete { .. } => self.delete(&step.resource, namespace),
            Verb::Keep => {}
        }
        if let Until::Admitting { services } = &step.until {
            for (namespace, _) in services.iter().filter_map(|service| service.split_once('/')) {
                self.need("list", &builtin::endpoint_slice(), Some(namespace));
                self.need("watch", &builtin::endpoint_slice(), Some(namespace));
            }
        }
    }

    /// What changed since it was planned is looked at again.
    fn delete(&mut self, resource: &Resource, namespace: Option<&str>) {
        self.need("get", resource, namespace);
        self.need("delete", resource, namespace);
    }

    /// Without the rules that another one implies: what is allowed everywhere is allowed in each namespace.
    fn smallest(self) -> Vec<Rule> {
        let everywhere = |rule: &Rule| Rule { namespace: None, ..rule.clone() };
        let implied = |rule: &Rule| rule.namespace.is_some() && self.0.contains(&everywhere(rule));
        self.0.iter().filter(|rule| !implied(rule)).cloned().collect()
    }
}

/// Fails with every permission that a plan lacks.
///
/// Who may do everything is asked nothing.
pub(crate) async fn check(cluster: &Cluster, plan: &Plan) -> Result<(), EngineError> {
    if cluster.may_do_everything() {
        return Ok(());
    }
    let missing = permissions::missing(cluster, &needed(plan)).await;
    let missing = missing.map_err(EngineError::request("check", "permissions"))?;
    let mut missing: Vec<String> = missing.iter().map(ToString::to_string).collect();
    if missing.is_empty() {
        missing = not_grantable(cluster, plan).await?;
    }
    if missing.is_empty() { Ok(()) } else { Err(EngineError::Permissions(missing)) }
}

/// The roles of a plan that grant what its user does not have, which Kubernetes refuses: each asked by a dry
/// run, for only the API server knows what roles held elsewhere add up to.
async fn not_grantable(cluster: &Cluster, plan: &Plan) -> Result<Vec<String>, EngineError> {
    let is_role = |step: &&Step| {
        step.resource.group == RBAC && matches!(step.resource.kind.as_str(), "Role" | "ClusterRole")
    };
    let roles = plan.steps.iter().filter(is_role).filter_map(|step| Some((step, step.manifest.as_ref()?)));
    let asked = stream::iter(roles).map(|(step, manifest)| async move {
        // That it would be forced is for the real one to decide.
        let params = ApplyParams { force: true, dry_run: true, ..ApplyParams::default() };
        match patiently(async || cluster.apply(&step.resource, manifest, &params).await).await {
            Err(RequestError::Forbidden { message, .. }) => {
                Some(format!("granting {}: {message}", step.object))
            }
            // In a namespace that is still to be made, say: the step itself will tell.
            Ok(_) | Err(_) => None,
        }
    });
    let answers: Vec<_> = asked.buffered(IN_FLIGHT).collect().await;
    Ok(answers.into_iter().flatten().collect())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use trainerd_plan::allowed::Allowed;
    use trainerd_plan::desired::{Component, Desired, DesiredObject, Installation};
    use trainerd_plan::observed::{LiveObject, Observed};
    use trainerd_plan::plan::Probe;
    use trainerd_plan::planner;
    use trainerd_plan::removal::{self, Extent};
    use trainerd_plan::request::{Conflicts, Request};

    use super::*;

    fn resource(group: &str, kind: &str, plural: &str, namespaced: bool) -> Resource {
        let (version, text) = ("v1".to_owned(), str::to_owned);
        Resource { group: text(group), version, kind: text(kind), plural: text(plural), namespaced }
    }

    fn object(resource: &Resource, namespace: Option<&str>, mut manifest: Value) -> DesiredObject {
        manifest["apiVersion"] = json!(resource.api_version());
        manifest["kind"] = json!(resource.kind);
        manifest["metadata"] = json!({"name": "a"});
        if let Some(namespace) = namespace {
            manifest["metadata"]["namespace"] = json!(namespace);
        }
        let text = json!({"component": "c", "resource": resource, "manifest": manifest});
        serde_json::from_value(text).unwrap()
    }

    fn desired() -> Desired {
        let installation = Installation { name: "t".into(), namespace: "ns".into() };
        let runtime = resource("trainer.kubeflow.org", "TrainingRuntime", "trainingruntimes", true);
        let probe = Probe { resource: runtime, manifest: json!({"metadata": {"name": "probe"}}) };
        let component: Component =
            serde_json::from_value(json!({"version": "1.0.0", "needs": [], "probes": [probe]})).unwrap();
        let webhook =
            json!({"webhooks": [{"clientConfig": {"service": {"namespace": "other", "name": "s"}}}]});
        let mut namespace = object(&resource("", "Namespace", "namespaces", false), None, json!({}));
        namespace.manifest["metadata"]["name"] = json!("ns");
        let hooks = resource(
            "admissionregistration.k8s.io",
            "ValidatingWebhookConfiguration",
            "validatingwebhookconfigurations",
            false,
        );
        Desired {
            installation,
            naming: trainerd_plan::desired::Naming::default(),
            components: [("c".to_owned(), component)].into(),
            options: [].into(),
            given: Vec::new(),
            objects: vec![
                namespace,
                object(&resource("", "ConfigMap", "configmaps", true), Some("ns"), json!({})),
                object(&resource("", "Secret", "secrets", true), Some("ns"), json!({})),
                object(&hooks, None, webhook),
                object(&resource("apps", "Deployment", "deployments", true), Some("ns"), json!({})),
            ],
        }
    }

    fn texts(plan: &Plan) -> BTreeSet<String> {
        needed(plan).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn permissions_of_an_install_cover_reads_waits_writes_and_probes() {
        let desired = desired();
        let request = Request {
            purpose: Purpose::Install,
            desired: &desired,
            last: None,
            observed: &Observed::default(),
            conflicts: Conflicts::Refuse,
            ignored: &[],
            allow: Allowed::default(),
            only: None,
            field_manager: "trainerd",
        };
        let texts = texts(&planner::plan(&request).unwrap());
        let hooks = "validatingwebhookconfigurations.admissionregistration.k8s.io";
        for expected in [
            "get namespaces".to_owned(),
            "create namespaces".to_owned(),
            "list configmaps".to_owned(),
            "watch deployments.apps".to_owned(),
            "get configmaps in ns".to_owned(),
            "create configmaps in ns".to_owned(),
            "patch configmaps in ns".to_owned(),
            "list secrets".to_owned(),
            "update secrets in ns".to_owned(),
            "update leases.coordination.k8s.io in ns".to_owned(),
            "watch endpointslices.discovery.k8s.io in other".to_owned(),
            "create trainingruntimes.trainer.kubeflow.org in ns".to_owned(),
            format!("list {hooks}"),
            format!("watch {hooks}"),
            format!("create {hooks}"),
        ] {
            assert!(texts.contains(&expected), "{expected} in {texts:#?}");
        }
        for unneeded in [
            "patch namespaces",
            "watch configmaps",
            "delete leases.coordination.k8s.io in ns",
            "delete configmaps in ns",
            // Implied by the list in all namespaces.
            "list secrets in ns",
        ] {
            assert!(!texts.contains(unneeded), "{unneeded}");
        }
    }

    #[test]
    fn permissions_of_a_removal_include_deleting_the_lease() {
        let desired = desired();
        let label =
            json!({trainerd_plan::applyset::PART_OF: trainerd_plan::applyset::id(&desired.installation)});
        let objects = desired.objects.iter().map(|object| {
            let mut value = object.manifest.clone();
            value["metadata"]["labels"] = label.clone();
            value["metadata"]["uid"] = json!("u");
            value["metadata"]["managedFields"] = json!([{"manager": "trainerd", "operation": "Apply"}]);
            (object.key(), LiveObject { resource: object.resource.clone(), value })
        });
        let observed = Observed { objects: objects.collect(), ..Observed::default() };
        let plan = removal::plan(&desired.installation, &observed, Extent::KeepStored, "trainerd").unwrap();
        let texts = texts(&plan);
        for expected in
            ["delete leases.coordination.k8s.io in ns", "delete configmaps in ns", "list configmaps"]
        {
            assert!(texts.contains(expected), "{expected} in {texts:#?}");
        }
        for unneeded in ["create configmaps in ns", "create trainingruntimes.trainer.kubeflow.org in ns"] {
            assert!(!texts.contains(unneeded), "{unneeded}");
        }
    }
}
