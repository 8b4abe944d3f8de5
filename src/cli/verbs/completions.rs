//! `completions`: for the shells.

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use crate::cli::Cli;
use crate::cli::context::Context;
use crate::problem::Exit;
use crate::problem::Problem;

/// Print completions for a shell
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  trainerd completions bash > /etc/bash_completion.d/trainerd
  trainerd completions fish > ~/.config/fish/completions/trainerd.fish
  source <(trainerd completions zsh)")]
pub(crate) struct CompletionsArgs {
    /// The shell
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

/// Runs the verb.
pub(crate) fn run(context: &Context, args: &CompletionsArgs) -> Result<Exit, Problem> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "trainerd", &mut script);
    context.printer.data(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Done)
}
