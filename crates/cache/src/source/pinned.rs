//! A file as it was when the source was pinned.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt as _, TryFutureExt as _};
use object_store::{GetOptions, GetRange, ObjectMeta, ObjectStore, coalesce_ranges};
use parquet::arrow::arrow_reader::ArrowReaderOptions;
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::errors::ParquetError;
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader};

use super::Error;

/// Ranges that are nearer than this are read by one request.
const COALESCE: u64 = 1 << 20;

/// Bytes of a file's end that the first request asks for: the footers of most files fit.
const FOOTER: usize = 64 << 10;

/// A file whose every request demands that it is what it was: by its entity tag, where the store has such.
#[derive(Clone, Debug)]
pub(super) struct Pinned {
    store: Arc<dyn ObjectStore>,
    object: ObjectMeta,
}

impl Pinned {
    pub(super) fn new(store: Arc<dyn ObjectStore>, object: ObjectMeta) -> Self {
        Self { store, object }
    }

    /// Which file.
    pub(super) fn path(&self) -> String {
        self.object.location.to_string()
    }

    /// Bytes of it.
    pub(super) fn size(&self) -> u64 {
        self.object.size
    }

    /// Its bytes in this range.
    pub(super) async fn bytes(&self, range: Range<u64>) -> Result<Bytes, object_store::Error> {
        let options = GetOptions {
            if_match: self.object.e_tag.clone(),
            range: Some(GetRange::Bounded(range)),
            ..GetOptions::default()
        };
        self.store.get_opts(&self.object.location, options).await?.bytes().await
    }

    /// All of it.
    pub(super) async fn all(&self) -> Result<Bytes, object_store::Error> {
        if self.object.size == 0 {
            return Ok(Bytes::new());
        }
        self.bytes(0..self.object.size).await
    }

    /// The footer of a Parquet file.
    pub(super) async fn footer(&mut self) -> Result<Arc<ParquetMetaData>, ParquetError> {
        let size = self.object.size;
        let reader = ParquetMetaDataReader::new()
            .with_page_index_policy(PageIndexPolicy::Skip)
            .with_prefetch_hint(Some(FOOTER));
        reader.load_and_finish(self, size).await.map(Arc::new)
    }
}

fn external(source: object_store::Error) -> ParquetError {
    ParquetError::External(Box::new(source))
}

/// A store's failure keeps its kind, also where the Parquet reader hands it on.
pub(super) fn parquet_error(path: &str, error: ParquetError) -> Error {
    let path = path.to_owned();
    match error {
        ParquetError::External(source) => match source.downcast::<object_store::Error>() {
            Ok(source) => Error::Read { path, source: *source },
            Err(source) => Error::Parquet { path, source: ParquetError::External(source) },
        },
        source => Error::Parquet { path, source },
    }
}

impl AsyncFileReader for Pinned {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, Result<Bytes, ParquetError>> {
        self.bytes(range).map_err(external).boxed()
    }

    fn get_byte_ranges(
        &mut self,
        ranges: Vec<Range<u64>>,
    ) -> BoxFuture<'_, Result<Vec<Bytes>, ParquetError>> {
        let file = self.clone();
        async move {
            let fetch = |range| {
                let file = file.clone();
                async move { file.bytes(range).await }
            };
            coalesce_ranges(&ranges, fetch, COALESCE).await.map_err(external)
        }
        .boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        _options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, Result<Arc<ParquetMetaData>, ParquetError>> {
        self.footer().boxed()
    }
}
