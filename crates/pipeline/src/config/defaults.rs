//! Defaults of the configuration. A section `leaderElection` has none, as upstream's has not.

use serde_json::{Value, json};

use crate::value::{at, object_mut};

/// Fills in what is absent, and where upstream takes an empty text for absent.
pub(super) fn fill(mut document: Value) -> Value {
    let defaults = [
        (&["webhook"][..], "port", json!(9443)),
        (&["metrics"], "bindAddress", json!(":8443")),
        (&["metrics"], "secureServing", json!(true)),
        (&["metrics", "auth"], "enabled", json!(false)),
        (&["health"], "healthProbeBindAddress", json!(":8081")),
        (&["health"], "readinessEndpointName", json!("readyz")),
        (&["health"], "livenessEndpointName", json!("healthz")),
        (&["certManagement"], "enable", json!(true)),
        (&["certManagement"], "webhookServiceName", json!("kubeflow-trainer-controller-manager")),
        (&["certManagement"], "webhookSecretName", json!("kubeflow-trainer-webhook-cert")),
        (&["clientConnection"], "qps", json!(50)),
        (&["clientConnection"], "burst", json!(100)),
        (&["statusServer"], "port", json!(10443)),
        (&["statusServer"], "qps", json!(5)),
        (&["statusServer"], "burst", json!(10)),
    ];
    for (section, key, default) in defaults {
        let section = object_mut(&mut document, section);
        if section.get(key).is_none_or(|value| value.is_null() || *value == json!("")) {
            section.insert(key.to_owned(), default);
        }
    }
    if at(&document, &["leaderElection"]).is_object() {
        let section = object_mut(&mut document, &["leaderElection"]);
        for key in ["leaseDuration", "renewDeadline", "retryPeriod"] {
            section.entry(key).or_insert_with(|| json!("0s"));
        }
        for key in ["resourceLock", "resourceName", "resourceNamespace"] {
            section.entry(key).or_insert_with(|| json!(""));
        }
    }
    document
}
