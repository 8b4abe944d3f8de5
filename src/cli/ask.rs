//! Asking a person, where there is one.

use std::io::{self, IsTerminal as _, Write as _};

use super::context::Context;
use super::errors::Problem;

/// Asks whether to go ahead; on a terminal only, and not with `--yes`. Anything but `y` or `yes` is no.
pub(crate) async fn confirm(context: &Context, question: &str) -> Result<(), Problem> {
    if context.run.yes || !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Ok(());
    }
    let question = context.printer.drawn(None, &format!("{question} [y/N] "));
    // On a thread of its own: Ctrl-C must be heard while the terminal is waited for.
    let answer = tokio::task::spawn_blocking(move || {
        let mut stderr = io::stderr().lock();
        stderr.write_all(question.as_bytes())?;
        stderr.flush()?;
        let mut answer = String::new();
        io::stdin().read_line(&mut answer)?;
        Ok::<_, io::Error>(answer)
    });
    let answer = context.interrupt.or(async { Ok::<_, Problem>(answer.await) }).await?;
    match answer {
        Ok(Ok(answer)) if matches!(answer.trim().to_lowercase().as_str(), "y" | "yes") => Ok(()),
        _ => Err(Problem::declined()),
    }
}
