//! One option changes: one object changes, the API server is led to its new pods, and nothing else is written.

use std::collections::BTreeSet;
use std::error::Error;

use http::Method;
use serde_json::Value;
use trainerd_integration::TestCluster;
use trainerd_integration::proxy::{Fault, Rule, When};
use trainerd_integration::stack::{self, JOBSET_WEBHOOKS, NAMESPACE, QUICK};

const JOBSET: &str = "jobset-controller-manager";

#[test]
fn a_new_image_changes_one_deployment() -> Result<(), Box<dyn Error>> {
    let cluster = TestCluster::take()?;
    cluster.install("2.2.1", &[])?;
    // Of the same version, from another registry: with the stand-in any image runs.
    let image = "registry.example/jobset/jobset:v0.11.1";
    let option = format!("jobset-image={image}");
    let options = [&["--set", "trainer-version=2.2.1", "--set", &option][..], &QUICK].concat();

    let plan = cluster.run(&[&["plan", "-o", "json"][..], &options].concat())?.expect_code(2)?;
    let plan: Value = plan.json()?;
    let steps = plan["plan"]["steps"].as_array().cloned().unwrap_or_default();
    let changing: Vec<&Value> = steps.iter().filter(|step| step["verb"] != "Keep").collect();
    let names: Vec<&Value> = changing.iter().map(|step| &step["object"]["name"]).collect();
    assert_eq!(names, [JOBSET, JOBSET_WEBHOOKS[0], JOBSET_WEBHOOKS[1]], "{changing:#?}");
    assert!(
        changing[0]["changes"].to_string().contains(image),
        "the plan says what changes: {}",
        changing[0]
    );
    assert!(changing[0]["why"].as_str().is_some_and(|why| !why.is_empty()), "and why: {}", changing[0]);

    if !cluster.is_local() {
        println!("skipped the rest: there is no such image for a real node");
        return Ok(());
    }
    let mark = cluster.audit().map(trainerd_integration::cluster::AuditLog::mark).transpose()?;
    let up = cluster.run(&[&["up", "--yes", "--timeout", "2m"][..], &options].concat())?.expect_code(0)?;
    let said = |words: &str| up.stderr.contains(words);
    assert!(!said("not answering") && !said("endpoint of Service"), "every webhook answers: {}", up.stderr);
    if let (Some(audit), Some(mark)) = (cluster.audit(), mark) {
        let writes = audit.writes_since(mark, "trainerd/")?;
        let (own, others): (Vec<_>, Vec<_>) = writes.into_iter().partition(|write| {
            (write.path.contains("/leases") || write.path.contains("/secrets"))
                && (write.name.starts_with(stack::RECORD) || write.verb == "create")
        });
        println!("{} writes of trainerd's own state", own.len());
        let mut others: Vec<_> =
            others.iter().map(|write| (write.verb.as_str(), write.name.as_str())).collect();
        others.sort_unstable();
        assert_eq!(others, [("patch", JOBSET), ("patch", JOBSET_WEBHOOKS[0]), ("patch", JOBSET_WEBHOOKS[1])]);
    }
    let deployment = cluster.get(&stack::deployment(), NAMESPACE, JOBSET)?.unwrap_or_default();
    assert_eq!(deployment.pointer("/spec/template/spec/containers/0/image"), Some(&Value::from(image)));
    assert_eq!(deployment["status"]["readyReplicas"], 1);
    let ports = || cluster.webhook_ports(JOBSET_WEBHOOKS);
    assert_eq!(ports()?, BTreeSet::from([9443]));
    let again = cluster.run(&[&["plan"][..], &options].concat())?.expect_code(0)?;
    assert!(again.stdout.contains("0 to change"), "{}", again.stdout);
    cluster.run(&["rollback", "--yes", "--timeout", "2m"])?.expect_code(0)?;
    assert_eq!(ports()?, BTreeSet::from([9444]), "whose connections lead to no pod of before");
    Ok(())
}

#[test]
fn a_plan_killed_before_the_port_switch_finishes_it_on_resume() -> Result<(), Box<dyn Error>> {
    let cluster = TestCluster::take()?;
    if !cluster.is_local() {
        println!("skipped: there is no such image for a real node");
        return Ok(());
    }
    cluster.install("2.2.1", &[])?;
    let up = ["up", "--yes", "--timeout", "2m", "--set", "trainer-version=2.2.1"];
    let image = ["--set", "jobset-image=registry.example/jobset/jobset:v0.11.1"];
    let arguments = [&up[..], &image, &QUICK].concat();
    let at_the_webhooks = Rule {
        when: When::Matching {
            method: Method::PATCH,
            path: "webhookconfigurations/".to_owned(),
            times: Some(1),
        },
        fault: Fault::KillBefore,
    };
    let (killed, log) = cluster.run_proxied(&arguments, vec![at_the_webhooks])?;
    assert!(cluster.proxy().killed(), "{}", killed.stderr);
    let wrote = |part: &str| log.iter().any(|entry| entry.wrote() && entry.object.contains(part));
    assert!(wrote("/deployments/"), "the pods were replaced: {}", killed.stderr);
    assert_eq!(cluster.webhook_ports(JOBSET_WEBHOOKS)?, BTreeSet::from([443]));
    cluster.run(&arguments)?.expect_code(0)?;
    assert_eq!(cluster.webhook_ports(JOBSET_WEBHOOKS)?, BTreeSet::from([9443]));
    Ok(())
}

#[test]
fn objects_that_options_disable_are_pruned() -> Result<(), Box<dyn Error>> {
    let cluster = TestCluster::take()?;
    cluster.install("2.2.1", &[])?;
    cluster.install("2.2.1", &["--set", "runtimes=torch-distributed"])?;
    let runtimes = cluster.list(&stack::runtime(), None)?;
    let names: Vec<_> = runtimes.iter().filter_map(|runtime| runtime["metadata"]["name"].as_str()).collect();
    assert_eq!(names, ["torch-distributed"]);
    Ok(())
}
