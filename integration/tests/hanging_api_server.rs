//! An API server that takes requests and does not answer: whoever asks for something, or for the end, need not wait.

use std::error::Error;
use std::time::{Duration, Instant};

use http::Method;
use rustix::process::{Pid, Signal, kill_process};
use trainerd_integration::TestCluster;
use trainerd_integration::product::wait;
use trainerd_integration::proxy::{Fault, Rule, When};
use trainerd_integration::stack::QUICK;

/// As long as somebody waits who asked for something.
const PATIENCE: Duration = Duration::from_secs(2);
const BOUND: Duration = Duration::from_mins(1);
/// Longer than any test.
const NEVER: Fault = Fault::Delay(Duration::from_hours(1));

fn all() -> Rule {
    Rule { when: When::Each { of: 1, times: None }, fault: NEVER }
}

fn writes_of_deployments() -> Rule {
    let when = When::Matching { method: Method::PATCH, path: "/deployments/".to_owned(), times: None };
    Rule { when, fault: NEVER }
}

#[test]
fn the_daemon_stops_while_the_api_server_hangs() -> Result<(), Box<dyn Error>> {
    let cluster = TestCluster::take()?;
    cluster.install("2.2.1", &["--set", "progress-deadline=600"])?;
    let options = cluster.folder().join("options.yaml");
    let declare = |more: &str| {
        let text = format!(
            "trainer-version: 2.2.1\nsmall-footprint: true\nsettle: 0\nprogress-deadline: 600\n{more}"
        );
        std::fs::write(&options, text)
    };
    declare("")?;
    let file = options.to_string_lossy().into_owned();
    let proxy = cluster.proxy();
    for everything in [false, true] {
        cluster.block_on(proxy.begin(Vec::new()));
        let mut daemon = cluster.daemon_as(&cluster.proxied(), "hung", &["--config", &file])?;
        daemon.wait_until_settled(BOUND)?;
        proxy.add(writes_of_deployments());
        declare(if everything { "image-pull-secrets: other\n" } else { "image-pull-secrets: somebody\n" })?;
        let asked = |cluster: &TestCluster| {
            cluster.proxy().log().iter().any(|entry| entry.path.contains("/deployments/"))
        };
        cluster.wait_until("the plan to hang", BOUND, || Ok(asked(&cluster)))?;
        if everything {
            proxy.add(all());
        }
        // The note is written beside the plan that hangs; where nothing is answered that is said, and soon.
        let before = Instant::now();
        let answer = daemon.api("POST", "/v1/actions/pause", None)?;
        let took = before.elapsed();
        assert_eq!(answer.code, if everything { 503 } else { 200 }, "{}", answer.body);
        assert!(took < PATIENCE, "a pause took {took:?}");
        let before = Instant::now();
        daemon.signal(Signal::TERM)?;
        let code = daemon.end()?;
        let took = before.elapsed();
        assert!(
            code == Some(0) && took < PATIENCE,
            "it ended with {code:?} after {took:?}\n{}",
            daemon.log()
        );
        proxy.clear_faults();
        if !everything {
            cluster.run(&["resume"])?.expect_code(0)?;
        }
    }
    // What hung is found again, by whoever may change something.
    cluster.run(&["pause"])?.expect_code(0)?;
    cluster.install("2.2.1", &[])?;
    Ok(())
}

#[test]
fn a_command_ends_while_the_api_server_hangs() -> Result<(), Box<dyn Error>> {
    let cluster = TestCluster::take()?;
    let proxy = cluster.proxy();
    let up = ["up", "--yes", "--set", "trainer-version=2.2.1"];
    for rule in [writes_of_deployments(), all()] {
        cluster.block_on(proxy.begin(vec![rule.clone()]));
        let started = Instant::now();
        let (command, child) = cluster.spawn(&cluster.proxied(), &[&up[..], &QUICK].concat())?;
        let asked = |path: &str| cluster.proxy().log().iter().any(|entry| entry.path.contains(path));
        let path = if rule == all() { "/" } else { "/deployments/" };
        cluster.wait_until("the command to hang", BOUND, || Ok(asked(path)))?;
        std::thread::sleep(Duration::from_millis(300));
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or("a process id")?;
        let before = Instant::now();
        kill_process(pid, Signal::TERM)?;
        let run = wait(command, child, started)?;
        let took = before.elapsed();
        let run = run.expect_code(130)?;
        assert!(took < PATIENCE, "it took {took:?}: {}", run.stderr);
        assert!(run.stderr.contains("run the same command again"), "{}", run.stderr);
    }
    proxy.clear_faults();
    cluster.run(&[&up[..], &QUICK, &["--timeout", "3m"]].concat())?.expect_code(0)?;
    Ok(())
}
