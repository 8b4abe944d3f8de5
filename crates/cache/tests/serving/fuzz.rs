//! What comes from outside makes no reader panic: tickets, options, URIs, filters, footers. A sample, or as many of each
//! as `TRAINERD_FUZZ` says; a failure names its seed and number.

use std::panic::{AssertUnwindSafe, catch_unwind};

use trainerd_cache::filter::Filter;
use trainerd_cache::plan::options::Options;
use trainerd_cache::plan::ticket::{Extension, Ticket};
use trainerd_cache::source::open;
use trainerd_cache::store::{RequestPolicy, Stores, redacted};

use crate::group;

/// A small generator: the same bytes for the same seed, everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next()).unwrap() % bound.max(1)
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len())]
    }

    /// Pieces put together: near what a reader expects, and wrong somewhere.
    fn text(&mut self, pieces: &[&str]) -> String {
        let mut text = String::new();
        for _ in 0..self.below(12) {
            match self.below(8) {
                0 => {
                    text.push(char::from_u32(u32::try_from(self.next() % 0x11_0000).unwrap()).unwrap_or('?'));
                }
                1 => text.push(' '),
                _ => text.push_str(self.pick(pieces)),
            }
        }
        text
    }

    fn bytes(&mut self, most: usize) -> Vec<u8> {
        (0..self.below(most)).map(|_| self.next().to_le_bytes()[0]).collect()
    }
}

fn many() -> u64 {
    std::env::var("TRAINERD_FUZZ").ok().and_then(|text| text.parse().ok()).unwrap_or(20_000)
}

/// Tries so many inputs. The panic's own message is above the seed.
fn fuzz(name: &str, many: u64, mut try_one: impl FnMut(&mut Random)) {
    let seed = std::env::var("TRAINERD_FUZZ_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    for number in 0..many {
        let mut random = Random(seed ^ (number << 20));
        random.next();
        let tried = catch_unwind(AssertUnwindSafe(|| try_one(&mut random)));
        assert!(tried.is_ok(), "{name}: seed {seed}, number {number}");
    }
}

#[test]
fn tickets() {
    let valid = Ticket {
        range: trainerd_cache::plan::range::Range { start: 3, end: 300 },
        extension: Some(Extension {
            plan_id: vec![7; 16],
            served: vec![0, 9, 40, 49],
            positions: vec![0, 300],
            batch_rows: 8,
            stride: 24,
            skip: 5,
            ..Extension::default()
        }),
    };
    let valid = valid.encode();
    fuzz("tickets", many(), |random| {
        let mut bytes = if random.below(2) == 0 { valid.clone() } else { random.bytes(40) };
        for _ in 0..random.below(4) {
            let place = random.below(bytes.len());
            match (random.below(3), bytes.get_mut(place)) {
                (0, Some(byte)) => *byte = random.next().to_le_bytes()[0],
                (1, Some(_)) => bytes.truncate(place),
                _ => bytes.extend(random.bytes(4)),
            }
        }
        if let Ok(ticket) = Ticket::decode(&bytes) {
            assert_eq!(Ticket::decode(&ticket.encode()).as_ref(), Ok(&ticket));
            if let Some(extension) = &ticket.extension {
                let _ = (extension.plan(), extension.served(), extension.positions());
            }
        }
    });
}

#[test]
fn options() {
    let pieces = [
        "columns=",
        "batch=",
        "split=",
        "strided",
        "even",
        "shuffle=",
        "block",
        "block+rows",
        "block=",
        "seed=",
        "epoch=",
        "skip=",
        "start=",
        "0",
        "1",
        "4096",
        "18446744073709551615",
        "-1",
        "%20",
        "%ff",
        "%",
        ",",
        "=",
        "a",
    ];
    fuzz("options", many(), |random| {
        let elements: Vec<String> = (0..random.below(5)).map(|_| random.text(&pieces)).collect();
        if let Err(error) = Options::parse(&elements) {
            assert!(!error.to_string().is_empty());
        }
    });
}

#[test]
fn uris() {
    let pieces = [
        "s3://",
        "gs://",
        "az://",
        "abfs://",
        "https://",
        "file://",
        "cache://",
        "/",
        "//",
        "bucket",
        "..",
        "%2e%2e",
        "%",
        "user:secret@",
        "?token=secret",
        "#secret",
        ":",
        "[",
        "]",
        "::1",
        "é",
        "\0",
    ];
    let stores = Stores::new([], RequestPolicy { timeout: std::time::Duration::from_secs(1), retries: 0 });
    fuzz("uris", many(), |random| {
        let text = random.text(&pieces);
        let _ = stores.open(&text);
        let shown = redacted(&text);
        // A plain path has no query.
        assert!(
            text.starts_with('/') || (!shown.contains("token=secret") && !shown.contains("#secret")),
            "{text}"
        );
    });
}

#[test]
fn filters() {
    let pieces = [
        "a",
        "\"b c\"",
        "=",
        "!=",
        "<",
        "<=",
        ">",
        ">=",
        " in ",
        " not ",
        " is ",
        " null",
        " and ",
        " or ",
        "(",
        ")",
        ",",
        "1",
        "-2.5e-3",
        "'text'",
        "'",
        "\"",
        "true",
        "false",
        "date '2026-01-01'",
        "timestamp '",
        ".",
        "e",
        "-",
        "+",
        "!",
    ];
    let schema = trainerd_cache::arrow::Schema::new(vec![
        trainerd_cache::arrow::Field::new("a", trainerd_cache::arrow::DataType::Int64, true),
        trainerd_cache::arrow::Field::new("b c", trainerd_cache::arrow::DataType::Utf8, true),
    ]);
    let mut read = 0;
    fuzz("filters", many(), |random| {
        if let Ok(filter) = Filter::parse(&random.text(&pieces)) {
            read += 1;
            let _ = filter.columns();
            let _ = trainerd_cache::filter::Selector::new(&filter, &schema);
        }
    });
    assert!(read > 0, "none of them was a filter");
}

#[test]
fn footers() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.parquet");
    group::write(&path, 0..20, 10);
    let valid = std::fs::read(&path).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let config = group::config(folder.path(), &[]);
    // Each is a file that is written and opened; of a sample there are fewer.
    let count = if std::env::var_os("TRAINERD_FUZZ").is_some() { many() } else { many() / 20 };
    fuzz("footers", count, |random| {
        let mut bytes = valid.clone();
        for _ in 0..=random.below(3) {
            let tail = bytes.len() - bytes.len().min(random.below(700));
            let place = tail.min(bytes.len().saturating_sub(1));
            match (random.below(5), bytes.get_mut(place)) {
                (0, Some(_)) => bytes.truncate(place),
                (_, Some(byte)) => *byte = random.next().to_le_bytes()[0],
                _ => {}
            }
        }
        std::fs::write(&path, bytes).unwrap();
        runtime.block_on(async {
            let Ok(dataset) = open(&config, &group::stores(), 1, &[]).await else { return };
            for unit in dataset.plan.units().to_vec() {
                if let Ok(mut batches) = dataset.reader.read(&unit, 0, 8192).await {
                    while let Ok(Some(_)) = futures::TryStreamExt::try_next(&mut batches).await {}
                }
            }
        });
    });
}
