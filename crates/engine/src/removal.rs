//! Taking an installation away, and what it leaves of itself.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::Value;
use trainerd_cluster::lease::Fence;
use trainerd_cluster::{DeleteParams, ListParams};
use trainerd_plan::applyset;
use trainerd_plan::desired::Desired;
use trainerd_plan::observed::Observed;
use trainerd_plan::plan::{Plan, Purpose};
use trainerd_plan::removal;

use crate::engine::{Engine, RunOptions, State};
use crate::error::{EngineError, one_line};
use crate::event::Event;
use crate::execute::{self, Ended, Limits};
use crate::kinds;
use crate::observe;
use crate::place::released;
use crate::record::{Journal, Phase, Removal};
use crate::retry::patiently;
use crate::terms::Terms;

impl Engine {
    /// Plans the removal of the installation; nothing is written.
    pub async fn prepare_removal(&self, state: &State, extent: Removal) -> Result<Plan, EngineError> {
        let (plan, _) = self.removal(state, extent).await?;
        Ok(plan)
    }

    async fn removal(&self, state: &State, extent: Removal) -> Result<(Plan, Observed), EngineError> {
        let numbers: BTreeSet<u64> = {
            let journal = state.journal();
            let named = journal
                .iter()
                .flat_map(|j| [Some(j.target), j.from].into_iter().flatten().chain(j.touched.clone()));
            named.chain(state.record().current).collect()
        };
        if numbers.is_empty() {
            return Err(self.not_installed());
        }
        let mut revisions = Vec::new();
        for number in numbers {
            revisions.push(self.store.load(number).await?);
        }
        let states: Vec<&Desired> = revisions.iter().map(|revision| &revision.desired).collect();
        let mut observed = self.observe(&states).await?;
        // What a CRD change would drop is no concern of a removal.
        observed.workload_refs.clear();
        if extent != Removal::KeepStored {
            observed.custom_objects = observe::custom_objects(&self.cluster, &observed).await?;
        }
        let plan =
            removal::plan(self.installation(), &observed, extent.into()).map_err(EngineError::Refused)?;
        Ok((plan, observed))
    }

    /// Removes the installation: the planned objects, then trainerd's own records, then the namespace if
    /// trainerd made it and nothing else is in it.
    ///
    /// Returns whether the namespace went.
    ///
    /// # Errors
    /// As [`Engine::run`]; a removal that fails or is broken off keeps its journal and is finished by the
    /// next call.
    pub async fn remove(&self, extent: Removal, options: &mut RunOptions<'_>) -> Result<bool, EngineError> {
        let state = self.open().await?;
        if state.record().current.is_none() && state.journal().is_none() {
            return self.sweep_leftovers(options).await;
        }
        let guard = self.lease(options.sink).await?;
        let answer = self.remove_with_lease(extent, &guard.fence(), options).await;
        let done = released(guard, answer).await?;
        if done { self.sweep().await } else { Ok(false) }
    }

    async fn remove_with_lease(
        &self,
        extent: Removal,
        guard: &Fence,
        options: &mut RunOptions<'_>,
    ) -> Result<bool, EngineError> {
        let mut state = self.open().await?;
        if state.journal().is_some_and(|journal| journal.extent.is_none()) {
            state = self.finish(state, guard, options).await?;
        }
        if state.journal().is_none() {
            let Some(current) = state.record().current else { return Ok(true) };
            // Refused before the journal says that anything is under way.
            self.removal(&state, extent).await?;
            let journal = Journal {
                purpose: Purpose::Remove,
                target: current,
                from: None,
                touched: Vec::new(),
                phase: Phase::Forward,
                extent: Some(extent),
                allow_lossy: false,
                started: Timestamp::now(),
                by: self.by.clone(),
            };
            state.stored.record = state.stored.record.open(journal)?;
            state.stored = self.store.write(&state.stored).await?;
        }
        self.finish_removal(state, extent, guard, options).await.map(|_| true)
    }

    pub(crate) async fn finish_removal(
        &self,
        state: State,
        extent: Removal,
        guard: &Fence,
        options: &mut RunOptions<'_>,
    ) -> Result<State, EngineError> {
        let (plan, observed) = self.removal(&state, extent).await?;
        (options.sink)(Event::Planned { purpose: Purpose::Remove, revision: None, counts: plan.counts() });
        let terms = state.current.as_ref().map(|current| Terms::of(&current.desired.options));
        let limits = Limits {
            settle: std::time::Duration::ZERO,
            progress_deadline: terms
                .map_or(std::time::Duration::from_mins(10), |terms| terms.progress_deadline),
            timeout: options.timeout,
        };
        let cancel = &mut options.cancel;
        let ended =
            execute::execute(&self.cluster, &plan, &observed, Some(guard), limits, options.sink, cancel)
                .await?;
        let revision = state.record().current.unwrap_or_default();
        if let Ended::Failed(failure) = &ended {
            tracing::warn!(error = %one_line(failure), "the removal stopped; its journal stays open");
        }
        ended.into_result(&plan, revision, options)?;
        self.store.erase().await?;
        Ok(State { stored: crate::store::Stored::default(), current: None })
    }

    /// A removal that was killed after its record went leaves a lease and perhaps the namespace.
    async fn sweep_leftovers(&self, _options: &mut RunOptions<'_>) -> Result<bool, EngineError> {
        let name = &self.installation().namespace;
        let namespace = observe::namespace(&self.cluster, name).await;
        let namespace = namespace.map_err(EngineError::request("read", format!("namespace {name}")))?;
        let ours = namespace.as_ref().is_some_and(|namespace| self.created(namespace));
        let lease = self
            .cluster
            .get_opt(&kinds::lease(), Some(name), &applyset::parent_name(self.installation()))
            .await;
        let lease = lease.map_err(EngineError::request("read", "the installation's lease"))?;
        if !ours && lease.is_none() {
            return Err(self.not_installed());
        }
        self.sweep().await
    }

    /// Whether trainerd made that namespace for this installation.
    fn created(&self, namespace: &Value) -> bool {
        namespace["metadata"]["annotations"][applyset::CREATED_FOR].as_str()
            == Some(&self.installation().name)
    }

    /// Deletes the lease, and the namespace if trainerd made it and nothing else is in it.
    async fn sweep(&self) -> Result<bool, EngineError> {
        let namespace = &self.installation().namespace;
        let lease = applyset::parent_name(self.installation());
        let kind = kinds::lease();
        let delete =
            async || self.cluster.delete(&kind, Some(namespace), &lease, &DeleteParams::default()).await;
        match patiently(delete).await {
            Ok(_) => {}
            Err(error) if error.is_absent() => {}
            Err(error) => return Err(EngineError::request("delete", "the installation's lease")(error)),
        }
        let found = observe::namespace(&self.cluster, namespace).await;
        let found = found.map_err(EngineError::request("read", format!("namespace {namespace}")))?;
        let Some(found) = found.filter(|found| self.created(found)) else { return Ok(false) };
        if let Some(other) = self.anything_else().await? {
            tracing::info!(%namespace, %other, "the namespace stays: it is not empty");
            return Ok(false);
        }
        let params = DeleteParams {
            uid: found["metadata"]["uid"].as_str().map(str::to_owned),
            resource_version: found["metadata"]["resourceVersion"].as_str().map(str::to_owned),
            ..DeleteParams::default()
        };
        let kind = kinds::namespace();
        match patiently(async || self.cluster.delete(&kind, None, namespace, &params).await).await {
            Ok(_) => Ok(true),
            Err(error) if error.is_absent() => Ok(true),
            Err(error) => Err(EngineError::request("delete", format!("namespace {namespace}"))(error)),
        }
    }

    /// Something in the namespace that is neither Kubernetes' own nor a controller's passing trace.
    async fn anything_else(&self) -> Result<Option<String>, EngineError> {
        let resources = self.cluster.namespaced_resources().await;
        let resources =
            resources.map_err(EngineError::request("list", "the kinds that the API server serves"))?;
        for resource in resources {
            if matches!(
                resource.kind.as_str(),
                "Event" | "Lease" | "EndpointSlice" | "Endpoints" | "PodMetrics"
            ) {
                continue;
            }
            let params = ListParams {
                namespace: Some(self.installation().namespace.clone()),
                metadata_only: true,
                ..ListParams::default()
            };
            let list = match patiently(async || self.cluster.list(&resource, &params).await).await {
                Ok(list) => list,
                Err(error) if error.is_absent() => continue,
                Err(error) => return Err(EngineError::request("list", &resource.plural)(error)),
            };
            let other = list.items.iter().find(|item| {
                let metadata = &item["metadata"];
                let name = metadata["name"].as_str().unwrap_or_default();
                let theirs = matches!(
                    (resource.kind.as_str(), name),
                    ("ServiceAccount", "default") | ("ConfigMap", "kube-root-ca.crt")
                );
                // What is on its way out, or owned by what is, does not hold the namespace.
                !theirs && metadata["deletionTimestamp"].is_null() && metadata["ownerReferences"].is_null()
            });
            if let Some(other) = other {
                return Ok(Some(format!(
                    "{} {}",
                    resource.kind,
                    other["metadata"]["name"].as_str().unwrap_or_default()
                )));
            }
        }
        Ok(None)
    }
}
