//! What trainerd knows of an installation between runs, and the journal of the plan in progress.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use trainerd_cluster::lease::FencingToken;
use trainerd_plan::plan::Purpose;
use trainerd_plan::removal::Extent;

/// The record of an installation. It is written only with the resourceVersion that was read, so two writers
/// cannot both change it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// The revision that the cluster is at, or was last brought towards.
    pub current: Option<u64>,
    /// The plan in progress; `None` while nothing is.
    pub journal: Option<Journal>,
    /// The outcome of each revision that was ever begun.
    pub results: BTreeMap<u64, Outcome>,
    /// Revisions whose objects may still be in the cluster because a plan stopped where it was: what they
    /// have and the current one has not is still to be pruned.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub leftover: BTreeSet<u64>,
    /// Revisions that were rolled back and that somebody asked to be tried again.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub retry: BTreeSet<u64>,
    /// The tenure of the lease in which this was written. A tenure opens one journal at most, so whoever read a
    /// record without one and holds the lease in the next tenure knows that nobody has written it since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<FencingToken>,
}

/// A plan in progress: written before its first change, removed after its last.
///
/// It names the revisions rather than the steps: the steps follow from them and from what is observed, so a
/// process that finds it open decides again and repeats nothing that is already done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Journal {
    /// What the plan is for.
    pub purpose: Purpose,
    /// The revision that it leads to; for a removal, the one that goes.
    pub target: u64,
    /// The revision that it leaves; `None` for a first install.
    pub from: Option<u64>,
    /// Further revisions whose objects may be in the cluster because a plan towards them was interrupted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub touched: Vec<u64>,
    /// Its direction.
    pub phase: Phase,
    /// What a removal takes along.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extent: Option<Removal>,
    /// Whether going back may change CRDs.
    #[serde(default)]
    pub allow_lossy: bool,
    /// Whether runtimes in use may be deleted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allow_in_use: bool,
    /// Whether objects whose immutable fields differ are deleted and recreated.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allow_recreate: bool,
    /// When it was opened.
    pub started: Timestamp,
    /// Which command opened it.
    pub by: String,
    /// Who asked a daemon for it over its API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked_by: Option<String>,
}

/// The direction of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all = "kebab-case")]
pub enum Phase {
    /// To the target.
    Forward,
    /// Back to the previous revision.
    Undo {
        /// What failed.
        reason: String,
    },
}

/// [`Extent`] as it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Removal {
    /// CRDs and their objects are kept.
    KeepStored,
    /// CRDs are deleted.
    Purge,
    /// CRDs and all their objects are deleted.
    PurgeWithJobs,
}

impl From<Removal> for Extent {
    fn from(removal: Removal) -> Self {
        match removal {
            Removal::KeepStored => Self::KeepStored,
            Removal::Purge => Self::Purge,
            Removal::PurgeWithJobs => Self::PurgeWithJobs,
        }
    }
}

/// The outcome of a revision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "result", rename_all = "kebab-case")]
pub enum Outcome {
    /// Everything was ready.
    Deployed,
    /// It failed and was not rolled back.
    Failed {
        /// Why.
        reason: String,
    },
    /// It failed, and the revision before it was brought back.
    RolledBack {
        /// Why.
        reason: String,
    },
    /// A person replaced it before it was done.
    Abandoned,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Deployed => f.write_str("deployed"),
            Self::Failed { reason } => write!(f, "failed: {reason}"),
            Self::RolledBack { reason } => write!(f, "rolled back: {reason}"),
            Self::Abandoned => f.write_str("abandoned"),
        }
    }
}

/// An event that the record does not allow in its state.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IllegalTransition {
    /// A plan is in progress already.
    #[error("a plan towards revision {0} is in progress")]
    AlreadyOpen(u64),
    /// No plan is in progress.
    #[error("no plan is in progress")]
    NotOpen,
    /// There is no revision to roll back to.
    #[error("revision {0} has no revision before it")]
    NothingBefore(u64),
}

impl Record {
    /// A plan begins. An open journal is replaced only by a rollback or a removal, which inherits what it
    /// touched; whoever wants something else says so with [`Record::replace`].
    pub fn open(self, journal: Journal) -> Result<Self, IllegalTransition> {
        match &self.journal {
            Some(open) if !matches!(journal.purpose, Purpose::Rollback | Purpose::Remove) => {
                Err(IllegalTransition::AlreadyOpen(open.target))
            }
            _ => Ok(self.replace(journal)),
        }
    }

    /// A plan begins, in the place of one that is open: it inherits what that one touched.
    #[must_use]
    pub fn replace(mut self, mut journal: Journal) -> Self {
        self.retry.clear();
        if let Some(open) = self.journal.take() {
            let outcome = match open.phase {
                Phase::Forward => Outcome::Abandoned,
                // What made it turn around is still true of it.
                Phase::Undo { reason } => Outcome::Failed { reason },
            };
            self.results.insert(open.target, outcome);
            journal.touched.extend(open.touched);
            journal.touched.push(open.target);
            journal.from = journal.from.or(open.from);
        }
        journal.touched.extend(&self.leftover);
        journal.touched.sort_unstable();
        journal.touched.dedup();
        self.journal = Some(journal);
        self
    }

    /// The plan failed and turns around.
    pub fn undo(mut self, reason: String) -> Result<Self, IllegalTransition> {
        let journal = self.journal.as_mut().ok_or(IllegalTransition::NotOpen)?;
        if journal.from.is_none() {
            return Err(IllegalTransition::NothingBefore(journal.target));
        }
        journal.phase = Phase::Undo { reason };
        Ok(self)
    }

    /// Ends the plan; `failed`: why it failed without rollback, if it did.
    pub fn close(mut self, failed: Option<String>) -> Result<Self, IllegalTransition> {
        let journal = self.journal.take().ok_or(IllegalTransition::NotOpen)?;
        let stopped = failed.is_some();
        let (current, outcome) = match (journal.phase, failed) {
            (Phase::Forward, None) => (Some(journal.target), Outcome::Deployed),
            (Phase::Forward, Some(reason)) => (Some(journal.target), Outcome::Failed { reason }),
            (Phase::Undo { reason }, None) => (journal.from, Outcome::RolledBack { reason }),
            (Phase::Undo { reason }, Some(also)) => {
                // The revision that was to come back is not what the cluster is now.
                if let Some(from) = journal.from {
                    self.results.insert(from, Outcome::Failed { reason: also.clone() });
                }
                (
                    journal.from,
                    Outcome::Failed { reason: format!("{reason}; the rollback failed too: {also}") },
                )
            }
        };
        self.leftover.clear();
        if stopped {
            self.leftover.extend(journal.touched.iter().copied().chain(journal.from).chain([journal.target]));
            self.leftover.retain(|number| Some(*number) != current);
        }
        self.results.insert(journal.target, outcome);
        self.current = current;
        Ok(self)
    }

    /// The revisions whose objects may be in the cluster; none where nothing is installed or in progress.
    pub(crate) fn concerned(&self) -> BTreeSet<u64> {
        let journal = self.journal.iter();
        let named = journal
            .flat_map(|open| open.from.into_iter().chain([open.target]).chain(open.touched.iter().copied()));
        named.chain(self.current).chain(self.leftover.iter().copied()).collect()
    }

    /// The newest revision, if it failed or was rolled back, and why.
    pub fn failed(&self) -> Option<(u64, &str)> {
        let (number, outcome) = self.results.last_key_value()?;
        match outcome {
            Outcome::Failed { reason } | Outcome::RolledBack { reason } => Some((*number, reason)),
            Outcome::Deployed | Outcome::Abandoned => None,
        }
    }

    /// The revisions that are kept: `keep` of them, and whatever is needed now. What failed last is kept to be told of,
    /// and then what worked goes before what did not, for it can be gone back to.
    pub(crate) fn kept(&self, keep: usize, known: &BTreeSet<u64>) -> BTreeSet<u64> {
        let mut kept = self.concerned();
        let all: BTreeSet<u64> = self.results.keys().copied().chain(known.iter().copied()).collect();
        let did_not_work = |number: &u64| {
            matches!(
                self.results.get(number),
                Some(Outcome::Failed { .. } | Outcome::RolledBack { .. } | Outcome::Abandoned)
            )
        };
        let (failures, others): (Vec<u64>, Vec<u64>) = all.into_iter().rev().partition(did_not_work);
        let ordered = failures.iter().take(1).chain(&others).chain(failures.iter().skip(1));
        for number in ordered {
            if kept.len() >= keep {
                break;
            }
            kept.insert(*number);
        }
        kept
    }

    /// The revision that an open journal leads to, in the direction it goes now.
    pub fn heading(&self) -> Option<u64> {
        let journal = self.journal.as_ref()?;
        match journal.phase {
            Phase::Forward => Some(journal.target),
            Phase::Undo { .. } => journal.from,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn journal(purpose: Purpose, target: u64, from: Option<u64>) -> Journal {
        Journal {
            purpose,
            target,
            from,
            touched: Vec::new(),
            phase: Phase::Forward,
            extent: None,
            allow_lossy: false,
            allow_in_use: false,
            allow_recreate: false,
            started: Timestamp::UNIX_EPOCH,
            by: "test".into(),
            asked_by: None,
        }
    }

    #[test]
    fn an_install_an_upgrade_and_its_rollback() {
        let record = Record::default().open(journal(Purpose::Install, 1, None)).unwrap();
        assert_eq!(record.heading(), Some(1));
        let record = record.close(None).unwrap();
        assert_eq!(record.current, Some(1));
        let record = record.open(journal(Purpose::Upgrade, 2, Some(1))).unwrap();
        let record = record.undo("image never came up".into()).unwrap();
        assert_eq!(record.heading(), Some(1));
        let record = record.close(None).unwrap();
        assert_eq!(record.current, Some(1));
        assert_eq!(record.results[&1], Outcome::Deployed);
        assert_eq!(record.results[&2], Outcome::RolledBack { reason: "image never came up".into() });
    }

    #[test]
    fn a_failed_first_install_is_not_rolled_back() {
        let record = Record::default().open(journal(Purpose::Install, 1, None)).unwrap();
        assert_eq!(record.clone().undo("x".into()), Err(IllegalTransition::NothingBefore(1)));
        let record = record.close(Some("no room".into())).unwrap();
        assert_eq!(record.current, Some(1));
        assert_eq!(record.results[&1], Outcome::Failed { reason: "no room".into() });
    }

    #[test]
    fn revisions_of_a_stopped_plan_are_kept_until_a_plan_succeeds() {
        let deployed = Record { current: Some(1), ..Record::default() };
        let record = deployed.open(journal(Purpose::Change, 2, Some(1))).unwrap();
        let record = record.close(Some("no room".into())).unwrap();
        assert_eq!((record.current, &record.leftover), (Some(2), &BTreeSet::from([1])));
        let record = record.open(journal(Purpose::Change, 3, Some(2))).unwrap();
        assert_eq!(record.journal.as_ref().unwrap().touched, [1]);
        let record = record.close(None).unwrap();
        assert!(record.leftover.is_empty());
    }

    #[test]
    fn a_failed_rollback_does_not_count_as_deployed() {
        let record = Record { results: BTreeMap::from([(1, Outcome::Deployed)]), ..Record::default() };
        let record = record.open(journal(Purpose::Upgrade, 2, Some(1))).unwrap();
        let record = record.undo("bad image".into()).unwrap().close(Some("no answer".into())).unwrap();
        assert_eq!(record.current, Some(1));
        assert_eq!(record.results[&1], Outcome::Failed { reason: "no answer".into() });
        assert_eq!(record.leftover, BTreeSet::from([2]));
    }

    #[test]
    fn only_a_rollback_or_a_removal_replaces_an_open_journal_and_inherits_what_it_touched() {
        let record = Record { current: Some(1), ..Record::default() };
        let record = record.open(journal(Purpose::Upgrade, 2, Some(1))).unwrap();
        assert_eq!(
            record.clone().open(journal(Purpose::Change, 3, Some(1))),
            Err(IllegalTransition::AlreadyOpen(2))
        );
        let record = record.open(journal(Purpose::Rollback, 3, Some(1))).unwrap();
        assert_eq!(record.results[&2], Outcome::Abandoned);
        let open = record.journal.clone().unwrap();
        assert_eq!((open.target, open.from, open.touched), (3, Some(1), vec![2]));
        assert_eq!(Record::default().close(None), Err(IllegalTransition::NotOpen));
    }

    #[test]
    fn a_superseding_plan_keeps_the_rollback_target() {
        let record = Record { current: Some(1), ..Record::default() };
        let record = record.open(journal(Purpose::Change, 2, Some(1))).unwrap();
        let replaced = record.clone().replace(journal(Purpose::Change, 3, None));
        let open = replaced.journal.as_ref().unwrap();
        assert_eq!((open.target, open.from, open.touched.as_slice()), (3, Some(1), &[2][..]));
        assert_eq!(replaced.results[&2], Outcome::Abandoned);
        let turned = record.undo("bad image".into()).unwrap().replace(journal(Purpose::Change, 3, None));
        assert_eq!(turned.results[&2], Outcome::Failed { reason: "bad image".into() });
    }

    #[test]
    fn deployed_revisions_are_kept_before_failed_ones() {
        let failed = || Outcome::RolledBack { reason: "bad image".into() };
        let results = [(1, Outcome::Deployed), (2, Outcome::Deployed)].into_iter();
        let results = results.chain((3..=12).map(|number| (number, failed()))).collect();
        let record = Record { current: Some(2), results, ..Record::default() };
        assert_eq!(record.kept(3, &BTreeSet::new()), BTreeSet::from([1, 2, 12]));
        assert_eq!(record.kept(4, &BTreeSet::new()), BTreeSet::from([1, 2, 11, 12]));
        // Of the record only the current one is known to have worked, and the others exist.
        let lost = Record { current: Some(3), ..Record::default() };
        assert_eq!(lost.kept(2, &BTreeSet::from([1, 2, 3])), BTreeSet::from([2, 3]));
        assert_eq!(record.failed(), Some((12, "bad image")));
        assert_eq!(lost.failed(), None);
    }
}
