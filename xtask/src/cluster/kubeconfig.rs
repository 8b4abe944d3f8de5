//! Kubeconfig files with everything in them, so that they work wherever they are copied.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::Error;
use super::certificates::Pair;
use crate::files;

/// Writes a kubeconfig for one client of one server; readable by its owner only, for it holds a key.
pub(super) fn write(path: &Path, cluster: &str, server: &str, ca: &str, client: &Pair) -> Result<(), Error> {
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{
            "name": cluster,
            "cluster": { "server": server, "certificate-authority-data": STANDARD.encode(ca) },
        }],
        "users": [{
            "name": "client",
            "user": {
                "client-certificate-data": STANDARD.encode(&client.certificate),
                "client-key-data": STANDARD.encode(&client.key),
            },
        }],
        "contexts": [{ "name": cluster, "context": { "cluster": cluster, "user": "client" } }],
        "current-context": cluster,
    });
    files::write_private(path, serde_yaml::to_string(&config)?)?;
    Ok(())
}
