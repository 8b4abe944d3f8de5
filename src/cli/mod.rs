//! The command line: parsing it, choosing the verb, and telling how it ended.

mod args;
mod ask;
mod change;
mod context;
mod daemon_client;
mod daemon_status;
mod hosted_text;
mod option_text;
mod output;
mod panic;
mod plan_text;
mod progress;
mod terminal;
mod usage;
mod variables;
mod verbs;
mod web;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{ArgMatches, ColorChoice, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use trainerd_supervise::Guard;

use self::args::{ClusterArgs, Format, OutputArgs, RunArgs};
use self::context::Context;
use self::output::Printer;
use self::verbs::{
    bootstrap, charm, completions, config, daemon, diff, doctor, export, history, images, list, monitoring,
    pause, plan, reconciler, reference, remove, render, repair, retry, rollback, status, trainjob, up,
    upgrade, version,
};
use crate::interrupt::Interrupt;
use crate::log::LogLevelSource;
use crate::problem::{Exit, Problem};

/// Columns beyond which help is not stretched, however wide the terminal.
const HELP_WIDTH: usize = 100;

/// Installs, upgrades, repairs and runs the Kubeflow Trainer stack on Kubernetes
///
/// The stack is Kubeflow Trainer, JobSet, LeaderWorkerSet and the training runtimes. Every change is planned, shown,
/// journalled and stored as a revision: the next command finishes an interrupted one, and every revision can be rolled
/// back.
#[derive(Debug, Parser)]
#[command(
    name = "trainerd",
    bin_name = "trainerd",
    version,
    max_term_width = HELP_WIDTH,
    disable_help_subcommand = true,
    subcommand_value_name = "VERB",
    subcommand_help_heading = "Verbs",
    after_help = "\
Examples:
  trainerd doctor                                   check whether it can be installed
  trainerd up                                       install, or change to match the options
  trainerd status                                   readiness, and the reason for every wait
  trainerd upgrade --latest                         upgrade to the newest versions
  trainerd rollback                                 go back to the previous revision

Exit codes: 0 done, 1 failed, 2 changes pending (plan), 3 refused for safety, 4 invalid input, 5 cluster unreachable or
permission missing, 6 timed out, 7 somebody else holds the lease, 130 interrupted."
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    verb: Verb,

    #[command(flatten)]
    cluster: ClusterArgs,

    #[command(flatten)]
    run: RunArgs,

    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Render(render::RenderArgs),
    Plan(plan::PlanArgs),
    Up(up::UpArgs),
    Repair(repair::RepairArgs),
    Retry(retry::RetryArgs),
    Upgrade(upgrade::UpgradeArgs),
    Rollback(rollback::RollbackArgs),
    History(history::HistoryArgs),
    Diff(diff::DiffArgs),
    Export(export::ExportArgs),
    Status(status::StatusArgs),
    Doctor(doctor::DoctorArgs),
    List(list::ListArgs),
    Images(images::ImagesArgs),
    Config(config::ConfigArgs),
    Remove(remove::RemoveArgs),
    Pause(pause::PauseArgs),
    Resume(pause::ResumeArgs),
    Daemon(daemon::DaemonArgs),
    Bootstrap(bootstrap::BootstrapArgs),
    Reconciler(reconciler::ReconcilerArgs),
    Trainjob(trainjob::TrainJobArgs),
    Monitoring(monitoring::MonitoringArgs),
    Charm(charm::CharmArgs),
    Completions(completions::CompletionsArgs),
    Version(version::VersionArgs),
    /// Print docs/cli.md
    #[command(hide = true)]
    Reference,
}

impl Verb {
    /// For the user agent.
    fn name(&self) -> &'static str {
        match self {
            Self::Render(_) => "render",
            Self::Plan(_) => "plan",
            Self::Up(_) => "up",
            Self::Repair(_) => "repair",
            Self::Retry(_) => "retry",
            Self::Upgrade(_) => "upgrade",
            Self::Rollback(_) => "rollback",
            Self::History(_) => "history",
            Self::Diff(_) => "diff",
            Self::Export(_) => "export",
            Self::Status(_) => "status",
            Self::Doctor(_) => "doctor",
            Self::List(_) => "list",
            Self::Images(_) => "images",
            Self::Config(_) => "config",
            Self::Remove(_) => "remove",
            Self::Pause(_) => "pause",
            Self::Resume(_) => "resume",
            Self::Daemon(_) => "daemon",
            Self::Bootstrap(_) => "bootstrap",
            Self::Reconciler(_) => "reconciler",
            Self::Trainjob(_) => "trainjob",
            Self::Monitoring(_) => "monitoring",
            Self::Charm(_) => "charm",
            Self::Completions(_) => "completions",
            Self::Version(_) => "version",
            Self::Reference => "reference",
        }
    }
}

/// Runs the command line of this process.
pub(crate) fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let rest = arguments.get(1..).unwrap_or_default();
    if Guard::is_guard(rest) {
        return match Guard::enter(rest) {
            Ok(never) => match never {},
            Err(error) => {
                let problem = Problem::not_hosted(&error);
                Printer::new(&output_of(&arguments)).problem(&problem);
                problem.exit.into()
            }
        };
    }
    if let Some(flags) = reconciler::flags(&arguments) {
        return reconciler::run(flags);
    }
    run(&arguments).into()
}

fn run(arguments: &[OsString]) -> Exit {
    let color = if arguments.iter().any(|argument| argument == "--no-color") {
        ColorChoice::Never
    } else {
        ColorChoice::Auto
    };
    let command = variables::without_empty(Cli::command().color(color), &variables::lookup);
    let parsed = command.try_get_matches_from(arguments);
    let read = |matches: ArgMatches| {
        let is_given = matches.value_source("namespace") == Some(ValueSource::CommandLine);
        Cli::from_arg_matches(&matches).map(|cli| (cli, is_given))
    };
    let (cli, names_namespace) = match parsed.and_then(read) {
        Ok(read) => read,
        Err(error) if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
            // Without stdout, errors cannot be reported.
            let _ = error.print();
            return Exit::Done;
        }
        Err(error) => {
            let words: Vec<String> =
                arguments.iter().map(|word| word.to_string_lossy().into_owned()).collect();
            let command = Cli::command();
            let verb = words.iter().find_map(|word| command.find_subcommand(word));
            let giver = |shown: &str| variables::giver(&command, &words, shown, &variables::lookup);
            let problem = usage::usage(&error, verb.map(clap::Command::get_name), &giver);
            Printer::new(&output_of(arguments)).problem(&problem);
            return problem.exit;
        }
    };
    let printer = Printer::new(&cli.output);
    panic::end_at_panics(printer.clone());
    match start(cli, names_namespace, &printer, arguments) {
        Ok(exit) => exit,
        Err(problem) => {
            printer.problem(&problem);
            problem.exit
        }
    }
}

fn start(
    cli: Cli,
    names_namespace: bool,
    printer: &Printer,
    arguments: &[OsString],
) -> Result<Exit, Problem> {
    log(&cli);
    let is_daemon = matches!(cli.verb, Verb::Daemon(_));
    // What a daemon does is little at a time, and each thread has memory of its own.
    let mut builder = if is_daemon {
        tokio::runtime::Builder::new_current_thread()
    } else {
        tokio::runtime::Builder::new_multi_thread()
    };
    let runtime = builder
        .enable_all()
        .build()
        .map_err(|error| Problem::new(Exit::Failed, "runtime", format!("failed to start: {error}")))?;
    let exit = runtime.block_on(async {
        // A daemon runs until it is stopped.
        let timeout = cli.run.timeout.filter(|_| !is_daemon).map(|timeout| timeout.0);
        let interrupt = Interrupt::listen(timeout).map_err(|error| {
            Problem::new(Exit::Failed, "signals", format!("failed to listen for signals: {error}"))
        })?;
        let words = arguments.iter().skip(1).map(|word| word.to_string_lossy());
        let context = Context {
            verb: cli.verb.name(),
            by: words.collect::<Vec<_>>().join(" "),
            namespace_given: names_namespace.then(|| cli.cluster.namespace.clone()),
            cluster: cli.cluster,
            run: cli.run,
            printer: printer.clone(),
            interrupt,
        };
        tokio::select! {
            exit = dispatch(&context, &cli.verb) => exit,
            () = context.interrupt.overdue() => {
                let problem = Problem::interrupted_unanswered();
                if !is_daemon {
                    return Err(problem);
                }
                // To end is all that was asked of it.
                tracing::warn!(why = problem.why().join("; "), "ended");
                Ok(Exit::Done)
            }
        }
    });
    // A question that nobody answered holds a thread: it must not hold the process.
    runtime.shutdown_background();
    exit
}

async fn dispatch(context: &Context, verb: &Verb) -> Result<Exit, Problem> {
    match verb {
        Verb::Render(args) => render::run(context, args),
        Verb::Plan(args) => plan::run(context, args).await,
        Verb::Up(args) => up::run(context, args).await,
        Verb::Repair(args) => repair::run(context, args).await,
        Verb::Retry(args) => retry::run(context, args).await,
        Verb::Upgrade(args) => upgrade::run(context, args).await,
        Verb::Rollback(args) => rollback::run(context, args).await,
        Verb::History(args) => history::run(context, args).await,
        Verb::Diff(args) => diff::run(context, args).await,
        Verb::Export(args) => export::run(context, args).await,
        Verb::Status(args) => status::run(context, args).await,
        Verb::Doctor(args) => Box::pin(doctor::run(context, args)).await,
        Verb::List(args) => list::run(context, args).await,
        Verb::Images(args) => images::run(context, args),
        Verb::Config(args) => config::run(context, args).await,
        Verb::Remove(args) => remove::run(context, args).await,
        Verb::Pause(args) => pause::pause(context, args).await,
        Verb::Resume(args) => pause::resume(context, args).await,
        Verb::Daemon(args) => daemon::run(context, args).await,
        Verb::Bootstrap(args) => Box::pin(bootstrap::run(context, args)).await,
        // Where it comes first, it is started before the command line is read.
        Verb::Reconciler(_) => Err(Problem::new(
            Exit::Input,
            "usage",
            "reconciler has flags of its own and must come first: trainerd reconciler --config FILE"
                .to_owned(),
        )),
        Verb::Trainjob(args) => trainjob::run(context, args).await,
        Verb::Monitoring(args) => monitoring::run(context, args),
        Verb::Charm(args) => charm::run(context, args),
        Verb::Completions(args) => completions::run(context, args),
        Verb::Version(args) => version::run(context, args),
        Verb::Reference => context.printer.data(&reference::reference()).map(|()| Exit::Done),
    }
}

/// Logs to stderr: warnings, with `-vv` every request; `RUST_LOG` chooses otherwise. The log is what a daemon says to
/// people, so there it is on, unless `--quiet` leaves the warnings.
fn log(cli: &Cli) {
    let is_daemon = matches!(cli.verb, Verb::Daemon(_));
    let (source, level) = match cli.output.verbose {
        0 if is_daemon && cli.output.quiet => (LogLevelSource::Fixed, "warn,kube_client=off".to_owned()),
        0 if is_daemon => (LogLevelSource::Daemon, crate::log::of_daemon("info")),
        0 => (LogLevelSource::Fixed, "off".to_owned()),
        1 if is_daemon => (LogLevelSource::Fixed, "info,trainerd=debug,trainerd_engine=debug".to_owned()),
        1 => (LogLevelSource::Fixed, "warn".to_owned()),
        _ => (
            LogLevelSource::Fixed,
            "warn,trainerd=debug,trainerd_cluster=debug,trainerd_engine=debug".to_owned(),
        ),
    };
    let json = matches!(cli.output.output, Some(Format::Json));
    crate::log::begin(source, &level, !cli.output.no_color, json);
}

/// How errors are to be printed, of a command line that does not parse.
fn output_of(arguments: &[OsString]) -> OutputArgs {
    let words: Vec<_> = arguments.iter().map(|argument| argument.to_string_lossy()).collect();
    let follows = |flag: &str| words.windows(2).any(|pair| pair[0] == flag && pair[1] == "json");
    let json = follows("-o")
        || follows("--output")
        || words.iter().any(|word| word == "-ojson" || word == "-o=json" || word == "--output=json")
        || std::env::var("TRAINERD_OUTPUT").is_ok_and(|format| format == "json");
    OutputArgs {
        output: json.then_some(Format::Json),
        no_color: words.iter().any(|word| word == "--no-color"),
        quiet: false,
        verbose: 0,
    }
}

#[cfg(test)]
mod tests {
    use trainerd_catalog::Catalog;

    use super::*;

    #[test]
    fn variables_of_options_and_flags_are_disjoint() {
        let catalog = Catalog::builtin().unwrap();
        let options: Vec<String> =
            catalog.schema().options.keys().map(|option| crate::options::variable(option)).collect();
        let command = Cli::command();
        let arguments =
            command.get_arguments().chain(command.get_subcommands().flat_map(clap::Command::get_arguments));
        for name in arguments.filter_map(clap::Arg::get_env).filter_map(|name| name.to_str()) {
            assert!(!options.iter().any(|option| option == name), "{name}");
        }
    }

    #[test]
    fn the_clap_definitions_are_valid() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_verb_shows_examples() {
        fn check(command: &clap::Command) {
            for verb in command.get_subcommands().filter(|verb| !verb.is_hide_set()) {
                let help = verb.get_after_help().map(ToString::to_string).unwrap_or_default();
                assert!(verb.has_subcommands() || help.starts_with("Examples:\n"), "{}", verb.get_name());
                check(verb);
            }
        }
        check(&Cli::command());
    }
}
