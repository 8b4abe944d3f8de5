//! `cargo xtask examples`: the TrainJobs of `examples/`, run on a real node, each held against what its logs say.

mod check;
mod error;
mod interruptions;
mod report;
mod run;
mod script;
mod stage;
mod table;
mod troubles;
mod volume;

use std::ffi::OsString;

use clap::{Args, ValueEnum};

pub use error::Error;
use report::Row;
use table::Example;

use crate::cli::{Failure, INVALID_INPUT};
use crate::cluster::Name;
use crate::demo::Scene;
use crate::foreground::{check_interrupted, watch_signals};
use crate::home::Home;
use crate::image::training;
use crate::terminal::{print, say};

/// Which controller reconciles the TrainJobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Controller {
    /// Kubeflow's controller manager
    Upstream,
    /// trainerd's reconciler
    Native,
}

impl Controller {
    /// Value of the option `reconciler`.
    pub(crate) fn option(self) -> &'static str {
        match self {
            Self::Upstream => "upstream",
            Self::Native => "native",
        }
    }
}

/// The arguments of `cargo xtask examples`.
#[derive(Args)]
pub struct Arguments {
    /// Which examples: names of folders in examples/ [default: all]
    ///
    /// `troubles` are TrainJobs that do not run, `interruptions` trainings that are interrupted: the kubelet is stopped, the
    /// node restarted, a pod preempted, the stack upgraded, the controller replaced. Both need an own cluster.
    names: Vec<String>,

    /// Who reconciles the TrainJobs on the own cluster: one after the other, where both are named
    #[arg(long, value_enum, value_delimiter = ',', default_value = "upstream")]
    controller: Vec<Controller>,

    /// Name of the own cluster, which is started where it does not run
    ///
    /// With KUBECONFIG in the environment that cluster and what is installed there is used instead.
    #[arg(long, value_name = "NAME", default_value = "examples")]
    cluster: Name,

    /// Leave the own cluster running
    #[arg(long)]
    keep: bool,
}

/// Runs the verb.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let home = Home::from_environment().map_err(Failure::of)?;
    watch_signals().map_err(Failure::of)?;
    let chosen = Chosen::of(&arguments.names).map_err(failure)?;
    let given = stage::given(&home, &arguments.cluster);
    let mut rows = Vec::new();
    let ran = on_cluster(&home, arguments, given, &chosen, &mut rows);
    if !rows.is_empty() {
        print(format_args!("\n{}", report::table(&rows)));
    }
    ran.map_err(failure)
}

fn failure(error: Error) -> Failure {
    match error {
        Error::Unknown { .. } => Failure { code: INVALID_INPUT, hint: error.hint(), error: Box::new(error) },
        _ => Failure { hint: error.hint(), ..Failure::of(error) },
    }
}

fn on_cluster(
    home: &Home,
    arguments: &Arguments,
    given: Option<OsString>,
    chosen: &Chosen,
    rows: &mut Vec<Row>,
) -> Result<(), Error> {
    let Chosen { examples, troubles, interruptions } = chosen;
    if let Some(kubeconfig) = given {
        let scene = stage::open_given(home, kubeconfig)?;
        return play(home, &scene, None, examples, rows);
    }
    let name = &arguments.cluster;
    let played = stage::open(home, name).and_then(|scene| {
        for controller in &arguments.controller {
            if *controller == Controller::Native {
                stage::load_trainerd(home, name)?;
            }
            stage::install(home, &scene, *controller, examples)?;
            play(home, &scene, Some((name, *controller)), examples, rows)?;
            if *troubles {
                stage::load(home, &scene, name, table::plain())?;
                say(troubles::run(&scene, &home.checkout().join("examples"))?);
            }
            if *interruptions {
                say(interruptions::run(home, &scene, name, *controller)?);
            }
        }
        Ok(())
    });
    if arguments.keep {
        say(format_args!("cluster {name} keeps running; `cargo xtask cluster down {name}` removes it"));
    } else {
        crate::cluster::down(home, name)?;
    }
    played
}

/// Makes the layers of what the tests' examples run on, where the cache lacks them.
pub(crate) fn prepare(home: &Home) -> Result<(), Error> {
    for example in table::ALL.iter().filter(|example| example.tested) {
        training::prepare(home, &training::recipe(home, example.image)?)?;
    }
    Ok(())
}

/// Runs the quick examples on an own cluster as a part of the tests; what was seen, and which are left out.
pub(crate) fn test(home: &Home, name: &Name, scene: &Scene) -> Result<String, Error> {
    let (chosen, left): (Vec<&Example>, Vec<&Example>) =
        table::ALL.iter().partition(|example| example.tested);
    let names =
        |examples: &[&Example]| examples.iter().map(|example| example.name).collect::<Vec<_>>().join(", ");
    stage::install(home, scene, Controller::Upstream, &chosen)?;
    let mut rows = Vec::new();
    let played = play(home, scene, Some((name, Controller::Upstream)), &chosen, &mut rows);
    print(format_args!("\n{}", report::table(&rows)));
    say(format_args!("examples that are not run here: {}; `cargo xtask examples` runs them", names(&left)));
    played?;
    let troubles = troubles::run(scene, &home.checkout().join("examples"))?;
    Ok(format!("{} of {} examples: {}; {troubles}", chosen.len(), table::ALL.len(), names(&chosen)))
}

/// What shall run.
struct Chosen {
    /// In the table's order.
    examples: Vec<&'static Example>,
    troubles: bool,
    interruptions: bool,
}

impl Chosen {
    /// What has these names.
    fn of(names: &[String]) -> Result<Self, Error> {
        let known =
            || table::ALL.iter().map(|example| example.name).chain([troubles::FOLDER, interruptions::FOLDER]);
        if let Some(name) = names.iter().find(|name| !known().any(|known| known == *name)) {
            return Err(Error::Unknown { name: name.clone(), known: known().collect::<Vec<_>>().join(", ") });
        }
        let is_chosen = |name: &str| names.is_empty() || names.iter().any(|chosen| chosen == name);
        Ok(Self {
            examples: table::ALL.iter().filter(|example| is_chosen(example.name)).collect(),
            troubles: is_chosen(troubles::FOLDER),
            interruptions: is_chosen(interruptions::FOLDER),
        })
    }
}

/// Runs examples one after the other: one that goes wrong does not keep the next from running.
fn play(
    home: &Home,
    scene: &Scene,
    own: Option<(&Name, Controller)>,
    chosen: &[&Example],
    rows: &mut Vec<Row>,
) -> Result<(), Error> {
    let folder = home.checkout().join("examples");
    let controller = match own {
        Some((_, controller)) => controller.option().to_owned(),
        None => stage::controller_of(scene)?,
    };
    stage::make_namespace(scene)?;
    let mut failed = Vec::new();
    for example in chosen {
        say(format_args!("\n==> {} ({controller})", example.name));
        let image = match own {
            Some((name, _)) => stage::load(home, scene, name, example)?,
            None => stage::image_of(scene, example)?,
        };
        let Some(image) = image else {
            rows.push(Row::skipped(example, &controller, "its runtime is not installed"));
            continue;
        };
        if let (Some(lacks), Some(_)) = (example.lacks, own) {
            let row = match run::start(scene, &folder, example) {
                Ok(saw) => Row::skipped(example, &controller, &format!("needs {lacks}; {saw}")),
                Err(error) => {
                    failed.push(format!("{} ({controller})", example.name));
                    Row::of(example, &controller, "–".to_owned(), Err(error))
                }
            };
            check_interrupted()?;
            rows.push(row);
            continue;
        }
        let ran = match example.script {
            Some(script) => script::run(home, scene, &folder, example, script),
            None => run::run(scene, &folder, example),
        };
        check_interrupted()?;
        if let Err(error) = &ran {
            say(format_args!("    FAILED: {error}"));
            failed.push(format!("{} ({controller})", example.name));
        }
        rows.push(Row::of(example, &controller, image, ran));
    }
    if failed.is_empty() { Ok(()) } else { Err(Error::Some(failed.join(", "))) }
}
