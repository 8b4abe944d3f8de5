use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::routing::get;
use axum::{Extension, Router};
use tower_service::Service as _;

use super::*;

const TOKEN: &str = "s3cr3t-admin";

/// Knows three tokens, and counts how often it is asked.
#[derive(Clone, Default)]
struct Known(Arc<AtomicUsize>);

impl Authenticator for Known {
    async fn authenticate(&self, token: &str) -> Result<Identity, Denied> {
        self.0.fetch_add(1, Ordering::Relaxed);
        match token {
            TOKEN => Ok(Identity { name: "admin".to_owned(), groups: vec!["system:masters".to_owned()] }),
            "guest" => Err(Denied::Forbidden { name: "guest".to_owned(), reason: "needs get".to_owned() }),
            "broken" => Err(Denied::Unavailable { source: "connection refused".into() }),
            _ => Err(Denied::BadToken),
        }
    }
}

/// A router that tells who asks and which headers arrived.
fn router(known: &Known) -> Router {
    let handler = |Extension(identity): Extension<Identity>, headers: HeaderMap| async move {
        format!("{} {:?} {headers:?}", identity.name, identity.groups)
    };
    crate::auth::require(Router::new().route("/", get(handler)), known.clone(), Caching::default())
}

async fn ask(router: &mut Router, authorization: &[&str]) -> (u16, Option<String>, String) {
    let mut request = Request::get("/");
    for value in authorization {
        request = request.header(AUTHORIZATION, *value);
    }
    let response = router.call(request.body(Body::empty()).unwrap()).await.unwrap();
    let challenge = response.headers().get(WWW_AUTHENTICATE).map(|value| value.to_str().unwrap().to_owned());
    let status = response.status().as_u16();
    let body = to_bytes(response.into_body(), 10_000).await.unwrap();
    (status, challenge, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn only_a_valid_token_is_accepted() {
    let (none, bad) = (Some("Bearer"), Some("Bearer error=\"invalid_token\""));
    let good = "Bearer s3cr3t-admin";
    let cases: [(&[&str], u16, Option<&str>, &str); 11] = [
        (&[good], 200, None, "admin [\"system:masters\"] {}"),
        (&["bearer s3cr3t-admin"], 200, None, "admin [\"system:masters\"] {}"),
        (&[], 401, none, "Unauthorized"),
        (&["Bearer"], 401, none, "Unauthorized"),
        (&["Bearer "], 401, none, "Unauthorized"),
        (&["Basic s3cr3t-admin"], 401, none, "Unauthorized"),
        (&[good, good], 401, none, "Unauthorized"),
        (&["Bearer s3cr3t-admin more"], 401, none, "Unauthorized"),
        (&["Bearer s3cr3t"], 401, bad, "Unauthorized"),
        (&["Bearer guest"], 403, None, "failed to admit guest: needs get"),
        (&["Bearer broken"], 503, None, "AuthenticatorUnavailable"),
    ];
    let mut router = router(&Known::default());
    for _ in 0..2 {
        for (authorization, status, challenge, text) in cases {
            let answer = ask(&mut router, authorization).await;
            assert_eq!((answer.0, answer.1.as_deref()), (status, challenge), "{authorization:?}");
            assert!(answer.2.contains(text), "{authorization:?}: {}", answer.2);
            assert!(!answer.2.contains("s3cr3t"), "{}", answer.2);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn answers_are_cached_for_ten_seconds_and_failures_are_not() {
    for (token, status, asked) in [(TOKEN, 200, 2), ("nobody", 401, 2), ("guest", 403, 2), ("broken", 503, 6)]
    {
        let known = Known::default();
        let mut router = router(&known);
        for seconds in [0, 5, 4, 1, 5, 4] {
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            assert_eq!(ask(&mut router, &[&format!("Bearer {token}")]).await.0, status);
        }
        assert_eq!(known.0.load(Ordering::Relaxed), asked, "{token}");
    }
}

#[tokio::test]
async fn the_token_is_never_printed() {
    let known = Known::default();
    let auth = CachedAuthenticator::new(known.clone(), Caching::default());
    let mut service = crate::auth::require(Router::new(), known, Caching::default());
    let request =
        Request::get("/").header(AUTHORIZATION, format!("Bearer {TOKEN}")).body(Body::empty()).unwrap();
    assert!(format!("{request:?}").contains(TOKEN), "what is looked for can be found");
    service.call(request).await.unwrap();
    let identity = auth.ask(TOKEN).await.unwrap();
    let refusals = [auth.ask("guest").await, auth.ask("broken").await];
    let shown = format!("{service:?} {identity:?} {refusals:?}");
    assert!(!shown.contains(TOKEN) && !shown.contains("s3cr3t"), "{shown}");
}

#[tokio::test(start_paused = true)]
async fn reviews_of_random_tokens_are_limited_without_affecting_valid_ones() {
    let known = Known::default();
    let mut router = router(&known);
    let good = format!("Bearer {TOKEN}");
    assert_eq!(ask(&mut router, &[&good]).await.0, 200);
    let mut refused = 0;
    for number in 0..1000 {
        let (status, _, body) = ask(&mut router, &[&format!("Bearer random-{number}")]).await;
        assert!(matches!(status, 401 | 429), "{status} {body}");
        refused += usize::from(status == 429);
    }
    let asked = known.0.load(Ordering::Relaxed);
    assert!(asked <= 21 && refused >= 979, "{asked} asked, {refused} refused");
    // What is remembered of the good one counts no more, and it is asked about all the same.
    tokio::time::advance(Duration::from_secs(11)).await;
    for number in 0..100 {
        ask(&mut router, &[&format!("Bearer more-{number}")]).await;
    }
    assert_eq!(ask(&mut router, &[&good]).await.0, 200);
    let asked = known.0.load(Ordering::Relaxed);
    assert!(asked <= 42, "{asked} asked in 11 s");
}

#[tokio::test]
async fn tokens_of_implausible_length_are_not_reviewed() {
    let known = Known::default();
    let mut router = router(&known);
    assert_eq!(ask(&mut router, &[&format!("Bearer {}", "x".repeat(20_000))]).await.0, 429);
    assert_eq!(known.0.load(Ordering::Relaxed), 0);
}

/// Knows every token until it is told not to.
#[derive(Clone, Default)]
struct Revocable(Arc<std::sync::atomic::AtomicBool>);

impl Authenticator for Revocable {
    async fn authenticate(&self, _: &str) -> Result<Identity, Denied> {
        if self.0.load(Ordering::Relaxed) {
            return Err(Denied::BadToken);
        }
        Ok(Identity { name: "somebody".to_owned(), groups: Vec::new() })
    }
}

#[tokio::test(start_paused = true)]
async fn an_event_stream_ends_when_its_token_expires() {
    use base64::Engine as _;
    let claims = |seconds: u64| {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        let claims = format!("{{\"exp\":{}}}", now + seconds);
        format!("h.{}.s", base64::prelude::BASE64_URL_SAFE_NO_PAD.encode(claims))
    };
    for (what, token, revoked_after, earliest, latest) in [
        ("ends by itself", claims(100), None, 95, 105),
        ("revoked", "opaque".to_owned(), Some(200), 200, 245),
        ("revoked before its end", claims(1000), Some(50), 50, 95),
    ] {
        let known = Revocable::default();
        let (sender, _) = tokio::sync::broadcast::channel::<crate::Event>(4);
        let subscribe = sender.clone();
        let handler = async move || crate::events::stream(subscribe.subscribe(), Vec::new());
        let stream = Router::new().route("/", get(handler));
        let mut router = crate::auth::require(stream, known.clone(), Caching::default());
        let request = Request::get("/").header(AUTHORIZATION, format!("Bearer {token}"));
        let response = router.call(request.body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(response.status(), 200);
        let began = Instant::now();
        if let Some(seconds) = revoked_after {
            let known = known.clone();
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_secs(seconds)).await;
                known.0.store(true, Ordering::Relaxed);
            });
        }
        let read = tokio::time::timeout(Duration::from_hours(1), to_bytes(response.into_body(), 100_000));
        assert!(read.await.is_ok(), "{what}: the stream goes on");
        let took = began.elapsed().as_secs();
        assert!((earliest..=latest).contains(&took), "{what}: it ended after {took} s");
    }
}
