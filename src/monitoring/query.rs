//! PromQL, made from the definitions of the metrics.

use std::fmt;

use trainerd_serve::metrics::{Definition, Kind, Metric};

/// The label of the scrape job, which Prometheus adds.
const JOB: &str = "job";
/// The label of the daemon that was scraped, which Prometheus adds.
const INSTANCE: &str = "instance";

/// Which label sets are meant: one choice a label, in the order in which the definition names the labels.
#[derive(Clone, Copy, Debug)]
pub(super) enum Pick<'a> {
    /// Whatever its value is; aggregated away.
    Any,
    /// Whatever its value is; kept by an aggregation.
    Each,
    /// This value.
    Is(&'a str),
    /// Whatever one of these regular expressions matches as a whole; aggregated away.
    Like(&'a [&'a str]),
}

/// Whose metrics are meant, and which of the labels that Prometheus adds an aggregation keeps.
#[derive(Clone, Debug)]
pub(super) struct Scope {
    matchers: Vec<String>,
    kept: Vec<&'static str>,
}

impl Scope {
    /// The daemons of the jobs that are chosen at the top of the dashboard.
    pub(super) fn chosen_jobs() -> Self {
        Self { matchers: vec![chosen(JOB)], kept: Vec::new() }
    }

    /// All daemons, each by itself: for rules.
    pub(super) fn every_daemon() -> Self {
        Self { matchers: Vec::new(), kept: vec![JOB, INSTANCE] }
    }

    /// The same where series of these labels alone are meant.
    pub(super) fn labelled(self, labels: &[(&str, &str)]) -> Self {
        let matchers = labels.iter().map(|(label, value)| format!("{label}={}", quote(value)));
        Self { matchers: self.matchers.into_iter().chain(matchers).collect(), ..self }
    }

    /// The daemons that are chosen at the top of the dashboard, all together.
    pub(super) fn chosen() -> Self {
        Self { matchers: vec![chosen(JOB), chosen(INSTANCE)], kept: Vec::new() }
    }

    /// The daemons that are chosen at the top of the dashboard, each by itself.
    pub(super) fn each_chosen() -> Self {
        Self { kept: vec![INSTANCE], ..Self::chosen() }
    }

    /// The series of a metric; of a histogram, its buckets.
    pub(super) fn select<M: Metric, const N: usize>(
        &self,
        definition: &Definition<M, N>,
        picks: [Pick<'_>; N],
    ) -> Query {
        let description = definition.describe();
        let mut matchers = self.matchers.clone();
        let mut kept = self.kept.clone();
        for (label, pick) in description.labels.iter().zip(picks) {
            match pick {
                Pick::Any => {}
                Pick::Each => kept.push(label),
                Pick::Is(value) => matchers.push(format!("{label}={}", quote(value))),
                Pick::Like(patterns) => matchers.push(format!("{label}=~{}", quote(&patterns.join("|")))),
            }
        }
        if description.kind == Kind::Histogram {
            kept.push("le");
        }
        // Every kind has a series; the first of a histogram are the buckets.
        let name = description.series().into_iter().next().unwrap_or_default();
        Query { text: selector(&name, &matchers), kept }
    }

    /// Whether Prometheus reaches a daemon, by jobs whose name this regular expression matches as a whole.
    pub(super) fn up(&self, job: &str) -> Query {
        let mut matchers = self.matchers.clone();
        matchers.push(format!("{JOB}=~{}", quote(job)));
        Query { text: selector("up", &matchers), kept: self.kept.clone() }
    }

    /// The sum of an expression, by what is kept.
    pub(super) fn sum(&self, expression: &str) -> String {
        format!("sum{} ({expression})", by(&self.kept))
    }

    /// `on (…)`: how two queries of this scope find each other, daemon by daemon.
    pub(super) fn on(&self) -> String {
        format!("on ({})", self.kept.join(", "))
    }
}

/// An expression that needs no parentheses: a selector, or a function of one.
#[derive(Clone, Debug)]
pub(super) struct Query {
    text: String,
    /// What an aggregation keeps.
    kept: Vec<&'static str>,
}

impl Query {
    /// Growth a second.
    pub(super) fn rate(self, window: &str) -> Self {
        self.of(|text| format!("rate({text}[{window}])"))
    }

    /// Growth over the window.
    pub(super) fn increase(self, window: &str) -> Self {
        self.of(|text| format!("increase({text}[{window}])"))
    }

    /// The highest value in the window.
    pub(super) fn highest(self, window: &str) -> Self {
        self.of(|text| format!("max_over_time({text}[{window}])"))
    }

    /// The sum by what is kept.
    pub(super) fn sum(self) -> Self {
        self.aggregate("sum")
    }

    /// The maximum by what is kept: of what several daemons say alike.
    pub(super) fn max(self) -> Self {
        self.aggregate("max")
    }

    /// The value that the share `quantile` of what a histogram counted in the window does not exceed.
    pub(super) fn quantile(self, quantile: f64, window: &str) -> Self {
        self.rate(window).sum().of(|text| format!("histogram_quantile({quantile}, {text})"))
    }

    fn aggregate(self, with: &str) -> Self {
        let by = by(&self.kept);
        self.of(|text| format!("{with}{by} ({text})"))
    }

    fn of(self, with: impl FnOnce(&str) -> String) -> Self {
        Self { text: with(&self.text), ..self }
    }
}

impl fmt::Display for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn selector(name: &str, matchers: &[String]) -> String {
    if matchers.is_empty() { name.to_owned() } else { format!("{name}{{{}}}", matchers.join(",")) }
}

fn by(kept: &[&str]) -> String {
    if kept.is_empty() { String::new() } else { format!(" by ({})", kept.join(", ")) }
}

/// A variable of the dashboard holds what is chosen of the label of its name.
fn chosen(label: &str) -> String {
    format!("{label}=~\"${label}\"")
}

/// A string of PromQL, which escapes as Go does.
fn quote(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use trainerd_serve::metrics::{Counter, Gauge, Histogram, Info, Unit};

    use super::*;

    const REQUESTS: Definition<Counter, 3> =
        Definition::counter("a_requests", "Requests", ["verb", "resource", "code"]);
    const READY: Definition<Gauge, 0> = Definition::gauge("a_ready", "Whether it is ready", []);
    const BUILD: Definition<Info, 1> = Definition::info("a_build", "The binary", ["version"]);
    const TIME: Definition<Histogram, 1> =
        Definition::histogram("a_time_seconds", "Time", ["step"], &[1.0]).unit(Unit::Seconds);

    #[test]
    fn names_and_labels_are_those_of_the_definition() {
        use Pick::{Any, Each, Is, Like};
        let (rules, all, each) = (Scope::every_daemon(), Scope::chosen(), Scope::each_chosen());
        let cases = [
            (rules.select(&READY, []), "a_ready"),
            (rules.select(&READY, []).max(), "max by (job, instance) (a_ready)"),
            (rules.select(&REQUESTS, [Any, Any, Any]), "a_requests_total"),
            (rules.select(&REQUESTS, [Is("we\"ird\\"), Any, Any]), r#"a_requests_total{verb="we\"ird\\"}"#),
            (
                rules.select(&REQUESTS, [Each, Is("pods"), Like(&["0", "5.."])]).rate("5m").sum(),
                r#"sum by (job, instance, verb) (rate(a_requests_total{resource="pods",code=~"0|5.."}[5m]))"#,
            ),
            (
                all.select(&BUILD, [Each]).sum(),
                r#"sum by (version) (a_build_info{job=~"$job",instance=~"$instance"})"#,
            ),
            (all.select(&BUILD, [Any]).sum(), r#"sum (a_build_info{job=~"$job",instance=~"$instance"})"#),
            (
                each.select(&TIME, [Is("apply")]).quantile(0.99, "5m"),
                "histogram_quantile(0.99, sum by (instance, le) \
                 (rate(a_time_seconds_bucket{job=~\"$job\",instance=~\"$instance\",step=\"apply\"}[5m])))",
            ),
            (rules.up("a.*"), r#"up{job=~"a.*"}"#),
        ];
        for (query, expected) in cases {
            assert_eq!(query.to_string(), expected);
        }
        assert_eq!(rules.on(), "on (job, instance)");
    }
}
