//! What a client may ask for beside its partition: `key=value` elements of the descriptor's path.

use std::collections::BTreeSet;

use percent_encoding::percent_decode_str;

use super::range::Split;

/// Rows of a shuffle block where none are given.
const BLOCK_ROWS: u64 = 4096;

/// An element that cannot be used; the text names it, and what would do.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// An element without `=`, or with bytes that are no UTF-8.
    #[error("option {0:?} is not key=value")]
    NoPair(String),
    /// A key that nobody knows.
    #[error(
        "unknown option {0:?}; known are alt, batch, block, columns, epoch, seed, shuffle, skip, split and start"
    )]
    UnknownKey(String),
    /// A value that the key does not take.
    #[error("invalid value {value:?} of option {key}; must be {allowed}")]
    Value {
        /// The option.
        key: &'static str,
        /// As it was given.
        value: String,
        /// What would do.
        allowed: &'static str,
    },
    /// An option that another one needs, or does not allow.
    #[error("option {option} {needs}")]
    Needs {
        /// The option.
        option: &'static str,
        /// What it needs.
        needs: &'static str,
    },
    /// The same key twice.
    #[error("option {0} is given twice")]
    Twice(String),
}

/// How rows are shuffled before they are split.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// As the index has them.
    #[default]
    Canonical,
    /// Blocks in a random order.
    Blocks,
    /// Blocks in a random order, and rows inside each.
    BlocksAndRows,
}

/// The options of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Columns in the order given; all where empty.
    pub columns: Vec<String>,
    /// Exact rows of a batch but the last; as they are kept where absent.
    pub batch: Option<u64>,
    /// How rows are divided between partitions.
    pub split: Split,
    /// How rows are shuffled.
    pub order: Order,
    /// Rows of a shuffle block.
    pub block: u64,
    /// Seed of the shuffle.
    pub seed: u64,
    /// Epoch of the shuffle.
    pub epoch: u64,
    /// Rows to leave out at the partition's start.
    pub skip: u64,
    /// Global position that a strided split begins with.
    pub start: u64,
    /// Whether other workers that could serve the same rows are named as well.
    pub alternatives: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            columns: Vec::new(),
            batch: None,
            split: Split::default(),
            order: Order::default(),
            block: BLOCK_ROWS,
            seed: 0,
            epoch: 0,
            skip: 0,
            start: 0,
            alternatives: false,
        }
    }
}

impl Options {
    /// From the elements behind the partition and the number of partitions.
    pub fn parse<S: AsRef<str>>(elements: impl IntoIterator<Item = S>) -> Result<Self, Error> {
        let mut options = Self::default();
        let mut seen = BTreeSet::new();
        for element in elements {
            let element = element.as_ref();
            let pair = element.split_once('=').and_then(|(key, value)| {
                percent_decode_str(value).decode_utf8().ok().map(|value| (key, value.into_owned()))
            });
            let (key, value) = pair.ok_or_else(|| Error::NoPair(element.to_owned()))?;
            if !seen.insert(key.to_owned()) {
                return Err(Error::Twice(key.to_owned()));
            }
            options.set(key, &value)?;
        }
        options.check()?;
        Ok(options)
    }

    /// What options need of each other.
    fn check(&self) -> Result<(), Error> {
        let needs = |option, needs| Err(Error::Needs { option, needs });
        match (self.split, self.batch) {
            (Split::Strided, None) => needs("split=strided", "needs batch"),
            (Split::Strided, Some(batch)) if !self.start.is_multiple_of(batch) => {
                needs("start", "must be a multiple of batch")
            }
            (Split::Strided, Some(batch))
                if self.order != Order::Canonical && !self.block.is_multiple_of(batch) =>
            {
                needs("block", "must be a multiple of batch where split is strided")
            }
            (Split::Strided, Some(_)) => Ok(()),
            _ if self.start > 0 => needs("start", "needs split=strided"),
            _ => Ok(()),
        }
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), Error> {
        let number = |key, least: u64, allowed| {
            let number = value.parse::<u64>().ok().filter(|number| *number >= least);
            number.ok_or_else(|| Error::Value { key, value: value.to_owned(), allowed })
        };
        match key {
            "alt" => {
                self.alternatives = match value {
                    "0" => false,
                    "1" => true,
                    _ => {
                        return Err(Error::Value { key: "alt", value: value.to_owned(), allowed: "0 or 1" });
                    }
                }
            }
            "columns" => {
                let columns: Vec<String> = value.split(',').map(str::to_owned).collect();
                let mut distinct = BTreeSet::new();
                if columns.iter().any(|column| column.is_empty() || !distinct.insert(column)) {
                    let allowed = "distinct names, separated by commas";
                    return Err(Error::Value { key: "columns", value: value.to_owned(), allowed });
                }
                self.columns = columns;
            }
            "batch" => self.batch = Some(number("batch", 1, "a number of rows, at least 1")?),
            "block" => self.block = number("block", 1, "a number of rows, at least 1")?,
            "seed" => self.seed = number("seed", 0, "an unsigned 64-bit number")?,
            "epoch" => self.epoch = number("epoch", 0, "an unsigned 64-bit number")?,
            "skip" => self.skip = number("skip", 0, "a number of rows")?,
            "start" => self.start = number("start", 0, "a position")?,
            "split" => {
                self.split = match value {
                    "range" => Split::Range,
                    "even" => Split::Even,
                    "pad" => Split::Pad,
                    "drop" => Split::Drop,
                    "strided" => Split::Strided,
                    _ => {
                        let allowed = "range, even, pad, drop or strided";
                        return Err(Error::Value { key: "split", value: value.to_owned(), allowed });
                    }
                }
            }
            "shuffle" => {
                self.order = match value {
                    "none" => Order::Canonical,
                    "block" => Order::Blocks,
                    "block+rows" => Order::BlocksAndRows,
                    _ => {
                        let allowed = "none, block or block+rows";
                        return Err(Error::Value { key: "shuffle", value: value.to_owned(), allowed });
                    }
                }
            }
            _ => return Err(Error::UnknownKey(key.to_owned())),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_option_is_read() {
        let given = [
            "columns=a,b%20c",
            "batch=128",
            "split=even",
            "shuffle=block+rows",
            "block=512",
            "seed=7",
            "epoch=2",
            "skip=3",
            "alt=1",
        ];
        assert_eq!(
            Options::parse(given),
            Ok(Options {
                columns: vec!["a".into(), "b c".into()],
                batch: Some(128),
                split: Split::Even,
                order: Order::BlocksAndRows,
                block: 512,
                seed: 7,
                epoch: 2,
                skip: 3,
                start: 0,
                alternatives: true,
            })
        );
        let strided = Options::parse(["split=strided", "batch=128", "start=256"]).unwrap();
        assert_eq!((strided.split, strided.start), (Split::Strided, 256));
        assert_eq!(Options::parse::<&str>([]), Ok(Options::default()));
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        let cases = [
            ("batch", "option \"batch\" is not key=value"),
            ("batch=0", "invalid value \"0\" of option batch; must be a number of rows, at least 1"),
            (
                "split=third",
                "invalid value \"third\" of option split; must be range, even, pad, drop or strided",
            ),
            ("shuffle=", "invalid value \"\" of option shuffle; must be none, block or block+rows"),
            (
                "columns=a,,b",
                "invalid value \"a,,b\" of option columns; must be distinct names, separated by commas",
            ),
            (
                "columns=a,a",
                "invalid value \"a,a\" of option columns; must be distinct names, separated by commas",
            ),
            ("alt=yes", "invalid value \"yes\" of option alt; must be 0 or 1"),
            ("seed=-1", "invalid value \"-1\" of option seed; must be an unsigned 64-bit number"),
            (
                "colums=a",
                "unknown option \"colums\"; known are alt, batch, block, columns, epoch, seed, shuffle, skip, split and start",
            ),
            ("columns=%ff", "option \"columns=%ff\" is not key=value"),
        ];
        for (given, text) in cases {
            assert_eq!(Options::parse([given]).unwrap_err().to_string(), text);
        }
        assert_eq!(Options::parse(["seed=1", "seed=1"]), Err(Error::Twice("seed".into())));
        for (given, text) in [
            (&["split=strided"][..], "option split=strided needs batch"),
            (&["start=4"], "option start needs split=strided"),
            (&["split=strided", "batch=3", "start=4"], "option start must be a multiple of batch"),
            (
                &["split=strided", "batch=3", "shuffle=block"],
                "option block must be a multiple of batch where split is strided",
            ),
        ] {
            assert_eq!(Options::parse(given).unwrap_err().to_string(), text);
        }
    }
}
