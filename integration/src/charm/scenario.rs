//! Scenarios as text: one line a step, in the words of Juju and of the status.
//!
//! ```text
//! # what the scenario is about
//! resource trainerd-image image.yaml           what the resource is: a file in `objects`
//! container                                    the workload container starts
//! hook trainerd-pebble-ready                   fires a hook, which must end with 0 within its budget
//! hook config-changed NAME=VALUE exits 2       with a variable, and another end; signal 15 likewise
//! hook config-changed killed 40                with SIGKILL after so many milliseconds, if it runs for so long
//! hook start TRUST_AFTER_MS=2000               it is trusted while it runs; SIGTERM_AFTER_MS likewise
//! until active [MESSAGE]                       fires the daemon's notice until the unit shows that
//! notices until active [MESSAGE]               the same, but only when Pebble has a new notice
//! status waiting Waiting for container …       what the unit shows now; a trailing … stands for anything
//! app-status active                            what the application shows; `never blocked`: what no hook showed
//! config settle=1                              sets an option
//! invalid settle=301 must be 0 to 300 seconds  the option with that value is blocked with that rule, and is put back
//! leader false                                 leadership, one word a call; `leader` alone: it cannot be told
//! relation 3 metrics-endpoint prometheus       relates; `remote 3 key=value` is what the other end says
//! fault config-get 1 1 ERROR no                that call of the tool (0: each) ends so; `fault TOOL slow MS`: so late
//! action pause reason=maintenance              runs an action; `result state done`, `failed TEXT` look at it;
//!                                              `killed 40`: cancelled after so many milliseconds
//! exported exist                               every object of the file that the action wrote is in the cluster
//! calls status-set 0                           how often the last hook called a tool; `calls 4`: all; `called TOOL`: at all
//! check settled down                           waits until Pebble says so of that check
//! told nothing                                 the daemon's options are those of the mark
//! kill-daemon after 700                        kills it so many milliseconds later; KILL_DAEMON_AFTER_MS=700 in a hook
//! remember, left-over PART…                    all that is stored now and was not then has such a part in its key
//! kill-daemon, freeze-daemon, thaw-daemon      signals it; `old-daemon 0.0.9` answers in its place, another API
//! pebble POST 0                                requests of that method that Pebble answered since the mark
//! trust false                                  what `juju trust` does, or takes back
//! proxied, api 409 PATCH /path 2, api down/up  the API server by way of a proxy, which answers so
//! webhook refused, webhook mended              a webhook for runtimes that cannot be called: refused, timeout, x509,
//!                                              no-endpoints
//! juju labels v1, juju removes the application what Juju's webhook adds to objects, what it deletes by that
//! elsewhere NAMESPACE                          another installation of the same cluster
//! pods late                                    pods do not become ready any more; `pods quick`: they do
//! mark, writes 0                               API writes of trainerd since the mark: `writes 0 delete`, `writes 1 /pods/`,
//!                                              `writes 0 !/leases/`: others than those
//! deletes-first /a/ /b/                        of those, each delete in /a/ came before any in /b/
//! writers 2                                    of those, by so many pods, one after the other
//! exists Deployment kubeflow-trainer           in the cluster, or `absent …`; `field KIND NAME /pointer value`
//! field-soon …, absent-soon …                  the same within 20 seconds; `labelled KIND LABEL=VALUE 0`: how many
//! apply mesh.yaml                              makes the objects of that file in `objects`; `edit KIND NAME {json}`
//! images PREFIX, images told                   all images in the cluster begin so; are what the action told
//! add-unit                                     another one; `unit 1`: what follows is of that one
//! deploy, scale 2, unit 1                      what Juju makes of the application; so many units
//! pod goes                                     the unit's pod is deleted, and another comes
//! juju status                                  shows all units
//! job a sleeps 600, job-runs a, job-goes a     a TrainJob whose pod sleeps; `job-undisturbed a`: it is the same pod still
//! bag 3 app-bag scrape_jobs CONTAINS           what we wrote, or `bag-empty 3 app-bag`; stderr TEXT is what a hook
//!                                              warned of
//! ```

mod checks;
mod container;
mod objects;
mod options;
mod pods;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use super::{HookRun, MODEL, Programs, Unit, trust};
use crate::cluster::Mark;
use crate::standin::Behaviour;
use crate::{Error, TestCluster, stack};

/// Time limit of `until`.
const UNTIL_TIMEOUT: Duration = Duration::from_mins(2);

/// The result of a scenario.
#[derive(Debug)]
pub struct Outcome {
    /// Name of the file.
    pub name: String,
    /// How long it took.
    pub took: Duration,
    /// The failed step, and why it failed.
    pub failure: Option<String>,
    /// What `juju status` would have shown after each step.
    pub transcript: Vec<String>,
}

/// Runs a scenario in an empty cluster.
pub fn run(cluster: &mut TestCluster, programs: &Programs, path: &Path) -> Result<Outcome, Error> {
    let text = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
    run_text(cluster, programs, &name_of(path), &text)
}

/// As [`run`], of a text.
pub fn run_text(
    cluster: &mut TestCluster,
    programs: &Programs,
    name: &str,
    text: &str,
) -> Result<Outcome, Error> {
    cluster.restore_empty()?;
    super::namespace(cluster)?;
    let unit = Unit::new(cluster, programs, application_of(text))?;
    cluster.block_on(cluster.proxy().begin(Vec::new()));
    let outcome = Runner::new(cluster, programs, unit).run(name, text);
    cluster.set_behaviour(Behaviour::default());
    Ok(outcome)
}

/// Runs a scenario whose units are pods, in a cluster with a node on this machine.
pub fn run_in_pods(cluster: &TestCluster, programs: &Programs, path: &Path) -> Result<Outcome, Error> {
    let text = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
    let application = application_of(&text);
    super::namespace(cluster)?;
    trust::create_account(cluster, application)?;
    let unit = Unit::in_pod(cluster, programs, application, 0)?;
    let outcome = Runner::new(cluster, programs, unit).run(&name_of(path), &text);
    trust::delete_cluster_roles(cluster, application)?;
    cluster.delete(&stack::namespace(), "", MODEL)?;
    Ok(outcome)
}

fn name_of(path: &Path) -> String {
    path.file_stem().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

fn application_of(text: &str) -> &str {
    text.lines().find_map(|line| line.strip_prefix("application ")).unwrap_or("kubeflow-trainer")
}

fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(30)..].join("\n")
}

struct Runner<'c> {
    /// The unit that steps are about.
    unit: Unit<'c>,
    /// The application's other units.
    others: Vec<Unit<'c>>,
    cluster: &'c TestCluster,
    programs: &'c Programs,
    started: Instant,
    last: Option<HookRun>,
    mark: Option<Mark>,
    pid: Option<u32>,
    /// The generation of the daemon's desired state at the mark.
    generation: Option<String>,
    /// Lines of the container's log at the mark.
    served: usize,
    /// When the daemon's notice was posted last.
    noticed: String,
    /// What the unit showed after each hook.
    shown: Vec<(String, String)>,
    /// A listener that never answers.
    unanswered: Option<std::net::TcpListener>,
    /// The stored keys at `remember`.
    known: BTreeSet<String>,
    /// Identity of the pod of the last TrainJob.
    job_pod: Value,
    transcript: Vec<String>,
}

/// The result of a step: why it failed, if it did.
type StepResult = Result<(), String>;

fn check(holds: bool, why: impl FnOnce() -> String) -> StepResult {
    if holds { Ok(()) } else { Err(why()) }
}

/// Whether a text is as wanted; a wanted text that ends in … stands for all that begin so.
fn matches(text: &str, wanted: &str) -> bool {
    wanted.strip_suffix('…').map_or(text == wanted, |beginning| text.starts_with(beginning))
}

impl<'c> Runner<'c> {
    fn new(cluster: &'c TestCluster, programs: &'c Programs, unit: Unit<'c>) -> Self {
        Self {
            unit,
            others: Vec::new(),
            cluster,
            programs,
            started: Instant::now(),
            last: None,
            mark: None,
            pid: None,
            generation: None,
            served: 0,
            noticed: String::new(),
            shown: Vec::new(),
            unanswered: None,
            known: BTreeSet::new(),
            job_pod: Value::Null,
            transcript: Vec::new(),
        }
    }

    /// Runs the steps until one fails.
    fn run(mut self, name: &str, text: &str) -> Outcome {
        let mut failure = None;
        for (number, line) in (1..).zip(text.lines()) {
            let step = line.trim();
            if step.is_empty() || step.starts_with('#') || step.starts_with("application ") {
                continue;
            }
            let result = self.step(step).unwrap_or_else(|error| Err(error.to_string()));
            self.record(step);
            if let Err(why) = result {
                failure = Some(self.failure_report(number, step, &why));
                break;
            }
        }
        let (name, took, transcript) = (name.to_owned(), self.started.elapsed(), self.transcript);
        Outcome { name, took, failure, transcript }
    }

    /// Adds a line to the transcript: time, step, and what `juju status` shows of the unit.
    fn record(&mut self, what: &str) {
        let (at, world) = (self.started.elapsed().as_secs_f64(), &self.unit.world);
        let (status, message) = world.status("unit-status");
        let line = format!("{at:>6.1} s  {what:<60} /{} {status} {message}", world.number);
        self.transcript.push(line.trim_end().to_owned());
    }
}

impl Runner<'_> {
    /// The report of a failed step, with logs.
    fn failure_report(&self, number: usize, step: &str, why: &str) -> String {
        let last = self.last.as_ref().map(|last| format!("took {:?}; {}", last.took, last.stderr));
        let (hook, log) = (last.unwrap_or_default(), tail(&self.unit.log()));
        format!("line {number}: {step}\n{why}\n--- last hook {hook}\n--- container\n{log}")
    }

    fn step(&mut self, step: &str) -> Result<StepResult, Error> {
        let (verb, rest) = step.split_once(' ').unwrap_or((step, ""));
        let rest = rest.trim();
        let words: Vec<&str> = rest.split(' ').filter(|word| !word.is_empty()).collect();
        Ok(match (verb, words.as_slice()) {
            ("hook", [name, more @ ..]) => self.hook(name, more)?,
            ("until", [word, ..]) => self.until(word, rest[word.len()..].trim())?,
            ("status", [word, ..]) => self.shows("unit-status", word, rest[word.len()..].trim()),
            ("app-status", [word, ..]) => self.shows("app-status", word, rest[word.len()..].trim()),
            ("config", _) => self.config(rest),
            ("invalid", _) => self.invalid(rest)?,
            ("leader", words) => {
                let words: Vec<Value> = words.iter().map(|word| (*word == "true").into()).collect();
                self.unit.world.content["leader"] = words.into();
                Ok(())
            }
            ("resource", [name, file]) => {
                let path = super::workspace().join("integration/scenarios/charm/objects").join(file);
                self.unit.put_resource(name, &path)?;
                Ok(())
            }
            ("units", words) => {
                let units: Map<String, Value> = words
                    .iter()
                    .filter_map(|word| word.split_once('='))
                    .map(|(k, v)| (k.into(), v.into()))
                    .collect();
                self.unit.world.content["units"] = units.into();
                Ok(())
            }
            ("relation", [id, endpoint, app]) => {
                self.unit.world.content["relations"][id] = json!({
                    "endpoint": endpoint, "remote-app": app, "remote-units": {format!("{app}/0"): {}},
                    "remote-app-bag": {}, "app-bag": {}, "unit-bag": {},
                });
                Ok(())
            }
            ("unrelate", [id]) => {
                if let Some(relations) = self.unit.world.content["relations"].as_object_mut() {
                    relations.remove(*id);
                }
                Ok(())
            }
            ("remote", [id, ..]) => match rest[id.len()..].trim().split_once('=') {
                Some((key, value)) => {
                    self.unit.world.content["relations"][id]["remote-app-bag"][key] = value.into();
                    Ok(())
                }
                None => Err("remote ID KEY=VALUE".to_owned()),
            },
            ("fault", [tool, "slow", ms]) => {
                let delay = ms.parse::<u64>().unwrap_or_default();
                self.fault(json!({"tool": tool, "nth": 0, "exit": 0, "delay_ms": delay}));
                Ok(())
            }
            ("fault", [tool, nth, exit, message @ ..]) => {
                let number = |text: &str| text.parse::<i64>().unwrap_or_default();
                let (nth, exit) = (number(nth), number(exit));
                self.fault(json!({"tool": tool, "nth": nth, "exit": exit, "stderr": message.join(" ")}));
                Ok(())
            }
            ("faults", ["none"]) => {
                self.unit.world.content["faults"] = json!([]);
                Ok(())
            }
            ("action", [name, parameters @ ..]) => self.action(name, parameters)?,
            _ => {
                if let Some(result) = self.pod_step(verb, &words)? {
                    return Ok(result);
                }
                return match self.container_step(verb, &words)? {
                    Some(result) => Ok(result),
                    None => match self.cluster_step(verb, rest, &words)? {
                        Some(result) => Ok(result),
                        None => self.check_step(verb, rest, &words),
                    },
                };
            }
        })
    }

    fn fault(&mut self, fault: Value) {
        if let Some(faults) = self.unit.world.content["faults"].as_array_mut() {
            faults.push(fault);
        }
    }

    fn hook(&mut self, name: &str, more: &[&str]) -> Result<StepResult, Error> {
        let mut variables: Vec<(&str, String)> = vec![("JUJU_NOTICE_KEY", "trainerd.dev/state".to_owned())];
        let (mut end, mut is_killed) = ((Some(0), None), false);
        let mut words = more.iter();
        while let Some(word) = words.next() {
            match (*word, word.split_once('=')) {
                ("exits", _) => end = (words.next().and_then(|code| code.parse().ok()), None),
                ("killed", _) => {
                    let after = words.next().copied().unwrap_or_default();
                    variables.push(("SIGKILL_AFTER_MS", after.to_owned()));
                    is_killed = true;
                }
                ("signal", _) => end = (None, words.next().and_then(|number| number.parse().ok())),
                (_, Some((name, value))) => variables.push((name, value.to_owned())),
                (id, None) => {
                    let relation = &self.unit.world.content["relations"][id];
                    let text = |key: &str| relation[key].as_str().unwrap_or_default().to_owned();
                    variables.push(("JUJU_RELATION_ID", format!("{}:{id}", text("endpoint"))));
                    variables.push(("JUJU_REMOTE_APP", text("remote-app")));
                }
            }
        }
        let fired = self.unit.run_hook(&format!("hooks/{name}"), &variables)?;
        let (code, signal) = (fired.code, fired.signal);
        let why = format!("ended with {code:?}, signal {signal:?}: {}", fired.stderr);
        let (took, budget) = (fired.took, budget(name));
        // A hook must end at once after SIGTERM.
        let asked = variables.iter().find(|(name, _)| *name == "SIGTERM_AFTER_MS");
        let asked = asked.and_then(|(_, after)| after.parse().ok()).map(Duration::from_millis);
        let late = asked.map(|asked| took.saturating_sub(asked)).filter(|late| *late > TERMINATE_TIMEOUT);
        self.last = Some(fired);
        self.shown.push(self.unit.world.status("unit-status"));
        if (code, signal) != end && !is_killed {
            return Ok(Err(why));
        }
        if let Some(late) = late {
            return Ok(Err(format!("it ended {late:?} after it was asked to")));
        }
        Ok(check(took <= budget, || format!("it took {took:?} of {budget:?}")))
    }

    /// Fires the daemon's notice, and records a change of status.
    fn fire_notice(&mut self) -> Result<StepResult, Error> {
        const NOTICE: &str = "trainerd-pebble-custom-notice";
        let before = self.unit.world.status("unit-status");
        let fired = self.hook(NOTICE, &[])?;
        if self.unit.world.status("unit-status") != before {
            self.record(&format!("  {NOTICE}"));
        }
        Ok(fired)
    }

    fn until(&mut self, word: &str, message: &str) -> Result<StepResult, Error> {
        let end = Instant::now() + UNTIL_TIMEOUT;
        loop {
            let fired = self.fire_notice()?;
            let (now, said) = self.unit.world.status("unit-status");
            if fired.is_err() || (now == word && matches(&said, message)) {
                return Ok(fired);
            }
            if Instant::now() > end {
                return Ok(Err(format!("after {UNTIL_TIMEOUT:?} it shows {now} {said:?}")));
            }
            std::thread::sleep(Duration::from_millis(300));
        }
    }

    fn shows(&self, of: &str, word: &str, message: &str) -> StepResult {
        let (now, said) = self.unit.world.status(of);
        check(now == word && matches(&said, message), || format!("it shows {now} {said:?}"))
    }

    fn action(&mut self, action: &str, parameters: &[&str]) -> Result<StepResult, Error> {
        let schema = parameters_of(action)?;
        let mut given = Map::new();
        let killed = parameters.iter().position(|word| *word == "killed");
        let killed = killed.and_then(|at| parameters.get(at + 1)).map(|ms| (*ms).to_owned());
        for (name, value) in parameters.iter().filter_map(|parameter| parameter.split_once('=')) {
            // Juju converts each to its type.
            let value = match schema[name]["type"].as_str() {
                Some("string") => Value::from(value),
                _ => serde_json::from_str(value).unwrap_or_else(|_| Value::from(value)),
            };
            given.insert(name.to_owned(), value);
        }
        self.unit.world.content["action"] = json!({"name": action, "params": given, "results": {}});
        let is_killed = killed.is_some();
        let mut variables =
            vec![("JUJU_ACTION_NAME", action.to_owned()), ("JUJU_ACTION_UUID", "1".to_owned())];
        variables.extend(killed.map(|after| ("SIGKILL_AFTER_MS", after)));
        let fired = self.unit.run_hook(&format!("actions/{action}"), &variables)?;
        let result = check(fired.code == Some(0) || is_killed, || format!("{fired:?}"));
        self.last = Some(fired);
        Ok(result)
    }
}

/// Time limit for a hook to end after SIGTERM.
const TERMINATE_TIMEOUT: Duration = Duration::from_secs(1);

/// Factor for an unoptimised build on a busy machine.
const SLACK: u32 = 4;

/// Time limit of a hook: that in the table of hooks, with slack.
fn budget(hook: &str) -> Duration {
    SLACK
        * Duration::from_secs(match hook {
            "install" => 2,
            "trainerd-pebble-ready" | "config-changed" | "leader-elected" => 15,
            "start" | "update-status" => 10,
            "upgrade-charm" => 20,
            "remove" => 25,
            name if name.contains("-check-") || name.starts_with("service-mesh-") => 10,
            _ => 5,
        })
}

/// The parameters that `actions.yaml` declares of an action.
fn parameters_of(action: &str) -> Result<Value, Error> {
    let path = super::workspace().join("actions.yaml");
    let text = std::fs::read_to_string(&path).map_err(Error::io("read", &path))?;
    let actions: Value = serde_yaml::from_str(&text).map_err(|_| Error::Missing("the actions".into()))?;
    Ok(actions[action]["params"].clone())
}
