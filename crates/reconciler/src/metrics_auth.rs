//! Who may read the metrics: whoever the API server knows and lets `get /metrics`.

use serde_json::{Value, json};
use trainerd_cluster::{Cluster, CreateParams, builtin};

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use http::header::AUTHORIZATION;

/// Asks the API server about every scrape, as controller-runtime's filter does.
pub(crate) async fn require(State(cluster): State<Cluster>, request: Request, next: Next) -> Response {
    let token = request
        .headers()
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim());
    let Some(token) = token.filter(|token| !token.is_empty()) else { return unauthorized() };
    let review = json!({
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenReview",
        "spec": {"token": token},
    });
    let user = match cluster.create(&builtin::token_review(), &review, CreateParams::default()).await {
        Ok(answer) if answer["status"]["authenticated"] == true => answer["status"]["user"].clone(),
        Ok(_) => return unauthorized(),
        Err(error) => {
            tracing::error!(%error, "failed to ask whose token it is");
            return (StatusCode::INTERNAL_SERVER_ERROR, "Authentication failed\n").into_response();
        }
    };
    let method = request.method().as_str().to_lowercase();
    let review = access_review(&user, &method, request.uri().path());
    match cluster.create(&builtin::subject_access_review(), &review, CreateParams::default()).await {
        Ok(answer) if answer["status"]["allowed"] == true => next.run(request).await,
        Ok(_) => {
            let name = user["username"].as_str().unwrap_or_default();
            (StatusCode::FORBIDDEN, format!("Authorization denied for user {name}\n")).into_response()
        }
        Err(error) => {
            tracing::error!(%error, "failed to ask what somebody may");
            (StatusCode::INTERNAL_SERVER_ERROR, "Authorization failed\n").into_response()
        }
    }
}

fn unauthorized() -> Response {
    (StatusCode::UNAUTHORIZED, "Unauthorized\n").into_response()
}

fn access_review(user: &Value, verb: &str, path: &str) -> Value {
    json!({
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {
            "user": user["username"],
            "groups": user["groups"],
            "uid": user["uid"],
            "extra": user["extra"],
            "nonResourceAttributes": {"verb": verb, "path": path},
        },
    })
}
