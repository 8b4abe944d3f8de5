//! Which options a change gives other values, from what to what, and why.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::Value;
use trainerd_catalog::Options;
use trainerd_engine::revision::Header;
use trainerd_plan::desired::Desired;
use trainerd_plan::object::ObjectKey;

use crate::options::{Given, Source, variable};

/// An option that has, or is given, another value than before.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct OptionChange {
    pub(crate) option: String,
    /// Its value in what is installed; none where nothing is, or it had no such option.
    pub(crate) from: Option<Value>,
    /// The value that it gets; none where this option no longer exists.
    pub(crate) to: Option<Value>,
    /// Why it has this value now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) why: Option<String>,
}

/// The options of a revision, or of what shall become one.
#[derive(Clone, Copy)]
pub(crate) struct Values<'a> {
    options: &'a BTreeMap<String, Value>,
    given: &'a [String],
}

impl<'a> From<&'a Header> for Values<'a> {
    fn from(header: &'a Header) -> Self {
        Self { options: &header.options, given: &header.given }
    }
}

impl<'a> From<&'a Desired> for Values<'a> {
    fn from(desired: &'a Desired) -> Self {
        Self { options: &desired.options, given: &desired.given }
    }
}

impl Values<'_> {
    fn gives(&self, option: &str) -> bool {
        self.given.iter().any(|given| given == option)
    }
}

/// The options that differ, by name: in their value, or in whether somebody gives them. What a newer build adds with
/// its default is no change.
pub(crate) fn between<'a>(from: Option<Values<'a>>, to: Values<'a>) -> Vec<OptionChange> {
    let old = |option: &str| from.and_then(|from| from.options.get(option));
    let was_given = |option: &str| from.is_some_and(|from| from.gives(option));
    let names: BTreeSet<&String> =
        to.options.keys().chain(from.into_iter().flat_map(|from| from.options.keys())).collect();
    let differs = |option: &&String| match (old(option), to.options.get(*option)) {
        (None, Some(_)) => to.gives(option),
        (old, new) => old != new || to.gives(option) != was_given(option),
    };
    let change = |option: &String| OptionChange {
        option: option.clone(),
        from: old(option).cloned(),
        to: to.options.get(option).cloned(),
        why: None,
    };
    names.into_iter().filter(differs).map(change).collect()
}

/// The same, with why each option has its value now.
pub(crate) fn explained(from: Option<&Header>, to: &Desired, given: &Given) -> Vec<OptionChange> {
    let mut changes = between(from.map(Values::from), to.into());
    for change in &mut changes {
        let was_given = from.is_some_and(|from| Values::from(from).gives(&change.option));
        change.why = Some(match given.source(&change.option) {
            _ if change.to.is_none() => "this option no longer exists".to_owned(),
            Source::Default if was_given => "default; it is no longer set".to_owned(),
            Source::Default => "default of this version".to_owned(),
            Source::Flag => "given on the command line".to_owned(),
            Source::Environment => format!("given by {}", variable(&change.option)),
            Source::File => "given in the file of --config".to_owned(),
            Source::ConfigMap => "given in the ConfigMap".to_owned(),
            Source::Api => "given over the API".to_owned(),
            Source::Revision => "given in the installed revision".to_owned(),
        });
    }
    changes
}

/// An entry of the option `patches`, and the objects that it changes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Patched {
    pub(crate) entry: usize,
    pub(crate) objects: Vec<ObjectKey>,
}

/// Which patches change which of the objects.
pub(crate) fn patched(options: &Options, desired: &Desired) -> Vec<Patched> {
    let all = options
        .patches
        .iter()
        .map(|patch| Patched { entry: patch.entry, objects: patch.targets(&desired.objects).collect() });
    all.filter(|one| !one.objects.is_empty()).collect()
}
