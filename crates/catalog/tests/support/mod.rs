//! The catalog of this build, and what it renders.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses its part")]

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde_json::Value;
use trainerd_catalog::{Catalog, Options, Raw, Resolution};
use trainerd_plan::desired::{Desired, Installation};
use trainerd_plan::object::ObjectKey;

pub fn catalog() -> &'static Catalog {
    static CATALOG: LazyLock<Catalog> = LazyLock::new(|| Catalog::builtin().unwrap());
    &CATALOG
}

/// Options as a command line gives them.
pub fn given(pairs: &[(&str, &str)]) -> BTreeMap<String, Raw> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), Raw::from(*value))).collect()
}

pub fn chosen(pairs: &[(&str, &str)]) -> (Options, Resolution) {
    let catalog = catalog();
    let options = catalog.parse_options(&given(pairs)).unwrap();
    let resolution = catalog.resolve(&options, None).unwrap();
    (options, resolution)
}

/// Everything of a version of the trainer, with further options.
pub fn render_with(version: &str, namespace: &str, more: &[(&str, &str)]) -> Desired {
    let all = [("trainer-version", version), ("data-cache", "true"), ("runtimes", "all")];
    let (options, resolution) = chosen(&[&all, more].concat());
    let installation = Installation { name: "kubeflow-trainer".to_owned(), namespace: namespace.to_owned() };
    catalog().render(&options, &resolution, &installation).unwrap()
}

/// Everything of a version of the trainer, by key.
pub fn rendered(version: &str) -> BTreeMap<ObjectKey, Value> {
    let desired = render_with(version, "kubeflow-system", &[]);
    desired.objects.into_iter().map(|object| (object.key(), object.manifest)).collect()
}
