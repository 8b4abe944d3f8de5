//! Repositories of the Hugging Face hub.

use std::ops::Range;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::{AUTHORIZATION, LINK, RANGE};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::Client;
use serde::Deserialize;
use url::Url;

use crate::digest::Digest;
use crate::error::Error;
use crate::name::Name;
use crate::retry;
use crate::source::{Content, Listing, Remote, Source, wire};
use crate::uri::Kind;

/// Letters of a path that need no encoding.
const PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b'/');

/// Those of a revision: a slash in it is encoded.
const REVISION: &AsciiSet = &PATH.add(b'/');

/// A repository at a revision.
#[derive(Debug)]
pub struct Hub {
    client: Client,
    endpoint: String,
    kind: Kind,
    repository: String,
    revision: String,
    token: Option<String>,
    patience: Duration,
}

/// A revision's answer, as far as it is read.
#[derive(Deserialize)]
struct Revision {
    sha: String,
}

/// A file or folder of the tree.
#[derive(Deserialize)]
struct Entry {
    #[serde(rename = "type")]
    kind: String,
    path: String,
    #[serde(default)]
    size: u64,
    oid: String,
    lfs: Option<Large>,
}

/// A large file.
#[derive(Deserialize)]
struct Large {
    oid: String,
    size: u64,
}

impl Hub {
    /// A repository of the hub at an endpoint, by default at its main branch.
    pub fn new(
        client: Client,
        endpoint: &str,
        kind: Kind,
        repository: String,
        revision: Option<String>,
        token: Option<String>,
        patience: Duration,
    ) -> Self {
        let endpoint = endpoint.trim_end_matches('/').to_owned();
        let revision = revision.unwrap_or_else(|| "main".to_owned());
        Self { client, endpoint, kind, repository, revision, token, patience }
    }

    /// The address of something of the repository, of the interface for programs.
    fn api(&self, what: &str, revision: &str) -> String {
        let revision = utf8_percent_encode(revision, REVISION);
        format!("{}/api/{}s/{}/{what}/{revision}", self.endpoint, self.kind.as_str(), self.repository)
    }

    /// The text of an answer, and the address of the page after it.
    async fn body(&self, what: &str, address: &str) -> Result<(Bytes, Option<String>), Error> {
        let request = self.authorized(self.client.get(address));
        let response = request.send().await.map_err(|error| wire::interrupted(what, error))?;
        let response = wire::checked(what, response).await?;
        let next = next(response.headers());
        Ok((response.bytes().await.map_err(|error| wire::interrupted(what, error))?, next))
    }

    /// The token goes with each request of ours; the client drops it where an answer leads to another host.
    fn authorized(&self, request: reqwest::RequestBuilder) -> reqwest::RequestBuilder {
        match &self.token {
            Some(token) => request.header(AUTHORIZATION, format!("Bearer {token}")),
            None => request,
        }
    }

    async fn json<T: serde::de::DeserializeOwned>(
        &self,
        address: &str,
    ) -> Result<(T, Option<String>), Error> {
        let what = format!("{}@{}", self.repository, self.revision);
        let (body, next) = retry::answered(&what, self.patience, || self.body(&what, address)).await?;
        let value = serde_json::from_slice(&body)
            .map_err(|error| Error::Answer { what: what.clone(), why: error.to_string() })?;
        Ok((value, next))
    }

    /// The next page is asked with the token, too: it must be of the same server.
    fn page(&self, next: Option<String>) -> Result<Option<String>, Error> {
        let Some(next) = next else { return Ok(None) };
        let origin = |text: &str| Url::parse(text).ok().map(|url| url.origin());
        if origin(&next) == origin(&self.endpoint) {
            return Ok(Some(next));
        }
        let why = "the next page of the list is said to be on another server".to_owned();
        Err(Error::Answer { what: self.repository.clone(), why })
    }

    fn remote(entry: Entry, commit: &str) -> Result<Remote, Error> {
        let (size, digest) = match entry.lfs {
            Some(large) => (large.size, Digest::Sha256(large.oid)),
            None => (entry.size, Digest::GitBlob(entry.oid)),
        };
        Ok(Remote {
            name: Name::new(&entry.path)?,
            key: entry.path,
            size: Some(size),
            // What a commit has at a path never changes.
            version: Some(format!("{commit}/{}", digest.expected())),
            digest: Some(digest),
            ranged: size > 0,
        })
    }
}

/// The address of the next page.
fn next(headers: &http::HeaderMap) -> Option<String> {
    let links = headers.get(LINK)?.to_str().ok()?;
    links.split(',').find_map(|link| {
        let (address, relation) = link.split_once(';')?;
        let address = address.trim().strip_prefix('<')?.strip_suffix('>')?;
        relation.contains("rel=\"next\"").then(|| address.to_owned())
    })
}

#[async_trait]
impl Source for Hub {
    async fn list(&self) -> Result<Listing, Error> {
        let (revision, _) = self.json::<Revision>(&self.api("revision", &self.revision)).await?;
        let commit = revision.sha;
        let mut address = format!("{}?recursive=true&expand=false", self.api("tree", &commit));
        let mut files = Vec::new();
        loop {
            let (entries, next) = self.json::<Vec<Entry>>(&address).await?;
            for entry in entries.into_iter().filter(|entry| entry.kind == "file") {
                files.push(Self::remote(entry, &commit)?);
            }
            match self.page(next)? {
                Some(next) => address = next,
                None => return Ok(Listing { files, commit: Some(commit) }),
            }
        }
    }

    async fn read(&self, file: &Remote, range: Range<u64>) -> Result<Content, Error> {
        let commit = file.version.as_deref().and_then(|version| version.split('/').next()).unwrap_or("main");
        let folder = match self.kind {
            Kind::Dataset => "datasets/",
            Kind::Model => "",
        };
        let path = utf8_percent_encode(&file.key, PATH);
        let address = format!("{}/{folder}{}/resolve/{commit}/{path}", self.endpoint, self.repository);
        let mut request = self.authorized(self.client.get(address));
        if file.ranged {
            request = request.header(RANGE, format!("bytes={}-{}", range.start, range.end.saturating_sub(1)));
        }
        let response = request.send().await.map_err(|error| wire::interrupted(&file.key, error))?;
        let response = wire::checked(&file.key, response).await?;
        // Small files are served whole by some mirrors, whatever range is asked for.
        let is_whole = file.size == Some(range.end) && range.start == 0;
        wire::answers(&file.key, &response, &range, file.ranged && !is_whole)?;
        Ok(wire::content(file.key.clone(), response))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_page_is_found() {
        let mut headers = http::HeaderMap::new();
        headers.insert(LINK, "<https://h/a?cursor=x>; rel=\"next\"".parse().unwrap());
        assert_eq!(next(&headers).as_deref(), Some("https://h/a?cursor=x"));
        headers.insert(LINK, "<https://h/a>; rel=\"prev\"".parse().unwrap());
        assert_eq!(next(&headers), None);
    }

    #[test]
    fn a_token_goes_to_no_other_server() {
        let client = Client::new();
        let (repository, token) = ("a/b".to_owned(), Some("t".to_owned()));
        let hub = Hub::new(client, "https://hub.test/", Kind::Model, repository, None, token, Duration::ZERO);
        assert_eq!(hub.api("tree", "refs/pr/1"), "https://hub.test/api/models/a/b/tree/refs%2Fpr%2F1");
        assert!(hub.page(Some("https://hub.test/next".into())).is_ok());
        assert!(hub.page(Some("https://elsewhere.test/next".into())).is_err());
        assert!(hub.page(Some("http://hub.test/next".into())).is_err());
    }
}
