//! A volume for the claim of an example: the own node has nothing that provides one, as clusters of users have.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::json;

use super::Error;
use super::run::NAMESPACE;
use crate::cluster::Folder;
use crate::demo::Scene;
use crate::files;

/// Makes an empty volume in the cluster's folder, for that claim and no other. What an earlier run left goes first.
pub(super) fn provide(scene: &Scene, folder: &Folder, claim: &str) -> Result<(), Error> {
    let name = format!("{NAMESPACE}-{claim}");
    scene.kubectl_run(&["delete", "persistentvolume", &name, "--ignore-not-found"])?;
    let path = folder.join(&format!("volumes/{claim}"));
    files::remove_folder(&path)?;
    files::make_folder(&path)?;
    // Initializers and nodes run as users of their own, none of them as root.
    let failed = |source| files::Error::new("open to everybody", &path, source);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o777)).map_err(failed)?;
    let manifest = folder.join(&format!("volumes/{claim}.json"));
    let volume = json!({
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name},
        "spec": {
            "capacity": {"storage": "20Gi"},
            "accessModes": ["ReadWriteOnce"],
            "persistentVolumeReclaimPolicy": "Retain",
            "claimRef": {"namespace": NAMESPACE, "name": claim},
            "hostPath": {"path": path},
        },
    });
    files::write(&manifest, volume.to_string())?;
    Ok(scene.kubectl_run(&["create", "--filename", &manifest.display().to_string()])?)
}
