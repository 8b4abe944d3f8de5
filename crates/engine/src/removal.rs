//! Removal of an installation; an interrupted one is finished by the next run.

mod labelled;
mod namespace;

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;
use trainerd_causes::one_line;
use trainerd_cluster::lease::{Fence, FencingToken};
use trainerd_plan::desired::Desired;
use trainerd_plan::object::{GroupKind, ObjectKey};
use trainerd_plan::observed::{LiveObject, Observed};
use trainerd_plan::order::{ObjectClass, object_class};
use trainerd_plan::plan::{Plan, Purpose, Verb};
use trainerd_plan::removal;

use crate::confirmed::FRESH;
use crate::engine::Engine;
use crate::error::EngineError;
use crate::event::Event;
use crate::execute::{self, Ended, Limits};
use crate::namespace::released;
use crate::observe;
use crate::preflight;
use crate::record::{Journal, Phase, Record, Removal};
use crate::run_options::RunOptions;
use crate::run_policy::RunPolicy;
use crate::state::State;

/// A removal as it was shown: what runs is this, and nothing beyond it.
#[derive(Clone, Debug)]
pub struct PreparedRemoval {
    /// The plan.
    pub plan: Plan,
    extent: Removal,
    /// Where the installation was when it was planned.
    state: State,
    /// What was observed then, and when.
    observed: Observed,
    observed_at: Instant,
}

impl PreparedRemoval {
    /// Whether there is neither a record of the installation nor anything that would be deleted.
    pub fn is_empty(&self) -> bool {
        !self.is_recorded() && self.plan.is_empty()
    }

    /// Whether there was a record of the installation.
    fn is_recorded(&self) -> bool {
        !self.state.record().concerned().is_empty()
    }

    /// Whether nobody held the lease between the last write of the record and the tenure of this token.
    fn is_followed_by(&self, token: &FencingToken) -> bool {
        self.state.record().token.as_ref().is_some_and(|known| token.follows(known))
    }
}

/// A removal that is about to be carried out.
struct Begun {
    plan: Plan,
    observed: Observed,
}

/// What happened to the namespace of an installation that was removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NamespaceLeft {
    /// It was deleted.
    Gone,
    /// It is being deleted; why that is blocked, if it is.
    Going {
        /// Its conditions that are true.
        conditions: Vec<String>,
    },
    /// It stays: trainerd did not make it, or something else is in it.
    Stays,
}

/// What may be deleted by a removal.
pub(crate) enum Confirmed<'p> {
    /// What was shown for confirmation.
    Seen(&'p Plan),
    /// What users had stored before the removal began at that time, and everything of the installation's own.
    Before(Timestamp),
}

impl Confirmed<'_> {
    /// What a plan would delete without being asked.
    fn added(&self, plan: &Plan, observed: &Observed) -> Vec<ObjectKey> {
        match self {
            Self::Seen(confirmed) => {
                let uids = confirmed.steps.iter().filter_map(|step| match &step.verb {
                    Verb::Delete { uid, .. } => Some(uid.as_str()),
                    _ => None,
                });
                let uids: BTreeSet<&str> = uids.collect();
                let added = plan.beyond(confirmed).into_iter();
                // Objects owned by deleted ones are garbage-collected anyway.
                added.filter(|key| !is_owned_by(observed, key, |uid| uids.contains(uid))).collect()
            }
            Self::Before(started) => {
                let is_later = |live: &LiveObject| {
                    let created = live.value["metadata"]["creationTimestamp"].as_str();
                    created.and_then(|text| text.parse::<Timestamp>().ok()).is_some_and(|at| at > *started)
                };
                let stored = observed.custom_objects.values();
                let earlier: BTreeSet<&str> =
                    stored.filter(|live| !is_later(live)).map(LiveObject::uid).collect();
                let later = |key: &&ObjectKey| {
                    observed.custom_objects.get(*key).is_some_and(is_later)
                        && !is_owned_by(observed, key, |uid| earlier.contains(uid))
                };
                plan.steps.iter().map(|step| &step.object).filter(later).cloned().collect()
            }
        }
    }
}

/// Whether an object has an owner of whom that is true, or one that has.
fn is_owned_by(observed: &Observed, key: &ObjectKey, goes: impl Fn(&str) -> bool) -> bool {
    let owners = |live: &LiveObject| -> Vec<String> {
        let owners = live.value["metadata"]["ownerReferences"].as_array();
        let uids = owners.into_iter().flatten().filter_map(|owner| owner["uid"].as_str());
        uids.map(str::to_owned).collect()
    };
    let by_uid = |uid: &str| observed.custom_objects.values().find(|live| live.uid() == uid);
    let mut seen = BTreeSet::new();
    let mut queue: Vec<String> = observed.custom_objects.get(key).map(owners).unwrap_or_default();
    while let Some(uid) = queue.pop() {
        if goes(&uid) {
            return true;
        }
        if seen.insert(uid.clone()) {
            queue.extend(by_uid(&uid).map(owners).unwrap_or_default());
        }
    }
    false
}

impl Engine {
    /// Plans the removal of the installation; nothing is written. Where there is no record of it, what carries its
    /// label is looked for: its namespace may have been deleted, and an earlier removal may have left something.
    pub async fn prepare_removal(
        &self,
        state: &State,
        extent: Removal,
    ) -> Result<PreparedRemoval, EngineError> {
        let observed_at = Instant::now();
        let (plan, observed) = self.removal(state, extent).await?;
        Ok(PreparedRemoval { plan, extent, state: state.clone(), observed, observed_at })
    }

    /// Everything in the cluster that is this installation's by label and that trainerd applied, whatever is recorded
    /// of it.
    pub async fn left_behind(&self) -> Result<Vec<ObjectKey>, EngineError> {
        let found = self.labelled_anywhere().await?;
        let manager = self.cluster.field_manager();
        let ours = found.into_iter().filter(|(_, live)| live.is_member(self.installation(), manager));
        Ok(ours.map(|(key, _)| key).collect())
    }

    /// Plans from the revisions that can be read, and from the record's list of kinds where they cannot:
    /// whatever is damaged or was erased already does not stand against a removal.
    async fn removal(&self, state: &State, extent: Removal) -> Result<(Plan, Observed), EngineError> {
        let mut revisions = Vec::new();
        for number in state.record().concerned() {
            revisions.extend(self.store.load_if_sound(number).await?);
        }
        let states: Vec<&Desired> = revisions.iter().map(|revision| &*revision.desired).collect();
        let mut observed = self.observe(&states).await?;
        if state.stored.group_kinds.is_empty() {
            observed.objects.extend(self.labelled_anywhere().await?);
        } else {
            let known: BTreeSet<GroupKind> = states
                .iter()
                .flat_map(|state| &state.objects)
                .map(|object| object.resource.group_kind())
                .collect();
            let unknown = state.stored.group_kinds.difference(&known).cloned().collect();
            observed.objects.extend(self.labelled(&unknown).await?);
        }
        observed.objects.retain(|key, _| !self.store.edited.contains(key));
        // What a CRD change would drop is no concern of a removal.
        observed.workload_refs.clear();
        if extent != Removal::KeepStored {
            observed.custom_objects = observe::custom_objects(&self.cluster, &observed).await?;
        }
        let manager = self.cluster.field_manager();
        let plan = removal::plan(self.installation(), &observed, extent.into(), manager);
        Ok((plan.map_err(EngineError::Refused)?, observed))
    }

    /// Removes the installation: the planned objects, then trainerd's own records, then the namespace if
    /// trainerd made it and nothing else is in it, then the lease under which all that was done.
    ///
    /// What was shown is not looked at again if that was just now and nobody could write since; else more must not go than
    /// was shown. A plan in progress is replaced, not finished. Where the namespace is gone and something is left to delete, it is
    /// made for as long as that takes: lease and journal are kept there.
    ///
    /// # Errors
    /// As [`Engine::run`]; a removal that fails or is interrupted keeps its journal and is finished by the
    /// next call, with the extent of that call. [`EngineError::ChangedMeanwhile`] where more would go than was shown.
    /// [`EngineError::NotInstalled`] where nothing is left at all.
    pub async fn remove(
        &self,
        confirmed: &PreparedRemoval,
        options: &mut RunOptions<'_>,
    ) -> Result<NamespaceLeft, EngineError> {
        if !confirmed.is_recorded() {
            if !confirmed.plan.is_empty() {
                self.ensure_namespace().await?;
            } else if self.namespace_is_going().await? {
                return self.namespace_left(true).await;
            }
        }
        let guard = self.lease(confirmed.state.record().token.clone(), options.sink).await?;
        let fence = guard.fence();
        self.store.hold(fence.clone());
        let answer = match self.remove_with_lease(confirmed, &fence, options).await {
            Ok(()) => match self.remove_edited(&fence).await {
                Ok(()) => self.remove_namespace(&fence).await,
                Err(error) => Err(error),
            },
            Err(error) => Err(error),
        };
        self.store.let_go();
        match answer {
            Ok(went) => {
                let failed = EngineError::request("delete", "the installation's lease");
                guard.delete().await.map_err(failed)?;
                self.namespace_left(went).await
            }
            Err(error) => released(guard, Err(error)).await,
        }
    }

    async fn remove_with_lease(
        &self,
        confirmed: &PreparedRemoval,
        guard: &Fence,
        options: &mut RunOptions<'_>,
    ) -> Result<(), EngineError> {
        let extent = confirmed.extent;
        let (mut state, begun) = if self.is_of_now(confirmed, guard).await? {
            let (plan, observed) = (confirmed.plan.clone(), confirmed.observed.clone());
            (confirmed.state.clone(), Begun { plan, observed })
        } else {
            let state = self.open_damaged().await?;
            if state.record().concerned().is_empty() && confirmed.plan.is_empty() {
                // What a run left that was killed before its journal was open, or at the very end of a removal.
                return self.store.erase(&state.stored).await;
            }
            let (plan, observed) = self.removal(&state, extent).await?;
            (state, Begun { plan, observed })
        };
        // Refused before the journal says that anything is in progress.
        let confirmed = Confirmed::Seen(&confirmed.plan);
        check(&confirmed, &begun.plan, &begun.observed)?;
        preflight::check(&self.cluster, &begun.plan).await?;
        if let Some(record) = opened(state.record(), extent, &self.by)? {
            state.stored.record = record;
            // Without a readable revision, the kinds found now are stored for a later run.
            let kinds = begun.plan.steps.iter().map(|step| step.object.group_kind());
            state.stored.group_kinds.extend(kinds);
            state.stored = self.store.write(&state.stored).await?;
        }
        self.carry_on(state, extent, &confirmed, begun, guard, options).await.map(drop)
    }

    /// Whether it need not be looked again: that was just now, and what the installation is at was not changed since. What
    /// somebody changed of its objects meets the preconditions of each delete.
    async fn is_of_now(&self, confirmed: &PreparedRemoval, guard: &Fence) -> Result<bool, EngineError> {
        let Some(version) = confirmed.state.version().filter(|_| confirmed.observed_at.elapsed() < FRESH)
        else {
            return Ok(false);
        };
        Ok(confirmed.is_followed_by(guard.token())
            || self.store.record().await?.version.as_deref() == Some(version))
    }

    /// Finishes a removal that was interrupted, from whatever is there now.
    pub(crate) async fn finish_removal(
        &self,
        state: State,
        extent: Removal,
        confirmed: &Confirmed<'_>,
        guard: &Fence,
        options: &mut RunOptions<'_>,
    ) -> Result<State, EngineError> {
        let (plan, observed) = self.removal(&state, extent).await?;
        check(confirmed, &plan, &observed)?;
        self.carry_on(state, extent, confirmed, Begun { plan, observed }, guard, options).await
    }

    async fn carry_on(
        &self,
        state: State,
        extent: Removal,
        confirmed: &Confirmed<'_>,
        Begun { mut plan, mut observed }: Begun,
        guard: &Fence,
        options: &mut RunOptions<'_>,
    ) -> Result<State, EngineError> {
        (options.sink)(Event::Planned { purpose: Purpose::Remove, revision: None, counts: plan.counts() });
        if let Some(first) = before_crds(&plan) {
            self.carry_out(&state, &first, observed, guard, options).await?;
            // Deleting a CRD deletes its objects: new ones are looked for once more.
            (plan, observed) = self.removal(&state, extent).await?;
            check(confirmed, &plan, &observed)?;
        }
        self.carry_out(&state, &plan, observed, guard, options).await?;
        self.store.erase(&state.stored).await?;
        Ok(State::nothing())
    }

    async fn carry_out(
        &self,
        state: &State,
        plan: &Plan,
        observed: Observed,
        guard: &Fence,
        options: &mut RunOptions<'_>,
    ) -> Result<(), EngineError> {
        let policy = state.current.as_ref().map(|current| RunPolicy::of(&current.desired.options));
        let limits = Limits {
            settle: Duration::ZERO,
            progress_deadline: policy.map_or(Duration::from_mins(10), |policy| policy.progress_deadline),
            deadline: options.deadline,
        };
        let (sink, cancel) = (options.sink, &mut options.cancel);
        let ended =
            execute::execute(&self.cluster, plan, observed, Some(guard), limits, sink, cancel).await?;
        if let Ended::Failed { failure, .. } = &ended {
            tracing::warn!(error = %one_line(failure), "the removal stopped; its journal stays open");
        }
        let target = state.journal().map(|journal| journal.target);
        ended.into_result(plan.purpose, target.or(state.record().current).unwrap_or_default(), options)
    }
}

/// Refuses steps that were not requested.
fn check(confirmed: &Confirmed<'_>, plan: &Plan, observed: &Observed) -> Result<(), EngineError> {
    let added = confirmed.added(plan, observed);
    if added.is_empty() { Ok(()) } else { Err(EngineError::ChangedMeanwhile { added }) }
}

/// The record with the removal in progress: opened, in place of any other plan, or with another extent.
/// `None` where it says so already.
fn opened(record: &Record, extent: Removal, by: &str) -> Result<Option<Record>, EngineError> {
    let mut record = record.clone();
    match &mut record.journal {
        Some(journal) if journal.extent == Some(extent) => return Ok(None),
        Some(journal) if journal.extent.is_some() => {
            journal.extent = Some(extent);
            return Ok(Some(record));
        }
        _ => {}
    }
    let target = record.current.or(record.journal.as_ref().map(|open| open.target)).unwrap_or_default();
    let journal = Journal {
        purpose: Purpose::Remove,
        target,
        from: None,
        touched: Vec::new(),
        phase: Phase::Forward,
        extent: Some(extent),
        allow_lossy: false,
        allow_in_use: false,
        allow_recreate: false,
        started: Timestamp::now(),
        by: by.to_owned(),
        asked_by: None,
    };
    Ok(Some(record.open(journal)?))
}

/// The part of a removal that comes before its CRDs, which are its last rank; `None` where it has none, or
/// nothing else.
fn before_crds(plan: &Plan) -> Option<Plan> {
    let crd = plan.steps.iter().position(|step| object_class(&step.object) == ObjectClass::Crd)?;
    (crd > 0).then(|| Plan { steps: plan.steps[..crd].to_vec(), ..plan.clone() })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;
    use trainerd_plan::applyset;
    use trainerd_plan::desired::Installation;
    use trainerd_plan::object::Resource;
    use trainerd_plan::removal::Extent;

    use super::*;

    fn journal(purpose: Purpose, target: u64, from: Option<u64>, extent: Option<Removal>) -> Journal {
        Journal {
            purpose,
            target,
            from,
            touched: vec![1],
            phase: Phase::Forward,
            extent,
            allow_lossy: false,
            allow_in_use: false,
            allow_recreate: false,
            started: Timestamp::UNIX_EPOCH,
            by: "test".to_owned(),
            asked_by: None,
        }
    }

    #[test]
    fn a_removal_replaces_any_open_journal() {
        let deployed = Record { current: Some(3), ..Record::default() };
        let upgrading = Record {
            journal: Some(journal(Purpose::Upgrade, 4, Some(3), None)),
            current: Some(3),
            ..Record::default()
        };
        let installing =
            Record { journal: Some(journal(Purpose::Install, 2, None, None)), ..Record::default() };
        for (what, record, target, all) in [
            ("deployed", deployed, 3, vec![3]),
            ("an upgrade in progress", upgrading, 3, vec![1, 3, 4]),
            ("a first install in progress", installing, 2, vec![1, 2]),
        ] {
            let begun = opened(&record, Removal::Purge, "remove").unwrap().unwrap();
            let open = begun.journal.as_ref().unwrap();
            assert_eq!(
                (open.purpose, open.target, open.extent),
                (Purpose::Remove, target, Some(Removal::Purge))
            );
            assert_eq!(begun.concerned().into_iter().collect::<Vec<_>>(), all, "{what}");
        }
    }

    #[test]
    fn an_interrupted_removal_continues_with_the_requested_scope() {
        let open = journal(Purpose::Remove, 3, None, Some(Removal::KeepStored));
        let record = Record { journal: Some(open.clone()), current: Some(3), ..Record::default() };
        assert_eq!(opened(&record, Removal::KeepStored, "remove").unwrap(), None);
        let wider = opened(&record, Removal::Purge, "remove").unwrap().unwrap();
        assert_eq!(wider.journal, Some(Journal { extent: Some(Removal::Purge), ..open }));
        assert!(Record::default().concerned().is_empty());
    }

    #[test]
    fn objects_created_after_the_confirmation_are_not_deleted() {
        let installation = Installation { name: "t".into(), namespace: "ns".into() };
        let resource = |group: &str, kind: &str| Resource {
            group: group.into(),
            version: "v1".into(),
            kind: kind.into(),
            plural: kind.to_lowercase(),
            namespaced: kind != "CustomResourceDefinition",
        };
        let crd = resource("apiextensions.k8s.io", "CustomResourceDefinition");
        let mut observed = Observed::default();
        let key = ObjectKey {
            group: crd.group.clone(),
            kind: crd.kind.clone(),
            namespace: None,
            name: "crd".into(),
        };
        let value = json!({
            "metadata": {
                "uid": "crd", "labels": {applyset::PART_OF: applyset::id(&installation)},
                "managedFields": [{"manager": "trainerd", "operation": "Apply"}],
            },
            "spec": {"group": "x", "names": {"kind": "Job"}},
        });
        observed.objects.insert(key, LiveObject { resource: crd, value });
        let store = |observed: &mut Observed, name: &str, created: &str, owner: Option<&str>| {
            let key = ObjectKey {
                group: "x".into(),
                kind: "Job".into(),
                namespace: Some("team".into()),
                name: name.into(),
            };
            let mut value = json!({"metadata": {"uid": name, "creationTimestamp": created}});
            if let Some(owner) = owner {
                value["metadata"]["ownerReferences"] = json!([{"uid": owner}]);
            }
            observed.custom_objects.insert(key.clone(), LiveObject { resource: resource("x", "Job"), value });
            key
        };
        let planned = |observed: &Observed| {
            removal::plan(&installation, observed, Extent::PurgeWithJobs, "trainerd").unwrap()
        };
        store(&mut observed, "seen", "2026-01-01T00:00:00Z", None);
        let seen = planned(&observed);
        let started: Timestamp = "2026-01-01T00:01:00Z".parse().unwrap();
        for confirmed in [Confirmed::Seen(&seen), Confirmed::Before(started)] {
            assert_eq!(confirmed.added(&planned(&observed), &observed), []);
        }
        // Objects owned by deleted ones are garbage-collected.
        store(&mut observed, "child", "2026-01-01T00:02:00Z", Some("seen"));
        store(&mut observed, "grandchild", "2026-01-01T00:02:00Z", Some("child"));
        let unseen = store(&mut observed, "unseen", "2026-01-01T00:02:00Z", None);
        for confirmed in [Confirmed::Seen(&seen), Confirmed::Before(started)] {
            assert_eq!(confirmed.added(&planned(&observed), &observed), std::slice::from_ref(&unseen));
        }
    }

    #[test]
    fn crds_are_removed_in_a_separate_plan() {
        let installation = Installation { name: "t".into(), namespace: "ns".into() };
        let live = |group: &str, kind: &str| {
            let key = ObjectKey { group: group.into(), kind: kind.into(), namespace: None, name: "a".into() };
            let labels = json!({applyset::PART_OF: applyset::id(&installation)});
            let resource = Resource {
                group: group.into(),
                version: "v1".into(),
                kind: kind.into(),
                plural: kind.to_lowercase(),
                namespaced: false,
            };
            let managers = json!([{"manager": "trainerd", "operation": "Apply"}]);
            let metadata = json!({"uid": kind, "labels": labels, "managedFields": managers});
            (key, LiveObject { resource, value: json!({"metadata": metadata}) })
        };
        let crd = live("apiextensions.k8s.io", "CustomResourceDefinition");
        let others = [live("apps", "Deployment"), live("", "ConfigMap")];
        let plan = |objects: BTreeMap<ObjectKey, LiveObject>, extent| {
            let observed = Observed { objects, ..Observed::default() };
            removal::plan(&installation, &observed, extent, "trainerd").unwrap()
        };
        let all = || others.iter().cloned().chain([crd.clone()]).collect();
        let first = before_crds(&plan(all(), Extent::Purge)).unwrap();
        let kinds: Vec<_> = first.steps.iter().map(|step| step.object.kind.as_str()).collect();
        assert_eq!(kinds, ["Deployment", "ConfigMap"]);
        assert!(first.steps.iter().flat_map(|step| &step.after).all(|&before| before < first.steps.len()));
        assert_eq!(before_crds(&plan(all(), Extent::KeepStored)), None);
        assert_eq!(before_crds(&plan([crd.clone()].into(), Extent::Purge)), None);
    }
}
