//! What training code needs to report its progress: where, with which token, and whom to trust.

use serde_json::{Value, json};

use crate::build::BuildError;
use crate::info::Info;
use crate::names::{name, namespace, owned};
use crate::upsert::{self, variable};
use crate::{Facts, status_server};

const FOLDER: &str = "/var/run/secrets/kubeflow/trainer";
const VOLUME: &str = "kubeflow-trainer-token";
const AUTHORITY: &str = "ca.crt";
const TOKEN: &str = "token";
/// Seconds that a token lasts; the kubelet renews it before.
const TOKEN_LIFETIME: i32 = 3600;

fn config_map_name(train_job: &Value) -> String {
    format!("{}-tls-config", name(train_job))
}

/// Variables, mount and volume of the training pods.
pub(crate) fn enforce(info: &mut Info, train_job: &Value, facts: &Facts<'_>) -> Result<(), BuildError> {
    let port = facts.status_port.ok_or(BuildError::NoStatusPort)?;
    let path = status_server::path(namespace(train_job), name(train_job));
    let url = format!("https://{}.{}.svc:{port}{path}", facts.service_name, facts.operator_namespace);
    let env = [
        variable("KUBEFLOW_TRAINER_SERVER_URL", url),
        variable("KUBEFLOW_TRAINER_SERVER_CA_CERT", format!("{FOLDER}/{AUTHORITY}")),
        variable("KUBEFLOW_TRAINER_SERVER_TOKEN", format!("{FOLDER}/{TOKEN}")),
    ];
    let mount = json!({ "name": VOLUME, "mountPath": FOLDER, "readOnly": true });
    if let Some(set) = info.trainer_pod_set() {
        for container in &mut set.containers {
            upsert::env(&mut container.env, env.clone());
            upsert::mounts(&mut container.mounts, [mount.clone()]);
        }
        upsert::volumes(&mut set.volumes, [volume(train_job)]);
    }
    Ok(())
}

fn volume(train_job: &Value) -> Value {
    json!({
        "name": VOLUME,
        "projected": {
            "sources": [
                { "serviceAccountToken": {
                    "audience": status_server::audience(namespace(train_job), name(train_job)),
                    "expirationSeconds": TOKEN_LIFETIME,
                    "path": TOKEN,
                } },
                { "configMap": {
                    "name": config_map_name(train_job),
                    "items": [{ "key": AUTHORITY, "path": AUTHORITY }],
                } },
            ],
        },
    })
}

/// The ConfigMap with the authority of the status server's certificate.
pub(crate) fn build(train_job: &Value, facts: &Facts<'_>) -> Result<Value, BuildError> {
    let authority =
        facts.certificate_authority.map_err(|answer| BuildError::NoCertificateSecret(answer.to_owned()))?;
    if authority.is_empty() {
        return Err(BuildError::NoCertificateAuthority);
    }
    let mut config_map = owned("v1", "ConfigMap", &config_map_name(train_job), train_job);
    config_map["data"] = json!({ AUTHORITY: authority });
    Ok(config_map)
}
