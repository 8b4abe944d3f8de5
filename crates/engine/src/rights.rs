//! Whether what keeps an installation as it is may still be done: asked for when nothing is written that would tell.

use std::collections::BTreeSet;

use trainerd_cluster::permissions::{self, Rule};
use trainerd_plan::desired::Desired;

use crate::engine::Engine;
use crate::error::EngineError;

/// The rights that repairing each object of a desired state takes, each once.
pub fn upkeep(desired: &Desired) -> Vec<Rule> {
    let rules: BTreeSet<Rule> = desired
        .objects
        .iter()
        .map(|object| Rule {
            verb: "patch".to_owned(),
            group: object.resource.group.clone(),
            resource: object.resource.plural.clone(),
            namespace: object.key().namespace,
            name: None,
        })
        .collect();
    rules.into_iter().collect()
}

impl Engine {
    /// Whether that may be done now, whatever could be done when the connection was made: one request where everything
    /// may be done, else one a right.
    ///
    /// # Errors
    /// [`EngineError::Permissions`] with all that is missing.
    pub async fn check_rights(&self, rights: &[Rule]) -> Result<(), EngineError> {
        let missing = permissions::missing_now(&self.cluster, rights).await;
        let missing = missing.map_err(EngineError::request("check", "permissions"))?;
        if missing.is_empty() {
            return Ok(());
        }
        Err(EngineError::Permissions(missing.iter().map(ToString::to_string).collect()))
    }
}
