//! The charm without Juju: each scenario is a text file, run with Juju's own hook tools, the real Pebble and a real
//! control plane. `TRAINERD_CHARM=all` runs every one, `TRAINERD_CHARM=NAME` those whose name contains it; without it, a
//! selection is run. `TRAINERD_CHARM_SEEDS=1-20` selects scenarios with random kills. `TRAINERD_CHARM_FILE` names a packed
//! charm (from `cargo xtask charm`), whose program is then tested in place of this build's.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;
use trainerd_integration::TestCluster;
use trainerd_integration::charm::{
    HookRun, Programs, Unit, namespace, packed_program, random_kills, run, run_text, workspace,
};

/// The scenarios without `TRAINERD_CHARM`.
const SELECTION: [&str; 8] = [
    "01-install-empty",
    "02-ready-first-leader",
    "04-no-socket-start",
    "09-config-image-override",
    "17-non-leader",
    "20-no-trust",
    "40-remove-last-keep",
    "48-databags",
];

fn scenarios() -> Result<Vec<PathBuf>, Box<dyn Error>> {
    let folder = workspace().join("integration/scenarios/charm");
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        // Their objects lie beside them.
        paths.extend(Some(entry?.path()).filter(|path| path.extension().is_some_and(|kind| kind == "txt")));
    }
    paths.sort();
    Ok(paths)
}

#[test]
fn every_scenario_passes() -> Result<(), Box<dyn Error>> {
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
            "" => SELECTION.iter().any(|prefix| name.starts_with(prefix)),
            part => name.contains(part),
        };
        if !is_chosen {
            continue;
        }
        let outcome = run(&mut cluster, &programs, &path)?;
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

/// The seeds without `TRAINERD_CHARM_SEEDS=FIRST-LAST`.
const SEEDS: [u64; 1] = [3];

fn seeds() -> Result<Vec<u64>, Box<dyn Error>> {
    let Some(asked) = std::env::var_os("TRAINERD_CHARM_SEEDS") else { return Ok(SEEDS.to_vec()) };
    let asked = asked.into_string().map_err(|_| "TRAINERD_CHARM_SEEDS is no text")?;
    let (first, last) = asked.split_once('-').unwrap_or((&asked, &asked));
    Ok((first.parse()?..=last.parse()?).collect())
}

#[test]
fn after_a_kill_the_next_hook_converges_and_nothing_is_left_over() -> Result<(), Box<dyn Error>> {
    let mut cluster = TestCluster::take()?;
    if !cluster.is_local() {
        println!("skipped: the daemon's port is the unit's own only in the local cluster's network");
        return Ok(());
    }
    let programs = Programs::find()?;
    let mut failed = Vec::new();
    for seed in seeds()? {
        let outcome = run_text(&mut cluster, &programs, &format!("seed {seed}"), &random_kills(seed))?;
        println!("{} in {:.1?}", outcome.name, outcome.took);
        if let Some(failure) = outcome.failure {
            println!("{}\n    FAILED {failure}", outcome.transcript.join("\n"));
            failed.push(seed);
        }
    }
    assert!(failed.is_empty(), "TRAINERD_CHARM_SEEDS=N runs one of {failed:?}");
    Ok(())
}

/// How often a hook is run to measure its cost.
const TIMES: usize = 20;

/// Medians of the cost of a hook.
struct Cost {
    tools: u128,
    wall_us: u128,
    cpu_us: u128,
    memory_kib: u128,
}

impl Cost {
    fn of(fired: &[HookRun]) -> Self {
        let median = |cost: &dyn Fn(&HookRun) -> u128| {
            let mut costs: Vec<u128> = fired.iter().map(cost).collect();
            costs.sort_unstable();
            costs[costs.len() / 2]
        };
        Self {
            tools: median(&|fired| fired.calls.len() as u128),
            wall_us: median(&|fired| fired.took.as_micros()),
            cpu_us: median(&|fired| fired.cpu.as_micros()),
            memory_kib: median(&|fired| fired.peak_kib.into()),
        }
    }

    fn print(&self, what: &str) {
        let Self { tools, wall_us, cpu_us, memory_kib } = self;
        println!(
            "{what}, median of {TIMES}: {tools} tools, {wall_us} us wall, {cpu_us} us CPU, {memory_kib} KiB"
        );
    }
}

/// Number of requests by verb and kind.
fn by_kind(requests: &[String]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for request in requests {
        let (verb, uri) = request.split_once(' ').unwrap_or((request, ""));
        let path: Vec<&str> = uri.split('?').next().unwrap_or_default().split('/').collect();
        let namespaced = path.iter().position(|part| *part == "namespaces").filter(|at| path.len() > at + 2);
        let in_none = if path.get(1) == Some(&"api") { 3 } else { 4 };
        let kind = namespaced.map_or(in_none, |at| at + 2);
        *counts.entry(format!("{verb} {}", path.get(kind).unwrap_or(&uri))).or_default() += 1;
    }
    counts
}

#[test]
fn a_hook_without_change_stays_within_its_limits() -> Result<(), Box<dyn Error>> {
    let mut cluster = TestCluster::take()?;
    if !cluster.is_local() {
        println!("skipped: the daemon's port is the unit's own only in the local cluster's network");
        return Ok(());
    }
    let programs = Programs::find()?;
    cluster.restore_empty()?;
    namespace(&cluster)?;
    let mut unit = Unit::new(&cluster, &programs, "kubeflow-trainer")?;
    unit.start_container()?;
    let started = std::time::Instant::now();
    unit.run_hook("hooks/trainerd-pebble-ready", &[])?;
    let active = |unit: &mut Unit<'_>| -> Result<(), Box<dyn Error>> {
        Ok(cluster.wait_until("the unit to be active", Duration::from_mins(2), || {
            unit.run_hook("hooks/update-status", &[])?;
            Ok(unit.world.status("unit-status") == ("active".to_owned(), String::new()))
        })?)
    };
    active(&mut unit)?;
    println!("from the first hook to active: {:.1?}", started.elapsed());
    let audit = cluster.audit().ok_or("an audit log")?;
    let mark = audit.mark()?;
    let times = |unit: &mut Unit<'_>, hook: &str| -> Result<Vec<HookRun>, trainerd_integration::Error> {
        (0..TIMES).map(|_| unit.run_hook(hook, &[])).collect()
    };
    let fired = times(&mut unit, "hooks/update-status")?;
    let requests = audit.requests_since(mark, "trainerd/")?;
    let cost = Cost::of(&fired);
    cost.print("update-status without change");
    println!("{} requests of the daemon in all", requests.len());
    assert!(fired.iter().all(|fired| fired.code == Some(0) && fired.calls.len() <= 4));
    assert!(fired.iter().flat_map(|fired| &fired.calls).all(|call| call["tool"] != "juju-log"));
    assert!(audit.requests_since(mark, "trainerd/0.1.0 (charm")?.is_empty(), "dispatch asks only the daemon");
    assert!(requests.len() <= 3 * TIMES, "{requests:#?}");
    assert!(audit.writes_since(mark, "trainerd/")?.is_empty());

    unit.world.content["leader"] = serde_json::json!([false]);
    unit.run_hook("hooks/leader-settings-changed", &[])?;
    let standby = Cost::of(&times(&mut unit, "hooks/config-changed")?);
    standby.print("config-changed of a unit that does not lead");

    unit.world.content["leader"] = serde_json::json!([true]);
    unit.run_hook("hooks/leader-elected", &[])?;
    active(&mut unit)?;
    unit.world.content["units"]["kubeflow-trainer/0"] = "dying".into();
    let mark = audit.mark()?;
    let removed = unit.run_hook("hooks/remove", &[])?;
    let requests = audit.requests_since(mark, "trainerd/")?;
    let deletes = requests.iter().filter(|request| request.starts_with("delete")).count();
    println!(
        "remove of the last unit: {} requests, {deletes} of them deletes, {:.1?}",
        requests.len(),
        removed.took
    );
    for (asked, times) in by_kind(&requests) {
        println!("    {times:3} {asked}");
    }
    assert!(removed.code == Some(0) && deletes > 0, "{removed:?}");

    // Limits for the released program: a debug build is neither small nor fast.
    if let Some(packed) = std::env::var_os("TRAINERD_CHARM_FILE") {
        let size = std::fs::metadata(&packed)?.len();
        println!("the packed charm: {size} bytes");
        assert!(cost.cpu_us <= 20_000 && cost.wall_us <= 150_000 && cost.memory_kib <= 24 * 1024);
        assert!(standby.cpu_us <= 20_000 && size <= 15 << 20);
    }
    Ok(())
}

#[test]
fn juju_reads_the_packed_charm_and_packing_is_reproducible() -> Result<(), Box<dyn Error>> {
    let cluster = TestCluster::take()?;
    let programs = Programs::find()?;
    let folder = tempfile::tempdir()?;
    let packed = packed_program(folder.path())?;
    let program = if let Some((_, program)) = &packed {
        program.clone()
    } else {
        // Without debug information, which takes longest to pack.
        let program = folder.path().join("trainerd");
        let mut strip = std::process::Command::new("strip");
        assert!(strip.arg("-o").arg(&program).arg(cluster.trainerd().path()).status()?.success());
        program
    };
    let mut packs = Vec::new();
    for (place, more) in [("one", None), ("two", None), ("bare", Some("--no-container"))] {
        let target = folder.path().join(place);
        let mut command = std::process::Command::new(&program);
        let output = command.args(["charm", "pack", "--output-dir"]).arg(&target).args(more).output()?;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        packs.push(PathBuf::from(String::from_utf8(output.stdout)?.trim()));
    }
    let one = std::fs::read(&packs[0])?;
    assert!(one == std::fs::read(&packs[1])?, "two packs differ");
    if let Some((charm, _)) = &packed {
        assert!(one == std::fs::read(charm)?, "the charm's own program packs another charm");
    }
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
