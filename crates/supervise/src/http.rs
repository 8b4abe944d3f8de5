//! The question of a check.

use bytes::Bytes;
use http::header::{CONNECTION, HOST};
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::check::Check;

/// Bytes of a bad answer that are shown.
const MAX_SHOWN_BYTES: usize = 512;

/// Asks a check once; the reason is for people.
pub(crate) async fn ask(check: &Check) -> Result<(), String> {
    match tokio::time::timeout(check.timeout, answer(check)).await {
        Ok(Ok((status, _))) if status.as_u16() < 400 => Ok(()),
        Ok(Ok((status, said))) if said.is_empty() => Err(format!("answered {}", status.as_u16())),
        Ok(Ok((status, said))) => Err(format!("answered {}: {said}", status.as_u16())),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(format!("no response within {} s", check.timeout.as_secs_f32())),
    }
}

async fn answer(check: &Check) -> Result<(StatusCode, String), String> {
    let stream = TcpStream::connect(&check.address).await;
    let stream = stream.map_err(|error| format!("failed to connect: {error}"))?;
    let failed = |error: hyper::Error| format!("failed to ask: {error}");
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
    let request = Request::get(&check.path)
        .header(HOST, &check.address)
        .header(CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| format!("failed to ask: {error}"))?;
    let asked = async {
        let response = sender.send_request(request).await.map_err(failed)?;
        let status = response.status();
        // A longer body is no reason to fail; what it says is left out.
        let body = Limited::new(response.into_body(), MAX_SHOWN_BYTES).collect().await;
        let body = body.map(http_body_util::Collected::to_bytes).unwrap_or_default();
        let said = String::from_utf8_lossy(&body);
        Ok((status, said.split_whitespace().collect::<Vec<_>>().join(" ")))
    };
    tokio::pin!(asked, connection);
    let mut is_connected = true;
    loop {
        tokio::select! {
            answer = &mut asked => return answer,
            // Its error is the request's, too.
            _ = &mut connection, if is_connected => is_connected = false,
        }
    }
}
