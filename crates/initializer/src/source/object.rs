//! Objects of S3, Google Cloud Storage and Azure Blob Storage.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures::{StreamExt as _, TryStreamExt as _};
use http::StatusCode;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService,
};
use object_store::path::Path;
use object_store::{Attribute, ClientOptions, GetOptions, ObjectMeta, ObjectStore, ObjectStoreExt as _};
use trainerd_causes::causes;

use crate::digest::{Digest, is_hex};
use crate::error::Error;
use crate::name::Name;
use crate::retry;
use crate::source::identity::MissingCredentials;
use crate::source::{Content, Listing, Remote, Source, wire};

/// Empty objects that are asked about at the same time.
const QUESTIONS: usize = 16;

/// Bytes of a refusal that are read.
const LONGEST_REFUSAL: usize = 4 << 10;

/// The objects below a prefix.
#[derive(Debug)]
pub struct Objects {
    store: Arc<dyn ObjectStore>,
    seen: Arc<Seen>,
    /// Without credentials.
    uri: String,
    prefix: String,
    /// Whether ETags may be MD5 digests.
    is_s3: bool,
    /// How long it is waited for where it is not there.
    patience: Duration,
}

/// What headers say that the store's interface does not.
#[derive(Debug, Default)]
pub struct Seen {
    /// Objects are encrypted with keys of a service or of the customer: their ETags are no digests.
    encrypted: AtomicBool,
}

/// Makes the clients of a store: ours, which has no limit of an answer's whole time, and says what a status means.
#[derive(Debug)]
pub struct Connector {
    client: reqwest::Client,
    seen: Arc<Seen>,
}

impl Connector {
    /// With this client.
    pub fn new(client: reqwest::Client, seen: Arc<Seen>) -> Self {
        Self { client, seen }
    }
}

impl HttpConnector for Connector {
    fn connect(&self, _options: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(Wire { client: self.client.clone(), seen: Arc::clone(&self.seen) }))
    }
}

#[derive(Debug)]
struct Wire {
    client: reqwest::Client,
    seen: Arc<Seen>,
}

/// An answer that is no success. The store's own errors do not tell the status of all of them.
#[derive(Debug, thiserror::Error)]
#[error("status {status}: {why}")]
struct Refusal {
    status: StatusCode,
    after: Option<Duration>,
    /// The code and the message of the server, in one line.
    why: String,
}

#[async_trait]
impl HttpService for Wire {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let response = self.client.call(request).await?;
        let status = response.status();
        let encryption = response.headers().get("x-amz-server-side-encryption");
        if encryption.is_some_and(|kind| kind.as_bytes().starts_with(b"aws:kms"))
            || response.headers().contains_key("x-amz-server-side-encryption-customer-algorithm")
        {
            self.seen.encrypted.store(true, Ordering::Relaxed);
        }
        if status.is_client_error() || status.is_server_error() {
            let after = retry::asked(response.headers(), jiff::Timestamp::now());
            let why = said(&body(response).await);
            return Err(HttpError::new(HttpErrorKind::Unknown, Refusal { status, after, why }));
        }
        Ok(response)
    }
}

/// The beginning of an answer's text.
async fn body(response: HttpResponse) -> String {
    let mut text = Vec::new();
    let mut stream = response.into_body().bytes_stream();
    while let Some(Ok(bytes)) = stream.next().await {
        text.extend_from_slice(&bytes);
        if text.len() >= LONGEST_REFUSAL {
            break;
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// Code and message of an error in XML, or the beginning of another text.
fn said(text: &str) -> String {
    let tag = |tag: &str| {
        let (_, rest) = text.split_once(&format!("<{tag}>"))?;
        rest.split_once(&format!("</{tag}>")).map(|(text, _)| text)
    };
    match (tag("Code"), tag("Message")) {
        (Some(code), Some(message)) => first_line(&format!("{code}: {message}")),
        _ => first_line(text),
    }
}

impl Objects {
    /// Those below a prefix of a store.
    pub fn new(
        store: Arc<dyn ObjectStore>,
        seen: Arc<Seen>,
        uri: String,
        prefix: String,
        is_s3: bool,
        patience: Duration,
    ) -> Self {
        Self { store, seen, uri, prefix, is_s3, patience }
    }

    fn path(&self, key: &str) -> Result<Path, Error> {
        Path::parse(key).map_err(|source| Error::Source { uri: self.uri.clone(), source: Box::new(source) })
    }

    async fn objects(&self) -> Result<Vec<ObjectMeta>, Error> {
        let failed = |error| meaning(&self.uri, error);
        let prefix = self.path(&self.prefix)?;
        let listed = self.store.list((!self.prefix.is_empty()).then_some(&prefix));
        let objects: Vec<ObjectMeta> = listed.try_collect().await.map_err(failed)?;
        let is_empty = objects.is_empty();
        // What is listed below the prefix and has its name is the prefix itself with a slash behind it: its marker.
        let objects =
            objects.into_iter().filter(|object| object.size > 0 || object.location != prefix).collect();
        let files = self.files(objects).await?;
        if !files.is_empty() || self.prefix.is_empty() {
            return Ok(files);
        }
        // No folder, but perhaps an object.
        match self.store.head(&prefix).await.map_err(failed) {
            Ok(object) => Ok(vec![object]),
            // A folder without files is no missing one.
            Err(Error::NotFound { .. }) if !is_empty => Ok(files),
            Err(error) => Err(error),
        }
    }

    /// Without the markers of folders: empty objects that consoles and file systems on top of a store make, by the names
    /// of folders. Listings of the store's interface leave out the slash that most of these names end in.
    async fn files(&self, objects: Vec<ObjectMeta>) -> Result<Vec<ObjectMeta>, Error> {
        let folders: HashSet<&str> =
            objects.iter().flat_map(|object| folders(object.location.as_ref())).collect();
        let is_doubtful =
            |object: &ObjectMeta| object.size == 0 && !folders.contains(object.location.as_ref());
        let doubtful: Vec<Path> = objects
            .iter()
            .filter(|object| is_doubtful(object))
            .map(|object| object.location.clone())
            .collect();
        let asked = futures::stream::iter(doubtful).map(|path| async move {
            let is_marker = self.is_marker(&path).await?;
            Ok::<_, Error>((!is_marker).then_some(path))
        });
        let empty: Vec<Option<Path>> = asked.buffer_unordered(QUESTIONS).try_collect().await?;
        let empty: HashSet<Path> = empty.into_iter().flatten().collect();
        Ok(objects.into_iter().filter(|object| object.size > 0 || empty.contains(&object.location)).collect())
    }

    /// Whether an empty object stands for a folder: it cannot be found by the name without the slash, or says so (those
    /// of Azure have none).
    async fn is_marker(&self, path: &Path) -> Result<bool, Error> {
        let options = GetOptions { head: true, ..GetOptions::default() };
        match self.store.get_opts(path, options).await.map_err(|error| meaning(path.as_ref(), error)) {
            Ok(found) => {
                let said = found.attributes.get(&Attribute::Metadata("hdi_isfolder".into()));
                Ok(said.is_some_and(|said| said.eq_ignore_ascii_case("true")))
            }
            Err(Error::NotFound { .. }) => Ok(true),
            Err(error) => Err(error),
        }
    }

    fn remote(&self, object: ObjectMeta) -> Result<Remote, Error> {
        let key = object.location.as_ref().to_owned();
        let below = match key.strip_prefix(&self.prefix) {
            Some("") => key.rsplit('/').next().unwrap_or_default(),
            Some(rest) => rest.trim_start_matches('/'),
            None => key.as_str(),
        };
        let md5 = object.e_tag.as_deref().map(|etag| etag.trim_matches('"')).filter(|etag| is_hex(etag, 16));
        Ok(Remote {
            name: Name::new(below)?,
            size: Some(object.size),
            digest: md5.filter(|_| self.is_s3).map(|md5| Digest::Md5(md5.to_ascii_lowercase())),
            version: object.e_tag.map(|etag| quoted(&etag)),
            ranged: object.size > 0,
            key,
        })
    }
}

/// An ETag as headers have it: listings of Azure are without the quotes.
fn quoted(etag: &str) -> String {
    if etag.ends_with('"') { etag.to_owned() } else { format!("\"{etag}\"") }
}

/// The folders that a key is in.
fn folders(key: &str) -> impl Iterator<Item = &str> {
    key.match_indices('/').map(|(at, _)| &key[..at])
}

/// What a store's error means for us.
fn meaning(what: &str, error: object_store::Error) -> Error {
    let what = what.to_owned();
    // Before any answer of the machine's metadata service, which is no answer about the object.
    if let Some(missing) = find::<MissingCredentials>(&error) {
        return Error::Denied { what, why: missing.to_string() };
    }
    if let Some(refusal) = find::<Refusal>(&error) {
        let why = refusal.why.clone();
        // A token that is too old is a bad request for S3.
        let is_token = ["ExpiredToken", "InvalidToken"].into_iter().any(|code| why.starts_with(code));
        return match refusal.status {
            status if wire::is_busy(status) => {
                Error::Busy { what, status: status.as_u16(), after: refusal.after }
            }
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Error::Denied { what, why },
            _ if is_token => Error::Denied { what, why },
            StatusCode::NOT_FOUND => {
                Error::NotFound { what, why: if why.is_empty() { why } else { format!(": {why}") } }
            }
            StatusCode::PRECONDITION_FAILED => {
                Error::Changed { what, why: "it has another ETag than when it was listed".to_owned() }
            }
            status => Error::Refused { what, status: status.as_u16(), why },
        };
    }
    match error {
        object_store::Error::NotFound { .. } => Error::NotFound { what, why: String::new() },
        object_store::Error::PermissionDenied { source, .. } => {
            Error::Denied { what, why: first_line(&source.to_string()) }
        }
        error if find::<HttpError>(&error).is_some() || find::<std::io::Error>(&error).is_some() => {
            wire::unanswered(what, Box::new(error))
        }
        error => Error::Source { uri: what, source: Box::new(error) },
    }
}

/// The first cause of a type.
fn find<'a, T: std::error::Error + 'static>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a T> {
    causes(error).find_map(|cause| cause.downcast_ref())
}

/// Servers answer with pages of XML.
fn first_line(text: &str) -> String {
    let line: Vec<&str> = text.split_whitespace().collect();
    line.join(" ").chars().take(300).collect()
}

#[async_trait]
impl Source for Objects {
    async fn list(&self) -> Result<Listing, Error> {
        let objects = retry::answered(&self.uri, self.patience, || self.objects()).await?;
        let files: Result<Vec<Remote>, Error> =
            objects.into_iter().map(|object| self.remote(object)).collect();
        Ok(Listing { files: files?, commit: None })
    }

    async fn read(&self, file: &Remote, range: Range<u64>) -> Result<Content, Error> {
        let options = GetOptions {
            range: file.ranged.then(|| range.clone().into()),
            if_match: file.version.clone(),
            ..GetOptions::default()
        };
        let what = file.key.clone();
        let answer = self.store.get_opts(&self.path(&file.key)?, options).await;
        let answer = answer.map_err(|error| meaning(&what, error))?;
        if answer.meta.e_tag.as_deref().map(quoted) != file.version {
            let why = "it has another ETag than when it was listed".to_owned();
            return Err(Error::Changed { what, why });
        }
        if file.ranged && answer.range != range {
            let why = format!("the bytes {:?} instead of {range:?}", answer.range);
            return Err(Error::Answer { what, why });
        }
        Ok(answer.into_stream().map_err(move |error| meaning(&what, error)).boxed())
    }

    fn trusts(&self, digest: &Digest) -> bool {
        !(matches!(digest, Digest::Md5(_)) && self.seen.encrypted.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use object_store::memory::InMemory;

    use super::*;

    async fn names(keys: &[(&str, &str)], prefix: &str) -> Vec<String> {
        let store = InMemory::new();
        for (key, content) in keys {
            store.put(&Path::from(*key), (*content).to_owned().into()).await.unwrap();
        }
        let (seen, uri, prefix) = (Arc::default(), "s3://b".into(), prefix.to_owned());
        let objects = Objects::new(Arc::new(store), seen, uri, prefix, true, Duration::ZERO);
        match objects.list().await {
            Ok(listing) => listing.files.into_iter().map(|file| file.name.to_string()).collect(),
            Err(error) => vec![error.to_string()],
        }
    }

    #[test]
    fn an_etag_is_the_same_with_and_without_its_quotes() {
        assert_eq!(quoted("0x8D"), quoted("\"0x8D\""));
        assert_eq!(quoted("W/\"x\""), "W/\"x\"");
    }

    #[test]
    fn a_key_is_in_its_folders() {
        assert_eq!(folders("a/b c/d").collect::<Vec<_>>(), ["a", "a/b c"]);
        assert_eq!(folders("a").count(), 0);
    }

    #[tokio::test]
    async fn a_prefix_is_a_folder_or_an_object_and_never_half_a_name() {
        let keys = [("data/a", "1"), ("data/b/c", "2"), ("data2/x", "3"), ("data/b", "")];
        assert_eq!(names(&keys, "data").await, ["a", "b/c"]);
        assert_eq!(names(&keys, "data/a").await, ["a"]);
        assert_eq!(names(&keys, "dat").await, ["s3://b does not exist"]);
        assert_eq!(names(&keys, "").await.len(), 3);
    }
}
