//! All that a plan is made from.

use serde::{Deserialize, Serialize};

use crate::allowed::Allowed;
use crate::desired::Desired;
use crate::drift::Ignored;
use crate::observed::Observed;
use crate::plan::Purpose;

/// What happens to a field that another manager set and that we never owned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Conflicts {
    /// Our value is written over theirs.
    Force,
    /// No plan is made.
    #[default]
    Refuse,
    /// Their value stays, and the field leaves our intent.
    Yield,
}

/// All that a plan is made from.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// What the plan is for.
    pub purpose: Purpose,
    /// Where to.
    pub desired: &'a Desired,
    /// What our last revision sent; its fields are enforced, its objects may be pruned.
    pub last: Option<&'a Desired>,
    /// The facts.
    pub observed: &'a Observed,
    /// See [`Conflicts`].
    pub conflicts: Conflicts,
    /// Fields that are left to another manager while one owns them; unlike yielded ones they stay in the intent.
    pub ignored: &'a [Ignored],
    /// What a person has allowed that is refused otherwise.
    pub allow: Allowed,
    /// The only component that is looked at: everything else stays as it is, and nothing is pruned.
    pub only: Option<&'a str>,
    /// The field manager that writes.
    pub field_manager: &'a str,
}
