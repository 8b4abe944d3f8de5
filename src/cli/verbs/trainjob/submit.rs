//! `trainjob submit`.

use std::path::PathBuf;

use clap::Args;
use serde_json::{Map, Value, json};
use trainerd_cluster::CreateParams;
use trainerd_plan::object::kinds::train_job;

use super::manifests::{read_all, unusable};
use super::state::TrainJobSummary;
use super::target::Target;
use super::watch;
use crate::cli::args::{Format, Timeout};
use crate::cli::context::Context;
use crate::options::Assignment;
use crate::problem::Exit;
use crate::problem::{Problem, TrainJobError};

/// Create TrainJobs from a file, or one from the command line
///
/// The command after `--` is run on each node. The TrainJobs in a file are created in order, until one is refused.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  trainerd trainjob submit -f job.yaml --watch
  trainerd trainjob submit my-job --runtime torch-distributed --num-nodes 2 -- python train.py --epochs 3
  trainerd trainjob submit my-job --runtime TrainingRuntime/ours --resources cpu=4 --resources nvidia.com/gpu=1
  trainerd trainjob submit -f job.yaml --dry-run    validated by the API server, not created")]
pub(crate) struct SubmitArgs {
    /// Name of the TrainJob
    #[arg(value_name = "NAME", conflicts_with = "file")]
    name: Option<String>,

    /// File with TrainJobs; - reads standard input
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,

    /// The runtime: NAME of a ClusterTrainingRuntime, or TrainingRuntime/NAME
    #[arg(long, value_name = "RUNTIME", requires = "name", conflicts_with = "file")]
    runtime: Option<String>,

    /// Image of the training nodes, instead of the runtime's
    #[arg(long, value_name = "IMAGE", requires = "name", conflicts_with = "file")]
    image: Option<String>,

    /// Number of training nodes
    #[arg(long, value_name = "NUMBER", requires = "name", conflicts_with = "file")]
    num_nodes: Option<u32>,

    /// Processes on each node
    #[arg(long, value_name = "NUMBER", requires = "name", conflicts_with = "file")]
    num_proc_per_node: Option<u32>,

    /// An environment variable of the training nodes; repeatable
    #[arg(long, value_name = "NAME=VALUE", requires = "name", conflicts_with = "file")]
    env: Vec<Assignment>,

    /// Request and limit of a resource on each node; repeatable
    #[arg(long, value_name = "NAME=QUANTITY", requires = "name", conflicts_with = "file")]
    resources: Vec<Assignment>,

    /// How long it may run, for example 2h
    #[arg(long, value_name = "DURATION", requires = "name", conflicts_with = "file")]
    deadline: Option<Timeout>,

    /// Create it suspended; `trainerd trainjob resume` starts it
    #[arg(long)]
    suspend: bool,

    /// Follow it until it ends; the exit code is 1 if it fails
    #[arg(short, long, conflicts_with = "dry_run")]
    watch: bool,

    /// Server-side dry run: the API server validates it and creates nothing
    #[arg(long)]
    dry_run: bool,

    /// Command to run on each node
    #[arg(value_name = "COMMAND", last = true, requires = "name", conflicts_with = "file")]
    command: Vec<String>,
}

/// Runs the verb.
pub(super) async fn run(context: &Context, args: &SubmitArgs) -> Result<Exit, Problem> {
    let mut jobs = jobs(args)?;
    let target = Target::connect(context).await?;
    let mut created = Vec::new();
    for job in &mut jobs {
        if args.suspend {
            job["spec"]["suspend"] = true.into();
        }
        let namespace = job["metadata"]["namespace"].as_str().unwrap_or(&target.namespace);
        let place = Target { cluster: target.cluster.clone(), namespace: namespace.to_owned() };
        job["metadata"]["namespace"] = place.namespace.clone().into();
        let name = ["name", "generateName"].iter().find_map(|key| job["metadata"][key].as_str());
        let name = name.unwrap_or_default().to_owned();
        let asked = async {
            let params = CreateParams { dry_run: args.dry_run, ..CreateParams::default() };
            let answer = place.cluster.create(&train_job(), job, params).await;
            answer.map_err(|source| place.failed("create", &name, source))
        };
        let summary = TrainJobSummary::of(&context.interrupt.or(asked).await?);
        let done = if args.dry_run { "would create" } else { "created" };
        context.printer.note(&format!("{done} the TrainJob {}/{}", summary.namespace, summary.name));
        created.push(summary);
    }
    if !args.watch {
        if context.printer.format() != Format::Table {
            context.printer.show(&created, String::new)?;
        }
        return Ok(Exit::Done);
    }
    for summary in created {
        let place = Target { cluster: target.cluster.clone(), namespace: summary.namespace };
        watch::until_ended(context, &place, &summary.name).await?;
    }
    Ok(Exit::Done)
}

/// The TrainJobs that are to be created.
fn jobs(args: &SubmitArgs) -> Result<Vec<Value>, Problem> {
    match (&args.file, &args.name, &args.runtime) {
        (Some(file), ..) => {
            let jobs = read_all(file)?;
            match jobs.iter().find(|job| job["kind"] != "TrainJob" || !job["metadata"].is_object()) {
                Some(other) => {
                    let kind = other["kind"].as_str().unwrap_or_default();
                    Err(unusable(file, &format!("it has an object that is not a TrainJob: a {kind}")))
                }
                None if jobs.is_empty() => Err(unusable(file, "the file is empty")),
                None => Ok(jobs),
            }
        }
        (None, Some(name), Some(runtime)) => Ok(vec![job(args, name, runtime)?]),
        _ => Err(TrainJobError::NothingToSubmit.into()),
    }
}

/// The TrainJob that the command line describes.
fn job(args: &SubmitArgs, name: &str, runtime: &str) -> Result<Value, TrainJobError> {
    let (kind, runtime) = runtime.split_once('/').unwrap_or(("ClusterTrainingRuntime", runtime));
    if !["ClusterTrainingRuntime", "TrainingRuntime"].contains(&kind) {
        return Err(TrainJobError::UnknownRuntimeKind { kind: kind.to_owned() });
    }
    let mut trainer = Map::new();
    let mut set = |key: &str, value: Option<Value>| {
        trainer.extend(value.map(|value| (key.to_owned(), value)));
    };
    set("image", args.image.clone().map(Value::from));
    set("numNodes", args.num_nodes.map(Value::from));
    set("numProcPerNode", args.num_proc_per_node.map(Value::from));
    set("command", (!args.command.is_empty()).then(|| json!(args.command)));
    let env = args.env.iter().map(|Assignment { name, value }| json!({"name": name, "value": value}));
    set("env", (!args.env.is_empty()).then(|| env.collect()));
    let resources: Map<String, Value> =
        args.resources.iter().map(|one| (one.name.clone(), one.value.clone().into())).collect();
    set(
        "resourcesPerNode",
        (!resources.is_empty()).then(|| json!({"requests": resources, "limits": resources})),
    );
    let mut spec = json!({"runtimeRef": {"kind": kind, "name": runtime}});
    if !trainer.is_empty() {
        spec["trainer"] = trainer.into();
    }
    if let Some(Timeout(deadline)) = args.deadline {
        spec["activeDeadlineSeconds"] = deadline.as_secs().max(1).into();
    }
    Ok(json!({
        "apiVersion": "trainer.kubeflow.org/v1alpha1",
        "kind": "TrainJob",
        "metadata": {"name": name},
        "spec": spec,
    }))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: SubmitArgs,
    }

    fn parsed(line: &str) -> SubmitArgs {
        Line::try_parse_from(line.split(' ')).unwrap_or_else(|error| panic!("{line}: {error}")).args
    }

    #[test]
    fn the_command_line_describes_a_train_job() {
        let args = parsed(
            "submit a --runtime TrainingRuntime/ours --num-nodes 2 --env A=b=c --resources cpu=1 --deadline 2h \
             -- python -c pass",
        );
        let [job] = jobs(&args).unwrap().try_into().unwrap();
        assert_eq!(
            job["spec"],
            json!({
                "runtimeRef": {"kind": "TrainingRuntime", "name": "ours"},
                "trainer": {
                    "numNodes": 2, "command": ["python", "-c", "pass"], "env": [{"name": "A", "value": "b=c"}],
                    "resourcesPerNode": {"requests": {"cpu": "1"}, "limits": {"cpu": "1"}},
                },
                "activeDeadlineSeconds": 7200,
            })
        );
        let [job] = jobs(&parsed("submit a --runtime torch")).unwrap().try_into().unwrap();
        assert_eq!(job["spec"], json!({"runtimeRef": {"kind": "ClusterTrainingRuntime", "name": "torch"}}));
    }

    #[test]
    fn an_incomplete_train_job_is_rejected() {
        for (line, code) in
            [("submit", "usage"), ("submit a", "usage"), ("submit a --runtime Pod/x", "usage")]
        {
            assert_eq!(jobs(&parsed(line)).unwrap_err().code, code, "{line}");
        }
        assert!(Line::try_parse_from("submit a -f job.yaml".split(' ')).is_err());
        assert!(Line::try_parse_from("submit -f job.yaml --image x".split(' ')).is_err());
    }
}
