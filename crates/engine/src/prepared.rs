//! A plan that is ready to run, with all that running it takes.

use std::sync::Arc;

use serde::Serialize;
use tokio::time::Instant;
use trainerd_plan::allowed::Allowed;
use trainerd_plan::desired::Desired;
use trainerd_plan::observed::Observed;
use trainerd_plan::plan::Plan;

use crate::revision::Header;
use crate::store::Package;

/// A plan that is ready to run.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Prepared {
    /// The plan.
    pub plan: Plan,
    /// The revision that running it leads to. A repair leads to the revision that the installation is at.
    pub revision: u64,
    /// The revision it leaves.
    pub from: Option<u64>,
    #[serde(skip)]
    pub(crate) desired: Arc<Desired>,
    #[serde(skip)]
    pub(crate) package: Package,
    #[serde(skip)]
    pub(crate) observed: Observed,
    #[serde(skip)]
    pub(crate) persist: Persist,
    /// The current revision, where it is stored again because something of it is missing.
    #[serde(skip)]
    pub(crate) restored: Option<Header>,
    #[serde(skip)]
    pub(crate) allow: Allowed,
    /// The only component that the plan is about, where it is not about all.
    #[serde(skip)]
    pub(crate) only: Option<String>,
    /// When the cluster was observed.
    #[serde(skip)]
    pub(crate) observed_at: Instant,
}

/// What running a plan has to write down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Persist {
    /// Nothing: the revision is the intent, and it is deployed.
    Nothing,
    /// The journal, for the revision exists and was not brought to its end.
    Journal,
    /// A new revision, and the journal.
    Revision,
}

impl Prepared {
    /// Whether there is anything to write at all.
    pub fn is_empty(&self) -> bool {
        self.plan.is_empty() && self.persist == Persist::Nothing && self.restored.is_none()
    }

    /// Whether something of the current revision is missing and is stored again.
    pub fn restores(&self) -> bool {
        self.restored.is_some()
    }

    /// What running the plan leads to.
    pub fn desired(&self) -> &Desired {
        &self.desired
    }

    /// Whether a new revision would be made, if only for changed options.
    pub fn makes_revision(&self) -> bool {
        self.persist == Persist::Revision
    }
}
