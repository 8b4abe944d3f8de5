//! Files of the hub, of a web server, of a folder.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use crate::loopback::{COMMIT, Server, TOKEN, command, kill, noise, run, said, wrong};
use bytes::Bytes;

fn files(list: &[(&str, usize)]) -> BTreeMap<String, Bytes> {
    (0..).zip(list).map(|(seed, (path, bytes))| ((*path).to_owned(), noise(seed, *bytes))).collect()
}

fn repository() -> BTreeMap<String, Bytes> {
    files(&[
        ("README.md", 700),
        ("data/a.bin", 3 << 20),
        ("data/b c.json", 10),
        ("empty.txt", 0),
        ("z.bin", 100_000),
    ])
}

fn hub<'a>(endpoint: &'a str, uri: &'a str) -> Vec<(&'a str, &'a str)> {
    vec![("STORAGE_URI", uri), ("HF_ENDPOINT", endpoint), ("ACCESS_TOKEN", TOKEN), ("PART_BYTES", "256Ki")]
}

#[test]
fn a_repository_comes_whole_and_a_second_run_costs_a_listing() {
    let server = Server::start(repository());
    let target = tempfile::tempdir().unwrap();
    let endpoint = server.endpoint();
    let variables = hub(&endpoint, "hf://owner/name/some/folder");
    let output = run("dataset", target.path(), &variables);
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(wrong(target.path(), &repository(), true), Vec::<String>::new());
    let log = said(&output);
    for line in [
        "Starting dataset initialization",
        "Downloading dataset: owner/name",
        "Dataset has been downloaded",
        COMMIT,
    ] {
        assert!(log.contains(line), "{log}");
    }
    assert!(!log.contains(TOKEN), "{log}");
    assert_eq!(
        server.served.tokens.load(std::sync::atomic::Ordering::Relaxed),
        0,
        "the token went to another host"
    );
    // What the hub's own client reads to know that it need not fetch.
    let record =
        std::fs::read_to_string(target.path().join(".cache/huggingface/download/data/a.bin.metadata"))
            .unwrap();
    let lines: Vec<&str> = record.lines().collect();
    assert_eq!((lines[0], lines[1].len(), lines.len()), (COMMIT, 64, 3));
    let progress = String::from_utf8(output.stdout).unwrap();
    let last: serde_json::Value = serde_json::from_str(progress.lines().last().unwrap()).unwrap();
    assert_eq!((&last["phase"], &last["filesDone"]), (&"done".into(), &5.into()));
    assert_eq!(last["bytesDone"], last["bytesTotal"]);

    let before = server.served.sent();
    let again = run("dataset", target.path(), &variables);
    assert!(again.status.success(), "{}", said(&again));
    assert_eq!(server.served.sent(), before, "files were fetched again");
}

#[test]
fn patterns_choose_files() {
    let server = Server::start(repository());
    let target = tempfile::tempdir().unwrap();
    let endpoint = server.endpoint();
    let mut variables = hub(&endpoint, "hf://owner/name");
    variables.push(("IGNORE_PATTERNS", "*.bin, README.md"));
    assert!(run("dataset", target.path(), &variables).status.success());
    assert!(target.path().join("data/b c.json").exists() && !target.path().join("z.bin").exists());
    let mut variables = hub(&endpoint, "hf://owner/name");
    variables.push(("ALLOW_PATTERNS", "nothing-is-called-so"));
    let output = run("dataset", target.path(), &variables);
    assert_eq!(output.status.code(), Some(4), "{}", said(&output));
    assert!(
        said(&output).contains("none of the 5 files of hf://owner/name is wanted by the patterns"),
        "{}",
        said(&output)
    );
}

#[test]
fn failures_have_their_codes() {
    let server = Server::start(repository());
    let target = tempfile::tempdir().unwrap();
    let endpoint = server.endpoint();
    let web = |path: &str| server.web(path);
    let unknown = format!("{}#sha256={}", web("z.bin"), "0".repeat(64));
    let missing = web("missing");
    let cases: [(&str, &str, i32, &str); 7] = [
        ("hf://owner/gated", TOKEN, 3, "is a gated repository"),
        ("hf://owner/name", "hf_other", 4, "does not exist"),
        ("hf://owner/name@v9", TOKEN, 4, "owner/name@v9 does not exist"),
        (&missing, TOKEN, 4, "does not exist"),
        (&unknown, TOKEN, 6, "has the SHA-256"),
        ("x://y", TOKEN, 2, "Unsupported dataset storage URI scheme 'x'"),
        ("file:///no/such/folder", TOKEN, 4, "does not exist"),
    ];
    for (uri, token, code, text) in cases {
        let variables = [("STORAGE_URI", uri), ("HF_ENDPOINT", endpoint.as_str()), ("ACCESS_TOKEN", token)];
        let output = run("dataset", target.path(), &variables);
        assert_eq!(output.status.code(), Some(code), "{uri}: {}", said(&output));
        assert!(said(&output).contains(text), "{uri}: {}", said(&output));
    }
    let none = run("model", target.path(), &[]);
    assert_eq!(none.status.code(), Some(2));
    assert!(said(&none).contains("STORAGE_URI env variable must be set."), "{}", said(&none));
    // Nothing of a file with the wrong digest has its name.
    assert!(!target.path().join("z.bin").exists());
}

#[test]
fn a_line_that_is_slow_cut_off_and_busy_brings_the_same_bytes() {
    let server = Server::start(repository());
    server.served.fault(|faults| {
        faults.latency = Duration::from_millis(20);
        faults.throttle = Some((32 << 10, Duration::from_millis(2)));
        faults.cut = Some(100 << 10);
        faults.busy = Some(5);
    });
    let target = tempfile::tempdir().unwrap();
    let endpoint = server.endpoint();
    let output = run("dataset", target.path(), &hub(&endpoint, "hf://owner/name"));
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(wrong(target.path(), &repository(), true), Vec::<String>::new());
    // What came before a cut is not fetched again; some of it is lost on the way.
    let total: usize = repository().values().map(Bytes::len).sum();
    assert!(server.served.sent() < total as u64 * 5 / 4, "{} of {total}", server.served.sent());
}

#[test]
fn a_server_without_ranges_is_read_whole() {
    let server = Server::start(repository());
    server.served.fault(|faults| {
        faults.whole = true;
        faults.busy = Some(3);
    });
    let target = tempfile::tempdir().unwrap();
    let uri = server.web("data/a.bin");
    let output = run(
        "model",
        target.path(),
        &[("STORAGE_URI", &uri), ("PART_BYTES", "64Ki"), ("IGNORE_PATTERNS", "none")],
    );
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(std::fs::read(target.path().join("a.bin")).unwrap(), repository()["data/a.bin"]);
}

#[test]
fn damaged_bytes_are_fetched_once_more_and_then_refused() {
    let server = Server::start(repository());
    let endpoint = server.endpoint();
    let mut variables = hub(&endpoint, "hf://owner/name");
    variables.push(("ALLOW_PATTERNS", "z.bin"));
    for (times, code) in [(1, 0), (2, 6)] {
        let target = tempfile::tempdir().unwrap();
        server.served.fault(|faults| faults.damaged = times);
        let output = run("dataset", target.path(), &variables);
        assert_eq!(output.status.code(), Some(code), "{}", said(&output));
        assert_eq!(target.path().join("z.bin").exists(), code == 0);
    }
}

#[test]
fn a_file_that_changes_is_an_error_and_never_mixed() {
    let server = Server::start(files(&[("a.bin", 4 << 20)]));
    server.served.fault(|faults| faults.throttle = Some((64 << 10, Duration::from_millis(10))));
    let target = tempfile::tempdir().unwrap();
    let uri = server.web("a.bin");
    let variables = [("STORAGE_URI", uri.as_str()), ("PART_BYTES", "256Ki"), ("MAX_CONCURRENCY", "2")];
    let child = command("dataset", target.path(), &variables).spawn().unwrap();
    while server.served.sent() < 1 << 20 {
        std::thread::sleep(Duration::from_millis(5));
    }
    server.served.files.lock().unwrap().insert("a.bin".to_owned(), noise(9, 4 << 20));
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(6), "{}", said(&output));
    assert!(said(&output).contains("changed while it was read"), "{}", said(&output));
    assert!(!target.path().join("a.bin").exists());
    // The parts of the old content are of no use for the new one.
    let output = run("dataset", target.path(), &variables);
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(std::fs::read(target.path().join("a.bin")).unwrap(), noise(9, 4 << 20));
}

#[test]
fn a_folder_is_copied_and_names_that_lead_out_are_refused() {
    let source = tempfile::tempdir().unwrap();
    let target = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(source.path().join("a/b")).unwrap();
    std::fs::write(source.path().join("a/b/c.txt"), "text").unwrap();
    std::fs::write(source.path().join("empty"), "").unwrap();
    let uri = format!("file://{}", source.path().display());
    let output = run("dataset", target.path(), &[("STORAGE_URI", &uri)]);
    assert!(output.status.success(), "{}", said(&output));
    assert!(said(&output).contains("Files have been downloaded"), "{}", said(&output));
    assert_eq!(std::fs::read_to_string(target.path().join("a/b/c.txt")).unwrap(), "text");
    assert!(target.path().join("empty").exists());
    // A link that somebody left in the target is not followed.
    let outside = tempfile::tempdir().unwrap();
    let target = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(outside.path(), target.path().join("a")).unwrap();
    let output = run("dataset", target.path(), &[("STORAGE_URI", &uri)]);
    assert_eq!(output.status.code(), Some(7), "{}", said(&output));
    assert!(is_empty(outside.path()));
}

fn is_empty(folder: &Path) -> bool {
    std::fs::read_dir(folder).unwrap().next().is_none()
}

#[test]
fn a_full_disk_is_told_before_the_first_byte_or_when_it_comes() {
    let server = Server::start(files(&[("a.bin", 100_000)]));
    // A size that no disk has.
    server.served.fault(|faults| faults.throttle = None);
    let target = tempfile::tempdir().unwrap();
    let huge = target.path().join("source");
    std::fs::create_dir(&huge).unwrap();
    let file = std::fs::File::create(huge.join("huge")).unwrap();
    file.set_len(1 << 42).unwrap();
    let uri = format!("file://{}", huge.display());
    let place = target.path().join("target");
    let output = run("dataset", &place, &[("STORAGE_URI", &uri)]);
    assert_eq!(output.status.code(), Some(7), "{}", said(&output));
    assert!(said(&output).contains("the files need 4398046511104 more bytes"), "{}", said(&output));
    // A limit of the process stands for a disk that is filled by others meanwhile.
    let place = target.path().join("limited");
    let uri = server.web("a.bin");
    let mut limited = std::process::Command::new("sh");
    limited.args([
        "-c",
        "ulimit -f 20; trap '' XFSZ; exec \"$0\" dataset",
        env!("CARGO_BIN_EXE_trainerd-initializer"),
    ]);
    limited.env_clear().env("OUTPUT_PATH", &place).env("STORAGE_URI", &uri).env("PATH", "/usr/bin:/bin");
    let output = limited.output().unwrap();
    assert_eq!(output.status.code(), Some(7), "{}", said(&output));
    assert!(!place.join("a.bin").exists());
}

#[test]
fn terminated_it_keeps_what_it_has() {
    let server = Server::start(files(&[("a.bin", 4 << 20)]));
    server.served.fault(|faults| faults.throttle = Some((64 << 10, Duration::from_millis(10))));
    let target = tempfile::tempdir().unwrap();
    let uri = server.web("a.bin");
    let variables = [("STORAGE_URI", uri.as_str()), ("PART_BYTES", "128Ki"), ("MAX_CONCURRENCY", "4")];
    let child = command("dataset", target.path(), &variables).spawn().unwrap();
    while server.served.sent() < 2 << 20 {
        std::thread::sleep(Duration::from_millis(5));
    }
    let id = rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(143), "{}", said(&output));
    server.served.fault(|faults| faults.throttle = None);
    let before = server.served.sent();
    let output = run("dataset", target.path(), &variables);
    assert!(output.status.success(), "{}", said(&output));
    assert!(said(&output).contains("a.bin goes on"), "{}", said(&output));
    // At most a part a slot is fetched again.
    let again = server.served.sent() - before;
    assert!(again <= (2 << 20) + ((4 * 128) << 10) + (64 << 10), "{again} bytes");
    assert_eq!(std::fs::read(target.path().join("a.bin")).unwrap(), noise(0, 4 << 20));
}

/// How often it is killed: a sample, or as often as `TRAINERD_KILLS` says.
fn kills() -> u32 {
    std::env::var("TRAINERD_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(12)
}

#[test]
fn killed_at_any_instant_nothing_half_written_is_taken_for_whole() {
    let many: BTreeMap<String, Bytes> =
        (0..24).map(|number| (format!("d{}/f{number}.bin", number % 3), noise(number, 150_000))).collect();
    let mut content = many;
    content.insert("large.bin".to_owned(), noise(99, 3 << 20));
    let server = Server::start(content.clone());
    server.served.fault(|faults| faults.throttle = Some((16 << 10, Duration::from_millis(2))));
    let endpoint = server.endpoint();
    let mut variables = hub(&endpoint, "hf://owner/name");
    variables[3] = ("PART_BYTES", "64Ki");
    let seed = fastrand::u64(..);
    let mut random = fastrand::Rng::with_seed(seed);
    let (mut rounds, mut killed) = (0, 0);
    let mut target = tempfile::tempdir().unwrap();
    while killed < kills() {
        rounds += 1;
        let mut child = command("dataset", target.path(), &variables).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(random.u64(0..400)));
        let ended = child.try_wait().unwrap();
        match ended {
            None => {
                kill(child);
                killed += 1;
            }
            Some(status) => assert!(status.success(), "seed {seed}, round {rounds}: {status}"),
        }
        let found = wrong(target.path(), &content, ended.is_some());
        assert!(found.is_empty(), "seed {seed}, round {rounds}: {found:?}");
        if ended.is_some() {
            target = tempfile::tempdir().unwrap();
        }
    }
    let output = run("dataset", target.path(), &variables);
    assert!(output.status.success(), "seed {seed}: {}", said(&output));
    assert_eq!(wrong(target.path(), &content, true), Vec::<String>::new(), "seed {seed}");
}
