//! `version`: of this build, and what it can install.

use std::collections::BTreeMap;

use clap::Args;
use semver::Version;
use serde::Serialize;
use trainerd_catalog::Catalog;

use crate::cli::context::Context;
use crate::cli::output::columns;
use crate::problem::Exit;
use crate::problem::Problem;

/// Print the version of trainerd, and the versions that it can install
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  trainerd version
  trainerd version -o json | jq -r .version")]
pub(crate) struct VersionArgs {}

/// What `version` prints as a document.
#[derive(Serialize)]
struct Shown<'a> {
    version: &'static str,
    catalog: BTreeMap<&'a str, Vec<Version>>,
}

/// Runs the verb.
pub(crate) fn run(context: &Context, _: &VersionArgs) -> Result<Exit, Problem> {
    let catalog = Catalog::builtin()?;
    let versions = catalog.components().map(|name| (name, catalog.versions(name))).collect();
    let shown = Shown { version: env!("CARGO_PKG_VERSION"), catalog: versions };
    context.printer.show(&shown, || {
        let rows = shown.catalog.iter().map(|(name, versions)| {
            vec![(*name).to_owned(), versions.iter().map(Version::to_string).collect::<Vec<_>>().join(", ")]
        });
        format!("trainerd {}\n\n{}", shown.version, columns(&["COMPONENT", "VERSIONS"], rows))
    })?;
    Ok(Exit::Done)
}
