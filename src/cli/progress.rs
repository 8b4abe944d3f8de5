//! How a running plan is shown: bars on a terminal, lines otherwise, documents with `-o json|yaml`.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use trainerd_engine::Event;
use trainerd_juju::status::Reason;
use trainerd_plan::object::ObjectKey;
use trainerd_plan::reason::WaitingOn;

use super::args::Format;
use super::output::{Printer, Tone, Verbosity};
use super::plan_text;
use super::terminal::escaped_json;

/// Things that are waited for and have a line of their own under the bar.
const WAITS: usize = 5;
/// Redraws of the spinners.
const TICK: Duration = Duration::from_millis(120);

/// Shows the events of a plan.
pub(crate) struct Progress {
    printer: Printer,
    mode: Mode,
}

enum Mode {
    /// Holds the last line: two webhooks wait for the same Service in the same words.
    Lines(Mutex<String>),
    Documents(Format),
    Bars(Mutex<Bars>),
}

/// The last document of a run.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "camelCase")]
pub(crate) enum Last {
    /// Everything is as it was wanted.
    #[serde(rename_all = "camelCase")]
    Finished {
        /// The revision that is installed now; `None` after a removal.
        revision: Option<u64>,
        /// Component versions of that revision, where options were resolved to it.
        #[serde(skip_serializing_if = "BTreeMap::is_empty")]
        versions: BTreeMap<String, String>,
    },
    /// Nothing was done: a person has a word to say first.
    Left {
        /// Why, as a status has it.
        reason: Reason,
    },
}

impl Last {
    /// The end of a verb that resolves no options.
    pub(crate) fn finished(revision: Option<u64>) -> Self {
        Self::Finished { revision, versions: BTreeMap::new() }
    }
}

impl Progress {
    /// The way that fits where the events go.
    pub(crate) fn new(printer: &Printer) -> Self {
        let mode = match printer.format() {
            Format::Table if printer.draws() => Mode::Bars(Mutex::new(Bars::new())),
            Format::Table => Mode::Lines(Mutex::default()),
            format => Mode::Documents(format),
        };
        Self { printer: printer.clone(), mode }
    }

    /// Shows one event.
    pub(crate) fn event(&self, event: &Event) {
        match &self.mode {
            Mode::Documents(format) => self.emit(*format, event),
            Mode::Lines(last) => {
                if let Some(line) = line(event, self.printer.verbosity) {
                    let line = line.replace('\n', " ");
                    let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
                    if *last != line {
                        self.printer.note(&line);
                        *last = line;
                    }
                }
            }
            Mode::Bars(bars) => {
                // A panic elsewhere while the lock was held leaves bars that are at worst a step behind.
                bars.lock().unwrap_or_else(PoisonError::into_inner).event(event, &self.printer);
            }
        }
    }

    /// Takes the bars away. What is said next stands below what they left.
    pub(crate) fn clear(&self) {
        if let Mode::Bars(bars) = &self.mode {
            bars.lock().unwrap_or_else(PoisonError::into_inner).clear();
        }
    }

    /// Prints the outcome as a document, for people as text.
    pub(crate) fn last(&self, last: &Last) {
        if let Mode::Documents(format) = &self.mode {
            self.emit(*format, last);
        }
    }

    fn emit<T: Serialize>(&self, format: Format, value: &T) {
        let text = match format {
            Format::Json => serde_json::to_string(value).map(|text| escaped_json(&text) + "\n").ok(),
            Format::Yaml | Format::Table => {
                serde_yaml::to_string(value).map(|text| format!("---\n{text}")).ok()
            }
        };
        // A reader that went away must not stop the plan.
        if let Some(text) = text {
            let _ = self.printer.data(&text);
        }
    }
}

/// An event in a line; `None` for what only a closer look wants to know.
fn line(event: &Event, verbosity: Verbosity) -> Option<String> {
    let closer = verbosity == Verbosity::Verbose;
    Some(match event {
        Event::Planned { purpose, revision, counts } => {
            let to = revision.map(|revision| format!(" to revision {revision}")).unwrap_or_default();
            format!("{purpose}{to}: {}", plan_text::counts(counts))
        }
        Event::Recovering { purpose, target, .. } => {
            format!("resuming the {purpose} of revision {target}, which was interrupted")
        }
        Event::Started { object, verb, .. } => return closer.then(|| format!("{verb} {object}")),
        Event::Waiting { on, .. } => format!("waiting for {on}"),
        Event::Retrying { object, error, after_ms } => {
            format!("retrying {object} in {}: {error}", seconds(*after_ms))
        }
        Event::ChangedByAdmission { object, fields } => {
            format!("{object}: changed by admission control and left as it is: {}", fields.join(", "))
        }
        Event::Done { verb: "keep", .. } if !closer => return None,
        Event::Done { object, verb, millis, done, total } => {
            format!("[{done}/{total}] {} {object} ({})", past(verb), seconds(*millis))
        }
        Event::Overtaken { why, .. } => format!("planning again: {why}"),
        Event::Failed { object: Some(object), error } => format!("failed: {object}: {error}"),
        Event::Failed { object: None, error } => format!("failed: {error}"),
        Event::RollingBack { to, reason } => format!("rolling back to revision {to}: {reason}"),
    })
}

fn past(verb: &str) -> &str {
    match verb {
        "create" => "created",
        "apply" => "changed",
        "delete" => "deleted",
        "keep" => "ready",
        other => other,
    }
}

/// A wait for people with a terminal: what an object lacks, and below it what its pod says of the reason, which
/// must not be lost at the end of a narrow line.
fn wait_lines(on: &WaitingOn) -> String {
    format!("waiting for {on}").replace("; ", "\n      ")
}

/// Milliseconds as seconds with a decimal.
fn seconds(millis: u64) -> String {
    format!("{}.{} s", millis / 1000, millis % 1000 / 100)
}

/// What is drawn on a terminal: a bar of the steps, under it what is waited for.
struct Bars {
    all: MultiProgress,
    steps: ProgressBar,
    waits: BTreeMap<Option<ObjectKey>, ProgressBar>,
}

impl Bars {
    fn new() -> Self {
        let all = MultiProgress::with_draw_target(ProgressDrawTarget::stderr());
        let steps = all.add(ProgressBar::no_length());
        // A template that does not parse falls back to indicatif's own.
        if let Ok(style) = ProgressStyle::with_template("{bar:32.green/dim} {pos}/{len} {elapsed:.dim} {msg}")
        {
            steps.set_style(style.progress_chars("━╸─"));
        }
        Self { all, steps, waits: BTreeMap::new() }
    }

    fn event(&mut self, event: &Event, printer: &Printer) {
        match event {
            Event::Planned { counts, .. } => {
                let total = counts.create + counts.change + counts.delete + counts.keep;
                self.steps.set_length(total as u64);
                self.steps.set_position(0);
                self.forget_all();
                self.say(event, printer, Tone::Strong);
            }
            Event::Started { object, verb, .. } => {
                self.steps.set_message(printer.drawn(None, &format!("{verb} {object}")));
            }
            Event::Waiting { object, on } => self.wait(object.clone(), on, printer),
            Event::Done { object, verb, done, total, .. } => {
                self.forget(object);
                self.steps.set_length(*total as u64);
                self.steps.set_position(*done as u64);
                if *verb != "keep" || printer.verbosity == Verbosity::Verbose {
                    self.say(event, printer, Tone::Good);
                }
            }
            Event::Recovering { .. }
            | Event::Retrying { .. }
            | Event::ChangedByAdmission { .. }
            | Event::Overtaken { .. } => {
                self.say(event, printer, Tone::Attention);
            }
            Event::Failed { .. } | Event::RollingBack { .. } => self.say(event, printer, Tone::Bad),
        }
    }

    fn say(&self, event: &Event, printer: &Printer, tone: Tone) {
        if let Some(line) = line(event, Verbosity::Verbose) {
            // If this fails, the terminal is gone; the plan continues.
            let _ = self.all.println(printer.drawn(Some(tone), &line));
        }
    }

    fn wait(&mut self, object: Option<ObjectKey>, on: &WaitingOn, printer: &Printer) {
        if !self.waits.contains_key(&object) && self.waits.len() >= WAITS {
            self.steps.set_message(printer.drawn(None, &format!("waiting for {on}")));
            return;
        }
        let bar = self.waits.entry(object).or_insert_with(|| {
            let bar = self.all.add(ProgressBar::new_spinner());
            if let Ok(style) = ProgressStyle::with_template("  {spinner} {msg}") {
                bar.set_style(style);
            }
            bar.enable_steady_tick(TICK);
            bar
        });
        bar.set_message(printer.drawn(None, &wait_lines(on)));
    }

    fn forget(&mut self, object: &ObjectKey) {
        if let Some(bar) = self.waits.remove(&Some(object.clone())) {
            bar.finish_and_clear();
            self.all.remove(&bar);
        }
    }

    fn forget_all(&mut self) {
        for bar in std::mem::take(&mut self.waits).into_values() {
            bar.finish_and_clear();
            self.all.remove(&bar);
        }
    }

    fn clear(&mut self) {
        self.forget_all();
        self.steps.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use trainerd_plan::plan::{Counts, Purpose};

    use super::*;

    fn object() -> ObjectKey {
        ObjectKey {
            group: "apps".to_owned(),
            kind: "Deployment".to_owned(),
            namespace: Some("ns".to_owned()),
            name: "a".to_owned(),
        }
    }

    #[test]
    fn messages_of_pods_have_their_own_line() {
        let message = "Available: 0/1; pod a-1: Insufficient cpu".to_owned();
        let on = WaitingOn::ready(object(), message);
        assert_eq!(
            wait_lines(&on),
            "waiting for Deployment ns/a: Available: 0/1\n      pod a-1: Insufficient cpu"
        );
    }

    #[test]
    fn events_read_like_sentences() {
        let done = |verb| Event::Done { object: object(), verb, millis: 1260, done: 3, total: 9 };
        let ready = WaitingOn::ready(object(), "Available: 0/1");
        let cases = [
            (
                Event::Planned {
                    purpose: Purpose::Upgrade,
                    revision: Some(2),
                    counts: Counts { create: 1, change: 2, delete: 0, keep: 6 },
                },
                Some("upgrade to revision 2: 1 to create, 2 to change, 0 to delete, 6 unchanged"),
            ),
            (done("apply"), Some("[3/9] changed Deployment ns/a (1.2 s)")),
            (done("keep"), None),
            (Event::Waiting { object: None, on: ready }, Some("waiting for Deployment ns/a: Available: 0/1")),
            (
                Event::Recovering { purpose: Purpose::Install, target: 1, undo: false },
                Some("resuming the install of revision 1, which was interrupted"),
            ),
            (
                Event::RollingBack { to: 1, reason: "no room".to_owned() },
                Some("rolling back to revision 1: no room"),
            ),
            (
                Event::Overtaken { object: object(), why: "a was deleted".to_owned() },
                Some("planning again: a was deleted"),
            ),
        ];
        for (event, expected) in cases {
            assert_eq!(line(&event, Verbosity::Normal).as_deref(), expected, "{event:?}");
        }
        assert_eq!(
            line(&done("keep"), Verbosity::Verbose).as_deref(),
            Some("[3/9] ready Deployment ns/a (1.2 s)")
        );
    }
}
