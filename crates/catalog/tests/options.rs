//! Every option, every rule: the texts are public.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops where it is surprised")]

mod support;

use std::collections::BTreeMap;

use semver::Version;
use serde_json::{Value, json};
use support::{catalog, chosen, given};
use trainerd_catalog::{
    Conflicts, Current, InvalidOptions, KubernetesError, LookupError, Raw, ResolveError, RuntimeChoice,
    Schema, UnmetNeed, UpgradeError, VersionChoice, Why,
};

const DIGEST: &str = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

/// What is wrong with options: option, rule, nearest spelling; from reading or from choosing versions.
fn wrong(given: &BTreeMap<String, Raw>) -> Vec<(String, String, Option<String>)> {
    let catalog = catalog();
    let invalid: InvalidOptions = match catalog.parse_options(given) {
        Err(invalid) => invalid,
        Ok(options) => match catalog.resolve(&options, None) {
            Err(ResolveError::Options(invalid)) => invalid,
            other => panic!("{given:?}: {other:?}"),
        },
    };
    let row = |error: &trainerd_catalog::OptionError| {
        (error.option.clone(), error.rule.to_string(), error.nearest.clone())
    };
    invalid.errors().iter().map(row).collect()
}

/// What is given, the rule that it breaks, and the nearest spelling.
type Case<'a> = (&'a [(&'a str, &'a str)], &'a str, Option<&'a str>);

#[test]
fn a_hosted_reconciler_accepts_the_options_of_the_native_one() {
    let given = given(&[("reconciler", "hosted"), ("trainer-version", "2.2")]);
    let rule = "hosted does not fit trainer 2.2.1; use trainer 2.3.0".to_owned();
    assert_eq!(wrong(&given), [("reconciler".to_owned(), rule, Some("upstream".to_owned()))]);
}

#[test]
#[allow(clippy::too_many_lines, reason = "a table")]
fn every_rule_has_its_text() {
    let digest_only = format!("x@{DIGEST} y");
    let cases: &[Case<'_>] = &[
        (&[("setle", "5")], "unknown option", Some("settle")),
        (&[("patience", "5")], "unknown option", None),
        (&[("settle", "soon")], "must be a whole number", None),
        (&[("settle", "5s")], "must be a whole number", Some("5")),
        (&[("data-cache", "yes")], "must be true or false", Some("true")),
        (&[("kubeflow-trainer-image", "no image")], "not an image reference", None),
        (&[("kubeflow-trainer-image", "")], "not an image reference", None),
        (
            &[("kubeflow-trainer-image", "ghcr.io/my/trainer")],
            "not an image reference",
            Some("ghcr.io/my/trainer:v2.3.0"),
        ),
        (&[("jobset-image", "https://a.io/jobset:1")], "not an image reference", Some("a.io/jobset:1")),
        (&[("lws-image", "a.io/LWS:1")], "not an image reference", Some("a.io/lws:1")),
        (&[("lws-image", &digest_only)], "not an image reference", None),
        (
            &[("kubeflow-trainer-image", "a.io/t:v2.2.1"), ("trainer-version", "2.3.0")],
            "tag v2.2.1 does not match trainer 2.3.0",
            None,
        ),
        (&[("kubeflow-trainer-image", "a.io/t:2.9.0-x")], "tag 2.9.0-x does not match trainer 2.3.0", None),
        (&[("jobset-image", "a.io/j:v0.11.1")], "tag v0.11.1 does not match jobset 0.12.0", None),
        (&[("lws-image", "a.io/l:v0.7.0")], "tag v0.7.0 does not match lws 0.8.0", None),
        (&[("trainer-version", "2.2.9")], "unknown version 2.2.9; known: 2.2.1, 2.3.0", Some("2.2.1")),
        (&[("trainer-version", "2.4")], "unknown version 2.4; known: 2.2.1, 2.3.0", Some("2.3")),
        (&[("trainer-version", "v2.3.0")], "unknown version v2.3.0; known: 2.2.1, 2.3.0", Some("2.3.0")),
        (&[("trainer-version", "Auto")], "unknown version Auto; known: 2.2.1, 2.3.0", Some("auto")),
        (&[("jobset-version", "0.13.0")], "unknown version 0.13.0; known: 0.11.1, 0.12.0", Some("0.12.0")),
        (
            &[("jobset-version", "0.11")],
            "0.11.1 does not fit trainer 2.3.0; use >=0.12.0, <0.13.0",
            Some("0.12.0"),
        ),
        (
            &[("trainer-version", "2.2"), ("jobset-version", "0.12.0")],
            "0.12.0 does not fit trainer 2.2.1; use >=0.11.0, <0.12.0",
            Some("0.11.1"),
        ),
        (&[("lws-version", "1.0")], "unknown version 1.0; known: 0.8.0", None),
        (&[("data-cache-server", "ours")], "must be native or upstream", None),
        (&[("initializers", "upsteam")], "must be native or upstream", Some("upstream")),
        (&[("reconciler", "natve")], "must be hosted, native or upstream", Some("native")),
        (
            &[("reconciler", "native"), ("trainer-version", "2.2")],
            "native does not fit trainer 2.2.1; use trainer 2.3.0",
            Some("upstream"),
        ),
        (&[("components", "trainer,jobsett")], "unknown component jobsett", Some("jobset")),
        (&[("components", "trainer,runtimes")], "unknown component runtimes", None),
        (&[("components", "jobset")], "trainer is required", None),
        (&[("components", "")], "trainer is required", None),
        (&[("runtimes", "torch-distribute")], "unknown runtime torch-distribute", Some("torch-distributed")),
        (&[("runtimes", "all,torch-distributed")], "unknown runtime all", None),
        (
            &[("runtimes", "torch-distributed-with-cache")],
            "torch-distributed-with-cache needs data-cache",
            None,
        ),
        (&[("runtime-images", "torch-distributed=a.io/t:1,b")], "entry 2 is not key=image", None),
        (&[("runtime-images", "torch-distributed=a.io/t")], "entry 1 is not key=image", None),
        (&[("runtime-images", "=a.io/t:1")], "unknown key ", None),
        (&[("runtime-images", "torch=a.io/t:1")], "unknown key torch", None),
        (
            &[("runtime-images", "dataset-initialiser=a.io/t:1")],
            "unknown key dataset-initialiser",
            Some("dataset-initializer"),
        ),
        (&[("data-cache", "true"), ("components", "trainer,jobset")], "needs lws in components", None),
        (
            &[("trainjob-status", "true"), ("reconciler", "hosted")],
            "needs reconciler native or upstream; no pod reaches a hosted one",
            Some("false"),
        ),
        (
            &[("image-registry", "https://ghcr.io/mirror/")],
            "must be host[:port][/path] without scheme",
            Some("ghcr.io/mirror"),
        ),
        (&[("image-registry", "mirror")], "must be host[:port][/path] without scheme", None),
        (&[("image-pull-secrets", "ok,Not_Ok")], "Not_Ok is not a Secret name", Some("not-ok")),
        (&[("conflicts", "forced")], "must be force, refuse or yield", Some("force")),
        (&[("crd-policy", "deleted")], "must be keep or delete", Some("delete")),
        (&[("drift-policy", "enforced")], "must be enforce, report or ignore", Some("enforce")),
        (
            &[("drift-ignore", "Deployment:/spec/replicas,x")],
            "entry 2 is not Kind[/name]:/json/pointer",
            None,
        ),
        (&[("settle", "301")], "must be 0 to 300 seconds", Some("300")),
        (&[("settle", "-1")], "must be 0 to 300 seconds", Some("0")),
        (&[("progress-deadline", "29")], "must be 30 to 3600 seconds", Some("30")),
        (&[("progress-deadline", "3601")], "must be 30 to 3600 seconds", Some("3600")),
        (&[("retry-failed", "86401")], "must be 0 to 86400 seconds", Some("86400")),
        (&[("retry-failed", "-1")], "must be 0 to 86400 seconds", Some("0")),
        (&[("revision-history", "0")], "must be 1 to 50", Some("1")),
        (&[("revision-history", "51")], "must be 1 to 50", Some("50")),
    ];
    for case in cases {
        check(case);
    }
}

fn check((pairs, rule, nearest): &Case<'_>) {
    let rows = wrong(&given(pairs));
    let found =
        rows.iter().map(|(option, rule, nearest)| (option.as_str(), rule.as_str(), nearest.as_deref()));
    let expected = pairs.iter().map(|(option, _)| (*option, *rule, *nearest));
    let found: Vec<_> = found.collect();
    assert_eq!(found.len(), 1, "{pairs:?}: {found:?}");
    assert!(expected.clone().any(|row| found.contains(&row)), "{pairs:?}: {found:?}");
}

#[test]
fn options_of_hooks_logs_and_upgrades_are_validated() {
    for (option, value, rule, nearest) in [
        ("hook-wait", "0", "must be 1 to 30 seconds", "1"),
        ("log-level", "warning", "must be error, warn, info, debug or trace", "warn"),
        ("upgrade-policy", "manuel", "must be auto or manual", "manual"),
    ] {
        let expected = vec![(option.to_owned(), rule.to_owned(), Some(nearest.to_owned()))];
        assert_eq!(wrong(&given(&[(option, value)])), expected, "{option}={value}");
    }
}

#[test]
fn all_invalid_options_are_reported_sorted_by_name() {
    let rows =
        wrong(&given(&[("settle", "x"), ("conflicts", "x"), ("trainer-version", "9.9.9"), ("a", "b")]));
    let names: Vec<&str> = rows.iter().map(|(option, ..)| option.as_str()).collect();
    assert_eq!(names, ["a", "conflicts", "settle", "trainer-version"]);

    let invalid = catalog().parse_options(&given(&[("settle", "x"), ("conflicts", "x")])).unwrap_err();
    assert_eq!(
        invalid.to_string(),
        "invalid value \"x\" for option conflicts: must be force, refuse or yield (+1 more)"
    );
}

#[test]
fn typed_values_are_not_converted() {
    let typed = |name: &str, value: Value| BTreeMap::from([(name.to_owned(), Raw::Typed(value))]);
    for (name, value, rule, nearest) in [
        ("trainer-version", json!(2.3), "must be a string", Some("\"2.3\"")),
        ("components", json!(["trainer", "jobset"]), "must be a string", Some("trainer,jobset")),
        ("settle", json!("5"), "must be a whole number", Some("5")),
        ("settle", json!(1.5), "must be a whole number", None),
        ("settle", Value::Null, "must be a whole number", None),
        ("data-cache", json!("true"), "must be true or false", Some("true")),
    ] {
        let expected = vec![(name.to_owned(), rule.to_owned(), nearest.map(str::to_owned))];
        assert_eq!(wrong(&typed(name, value.clone())), expected, "{name}={value}");
    }
}

#[test]
fn valid_values_are_parsed() {
    let (options, _) = chosen(&[
        ("conflicts", "yield"),
        ("settle", "0"),
        ("small-footprint", "true"),
        ("image-pull-secrets", "one, two,one"),
        ("components", "trainer,lws"),
        ("runtimes", " torch-distributed , "),
        ("trainer-version", "2.2"),
        ("runtime-images", "torch-distributed=a.io/t:1, dataset-initializer=a.io/d:1"),
    ]);
    assert_eq!((options.conflicts, options.settle, options.small_footprint), (Conflicts::Yield, 0, true));
    assert_eq!(options.image_pull_secrets, ["one", "two"]);
    assert_eq!(options.components, ["lws", "trainer"].map(str::to_owned).into());
    assert_eq!(options.runtimes, RuntimeChoice::Named(["torch-distributed".to_owned()].into()));
    assert_eq!(options.versions["trainer"], VersionChoice::Minor(2, 2));
    assert_eq!(options.runtime_images.len(), 2);
    assert_eq!(options.values()["settle"], json!(0));
    assert_eq!(options.values()["revision-history"], json!(10));
    assert_eq!(options.given().len(), 8);
    assert!(options.given().is_sorted());
}

#[test]
fn defaults_are_valid_and_select_the_newest_version() {
    let catalog = catalog();
    let (options, resolution) = chosen(&[]);
    assert!(options.images.is_empty() && options.given().is_empty());
    assert_eq!(options.values().len(), Schema::builtin().unwrap().options.len());
    for image in catalog.images(&options, &resolution).unwrap() {
        if let Some(Value::String(default)) =
            catalog.schema().default_of(&image.option).filter(|_| image.key.is_none())
        {
            assert_eq!(*default, image.reference, "config.yaml does not name the newest image");
        }
    }
    assert_eq!(resolution.versions()["trainer"], *catalog.newest("trainer").unwrap());
}

/// What is given, whether 2.2.1 is installed, the versions of trainer, jobset and lws, and why the trainer's.
type Choice<'a> = (&'a [(&'a str, &'a str)], bool, [&'a str; 3], &'a str);

#[test]
fn versions_follow_the_options() {
    let trainer_2_2 = BTreeMap::from([("trainer".to_owned(), Version::new(2, 2, 1))]);
    let image = "kubeflow-trainer-image";
    let packaged = "ghcr.io/kubeflow/trainer/trainer-controller-manager:v2.3.0";
    let cases: &[Choice<'_>] = &[
        (&[], false, ["2.3.0", "0.12.0", "0.8.0"], "newest"),
        (&[], true, ["2.2.1", "0.11.1", "0.8.0"], "installed"),
        (&[("trainer-version", "2.2")], false, ["2.2.1", "0.11.1", "0.8.0"], "option trainer-version"),
        (&[("trainer-version", "2.3.0")], true, ["2.3.0", "0.12.0", "0.8.0"], "option trainer-version"),
        (&[(image, packaged)], true, ["2.2.1", "0.11.1", "0.8.0"], "installed"),
        (
            &[(image, "a.io/t:2.3.0-rock1")],
            true,
            ["2.3.0", "0.12.0", "0.8.0"],
            "tag 2.3.0-rock1 of option kubeflow-trainer-image",
        ),
        (
            &[(image, "a.io/t:v2.2.0")],
            false,
            ["2.2.1", "0.11.1", "0.8.0"],
            "tag v2.2.0 of option kubeflow-trainer-image",
        ),
        (
            &[(image, "a.io/t:2.2")],
            false,
            ["2.2.1", "0.11.1", "0.8.0"],
            "tag 2.2 of option kubeflow-trainer-image",
        ),
        (&[(image, "a.io/t:edge")], false, ["2.3.0", "0.12.0", "0.8.0"], "newest"),
        (
            &[(image, "a.io/t:edge"), ("trainer-version", "2.2.1")],
            false,
            ["2.2.1", "0.11.1", "0.8.0"],
            "option trainer-version",
        ),
        (
            &[("trainer-version", "2.2"), ("jobset-image", "a.io/j:v0.11.7")],
            false,
            ["2.2.1", "0.11.1", "0.8.0"],
            "option trainer-version",
        ),
    ];
    let catalog = catalog();
    for (pairs, installed, versions, why) in cases {
        let options = catalog.parse_options(&given(pairs)).unwrap();
        let current = installed.then_some(Current { components: &trainer_2_2 });
        let resolution = catalog.resolve(&options, current).unwrap();
        let found = ["trainer", "jobset", "lws"].map(|name| resolution.components[name].version.to_string());
        assert_eq!(found.each_ref().map(String::as_str), *versions, "{pairs:?}");
        assert_eq!(resolution.components["trainer"].why.to_string(), *why, "{pairs:?}");
    }
    let resolution = catalog.resolve(&catalog.parse_options(&given(&[])).unwrap(), None).unwrap();
    let goes_with = Why::GoesWith { component: "trainer".to_owned(), version: Version::new(2, 3, 0) };
    assert_eq!(resolution.components["jobset"].why, goes_with);
}

#[test]
fn an_installed_version_that_is_not_in_the_catalog_is_an_error() {
    let catalog = catalog();
    let installed = BTreeMap::from([("trainer".to_owned(), Version::new(2, 0, 1))]);
    let current = Some(Current { components: &installed });
    let options = catalog.parse_options(&given(&[])).unwrap();
    assert!(matches!(
        catalog.resolve(&options, current),
        Err(ResolveError::Unknown(LookupError::Version { component, version, known }))
            if component == "trainer" && version == Version::new(2, 0, 1) && known.len() == 2
    ));
    let options = catalog.parse_options(&given(&[("trainer-version", "2.2")])).unwrap();
    assert!(catalog.resolve(&options, current).is_ok());
}

#[test]
fn runtimes_follow_version_and_data_cache() {
    let count = |pairs: &[(&str, &str)]| chosen(pairs).1.runtimes.len();
    assert_eq!(count(&[]), 4);
    assert_eq!(count(&[("runtimes", "none")]), 0);
    assert_eq!(count(&[("runtimes", "all")]), 9);
    assert_eq!(count(&[("runtimes", "all"), ("data-cache", "true")]), 10);
    assert_eq!(count(&[("runtimes", "torch-distributed-with-cache"), ("data-cache", "true")]), 1);
    let (_, resolution) = chosen(&[("runtimes", "none")]);
    assert_eq!(resolution.components.keys().collect::<Vec<_>>(), ["jobset", "lws", "trainer"]);
}

#[test]
fn omitted_components_must_be_in_the_cluster() {
    let (_, resolution) = chosen(&[("components", "trainer")]);
    assert_eq!(resolution.external.keys().collect::<Vec<_>>(), ["jobset"]);
    let unmet = |found: Option<Version>| {
        let needed = resolution.external["jobset"].clone();
        UnmetNeed { component: "jobset".to_owned(), needed, found }.to_string()
    };
    assert_eq!(unmet(None), "jobset is not in the cluster; trainer 2.3.0 needs >=0.12.0, <0.13.0");
    assert_eq!(
        unmet(Some(Version::new(0, 11, 1))),
        "jobset 0.11.1 in the cluster does not fit; trainer 2.3.0 needs >=0.12.0, <0.13.0"
    );
    assert_eq!(catalog().crds_of("jobset").collect::<Vec<_>>(), ["jobsets.jobset.x-k8s.io"]);
}

#[test]
fn kubernetes_must_be_in_range() {
    let catalog = catalog();
    let (_, resolution) = chosen(&[]);
    for version in ["v1.31.0", "1.36.2", "v1.33.5-gke.1080000", "v1.31.0+k3s1", "v1.31.0-eks-1234"] {
        assert!(catalog.check_kubernetes(&resolution, version).is_ok(), "{version}");
    }
    assert_eq!(
        catalog.check_kubernetes(&resolution, "v1.30.9").unwrap_err().to_string(),
        "Kubernetes 1.30.9 is out of range for trainer 2.3.0, which needs >=1.31.0"
    );
    assert!(matches!(
        catalog.check_kubernetes(&resolution, "one"),
        Err(KubernetesError::NotAVersion { text }) if text == "one"
    ));
    let ranges = catalog.kubernetes_ranges(&resolution).unwrap();
    assert_eq!(ranges.keys().collect::<Vec<_>>(), ["jobset", "lws", "trainer"]);
}

#[test]
fn the_stack_upgrades_from_2_2_to_2_3_and_not_back() {
    let catalog = catalog();
    let old = chosen(&[("trainer-version", "2.2")]).1.versions();
    let new = chosen(&[]).1.versions();
    assert_eq!(catalog.upgrade_path(&old, &new).unwrap(), std::slice::from_ref(&new));
    assert!(matches!(
        catalog.upgrade_path(&new, &old),
        Err(UpgradeError::Downgrade { component, .. }) if component == "jobset"
    ));
}
