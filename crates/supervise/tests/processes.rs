//! Real processes: started, restarted, checked and stopped, and none left behind.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops where it is surprised")]

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use trainerd_supervise::{
    After, Cause, Check, Guard, Launch, OnFailure, Policy, Report, Service, ServiceState, Supervisor,
};

/// For whatever takes a moment on a busy machine.
const BOUND: Duration = Duration::from_secs(20);

/// Times short enough for a test.
fn quick() -> Policy {
    Policy {
        start_delay: Duration::from_millis(200),
        backoff_delay: Duration::from_millis(50),
        kill_delay: Duration::from_millis(400),
        kill_bound: Duration::from_secs(2),
        ..Policy::default()
    }
}

fn shell(name: &str, script: &str, checks: Vec<Check>) -> Service {
    let launch = Launch {
        program: PathBuf::from("sh"),
        name: name.to_owned(),
        arguments: vec!["-c".into(), script.into()],
        variables: Vec::new(),
        checks,
    };
    Service {
        name: name.to_owned(),
        policy: quick(),
        after: Vec::new(),
        prepare: Arc::new(move || Ok(launch.clone())),
    }
}

async fn wait(supervisor: &mut Supervisor, what: &str, holds: impl Fn(&Report) -> bool) -> Report {
    let waited = tokio::time::timeout(BOUND, async {
        loop {
            if let Some(report) = supervisor.reports().into_iter().find(&holds) {
                return report;
            }
            supervisor.changed().await;
        }
    });
    let Ok(report) = waited.await else { panic!("not {what}: {:#?}", supervisor.reports()) };
    report
}

fn pid(number: u32) -> Pid {
    Pid::from_raw(i32::try_from(number).unwrap()).unwrap()
}

fn lives(number: u32) -> bool {
    // One that has ended and was not waited for yet still has its number.
    let stat = std::fs::read_to_string(format!("/proc/{number}/stat")).unwrap_or_default();
    test_kill_process(pid(number)).is_ok() && !stat.contains(") Z ")
}

fn wait_until_gone(number: u32) {
    let end = Instant::now() + BOUND;
    while lives(number) {
        assert!(Instant::now() < end, "process {number} is left");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[tokio::test]
async fn a_killed_service_is_restarted_and_a_stopped_one_is_not() {
    let service = shell("a", "echo here; exec sleep 1000", Vec::new());
    let mut supervisor = Supervisor::new(&[service], None).unwrap();
    supervisor.want("a", true, 0);
    let first = wait(&mut supervisor, "running", |it| it.ready).await;
    assert_eq!((first.state, first.restarts), (ServiceState::Running, 0));
    kill_process(pid(first.pid.unwrap()), Signal::KILL).unwrap();
    let down = wait(&mut supervisor, "in backoff", |it| it.state == ServiceState::Backoff).await;
    assert!(down.next_try.is_some() && down.pid.is_none(), "{down:?}");
    let failure = down.failure.unwrap();
    assert_eq!(failure.cause, Cause::Ended { how: "it was ended by signal 9".to_owned() });
    assert_eq!(failure.log, ["here"]);
    let second = wait(&mut supervisor, "running again", |it| it.ready).await;
    assert_eq!((second.restarts, second.next_try), (1, None));
    assert_ne!(second.pid, first.pid);
    let stopped = supervisor.stop().await;
    assert!(stopped.iter().all(|it| it.is_gone), "{stopped:?}");
    wait_until_gone(second.pid.unwrap());
}

#[tokio::test]
async fn a_failed_start_has_its_last_log_lines() {
    let script = "for n in $(seq 1 30); do echo line $n >&2; done; exit 3";
    let mut supervisor = Supervisor::new(&[shell("a", script, Vec::new())], None).unwrap();
    supervisor.want("a", true, 0);
    let report = wait(&mut supervisor, "failed", |it| it.failure.is_some()).await;
    let failure = report.failure.unwrap();
    assert_eq!(failure.message, "it exited with code 3 within a second of its start");
    assert_eq!((failure.log.len(), failure.log[0].as_str()), (20, "line 11"));
    wait(&mut supervisor, "tried again", |it| it.restarts >= 2).await;
    let absent = Service {
        prepare: Arc::new(|| {
            Ok(Launch {
                program: PathBuf::from("no-such-program"),
                name: "x".to_owned(),
                arguments: Vec::new(),
                variables: Vec::new(),
                checks: Vec::new(),
            })
        }),
        ..shell("b", "", Vec::new())
    };
    let mut supervisor = Supervisor::new(&[absent], None).unwrap();
    supervisor.want("b", true, 0);
    let report = wait(&mut supervisor, "failed", |it| it.failure.is_some()).await;
    let again = wait(&mut supervisor, "tried again", |it| it.restarts >= 2).await;
    assert!(again.next_try > report.next_try && again.since > report.since, "{report:?} {again:?}");
    let message = report.failure.unwrap().message;
    assert!(message.contains("failed to find the program no-such-program"), "{message}");
}

#[tokio::test]
async fn a_service_that_ignores_sigterm_is_killed_with_its_group() {
    // What it starts itself is in its group.
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pid");
    let script =
        format!("trap '' TERM; sleep 1000 & echo $! > {}; while :; do sleep 1000; done", file.display());
    let mut supervisor = Supervisor::new(&[shell("a", &script, Vec::new())], None).unwrap();
    supervisor.want("a", true, 0);
    let report = wait(&mut supervisor, "running", |it| it.ready).await;
    let began = Instant::now();
    supervisor.want("a", false, 0);
    wait(&mut supervisor, "being killed", |it| {
        it.state == ServiceState::Killing || it.state == ServiceState::Stopped
    })
    .await;
    wait(&mut supervisor, "stopped", |it| it.state == ServiceState::Stopped).await;
    let took = began.elapsed();
    assert!(took >= quick().kill_delay && took < quick().kill_delay + quick().kill_bound, "{took:?}");
    wait_until_gone(report.pid.unwrap());
    wait_until_gone(std::fs::read_to_string(file).unwrap().trim().parse().unwrap());
}

/// Answers every connection as `status` says, while it says anything.
async fn answering(status: tokio::sync::watch::Receiver<Option<u16>>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let status = *status.borrow();
            tokio::spawn(async move {
                match status {
                    Some(status) => {
                        let answer = format!(
                            "HTTP/1.1 {status} X\r\nContent-Length: 4\r\nConnection: close\r\n\r\nsaid"
                        );
                        let _ = stream.write_all(answer.as_bytes()).await;
                        let mut rest = [0; 1024];
                        let _ = tokio::io::AsyncReadExt::read(&mut stream, &mut rest).await;
                    }
                    None => tokio::time::sleep(BOUND).await,
                }
            });
        }
    });
    address
}

#[tokio::test]
async fn a_hanging_service_fails_its_check_and_is_restarted() {
    let (say, said) = tokio::sync::watch::channel(Some(200));
    let check = Check {
        period: Duration::from_millis(150),
        timeout: Duration::from_millis(100),
        on_failure: OnFailure::Restart,
        ..Check::new("alive", answering(said).await, "/healthz")
    };
    let mut supervisor = Supervisor::new(&[shell("a", "exec sleep 1000", vec![check])], None).unwrap();
    supervisor.want("a", true, 0);
    let first = wait(&mut supervisor, "ready", |it| it.ready).await;
    say.send_replace(None);
    let down = wait(&mut supervisor, "failed", |it| it.failure.is_some()).await;
    let Cause::CheckFailed { check, failures, why } = down.failure.unwrap().cause else { panic!("no check") };
    assert_eq!((check.as_str(), failures, why.as_str()), ("alive", 3, "no response within 0.1 s"));
    say.send_replace(Some(503));
    let starting = wait(&mut supervisor, "waiting", |it| {
        it.restarts == 1 && it.waiting.as_ref().is_some_and(|waiting| waiting.contains("503"))
    });
    let waiting = starting.await.waiting;
    assert_eq!(waiting.as_deref(), Some("check alive: answered 503: said"));
    say.send_replace(Some(200));
    let again = wait(&mut supervisor, "ready again", |it| it.ready).await;
    assert_ne!(again.pid, first.pid);
}

#[tokio::test]
async fn a_service_starts_once_the_check_of_its_dependency_is_up() {
    let (say, said) = tokio::sync::watch::channel(Some(503));
    let check = Check::new("alive", answering(said).await, "/");
    let after = |check: Option<&str>| After {
        service: "first".to_owned(),
        check: check.map(str::to_owned),
        required: true,
    };
    let second =
        Service { after: vec![after(Some("alive"))], ..shell("second", "exec sleep 1000", Vec::new()) };
    let services = [second, shell("first", "exec sleep 1000", vec![check])];
    let mut supervisor = Supervisor::new(&services, None).unwrap();
    supervisor.want("second", true, 0);
    supervisor.want("first", true, 0);
    wait(&mut supervisor, "first running", |it| it.name == "first" && it.state == ServiceState::Running)
        .await;
    let waits = wait(&mut supervisor, "waiting", |it| it.name == "second" && it.waiting.is_some()).await;
    assert_eq!(
        (waits.state, waits.waiting.as_deref()),
        (ServiceState::Initial, Some("check alive of first"))
    );
    say.send_replace(Some(200));
    wait(&mut supervisor, "second ready", |it| it.name == "second" && it.ready).await;
    let stopped: Vec<String> = supervisor.stop().await.into_iter().map(|it| it.name).collect();
    assert_eq!(stopped, ["second", "first"]);
}

#[tokio::test]
async fn a_new_generation_replaces_the_process_and_drop_ends_it() {
    let mut supervisor = Supervisor::new(&[shell("a", "exec sleep 1000", Vec::new())], None).unwrap();
    supervisor.want("a", true, 0);
    let first = wait(&mut supervisor, "ready", |it| it.ready).await;
    supervisor.want("a", true, 1);
    let second = wait(&mut supervisor, "anew", |it| it.ready && it.pid != first.pid).await;
    assert_eq!((second.restarts, second.failure), (0, None));
    drop(supervisor);
    tokio::task::yield_now().await;
    let pid = second.pid.unwrap();
    tokio::task::spawn_blocking(move || wait_until_gone(pid)).await.unwrap();
}

/// Not a test by itself: the supervisor that the next one kills. It is run by its name, as what a guard makes of this
/// program is.
#[test]
fn helper() {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    if let Some(at) = arguments.iter().position(|word| word == "hosted-process") {
        let error = Guard::enter(&arguments[at..]).unwrap_err();
        panic!("{error}");
    }
    let Some(file) = std::env::var_os("SUPERVISED_PID_FILE") else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        // The test harness takes words after `--` as filters; they are ignored beside an exact name.
        let guard = Guard::of_this_program().with_arguments(["--exact", "helper", "--nocapture", "--"]);
        let service = shell("a", "exec sleep 1000", Vec::new());
        let mut supervisor = Supervisor::new(&[service], Some(&guard)).unwrap();
        supervisor.want("a", true, 0);
        let report = wait(&mut supervisor, "ready", |it| it.ready).await;
        let partial = Path::new(&file).with_extension("partial");
        std::fs::write(&partial, report.pid.unwrap().to_string()).unwrap();
        std::fs::rename(partial, &file).unwrap();
        std::future::pending::<()>().await;
    });
}

#[test]
fn no_process_outlives_a_killed_supervisor() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pid");
    let mut supervisor = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "helper", "--nocapture"])
        .env("SUPERVISED_PID_FILE", &file)
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let end = Instant::now() + BOUND;
    let pid: u32 = loop {
        assert!(Instant::now() < end, "the supervisor did not start anything");
        match std::fs::read_to_string(&file) {
            Ok(text) => break text.parse().unwrap(),
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    };
    assert!(lives(pid));
    supervisor.kill().unwrap();
    supervisor.wait().unwrap();
    wait_until_gone(pid);
}
