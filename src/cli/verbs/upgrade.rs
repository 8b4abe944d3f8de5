//! `upgrade`: other versions or images, everything else as it is.

use std::str::FromStr;

use clap::Args;
use trainerd_catalog::Catalog;
use trainerd_engine::State;

use super::plan;
use crate::cli::args::{AllowArgs, SetArgs};
use crate::cli::change::{Change, change};
use crate::cli::context::Context;
use crate::options::{Assignment, Given};
use crate::problem::Exit;
use crate::problem::{InputError, Problem, lost};
use crate::target::{resolve, version_option};

/// Change versions or images, and nothing else
///
/// Starts from the options of the installed revision and changes what --to, --latest and --set name. Shows the
/// upgrade path, then continues like `up`. An older version is refused; use `rollback` to go back.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  trainerd upgrade --latest                         everything to the newest versions
  trainerd upgrade --latest --dry-run               only show the plan
  trainerd upgrade --to trainer=2.3.0               one component, and those that must match it
  trainerd upgrade --to jobset=0.12 --yes           the newest patch of a minor version
  trainerd upgrade --set small-footprint=true       change one option of the installed revision")]
pub(crate) struct UpgradeArgs {
    /// Version of a component: X.Y.Z, X.Y or auto; repeatable
    #[arg(long = "to", value_name = "COMPONENT=VERSION")]
    to: Vec<To>,

    /// The newest version of every component
    #[arg(long)]
    latest: bool,

    /// Only show what would be done
    #[arg(long)]
    dry_run: bool,

    #[command(flatten)]
    set: SetArgs,

    #[command(flatten)]
    allow: AllowArgs,
}

/// `COMPONENT=VERSION`.
#[derive(Clone, Debug)]
struct To {
    component: String,
    version: String,
}

/// A text that names no component, or no version of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be COMPONENT=VERSION")]
struct NotATarget;

impl FromStr for To {
    type Err = NotATarget;

    fn from_str(text: &str) -> Result<Self, NotATarget> {
        match text.parse() {
            Ok(Assignment { name, value }) if !value.trim().is_empty() => {
                Ok(Self { component: name, version: value.trim().to_owned() })
            }
            _ => Err(NotATarget),
        }
    }
}

/// Runs the verb.
pub(crate) async fn run(context: &Context, args: &UpgradeArgs) -> Result<Exit, Problem> {
    let catalog = Catalog::builtin()?;
    // An invalid command line is reported before connecting to the cluster.
    changed(&catalog, args, Given::default())?.parse(&catalog)?;
    if args.to.is_empty() && !args.latest && args.set.set.is_empty() {
        return Err(InputError::NothingNamed.into());
    }
    let engine = context.engine().await?;
    let target = async |state: &State| {
        let Some(header) = state.header() else {
            if let Some(damage) = state.damage() {
                return Err(lost(damage));
            }
            let installation = engine.installation();
            return Err(trainerd_engine::EngineError::NotInstalled {
                name: installation.name.clone(),
                namespace: installation.namespace.clone(),
            }
            .into());
        };
        let given = Given::of_revision(&header.given, &header.options)
            .allowing_unknown_version(args.allow.unknown_version());
        let given = changed(&catalog, args, given)?;
        resolve(&catalog, &engine, state, &given).await
    };
    let asked = Change { allow: args.allow.allowed(), show_way: true, unasked: false };
    if args.dry_run {
        return plan::show(context, &engine, asked, target).await.map(|_| Exit::Done);
    }
    change(context, &engine, asked, target).await
}

/// The options that are started from, with what the command line changes.
fn changed(catalog: &Catalog, args: &UpgradeArgs, mut given: Given) -> Result<Given, Problem> {
    if args.latest {
        // The trainer leads; the others follow it where nobody holds them.
        for component in catalog.components() {
            if let Some(option) = version_option(catalog, component) {
                given.unset(&option);
            }
        }
        if let Some(newest) = catalog.newest("trainer") {
            given.set_one("trainer-version", &newest.to_string());
        }
    }
    for To { component, version } in &args.to {
        let known: Vec<String> = catalog.components().map(str::to_owned).collect();
        if !known.contains(component) {
            return Err(InputError::UnknownComponent { name: component.clone(), known }.into());
        }
        let option = version_option(catalog, component)
            .ok_or_else(|| InputError::NotChosen { name: component.clone() })?;
        given.set_one(&option, version);
    }
    given.set(&args.set.set);
    Ok(given)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::Value;

    use super::*;

    #[test]
    fn upgrade_replaces_pinned_versions_by_the_newest() {
        let catalog = Catalog::builtin().unwrap();
        let held = BTreeMap::from([
            ("jobset-version".to_owned(), Value::from("0.11.1")),
            ("trainer-version".to_owned(), Value::from("2.2.1")),
            ("settle".to_owned(), Value::from(0)),
        ]);
        let names: Vec<String> = held.keys().cloned().collect();
        let given = || Given::of_revision(&names, &held);
        let args = |to: &[&str], latest| UpgradeArgs {
            to: to.iter().map(|text| text.parse().unwrap()).collect(),
            latest,
            dry_run: false,
            set: SetArgs::default(),
            allow: AllowArgs::default(),
        };
        let latest = changed(&catalog, &args(&[], true), given()).unwrap().parse(&catalog).unwrap();
        let newest = catalog.newest("trainer").unwrap().to_string();
        assert_eq!(latest.values()["trainer-version"], Value::from(newest));
        assert_eq!(latest.values()["jobset-version"], Value::from("auto"));
        assert_eq!(latest.values()["settle"], Value::from(0));

        let one = changed(&catalog, &args(&["trainer=2.3.0"], false), given()).unwrap();
        assert_eq!(one.parse(&catalog).unwrap().values()["jobset-version"], Value::from("0.11.1"));

        for (to, code) in [("trainr=2.3.0", "unknown-component"), ("runtimes=2.3.0", "version-not-chosen")] {
            assert_eq!(changed(&catalog, &args(&[to], false), given()).unwrap_err().code, code);
        }
    }
}
