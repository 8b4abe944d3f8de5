//! Juju actions. The process always exits with 0: Juju would replace the message of an action that failed.

mod changes;
mod standalone;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use trainerd_catalog::{Catalog, Options, Raw};
use trainerd_causes::one_line;
use trainerd_juju::pebble::layer;
use trainerd_juju::tools::truncate;
use trainerd_plan::desired::{Installation, Naming};

use super::daemon::{DaemonError, DaemonStatus};
use super::dispatch::Dispatch;
use super::options::validate;

/// Maximum length of a result, in bytes: Linux limits an argument of a process to 128 KiB.
const MAX_RESULT_LEN: usize = 100_000;

/// Results, by key.
type Results = BTreeMap<String, String>;

/// Runs an action.
pub(super) async fn run(dispatch: &Dispatch, name: &str) {
    let outcome = match dispatch.tools.action_parameters().await {
        Ok(parameters) => perform(dispatch, name, &Parameters(parameters)).await,
        Err(error) => Err(error.to_string()),
    };
    let reported = match outcome {
        Ok(mut results) => {
            results.entry("state".to_owned()).or_insert_with(|| "done".to_owned());
            dispatch.tools.set_results(&results).await
        }
        Err(message) => {
            let results = Results::from([("state".to_owned(), "refused".to_owned())]);
            // The message below matters more than the state.
            let _ = dispatch.tools.set_results(&results).await;
            dispatch.tools.fail_action(&message).await
        }
    };
    // An action has no other channel for errors.
    let _ = reported;
}

/// The parameters of an action, as `actions.yaml` declares them.
struct Parameters(Map<String, Value>);

impl Parameters {
    fn text(&self, name: &str) -> &str {
        self.0.get(name).and_then(Value::as_str).unwrap_or_default()
    }

    fn is(&self, name: &str) -> bool {
        self.0.get(name).and_then(Value::as_bool).unwrap_or_default()
    }

    fn number(&self, name: &str, default: u64) -> u64 {
        self.0.get(name).and_then(Value::as_u64).unwrap_or(default)
    }

    fn wait(&self) -> Duration {
        Duration::from_secs(self.number("wait", 60))
    }
}

async fn perform(dispatch: &Dispatch, name: &str, parameters: &Parameters) -> Result<Results, String> {
    const MUTATING: [&str; 5] = ["upgrade", "rollback", "pause", "resume", "force-reconcile"];
    if MUTATING.contains(&name) {
        let leader = dispatch.tools.is_leader().await.map_err(|error| error.to_string())?;
        if !leader {
            let application = &dispatch.environment.unit.application;
            return Err(format!("Run on the leader: juju run {application}/leader {name}"));
        }
    }
    match name {
        "status" => status(dispatch, parameters).await,
        "history" => history(dispatch, parameters).await,
        "diff" => diff(dispatch, parameters).await,
        "pause" => {
            let body = json!({"reason": parameters.text("reason")});
            changes::run_operation(dispatch, name, &body, parameters.wait()).await
        }
        "resume" => changes::run_operation(dispatch, name, &json!({}), parameters.wait()).await,
        "force-reconcile" => changes::force_reconcile(dispatch, parameters).await,
        "upgrade" => changes::upgrade(dispatch, parameters).await,
        "rollback" => changes::rollback(dispatch, parameters).await,
        "get-images" => get_images(dispatch, parameters).await,
        "export-manifests" => export_manifests(dispatch, parameters).await,
        "collect-diagnostics" => collect_diagnostics(dispatch, parameters).await,
        other => Err(format!("unknown action {other}")),
    }
}

/// The action's message for an error of the daemon.
fn error_message(error: &DaemonError) -> String {
    match error {
        DaemonError::Http(source) => format!("trainerd daemon unreachable: {}", one_line(source)),
        DaemonError::Refused { message, .. } => message.clone(),
        DaemonError::Mismatch { .. } => error.to_string(),
    }
}

/// The installation's status: the daemon's, or as found in the cluster if there is no daemon.
async fn daemon_status(dispatch: &Dispatch) -> Result<DaemonStatus, String> {
    if !dispatch.shared.exists() {
        return standalone::status(dispatch).await;
    }
    dispatch.daemon.status(None, Duration::ZERO).await.map_err(|error| error_message(&error))
}

/// The full view of the installation.
async fn view(dispatch: &Dispatch) -> Result<Value, String> {
    if !dispatch.shared.exists() {
        return standalone::view(dispatch).await;
    }
    dispatch.daemon.view().await.map_err(|error| error_message(&error))
}

async fn status(dispatch: &Dispatch, parameters: &Parameters) -> Result<Results, String> {
    let status = daemon_status(dispatch).await?;
    let mut results = Results::from([
        ("phase".to_owned(), status.phase.clone()),
        ("reason".to_owned(), status.reason.message(&dispatch.environment.unit.application)),
    ]);
    if let Some(revision) = status.revision {
        results.insert("revision".to_owned(), revision.to_string());
    }
    for (component, version) in &status.versions {
        results.insert(format!("versions.{component}"), version.clone());
    }
    if let Some(jobs) = status.jobs {
        results.insert("jobs-running".to_owned(), jobs.running.to_string());
    }
    let rest = |key: &str| status.rest.get(key).cloned().unwrap_or_default();
    let (progress, drift) = (rest("progress"), rest("drift"));
    if progress.is_object() {
        results.insert("progress".to_owned(), format!("{}/{}", progress["done"], progress["total"]));
    }
    results.insert("drift".to_owned(), drift["count"].to_string());
    if parameters.text("format") == "json" {
        let view = view(dispatch).await?;
        results.insert("json".to_owned(), truncate(&view.to_string(), MAX_RESULT_LEN));
    }
    Ok(results)
}

async fn history(dispatch: &Dispatch, parameters: &Parameters) -> Result<Results, String> {
    let view = view(dispatch).await?;
    let limit = usize::try_from(parameters.number("limit", 10)).unwrap_or(10);
    let revisions = view["revisions"].as_array().into_iter().flatten().take(limit);
    let mut lines = String::new();
    for revision in revisions {
        let text = |key: &str| revision[key].as_str().unwrap_or_default();
        let versions = revision["versions"].as_object().into_iter().flatten();
        let versions: Vec<String> = versions
            .map(|(name, version)| format!("{name} {}", version.as_str().unwrap_or_default()))
            .collect();
        // Writing to a string cannot fail.
        let _ = writeln!(
            lines,
            "{} {} {} ({}): {}",
            revision["number"],
            text("created"),
            text("purpose"),
            versions.join(", "),
            text("outcome")
        );
    }
    Ok(Results::from([("revisions".to_owned(), truncate(lines.trim_end(), MAX_RESULT_LEN))]))
}

async fn diff(dispatch: &Dispatch, parameters: &Parameters) -> Result<Results, String> {
    let view = view(dispatch).await?;
    let Some(snapshot) = view["outlook"].as_object() else { return Err("No desired state yet".to_owned()) };
    let kind = parameters.text("kind");
    let is_selected = |object: &Value| kind.is_empty() || object["kind"] == kind;
    let mut lines = Vec::new();
    let drift = snapshot.get("drift").and_then(Value::as_array).into_iter().flatten();
    for drift in drift.filter(|drift| is_selected(&drift["object"])) {
        let text = |key: &str| drift["object"][key].as_str().unwrap_or_default();
        let mut line =
            format!("{} {}: {}", text("kind"), text("name"), drift["state"].as_str().unwrap_or_default());
        if parameters.text("format") == "full" {
            // The daemon has masked values of Secrets.
            for change in drift["changes"].as_array().into_iter().flatten() {
                line.push_str("\n  ");
                line.push_str(&change.to_string());
            }
        }
        lines.push(line);
    }
    if let Some(reason) = view["reason"].as_object() {
        let causes = reason.get("causes").and_then(Value::as_array).into_iter().flatten();
        lines.extend(causes.filter_map(Value::as_str).map(str::to_owned));
    }
    let text = lines.join("\n");
    let mut results = Results::from([("count".to_owned(), lines.len().to_string())]);
    if text.len() > MAX_RESULT_LEN {
        let file = write(dispatch, "diff", "txt", text.as_bytes())?;
        results.insert("file".to_owned(), file);
    }
    results.insert("diff".to_owned(), truncate(&text, MAX_RESULT_LEN));
    Ok(results)
}

/// The configured values of the options, with changes.
async fn values(dispatch: &Dispatch, changed: &[(&str, &str)]) -> Result<BTreeMap<String, Value>, String> {
    let config = dispatch.tools.config().await.map_err(|error| error.to_string())?;
    let application = &dispatch.environment.unit.application;
    let valid = validate(&config).map_err(|reason| reason.message(application))?;
    let mut values = valid.values;
    values.extend(changed.iter().map(|(name, value)| ((*name).to_owned(), Value::from(*value))));
    Ok(values)
}

/// Parses values of options.
fn parse_options(catalog: &Catalog, values: &BTreeMap<String, Value>) -> Result<Options, String> {
    let given = values.iter().map(|(name, value)| (name.clone(), Raw::Typed(value.clone()))).collect();
    catalog.parse_options(&given).map_err(|invalid| match invalid.errors().first() {
        Some(error) => error.rule.to_string(),
        None => invalid.to_string(),
    })
}

/// The configured options, with changes.
async fn options(
    dispatch: &Dispatch,
    catalog: &Catalog,
    changed: &[(&str, &str)],
) -> Result<Options, String> {
    parse_options(catalog, &values(dispatch, changed).await?)
}

async fn get_images(dispatch: &Dispatch, parameters: &Parameters) -> Result<Results, String> {
    let catalog = Catalog::builtin().map_err(|error| error.to_string())?;
    let runtimes: &[(&str, &str)] = if parameters.is("all-runtimes") { &[("runtimes", "all")] } else { &[] };
    let rewritten = options(dispatch, &catalog, runtimes).await?;
    let plain: Vec<(&str, &str)> = runtimes.iter().copied().chain([("image-registry", "")]).collect();
    let original = options(dispatch, &catalog, &plain).await?;
    let list = |options: &Options| -> Result<Vec<String>, String> {
        let resolution = catalog.resolve(options, None).map_err(|error| error.to_string())?;
        let images = catalog.images(options, &resolution).map_err(|error| error.to_string())?;
        Ok(images.into_iter().map(|image| image.reference).collect())
    };
    let (originals, references) = (list(&original)?, list(&rewritten)?);
    let mut mapping: Vec<String> = originals
        .iter()
        .zip(&references)
        .map(|(original, reference)| format!("{original}={reference}"))
        .collect();
    mapping.sort();
    mapping.dedup();
    let mut images = if parameters.is("original") { originals } else { references };
    // The charm's own image is a resource.
    if let Ok(path) = dispatch.tools.resource("trainerd-image").await
        && let Ok(text) = std::fs::read_to_string(path)
    {
        let reference = text.lines().find_map(|line| line.strip_prefix("registrypath:"));
        images.extend(reference.map(|reference| reference.trim().trim_matches(['"', '\'']).to_owned()));
    }
    images.sort();
    images.dedup();
    let text =
        if parameters.text("format") == "json" { json!(images).to_string() } else { images.join("\n") };
    Ok(Results::from([
        ("count".to_owned(), images.len().to_string()),
        ("images".to_owned(), truncate(&text, MAX_RESULT_LEN)),
        ("mapping".to_owned(), truncate(&mapping.join("\n"), MAX_RESULT_LEN)),
    ]))
}

async fn export_manifests(dispatch: &Dispatch, parameters: &Parameters) -> Result<Results, String> {
    let catalog = Catalog::builtin().map_err(|error| error.to_string())?;
    let version = parameters.text("version");
    let changed: &[(&str, &str)] = if version.is_empty() { &[] } else { &[("trainer-version", version)] };
    let options = options(dispatch, &catalog, changed).await?;
    let resolution = catalog.resolve(&options, None).map_err(|error| error.to_string())?;
    let installation = Installation {
        name: dispatch.environment.unit.application.clone(),
        namespace: dispatch.environment.model.clone(),
    };
    let desired = catalog
        .render_as(&options, &resolution, &installation, Naming::Charm)
        .map_err(|error| error.to_string())?;
    let objects: Vec<&Value> = desired.objects.iter().map(|object| &object.manifest).collect();
    let (text, extension) = if parameters.text("format") == "json" {
        (json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string(), "json")
    } else {
        let documents: Result<Vec<String>, _> = objects.iter().map(serde_yaml::to_string).collect();
        (documents.map_err(|error| error.to_string())?.join("---\n"), "yaml")
    };
    let file = write(dispatch, "export-manifests", extension, text.as_bytes())?;
    let mut results = file_results(dispatch, file, text.as_bytes());
    results.insert("objects".to_owned(), objects.len().to_string());
    Ok(results)
}

async fn collect_diagnostics(dispatch: &Dispatch, parameters: &Parameters) -> Result<Results, String> {
    let value_or_error =
        |result: Result<Value, String>| result.unwrap_or_else(|error| json!({"unavailable": error}));
    let lines = u32::try_from(parameters.number("logs", 2000)).unwrap_or(2000);
    let view = view(dispatch).await;
    let checks = dispatch.pebble.checks().await.map_err(|error| error.to_string());
    let plan = dispatch.pebble.plan().await.map(Value::from).map_err(|error| error.to_string());
    let logs = dispatch.pebble.logs(layer::SERVICE, lines).await.map_err(|error| error.to_string());
    let logs = logs.map(|logs| logs.lines().map(Value::from).collect());
    let options = dispatch.tools.config().await.map(Value::Object).map_err(|error| error.to_string());
    let report = json!({
        "charm": env!("CARGO_PKG_VERSION"),
        "juju": dispatch.environment.juju_version,
        "unit": dispatch.environment.unit.to_string(),
        "model": dispatch.environment.model,
        "options": value_or_error(options),
        "installation": value_or_error(view),
        "checks": value_or_error(checks),
        "plan": value_or_error(plan),
        "logs": value_or_error(logs),
    });
    let text = format!("{report:#}\n");
    let file = write(dispatch, "collect-diagnostics", "json", text.as_bytes())?;
    let mut results = file_results(dispatch, file, text.as_bytes());
    results.insert("bytes".to_owned(), text.len().to_string());
    Ok(results)
}

/// The results that describe a written file.
fn file_results(dispatch: &Dispatch, file: String, content: &[u8]) -> Results {
    let sum = hex::encode(Sha256::digest(content));
    let message = format!("juju scp {}:{file} .", dispatch.environment.unit);
    Results::from([("file".to_owned(), file), ("sha256".to_owned(), sum), ("message".to_owned(), message)])
}

/// Writes a file to be fetched with `juju scp`; returns its path.
fn write(dispatch: &Dispatch, action: &str, extension: &str, content: &[u8]) -> Result<String, String> {
    let folder = dispatch.environment.charm_dir.join("out");
    let run = dispatch.environment.action_uuid.as_deref().unwrap_or("0");
    let path = folder.join(format!("{action}-{run}.{extension}"));
    let path = std::path::absolute(&path).unwrap_or(path);
    std::fs::create_dir_all(&folder)
        .and_then(|()| std::fs::write(&path, content))
        .map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    Ok(path.display().to_string())
}
