//! One of trainerd's own Secrets is lost: nothing of the stack changes that nobody asked for, every verb says what is so,
//! and the command that is named heals it.

use std::error::Error;
use std::time::Duration;

use serde_json::{Value, json};
use trainerd_integration::TestCluster;
use trainerd_integration::managed::{BOUND, JOBSET, Managed, text};
use trainerd_integration::stack::{self, NAMESPACE, RECORD};

type Result<T = (), E = Box<dyn Error>> = std::result::Result<T, E>;

/// The Secrets of the installation whose names begin so.
fn own(cluster: &TestCluster, beginning: &str) -> Result<Vec<String>> {
    let secrets = cluster.list(&stack::secret(), Some(stack::INSTALLATION))?;
    let names = secrets.iter().filter_map(|secret| secret["metadata"]["name"].as_str());
    Ok(names.filter(|name| name.starts_with(beginning)).map(str::to_owned).collect())
}

/// What tells whether anything of the stack was changed: every Deployment, CRD and runtime, as it is wanted.
fn stack_now(cluster: &TestCluster) -> Result<Vec<Value>> {
    let mut specs = Vec::new();
    for kind in [stack::deployment(), stack::crd(), stack::runtime(), stack::config_map()] {
        for object in cluster.list(&kind, Some(stack::INSTALLATION))? {
            let metadata = &object["metadata"];
            specs.push(json!([metadata["name"], metadata["uid"], object["spec"], object["data"]]));
        }
    }
    Ok(specs)
}

/// Every verb that looks ends well, and says this.
fn every_look_says(cluster: &TestCluster, part: &str) -> Result {
    for arguments in [&["status"][..], &["history"], &["doctor"], &["list"]] {
        let run = cluster.run(arguments)?.expect_code(0)?;
        let said = run.stdout + &run.stderr;
        if arguments[0] == "status" || arguments[0] == "doctor" {
            assert!(said.contains(part), "{arguments:?} does not say {part:?}: {said}");
        }
    }
    Ok(())
}

fn is_whole(cluster: &TestCluster) -> Result {
    let status: Value = cluster.run(&["status", "-o", "json"])?.expect_code(0)?.json()?;
    assert_eq!((&status["ready"], status.get("damage")), (&json!(true), None), "{status:#}");
    Ok(())
}

#[test]
fn a_lost_record_is_reconstructed_from_revisions_and_cluster() -> Result {
    let cluster = TestCluster::take()?;
    cluster.install("2.2.1", &[])?;
    let upgrade = ["upgrade", "--set", "settle=1", "--yes", "--timeout", "3m"];
    cluster.run(&upgrade)?.expect_code(0)?;
    // Nobody names a version from now on.
    let auto = ["up", "--yes", "--timeout", "3m", "--set", "small-footprint=true", "--set", "settle=1"];
    let before = stack_now(&cluster)?;
    let revisions = own(&cluster, &format!("{RECORD}-r"))?;
    cluster.delete(&stack::secret(), NAMESPACE, RECORD)?;
    every_look_says(&cluster, "`trainerd repair`")?;
    let status: Value = cluster.run(&["status", "-o", "json"])?.expect_code(0)?.json()?;
    let wanted = json!({"lost": "record", "revision": 2, "exact": true});
    assert_eq!((&status["revision"], &status["damage"]), (&json!(2), &wanted), "{status:#}");
    cluster.run(&["repair", "--yes", "--timeout", "3m"])?.expect_code(0)?;
    is_whole(&cluster)?;
    assert_eq!(own(&cluster, &format!("{RECORD}-r"))?, revisions, "no revision is overwritten");
    assert_eq!(stack_now(&cluster)?, before);

    // `auto` means what runs, with the record and without any trace of it.
    cluster.delete(&stack::secret(), NAMESPACE, RECORD)?;
    cluster.run(&auto)?.expect_code(0)?;
    is_whole(&cluster)?;
    let status: Value = cluster.run(&["status", "-o", "json"])?.expect_code(0)?.json()?;
    assert_eq!(status["components"]["trainer"]["version"], "2.2.1", "{status:#}");
    for name in own(&cluster, RECORD)? {
        cluster.delete(&stack::secret(), NAMESPACE, &name)?;
    }
    let status = cluster.run(&["status"])?.expect_code(1)?;
    assert!(status.stderr.contains("of an earlier installation are left"), "{}", status.stderr);
    cluster.run(&auto)?.expect_code(0)?;
    let status: Value = cluster.run(&["status", "-o", "json"])?.expect_code(0)?.json()?;
    assert_eq!(status["components"]["trainer"]["version"], "2.2.1", "{status:#}");
    Ok(())
}

#[test]
fn an_ambiguous_record_blocks_the_daemon() -> Result {
    let mut kept = Managed::new()?;
    // Another value than the file says, so that the cluster is at no revision exactly.
    kept.cluster.run(&["pause"])?.expect_code(0)?;
    kept.daemon.wait_for("paused", BOUND, |view| view["phase"] == "paused")?;
    kept.scale(3)?;
    kept.cluster.delete(&stack::secret(), NAMESPACE, RECORD)?;
    kept.cluster.run(&["resume"])?.expect_code(0)?;
    let view =
        kept.daemon.wait_for("standing still", BOUND, |view| view["reason"]["code"] == "record-lost")?;
    assert!(view["reason"]["hint"].as_str().is_some_and(|hint| hint.contains("trainerd repair")), "{view:#}");
    std::thread::sleep(Duration::from_secs(5));
    assert_eq!(kept.replicas()?, 3, "changed without anybody's word");
    assert!(kept.cluster.record()?.is_none());
    kept.cluster.run(&["repair", "--yes", "--timeout", "3m"])?.expect_code(0)?;
    kept.daemon.wait_until_settled(BOUND)?;
    assert_eq!(kept.replicas()?, 1);

    // Where it is known, the daemon writes it again and continues; with `auto`, too.
    std::fs::write(&kept.file, text("").replace("trainer-version: \"2.2.1\"\n", ""))?;
    kept.daemon.wait_for("settled with auto", BOUND, |view| {
        view["settled"] == true && view["outlook"]["revision"] == 2
    })?;
    let before = stack_now(&kept.cluster)?;
    kept.cluster.delete(&stack::secret(), NAMESPACE, RECORD)?;
    kept.cluster.wait_until("the record", BOUND, || Ok(kept.cluster.record()?.is_some()))?;
    let view = kept.daemon.wait_until_settled(BOUND)?;
    assert_eq!(view["outlook"]["components"]["trainer"]["version"], "2.2.1", "{view:#}");
    assert_eq!(stack_now(&kept.cluster)?, before);
    Ok(())
}

#[test]
fn lost_revisions_and_chunks_are_reconstructed() -> Result {
    let cluster = TestCluster::take()?;
    cluster.install("2.2.1", &[])?;
    cluster.run(&["upgrade", "--set", "settle=1", "--yes", "--timeout", "3m"])?.expect_code(0)?;
    let before = stack_now(&cluster)?;
    let revision = format!("{RECORD}-r2");
    cluster.delete(&stack::secret(), NAMESPACE, &revision)?;
    every_look_says(&cluster, "`trainerd repair`")?;
    cluster.run(&["repair", "--yes"])?.expect_code(0)?;
    assert_eq!(own(&cluster, &revision)?, std::slice::from_ref(&revision));
    is_whole(&cluster)?;

    // Any plan writes it again, and goes where it is told to.
    cluster.delete(&stack::secret(), NAMESPACE, &revision)?;
    cluster.run(&["rollback", "--yes", "--timeout", "3m"])?.expect_code(0)?;
    assert_eq!(stack_now(&cluster)?, before);

    let chunks = || own(&cluster, &format!("{RECORD}-c-"));
    let there = chunks()?;
    for name in &there {
        cluster.delete(&stack::secret(), NAMESPACE, name)?;
    }
    every_look_says(&cluster, "`trainerd repair`")?;
    cluster.run(&["repair", "--yes", "--timeout", "3m"])?.expect_code(0)?;
    assert_eq!(chunks()?, there);
    is_whole(&cluster)?;
    for name in &there {
        cluster.delete(&stack::secret(), NAMESPACE, name)?;
    }
    let same = ["up", "--yes", "--timeout", "3m", "--set", "trainer-version=2.2.1"];
    cluster.run(&[&same[..], &stack::QUICK].concat())?.expect_code(0)?;
    assert_eq!(chunks()?, there);
    cluster.run(&["upgrade", "--set", "settle=2", "--yes", "--timeout", "3m"])?.expect_code(0)?;
    is_whole(&cluster)?;
    assert_eq!(stack_now(&cluster)?, before);
    Ok(())
}

#[test]
fn the_daemon_resumes_when_a_lost_revision_is_back() -> Result {
    let cluster = TestCluster::take()?;
    cluster.install("2.2.1", &[])?;
    let mut chunks = Vec::new();
    for name in own(&cluster, &format!("{RECORD}-c-"))? {
        let mut secret = cluster.get(&stack::secret(), NAMESPACE, &name)?.ok_or("no chunk")?;
        for field in ["uid", "resourceVersion", "creationTimestamp", "managedFields"] {
            secret["metadata"].as_object_mut().ok_or("no metadata")?.remove(field);
        }
        chunks.push(secret);
    }
    for chunk in &chunks {
        let name = chunk["metadata"]["name"].as_str().unwrap_or_default();
        cluster.delete(&stack::secret(), NAMESPACE, name)?;
    }
    // It has no options to render them from: it waits for the Secrets.
    let mut daemon = cluster.daemon("daemon", &[])?;
    let view = daemon
        .wait_for("without its revision", BOUND, |view| view["reason"]["code"] == "revision-unreadable")?;
    assert!(view["reason"]["hint"].as_str().is_some_and(|hint| hint.contains("trainerd repair")), "{view:#}");
    for chunk in &chunks {
        cluster.create(&stack::secret(), chunk)?;
    }
    daemon.wait_until_settled(BOUND)?;
    drop(daemon);

    // With options it writes them again.
    let file = cluster.folder().join("options.yaml");
    trainerd_integration::managed::write(&file, "")?;
    for chunk in &chunks {
        let name = chunk["metadata"]["name"].as_str().unwrap_or_default();
        cluster.delete(&stack::secret(), NAMESPACE, name)?;
    }
    let mut daemon = cluster.daemon("with-options", &["--config", file.to_str().unwrap_or_default()])?;
    daemon.wait_until_settled(BOUND)?;
    is_whole(&cluster)?;
    assert!(cluster.get(&stack::deployment(), NAMESPACE, JOBSET)?.is_some());
    Ok(())
}
