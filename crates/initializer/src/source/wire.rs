//! One HTTP client, and what its answers mean.

use std::io::ErrorKind;
use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _};
use http::StatusCode;
use reqwest::{Client, Response};
use trainerd_causes::causes;

use crate::error::{Cause, Error};
use crate::retry;
use crate::source::Content;

/// Longest time for a connection.
const CONNECT: Duration = Duration::from_secs(15);

/// Longest time without a byte. The whole of an answer has no limit: a slow line is no failure.
const SILENCE: Duration = Duration::from_secs(30);

/// Most bytes of an error's text that are shown.
const SHOWN: usize = 300;

/// A client without limit of an answer's whole time.
pub fn client() -> Result<Client, reqwest::Error> {
    Client::builder()
        .user_agent(concat!("trainerd-initializer/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT)
        .read_timeout(SILENCE)
        .build()
}

/// A request that got no answer. The URL may hold a signature, and is not shown.
pub fn interrupted(what: &str, error: reqwest::Error) -> Error {
    unanswered(what.to_owned(), Box::new(error.without_url()))
}

/// As [`interrupted`], of any cause: whether there was a connection at all makes the difference.
pub fn unanswered(what: String, source: Cause) -> Error {
    let has = |is: fn(&(dyn std::error::Error + 'static)) -> bool| causes(&*source).any(is);
    let is_connect =
        has(|cause| cause.downcast_ref::<reqwest::Error>().is_some_and(reqwest::Error::is_connect));
    // Somebody is there, and speaks no TLS, or has a certificate that nobody trusts.
    let is_tls = has(|cause| {
        cause.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == ErrorKind::InvalidData)
    });
    if is_connect && !is_tls {
        Error::Unreachable { what, source }
    } else {
        Error::Interrupted { what, source }
    }
}

/// Whether an answer with this status may be another one later.
pub fn is_busy(status: StatusCode) -> bool {
    status.is_server_error() || matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT)
}

/// An answer that is no success, as the error that it is.
pub async fn checked(what: &str, response: Response) -> Result<Response, Error> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let what = what.to_owned();
    if is_busy(status) {
        let after = retry::asked(response.headers(), jiff::Timestamp::now());
        return Err(Error::Busy { what, status: status.as_u16(), after });
    }
    let code = response.headers().get("x-error-code").and_then(|code| code.to_str().ok()).map(str::to_owned);
    let said = response.headers().get("x-error-message").and_then(|said| said.to_str().ok());
    let said = match said.map(str::to_owned) {
        Some(said) => said,
        None => body(response).await,
    };
    Err(match (status, code.as_deref()) {
        (_, Some("GatedRepo")) => Error::Gated(what),
        (StatusCode::NOT_FOUND | StatusCode::GONE, _) | (_, Some("RepoNotFound")) => {
            let why = if said.is_empty() { String::new() } else { format!(": {said}") };
            Error::NotFound { what, why }
        }
        (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, _) => {
            Error::Denied { what, why: if said.is_empty() { status.to_string() } else { said } }
        }
        (StatusCode::PRECONDITION_FAILED, _) => {
            Error::Changed { what, why: "it has another version than when it was listed".to_owned() }
        }
        (StatusCode::RANGE_NOT_SATISFIABLE, _) => {
            Error::Changed { what, why: "it is shorter than when it was listed".to_owned() }
        }
        _ => Error::Refused { what, status: status.as_u16(), why: said },
    })
}

/// The beginning of an error's text, in one line.
async fn body(response: Response) -> String {
    let mut text = Vec::new();
    let mut stream = response.bytes_stream();
    while let Some(Ok(bytes)) = stream.next().await {
        text.extend_from_slice(&bytes);
        if text.len() >= SHOWN {
            break;
        }
    }
    let text = String::from_utf8_lossy(&text);
    let line: Vec<&str> = text.split_whitespace().collect();
    line.join(" ").chars().take(SHOWN).collect()
}

/// The bytes of an answer.
pub fn content(what: String, response: Response) -> Content {
    response.bytes_stream().map_err(move |error| interrupted(&what, error)).boxed()
}

/// Whether an answer has just the bytes that were asked for. One with the whole file instead of a range is an error:
/// written at the range's place it would be another file.
pub fn answers(
    what: &str,
    response: &Response,
    range: &std::ops::Range<u64>,
    ranged: bool,
) -> Result<(), Error> {
    if !ranged {
        return Ok(());
    }
    let stated = response.headers().get(http::header::CONTENT_RANGE).and_then(|value| value.to_str().ok());
    let begins = format!("bytes {}-{}/", range.start, range.end.saturating_sub(1));
    match stated {
        Some(stated) if response.status() == StatusCode::PARTIAL_CONTENT && stated.starts_with(&begins) => {
            Ok(())
        }
        _ => Err(Error::Answer {
            what: what.to_owned(),
            why: format!(
                "status {} and {} instead of the bytes {} to {}",
                response.status().as_u16(),
                stated.unwrap_or("no range"),
                range.start,
                range.end
            ),
        }),
    }
}

/// A cause of a text.
pub fn cause(text: impl Into<String>) -> Cause {
    Cause::from(text.into())
}
