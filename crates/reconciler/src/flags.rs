//! Arguments in the syntax of Go's flag package, which Deployments and test suites pass to the manager:
//! `-flag=value`, `--flag=value` and `--flag value`.

use std::path::PathBuf;

/// What the arguments say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flags {
    /// Configuration file; `None` for the defaults.
    pub config: Option<PathBuf>,
    /// `Gate=true,Other=false`, which overrides the file.
    pub feature_gates: String,
    /// Explicit kubeconfig.
    pub kubeconfig: Option<PathBuf>,
    /// How the log is written.
    pub log: LogFlags,
}

/// How the log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogFlags {
    /// Lines of text instead of JSON.
    pub console: bool,
    /// Least severity that is written.
    pub level: LogLevel,
    /// How a time is written.
    pub time: TimeEncoding,
}

/// Least severity that is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    /// Errors only (`error`, `panic`).
    Error,
    /// What happens (`info`).
    Info,
    /// And why (`debug`, or a verbosity of 1 and more).
    Debug,
    /// And every request (a verbosity of 5 and more, where client-go logs requests).
    Trace,
}

/// How a time is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeEncoding {
    /// Seconds since 1970, with a fraction.
    Epoch,
    /// Milliseconds since 1970, with a fraction.
    Millis,
    /// Nanoseconds since 1970.
    Nano,
    /// `2026-01-02T03:04:05.000Z`.
    Iso8601,
    /// `2026-01-02T03:04:05Z`.
    Rfc3339,
    /// `2026-01-02T03:04:05.000000000Z`.
    Rfc3339Nano,
}

/// Why the arguments say nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FlagsError {
    /// `-h` or `--help`: no error, but usage is all that is wanted.
    #[error("flag: help requested")]
    Help,
    /// There is no such flag.
    #[error("flag provided but not defined: -{0}")]
    Unknown(String),
    /// A flag needs a value.
    #[error("flag needs an argument: -{0}")]
    NoValue(String),
    /// `--`, `-`, `---x` or `-=x` where a flag is expected.
    #[error("bad flag syntax: {0}")]
    Syntax(String),
    /// A value that the flag does not take.
    #[error("invalid value {value:?} for flag -{flag}: {expected}")]
    Value {
        /// The flag.
        flag: &'static str,
        /// What it was given.
        value: String,
        /// What it takes.
        expected: &'static str,
    },
}

/// Usage, as `--help` and an error show it.
pub const USAGE: &str = "\
Usage of manager:
  -config string
    \tFile with the initial configuration. Without it the built-in defaults apply.
  -feature-gates value
    \tComma-separated Gate=true|false pairs: AllAlpha, AllBeta, TrainJobStatus (alpha, default false).
  -kubeconfig string
    \tPath to a kubeconfig. Without it: KUBECONFIG, then the service account of the pod, then ~/.kube/config.
  -zap-devel
    \tDevelopment compatibility: console output, debug level.
  -zap-encoder value
    \tLog encoding: json or console.
  -zap-log-level value
    \tLog level: debug, info, error, panic or a positive verbosity.
  -zap-stacktrace-level value
    \tAccepted and ignored: info, error or panic.
  -zap-time-encoding value
    \tTime encoding: epoch, millis, nano, iso8601, rfc3339 or rfc3339nano (default).
";

impl Default for Flags {
    fn default() -> Self {
        let log = LogFlags { console: false, level: LogLevel::Info, time: TimeEncoding::Rfc3339Nano };
        Self { config: None, feature_gates: String::new(), kubeconfig: None, log }
    }
}

impl Flags {
    /// Reads arguments, the program's name not among them. What follows `--` or the first word that is no flag is
    /// ignored, as Go's package leaves it to a program that does not ask for it.
    pub fn parse<S: AsRef<str>>(arguments: impl IntoIterator<Item = S>) -> Result<Self, FlagsError> {
        let mut read = Read::default();
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            let argument = argument.as_ref();
            let Some(flag) = argument.strip_prefix('-').filter(|rest| !rest.is_empty()) else { break };
            let flag = flag.strip_prefix('-').unwrap_or(flag);
            if flag.is_empty() {
                break;
            }
            if flag.starts_with(['-', '=']) {
                return Err(FlagsError::Syntax(argument.to_owned()));
            }
            let (name, value) = match flag.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (flag, None),
            };
            let known = Known::find(name)?;
            let value = match value {
                Some(value) => value,
                None if known == Known::Devel => "true".to_owned(),
                None => match arguments.next() {
                    Some(value) => value.as_ref().to_owned(),
                    None => return Err(FlagsError::NoValue(name.to_owned())),
                },
            };
            read.take(known, value)?;
        }
        Ok(read.flags())
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Known {
    Config,
    FeatureGates,
    Kubeconfig,
    Devel,
    Encoder,
    Level,
    Stacktrace,
    Time,
}

impl Known {
    fn find(name: &str) -> Result<Self, FlagsError> {
        Ok(match name {
            "config" => Self::Config,
            "feature-gates" => Self::FeatureGates,
            "kubeconfig" => Self::Kubeconfig,
            "zap-devel" => Self::Devel,
            "zap-encoder" => Self::Encoder,
            "zap-log-level" => Self::Level,
            "zap-stacktrace-level" => Self::Stacktrace,
            "zap-time-encoding" => Self::Time,
            "h" | "help" => return Err(FlagsError::Help),
            _ => return Err(FlagsError::Unknown(name.to_owned())),
        })
    }
}

/// What was given: the development compatibility only chooses what nothing else does, wherever it stands.
#[derive(Default)]
struct Read {
    config: Option<PathBuf>,
    feature_gates: String,
    kubeconfig: Option<PathBuf>,
    devel: bool,
    console: Option<bool>,
    level: Option<LogLevel>,
    time: Option<TimeEncoding>,
}

impl Read {
    fn take(&mut self, known: Known, value: String) -> Result<(), FlagsError> {
        let bad = |flag, expected| FlagsError::Value { flag, value: value.clone(), expected };
        match known {
            Known::Config => self.config = path(&value),
            Known::FeatureGates => self.feature_gates = value,
            Known::Kubeconfig => self.kubeconfig = path(&value),
            Known::Devel => {
                self.devel = match value.as_str() {
                    "1" | "t" | "T" | "true" | "TRUE" | "True" => true,
                    "0" | "f" | "F" | "false" | "FALSE" | "False" => false,
                    _ => return Err(bad("zap-devel", "a boolean is expected")),
                };
            }
            Known::Encoder => {
                self.console = Some(match value.to_lowercase().as_str() {
                    "json" => false,
                    "console" => true,
                    _ => return Err(bad("zap-encoder", "json or console is expected")),
                });
            }
            Known::Level => {
                let read = level(&value);
                let expected = "debug, info, error, panic or a positive number is expected";
                self.level = Some(read.ok_or_else(|| bad("zap-log-level", expected))?);
            }
            Known::Stacktrace => match value.to_lowercase().as_str() {
                "info" | "error" | "panic" => {}
                _ => return Err(bad("zap-stacktrace-level", "info, error or panic is expected")),
            },
            Known::Time => {
                self.time = Some(match value.as_str() {
                    "epoch" => TimeEncoding::Epoch,
                    "millis" => TimeEncoding::Millis,
                    "nano" => TimeEncoding::Nano,
                    "iso8601" | "ISO8601" => TimeEncoding::Iso8601,
                    "rfc3339" | "RFC3339" => TimeEncoding::Rfc3339,
                    "rfc3339nano" | "RFC3339Nano" => TimeEncoding::Rfc3339Nano,
                    _ => return Err(bad("zap-time-encoding", "a known encoding is expected")),
                });
            }
        }
        Ok(())
    }

    fn flags(self) -> Flags {
        let log = LogFlags {
            console: self.console.unwrap_or(self.devel),
            level: self.level.unwrap_or(if self.devel { LogLevel::Debug } else { LogLevel::Info }),
            time: self.time.unwrap_or(TimeEncoding::Rfc3339Nano),
        };
        Flags { config: self.config, feature_gates: self.feature_gates, kubeconfig: self.kubeconfig, log }
    }
}

fn path(value: &str) -> Option<PathBuf> {
    (!value.is_empty()).then(|| value.into())
}

fn level(value: &str) -> Option<LogLevel> {
    match value.to_lowercase().as_str() {
        "debug" => return Some(LogLevel::Debug),
        "info" => return Some(LogLevel::Info),
        "error" | "panic" => return Some(LogLevel::Error),
        _ => {}
    }
    match value.parse::<u32>().ok()? {
        0 => None,
        1..5 => Some(LogLevel::Debug),
        _ => Some(LogLevel::Trace),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Flags, FlagsError> {
        Flags::parse(line.split_whitespace())
    }

    #[test]
    fn flags_are_parsed_in_all_of_gos_forms() {
        let flags = Flags { config: Some("/a".into()), ..Flags::default() };
        for line in ["-config=/a", "--config=/a", "-config /a", "--config /a", "--config=/b --config=/a"] {
            assert_eq!(parse(line), Ok(flags.clone()), "{line}");
        }
        assert_eq!(parse(""), Ok(Flags::default()));
        assert_eq!(parse("--config="), Ok(Flags::default()), "an empty value is the default");
        assert_eq!(parse("--config /a -- --nonsense"), Ok(flags.clone()));
        assert_eq!(parse("--config /a word --nonsense"), Ok(flags));
    }

    #[test]
    fn unknown_flags_are_reported() {
        let value = |flag, value: &str| {
            let error = parse(&format!("--{flag}={value}")).unwrap_err();
            assert!(matches!(&error, FlagsError::Value { .. }), "{error}");
        };
        for bad in ["0", "-1", "warn", "1.5", ""] {
            value("zap-log-level", bad);
        }
        value("zap-devel", "yes");
        value("zap-encoder", "xml");
        value("zap-stacktrace-level", "debug");
        value("zap-time-encoding", "unix");
        let cases = [
            ("--unknown", FlagsError::Unknown("unknown".to_owned())),
            ("--unknown=1", FlagsError::Unknown("unknown".to_owned())),
            ("--config", FlagsError::NoValue("config".to_owned())),
            ("---config=x", FlagsError::Syntax("---config=x".to_owned())),
            ("-=x", FlagsError::Syntax("-=x".to_owned())),
            ("-h", FlagsError::Help),
            ("--help", FlagsError::Help),
        ];
        for (line, error) in cases {
            assert_eq!(parse(line), Err(error), "{line}");
        }
        assert_eq!(parse("--unknown").unwrap_err().to_string(), "flag provided but not defined: -unknown");
    }

    #[test]
    fn development_mode_sets_the_log_defaults() {
        let log = |line: &str| parse(line).unwrap().log;
        assert_eq!(log("--zap-log-level=2").level, LogLevel::Debug);
        assert_eq!(log("--zap-log-level=9").level, LogLevel::Trace);
        let devel = log("--zap-devel");
        assert_eq!((devel.console, devel.level), (true, LogLevel::Debug));
        let mixed = log("--zap-encoder=json --zap-log-level error --zap-devel");
        assert_eq!((mixed.console, mixed.level), (false, LogLevel::Error));
        assert!(!log("--zap-devel=false").console);
    }
}
