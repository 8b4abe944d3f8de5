//! The context of a trace between processes, in the form of W3C's Trace Context.

use std::collections::HashMap;

use opentelemetry::Context;
use opentelemetry::propagation::TextMapPropagator as _;
use opentelemetry_sdk::propagation::TraceContextPropagator;

const TRACEPARENT: &str = "traceparent";
const TRACESTATE: &str = "tracestate";

/// A context with the span that these texts name; an empty one where they name none.
pub fn remote(traceparent: Option<&str>, tracestate: Option<&str>) -> Context {
    let mut carrier = HashMap::new();
    for (name, value) in [(TRACEPARENT, traceparent), (TRACESTATE, tracestate)] {
        carrier.extend(value.map(|value| (name.to_owned(), value.to_owned())));
    }
    if carrier.is_empty() {
        return Context::new();
    }
    TraceContextPropagator::new().extract_with_context(&Context::new(), &carrier)
}

/// The `traceparent` of a context's span; nothing where it has none.
pub fn traceparent(context: &Context) -> Option<String> {
    injected(context, TRACEPARENT)
}

/// The `tracestate` of a context's span; nothing where it has none.
pub fn tracestate(context: &Context) -> Option<String> {
    injected(context, TRACESTATE)
}

fn injected(context: &Context, name: &str) -> Option<String> {
    let mut carrier = HashMap::new();
    TraceContextPropagator::new().inject_context(context, &mut carrier);
    carrier.remove(name).filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::TraceContextExt as _;

    use super::*;

    #[test]
    fn a_context_is_read_as_it_is_written_and_nothing_else_is_one() {
        let text = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let context = remote(Some(text), Some("vendor=1"));
        assert!(context.span().span_context().is_remote());
        assert_eq!(traceparent(&context).as_deref(), Some(text));
        assert_eq!(tracestate(&context).as_deref(), Some("vendor=1"));
        for bad in ["", "00-0-0-01", "00-00000000000000000000000000000000-b7ad6b7169203331-01", "x"] {
            let context = remote(Some(bad), None);
            assert!(!context.span().span_context().is_valid(), "{bad}");
            assert_eq!((traceparent(&context), tracestate(&context)), (None, None), "{bad}");
        }
        assert_eq!(traceparent(&remote(None, Some("vendor=1"))), None);
    }
}
