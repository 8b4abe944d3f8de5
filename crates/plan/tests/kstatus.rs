//! Readiness against the published kstatus test rows. Where the rows are absent, says so and passes:
//! the tables beside the code hold the same rules.

#![expect(clippy::disallowed_macros, reason = "a skipped test says so")]

use jiff::Timestamp;
use serde_json::{Value, json};
use trainerd_plan::readiness::{Condition, compute};

const ROWS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data/oracles/kstatus.jsonl");

fn list<'a>(row: &'a Value, field: &str) -> &'a [Value] {
    row["expect"][field].as_array().map_or(&[], Vec::as_slice)
}

/// What a writer of kstatus conditions leaves in `status.conditions`: ours in its place, or appended.
fn augmented(object: &Value, condition: Option<Condition<'_>>) -> Vec<Value> {
    let mut all = object.pointer("/status/conditions").and_then(Value::as_array).cloned().unwrap_or_default();
    if let Some(Condition { kind, reason, .. }) = condition {
        let ours = json!({"type": kind, "status": "True", "reason": reason});
        match all.iter_mut().find(|c| c["type"] == kind) {
            Some(existing) => *existing = ours,
            None => all.push(ours),
        }
    }
    all
}

#[test]
fn published_kstatus_cases_pass() {
    let Ok(rows) = std::fs::read_to_string(ROWS) else {
        println!("skipped: the published rows are not there");
        return;
    };
    let mut checked = 0;
    for line in rows.lines() {
        let row: Value = serde_json::from_str(line).unwrap();
        let id = row["id"].as_str().unwrap();
        let now = row["options"]["now"].as_str().unwrap_or("2026-01-01T00:00:00Z");
        let verdict = compute(&row["object"], now.parse::<Timestamp>().unwrap());
        assert_eq!(format!("{:?}", verdict.status), row["expect"]["status"].as_str().unwrap(), "{id}");

        let condition = verdict.condition();
        let found: Vec<_> = condition.iter().map(|c| (c.kind, "True", c.reason)).collect();
        let triple = |c: &Value| {
            let field = |name| c[name].as_str().unwrap_or_default().to_owned();
            (field("type"), field("status"), field("reason"))
        };
        let expected: Vec<_> = list(&row, "conditions").iter().map(triple).collect();
        let expected: Vec<_> = expected
            .iter()
            .map(|(kind, status, reason)| (kind.as_str(), status.as_str(), reason.as_str()))
            .collect();
        assert_eq!(found, expected, "{id}");
        for absent in list(&row, "absentConditionTypes") {
            assert!(condition.is_none_or(|c| absent != c.kind), "{id}");
        }
        if row["op"] == "augment" {
            let found: Vec<_> = augmented(&row["object"], condition).iter().map(triple).collect();
            let expected: Vec<_> = list(&row, "augmentedConditions").iter().map(triple).collect();
            assert_eq!(found, expected, "{id}");
        }
        checked += 1;
    }
    assert_eq!(checked, 64);
}
