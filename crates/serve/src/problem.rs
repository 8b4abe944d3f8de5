//! The body of every refusal.

use axum::Json;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::response::{IntoResponse, Response};
use http::{StatusCode, Uri};
use serde::Serialize;

/// Why a request was not carried out: `{"reason": "…", "message": "…"}` with a status.
///
/// The reason is a word for programs, in CamelCase as Kubernetes writes them; the message is for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Status of the response.
    #[serde(skip)]
    pub status: StatusCode,
    /// The same word for the same cause.
    pub reason: &'static str,
    /// What happened, and to what.
    pub message: String,
}

impl Problem {
    /// A refusal.
    pub fn new(status: StatusCode, reason: &'static str, message: impl Into<String>) -> Self {
        Self { status, reason, message: message.into() }
    }
}

/// For `Router::fallback`: an unknown path is a problem like any other.
#[expect(clippy::unused_async, reason = "a handler is async")]
pub async fn not_found(uri: Uri) -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "NotFound", format!("there is nothing at {}", uri.path()))
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        (self.status, Json(self)).into_response()
    }
}

impl From<JsonRejection> for Problem {
    fn from(rejection: JsonRejection) -> Self {
        let reason = match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => "TooLarge",
            _ => "BadBody",
        };
        Self::new(rejection.status(), reason, rejection.body_text())
    }
}

impl From<QueryRejection> for Problem {
    fn from(rejection: QueryRejection) -> Self {
        Self::new(rejection.status(), "BadQuery", rejection.body_text())
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::body::{Body, to_bytes};
    use axum::extract::Query;
    use axum::routing::post;
    use http::Request;
    use http::header::CONTENT_TYPE;
    use serde::Deserialize;
    use tower_service::Service;

    use super::*;

    #[tokio::test]
    async fn a_problem_is_json_with_a_status() {
        let response =
            Problem::new(StatusCode::CONFLICT, "ApiMismatch", "api 2 is \"unknown\"").into_response();
        assert_eq!(response.status(), StatusCode::CONFLICT);
        assert_eq!(response.headers()[CONTENT_TYPE], "application/json");
        let body = to_bytes(response.into_body(), 1000).await.unwrap();
        assert_eq!(&body[..], br#"{"reason":"ApiMismatch","message":"api 2 is \"unknown\""}"#);
    }

    #[derive(Deserialize)]
    struct Wait {
        seconds: u8,
    }

    #[tokio::test]
    async fn unreadable_requests_are_problem_responses() {
        let query =
            async |wait: Result<Query<Wait>, QueryRejection>| Ok::<_, Problem>(wait?.seconds.to_string());
        let body =
            async |wait: Result<Json<Wait>, JsonRejection>| Ok::<_, Problem>(wait?.seconds.to_string());
        let mut router = Router::new().route("/query", post(query)).route("/body", post(body));
        let large = format!("{}1", " ".repeat(3 << 20));
        let cases = [
            ("/query?seconds=5", "", 200, "5"),
            ("/query?seconds=x", "", 400, "BadQuery"),
            ("/body", r#"{"seconds":7}"#, 200, "7"),
            ("/body", r#"{"seconds":"#, 400, "BadBody"),
            ("/body", r#"{"seconds":"x"}"#, 422, "BadBody"),
            ("/body", &large, 413, "TooLarge"),
        ];
        for (uri, body, status, text) in cases {
            let request = Request::post(uri).header(CONTENT_TYPE, "application/json");
            let request = request.body(Body::from(body.to_owned())).unwrap();
            let response = router.call(request).await.unwrap();
            assert_eq!(response.status(), status, "{uri}");
            let answer = to_bytes(response.into_body(), 1000).await.unwrap();
            let answer = String::from_utf8(answer.to_vec()).unwrap();
            assert!(answer == text || answer.starts_with(&format!("{{\"reason\":\"{text}\"")), "{answer}");
        }
    }
}
