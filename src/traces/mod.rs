//! OpenTelemetry traces of what is done to an installation: a span a plan, a step and a repair.
//!
//! They are made from the events that the log, the metrics and the API are made from; the engine knows nothing of them.
//! Where the environment names no endpoint there is no thread, no queue and no client.

mod spans;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use opentelemetry_sdk::trace::SdkTracerProvider;
use trainerd_engine::drift_controller::DriftEvent;
use trainerd_engine::{EngineError, Event};
use trainerd_plan::desired::Installation;
use trainerd_traces::{Service, provider_from_env, shut_down};

use self::spans::Spans;

/// The service that the traces are of.
const SERVICE: Service = Service { name: "trainerd", version: env!("CARGO_PKG_VERSION") };

/// Makes spans of what happens, or nothing where nobody wants them.
#[derive(Clone, Default)]
pub(crate) struct Traces {
    open: Option<Arc<Open>>,
}

struct Open {
    spans: Mutex<Spans>,
    provider: SdkTracerProvider,
}

impl Traces {
    /// Traces as the environment wants them. What is wrong there is said, and tracing is off. To be called where
    /// the runtime is that sends them.
    pub(crate) fn of_environment(installation: &Installation) -> Self {
        provider_from_env(SERVICE).map_or_else(Self::default, |provider| Self::of(provider, installation))
    }

    fn of(provider: SdkTracerProvider, installation: &Installation) -> Self {
        let spans = Mutex::new(Spans::new(&provider, installation.clone()));
        Self { open: Some(Arc::new(Open { spans, provider })) }
    }

    /// An event of a plan.
    pub(crate) fn event(&self, event: &Event) {
        if let Some(mut spans) = self.spans() {
            spans.event(event);
        }
    }

    /// The plan that ran is over: done, or ended by this.
    pub(crate) fn ended(&self, error: Option<&EngineError>) {
        if let Some(mut spans) = self.spans() {
            spans.ended(error);
        }
    }

    /// An event of the drift controller.
    pub(crate) fn drift_event(&self, event: &DriftEvent) {
        if let Some(spans) = self.spans() {
            spans.drift_event(event);
        }
    }

    /// Ends what is open, and sends what is left for as long as [`shut_down`] allows.
    pub(crate) async fn close(self) {
        let Some(open) = self.open else { return };
        lock(&open.spans).ended(Some(&EngineError::Interrupted));
        shut_down(open.provider.clone()).await;
    }

    fn spans(&self) -> Option<MutexGuard<'_, Spans>> {
        self.open.as_ref().map(|open| lock(&open.spans))
    }
}

/// Spans have no state that a panic elsewhere would leave in halves.
fn lock(spans: &Mutex<Spans>) -> MutexGuard<'_, Spans> {
    spans.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
