//! The charm without Juju: each scenario is a text file, played with Juju's own hook tools, the real Pebble and a real
//! control plane. `TRAINERD_CHARM=all` plays every one, else a spread; `TRAINERD_CHARM=NAME` those whose name has it.

use std::error::Error;
use std::path::PathBuf;

use serde_json::Value;
use trainerd_integration::TestCluster;
use trainerd_integration::charm::{Programs, play, workspace};

/// Those that a run of all tests plays.
const SPREAD: [&str; 8] = [
    "01-install-empty",
    "02-ready-first-leader",
    "04-no-socket-start",
    "09-config-image-override",
    "10-config-invalid",
    "17-non-leader",
    "38-remove-non-leader",
    "48-databags",
];

fn scenarios() -> Result<Vec<PathBuf>, Box<dyn Error>> {
    let folder = workspace().join("integration/scenarios/charm");
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        paths.push(entry?.path());
    }
    paths.sort();
    Ok(paths)
}

#[test]
fn every_scenario_holds() -> Result<(), Box<dyn Error>> {
    let mut cluster = TestCluster::take()?;
    if !cluster.is_local() {
        println!("skipped: the daemon's port is the unit's own only in the local cluster's network");
        return Ok(());
    }
    let programs = Programs::find()?;
    let chosen = std::env::var("TRAINERD_CHARM").unwrap_or_default();
    let (mut passed, mut failed) = (0, Vec::new());
    for path in scenarios()? {
        let name = path.file_stem().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let is_chosen = match chosen.as_str() {
            "all" => true,
            "" => SPREAD.iter().any(|spread| name.starts_with(spread)),
            part => name.contains(part),
        };
        if !is_chosen {
            continue;
        }
        let outcome = play(&mut cluster, &programs, &path)?;
        println!("{} in {:.1?}", outcome.name, outcome.took);
        for line in &outcome.transcript {
            println!("    {line}");
        }
        match outcome.failure {
            None => passed += 1,
            Some(failure) => {
                println!("    FAILED {failure}");
                failed.push(outcome.name);
            }
        }
    }
    println!("{passed} scenarios passed, {} failed", failed.len());
    assert!(failed.is_empty() && passed > 0, "{failed:?}");
    Ok(())
}

#[test]
fn juju_reads_the_packed_charm_and_two_packs_are_equal() -> Result<(), Box<dyn Error>> {
    let cluster = TestCluster::take()?;
    let programs = Programs::find()?;
    let folder = tempfile::tempdir()?;
    let mut packs = Vec::new();
    for (place, more) in [("one", None), ("two", None), ("bare", Some("--no-container"))] {
        let target = folder.path().join(place);
        let mut command = std::process::Command::new(cluster.trainerd().path());
        let output = command.args(["charm", "pack", "--output-dir"]).arg(&target).args(more).output()?;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        packs.push(PathBuf::from(String::from_utf8(output.stdout)?.trim()));
    }
    assert_eq!(std::fs::read(&packs[0])?, std::fs::read(&packs[1])?);
    let read = |path: &PathBuf| -> Result<Value, Box<dyn Error>> {
        let output = std::process::Command::new(&programs.read_charm).arg(path).output()?;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(serde_json::from_slice(&output.stdout)?)
    };
    let (whole, bare) = (read(&packs[0])?, read(&packs[2])?);
    assert_eq!((&whole["name"], &whole["format"]), (&"kubeflow-trainer".into(), &2.into()));
    assert_eq!(whole["containers"], serde_json::json!(["trainerd"]));
    assert_eq!(bare["containers"], Value::Null);
    let config = std::fs::read_to_string(workspace().join("config.yaml"))?;
    let config: Value = serde_yaml::from_str(&config)?;
    let options: Vec<&String> =
        config["options"].as_object().into_iter().flatten().map(|(name, _)| name).collect();
    assert_eq!(whole["options"], serde_json::json!(options));
    Ok(())
}
