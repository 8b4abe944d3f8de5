//! Directories of Parquet or Arrow IPC files, and single files.

use std::collections::BTreeMap;
use std::io::Cursor;
use std::sync::Arc;

use async_trait::async_trait;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt as _};
use parquet::arrow::arrow_reader::{ArrowPredicateFn, ArrowReaderMetadata, ArrowReaderOptions, RowFilter};
use parquet::arrow::{ParquetRecordBatchStreamBuilder, ProjectionMask};
use parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};
use sha2::{Digest as _, Sha256};

use super::filtered::{self, COUNTED_ROWS, Filtered};
use super::pinned::{Pinned, parquet_error};
use super::statistics;
use super::{
    Batches, Dataset, Error, Progress, UnitReader, by_row_group, catch_panic, catch_panics, projection,
};
use crate::arrow::{Schema, SchemaRef};
use crate::config::{Config, Format};
use crate::plan::{Origin, Plan, Unit};
use crate::store::{self, Stores};

/// A file with what its footer says.
struct File {
    pinned: Pinned,
    format: Format,
    schema: SchemaRef,
    /// Of a Parquet file.
    footer: Option<Arc<ParquetMetaData>>,
    rows: u64,
}

/// Reads the files of a directory.
struct Reader {
    schema: SchemaRef,
    filtered: Option<Filtered>,
    files: BTreeMap<String, File>,
}

/// Lists the directory, reads every footer, and compares the schemas.
pub(super) async fn open(
    config: &Config,
    stores: &Stores,
    workers: u32,
    uri: &str,
    format: Option<Format>,
    digest: Option<&str>,
    counts: (&[Unit], &Progress),
) -> Result<Dataset, Error> {
    let shown = store::redacted(uri);
    let (store, path) = stores.open(uri)?;
    let objects =
        list(&*store, &path, format).await.map_err(|source| Error::Read { path: shown.clone(), source })?;
    if objects.is_empty() {
        return Err(Error::Empty(shown));
    }
    let snapshot = listing_digest(&objects);
    if let Some(pinned) = digest.filter(|pinned| *pinned != snapshot) {
        return Err(Error::Changed(format!("the digest of the listing is {snapshot}, not {pinned}")));
    }
    counts.1.resolved();
    let sizes: Vec<u64> = objects.iter().map(|(object, _)| object.size).collect();
    let read = objects.into_iter().map(|(object, format)| {
        catch_panic(object.location.to_string(), inspect(Arc::clone(&store), object, format))
    });
    let files: Vec<File> = stream::iter(read).buffered(config.plan_concurrency).try_collect().await?;
    compare(&files)?;
    let first = files.first().ok_or_else(|| Error::Empty(shown.clone()))?;
    let schema = projection::dataset(&first.schema, &config.columns)?;
    let by_row_group = by_row_group(config.granule, &sizes, workers);
    let filter = config.filter.as_ref();
    let filtered = filter.map(|(_, filter)| Filtered::new(filter, &first.schema, &schema)).transpose()?;
    let units: Vec<Unit> = files.iter().flat_map(|file| units(file, by_row_group)).collect();
    let files = files.into_iter().map(|file| (file.pinned.path(), file)).collect();
    let reader = Arc::new(Reader { schema: Arc::clone(&schema), filtered, files });
    let units = if reader.filtered.is_some() {
        let units = units.into_iter().map(|unit| (unit, None)).collect();
        let count = |unit| {
            let reader = Arc::clone(&reader);
            async move { reader.count(&unit).await }
        };
        filtered::counted(units, counts, config.load_concurrency, count).await?
    } else {
        units
    };
    let filter = filter.map(|(text, _)| text.clone());
    let origin = Origin { columns: config.columns.clone(), filter, snapshot, source: shown };
    let plan = Plan::new(&origin, units)?;
    Ok(Dataset { schema, plan, snapshot: None, reader })
}

/// The files below a path, or the one at it, with their formats, sorted by path. Hidden files and those of job
/// committers (`_SUCCESS`, `.part`) are left out, as everybody does who reads such directories.
async fn list(
    store: &dyn ObjectStore,
    path: &Path,
    format: Option<Format>,
) -> Result<Vec<(ObjectMeta, Format)>, object_store::Error> {
    let object = match store.head(path).await {
        Ok(object) => Some(object),
        // The list would fail for the same reason, as often tried again: the user is told of it now.
        Err(error @ object_store::Error::Generic { .. }) if !path.as_ref().is_empty() => return Err(error),
        Err(_) => None,
    };
    let listed: Vec<ObjectMeta> = match object {
        Some(object) if object.size > 0 => vec![object],
        // An empty object may stand for a folder.
        object => {
            let listed: Vec<ObjectMeta> = store.list(Some(path)).try_collect().await?;
            if listed.is_empty() { object.into_iter().collect() } else { listed }
        }
    };
    let root = path.parts().count();
    let is_hidden = |object: &ObjectMeta| {
        object.location.parts().skip(root).any(|part| part.as_ref().starts_with(['_', '.']))
    };
    let of_name = |object: &ObjectMeta| match object.location.extension() {
        Some("parquet") => Some(Format::Parquet),
        Some("arrow" | "feather" | "ipc") => Some(Format::Arrow),
        _ => None,
    };
    let mut files: Vec<(ObjectMeta, Format)> = listed
        .into_iter()
        .filter(|object| !is_hidden(object))
        .filter_map(|object| {
            let found = of_name(&object);
            // Consoles and file systems on top of a store mark folders by empty objects.
            if found.is_none() && object.size == 0 {
                return None;
            }
            // A format that was named also holds for files without an ending.
            let chosen = match (format, found) {
                (None, found) => found,
                (Some(format), None) => Some(format),
                (Some(format), Some(found)) => (format == found).then_some(format),
            };
            chosen.map(|format| (object, format))
        })
        .collect();
    files.sort_by(|(one, _), (other, _)| one.location.cmp(&other.location));
    Ok(files)
}

/// What the directory holds: paths, sizes, and entity tags or times of change.
fn listing_digest(files: &[(ObjectMeta, Format)]) -> String {
    let lines = files.iter().map(|(object, _)| {
        let state =
            object.e_tag.clone().unwrap_or_else(|| object.last_modified.timestamp_millis().to_string());
        serde_json::json!([object.location.to_string(), object.size, state]).to_string()
    });
    hex::encode(Sha256::digest(lines.collect::<Vec<_>>().join("\n")))
}

async fn inspect(store: Arc<dyn ObjectStore>, object: ObjectMeta, format: Format) -> Result<File, Error> {
    let mut pinned = Pinned::new(store, object);
    let path = pinned.path();
    match format {
        Format::Parquet => {
            let footer = pinned.footer().await.map_err(|source| parquet_error(&path, source))?;
            let schema = ArrowReaderMetadata::try_new(Arc::clone(&footer), ArrowReaderOptions::new())
                .map_err(|source| Error::Parquet { path, source })?;
            let rows = u64::try_from(footer.file_metadata().num_rows()).unwrap_or_default();
            Ok(File { pinned, format, schema: Arc::clone(schema.schema()), footer: Some(footer), rows })
        }
        Format::Arrow => {
            let bytes = pinned.all().await.map_err(|source| Error::Read { path: path.clone(), source })?;
            let decode = |source| Error::Arrow { path: path.clone(), source };
            let reader = arrow_ipc::reader::FileReader::try_new(Cursor::new(bytes), None).map_err(decode)?;
            let schema = reader.schema();
            let mut rows = 0;
            for batch in reader {
                rows += batch.map_err(decode)?.num_rows() as u64;
            }
            Ok(File { pinned, format, schema, footer: None, rows })
        }
    }
}

fn compare(files: &[File]) -> Result<(), Error> {
    let Some((first, others)) = files.split_first() else { return Ok(()) };
    for other in others {
        if let Some(difference) = projection::difference(&first.schema, &other.schema) {
            return Err(Error::Differs { path: other.pinned.path(), first: first.pinned.path(), difference });
        }
    }
    Ok(())
}

fn units(file: &File, by_row_group: bool) -> Vec<Unit> {
    let path = file.pinned.path();
    match &file.footer {
        Some(footer) if by_row_group => (0..)
            .zip(footer.row_groups())
            .map(|(number, group)| Unit {
                path: path.clone(),
                row_group: Some(number),
                rows: u64::try_from(group.num_rows()).unwrap_or_default(),
            })
            .collect(),
        _ => vec![Unit { path, row_group: None, rows: file.rows }],
    }
}

#[async_trait]
impl UnitReader for Reader {
    async fn read(&self, unit: &Unit, from: u64, batch_rows: usize) -> Result<Batches, Error> {
        let opening = async {
            match &self.filtered {
                None => self.batches(unit, &self.schema, from, batch_rows).await,
                Some(filtered) => {
                    let batches = self.batches(unit, &filtered.wide, 0, batch_rows).await?;
                    Ok(filtered.select(batches, &self.schema, from, &unit.path))
                }
            }
        };
        Ok(catch_panics(&unit.path, catch_panic(unit.path.clone(), opening).await?))
    }

    fn held_bytes(&self, unit: &Unit) -> u64 {
        let Some(file) = self.files.get(&unit.path) else { return 0 };
        let Some(footer) = &file.footer else { return file.pinned.size() };
        let schema = self.filtered.as_ref().map_or(&self.schema, |filtered| &filtered.wide);
        let wanted = |name: &str| schema.field_with_name(name).is_ok();
        let group = |group: &RowGroupMetaData| -> u64 {
            let columns = group.columns().iter();
            let columns = columns
                .filter(|column| column.column_path().parts().first().is_some_and(|name| wanted(name)));
            columns.map(|column| column.byte_range().1).sum()
        };
        let groups = footer.row_groups().iter();
        match unit.row_group.and_then(|number| usize::try_from(number).ok()) {
            Some(number) => groups.skip(number).take(1).map(group).sum(),
            // They are read one after the other.
            None => groups.map(group).max().unwrap_or_default(),
        }
    }
}

impl Reader {
    /// Rows of a unit that the filter selects.
    async fn count(&self, unit: &Unit) -> Result<u64, Error> {
        let Some(filtered) = &self.filtered else { return Ok(unit.rows) };
        let batches = self.batches(unit, &filtered.own, 0, COUNTED_ROWS).await?;
        filtered::count(filtered.select(batches, &filtered.own, 0, &unit.path)).await
    }

    /// All rows of a unit from this one on, with the columns of a schema.
    async fn batches(
        &self,
        unit: &Unit,
        schema: &SchemaRef,
        from: u64,
        batch_rows: usize,
    ) -> Result<Batches, Error> {
        let file =
            self.files.get(&unit.path).ok_or_else(|| Error::Changed(format!("{} is gone", unit.path)))?;
        match file.format {
            Format::Parquet => read_parquet(file, unit, schema, (from, batch_rows), self.filtered.as_ref()),
            Format::Arrow => read_arrow(file, unit, schema, from).await,
        }
    }
}

/// Rows of a unit from this one on. Of those that the filter does not select, row groups are not read where their
/// statistics tell, and columns not where those of the filter tell.
fn read_parquet(
    file: &File,
    unit: &Unit,
    schema: &SchemaRef,
    (from, batch_rows): (u64, usize),
    filtered: Option<&Filtered>,
) -> Result<Batches, Error> {
    let path = unit.path.clone();
    let failed = |source| Error::Parquet { path: path.clone(), source };
    let Some(footer) = &file.footer else { return Err(Error::Changed(format!("{path} has no footer"))) };
    // The file's own types, with dictionaries replaced by their values while they are decoded.
    let decoded: SchemaRef = Arc::new(projection::hydrated(&file.schema));
    let options = ArrowReaderOptions::new().with_schema(Arc::clone(&decoded));
    let metadata = ArrowReaderMetadata::try_new(Arc::clone(footer), options).map_err(failed)?;
    let mask = projection_mask(&decoded, schema, footer);
    let groups = match unit.row_group.map(usize::try_from) {
        Some(number) => vec![number.unwrap_or(usize::MAX)],
        None => (0..footer.num_row_groups()).collect(),
    };
    let groups: Vec<usize> = match filtered {
        Some(filtered) => groups
            .into_iter()
            .filter(|group| statistics::may_select(filtered, &decoded, footer, *group))
            .collect(),
        None => groups,
    };
    if groups.is_empty() {
        return Ok(stream::empty().boxed());
    }
    let mut builder = ParquetRecordBatchStreamBuilder::new_with_metadata(file.pinned.clone(), metadata)
        .with_batch_size(batch_rows)
        .with_projection(mask)
        .with_row_groups(groups)
        .with_offset(usize::try_from(from).unwrap_or(usize::MAX));
    // Where only the filter's columns are wanted, they would be decoded twice.
    if let Some(filtered) = filtered.filter(|filtered| filtered.own.fields().len() < schema.fields().len()) {
        let (selector, own) = (filtered.selector.clone(), projection_mask(&decoded, &filtered.own, footer));
        let predicate = ArrowPredicateFn::new(own, move |batch| selector.mask(&batch));
        builder = builder.with_row_filter(RowFilter::new(vec![Box::new(predicate)]));
    }
    let batches = builder.build().map_err(failed)?;
    let schema = Arc::clone(schema);
    Ok(batches
        .map(move |batch| {
            let batch = batch.map_err(|source| parquet_error(&path, source))?;
            projection::conform(&batch, &schema).map_err(|source| Error::Arrow { path: path.clone(), source })
        })
        .boxed())
}

async fn read_arrow(file: &File, unit: &Unit, schema: &SchemaRef, from: u64) -> Result<Batches, Error> {
    let path = unit.path.clone();
    let bytes = file.pinned.all().await.map_err(|source| Error::Read { path: path.clone(), source })?;
    let reader = arrow_ipc::reader::FileReader::try_new(Cursor::new(bytes), None)
        .map_err(|source| Error::Arrow { path: path.clone(), source })?;
    let schema = Arc::clone(schema);
    let mut skip = usize::try_from(from).unwrap_or(usize::MAX);
    let batches = reader.filter_map(move |batch| {
        let failed = |source| Error::Arrow { path: path.clone(), source };
        let batch = match batch.and_then(|batch| projection::conform(&batch, &schema)) {
            Ok(batch) => batch,
            Err(source) => return Some(Err(failed(source))),
        };
        let skipped = skip.min(batch.num_rows());
        skip -= skipped;
        let rest = batch.slice(skipped, batch.num_rows() - skipped);
        (rest.num_rows() > 0).then_some(Ok(rest))
    });
    Ok(stream::iter(batches).boxed())
}

fn projection_mask(file: &Schema, dataset: &Schema, footer: &ParquetMetaData) -> ProjectionMask {
    let wanted =
        (0..file.fields().len()).filter(|place| dataset.field_with_name(file.field(*place).name()).is_ok());
    ProjectionMask::roots(footer.file_metadata().schema_descr(), wanted)
}

#[cfg(test)]
mod tests {
    use object_store::memory::InMemory;

    use super::*;

    #[tokio::test]
    async fn a_directory_has_files_and_no_markers_of_folders() {
        let store = InMemory::new();
        for (key, content) in [
            ("d", ""),
            ("d/a.parquet", "1"),
            ("d/b", "2"),
            ("d/c", ""),
            ("d/c/e.arrow", "3"),
            ("d/empty.parquet", ""),
            ("d/_SUCCESS", ""),
            ("d/.x/f.parquet", "4"),
            ("single", "5"),
        ] {
            store.put(&Path::from(key), content.into()).await.unwrap();
        }
        let names = async |path: &str, format| {
            let listed = list(&store, &Path::from(path), format).await.unwrap();
            listed.into_iter().map(|(object, _)| object.location.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(names("d", None).await, ["d/a.parquet", "d/c/e.arrow", "d/empty.parquet"]);
        assert_eq!(names("d", Some(Format::Parquet)).await, ["d/a.parquet", "d/b", "d/empty.parquet"]);
        assert_eq!(names("single", Some(Format::Arrow)).await, ["single"]);
        // One that is named, and has nothing in it, is no folder: reading it says what is wrong.
        assert_eq!(names("d/empty.parquet", None).await, ["d/empty.parquet"]);
    }
}
