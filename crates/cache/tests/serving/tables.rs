//! Iceberg tables: deletes, schemas that changed, snapshots, and catalogs.

use std::path::Path;
use std::sync::Arc;

use axum::http::StatusCode;
use serde_json::json;
use trainerd_cache::arrow::{Array as _, AsArray as _, DataType, Int64Array, StringArray, types as of};

use crate::group::{Group, rows as count};
use crate::lake::{Column, Lake, Told, catalog, rest, rows, types};

/// Variables of a table by its metadata file.
fn by_file(metadata: &str) -> Vec<(&'static str, String)> {
    vec![
        ("SOURCE_URI", String::new()),
        ("METADATA_LOC", metadata.to_owned()),
        ("SCHEMA_NAME", "s.n".to_owned()),
        ("TABLE_NAME", "t".to_owned()),
    ]
}

fn by_catalog(url: &str, kind: &str) -> Vec<(&'static str, String)> {
    let mut variables = by_file("");
    variables.extend([("CATALOG_URI", url.to_owned()), ("CATALOG_TYPE", kind.to_owned())]);
    variables
}

async fn start(variables: &[(&'static str, String)]) -> Group {
    Group::start(Path::new("/nowhere"), &borrowed(variables), 2).await
}

fn borrowed<'a>(variables: &'a [(&'static str, String)]) -> Vec<(&'static str, &'a str)> {
    variables.iter().map(|(name, value)| (*name, value.as_str())).collect()
}

async fn ids(group: &Group) -> Vec<i32> {
    let batches = group.read(0, 1, &[]).await.unwrap();
    let mut ids: Vec<i32> = batches
        .iter()
        .flat_map(|batch| {
            batch.column_by_name("id").unwrap().as_primitive::<of::Int32Type>().values().to_vec()
        })
        .collect();
    ids.sort_unstable();
    ids
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_were_deleted_are_neither_served_nor_counted() {
    let folder = tempfile::tempdir().unwrap();
    let mut lake = Lake::new(folder.path());
    let first = lake.add(&rows(0..100), 30).await;
    lake.add(&rows(100..300), 30).await;
    lake.delete_places(&first, &[0, 31, 99]).await;
    lake.delete_ids(&[5, 150, 299]).await;
    // Rows that come after a delete are not met by it.
    lake.add(&rows(5..6), 30).await;
    let mut live: Vec<i32> = (0..300).filter(|id| ![0, 31, 99, 5, 150, 299].contains(id)).collect();
    live.push(5);
    live.sort_unstable();
    let metadata = lake.save();
    for unit in ["file", "rowgroup"] {
        let mut variables = by_file(&metadata);
        variables.push(("UNIT", unit.to_owned()));
        let group = start(&variables).await;
        assert_eq!(ids(&group).await, live, "{unit}");
        // No tail comes short: every part has its share of the rows that live.
        let mut parts = Vec::new();
        for partition in 0..5 {
            parts.push(count(&group.read(partition, 5, &["split=even"]).await.unwrap()));
        }
        assert_eq!(parts, [59; 5], "{unit}: {} rows", live.len());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_that_changed_is_that_of_the_snapshot_for_old_files_too() {
    let folder = tempfile::tempdir().unwrap();
    let mut lake = Lake::new(folder.path());
    lake.add(&rows(0..50), 20).await;
    let old = lake.json()["current-snapshot-id"].to_string();
    lake.evolve();
    let new: Vec<Column> = vec![
        ("id", 1, Arc::new(Int64Array::from(vec![1 << 40]))),
        ("words", 2, Arc::new(StringArray::from(vec!["new"]))),
        ("weight", 3, Arc::new(Int64Array::from(vec![7]))),
    ];
    lake.add(&new, 20).await;
    let metadata = lake.save();
    let group = start(&by_file(&metadata)).await;
    let batches = group.read(0, 1, &[]).await.unwrap();
    assert_eq!(count(&batches), 51);
    let evolved = [("id", DataType::Int64), ("words", DataType::Utf8), ("weight", DataType::Int64)];
    let evolved = evolved.map(|(name, kind)| (name.to_owned(), kind));
    assert_eq!(types(&batches[0].schema()), evolved);
    let mut weights: Vec<Option<i64>> = Vec::new();
    let mut widest = 0;
    for batch in &batches {
        weights.extend(batch.column(2).as_primitive::<of::Int64Type>().iter());
        widest = widest
            .max(batch.column(0).as_primitive::<of::Int64Type>().values().iter().copied().max().unwrap());
        assert_eq!(batch.column(1).null_count(), 0, "what was renamed is read by its id");
    }
    weights.sort_unstable();
    assert_eq!((weights[0], weights[50], widest), (None, Some(7), 1 << 40));
    let mut pinned = by_file(&metadata);
    pinned.push(("SNAPSHOT_ID", old));
    let group = start(&pinned).await;
    let batches = group.read(0, 1, &[]).await.unwrap();
    assert_eq!((count(&batches), batches[0].num_columns()), (50, 2), "the snapshot has its own schema");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_table_is_served_as_one() {
    let folder = tempfile::tempdir().unwrap();
    let metadata = Lake::new(folder.path()).save();
    let group = start(&by_file(&metadata)).await;
    let refused = group.read(0, 1, &[]).await.unwrap_err();
    assert_eq!((refused.code(), refused.message()), (tonic::Code::OutOfRange, "Invalid partition range"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rest_catalog_names_the_table_and_a_commit_meanwhile_changes_nothing() {
    let (folder, token) = (tempfile::tempdir().unwrap(), tempfile::NamedTempFile::new().unwrap());
    std::fs::write(token.path(), "sesame\n").unwrap();
    let mut lake = Lake::new(folder.path());
    lake.add(&rows(0..100), 30).await;
    lake.add(&rows(100..200), 30).await;
    let told = Arc::new(Told::default());
    told.tell(StatusCode::OK, rest(&mut lake));
    let url = catalog(Arc::clone(&told)).await;
    let mut variables = by_catalog(&url, "rest");
    variables.push(("CATALOG_TOKEN_FILE", token.path().display().to_string()));
    variables.push(("CATALOG_WAREHOUSE", "house".to_owned()));
    let mut group = start(&variables).await;
    assert_eq!(ids(&group).await, (0..200).collect::<Vec<_>>());
    let asked = told.asked.lock().unwrap().clone();
    // Levels of a namespace are separated by a byte that no name has.
    let path = "/v1/p/namespaces/s%1Fn/tables/t".to_owned();
    assert!(asked.contains(&(path, "Bearer sesame".to_owned())), "{asked:?}");
    assert!(told.delegations.lock().unwrap().iter().all(|asked| asked == "vended-credentials"));
    lake.add(&rows(200..300), 30).await;
    told.tell(StatusCode::OK, rest(&mut lake));
    group.stop(0);
    group.until(|status| status.state == "Degraded").await;
    group.restart(0);
    group.until(|status| status.state == "Ready").await;
    assert_eq!(ids(&group).await, (0..200).collect::<Vec<_>>(), "the snapshot of the plan");
}

#[tokio::test(flavor = "multi_thread")]
async fn glue_names_the_metadata_file_to_whoever_signs() {
    let folder = tempfile::tempdir().unwrap();
    let mut lake = Lake::new(folder.path());
    lake.add(&rows(0..100), 30).await;
    let told = Arc::new(Told::default());
    let parameters = json!({ "metadata_location": lake.save(), "table_type": "ICEBERG" });
    told.tell(StatusCode::OK, json!({ "Table": { "Name": "t", "Parameters": parameters } }));
    let url = catalog(Arc::clone(&told)).await;
    let group = start(&by_catalog(&url, "glue")).await;
    assert_eq!(ids(&group).await, (0..100).collect::<Vec<_>>());
    let (path, authorization) = told.asked.lock().unwrap()[0].clone();
    assert_eq!(path, "/AWSGlue.GetTable");
    let scope = "/us-east-1/glue/aws4_request";
    assert!(
        authorization.starts_with("AWS4-HMAC-SHA256") && authorization.contains(scope),
        "{authorization}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_catalog_refuses_is_said_and_what_may_pass_is_tried_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut lake = Lake::new(folder.path());
    lake.add(&rows(0..100), 30).await;
    let missing = json!({ "error": { "message": "no table", "type": "NoSuchTableException", "code": 404 } });
    let glue = json!({ "__type": "EntityNotFoundException", "Message": "no table" });
    for (kind, status, answer, state) in [
        ("rest", 404, &missing, "Failed"),
        ("rest", 403, &missing, "Failed"),
        ("rest", 503, &missing, "Resolving"),
        ("glue", 400, &glue, "Failed"),
        ("glue", 500, &json!({}), "Resolving"),
    ] {
        let told = Arc::new(Told::default());
        told.tell(StatusCode::from_u16(status).unwrap(), answer.clone());
        let variables = by_catalog(&catalog(Arc::clone(&told)).await, kind);
        let group = Group::begin(Path::new("/nowhere"), &borrowed(&variables), 1).await;
        let is_so = |given: &trainerd_cache::head::HeadStatus| {
            given.state == state
                && given.reason.as_ref().is_some_and(|reason| reason.contains("failed to ask"))
        };
        group.until(is_so).await;
        if state == "Resolving" {
            let good = match kind {
                "rest" => rest(&mut lake),
                _ => json!({ "Table": { "Parameters": { "metadata_location": lake.save() } } }),
            };
            told.tell(StatusCode::OK, good);
            group.until(|status| status.state == "Ready").await;
        }
    }
}
