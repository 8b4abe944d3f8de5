//! `cargo xtask image`: an image without a container engine.

use std::path::{Path, PathBuf};

use clap::Args;

use super::product::{self, Product, Profile};
use super::training;
use crate::cli::{Failure, INVALID_INPUT};
use crate::foreground;
use crate::home::Home;
use crate::terminal::{print, say};

/// The arguments of `cargo xtask image`.
#[derive(Args)]
pub struct Arguments {
    /// Which image: trainerd, data-cache, dataset-initializer, model-initializer, or that of a training runtime, by the
    /// name of its folder in images/
    #[arg(default_value = product::TRAINERD.name)]
    name: String,

    /// Where to write the image [default: beside the program, or in the cache]
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Full reference that it is imported under, registry and tag included [default: the catalog's, or the recipe's]
    #[arg(long, value_name = "REF")]
    reference: Option<String>,

    /// How a program of ours is built [default: release]
    #[arg(long, value_enum)]
    profile: Option<Profile>,

    /// Pin the newest packages in the recipe's lock files first
    #[arg(long)]
    lock: bool,
}

/// Runs the verb.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let home = Home::from_environment().map_err(Failure::of)?;
    foreground::watch_signals().map_err(Failure::of)?;
    let output = arguments.output.as_deref();
    let product = product::ALL.into_iter().find(|product| product.name == arguments.name);
    let (path, digest, reference) = match product {
        Some(product) => of_product(&home, product, arguments, output)?,
        None => of_training(&home, arguments, output).map_err(failure)?,
    };
    let path = path.display();
    print(format_args!("{path}\n{digest}"));
    say(format_args!(
        "an OCI image layout with the reference {reference}; load it with:\n  \
         kind load image-archive {path}\n  \
         microk8s images import {path}\n  \
         ctr --namespace k8s.io images import {path}"
    ));
    Ok(())
}

fn failure(error: training::Error) -> Failure {
    let code = match error {
        training::Error::Unknown { .. }
        | training::Error::NotForTraining { .. }
        | training::Error::Recipe { .. } => INVALID_INPUT,
        _ => return Failure { hint: error.hint(), ..Failure::of(error) },
    };
    Failure { code, hint: error.hint(), error: Box::new(error) }
}

fn of_product(
    home: &Home,
    product: &Product,
    arguments: &Arguments,
    output: Option<&Path>,
) -> Result<(PathBuf, String, String), Failure> {
    let reference = arguments.reference.as_deref().unwrap_or(product.reference);
    let profile = arguments.profile.unwrap_or(Profile::Release);
    let (path, digest) = product::make_of(home, product, profile, reference, output).map_err(|error| {
        let hint = matches!(error, product::Error::Build(_)).then(|| {
            "a static program needs the static C library: libc6-dev in Debian, glibc-static in Fedora"
                .to_owned()
        });
        Failure { hint, ..Failure::of(error) }
    })?;
    Ok((path, digest, reference.to_owned()))
}

fn of_training(
    home: &Home,
    arguments: &Arguments,
    output: Option<&Path>,
) -> Result<(PathBuf, String, String), training::Error> {
    let name = &arguments.name;
    if arguments.profile.is_some() {
        return Err(training::Error::NotForTraining { name: name.clone(), option: "--profile" });
    }
    let recipe = training::recipe(home, name)?;
    if arguments.lock {
        training::lock(home, &recipe)?;
    }
    if let Some(difference) = recipe.difference() {
        say(format_args!("image {recipe}: {difference}"));
    }
    let reference = arguments.reference.as_deref().unwrap_or(recipe.reference());
    let made = training::make(home, &recipe, Some(reference), output)?;
    Ok((made.path, made.digest, reference.to_owned()))
}
