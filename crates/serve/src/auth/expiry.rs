//! When a token ends, and for whom it is, as it says itself.

use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::Deserialize;

/// The claims of a JWT (RFC 7519), as far as they matter.
#[derive(Deserialize)]
struct Claims {
    /// Seconds since 1970 after which it is not to be accepted.
    exp: Option<f64>,
    /// For whom it is: one, or several.
    #[serde(default)]
    aud: Audience,
}

#[derive(Default, Deserialize)]
#[serde(untagged)]
enum Audience {
    #[default]
    Nobody,
    One(String),
    Several(Vec<String>),
}

/// For whom a token is by its own claim; nobody where it is no JWT, or makes none. It decides what to ask about it, and
/// nothing else.
pub fn audiences(token: &str) -> Vec<String> {
    match claims(token).map(|claims| claims.aud) {
        None | Some(Audience::Nobody) => Vec::new(),
        Some(Audience::One(audience)) => vec![audience],
        Some(Audience::Several(audiences)) => audiences,
    }
}

fn claims(token: &str) -> Option<Claims> {
    let payload = BASE64_URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    serde_json::from_slice(&payload).ok()
}

/// How long a token is still good by its own claim; `None` where it is no JWT, or makes none. It is believed only of
/// a token that somebody has vouched for.
pub(super) fn expires_in(token: &str, now: SystemTime) -> Option<Duration> {
    let claims = claims(token)?;
    let since = now.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    let end = Duration::try_from_secs_f64(claims.exp?).ok()?;
    Some(end.saturating_sub(since))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_jwt_has_an_expiry() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
        let jwt = |claims: &str| format!("h.{}.s", BASE64_URL_SAFE_NO_PAD.encode(claims));
        for (token, expected) in [
            (jwt(r#"{"exp":1600,"aud":["a"]}"#), Some(600)),
            (jwt(r#"{"exp":900}"#), Some(0)),
            (jwt(r#"{"sub":"x"}"#), None),
            (jwt(r#"{"exp":-1}"#), None),
            ("sha256~opaque".to_owned(), None),
            ("a.b.c".to_owned(), None),
        ] {
            assert_eq!(expires_in(&token, now), expected.map(Duration::from_secs), "{token}");
        }
        assert_eq!(audiences(&jwt(r#"{"exp":1600,"aud":["a","b"]}"#)), ["a", "b"]);
        assert_eq!(audiences(&jwt(r#"{"aud":"a"}"#)), ["a"]);
        assert!(audiences(&jwt("{}")).is_empty() && audiences("opaque").is_empty());
    }
}
