//! Where words go: data to stdout, everything meant for a person to stderr.

use std::io::{self, IsTerminal as _, Write as _};

use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;

use super::args::{Format, OutputArgs};
use super::terminal::{escaped_json, marked, shown};
use crate::problem::Problem;

/// How much is said on stderr.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verbosity {
    /// Errors only.
    Quiet,
    /// What happens.
    Normal,
    /// Also what does not change.
    Verbose,
}

/// The one place that writes to stdout and stderr.
#[derive(Clone, Debug)]
pub(crate) struct Printer {
    /// As asked for; `None` where each verb has its own default.
    pub(crate) asked: Option<Format>,
    pub(crate) verbosity: Verbosity,
    color: bool,
    terminal: bool,
}

/// What a colour stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tone {
    /// Wrong, or going away.
    Bad,
    /// Worth a look, or changing.
    Attention,
    /// Well, or new.
    Good,
    /// Beside the point.
    Faint,
    /// A heading.
    Strong,
}

impl Printer {
    /// A printer for what the command line asks for.
    pub(crate) fn new(args: &OutputArgs) -> Self {
        let verbosity = match (args.quiet, args.verbose) {
            (true, _) => Verbosity::Quiet,
            (false, 0) => Verbosity::Normal,
            (false, _) => Verbosity::Verbose,
        };
        let terminal = io::stderr().is_terminal();
        Self {
            asked: args.output,
            verbosity,
            color: terminal && !args.no_color && !colors_unwanted(),
            terminal,
        }
    }

    /// The format, tables where none was asked for.
    pub(crate) fn format(&self) -> Format {
        self.asked.unwrap_or(Format::Table)
    }

    /// Whether stderr is a terminal that may be drawn on.
    pub(crate) fn draws(&self) -> bool {
        self.terminal && self.verbosity > Verbosity::Quiet
    }

    /// Data, to stdout, without what would steer a terminal. A reader that went away has seen enough.
    #[expect(clippy::unused_self, reason = "whoever prints holds the printer, and nobody else prints")]
    pub(crate) fn data(&self, text: &str) -> Result<(), Problem> {
        let mut stdout = io::stdout().lock();
        let written = stdout.write_all(shown(text).as_bytes()).and_then(|()| stdout.flush());
        match written {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Problem::output(&error)),
            _ => Ok(()),
        }
    }

    /// Data, to stdout: a table for people, or a document.
    pub(crate) fn show<T: Serialize + ?Sized>(
        &self,
        value: &T,
        table: impl FnOnce() -> String,
    ) -> Result<(), Problem> {
        match self.format() {
            Format::Table => self.data(&table()),
            format => self.document(format, value),
        }
    }

    /// Data, to stdout: a JSON or YAML document, whole.
    pub(crate) fn document<T: Serialize + ?Sized>(&self, format: Format, value: &T) -> Result<(), Problem> {
        let text = match format {
            Format::Json => {
                let text = serde_json::to_string_pretty(value).map_err(|error| Problem::output(&error))?;
                escaped_json(&text) + "\n"
            }
            Format::Table | Format::Yaml => {
                serde_yaml::to_string(value).map_err(|error| Problem::output(&error))?
            }
        };
        self.data(&text)
    }

    /// Prints data to stdout; a JSON document is one line, so that readers can separate documents.
    pub(crate) fn line_of_json<T: Serialize + ?Sized>(&self, value: &T) -> Result<(), Problem> {
        let text = serde_json::to_string(value).map_err(|error| Problem::output(&error))?;
        self.data(&(escaped_json(&text) + "\n"))
    }

    /// Something for a person to know, to stderr; nothing when quiet.
    pub(crate) fn note(&self, text: &str) {
        if self.verbosity > Verbosity::Quiet {
            eprint_line(text);
        }
    }

    /// An error, to stderr, quiet or not.
    pub(crate) fn problem(&self, problem: &Problem) {
        if self.format() == Format::Json {
            eprint_line(&escaped_json(&problem.to_json()));
            return;
        }
        // A continuation line must not look like one of our own lines.
        let indented = |text: &str| text.replace('\n', "\n       ");
        let line = |tone, head: &str, text: &str| {
            eprint_line(&format!("{} {}", self.paint(tone, head), indented(text)));
        };
        line(Tone::Bad, "error:", &problem.message);
        for cause in problem.why() {
            line(Tone::Faint, "  why:", &cause);
        }
        if let Some(hint) = &problem.hint {
            line(Tone::Good, " hint:", hint);
        }
    }

    /// A text in a colour, where colours are wanted on stderr.
    pub(crate) fn paint(&self, tone: Tone, text: &str) -> String {
        if self.color { marked(tone, text) } else { text.to_owned() }
    }

    /// A text for those who draw on the terminal themselves.
    pub(crate) fn drawn(&self, tone: Option<Tone>, text: &str) -> String {
        shown(&tone.map_or_else(|| text.to_owned(), |tone| self.paint(tone, text)))
    }

    /// The same printer for text that goes to stdout, which may be no terminal where stderr is one.
    pub(crate) fn for_stdout(&self) -> Self {
        Self { color: self.color && io::stdout().is_terminal(), ..self.clone() }
    }
}

/// Whether the environment asks for no colours (<https://no-color.org>).
fn colors_unwanted() -> bool {
    std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
}

/// Prints a line to stderr; errors are ignored.
fn eprint_line(text: &str) {
    let mut stderr = io::stderr().lock();
    let _ = writeln!(stderr, "{}", shown(text));
}

/// Plain columns under headings; nothing where there are no rows.
pub(crate) fn columns(headings: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(headings.to_vec());
    let mut empty = true;
    for row in rows {
        // A cell is one line, whatever its content.
        table.add_row(row.into_iter().map(|cell| cell.replace(['\n', '\r'], " ")));
        empty = false;
    }
    if empty {
        return String::new();
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let lines = table.lines().map(|line| line.trim_end().to_owned() + "\n");
    lines.collect()
}
