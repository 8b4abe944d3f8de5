//! The charm's databags, read by the code of those that they are for. `TRAINERD_CHARM_PYTHON` names an interpreter that has
//! its packages (`integration/databags/requirements.txt`); `cargo xtask test` makes one.

use std::error::Error;
use std::ffi::OsStr;
use std::io::Write as _;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use trainerd_integration::TestCluster;
use trainerd_integration::charm::{Programs, Unit, namespace, workspace};

type Result<T = (), E = Box<dyn Error>> = std::result::Result<T, E>;

/// Relations with an application of each kind that reads what we write.
const RELATIONS: [(&str, &str, &str); 5] = [
    ("3", "metrics-endpoint", "prometheus"),
    ("4", "grafana-dashboard", "grafana"),
    ("5", "dashboard-links", "kubeflow-dashboard"),
    ("6", "service-mesh", "istio-beacon-k8s"),
    ("7", "require-cmr-mesh", "cos-prometheus"),
];

/// What is wrong with databags, by those that read them.
fn problems(python: &OsStr, bags: &Value) -> Result<String> {
    let mut command = Command::new(python);
    command.arg(workspace().join("integration/databags/check.py"));
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    child.stdin.take().ok_or("its input")?.write_all(bags.to_string().as_bytes())?;
    let output = child.wait_with_output()?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

/// Changes a value that a databag has as a JSON text.
fn changed(bags: &Value, endpoint: &str, key: &str, change: impl FnOnce(&mut Value)) -> Result<Value> {
    let mut bag = bags[endpoint].clone();
    let mut value: Value = serde_json::from_str(bag["app"][key].as_str().ok_or("the key")?)?;
    change(&mut value);
    bag["app"][key] = value.to_string().into();
    Ok(json!({endpoint: bag}))
}

#[test]
fn databags_are_accepted_by_their_consumers() -> Result {
    let Some(python) = std::env::var_os("TRAINERD_CHARM_PYTHON") else {
        println!("skipped: TRAINERD_CHARM_PYTHON names no Python that has the consumers' libraries");
        return Ok(());
    };
    let mut cluster = TestCluster::take()?;
    if !cluster.is_local() {
        println!("skipped: the charm's containers are those of the local cluster");
        return Ok(());
    }
    cluster.restore_empty()?;
    namespace(&cluster)?;
    let mut unit = Unit::new(&cluster, &Programs::find()?, "kubeflow-trainer")?;
    for (id, endpoint, app) in RELATIONS {
        unit.world.content["relations"][id] = json!({
            "endpoint": endpoint, "remote-app": app, "remote-units": {format!("{app}/0"): {}},
            "remote-app-bag": {}, "app-bag": {}, "unit-bag": {},
        });
    }
    let mut bags = json!({});
    for (id, endpoint, app) in RELATIONS {
        let about = [
            ("JUJU_RELATION_ID", format!("{endpoint}:{id}")),
            ("JUJU_RELATION", endpoint.to_owned()),
            ("JUJU_REMOTE_APP", app.to_owned()),
        ];
        let fired = unit.run_hook(&format!("hooks/{endpoint}-relation-created"), &about)?;
        assert_eq!(fired.code, Some(0), "{}", fired.stderr);
    }
    for (id, endpoint, _) in RELATIONS {
        bags[endpoint] =
            json!({"app": unit.world.bag(id, "app-bag"), "unit": unit.world.bag(id, "unit-bag")});
    }
    assert_eq!(problems(&python, &bags)?, "");

    // The same with a fault: each reader has to find it.
    let (metrics, grafana, links, mesh) =
        ("metrics-endpoint", "grafana-dashboard", "dashboard-links", "service-mesh");
    let file = "file:trainerd";
    let faults: [(Value, &str); 12] = [
        (
            changed(&bags, metrics, "scrape_metadata", |it| {
                it["model_uuid"] = "0d1a0b1e-2b3c-1d5e-8f90-1".into();
            })?,
            "InvalidUUIDError",
        ),
        (changed(&bags, metrics, "scrape_jobs", |it| it[0]["job"] = "x".into())?, "keys that are dropped"),
        (changed(&bags, metrics, "scrape_jobs", |it| *it = json!([]))?, "nothing to scrape"),
        (
            changed(&bags, metrics, "alert_rules", |it| it["groups"][0]["name"] = "own".into())?,
            "changes groups",
        ),
        (
            changed(&bags, metrics, "alert_rules", |it| {
                it["groups"][0]["rules"][0]["expression"] = "up".into();
            })?,
            "should have",
        ),
        (
            changed(&bags, grafana, "dashboards", |it| {
                it["templates"][file]["content"] = "bm8gZGFzaGJvYXJk".into();
            })?,
            "LZMAError",
        ),
        (
            changed(&bags, grafana, "dashboards", |it| {
                it["templates"][file]["juju_topology"]["model_uuid"] = "x".into();
            })?,
            "InvalidUUIDError",
        ),
        (changed(&bags, links, "dashboard_links", |it| it[0]["seventh"] = 7.into())?, "should have"),
        (changed(&bags, links, "dashboard_links", |it| it[0]["location"] = "top".into())?, "no location"),
        (
            changed(&bags, mesh, "policies", |it| it[0]["endpoints"][0]["methods"] = json!(["GET"]))?,
            "the mesh makes nothing",
        ),
        (changed(&bags, mesh, "policies", |it| it[0]["target_service"] = "a".into())?, "ValidationError"),
        (changed(&bags, mesh, "policies", |it| it[0]["targets"] = json!([]))?, "should have"),
    ];
    for (bags, expected) in faults {
        let said = problems(&python, &bags)?;
        assert!(!said.is_empty() && said.contains(expected), "{expected:?}: {said:?}");
    }
    Ok(())
}
