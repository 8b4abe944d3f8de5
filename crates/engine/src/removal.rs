//! Taking an installation away, finished by whoever comes next if it is broken off.

mod labelled;
mod place;

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use trainerd_cluster::lease::Fence;
use trainerd_plan::desired::Desired;
use trainerd_plan::object::GroupKind;
use trainerd_plan::observed::Observed;
use trainerd_plan::order::{Role, role};
use trainerd_plan::plan::{Plan, Purpose};
use trainerd_plan::removal;

use crate::engine::{Engine, RunOptions, State};
use crate::error::{EngineError, one_line};
use crate::event::Event;
use crate::execute::{self, Ended, Limits};
use crate::observe;
use crate::place::released;
use crate::preflight;
use crate::record::{Journal, Phase, Record, Removal};
use crate::terms::Terms;

impl Engine {
    /// Plans the removal of the installation; nothing is written.
    pub async fn prepare_removal(&self, state: &State, extent: Removal) -> Result<Plan, EngineError> {
        let (plan, _) = self.removal(state, extent).await?;
        Ok(plan)
    }

    /// Plans from the revisions that can be read, and from the record's list of kinds where they cannot:
    /// whatever is damaged or was erased already does not stand against a removal.
    async fn removal(&self, state: &State, extent: Removal) -> Result<(Plan, Observed), EngineError> {
        let numbers = concerned(state.record());
        if numbers.is_empty() {
            return Err(self.not_installed());
        }
        let mut revisions = Vec::new();
        for number in numbers {
            revisions.extend(self.store.load_if_sound(number).await?);
        }
        let states: Vec<&Desired> = revisions.iter().map(|revision| &*revision.desired).collect();
        let mut observed = self.observe(&states).await?;
        let known: BTreeSet<GroupKind> = states
            .iter()
            .flat_map(|state| &state.objects)
            .map(|object| object.resource.group_kind())
            .collect();
        let unknown = state.stored.group_kinds.difference(&known).cloned().collect();
        observed.objects.extend(self.labelled(&unknown).await?);
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
    /// A plan under way is replaced, not finished. Returns whether the namespace went.
    ///
    /// # Errors
    /// As [`Engine::run`]; a removal that fails or is broken off keeps its journal and is finished by the
    /// next call, with the extent of that call. [`EngineError::NotInstalled`] where nothing is left at all.
    pub async fn remove(&self, extent: Removal, options: &mut RunOptions<'_>) -> Result<bool, EngineError> {
        let state = self.open_damaged().await?;
        if concerned(state.record()).is_empty() && self.namespace_is_going().await? {
            return Ok(true);
        }
        let guard = self.lease(state.stored.record.token, options.sink).await?;
        let fence = guard.fence();
        self.store.hold(fence.clone());
        let answer = match self.remove_with_lease(extent, &fence, options).await {
            Ok(()) => self.remove_namespace(&fence).await,
            Err(error) => Err(error),
        };
        self.store.let_go();
        match answer {
            Ok(went) => {
                let failed = EngineError::request("delete", "the installation's lease");
                guard.delete().await.map_err(failed).map(|()| went)
            }
            error => released(guard, error).await,
        }
    }

    async fn remove_with_lease(
        &self,
        extent: Removal,
        guard: &Fence,
        options: &mut RunOptions<'_>,
    ) -> Result<(), EngineError> {
        let mut state = self.open_damaged().await?;
        if concerned(state.record()).is_empty() {
            // What a run left that was killed before its journal was open, or at the very end of a removal.
            return self.store.erase(&state.stored).await;
        }
        // Refused before the journal says that anything is under way.
        let (plan, _) = self.removal(&state, extent).await?;
        preflight::check(&self.cluster, &plan).await?;
        if let Some(record) = begun(state.record(), extent, &self.by)? {
            state.stored.record = record;
            state.stored = self.store.write(&state.stored).await?;
        }
        self.finish_removal(state, extent, guard, options).await.map(drop)
    }

    pub(crate) async fn finish_removal(
        &self,
        state: State,
        extent: Removal,
        guard: &Fence,
        options: &mut RunOptions<'_>,
    ) -> Result<State, EngineError> {
        let (mut plan, mut observed) = self.removal(&state, extent).await?;
        (options.sink)(Event::Planned { purpose: Purpose::Remove, revision: None, counts: plan.counts() });
        if let Some(first) = before_crds(&plan) {
            self.carry_out(&state, &first, observed, guard, options).await?;
            // A CRD takes along what is stored under it: what came to be meanwhile is looked for once more.
            (plan, observed) = self.removal(&state, extent).await?;
        }
        self.carry_out(&state, &plan, observed, guard, options).await?;
        self.store.erase(&state.stored).await?;
        Ok(State { stored: crate::store::Stored::default(), current: None })
    }

    async fn carry_out(
        &self,
        state: &State,
        plan: &Plan,
        observed: Observed,
        guard: &Fence,
        options: &mut RunOptions<'_>,
    ) -> Result<(), EngineError> {
        let terms = state.current.as_ref().map(|current| Terms::of(&current.desired.options));
        let limits = Limits {
            settle: Duration::ZERO,
            progress_deadline: terms.map_or(Duration::from_mins(10), |terms| terms.progress_deadline),
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

/// The revisions whose objects may be in the cluster; none where nothing is installed or under way.
fn concerned(record: &Record) -> BTreeSet<u64> {
    let journal = record.journal.iter();
    let named = journal.flat_map(|j| j.from.into_iter().chain([j.target]).chain(j.touched.iter().copied()));
    named.chain(record.current).chain(record.leftover.iter().copied()).collect()
}

/// The record with the removal under way: opened, in place of any other plan, or with another extent.
/// `None` where it says so already.
fn begun(record: &Record, extent: Removal, by: &str) -> Result<Option<Record>, EngineError> {
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
        started: Timestamp::now(),
        by: by.to_owned(),
        asked_by: None,
    };
    Ok(Some(record.open(journal)?))
}

/// The part of a removal that comes before its CRDs, which are its last rank; `None` where it has none, or
/// nothing else.
fn before_crds(plan: &Plan) -> Option<Plan> {
    let crd = plan.steps.iter().position(|step| role(&step.object) == Role::Crd)?;
    (crd > 0).then(|| Plan { steps: plan.steps[..crd].to_vec(), ..plan.clone() })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;
    use trainerd_plan::applyset;
    use trainerd_plan::desired::Installation;
    use trainerd_plan::object::{ObjectKey, Resource};
    use trainerd_plan::observed::LiveObject;
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
            started: Timestamp::UNIX_EPOCH,
            by: "test".to_owned(),
            asked_by: None,
        }
    }

    #[test]
    fn a_removal_begins_over_whatever_is_there() {
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
            ("an upgrade under way", upgrading, 3, vec![1, 3, 4]),
            ("a first install under way", installing, 2, vec![1, 2]),
        ] {
            let begun = begun(&record, Removal::Purge, "remove").unwrap().unwrap();
            let open = begun.journal.as_ref().unwrap();
            assert_eq!(
                (open.purpose, open.target, open.extent),
                (Purpose::Remove, target, Some(Removal::Purge))
            );
            assert_eq!(concerned(&begun).into_iter().collect::<Vec<_>>(), all, "{what}");
        }
    }

    #[test]
    fn a_removal_under_way_goes_on_with_the_extent_that_is_asked_for() {
        let open = journal(Purpose::Remove, 3, None, Some(Removal::KeepStored));
        let record = Record { journal: Some(open.clone()), current: Some(3), ..Record::default() };
        assert_eq!(begun(&record, Removal::KeepStored, "remove").unwrap(), None);
        let wider = begun(&record, Removal::Purge, "remove").unwrap().unwrap();
        assert_eq!(wider.journal, Some(Journal { extent: Some(Removal::Purge), ..open }));
        assert!(concerned(&Record::default()).is_empty());
    }

    #[test]
    fn crds_go_in_a_plan_of_their_own() {
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
