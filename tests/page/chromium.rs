//! A headless Chromium, driven by its DevTools protocol over a pipe: no port that others could reach, no crate.

use std::env;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::{Instant, sleep, timeout};

/// The browser to use, where it is not found by its name.
const BROWSER: &str = "TRAINERD_CHROMIUM";
/// Set to 1 where there has to be one: the tests fail without.
const REQUIRED: &str = "TRAINERD_CHROMIUM_REQUIRED";
const NAMES: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

/// Longest time that anything on the page may take: two tests at once on a small machine are slow.
const PATIENCE: Duration = Duration::from_secs(20);

/// Makes the clock of the page stand at the moment that the fixtures were written for, and lets a test move it.
/// Every text on the page follows from `Date.now()`.
const CLOCK: &str = r#"{
    const real = Date.now.bind(Date);
    const shift = Date.parse("2026-05-12T14:05:00Z") - real();
    let moved = 0;
    Date.now = () => real() + shift + moved;
    globalThis.advance = (seconds) => { moved += seconds * 1000; };
}"#;

/// A browser with one page.
pub(crate) struct Chromium {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    session: String,
    calls: u64,
    /// What the page complained of.
    complaints: Vec<String>,
    _profile: TempDir,
}

/// A browser; `None`, and a word about it, where there is none and none is required.
pub(crate) async fn start() -> Option<Chromium> {
    if let Some(path) = find() {
        return Some(Chromium::launch(&path).await);
    }
    let required = env::var(REQUIRED).is_ok_and(|value| value == "1");
    assert!(!required, "{REQUIRED}=1, but there is no Chromium: install one, or name it with {BROWSER}");
    println!("skipped: no Chromium; install one, or name it with {BROWSER}");
    None
}

fn find() -> Option<PathBuf> {
    if let Some(path) = env::var_os(BROWSER) {
        return Some(path.into());
    }
    let folders: Vec<PathBuf> = env::split_paths(&env::var_os("PATH")?).collect();
    let candidates = NAMES.iter().flat_map(|name| folders.iter().map(move |folder| folder.join(name)));
    candidates.into_iter().find(|path| path.is_file())
}

impl Chromium {
    async fn launch(path: &Path) -> Self {
        let profile = tempfile::tempdir().unwrap();
        // The browser reads commands from descriptor 3 and answers on 4; the shell makes them of 0 and 1.
        let mut command = Command::new("sh");
        command.args(["-c", r#"exec "$@" 3<&0 4>&1 0</dev/null 1>/dev/null"#, "sh"]).arg(path);
        command.args([
            "--headless=new",
            "--remote-debugging-pipe",
            "--no-first-run",
            "--no-proxy-server",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-extensions",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-lcd-text",
            "--hide-scrollbars",
            "--force-color-profile=srgb",
        ]);
        if std::fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0) {
            // Its sandbox refuses root. The page is our own, and comes from this machine.
            command.arg("--no-sandbox");
        }
        command.arg(format!("--user-data-dir={}", profile.path().display()));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let (input, output) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let (session, complaints) = (String::new(), Vec::new());
        let mut chromium = Self { child, input, output, session, calls: 0, complaints, _profile: profile };
        chromium.attach().await;
        chromium
    }

    async fn attach(&mut self) {
        let target = self.call("Target.createTarget", json!({"url": "about:blank"})).await;
        let target = json!({"targetId": target["targetId"], "flatten": true});
        let session = self.call("Target.attachToTarget", target).await;
        session["sessionId"].as_str().unwrap().clone_into(&mut self.session);
        for domain in ["Page", "Runtime", "Log"] {
            self.call(&format!("{domain}.enable"), json!({})).await;
        }
        self.call("Page.addScriptToEvaluateOnNewDocument", json!({"source": CLOCK})).await;
        self.call("Emulation.setTimezoneOverride", json!({"timezoneId": "UTC"})).await;
        self.viewport(1200, 900, 1).await;
        self.colours("light").await;
    }

    /// Sends a command that must succeed and waits for its answer.
    pub(crate) async fn call(&mut self, method: &str, params: Value) -> Value {
        let answer = self.ask(method, params).await;
        assert!(answer["error"].is_null(), "{method}: {}", answer["error"]);
        answer["result"].clone()
    }

    /// Sends a command and waits for its answer, whichever it is.
    async fn ask(&mut self, method: &str, params: Value) -> Value {
        self.calls += 1;
        let id = self.calls;
        let mut message = json!({"id": id, "method": method, "params": params});
        if !self.session.is_empty() {
            message["sessionId"] = self.session.as_str().into();
        }
        let mut message = message.to_string().into_bytes();
        message.push(0);
        self.input.write_all(&message).await.unwrap();
        loop {
            let answer = self.read(method).await;
            if answer["id"] == id {
                return answer;
            }
            self.complaints.extend(complaint(&answer));
        }
    }

    async fn read(&mut self, method: &str) -> Value {
        let mut message = Vec::new();
        let read = timeout(PATIENCE, self.output.read_until(0, &mut message)).await;
        read.unwrap_or_else(|_| panic!("no answer to {method}")).unwrap();
        assert_eq!(message.pop(), Some(0), "Chromium ended");
        serde_json::from_slice(&message).unwrap()
    }

    /// Opens an address. Where only its fragment changes, no page is loaded.
    pub(crate) async fn open(&mut self, url: &str) {
        self.call("Page.navigate", json!({"url": url})).await;
    }

    /// What an expression is worth.
    pub(crate) async fn value(&mut self, expression: &str) -> Value {
        let params = json!({"expression": expression, "returnByValue": true, "awaitPromise": true});
        let mut answer = self.ask("Runtime.evaluate", params.clone()).await;
        // The page reloads itself: its successor is asked.
        while answer["error"]["message"] == "Inspected target navigated or closed" {
            answer = self.ask("Runtime.evaluate", params.clone()).await;
        }
        assert!(answer["error"].is_null(), "{expression}: {}", answer["error"]);
        let answer = &answer["result"];
        assert!(answer["exceptionDetails"].is_null(), "{expression}: {}", answer["exceptionDetails"]);
        answer["result"]["value"].clone()
    }

    /// What a person reads in the first element that a selector finds; spaces and breaks are one space.
    pub(crate) async fn text(&mut self, selector: &str) -> String {
        let expression = format!(
            "(() => {{ const node = document.querySelector({});
                return node?.checkVisibility() ? node.innerText : ''; }})()",
            json!(selector)
        );
        let text = self.value(&expression).await;
        text.as_str().unwrap().split_whitespace().collect::<Vec<_>>().join(" ")
    }

    /// Waits until a person reads this there.
    pub(crate) async fn reads(&mut self, selector: &str, expected: &str) {
        let end = Instant::now() + PATIENCE;
        loop {
            let text = self.text(selector).await;
            if text.contains(expected) {
                return;
            }
            assert!(Instant::now() < end, "{selector} does not say {expected:?} but:\n{text}");
            sleep(Duration::from_millis(30)).await;
        }
    }

    /// Moves the clock of the page on, and lets the page see it.
    pub(crate) async fn advance(&mut self, seconds: u64) {
        self.value(&format!("advance({seconds})")).await;
    }

    /// Size of the window, in CSS pixels, and how many pixels each is.
    pub(crate) async fn viewport(&mut self, width: u32, height: u32, scale: u32) {
        let metrics =
            json!({"width": width, "height": height, "deviceScaleFactor": scale, "mobile": width < 600});
        self.call("Emulation.setDeviceMetricsOverride", metrics).await;
    }

    /// What the person prefers: `light` or `dark`; and nothing that moves.
    pub(crate) async fn colours(&mut self, scheme: &str) {
        let features = json!([
            {"name": "prefers-color-scheme", "value": scheme},
            {"name": "prefers-reduced-motion", "value": "reduce"},
        ]);
        self.call("Emulation.setEmulatedMedia", json!({"features": features})).await;
    }

    /// What the page complained of since the last time: errors, and what the browser forbade it.
    pub(crate) async fn complaints(&mut self) -> Vec<String> {
        // Whatever happened before this was told before its answer.
        self.value("0").await;
        std::mem::take(&mut self.complaints)
    }

    /// Ends the browser, so that nobody writes into its profile any more when that goes.
    pub(crate) async fn close(mut self) {
        self.session.clear();
        self.call("Browser.close", json!({})).await;
        // One that does not end by itself is killed when this is dropped.
        let _ = timeout(PATIENCE, self.child.wait()).await;
    }
}

/// The complaint that an event is, if it is one.
fn complaint(event: &Value) -> Option<String> {
    let params = &event["params"];
    match event["method"].as_str()? {
        "Runtime.exceptionThrown" => Some(params["exceptionDetails"].to_string()),
        "Runtime.consoleAPICalled"
            if matches!(params["type"].as_str(), Some("error" | "warning" | "assert")) =>
        {
            Some(params["args"].to_string())
        }
        "Log.entryAdded" if matches!(params["entry"]["level"].as_str(), Some("error" | "warning")) => {
            Some(params["entry"].to_string())
        }
        "Page.javascriptDialogOpening" => Some(format!("a dialog: {}", params["message"])),
        _ => None,
    }
}
