//! What a metric is, as data.

use std::marker::PhantomData;

use prometheus_client::registry;
use serde::Serialize;

use super::kind::{Counter, Gauge, Histogram, Info, Kind, Metric};

/// A metric of kind `M` with `N` labels, defined once, as a constant.
///
/// Names are the family's as OpenMetrics has them: with the unit, without `_total` of counters and `_info` of infos. A
/// bad name, a name without its unit, or a help text that does not fit its line fails to compile when the definition is
/// a constant, and panics when it is not.
#[derive(Clone, Debug)]
pub struct Definition<M, const N: usize> {
    name: &'static str,
    help: &'static str,
    unit: Option<Unit>,
    labels: [&'static str; N],
    buckets: &'static [f64],
    kind: PhantomData<fn() -> M>,
}

/// A base unit of Prometheus.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    /// Time.
    Seconds,
    /// Sizes.
    Bytes,
    /// From 0 to 1.
    Ratio,
}

impl Unit {
    /// The last word of the metric's name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Seconds => "seconds",
            Self::Bytes => "bytes",
            Self::Ratio => "ratio",
        }
    }
}

impl<const N: usize> Definition<Counter, N> {
    /// Something that only grows.
    ///
    /// # Panics
    /// On a name, help text or label that [`Definition`] does not take; as a constant it does not compile.
    pub const fn counter(name: &'static str, help: &'static str, labels: [&'static str; N]) -> Self {
        assert!(!ends_with(name, "total"), "a counter's name is given without _total");
        Self::new(name, help, labels, &[])
    }
}

impl<const N: usize> Definition<Gauge, N> {
    /// Something that goes up and down.
    ///
    /// # Panics
    /// On a name, help text or label that [`Definition`] does not take; as a constant it does not compile.
    pub const fn gauge(name: &'static str, help: &'static str, labels: [&'static str; N]) -> Self {
        Self::new(name, help, labels, &[])
    }
}

impl<const N: usize> Definition<Histogram, N> {
    /// How values are spread: `buckets` are upper bounds, growing; the infinite one is added.
    ///
    /// # Panics
    /// On buckets that do not grow, and on a name, help text or label that [`Definition`] does not take; as a constant it does not compile.
    pub const fn histogram(
        name: &'static str,
        help: &'static str,
        labels: [&'static str; N],
        buckets: &'static [f64],
    ) -> Self {
        let mut at = 1;
        while at < buckets.len() {
            assert!(buckets[at - 1] < buckets[at], "buckets grow");
            at += 1;
        }
        Self::new(name, help, labels, buckets)
    }
}

impl<const N: usize> Definition<Info, N> {
    /// Facts that are the labels; the value is always 1.
    ///
    /// # Panics
    /// On a name, help text or label that [`Definition`] does not take; as a constant it does not compile.
    pub const fn info(name: &'static str, help: &'static str, labels: [&'static str; N]) -> Self {
        assert!(!ends_with(name, "info"), "an info's name is given without _info");
        Self::new(name, help, labels, &[])
    }
}

impl<M, const N: usize> Definition<M, N> {
    const fn new(
        name: &'static str,
        help: &'static str,
        labels: [&'static str; N],
        buckets: &'static [f64],
    ) -> Self {
        assert!(is_name(name), "a metric's name is lower-case words joined by _");
        assert!(
            is_help(help),
            "help is one line without quotes, backslashes and the full stop that is added"
        );
        let mut at = 0;
        while at < N {
            assert!(is_name(labels[at]), "a label's name is lower-case words joined by _");
            assert!(!is(labels[at], "le"), "le is the label of a histogram's buckets");
            let mut before = 0;
            while before < at {
                assert!(!is(labels[before], labels[at]), "a label is named once");
                before += 1;
            }
            at += 1;
        }
        Self { name, help, unit: None, labels, buckets, kind: PhantomData }
    }

    /// The unit of its values, which its name ends with.
    ///
    /// # Panics
    /// When it does not; as a constant it does not compile.
    #[must_use]
    pub const fn unit(mut self, unit: Unit) -> Self {
        assert!(ends_with(self.name, unit.as_str()), "a metric's name ends with its unit");
        self.unit = Some(unit);
        self
    }

    /// Names of its labels.
    pub(super) const fn labels(&self) -> [&'static str; N] {
        self.labels
    }

    /// Upper bounds of its buckets; none for what is no histogram.
    pub(super) const fn buckets(&self) -> &'static [f64] {
        self.buckets
    }
}

impl<M: Metric, const N: usize> Definition<M, N> {
    /// The definition as data.
    pub fn describe(&self) -> Description {
        Description {
            name: self.name,
            kind: M::KIND,
            unit: self.unit,
            help: self.help,
            labels: self.labels.to_vec(),
            buckets: self.buckets,
        }
    }
}

/// A [`Definition`] as data: what rules and dashboards are generated from and checked against.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Description {
    /// Name of the family.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// Unit of its values.
    pub unit: Option<Unit>,
    /// What it tells, without a full stop.
    pub help: &'static str,
    /// Names of its labels.
    pub labels: Vec<&'static str>,
    /// Upper bounds of a histogram's buckets, without the infinite one.
    pub buckets: &'static [f64],
}

impl Description {
    /// The names a query may use.
    pub fn series(&self) -> Vec<String> {
        let suffixes: &[&str] = match self.kind {
            Kind::Counter => &["_total"],
            Kind::Gauge => &[""],
            Kind::Histogram => &["_bucket", "_count", "_sum"],
            Kind::Info => &["_info"],
        };
        suffixes.iter().map(|suffix| format!("{}{suffix}", self.name)).collect()
    }

    /// Every name that nobody else may use.
    pub(super) fn names(&self) -> Vec<String> {
        let mut names = self.series();
        if self.kind != Kind::Gauge {
            names.push(self.name.to_owned());
        }
        names
    }

    /// As prometheus-client wants it: it adds the unit to the name itself.
    pub(super) fn name_and_unit(&self) -> (&'static str, Option<registry::Unit>) {
        let Some(unit) = self.unit else { return (self.name, None) };
        let name = self.name.strip_suffix(unit.as_str()).and_then(|name| name.strip_suffix('_'));
        (name.unwrap_or(self.name), Some(registry::Unit::Other(unit.as_str().to_owned())))
    }
}

/// Lower-case words joined by `_`: a part of what Prometheus allows.
const fn is_name(name: &str) -> bool {
    let name = name.as_bytes();
    let mut at = 0;
    while at < name.len() {
        let good = match name[at] {
            b'a'..=b'z' => true,
            b'0'..=b'9' => at > 0,
            b'_' => at > 0 && at + 1 < name.len() && name[at - 1] != b'_',
            _ => false,
        };
        if !good {
            return false;
        }
        at += 1;
    }
    !name.is_empty()
}

/// What needs no escaping, and is no sentence's end.
const fn is_help(help: &str) -> bool {
    let help = help.as_bytes();
    let mut at = 0;
    while at < help.len() {
        if matches!(help[at], b'\n' | b'\r' | b'\\' | b'"') {
            return false;
        }
        at += 1;
    }
    !help.is_empty() && help[help.len() - 1] != b'.'
}

/// Whether two names are the same.
const fn is(name: &str, other: &str) -> bool {
    let (name, other) = (name.as_bytes(), other.as_bytes());
    let mut at = 0;
    while at < name.len() && at < other.len() && name[at] == other[at] {
        at += 1;
    }
    at == name.len() && at == other.len()
}

/// Whether the last word of a name is this one, and not the only one.
const fn ends_with(name: &str, word: &str) -> bool {
    let (name, word) = (name.as_bytes(), word.as_bytes());
    if name.len() < word.len() + 2 || name[name.len() - word.len() - 1] != b'_' {
        return false;
    }
    let mut at = 0;
    while at < word.len() {
        if name[name.len() - word.len() + at] != word[at] {
            return false;
        }
        at += 1;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metric_names_are_validated() {
        for good in ["a", "trainerd_passes", "http2_requests", "a_1"] {
            assert!(is_name(good), "{good:?}");
        }
        for bad in ["", "_a", "a_", "a__b", "A", "1a", "a-b", "a b", "a:b", "é"] {
            assert!(!is_name(bad), "{bad:?}");
        }
    }

    #[test]
    fn help_is_one_line() {
        assert!(is_help("Passes of the loop"));
        for bad in ["", "a\nb", "a\"b", "a\\b", "Passes."] {
            assert!(!is_help(bad), "{bad:?}");
        }
    }

    #[test]
    fn names_are_compared_exactly() {
        for (name, other) in [("le", "let"), ("let", "le"), ("le", "lo"), ("", "le")] {
            assert!(!is(name, other), "{name} {other}");
        }
        assert!(is("le", "le"));
    }

    #[test]
    fn the_unit_is_the_suffix() {
        let cases = [
            ("a_seconds", "seconds", true),
            ("seconds", "seconds", false),
            ("_seconds", "seconds", false),
            ("nanoseconds", "seconds", false),
            ("a_seconds_b", "seconds", false),
            ("a_secondz", "seconds", false),
        ];
        for (name, word, expected) in cases {
            assert_eq!(ends_with(name, word), expected, "{name}");
        }
    }
}
