//! Iceberg's storage over the stores of this process, so that credentials and limits exist once. It only reads.

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use iceberg::io::{
    FileMetadata, FileRead, FileWrite, InputFile, OutputFile, Storage, StorageConfig, StorageFactory,
};
use iceberg::{Error, ErrorKind, Result};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _};
use serde::{Deserialize, Serialize};

use crate::store::Stores;

/// Makes the storage. The library asks for a form that can be written down; stores are those of the process and are
/// not part of it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Factory {
    #[serde(skip)]
    stores: Stores,
}

impl Factory {
    pub(super) fn new(stores: Stores) -> Self {
        Self { stores }
    }
}

#[typetag::serde]
impl StorageFactory for Factory {
    fn build(&self, _config: &StorageConfig) -> Result<Arc<dyn Storage>> {
        Ok(Arc::new(Stored { stores: self.stores.clone() }))
    }
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Stored {
    #[serde(skip)]
    stores: Stores,
}

impl Stored {
    fn open(&self, uri: &str) -> Result<(Arc<dyn ObjectStore>, Path)> {
        self.stores.open(uri).map_err(|source| {
            Error::new(ErrorKind::DataInvalid, "failed to open a store").with_source(source)
        })
    }
}

fn failed(source: object_store::Error) -> Error {
    let may_pass = matches!(source, object_store::Error::Generic { .. });
    Error::new(ErrorKind::Unexpected, "failed to read a file").with_retryable(may_pass).with_source(source)
}

fn read_only<T>() -> Result<T> {
    Err(Error::new(ErrorKind::FeatureUnsupported, "the cache only reads"))
}

/// A file that is read in ranges.
struct Ranges {
    store: Arc<dyn ObjectStore>,
    path: Path,
}

#[async_trait]
impl FileRead for Ranges {
    async fn read(&self, range: Range<u64>) -> Result<Bytes> {
        self.store.get_range(&self.path, range).await.map_err(failed)
    }
}

#[async_trait]
#[typetag::serde]
impl Storage for Stored {
    async fn exists(&self, path: &str) -> Result<bool> {
        let (store, path) = self.open(path)?;
        match store.head(&path).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(failed(error)),
        }
    }

    async fn metadata(&self, path: &str) -> Result<FileMetadata> {
        let (store, path) = self.open(path)?;
        let object = store.head(&path).await.map_err(failed)?;
        Ok(FileMetadata { size: object.size })
    }

    async fn read(&self, path: &str) -> Result<Bytes> {
        let (store, path) = self.open(path)?;
        store.get(&path).await.map_err(failed)?.bytes().await.map_err(failed)
    }

    async fn reader(&self, path: &str) -> Result<Box<dyn FileRead>> {
        let (store, path) = self.open(path)?;
        Ok(Box::new(Ranges { store, path }))
    }

    async fn write(&self, _path: &str, _bytes: Bytes) -> Result<()> {
        read_only()
    }

    async fn writer(&self, _path: &str) -> Result<Box<dyn FileWrite>> {
        read_only()
    }

    async fn delete(&self, _path: &str) -> Result<()> {
        read_only()
    }

    async fn delete_prefix(&self, _path: &str) -> Result<()> {
        read_only()
    }

    async fn delete_stream(&self, _paths: BoxStream<'static, String>) -> Result<()> {
        read_only()
    }

    fn new_input(&self, path: &str) -> Result<InputFile> {
        Ok(InputFile::new(Arc::new(self.clone()), path.to_owned()))
    }

    fn new_output(&self, _path: &str) -> Result<OutputFile> {
        read_only()
    }
}
