//! The JobSet of a TrainJob: what plugins decided, put into the template.

mod validate;

use serde_json::{Value, json};

pub(crate) use self::validate::validate;
use crate::build::BuildError;
use crate::info::{Container, Info, POD_SPEC, ancestor};
use crate::names::{DATASET_INITIALIZER, MODEL_INITIALIZER, NODE, TRAINER, name, owned};
use crate::upsert::{self, variable};
use crate::value::{Object, at, is_true, items, list_mut, object_mut, text};
use crate::{BuildProfile, Facts};

/// Every Job runs as many pods as its set has.
pub(crate) fn sync_counts(info: &mut Info) {
    let Some(Value::Array(jobs)) = info.template.get_mut("replicatedJobs") else { return };
    for set in &info.pod_sets {
        // By name, of which the first counts.
        let Some(job) = jobs.iter_mut().find(|job| text(job, &["name"]) == Some(&set.name)) else { continue };
        let spec = object_mut(job, &["template", "spec"]);
        spec.insert("parallelism".into(), set.count.into());
        spec.insert("completions".into(), set.count.into());
    }
}

/// Whether the JobSet is to be applied: it is absent, or somebody suspends it.
fn is_due(train_job: &Value, facts: &Facts<'_>) -> bool {
    facts
        .job_set
        .is_none_or(|live| is_true(train_job, &["spec", "suspend"]) || is_true(live, &["spec", "suspend"]))
}

/// The JobSet, if it is to be applied.
pub(crate) fn build(info: Info, train_job: &Value, facts: &Facts<'_>) -> Result<Option<Value>, BuildError> {
    if !is_due(train_job, facts) {
        return Ok(None);
    }
    let launcher_is_node = info.launcher_is_node();
    let user_env = info.trainer_env();
    let Info {
        labels,
        annotations,
        pod_labels,
        pod_annotations,
        mut template,
        pod_sets,
        trainer,
        profile,
        ..
    } = info;
    let jobs = list_mut(&mut template, &["replicatedJobs"]);
    if jobs.len() < pod_sets.len() {
        return Err(BuildError::TooFewJobs { jobs: jobs.len(), sets: pod_sets.len() });
    }
    for (job, set) in jobs.iter_mut().zip(pod_sets) {
        if !set.volumes.is_empty() {
            upsert::volumes(list_mut(job, &["template", "spec", "template", "spec", "volumes"]), set.volumes);
        }
        set_containers(job, "containers", set.containers);
        set_containers(job, "initContainers", set.init_containers);
    }
    for job in jobs.iter_mut() {
        let ancestor = ancestor(job).map(str::to_owned);
        match ancestor.as_deref() {
            Some(DATASET_INITIALIZER) => {
                set_initializer(
                    job,
                    DATASET_INITIALIZER,
                    at(train_job, &["spec", "initializer", "dataset"]),
                    profile,
                );
            }
            Some(MODEL_INITIALIZER) => {
                set_initializer(
                    job,
                    MODEL_INITIALIZER,
                    at(train_job, &["spec", "initializer", "model"]),
                    profile,
                );
            }
            Some(TRAINER) => set_trainer(job, &trainer),
            _ => {}
        }
        let is_node = launcher_is_node && text(job, &["name"]) == Some(NODE);
        if (ancestor.as_deref() == Some(TRAINER) || is_node) && !user_env.is_empty() {
            for container in containers_mut(job, NODE) {
                upsert::env(list_mut(container, &["env"]), user_env.clone());
            }
        }
        for (key, extra) in [("labels", &pod_labels), ("annotations", &pod_annotations)] {
            if !extra.is_empty() {
                let known = object_mut(job, &["template", "spec", "template", "metadata", key]);
                known.extend(extra.iter().map(|(key, value)| (key.clone(), Value::from(value.clone()))));
            }
        }
    }
    // As it is, absence included.
    match train_job.pointer("/spec/suspend").filter(|suspend| suspend.is_boolean()) {
        Some(suspend) => object(&mut template).insert("suspend".into(), suspend.clone()),
        None => object(&mut template).remove("suspend"),
    };
    Ok(Some(job_set(train_job, labels, annotations, template)))
}

fn job_set(train_job: &Value, labels: Object, annotations: Object, spec: Value) -> Value {
    let mut job_set = owned("jobset.x-k8s.io/v1alpha2", "JobSet", name(train_job), train_job);
    for (key, map) in [("labels", labels), ("annotations", annotations)] {
        if !map.is_empty() {
            job_set["metadata"][key] = Value::Object(map);
        }
    }
    job_set["spec"] = spec;
    job_set
}

type Upsert = fn(&mut Vec<Value>, Vec<Value>);

/// What plugins made of the containers, by their place.
fn set_containers(job: &mut Value, list: &str, containers: Vec<Container>) {
    if containers.is_empty() {
        return;
    }
    let spec = object_mut(job, &POD_SPEC);
    let slots = spec.entry(list).or_insert_with(|| json!([]));
    let Value::Array(slots) = slots else { return };
    for (at, container) in containers.into_iter().enumerate() {
        if at >= slots.len() {
            slots.push(json!({ "name": container.name }));
        }
        let slot = &mut slots[at];
        if !container.command.is_empty() {
            slot["command"] = json!(container.command);
        }
        if !container.image.is_empty() {
            slot["image"] = container.image.into();
        }
        let lists: [(&str, Vec<Value>, Upsert); 3] = [
            ("env", container.env, upsert::env),
            ("ports", container.ports, upsert::ports),
            ("volumeMounts", container.mounts, upsert::mounts),
        ];
        for (key, items, upsert) in lists {
            if !items.is_empty() {
                upsert(list_mut(slot, &[key]), items);
            }
        }
    }
}

fn object(value: &mut Value) -> &mut Object {
    object_mut(value, &[])
}

/// The containers of this name; there may be several where a patch made one.
fn containers_mut<'v>(job: &'v mut Value, name: &'v str) -> impl Iterator<Item = &'v mut Value> {
    let containers = object_mut(job, &POD_SPEC).get_mut("containers").and_then(Value::as_array_mut);
    containers.into_iter().flatten().filter(move |container| text(container, &["name"]) == Some(name))
}

/// Where to fetch from, and with which secret.
fn set_initializer(job: &mut Value, name: &str, initializer: &Value, profile: BuildProfile) {
    object(job).insert("replicas".into(), 1.into());
    if !initializer.is_object() {
        return;
    }
    let uri = text(initializer, &["storageUri"]).map(|uri| variable("STORAGE_URI", uri));
    let env = items(initializer, &["env"]).iter().map(|one| upsert::of_train_job(one, profile));
    let env: Vec<_> = uri.into_iter().chain(env).collect();
    let secret = at(initializer, &["secretRef"]);
    for container in containers_mut(job, name) {
        if !env.is_empty() {
            upsert::env(list_mut(container, &["env"]), env.clone());
        }
        if secret.is_object() {
            let reference = json!({ "secretRef": { "name": text(secret, &["name"]).unwrap_or_default() } });
            list_mut(container, &["envFrom"]).push(reference);
        }
    }
}

/// Image, command and arguments of the TrainJob; an empty list clears the template's.
fn set_trainer(job: &mut Value, trainer: &Value) {
    object(job).insert("replicas".into(), 1.into());
    for container in containers_mut(job, NODE) {
        if let Some(image) = text(trainer, &["image"]) {
            container["image"] = image.into();
        }
        for key in ["command", "args"] {
            match trainer.get(key).and_then(Value::as_array) {
                Some(words) if words.is_empty() => drop(object(container).remove(key)),
                Some(words) => container[key] = json!(words),
                None => {}
            }
        }
    }
}
