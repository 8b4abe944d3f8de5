//! OpenTelemetry traces of what is done to an installation: a span a plan, a step and a repair.
//!
//! They are made from the events that the log, the metrics and the API are made from; the engine knows nothing of them.
//! Where the environment names no endpoint there is no thread, no queue and no client.

mod environment;
mod otlp_client;
mod spans;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use opentelemetry_sdk::trace::SdkTracerProvider;
use trainerd_engine::drift_controller::DriftEvent;
use trainerd_engine::{EngineError, Event};
use trainerd_plan::desired::Installation;

use self::spans::Spans;

/// How long the end of the process may wait for the last spans to be taken.
const FLUSH: Duration = Duration::from_secs(2);

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
        let read = |name: &str| std::env::var(name).ok();
        let provider = environment::wanted(&read).and_then(|wanted| {
            wanted.map(|wanted| environment::provider(&wanted, tokio::runtime::Handle::current())).transpose()
        });
        match provider {
            Ok(None) => Self::default(),
            Ok(Some(provider)) => Self::of(provider, installation),
            Err(error) => {
                let why = trainerd_causes::one_line(&error);
                tracing::warn!(why, "tracing is off");
                Self::default()
            }
        }
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

    /// Ends what is open, and sends what is left for as long as [`FLUSH`] allows.
    pub(crate) async fn close(self) {
        let Some(open) = self.open else { return };
        lock(&open.spans).ended(Some(&EngineError::Interrupted));
        let provider = open.provider.clone();
        // It blocks until the sender's thread is done, which needs this runtime to send.
        let flushed = tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(FLUSH)).await;
        if !matches!(flushed, Ok(Ok(()))) {
            tracing::debug!("the last traces were not exported in time");
        }
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
