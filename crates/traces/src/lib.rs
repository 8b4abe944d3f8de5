//! OpenTelemetry traces of a program, as the environment asks for them.
//!
//! Where the environment names no endpoint there is no thread, no queue and no client.

mod environment;
mod otlp_client;
mod propagation;

use std::time::Duration;

use opentelemetry_sdk::trace::SdkTracerProvider;
use tokio::runtime::Handle;

pub use propagation::{remote, traceparent, tracestate};

/// How long the end of the process may wait for the last spans to be taken.
pub const FLUSH: Duration = Duration::from_secs(2);

/// A program that sends traces.
#[derive(Clone, Copy, Debug)]
pub struct Service {
    /// Its name, unless the environment has another one.
    pub name: &'static str,
    /// Its version.
    pub version: &'static str,
}

/// What makes spans and sends them, if the environment asks for it. What is wrong there is logged, and tracing is off. To
/// be called in the runtime that sends them.
pub fn provider_from_env(service: Service) -> Option<SdkTracerProvider> {
    let read = |name: &str| std::env::var(name).ok();
    let provider = environment::wanted(&read).and_then(|wanted| {
        wanted.map(|wanted| environment::provider(&wanted, service, Handle::current())).transpose()
    });
    provider.unwrap_or_else(|error| {
        let why = trainerd_causes::one_line(&error);
        tracing::warn!(why, "tracing is off");
        None
    })
}

/// Sends the spans that are left, for as long as two seconds allow. To be called in the runtime that sends them.
pub async fn shut_down(provider: SdkTracerProvider) {
    // It blocks until the sender's thread is done, which needs this runtime to send.
    let flushed = tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(FLUSH)).await;
    if !matches!(flushed, Ok(Ok(()))) {
        tracing::debug!("the last traces were not exported in time");
    }
}
