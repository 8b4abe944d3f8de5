//! Actions that change the installation, or show what they would change.

use std::collections::BTreeMap;
use std::time::Duration;

use semver::Version;
use serde_json::{Value, json};
use trainerd_catalog::{Catalog, Current, Options};
use trainerd_juju::status::Reason;
use trainerd_juju::tools::truncate;

use super::{
    MAX_RESULT_LEN, Parameters, Results, daemon_status, error_message, parse_options, standalone, values,
    view, write,
};
use crate::charm::command_line::{self, Format};
use crate::charm::daemon::DaemonStatus;
use crate::charm::dispatch::Dispatch;

/// Runs an operation and returns its results.
pub(super) async fn run_operation(
    dispatch: &Dispatch,
    name: &str,
    body: &Value,
    wait: Duration,
) -> Result<Results, String> {
    Ok(run_operation_with_answer(dispatch, name, body, wait).await?.0)
}

/// As [`run_operation`], with the answer.
async fn run_operation_with_answer(
    dispatch: &Dispatch,
    name: &str,
    body: &Value,
    wait: Duration,
) -> Result<(Results, Value), String> {
    let answer = if dispatch.shared.exists() {
        dispatch.daemon.run_operation(name, body, wait).await.map_err(|error| error_message(&error))?
    } else {
        standalone::run_operation(dispatch, name, body, wait).await?
    };
    let mut results = Results::new();
    match answer["state"].as_str() {
        Some("refused") => {
            return Err(format!("Refused: {}", answer["message"].as_str().unwrap_or_default()));
        }
        Some("in-progress") => {
            results.insert("state".to_owned(), "in-progress".to_owned());
            let operation = answer["operation"].as_str().map(str::to_owned);
            results.extend(operation.map(|operation| ("operation".to_owned(), operation)));
        }
        _ => {}
    }
    if let Some(revision) = answer["revision"].as_u64() {
        results.insert("revision".to_owned(), revision.to_string());
    }
    Ok((results, answer))
}

/// Reapplies the current revision, of all components or of one, and returns what that wrote.
pub(super) async fn force_reconcile(dispatch: &Dispatch, parameters: &Parameters) -> Result<Results, String> {
    let component = Some(parameters.text("component")).filter(|component| !component.is_empty());
    let body = json!({"recreate": parameters.is("recreate"), "component": component});
    let (mut results, answer) =
        run_operation_with_answer(dispatch, "force-reconcile", &body, parameters.wait()).await?;
    for key in ["changed", "recreated"] {
        results.extend(answer[key].as_u64().map(|count| (key.to_owned(), count.to_string())));
    }
    Ok(results)
}

/// Upgrades to the version that the options select, or shows what a version would change.
pub(super) async fn upgrade(dispatch: &Dispatch, parameters: &Parameters) -> Result<Results, String> {
    let catalog = Catalog::builtin().map_err(|error| error.to_string())?;
    let version = parameters.text("version");
    let status = daemon_status(dispatch).await?;
    let installed = versions(&status);
    let configured = values(dispatch, &[]).await?;
    let mut wanted = configured.clone();
    if !version.is_empty() {
        wanted.insert("trainer-version".to_owned(), version.into());
    }
    let to = target_version(&catalog, &parse_options(&catalog, &wanted)?, &installed)?;
    let from = installed.get("trainer").map(ToString::to_string).unwrap_or_default();
    let lossy = parameters.is("allow-crd-break");
    let from_to = [("from".to_owned(), from.clone()), ("to".to_owned(), to.clone())];
    if parameters.is("dry-run") {
        let allow: &[&str] = if lossy { &["--allow", "lossy"] } else { &[] };
        let mut results =
            dry_run(dispatch, "upgrade", &[&["up", "--dry-run"][..], allow].concat(), &wanted).await?;
        results.extend(from_to);
        return Ok(results);
    }
    let configured = target_version(&catalog, &parse_options(&catalog, &configured)?, &installed)?;
    if to != configured {
        return Err(format!(
            "Refused: the options lead to {configured}; set trainer-version={version} first"
        ));
    }
    let is_settled = if dispatch.shared.exists() {
        matches!(status.reason, Reason::Settled | Reason::DriftSeen { .. } | Reason::Degraded { .. })
    } else {
        !standalone::is_pending(dispatch, &wanted).await?
    };
    if is_settled && to == from {
        return Err(format!("Already at {to}"));
    }
    let mut results =
        run_operation(dispatch, "upgrade", &json!({"allow-lossy": lossy}), parameters.wait()).await?;
    results.extend(from_to);
    Ok(results)
}

/// Rolls back to an earlier revision, or shows what that would change.
pub(super) async fn rollback(dispatch: &Dispatch, parameters: &Parameters) -> Result<Results, String> {
    let to = match parameters.text("to") {
        "" | "previous" => None,
        number => Some(number.parse::<u64>().map_err(|_| format!("No revision {number}"))?),
    };
    if let Some(to) = to {
        let view = view(dispatch).await?;
        let mut known = view["revisions"].as_array().into_iter().flatten();
        if !known.any(|revision| revision["number"] == to) {
            return Err(format!("No revision {to}; the action history lists them"));
        }
    }
    if parameters.is("dry-run") {
        let number = to.map(|to| to.to_string());
        let arguments: Vec<&str> = ["rollback", "--dry-run"].into_iter().chain(number.as_deref()).collect();
        return dry_run(dispatch, "rollback", &arguments, &BTreeMap::new()).await;
    }
    run_operation(dispatch, "rollback", &json!({"to": to}), parameters.wait()).await
}

/// Runs a dry run of the command line and returns its plan.
async fn dry_run(
    dispatch: &Dispatch,
    action: &str,
    arguments: &[&str],
    options: &BTreeMap<String, Value>,
) -> Result<Results, String> {
    /// Time limit.
    const OBSERVE_TIMEOUT: Duration = Duration::from_mins(1);
    let output =
        command_line::run(&dispatch.environment, arguments, options, Format::Text, OBSERVE_TIMEOUT).await;
    let output = output.ok_or_else(|| format!("no plan within {OBSERVE_TIMEOUT:?}"))?;
    if output.code != Some(0) {
        return Err(format!("Refused: {}", output.cause));
    }
    let mut results = Results::new();
    if output.output.len() > MAX_RESULT_LEN {
        results.insert("file".to_owned(), write(dispatch, action, "txt", output.output.as_bytes())?);
    }
    results.insert("plan".to_owned(), truncate(output.output.trim_end(), MAX_RESULT_LEN));
    Ok(results)
}

/// The installed versions.
fn versions(status: &DaemonStatus) -> BTreeMap<String, Version> {
    let parsed =
        status.versions.iter().filter_map(|(name, version)| Some((name.clone(), version.parse().ok()?)));
    parsed.collect()
}

/// The trainer's version that the options select, given what is installed.
fn target_version(
    catalog: &Catalog,
    options: &Options,
    installed: &BTreeMap<String, Version>,
) -> Result<String, String> {
    let current = (!installed.is_empty()).then_some(Current { components: installed });
    let resolution = catalog.resolve(options, current).map_err(|error| error.to_string())?;
    Ok(resolution.versions().get("trainer").map(ToString::to_string).unwrap_or_default())
}
