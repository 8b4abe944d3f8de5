//! The middleware that asks.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::{AUTHORIZATION, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, StatusCode};
use tokio::time::Instant;

use super::cache::{Cache, Key, Verdict};
use super::expiry::expires_in;
use super::limit::Limit;
use super::{Authenticator, Caching, Denied, Identity};
use crate::problem::Problem;
use crate::server::ending_with;

/// Time between two looks whether the token of an event stream is still good.
const RECHECK: Duration = Duration::from_secs(30);

/// An authenticator whose answers are remembered.
pub(super) struct CachedAuthenticator<A> {
    authenticator: A,
    cache: Mutex<Cache>,
    limit: Limit,
}

/// See [`require`](super::require).
pub(super) async fn admit<A: Authenticator>(
    State(auth): State<Arc<CachedAuthenticator<A>>>,
    mut request: Request,
    next: Next,
) -> Response {
    let token = token(request.headers());
    request.headers_mut().remove(AUTHORIZATION);
    let Some(token) = token else { return unauthorized("Bearer", "a bearer token is needed") };
    match auth.ask(&token.0).await {
        Ok(identity) => {
            request.extensions_mut().insert(identity);
            ending_with(next.run(request).await, async move { auth.outlived(&token.0).await })
        }
        Err(refusal) => refusal,
    }
}

impl<A: Authenticator> CachedAuthenticator<A> {
    pub(super) fn new(authenticator: A, caching: Caching) -> Self {
        Self { authenticator, cache: Mutex::new(Cache::new(caching)), limit: Limit::new() }
    }

    async fn ask(&self, token: &str) -> Result<Identity, Response> {
        match self.verdict(token).await? {
            Verdict::Known(identity) => Ok(identity),
            Verdict::Bad => Err(unauthorized("Bearer error=\"invalid_token\"", "the token is not valid")),
            Verdict::Forbidden(message) => {
                Err(Problem::new(StatusCode::FORBIDDEN, "Forbidden", message).into_response())
            }
        }
    }

    /// What is known of a token, or what the authenticator says of it now.
    async fn verdict(&self, token: &str) -> Result<Verdict, Response> {
        let key = Key::of(token);
        if let Some(verdict) = self.remembered(key) {
            return Ok(verdict);
        }
        let Some(_permit) = self.limit.ask(key, token).await else { return Err(too_many()) };
        // Somebody may have asked about the same one meanwhile.
        if let Some(verdict) = self.remembered(key) {
            return Ok(verdict);
        }
        let asked = Instant::now();
        let verdict = match self.authenticator.authenticate(token).await {
            Ok(identity) => Verdict::Known(identity),
            Err(Denied::BadToken) => Verdict::Bad,
            Err(denied @ Denied::Forbidden { .. }) => Verdict::Forbidden(denied.to_string()),
            Err(denied @ Denied::Unavailable { .. }) => return Err(unavailable(&denied)),
        };
        match &verdict {
            Verdict::Known(_) => self.limit.good(key),
            Verdict::Bad | Verdict::Forbidden(_) => self.limit.bad(key),
        }
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        cache.put(key, verdict.clone(), asked);
        Ok(verdict)
    }

    fn remembered(&self, key: Key) -> Option<Verdict> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner).get(key, Instant::now())
    }

    /// Waits until a token that was good is so no more. Where nobody can tell, it is taken to be.
    async fn outlived(&self, token: &str) {
        let end = expires_in(token, SystemTime::now()).map(|time| Instant::now() + time);
        loop {
            let look = Instant::now() + RECHECK;
            let wake = end.map_or(look, |end| end.min(look));
            tokio::time::sleep_until(wake).await;
            let is_over = end.is_some_and(|end| end <= wake);
            if is_over || matches!(self.verdict(token).await, Ok(Verdict::Bad | Verdict::Forbidden(_))) {
                return;
            }
        }
    }
}

/// A token, which nobody sees.
struct Token(String);

/// The token of the only `Authorization` header.
fn token(headers: &HeaderMap) -> Option<Token> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    let token = token.trim();
    let plain = !token.is_empty() && !token.contains(char::is_whitespace);
    (scheme.eq_ignore_ascii_case("bearer") && plain).then(|| Token(token.to_owned()))
}

/// Which words those are is said by RFC 6750, section 3.
fn unauthorized(challenge: &'static str, message: &str) -> Response {
    let mut response = Problem::new(StatusCode::UNAUTHORIZED, "Unauthorized", message).into_response();
    response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
    response
}

/// More is asked than the authenticator is to be bothered with.
fn too_many() -> Response {
    let message = "too many tokens that nobody knows yet: try again in a moment";
    let problem = Problem::new(StatusCode::TOO_MANY_REQUESTS, "TooManyTokens", message);
    let mut response = problem.into_response();
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

fn unavailable(denied: &Denied) -> Response {
    tracing::warn!(error = denied as &dyn std::error::Error, "a request cannot be admitted");
    let message = "nobody can tell whose token it is at the moment";
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "AuthenticatorUnavailable", message).into_response()
}

#[cfg(test)]
mod tests;
