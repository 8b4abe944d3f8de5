//! `cargo xtask vectors FILE`: recorded cases of upstream's controller, run through the pipeline.

mod api;
mod compare;
mod configuration;
mod normal;
mod reconcile;
mod world;

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use trainerd_pipeline::{Compatibility, defaulting, runtime_admission};

use crate::cli::{FAILED, Failure, INVALID_INPUT};
use crate::files;
use crate::terminal::print;

/// The arguments of `cargo xtask vectors`.
#[derive(Args)]
pub struct Arguments {
    /// Cases, one a line
    file: PathBuf,
    /// Whose behaviour is compared
    #[arg(long, value_enum, default_value = "upstream")]
    compat: Compat,
    /// Only cases whose name contains this
    #[arg(long, default_value = "")]
    only: String,
    /// Print what the pipeline made of each case, too
    #[arg(long)]
    show: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Compat {
    Upstream,
    Extended,
}

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    File(#[from] files::Error),
    #[error("failed to read case {line}")]
    Case { line: usize, source: serde_json::Error },
    #[error("{0} of the cases failed")]
    Failed(usize),
}

/// Runs the verb.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let failed = cases(arguments).map_err(|error| Failure { code: INVALID_INPUT, ..Failure::of(error) })?;
    if failed > 0 {
        return Err(Failure { code: FAILED, error: Box::new(Error::Failed(failed)), hint: None });
    }
    Ok(())
}

fn cases(arguments: &Arguments) -> Result<usize, Error> {
    let text = files::read(&arguments.file)?;
    let (mut passed, mut failed) = (0, 0);
    for (at, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let case: Value =
            serde_json::from_str(line).map_err(|source| Error::Case { line: at + 1, source })?;
        let id = case["id"].as_str().unwrap_or_default();
        if !id.contains(&arguments.only) {
            continue;
        }
        let compatibility = match arguments.compat {
            Compat::Upstream => Compatibility::Upstream,
            Compat::Extended => Compatibility::Extended,
        };
        let actual = outcome(&case, compatibility);
        if arguments.show {
            print(format_args!("{id}: {actual:#}"));
        }
        let differences = compare::compare(&case, &actual);
        if differences.is_empty() {
            passed += 1;
            continue;
        }
        failed += 1;
        let mark = case["diverge"].as_str().map_or(String::new(), |why| format!(" (diverges: {why})"));
        print(format_args!("FAILED {id}{mark}"));
        for difference in differences {
            print(format_args!("  {difference}"));
        }
    }
    print(format_args!("{passed} passed, {failed} failed"));
    Ok(failed)
}

/// What the pipeline makes of a case.
fn outcome(case: &Value, compatibility: Compatibility) -> Value {
    let options = &case["options"];
    match options["op"].as_str() {
        Some("trainjob") => reconcile::admit(case, compatibility),
        Some("reconcile") => reconcile::pass(case, compatibility),
        Some("runtime") => {
            let is_update = options["oldRuntime"].is_object();
            let verdict = runtime_admission::validate(&case["runtime"], is_update, compatibility);
            json!({ "warnings": verdict.warnings, "errors": verdict.errors })
        }
        Some("default") => default(case),
        Some("config") => configuration::load(options),
        Some("crd") => api::store(case),
        Some("statusserver") => api::report(case),
        other => json!({ "unknown operation": other }),
    }
}

fn default(case: &Value) -> Value {
    let Some(now) = case["options"]["now"].as_str().and_then(|text| text.parse().ok()) else {
        return Value::Null;
    };
    let old = Some(&case["oldTrainJob"]).filter(|old| old.is_object());
    let changes = defaulting::patch_times(old, &case["trainJob"], now);
    match defaulting::with_times(&case["trainJob"], &changes) {
        Value::Array(patches) if !patches.is_empty() => json!({ "runtimePatches": patches }),
        _ => json!({}),
    }
}
