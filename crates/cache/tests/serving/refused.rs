//! Sources that cannot be served, and what is said of them.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use tonic::Code;
use trainerd_cache::arrow::{DataType, Field, Int64Array, RecordBatch, Schema, StringArray};

use crate::group::{Group, save, write, write_other};

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_cannot_be_served_says_why() {
    /// What is put into the folder, and what is said of it.
    type Case = (fn(&Path), &'static str);
    let cases: [Case; 3] = [
        (|folder| write(&folder.join("_SUCCESS.parquet"), 0..1, 1), "has no file that can be read"),
        (
            |folder| {
                write(&folder.join("a.parquet"), 0..10, 10);
                let bytes = std::fs::read(folder.join("a.parquet")).unwrap();
                std::fs::write(folder.join("b.parquet"), &bytes[..bytes.len() / 2]).unwrap();
            },
            "failed to decode",
        ),
        (
            |folder| {
                write(&folder.join("a.parquet"), 0..10, 10);
                write_other(&folder.join("b.parquet"));
            },
            "it has no column \"id\"",
        ),
    ];
    for (prepare, text) in cases {
        let folder = tempfile::tempdir().unwrap();
        prepare(folder.path());
        let group = Group::begin(folder.path(), &[], 1).await;
        group.until(|status| status.state == "Failed").await;
        let status = group.read(0, 1, &[]).await.unwrap_err();
        assert_eq!(status.code(), Code::Unavailable);
        assert!(status.message().starts_with("cache is not ready: "), "{}", status.message());
        assert!(status.message().contains(text), "{}", status.message());
    }
}

#[test]
fn a_configuration_that_does_not_fit_the_source_ends_the_head() {
    let folder = tempfile::tempdir().unwrap();
    write(&folder.path().join("a.parquet"), 0..10, 10);
    let reserved = tempfile::tempdir().unwrap();
    let schema = Schema::new(vec![Field::new("cache_index", DataType::Int64, false)]);
    let column = Arc::new(Int64Array::from_iter_values(0..3));
    save(
        &reserved.path().join("a.parquet"),
        &RecordBatch::try_new(Arc::new(schema), vec![column]).unwrap(),
        10,
    );
    let conflict = "error: Source schema already contains a column named 'cache_index'. This conflicts with the cache \
                    index column added by the data cache worker.\n";
    for (source, variable, text) in [
        (&reserved, ("COLUMNS", ""), conflict),
        (&folder, ("COLUMNS", "idd"), "error: no column \"idd\"; did you mean \"id\"?\n"),
        (&folder, ("FILTER", "idd = 1"), "no column \"idd\""),
        (&folder, ("FILTER", "id = 'one'"), "id"),
    ] {
        let head = Command::new(env!("CARGO_BIN_EXE_trainerd-cache"))
            .args(["head", "127.0.0.1", "0"])
            .env("SOURCE_URI", source.path())
            .envs([("RUNTIME_ENV", "local"), ("HEALTH_PORT", "0"), ("RUST_LOG", "off"), variable])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let output = head.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{variable:?}: {said}");
        assert!(said.contains(text), "{variable:?}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_is_larger_than_may_be_decoded_is_named_with_both_sizes() {
    let folder = tempfile::tempdir().unwrap();
    let schema = Arc::new(Schema::new(vec![Field::new("text", DataType::Utf8, false)]));
    let texts = StringArray::from_iter_values(["a".to_owned(), "b".repeat(41 << 20), "c".to_owned()]);
    save(&folder.path().join("a.parquet"), &RecordBatch::try_new(schema, vec![Arc::new(texts)]).unwrap(), 10);
    let group = Group::start(folder.path(), &[("MEMORY_LIMIT", "256Mi")], 1).await;
    let status = group.read(0, 1, &[]).await.unwrap_err();
    let said = status.message();
    assert!(said.starts_with("row 1 of ") && said.contains("a.parquet has 42991"), "{said}");
    assert!(said.contains("30828120 bytes may be decoded at a time; raise MEMORY_LIMIT"), "{said}");
}
