//! A TrainJob's runtime patches, merged into the template of its runtime.

use std::sync::LazyLock;

use semver::Version;
use serde_json::Value;
use trainerd_api::table;
use trainerd_schema::Levels;

use crate::build::BuildError;
use crate::value::{Object, at, items, text};
use crate::wire;

static LEVELS: LazyLock<Levels> = LazyLock::new(|| {
    Levels::new([
        ("k8s", Version::new(1, 36, 3)),
        ("jobset", Version::new(0, 12, 0)),
        ("trainer", Version::new(2, 3, 0)),
    ])
});

/// A template after its patches.
pub(crate) struct Patched {
    pub(crate) labels: Object,
    pub(crate) annotations: Object,
    pub(crate) spec: Value,
}

/// Merges every patch, in order. Replicated Jobs keep the order of the template, which the merge changes; those that a
/// patch made come first.
pub(crate) fn merge(template: &Value, train_job: &Value) -> Result<Patched, BuildError> {
    let patches = items(train_job, &["spec", "runtimePatches"]);
    let templates = || patches.iter().map(|patch| at(patch, &["trainingRuntimeSpec", "template"]));
    let metadata = |key: &str| {
        let all = std::iter::once(template).chain(templates());
        let maps = all.filter_map(|one| at(one, &["metadata", key]).as_object());
        maps.flatten().map(|(key, value)| (key.clone(), value.clone())).collect()
    };
    let mut spec = at(template, &["spec"]).clone();
    let rank: Vec<String> = names(&spec).map(str::to_owned).collect();
    for patch in templates().map(|template| at(template, &["spec"])).filter(|spec| spec.is_object()) {
        let table = table().map_err(|_| BuildError::TypeTable)?;
        let patch = wire::normal("JobSetSpecPatch", patch);
        let merged = table.merge("JobSetSpec", &LEVELS, &spec, &patch).map_err(BuildError::Patch)?;
        spec = wire::normal("JobSetSpec", &merged);
    }
    if let Some(Value::Array(jobs)) = spec.get_mut("replicatedJobs") {
        let place = |job: &Value| {
            let name = text(job, &["name"]).unwrap_or_default();
            rank.iter().rposition(|known| known == name).unwrap_or(0)
        };
        jobs.sort_by_key(place);
    }
    Ok(Patched { labels: metadata("labels"), annotations: metadata("annotations"), spec })
}

fn names(spec: &Value) -> impl Iterator<Item = &str> {
    items(spec, &["replicatedJobs"]).iter().map(|job| text(job, &["name"]).unwrap_or_default())
}
