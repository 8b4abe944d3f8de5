//! Asking a person, where there is one.

use std::io::{self, IsTerminal as _, Write as _};

use trainerd_plan::allowed::Allowed;

use super::context::Context;
use crate::problem::Problem;

/// What is lost where the answer is yes by mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Risk {
    /// Nothing that another command does not bring back.
    Reversible,
    /// What does not come back: somebody has to say yes, wherever the command runs.
    Destructive,
}

impl Risk {
    /// Of a plan that may do what is refused otherwise.
    pub(crate) fn of(allowed: Allowed) -> Self {
        if allowed == Allowed::default() { Self::Reversible } else { Self::Destructive }
    }
}

/// Asks whether to go ahead; on a terminal only, and not with `--yes`. Anything but `y` or `yes` is no.
///
/// # Errors
/// [`Problem::declined`]; [`Problem::unconfirmed`] where nobody can be asked and what would be done is destructive.
pub(crate) async fn confirm(context: &Context, question: &str, risk: Risk) -> Result<(), Problem> {
    if context.run.yes {
        return Ok(());
    }
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return match risk {
            Risk::Reversible => Ok(()),
            Risk::Destructive => Err(Problem::unconfirmed()),
        };
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
