//! `trainjob render` and `trainjob validate`.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use trainerd_pipeline::api_server::{self, Part};
use trainerd_pipeline::{Compatibility, build};

use super::facts::FactsFile;
use super::manifests::{read_all, read_document, read_one, unusable};
use crate::cli::args::Format;
use crate::cli::context::Context;
use crate::problem::Exit;
use crate::problem::Problem;

/// Namespace of objects that name none, as kubectl has it.
const NAMESPACE: &str = "default";

/// Print the objects that the controller creates for a TrainJob, and whether it is admitted
///
/// Needs no cluster. Prints warnings, errors and objects, in the order in which the controller applies them. The exit
/// code is 4 if the webhooks would reject the TrainJob, whose objects are printed anyway, and 1 if no objects can be
/// built.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  trainerd trainjob render --runtime torch.yaml --trainjob job.yaml
  trainerd trainjob render --runtime torch.yaml --trainjob job.yaml --compat upstream -o json
  trainerd trainjob render --runtime torch.yaml --trainjob new.yaml --old old.yaml     an update")]
pub(crate) struct RenderArgs {
    #[command(flatten)]
    input: Input,
}

/// Validate a TrainJob and its runtime like the API server and the webhooks
///
/// Needs no cluster. Prints warnings and errors, those of the schema first. The exit code is 4 if there is an error.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  trainerd trainjob validate --runtime torch.yaml --trainjob job.yaml
  trainerd trainjob validate --runtime torch.yaml --trainjob new.yaml --old old.yaml   an update")]
pub(crate) struct ValidateArgs {
    #[command(flatten)]
    input: Input,
}

#[derive(Clone, Debug, Args)]
struct Input {
    /// The TrainingRuntime or ClusterTrainingRuntime; - reads standard input
    #[arg(long, value_name = "FILE")]
    runtime: PathBuf,

    /// The TrainJob; - reads standard input
    #[arg(long, value_name = "FILE")]
    trainjob: PathBuf,

    /// The TrainJob before an update
    #[arg(long, value_name = "FILE")]
    old: Option<PathBuf>,

    /// Objects that exist: JobSet, PodGroups, Secrets, PriorityClasses, the runtime's snapshot; by default, none
    #[arg(long, value_name = "FILE")]
    existing: Option<PathBuf>,

    /// Other facts about the cluster: the controller's configuration, namespace and feature gates, deterministicKeys
    #[arg(long, value_name = "FILE")]
    facts: Option<PathBuf>,

    /// The controller whose behaviour to show
    #[arg(long, value_enum, default_value_t = Compat::Extended)]
    compat: Compat,

    /// Take the files as they are, without the defaults of the CRDs
    #[arg(long)]
    no_defaults: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Compat {
    /// Exactly as upstream
    Upstream,
    /// As upstream, with known bugs fixed
    Extended,
}

/// The files, read and defaulted.
struct Case {
    runtime: Value,
    new: Value,
    old: Option<Value>,
    facts: FactsFile,
    compatibility: Compatibility,
    /// What the API server would say of the TrainJob.
    schema_errors: Vec<String>,
}

impl Input {
    fn read(&self) -> Result<Case, Problem> {
        let compatibility = match self.compat {
            Compat::Upstream => Compatibility::Upstream,
            Compat::Extended => Compatibility::Extended,
        };
        let runtime = read_one(&self.runtime, &["ClusterTrainingRuntime", "TrainingRuntime"])?;
        let train_job = |path: &PathBuf| read_one(path, &["TrainJob"]).map(|job| self.placed(job));
        let new = train_job(&self.trainjob)?;
        let old = self.old.as_ref().map(train_job).transpose()?;
        let stored = api_server::store(&new, old.as_ref(), Part::Main)
            .map_err(|error| unusable(&self.trainjob, &error.to_string()))?;
        let defaulted = |object: Value, path: &Path| {
            if self.no_defaults {
                return Ok(object);
            }
            api_server::defaulted(&object).map_err(|error| unusable(path, &error.to_string()))
        };
        let facts = match &self.facts {
            Some(path) => FactsFile::read(&read_document(path)?).map_err(|error| {
                unusable(path, &error.to_string()).hint(
                    "it may contain operatorNamespace, config, featureGates, certificateAuthority, jobSet, \
                     coschedulingPodGroup, volcanoPodGroup, sshSecret, priorityClasses, deterministicKeys, profile",
                )
            })?,
            None => FactsFile::default(),
        };
        let existing = self.existing.as_deref().map(read_all).transpose()?.unwrap_or_default();
        let existing: Vec<Value> = existing.into_iter().map(|object| self.placed(object)).collect();
        let runtime = if runtime["kind"] == "TrainingRuntime" { self.placed(runtime) } else { runtime };
        let new = defaulted(new, &self.trainjob)?;
        Ok(Case {
            runtime: defaulted(runtime, &self.runtime)?,
            old: old.map(|old| defaulted(old, &self.trainjob)).transpose()?,
            facts: facts.with_existing(&existing, &new, compatibility),
            new,
            compatibility,
            schema_errors: stored.errors,
        })
    }

    /// An object in the namespace that it would come to.
    fn placed(&self, mut object: Value) -> Value {
        let is_nowhere = object["metadata"]["namespace"].as_str().is_none_or(str::is_empty);
        if is_nowhere && !self.no_defaults && object["metadata"].is_object() {
            object["metadata"]["namespace"] = NAMESPACE.into();
        }
        object
    }
}

impl Case {
    /// Warnings and errors of admission, those of the schema first.
    fn verdict(&self) -> (Vec<String>, Vec<String>) {
        let verdict = self.facts.validate(&self.runtime, self.old.as_ref(), &self.new, self.compatibility);
        let errors = self.schema_errors.iter().cloned().chain(verdict.errors).collect();
        (verdict.warnings, errors)
    }
}

/// Runs `trainjob validate`.
pub(super) fn validate(context: &Context, args: &ValidateArgs) -> Result<Exit, Problem> {
    let case = args.input.read()?;
    let (warnings, errors) = case.verdict();
    print(context, &json!({ "warnings": warnings, "errors": errors }))?;
    Ok(if errors.is_empty() { Exit::Done } else { Exit::Input })
}

/// Runs `trainjob render`.
pub(super) fn render(context: &Context, args: &RenderArgs) -> Result<Exit, Problem> {
    let case = args.input.read()?;
    let (warnings, errors) = case.verdict();
    let built = case
        .facts
        .with(&case.runtime, &case.new, case.compatibility, |facts| build(&case.runtime, &case.new, facts));
    let objects = built.map_err(|error| {
        Problem::new(Exit::Failed, "build", "failed to build the objects of the TrainJob")
            .because(error.to_string())
            .hint("correct the TrainJob or its runtime; `trainerd trainjob validate` shows the errors")
    })?;
    print(context, &json!({ "warnings": warnings, "errors": errors, "objects": objects }))?;
    Ok(if errors.is_empty() { Exit::Done } else { Exit::Input })
}

fn print(context: &Context, document: &Value) -> Result<(), Problem> {
    let format = match context.printer.format() {
        Format::Json => Format::Json,
        Format::Table | Format::Yaml => Format::Yaml,
    };
    context.printer.document(format, document)
}
