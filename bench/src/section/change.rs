//! Figure 4: 500 changed objects, next to a bare client and kubectl.

use std::collections::BTreeMap;

use crate::audit::Requests;
use crate::contender::{Contender, Measured, warm_kubectl};
use crate::error::Error;
use crate::figure::{Figure, Goal, Unit, number};
use crate::load::{Load, Size};
use crate::section::undo::{self, Rollback};
use crate::world::World;
use crate::{Report, print_progress};

/// Objects of the figure.
pub(crate) const OBJECTS: u32 = 500;

/// What is done to the objects, one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Install,
    Change,
    Nothing,
}

impl Phase {
    const ALL: [Self; 3] = [Self::Install, Self::Change, Self::Nothing];

    fn what(self) -> String {
        match self {
            Self::Install => format!("{OBJECTS} ConfigMaps of 4 kB, first install"),
            Self::Change => format!("all {OBJECTS} changed"),
            Self::Nothing => "nothing changed".to_owned(),
        }
    }
}

/// The rounds of a phase, by contender.
type Rounds = BTreeMap<(Phase, Contender), Vec<Measured>>;

/// Measures figures 4 and 13: the contenders side by side in each phase, taking turns in going first.
pub(crate) async fn measure(world: &World, rounds: u32, report: &mut Report) -> Result<(), Error> {
    warm_kubectl(world).await?;
    let mut measured = Rounds::new();
    let mut undone = Vec::new();
    for round in 0..rounds {
        print_progress(format_args!(
            "round {} of {rounds}: {OBJECTS} ConfigMaps, three contenders",
            round + 1
        ));
        let mut loads = BTreeMap::new();
        for contender in Contender::ALL {
            let namespace = format!("bench-{}-{round}", contender.slug());
            world.namespace(&namespace).await?;
            let load = Load { namespace, count: OBJECTS, generation: 0, size: Size::Small };
            loads.insert(contender, load);
        }
        let mut order = Contender::ALL;
        order.rotate_left(usize::try_from(round).unwrap_or_default() % Contender::ALL.len());
        for phase in Phase::ALL {
            for contender in order {
                let Some(load) = loads.get_mut(&contender) else { continue };
                if phase == Phase::Change {
                    *load = load.next();
                }
                let took = contender.apply(world, load).await?;
                measured.entry((phase, contender)).or_default().push(took);
            }
        }
        if let (Some(ours), Some(bare)) = (loads.get(&Contender::Engine), loads.get(&Contender::Bare)) {
            undone.push(undo::measure(world, ours, bare).await?);
        }
    }
    report_figures(&measured, report);
    report_rollback(&undone, report);
    Ok(())
}

fn report_figures(measured: &Rounds, report: &mut Report) {
    for phase in Phase::ALL {
        let of = |contender| measured.get(&(phase, contender)).map_or(&[][..], Vec::as_slice);
        let bare = seconds(of(Contender::Bare));
        for contender in Contender::ALL {
            let ours = of(contender);
            let what = format!("{}: {contender}", phase.what());
            let mut time = Figure::new("4", what.clone(), Unit::Seconds, &seconds(ours));
            if contender != Contender::Bare {
                time = time.with_ratio_to("bare client", &seconds(ours), &bare);
            }
            let counts: Vec<f64> = ours.iter().map(|m| number(m.requests.total())).collect();
            let mut requests = Figure::new("4", what.clone(), Unit::Requests, &counts);
            if contender == Contender::Engine && phase == Phase::Change {
                time = time.goal(Goal::Ratio(1.25));
                requests = requests.goal(Goal::Value(510.0));
            }
            report.figures.extend([time, requests]);
            if contender != Contender::Kubectl && phase == Phase::Change {
                let what = format!("{what}, its own CPU");
                report.figures.push(Figure::new("4", what, Unit::Seconds, &cpu_seconds(ours)));
            }
            if contender == Contender::Engine
                && let Some(last) = ours.last()
            {
                report.requests.insert(what, last.requests.clone());
            }
        }
    }
}

fn report_rollback(undone: &[Rollback], report: &mut Report) {
    let what = format!("a change of {OBJECTS} objects that failed at its last step, undone by itself");
    let ours: Vec<f64> = undone.iter().map(|round| round.took.as_secs_f64()).collect();
    let floor: Vec<f64> = undone.iter().map(|round| round.floor.as_secs_f64()).collect();
    let requests: Vec<f64> = undone.iter().map(|round| number(round.requests.total())).collect();
    report.figures.extend([
        Figure::new("13", what.clone(), Unit::Seconds, &ours)
            .with_ratio_to("bare client", &ours, &floor)
            .goal(Goal::Ratio(1.2)),
        Figure::new("13", what.clone(), Unit::Requests, &requests),
    ]);
    if let Some(Rollback { requests: Requests(last), .. }) = undone.last() {
        report.requests.insert(what, Requests(last.clone()));
    }
}

fn seconds(rounds: &[Measured]) -> Vec<f64> {
    rounds.iter().map(|round| round.took.wall.as_secs_f64()).collect()
}

fn cpu_seconds(rounds: &[Measured]) -> Vec<f64> {
    rounds.iter().map(|round| round.took.cpu.as_secs_f64()).collect()
}
