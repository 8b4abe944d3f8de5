//! OpenTelemetry spans of what is done for a request or at the start. Without a tracer provider they cost nothing.

use opentelemetry::trace::{Span as _, SpanBuilder, SpanKind, Status, TraceContextExt as _, Tracer as _};
use opentelemetry::{Context, KeyValue, global};
use tonic::metadata::MetadataMap;

/// Name of the instrumentation.
const SCOPE: &str = "trainerd-cache";

/// A span that is open.
#[derive(Debug)]
pub struct Span {
    context: Context,
    /// Whether the context's span is this one.
    is_open: bool,
}

impl Span {
    /// Of an RPC, below the span of the client if its metadata names one.
    pub fn server(method: &'static str, metadata: &MetadataMap) -> Self {
        let header = |name: &str| metadata.get(name).and_then(|value| value.to_str().ok());
        let parent = trainerd_traces::remote(header("traceparent"), header("tracestate"));
        let builder = SpanBuilder::from_name(method).with_kind(SpanKind::Server).with_attributes(vec![
            KeyValue::new("rpc.system", "grpc"),
            KeyValue::new("rpc.service", "arrow.flight.protocol.FlightService"),
            KeyValue::new("rpc.method", method),
        ]);
        Self::build(builder, &parent)
    }

    /// Of work inside the process, below another span or as the root of a trace.
    pub fn internal(name: &'static str, parent: &Context, attributes: Vec<KeyValue>) -> Self {
        Self::build(SpanBuilder::from_name(name).with_attributes(attributes), parent)
    }

    /// As [`Span::internal`], and nothing where there is no span above it.
    pub fn child(name: &'static str, parent: &Context) -> Self {
        if !parent.span().span_context().is_valid() {
            return Self { context: Context::new(), is_open: false };
        }
        Self::internal(name, parent, Vec::new())
    }

    fn build(builder: SpanBuilder, parent: &Context) -> Self {
        let span = global::tracer(SCOPE).build_with_context(builder, parent);
        // Without a tracer provider, the span would hide the one above it.
        if !span.span_context().is_valid() {
            return Self { context: parent.clone(), is_open: false };
        }
        Self { context: parent.with_span(span), is_open: true }
    }

    /// What spans below it are given.
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// Adds an attribute.
    pub fn set(&self, attribute: KeyValue) {
        if self.is_open {
            self.context.span().set_attribute(attribute);
        }
    }

    /// Adds what went wrong.
    pub fn fail(&self, error: &str) {
        if self.is_open {
            self.context.span().set_status(Status::error(error.to_owned()));
        }
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        if self.is_open {
            self.context.span().end();
        }
    }
}

/// Attributes have signed numbers only.
pub fn number(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
