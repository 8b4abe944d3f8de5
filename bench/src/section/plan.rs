//! How long it takes to see that nothing changed.

use trainerd_engine::{Engine, State};
use trainerd_plan::allowed::Allowed;
use trainerd_plan::desired::Desired;
use trainerd_plan::plan::Purpose;

use crate::clock::{Clock, Took};
use crate::contender::run;
use crate::error::Error;
use crate::figure::{Figure, Unit};
use crate::load::{Load, Size};
use crate::world::World;
use crate::{Report, print_progress};

/// Installations of so many ConfigMaps.
const SIZES: [u32; 2] = [500, 5_000];
/// Looks at each: planning writes nothing, so that the rounds need no more than themselves.
const ROUNDS: usize = 7;

/// Measures planning with nothing changed, for several sizes.
pub(crate) async fn measure(world: &World, report: &mut Report) -> Result<(), Error> {
    for count in SIZES {
        print_progress(format_args!("planning {count} ConfigMaps"));
        let load = Load { namespace: format!("bench-plan-{count}"), count, generation: 0, size: Size::Small };
        world.namespace(&load.namespace).await?;
        let desired = load.desired();
        let engine = world.engine(load.installation()).await?;
        let state = engine.open().await.map_err(Error::engine("open the installation"))?;
        let prepared = engine.prepare(&state, desired.clone(), Purpose::Install, Allowed::default()).await;
        let prepared = prepared.map_err(Error::engine("plan"))?;
        run(&engine, state, prepared, &|_| {}).await.map_err(Error::engine("run the plan"))?;
        report_figures(&format!("{count} ConfigMaps"), &rounds(world, &desired).await?, report);
    }
    Ok(())
}

/// What reading the installation and planning took in a round.
pub(crate) struct Round {
    open: Took,
    prepare: Took,
}

/// Plans again and again, each time from a new connection.
///
/// # Errors
/// [`Error::Unexpected`] when a plan would write something.
pub(crate) async fn rounds(world: &World, desired: &Desired) -> Result<Vec<Round>, Error> {
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let engine = world.engine(desired.installation.clone()).await?;
        let (state, open) = open(&engine).await?;
        let desired = desired.clone();
        let clock = Clock::start();
        let prepared = engine.prepare(&state, desired, Purpose::Change, Allowed::default()).await;
        let prepare = clock.took();
        let prepared = prepared.map_err(Error::engine("plan"))?;
        if !prepared.plan.is_empty() {
            let counts = prepared.plan.counts();
            return Err(Error::Unexpected(format!("nothing changed, and a plan would: {counts:?}")));
        }
        rounds.push(Round { open, prepare });
    }
    Ok(rounds)
}

async fn open(engine: &Engine) -> Result<(State, Took), Error> {
    let clock = Clock::start();
    let state = engine.open().await.map_err(Error::engine("open the installation"))?;
    Ok((state, clock.took()))
}

/// Adds the figures of such rounds.
pub(crate) fn report_figures(of_what: &str, rounds: &[Round], report: &mut Report) {
    let mut report_figures = |what: &str, of: fn(&Round) -> Took| {
        let wall: Vec<f64> = rounds.iter().map(|round| of(round).wall.as_secs_f64()).collect();
        let cpu: Vec<f64> = rounds.iter().map(|round| of(round).cpu.as_secs_f64()).collect();
        let what = format!("{of_what}, nothing changed: {what}");
        report.figures.extend([
            Figure::new("plan", what.clone(), Unit::Seconds, &wall),
            Figure::new("plan", format!("{what}, own CPU"), Unit::Seconds, &cpu),
        ]);
    };
    report_figures("open", |round| round.open);
    report_figures("prepare", |round| round.prepare);
}
