//! An Iceberg table that grows commit by commit, and catalogs on loopback that tell of it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, post};
use iceberg::io::{FileIO, FileIOBuilder, LocalFsStorageFactory};
use iceberg::spec::{
    DataContentType, DataFile, DataFileBuilder, DataFileFormat, Datum, FormatVersion, ManifestFile,
    ManifestListWriter, ManifestWriterBuilder, NestedField, Operation, PartitionSpec, PrimitiveType, Schema,
    Snapshot, SortOrder, Summary, TableMetadata, TableMetadataBuilder, Type,
};
use parquet::arrow::{ArrowWriter, PARQUET_FIELD_ID_META_KEY};
use parquet::file::properties::WriterProperties;
use serde_json::{Value, json};
use trainerd_cache::arrow::{
    ArrayRef, AsArray as _, DataType, Field, Int32Array, Int64Array, RecordBatch, Schema as ArrowSchema,
    StringArray, types::Int32Type,
};

/// Field ids that the format has for position deletes.
const FILE_PATH: i32 = 2_147_483_546;
const POSITION: i32 = 2_147_483_545;

/// A column of a file: its name and field id there, and its values.
pub(crate) type Column = (&'static str, i32, ArrayRef);

/// A table below a folder.
pub(crate) struct Lake {
    folder: PathBuf,
    metadata: TableMetadata,
    manifests: Vec<ManifestFile>,
    files: FileIO,
    written: u32,
}

fn optional(id: i32, name: &str, kind: PrimitiveType) -> Arc<NestedField> {
    Arc::new(NestedField::optional(id, name, Type::Primitive(kind)))
}

fn schema(fields: Vec<Arc<NestedField>>) -> Schema {
    Schema::builder().with_fields(fields).build().unwrap()
}

impl Lake {
    /// Without rows, with the columns `id` (a number of 32 bits) and `text`.
    pub(crate) fn new(folder: &Path) -> Self {
        std::fs::create_dir_all(folder.join("metadata")).unwrap();
        let columns =
            schema(vec![optional(1, "id", PrimitiveType::Int), optional(2, "text", PrimitiveType::String)]);
        let location = format!("file://{}", folder.display());
        let builder = TableMetadataBuilder::new(
            columns,
            PartitionSpec::unpartition_spec(),
            SortOrder::unsorted_order(),
            location,
            FormatVersion::V2,
            HashMap::new(),
        );
        Self {
            folder: folder.to_owned(),
            metadata: builder.unwrap().build().unwrap().metadata,
            manifests: Vec::new(),
            files: FileIOBuilder::new(Arc::new(LocalFsStorageFactory)).build(),
            written: 0,
        }
    }

    fn path(&mut self, kind: &str, ending: &str) -> String {
        self.written += 1;
        self.folder.join(format!("{kind}-{}.{ending}", self.written)).display().to_string()
    }

    fn file(&mut self, columns: &[Column], rows_a_group: usize) -> (String, u64, u64) {
        let path = self.path("data", "parquet");
        let field = |(name, id, values): &Column| {
            let id = HashMap::from([(PARQUET_FIELD_ID_META_KEY.to_owned(), id.to_string())]);
            Field::new(*name, values.data_type().clone(), true).with_metadata(id)
        };
        let schema = Arc::new(ArrowSchema::new(columns.iter().map(field).collect::<Vec<_>>()));
        let values = columns.iter().map(|(_, _, values)| Arc::clone(values)).collect();
        let batch = RecordBatch::try_new(Arc::clone(&schema), values).unwrap();
        let properties = WriterProperties::builder().set_max_row_group_row_count(Some(rows_a_group)).build();
        let target = std::fs::File::create(&path).unwrap();
        let mut writer = ArrowWriter::try_new(target, schema, Some(properties)).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        let bytes = std::fs::metadata(&path).unwrap().len();
        (format!("file://{path}"), bytes, batch.num_rows() as u64)
    }

    /// Adds a file of rows; its URI.
    pub(crate) async fn add(&mut self, columns: &[Column], rows_a_group: usize) -> String {
        let (path, bytes, rows) = self.file(columns, rows_a_group);
        let mut file = DataFileBuilder::default();
        let numbers =
            columns.iter().filter_map(|(_, id, values)| Some((*id, values.as_primitive_opt::<Int32Type>()?)));
        let bounds = |of: fn(&Int32Array) -> Option<i32>| {
            let bounds = numbers.clone().filter_map(|(id, values)| Some((id, Datum::int(of(values)?))));
            bounds.collect::<HashMap<i32, Datum>>()
        };
        file.content(DataContentType::Data)
            .lower_bounds(bounds(|values| values.iter().flatten().min()))
            .upper_bounds(bounds(|values| values.iter().flatten().max()))
            .file_path(path.clone())
            .record_count(rows)
            .file_size_in_bytes(bytes);
        self.commit(file, Operation::Append).await;
        path
    }

    /// Deletes rows of a file by their places in it.
    pub(crate) async fn delete_places(&mut self, path: &str, places: &[i64]) {
        let paths: StringArray = places.iter().map(|_| Some(path)).collect();
        let columns: [Column; 2] = [
            ("file_path", FILE_PATH, Arc::new(paths)),
            ("pos", POSITION, Arc::new(Int64Array::from(places.to_vec()))),
        ];
        let (path, bytes, rows) = self.file(&columns, 1000);
        let mut file = DataFileBuilder::default();
        file.content(DataContentType::PositionDeletes)
            .file_path(path)
            .record_count(rows)
            .file_size_in_bytes(bytes);
        self.commit(file, Operation::Delete).await;
    }

    /// Deletes rows with these numbers.
    pub(crate) async fn delete_ids(&mut self, ids: &[i32]) {
        let columns: [Column; 1] = [("id", 1, Arc::new(Int32Array::from(ids.to_vec())))];
        let (path, bytes, rows) = self.file(&columns, 1000);
        let mut file = DataFileBuilder::default();
        file.content(DataContentType::EqualityDeletes)
            .file_path(path)
            .record_count(rows)
            .file_size_in_bytes(bytes)
            .equality_ids(Some(vec![1]));
        self.commit(file, Operation::Delete).await;
    }

    async fn commit(&mut self, mut file: DataFileBuilder, operation: Operation) {
        let file: DataFile = file.file_format(DataFileFormat::Parquet).partition_spec_id(0).build().unwrap();
        let sequence = self.metadata.next_sequence_number();
        let parent = self.metadata.current_snapshot().map(|snapshot| snapshot.snapshot_id());
        let id = 1000 + sequence;
        let manifest = format!("file://{}", self.path("metadata/manifest", "avro"));
        let writer = ManifestWriterBuilder::new(
            self.files.new_output(manifest).unwrap(),
            Some(id),
            Arc::clone(self.metadata.current_schema()),
            PartitionSpec::unpartition_spec(),
        );
        let mut writer = match file.content_type() {
            DataContentType::Data => writer.build_v2_data(),
            _ => writer.build_v2_deletes(),
        };
        writer.add_file(file, sequence).unwrap();
        self.manifests.push(writer.write_manifest_file().await.unwrap());
        let list = format!("file://{}", self.path("metadata/snapshot", "avro"));
        let output = self.files.new_output(&list).unwrap().writer().await.unwrap();
        let mut writer = ManifestListWriter::v2(output, id, parent, sequence);
        writer.add_manifests(self.manifests.iter().cloned()).unwrap();
        writer.close().await.unwrap();
        // As the list has them: with the sequence number that they got there.
        for manifest in &mut self.manifests {
            if manifest.added_snapshot_id == id {
                (manifest.sequence_number, manifest.min_sequence_number) = (sequence, sequence);
            }
        }
        let snapshot = Snapshot::builder()
            .with_snapshot_id(id)
            .with_parent_snapshot_id(parent)
            .with_sequence_number(sequence)
            .with_timestamp_ms(self.metadata.last_updated_ms() + 1)
            .with_manifest_list(list)
            .with_summary(Summary { operation, additional_properties: HashMap::new() })
            .with_schema_id(self.metadata.current_schema_id())
            .build();
        self.metadata = self
            .metadata
            .clone()
            .into_builder(None)
            .set_branch_snapshot(snapshot, "main")
            .unwrap()
            .build()
            .unwrap()
            .metadata;
    }

    /// `id` becomes a number of 64 bits, `text` is called `words`, and `weight` is new.
    pub(crate) fn evolve(&mut self) {
        let evolved = schema(vec![
            optional(1, "id", PrimitiveType::Long),
            optional(2, "words", PrimitiveType::String),
            optional(3, "weight", PrimitiveType::Long),
        ]);
        let builder = self.metadata.clone().into_builder(None);
        self.metadata = builder.add_current_schema(evolved).unwrap().build().unwrap().metadata;
    }

    /// Snapshots and schemas but the current ones are forgotten, as catalogs do; the files stay.
    pub(crate) fn expire(&mut self) {
        let mut json = self.json();
        for (list, id, current) in [
            ("snapshots", "snapshot-id", "current-snapshot-id"),
            ("snapshot-log", "snapshot-id", "current-snapshot-id"),
            ("schemas", "schema-id", "current-schema-id"),
        ] {
            let current = json[current].clone();
            json[list].as_array_mut().unwrap().retain(|one| one[id] == current);
        }
        self.metadata = serde_json::from_value(json).unwrap();
    }

    /// The metadata as it is now.
    pub(crate) fn json(&self) -> Value {
        serde_json::to_value(&self.metadata).unwrap()
    }

    /// Writes the metadata file; its URI.
    pub(crate) fn save(&mut self) -> String {
        let path = self.path("metadata/table", "metadata.json");
        std::fs::write(&path, self.json().to_string()).unwrap();
        format!("file://{path}")
    }
}

/// Rows of both columns.
pub(crate) fn rows(ids: std::ops::Range<i32>) -> Vec<Column> {
    let texts: StringArray = ids.clone().map(|id| Some(format!("row {id}"))).collect();
    vec![("id", 1, Arc::new(Int32Array::from_iter_values(ids)) as ArrayRef), ("text", 2, Arc::new(texts))]
}

/// What a catalog tells at the moment, of any table.
#[derive(Default)]
pub(crate) struct Told {
    /// Answer to whoever loads a table.
    pub(crate) answer: Mutex<(StatusCode, Value)>,
    /// What they want to be handed out with the table.
    pub(crate) delegations: Mutex<Vec<String>>,
    /// Paths and authorizations of the requests.
    pub(crate) asked: Mutex<Vec<(String, String)>>,
}

impl Told {
    pub(crate) fn tell(&self, status: StatusCode, answer: Value) {
        *self.answer.lock().unwrap() = (status, answer);
    }
}

/// The answer of a REST catalog.
pub(crate) fn rest(lake: &mut Lake) -> Value {
    json!({ "metadata-location": lake.save(), "metadata": lake.json(), "config": {} })
}

/// A REST catalog and Glue at one port; its URL.
pub(crate) async fn catalog(told: Arc<Told>) -> String {
    async fn table(
        State(told): State<Arc<Told>>,
        request: axum::extract::Request,
    ) -> (StatusCode, [(&'static str, &'static str); 1], String) {
        let header = |headers: &HeaderMap, name: &str| {
            headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
        };
        let path = request.uri().to_string() + &header(request.headers(), "x-amz-target");
        let delegation = header(request.headers(), "x-iceberg-access-delegation");
        told.delegations.lock().unwrap().push(delegation);
        told.asked.lock().unwrap().push((path, header(request.headers(), "authorization")));
        let (status, answer) = told.answer.lock().unwrap().clone();
        (status, [("content-type", "application/json")], answer.to_string())
    }
    let config = || async { axum::Json(json!({ "defaults": {}, "overrides": { "prefix": "p" } })) };
    let router = Router::new()
        .route("/v1/config", get(config))
        .route("/v1/p/namespaces/{namespace}/tables/{table}", get(table))
        .route("/", post(table))
        .with_state(told);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    url
}

/// The column's type where rows are read.
pub(crate) fn types(schema: &ArrowSchema) -> Vec<(String, DataType)> {
    schema.fields().iter().map(|field| (field.name().clone(), field.data_type().clone())).collect()
}
