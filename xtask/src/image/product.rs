//! The product's programs as images, without a container engine: trainerd itself, the data cache, the initializers.
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

/// A program of ours as an image.
#[derive(Debug)]
pub(crate) struct Product {
    /// What the image is called.
    pub(crate) name: &'static str,
    /// Reference that it has where none is asked for.
    pub(crate) reference: &'static str,
    /// The crate, and its program.
    package: &'static str,
    /// Names of the program in the image.
    programs: &'static [&'static str],
    /// The command that runs where the pod names none.
    entrypoint: &'static [&'static str],
}

/// trainerd itself: the Pebble of a charm's workload container looks for it there, too.
pub(crate) const TRAINERD: Product = Product {
    name: "trainerd",
    reference: REFERENCE,
    package: "trainerd",
    programs: &["/usr/bin/trainerd"],
    entrypoint: &["/usr/bin/trainerd"],
};

/// All of them.
pub(crate) const ALL: [&Product; 4] = [
    &TRAINERD,
    // Upstream's LeaderWorkerSet runs `head` and `worker`, wherever they are found.
    &Product {
        name: "data-cache",
        reference: concat!("localhost/data-cache:v", env!("CARGO_PKG_VERSION")),
        package: "trainerd-cache",
        programs: &["/usr/local/bin/head", "/usr/local/bin/worker"],
        entrypoint: &[],
    },
    // Runtimes name no command: the image's own is what runs.
    &Product {
        name: "dataset-initializer",
        reference: concat!("localhost/dataset-initializer:v", env!("CARGO_PKG_VERSION")),
        package: "trainerd-initializer",
        programs: &["/dataset-initializer"],
        entrypoint: &["/dataset-initializer"],
    },
    &Product {
        name: "model-initializer",
        reference: concat!("localhost/model-initializer:v", env!("CARGO_PKG_VERSION")),
        package: "trainerd-initializer",
        programs: &["/model-initializer"],
        entrypoint: &["/model-initializer"],
    },
];

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
    #[error("failed to build a static program")]
    Build(#[from] cargo::Error),
    /// The archive could not be written.
    #[error(transparent)]
    Write(#[from] oci::Error),
}

/// Builds trainerd and packs it; where the archive is, and the digest of its manifest.
pub(crate) fn make(
    home: &Home,
    profile: Profile,
    reference: &str,
    output: Option<&Path>,
) -> Result<(PathBuf, String), Error> {
    make_of(home, &TRAINERD, profile, reference, output)
}

/// As [`make()`], of any of the programs.
pub(crate) fn make_of(
    home: &Home,
    product: &Product,
    profile: Profile,
    reference: &str,
    output: Option<&Path>,
) -> Result<(PathBuf, String), Error> {
    let program = build(home, product.package, profile)?;
    let path = output.map_or_else(
        || program.with_file_name(format!("{}-v{}.tar", product.name, env!("CARGO_PKG_VERSION"))),
        Path::to_owned,
    );
    let digest = write(product, &program, reference, &path)?;
    Ok((path, digest))
}

/// As [`make()`], at that path; where the program is, and the digest.
pub(crate) fn make_with_program(
    home: &Home,
    profile: Profile,
    reference: &str,
    path: &Path,
) -> Result<(PathBuf, String), Error> {
    let program = build(home, TRAINERD.package, profile)?;
    let digest = write(&TRAINERD, &program, reference, path)?;
    Ok((program, digest))
}

fn write(product: &Product, program: &Path, reference: &str, path: &Path) -> Result<String, Error> {
    let programs = product.programs.iter().map(|name| (*name, program.to_owned())).collect();
    Ok(oci::write(&Image { references: &[reference], programs, entrypoint: product.entrypoint }, path)?)
}

/// Builds the program for this machine's architecture, with the C library in it.
///
/// With a target of its own: flags for the target do not reach what runs while building, and the other builds of
/// this checkout stay as they are.
pub(crate) fn build(home: &Home, package: &'static str, profile: Profile) -> Result<PathBuf, cargo::Error> {
    let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    // Flags with a path in them are other flags in every checkout, and everything would be built again there.
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
    let mut arguments = vec!["build", "--package", package, "--bin", package, "--target", &target];
    if profile == Profile::Release {
        arguments.push("--release");
    }
    let programs = build_with(home, &arguments, &variables)?;
    binary(&programs, package).map(Path::to_owned)
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
