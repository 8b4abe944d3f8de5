//! A head and its workers in one process, read over loopback as clients read them.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, its helpers included")]

mod actions;
mod fuzz;
mod group;
mod lake;
mod pushed;
mod refused;
mod secured;
mod tables;
mod traces;
mod upstream;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow_flight::{FlightDescriptor, Ticket};
use futures::TryStreamExt as _;
use group::{Group, config, ids, rows, stores, write};
use tonic::Code;
use trainerd_cache::chunks::{Chunks, Limits};
use trainerd_cache::config::PrefetchLimits;
use trainerd_cache::plan::Unit;
use trainerd_cache::source::{Batches, Kind, UnitReader, open};

#[tokio::test(flavor = "multi_thread")]
async fn every_row_is_read_once_whatever_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    write(&folder.path().join("a.parquet"), 0..700, 100);
    write(&folder.path().join("b.parquet"), 700..1000, 100);
    write(&folder.path().join("empty.parquet"), 0..0, 100);
    let group = Group::start(folder.path(), &[], 2).await;
    for options in [
        &[][..],
        &["batch=64"],
        &["columns=id"],
        &["shuffle=block", "block=30", "seed=7"],
        &["shuffle=block+rows", "block=30", "seed=7", "epoch=3", "batch=11"],
        &["split=even", "shuffle=block+rows", "block=64"],
    ] {
        for partitions in [1, 3, 8] {
            let mut seen = Vec::new();
            for partition in 0..partitions {
                seen.extend(ids(&group.read(partition, partitions, options).await.unwrap()));
            }
            if options.is_empty() {
                assert!(seen.is_sorted(), "rows come in the order of the index");
            }
            seen.sort_unstable();
            assert!(seen.into_iter().eq(0..1000), "{options:?}, {partitions} partitions");
        }
    }
    let batches = group.read(0, 1, &["batch=64"]).await.unwrap();
    assert!(batches.iter().all(|batch| batch.num_rows() <= 64));
    for options in [&["shuffle=block", "block=30"][..], &["shuffle=block+rows", "block=30"]] {
        let mut positions = group.positions(0, 1, options).await;
        positions.sort_unstable();
        let mut next = 0;
        for (start, end) in positions {
            assert_eq!(start, next, "{options:?}");
            next = end + 1;
        }
        assert_eq!(next, 1000, "messages name the position of every row");
    }
    let batches = group.read(0, 1, &["skip=990", "columns=id"]).await.unwrap();
    assert_eq!(ids(&batches), (990..1000).collect::<Vec<_>>());
    assert_eq!(batches[0].num_columns(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn strided_readers_go_on_together_whatever_their_number() {
    let folder = tempfile::tempdir().unwrap();
    write(&folder.path().join("a.parquet"), 0..700, 100);
    write(&folder.path().join("b.parquet"), 700..1000, 100);
    let group = Group::start(folder.path(), &[], 2).await;
    for shuffle in [&[][..], &["shuffle=block", "block=60", "seed=7"], &["shuffle=block+rows", "block=60"]] {
        let read = async |partitions: u64, start: u64| {
            let mut read = Vec::new();
            for partition in 0..partitions {
                let start = format!("start={start}");
                let options = [&["split=strided", "batch=20", &start][..], shuffle].concat();
                let batches = group.read(partition, partitions, &options).await.unwrap();
                assert!(batches.iter().all(|batch| batch.num_rows() <= 20));
                read.push(ids(&batches));
            }
            read
        };
        let mut all = read(3, 0).await.concat();
        all.sort_unstable();
        assert!(all.into_iter().eq(0..1000), "{shuffle:?}");
        // After four steps of three readers, five others go on: every row once.
        let mut seen: Vec<i64> = Vec::new();
        for partition in 0..3 {
            for step in 0..4 {
                let skip = format!("skip={}", step * 20);
                let options = [&["split=strided", "batch=20", &skip][..], shuffle].concat();
                let mut batches = group.read(partition, 3, &options).await.unwrap();
                // Workers are read one after the other; the positions say which batch comes first.
                let mut positions = group.positions(partition, 3, &options).await;
                assert_eq!(positions.len(), batches.len());
                let first = (0..positions.len()).min_by_key(|place| positions[*place].0).unwrap();
                let batch = batches.swap_remove(first);
                let (start, end) = positions.swap_remove(first);
                assert_eq!(end - start + 1, batch.num_rows() as u64);
                seen.extend(ids(&[batch]));
            }
        }
        assert_eq!(seen.len(), 240, "{shuffle:?}");
        seen.extend(read(5, 240).await.concat());
        seen.sort_unstable();
        assert!(seen.into_iter().eq(0..1000), "{shuffle:?}");
    }
    let refused = group.read(0, 1, &["split=strided"]).await.unwrap_err();
    assert_eq!(refused.message(), "option split=strided needs batch");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_chooses_rows_and_the_head_counts_them_once() {
    let folder = tempfile::tempdir().unwrap();
    write(&folder.path().join("a.parquet"), 0..700, 100);
    write(&folder.path().join("b.parquet"), 700..1000, 100);
    let filter = [("FILTER", "id >= 90 and (id < 110 or id in (500, 999)) and text is not null")];
    let expected: Vec<i64> = (90..110).chain([500, 999]).filter(|id| id % 3 > 0).collect();
    let group = Group::start(folder.path(), &filter, 2).await;
    for partitions in [1, 2, 4] {
        let mut seen = Vec::new();
        for partition in 0..partitions {
            seen.extend(ids(&group.read(partition, partitions, &[]).await.unwrap()));
        }
        assert_eq!(seen, expected, "{partitions}");
    }
    // The filter's column is none of the dataset's.
    let group = Group::start(folder.path(), &[filter[0], ("COLUMNS", "text")], 2).await;
    let batches = group.read(0, 1, &[]).await.unwrap();
    assert_eq!((rows(&batches), batches[0].num_columns()), (expected.len(), 1));
    let rest = group.read(0, 1, &["skip=3"]).await.unwrap();
    assert_eq!(rows(&rest), expected.len() - 3);
    // Counts that somebody else made are taken as they are.
    let config = config(folder.path(), &filter);
    let counted = open(&config, &stores(), 2, &[]).await.unwrap();
    let told = open(&config, &stores(), 2, counted.plan.units()).await.unwrap();
    assert_eq!(told.plan.id(), counted.plan.id());
    let nothing = Group::start(folder.path(), &[("FILTER", "id < 0")], 2).await;
    assert_eq!(nothing.read(0, 1, &[]).await.unwrap_err().code(), Code::OutOfRange);
    for (filter, text) in [
        ("ids = 1", "no column \"ids\"; did you mean \"id\"?"),
        ("text > 1", "the column \"text\" is Utf8, and 1 is no such value"),
    ] {
        let group = Group::begin(folder.path(), &[("FILTER", filter)], 1).await;
        group.until(|status| status.state == "Failed" && status.reason.as_deref() == Some(text)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_who_want_the_same_rows_read_them_from_the_source_once() {
    let folder = tempfile::tempdir().unwrap();
    write(&folder.path().join("a.parquet"), 0..500_000, 500_000);
    let mut dataset = open(&config(folder.path(), &[]), &stores(), 1, &[]).await.unwrap();
    let reads: Arc<AtomicU64> = Arc::default();
    dataset.reader = Arc::new(Counting { inner: dataset.reader, reads: Arc::clone(&reads) });
    let prefetch = PrefetchLimits::default();
    let limits = Limits { memory: 256 << 20, loads: 8, message_bytes: 2 << 20, prefetch };
    let chunks = Arc::new(Chunks::new(dataset, limits, None));
    let scans = (0..12).map(|_| {
        let chunks = Arc::clone(&chunks);
        tokio::spawn(async move {
            let scan = chunks.scan(0, opentelemetry::Context::new());
            let mut row = 0;
            while row < 500_000 {
                let (first, chunk) = scan.chunk(row).await.unwrap();
                row = first + chunk.frames().map(|(_, frame)| frame.rows()).sum::<u64>();
            }
            row
        })
    });
    let rows = futures::future::join_all(scans).await;
    assert!(rows.into_iter().all(|rows| rows.unwrap() == 500_000));
    let counts = chunks.counts();
    let each = 500_000_u64.div_ceil(chunks.chunk_rows().await.unwrap());
    assert!(each > 1, "one chunk shows nothing");
    assert_eq!(counts.misses.load(Ordering::Relaxed), each);
    let others = counts.hits.load(Ordering::Relaxed) + counts.shared.load(Ordering::Relaxed);
    assert_eq!(others, each * 11);
    // One look at the first rows, and one reader that was handed on from chunk to chunk.
    assert_eq!(reads.load(Ordering::Relaxed), 2);
}

/// Counts how often the source is read from.
struct Counting {
    inner: Arc<dyn UnitReader>,
    reads: Arc<AtomicU64>,
}

#[async_trait::async_trait]
impl UnitReader for Counting {
    async fn read(
        &self,
        unit: &Unit,
        from: u64,
        batch_rows: usize,
    ) -> Result<Batches, trainerd_cache::source::Error> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.inner.read(unit, from, batch_rows).await
    }

    fn held_bytes(&self, unit: &Unit) -> u64 {
        self.inner.held_bytes(unit)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_for_those_who_have_the_token_and_head_and_workers_have_it() {
    let folder = tempfile::tempdir().unwrap();
    write(&folder.path().join("a.parquet"), 0..50, 10);
    let secret = tempfile::tempdir().unwrap();
    let path = secret.path().join("token");
    std::fs::write(&path, "sesame\n").unwrap();
    let group = Group::start(folder.path(), &[("AUTH_TOKEN_FILE", path.to_str().unwrap())], 2).await;
    let status = group.read(0, 1, &[]).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Unauthenticated, "missing or invalid token"));
    let with = |token: &str, message| {
        let mut request = tonic::Request::new(message);
        request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        request
    };
    let descriptor = FlightDescriptor::new_path(vec!["0".into(), "1".into()]);
    let mut head = group::client(&group.head());
    let refused = head.get_flight_info(with("other", descriptor.clone())).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    let info = head.get_flight_info(with("sesame", descriptor)).await.unwrap().into_inner();
    let ticket = info.endpoint[0].ticket.clone().unwrap();
    let mut worker = group::client(&group.worker(0));
    let with = |token: &str, message| {
        let mut request = tonic::Request::new(message);
        request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        request
    };
    assert_eq!(worker.do_get(ticket.clone()).await.unwrap_err().code(), Code::Unauthenticated);
    let mut messages = worker.do_get(with("sesame", ticket.clone())).await.unwrap().into_inner();
    assert!(messages.try_next().await.unwrap().is_some());
    // A ticket of the head's, changed on the way.
    let mut changed = ticket.ticket.to_vec();
    let place = changed.len() - 40;
    changed[place] ^= 1;
    let changed = worker.do_get(with("sesame", Ticket { ticket: changed.into() })).await.unwrap_err();
    assert!(matches!(changed.code(), Code::Unauthenticated | Code::InvalidArgument), "{changed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_wrongly_is_refused_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    write(&folder.path().join("a.parquet"), 0..5, 100);
    let group = Group::start(folder.path(), &[], 1).await;
    for (partition, partitions, option, code, text) in [
        (3, 4, None, Code::OutOfRange, "Invalid partition range"),
        (9, 4, None, Code::OutOfRange, "Invalid partition range"),
        (0, 0, None, Code::OutOfRange, "Invalid partition range"),
        (0, 1, Some("columns=ids"), Code::InvalidArgument, "no column \"ids\"; did you mean \"id\"?"),
        (
            0,
            1,
            Some("batch=x"),
            Code::InvalidArgument,
            "invalid value \"x\" of option batch; must be a number of rows, at least 1",
        ),
    ] {
        let options: Vec<&str> = option.into_iter().collect();
        let status = group.read(partition, partitions, &options).await.unwrap_err();
        assert_eq!((status.code(), status.message()), (code, text));
    }
    let mut worker = group::client(&group.worker(0));
    let status = worker.do_get(Ticket { ticket: vec![0xFF].into() }).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::InvalidArgument, "Invalid ticket format"));
    let status = worker.get_flight_info(FlightDescriptor::default()).await.unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_without_rows_is_ready_and_so_is_an_empty_table() {
    let folder = tempfile::tempdir().unwrap();
    write(&folder.path().join("a.parquet"), 0..5, 100);
    let group = Group::start(folder.path(), &[], 3).await;
    assert_eq!(ids(&group.read(0, 1, &[]).await.unwrap()), (0..5).collect::<Vec<_>>());
    let empty = tempfile::tempdir().unwrap();
    write(&empty.path().join("a.parquet"), 0..0, 100);
    let group = Group::start(empty.path(), &[], 2).await;
    assert_eq!(group.read(0, 1, &[]).await.unwrap_err().code(), Code::OutOfRange);
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_a_worker_that_goes_are_served_by_the_others_and_come_back_with_it() {
    let folder = tempfile::tempdir().unwrap();
    for file in 0..8 {
        write(&folder.path().join(format!("{file}.parquet")), file * 50..file * 50 + 50, 10);
    }
    let mut group = Group::start(folder.path(), &[], 2).await;
    assert_eq!(group.endpoints(0, 1).await.len(), 2);
    group.stop(0);
    group.until(|status| status.state == "Degraded").await;
    let mut seen = ids(&group.read(0, 1, &[]).await.unwrap());
    seen.sort_unstable();
    assert!(seen.into_iter().eq(0..400));
    assert_eq!(group.endpoints(0, 1).await.len(), 1);
    group.restart(0);
    group.until(|status| status.state == "Ready").await;
    assert_eq!(group.endpoints(0, 1).await.len(), 2);
    assert_eq!(rows(&group.read(0, 1, &[]).await.unwrap()), 400);
}

/// A pod that is gone refuses nothing: whoever connects to its address waits.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_whose_address_swallows_everything_is_down_within_seconds() {
    let folder = tempfile::tempdir().unwrap();
    for file in 0..8 {
        write(&folder.path().join(format!("{file}.parquet")), file * 50..file * 50 + 50, 10);
    }
    let mut group = Group::start(folder.path(), &[], 2).await;
    group.stop(0);
    let began = std::time::Instant::now();
    let _swallowing = group::swallow(&group.worker(0)).await;
    group.until(|status| status.state == "Degraded").await;
    assert!(began.elapsed() < std::time::Duration::from_secs(8), "{:?}", began.elapsed());
    assert_eq!(rows(&group.read(0, 1, &[]).await.unwrap()), 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_changes_under_the_cache_is_an_error_and_never_mixed_data() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.parquet");
    write(&file, 0..1000, 100);
    let mut group = Group::start(folder.path(), &[], 1).await;
    let dataset = open(&config(folder.path(), &[]), &stores(), 1, &[]).await.unwrap();
    group.stop(0);
    write(&file, 5000..6000, 100);
    // Whoever pinned the file before reads nothing of what it is now.
    let read = async { dataset.reader.read(&dataset.plan.units()[0], 0, 8192).await?.try_next().await };
    assert_eq!(read.await.unwrap_err().kind(), Kind::Changed);
    // A worker that starts over it makes another plan than its head, and serves nothing.
    group.restart(0);
    group
        .until(|status| {
            let reason = status.workers[0].reason.as_deref().unwrap_or_default();
            reason.starts_with("WorkerFailed(0): ")
                && reason.contains("the source changed: the head's plan is ")
        })
        .await;
    assert_eq!(group.read(0, 1, &[]).await.unwrap_err().code(), Code::Unavailable);
}

#[tokio::test(flavor = "multi_thread")]
async fn upstreams_assignment_and_tickets_are_served_in_its_mode() {
    let folder = tempfile::tempdir().unwrap();
    for (file, range) in [("a", 0..20), ("b", 20..35), ("c", 35..45), ("d", 45..50)] {
        write(&folder.path().join(format!("{file}.parquet")), range, 100);
    }
    let group = Group::start(folder.path(), &[("CACHE_COMPATIBILITY", "upstream")], 2).await;
    let endpoints = group.endpoints(0, 1).await;
    // The two integers and nothing else.
    assert!(endpoints.iter().all(|endpoint| endpoint.ticket.as_ref().unwrap().ticket[..] == [0, 49]));
    // The largest goes first: {a, d} and {b, c}, so that the second worker begins at row 25.
    let read = ids(&group.read(0, 1, &[]).await.unwrap());
    assert_eq!(read[..25], [(0..20).collect::<Vec<_>>(), (45..50).collect()].concat());
    assert_eq!(read[25..], (20..45).collect::<Vec<_>>());
}
