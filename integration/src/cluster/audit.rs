//! What the API server says was asked of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;

use jiff::Timestamp;
use serde::Deserialize;

use crate::Error;

/// The annotation in which the API server says how it authorized a request.
const DECISION: &str = "authorization.k8s.io/decision";

/// A place in an audit log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark(u64);

/// An audit log, one JSON event a line, of level Metadata or above.
#[derive(Clone, Debug)]
pub struct AuditLog {
    path: PathBuf,
}

/// A request that changed something, or tried to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// `create`, `update`, `patch`, `delete` or `deletecollection`.
    pub verb: String,
    /// Path of the object, without the query; for a create, of its collection.
    pub path: String,
    /// Name of the object, where the log knows it.
    pub name: String,
    /// Status code of the answer.
    pub code: u16,
    /// Who asked.
    pub user_agent: String,
    /// Address that it was asked from.
    pub from: String,
}

/// A request as RBAC sees it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AuditedRequest {
    /// Namespace; nothing for what is in none, or in all.
    pub namespace: Option<String>,
    /// API group.
    pub group: String,
    /// Resource, with its subresource: `pods/log`.
    pub resource: String,
    /// Verb.
    pub verb: String,
    /// Whether its user lacked the right. Webhooks and kinds on their way out refuse with the same code.
    pub forbidden: bool,
    /// Whether it made the object: a server-side apply that does takes the right to create beside that to patch.
    pub created: bool,
}

/// A request and when it was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// As RBAC spells it.
    pub verb: String,
    /// Path and query.
    pub uri: String,
    /// Who asked.
    pub user_agent: String,
    /// Status code of the answer.
    pub code: u16,
    /// When it reached the API server.
    pub received: Timestamp,
    /// When the answer was on its way.
    pub done: Timestamp,
}

impl Span {
    /// The path without the query.
    pub fn path(&self) -> &str {
        self.uri.split('?').next().unwrap_or_default()
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    #[serde(default)]
    request_received_timestamp: Timestamp,
    #[serde(default)]
    stage_timestamp: Timestamp,
    #[serde(default)]
    stage: String,
    verb: String,
    #[serde(rename = "requestURI")]
    uri: String,
    #[serde(default)]
    user_agent: String,
    #[serde(default, rename = "sourceIPs")]
    sources: Vec<String>,
    #[serde(default)]
    user: User,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
    #[serde(default)]
    object_ref: ObjectRef,
    #[serde(default)]
    response_status: ResponseStatus,
}

impl Event {
    /// Whether it tells of the end of a watch that was opened before; one that was refused is reported once.
    fn is_end_of_watch(&self) -> bool {
        self.verb == "watch" && self.stage == "ResponseComplete" && self.response_status.code == 200
    }
}

#[derive(Default, Deserialize)]
struct User {
    #[serde(default)]
    username: String,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ObjectRef {
    name: String,
    namespace: String,
    api_group: String,
    resource: String,
    subresource: String,
}

#[derive(Default, Deserialize)]
struct ResponseStatus {
    #[serde(default)]
    code: u16,
}

impl AuditLog {
    /// The log of that file.
    pub fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// The log's end as it is now. An event is in the log before its request is answered.
    pub fn mark(&self) -> Result<Mark, Error> {
        let metadata = std::fs::metadata(&self.path).map_err(Error::io("read", &self.path))?;
        Ok(Mark(metadata.len()))
    }

    /// The requests since a mark by user agents that begin so, as `verb path?query`. A watch counts when it is opened: the
    /// log reports it again when it ends.
    pub fn requests_since(&self, mark: Mark, user_agent: &str) -> Result<Vec<String>, Error> {
        let text = self.text_since(mark)?;
        let events = text.lines().filter_map(|line| serde_json::from_str::<Event>(line).ok());
        let own = events.filter(|event| event.user_agent.starts_with(user_agent) && !event.is_end_of_watch());
        Ok(own.map(|event| format!("{} {}", event.verb, event.uri)).collect())
    }

    /// The requests since a mark, with their times.
    pub fn spans_since(&self, mark: Mark) -> Result<Vec<Span>, Error> {
        let text = self.text_since(mark)?;
        let events = text.lines().filter_map(|line| serde_json::from_str::<Event>(line).ok());
        Ok(events
            .map(|event| Span {
                verb: event.verb,
                uri: event.uri,
                user_agent: event.user_agent,
                code: event.response_status.code,
                received: event.request_received_timestamp,
                done: event.stage_timestamp,
            })
            .collect())
    }

    /// What a user asked since a mark, each once. Requests that are about no resource are left out.
    pub fn audited_requests_since(&self, mark: Mark, user: &str) -> Result<BTreeSet<AuditedRequest>, Error> {
        let text = self.text_since(mark)?;
        let events = text.lines().filter_map(|line| serde_json::from_str::<Event>(line).ok());
        let own = events.filter(|event| event.user.username == user && !event.object_ref.resource.is_empty());
        Ok(own
            .map(|Event { verb, object_ref: object, annotations, response_status, .. }| AuditedRequest {
                namespace: Some(object.namespace).filter(|namespace| !namespace.is_empty()),
                group: object.api_group,
                resource: if object.subresource.is_empty() {
                    object.resource
                } else {
                    format!("{}/{}", object.resource, object.subresource)
                },
                verb,
                created: response_status.code == 201,
                forbidden: annotations.get(DECISION).is_some_and(|decision| decision == "forbid"),
            })
            .collect())
    }

    /// The writes since a mark by user agents that begin so. Dry-runs and questions about access are none.
    pub fn writes_since(&self, mark: Mark, user_agent: &str) -> Result<Vec<Write>, Error> {
        let text = self.text_since(mark)?;
        Ok(writes(&text).into_iter().filter(|write| write.user_agent.starts_with(user_agent)).collect())
    }

    fn text_since(&self, mark: Mark) -> Result<String, Error> {
        let mut file = File::open(&self.path).map_err(Error::io("open", &self.path))?;
        file.seek(SeekFrom::Start(mark.0)).map_err(Error::io("read", &self.path))?;
        let mut text = String::new();
        file.read_to_string(&mut text).map_err(Error::io("read", &self.path))?;
        Ok(text)
    }
}

fn writes(log: &str) -> Vec<Write> {
    // The last line may be half written: it is of a request that nobody has the answer to yet.
    let events = log.lines().filter_map(|line| serde_json::from_str::<Event>(line).ok());
    events
        .filter_map(|event| {
            let (path, query) = event.uri.split_once('?').unwrap_or((&event.uri, ""));
            let writes =
                matches!(event.verb.as_str(), "create" | "update" | "patch" | "delete" | "deletecollection");
            let stores = !query.split('&').any(|pair| pair.starts_with("dryRun="))
                && !path.starts_with("/apis/authorization.k8s.io/");
            (writes && stores).then(|| Write {
                path: path.to_owned(),
                verb: event.verb,
                name: event.object_ref.name,
                code: event.response_status.code,
                user_agent: event.user_agent,
                from: event.sources.into_iter().next().unwrap_or_default(),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_are_recognized() {
        let line = |verb: &str, uri: &str| {
            format!(
                "{{\"verb\":\"{verb}\",\"requestURI\":\"{uri}\",\"userAgent\":\"trainerd/1 (up)\",\
                 \"objectRef\":{{\"name\":\"a\"}},\"responseStatus\":{{\"code\":200}}}}\n"
            )
        };
        let log = [
            line("get", "/api/v1/namespaces/a"),
            line("watch", "/api/v1/pods?watch=true"),
            line("patch", "/api/v1/namespaces/a?fieldManager=t&force=true"),
            line("create", "/api/v1/namespaces?dryRun=All"),
            line("create", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"),
            line("delete", "/api/v1/namespaces/a"),
            r#"{"verb":"delete","requestURI":"/api/v1/na"#.to_owned(),
        ]
        .concat();
        let found: Vec<_> =
            writes(&log).into_iter().map(|write| (write.verb, write.path, write.code)).collect();
        let path = "/api/v1/namespaces/a".to_owned();
        assert_eq!(found, [("patch".to_owned(), path.clone(), 200), ("delete".to_owned(), path, 200)]);
    }
}
