//! The status page as a person sees it: served on loopback, read in a headless Chromium.
//!
//! The browser is `chromium`, `chromium-browser` or `google-chrome` of the PATH, or what TRAINERD_CHROMIUM names;
//! where there is none the tests say so and pass, unless TRAINERD_CHROMIUM_REQUIRED=1. The pictures in
//! `docs/screenshots` are made by `TRAINERD_SCREENSHOTS=docs/screenshots cargo test --test page screenshots`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, its helpers included")]

#[path = "../../src/daemon/page.rs"]
mod page;

mod chromium;
mod daemon;
mod picture;

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::chromium::Chromium;
use crate::daemon::Daemon;

/// What reaches beyond the right edge of a window of this width. A phone's `innerWidth` will not do: it grows with what
/// is too wide.
fn too_wide(width: u32) -> String {
    format!(
        "[...document.querySelectorAll('body *')]
            .filter((node) => Math.max(node.getBoundingClientRect().right, node.getBoundingClientRect().left + node.scrollWidth) > {width} + 0.5)
            .map((node) => `${{node.tagName}}.${{node.className}}: ${{node.textContent.slice(0, 60)}}`)
            .concat(document.documentElement.scrollWidth > {width} ? ['the page'] : [])"
    )
}

/// Texts whose contrast with what is behind them is less than WCAG 2.1 AA asks for, 4.5. The mark is left out: it
/// says nothing that the headline does not.
const TOO_PALE: &str = r"(() => {
    const rgb = (colour) => colour.match(/[\d.]+/g).map(Number);
    const light = ([r, g, b]) => {
        const [x, y, z] = [r, g, b].map((v) => v / 255).map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
        return 0.2126 * x + 0.7152 * y + 0.0722 * z;
    };
    const ground = (node) => {
        const colour = rgb(getComputedStyle(node).backgroundColor);
        return colour[3] === 0 ? ground(node.parentElement) : colour;
    };
    const own = (node) => [...node.childNodes].filter((child) => child.nodeType === 3).map((child) => child.data.trim()).join('');
    return [...document.querySelectorAll('body *')]
        .filter((node) => own(node) && node.id !== 'mark' && node.checkVisibility())
        .map((node) => {
            const [one, other] = [light(rgb(getComputedStyle(node).color)), light(ground(node))].sort((a, b) => b - a);
            return [(one + 0.05) / (other + 0.05), own(node)];
        })
        .filter(([contrast]) => contrast < 4.5)
        .map(([contrast, text]) => `${contrast.toFixed(2)}: ${text}`);
})()";

fn fixture(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/page/{name}.json"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// A daemon that shows a view, and a browser that looks at it.
async fn look(view: Value) -> Option<(Daemon, Chromium)> {
    let mut chromium = chromium::start().await?;
    let daemon = Daemon::start(view, None).await;
    chromium.open(&daemon.url("/")).await;
    Some((daemon, chromium))
}

/// Time passes, in steps in which the daemon is heard: the page does not take silence for life. The view's generation
/// tells when it was.
async fn pass(daemon: &Daemon, chromium: &mut Chromium, view: &Value, seconds: u64) {
    for step in (0..seconds).step_by(40) {
        chromium.advance(40.min(seconds - step)).await;
        let mut view = view.clone();
        view["generation"] = json!(format!("second {step}"));
        daemon.show(&view);
        chromium.reads("#about", &format!("second {step}")).await;
    }
}

fn none() -> Vec<String> {
    Vec::new()
}

/// An answer to a plain request: head and body.
async fn request(daemon: &Daemon, path: &str, header: &str) -> (String, String) {
    let mut stream = TcpStream::connect(daemon.address()).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{header}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

#[tokio::test]
async fn the_page_is_small_and_has_a_strict_content_security_policy() {
    let daemon = Daemon::start(json!({}), None).await;
    let mut size = 0;
    for (path, kind) in
        [("/", "text/html"), ("/page/style.css", "text/css"), ("/page/script.js", "text/javascript")]
    {
        let (head, body) = request(&daemon, path, "").await;
        for expected in [
            "HTTP/1.1 200",
            &format!("content-type: {kind}; charset=utf-8"),
            "cache-control: no-cache",
            "x-content-type-options: nosniff",
            "referrer-policy: no-referrer",
            "content-security-policy: default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; \
             img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        ] {
            assert!(head.contains(expected), "{path}: {expected}\n{head}");
        }
        for banned in ["innerHTML", "http:", "https:", "//cdn", "onclick", "eval("] {
            assert!(!body.contains(banned), "{path}: {banned}");
        }
        size += body.len();
        let tag = head.lines().find_map(|line| line.strip_prefix("etag: ")).unwrap().to_owned();
        for (known, status) in [
            (tag.clone(), 304),
            (format!("\"other\", W/{tag}"), 304),
            ("*".to_owned(), 304),
            ("\"other\"".to_owned(), 200),
        ] {
            let (head, body) = request(&daemon, path, &format!("if-none-match: {known}\r\n")).await;
            assert!(head.starts_with(&format!("HTTP/1.1 {status}")), "{path} {known}: {head}");
            assert_eq!(body.is_empty(), status == 304, "{path} {known}");
        }
    }
    assert!(size < 36_000, "the page has {size} bytes");
}

#[tokio::test]
async fn the_headline_shows_state_and_reason_on_every_screen() {
    let Some((daemon, mut chromium)) = look(json!({})).await else { return };
    for (name, headline, also) in [
        ("ready", "Ready at revision 7", vec!["All 58 objects match the options.", "No object is waiting."]),
        (
            "upgrade-running",
            "Upgrading to revision 8: 31 of 53",
            vec!["6 to create, 21 to change, 2 to delete, 24 unchanged"],
        ),
        ("stuck", "Upgrading to revision 8: 38 of 53", vec!["Insufficient cpu"]),
        ("drift", "Ready at revision 7", vec!["Others changed 6 objects"]),
        (
            "paused",
            "Paused by trainerd pause since 12 May at 11:20",
            vec!["trainerd resume", "It is repaired after trainerd resume."],
        ),
        (
            "refused",
            "Refused: Deployment kubeflow-system/lws-controller-manager: .spec.replicas is set to 3 by kubectl; trainerd would set 1",
            vec!["What to do: set option conflicts=force to take the field"],
        ),
        ("absent", "Nothing is installed", vec!["No options are declared."]),
        (
            "disconnected",
            "Disconnected: failed to watch Deployment.apps",
            vec![
                "connection refused",
                "it is retried until it succeeds",
                "Watch of Service interrupted: connection refused",
            ],
        ),
    ] {
        daemon.show(&fixture(name));
        chromium.reads("#headline", headline).await;
        for text in also {
            chromium.reads("body", text).await;
        }
        for (width, scheme) in [(360, "light"), (360, "dark"), (1200, "dark"), (1200, "light")] {
            chromium.viewport(width, 780, 1).await;
            chromium.colours(scheme).await;
            assert_eq!(chromium.value(&too_wide(width)).await, json!([]), "{name} at {width}");
            assert_eq!(chromium.value(TOO_PALE).await, json!([]), "{name} in {scheme}");
        }
        assert_eq!(chromium.complaints().await, none(), "{name}");
    }
    chromium.close().await;
}

#[tokio::test]
async fn every_waiting_object_is_shown_with_its_reason() {
    let Some((daemon, mut chromium)) = look(fixture("stuck")).await else { return };
    for (place, expected) in [
        ("#plan li:nth-child(1)", "Deployment kubeflow-system/jobset-controller-manager"),
        (
            "#plan li:nth-child(1)",
            "Available: 0/1 pod jobset-controller-manager-6d9f8b7c5-x2v7k: no node of 3 fits: Insufficient cpu (2)",
        ),
        ("#plan li:nth-child(2)", "ValidatingWebhookConfiguration jobset-validating-webhook-configuration"),
        (
            "#plan li:nth-child(2)",
            "waiting for an endpoint of Service kubeflow-system/jobset-webhook-service",
        ),
        // What the plan told is not told again.
        ("#waiting li:nth-child(1)", "MutatingWebhookConfiguration jobset-mutating-webhook-configuration"),
        (
            "#waiting li:nth-child(2)",
            "Available: 0/1 pod kubeflow-trainer-controller-manager-5c8d7-qq9zl: CrashLoopBackOff",
        ),
        ("#plan", "began 13 min 4"),
        ("#components tr:nth-child(2)", "jobset 0.11.1 12/15"),
    ] {
        chromium.reads(place, expected).await;
    }
    assert_eq!(chromium.value("document.querySelectorAll('#waiting li').length").await, 2);
    // Since when a plan waits is told; of an object that is not ready it is not known at first.
    chromium.reads("#plan li", "for 13 min").await;
    assert!(!chromium.text("#waiting li").await.contains("for over"));
    pass(&daemon, &mut chromium, &fixture("stuck"), 250).await;
    chromium.reads("#waiting li", "for over 4 min 1").await;
    chromium.reads("#lead", "No step has ended for over 4 min").await;
    assert_eq!(chromium.value("document.body.dataset.tone").await, "care");

    // What begins before the eyes of the page is known to the second, and a step that ends ends the alarm.
    let mut view = fixture("stuck");
    view["plan"]["done"] = json!(39);
    view["plan"]["waiting"][0]["text"] = json!(
        "Deployment kubeflow-system/jobset-controller-manager: Available: 0/1; pod a: ImagePullBackOff"
    );
    view["plan"]["waiting"][1] =
        json!({"object": null, "text": "everything to stay ready for 5 s", "reason": "Settling"});
    daemon.show(&view);
    chromium.reads("#headline", "39 of 53").await;
    pass(&daemon, &mut chromium, &view, 20).await;
    chromium.reads("#plan li:nth-child(1)", "ImagePullBackOff").await;
    chromium.reads("#plan li:nth-child(2)", "The plan as a whole").await;
    assert_eq!(chromium.value("document.body.dataset.tone").await, "busy");

    // Not everything is as it should be, and no plan runs.
    let mut view = fixture("stuck");
    (view["phase"], view["plan"]) = (json!("waiting"), Value::Null);
    daemon.show(&view);
    chromium.reads("#headline", "Not ready: Deployment jobset-controller-manager, Available: 0/1").await;
    chromium.reads("#lead", "54 of 58 objects are ready. 3 other objects also not.").await;
    assert_eq!(chromium.value("document.querySelectorAll('#waiting li').length").await, 4);
    assert_eq!(chromium.complaints().await, none());
    chromium.close().await;
}

#[tokio::test]
async fn drift_is_shown_with_its_manager_and_policy() {
    let Some((daemon, mut chromium)) = look(fixture("drift")).await else { return };
    chromium.reads("#drift", "Changed by kubectl-edit. It is about to be repaired.").await;
    chromium.reads("#drift", ".spec.replicas is 0, should be 1").await;
    chromium.reads("#drift", "It no longer exists. The repair was refused: the server is currently").await;
    chromium.reads("#drift", "…onnection: qps: 500 burst: 1000").await;
    let cpu = ".spec.template.spec.containers[name=manager].resources.limits.cpu";
    chromium
        .reads("#drift", &format!("Changed by kubectl. {cpu} was applied by kubectl and is not overwritten"))
        .await;
    for (state, expected) in [
        (json!({"state": "repairing"}), "It is about to be repaired."),
        (
            json!({"state": "waiting", "why": "trainerd of host a holds the lease"}),
            "trainerd of host a holds the lease.",
        ),
        (json!({"state": "paused"}), "It is repaired after trainerd resume."),
        (
            json!({"state": "left", "why": {"reason": "Reported"}}),
            "It is reported only, as the drift policy says.",
        ),
        (
            json!({"state": "left", "why": {"reason": "Yielded", "path": ".spec.a", "manager": "hpa"}}),
            ".spec.a is left to hpa, as conflicts=yield says.",
        ),
        (
            json!({"state": "left", "why": {"reason": "Refused", "path": ".spec.a", "manager": "kubectl"}}),
            ".spec.a was applied by kubectl and is not overwritten. conflicts=force takes it",
        ),
        (
            json!({"state": "left", "why": {"reason": "Immutable", "path": ".spec.selector"}}),
            ".spec.selector cannot be changed back: the object would have to be created again.",
        ),
        (
            json!({"state": "left", "why": {"reason": "Foreign", "owner": "Helm release x"}}),
            "It was replaced by an object of Helm release x.",
        ),
        (
            json!({"state": "contended", "path": ".spec.a", "manager": "argocd", "seconds": 240}),
            "argocd changes .spec.a back repeatedly. It is not repaired for up to 4 min, and then once more.",
        ),
        (json!({"state": "failed", "error": "denied"}), "The repair was refused: denied. It is retried."),
        (json!({"state": "something-new"}), "Deployment ns/a something-new It no longer exists."),
    ] {
        let mut view = fixture("drift");
        let object = json!({"group": "apps", "kind": "Deployment", "namespace": "ns", "name": "a"});
        let mut drift = json!({"component": "lws", "object": object, "changes": [], "by": []});
        drift.as_object_mut().unwrap().extend(state.as_object().unwrap().clone());
        view["outlook"]["drift"] = json!([drift]);
        daemon.show(&view);
        chromium.reads("#drift", expected).await;
    }
    assert_eq!(chromium.complaints().await, none());
    chromium.close().await;
}

#[tokio::test]
async fn trainjobs_that_do_not_run_are_shown_with_the_reason() {
    let Some((daemon, mut chromium)) = look(fixture("ready")).await else { return };
    chromium.reads("#headline", "Ready at revision 7").await;
    assert_eq!(chromium.value("document.getElementById('training').hidden").await, json!(true));
    daemon.list(fixture("trainjobs"));
    chromium.advance(10).await;
    for (place, expected) in [
        ("#training", "1 failing, 1 waiting, 1 running, 14 complete"),
        (
            "#training li:nth-child(1)",
            "TrainJob research/finetune-llama failing 1 of 2 pods ready, 3 restarts for 3 h",
        ),
        ("#training li:nth-child(1)", "31 %"),
        ("#training li:nth-child(1)", "container node ended: OOMKilled (exit code 137)"),
        ("#training li:nth-child(2)", "no node of 3 fits: Insufficient cpu (3) (and 3 more pods)"),
        ("#training li:nth-child(2)", "0 of 4 pods ready for 2 h"),
        (
            "#training li:nth-child(3)",
            "TrainJob research/xgboost-daily running 2 of 2 pods ready 74 %, 12 min 34 s left",
        ),
    ] {
        chromium.reads(place, expected).await;
    }
    let bars = "[...document.querySelectorAll('#training li')].map((job) => job.querySelector('progress')?.value ?? null)";
    assert_eq!(chromium.value(bars).await, json!([31, null, 74]), "who reports nothing has no bar");
    for width in [360, 1200] {
        chromium.viewport(width, 780, 1).await;
        assert_eq!(chromium.value(&too_wide(width)).await, json!([]), "at {width}");
        assert_eq!(chromium.value(TOO_PALE).await, json!([]), "at {width}");
    }
    daemon.list(json!({"reason": "Unavailable", "message": "failed to list TrainJobs: forbidden"}));
    chromium.advance(10).await;
    chromium.reads("#training", "failed to list TrainJobs: forbidden").await;
    chromium.close().await;
}

#[tokio::test]
async fn what_the_daemon_hosts_is_shown_with_why_it_failed() {
    let mut view = fixture("ready");
    let Some((daemon, mut chromium)) = look(view.clone()).await else { return };
    chromium.reads("#headline", "Ready").await;
    assert_eq!(chromium.text("#hosted").await, "", "a section without content is not shown");
    view["hosted"] = json!([{
        "component": "trainer", "name": "reconciler", "wanted": true, "state": "running", "ready": true,
        "since": "2026-05-12T14:00:00Z", "restarts": 0, "checks": [],
    }]);
    daemon.show(&view);
    chromium.reads("#hosted", "reconciler ready 0 restarts").await;
    view["phase"] = json!("degraded");
    view["reason"] = json!({
        "code": "hosted-degraded", "message": "hosted workload reconciler is not ready",
        "causes": ["backoff; it exited with code 1"], "hint": "it is restarted automatically", "object": null,
    });
    let hosted = &mut view["hosted"][0];
    (hosted["ready"], hosted["state"], hosted["restarts"]) = (json!(false), json!("backoff"), json!(3));
    hosted["nextTry"] = json!("2026-05-12T14:00:09Z");
    hosted["failure"] = json!({
        "at": "2026-05-12T14:00:05Z", "message": "it exited with code 1", "log": ["<b>no such port</b>"],
    });
    daemon.show(&view);
    chromium.reads("#headline", "Degraded: hosted workload reconciler is not ready").await;
    chromium.reads("#hosted", "backoff 3 restarts").await;
    chromium.reads("#hosted", "Restarts in").await;
    chromium.reads("#hosted", "It exited with code 1").await;
    chromium.reads("#hosted", "<b>no such port</b>").await;
    assert_eq!(chromium.value(TOO_PALE).await, json!([]));
    assert_eq!(chromium.complaints().await, none());
    chromium.close().await;
}

#[tokio::test]
async fn a_plan_is_followed_as_it_runs() {
    let Some((daemon, mut chromium)) = look(fixture("upgrade-running")).await else { return };
    chromium.reads("#headline", "Upgrading to revision 8: 31 of 53").await;
    chromium
        .reads("#lead", "Waiting for trainjobs.trainer.kubeflow.org to be established, and 1 other.")
        .await;
    assert_eq!(chromium.value("document.querySelector('#plan progress').value").await, 31);
    assert_eq!(chromium.text("#said").await, "Upgrading to revision 8", "figures are not read aloud");
    let object = json!({"group": "", "kind": "Service", "namespace": "ns", "name": "s"});
    let event = |mut event: Value| {
        event["object"] = object.clone();
        event
    };
    daemon.tell(
        "progress",
        &event(json!({"event": "retrying", "error": "too many requests", "afterMs": 60_000})),
    );
    chromium.reads("#plan", "Service ns/s: too many requests").await;
    daemon.tell(
        "progress",
        &event(json!({"event": "done", "verb": "apply", "millis": 5, "done": 32, "total": 53})),
    );
    let mut view = fixture("upgrade-running");
    view["plan"]["done"] = json!(32);
    view["plan"]["waiting"] = json!([]);
    daemon.show(&view);
    chromium.reads("#headline", "32 of 53").await;
    assert!(!chromium.text("#plan").await.contains("Service"));

    chromium.reads("#lead", "6 to create, 21 to change, 2 to delete, 24 unchanged.").await;

    daemon.tell(
        "progress",
        &event(json!({"event": "retrying", "error": "too many requests", "afterMs": 60_000})),
    );
    chromium.reads("#plan", "Service ns/s: too many requests").await;
    daemon.tell("lagged", &json!({"missed": 3}));
    view["plan"]["done"] = json!(33);
    daemon.show(&view);
    chromium.reads("#headline", "33 of 53").await;
    assert!(!chromium.text("#plan").await.contains("Service"), "it may have been done meanwhile");

    view["plan"]["revision"] = json!(7);
    view["plan"]["back"] = json!({"to": 7, "reason": "the quota is used up"});
    daemon.show(&view);
    chromium.reads("#headline", "Going back to revision 7: 33 of 53").await;
    chromium.reads("#lead", "the quota is used up").await;

    view["phase"] = json!("failed");
    view["reason"] = json!({
        "code": "rolled-back", "message": "the upgrade to revision 8 failed and was rolled back to revision 7",
        "causes": ["the quota is used up"], "hint": "correct the cause, then try again", "object": null,
    });
    view["plan"]["ended"] = json!("2026-05-12T14:04:13Z");
    view["plan"]["error"] = json!("the quota is used up");
    daemon.show(&view);
    chromium.reads("#headline", "The upgrade to revision 8 failed and was rolled back to revision 7").await;
    chromium.reads("#problem", "the quota is used up What to do: correct the cause, then try again").await;
    chromium.reads("#plan", "failed, 33 of 53 steps in 3 min. 4").await;
    assert_eq!(chromium.complaints().await, none());
    chromium.close().await;
}

#[tokio::test]
async fn a_lost_connection_is_shown_and_restored() {
    let Some((daemon, mut chromium)) = look(fixture("ready")).await else { return };
    chromium.reads("#headline", "Ready at revision 7").await;
    assert_eq!(chromium.text("#link").await, "");
    daemon.down();
    chromium.reads("#link", "Connection lost, last seen").await;
    chromium.advance(90).await;
    chromium.reads("#link", "last seen 1 min 3").await;
    chromium.reads("#place", "Last known of trainerd in kubeflow-system").await;
    let look = "[document.title, document.body.className, document.body.dataset.tone, \
                getComputedStyle(document.querySelector('#all')).filter]";
    let stale = json!(["(not current) Ready at revision 7", "stale", "idle", "grayscale(1)"]);
    assert_eq!(chromium.value(look).await, stale);
    assert_eq!(chromium.value(TOO_PALE).await, json!([]));

    daemon.show(&fixture("drift"));
    daemon.up();
    chromium.reads("#lead", "Others changed 6 objects").await;
    assert_eq!(chromium.text("#link").await, "");
    assert_eq!(chromium.value(look).await, json!(["Ready at revision 7", "", "good", "none"]));
    let complaints = chromium.complaints().await;
    assert!(complaints.iter().all(|complaint| complaint.contains("503")), "{complaints:?}");

    // Nobody ends the stream, but nothing comes either: a phone that slept, a cable that was pulled.
    daemon.show(&fixture("paused"));
    chromium.reads("#headline", "Paused").await;
    chromium.value("globalThis.fetch = () => Promise.reject(new TypeError('gone'))").await;
    chromium.advance(50).await;
    chromium.reads("#link", "Connection lost, last seen 5").await;
    chromium.close().await;
}

#[tokio::test]
async fn the_token_leaves_the_address_and_without_one_the_page_says_what_to_do() {
    let Some(mut chromium) = chromium::start().await else { return };
    let daemon = Daemon::start(fixture("ready"), Some("s3cr3t+/=")).await;
    chromium.open(&daemon.url("/")).await;
    chromium.reads("#headline", "Access denied").await;
    chromium.reads("#lead", "The token is not valid: open the page with trainerd status --web.").await;

    // As `trainerd status --web` opens it, in the tab that is open already.
    chromium.open(&daemon.url("/#token=s3cr3t%2B%2F%3D")).await;
    chromium.reads("#headline", "Ready at revision 7").await;
    assert_eq!(chromium.value("location.href").await, json!(daemon.url("/")));
    assert!(!chromium.value("document.documentElement.outerHTML").await.as_str().unwrap().contains("s3cr3t"));
    let kept =
        "JSON.stringify([Object.values(sessionStorage), Object.values(localStorage), document.cookie])";
    assert_eq!(chromium.value(kept).await, json!(r#"[["s3cr3t+/="],[],""]"#));

    chromium.call("Page.reload", json!({})).await;
    chromium.value("0").await;
    chromium.reads("#headline", "Ready at revision 7").await;
    let complaints = chromium.complaints().await;
    assert!(complaints.iter().all(|complaint| complaint.contains("401")), "{complaints:?}");
    chromium.close().await;
}

#[tokio::test]
async fn names_are_escaped() {
    let evil = "<img src=x onerror=alert(1)>";
    let mut text =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/page/stuck.json")).unwrap();
    for name in
        ["jobset-controller-manager", "jobset-webhook-service", "file /etc/trainerd/options.yaml", "0.11.1"]
    {
        text = text.replace(name, evil);
    }
    let mut view: Value = serde_json::from_str(&text).unwrap();
    view["name"] = json!(evil);
    let change = json!({"path": evil, "from": evil, "to": [evil]});
    let object = json!({"group": evil, "kind": evil, "namespace": evil, "name": evil});
    view["outlook"]["drift"] = json!([{
        "component": evil, "object": object, "changes": [change], "by": [evil], "state": "failed", "error": evil,
    }]);
    view["troubles"] = json!([[evil, evil]]);
    let Some((daemon, mut chromium)) = look(view.clone()).await else { return };
    chromium.reads("#plan", &format!("Deployment kubeflow-system/{evil}")).await;
    chromium.reads("#drift", &format!("{evil} is {evil}, should be [\"{evil}\"]")).await;
    for place in ["#place", "#lead", "#waiting", "#components", "#revisions", "#about"] {
        chromium.reads(place, evil).await;
    }
    view["phase"] = json!("failed");
    view["reason"] = json!({"code": evil, "message": evil, "causes": [evil], "hint": evil, "object": object});
    daemon.show(&view);
    chromium.reads("#headline", &format!("Failed: {evil}")).await;
    assert_eq!(chromium.value("document.querySelectorAll('img').length").await, 0);
    assert_eq!(chromium.complaints().await, none());
    chromium.close().await;
}

#[tokio::test]
async fn missing_and_unknown_fields_are_tolerated() {
    let Some((daemon, mut chromium)) = look(json!({})).await else { return };
    chromium.reads("#headline", "Starting").await;
    daemon.show(&json!({"phase": "resting", "later": {"a": [1]}}));
    chromium.reads("#headline", "Resting").await;
    let bare = json!({"kind": "Service", "name": "s"});
    daemon.show(&json!({
        "phase": "running", "plan": {"done": 1, "total": 2, "waiting": [{"reason": "Later"}]},
        "outlook": {"objects": [{"object": bare, "waiting": "something"}], "drift": [{"object": bare, "state": "left"}],
            "components": {"lws": {}}},
        "revisions": [{"number": 1}],
    }));
    chromium.reads("#headline", "Changing: 1 of 2").await;
    chromium.reads("#plan", "waiting for Later").await;
    chromium.reads("#waiting", "Service s").await;
    daemon.tell("progress", &json!({"event": "later"}));
    daemon.tell("later", &json!({}));
    daemon.show(&fixture("ready"));
    chromium.reads("#headline", "Ready at revision 7").await;
    assert!(!chromium.text("body").await.contains("undefined"));
    assert_eq!(chromium.complaints().await, none());
    chromium.close().await;
}

#[tokio::test]
async fn screenshots() {
    /// Most bytes of a picture: they are kept in the repository.
    const MOST: usize = 150_000;
    let Some((daemon, mut chromium)) = look(fixture("ready")).await else { return };
    let elsewhere = tempfile::tempdir().unwrap();
    let folder = std::env::var_os("TRAINERD_SCREENSHOTS").map_or(elsewhere.path().to_owned(), PathBuf::from);
    std::fs::create_dir_all(&folder).unwrap();
    for (name, view, headline, colours, phone) in [
        ("upgrade-running", "upgrade-running", "31 of 53", "light", false),
        ("stuck", "stuck", "38 of 53", "light", false),
        ("stuck-dark", "stuck", "38 of 53", "dark", false),
        ("drift", "drift", "Ready", "light", false),
        ("ready", "ready", "Ready", "light", false),
        ("training", "ready", "Ready", "light", false),
        ("phone", "stuck", "38 of 53", "light", true),
    ] {
        chromium.colours(colours).await;
        chromium.viewport(if phone { 360 } else { 1200 }, 780, 1).await;
        // Loaded again: what the page remembers of the picture before is none of this one's.
        daemon.show(&fixture(view));
        daemon.list(if name == "training" { fixture("trainjobs") } else { json!({}) });
        chromium.open(&daemon.url("/")).await;
        chromium.reads("#headline", headline).await;
        if name == "training" {
            chromium.reads("#training", "74 %").await;
        }
        if view == "stuck" {
            pass(&daemon, &mut chromium, &fixture(view), 270).await;
            daemon.show(&fixture(view));
            chromium.reads("#lead", "No step has ended for over 4 min").await;
        }
        if phone {
            chromium.viewport(360, 780, 2).await;
        } else {
            let height = chromium.value("document.documentElement.scrollHeight").await.as_u64().unwrap();
            chromium.viewport(1200, u32::try_from(height).unwrap(), 1).await;
        }
        let picture = picture::of(&mut chromium).await;
        std::fs::write(folder.join(format!("{name}.png")), &picture).unwrap();
        assert!(picture.len() < MOST, "{name}: {} bytes", picture.len());
    }
    chromium.close().await;
}
