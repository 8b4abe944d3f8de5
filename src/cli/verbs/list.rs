//! `list`: the installations in this cluster.

use clap::Args;
use trainerd_engine::{Found, installations};

use crate::cli::context::Context;
use crate::cli::output::columns;
use crate::problem::Exit;
use crate::problem::Problem;

/// List the installations in this cluster, in all namespaces
///
/// Includes installations whose record is lost; `trainerd repair` and `trainerd up` restore it. Needs permission to list
/// Secrets and Deployments in all namespaces.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  trainerd list                                     namespace, name, revision, versions
  trainerd list -o json                             for a script")]
pub(crate) struct ListArgs {}

/// Runs the verb.
pub(crate) async fn run(context: &Context, _: &ListArgs) -> Result<Exit, Problem> {
    let cluster = context.connect().await?;
    let found = context.interrupt.or(installations(&cluster)).await?;
    context.printer.show(&found, || {
        let headings = ["NAMESPACE", "NAME", "REVISION", "RESULT", "VERSIONS"];
        columns(&headings, found.iter().map(row))
    })?;
    if found.is_empty() {
        context.printer.note("there is no installation in this cluster");
    }
    Ok(Exit::Done)
}

fn row(found: &Found) -> Vec<String> {
    let result = match (&found.outcome, found.plan_open) {
        _ if !found.record => "the record is lost".to_owned(),
        (_, true) => "a plan is open".to_owned(),
        (Some(outcome), false) => outcome.to_string(),
        (None, false) => "not known".to_owned(),
    };
    let versions: Vec<String> =
        found.versions.iter().map(|(name, version)| format!("{name}={version}")).collect();
    vec![
        found.namespace.clone(),
        found.name.clone(),
        found.revision.map_or_else(|| "-".to_owned(), |revision| revision.to_string()),
        result,
        if versions.is_empty() { "-".to_owned() } else { versions.join(" ") },
    ]
}
