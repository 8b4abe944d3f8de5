//! The Secret by which nodes pull the daemon's own image, where that takes a password: what the charm's resource says.
//!
//! It belongs to no revision, which would keep the password for as long as the revision is kept.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use trainerd_cluster::{ApplyParams, Cluster, DeleteParams, RequestError, builtin};
use trainerd_juju::desired::Image;
use trainerd_plan::desired::Installation;

use super::ApplicationObjects;
use crate::options::declared::OptionsSpec;

/// The option that names Secrets of this kind.
const OPTION: &str = "image-pull-secrets";

/// The label by which the Secret is known as ours.
const LABEL: &str = "trainerd.dev/installation";

/// Name of the Secret of an application.
fn name(application: &str) -> String {
    format!("{application}-trainerd-pull")
}

/// Names the Secret in the options, beside those that are there.
pub(crate) fn add(options: &mut BTreeMap<String, Value>, application: &str) {
    let known = options.get(OPTION).and_then(Value::as_str).unwrap_or_default();
    let all = match known.trim() {
        "" => name(application),
        known => format!("{known},{}", name(application)),
    };
    options.insert(OPTION.to_owned(), all.into());
}

/// The Secret of one application.
pub(crate) struct PullSecret {
    pub(crate) cluster: Cluster,
    pub(crate) installation: Installation,
}

impl ApplicationObjects for PullSecret {
    type Spec = Image;
    type Error = RequestError;
    const WHAT: &'static str = "the Secret by which nodes pull trainerd is";
    const LOOK: Option<Duration> = None;

    fn spec(spec: &OptionsSpec) -> Option<Image> {
        spec.image.clone()
    }

    async fn ensure(&self, image: &Image) -> Result<(), RequestError> {
        let params = ApplyParams { force: true, metadata_only: true, ..ApplyParams::default() };
        let manifest = secret(&self.installation, image);
        self.cluster.apply(&builtin::secret(), &manifest, &params).await.map(drop)
    }

    async fn remove(&self) -> Result<(), RequestError> {
        let (kind, namespace) = (builtin::secret(), Some(self.installation.namespace.as_str()));
        let name = name(&self.installation.name);
        let metadata = match self.cluster.get_metadata(&kind, namespace, &name).await {
            Ok(found) => found["metadata"].clone(),
            Err(error) if error.is_absent() => return Ok(()),
            Err(error) => return Err(error),
        };
        if metadata["labels"][LABEL] != self.installation.name {
            return Ok(());
        }
        let uid = metadata["uid"].as_str().map(str::to_owned);
        let params = DeleteParams { uid, ..DeleteParams::default() };
        match self.cluster.delete(&kind, namespace, &name, &params).await {
            Err(error) if !error.is_absent() => Err(error),
            _ => Ok(()),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pull_secret_is_added_to_the_existing_ones() {
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
