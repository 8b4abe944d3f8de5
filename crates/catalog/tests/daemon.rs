//! The daemon's component: what it may do, what it is told, and what it keeps apart.

#![allow(clippy::panic, reason = "a test stops where it is surprised")]

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;

use serde_json::Value;
use trainerd_catalog::{Catalog, Options, Raw};
use trainerd_plan::desired::{Desired, Installation};

type Result<T = ()> = std::result::Result<T, Box<dyn Error>>;

fn installation() -> Installation {
    Installation { name: "kubeflow-trainer".into(), namespace: "kubeflow-system".into() }
}

fn options(catalog: &Catalog, given: &[(&str, &str)]) -> Result<Options> {
    let given: BTreeMap<String, Raw> =
        given.iter().map(|(name, value)| ((*name).to_owned(), Raw::from(*value))).collect();
    Ok(catalog.parse_options(&given)?)
}

fn daemon(catalog: &Catalog, given: &[(&str, &str)]) -> Result<Desired> {
    Ok(catalog.render_daemon(&options(catalog, given)?, &installation())?)
}

fn manifest<'a>(desired: &'a Desired, kind: &str, name: &str) -> &'a Value {
    let found = desired
        .objects
        .iter()
        .find(|object| object.manifest["kind"] == kind && object.manifest["metadata"]["name"] == name);
    &found.unwrap_or_else(|| panic!("no {kind} {name}")).manifest
}

/// One right: namespace (none: everywhere), API group, resource, name of an object, verb.
type Right = (Option<String>, String, String, Option<String>, String);

/// The rights that the roles of a set of objects give to whoever has all of them.
fn rights(desired: &Desired) -> BTreeSet<Right> {
    let mut rights = BTreeSet::new();
    let texts = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    for object in &desired.objects {
        let role = &object.manifest;
        if !matches!(role["kind"].as_str(), Some("Role" | "ClusterRole")) {
            continue;
        }
        let namespace = role["metadata"]["namespace"].as_str().map(str::to_owned);
        for rule in role["rules"].as_array().into_iter().flatten() {
            let names = texts(&rule["resourceNames"]);
            let names: Vec<Option<String>> =
                if names.is_empty() { vec![None] } else { names.into_iter().map(Some).collect() };
            let urls = texts(&rule["nonResourceURLs"]).into_iter().map(|url| ("/".to_owned(), url));
            let groups = texts(&rule["apiGroups"]);
            let resources = texts(&rule["resources"]);
            let pairs = groups
                .iter()
                .flat_map(|group| resources.iter().map(move |resource| (group.clone(), resource.clone())));
            for (group, resource) in pairs.chain(urls) {
                for verb in texts(&rule["verbs"]) {
                    for name in &names {
                        rights.insert((
                            namespace.clone(),
                            group.clone(),
                            resource.clone(),
                            name.clone(),
                            verb.clone(),
                        ));
                    }
                }
            }
        }
    }
    rights
}

/// Whether a right follows from others: everywhere is in each namespace, and every object is each of them.
fn follows(right: &Right, held: &BTreeSet<Right>) -> bool {
    let (namespace, group, resource, name, verb) = right;
    [None, namespace.clone()].into_iter().any(|namespace| {
        [None, name.clone()].into_iter().any(|name| {
            held.contains(&(namespace.clone(), group.clone(), resource.clone(), name, verb.clone()))
        })
    })
}

#[test]
fn the_daemon_has_every_permission_that_any_version_grants() -> Result {
    let catalog = Catalog::builtin()?;
    let mut seen = 0;
    for (cache, reconciler) in
        [("false", "upstream"), ("true", "upstream"), ("false", "native"), ("false", "hosted")]
    {
        let own = daemon(&catalog, &[("data-cache", cache)])?;
        // What it holds, and not what it lets others do.
        let mut own_roles = own.clone();
        own_roles.objects.retain(|object| object.manifest["metadata"]["name"] == "trainerd");
        let held = rights(&own_roles);
        for version in catalog.versions("trainer") {
            let version = version.to_string();
            let given = [
                ("trainer-version", version.as_str()),
                ("data-cache", cache),
                ("runtimes", "all"),
                ("reconciler", reconciler),
            ];
            let options = options(&catalog, &given)?;
            // Not every version has a native one.
            let Ok(resolution) = catalog.resolve(&options, None) else { continue };
            let stack = catalog.render(&options, &resolution, &installation())?;
            let granted = rights(&stack);
            assert!(granted.len() > 100, "{granted:#?}");
            for right in &granted {
                assert!(follows(right, &held), "trainer {version} grants {right:?}, which the daemon lacks");
                seen += 1;
            }
        }
    }
    assert!(seen > 400);
    Ok(())
}

#[test]
fn the_config_map_has_the_given_options() -> Result {
    let catalog = Catalog::builtin()?;
    let given = [
        ("settle", "3"),
        ("small-footprint", "true"),
        ("drift-ignore", "Deployment:/spec/replicas"),
        ("trainerd-image", "registry.test/a/trainerd:v0.1.0"),
    ];
    let desired = daemon(&catalog, &given)?;
    let data = &manifest(&desired, "ConfigMap", "trainerd-options")["data"];
    let told: BTreeMap<&str, &str> = data
        .as_object()
        .ok_or("no data")?
        .iter()
        .filter_map(|(name, value)| Some((name.as_str(), value.as_str()?)))
        .collect();
    assert_eq!(told, given.into());
    assert_eq!(desired.installation.name, "trainerd");
    let pod = &manifest(&desired, "Deployment", "trainerd")["spec"]["template"]["spec"];
    assert_eq!(pod["containers"][0]["image"], "registry.test/a/trainerd:v0.1.0");
    let empty = daemon(&catalog, &[])?;
    assert_eq!(manifest(&empty, "ConfigMap", "trainerd-options")["data"], serde_json::json!({}));
    Ok(())
}

#[test]
fn the_options_config_map_is_not_in_the_daemons_revision() -> Result {
    let catalog = Catalog::builtin()?;
    let options = options(&catalog, &[("settle", "3")])?;
    let bootstrap = catalog.render_bootstrap(&options, &installation())?;
    assert_eq!(bootstrap.options["metadata"]["name"], "trainerd-options");
    assert_eq!(bootstrap.options["data"], serde_json::json!({"settle": "3"}));
    let whole = catalog.render_daemon(&options, &installation())?;
    assert_eq!(bootstrap.desired.objects.len() + 1, whole.objects.len());
    let is_map = |object: &trainerd_plan::desired::DesiredObject| object.manifest["kind"] == "ConfigMap";
    assert!(!bootstrap.desired.objects.iter().any(is_map));
    // Another installation's ConfigMap of that name is its own affair.
    assert!(trainerd_catalog::edited_by_people(&installation()).is_empty());
    Ok(())
}

#[test]
fn the_daemons_image_follows_image_registry() -> Result {
    let catalog = Catalog::builtin()?;
    for (given, expected) in [
        (vec![], "localhost/trainerd:v0.1.0"),
        (vec![("image-registry", "registry.test:5000/mirror")], "registry.test:5000/mirror/trainerd:v0.1.0"),
        (vec![("image-pull-secrets", "mine")], "localhost/trainerd:v0.1.0"),
    ] {
        let desired = daemon(&catalog, &given)?;
        let pod = &manifest(&desired, "Deployment", "trainerd")["spec"]["template"]["spec"];
        assert_eq!(pod["containers"][0]["image"], expected);
        let secrets = given.iter().any(|(name, _)| *name == "image-pull-secrets");
        assert_eq!(pod["imagePullSecrets"][0]["name"] == "mine", secrets);
    }
    Ok(())
}

#[test]
fn the_daemons_version_is_that_of_this_build() -> Result {
    let catalog = Catalog::builtin()?;
    let versions: Vec<String> = catalog.versions("trainerd").iter().map(ToString::to_string).collect();
    assert_eq!(versions, [env!("CARGO_PKG_VERSION")]);
    let default = catalog.schema().default_of("trainerd-image").and_then(Value::as_str);
    assert_eq!(default, Some(concat!("localhost/trainerd:v", env!("CARGO_PKG_VERSION"))));
    Ok(())
}
