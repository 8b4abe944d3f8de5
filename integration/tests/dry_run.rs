//! `--dry-run`: every verb that changes something shows what it would do, and writes nothing.

use std::error::Error;

use serde_json::Value;
use trainerd_integration::TestCluster;
use trainerd_integration::cluster::AuditLog;
use trainerd_integration::stack::QUICK;

#[test]
fn a_dry_run_writes_nothing() -> Result<(), Box<dyn Error>> {
    let cluster = TestCluster::take()?;
    cluster.install("2.2.1", &[])?;
    cluster.install("2.2.1", &["--set", "runtimes=torch-distributed"])?;
    let record = || cluster.run(&["history", "-o", "json"])?.expect_code(0)?.json::<Value>();
    let before = record()?;
    let mark = cluster.audit().map(AuditLog::mark).transpose()?;
    for (line, shown) in [
        (
            &["upgrade", "--to", "trainer=2.3.0"][..],
            "trainer-version: 2.2.1 → 2.3.0 (given on the command line)",
        ),
        (&["rollback"], "runtimes: torch-distributed → "),
        (&["remove"], "delete Deployment kubeflow-system/jobset-controller-manager"),
        (&["remove", "--purge", "--delete-jobs"], "delete CustomResourceDefinition jobsets.jobset.x-k8s.io"),
        (&["bootstrap"], "create Deployment kubeflow-system/trainerd"),
        (&[&["up"][..], &QUICK].concat(), "trainer-version: 2.2.1 → auto (default; it is no longer set)"),
    ] {
        let run = cluster.run(&[line, &["--dry-run"]].concat())?.expect_code(0)?;
        assert!(run.stdout.contains(shown), "{line:?}: {}\n{}", run.stdout, run.stderr);
    }
    assert_eq!(record()?, before);
    if let (Some(audit), Some(mark)) = (cluster.audit(), mark) {
        let writes = audit.writes_since(mark, "trainerd/")?;
        assert!(writes.is_empty(), "{writes:?}");
    }
    Ok(())
}
