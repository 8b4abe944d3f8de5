//! `/healthz` and `/readyz`, as controller-runtime answers them.

use std::fmt::Write as _;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, RawQuery};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use futures::future::BoxFuture;
use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};

/// Looks whether something is as it should be, and says what is not.
pub(crate) type Check = Arc<dyn Fn() -> BoxFuture<'static, Result<(), String>> + Send + Sync>;

/// The checks of a probe, by name.
#[derive(Clone, Default)]
pub(crate) struct Checks(Vec<(&'static str, Check)>);

impl Checks {
    pub(crate) fn add<F>(&mut self, name: &'static str, check: impl Fn() -> F + Send + Sync + 'static)
    where
        F: Future<Output = Result<(), String>> + Send + 'static,
    {
        self.0.push((name, Arc::new(move || Box::pin(check()))));
    }

    /// `GET <path>` asks all checks, `GET <path>/<check>` one of them.
    pub(crate) fn router(self, path: &str) -> Router {
        let name = path.trim_start_matches('/').to_owned();
        let (all, one) = (self.clone(), self);
        let whole = get(move |RawQuery(query): RawQuery| {
            let (checks, name) = (all.clone(), name.clone());
            async move { checks.answer(&name, query.as_deref().unwrap_or_default()).await }
        });
        let single = get(move |Path(check): Path<String>| {
            let checks = one.clone();
            async move { checks.check_response(&check).await }
        });
        Router::new()
            .route(path, whole.clone())
            .route(&format!("{path}/"), whole)
            .route(&format!("{path}/{{check}}"), single)
    }

    async fn answer(&self, name: &str, query: &str) -> Response {
        let is_verbose = query.split('&').any(|pair| pair == "verbose" || pair.starts_with("verbose="));
        let mut report = String::new();
        let mut failed = false;
        for (check, ask) in &self.0 {
            // Writing to a string does not fail.
            let _ = match ask().await {
                Ok(()) => writeln!(report, "[+]{check} ok"),
                Err(reason) => {
                    failed = true;
                    tracing::info!(probe = name, check, reason, "a probe failed");
                    writeln!(report, "[-]{check} failed: {reason}")
                }
            };
        }
        match (failed, is_verbose) {
            (true, _) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{report}{name} check failed\n")),
            (false, true) => text(StatusCode::OK, format!("{report}{name} check passed\n")),
            (false, false) => text(StatusCode::OK, "ok".to_owned()),
        }
    }

    async fn check_response(&self, check: &str) -> Response {
        let Some((_, ask)) = self.0.iter().find(|(name, _)| *name == check) else {
            return text(StatusCode::NOT_FOUND, "404 page not found\n".to_owned());
        };
        match ask().await {
            Ok(()) => text(StatusCode::OK, "ok".to_owned()),
            Err(reason) => {
                text(StatusCode::INTERNAL_SERVER_ERROR, format!("internal server error: {reason}\n"))
            }
        }
    }
}

fn text(status: StatusCode, body: String) -> Response {
    let no_sniff = (HeaderName::from_static("x-content-type-options"), HeaderValue::from_static("nosniff"));
    let plain = (CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    (status, [plain, no_sniff], body).into_response()
}

#[cfg(test)]
mod tests {
    use axum::body::{Body, to_bytes};
    use http::Request;
    use tower_service::Service as _;

    use super::*;

    async fn ask(router: &mut Router, path: &str) -> (u16, String) {
        let response = router.call(Request::get(path).body(Body::empty()).unwrap()).await.unwrap();
        let code = response.status().as_u16();
        let body = to_bytes(response.into_body(), 10_000).await.unwrap();
        (code, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn a_probe_runs_its_checks() {
        let mut checks = Checks::default();
        checks.add("readyz", || async { Ok(()) });
        let mut good = checks.clone().router("/readyz");
        checks.add("webhook", || async { Err("not yet".to_owned()) });
        let mut bad = checks.router("/readyz");
        let answers = [
            (ask(&mut good, "/readyz").await, 200, "ok"),
            (ask(&mut good, "/readyz/").await, 200, "ok"),
            (ask(&mut good, "/readyz?verbose").await, 200, "[+]readyz ok\nreadyz check passed\n"),
            (ask(&mut good, "/readyz/readyz").await, 200, "ok"),
            (ask(&mut good, "/readyz/other").await, 404, "404 page not found\n"),
            (
                ask(&mut bad, "/readyz").await,
                500,
                "[+]readyz ok\n[-]webhook failed: not yet\nreadyz check failed\n",
            ),
            (ask(&mut bad, "/readyz/webhook").await, 500, "internal server error: not yet\n"),
        ];
        for (answer, code, body) in answers {
            assert_eq!(answer, (code, body.to_owned()));
        }
    }
}
