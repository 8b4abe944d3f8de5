//! What of trainerd's own Secrets is missing or damaged, and what is known without it.
//!
//! Each can be lost. The record follows from the revisions and from the objects in the cluster; a revision is kept in the
//! record too, without its objects; and its objects can be rendered again from its options.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::Serialize;
use trainerd_causes::one_line;
use trainerd_plan::desired::Desired;
use trainerd_plan::identify::identify;

use crate::engine::Engine;
use crate::error::EngineError;
use crate::namespace::released;
use crate::record::{Outcome, Record};
use crate::revision::{Header, Revision};
use crate::run_options::RunOptions;
use crate::state::State;
use crate::store::Stored;

/// What is missing or damaged of what an installation needs to be changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "lost", rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub enum Damage {
    /// The record. What it said was concluded from the revisions and the objects in the cluster.
    Record {
        /// The revision that the cluster is found to be at.
        revision: u64,
        /// Whether every object is as that revision has it.
        exact: bool,
    },
    /// The current revision is known from the record only.
    Revision {
        /// Its number.
        revision: u64,
    },
    /// The objects of the current revision cannot be read.
    Objects {
        /// Its number.
        revision: u64,
        /// What is missing or damaged.
        why: String,
        /// Whether its options are known, so that its objects can be rendered again.
        renderable: bool,
        /// The newest other revision that can be read.
        readable: Option<u64>,
    },
}

/// What is said of revisions of which nothing is written down any more.
const UNKNOWN: &str = "what came of it was in the record, which was lost";

impl Engine {
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

    /// Writes a record that was lost anew, as it is concluded now. Does nothing where it is there.
    ///
    /// # Errors
    /// As [`Engine::run`].
    pub async fn write_record(&self, state: State, options: &RunOptions<'_>) -> Result<State, EngineError> {
        if !matches!(state.damage, Some(Damage::Record { .. })) {
            return Ok(state);
        }
        let guard = self.lease(None, options.sink).await?;
        self.store.hold(guard.fence());
        let answer = Box::pin(self.write_record_with_lease()).await;
        self.store.let_go();
        released(guard, answer).await
    }

    async fn write_record_with_lease(&self) -> Result<State, EngineError> {
        // Somebody else may have been faster.
        let mut state = self.open_damaged().await?;
        if matches!(state.damage, Some(Damage::Record { .. })) {
            state.stored = self.store.write(&state.stored).await?;
            state.damage = None;
        }
        Ok(state)
    }

    /// The revisions that are known, but of which something is missing or damaged.
    ///
    /// # Errors
    /// [`EngineError::Request`].
    pub async fn damaged_revisions(&self) -> Result<Vec<Header>, EngineError> {
        let mut damaged = Vec::new();
        for header in self.store.known_headers() {
            if self.store.load_if_sound(header.number).await?.is_none() {
                damaged.push(header);
            }
        }
        Ok(damaged)
    }

    /// Writes revisions again of which something is lost, whatever plan is in progress. Only those that `rendered` gives
    /// exactly as they were are written; returns their numbers.
    ///
    /// # Errors
    /// [`EngineError::Request`], a lost lease: what is not written yet is as it was.
    pub async fn write_revisions(
        &self,
        state: &State,
        rendered: Vec<(Header, Arc<Desired>)>,
        options: &RunOptions<'_>,
    ) -> Result<Vec<u64>, EngineError> {
        let mut packed = Vec::new();
        for (header, desired) in rendered {
            // What is sound of the revision itself is shared; another one may go before it.
            let package = self.store.packing(Some(header.number), desired).await?.done().await?;
            if package.digest == header.digest {
                packed.push((header, package));
            }
        }
        if packed.is_empty() {
            return Ok(Vec::new());
        }
        let guard = self.lease(state.record().token.clone(), options.sink).await?;
        self.store.hold(guard.fence());
        let answer = Box::pin(async {
            let mut numbers = Vec::new();
            for (header, package) in packed {
                numbers.push(header.number);
                self.store.save(header, package).await?;
            }
            Ok(numbers)
        });
        let answer = answer.await;
        self.store.let_go();
        released(guard, answer).await
    }

    /// What is missing of each revision, by number: the names of Secrets.
    ///
    /// # Errors
    /// [`EngineError::Request`].
    pub async fn missing(&self) -> Result<BTreeMap<u64, Vec<String>>, EngineError> {
        self.store.missing().await
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
        Outcome::Failed { reason: format!("not everything is as it says, and {UNKNOWN}") }
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
    fn nothing_that_is_concluded_is_tried_by_itself_or_overwritten() {
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
