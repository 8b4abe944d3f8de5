//! The Secret by which nodes pull the daemon's own image, where that takes a password: what the charm's resource says.
//!
//! It belongs to no revision, which would keep the password for as long as the revision is kept.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::watch;
use trainerd_cluster::retry::Backoff;
use trainerd_cluster::{ApplyParams, Cluster, DeleteParams, RequestError, builtin};
use trainerd_juju::desired::Image;
use trainerd_plan::desired::Installation;

use super::declared::{Beside, Declared};

/// The option that names Secrets of this kind.
const OPTION: &str = "image-pull-secrets";

/// The label by which the Secret is known as ours.
const LABEL: &str = "trainerd.dev/installation";

/// Name of the Secret of an application.
fn name(application: &str) -> String {
    format!("{application}-trainerd-pull")
}

/// Names the Secret in the options, beside those that are there.
pub(super) fn add(options: &mut BTreeMap<String, Value>, application: &str) {
    let known = options.get(OPTION).and_then(Value::as_str).unwrap_or_default();
    let all = match known.trim() {
        "" => name(application),
        known => format!("{known},{}", name(application)),
    };
    options.insert(OPTION.to_owned(), all.into());
}

/// Keeps the Secret for as long as what shall be is declared.
pub(super) async fn keep(
    cluster: Cluster,
    installation: Installation,
    mut declared: watch::Receiver<Declared>,
) {
    let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));
    let mut done = Beside::NotOurs;
    loop {
        let wanted = declared.borrow_and_update().beside(|spec| spec.image.clone());
        let mut again = None;
        if wanted != done {
            let brought = match &wanted {
                Beside::NotOurs => Ok(()),
                Beside::Nothing => remove(&cluster, &installation).await,
                Beside::This(image) => write(&cluster, &installation, image).await,
            };
            match brought {
                Ok(()) => {
                    backoff.reset();
                    done = wanted;
                }
                Err(error) => {
                    let (why, wait) = (trainerd_engine::error::one_line(&error), backoff.next_wait());
                    tracing::warn!(
                        why,
                        ?wait,
                        "the Secret by which nodes pull trainerd is not as it should be"
                    );
                    again = Some(wait);
                }
            }
        }
        tokio::select! {
            changed = declared.changed() => if changed.is_err() { return },
            () = super::at(again) => {}
        }
    }
}

fn secret(installation: &Installation, image: &Image) -> Value {
    let Image { registrypath, username, password } = image;
    let logins = json!({"auths": {registry(registrypath): {"username": username, "password": password}}});
    json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/dockerconfigjson",
        "metadata": {
            "name": name(&installation.name),
            "namespace": installation.namespace,
            "labels": {LABEL: installation.name},
        },
        "stringData": {".dockerconfigjson": logins.to_string()},
    })
}

/// The registry of a reference, as logins name it.
fn registry(reference: &str) -> &str {
    match reference.split_once('/') {
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => host,
        _ => "https://index.docker.io/v1/",
    }
}

async fn write(cluster: &Cluster, installation: &Installation, image: &Image) -> Result<(), RequestError> {
    let params = ApplyParams { force: true, metadata_only: true, ..ApplyParams::default() };
    cluster.apply(&builtin::secret(), &secret(installation, image), &params).await.map(drop)
}

async fn remove(cluster: &Cluster, installation: &Installation) -> Result<(), RequestError> {
    let (kind, namespace) = (builtin::secret(), Some(installation.namespace.as_str()));
    let name = name(&installation.name);
    let metadata = match cluster.get_metadata(&kind, namespace, &name).await {
        Ok(found) => found["metadata"].clone(),
        Err(error) if error.is_absent() => return Ok(()),
        Err(error) => return Err(error),
    };
    if metadata["labels"][LABEL] != installation.name {
        return Ok(());
    }
    let params = DeleteParams { uid: metadata["uid"].as_str().map(str::to_owned), ..DeleteParams::default() };
    match cluster.delete(&kind, namespace, &name, &params).await {
        Err(error) if !error.is_absent() => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_secret_is_a_login_to_the_registry_of_the_image_and_named_beside_others() {
        let installation = Installation { name: "my-ml".into(), namespace: "kubeflow".into() };
        let image = Image {
            registrypath: "registry.example:5000/trainerd@sha256:0".into(),
            username: "u".into(),
            password: "p".into(),
        };
        let secret = secret(&installation, &image);
        let logins = secret["stringData"][".dockerconfigjson"].as_str().unwrap();
        let logins: Value = serde_json::from_str(logins).unwrap();
        assert_eq!(logins["auths"]["registry.example:5000"], json!({"username": "u", "password": "p"}));
        for (reference, host) in [
            ("docker.io/library/x", "docker.io"),
            ("library/x:1", "https://index.docker.io/v1/"),
            ("localhost/x", "localhost"),
        ] {
            assert_eq!(registry(reference), host);
        }
        let mut options = BTreeMap::new();
        add(&mut options, "my-ml");
        assert_eq!(options[OPTION], "my-ml-trainerd-pull");
        options.insert(OPTION.to_owned(), "a,b".into());
        add(&mut options, "my-ml");
        assert_eq!(options[OPTION], "a,b,my-ml-trainerd-pull");
    }
}
