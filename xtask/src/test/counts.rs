//! What test programs say of themselves.

use std::fmt;
use std::iter::Sum;

/// Numbers of tests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Those that passed.
    pub passed: u64,
    /// Those that failed.
    pub failed: u64,
    /// Those that were not run, or that passed without having looked.
    pub skipped: u64,
}

/// A test that was not run, or that passed without having looked, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Skipped {
    pub(super) test: String,
    pub(super) why: String,
}

/// How a test says that it does not look.
const SKIPPED: &str = "skipped: ";

impl Skipped {
    /// Those that a program tells of: `test NAME ... ignored, WHY`, and lines `skipped: WHY` in what a test printed.
    pub(super) fn read(output: &str) -> Vec<Self> {
        let mut all: Vec<Self> = Vec::new();
        let mut printing = None;
        for line in output.lines() {
            let header = line.strip_prefix("---- ").and_then(|line| line.strip_suffix(" stdout ----"));
            if let Some(test) = header {
                printing = Some(test);
            } else if let Some(result) = line.strip_prefix("test ") {
                let Some((test, rest)) = result.split_once(" ... ignored") else { continue };
                let why = rest.strip_prefix(", ").unwrap_or("it must be asked for");
                all.push(Self { test: test.to_owned(), why: why.to_owned() });
            } else if let (Some(test), Some(why)) = (printing, line.strip_prefix(SKIPPED)) {
                // Several parts of one test may have said so.
                if all.last().is_none_or(|last| last.test != test) {
                    all.push(Self { test: test.to_owned(), why: why.to_owned() });
                }
            }
        }
        all
    }
}

impl Counts {
    /// Sums the lines `test result: …` of a program's output.
    pub(super) fn read(output: &str) -> Self {
        let results = output.lines().filter_map(|line| line.strip_prefix("test result: "));
        let sum: Self = results.map(Self::read_result).sum();
        // What did not look did not pass.
        let looked_away = (Skipped::read(output).len() as u64).saturating_sub(sum.skipped).min(sum.passed);
        Self { passed: sum.passed - looked_away, skipped: sum.skipped + looked_away, ..sum }
    }

    /// `ok. 3 passed; 0 failed; 1 ignored; …`
    fn read_result(line: &str) -> Self {
        let mut counts = Self::default();
        // The verdict ends with a full stop, and each count stands before its word.
        let (_, counted) = line.split_once(". ").unwrap_or_default();
        for part in counted.split("; ") {
            let Some((number, word)) = part.split_once(' ') else { continue };
            let Ok(number) = number.parse() else { continue };
            match word {
                "passed" => counts.passed = number,
                "failed" => counts.failed = number,
                "ignored" => counts.skipped = number,
                _ => {}
            }
        }
        counts
    }
}

impl Sum for Counts {
    fn sum<I: Iterator<Item = Self>>(counts: I) -> Self {
        counts.fold(Self::default(), |sum, one| Self {
            passed: sum.passed + one.passed,
            failed: sum.failed + one.failed,
            skipped: sum.skipped + one.skipped,
        })
    }
}

/// `3 passed, 1 failed, 2 skipped`; what there is none of is left out, but for the passed ones.
impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed", self.passed)?;
        for (count, word) in [(self.failed, "failed"), (self.skipped, "skipped")] {
            if count > 0 {
                write!(f, ", {count} {word}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_summed_over_programs() {
        let output = "\
running 2 tests
test a ... ok
test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 3 filtered out; finished in 0.02s

not a test result: ok. 99 passed; 99 failed;
test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.50s
";
        assert_eq!(Counts::read(output), Counts { passed: 15, failed: 2, skipped: 1 });
        assert_eq!(Counts::read("test result: nonsense"), Counts::default());
        assert_eq!(Counts::read(""), Counts::default());
    }

    #[test]
    fn skipped_tests_are_listed_by_name() {
        let output = "\
running 4 tests
test a ... ok
test b ... ignored, upstream's pods cut calls
test c ... ok
test d ... ok

successes:

---- c stdout ----
skipped: it needs a node
skipped: it needs a node

---- d stdout ----
it said something else

successes:
    a
    c
    d

test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.02s
";
        let skipped = |test: &str, why: &str| Skipped { test: test.to_owned(), why: why.to_owned() };
        let expected = [skipped("b", "upstream's pods cut calls"), skipped("c", "it needs a node")];
        assert_eq!(Skipped::read(output), expected);
        assert_eq!(Counts::read(output), Counts { passed: 2, failed: 0, skipped: 2 });
    }

    #[test]
    fn counts_are_sentences() {
        assert_eq!(Counts { passed: 3, failed: 0, skipped: 0 }.to_string(), "3 passed");
        assert_eq!(Counts { passed: 0, failed: 1, skipped: 2 }.to_string(), "0 passed, 1 failed, 2 skipped");
    }
}
