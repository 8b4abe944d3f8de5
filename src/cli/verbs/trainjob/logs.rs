//! `trainjob logs`: what the pods of a TrainJob write.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Args;
use futures::StreamExt as _;
use serde::Serialize;
use tokio::sync::mpsc;
use trainerd_cluster::builtin::pod;
use trainerd_cluster::watch::{Event, WatchParams};
use trainerd_cluster::{Cluster, LogParams, RequestError};
use trainerd_plan::object::kinds::train_job;

use super::pods::{Phase, PodSelection, Source};
use super::state::TrainJobSummary;
use super::target::Target;
use super::watch::{is_final, job_of, one};
use crate::cli::args::Format;
use crate::cli::context::Context;
use crate::problem::Exit;
use crate::problem::{Problem, TrainJobError};

/// Lines that wait to be printed, of all pods together.
const WAITING: usize = 1024;
/// Time before a log that broke off is asked for again.
const AGAIN: Duration = Duration::from_secs(1);

/// Print the logs of the pods of a TrainJob
///
/// If there are several pods, each line begins with the step and index of its pod. --follow also reads pods that
/// start later, and stops when the TrainJob ends.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  trainerd trainjob logs my-job                     of all its pods
  trainerd trainjob logs my-job --step node --index 0 --follow
  trainerd trainjob logs my-job --tail 20 --timestamps
  trainerd trainjob logs my-job -o json | jq -r 'select(.index == \"node-1\").line'")]
pub(crate) struct LogsArgs {
    /// The TrainJob
    #[arg(value_name = "NAME")]
    name: String,

    /// Only pods of this step, for example node, launcher or dataset-initializer
    #[arg(long, value_name = "STEP")]
    step: Option<String>,

    /// Only the pod with this index
    #[arg(long, value_name = "NUMBER")]
    index: Option<u32>,

    /// This container of each pod, instead of the first
    #[arg(long, value_name = "CONTAINER")]
    container: Option<String>,

    /// Follow the logs until the TrainJob ends
    #[arg(short, long, conflicts_with = "previous")]
    follow: bool,

    /// Logs of the previous run of each container
    #[arg(long)]
    previous: bool,

    /// Only the last LINES lines of each pod
    #[arg(long, value_name = "LINES")]
    tail: Option<u64>,

    /// Prefix each line with its time
    #[arg(long)]
    timestamps: bool,
}

/// A line of a log, as a document. Its JSON shape is a public contract.
#[derive(Serialize)]
struct Entry<'a> {
    index: &'a str,
    pod: &'a str,
    time: &'a str,
    line: &'a str,
}

/// A message of a pod's reader.
enum LogEvent {
    Line { source: Source, time: String, line: String },
    Trouble { source: Source, error: RequestError },
    Ended,
}

/// Runs the verb.
pub(super) async fn run(context: &Context, args: &LogsArgs) -> Result<Exit, Problem> {
    let target = Target::connect(context).await?;
    let job = target.get(context, &args.name).await?;
    let which =
        PodSelection { step: args.step.clone(), index: args.index, container: args.container.clone() };
    let mut reading = Reading::new(context, &target, args, which);
    if args.follow {
        Box::pin(reading.follow()).await?;
        return Ok(Exit::Done);
    }
    let sources = reading.sources().await?;
    if sources.is_empty() {
        let (namespace, name) = (target.namespace.clone(), args.name.clone());
        let why = format!("{}; it is {}", reading.which.words(), TrainJobSummary::of(&job).state);
        return Err(TrainJobError::NoPods { namespace, name, why }.into());
    }
    reading.marks = sources.len() > 1;
    for source in sources {
        if let Phase::Waiting(why) = &source.phase {
            context.printer.note(&format!("{} has not started: {why}", source.label));
        } else {
            reading.read(source);
        }
    }
    while reading.open > 0 {
        let heard = reading.heard.recv();
        let heard = context.interrupt.or(async { Ok::<_, Problem>(heard.await) }).await?;
        reading.hear(heard)?;
    }
    Ok(Exit::Done)
}

/// Logs that are read, and how they are shown.
struct Reading<'a> {
    context: &'a Context,
    target: &'a Target,
    args: &'a LogsArgs,
    which: PodSelection,
    /// Whether lines are marked with their pod.
    marks: bool,
    tell: mpsc::Sender<LogEvent>,
    heard: mpsc::Receiver<LogEvent>,
    /// Readers that have not ended.
    open: usize,
    /// Pods that are read, or were, by uid.
    known: BTreeMap<String, Source>,
}

impl<'a> Reading<'a> {
    fn new(context: &'a Context, target: &'a Target, args: &'a LogsArgs, which: PodSelection) -> Self {
        let (tell, heard) = mpsc::channel(WAITING);
        // Of a TrainJob that continues, more pods may come.
        let marks = args.index.is_none() || args.step.is_none();
        Self { context, target, args, which, marks, tell, heard, open: 0, known: BTreeMap::new() }
    }

    /// The pods that there are, in the order of their steps.
    async fn sources(&self) -> Result<Vec<Source>, Problem> {
        let params = self.which.list(self.target, &self.args.name);
        let found = async {
            let answer = self.target.cluster.list(&pod(), &params).await;
            answer.map_err(|source| self.target.failed("list the pods of", &self.args.name, source))
        };
        let pods = self.context.interrupt.or(found).await?.items;
        let mut sources: Vec<Source> = pods.iter().filter_map(|pod| Source::of(pod, &self.which)).collect();
        sources.sort();
        Ok(sources)
    }

    /// Begins to read a pod, once.
    fn read(&mut self, source: Source) {
        if self.known.contains_key(&source.uid) {
            return;
        }
        self.known.insert(source.uid.clone(), source.clone());
        self.open += 1;
        let (cluster, tell) = (self.target.cluster.clone(), self.tell.clone());
        let namespace = self.target.namespace.clone();
        let params = LogParams {
            container: Some(source.container.clone()),
            follow: self.args.follow,
            previous: self.args.previous,
            tail: self.args.tail,
            since: None,
            timestamps: true,
        };
        tokio::spawn(async move {
            if let Err(error) = read(&cluster, &namespace, &source, params, &tell).await {
                // Whoever listens has gone when this fails.
                let _ = tell.send(LogEvent::Trouble { source, error }).await;
            }
            let _ = tell.send(LogEvent::Ended).await;
        });
    }

    /// Prints a message of a reader.
    fn hear(&mut self, heard: Option<LogEvent>) -> Result<(), Problem> {
        match heard {
            Some(LogEvent::Line { source, time, line }) => self.print(&source, &time, &line),
            Some(LogEvent::Trouble { source, error }) => {
                self.context.printer.note(&format!("failed to read the log of {}: {error}", source.label));
                Ok(())
            }
            Some(LogEvent::Ended) | None => {
                self.open = self.open.saturating_sub(1);
                Ok(())
            }
        }
    }

    fn print(&self, source: &Source, time: &str, line: &str) -> Result<(), Problem> {
        let printer = &self.context.printer;
        match printer.format() {
            Format::Table => {
                let mark = if self.marks { format!("{} | ", source.label) } else { String::new() };
                let time = if self.args.timestamps { format!("{time} ") } else { String::new() };
                printer.data(&format!("{mark}{time}{line}\n"))
            }
            Format::Json => {
                printer.line_of_json(&Entry { index: &source.label, pod: &source.pod, time, line })
            }
            Format::Yaml => {
                printer.data("---\n")?;
                let entry = Entry { index: &source.label, pod: &source.pod, time, line };
                printer.document(Format::Yaml, &entry)
            }
        }
    }

    /// Reads pods as they come, until the TrainJob has ended and all is read.
    async fn follow(&mut self) -> Result<(), Problem> {
        let cluster = self.target.cluster.clone();
        let list = self.which.list(self.target, &self.args.name);
        let mut pods = cluster.watch(&pod(), WatchParams { list, resource_version: None });
        let mut job = cluster.watch(&train_job(), one(self.target, &self.args.name));
        let mut has_ended = false;
        while !has_ended || self.open > 0 {
            let next = async {
                tokio::select! {
                    // Logs are shown before the outcome.
                    biased;
                    heard = self.heard.recv(), if self.open > 0 => Ok::<_, Problem>(Next::LogEvent(heard)),
                    event = job.next(), if !has_ended => Ok(Next::Job(event)),
                    event = pods.next(), if !has_ended => Ok(Next::Pods(event)),
                }
            };
            match self.context.interrupt.or(next).await? {
                Next::LogEvent(heard) => self.hear(heard)?,
                Next::Pods(Some(Ok(Event::Restarted(list)))) => self.begin(&list.items),
                Next::Pods(Some(Ok(Event::Applied(pod)))) => self.begin(&[pod]),
                Next::Job(Some(Ok(event))) => {
                    let job = job_of(event);
                    has_ended = job.is_some_and(|job| job.is_null() || TrainJobSummary::of(&job).has_ended());
                    if has_ended {
                        // Those that began and ended meanwhile.
                        for source in self.sources().await? {
                            self.begin_one(source);
                        }
                    }
                }
                Next::Job(Some(Err(error))) | Next::Pods(Some(Err(error))) if is_final(&error) => {
                    return Err(self.target.failed("follow", &self.args.name, error).into());
                }
                Next::Job(Some(Err(error))) | Next::Pods(Some(Err(error))) => {
                    self.context.printer.note(&format!("failed to watch: {error}; retrying"));
                }
                Next::Job(None) | Next::Pods(_) => {}
            }
        }
        Ok(())
    }

    fn begin(&mut self, pods: &[serde_json::Value]) {
        let sources: Vec<Source> = pods.iter().filter_map(|pod| Source::of(pod, &self.which)).collect();
        for source in sources {
            self.begin_one(source);
        }
    }

    fn begin_one(&mut self, source: Source) {
        if !matches!(source.phase, Phase::Waiting(_)) {
            self.read(source);
        }
    }
}

/// What happens while logs are followed.
enum Next {
    LogEvent(Option<LogEvent>),
    Job(Option<Result<Event, RequestError>>),
    Pods(Option<Result<Event, RequestError>>),
}

/// Reads a container's log to its end; one that breaks off while the container runs is taken up where it was.
async fn read(
    cluster: &Cluster,
    namespace: &str,
    source: &Source,
    mut params: LogParams,
    tell: &mpsc::Sender<LogEvent>,
) -> Result<(), RequestError> {
    let mut last = String::new();
    loop {
        let mut lines = cluster.logs(namespace, &source.pod, &params).await?;
        while let Some(text) = lines.next().await {
            let (time, line) = text.split_once(' ').unwrap_or((&text, ""));
            // The kubelet goes by the second: what was read of it already comes again.
            if !last.is_empty() && time <= last.as_str() {
                continue;
            }
            let (time, line) = (time.to_owned(), line.to_owned());
            if params.follow {
                last.clone_from(&time);
            }
            if tell.send(LogEvent::Line { source: source.clone(), time, line }).await.is_err() {
                return Ok(());
            }
        }
        if !params.follow {
            return Ok(());
        }
        match cluster.get(&pod(), Some(namespace), &source.pod).await {
            Ok(now) if now["metadata"]["uid"] == source.uid.as_str() => {
                let which =
                    PodSelection { container: Some(source.container.clone()), ..PodSelection::default() };
                if Source::of(&now, &which).is_none_or(|now| now.phase == Phase::Ended) {
                    return Ok(());
                }
            }
            Ok(_) => return Ok(()),
            Err(error) if error.is_absent() => return Ok(()),
            Err(error) if error.retry().is_none() => return Err(error),
            Err(_) => {}
        }
        tokio::time::sleep(AGAIN).await;
        params.since = Some(last.clone()).filter(|last| !last.is_empty());
        params.tail = None;
    }
}
