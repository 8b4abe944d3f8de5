//! `cargo xtask specs`: the integration suites of Kubeflow Trainer itself, run against this reconciler.
//!
//! The suites come with the Go module of upstream's controller. They start a manager in their own process; here their
//! framework is another one (`integration/specs`), which starts the program under test. Their cases are theirs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::{Args, ValueEnum};
use serde::Deserialize;

use crate::cargo;
use crate::cli::{FAILED, Failure};
use crate::cluster::{self, Parts, parts};
use crate::files;
use crate::foreground;
use crate::home::Home;
use crate::terminal::{print, say};

/// Folder of the module that names the version, under `integration/cluster`.
const MODULE: &str = "trainer-2.3.0";
/// The module of upstream's controller.
const TRAINER: &str = "github.com/kubeflow/trainer/v2";
/// The suites, below the module's `test/integration`.
const SUITES: [&str; 2] = ["controller", "webhooks"];
/// Modules whose CRDs the suites install: from where, and what the suites call it.
const CRDS: [(&str, &str, &str); 2] = [
    ("sigs.k8s.io/jobset", "config/components/crd/bases", "jobset-operator"),
    ("sigs.k8s.io/scheduler-plugins", "manifests/coscheduling", "scheduler-plugins"),
];

/// Specs that a program which is not told to be as upstream fails on purpose: suite and how the name ends, and why.
///
/// Both make their case by taking from a TrainingRuntime, by an update, the container that the label of its Job promises.
/// Upstream refuses such a runtime at its creation, and such an update of a ClusterTrainingRuntime; that it does not look at
/// updates of the namespaced kind is its issue 3686. Whoever makes that mistake is told at once, and not by each TrainJob.
const DIVERGENCES: [(&str, &str, &str); 2] = [
    (
        "webhooks",
        "pre-trained model config when referencing a trainingRuntime without an initializer",
        UPDATE,
    ),
    ("webhooks", "dataset initializer when referencing a trainingRuntime without an initializer", UPDATE),
];
const UPDATE: &str = "an update of a TrainingRuntime is checked as its creation is (D6)";
/// Word of the report for one of them that failed.
const DIVERGED: &str = "diverged";

/// The arguments of `cargo xtask specs`.
#[derive(Args)]
pub struct Arguments {
    /// Whose behaviour the program is configured to show [default: what it shows unconfigured]
    #[arg(long, value_enum)]
    compatibility: Option<Compatibility>,
    /// Run only the specs whose names match this expression
    #[arg(long, value_name = "REGEX")]
    focus: Option<String>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Compatibility {
    Upstream,
    Extended,
}

/// Why the specs could not be run.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Build(#[from] cargo::Error),
    #[error(transparent)]
    Cluster(#[from] cluster::Error),
    #[error(transparent)]
    Run(#[from] foreground::Error),
    #[error(transparent)]
    File(#[from] files::Error),
    #[error("failed to read the report {}", .path.display())]
    Report { path: PathBuf, source: serde_json::Error },
    #[error("{failed} specs failed")]
    Failed { failed: usize },
    #[error("{} passed, which is listed among those that fail on purpose", .name)]
    Converged { name: String },
}

/// A suite in Ginkgo's JSON report.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Suite {
    #[serde(default)]
    spec_reports: Vec<Spec>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Spec {
    #[serde(default)]
    container_hierarchy_texts: Option<Vec<String>>,
    leaf_node_text: String,
    leaf_node_type: String,
    state: String,
}

impl Spec {
    fn name(&self) -> String {
        let containers = self.container_hierarchy_texts.iter().flatten();
        containers.chain([&self.leaf_node_text]).map(|text| text.trim()).collect::<Vec<_>>().join(" ")
    }
}

/// Runs the verb.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let home = Home::from_environment().map_err(Failure::of)?;
    foreground::watch_signals().map_err(Failure::of)?;
    specs(&home, arguments).map_err(|error| {
        let hint = match &error {
            Error::Cluster(error) => error.hint(),
            Error::Failed { .. } => Some("--focus REGEX runs one; what it says is above".to_owned()),
            Error::Converged { .. } => Some("take it out of DIVERGENCES in xtask/src/specs.rs".to_owned()),
            _ => None,
        };
        Failure { code: FAILED, hint, ..Failure::of(error) }
    })
}

fn specs(home: &Home, arguments: &Arguments) -> Result<(), Error> {
    let program = if let Some(path) = std::env::var_os("TRAINERD_BIN") {
        path.into()
    } else {
        let built = cargo::build(home, &["build", "--package", "trainerd", "--bin", "trainerd"])?;
        cargo::binary(&built, "trainerd")?.to_owned()
    };
    let folder = home.parts().with_file_name("specs");
    let assets = assets(home, &folder)?;
    let checkout = checkout(home, &folder)?;
    let is_extended = !matches!(arguments.compatibility, Some(Compatibility::Upstream));
    let mut states: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for suite in SUITES {
        say(format_args!("building the suite {suite} (the first time takes minutes)"));
        let package = checkout.join("test/integration").join(suite);
        let test = folder.join(format!("{suite}.test"));
        let mut build = go(&package);
        foreground::run(build.args(["test", "-c", "-o"]).arg(&test).arg("."))?;
        for selection in selections(suite, arguments.focus.as_deref(), is_extended) {
            let report = folder.join(format!("{suite}.json"));
            let mut command = Command::new(&test);
            command
                .current_dir(&package)
                .args(["-ginkgo.no-color", "-ginkgo.timeout=30m", "-test.timeout=35m"])
                .arg(format!("-ginkgo.json-report={}", report.display()))
                .args(selection)
                .env("KUBEBUILDER_ASSETS", &assets)
                .env("TRAINERD_BIN", &program);
            match arguments.compatibility {
                Some(Compatibility::Upstream) => drop(command.env("TRAINERD_COMPATIBILITY", "upstream")),
                Some(Compatibility::Extended) => drop(command.env("TRAINERD_COMPATIBILITY", "extended")),
                None => drop(command.env_remove("TRAINERD_COMPATIBILITY")),
            }
            // Whether it failed is in its report.
            foreground::run_piped(&mut command, true)?;
            for spec in read(&report)? {
                let state = if is_extended { judged(suite, &spec)? } else { spec.state.clone() };
                states.entry(state).or_default().push(format!("{suite}: {}", spec.name()));
            }
        }
    }
    // What one run of a suite left out, another one had.
    if let Some(mut skipped) = states.remove("skipped") {
        skipped.retain(|name| !states.values().any(|names| names.contains(name)));
        skipped.sort();
        skipped.dedup();
        states.insert("skipped".to_owned(), skipped);
    }
    tell(&states)
}

/// What each run of a suite selects. A container of specs in a fixed order ends with the first that fails: those that
/// diverge on purpose are left out of the first run, and each has one of its own.
fn selections(suite: &str, focus: Option<&str>, is_extended: bool) -> Vec<Vec<String>> {
    if let Some(focus) = focus {
        return vec![vec![format!("-ginkgo.focus={focus}")]];
    }
    let known = DIVERGENCES.iter().filter(|(of, ..)| *of == suite && is_extended);
    let known: Vec<&str> = known.map(|(_, end, _)| *end).collect();
    if known.is_empty() {
        return vec![Vec::new()];
    }
    let others = known.iter().map(|name| vec![format!("-ginkgo.focus={name}")]);
    std::iter::once(vec![format!("-ginkgo.skip={}", known.join("|"))]).chain(others).collect()
}

/// The specs of a report, without what stands around them unless that failed.
fn read(path: &Path) -> Result<Vec<Spec>, Error> {
    let suites: Vec<Suite> = serde_json::from_str(&files::read(path)?)
        .map_err(|source| Error::Report { path: path.to_owned(), source })?;
    let specs = suites.into_iter().flat_map(|suite| suite.spec_reports);
    Ok(specs.filter(|spec| spec.leaf_node_type == "It" || spec.state == "failed").collect())
}

/// The state of a spec, where those that diverge on purpose are known.
fn judged(suite: &str, spec: &Spec) -> Result<String, Error> {
    let name = spec.name();
    let known = DIVERGENCES.iter().any(|(of, end, _)| *of == suite && name.ends_with(end));
    match spec.state.as_str() {
        "failed" if known => Ok(DIVERGED.to_owned()),
        "passed" if known => Err(Error::Converged { name }),
        state => Ok(state.to_owned()),
    }
}

fn tell(states: &BTreeMap<String, Vec<String>>) -> Result<(), Error> {
    for (state, names) in states.iter().filter(|(state, _)| !["passed", DIVERGED].contains(&state.as_str())) {
        for name in names {
            print(format_args!("{state}: {name}"));
        }
    }
    let count = |state: &str| states.get(state).map_or(0, Vec::len);
    let (passed, skipped, diverged) = (count("passed"), count("skipped"), count(DIVERGED));
    let failed = states.values().map(Vec::len).sum::<usize>() - passed - skipped - diverged;
    for name in states.get(DIVERGED).into_iter().flatten() {
        let reason =
            DIVERGENCES.iter().find(|(_, end, _)| name.ends_with(end)).map_or("", |(.., reason)| reason);
        print(format_args!("{DIVERGED} on purpose, for {reason}: {name}"));
    }
    print(format_args!(
        "{passed} passed, {failed} failed, {diverged} diverged on purpose, {skipped} not run"
    ));
    if failed > 0 { Err(Error::Failed { failed }) } else { Ok(()) }
}

/// A folder with the programs that envtest looks for.
fn assets(home: &Home, folder: &Path) -> Result<PathBuf, Error> {
    let assets = folder.join("assets");
    files::make_folder(&assets)?;
    let found = Parts::find(home)?;
    for part in [&parts::ETCD, &parts::KUBE_APISERVER, &parts::KUBECTL] {
        let link = assets.join(part.program);
        files::remove(&link)?;
        let path = found.path(part)?;
        std::os::unix::fs::symlink(path, &link).map_err(|source| files::Error::new("link", &link, source))?;
    }
    Ok(assets)
}

/// A copy of upstream's module, with our framework and with the CRDs that its makefile fetches.
fn checkout(home: &Home, folder: &Path) -> Result<PathBuf, Error> {
    let module = home.modules().join(MODULE);
    foreground::run_for_data(go(&module).args(["mod", "download", TRAINER]))?;
    let source = module_folder(&module, TRAINER)?;
    let checkout = folder.join("checkout");
    files::remove_folder(&checkout)?;
    foreground::run(Command::new("cp").arg("-r").arg(source).arg(&checkout))?;
    foreground::run(Command::new("chmod").args(["-R", "u+w"]).arg(&checkout))?;
    let ours = home.checkout().join("integration/specs");
    let copy = |from: &Path, to: PathBuf| -> Result<(), Error> {
        if let Some(folder) = to.parent() {
            files::make_folder(folder)?;
        }
        Ok(files::write(&to, files::read(from)?)?)
    };
    copy(&ours.join("framework.go"), checkout.join("test/integration/framework/framework.go"))?;
    let external = checkout.join("manifests/external-crds");
    let volcano = "volcano/scheduling.volcano.sh_podgroups.yaml";
    copy(&ours.join("volcano-podgroups.yaml"), external.join(volcano))?;
    for (module, path, name) in CRDS {
        foreground::run_for_data(go(&checkout).args(["mod", "download", module]))?;
        let folder = module_folder(&checkout, module)?.join(path);
        for file in files_of(&folder)? {
            let name = external.join(name).join(file.file_name().unwrap_or_default());
            copy(&file, name)?;
        }
    }
    Ok(checkout)
}

/// Where Go keeps a module.
fn module_folder(from: &Path, module: &str) -> Result<PathBuf, Error> {
    let path = foreground::run_for_data(go(from).args(["list", "-m", "-f", "{{.Dir}}", module]))?;
    Ok(PathBuf::from(path.trim()))
}

fn files_of(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let failed = |source| files::Error::new("read", folder, source);
    let entries = std::fs::read_dir(folder).map_err(failed)?.flatten().map(|entry| entry.path());
    Ok(entries.filter(|path| path.extension().is_some_and(|extension| extension == "yaml")).collect())
}

/// Go in a module. The sums of upstream's own tests are among those of its module.
fn go(folder: &Path) -> Command {
    let mut command = Command::new("go");
    command.current_dir(folder).env("GOFLAGS", "-mod=mod");
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intended_divergences_are_listed_and_must_occur() {
        let spec = |text: &str, state: &str| Spec {
            container_hierarchy_texts: None,
            leaf_node_text: text.to_owned(),
            leaf_node_type: "It".to_owned(),
            state: state.to_owned(),
        };
        let known = format!("Should fail in creating trainJob with {}", DIVERGENCES[0].1);
        assert_eq!(judged("webhooks", &spec(&known, "failed")).unwrap(), DIVERGED);
        assert_eq!(judged("webhooks", &spec(&known, "skipped")).unwrap(), "skipped");
        assert!(matches!(judged("webhooks", &spec(&known, "passed")), Err(Error::Converged { .. })));
        for (suite, name) in [("controller", known.as_str()), ("webhooks", "another")] {
            assert_eq!(judged(suite, &spec(name, "failed")).unwrap(), "failed");
        }
    }

    #[test]
    fn a_report_lists_specs_and_failures_outside_of_them() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("report.json");
        let spec = |kind: &str, text: &str, state: &str| serde_json::json!({"ContainerHierarchyTexts": ["A", "when b"], "LeafNodeText": text, "LeafNodeType": kind, "State": state});
        let report = serde_json::json!([{"SpecReports": [
            spec("It", "does", "passed"), spec("It", "does not", "skipped"), spec("BeforeSuite", "", "passed"),
            spec("AfterSuite", "", "failed"),
        ]}]);
        files::write(&path, report.to_string()).unwrap();
        let specs = read(&path).unwrap();
        let names: Vec<_> = specs.iter().map(|spec| (spec.name(), spec.state.as_str())).collect();
        assert_eq!(
            names,
            [
                ("A when b does".to_owned(), "passed"),
                ("A when b does not".to_owned(), "skipped"),
                ("A when b ".to_owned(), "failed")
            ]
        );
    }
}
