//! What goes into relation databags, and what is read from them: pure.
//!
//! Values are strings; where one holds JSON, keys are sorted and there are no spaces, so that equal content is an
//! equal string: an unchanged string wakes no remote unit.

pub mod cmr;
pub mod dashboard;
pub mod links;
pub mod mesh;
pub mod scrape;

use std::collections::BTreeMap;

use serde::Serialize;

use crate::environment::Unit;

/// A databag: strings by key.
pub type Bag = BTreeMap<String, String>;

/// Name of the charm, as `metadata.yaml` has it.
pub const CHARM: &str = "kubeflow-trainer";

/// Where an application is in Juju's world.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topology {
    /// The unit that speaks.
    pub unit: Unit,
    /// Name of its model.
    pub model: String,
    /// UUID of its model.
    pub model_uuid: String,
}

impl Topology {
    /// Name of the application.
    pub fn application(&self) -> &str {
        &self.unit.application
    }

    /// The beginning of the model's UUID, as names of jobs and groups have it.
    pub fn short_uuid(&self) -> &str {
        self.model_uuid.get(..8).unwrap_or(&self.model_uuid)
    }
}

/// What of `wanted` differs from what the bag has; a key that is no longer wanted is deleted by an empty text.
/// Keys of others stay.
pub fn changes(bag: &Bag, wanted: &Bag, no_longer: &[&str]) -> Bag {
    let set = wanted.iter().filter(|(key, value)| bag.get(*key) != Some(*value));
    let gone = no_longer.iter().filter(|key| bag.contains_key(**key) && !wanted.contains_key(**key));
    set.map(|(key, value)| (key.clone(), value.clone()))
        .chain(gone.map(|key| ((*key).to_owned(), String::new())))
        .collect()
}

/// JSON with sorted keys and no spaces.
pub fn canonical(value: &impl Serialize) -> String {
    // By way of a value, whose maps are sorted here whatever order a feature of serde_json gives them. What is put
    // into databags always serialises.
    let mut value = serde_json::to_value(value).unwrap_or_default();
    value.sort_all_objects();
    value.to_string()
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::json;

    use super::*;

    pub(crate) fn topology() -> Topology {
        Topology {
            unit: Unit { application: "my-trainer".into(), number: 0 },
            model: "kubeflow".into(),
            model_uuid: "0d1a0b1e-2b3c-4d5e-8f90-123456789abc".into(),
        }
    }

    #[test]
    fn json_is_sorted_and_has_no_spaces() {
        let value = json!({"b": [{"d": 1, "c": null}], "a": "x y"});
        assert_eq!(canonical(&value), r#"{"a":"x y","b":[{"c":null,"d":1}]}"#);
    }

    #[test]
    fn only_changes_are_written_and_foreign_keys_stay() {
        let bag = |pairs: &[(&str, &str)]| -> Bag {
            pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
        };
        let known = bag(&[("same", "1"), ("other", "1"), ("foreign", "1"), ("old", "1")]);
        let wanted = bag(&[("same", "1"), ("other", "2"), ("new", "3")]);
        let expected = bag(&[("other", "2"), ("new", "3"), ("old", "")]);
        assert_eq!(changes(&known, &wanted, &["old", "never"]), expected);
        assert_eq!(changes(&wanted, &wanted, &["old"]), Bag::new());
    }
}
