//! `cargo xtask charm`: the charm file and the image of its workload, without charmcraft and a container engine.

use std::path::{Path, PathBuf};

use clap::Args;

use crate::cli::Failure;
use crate::foreground;
use crate::home::Home;
use crate::image::product::{self, Profile};
use crate::terminal::{print, say};

/// The arguments of `cargo xtask charm`.
#[derive(Args)]
pub struct Arguments {
    /// Folder to write to
    #[arg(long, value_name = "DIR", default_value = "dist")]
    output_dir: PathBuf,

    /// Leave the workload container out of the charm
    #[arg(long)]
    no_container: bool,

    /// How the program is built
    #[arg(long, value_enum, default_value = "release")]
    profile: Profile,
}

/// A charm that could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The program or the image could not be made.
    #[error(transparent)]
    Image(#[from] product::Error),
    /// The program did not pack itself.
    #[error("failed to pack the charm")]
    Pack(#[from] foreground::Error),
}

/// Runs the verb.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let home = Home::from_environment().map_err(Failure::of)?;
    foreground::watch_signals().map_err(Failure::of)?;
    let output = std::path::absolute(&arguments.output_dir).map_err(Failure::of)?;
    std::fs::create_dir_all(&output).map_err(Failure::of)?;
    let image = output.join(concat!("trainerd-v", env!("CARGO_PKG_VERSION"), ".tar"));
    let (program, digest) = product::make_with_program(&home, arguments.profile, product::REFERENCE, &image)
        .map_err(Failure::of)?;
    let charm = pack(&program, &output, arguments.no_container).map_err(Failure::of)?;
    print(format_args!("{charm}\n{}\n{digest}", image.display()));
    let resource = if arguments.no_container {
        String::new()
    } else {
        format!(" \\\n    --resource trainerd-image={}", product::REFERENCE)
    };
    say(format_args!(
        "push {} to a registry that the cluster reaches, or load it into its nodes, then:\n  \
         juju deploy {charm} --trust{resource}",
        image.display(),
    ));
    Ok(())
}

/// Lets the program pack itself; where the charm is.
fn pack(program: &Path, output: &Path, no_container: bool) -> Result<String, Error> {
    let mut command = std::process::Command::new(program);
    command.args(["charm", "pack", "--output-dir"]).arg(output);
    if no_container {
        command.arg("--no-container");
    }
    let output = foreground::run_for_data(&mut command)?;
    Ok(output.trim().to_owned())
}
