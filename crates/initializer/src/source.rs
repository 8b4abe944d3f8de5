//! Where files come from.

use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;

use crate::digest::Digest;
use crate::error::Error;
use crate::name::Name;

pub mod assume;
pub mod hub;
pub mod identity;
pub mod local;
pub mod object;
pub mod web;
pub mod wire;

/// A file of a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remote {
    /// Its name below the target.
    pub name: Name,
    /// What the source calls it; patterns are matched against it.
    pub key: String,
    /// Bytes; `None` where the source does not say.
    pub size: Option<u64>,
    /// Tells this content from another one under the same key: an ETag, a commit. Without it a part is not gone on
    /// with.
    pub version: Option<String>,
    /// Of the content, where the source knows it.
    pub digest: Option<Digest>,
    /// Whether ranges of it can be read.
    pub ranged: bool,
}

/// The files of a source at one moment.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    /// In any order.
    pub files: Vec<Remote>,
    /// The commit, of a repository.
    pub commit: Option<String>,
}

/// Bytes as they come.
pub type Content = BoxStream<'static, Result<Bytes, Error>>;

/// Something that has files.
#[async_trait]
pub trait Source: Send + Sync {
    /// Its files.
    async fn list(&self) -> Result<Listing, Error>;

    /// The bytes of a file in a range, one attempt. The whole file where it is not [`Remote::ranged`]; then the range
    /// begins with 0. An answer with another version than the listing's is [`Error::Changed`].
    async fn read(&self, file: &Remote, range: Range<u64>) -> Result<Content, Error>;

    /// Whether the digests of the listing hold. A store that encrypts says so only when it is read from.
    fn trusts(&self, _digest: &Digest) -> bool {
        true
    }
}
