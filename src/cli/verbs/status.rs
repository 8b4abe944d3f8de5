//! `status`: where the installation is, and what it waits for.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use trainerd_engine::{Engine, Note, Standing, Status};

use super::history::outcome_text;
use super::plan::{GOES_ON, journal_text};
use crate::cli::args::Format;
use crate::cli::context::{Context, ahead};
use crate::cli::errors::Problem;
use crate::cli::exit::Exit;
use crate::cli::output::{Printer, Tone, columns};
use crate::cli::web;

/// Time between two looks with `--watch`.
const LOOK: Duration = Duration::from_secs(2);

/// Show components, versions, readiness, and what each object waits for
///
/// Ends with 0 whether everything is ready or not: the answer is in what is printed (`ready` with -o json). Where
/// nothing is installed it ends with 1.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  trainerd status                                   now
  trainerd status --watch                           again whenever something changes
  trainerd status -o json                           for a script: .ready says it all
  trainerd status --web --socket /run/trainerd.sock the page of the daemon that listens there")]
pub(crate) struct StatusArgs {
    /// Go on and print again whenever something changes, until interrupted
    #[arg(short, long, conflicts_with = "web")]
    watch: bool,

    /// Open the page of the daemon in a browser, until interrupted; without one, use the address that is printed
    #[arg(long, requires = "socket")]
    web: bool,

    /// Unix socket of the daemon, for --web
    #[arg(long, value_name = "PATH", env = "TRAINERD_SOCKET", hide_env_values = true)]
    socket: Option<PathBuf>,
}

/// Runs the verb.
pub(crate) async fn run(context: &Context, args: &StatusArgs) -> Result<Exit, Problem> {
    if let (true, Some(socket)) = (args.web, &args.socket) {
        return web::show(context, socket, context.printer.draws()).await;
    }
    let engine = context.engine().await?;
    let mut last = None;
    loop {
        let status = look(context, &engine).await?;
        if last.as_ref() != Some(&status) {
            print(&context.printer, &status, args.watch)?;
            last = Some(status);
        }
        if !args.watch {
            return Ok(Exit::Done);
        }
        let pause = async {
            tokio::time::sleep(LOOK).await;
            Ok::<_, Problem>(())
        };
        context.interrupt.or(pause).await?;
    }
}

async fn look(context: &Context, engine: &Engine) -> Result<Status, Problem> {
    let state = context.open(engine).await?;
    let state = context.interrupt.or(ahead(engine, state)).await?;
    context.interrupt.or(engine.status(&state)).await
}

fn print(printer: &Printer, status: &Status, again: bool) -> Result<(), Problem> {
    match printer.format() {
        Format::Table => printer.data(&text(status, &printer.for_stdout())),
        // One a line, so that a reader can tell them apart.
        Format::Json if again => {
            printer.data(&(serde_json::to_string(status).map_err(|error| Problem::output(&error))? + "\n"))
        }
        Format::Yaml if again => {
            printer.data("---\n")?;
            printer.document(Format::Yaml, status)
        }
        format => printer.document(format, status),
    }
}

fn text(status: &Status, printer: &Printer) -> String {
    let ready = if status.ready {
        printer.paint(Tone::Good, "ready")
    } else {
        printer.paint(Tone::Attention, "not ready")
    };
    let outcome = status.outcome.as_ref().map_or_else(|| "under way".to_owned(), outcome_text);
    let mut text = format!(
        "{} in {}: {ready}, revision {} ({outcome})\n\n",
        status.name, status.namespace, status.revision
    );
    text.push_str(&standing_text(&status.standing));
    text.push_str(&columns(
        &["COMPONENT", "VERSION", "READY"],
        status.components.iter().map(|(name, component)| {
            vec![
                name.clone(),
                component.version.to_string(),
                format!("{}/{}", component.ready, component.total),
            ]
        }),
    ));
    let waiting = status.objects.iter().filter_map(|object| Some((object, object.waiting.as_ref()?)));
    let waiting: Vec<Vec<String>> = waiting
        .map(|(object, on)| vec![object.component.clone(), object.object.to_string(), on.clone()])
        .collect();
    section(&mut text, &columns(&["COMPONENT", "OBJECT", "WAITING FOR"], waiting));
    let drifted = status.objects.iter().filter(|object| !object.drift.is_empty());
    let drifted: Vec<Vec<String>> = drifted
        .map(|object| vec![object.component.clone(), object.object.to_string(), object.drift.join(", ")])
        .collect();
    section(&mut text, &columns(&["COMPONENT", "OBJECT", "CHANGED IN THE CLUSTER"], drifted));
    if let Some(journal) = &status.journal {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "\n{}; {GOES_ON}", journal_text(journal));
    }
    text
}

/// Who has the say, a line each.
fn standing_text(standing: &Standing) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    if let Some(Note { by, since, .. }) = &standing.paused {
        let _ = writeln!(text, "paused by `trainerd {by}` since {since:.0}; `trainerd resume` goes on");
    }
    if let Some(Note { what, since, .. }) = &standing.ruler {
        let _ = writeln!(text, "kept by a daemon as {what} says, since {since:.0}");
    }
    if !text.is_empty() {
        text.push('\n');
    }
    text
}

fn section(text: &mut String, table: &str) {
    if !table.is_empty() {
        text.push('\n');
        text.push_str(table);
    }
}
