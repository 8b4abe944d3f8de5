//! An API server that is busy, slow or gone for a moment is waited for; every write reaches it once.

use std::collections::BTreeMap;
use std::error::Error;
use std::time::Duration;

use http::Method;
use trainerd_integration::TestCluster;
use trainerd_integration::proxy::{Entry, Fault, Rule, When};
use trainerd_integration::stack::QUICK;

fn arguments() -> Vec<&'static str> {
    [&["up", "--yes", "--timeout", "3m", "--set", "trainer-version=2.2.1"][..], &QUICK].concat()
}

fn first(method: Method, path: &str, times: usize, fault: Fault) -> Rule {
    Rule { when: When::Matching { method, path: path.to_owned(), times: Some(times) }, fault }
}

#[test]
fn requests_to_a_failing_api_server_are_retried() -> Result<(), Box<dyn Error>> {
    let mut cluster = TestCluster::take()?;
    if !cluster.is_local() {
        println!("skipped: a fresh start for each fault needs the local cluster");
        return Ok(());
    }
    let troubles = [
        (
            "busy",
            vec![
                first(Method::PATCH, "/deployments/", 2, Fault::Answer(429)),
                first(Method::POST, "/secrets", 1, Fault::Answer(503)),
            ],
        ),
        (
            "broken",
            vec![
                first(Method::PATCH, "/customresourcedefinitions/", 2, Fault::Answer(500)),
                first(Method::PATCH, "/services/", 2, Fault::Reset),
            ],
        ),
        (
            "slow",
            vec![
                first(Method::GET, "/", 2, Fault::Delay(Duration::from_secs(2))),
                first(Method::PATCH, "/roles/", 1, Fault::Delay(Duration::from_secs(3))),
            ],
        ),
        (
            "blind",
            vec![
                first(Method::GET, "/endpointslices", 2, Fault::Reset),
                first(Method::GET, "/deployments", 2, Fault::Answer(503)),
            ],
        ),
    ];
    for (name, rules) in troubles {
        cluster.restore_empty()?;
        let (run, log) = cluster.run_proxied(&arguments(), rules)?;
        let run = run.expect_code(0).map_err(|error| format!("{name}: {error}"))?;
        let twice: Vec<_> =
            written(&log).into_iter().filter(|(path, count)| *count > 1 && path.contains("/apis/")).collect();
        let twice: Vec<_> = twice.iter().filter(|(path, _)| !path.contains("/leases/")).collect();
        assert!(twice.is_empty(), "{name}: {twice:?} were written more than once");
        println!("{name}: {:?}, {} requests", run.took, log.len());
    }
    Ok(())
}

/// How often each object was written.
fn written(log: &[Entry]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for entry in log.iter().filter(|entry| entry.wrote()) {
        *counts.entry(entry.object.clone()).or_insert(0) += 1;
    }
    counts
}
