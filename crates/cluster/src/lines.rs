//! Answers that come line by line, for as long as the server keeps them open.

use http_body_util::BodyExt as _;
use kube::client::Body;

use crate::classify::{RequestInfo, classify};
use crate::cluster::Cluster;
use crate::error::RequestError;
use crate::transport::{Call, retry_after};

impl Cluster {
    /// Sends a request whose answer comes line by line. The time limit is for the head of the answer.
    pub(crate) async fn open(&self, call: Call) -> Result<(RequestInfo, Lines), RequestError> {
        let (info, request) = call.into_request()?;
        let exchange = async {
            let answer =
                self.client().send(request.map(Body::from)).await.map_err(|error| self.unreachable(error))?;
            let code = answer.status().as_u16();
            self.note(&info, code);
            if answer.status().is_success() {
                return Ok(Lines { body: answer.into_body(), buffer: Vec::new(), searched: 0 });
            }
            let retry_after = retry_after(answer.headers());
            let body = answer.into_body().collect_bytes().await.map_err(|error| self.unreachable(error))?;
            Err(classify(&info, code, retry_after, &body))
        };
        let limit = self.request_timeout();
        match tokio::time::timeout(limit, exchange).await {
            Ok(lines) => lines.map(|lines| (info, lines)),
            Err(_) => Err(self.no_answer(limit)),
        }
    }
}

/// The lines of an answer.
pub(crate) struct Lines {
    body: Body,
    buffer: Vec<u8>,
    /// How much of the buffer holds no line end.
    searched: usize,
}

impl Lines {
    /// The next line; `None` at the end, and when the connection breaks. Bytes read are kept when the future is
    /// dropped.
    pub(crate) async fn next(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(end) = self.buffer[self.searched..].iter().position(|byte| *byte == b'\n') {
                let rest = self.buffer.split_off(self.searched + end + 1);
                self.searched = 0;
                return Some(std::mem::replace(&mut self.buffer, rest));
            }
            self.searched = self.buffer.len();
            let frame = self.body.frame().await?.ok()?;
            if let Ok(data) = frame.into_data() {
                self.buffer.extend_from_slice(&data);
            }
        }
    }

    /// What came after the last line end, once there is no next line.
    pub(crate) fn rest(&mut self) -> Option<Vec<u8>> {
        self.searched = 0;
        Some(std::mem::take(&mut self.buffer)).filter(|rest| !rest.is_empty())
    }
}
