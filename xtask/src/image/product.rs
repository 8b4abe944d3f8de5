//! trainerd itself as an image, without a container engine.
//!
//! One static program in an otherwise empty root, run by a user without rights. In the release profile the same
//! checkout, toolchain and architecture give the same bytes: nothing of this machine's paths and clock is in them.

use std::path::{Path, PathBuf};

use clap::ValueEnum;

use super::oci::{self, Image};
use crate::cargo::{self, binary, build_with};
use crate::home::Home;

/// The reference that the catalog has for this version, which nodes have once it was loaded there.
pub const REFERENCE: &str = concat!("localhost/trainerd:v", env!("CARGO_PKG_VERSION"));

/// Where the program is in the image: where the Pebble of a charm's workload container looks for it, too.
const PROGRAM: &str = "/usr/bin/trainerd";

/// How the program is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Profile {
    /// Optimised for size: what users run
    Release,
    /// Quickly built: for tests
    Dev,
}

/// An image that could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The program could not be built.
    #[error("failed to build trainerd as a static program")]
    Build(#[from] cargo::Error),
    /// The archive could not be written.
    #[error(transparent)]
    Write(#[from] oci::Error),
}

/// Builds the program and packs it; where the archive is, and the digest of its manifest.
pub(crate) fn make(
    home: &Home,
    profile: Profile,
    reference: &str,
    output: Option<&Path>,
) -> Result<(PathBuf, String), Error> {
    let program = build(home, profile)?;
    let path = output.map_or_else(
        || program.with_file_name(concat!("trainerd-v", env!("CARGO_PKG_VERSION"), ".tar")),
        Path::to_owned,
    );
    let digest = write(&program, reference, &path)?;
    Ok((path, digest))
}

/// The same, at that path; where the program is, and the digest.
pub(crate) fn make_with_program(
    home: &Home,
    profile: Profile,
    reference: &str,
    path: &Path,
) -> Result<(PathBuf, String), Error> {
    let program = build(home, profile)?;
    let digest = write(&program, reference, path)?;
    Ok((program, digest))
}

fn write(program: &Path, reference: &str, path: &Path) -> Result<String, Error> {
    let programs = vec![(PROGRAM, program.to_owned())];
    Ok(oci::write(&Image { references: &[reference], programs, entrypoint: &[PROGRAM] }, path)?)
}

/// Builds the program for this machine's architecture, with the C library in it.
///
/// With a target of its own: flags for the target do not reach what runs while building, and the other builds of
/// this checkout stay as they are.
fn build(home: &Home, profile: Profile) -> Result<PathBuf, cargo::Error> {
    let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    // Flags with a path in them are other flags in every checkout, and everything would be built anew there.
    let places = if profile == Profile::Release { places(home) } else { Vec::new() };
    let mut rust = vec!["-Ctarget-feature=+crt-static".to_owned()];
    rust.extend(places.iter().map(|(path, name)| format!("--remap-path-prefix={}={name}", path.display())));
    let c = places.iter().map(|(path, name)| format!("-ffile-prefix-map={}={name}", path.display()));
    let c = c.collect::<Vec<_>>().join(" ");
    let variables = [
        ("CARGO_ENCODED_RUSTFLAGS", rust.join("\x1f")),
        ("TARGET_CFLAGS", c.clone()),
        ("TARGET_CXXFLAGS", c),
    ];
    let mut arguments = vec!["build", "--package", "trainerd", "--bin", "trainerd", "--target", &target];
    if profile == Profile::Release {
        arguments.push("--release");
    }
    let programs = build_with(home, &arguments, &variables)?;
    binary(&programs, "trainerd").map(Path::to_owned)
}

/// Paths of this machine that a build would leave in the program, and what stands there instead.
fn places(home: &Home) -> Vec<(PathBuf, &'static str)> {
    let registry = std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo")));
    // What build scripts generate lies there; the last prefix that fits counts.
    let built = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    let places =
        [(Some(home.checkout().to_owned()), "/trainerd"), (registry, "/cargo"), (built, "/trainerd/target")];
    places.into_iter().filter_map(|(path, name)| Some((path?, name))).collect()
}
