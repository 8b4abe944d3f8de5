//! Which spans come of which events.

use std::fmt::Write as _;
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::trace::{SpanId, Status};
use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider, SpanData};
use trainerd_engine::drift_controller::{DriftEvent, DriftState, DriftStatus};
use trainerd_engine::error::Failure;
use trainerd_engine::{EngineError, Event};
use trainerd_plan::object::ObjectKey;
use trainerd_plan::plan::{Counts, Purpose};
use trainerd_plan::reason::WaitingOn;

use super::{deployment, installation};
use crate::traces::Traces;

fn traced() -> (Traces, InMemorySpanExporter) {
    let kept = InMemorySpanExporter::default();
    let provider = SdkTracerProvider::builder().with_simple_exporter(kept.clone()).build();
    (Traces::of(provider, &installation()), kept)
}

fn planned(purpose: Purpose, revision: u64) -> Event {
    let counts = Counts { create: 1, change: 1, delete: 0, keep: 0 };
    Event::Planned { purpose, revision: Some(revision), counts }
}

fn started(verb: &'static str, object: ObjectKey) -> Event {
    Event::Started { component: "trainer".to_owned(), object, verb }
}

fn done(verb: &'static str, object: ObjectKey) -> Event {
    Event::Done { object, verb, millis: 1, done: 1, total: 2 }
}

fn waiting(object: ObjectKey, message: &str) -> Event {
    let on = WaitingOn::ready(object.clone(), message);
    Event::Waiting { object: Some(object), on }
}

fn drifted(object: ObjectKey, state: DriftState) -> DriftEvent {
    let component = "trainer".to_owned();
    DriftEvent::Drifted(DriftStatus { component, object, changes: Vec::new(), by: Vec::new(), state })
}

fn secret() -> ObjectKey {
    ObjectKey { group: String::new(), kind: "Secret".to_owned(), ..deployment("webhook-cert") }
}

/// The spans as a tree, a line a span and a line an event, in the order in which they ended.
fn tree(kept: &InMemorySpanExporter) -> String {
    let spans = kept.get_finished_spans().unwrap();
    let mut text = String::new();
    branch(&spans, SpanId::INVALID, 0, &mut text);
    assert_eq!(text.matches('-').count(), spans.len(), "a span hangs in the air: {spans:?}");
    text
}

fn branch(spans: &[SpanData], parent: SpanId, depth: usize, text: &mut String) {
    let indent = "  ".repeat(depth);
    for span in spans.iter().filter(|span| span.parent_span_id == parent) {
        let status = match &span.status {
            Status::Unset => String::new(),
            other => format!(" {other:?}"),
        };
        writeln!(text, "{indent}- {}: {}{status}", span.name, list(&span.attributes)).unwrap();
        for event in span.events.iter() {
            writeln!(text, "{indent}  * {}: {}", event.name, list(&event.attributes)).unwrap();
        }
        assert!(span.start_time <= span.end_time);
        branch(spans, span.span_context.span_id(), depth + 1, text);
    }
}

fn list(attributes: &[KeyValue]) -> String {
    let mut all: Vec<_> =
        attributes.iter().map(|attribute| format!("{}={}", attribute.key, attribute.value)).collect();
    all.sort();
    all.join(" ").replace('-', "_")
}

#[test]
fn a_plan_is_a_span_and_its_steps_are_spans_below_it() {
    let (traces, kept) = traced();
    let (one, two) = (deployment("one"), deployment("two"));
    traces.event(&planned(Purpose::Install, 3));
    traces.event(&Event::Waiting { object: None, on: WaitingOn::Lease { holder: "other".to_owned() } });
    traces.event(&started("create", one.clone()));
    traces.event(&started("apply", two.clone()));
    traces.event(&waiting(one.clone(), "0/1"));
    traces.event(&Event::Retrying { object: two.clone(), error: "too many".to_owned(), after_ms: 5 });
    traces.event(&waiting(one.clone(), "1/2"));
    traces.event(&done("apply", two.clone()));
    // It was done, and is no longer ready.
    traces.event(&waiting(two.clone(), "1/1"));
    traces.event(&done("apply", two));
    traces.event(&done("create", one));
    assert_eq!(kept.get_finished_spans().unwrap().len(), 2, "the plan is not over");
    traces.ended(None);
    insta::assert_snapshot!(tree(&kept));
}

#[test]
fn a_failed_plan_and_its_rollback_are_one_trace() {
    let (traces, kept) = traced();
    let (one, two) = (deployment("one"), deployment("two"));
    traces.event(&planned(Purpose::Upgrade, 4));
    traces.event(&started("apply", one.clone()));
    traces.event(&started("apply", two.clone()));
    traces.event(&Event::Failed { object: Some(one.clone()), error: "no such image".to_owned() });
    traces.event(&Event::RollingBack { to: 3, reason: "one: no such image".to_owned() });
    traces.event(&planned(Purpose::Rollback, 3));
    traces.event(&started("apply", one.clone()));
    traces.event(&done("apply", one));
    let reason = "one: no such image".to_owned();
    traces.ended(Some(&EngineError::RolledBack { purpose: Purpose::Upgrade, revision: 4, back: 3, reason }));
    // The next plan is a trace of its own.
    traces.event(&planned(Purpose::Change, 5));
    traces.ended(None);
    insta::assert_snapshot!(tree(&kept));
    let spans = kept.get_finished_spans().unwrap();
    let of = |name: &str| spans.iter().find(|span| span.name == name).unwrap().span_context.trace_id();
    assert_eq!(of("plan upgrade"), of("plan rollback"));
    assert_ne!(of("plan upgrade"), of("plan change"));
}

#[test]
fn interrupted_and_resumed_plans_are_marked() {
    let (traces, kept) = traced();
    traces.event(&planned(Purpose::Change, 2));
    traces.event(&started("apply", deployment("one")));
    traces.ended(Some(&EngineError::Interrupted));
    traces.event(&Event::Recovering { purpose: Purpose::Change, target: 2, undo: false });
    traces.event(&planned(Purpose::Change, 2));
    let message = "stuck".to_owned();
    let cause = Box::new(Failure::NeverReady { object: deployment("one"), message });
    traces.ended(Some(&EngineError::Failed { purpose: Purpose::Change, revision: 2, cause }));
    insta::assert_snapshot!(tree(&kept));
}

#[test]
fn a_failed_plan_is_an_error_whatever_its_rollback_does() {
    let (traces, kept) = traced();
    traces.event(&planned(Purpose::Upgrade, 4));
    traces.event(&Event::RollingBack { to: 3, reason: "no such image".to_owned() });
    // Before the plan that undoes it began.
    traces.ended(Some(&EngineError::Interrupted));
    insta::assert_snapshot!(tree(&kept));
}

#[test]
fn a_repair_is_one_span() {
    let (traces, kept) = traced();
    let took = Duration::from_millis(40);
    let by = vec!["kubectl".to_owned(), "helm".to_owned()];
    traces.drift_event(&DriftEvent::Repaired { object: deployment("one"), verb: "apply", by, took });
    traces.drift_event(&drifted(deployment("two"), DriftState::Repairing));
    traces.drift_event(&drifted(deployment("two"), DriftState::Failed { error: "forbidden".to_owned() }));
    insta::assert_snapshot!(tree(&kept));
    let spans = kept.get_finished_spans().unwrap();
    let lasted = spans[0].end_time.duration_since(spans[0].start_time).unwrap();
    assert!(lasted >= took && lasted < took + Duration::from_secs(5), "{lasted:?}");
}

#[test]
fn server_messages_about_secrets_are_not_traced() {
    let (traces, kept) = traced();
    let quoted = "hunter2";
    let error = format!("expected string, got {quoted}");
    traces.event(&planned(Purpose::Upgrade, 4));
    traces.event(&started("apply", secret()));
    traces.event(&Event::Retrying { object: secret(), error: error.clone(), after_ms: 1 });
    traces.event(&Event::Failed { object: Some(secret()), error: error.clone() });
    traces.event(&Event::RollingBack { to: 3, reason: error.clone() });
    traces.event(&planned(Purpose::Rollback, 3));
    let cause = Box::new(Failure::NeverReady { object: secret(), message: error.clone() });
    traces.ended(Some(&EngineError::Failed { purpose: Purpose::Upgrade, revision: 4, cause }));
    traces.drift_event(&drifted(secret(), DriftState::Failed { error }));
    let spans = kept.get_finished_spans().unwrap();
    assert_eq!(spans.len(), 4);
    assert!(spans.iter().all(|span| matches!(span.status, Status::Error { .. })), "{spans:?}");
    assert!(!format!("{spans:?}").contains(quoted), "{spans:?}");
}
