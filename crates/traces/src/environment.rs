//! What the environment says of traces: the variables that OpenTelemetry defines for every program.
//!
//! The SDK reads most of them itself: headers, sampler, limits, resource attributes. Read here is what decides whether
//! there is an SDK at all, and what its HTTP client has to know.

use std::io;
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry_otlp::{
    ExporterBuildError, OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_EXPORTER_OTLP_PROTOCOL, OTEL_EXPORTER_OTLP_TIMEOUT,
    OTEL_EXPORTER_OTLP_TIMEOUT_DEFAULT, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT,
    OTEL_EXPORTER_OTLP_TRACES_PROTOCOL, OTEL_EXPORTER_OTLP_TRACES_TIMEOUT, SpanExporter, WithHttpConfig as _,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::resource::{EnvResourceDetector, TelemetryResourceDetector};
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, OTEL_BSP_MAX_EXPORT_BATCH_SIZE, OTEL_BSP_MAX_QUEUE_SIZE,
    SdkTracerProvider,
};
use tokio::runtime::Handle;

use crate::{Service, otlp_client};

/// Turns the whole SDK off.
const SDK_DISABLED: &str = "OTEL_SDK_DISABLED";
/// Which exporters send traces: `otlp` or `none`.
const TRACES_EXPORTER: &str = "OTEL_TRACES_EXPORTER";
/// The service's name, before any in the resource attributes.
const SERVICE_NAME: &str = "OTEL_SERVICE_NAME";

/// Spans that wait to be sent at most. The SDK's own bound is twice that, and is taken up from the start.
const QUEUE: usize = 1024;
/// Spans in one request at most.
const BATCH: usize = 256;

/// Why tracing is off although an endpoint is named.
#[derive(Debug, thiserror::Error)]
pub(super) enum EnvironmentError {
    /// The endpoint is to be spoken to in a way that we do not know.
    #[error("{variable} is {value}, and only http/protobuf is supported (port 4318 of most collectors)")]
    Protocol {
        /// Which variable says so.
        variable: &'static str,
        /// What it says.
        value: String,
    },
    /// Somebody else than an OTLP endpoint is to have the traces.
    #[error("{TRACES_EXPORTER} is {0}, and only otlp and none are supported")]
    Exporter(String),
    /// The system's certificates cannot be read.
    #[error("failed to read the system's certificates")]
    Roots(#[from] io::Error),
    /// The exporter does not take the rest of the environment.
    #[error("failed to set up the exporter")]
    Exported(#[from] ExporterBuildError),
}

/// What is wanted, where traces are.
#[derive(Debug, PartialEq)]
pub(super) struct Wanted {
    /// Whether the endpoint is spoken to with TLS.
    pub(super) tls: bool,
    /// How long a request may take.
    pub(super) patience: Duration,
    /// The service's name, where there is a variable only for that.
    service: Option<String>,
    /// Whether the queue, and the requests, are as large as the environment says.
    queue: bool,
    batch: bool,
}

/// Reads the environment. `None`: no traces are wanted.
///
/// # Errors
/// [`EnvironmentError::Protocol`], [`EnvironmentError::Exporter`]: they are, but not as we can.
pub(super) fn wanted(read: &dyn Fn(&str) -> Option<String>) -> Result<Option<Wanted>, EnvironmentError> {
    // By the specification an empty variable is one that is not set.
    let read = |name: &str| read(name).filter(|value| !value.is_empty());
    let first =
        |names: [&'static str; 2]| names.into_iter().find_map(|name| read(name).map(|value| (name, value)));
    let Some((_, endpoint)) = first([OTEL_EXPORTER_OTLP_TRACES_ENDPOINT, OTEL_EXPORTER_OTLP_ENDPOINT]) else {
        return Ok(None);
    };
    if read(SDK_DISABLED).is_some_and(|value| value.eq_ignore_ascii_case("true")) {
        return Ok(None);
    }
    match read(TRACES_EXPORTER) {
        Some(none) if none == "none" => return Ok(None),
        Some(other) if other != "otlp" => return Err(EnvironmentError::Exporter(other)),
        _ => {}
    }
    match first([OTEL_EXPORTER_OTLP_TRACES_PROTOCOL, OTEL_EXPORTER_OTLP_PROTOCOL]) {
        Some((variable, value)) if value != "http/protobuf" => {
            return Err(EnvironmentError::Protocol { variable, value });
        }
        _ => {}
    }
    let patience = first([OTEL_EXPORTER_OTLP_TRACES_TIMEOUT, OTEL_EXPORTER_OTLP_TIMEOUT])
        .and_then(|(_, value)| value.parse().ok())
        .map_or(OTEL_EXPORTER_OTLP_TIMEOUT_DEFAULT, Duration::from_millis);
    Ok(Some(Wanted {
        tls: endpoint.starts_with("https:"),
        patience,
        service: read(SERVICE_NAME),
        queue: read(OTEL_BSP_MAX_QUEUE_SIZE).is_some(),
        batch: read(OTEL_BSP_MAX_EXPORT_BATCH_SIZE).is_some(),
    }))
}

/// What makes spans and sends them, on `runtime`, from a thread of its own.
///
/// # Errors
/// [`EnvironmentError::Roots`], [`EnvironmentError::Exported`].
pub(super) fn provider(
    wanted: &Wanted,
    service: Service,
    runtime: Handle,
) -> Result<SdkTracerProvider, EnvironmentError> {
    let client = otlp_client::otlp_client(wanted.tls, wanted.patience, runtime)?;
    let exporter = SpanExporter::builder().with_http().with_shared_http_client(client).build()?;
    let mut config = BatchConfigBuilder::default();
    if !wanted.queue {
        config = config.with_max_queue_size(QUEUE);
    }
    if !wanted.batch {
        config = config.with_max_export_batch_size(BATCH);
    }
    let processor = BatchSpanProcessor::builder(exporter).with_batch_config(config.build()).build();
    let resource = resource(service, wanted.service.as_deref());
    Ok(SdkTracerProvider::builder().with_resource(resource).with_span_processor(processor).build())
}

/// Who sends: what the environment says, and ours where it says nothing.
fn resource(program: Service, service: Option<&str>) -> Resource {
    let resource = Resource::builder_empty()
        .with_service_name(program.name)
        .with_attribute(KeyValue::new("service.version", program.version))
        .with_detectors(&[Box::new(TelemetryResourceDetector), Box::new(EnvResourceDetector::new())]);
    match service {
        Some(name) => resource.with_service_name(name.to_owned()),
        None => resource,
    }
    .build()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(set: &[(&str, &str)]) -> Result<Option<Wanted>, EnvironmentError> {
        let set: Vec<(String, String)> =
            set.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        wanted(&move |name| set.iter().find(|(set, _)| set == name).map(|(_, value)| value.clone()))
    }

    #[test]
    fn without_an_endpoint_tracing_is_off() {
        let others = [("OTEL_SERVICE_NAME", "a"), ("OTEL_TRACES_EXPORTER", "otlp")];
        for set in [&[][..], &others, &[("OTEL_EXPORTER_OTLP_ENDPOINT", "")]] {
            assert_eq!(of(set).unwrap(), None, "{set:?}");
        }
    }

    #[test]
    fn disabling_variables_are_respected() {
        let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318");
        for off in [("OTEL_SDK_DISABLED", "TRUE"), ("OTEL_TRACES_EXPORTER", "none")] {
            assert_eq!(of(&[endpoint, off]).unwrap(), None, "{off:?}");
        }
        for on in [("OTEL_SDK_DISABLED", "false"), ("OTEL_TRACES_EXPORTER", "otlp")] {
            assert!(of(&[endpoint, on]).unwrap().is_some(), "{on:?}");
        }
    }

    #[test]
    fn trace_variables_override_general_ones() {
        let all = [("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318"), ("OTEL_EXPORTER_OTLP_TIMEOUT", "5")];
        let wanted = of(&all).unwrap().unwrap();
        assert_eq!((wanted.tls, wanted.patience), (false, Duration::from_millis(5)));
        let own = [
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://c/v1/traces"),
            ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "7"),
        ];
        let wanted = of(&[&all[..], &own].concat()).unwrap().unwrap();
        assert_eq!((wanted.tls, wanted.patience), (true, Duration::from_millis(7)));
    }

    #[test]
    fn unsupported_settings_are_reported() {
        let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4317");
        let error = of(&[endpoint, ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")]).unwrap_err();
        assert!(error.to_string().starts_with("OTEL_EXPORTER_OTLP_PROTOCOL is grpc"), "{error}");
        let error = of(&[endpoint, ("OTEL_TRACES_EXPORTER", "zipkin")]).unwrap_err();
        assert!(error.to_string().contains("zipkin"), "{error}");
    }
}
