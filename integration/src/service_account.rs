//! Acting as a service account: its token, its kubeconfig, and the daemon's listener that takes tokens.

use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::{Value, json};
use trainerd_plan::object::Resource;

use crate::Error;
use crate::cluster::TestCluster;
use crate::daemon::{Answer, exchange, free_address};

/// Seconds for which a token is good: longer than any test.
const SECONDS: u32 = 3600;

impl TestCluster {
    /// A token of a service account.
    pub fn token(&self, namespace: &str, account: &str) -> Result<String, Error> {
        Ok(self.block_on(self.api().token(namespace, account, None, SECONDS))?)
    }

    /// A token of a new service account that may do this with the installation: `get` to look, `update` to change.
    pub fn account(&self, namespace: &str, name: &str, verbs: &[&str]) -> Result<String, Error> {
        let meta = json!({"name": name, "namespace": namespace});
        let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta});
        self.create(&resource("", "ServiceAccount", "serviceaccounts"), &account)?;
        let rbac = "rbac.authorization.k8s.io";
        let role = json!({
            "apiVersion": format!("{rbac}/v1"), "kind": "Role", "metadata": meta,
            "rules": [{"apiGroups": ["trainerd.dev"], "resources": ["installations"],
                       "resourceNames": ["kubeflow-trainer"], "verbs": verbs}],
        });
        self.create(&resource(rbac, "Role", "roles"), &role)?;
        let binding = json!({
            "apiVersion": format!("{rbac}/v1"), "kind": "RoleBinding", "metadata": meta,
            "roleRef": {"apiGroup": rbac, "kind": "Role", "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": namespace}],
        });
        self.create(&resource(rbac, "RoleBinding", "rolebindings"), &binding)?;
        self.token(namespace, name)
    }

    /// A kubeconfig in which everybody has that token, and nothing else to show.
    pub fn kubeconfig_with(&self, token: &str) -> Result<PathBuf, Error> {
        let text = std::fs::read_to_string(self.kubeconfig());
        let text = text.map_err(Error::io("read", self.kubeconfig()))?;
        let mut config: Value =
            serde_yaml::from_str(&text).map_err(|error| Error::Missing(format!("a kubeconfig ({error})")))?;
        for user in config["users"].as_array_mut().into_iter().flatten() {
            user["user"] = json!({"token": token});
        }
        let path = self.folder().join("token.kubeconfig");
        std::fs::write(&path, config.to_string()).map_err(Error::io("write", &path))?;
        Ok(path)
    }
}

fn resource(group: &str, kind: &str, plural: &str) -> Resource {
    let (version, text) = ("v1".to_owned(), str::to_owned);
    Resource { group: text(group), version, kind: text(kind), plural: text(plural), namespaced: true }
}

/// The API of a daemon over TLS.
pub struct TokenListener {
    address: SocketAddr,
    config: Arc<ClientConfig>,
    arguments: Vec<String>,
}

impl TokenListener {
    /// An address to listen on, and a certificate for it.
    pub fn new(cluster: &TestCluster) -> Result<Self, Error> {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]);
        let keys = made.map_err(|error| Error::Missing(format!("a certificate ({error})")))?;
        let write = |name: &str, text: String| {
            let path = cluster.folder().join(name);
            std::fs::write(&path, text).map_err(Error::io("write", &path))?;
            Ok::<_, Error>(path.display().to_string())
        };
        let (certificate, key) =
            (write("tls.crt", keys.cert.pem())?, write("tls.key", keys.signing_key.serialize_pem())?);
        let address = free_address()?;
        let mut arguments = vec!["--listen".to_owned(), address.to_string()];
        arguments.extend(["--tls-cert".to_owned(), certificate, "--tls-key".to_owned(), key]);
        let config = client(&keys.cert).map_err(|error| Error::Missing(format!("a TLS client ({error})")))?;
        Ok(Self { address, config: Arc::new(config), arguments })
    }

    /// What the daemon is to be started with.
    pub fn arguments(&self) -> Vec<&str> {
        self.arguments.iter().map(String::as_str).collect()
    }

    /// One request.
    pub fn ask(&self, method: &str, path: &str, token: Option<&str>) -> Result<Answer, Error> {
        let failed = || Error::io("reach", "the API over TLS");
        let stream = TcpStream::connect(self.address).map_err(failed())?;
        stream.set_read_timeout(Some(Duration::from_secs(30))).map_err(failed())?;
        let name = ServerName::try_from("localhost").map_err(|_| Error::Missing("a name".to_owned()))?;
        let client = ClientConnection::new(Arc::clone(&self.config), name)
            .map_err(|error| Error::Missing(format!("a TLS connection ({error})")))?;
        exchange(StreamOwned::new(client, stream), method, path, None, token)
    }
}

fn client(certificate: &rcgen::Certificate) -> Result<ClientConfig, rustls::Error> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate.der().clone())?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth())
}
