//! Figure 13: a change that fails at its very end, and is rolled back automatically.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use trainerd_engine::{EngineError, Event};
use trainerd_plan::allowed::Allowed;
use trainerd_plan::plan::Purpose;

use crate::audit::{Mark, Requests};
use crate::contender::{Contender, run};
use crate::error::Error;
use crate::load::Load;
use crate::world::{ENGINE, World};

/// What going back took, and the least that it could have.
#[derive(Clone, Debug)]
pub(crate) struct Rollback {
    /// From the decision to go back to the end of the command.
    pub(crate) took: Duration,
    pub(crate) requests: Requests,
    /// What a bare client needs to write as many objects.
    pub(crate) floor: Duration,
}

/// Changes every object of `ours`, lets the step after all of them be refused, and measures the way back;
/// then lets the bare client write its objects back too.
pub(crate) async fn measure(world: &World, ours: &Load, bare: &Load) -> Result<Rollback, Error> {
    let turned: Mutex<Option<(Instant, Mark)>> = Mutex::new(None);
    let sink = |event| {
        if matches!(event, Event::RollingBack { .. })
            && let Ok(mark) = world.audit.mark()
        {
            *turned.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), mark));
        }
    };
    let engine = world.engine(ours.installation()).await?;
    let state = engine.open().await.map_err(Error::engine("open the installation"))?;
    let desired = ours.next().desired_and_one_refused();
    let prepared = engine.prepare(&state, desired, Purpose::Change, Allowed::default()).await;
    let prepared = prepared.map_err(Error::engine("plan"))?;
    match run(&engine, state, prepared, &sink).await {
        Err(EngineError::RolledBack { .. }) => {}
        Err(source) => return Err(Error::engine("undo a change that failed")(source)),
        Ok(_) => return Err(Error::Unexpected("a change that must fail did not".to_owned())),
    }
    let ended = Instant::now();
    let turned = *turned.lock().unwrap_or_else(PoisonError::into_inner);
    let (begun, mark) = turned.ok_or_else(|| Error::Unexpected("a way back was never told".to_owned()))?;
    let requests = world.audit.since(mark, ENGINE.user_agent)?;
    Contender::Bare.apply(world, &bare.next()).await?;
    let floor = Contender::Bare.apply(world, bare).await?.took.wall;
    Ok(Rollback { took: ended - begun, requests, floor })
}
