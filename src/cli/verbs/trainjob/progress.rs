//! How a TrainJob that runs is shown: a bar on a terminal, lines otherwise, documents with `-o json|yaml`.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::list::painted;
use super::state::TrainJobSummary;
use crate::cli::args::Format;
use crate::cli::output::Printer;
use crate::problem::Problem;

/// Redraws of the spinner.
const TICK: Duration = Duration::from_millis(120);
/// While the training reports how far it is.
const BAR: &str = "{bar:32.green/dim} {pos} % {elapsed:.dim} {msg}";
/// While it does not.
const SPINNER: &str = "{spinner} {elapsed:.dim} {msg}";

/// Shows one TrainJob after the other.
pub(super) struct Progress {
    printer: Printer,
    /// On a terminal; whether it shows a bar.
    bar: Option<(ProgressBar, bool)>,
}

impl Progress {
    /// The way that fits where it goes.
    pub(super) fn new(printer: &Printer) -> Self {
        let draws = printer.format() == Format::Table && printer.draws();
        let bar = draws.then(|| {
            let bar = ProgressBar::with_draw_target(Some(100), ProgressDrawTarget::stderr());
            bar.set_style(style(SPINNER));
            bar.enable_steady_tick(TICK);
            (bar, false)
        });
        Self { printer: printer.clone(), bar }
    }

    /// Shows how it is now.
    pub(super) fn show(&mut self, summary: &TrainJobSummary) -> Result<(), Problem> {
        match (self.printer.format(), &mut self.bar) {
            (Format::Json, _) => return self.printer.line_of_json(summary),
            (Format::Yaml, _) => {
                self.printer.data("---\n")?;
                return self.printer.document(Format::Yaml, summary);
            }
            (Format::Table, None) => self.printer.note(&line(summary, &summary.state.to_string())),
            (Format::Table, Some((bar, is_bar))) => {
                if let Some(percent) = summary.progress {
                    if !*is_bar {
                        bar.set_style(style(BAR).progress_chars("━╸─"));
                        *is_bar = true;
                    }
                    bar.set_position(percent.min(100));
                }
                let text = line(summary, &painted(&self.printer, summary.state));
                bar.set_message(self.printer.drawn(None, &text));
            }
        }
        Ok(())
    }

    /// Takes the bar away.
    pub(super) fn clear(&self) {
        if let Some((bar, _)) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// A template that does not parse falls back to indicatif's own.
fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

fn line(summary: &TrainJobSummary, state: &str) -> String {
    let why = if summary.has_ended() || summary.message.is_empty() {
        String::new()
    } else {
        summary.message.clone()
    };
    let pod = summary.why.clone().unwrap_or_default();
    let parts = [summary.steps_text(), summary.progress_text(), why, pod];
    let parts: Vec<String> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    let rest = if parts.is_empty() { String::new() } else { format!(": {}", parts.join("; ")) };
    format!("{} {state}{rest}", summary.name)
}
