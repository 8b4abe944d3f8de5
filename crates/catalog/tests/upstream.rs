//! What is rendered equals what upstream installs, but for the reasons in `docs/catalog-differences.md`.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_macros,
    reason = "a test says what it skips, and stops where it is surprised"
)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use serde::Deserialize;
use serde_json::Value;
use support::{render_with, rendered};
use trainerd_plan::object::ObjectKey;

/// Where upstream's manifests are, beside the repository; `None` where nobody put them.
fn data() -> Option<PathBuf> {
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data/upstream"));
    if folder.is_dir() {
        return Some(folder);
    }
    eprintln!("skipped: no upstream manifests at ../shared/data/upstream");
    None
}

fn read_json(path: PathBuf) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// Upstream's objects by key: the install set, and its CRDs with the labels and services of the index.
fn upstream(install: &str) -> Option<BTreeMap<ObjectKey, Value>> {
    let data = data()?;
    let mut objects = BTreeMap::new();
    let text = fs::read_to_string(data.join(format!("installs/{install}.yaml"))).unwrap();
    for document in serde_yaml::Deserializer::from_str(&text) {
        let object: Value =
            serde_yaml::from_value(serde_yaml::Value::deserialize(document).unwrap()).unwrap();
        if !object.is_null() {
            assert!(objects.insert(ObjectKey::of(&object).unwrap(), object).is_none());
        }
    }
    let index = read_json(data.join("installs/index.json"));
    assert_eq!(index[install]["objects"], objects.len(), "the reader misses documents");
    for crd in index[install]["crds"].as_object().unwrap().values() {
        let mut object = read_json(data.join(crd["file"].as_str().unwrap()));
        if let Some(labels) = crd.get("labels") {
            object["metadata"]["labels"] = labels.clone();
        }
        if let Some((namespace, name)) =
            crd["conversionService"].as_str().and_then(|service| service.split_once('/'))
        {
            let service = &mut object["spec"]["conversion"]["webhook"]["clientConfig"]["service"];
            service["namespace"] = namespace.into();
            service["name"] = name.into();
        }
        objects.insert(ObjectKey::of(&object).unwrap(), object);
    }
    Some(objects)
}

/// The paths at which two values differ, with both values.
fn diff(path: &str, upstream: &Value, ours: &Value, found: &mut Vec<String>) {
    match (upstream, ours) {
        (Value::Object(a), Value::Object(b)) => {
            for key in a.keys().chain(b.keys()).collect::<BTreeSet<_>>() {
                let at = format!("{path}/{key}");
                match (a.get(key), b.get(key)) {
                    (Some(a), Some(b)) => diff(&at, a, b, found),
                    (Some(a), None) => found.push(format!("{at}: {a} is missing")),
                    (None, b) => found.push(format!("{at}: {} is added", b.unwrap())),
                }
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (at, (a, b)) in a.iter().zip(b).enumerate() {
                diff(&format!("{path}/{at}"), a, b, found);
            }
        }
        (a, b) if a == b => {}
        (a, b) => found.push(format!("{path}: {a} is {b}")),
    }
}

/// The reasons that the document gives: version, object and path of a difference, and what it is.
fn reasons() -> BTreeSet<[String; 4]> {
    let text = include_str!("../../../docs/catalog-differences.md");
    let rows = text.lines().filter(|line| line.starts_with("| 2."));
    rows.map(|row| {
        let cells: Vec<String> =
            row.trim_matches('|').split(" | ").map(|cell| cell.trim().trim_matches('`').to_owned()).collect();
        <[String; 4]>::try_from(cells[..4].to_vec()).unwrap()
    })
    .collect()
}

fn compare(version: &str) {
    let Some(upstream) = upstream(&format!("upstream-{version}")) else { return };
    let ours = rendered(version);
    let keys = upstream.keys().chain(ours.keys()).collect::<BTreeSet<_>>();
    let mut found = BTreeSet::new();
    for key in keys {
        let mut lines = Vec::new();
        match (upstream.get(key), ours.get(key)) {
            (Some(a), Some(b)) => diff("", a, b, &mut lines),
            (Some(_), None) => lines.push("(object): is missing".to_owned()),
            (None, _) => lines.push("(object): is added".to_owned()),
        }
        for line in lines {
            let (path, what) = line.split_once(": ").unwrap();
            found.insert([version.to_owned(), key.to_string(), path.to_owned(), what.to_owned()]);
        }
    }
    let expected: BTreeSet<[String; 4]> = reasons().into_iter().filter(|row| row[0] == version).collect();
    let show =
        |rows: Vec<&[String; 4]>| rows.iter().map(|row| row.join(" | ")).collect::<Vec<_>>().join("\n");
    let without_reason = show(found.difference(&expected).collect());
    let without_difference = show(expected.difference(&found).collect());
    assert!(without_reason.is_empty(), "differences without a reason:\n{without_reason}");
    assert!(without_difference.is_empty(), "reasons without a difference:\n{without_difference}");
}

#[test]
fn version_2_2_1_equals_upstream() {
    compare("2.2.1");
}

#[test]
fn version_2_3_0_equals_upstream() {
    compare("2.3.0");
}

/// `mpi-distributed` left upstream's releases: it is the last one they had, in the shape of the deepspeed
/// runtime of its version, which is the other runtime with a launcher and nodes.
#[test]
fn mpi_distributed_is_upstreams_last_version_in_the_current_layout() {
    let Some(last) = upstream("upstream-2.0.1-runtimes") else { return };
    let named = |objects: &BTreeMap<ObjectKey, Value>, name: &str| {
        objects
            .iter()
            .find(|(key, _)| key.kind == "ClusterTrainingRuntime" && key.name == name)
            .unwrap()
            .1
            .clone()
    };
    let old = named(&last, "mpi-distributed");
    for version in ["2.2.1", "2.3.0"] {
        let ours = rendered(version);
        let mut expected = named(&ours, "deepspeed-distributed");
        expected["metadata"]["name"] = "mpi-distributed".into();
        let labels = expected["metadata"]["labels"].as_object_mut().unwrap();
        labels.remove("trainer.kubeflow.org/framework");
        if labels.is_empty() {
            expected["metadata"].as_object_mut().unwrap().remove("labels");
        }
        let container = "/template/spec/template/spec/containers/0";
        for job in expected["spec"]["template"]["spec"]["replicatedJobs"].as_array_mut().unwrap() {
            let jobs = old["spec"]["template"]["spec"]["replicatedJobs"].as_array().unwrap();
            let like = jobs.iter().find(|other| other["name"] == job["name"]).unwrap();
            *job.pointer_mut(container).unwrap() = like.pointer(container).unwrap().clone();
        }
        assert_eq!(named(&ours, "mpi-distributed"), expected, "{version}");
    }
}

/// The printer writes upstream's documents as the data has them.
#[test]
fn documents_are_printed_as_the_data_has_them() {
    let Some(data) = data() else { return };
    for install in ["upstream-2.2.1", "upstream-2.3.0"] {
        let text = fs::read_to_string(data.join(format!("installs/{install}.yaml"))).unwrap();
        for document in text.split("---\n").skip(1) {
            let object: Value = serde_yaml::from_str(document).unwrap();
            assert_eq!(trainerd_catalog::yaml::document(&object), document);
        }
    }
}

/// Names and namespaces of another installation, and nothing else, follow its namespace.
#[test]
fn another_namespace_changes_only_the_namespace() {
    let text = |namespace: &str| {
        let desired = render_with("2.3.0", namespace, &[]);
        trainerd_catalog::yaml::documents(desired.objects.iter().map(|object| &object.manifest))
    };
    assert_eq!(text("team-a").replace("team-a", "kubeflow-system"), text("kubeflow-system"));
}
