//! The authority in webhook configurations, by which the API server knows the webhooks.

use serde_json::Value;
use trainerd_cluster::{Cluster, CreateParams, RequestError};
use trainerd_object::Resource;

use crate::kinds;

/// The webhook configurations of a manager, by kind.
pub(super) fn configurations() -> [(Resource, &'static str); 2] {
    [
        (kinds::mutating_webhook_configuration(), "defaulter.trainer.kubeflow.org"),
        (kinds::validating_webhook_configuration(), "validator.trainer.kubeflow.org"),
    ]
}

/// Writes the authority, in base64, into every webhook of both configurations. Where it is already, nothing is written;
/// a configuration that does not exist is logged.
pub(super) async fn inject(cluster: &Cluster, authority: &str) -> Result<(), RequestError> {
    for (resource, name) in configurations() {
        let Some(mut configuration) = cluster.get_opt(&resource, None, name).await? else {
            tracing::error!(kind = resource.kind, name, "the webhook configuration does not exist");
            continue;
        };
        if set(&mut configuration, authority) {
            cluster.replace(&resource, &configuration, CreateParams::default()).await?;
            tracing::info!(kind = resource.kind, name, "wrote the authority into the webhook configuration");
        }
    }
    Ok(())
}

/// Sets `clientConfig.caBundle` of every webhook. Whether that changed anything.
fn set(configuration: &mut Value, authority: &str) -> bool {
    let mut changed = false;
    for webhook in configuration["webhooks"].as_array_mut().into_iter().flatten() {
        let bundle = &mut webhook["clientConfig"]["caBundle"];
        if bundle.as_str() != Some(authority) {
            *bundle = Value::from(authority);
            changed = true;
        }
    }
    changed
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_webhook_gets_the_ca_bundle_once() {
        let mut configuration = json!({"webhooks": [
            {"name": "a", "clientConfig": {"service": {"name": "s"}}},
            {"name": "b", "clientConfig": {"service": {"name": "s"}, "caBundle": "new"}},
        ]});
        assert!(set(&mut configuration, "new"));
        for webhook in configuration["webhooks"].as_array().unwrap() {
            assert_eq!(webhook["clientConfig"], json!({"service": {"name": "s"}, "caBundle": "new"}));
        }
        assert!(!set(&mut configuration, "new"), "nothing is left to write");
        assert!(!set(&mut json!({}), "new"));
    }
}
