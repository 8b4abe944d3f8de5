//! The way into a pod: a port of it, through the API server, and the token to show there.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use serde::Deserialize;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::builtin;
use crate::cluster::Cluster;
use crate::error::{RequestError, Verb};
use crate::path;
use crate::transport::Call;

impl Cluster {
    /// Opens a connection to a port of a pod, its loopback included. It lasts until it is dropped.
    ///
    /// Needs `create` and `get` on `pods/portforward`.
    ///
    /// # Errors
    /// [`RequestError::Unreachable`] with what the server said where it refuses; that there is no such port shows
    /// only when the connection is used.
    pub async fn forward(
        &self,
        namespace: &str,
        pod: &str,
        port: u16,
    ) -> Result<impl AsyncRead + AsyncWrite + Send + Unpin + use<>, RequestError> {
        let limit = self.request_timeout();
        let pods: Api<Pod> = Api::namespaced(self.client().clone(), namespace);
        let ports = [port];
        let mut forwarder = match tokio::time::timeout(limit, pods.portforward(pod, &ports)).await {
            Ok(opened) => opened.map_err(|error| self.unreachable(error))?,
            Err(_) => return Err(self.no_answer(limit)),
        };
        forwarder.take_stream(port).ok_or(RequestError::Address { what: "a port" })
    }

    /// A token of a service account, good for so many seconds. One for an audience is good for nobody else: whoever is
    /// shown it cannot use it towards the API server, as one without can be.
    ///
    /// Needs `create` on `serviceaccounts/token`.
    pub async fn token(
        &self,
        namespace: &str,
        account: &str,
        audience: Option<&str>,
        seconds: u32,
    ) -> Result<String, RequestError> {
        let path = format!("{}/token", path::object(&builtin::service_account(), Some(namespace), account)?);
        let audiences: Vec<&str> = audience.into_iter().collect();
        let request = json!({
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"audiences": audiences, "expirationSeconds": seconds},
        });
        let call = Call::new(Verb::Create, http::Method::POST, path.clone()).json(&request);
        let answer: Result<Answer, _> = serde_json::from_value(self.call(call).await?);
        answer.map(|answer| answer.status.token).map_err(|source| RequestError::Decode {
            verb: Verb::Create,
            path,
            source: Arc::new(source),
        })
    }
}

/// A TokenRequest as it is answered, as far as it matters.
#[derive(Deserialize)]
struct Answer {
    status: Granted,
}

#[derive(Deserialize)]
struct Granted {
    token: String,
}
