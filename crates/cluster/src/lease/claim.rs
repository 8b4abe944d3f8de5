//! Who shall hold a lease, where somebody outside of the election says so: Juju, which names one unit the leader.
//!
//! Whoever is named says it by an annotation of the lease. A holder that is called otherwise reads it when it renews, and
//! gives the lease up; and nobody who is called otherwise takes it, for as long as it says so. Those that nobody names, a
//! command line say, take no part in this.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};

use crate::builtin;
use crate::cluster::Cluster;
use crate::error::RequestError;
use crate::params::CreateParams;

/// The annotation of a lease that says who shall have it.
pub const YIELD_TO: &str = "trainerd.dev/yield-to";

/// What this process is called by those who say who shall hold a lease; nothing where nobody names it. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Claim(Arc<Mutex<Option<String>>>);

impl Claim {
    /// This process is the one that shall hold the lease, by that name; whether that is news.
    pub fn make(&self, name: &str) -> bool {
        let mut named = self.name();
        let is_news = named.as_deref() != Some(name);
        *named = Some(name.to_owned());
        is_news
    }

    /// It is not, or not any more.
    pub fn withdraw(&self) {
        *self.name() = None;
    }

    /// Says in the lease that this process shall have it, if the lease does not say so already. One that does not exist is
    /// anybody's, and nothing is written.
    pub async fn announce(
        &self,
        cluster: &Cluster,
        namespace: &str,
        lease: &str,
    ) -> Result<(), RequestError> {
        let Some(name) = self.name().clone() else { return Ok(()) };
        let kind = builtin::lease();
        match cluster.get_opt(&kind, Some(namespace), lease).await? {
            Some(found) if found["metadata"]["annotations"][YIELD_TO] != name.as_str() => {}
            _ => return Ok(()),
        }
        let patch = json!({"metadata": {"annotations": {YIELD_TO: name}}});
        let params = CreateParams::default();
        match cluster.patch_merge(&kind, Some(namespace), lease, &patch, params).await {
            Err(error) if !error.is_absent() => Err(error),
            _ => Ok(()),
        }
    }

    /// Who else shall have a lease, where this process is named and the lease says another name.
    pub(super) fn other(&self, lease: &Value) -> Option<String> {
        let wanted = lease["metadata"]["annotations"][YIELD_TO].as_str().filter(|name| !name.is_empty())?;
        let differs = self.name().as_ref().is_some_and(|name| name != wanted);
        differs.then(|| wanted.to_owned())
    }

    fn name(&self) -> MutexGuard<'_, Option<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_anothers_only_for_those_who_are_named_otherwise() {
        let lease = json!({"metadata": {"annotations": {YIELD_TO: "a/1"}}});
        let claim = Claim::default();
        assert_eq!(claim.other(&lease), None, "nobody names it");
        assert!(claim.make("a/0") && !claim.make("a/0"));
        assert_eq!(claim.other(&lease).as_deref(), Some("a/1"));
        assert_eq!(claim.other(&json!({"metadata": {}})), None);
        assert!(claim.make("a/1"));
        assert_eq!(claim.other(&lease), None);
        claim.withdraw();
        assert!(claim.make("a/1"), "it is told anew");
    }
}
