//! Steps that check the results of others.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;

use super::{MODEL, Runner, StepResult, check, matches, objects};
use crate::cluster::Write;
use crate::{Error, stack};

/// Time limit for removed objects to disappear.
const REMOVE_TIMEOUT: Duration = Duration::from_mins(1);

/// Time limit of the steps `…-soon`.
const SOON_TIMEOUT: Duration = Duration::from_secs(20);

impl Runner<'_> {
    /// Checks of the unit; falls through to those of the cluster.
    pub(super) fn check_step(&mut self, verb: &str, rest: &str, words: &[&str]) -> Result<StepResult, Error> {
        Ok(match (verb, words) {
            ("result", [key, ..]) => {
                let results = &self.unit.world.content["action"]["results"];
                let value =
                    key.split('.').fold(results, |value, key| &value[key]).as_str().unwrap_or_default();
                let wanted = rest[key.len()..].trim();
                check(matches(value, wanted) || (wanted.is_empty() && !value.is_empty()), || {
                    format!("{key} is {value:?} of {results}")
                })
            }
            ("failed", _) => {
                let action = &self.unit.world.content["action"];
                let message = action["message"].as_str().unwrap_or_default();
                check(action["failed"] == true && matches(message, rest), || format!("{action}"))
            }
            ("calls", [number]) => self.calls(None, number),
            ("called", [tool]) => {
                let mut calls = self.last.iter().flat_map(|last| &last.calls);
                check(calls.any(|call| call["tool"] == *tool), || format!("{:#?}", self.last))
            }
            ("told", ["nothing"]) => {
                let now = self.unit.generation()?;
                check(now.is_some() && now == self.generation, || {
                    format!("{:?} became {now:?}", self.generation)
                })
            }
            ("exported", ["exist"]) => self.exported()?,
            ("calls", [tool, number]) => self.calls(Some(tool), number),
            ("stderr", _) => {
                let stderr = self.last.as_ref().map(|last| last.stderr.clone()).unwrap_or_default();
                check(stderr.contains(rest), || stderr)
            }
            ("mark", []) => {
                self.mark = self.cluster.audit().map(crate::cluster::AuditLog::mark).transpose()?;
                self.pid = self.unit.daemon_pid();
                self.generation = self.unit.generation()?;
                self.served = self.unit.log().lines().count();
                Ok(())
            }
            ("remember", []) => {
                self.known = self.cluster.keys()?;
                Ok(())
            }
            ("left-over", parts) => self.left_over(parts)?,
            ("same-daemon", []) => {
                let now = self.unit.daemon_pid();
                check(now.is_some() && now == self.pid, || format!("{:?} became {now:?}", self.pid))
            }
            ("bag", [id, bag, key, ..]) => {
                let bag = self.unit.world.bag(id, bag);
                let wanted = rest.splitn(4, ' ').nth(3).unwrap_or_default();
                let value = bag.get(*key).cloned().unwrap_or_default();
                let holds = if wanted.is_empty() { !value.is_empty() } else { value.contains(wanted) };
                check(holds, || format!("{bag:#?}"))
            }
            ("bag-empty", [id, bag]) => {
                let bag = self.unit.world.bag(id, bag);
                check(bag.is_empty(), || format!("{bag:#?}"))
            }
            ("version", [version]) => {
                let shown = self.unit.world.content["version"].clone();
                check(shown == *version, || shown.to_string())
            }
            _ => return self.check_cluster(verb, rest, words),
        })
    }

    /// Checks of the cluster.
    fn check_cluster(&self, verb: &str, rest: &str, words: &[&str]) -> Result<StepResult, Error> {
        Ok(match (verb, words) {
            ("writes", [number, more @ ..]) => self.writes(number, more)?,
            ("deletes-first", [first, then]) => self.deletes_first(first, then)?,
            ("writers", [number]) => self.writers(number)?,
            ("exists", [kind, name]) => {
                let found = self.find(kind, name)?;
                check(found.is_some(), || "it is not there".to_owned())
            }
            ("field", [kind, name, pointer, ..]) => {
                let text = self.field(kind, name, pointer)?;
                let wanted = rest.splitn(4, ' ').nth(3).unwrap_or_default();
                check(matches(&text, wanted), || format!("it is {text}"))
            }
            ("field-soon", [kind, name, pointer, ..]) => {
                let wanted = rest.splitn(4, ' ').nth(3).unwrap_or_default();
                let is_so = || Ok(matches(&self.field(kind, name, pointer)?, wanted));
                self.cluster.wait_until("a field to be as wanted", SOON_TIMEOUT, is_so)?;
                Ok(())
            }
            ("labelled", [kind, selector, number]) => {
                let found = self.cluster.list(&objects::resource(kind)?, Some(selector))?;
                let names: Vec<&Value> = found.iter().map(|object| &object["metadata"]["name"]).collect();
                check(number.parse() == Ok(found.len()), || format!("{names:?}"))
            }
            ("never", [word]) => {
                let found = self.shown.iter().find(|(shown, _)| shown == word);
                check(found.is_none(), || format!("a hook showed {found:?}"))
            }
            ("pebble", [method, number]) => {
                let log = self.unit.log();
                let asked = format!(" {method} /v1/");
                // The daemon posts notices at any time.
                let is_hooks = |line: &&str| line.contains(&asked) && !line.contains("/v1/notices");
                let served: Vec<&str> = log.lines().skip(self.served).filter(is_hooks).collect();
                check(number.parse() == Ok(served.len()), || format!("{served:#?}"))
            }
            ("images", ["told"]) => {
                let told = self.unit.world.content["action"]["results"]["images"].clone();
                let told = told.as_str().unwrap_or_default().lines().map(str::to_owned).collect();
                let used = self.images()?;
                check(!used.is_empty() && used == told, || format!("told {told:#?}\nused {used:#?}"))
            }
            ("images", [prefix]) => {
                let used = self.images()?;
                let others: Vec<_> = used.iter().filter(|image| !image.starts_with(prefix)).collect();
                check(!used.is_empty() && others.is_empty(), || format!("{others:?} of {used:#?}"))
            }
            ("absent", [kind, name]) => {
                let found = self.find(kind, name)?;
                check(found.is_none(), || "it is there".to_owned())
            }
            ("image", [deployment, image]) => {
                let found = self.find("Deployment", deployment)?.unwrap_or_default();
                let container = &found["spec"]["template"]["spec"]["containers"][0]["image"];
                check(container == image, || container.to_string())
            }
            ("absent-soon", [kind, name]) => {
                let gone = || Ok(self.find(kind, name)?.is_none());
                self.cluster.wait_until("an object to go", SOON_TIMEOUT, gone)?;
                Ok(())
            }
            _ => Err("no such step".to_owned()),
        })
    }

    /// Whether the key of each object that is new since `remember` contains one of these parts.
    fn left_over(&self, parts: &[&str]) -> Result<StepResult, Error> {
        // Events expire, and the leases of pods that end.
        let passes = |key: &String| key.contains("/events/") || key.contains("/leases/");
        let mut left = Vec::new();
        let is_clear = || {
            left = self.cluster.keys()?.difference(&self.known).cloned().collect();
            left.retain(|key| !passes(key) && !parts.iter().any(|part| key.contains(part)));
            Ok(left.is_empty())
        };
        // Pods go after their Deployments.
        Ok(match self.cluster.wait_until("nothing to be left over", REMOVE_TIMEOUT, is_clear) {
            Err(Error::Restless { .. }) => Err(format!("left over: {left:#?}")),
            other => other.map(Ok)?,
        })
    }

    fn calls(&self, tool: Option<&str>, number: &str) -> StepResult {
        let calls = self.last.iter().flat_map(|last| &last.calls);
        let names: Vec<&str> = calls.filter_map(|call| call["tool"].as_str()).collect();
        let count = names.iter().filter(|name| tool.is_none_or(|tool| **name == tool)).count();
        check(number.parse() == Ok(count), || format!("{count}: {names:?}"))
    }

    fn writes(&self, number: &str, more: &[&str]) -> Result<StepResult, Error> {
        let (Some(audit), Some(mark)) = (self.cluster.audit(), self.mark) else {
            return Ok(Err("there is no mark".to_owned()));
        };
        let which = more.first().copied();
        let is_meant = |write: &Write| {
            which.is_none_or(|which| match which.strip_prefix('!') {
                Some(path) => !write.path.contains(path),
                None => write.verb == which || (which.starts_with('/') && write.path.contains(which)),
            })
        };
        let writes = audit.writes_since(mark, "trainerd/")?;
        // Events are no changes.
        let counted = writes.iter().filter(|write| !write.path.contains("/events"));
        let counted: Vec<_> = counted.filter(|write| is_meant(write)).collect();
        Ok(check(number.parse() == Ok(counted.len()), || format!("{counted:#?}")))
    }

    /// Whether all deletes of the first path came before those of the second.
    fn deletes_first(&self, first: &str, then: &str) -> Result<StepResult, Error> {
        let (Some(audit), Some(mark)) = (self.cluster.audit(), self.mark) else {
            return Ok(Err("there is no mark".to_owned()));
        };
        let writes = audit.writes_since(mark, "trainerd/")?;
        let deleted: Vec<&str> = writes
            .iter()
            .filter(|write| write.verb.starts_with("delete"))
            .map(|write| write.path.as_str())
            .collect();
        let last = deleted.iter().rposition(|path| path.contains(first));
        let next = deleted.iter().position(|path| path.contains(then));
        Ok(check(matches!((last, next), (Some(last), Some(next)) if last < next), || format!("{deleted:#?}")))
    }

    /// Whether so many pods wrote since the mark, one after the other.
    fn writers(&self, number: &str) -> Result<StepResult, Error> {
        let (Some(audit), Some(mark)) = (self.cluster.audit(), self.mark) else {
            return Ok(Err("there is no mark".to_owned()));
        };
        let writes = audit.writes_since(mark, "trainerd/")?;
        // Events are no changes, and leases change hands between the pods.
        let counts = |write: &&Write| !write.path.contains("/events") && !write.path.contains("/leases");
        let mut turns: Vec<&str> = writes.iter().filter(counts).map(|write| write.from.as_str()).collect();
        turns.dedup();
        let distinct: BTreeSet<&str> = turns.iter().copied().collect();
        let holds = number.parse() == Ok(turns.len()) && turns.len() == distinct.len();
        Ok(check(holds, || format!("turns {turns:?} of {writes:#?}")))
    }

    /// Whether every object of the file that an action wrote is in the cluster.
    fn exported(&self) -> Result<StepResult, Error> {
        let results = &self.unit.world.content["action"]["results"];
        let file = self.unit.file(results["file"].as_str().unwrap_or_default());
        let text = std::fs::read_to_string(&file).map_err(Error::io("read", file))?;
        let kinds = self.cluster.kinds()?;
        let (mut found, mut absent) = (0_usize, Vec::new());
        for document in text.split("\n---\n") {
            let object: Value = serde_yaml::from_str(document)
                .map_err(|_| Error::Missing("YAML in what was exported".to_owned()))?;
            let word = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
            let (api, kind, name) = (word("/apiVersion"), word("/kind"), word("/metadata/name"));
            let group = api.split_once('/').map_or("", |(group, _)| group);
            let Some(resource) = kinds.iter().find(|known| known.group == group && known.kind == kind) else {
                absent.push(format!("{kind} {name}, which is not served"));
                continue;
            };
            let namespace = object.pointer("/metadata/namespace").and_then(Value::as_str).unwrap_or(MODEL);
            match self.cluster.get(resource, namespace, name)? {
                Some(_) => found += 1,
                None => absent.push(format!("{kind} {name}")),
            }
        }
        let told = results["objects"].as_str().unwrap_or_default();
        Ok(check(absent.is_empty() && told.parse() == Ok(found), || {
            format!("{found} of {told} are there; absent: {absent:?}")
        }))
    }

    fn find(&self, kind: &str, name: &str) -> Result<Option<Value>, Error> {
        // Jobs are their users', and not in the model.
        let namespace = if kind == "TrainJob" { "default" } else { MODEL };
        self.cluster.get(&objects::resource(kind)?, namespace, name)
    }

    fn field(&self, kind: &str, name: &str, pointer: &str) -> Result<String, Error> {
        let found = self.find(kind, name)?.unwrap_or_default();
        let value = found.pointer(pointer).cloned().unwrap_or_default();
        Ok(value.as_str().map_or_else(|| value.to_string(), str::to_owned))
    }

    /// Every image that the installation names in the cluster.
    fn images(&self) -> Result<BTreeSet<String>, Error> {
        let mut images = BTreeSet::new();
        for resource in [stack::deployment(), stack::runtime()] {
            for object in self.cluster.list(&resource, None)? {
                collect(&object, &mut images);
            }
        }
        Ok(images)
    }
}

/// The images in a value: those of containers, and those in environment variables.
fn collect(value: &Value, images: &mut BTreeSet<String>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| collect(item, images)),
        Value::Object(fields) => {
            let text = |key: &str| fields.get(key).and_then(Value::as_str);
            images.extend(text("image").map(str::to_owned));
            if text("name").is_some_and(|name| name.ends_with("_IMAGE")) {
                images.extend(text("value").map(str::to_owned));
            }
            fields.values().for_each(|field| collect(field, images));
        }
        _ => {}
    }
}
