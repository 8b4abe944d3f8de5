//! Every image can be enumerated, overridden by itself, and moved to another registry.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops where it is surprised")]

mod support;

use std::collections::BTreeSet;

use serde_json::Value;
use support::{catalog, chosen, render_with};
use trainerd_catalog::{Image, ImageRef};
use trainerd_plan::desired::Desired;

const EVERYTHING: [(&str, &str); 2] = [("data-cache", "true"), ("runtimes", "all")];

/// Every text in the objects that stands where an image stands: this test's own reading of them.
fn found(desired: &Desired) -> BTreeSet<String> {
    fn walk(value: &Value, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(fields) => {
                for (key, field) in fields {
                    match field {
                        Value::String(text) if key == "image" => _ = found.insert(text.clone()),
                        field => walk(field, found),
                    }
                }
                if fields.get("name").is_some_and(|name| name == "CACHE_IMAGE") {
                    found.insert(fields["value"].as_str().unwrap().to_owned());
                }
            }
            Value::Array(items) => items.iter().for_each(|item| walk(item, found)),
            _ => {}
        }
    }
    let mut images = BTreeSet::new();
    // A CRD has schemas of fields named image, and no images.
    let objects = desired.objects.iter().filter(|object| object.resource.kind != "CustomResourceDefinition");
    objects.for_each(|object| walk(&object.manifest, &mut images));
    images
}

fn listed(more: &[(&str, &str)]) -> Vec<Image> {
    let (options, resolution) = chosen(&[&EVERYTHING, more].concat());
    catalog().images(&options, &resolution).unwrap()
}

#[test]
fn the_list_equals_the_images_of_the_objects() {
    for version in ["2.2.1", "2.3.0"] {
        let images = listed(&[("trainer-version", version)]);
        let references: BTreeSet<String> = images.iter().map(|image| image.reference.clone()).collect();
        assert_eq!(references, found(&render_with(version, "kubeflow-system", &[])));
        assert_eq!(images.len(), 3 + 10 + 3, "{version}: controllers, runtimes, initializers and cache");
        assert!(images.is_sorted());
    }
    assert_eq!(chosen(&[("runtimes", "none"), ("components", "trainer")]).1.components.len(), 1);
}

#[test]
fn every_image_has_a_tag() {
    for version in ["2.2.1", "2.3.0"] {
        for reference in found(&render_with(version, "kubeflow-system", &[])) {
            assert!(reference.parse::<ImageRef>().unwrap().is_pinned(), "{reference}");
            assert_ne!(reference.parse::<ImageRef>().unwrap().tag(), Some("latest"));
        }
    }
}

#[test]
fn each_image_can_be_overridden_separately() {
    let before = listed(&[]);
    for (at, image) in before.iter().enumerate() {
        let mine = "example.io/mine:tag";
        let value = match &image.key {
            Some(key) => format!("{key}={mine}"),
            None => mine.to_owned(),
        };
        let pairs = [(image.option.as_str(), value.as_str())];
        let after = listed(&pairs);
        let changed: Vec<usize> = (0..before.len()).filter(|at| before[*at] != after[*at]).collect();
        assert_eq!((changed, after[at].reference.as_str()), (vec![at], mine), "{}", image.name);
        let objects = found(&render_with("2.3.0", "kubeflow-system", &pairs));
        assert!(objects.contains(mine), "{}", image.name);
    }
}

/// Ours take the place of upstream's under the same keys, at every version; an image of one's own counts more.
#[test]
fn data_cache_and_initializers_have_upstream_and_native_images() {
    let ours = |name: &str| format!("localhost/{name}:v{}", env!("CARGO_PKG_VERSION"));
    for version in ["2.2.1", "2.3.0"] {
        let pick = |more: &[(&str, &str)], name: &str| {
            let images = listed(&[&[("trainer-version", version)], more].concat());
            images.into_iter().find(|image| image.name == name).unwrap().reference
        };
        let server = [("data-cache-server", "native")];
        let initializers = [("initializers", "native")];
        assert_eq!(pick(&server, "data-cache"), ours("data-cache"));
        assert_eq!(
            pick(&initializers, "data-cache"),
            format!("ghcr.io/kubeflow/trainer/data-cache:v{version}")
        );
        for name in ["dataset-initializer", "model-initializer"] {
            assert_eq!(pick(&initializers, name), ours(name));
            assert_eq!(pick(&server, name), format!("ghcr.io/kubeflow/trainer/{name}:v{version}"));
        }
        let mine = [("runtime-images", "data-cache=example.io/mine:1"), server[0]];
        assert_eq!(pick(&mine, "data-cache"), "example.io/mine:1");
        let mirrored = [("image-registry", "mirror.local/team"), server[0]];
        let tag = env!("CARGO_PKG_VERSION");
        assert_eq!(pick(&mirrored, "data-cache"), format!("mirror.local/team/data-cache:v{tag}"));
        // What is listed is what is rendered: the initializer receives the cache's image.
        let both = [server[0], initializers[0]];
        let objects = found(&render_with(version, "kubeflow-system", &both));
        for name in ["data-cache", "dataset-initializer", "model-initializer"] {
            assert!(objects.contains(&ours(name)), "{version} {name}: {objects:?}");
        }
        let upstreams = ["data-cache:", "-initializer:"];
        let left = |image: &&String| {
            image.starts_with("ghcr.io") && upstreams.iter().any(|name| image.contains(name))
        };
        assert_eq!(objects.iter().filter(left).count(), 0, "{objects:?}");
    }
}

/// `torchtune-trainer` is the image of three runtimes, of which one may have its own.
#[test]
fn the_image_of_one_runtime_overrides_the_shared_one() {
    let images = listed(&[(
        "runtime-images",
        "torchtune-trainer=example.io/all:1,torchtune-llama3.2-1b=example.io/one:1",
    )]);
    let reference = |name: &str| images.iter().find(|image| image.name == name).unwrap().reference.clone();
    assert_eq!(reference("torchtune-llama3.2-1b"), "example.io/one:1");
    assert_eq!(reference("torchtune-llama3.2-3b"), "example.io/all:1");
    assert_eq!(reference("torchtune-qwen2.5-1.5b"), "example.io/all:1");
}

#[test]
fn image_registry_applies_to_all_images_without_their_own_registry() {
    let registry = "mirror.local:5000/team";
    let digest = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
    let runtime_images = format!(
        "jax-distributed=docker.io/library/jax@{digest},mlx-distributed=mirror.local:5000/team/mlx:1,xgboost-distributed=xgboost:1"
    );
    let pairs = [("image-registry", registry), ("runtime-images", runtime_images.as_str())];
    let objects = found(&render_with("2.3.0", "kubeflow-system", &pairs));
    let own = format!("docker.io/library/jax@{digest}");
    let moved = |reference: &&String| reference.starts_with(&format!("{registry}/"));
    assert_eq!(objects.iter().filter(|reference| !moved(reference)).collect::<Vec<_>>(), [&own]);
    for expected in [
        "mirror.local:5000/team/pytorch/pytorch:2.13.0-cuda13.0-cudnn9-runtime".to_owned(),
        "mirror.local:5000/team/jobset/jobset:v0.12.0".to_owned(),
        "mirror.local:5000/team/kubeflow/trainer/data-cache:v2.3.0".to_owned(),
        "mirror.local:5000/team/mpioperator/mpi-pi:openmpi".to_owned(),
        "mirror.local:5000/team/mlx:1".to_owned(),
        "mirror.local:5000/team/library/xgboost:1".to_owned(),
    ] {
        assert!(objects.contains(&expected), "{expected}");
    }
}

/// One registry may have a proxy project for each upstream; and what is somewhere else is meant to be there.
#[test]
fn an_image_with_a_host_is_rendered_unchanged() {
    for given in [
        "other.example.com/k8s-mirror/jobset/jobset:v0.12.0",
        "harbor.example.com/k8s-mirror/jobset/jobset:v0.12.0",
        "docker.io/me/jobset:v0.12.0",
        "localhost:5000/jobset:v0.12.0",
    ] {
        let images = listed(&[("image-registry", "harbor.example.com/proxy"), ("jobset-image", given)]);
        let jobset = images.iter().find(|image| image.component == "jobset").unwrap();
        assert_eq!(jobset.reference, given);
        let elsewhere =
            images.iter().filter(|image| !image.reference.starts_with("harbor.example.com/proxy/"));
        assert_eq!(elsewhere.count(), 1, "{given}");
    }
}

/// The default names the newest version's image and stands for whichever version is chosen.
#[test]
fn the_packaged_default_is_no_override() {
    let packaged = "ghcr.io/kubeflow/trainer/trainer-controller-manager:v2.3.0";
    let pairs = [("trainer-version", "2.2.1"), ("kubeflow-trainer-image", packaged)];
    let trainer = listed(&pairs).into_iter().find(|image| image.component == "trainer").unwrap();
    assert_eq!(trainer.reference, "ghcr.io/kubeflow/trainer/trainer-controller-manager:v2.2.1");
}
