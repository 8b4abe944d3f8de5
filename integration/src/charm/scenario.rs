//! Scenarios as text: one line a step, in the words of Juju and of the status.
//!
//! ```text
//! # what the scenario is about
//! resource trainerd-image image.yaml           what the resource is: a file in `objects`
//! container                                    the workload container starts
//! hook trainerd-pebble-ready                   fires a hook, which must end with 0 within its budget
//! hook config-changed NAME=VALUE exits 2       with a variable, and another end; signal 15 likewise
//! hook config-changed killed 40                with SIGKILL after so many milliseconds, if it runs for so long
//! until active [MESSAGE]                       fires the daemon's notice until the unit shows that
//! status waiting Waiting for container …       what the unit shows now; a trailing … stands for anything
//! app-status active                            what the application shows
//! config settle=1                              sets an option; `config settle` unsets it
//! leader false                                 leadership, one word a call; `leader` alone: it cannot be told
//! relation 3 metrics-endpoint prometheus       relates; `remote 3 key=value` is what the other end says
//! fault config-get 1 1 ERROR no                that call of the tool (0: each) ends so
//! action pause reason=maintenance              runs an action; `result state done`, `failed TEXT` look at it
//! calls status-set 0                           how often the last hook called a tool; `calls 4`: all
//! pods late                                    new pods do not become ready; `pods quick`: they do again
//! mark, writes 0                               API writes of trainerd since the mark
//! exists Deployment kubeflow-trainer           in the cluster, or `absent …`; `field KIND NAME /pointer value`
//! apply mesh.yaml                              makes the objects of that file in `objects`
//! bag 3 app-bag scrape_jobs CONTAINS           what we wrote; stderr TEXT is what a hook warned of
//! ```

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};
use trainerd_cluster::CreateParams;
use trainerd_plan::object::Resource;

use super::{Fired, MODEL, Programs, Unit};
use crate::cluster::Mark;
use crate::standin::Behaviour;
use crate::{Error, TestCluster, stack};

/// How long `until` goes on.
const UNTIL: Duration = Duration::from_mins(2);

/// How a scenario ended.
#[derive(Debug)]
pub struct Outcome {
    /// Name of the file.
    pub name: String,
    /// How long it took.
    pub took: Duration,
    /// The step that did not hold, and why.
    pub failure: Option<String>,
    /// What `juju status` would have shown after each step.
    pub transcript: Vec<String>,
}

/// Plays a scenario in an empty cluster.
pub fn play(cluster: &mut TestCluster, programs: &Programs, path: &Path) -> Result<Outcome, Error> {
    let started = Instant::now();
    let text = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
    cluster.restore_empty()?;
    super::namespace(cluster)?;
    let application =
        text.lines().find_map(|line| line.strip_prefix("application ")).unwrap_or("kubeflow-trainer");
    let mut stage = Stage {
        unit: Unit::new(cluster, programs, application)?,
        cluster,
        last: None,
        mark: None,
        pid: None,
        transcript: Vec::new(),
    };
    let mut failure = None;
    for (number, line) in (1..).zip(text.lines()) {
        let step = line.trim();
        if step.is_empty() || step.starts_with('#') || step.starts_with("application ") {
            continue;
        }
        if let Err(why) = stage.step(step)? {
            failure = Some(stage.account(number, step, &why));
            break;
        }
        let (word, message) = stage.unit.world.status("unit-status");
        stage.transcript.push(format!("{step:<60} {word} {message}"));
    }
    cluster.behave(Behaviour::default());
    let name = path.file_stem().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    Ok(Outcome { name, took: started.elapsed(), failure, transcript: stage.transcript })
}

fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(30)..].join("\n")
}

struct Stage<'c> {
    unit: Unit<'c>,
    cluster: &'c TestCluster,
    last: Option<Fired>,
    mark: Option<Mark>,
    pid: Option<u32>,
    transcript: Vec<String>,
}

/// Whether a step held, and else why not.
type Held = Result<(), String>;

fn held(holds: bool, why: impl FnOnce() -> String) -> Held {
    if holds { Ok(()) } else { Err(why()) }
}

/// Whether a text is as wanted; a wanted text that ends in … stands for all that begin so.
fn matches(text: &str, wanted: &str) -> bool {
    wanted.strip_suffix('…').map_or(text == wanted, |beginning| text.starts_with(beginning))
}

impl Stage<'_> {
    /// Everything that helps to see why a step did not hold.
    fn account(&self, number: usize, step: &str, why: &str) -> String {
        let last = self.last.as_ref().map(|last| format!("took {:?}; {}", last.took, last.stderr));
        let (hook, log) = (last.unwrap_or_default(), tail(&self.unit.log()));
        format!("line {number}: {step}\n{why}\n--- last hook {hook}\n--- container\n{log}")
    }

    fn step(&mut self, step: &str) -> Result<Held, Error> {
        let (verb, rest) = step.split_once(' ').unwrap_or((step, ""));
        let rest = rest.trim();
        let words: Vec<&str> = rest.split(' ').filter(|word| !word.is_empty()).collect();
        Ok(match (verb, words.as_slice()) {
            ("container", []) => {
                self.unit.start_container()?;
                Ok(())
            }
            ("container", ["stops"]) => {
                self.unit.stop_container();
                Ok(())
            }
            ("container", ["none"]) => {
                self.unit.without_container()?;
                Ok(())
            }
            ("hook", [name, more @ ..]) => self.hook(name, more)?,
            ("until", [word, ..]) => self.until(word, rest[word.len()..].trim())?,
            ("status", [word, ..]) => self.shows("unit-status", word, rest[word.len()..].trim()),
            ("app-status", [word, ..]) => self.shows("app-status", word, rest[word.len()..].trim()),
            ("config", _) => self.config(rest),
            ("leader", words) => {
                let words: Vec<Value> = words.iter().map(|word| (*word == "true").into()).collect();
                self.unit.world.content["leader"] = words.into();
                Ok(())
            }
            ("resource", [name, file]) => {
                let path = super::workspace().join("integration/scenarios/charm/objects").join(file);
                self.unit.world.content["resources"][name] = path.display().to_string().into();
                Ok(())
            }
            ("pods", [when @ ("late" | "quick")]) => {
                let late = if *when == "late" { Duration::from_hours(1) } else { Duration::ZERO };
                self.cluster.behave(Behaviour { delay: (late, late), ..Behaviour::default() });
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
            ("fault", [tool, nth, exit, message @ ..]) => {
                let number = |text: &str| text.parse::<i64>().unwrap_or_default();
                let (nth, exit) = (number(nth), number(exit));
                let fault = json!({"tool": tool, "nth": nth, "exit": exit, "stderr": message.join(" ")});
                self.unit.world.content["faults"] = json!([fault]);
                Ok(())
            }
            ("faults", ["none"]) => {
                self.unit.world.content["faults"] = json!([]);
                Ok(())
            }
            ("action", [name, parameters @ ..]) => self.action(name, parameters)?,
            _ => return self.look(verb, rest, &words),
        })
    }

    /// Steps that look at what came of others.
    fn look(&mut self, verb: &str, rest: &str, words: &[&str]) -> Result<Held, Error> {
        Ok(match (verb, words) {
            ("result", [key, ..]) => {
                let results = &self.unit.world.content["action"]["results"];
                let value =
                    key.split('.').fold(results, |value, key| &value[key]).as_str().unwrap_or_default();
                let wanted = rest[key.len()..].trim();
                held(matches(value, wanted) || (wanted.is_empty() && !value.is_empty()), || {
                    format!("{key} is {value:?} of {results}")
                })
            }
            ("failed", _) => {
                let action = &self.unit.world.content["action"];
                let message = action["message"].as_str().unwrap_or_default();
                held(action["failed"] == true && matches(message, rest), || format!("{action}"))
            }
            ("calls", [number]) => self.calls(None, number),
            ("calls", [tool, number]) => self.calls(Some(tool), number),
            ("stderr", _) => {
                let stderr = self.last.as_ref().map(|last| last.stderr.clone()).unwrap_or_default();
                held(stderr.contains(rest), || stderr)
            }
            ("mark", []) => {
                self.mark = self.cluster.audit().map(crate::cluster::AuditLog::mark).transpose()?;
                self.pid = self.unit.daemon_pid();
                Ok(())
            }
            ("same-daemon", []) => {
                let now = self.unit.daemon_pid();
                held(now.is_some() && now == self.pid, || format!("{:?} became {now:?}", self.pid))
            }
            ("kill-daemon", ["maybe"]) if self.unit.daemon_pid().is_none() => Ok(()),
            ("kill-daemon", [] | ["maybe"]) => {
                let pid = self.unit.daemon_pid().and_then(|pid| i32::try_from(pid).ok());
                match pid.and_then(rustix::process::Pid::from_raw) {
                    Some(pid) => rustix::process::kill_process(pid, rustix::process::Signal::KILL)
                        .map_err(|error| error.to_string()),
                    None => Err("no daemon runs".to_owned()),
                }
            }
            ("writes", [number, more @ ..]) => self.writes(number, more)?,
            ("exists", [kind, name]) => {
                let found = self.find(kind, name)?;
                held(found.is_some(), || "it is not there".to_owned())
            }
            ("field", [kind, name, pointer, ..]) => {
                let found = self.find(kind, name)?.unwrap_or_default();
                let value = found.pointer(pointer).cloned().unwrap_or_default();
                let wanted = rest.splitn(4, ' ').nth(3).unwrap_or_default();
                let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                held(text == wanted, || format!("it is {text}"))
            }
            ("absent", [kind, name]) => {
                let found = self.find(kind, name)?;
                held(found.is_none(), || "it is there".to_owned())
            }
            ("image", [deployment, image]) => {
                let found = self.find("Deployment", deployment)?.unwrap_or_default();
                let container = &found["spec"]["template"]["spec"]["containers"][0]["image"];
                held(container == image, || container.to_string())
            }
            ("apply", [file]) => {
                self.apply(file)?;
                Ok(())
            }
            ("delete", [kind, name]) => {
                let resource = resource(kind)?;
                self.cluster.delete(&resource, MODEL, name)?;
                Ok(())
            }
            ("job", [name]) => {
                self.cluster.create(&stack::train_job(), &stack::a_train_job(name))?;
                Ok(())
            }
            ("end-job", [name]) => {
                self.end_job(name)?;
                Ok(())
            }
            ("absent-soon", [kind, name]) => {
                let gone = || Ok(self.find(kind, name)?.is_none());
                self.cluster.wait_until("an object to go", Duration::from_secs(20), gone)?;
                Ok(())
            }
            ("bag", [id, bag, key, ..]) => {
                let bag = self.unit.world.bag(id, bag);
                let wanted = rest.splitn(4, ' ').nth(3).unwrap_or_default();
                let value = bag.get(*key).cloned().unwrap_or_default();
                let holds = if wanted.is_empty() { !value.is_empty() } else { value.contains(wanted) };
                held(holds, || format!("{bag:#?}"))
            }
            ("version", [version]) => {
                let shown = self.unit.world.content["version"].clone();
                held(shown == *version, || shown.to_string())
            }
            _ => Err("no such step".to_owned()),
        })
    }

    fn config(&mut self, rest: &str) -> Held {
        let options = &mut self.unit.world.content["config"];
        match rest.split_once('=') {
            Some((name, value)) => {
                // As Juju keeps them: each by the type of the option.
                options[name] = match &options[name] {
                    Value::Bool(_) => Value::from(value == "true"),
                    Value::Number(_) => value.parse::<i64>().map_or(Value::Null, Value::from),
                    _ => value.into(),
                };
                Ok(())
            }
            None => Err("config NAME=VALUE".to_owned()),
        }
    }

    fn hook(&mut self, name: &str, more: &[&str]) -> Result<Held, Error> {
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
        let fired = self.unit.fire(&format!("hooks/{name}"), &variables)?;
        let (code, signal) = (fired.code, fired.signal);
        let why = format!("ended with {code:?}, signal {signal:?}: {}", fired.stderr);
        let (took, budget) = (fired.took, budget(name));
        self.last = Some(fired);
        if (code, signal) != end && !is_killed {
            return Ok(Err(why));
        }
        Ok(held(took <= budget, || format!("it took {took:?} of {budget:?}")))
    }

    fn until(&mut self, word: &str, message: &str) -> Result<Held, Error> {
        let end = Instant::now() + UNTIL;
        loop {
            let fired = self.hook("trainerd-pebble-custom-notice", &[])?;
            let (now, said) = self.unit.world.status("unit-status");
            if fired.is_err() || (now == word && matches(&said, message)) {
                return Ok(fired);
            }
            if Instant::now() > end {
                return Ok(Err(format!("after {UNTIL:?} it shows {now} {said:?}")));
            }
            std::thread::sleep(Duration::from_millis(300));
        }
    }

    fn shows(&self, of: &str, word: &str, message: &str) -> Held {
        let (now, said) = self.unit.world.status(of);
        held(now == word && matches(&said, message), || format!("it shows {now} {said:?}"))
    }

    fn action(&mut self, action: &str, parameters: &[&str]) -> Result<Held, Error> {
        let schema = parameters_of(action)?;
        let mut given = Map::new();
        for (name, value) in parameters.iter().filter_map(|parameter| parameter.split_once('=')) {
            // Juju holds each to its type before the charm sees it.
            let value = match schema[name]["type"].as_str() {
                Some("string") => Value::from(value),
                _ => serde_json::from_str(value).unwrap_or_else(|_| Value::from(value)),
            };
            given.insert(name.to_owned(), value);
        }
        self.unit.world.content["action"] = json!({"name": action, "params": given, "results": {}});
        let variables = [("JUJU_ACTION_NAME", action.to_owned()), ("JUJU_ACTION_UUID", "1".to_owned())];
        let fired = self.unit.fire(&format!("actions/{action}"), &variables)?;
        let held = held(fired.code == Some(0), || format!("{fired:?}"));
        self.last = Some(fired);
        Ok(held)
    }

    fn calls(&self, tool: Option<&str>, number: &str) -> Held {
        let calls = self.last.iter().flat_map(|last| &last.calls);
        let names: Vec<&str> = calls.filter_map(|call| call["tool"].as_str()).collect();
        let count = names.iter().filter(|name| tool.is_none_or(|tool| **name == tool)).count();
        held(number.parse() == Ok(count), || format!("{count}: {names:?}"))
    }

    fn writes(&self, number: &str, more: &[&str]) -> Result<Held, Error> {
        let (Some(audit), Some(mark)) = (self.cluster.audit(), self.mark) else {
            return Ok(Err("there is no mark".to_owned()));
        };
        let verb = more.first().copied();
        let writes = audit.writes_since(mark, "trainerd/")?;
        // Events tell of what is done, and do nothing.
        let counted = writes.iter().filter(|write| !write.path.contains("/events"));
        let counted: Vec<_> = counted.filter(|write| verb.is_none_or(|verb| write.verb == verb)).collect();
        Ok(held(number.parse() == Ok(counted.len()), || format!("{counted:#?}")))
    }

    /// Says of a TrainJob that it is complete, as its controller does.
    fn end_job(&self, name: &str) -> Result<(), Error> {
        let condition = json!({
            "type": "Complete", "status": "True", "reason": "Done", "message": "done",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        });
        let params = CreateParams { status: true, ..CreateParams::default() };
        let patch = json!({"status": {"conditions": [condition]}});
        let (resource, namespace) =
            (stack::train_job(), stack::a_train_job(name)["metadata"]["namespace"].clone());
        let namespace = namespace.as_str().map(str::to_owned);
        let api = self.cluster.api();
        let patched = api.patch_merge(&resource, namespace.as_deref(), name, &patch, params);
        self.cluster.block_on(patched)?;
        Ok(())
    }

    /// Applies the objects of a file beside the scenarios, in the model.
    fn apply(&self, file: &str) -> Result<(), Error> {
        let path = super::workspace().join("integration/scenarios/charm/objects").join(file);
        let text = std::fs::read_to_string(&path).map_err(Error::io("read", &path))?;
        for document in text.split("---\n") {
            let mut object: Value = serde_yaml::from_str(document)
                .map_err(|_| Error::Missing(format!("YAML in {}", path.display())))?;
            let resource = resource(object["kind"].as_str().unwrap_or_default())?;
            if resource.namespaced {
                object["metadata"]["namespace"] = MODEL.into();
            }
            self.cluster.create(&resource, &object)?;
        }
        Ok(())
    }

    fn find(&self, kind: &str, name: &str) -> Result<Option<Value>, Error> {
        self.cluster.get(&resource(kind)?, MODEL, name)
    }
}

/// What an unoptimised program may take more, on a machine that does other things meanwhile.
const SLACK: u32 = 4;

/// What a hook may take: the table of hooks, with slack.
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

fn resource(kind: &str) -> Result<Resource, Error> {
    let own = |group: &str, version: &str, plural: &str, namespaced| Resource {
        group: group.to_owned(),
        version: version.to_owned(),
        kind: kind.to_owned(),
        plural: plural.to_owned(),
        namespaced,
    };
    Ok(match kind {
        "Deployment" => stack::deployment(),
        "Service" => stack::service(),
        "CustomResourceDefinition" => stack::crd(),
        "ClusterTrainingRuntime" => stack::runtime(),
        "ClusterRole" => own("rbac.authorization.k8s.io", "v1", "clusterroles", false),
        "ValidatingWebhookConfiguration" => {
            own("admissionregistration.k8s.io", "v1", "validatingwebhookconfigurations", false)
        }
        "ConfigMap" => stack::config_map(),
        "Secret" => stack::secret(),
        "StatefulSet" => own("apps", "v1", "statefulsets", true),
        "AuthorizationPolicy" => own("security.istio.io", "v1", "authorizationpolicies", true),
        other => return Err(Error::Missing(format!("how kind {other} is served"))),
    })
}
