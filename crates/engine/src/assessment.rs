//! Where an installation is, as far as its Secrets and the cluster say so.

use std::collections::{BTreeMap, BTreeSet};

use trainerd_causes::one_line;
use trainerd_plan::desired::Desired;
use trainerd_plan::identify::identify;

use crate::damage::Damage;
use crate::engine::Engine;
use crate::error::EngineError;
use crate::record::{Outcome, Record};
use crate::revision::Revision;
use crate::state::State;
use crate::store::Stored;

/// What is said of revisions of which nothing is written down any more.
const UNKNOWN: &str = "its outcome was in the record, which was lost";

impl Engine {
    /// Reads where the installation is.
    ///
    /// # Errors
    /// [`EngineError::Unreadable`] where the current revision cannot be read; [`Engine::open_damaged`] continues.
    pub async fn open(&self) -> Result<State, EngineError> {
        let state = self.open_damaged().await?;
        match state.damage {
            Some(Damage::Objects { revision, why, renderable, readable }) => {
                Err(EngineError::Unreadable { revision, why, renderable, readable })
            }
            _ => Ok(state),
        }
    }

    /// Reads where the installation is, as far as it can be read: [`State::damage`] says what is missing.
    pub async fn open_damaged(&self) -> Result<State, EngineError> {
        let stored = self.store.open().await?;
        Box::pin(self.assessed(stored)).await
    }

    /// What is missing of the current revision, and what can be read of it.
    pub(crate) async fn assessed(&self, mut stored: Stored) -> Result<State, EngineError> {
        let lost = match stored.version {
            None => self.conclude_record(&mut stored).await?,
            Some(_) => None,
        };
        let Some(number) = stored.record.current else {
            return Ok(State { stored, current: None, header: None, damage: None });
        };
        let loaded = match self.store.load(number).await {
            Ok(revision) => Ok(revision),
            Err(error @ (EngineError::Stored { .. } | EngineError::NoSuchRevision { .. })) => {
                Err(one_line(&error))
            }
            Err(error) => return Err(error),
        };
        let header = self.store.known_header(number);
        // A removal that was interrupted may have deleted its revisions already.
        let removing = stored.record.journal.as_ref().is_some_and(|journal| journal.extent.is_some());
        let damage = match &loaded {
            _ if lost.is_some() => lost,
            _ if removing => None,
            Ok(_) if !stored.revisions.contains(&number) => Some(Damage::Revision { revision: number }),
            Ok(_) => None,
            Err(why) => Some(Damage::Objects {
                revision: number,
                why: why.clone(),
                renderable: header.is_some(),
                readable: self.newest_readable(&stored, number).await?,
            }),
        };
        if let Some(damage) = &damage {
            tracing::warn!(?damage, "some of trainerd's own Secrets are lost");
        }
        Ok(State { stored, current: loaded.ok(), header, damage })
    }

    /// The newest revision but one that can be read.
    async fn newest_readable(&self, stored: &Stored, but: u64) -> Result<Option<u64>, EngineError> {
        // What was never begun is no place to go to.
        let begun = |number: &u64| *number < but || stored.record.results.contains_key(number);
        for number in stored.revisions.iter().rev().copied().filter(|number| *number != but).filter(begun) {
            if self.store.load_if_sound(number).await?.is_some() {
                return Ok(Some(number));
            }
        }
        Ok(None)
    }

    /// Concludes what a lost record said, where there are revisions and anything in the cluster is of one of them.
    async fn conclude_record(&self, stored: &mut Stored) -> Result<Option<Damage>, EngineError> {
        let mut revisions: Vec<Revision> = Vec::new();
        for number in stored.revisions.clone() {
            revisions.extend(self.store.load_if_sound(number).await?);
        }
        if revisions.is_empty() {
            return Ok(None);
        }
        let states: Vec<&Desired> = revisions.iter().map(|revision| &*revision.desired).collect();
        let observed = self.observe(&states).await?;
        // Nothing is there: it was never begun, or all of it is gone.
        let Some(identified) = identify(&states, &observed, self.cluster.field_manager()) else {
            return Ok(None);
        };
        let revision = revisions[identified.index].header.number;
        let readable = revisions.iter().map(|revision| revision.header.number);
        stored.record = concluded(revision, identified.exact, &stored.revisions, readable);
        self.include(stored, &states);
        Ok(Some(Damage::Record { revision, exact: identified.exact }))
    }
}

/// The record of an installation that is at a revision, exactly or about so.
fn concluded(
    current: u64,
    exact: bool,
    known: &BTreeSet<u64>,
    readable: impl Iterator<Item = u64>,
) -> Record {
    // What is newer than that was rolled back, or is what a plan was on its way to: nobody tries it by himself.
    let newer = known.iter().copied().filter(|number| *number > current);
    let mut results: BTreeMap<u64, Outcome> =
        newer.map(|number| (number, Outcome::RolledBack { reason: UNKNOWN.to_owned() })).collect();
    let outcome = if exact {
        Outcome::Deployed
    } else {
        Outcome::Failed { reason: format!("some objects differ from it, and {UNKNOWN}") }
    };
    results.insert(current, outcome);
    let leftover =
        if exact { BTreeSet::new() } else { readable.filter(|number| *number != current).collect() };
    Record { current: Some(current), results, leftover, ..Record::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reconstructed_record_is_neither_retried_nor_overwritten() {
        let known = BTreeSet::from([1, 2, 3, 4]);
        let record = concluded(2, true, &known, known.iter().copied());
        assert_eq!(
            (record.current, record.journal.is_none(), record.leftover.is_empty()),
            (Some(2), true, true)
        );
        assert_eq!(record.results[&2], Outcome::Deployed);
        assert!(matches!(record.results[&3], Outcome::RolledBack { .. }));
        assert_eq!(crate::engine::next_number(&record), 5);
        let record = concluded(3, false, &known, [1, 3].into_iter());
        assert!(matches!(record.results[&3], Outcome::Failed { .. }));
        assert_eq!(record.leftover, BTreeSet::from([1]));
    }
}
