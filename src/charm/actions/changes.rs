//! Actions that change the installation, or show what they would change.

use std::collections::BTreeMap;
use std::time::Duration;

use semver::Version;
use serde_json::{Value, json};
use trainerd_catalog::{Catalog, Current, Options};
use trainerd_juju::status::Reason;
use trainerd_juju::tools::shortened;

use super::{LONGEST, Parameters, Results, options_of, refused, standalone, told, values, view, write};
use crate::charm::command_line::{self, Format};
use crate::charm::daemon::DaemonStatus;
use crate::charm::dispatch::Dispatch;

/// Lets the daemon do it, and tells what came of it.
pub(super) async fn ask(
    dispatch: &Dispatch,
    name: &str,
    body: &Value,
    wait: Duration,
) -> Result<Results, String> {
    Ok(ask_and_answer(dispatch, name, body, wait).await?.0)
}

/// As [`ask`], with the answer itself.
async fn ask_and_answer(
    dispatch: &Dispatch,
    name: &str,
    body: &Value,
    wait: Duration,
) -> Result<(Results, Value), String> {
    let answer = if dispatch.shared.exists() {
        dispatch.daemon.act(name, body, wait).await.map_err(|error| refused(&error))?
    } else {
        standalone::act(dispatch, name, body, wait).await?
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

/// Plans over the current revision, of all components or of one, and tells what that wrote.
pub(super) async fn force_reconcile(dispatch: &Dispatch, parameters: &Parameters) -> Result<Results, String> {
    let component = Some(parameters.text("component")).filter(|component| !component.is_empty());
    let body = json!({"recreate": parameters.is("recreate"), "component": component});
    let (mut results, answer) = ask_and_answer(dispatch, "force-reconcile", &body, parameters.wait()).await?;
    for key in ["changed", "recreated"] {
        results.extend(answer[key].as_u64().map(|count| (key.to_owned(), count.to_string())));
    }
    Ok(results)
}

/// Applies what the options lead to, or shows what another version would change.
pub(super) async fn upgrade(dispatch: &Dispatch, parameters: &Parameters) -> Result<Results, String> {
    let catalog = Catalog::builtin().map_err(|error| error.to_string())?;
    let version = parameters.text("version");
    let told = told(dispatch).await?;
    let installed = versions(&told);
    let configured = values(dispatch, &[]).await?;
    let mut wanted = configured.clone();
    if !version.is_empty() {
        wanted.insert("trainer-version".to_owned(), version.into());
    }
    let to = leads_to(&catalog, &options_of(&catalog, &wanted)?, &installed)?;
    let from = installed.get("trainer").map(ToString::to_string).unwrap_or_default();
    let lossy = parameters.is("allow-crd-break");
    let ends = [("from".to_owned(), from.clone()), ("to".to_owned(), to.clone())];
    if parameters.is("dry-run") {
        let allow: &[&str] = if lossy { &["--allow", "lossy"] } else { &[] };
        let mut results =
            dry_run(dispatch, "upgrade", &[&["up", "--dry-run"][..], allow].concat(), &wanted).await?;
        results.extend(ends);
        return Ok(results);
    }
    let configured = leads_to(&catalog, &options_of(&catalog, &configured)?, &installed)?;
    if to != configured {
        return Err(format!(
            "Refused: the options lead to {configured}; set trainer-version={version} first"
        ));
    }
    let is_done = if dispatch.shared.exists() {
        matches!(told.reason, Reason::Settled | Reason::DriftSeen { .. } | Reason::Degraded { .. })
    } else {
        !standalone::is_pending(dispatch, &wanted).await?
    };
    if is_done && to == from {
        return Err(format!("Already at {to}"));
    }
    let mut results = ask(dispatch, "upgrade", &json!({"allow-lossy": lossy}), parameters.wait()).await?;
    results.extend(ends);
    Ok(results)
}

/// Goes back to an earlier revision, or shows what that would change.
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
        let words: Vec<&str> = ["rollback", "--dry-run"].into_iter().chain(number.as_deref()).collect();
        return dry_run(dispatch, "rollback", &words, &BTreeMap::new()).await;
    }
    ask(dispatch, "rollback", &json!({"to": to}), parameters.wait()).await
}

/// What the command line shows of a plan, which changes nothing.
async fn dry_run(
    dispatch: &Dispatch,
    action: &str,
    words: &[&str],
    options: &BTreeMap<String, Value>,
) -> Result<Results, String> {
    /// Longest that looking at the cluster may take.
    const LOOK: Duration = Duration::from_mins(1);
    let ran = command_line::run(&dispatch.environment, words, options, Format::Text, LOOK).await;
    let ran = ran.ok_or_else(|| format!("no plan within {LOOK:?}"))?;
    if ran.code != Some(0) {
        return Err(format!("Refused: {}", ran.cause));
    }
    let mut results = Results::new();
    if ran.output.len() > LONGEST {
        results.insert("file".to_owned(), write(dispatch, action, "txt", ran.output.as_bytes())?);
    }
    results.insert("plan".to_owned(), shortened(ran.output.trim_end(), LONGEST));
    Ok(results)
}

/// The versions that are installed.
fn versions(told: &DaemonStatus) -> BTreeMap<String, Version> {
    let parsed =
        told.versions.iter().filter_map(|(name, version)| Some((name.clone(), version.parse().ok()?)));
    parsed.collect()
}

/// The version of the trainer that options lead to from what is installed.
fn leads_to(
    catalog: &Catalog,
    options: &Options,
    installed: &BTreeMap<String, Version>,
) -> Result<String, String> {
    let current = (!installed.is_empty()).then_some(Current { components: installed });
    let resolution = catalog.resolve(options, current).map_err(|error| error.to_string())?;
    Ok(resolution.versions().get("trainer").map(ToString::to_string).unwrap_or_default())
}
