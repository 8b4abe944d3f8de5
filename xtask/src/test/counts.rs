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
    /// Those that were not run because they must be asked for.
    pub ignored: u64,
}

impl Counts {
    /// Sums the lines `test result: …` of a program's output.
    pub(super) fn read(output: &str) -> Self {
        output.lines().filter_map(|line| line.strip_prefix("test result: ")).map(Self::read_result).sum()
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
                "ignored" => counts.ignored = number,
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
            ignored: sum.ignored + one.ignored,
        })
    }
}

/// `3 passed, 1 failed, 2 ignored`; what there is none of is left out, but for the passed ones.
impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed", self.passed)?;
        for (count, word) in [(self.failed, "failed"), (self.ignored, "ignored")] {
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
        assert_eq!(Counts::read(output), Counts { passed: 15, failed: 2, ignored: 1 });
        assert_eq!(Counts::read("test result: nonsense"), Counts::default());
        assert_eq!(Counts::read(""), Counts::default());
    }

    #[test]
    fn counts_read_like_prose() {
        assert_eq!(Counts { passed: 3, failed: 0, ignored: 0 }.to_string(), "3 passed");
        assert_eq!(Counts { passed: 0, failed: 1, ignored: 2 }.to_string(), "0 passed, 1 failed, 2 ignored");
    }
}
