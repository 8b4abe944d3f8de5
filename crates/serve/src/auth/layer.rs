//! The layer that asks.

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::header::{AUTHORIZATION, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, Request, StatusCode};
use tokio::time::Instant;
use tower_layer::Layer;
use tower_service::Service;

use super::cache::{Cache, Key, Verdict};
use super::expiry::expires_in;
use super::limit::Limit;
use super::{Authenticator, Caching, Denied, Identity};
use crate::problem::Problem;
use crate::server::ending_with;

/// Time between two looks whether the token of an event stream is still good.
const RECHECK: Duration = Duration::from_secs(30);

/// See [`require`](super::require).
pub struct Require<A> {
    auth: Arc<CachedAuthenticator<A>>,
}

/// A router, or anything else that answers, behind [`Require`].
pub struct Required<S, A> {
    inner: S,
    auth: Arc<CachedAuthenticator<A>>,
}

struct CachedAuthenticator<A> {
    authenticator: A,
    cache: Mutex<Cache>,
    limit: Limit,
}

impl<A: Authenticator> Require<A> {
    pub(super) fn new(authenticator: A, caching: Caching) -> Self {
        let (cache, limit) = (Mutex::new(Cache::new(caching)), Limit::new());
        Self { auth: Arc::new(CachedAuthenticator { authenticator, cache, limit }) }
    }
}

impl<S, A> Layer<S> for Require<A> {
    type Service = Required<S, A>;

    fn layer(&self, inner: S) -> Required<S, A> {
        Required { inner, auth: Arc::clone(&self.auth) }
    }
}

impl<S, A> Service<Request<Body>> for Required<S, A>
where
    S: Service<Request<Body>, Response = Response, Error = Infallible, Future: Send> + Clone + Send + 'static,
    A: Authenticator,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let clone = self.inner.clone();
        // The one that is ready is the one to call.
        let mut inner = mem::replace(&mut self.inner, clone);
        let auth = Arc::clone(&self.auth);
        Box::pin(async move {
            let token = token(request.headers());
            request.headers_mut().remove(AUTHORIZATION);
            let Some(token) = token else { return Ok(unauthorized("Bearer", "a bearer token is needed")) };
            match auth.ask(&token.0).await {
                Ok(identity) => {
                    request.extensions_mut().insert(identity);
                    let response = inner.call(request).await?;
                    Ok(ending_with(response, async move { auth.outlived(&token.0).await }))
                }
                Err(refusal) => Ok(refusal),
            }
        })
    }
}

impl<A: Authenticator> CachedAuthenticator<A> {
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

impl<A> Clone for Require<A> {
    fn clone(&self) -> Self {
        Self { auth: Arc::clone(&self.auth) }
    }
}

impl<S: Clone, A> Clone for Required<S, A> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), auth: Arc::clone(&self.auth) }
    }
}

impl<A> fmt::Debug for Require<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Require").finish_non_exhaustive()
    }
}

impl<S, A> fmt::Debug for Required<S, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Required").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
