//! Where an installation lives and who may write there: its namespace and its lease.

use serde_json::json;
use trainerd_causes::one_line;
use trainerd_cluster::lease::{FencingToken, Identity, LeaseConfig, LeaseGuard};
use trainerd_cluster::{CreateParams, RequestError, builtin};
use trainerd_plan::applyset;
use trainerd_plan::observed::{Observed, true_conditions};
use trainerd_plan::order::{ObjectClass, object_class};
use trainerd_plan::reason::WaitingOn;
use trainerd_plan::refused::Refused;

use crate::engine::Engine;
use crate::error::EngineError;
use crate::event::{Event, Sink};
use crate::observe;
use crate::retry::patiently;

impl Engine {
    /// The namespace of the installation, made if it is absent.
    ///
    /// # Errors
    /// [`EngineError::Refused`] where it is being deleted.
    pub async fn prepare_namespace(&self) -> Result<(), EngineError> {
        self.ensure_namespace().await
    }

    /// The namespace of the installation, made if it is absent and marked as ours then.
    pub(crate) async fn ensure_namespace(&self) -> Result<(), EngineError> {
        let name = &self.installation().namespace;
        let found = observe::namespace(&self.cluster, name).await;
        match found.map_err(EngineError::request("read", format!("namespace {name}")))? {
            Some(found) if !found["metadata"]["deletionTimestamp"].is_null() => {
                let conditions = true_conditions(&found);
                Err(EngineError::Refused(vec![Refused::NamespaceTerminating {
                    name: name.clone(),
                    conditions,
                }]))
            }
            Some(_) => Ok(()),
            None => {
                let manifest = json!({
                    "apiVersion": "v1",
                    "kind": "Namespace",
                    "metadata": {
                        "name": name,
                        "annotations": {applyset::CREATED_FOR: self.installation().name},
                    },
                });
                let kind = builtin::namespace();
                let create = async || self.cluster.create(&kind, &manifest, CreateParams::default()).await;
                match patiently(create).await {
                    Ok(_) | Err(RequestError::AlreadyExists { .. }) => Ok(()),
                    Err(error) => Err(EngineError::request("create", format!("namespace {name}"))(error)),
                }
            }
        }
    }

    /// Whether the namespace was there when the plan was made: one that was going would have been refused.
    pub(crate) fn has_seen_namespace(&self, observed: &Observed) -> bool {
        let name = &self.installation().namespace;
        observed.objects.keys().any(|key| object_class(key) == ObjectClass::Namespace && key.name == *name)
    }

    /// Says in the lease that this process is to have it, where somebody has told it so ([`Engine::lease_claim`]).
    ///
    /// # Errors
    /// [`EngineError::Request`].
    pub async fn announce(&self) -> Result<(), EngineError> {
        let (namespace, name) = (&self.installation().namespace, applyset::parent_name(self.installation()));
        let announce = async || self.claim.announce(&self.cluster, namespace, &name).await;
        patiently(announce).await.map_err(EngineError::request("annotate", "the installation's lease"))
    }

    /// Takes the lease; `after`: the last tenure that is known of.
    pub(crate) async fn lease(
        &self,
        after: Option<FencingToken>,
        sink: Sink<'_>,
    ) -> Result<LeaseGuard, EngineError> {
        let name = applyset::parent_name(self.installation());
        let report = |holder: &str| {
            sink(Event::Waiting { object: None, on: WaitingOn::Lease { holder: holder.to_owned() } });
        };
        let config =
            LeaseConfig { after, claim: self.claim.clone(), ..LeaseConfig::new(Identity::of_this_process()) };
        Ok(LeaseGuard::acquire(&self.cluster, &self.installation().namespace, &name, config, report).await?)
    }
}

/// Gives the lease back whatever the answer is; the answer is what counts.
pub(crate) async fn released<T>(guard: LeaseGuard, answer: Result<T, EngineError>) -> Result<T, EngineError> {
    // A lease that could not be given back expires.
    if let Err(error) = guard.release().await {
        tracing::warn!(error = %one_line(&error), "failed to release the lease; it will expire");
    }
    answer
}
