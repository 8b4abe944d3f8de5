//! The webhooks: admission requests over HTTPS.

mod review;

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::Request as HttpRequest;
use axum::response::{IntoResponse as _, Response};
use axum::routing::any;
use futures::future::BoxFuture;
use http::StatusCode;
use http::header::CONTENT_TYPE;

use crate::metrics::ManagerMetrics;
#[cfg(test)]
pub(crate) use review::read;
pub(crate) use review::{Answer, Operation, Request};

/// Most bytes of a request: etcd takes objects of 1.5 MB, and an update holds two of them, escaped at worst.
const MAX_BODY_BYTES: usize = 7 << 20;

/// What answers the requests of a path.
pub(crate) type Hook = Arc<dyn Fn(Request) -> BoxFuture<'static, Answer> + Send + Sync>;

/// The webhooks by path. The query, in which the API server says how long it will wait, is not looked at.
pub(crate) fn router(hooks: Vec<(&'static str, Hook)>, metrics: &Arc<ManagerMetrics>) -> Router {
    let mut router = Router::new();
    for (path, hook) in hooks {
        let metrics = Arc::clone(metrics);
        let handler = move |request: HttpRequest| {
            let (hook, metrics) = (Arc::clone(&hook), Arc::clone(&metrics));
            async move {
                let call = metrics.webhook(path);
                let response = answer(request, hook, &metrics).await;
                drop(call);
                metrics.webhook_answered(path, response.status().as_u16());
                response
            }
        };
        router = router.route(path, any(handler));
    }
    router
}

async fn answer(request: HttpRequest, hook: Hook, metrics: &ManagerMetrics) -> Response {
    let (parts, body) = request.into_parts();
    let (uid, answer) = match to_bytes(body, MAX_BODY_BYTES).await {
        Ok(body) => match review::read(&parts.headers, &body) {
            Ok(request) => {
                let uid = request.uid.clone();
                // A panic is that request's alone.
                let answer = tokio::spawn(async move { hook(request).await }).await.unwrap_or_else(|error| {
                    metrics.webhook_panics.inc();
                    tracing::error!(%error, "a webhook panicked");
                    Answer::failed("panic: the webhook failed to judge this object [recovered]")
                });
                (uid, answer)
            }
            Err(answer) => (String::new(), answer),
        },
        Err(error) => {
            // Too long, unless the client broke off and hears nothing of it.
            tracing::debug!(%error, "an admission request was not read to its end");
            (String::new(), Answer::too_large(MAX_BODY_BYTES))
        }
    };
    let review = answer.to_review(&uid).to_string();
    (StatusCode::OK, [(CONTENT_TYPE, "application/json")], Body::from(review)).into_response()
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use serde_json::{Value, json};
    use tower_service::Service as _;

    use super::*;

    async fn ask(router: &mut Router, path: &str, body: String) -> (u16, Value) {
        let request =
            http::Request::post(path).header(CONTENT_TYPE, "application/json").body(Body::from(body));
        let response = router.call(request.unwrap()).await.unwrap();
        let code = response.status().as_u16();
        let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (code, serde_json::from_slice(&body).unwrap_or_default())
    }

    #[tokio::test]
    async fn every_request_is_answered_and_counted() {
        let metrics = Arc::new(ManagerMetrics::new().unwrap());
        let hook: Hook = Arc::new(|request: Request| {
            Box::pin(async move {
                match request.operation() {
                    Ok(Operation::Delete) => panic!("on purpose"),
                    Ok(_) => Answer::allowed(),
                    Err(answer) => answer,
                }
            })
        });
        let mut router = router(vec![("/validate", hook)], &metrics);
        let review = |operation: &str| {
            json!({"request": {"uid": "u", "operation": operation, "object": {}, "oldObject": {}}})
                .to_string()
        };
        let large = review("CREATE") + &" ".repeat(MAX_BODY_BYTES);
        let cases = [
            ("/validate?timeout=10s", review("CREATE"), 200),
            ("/validate", review("DELETE"), 500),
            ("/validate", String::new(), 400),
            ("/validate", large, 413),
        ];
        for (path, body, code) in cases {
            let (status, review) = ask(&mut router, path, body).await;
            assert_eq!(status, 200);
            assert_eq!(review["response"]["status"]["code"], code, "{review}");
        }
        assert_eq!(ask(&mut router, "/other", review("CREATE")).await.0, 404);
        let text = metrics.registry.encode().unwrap();
        for line in [
            r#"controller_runtime_webhook_requests_total{webhook="/validate",code="200"} 4"#,
            r#"controller_runtime_webhook_requests_in_flight{webhook="/validate"} 0"#,
            r#"controller_runtime_webhook_latency_seconds_count{webhook="/validate"} 4"#,
            "controller_runtime_webhook_panics_total 1",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
    }
}
