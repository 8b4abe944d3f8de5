//! `cargo xtask bench`: the figures that trainerd promises, on a control plane of their own; with `cache` those of the
//! data cache and the initializers, on loopback, and with `reconciler` those of the native reconciler.

use std::process::Command;

use clap::{Args, ValueEnum};

use crate::cargo;
use crate::cli::Failure;
use crate::cluster::{self, Name, Parts, Profile, Request, Status, parts};
use crate::foreground;
use crate::home::Home;
use crate::image::product;
use crate::terminal::say;

/// Name of the bench's cluster, which is created again and taken away afterwards.
const CLUSTER: &str = "bench";

/// The arguments of `cargo xtask bench`.
#[derive(Args)]
pub struct Arguments {
    /// What is measured
    #[arg(value_enum, default_value = "trainerd")]
    subject: Subject,
    /// TrainJobs that `reconciler` is measured with
    #[arg(long, value_name = "NUMBER", default_value_t = 300, value_parser = clap::value_parser!(u16).range(1..=5000))]
    train_jobs: u16,
    /// Measure an unoptimised build: quickly built, and no figures to show to anybody
    #[arg(long)]
    dev: bool,
    /// How to print the figures: markdown or json
    #[arg(short, long, value_name = "FORMAT", default_value = "markdown")]
    #[arg(value_parser = ["markdown", "json"])]
    output: String,
    /// Further arguments for the bench itself, for example `--only change --rounds 5`
    #[arg(last = true)]
    further: Vec<String>,
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Subject {
    /// trainerd, beside a bare client and kubectl, on a control plane of its own
    Trainerd,
    /// The data cache and the initializers, beside a bare Flight server and a bare client, on loopback
    Cache,
    /// The native reconciler, beside upstream's controller manager
    Reconciler,
}

/// Why there are no figures.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Build(#[from] cargo::Error),
    #[error(transparent)]
    Cluster(#[from] cluster::Error),
    #[error(transparent)]
    Run(#[from] foreground::Error),
}

/// Runs the verb.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let home = Home::from_environment().map_err(Failure::of)?;
    foreground::watch_signals().map_err(Failure::of)?;
    let name: Name = CLUSTER.parse().map_err(Failure::of)?;
    let measured = match arguments.subject {
        Subject::Trainerd | Subject::Reconciler => bench(&home, &name, arguments),
        Subject::Cache => cache(&home, arguments),
    };
    measured.map_err(|error| {
        let hint = if let Error::Cluster(error) = &error { error.hint() } else { None };
        Failure { hint, ..Failure::of(error) }
    })
}

fn bench(home: &Home, name: &Name, arguments: &Arguments) -> Result<(), Error> {
    let mut build = vec!["build", "--package", "trainerd-bench", "--package", "trainerd", "--bins"];
    if !arguments.dev {
        build.push("--release");
    }
    let programs = cargo::build(home, &build)?;
    let mut bench = Command::new(cargo::binary(&programs, "trainerd-bench")?);
    bench
        .arg("--kubectl")
        .arg(Parts::find(home)?.path(&parts::KUBECTL)?)
        .arg("--trainerd")
        .arg(cargo::binary(&programs, "trainerd")?)
        .env("TRAINERD_BIN", cargo::binary(&programs, "trainerd")?)
        .args(["--output", &arguments.output])
        .args(&arguments.further);

    if arguments.subject == Subject::Reconciler {
        bench
            .args(["--only", "reconciler", "--train-jobs", &arguments.train_jobs.to_string(), "--manager"])
            .arg(Parts::find(home)?.path(&parts::TRAINER_2_3_0)?)
            .env("TRAINERD_INTEGRATION_CLUSTER", name.to_string());
    }
    // What an earlier run left would be in the figures.
    cluster::down(home, name)?;
    // The reconcilers run in the network of their API server, which calls their webhooks.
    let own_network = arguments.subject == Subject::Reconciler;
    let request = Request { name: name.clone(), profile: Profile::ControlPlane, own_network };
    let result = cluster::up(home, &request).map_err(Error::from).and_then(|status| measure(bench, &status));
    if let Err(error) = cluster::down(home, name) {
        say(format_args!("failed to stop cluster {name}: {error}"));
    }
    result
}

fn cache(home: &Home, arguments: &Arguments) -> Result<(), Error> {
    let profile = if arguments.dev { product::Profile::Dev } else { product::Profile::Release };
    // As the images have them.
    let program = |package| product::build(home, package, profile);
    let mut bench = Command::new(program("trainerd-cache-bench")?);
    bench
        .arg("run")
        .arg("--cache")
        .arg(program("trainerd-cache")?)
        .arg("--initializer")
        .arg(program("trainerd-initializer")?)
        .arg("--s3-server")
        .arg(Parts::find(home)?.path(&parts::VERSITYGW)?)
        .args(["--output", &arguments.output])
        .args(&arguments.further);
    Ok(foreground::run(&mut bench)?)
}

fn measure(mut bench: Command, cluster: &Status) -> Result<(), Error> {
    bench.env("KUBECONFIG", &cluster.kubeconfig).arg("--audit-log").arg(&cluster.audit_log);
    Ok(foreground::run(&mut bench)?)
}
