//! The log as zap writes it, which log collectors of this controller expect: one JSON object a line with `level`, `ts`,
//! `logger` and `msg`, or a console line.

use std::fmt;
use std::io;

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{EnvFilter, Layer as _};

use crate::flags::{LogFlags, LogLevel, TimeEncoding};

/// What writes the log to stderr, as the flags say.
pub fn subscriber(flags: LogFlags) -> impl Subscriber + Send + Sync {
    let filter = match flags.level {
        LogLevel::Error => "error,kube_client=off",
        LogLevel::Info => "warn,kube_client=off,trainerd_reconciler=info,trainerd_cluster=info",
        LogLevel::Debug => "warn,kube_client=off,trainerd_reconciler=debug,trainerd_cluster=info",
        LogLevel::Trace => "info,kube_client=off,trainerd_reconciler=trace,trainerd_cluster=debug",
    };
    let layer = tracing_subscriber::fmt::layer().event_format(Zap(flags)).with_writer(io::stderr);
    tracing_subscriber::registry().with(layer.with_filter(EnvFilter::new(filter)))
}

struct Zap(LogFlags);

impl<S, N> FormatEvent<S, N> for Zap
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let metadata = event.metadata();
        let level = match *metadata.level() {
            Level::ERROR => "error",
            // zap knows a level of this name, controller-runtime does not use it.
            Level::WARN => "warn",
            Level::INFO => "info",
            Level::DEBUG | Level::TRACE => "debug",
        };
        let logger =
            metadata.target().strip_prefix("trainerd_").unwrap_or(metadata.target()).replace("::", ".");
        let time = time(self.0.time, jiff::Timestamp::now());
        let mut fields = Fields::default();
        event.record(&mut fields);
        let Fields { message, others } = fields;
        if self.0.console {
            let time = time.as_str().map_or_else(|| time.to_string(), str::to_owned);
            write!(writer, "{time}\t{}\t{logger}\t{message}", level.to_uppercase())?;
            if !others.is_empty() {
                write!(writer, "\t{}", Value::Object(others))?;
            }
            return writeln!(writer);
        }
        // In zap's order: a map would put `ts` last.
        let text = |text: &str| Value::from(text).to_string();
        write!(writer, "{{\"level\":{},\"ts\":{time},\"logger\":{}", text(level), text(&logger))?;
        write!(writer, ",\"msg\":{}", text(&message))?;
        for (name, value) in others {
            write!(writer, ",{}:{value}", text(&name))?;
        }
        writeln!(writer, "}}")
    }
}

#[expect(clippy::cast_precision_loss, reason = "zap writes floats")]
fn time(encoding: TimeEncoding, now: jiff::Timestamp) -> Value {
    let nanoseconds = now.as_nanosecond();
    match encoding {
        TimeEncoding::Epoch => Value::from(nanoseconds as f64 / 1e9),
        TimeEncoding::Millis => Value::from(nanoseconds as f64 / 1e6),
        TimeEncoding::Nano => Value::from(i64::try_from(nanoseconds).unwrap_or(i64::MAX)),
        TimeEncoding::Iso8601 => Value::from(format!("{now:.3}")),
        TimeEncoding::Rfc3339 => Value::from(format!("{now:.0}")),
        TimeEncoding::Rfc3339Nano => Value::from(format!("{now:.9}")),
    }
}

/// What an event says.
#[derive(Default)]
struct Fields {
    message: String,
    others: Map<String, Value>,
}

impl Fields {
    fn put(&mut self, field: &Field, value: Value) {
        match (field.name(), value) {
            ("message", Value::String(message)) => self.message = message,
            (name, value) => {
                self.others.insert(name.to_owned(), value);
            }
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, Value::from(format!("{value:?}")));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value.into());
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.put(field, trainerd_causes::one_line(value).into());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn written(flags: LogFlags, say: impl Fn()) -> String {
        let sink = Sink::default();
        let writer = sink.clone();
        let layer =
            tracing_subscriber::fmt::layer().event_format(Zap(flags)).with_writer(move || writer.clone());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), say);
        let bytes = sink.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_log_line_is_json_in_zaps_order() {
        let flags = LogFlags { console: false, level: LogLevel::Info, time: TimeEncoding::Rfc3339Nano };
        let line = written(flags, || tracing::info!(count = 3, name = "a\"b", "hello\nworld"));
        let value: Value = serde_json::from_str(&line).unwrap();
        assert_eq!((&value["level"], &value["msg"]), (&"info".into(), &"hello\nworld".into()));
        assert_eq!((&value["count"], &value["name"]), (&3.into(), &"a\"b".into()));
        assert_eq!(value["logger"], "reconciler.log.tests");
        assert!(line.starts_with("{\"level\":\"info\",\"ts\":\"2"), "{line}");
        assert_eq!(line.lines().count(), 1);
    }

    #[test]
    fn the_console_format_is_supported() {
        let flags = LogFlags { console: true, level: LogLevel::Info, time: TimeEncoding::Rfc3339 };
        let line = written(flags, || tracing::error!(object = "ns/a", "failed"));
        let parts: Vec<&str> = line.trim_end().split('\t').collect();
        assert_eq!(parts[1..], ["ERROR", "reconciler.log.tests", "failed", "{\"object\":\"ns/a\"}"]);
    }

    #[test]
    fn time_formats_are_respected() {
        let now: jiff::Timestamp = "2026-01-02T03:04:05.123456789Z".parse().unwrap();
        let cases = [
            (TimeEncoding::Epoch, "1767323045.1234567"),
            (TimeEncoding::Millis, "1767323045123.4568"),
            (TimeEncoding::Nano, "1767323045123456789"),
            (TimeEncoding::Iso8601, "\"2026-01-02T03:04:05.123Z\""),
            (TimeEncoding::Rfc3339, "\"2026-01-02T03:04:05Z\""),
            (TimeEncoding::Rfc3339Nano, "\"2026-01-02T03:04:05.123456789Z\""),
        ];
        for (encoding, expected) in cases {
            assert_eq!(time(encoding, now).to_string(), expected);
        }
    }
}
