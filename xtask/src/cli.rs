//! The command line of `cargo xtask`, and how its errors are told.

use std::error::Error;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use trainerd_causes::texts;

use crate::terminal::say;
use crate::{
    bench, charm, cluster, demo, examples, foreground, fuzz, generate, image, lint, specs, test, torture,
    vectors,
};

/// Exit code of anything that failed.
pub const FAILED: u8 = 1;
/// Exit code of invalid input, a wrong command line included; the same as trainerd's own.
pub const INVALID_INPUT: u8 = 4;
/// Exit code when a signal ended it.
pub const INTERRUPTED: u8 = 130;

#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", about = "Developer commands of this repository")]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Starts and stops clusters on this machine
    Cluster(cluster::cli::Arguments),
    /// Shows what trainerd does, on a real node: install, train, upgrade meanwhile, roll back
    ///
    /// Starts a cluster of one node, or uses that of KUBECONFIG. Ends 0 when every step did what it should.
    Demo(demo::Arguments),
    /// Runs the TrainJobs of examples/ on a real node, and holds each against what its logs say
    ///
    /// Starts a cluster of one node, installs the stack and loads images made here; or uses what is installed in that of
    /// KUBECONFIG. Ends 0 when every example is Complete and its logs say what they should.
    Examples(examples::Arguments),
    /// Runs every test, those against a real cluster included
    ///
    /// Sets up what they need and takes it away again. With TRAINERD_TEST_CLUSTER=existing the cluster of
    /// KUBECONFIG is used, and nothing is started. The last line is `N passed, N failed`.
    Test(test::Arguments),
    /// Checks formatting, lints, documentation, generated files, the size of modules, licences and sources
    Lint(lint::Arguments),
    /// Writes the generated files: docs/cli.md
    Generate(generate::Arguments),
    /// Writes an image without a container engine: an OCI image layout in a tar archive
    ///
    /// trainerd's own, or one for a training runtime, of Debian's and PyPI's packages (root; images/README.md). Prints
    /// where it is and its digest. The same checkout, toolchain and packages give the same digest.
    Image(image::cli::Arguments),
    /// Writes the charm that Juju deploys, and the image of its workload
    ///
    /// Needs neither charmcraft nor a container engine. Prints where both are. The same checkout and toolchain give the
    /// same bytes.
    Charm(charm::Arguments),
    /// Kills trainerd at every request boundary, where `test` takes a sample
    Torture(torture::Arguments),
    /// Gives a million random inputs to everything that reads what comes from outside, where `test` takes a sample
    Fuzz(fuzz::Arguments),
    /// Compares the Trainer's pipeline with recorded cases of upstream's
    ///
    /// A case a line, as JSON. The last line is `N passed, N failed`; ends 1 when one failed.
    Vectors(vectors::Arguments),
    /// Runs the integration suites of Kubeflow Trainer itself against the native reconciler
    ///
    /// They come with the Go module of upstream's controller; where they start a manager, the program under test is
    /// started. The last line is `N passed, N failed, N not run`.
    Specs(specs::Arguments),
    /// Measures trainerd's figures on a real API server, next to a bare client and kubectl
    Bench(bench::Arguments),
}

/// What a verb that did not succeed hands to the terminal.
pub struct Failure {
    /// The process's exit code.
    pub code: u8,
    /// What went wrong, with its causes as sources.
    pub error: Box<dyn Error>,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Failure {
    /// A failure without a hint; after a signal it is the signal that ended the verb.
    pub fn of(error: impl Error + 'static) -> Self {
        let code = if foreground::check_interrupted().is_err() { INTERRUPTED } else { FAILED };
        Self { code, error: Box::new(error), hint: None }
    }
}

/// Parses the process's arguments, runs the verb and tells how it went.
pub fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are asked for and go to stdout; the rest is a wrong command line.
            let asked_for = !error.use_stderr();
            let _ = error.print();
            return if asked_for { ExitCode::SUCCESS } else { ExitCode::from(INVALID_INPUT) };
        }
    };
    let outcome = match cli.verb {
        Verb::Cluster(arguments) => cluster::cli::run(arguments),
        Verb::Demo(arguments) => demo::run(&arguments),
        Verb::Examples(arguments) => examples::run(&arguments),
        Verb::Test(arguments) => test::run(&arguments),
        Verb::Lint(arguments) => lint::run(&arguments),
        Verb::Generate(arguments) => generate::run(&arguments),
        Verb::Image(arguments) => image::cli::run(&arguments),
        Verb::Charm(arguments) => charm::run(&arguments),
        Verb::Torture(arguments) => torture::run(&arguments),
        Verb::Fuzz(arguments) => fuzz::run(&arguments),
        Verb::Vectors(arguments) => vectors::run(&arguments),
        Verb::Specs(arguments) => specs::run(&arguments),
        Verb::Bench(arguments) => bench::run(&arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            tell(&failure);
            ExitCode::from(failure.code)
        }
    }
}

fn tell(failure: &Failure) {
    say(format_args!("error: {}", texts(&*failure.error).join("\n  because: ")));
    if let Some(hint) = &failure.hint {
        say(format_args!("  hint: {hint}"));
    }
}
