//! A revision: everything that was decided once, complete enough to be applied again without the catalog.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use trainerd_plan::desired::{Component, Desired, Installation, Naming};
use trainerd_plan::object::ObjectKey;
use trainerd_plan::plan::{Plan, Purpose, Step, TakenField};

use crate::chunk::ChunkUse;

/// A revision as it is stored: everything but the objects, which are in the chunks it names.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Header {
    /// Its number, from 1.
    pub number: u64,
    /// The revision it was made from.
    pub parent: Option<u64>,
    /// When it was made.
    pub created: Timestamp,
    /// Which command made it.
    pub by: String,
    /// Who asked a daemon for it over its API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked_by: Option<String>,
    /// What for.
    pub purpose: Purpose,
    /// Whose it is.
    pub installation: Installation,
    /// How its objects are called.
    #[serde(default, skip_serializing_if = "Naming::is_upstream")]
    pub naming: Naming,
    /// Component versions.
    pub components: BTreeMap<String, Component>,
    /// Every option with its value.
    pub options: BTreeMap<String, Value>,
    /// Options that were given rather than defaulted.
    pub given: Vec<String>,
    /// Fields that its plan took from other managers by force.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub taken: Vec<Forced>,
    /// Digest of the desired state: equal digests mean that nothing differs.
    pub digest: String,
    /// Where the objects are.
    pub chunks: Vec<ChunkUse>,
}

/// A field that was taken from another manager.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forced {
    /// The object.
    pub object: ObjectKey,
    /// Which field, and whose it was.
    #[serde(flatten)]
    pub taken: TakenField,
}

/// The fields that a plan takes by force.
pub(crate) fn forced(plan: &Plan) -> Vec<Forced> {
    let of = |step: &Step| {
        let object = step.object.clone();
        step.taken.clone().into_iter().map(move |taken| Forced { object: object.clone(), taken })
    };
    plan.steps.iter().flat_map(of).collect()
}

/// A revision in memory.
#[derive(Clone, Debug, PartialEq)]
pub struct Revision {
    /// What is stored of it under its own name.
    pub header: Header,
    /// What it wants of the cluster.
    pub desired: Arc<Desired>,
}

/// SHA-256 of a desired state, hexadecimal. Same desired state, same digest.
pub fn digest(desired: &Desired) -> String {
    digest_with(desired, lines(desired).iter().map(String::as_str))
}

/// [`digest`], given the lines of its objects.
pub(crate) fn digest_with<'l>(desired: &Desired, lines: impl Iterator<Item = &'l str>) -> String {
    let Desired { installation, naming, components, options, given, objects: _ } = desired;
    let mut sum = Sha256::new();
    sum.update(text(&(installation, components, options, given)));
    // Upstream's names go without saying: so they did before there were others.
    if !naming.is_upstream() {
        sum.update(text(naming));
    }
    for line in lines {
        sum.update("\n");
        sum.update(line);
    }
    hex::encode(sum.finalize())
}

/// Each object as it is stored: one JSON text, in one line.
pub(crate) fn lines(desired: &Desired) -> Vec<String> {
    desired.objects.iter().map(text).collect()
}

/// JSON. Only maps with non-string keys fail to serialise, and a desired state has none; an empty text would make
/// digests equal that are not, so the debug form stands in.
fn text<T: Serialize + fmt::Debug>(value: &T) -> String {
    serde_json::to_string(value).unwrap_or_else(|_| format!("{value:?}"))
}
