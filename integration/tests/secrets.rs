//! What Secrets hold is told nowhere, however closely somebody looks.

use std::error::Error;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use trainerd_cluster::{ApplyParams, CreateParams};
use trainerd_integration::TestCluster;
use trainerd_integration::managed::{BOUND, write};
use trainerd_integration::stack::{self, NAMESPACE};

type Result<T = (), E = Box<dyn Error>> = std::result::Result<T, E>;

/// Where certificates are kept; the stack has a Secret of that name.
const SECRET: &str = "jobset-webhook-server-cert";
/// A label of ours.
const LABEL: &str = "trainerd.dev/component";
/// What is shorter may be a word of ours by chance.
const TELLING: usize = 12;

/// Everything that Secrets of the cluster hold, as it is stored and as it is meant.
fn held(cluster: &TestCluster) -> Result<Vec<(String, String)>> {
    let mut held = Vec::new();
    for secret in cluster.list(&stack::secret(), None)? {
        for (key, value) in secret["data"].as_object().into_iter().flatten() {
            let stored = value.as_str().unwrap_or_default().to_owned();
            let meant = STANDARD.decode(&stored).ok().and_then(|bytes| String::from_utf8(bytes).ok());
            let place = format!("{} {key}", secret["metadata"]["name"]);
            let texts = [Some(stored), meant].into_iter().flatten();
            held.extend(texts.filter(|text| text.len() >= TELLING).map(|text| (place.clone(), text)));
        }
    }
    Ok(held)
}

#[test]
fn secret_values_are_never_shown() -> Result {
    let cluster = TestCluster::take()?;
    let file = cluster.folder().join("options.yaml");
    write(&file, "")?;
    let arguments = ["-vv", "--config", file.to_str().unwrap_or_default()];
    let mut daemon = cluster.daemon("daemon", &arguments)?;
    daemon.wait_until_settled(BOUND)?;

    // Somebody puts something in, and changes what is ours on the way; then one who means to keep it.
    let put = |value: &str| json!({"theirs": STANDARD.encode(value)});
    let (kind, api) = (stack::secret(), cluster.api());
    let values = ["drifting-correct-horse", "applied-battery-staple"];
    let labels = json!({(LABEL): "theirs"});
    let patch = json!({"metadata": {"labels": labels}, "data": put(values[0])});
    let params = CreateParams::default();
    cluster.block_on(api.patch_merge(&kind, Some(NAMESPACE), SECRET, &patch, params))?;
    let label = || -> Result<Value, trainerd_integration::Error> {
        let found = cluster.get(&stack::secret(), NAMESPACE, SECRET)?.unwrap_or_default();
        Ok(found["metadata"]["labels"][LABEL].clone())
    };
    cluster.wait_until("the label", BOUND, || Ok(label()? == "jobset"))?;
    let object = json!({"apiVersion": "v1", "kind": "Secret", "data": put(values[1]),
                        "metadata": {"name": SECRET, "namespace": NAMESPACE, "labels": labels}});
    let params = ApplyParams { force: true, ..ApplyParams::default() };
    cluster.block_on(api.apply(&kind, &object, &params))?;
    let left = |view: &Value| view["outlook"]["drift"][0]["state"] == "left";
    daemon.wait_for("left to its manager", BOUND, left)?;

    let mut told = vec![("the page", daemon.api("GET", "/", None)?.body)];
    told.push(("the view", daemon.read("/v1/installation")?.to_string()));
    told.push(("the metrics", daemon.probe("/metrics")?.body));
    for arguments in [
        &["status", "-vv", "-o", "json"][..],
        &["status", "-vv", "--socket", "/nowhere"],
        &["diff", "-vv"],
        &["plan", "-vv", "--set", "conflicts=force", "-o", "json"],
        &["plan", "-vv", "--set", "conflicts=force"],
        &["plan", "-vv"],
        &["export"],
        &["history", "-o", "yaml"],
        &["doctor", "-vv"],
    ] {
        let run = cluster.run(arguments)?;
        told.push((arguments[0], run.stdout + &run.stderr));
    }
    // The options let it be taken, the plan of which is told as it runs.
    write(&file, "conflicts: force\n")?;
    daemon.wait_for("as it should be", BOUND, |view| {
        view["settled"] == true && view["outlook"]["drift"] == json!([]) && !left(view)
    })?;
    cluster.wait_until("the label again", BOUND, || Ok(label()? == "jobset"))?;
    told.push(("the view, later", daemon.read("/v1/installation")?.to_string()));
    told.push(("the Events", json!(cluster.list(&stack::event(), None)?).to_string()));
    told.push(("the log", daemon.log()));

    let mut held = held(&cluster)?;
    assert!(held.iter().any(|(place, _)| place.contains(SECRET)), "nothing is in it");
    for value in values {
        held.extend([value.to_owned(), STANDARD.encode(value)].map(|text| (SECRET.to_owned(), text)));
    }
    for (what, text) in &told {
        assert!(!text.is_empty(), "{what} says nothing");
        for (place, value) in &held {
            assert!(!text.contains(value.as_str()), "{what} tells what {place} holds");
        }
    }
    // What was looked at was about this Secret.
    for what in ["the view", "plan", "the log"] {
        let about = told.iter().any(|(name, text)| *name == what && text.contains(SECRET));
        assert!(about, "{what} says nothing about {SECRET}");
    }
    Ok(())
}
