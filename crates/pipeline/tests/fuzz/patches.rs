//! Runtime patches, merged strategically into the template of a runtime.

use semver::Version;
use serde_json::{Value, json};
use trainerd_api::table;
use trainerd_pipeline::{BuildProfile, Compatibility, build};
use trainerd_schema::Levels;

use crate::random::{fuzz, mutate};
use crate::{a_runtime, a_train_job, facts};

#[test]
fn merge_patches() {
    let table = table().unwrap();
    let levels = Levels::new([
        ("k8s", Version::new(1, 36, 3)),
        ("jobset", Version::new(0, 12, 0)),
        ("trainer", Version::new(2, 3, 0)),
    ]);
    let runtime = a_runtime(&json!({"numNodes": 2}));
    let template = &runtime["spec"]["template"]["spec"];
    let job = a_train_job();
    let patch = &job["spec"]["runtimePatches"][0]["trainingRuntimeSpec"]["template"]["spec"];
    fuzz("merge patches", 1000, |random| {
        let (mut original, mut patch) = (template.clone(), patch.clone());
        mutate(random, &mut patch);
        if random.u8(0..4) == 0 {
            mutate(random, &mut original);
        }
        match table.merge("JobSetSpec", &levels, &original, &patch) {
            Ok(merged) if patch.is_object() => {
                // An empty patch changes nothing, and the same patch again nothing more.
                assert_eq!(table.merge("JobSetSpec", &levels, &merged, &json!({})), Ok(merged.clone()));
            }
            Ok(_) => {}
            Err(error) => assert!(error.to_string().contains(": "), "{error}"),
        }
        // As it comes to be built.
        if random.u8(0..8) == 0 {
            let mut job = job.clone();
            job["spec"]["runtimePatches"][0]["trainingRuntimeSpec"]["template"]["spec"] = patch;
            let facts = facts(Compatibility::Extended, BuildProfile::Extended, None);
            if let Err(error) = build(&runtime, &job, &facts) {
                assert!(!error.to_string().is_empty());
            }
        }
    });
}

#[test]
fn directives() {
    let table = table().unwrap();
    let levels = Levels::new([("k8s", Version::new(1, 36, 3)), ("jobset", Version::new(0, 12, 0))]);
    let runtime = a_runtime(&json!({}));
    let original = &runtime["spec"]["template"]["spec"];
    let whole: Value = json!({"replicatedJobs": [{
        "name": "node",
        "template": {"spec": {"template": {"spec": {
            "containers": [{"name": "node", "$patch": "delete"}, {"name": "x", "env": [{"name": "A", "$patch": "replace"}]}],
            "$setElementOrder/containers": [{"name": "x"}, {"name": "node"}], "volumes": [{"name": "v", "$retainKeys": ["name"]}],
            "$deleteFromPrimitiveList/finalizers": ["f"], "nodeSelector": {"$patch": "replace", "a": "b"},
        }}}},
    }]});
    fuzz("merge directives", 1000, |random| {
        let mut patch = whole.clone();
        mutate(random, &mut patch);
        if let Err(error) = table.merge("JobSetSpec", &levels, original, &patch) {
            assert!(!error.to_string().is_empty());
        }
    });
}
