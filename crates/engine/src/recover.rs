//! From an open journal to a closed one: resuming, rolling back, closing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use trainerd_causes::one_line;
use trainerd_cluster::lease::Fence;
use trainerd_plan::allowed::Allowed;
use trainerd_plan::desired::{Desired, DesiredObject};
use trainerd_plan::in_use::PendingDeletion;
use trainerd_plan::observed::Observed;
use trainerd_plan::plan::{Plan, Purpose};
use trainerd_plan::planner;
use trainerd_plan::refused::Refused;
use trainerd_plan::yielded_fields;

use crate::confirmed::but_for;
use crate::engine::Engine;
use crate::error::{EngineError, Failure};
use crate::event::Event;
use crate::execute::Ended;
use crate::namespace::released;
use crate::preflight;
use crate::record::{Journal, Outcome, Phase, Record};
use crate::removal::Confirmed;
use crate::revision::Revision;
use crate::run_options::RunOptions;
use crate::run_policy::RunPolicy;
use crate::state::State;

impl Engine {
    /// Closes the journal of a plan that led to `desired`, and releases what is no longer needed.
    async fn close(
        &self,
        mut state: State,
        desired: Arc<Desired>,
        failed: Option<String>,
    ) -> Result<State, EngineError> {
        let pruned = failed.is_none();
        let record = state.stored.record.close(failed)?;
        let keep = RunPolicy::of(&desired.options).revision_history;
        let known: BTreeSet<u64> = self.store.known_headers().iter().map(|header| header.number).collect();
        let kept = record.kept(keep, &known);
        state.stored.record = record;
        let surplus = known.iter().chain(state.record().results.keys()).any(|number| !kept.contains(number));
        state.stored.record.results.retain(|number, _| kept.contains(number));
        if pruned {
            state.stored.group_kinds.clear();
            state.stored.namespaces.clear();
            self.include(&mut state.stored, &[&desired]);
        }
        state.stored = self.store.write(&state.stored).await?;
        if surplus {
            self.store.trim(&kept).await?;
        }
        // In either direction, the target of the plan is now current.
        state.current = match state.record().current {
            Some(number) => {
                let header = self.store.header(number).await?;
                Some(Revision { header, desired })
            }
            None => None,
        };
        state.header = state.current.as_ref().map(|current| current.header.clone());
        state.damage = None;
        Ok(state)
    }

    /// Finishes an open journal in its direction. Does nothing if none is open.
    pub async fn recover(&self, state: State, options: &mut RunOptions<'_>) -> Result<State, EngineError> {
        if state.journal().is_none() {
            return Ok(state);
        }
        self.recover_allowing(state, Allowed::default(), options).await
    }

    /// Finishes the open journal; `allow` adds what it may have been opened without.
    pub(crate) async fn recover_allowing(
        &self,
        state: State,
        allow: Allowed,
        options: &mut RunOptions<'_>,
    ) -> Result<State, EngineError> {
        self.ensure_namespace().await?;
        let guard = self.lease(state.stored.record.token, options.sink).await?;
        self.store.hold(guard.fence());
        // Read again under the lease: the previous holder may have finished meanwhile.
        let answer = match self.open_damaged().await {
            Ok(mut state) => {
                if let Some(journal) = &mut state.stored.record.journal {
                    journal.allow_lossy |= allow.lossy;
                    journal.allow_in_use |= allow.in_use;
                    journal.allow_recreate |= allow.recreate;
                }
                Box::pin(self.go_on(state, None, Start::Interrupted, &guard.fence(), options)).await
            }
            Err(error) => Err(error),
        };
        self.store.let_go();
        released(guard, answer).await
    }

    /// Goes where the open journal leads, and closes it as that ended. A plan that fails may be undone: then the journal
    /// leads back, and so does the next round. `known`: a revision besides the current one that need not be read again;
    /// `start`: how it comes that there is a journal.
    pub(crate) async fn go_on(
        &self,
        mut state: State,
        known: Option<Revision>,
        mut start: Start,
        guard: &Fence,
        options: &mut RunOptions<'_>,
    ) -> Result<State, EngineError> {
        let mut known: Vec<Revision> = known.into_iter().collect();
        loop {
            let (Some(journal), Some(heading)) = (state.journal().cloned(), state.record().heading()) else {
                return Ok(state);
            };
            if let Some(extent) = journal.extent {
                let confirmed = Confirmed::Before(journal.started);
                return self.finish_removal(state, extent, &confirmed, guard, options).await;
            }
            known.extend(state.current.take());
            let target = match taken(&mut known, heading) {
                Some(target) => target,
                None => self.store.load(heading).await?,
            };
            let others = std::mem::take(&mut known);
            let (ended, pending) =
                Box::pin(self.walk_to(&target, &journal, others, start, guard, options)).await?;
            let purpose = purpose(&journal);
            let failure = match ended {
                Ended::Done => {
                    let state = self.close(state, target.desired, None).await?;
                    return match journal.phase {
                        Phase::Forward => but_for(pending, state),
                        Phase::Undo { reason } => Err(EngineError::RolledBack {
                            purpose: journal.purpose,
                            revision: journal.target,
                            back: heading,
                            reason,
                        }),
                    };
                }
                Ended::Failed { failure, pruning } => {
                    failure.tell(options.sink);
                    let reason = one_line(&failure);
                    // While it prunes, all desired objects exist, and the others are being deleted.
                    if pruning || !is_undone(state.record(), &journal, &target.desired, &failure) {
                        self.close(state, target.desired, Some(reason)).await?;
                        failure
                    } else {
                        state.stored.record = state.stored.record.undo(reason)?;
                        state.stored = self.store.write(&state.stored).await?;
                        options.renew_tries();
                        (known, start) = (vec![target], Start::Interrupted);
                        continue;
                    }
                }
                interrupted => return interrupted.into_result(purpose, heading, options).map(|()| state),
            };
            return Err(EngineError::Failed { purpose, revision: heading, cause: Box::new(failure) });
        }
    }

    /// Plans towards the target of a journal from whatever is there now, and walks; again where that met what somebody
    /// else did.
    async fn walk_to(
        &self,
        target: &Revision,
        journal: &Journal,
        mut known: Vec<Revision>,
        start: Start,
        guard: &Fence,
        options: &mut RunOptions<'_>,
    ) -> Result<(Ended, Vec<PendingDeletion>), EngineError> {
        let purpose = purpose(journal);
        let mut overtaken = match start {
            Start::Walked(ended) => match *ended {
                Ended::Failed { failure, .. } if failure.overtaken().is_some() => Some(failure),
                ended => return Ok((ended, Vec::new())),
            },
            Start::Fresh => None,
            Start::Interrupted => {
                (options.sink)(match &journal.phase {
                    Phase::Undo { reason } => {
                        Event::RollingBack { to: target.header.number, reason: reason.clone() }
                    }
                    Phase::Forward => Event::Recovering { purpose, target: journal.target, undo: false },
                });
                None
            }
        };
        loop {
            if let Some(failure) = overtaken.take_if(|_| options.is_out_of_tries()) {
                return Ok((Ended::Failed { failure, pruning: false }, Vec::new()));
            }
            if let Some(failure) = &overtaken {
                options.may_plan_again(failure).await;
            }
            let (plan, observed) =
                self.plan_again(journal, purpose, target, std::mem::take(&mut known)).await?;
            let failure = match (plan, overtaken.take()) {
                // Refused because of another actor's change: the plan has failed and is rolled back.
                (Err(refused), Some(failure)) => {
                    tracing::warn!(refused = %Failure::Refused(refused), "the plan cannot be made again");
                    failure
                }
                // Nothing of a revision that exists says which fields it leaves to others since.
                (Ok(plan), Some(failure)) if leaves_more(&plan, &target.desired) => failure,
                // A run with the permission continues from here.
                (Err(refused), None)
                    if journal.purpose == Purpose::Rollback && refused.iter().all(is_lossy) =>
                {
                    return Err(EngineError::Refused(refused));
                }
                // Refused for ever, the journal would stand in the way of whoever wants something else: such a
                // plan has failed, and is closed. What it left is remembered.
                (Err(refused), None) => Failure::Refused(refused),
                (Ok(plan), _) => {
                    preflight::check(&self.cluster, &plan).await?;
                    (options.sink)(Event::Planned {
                        purpose,
                        revision: Some(target.header.number),
                        counts: plan.counts(),
                    });
                    match self.walk(&plan, observed, Some(guard), &target.desired, options).await? {
                        Ended::Failed { failure, .. } if failure.overtaken().is_some() => {
                            overtaken = Some(failure);
                            continue;
                        }
                        ended => return Ok((ended, plan.pending_deletions)),
                    }
                }
            };
            return Ok((Ended::Failed { failure, pruning: false }, Vec::new()));
        }
    }

    /// Plans from the current state to the target of an open journal.
    async fn plan_again(
        &self,
        journal: &Journal,
        purpose: Purpose,
        target: &Revision,
        mut known: Vec<Revision>,
    ) -> Result<(Result<Plan, Vec<Refused>>, Observed), EngineError> {
        let mut others = Vec::new();
        let numbers =
            [Some(journal.target), journal.from].into_iter().flatten().chain(journal.touched.iter().copied());
        for number in numbers.filter(|number| *number != target.header.number).collect::<BTreeSet<_>>() {
            // What cannot be read is found by its label all the same.
            others.extend(match taken(&mut known, number) {
                Some(other) => Some(other),
                None => self.store.load_if_sound(number).await?,
            });
        }
        let last = written_before(&target.desired, &others);
        let states: Vec<&Desired> =
            others.iter().map(|revision| &*revision.desired).chain([&*target.desired]).collect();
        let observed = self.observe(&states).await?;
        // An automatic rollback was allowed by its option when the plan began.
        let lossy = matches!(journal.phase, Phase::Undo { .. }) || journal.allow_lossy;
        let allow = Allowed { lossy, in_use: journal.allow_in_use, recreate: journal.allow_recreate };
        let policy = RunPolicy::of(&target.desired.options);
        let request = self.request(purpose, &target.desired, Some(&last), &observed, &policy, allow);
        let plan = planner::resume(&request);
        Ok((plan, observed))
    }
}

/// How it comes that there is an open journal to finish.
pub(crate) enum Start {
    /// It was found.
    Interrupted,
    /// It was opened a moment ago.
    Fresh,
    /// It was opened, and its plan was walked.
    Walked(Box<Ended>),
}

/// The purpose of a journal; one that rolls back is a rollback.
fn purpose(journal: &Journal) -> Purpose {
    match journal.phase {
        Phase::Forward => journal.purpose,
        Phase::Undo { .. } => Purpose::Rollback,
    }
}

/// Whether a plan that failed so is rolled back automatically.
fn is_undone(record: &Record, journal: &Journal, desired: &Desired, failure: &Failure) -> bool {
    // Going back to what never worked would only fail again.
    let worked = |number| record.results.get(&number) == Some(&Outcome::Deployed);
    // A refusal has written nothing, and a rollback may narrow CRDs, which is not permitted now.
    !matches!(failure, Failure::Refused(_))
        && RunPolicy::of(&desired.options).auto_rollback
        && journal.from.is_some_and(worked)
        && journal.phase == Phase::Forward
        && matches!(journal.purpose, Purpose::Upgrade | Purpose::Change)
}

/// The revision of that number, if it is among those in memory.
fn taken(known: &mut Vec<Revision>, number: u64) -> Option<Revision> {
    let place = known.iter().position(|revision| revision.header.number == number);
    place.map(|place| known.swap_remove(place))
}

/// Whether a plan leaves fields to others that the state it leads to does not.
fn leaves_more(plan: &Plan, desired: &Desired) -> bool {
    yielded_fields::are_any(desired, plan) && yielded_fields::with_yielded(desired.clone(), plan) != *desired
}

fn is_lossy(refused: &Refused) -> bool {
    matches!(refused, Refused::LossyRollback { .. })
}

/// What was last sent, as far as several revisions may have been: the objects of the revisions that were
/// left or interrupted, and of the target those that only it has.
pub(crate) fn written_before(target: &Desired, others: &[Revision]) -> Desired {
    let mut objects: BTreeMap<_, &DesiredObject> = BTreeMap::new();
    for revision in others {
        objects.extend(revision.desired.objects.iter().map(|object| (object.key(), object)));
    }
    for object in &target.objects {
        objects.entry(object.key()).or_insert(object);
    }
    Desired { objects: objects.into_values().cloned().collect(), ..target.clone() }
}

impl Ended {
    /// The end of a run without a journal of its own, or with one that stays open.
    pub(crate) fn into_result(
        self,
        purpose: Purpose,
        revision: u64,
        options: &RunOptions<'_>,
    ) -> Result<(), EngineError> {
        match self {
            Self::Done => Ok(()),
            Self::Failed { failure, .. } => {
                failure.tell(options.sink);
                Err(EngineError::Failed { purpose, revision, cause: Box::new(failure) })
            }
            Self::TimedOut { waiting } => {
                let seconds = options.timeout.unwrap_or_default().as_secs();
                Err(EngineError::TimedOut { seconds, waiting })
            }
            Self::Interrupted => Err(EngineError::Interrupted),
        }
    }
}
