//! One file of a web server.

use std::ops::Range;
use std::time::Duration;

use async_trait::async_trait;
use http::header::{ACCEPT_RANGES, CONTENT_RANGE, ETAG, HeaderMap, IF_MATCH, LAST_MODIFIED, RANGE};
use http::{Method, StatusCode};
use reqwest::Client;
use url::Url;

use crate::digest::Digest;
use crate::error::Error;
use crate::name::Name;
use crate::retry;
use crate::source::{Content, Listing, Remote, Source, wire};

/// A file by its URL.
#[derive(Debug)]
pub struct Web {
    client: Client,
    url: Url,
    shown: String,
    name: String,
    sha256: Option<String>,
    patience: Duration,
}

impl Web {
    /// The file at a URL, with its digest where the user knows it.
    pub fn new(client: Client, url: Url, name: String, sha256: Option<String>, patience: Duration) -> Self {
        let shown = crate::uri::shown(url.as_str());
        Self { client, url, shown, name, sha256, patience }
    }

    async fn describe(&self) -> Result<Listing, Error> {
        let head = self.client.head(self.url.clone()).send().await;
        let head = head.map_err(|error| wire::interrupted(&self.shown, error))?;
        // Not every server answers HEAD, least of all behind a signed URL.
        let response = if head.status().is_success() || wire::is_busy(head.status()) {
            head
        } else {
            let asked = self.client.get(self.url.clone()).header(RANGE, "bytes=0-0").send().await;
            asked.map_err(|error| wire::interrupted(&self.shown, error))?
        };
        let response = match response.status() {
            // An empty file has no first byte.
            StatusCode::RANGE_NOT_SATISFIABLE => response,
            _ => wire::checked(&self.shown, response).await?,
        };
        let is_part = response.status() == StatusCode::PARTIAL_CONTENT;
        let headers = response.headers();
        let total = text(headers, CONTENT_RANGE.as_str())
            .and_then(|range| range.rsplit_once('/'))
            .and_then(|(_, total)| total.parse().ok());
        let length = || text(headers, "content-length").and_then(|length| length.parse().ok());
        let size: Option<u64> = if total.is_some() || is_part { total } else { length() };
        let ranged = is_part || text(headers, ACCEPT_RANGES.as_str()) == Some("bytes");
        let file = Remote {
            name: Name::new(&self.name)?,
            key: self.name.clone(),
            size,
            version: version(headers),
            digest: self.sha256.clone().map(Digest::Sha256),
            ranged: ranged && size.is_some(),
        };
        Ok(Listing { files: vec![file], commit: None })
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// What tells this content from another: the ETag, else the time of the last change.
fn version(headers: &HeaderMap) -> Option<String> {
    text(headers, ETAG.as_str()).or_else(|| text(headers, LAST_MODIFIED.as_str())).map(str::to_owned)
}

#[async_trait]
impl Source for Web {
    async fn list(&self) -> Result<Listing, Error> {
        retry::answered(&self.shown, self.patience, || self.describe()).await
    }

    async fn read(&self, file: &Remote, range: Range<u64>) -> Result<Content, Error> {
        let mut request = self.client.request(Method::GET, self.url.clone());
        if file.ranged {
            request = request.header(RANGE, format!("bytes={}-{}", range.start, range.end.saturating_sub(1)));
        }
        // Weak ETags and dates cannot be asked for; they are compared below.
        if let Some(etag) = file.version.as_ref().filter(|version| version.starts_with('"')) {
            request = request.header(IF_MATCH, etag);
        }
        let response = request.send().await.map_err(|error| wire::interrupted(&self.shown, error))?;
        let response = wire::checked(&self.shown, response).await?;
        wire::answers(&self.shown, &response, &range, file.ranged)?;
        let found = version(response.headers());
        if found != file.version {
            let name = |version: &Option<String>| version.clone().unwrap_or_else(|| "none".to_owned());
            let why = format!("its version is {} instead of {}", name(&found), name(&file.version));
            return Err(Error::Changed { what: self.shown.clone(), why });
        }
        Ok(wire::content(self.shown.clone(), response))
    }
}
