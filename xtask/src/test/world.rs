//! What each stage of the tests does, and in which world.

use std::ffi::OsString;
use std::path::Path;

use super::clusters::{API_SERVER, INTEGRATION, NODE, clear_orphans, parse, with_control_plane};
use super::counts::Counts;
use super::programs::Suite;
use super::stage::Stage;
use super::{Error, clusters};
use crate::cargo::{self, Program, cargo};
use crate::cluster::{Parts, parts};
use crate::debian;
use crate::demo::{self, Scene};
use crate::examples;
use crate::foreground;
use crate::home::Home;
use crate::python;
use crate::steps::Steps;
use crate::terminal::{print, say};

/// Browsers that the tests of the status page can use.
const BROWSERS: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

/// How many programs of the integration tests run at a time.
const LANES: usize = 3;
/// Those of them that take longest, which nothing should wait for at the end.
const SLOWEST: [&str; 5] = ["torture", "daemon", "charm", "drift", "failed_upgrade"];

/// What the stages have in common.
pub(super) struct World<'a> {
    pub(super) home: &'a Home,
    /// `KUBECONFIG` of the cluster that somebody gives; without it clusters are started.
    pub(super) given: Option<OsString>,
    /// What was built; empty where nothing is needed.
    pub(super) programs: Vec<Program>,
    /// Whether every scenario of the charm is played.
    pub(super) whole_charm: bool,
}

impl World<'_> {
    /// Runs a stage and returns its line; `counts` gets its tests also when this fails.
    pub(super) fn run(&self, stage: Stage, counts: &mut Counts) -> Result<String, Error> {
        match stage {
            Stage::Formatting => Ok(crate::lint::format(self.home)?),
            Stage::Clippy => Ok(crate::lint::clippy(self.home)?),
            Stage::Pure => tests(&self.suite(), stage, counts),
            Stage::Product => self.product(counts),
            Stage::Docs => self.docs(counts),
            Stage::ApiServer => self.api_server(counts),
            Stage::Xtask => self.xtask(counts),
            Stage::Node => self.node(counts),
            Stage::Integration => self.integration(counts),
        }
    }

    fn suite(&self) -> Suite<'_> {
        Suite::new(self.home, &self.programs)
    }

    /// The status page is read in a browser: where one can be had it must be. The Python client needs packages of PyPI,
    /// the initializers a server of S3: where these cannot be had, their tests say that they are skipped.
    fn product(&self, counts: &mut Counts) -> Result<String, Error> {
        let has_browser = || BROWSERS.iter().any(|name| Path::new("/usr/bin").join(name).exists());
        if !has_browser()
            && let Err(error) = debian::install(&["chromium"])
        {
            say(format_args!("without a browser the status page is not read: {error}"));
        }
        let suite = self.suite();
        let suite = if has_browser() { suite.variable("TRAINERD_CHROMIUM_REQUIRED", "1") } else { suite };
        let suite = match python::interpreter(self.home, &python::CLIENT) {
            Ok(python) => suite.variable("TRAINERD_PYTHON", python),
            Err(error) => {
                say(format_args!("without pyarrow the Python client is not tested: {error}"));
                suite
            }
        };
        let servers =
            [("TRAINERD_S3_SERVER", &parts::VERSITYGW), ("TRAINERD_GCS_SERVER", &parts::FAKE_GCS_SERVER)];
        let mut suite = suite;
        for (variable, part) in servers {
            suite = match Parts::find(self.home).and_then(|found| found.path(part)) {
                Ok(server) => suite.variable(variable, server),
                Err(error) => {
                    say(format_args!(
                        "without {} the initializers fetch nothing from one: {error}",
                        part.program
                    ));
                    suite
                }
            };
        }
        tests(&suite, Stage::Product, counts)
    }

    fn docs(&self, counts: &mut Counts) -> Result<String, Error> {
        let mut command = cargo(self.home);
        let (status, output) = foreground::run_piped(command.args(["test", "--workspace", "--doc"]), true)?;
        *counts = Counts::read(&output);
        if status.success() {
            return Ok(counts.to_string());
        }
        Err(Error::Tests { counts: *counts, programs: "the documentation".to_owned() })
    }

    fn api_server(&self, counts: &mut Counts) -> Result<String, Error> {
        let mut on = |kubeconfig: OsString| {
            let suite = self.suite().variable("TRAINERD_TEST_CLUSTER", "existing");
            tests(&suite.variable("KUBECONFIG", kubeconfig), Stage::ApiServer, counts)
        };
        match &self.given {
            Some(kubeconfig) => on(kubeconfig.clone()),
            None => with_control_plane(self.home, API_SERVER, |status| on(status.kubeconfig.clone().into())),
        }
    }

    fn xtask(&self, counts: &mut Counts) -> Result<String, Error> {
        if self.given.is_some() {
            // Its ignored tests start clusters.
            return tests(&self.suite(), Stage::Xtask, counts);
        }
        let result = tests(&self.suite().arguments(["--include-ignored"]), Stage::Xtask, counts);
        clear_orphans(self.home);
        result
    }

    fn integration(&self, counts: &mut Counts) -> Result<String, Error> {
        let suite = self.suite().with_binaries()?;
        let suite = if self.whole_charm { suite.variable("TRAINERD_CHARM", "all") } else { suite };
        let suite = match python::interpreter(self.home, &python::DATABAGS) {
            Ok(python) => suite.variable("TRAINERD_CHARM_PYTHON", python),
            Err(error) => {
                say(format_args!("without the consumers' libraries no databag is read by them: {error}"));
                suite
            }
        };
        if let Some(kubeconfig) = &self.given {
            let suite = suite.variable("TRAINERD_TEST_CLUSTER", "existing");
            return tests(&suite.variable("KUBECONFIG", kubeconfig.clone()), Stage::Integration, counts);
        }
        // Most of their time they wait, for a deadline or a lease: so several run at a time, with a cluster each.
        let names: Vec<String> = (1..=LANES).map(|lane| format!("{INTEGRATION}-{lane}")).collect();
        let suite = suite.lanes("TRAINERD_INTEGRATION_CLUSTER", names.clone(), &SLOWEST);
        let result = tests(&suite, Stage::Integration, counts);
        for name in names.iter().filter_map(|name| name.parse().ok()) {
            clusters::stop_cluster(self.home, &name);
        }
        result
    }

    /// The demo counts as one test, and shows its own table; the tests after it have a node that nobody used.
    fn node(&self, counts: &mut Counts) -> Result<String, Error> {
        let trainerd = cargo::binary(&self.programs, "trainerd")?.to_owned();
        if let Some(kubeconfig) = &self.given {
            let scene = Scene::on_given(kubeconfig.clone(), trainerd, demo::kubectl(self.home)?);
            if !scene.has_node()? {
                return Ok("skipped: the cluster has no node".to_owned());
            }
            demo::check_nothing_is_there(&scene)?;
            let steps = run_demo(|steps| {
                let run_demo = demo::play(&scene, steps);
                let cleared = demo::clear(&scene);
                steps.skip(
                    "run the quick examples",
                    "their images are on nodes of our own only: `cargo xtask examples`",
                );
                run_demo.and(cleared).map_err(Error::from)
            })?;
            return self.on_node(kubeconfig.clone(), steps, counts);
        }
        let name = parse(NODE)?;
        let steps = run_demo(|steps| {
            let scene = demo::open(self.home, &name, trainerd.clone());
            let run_demo = scene.map_err(Error::from).and_then(|scene| {
                demo::play(&scene, steps)?;
                if !is_whole() {
                    steps.skip("run the quick examples", format!("{WHOLE_NODE}=1 runs them"));
                    return Ok(());
                }
                steps.take("run the quick examples", || {
                    let ran = examples::test(self.home, &name, &scene)?;
                    Ok::<_, Error>(((), ran))
                })
            });
            clusters::stop_cluster(self.home, &name);
            run_demo
        })?;
        if !is_whole() {
            counts.passed += 1;
            return Ok(format!("the demo's {steps} steps; {WHOLE_NODE}=1 adds what else needs a node"));
        }
        let result = demo::open(self.home, &name, trainerd)
            .map_err(Error::from)
            .and_then(|scene| self.on_node(scene.kubeconfig, steps, counts));
        clusters::stop_cluster(self.home, &name);
        result
    }

    /// The tests that need a node, after the demo of so many steps.
    fn on_node(&self, kubeconfig: OsString, steps: usize, counts: &mut Counts) -> Result<String, Error> {
        let suite = self.suite().with_binaries()?.variable("TRAINERD_TEST_CLUSTER", "existing");
        let result = tests(&suite.variable("KUBECONFIG", kubeconfig), Stage::Node, counts);
        counts.passed += 1;
        result.map(|_| format!("{counts}, the demo's {steps} steps among them"))
    }
}

/// Set, the stage of the node runs the examples and the native reconciler's tests after the demo: ten minutes more.
const WHOLE_NODE: &str = "TRAINERD_TEST_NODE";

fn is_whole() -> bool {
    std::env::var_os(WHOLE_NODE).is_some()
}

/// Plays the demo, and shows its table in every case; how many steps it had.
fn run_demo(play: impl FnOnce(&mut Steps) -> Result<(), Error>) -> Result<usize, Error> {
    let mut steps = Steps::default();
    let run_demo = play(&mut steps);
    print(format_args!("\n{}", steps.table()));
    run_demo?;
    Ok(steps.count())
}

fn tests(suite: &Suite<'_>, stage: Stage, counts: &mut Counts) -> Result<String, Error> {
    suite.run(|program| Stage::of(program) == stage, counts)
}
