//! What would be refused, before anything is tried.

use std::fmt;

use futures::{StreamExt, TryStreamExt, stream};
use serde_json::{Value, json};

use crate::builtin;
use crate::cluster::Cluster;
use crate::error::RequestError;
use crate::params::CreateParams;
use crate::retry::{RetryPolicy, with_retry};

/// Reviews asked for at the same time.
const IN_FLIGHT: usize = 16;
/// Attempts a review, so that a check of a hundred rules survives a busy moment.
const ATTEMPTS: u32 = 4;

/// One thing that RBAC must allow.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rule {
    /// Verb, for example `patch`, `escalate` or `*`.
    pub verb: String,
    /// API group; empty for the core group.
    pub group: String,
    /// Plural, with its subresource if any: `deployments`, `deployments/status`.
    pub resource: String,
    /// Namespace; `None` for cluster-scoped kinds, or for all namespaces.
    pub namespace: Option<String>,
    /// Name; `None` for any.
    pub name: Option<String>,
}

/// `patch deployments.apps in kubeflow-system`, `get namespaces "kubeflow-system"`.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dot = if self.group.is_empty() { "" } else { "." };
        write!(f, "{} {}{dot}{}", self.verb, self.resource, self.group)?;
        if let Some(name) = &self.name {
            write!(f, " {name:?}")?;
        }
        if let Some(namespace) = &self.namespace {
            write!(f, " in {namespace}")?;
        }
        Ok(())
    }
}

impl Rule {
    /// Everything, everywhere: who may do this need not be asked about anything else.
    pub(crate) fn everything() -> Self {
        let all = || "*".to_owned();
        Self { verb: all(), group: all(), resource: all(), namespace: None, name: None }
    }

    /// The review that asks for it.
    pub(crate) fn review(&self) -> Value {
        let (resource, subresource) = self.resource.split_once('/').unwrap_or((&self.resource, ""));
        json!({
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": { "resourceAttributes": {
                "verb": self.verb,
                "group": self.group,
                "resource": resource,
                "subresource": subresource,
                "namespace": self.namespace.as_deref().unwrap_or_default(),
                "name": self.name.as_deref().unwrap_or_default(),
            }},
        })
    }
}

/// The rules that the connection's user lacks, in the order given.
///
/// Asked one by one (`SelfSubjectAccessReview`), 16 in flight: the list of all rules a user has
/// (`SelfSubjectRulesReview`) may be incomplete and says nothing of cluster-scoped kinds. Every user may ask by
/// default. The answer is for now: admission may still refuse what RBAC allows. Who could do everything when the
/// connection was made is asked nothing.
pub async fn missing(cluster: &Cluster, needed: &[Rule]) -> Result<Vec<Rule>, RequestError> {
    if cluster.may_do_everything() {
        return Ok(Vec::new());
    }
    each_missing(cluster, needed).await
}

/// As [`missing()`], of what may be done now, whatever could be done when the connection was made: who may do everything
/// is asked one thing.
pub async fn missing_now(cluster: &Cluster, needed: &[Rule]) -> Result<Vec<Rule>, RequestError> {
    if allowed(cluster, &Rule::everything()).await? {
        return Ok(Vec::new());
    }
    each_missing(cluster, needed).await
}

async fn each_missing(cluster: &Cluster, needed: &[Rule]) -> Result<Vec<Rule>, RequestError> {
    stream::iter(needed)
        .map(|rule| async move { Ok((rule, allowed(cluster, rule).await?)) })
        .buffered(IN_FLIGHT)
        .try_filter_map(|(rule, allowed)| async move { Ok((!allowed).then(|| rule.clone())) })
        .try_collect()
        .await
}

/// Whether a review says yes; `None` where it is none.
pub(crate) fn is_allowed(review: &Value) -> Option<bool> {
    review.pointer("/status/allowed").and_then(Value::as_bool)
}

async fn allowed(cluster: &Cluster, rule: &Rule) -> Result<bool, RequestError> {
    let resource = builtin::self_subject_access_review();
    let policy = RetryPolicy { attempts: Some(ATTEMPTS), ..RetryPolicy::default() };
    let log = |wait: &crate::retry::RetryWait<'_>| tracing::debug!(error = %wait.error, "asking again");
    let review = rule.review();
    let answer = with_retry(&policy, None, log, async |_| {
        cluster.create(&resource, &review, CreateParams::default()).await
    })
    .await?;
    Ok(is_allowed(&answer).unwrap_or(false))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permissions_are_displayed_and_include_subresources() {
        let rule = Rule {
            verb: "patch".to_owned(),
            group: "apps".to_owned(),
            resource: "deployments/status".to_owned(),
            namespace: Some("ns".to_owned()),
            name: None,
        };
        assert_eq!(rule.to_string(), "patch deployments/status.apps in ns");
        let attributes = &rule.review()["spec"]["resourceAttributes"];
        assert_eq!(attributes["resource"], "deployments");
        assert_eq!(attributes["subresource"], "status");

        let rule = Rule {
            verb: "get".to_owned(),
            group: String::new(),
            resource: "namespaces".to_owned(),
            namespace: None,
            name: Some("ns".to_owned()),
        };
        assert_eq!(rule.to_string(), "get namespaces \"ns\"");
        assert_eq!(rule.review()["spec"]["resourceAttributes"]["subresource"], "");
    }
}
