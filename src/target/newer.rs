//! Newer options and a plan that was interrupted: whether they replace it, or it is finished first.

use std::collections::BTreeMap;

use trainerd_engine::revision::Header;
use trainerd_engine::{Engine, State};
use trainerd_plan::desired::{Component, Desired};
use trainerd_plan::plan::Purpose;

use super::Target;
use crate::problem::Problem;

/// What replaces the plan in progress.
pub(crate) struct Newer {
    /// The installation as it will be when that plan is done: what the new one is planned from.
    pub(crate) state: State,
    /// What is wanted instead.
    pub(crate) wanted: Target,
}

/// What is wanted in the place of the plan in progress; `None` where that one is finished first: because it is what is
/// wanted, or because it changes versions, which are gone through one after the other.
///
/// What made the plan may never come about: an image that does not exist, say. Whoever wants something else does not
/// have to wait until it has failed.
pub(crate) async fn replacement(
    engine: &Engine,
    state: &State,
    resolve: impl AsyncFn(&State) -> Result<Target, Problem>,
) -> Result<Option<Newer>, Problem> {
    let Some(journal) = state.journal().filter(|journal| journal.extent.is_none()) else { return Ok(None) };
    let heading = state.record().heading().unwrap_or(journal.target);
    let Some(leads_to) = engine.revision_if_sound(heading).await? else { return Ok(None) };
    let mut led_to = None;
    if journal.target != heading {
        led_to = engine.revision_if_sound(journal.target).await?;
    }
    let is_under_way = |desired: &Desired| {
        [Some(&leads_to), led_to.as_ref()]
            .into_iter()
            .flatten()
            .any(|revision| desired.is_rendered_like(&revision.desired))
    };
    // As it was seen by whoever began the plan. What cannot be wanted from there may be wanted from where it leads.
    if let Ok(wanted) = resolve(state).await
        && is_under_way(&wanted.desired)
    {
        return Ok(None);
    }
    let ahead = state.clone().at(leads_to.clone());
    let Ok(mut wanted) = resolve(&ahead).await else { return Ok(None) };
    if is_under_way(&wanted.desired)
        || wanted.is_stop
        || !same_versions(&leads_to.header, &wanted.desired.components)
    {
        return Ok(None);
    }
    if state.record().current.is_none() {
        wanted.purpose = Purpose::Install;
    }
    Ok(Some(Newer { state: ahead, wanted }))
}

/// Whether no component that both have changes its version.
fn same_versions(header: &Header, wanted: &BTreeMap<String, Component>) -> bool {
    let mut both =
        header.components.iter().filter_map(|(name, component)| Some((component, wanted.get(name)?)));
    both.all(|(under_way, wanted)| under_way.version == wanted.version)
}
