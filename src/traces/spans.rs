//! Spans from events: a plan is one, each of its steps one below it, a repair of drift one by itself.
//!
//! A span carries names, kinds and reasons; never a manifest, which no event has, and of a Secret not even the API
//! server's words, which may quote a value.

use std::borrow::Cow;
use std::collections::HashMap;
use std::time::SystemTime;

use opentelemetry::trace::{
    Span as _, SpanBuilder, Status, TraceContextExt as _, Tracer as _, TracerProvider as _,
};
use opentelemetry::{Context, InstrumentationScope, KeyValue, StringValue, Value};
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider, Span};
use trainerd_causes::one_line;
use trainerd_engine::drift_controller::{DriftEvent, DriftState};
use trainerd_engine::{EngineError, Event};
use trainerd_plan::desired::Installation;
use trainerd_plan::object::ObjectKey;
use trainerd_plan::plan::Purpose;

const INSTALLATION: &str = "trainerd.installation";
const PURPOSE: &str = "trainerd.purpose";
const REVISION: &str = "trainerd.revision";
const RESUMED: &str = "trainerd.resumed";
const OUTCOME: &str = "trainerd.outcome";
const COMPONENT: &str = "trainerd.component";
const VERB: &str = "trainerd.verb";
const KIND: &str = "trainerd.object.kind";
const GROUP: &str = "trainerd.object.group";
const NAME: &str = "trainerd.object.name";
const REASON: &str = "trainerd.reason";
const CHANGED_BY: &str = "trainerd.changed_by";
// These two are of OpenTelemetry's own conventions.
const NAMESPACE: &str = "k8s.namespace.name";
const MESSAGE: &str = "message";

/// What is said in place of words that may quote a Secret.
const UNTOLD: &str = "it is about a Secret: the message is withheld because it may quote the data";

/// How a plan, a step or a repair came to its end.
#[derive(Clone, Copy)]
enum Outcome {
    Done,
    Failed,
    /// It was told to end, or its plan ended before it.
    Interrupted,
}

impl Outcome {
    fn attribute(self) -> KeyValue {
        KeyValue::new(
            OUTCOME,
            match self {
                Self::Done => "done",
                Self::Failed => "failed",
                Self::Interrupted => "interrupted",
            },
        )
    }
}

/// A plan that runs.
struct Plan {
    /// With its span in it.
    context: Context,
    /// The spans of steps in progress. An object has one step at a time.
    steps: HashMap<ObjectKey, Span>,
    /// Whether it failed, and is or will be undone.
    failed: bool,
    /// Whether its error is about a Secret.
    untold: bool,
}

/// Makes spans of what happens to one installation.
pub(super) struct Spans {
    tracer: SdkTracer,
    installation: Installation,
    /// The plan that runs; before it the one that failed and is undone by it.
    plans: Vec<Plan>,
    /// Whether the next plan continues with one that was interrupted.
    resumed: bool,
}

impl Spans {
    /// Nothing runs yet.
    pub(super) fn new(provider: &SdkTracerProvider, installation: Installation) -> Self {
        let scope = InstrumentationScope::builder("trainerd").with_version(env!("CARGO_PKG_VERSION")).build();
        let tracer = provider.tracer_with_scope(scope);
        Self { tracer, installation, plans: Vec::new(), resumed: false }
    }

    /// An event of a plan. What happens before it begins, such as a wait for the lease, has no span to be told in.
    pub(super) fn event(&mut self, event: &Event) {
        match event {
            Event::Planned { purpose, revision, .. } => self.begin(*purpose, *revision),
            Event::Recovering { .. } => self.resumed = true,
            Event::Started { component, object, verb } => self.start(component, object, verb),
            Event::Waiting { object, on } => {
                self.note(object.as_ref(), "waiting", on.to_string(), vec![KeyValue::new(REASON, on.word())]);
            }
            Event::Retrying { object, error, .. } => {
                let error = words(is_secret(object), error).into_owned();
                self.note(Some(object), "retrying", error, Vec::new());
            }
            Event::ChangedByAdmission { object, fields } => {
                self.note(Some(object), "changed by admission", fields.join(", "), Vec::new());
            }
            Event::Overtaken { object, why } => self.overtaken(object, why),
            Event::Done { object, .. } => self.finish(object, Outcome::Done, None),
            Event::Failed { object: Some(object), error } => self.fail(object, error),
            // The plan ends with the same words.
            Event::Failed { object: None, .. } => {}
            Event::RollingBack { to, reason } => self.roll_back(*to, reason),
        }
    }

    /// The plan that ran is over.
    pub(super) fn ended(&mut self, error: Option<&EngineError>) {
        self.resumed = false;
        let (outcome, error) = match error {
            // The plan that brought the revision before back did what it was for.
            None | Some(EngineError::RolledBack { .. }) => (Outcome::Done, None),
            Some(EngineError::Interrupted) => (Outcome::Interrupted, None),
            Some(error) => (Outcome::Failed, Some(one_line(error))),
        };
        if let Some(plan) = self.plans.pop() {
            plan.end(outcome, error.as_deref());
        }
        // Those before it failed, and their reason was told then.
        for plan in self.plans.drain(..).rev() {
            plan.end(Outcome::Failed, None);
        }
    }

    /// An event of the drift controller: a repair, once it was tried.
    pub(super) fn drift_event(&self, event: &DriftEvent) {
        let now = SystemTime::now();
        match event {
            DriftEvent::Repaired { object, verb, by, took } => {
                let by = by.iter().map(|manager| StringValue::from(manager.clone())).collect::<Vec<_>>();
                let mut span = self.repair(object, now.checked_sub(*took).unwrap_or(now));
                span.set_attribute(KeyValue::new(VERB, *verb));
                span.set_attribute(KeyValue::new(CHANGED_BY, Value::Array(by.into())));
                end(span, Outcome::Done, None);
            }
            DriftEvent::Drifted(drift) => {
                if let DriftState::Failed { error } = &drift.state {
                    let span = self.repair(&drift.object, now);
                    end(span, Outcome::Failed, Some(&words(is_secret(&drift.object), error)));
                }
            }
            DriftEvent::Changed
            | DriftEvent::Record(_)
            | DriftEvent::Paused(_)
            | DriftEvent::Owner(_)
            | DriftEvent::Gone(_)
            | DriftEvent::NeedsPlan { .. } => {}
        }
    }

    fn begin(&mut self, purpose: Purpose, revision: Option<u64>) {
        let mut attributes = vec![
            KeyValue::new(INSTALLATION, self.installation.name.clone()),
            KeyValue::new(NAMESPACE, self.installation.namespace.clone()),
            KeyValue::new(PURPOSE, purpose.to_string()),
        ];
        attributes.extend(revision.map(|revision| KeyValue::new(REVISION, number(revision))));
        if std::mem::take(&mut self.resumed) {
            attributes.push(KeyValue::new(RESUMED, true));
        }
        let builder = SpanBuilder::from_name(format!("plan {purpose}")).with_attributes(attributes);
        let before = self.plans.last();
        let parent = before.map(|plan| plan.context.clone()).unwrap_or_default();
        let untold = before.is_some_and(|plan| plan.untold);
        let context = parent.with_span(self.tracer.build_with_context(builder, &parent));
        self.plans.push(Plan { context, steps: HashMap::new(), failed: false, untold });
    }

    fn start(&mut self, component: &str, object: &ObjectKey, verb: &'static str) {
        let Some(plan) = self.plans.last_mut() else { return };
        let mut attributes = about(object);
        attributes.push(KeyValue::new(COMPONENT, component.to_owned()));
        attributes.push(KeyValue::new(VERB, verb));
        let builder = SpanBuilder::from_name(format!("{verb} {}", object.kind)).with_attributes(attributes);
        let span = self.tracer.build_with_context(builder, &plan.context);
        plan.steps.insert(object.clone(), span);
    }

    /// An event of a step's span; of the plan's where none is open, because nothing is sent for the object or its
    /// step was done before.
    fn note(
        &mut self,
        object: Option<&ObjectKey>,
        name: &'static str,
        message: String,
        mut attributes: Vec<KeyValue>,
    ) {
        let Some(plan) = self.plans.last_mut() else { return };
        attributes.push(KeyValue::new(MESSAGE, message));
        match object.map(|object| (object, plan.steps.get_mut(object))) {
            Some((_, Some(span))) => span.add_event(name, attributes),
            Some((object, None)) => {
                attributes.extend(about(object));
                plan.context.span().add_event(name, attributes);
            }
            None => plan.context.span().add_event(name, attributes),
        }
    }

    fn finish(&mut self, object: &ObjectKey, outcome: Outcome, error: Option<&str>) {
        if let Some(span) = self.plans.last_mut().and_then(|plan| plan.steps.remove(object)) {
            end(span, outcome, error);
        }
    }

    fn fail(&mut self, object: &ObjectKey, error: &str) {
        if let Some(plan) = self.plans.last_mut() {
            plan.untold |= is_secret(object);
        }
        self.finish(object, Outcome::Failed, Some(&words(is_secret(object), error)));
    }

    /// The plan that runs ends here, and another one takes its place.
    fn overtaken(&mut self, object: &ObjectKey, why: &str) {
        self.resumed = true;
        if let Some(plan) = self.plans.pop() {
            let message = words(is_secret(object), why).into_owned();
            plan.context.span().add_event("overtaken", vec![KeyValue::new(MESSAGE, message)]);
            plan.end(Outcome::Interrupted, None);
        }
    }

    /// The plan that runs has failed, and another undoes it: below it, so that both are one trace.
    fn roll_back(&mut self, to: u64, reason: &str) {
        // Without one, a plan that was interrupted is undone further.
        let Some(plan) = self.plans.last_mut() else {
            self.resumed = true;
            return;
        };
        let reason = words(plan.untold, reason).into_owned();
        plan.break_off();
        plan.failed = true;
        let span = plan.context.span();
        span.add_event("rolling back", vec![KeyValue::new(REVISION, number(to))]);
        span.set_status(Status::error(reason));
    }

    fn repair(&self, object: &ObjectKey, began: SystemTime) -> Span {
        let mut attributes = about(object);
        attributes.push(KeyValue::new(INSTALLATION, self.installation.name.clone()));
        let builder = SpanBuilder::from_name(format!("repair {}", object.kind))
            .with_start_time(began)
            .with_attributes(attributes);
        // Whatever else continues, nobody asked for it but the drift itself.
        self.tracer.build_with_context(builder, &Context::new())
    }
}

impl Plan {
    fn end(mut self, outcome: Outcome, error: Option<&str>) {
        self.break_off();
        let span = self.context.span();
        // An attribute that is set twice is there twice: how it ended is said here only.
        span.set_attribute(if self.failed { Outcome::Failed } else { outcome }.attribute());
        // What made it fail says more than what came after.
        if let Some(error) = error.filter(|_| !self.failed) {
            span.set_status(Status::error(words(self.untold, error).into_owned()));
        }
        span.end();
    }

    fn break_off(&mut self) {
        for (_, span) in self.steps.drain() {
            end(span, Outcome::Interrupted, None);
        }
    }
}

fn end(mut span: Span, outcome: Outcome, error: Option<&str>) {
    span.set_attribute(outcome.attribute());
    if let Some(error) = error {
        span.set_status(Status::error(error.to_owned()));
    }
    span.end();
}

/// What a span or its event is about.
fn about(object: &ObjectKey) -> Vec<KeyValue> {
    let mut attributes =
        vec![KeyValue::new(KIND, object.kind.clone()), KeyValue::new(NAME, object.name.clone())];
    if !object.group.is_empty() {
        attributes.push(KeyValue::new(GROUP, object.group.clone()));
    }
    attributes.extend(object.namespace.clone().map(|namespace| KeyValue::new(NAMESPACE, namespace)));
    attributes
}

fn is_secret(object: &ObjectKey) -> bool {
    object.group.is_empty() && object.kind == "Secret"
}

fn words(untold: bool, error: &str) -> Cow<'_, str> {
    Cow::Borrowed(if untold { UNTOLD } else { error })
}

/// Attributes have signed numbers only.
fn number(revision: u64) -> i64 {
    i64::try_from(revision).unwrap_or(i64::MAX)
}
