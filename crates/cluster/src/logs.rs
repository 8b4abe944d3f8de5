//! Logs of containers.

use crate::builtin;
use crate::cluster::Cluster;
use crate::error::{RequestError, Verb};
use crate::lines::Lines;
use crate::path::{self, Query};
use crate::transport::Call;

/// Which lines of a pod's log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogParams {
    /// The container; may be left out where the pod has one.
    pub container: Option<String>,
    /// Go on with what is written from now on, until the container ends.
    pub follow: bool,
    /// Of the container's run before this one.
    pub previous: bool,
    /// At most so many of the last lines.
    pub tail: Option<u64>,
    /// Lines from this moment on (RFC 3339); the kubelet goes by the second.
    pub since: Option<String>,
    /// Begin each line with its time (RFC 3339, nanoseconds) and a blank.
    pub timestamps: bool,
}

/// Lines of a log, as they come.
pub struct LogLines(Lines);

impl Cluster {
    /// Reads the log of a pod's container.
    ///
    /// # Errors
    /// [`RequestError::BadRequest`] for a container that has not started.
    pub async fn logs(
        &self,
        namespace: &str,
        pod: &str,
        params: &LogParams,
    ) -> Result<LogLines, RequestError> {
        let mut query = Query::default();
        let tail = params.tail.map(|tail| tail.to_string());
        query
            .set_some("container", params.container.as_deref())
            .set_some("follow", params.follow.then_some("true"))
            .set_some("previous", params.previous.then_some("true"))
            .set_some("tailLines", tail.as_deref())
            .set_some("sinceTime", params.since.as_deref())
            .set_some("timestamps", params.timestamps.then_some("true"));
        let path = path::object(&builtin::pod(), Some(namespace), pod)?;
        let call = Call::get(Verb::Get, query.append_to(&format!("{path}/log")));
        self.open(call).await.map(|(_, lines)| LogLines(lines))
    }
}

impl LogLines {
    /// The next line, without its end; `None` after the last, or when the connection breaks. What is not UTF-8 is
    /// replaced.
    pub async fn next(&mut self) -> Option<String> {
        let line = match self.0.next().await {
            Some(line) => line,
            None => self.0.rest()?,
        };
        let text = String::from_utf8_lossy(&line);
        Some(text.strip_suffix('\n').unwrap_or(&text).to_owned())
    }
}

impl std::fmt::Debug for LogLines {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogLines").finish_non_exhaustive()
    }
}
