//! How many requests the API server says were sent to it, and by whom.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::Error;

/// An audit log, one JSON event a line, of level Metadata or above, written in blocking mode: who has an
/// answer finds the request in the log.
#[derive(Clone, Debug)]
pub(crate) struct AuditLog {
    path: PathBuf,
}

/// A place in an audit log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark(u64);

/// Requests by what they were: `patch configmaps` to how many.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub(crate) struct Requests(pub(crate) BTreeMap<String, u64>);

impl Requests {
    /// How many in all.
    pub(crate) fn total(&self) -> u64 {
        self.0.values().sum()
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    #[serde(rename = "auditID")]
    id: String,
    verb: String,
    #[serde(rename = "requestURI")]
    uri: String,
    #[serde(default)]
    user_agent: String,
    #[serde(default)]
    object_ref: Option<ObjectRef>,
}

#[derive(Deserialize)]
struct ObjectRef {
    #[serde(default)]
    resource: String,
    #[serde(default)]
    subresource: String,
}

impl AuditLog {
    /// The log of that file.
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// The file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The log's end as it is now.
    pub(crate) fn mark(&self) -> Result<Mark, Error> {
        let metadata = std::fs::metadata(&self.path);
        Ok(Mark(metadata.map_err(Error::io(format!("read {}", self.path.display())))?.len()))
    }

    /// The requests since a mark by user agents that begin so.
    pub(crate) fn since(&self, mark: Mark, user_agent: &str) -> Result<Requests, Error> {
        let mut text = String::new();
        let mut read = || {
            let mut file = File::open(&self.path)?;
            file.seek(SeekFrom::Start(mark.0))?;
            file.read_to_string(&mut text)
        };
        read().map_err(Error::io(format!("read {}", self.path.display())))?;
        Ok(count(&text, user_agent))
    }
}

fn count(log: &str, user_agent: &str) -> Requests {
    let mut seen = BTreeSet::new();
    let mut requests = Requests::default();
    // The last line may be half written: it is of a request that nobody has the answer to yet.
    for event in log.lines().filter_map(|line| serde_json::from_str::<Event>(line).ok()) {
        // A watch is in the log at its beginning and at its end, under one id.
        if event.user_agent.starts_with(user_agent) && seen.insert(event.id) {
            let what = match event.object_ref {
                Some(ObjectRef { resource, subresource }) if subresource.is_empty() => resource,
                Some(ObjectRef { resource, subresource }) => format!("{resource}/{subresource}"),
                None => event.uri.split('?').next().unwrap_or_default().to_owned(),
            };
            *requests.0.entry(format!("{} {what}", event.verb)).or_default() += 1;
        }
    }
    requests
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_once_and_by_agent() {
        let line = |id: &str, verb: &str, agent: &str, object: &str| {
            format!(
                "{{\"auditID\":\"{id}\",\"verb\":\"{verb}\",\"requestURI\":\"/version?timeout=1\",\
                 \"userAgent\":\"{agent}\"{object}}}\n"
            )
        };
        let secrets = r#","objectRef":{"resource":"secrets"}"#;
        let log = [
            line("1", "get", "trainerd/1 (bench)", ""),
            line("2", "watch", "trainerd/1 (bench)", secrets),
            line("2", "watch", "trainerd/1 (bench)", secrets),
            line(
                "3",
                "patch",
                "trainerd/1 (bench)",
                r#","objectRef":{"resource":"pods","subresource":"status"}"#,
            ),
            line("4", "get", "kubectl/v1", secrets),
            r#"{"auditID":"5","verb":"ge"#.to_owned(),
        ]
        .concat();
        let expected = [("get /version", 1), ("patch pods/status", 1), ("watch secrets", 1)];
        let expected = expected.map(|(what, count)| (what.to_owned(), count));
        let requests = count(&log, "trainerd/");
        assert_eq!(requests.0, BTreeMap::from(expected));
        assert_eq!(requests.total(), 3);
        assert_eq!(count(&log, "bare/").total(), 0);
    }
}
