//! Questions that Kubernetes and Pebble ask over and over: alive, ready, settled.

use std::fmt;
use std::sync::Arc;

use axum::Router;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::StatusCode;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};

type Check = Box<dyn Fn() -> Result<(), String> + Send + Sync>;

/// Named checks, and the paths that answer with them.
///
/// | path | answers 200 when | who asks |
/// |---|---|---|
/// | `/livez`, `/healthz` | the checks of [`live`](Self::live) pass | restarts us |
/// | `/readyz` | those and the checks of [`ready`](Self::ready) pass | sends us traffic |
/// | `/settledz` | the checks of [`settled`](Self::settled) pass | waits for the work to be done |
///
/// A check runs on every request, in the server's task: it looks at something known already and does not wait.
#[derive(Default)]
pub struct Probes {
    live: Checks,
    ready: Checks,
    settled: Checks,
}

#[derive(Default)]
struct Checks(Vec<(&'static str, Check)>);

impl Probes {
    /// No checks: every answer is 200.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a check without which the process is better restarted. The reason it fails with is for people.
    #[must_use]
    pub fn live(
        mut self,
        name: &'static str,
        check: impl Fn() -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        self.live.add(name, check);
        self
    }

    /// Adds a check without which nobody should be sent here.
    #[must_use]
    pub fn ready(
        mut self,
        name: &'static str,
        check: impl Fn() -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        self.ready.add(name, check);
        self
    }

    /// Adds a check without which the work is not done.
    #[must_use]
    pub fn settled(
        mut self,
        name: &'static str,
        check: impl Fn() -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        self.settled.add(name, check);
        self
    }

    /// The paths, for GET and HEAD: 200 with `ok`, or 503 with a line `name: reason` for each check that fails.
    pub fn router(self) -> Router {
        let probes = Arc::new(self);
        let answer = |checks: fn(&Self) -> Vec<&Checks>| {
            let probes = Arc::clone(&probes);
            get(move || async move { answer(&checks(&probes)) })
        };
        Router::new()
            .route("/healthz", answer(|probes| vec![&probes.live]))
            .route("/livez", answer(|probes| vec![&probes.live]))
            .route("/readyz", answer(|probes| vec![&probes.live, &probes.ready]))
            .route("/settledz", answer(|probes| vec![&probes.settled]))
    }
}

impl Checks {
    fn add(&mut self, name: &'static str, check: impl Fn() -> Result<(), String> + Send + Sync + 'static) {
        self.0.push((name, Box::new(check)));
    }

    fn names(&self) -> Vec<&'static str> {
        self.0.iter().map(|(name, _)| *name).collect()
    }
}

fn answer(checks: &[&Checks]) -> Response {
    let mut failures = String::new();
    for (name, check) in checks.iter().flat_map(|checks| &checks.0) {
        if let Err(reason) = check() {
            // One line a check, whatever the reason holds.
            let reason = reason.split_whitespace().collect::<Vec<_>>().join(" ");
            failures.extend([name, ": ", &reason, "\n"]);
        }
    }
    let (status, body) = if failures.is_empty() {
        (StatusCode::OK, "ok\n".to_owned())
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, failures)
    };
    (status, [(CONTENT_TYPE, "text/plain; charset=utf-8"), (CACHE_CONTROL, "no-store")], body).into_response()
}

impl fmt::Debug for Probes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Probes")
            .field("live", &self.live.names())
            .field("ready", &self.ready.names())
            .field("settled", &self.settled.names())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use axum::body::{Body, to_bytes};
    use http::{Method, Request};
    use tower_service::Service;

    use super::*;

    async fn ask(router: &mut Router, method: Method, path: &str) -> (u16, String) {
        let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
        let response = router.call(request).await.unwrap();
        if response.status() != StatusCode::METHOD_NOT_ALLOWED {
            assert_eq!(response.headers()[CACHE_CONTROL], "no-store");
            assert_eq!(response.headers()[CONTENT_TYPE], "text/plain; charset=utf-8");
        }
        let status = response.status().as_u16();
        let body = to_bytes(response.into_body(), 10_000).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn each_probe_path_runs_its_checks() {
        let fails = |reason: &'static str| move || Err(reason.to_owned());
        let no_checks =
            || Probes::new().live("loop", || Ok(())).ready("api", || Ok(())).settled("phase", || Ok(()));
        let cases = [
            (no_checks(), [None; 4]),
            (
                no_checks().live("watch", fails("stuck\nfor 20 s")),
                [
                    Some("watch: stuck for 20 s\n"),
                    Some("watch: stuck for 20 s\n"),
                    Some("watch: stuck for 20 s\n"),
                    None,
                ],
            ),
            (
                no_checks().ready("observed", fails("not yet")).ready("api2", fails("gone")),
                [None, None, Some("observed: not yet\napi2: gone\n"), None],
            ),
            (
                no_checks().settled("drift", fails("3 objects")),
                [None, None, None, Some("drift: 3 objects\n")],
            ),
        ];
        for (probes, expected) in cases {
            let what = format!("{probes:?}");
            let mut router = probes.router();
            for (path, failure) in ["/healthz", "/livez", "/readyz", "/settledz"].into_iter().zip(expected) {
                let status = if failure.is_some() { 503 } else { 200 };
                let body = failure.unwrap_or("ok\n");
                assert_eq!(
                    ask(&mut router, Method::GET, path).await,
                    (status, body.to_owned()),
                    "{what} {path}"
                );
                assert_eq!(
                    ask(&mut router, Method::HEAD, path).await,
                    (status, String::new()),
                    "{what} {path}"
                );
                assert_eq!(ask(&mut router, Method::POST, path).await.0, 405);
            }
        }
    }
}
