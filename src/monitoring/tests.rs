use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;

use clap::CommandFactory as _;
use promql_parser::label::{MatchOp, Matcher};
use promql_parser::parser::{self, Expr, LabelModifier, VectorSelector};
use promql_parser::util::{ExprVisitor, walk_expr};
use serde_json::Value;
use trainerd_juju::databag::scrape::Rule;
use trainerd_serve::Metrics;
use trainerd_serve::metrics::{Description, Kind};

use crate::cli::Cli;
use crate::daemon::metrics::{self, DURATIONS};
use crate::daemon::status_store::{Phase, StatusStore, StatusView};
use crate::training::on_demand::OnDemand;

/// Labels that Prometheus adds to every series.
const ADDED: [&str; 2] = ["job", "instance"];
/// Width of Grafana's grid.
const COLUMNS: u32 = 24;
/// Labels whose every value is exposed from the start.
const KNOWN: [&str; 6] = ["phase", "state", "reason", "purpose", "result", "version"];

fn registered() -> Metrics {
    let metrics = Metrics::new();
    let train_jobs = OnDemand::known(Arc::new(Ok(None)));
    metrics::register(&metrics, &StatusStore::new(StatusView::default()), &train_jobs).unwrap();
    metrics
}

/// What the daemon serves, and what the native reconciler does.
fn served() -> Vec<Description> {
    [registered().descriptions(), trainerd_reconciler::metric_descriptions().unwrap()].concat()
}

fn alerts() -> Vec<Rule> {
    super::rules().unwrap().groups.into_iter().flat_map(|group| group.rules).collect()
}

fn dashboard() -> Value {
    super::dashboard().unwrap()
}

fn panels() -> Vec<Value> {
    dashboard()["panels"].as_array().unwrap().iter().filter(|panel| panel["type"] != "row").cloned().collect()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text"))
}

/// The expressions of a panel, with its variables as Grafana fills them in.
fn expressions(panel: &Value) -> Vec<String> {
    let filled = |target: &Value| text(&target["expr"]).replace("$__rate_interval", "1m");
    panel["targets"].as_array().unwrap().iter().map(filled).collect()
}

/// Every expression there is, by where it is.
fn all_expressions() -> Vec<(String, String)> {
    let alerts = alerts().into_iter().map(|rule| (rule.alert, rule.expr));
    let panels = panels();
    let panels = panels.iter().flat_map(|panel| {
        expressions(panel).into_iter().map(|expression| (text(&panel["title"]).to_owned(), expression))
    });
    let dashboard = dashboard();
    let variables = dashboard["templating"]["list"].as_array().unwrap().iter();
    let variables = variables.filter(|variable| variable["type"] == "query").map(|variable| {
        let (name, query) = (text(&variable["name"]), text(&variable["query"]["query"]));
        let asked = query.strip_prefix("label_values(").and_then(|query| query.strip_suffix(')')).unwrap();
        let (series, label) = asked.rsplit_once(", ").unwrap();
        assert_eq!(label, name);
        (name.to_owned(), series.to_owned())
    });
    alerts.chain(panels).chain(variables).collect()
}

/// What an expression speaks of.
#[derive(Default)]
struct Found {
    selectors: Vec<VectorSelector>,
    /// Labels that it groups or joins by.
    labels: BTreeSet<String>,
}

impl Found {
    fn of(expression: &str) -> Self {
        let parsed = parser::parse(expression).unwrap_or_else(|error| panic!("{expression}: {error}"));
        let mut found = Self::default();
        walk_expr(&mut found, &parsed).unwrap();
        found
    }
}

impl ExprVisitor for Found {
    type Error = String;

    fn pre_visit(&mut self, expression: &Expr) -> Result<bool, String> {
        let modifier = match expression {
            Expr::VectorSelector(selector) => {
                self.selectors.push(selector.clone());
                None
            }
            Expr::MatrixSelector(selector) => {
                self.selectors.push(selector.vs.clone());
                None
            }
            Expr::Aggregate(aggregate) => aggregate.modifier.clone(),
            Expr::Binary(binary) => binary.modifier.as_ref().and_then(|modifier| modifier.matching.clone()),
            _ => None,
        };
        if let Some(LabelModifier::Include(labels) | LabelModifier::Exclude(labels)) = modifier {
            self.labels.extend(labels.labels);
        }
        Ok(true)
    }
}

/// The labels of a series; nothing where there is no such series.
fn labels(descriptions: &[Description], series: &str) -> Option<Vec<&'static str>> {
    if series == "up" {
        return Some(ADDED.to_vec());
    }
    let description = descriptions.iter().find(|one| one.series().iter().any(|name| name == series))?;
    let bucket = (description.kind == Kind::Histogram).then_some("le");
    Some(description.labels.iter().copied().chain(ADDED).chain(bucket).collect())
}

#[test]
fn every_expression_names_series_and_labels_that_exist() {
    let descriptions = served();
    let expressions = all_expressions();
    assert!(expressions.len() > 40, "{}", expressions.len());
    for (place, expression) in expressions {
        let found = Found::of(&expression);
        assert!(!found.selectors.is_empty(), "{place}: {expression}");
        let mut known = BTreeSet::new();
        for selector in &found.selectors {
            let name = selector.name.as_deref().unwrap_or_default();
            let labels = labels(&descriptions, name).unwrap_or_else(|| panic!("{place}: no series {name}"));
            for Matcher { name: label, .. } in &selector.matchers.matchers {
                assert!(labels.contains(&label.as_str()), "{place}: {name} has no label {label}");
            }
            known.extend(labels);
        }
        for label in &found.labels {
            assert!(known.contains(label.as_str()), "{place}: no label {label} in {expression}");
        }
    }
}

/// The label sets that a daemon exposes before anything has happened, by series.
fn exposed() -> BTreeMap<String, Vec<BTreeMap<String, String>>> {
    let exposition = registered().encode().unwrap();
    let mut exposed: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for line in exposition.lines().filter(|line| !line.starts_with('#')) {
        let (series, _) = line.rsplit_once(' ').unwrap();
        let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
        let labels = labels.trim_end_matches('}').split(',').filter_map(|label| label.split_once('='));
        let labels = labels.map(|(name, value)| (name.to_owned(), value.trim_matches('"').to_owned()));
        exposed.entry(name.to_owned()).or_default().push(labels.collect());
    }
    exposed
}

/// A state that no longer exists would leave an alert that never fires.
#[test]
fn every_label_value_in_expressions_exists() {
    let exposed = exposed();
    let mut checked = 0;
    for (place, expression) in all_expressions() {
        for selector in Found::of(&expression).selectors {
            let Some(sets) = selector.name.as_ref().and_then(|name| exposed.get(name)) else { continue };
            for matcher in selector.matchers.matchers.iter().filter(|one| KNOWN.contains(&one.name.as_str()))
            {
                for word in matcher.value.split('|') {
                    let occurs = sets.iter().any(|set| set.get(&matcher.name).is_some_and(|is| is == word));
                    assert!(occurs, "{place}: no {}={word} in {expression}", matcher.name);
                    checked += 1;
                }
            }
        }
    }
    assert!(checked > 20, "{checked}");
}

/// An alert on what grows must see the first time.
#[test]
fn counters_of_failed_plans_start_at_zero() {
    let plans = &exposed()["trainerd_plans_total"];
    for purpose in ["install", "change", "upgrade", "rollback", "remove"] {
        let is_there =
            |set: &BTreeMap<String, String>| set["purpose"] == purpose && set["result"] == "failed";
        assert!(plans.iter().any(is_there), "{purpose}");
    }
}

#[test]
fn every_metric_is_on_the_dashboard() {
    let shown: BTreeSet<String> = panels()
        .iter()
        .flat_map(expressions)
        .flat_map(|expression| Found::of(&expression).selectors)
        .filter_map(|selector| selector.name)
        .collect();
    for description in registered().descriptions() {
        let is_shown = description.series().iter().any(|series| shown.contains(series));
        assert!(is_shown, "{}", description.name);
    }
}

/// `{{ $labels.name }}` of alerts and `{{name}}` of legends.
fn placeholders<'a>(text: &'a str, before: &str, after: &str) -> Vec<&'a str> {
    let rest = text.split(before).skip(1);
    rest.map(|rest| rest.split(after).next().unwrap().split(' ').next().unwrap()).collect()
}

#[test]
fn every_alert_has_a_runbook() {
    let mut names = BTreeSet::new();
    for rule in alerts() {
        let Rule { alert: name, expr: expression, .. } = &rule;
        let (summary, description) = (&rule.annotations["summary"], &rule.annotations["description"]);
        assert!(names.insert(name.clone()), "{name} twice");
        assert!(name.starts_with("Trainerd"), "{name}");
        assert!(["critical", "warning", "info"].contains(&rule.labels["severity"].as_str()), "{name}");
        assert!(!summary.ends_with('.') && !summary.contains("{{"), "{name}");
        // What it means, and what to do.
        let lines: Vec<&str> = description.lines().collect();
        assert_eq!(lines.len(), 2, "{name}");
        for line in lines {
            assert!(line.len() > 60 && line.ends_with('.') && !line.contains("  "), "{name}: {line}");
        }
        let commands: Vec<&str> =
            description.split('`').skip(1).step_by(2).filter(|word| word.starts_with("trainerd ")).collect();
        assert!(!commands.is_empty(), "{name} says no command");
        for command in commands {
            let parsed = Cli::command().try_get_matches_from(command.split(' '));
            parsed.unwrap_or_else(|error| panic!("{name}: {command}: {error}"));
        }
        let known: BTreeSet<String> = Found::of(expression).labels;
        let selected = Found::of(expression).selectors;
        for label in placeholders(description, "$labels.", " }}") {
            let descriptions = registered().descriptions();
            let of_series =
                selected.iter().filter_map(|selector| labels(&descriptions, selector.name.as_deref()?));
            let kept = known.is_empty() || known.contains(label) || expression.contains("unless");
            assert!(kept && of_series.flatten().any(|one| one == label), "{name}: no label {label}");
        }
    }
    assert!(names.len() >= 12);
}

/// Beyond the last bound a quantile is that bound; between two it is a guess.
#[test]
fn the_threshold_of_slow_repairs_is_a_bound_of_the_buckets() {
    let rule = alerts().into_iter().find(|rule| rule.alert == "TrainerdRepairsSlow").unwrap();
    let (_, threshold) = rule.expr.rsplit_once(" > ").unwrap();
    let threshold: f64 = threshold.parse().unwrap();
    assert!(DURATIONS[..DURATIONS.len() - 1].contains(&threshold));
}

/// A phase has a number on the dashboard, which a mapping makes a word of again.
#[test]
fn panels_of_phases_know_each_by_its_number() {
    let panels = panels();
    let of_phases = panels.iter().filter(|panel| text(&panel["title"]).starts_with("Phase"));
    let mut seen = 0;
    for panel in of_phases {
        let expression = &expressions(panel)[0];
        let words = &panel["fieldConfig"]["defaults"]["mappings"][0]["options"];
        assert_eq!(words.as_object().unwrap().len(), Phase::ALL.len());
        for (phase, number) in Phase::ALL.into_iter().zip(1..) {
            let word = phase.word();
            assert_eq!(words[number.to_string()]["text"], word);
            assert!(expression.contains(&format!("phase=\"{word}\"}} * {number}")), "{word}");
            seen += 1;
        }
    }
    assert_eq!(seen, 2 * Phase::ALL.len());
}

#[test]
fn matchers_are_of_the_kinds_that_are_checked() {
    for (place, expression) in all_expressions() {
        for matcher in
            Found::of(&expression).selectors.iter().flat_map(|selector| &selector.matchers.matchers)
        {
            assert!(matches!(matcher.op, MatchOp::Equal | MatchOp::Re(_)), "{place}: {expression}");
        }
    }
}

#[test]
fn panels_are_complete_and_do_not_overlap() {
    let mut taken = BTreeSet::new();
    let mut ids = BTreeSet::new();
    for panel in dashboard()["panels"].as_array().unwrap() {
        assert!(ids.insert(panel["id"].as_u64().unwrap()));
        let at = |side: &str| u32::try_from(panel["gridPos"][side].as_u64().unwrap()).unwrap();
        assert!(at("x") + at("w") <= COLUMNS, "{}", panel["title"]);
        for x in at("x")..at("x") + at("w") {
            for y in at("y")..at("y") + at("h") {
                assert!(taken.insert((x, y)), "{} lies on another", panel["title"]);
            }
        }
    }
    for panel in panels() {
        let title = text(&panel["title"]);
        assert!(text(&panel["description"]).ends_with('.'), "{title}");
        assert!(!text(&panel["fieldConfig"]["defaults"]["unit"]).is_empty(), "{title}");
        let source = &panel["datasource"]["uid"];
        assert_eq!(source, "${prometheusds}");
        for target in panel["targets"].as_array().unwrap() {
            assert_eq!(&target["datasource"]["uid"], source, "{title}");
            let legend = text(&target["legendFormat"]);
            assert!(!legend.is_empty() || panel["type"] == "table", "{title}");
            let grouped = Found::of(&text(&target["expr"]).replace("$__rate_interval", "1m")).labels;
            for label in placeholders(legend, "{{", "}}") {
                assert!(grouped.contains(label), "{title}: the legend's {label} is aggregated away");
            }
        }
    }
}

fn described(descriptions: &[Description]) -> String {
    let lines = descriptions.iter().map(|description| {
        let Description { name, labels, help, .. } = description;
        let kind = serde_json::to_value(description.kind).unwrap();
        format!("{name} {} {{{}}}\n    {help}\n", text(&kind), labels.join(", "))
    });
    lines.collect()
}

/// What others build upon: a change here breaks their alerts and dashboards.
#[test]
fn metrics() {
    insta::assert_snapshot!(described(&registered().descriptions()));
}

/// As above, of the native reconciler.
#[test]
fn metrics_of_the_reconciler() {
    insta::assert_snapshot!(described(&trainerd_reconciler::metric_descriptions().unwrap()));
}

#[test]
fn the_readme_has_a_row_for_each_alert() {
    let mut table = "| alert | severity | after | meaning |\n|---|---|---|---|\n".to_owned();
    for Rule { alert, labels, duration, annotations, .. } in alerts() {
        writeln!(table, "| {alert} | {} | {duration} | {} |", labels["severity"], annotations["summary"])
            .unwrap();
    }
    let readme = include_str!("../../docs/monitoring/README.md");
    assert!(readme.contains(&table), "the table of docs/monitoring/README.md should be:\n{table}");
}
