//! The status page: three files, embedded, that show in a browser what the API tells.
//!
//! They hold nothing of the installation and ask for nothing from elsewhere, so they are served to everybody; the
//! script reads `v1/events` with the token that stands in the address. Nothing is written by them.

use std::future::ready;

use axum::Router;
use axum::body::Bytes;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HeaderName, IF_NONE_MATCH, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};
use sha2::{Digest as _, Sha256};

/// What the page may do: show itself and talk to whom it came from. A name that got into it as markup stays inert.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; \
                      img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The page and what belongs to it, at `/` and below `/page`.
pub(crate) fn router() -> Router {
    let html = Asset::new("text/html; charset=utf-8", include_str!("page/index.html"));
    let style = Asset::new("text/css; charset=utf-8", include_str!("page/style.css"));
    let script = Asset::new("text/javascript; charset=utf-8", include_str!("page/script.js"));
    Router::new()
        .route("/", html.route())
        .route("/page/style.css", style.route())
        .route("/page/script.js", script.route())
}

/// A file of the page.
#[derive(Clone)]
struct Asset {
    content_type: &'static str,
    body: &'static str,
    /// The quoted SHA-256 of the body: another daemon's page is never taken for this one's.
    tag: String,
}

impl Asset {
    fn new(content_type: &'static str, body: &'static str) -> Self {
        let tag = format!("\"{}\"", hex::encode(Sha256::digest(body.as_bytes())));
        Self { content_type, body, tag }
    }

    fn route(self) -> MethodRouter {
        get(move |headers: HeaderMap| ready(self.answer(&headers)))
    }

    fn answer(&self, request: &HeaderMap) -> Response {
        if self.is_known(request) {
            return (StatusCode::NOT_MODIFIED, self.headers()).into_response();
        }
        (self.headers(), Bytes::from_static(self.body.as_bytes())).into_response()
    }

    fn headers(&self) -> [(HeaderName, String); 6] {
        [
            (CONTENT_TYPE, self.content_type.to_owned()),
            // Kept, but asked for again each time: after an upgrade of the daemon the old script would meet a new API.
            (CACHE_CONTROL, "no-cache".to_owned()),
            (ETAG, self.tag.clone()),
            (CONTENT_SECURITY_POLICY, POLICY.to_owned()),
            (X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
            (REFERRER_POLICY, "no-referrer".to_owned()),
        ]
    }

    /// Whether the browser has it (RFC 9110, section 13.1.2: the comparison is the weak one).
    fn is_known(&self, request: &HeaderMap) -> bool {
        let tags = request.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
        tags.flat_map(|value| value.split(','))
            .map(str::trim)
            .any(|tag| tag == "*" || tag.trim_start_matches("W/") == self.tag)
    }
}
