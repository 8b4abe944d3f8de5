//! What a plan may not do is known before its first write.

use std::collections::BTreeSet;

use trainerd_cluster::permissions::{self, Rule};
use trainerd_cluster::{Cluster, endpoints};
use trainerd_plan::plan::{Plan, Verb};

use crate::error::EngineError;
use crate::kinds;

/// The permissions that a plan and its bookkeeping need, each once.
pub(crate) fn needed(plan: &Plan) -> Vec<Rule> {
    let namespace = &plan.installation.namespace;
    let mut rules = BTreeSet::new();
    let mut need = |verb: &str, group: &str, resource: &str, namespace: Option<&str>| {
        rules.insert((verb.to_owned(), group.to_owned(), resource.to_owned(), namespace.map(str::to_owned)));
    };
    for verb in ["get", "list", "create", "update", "delete"] {
        need(verb, "", "secrets", Some(namespace));
    }
    for verb in ["get", "create", "update"] {
        need(verb, "coordination.k8s.io", "leases", Some(namespace));
    }
    for resource in [kinds::pod(), endpoints::resource()] {
        for verb in ["list", "watch"] {
            need(verb, &resource.group, &resource.plural, Some(namespace));
        }
    }
    for step in &plan.steps {
        let (group, plural) = (&step.resource.group, &step.resource.plural);
        let namespace = step.object.namespace.as_deref();
        match step.verb {
            // A server-side apply that creates needs both.
            Verb::Create => {
                need("create", group, plural, namespace);
                need("patch", group, plural, namespace);
            }
            Verb::Apply { .. } => need("patch", group, plural, namespace),
            Verb::Delete { .. } => need("delete", group, plural, namespace),
            Verb::Keep => {}
        }
    }
    let rule = |(verb, group, resource, namespace)| Rule { verb, group, resource, namespace, name: None };
    rules.into_iter().map(rule).collect()
}

/// Fails with every permission that a plan lacks.
pub(crate) async fn check(cluster: &Cluster, plan: &Plan) -> Result<(), EngineError> {
    let missing = permissions::missing(cluster, &needed(plan)).await;
    let missing = missing.map_err(EngineError::request("check", "permissions"))?;
    if missing.is_empty() {
        return Ok(());
    }
    Err(EngineError::Permissions(missing.iter().map(ToString::to_string).collect()))
}
