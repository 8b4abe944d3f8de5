//! Claims: who is to hold a lease by a decision outside of the election, as Juju names one unit the leader.
//!
//! The named process sets an annotation of the lease. A holder with another name reads it on renewal and releases the
//! lease, and candidates with another name do not acquire it. Processes without a name, such as the command line, ignore
//! the annotation.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};

use crate::builtin;
use crate::cluster::Cluster;
use crate::error::RequestError;
use crate::params::CreateParams;

/// The annotation with the name of the process that is to hold the lease.
pub const YIELD_TO: &str = "trainerd.dev/yield-to";

/// The name of this process in claims, if it has one. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Claim(Arc<Mutex<Option<String>>>);

impl Claim {
    /// Makes this process, by that name, the one that is to hold the lease; returns whether that is a change.
    pub fn make(&self, name: &str) -> bool {
        let mut named = self.name();
        let is_news = named.as_deref() != Some(name);
        *named = Some(name.to_owned());
        is_news
    }

    /// Withdraws the claim.
    pub fn withdraw(&self) {
        *self.name() = None;
    }

    /// Sets the annotation, unless it is set already. A lease that does not exist needs none.
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

    /// The name in the lease, if this process has another one.
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
    fn a_claimed_lease_is_denied_to_all_other_holders() {
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
