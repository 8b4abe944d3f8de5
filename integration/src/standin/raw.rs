//! Requests to subresources, which only a kubelet makes.

use http::{Method, Request};
use serde_json::{Value, json};
use trainerd_cluster::Cluster;

/// A merge patch of a status.
pub(super) async fn patch_status(cluster: &Cluster, path: &str, status: &Value) -> Result<(), kube::Error> {
    send(cluster, Method::PATCH, &format!("{path}/status"), "application/merge-patch+json", status).await
}

/// Binds a pod to a node, as a scheduler does.
pub(super) async fn bind(cluster: &Cluster, path: &str, binding: &Value) -> Result<(), kube::Error> {
    send(cluster, Method::POST, &format!("{path}/binding"), "application/json", binding).await
}

/// Deletes a pod at once, as a kubelet does when its containers have ended.
pub(super) async fn delete_at_once(
    cluster: &Cluster,
    path: &str,
    preconditions: &Value,
) -> Result<(), kube::Error> {
    let options = json!({"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0,
                         "preconditions": preconditions});
    send(cluster, Method::DELETE, path, "application/json", &options).await
}

async fn send(
    cluster: &Cluster,
    method: Method,
    path: &str,
    media_type: &str,
    body: &Value,
) -> Result<(), kube::Error> {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(http::header::CONTENT_TYPE, media_type)
        .body(body.to_string().into_bytes())
        .map_err(kube::Error::HttpError)?;
    cluster.client().request::<Value>(request).await.map(drop)
}

/// Whether the object is gone, or another than was meant.
pub(super) fn is_gone(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404 || status.code == 409)
}
