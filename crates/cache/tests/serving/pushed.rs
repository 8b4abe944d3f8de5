//! What a filter does not select is not even read: damage there is not met.

use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;

use parquet::file::reader::{FileReader as _, SerializedFileReader};
use trainerd_cache::arrow::{AsArray as _, Int64Array, StringArray, types::Int32Type};

use crate::group::{Group, ids, write};
use crate::lake::{Column, Lake, rows};

/// Overwrites a column of a row group.
fn damage(path: &Path, group: usize, column: usize) {
    let file = std::fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let footer = SerializedFileReader::new(file.try_clone().unwrap()).unwrap().metadata().clone();
    let (start, length) = footer.row_group(group).column(column).byte_range();
    file.write_all_at(&vec![0xff; usize::try_from(length).unwrap()], start).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn row_groups_that_cannot_have_selected_rows_are_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.parquet");
    write(&path, 0..500, 100);
    for group in [0, 1, 2, 4] {
        damage(&path, group, 0);
    }
    for unit in ["file", "rowgroup"] {
        let filter = "id >= 300 and id <= 399 and not text is null";
        let group = Group::start(folder.path(), &[("FILTER", filter), ("UNIT", unit)], 2).await;
        let expected: Vec<i64> = (300..400).filter(|id| id % 3 > 0).collect();
        assert_eq!(ids(&group.read(0, 1, &[]).await.unwrap()), expected, "{unit}");
        // Skipping counts rows that are selected.
        let rest = group.read(0, 1, &["skip=50"]).await.unwrap();
        assert_eq!(ids(&rest), expected[50..], "{unit}");
    }
    let group = Group::begin(folder.path(), &[("FILTER", "id >= 299")], 1).await;
    group.until(|status| status.state == "Failed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_are_not_decoded_for_rows_that_are_not_selected() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.parquet");
    write(&path, 0..500, 100);
    damage(&path, 2, 1);
    // By its bounds, the row group may have such rows.
    let filter = "id in (0, 310, 499) or (id = 250 and id != 250)";
    let group = Group::start(folder.path(), &[("FILTER", filter)], 2).await;
    assert_eq!(ids(&group.read(0, 1, &[]).await.unwrap()), [0, 310, 499]);
}

#[tokio::test(flavor = "multi_thread")]
async fn row_groups_of_a_table_that_cannot_have_selected_rows_are_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let mut lake = Lake::new(folder.path());
    let old = lake.add(&rows(0..100), 20).await;
    for group in [0, 1, 3] {
        damage(Path::new(old.trim_start_matches("file://")), group, 0);
    }
    // The column is a wider number now; the file's bounds are of the narrower one.
    lake.evolve();
    let new: Vec<Column> = vec![
        ("id", 1, Arc::new(Int64Array::from(vec![1000]))),
        ("words", 2, Arc::new(StringArray::from(vec!["new"]))),
    ];
    lake.add(&new, 20).await;
    let complete = lake.save();
    // Nothing in the metadata says any more that the column was narrower.
    lake.expire();
    let expired = lake.save();
    for (unit, metadata) in [("file", &complete), ("rowgroup", &complete), ("rowgroup", &expired)] {
        for (filter, expected) in [
            (
                "id in (45, 59) or (id >= 85 and id < 1000)",
                [45, 59].into_iter().chain(85..100).collect::<Vec<i64>>(),
            ),
            ("id >= 40 and id < 60 and words is not null", (40..60).collect()),
            // No row group of the file is read, though the manifest does not leave the file out.
            ("id = 70 and id != 70 and words = 'z'", vec![]),
        ] {
            let variables = [
                ("SOURCE_URI", ""),
                ("METADATA_LOC", metadata.as_str()),
                ("SCHEMA_NAME", "s"),
                ("TABLE_NAME", "t"),
                ("FILTER", filter),
                ("UNIT", unit),
            ];
            let group = Group::start(Path::new("/nowhere"), &variables, 2).await;
            if expected.is_empty() {
                let refused = group.read(0, 1, &[]).await.unwrap_err();
                assert_eq!(refused.code(), tonic::Code::OutOfRange, "{unit}: {filter}");
                continue;
            }
            assert_eq!(ids(&group.read(0, 1, &[]).await.unwrap()), expected, "{unit}: {filter}");
            let rest = group.read(0, 1, &["skip=3"]).await.unwrap();
            assert_eq!(ids(&rest), expected[3..], "{unit}: {filter}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_the_manifests_tell_to_have_no_selected_rows_are_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let mut lake = Lake::new(folder.path());
    let first = lake.add(&rows(0..100), 30).await;
    lake.add(&rows(100..200), 30).await;
    lake.add(&rows(200..300), 30).await;
    let metadata = lake.save();
    std::fs::remove_file(first.trim_start_matches("file://")).unwrap();
    let variables = |filter: &'static str| {
        [
            ("SOURCE_URI", String::new()),
            ("METADATA_LOC", metadata.clone()),
            ("SCHEMA_NAME", "s".to_owned()),
            ("TABLE_NAME", "t".to_owned()),
            ("FILTER", filter.to_owned()),
        ]
    };
    for (filter, expected) in [
        ("id >= 150 and text is not null", 150..300),
        ("not (id < 290 or text is null)", 290..300),
        ("id in (100, 199) or id = 250", 0..0),
    ] {
        let variables = variables(filter);
        let variables: Vec<(&str, &str)> =
            variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let group = Group::start(Path::new("/nowhere"), &variables, 2).await;
        let batches = group.read(0, 1, &[]).await.unwrap();
        let read = batches.iter().flat_map(|batch| {
            batch.column_by_name("id").unwrap().as_primitive::<Int32Type>().values().to_vec()
        });
        let mut read: Vec<i32> = read.collect();
        read.sort_unstable();
        let expected: Vec<i32> = if expected.is_empty() { vec![100, 199, 250] } else { expected.collect() };
        assert_eq!(read, expected, "{filter}");
    }
}
