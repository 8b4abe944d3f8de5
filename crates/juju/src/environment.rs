//! The environment that Juju gives a hook, parsed into types.

use std::path::PathBuf;

use crate::hook::Hook;

/// Variables without which nothing can be done, in the order in which they are named when missing.
const REQUIRED: [&str; 6] = [
    "JUJU_DISPATCH_PATH",
    "JUJU_HOOK_NAME",
    "JUJU_UNIT_NAME",
    "JUJU_MODEL_NAME",
    "JUJU_MODEL_UUID",
    "JUJU_VERSION",
];

/// Why an environment is not one of a hook.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvironmentError {
    /// Variables that Juju always sets are not set.
    #[error("not run by Juju: {} not set", .0.join(", "))]
    Missing(Vec<&'static str>),
    /// A unit is `<application>/<number>`.
    #[error("JUJU_UNIT_NAME={0} is not <application>/<number>")]
    Unit(String),
}

/// A unit of an application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit {
    /// Its application.
    pub application: String,
    /// Its number.
    pub number: u32,
}

impl std::fmt::Display for Unit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.application, self.number)
    }
}

/// The relation that a hook is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelationContext {
    /// `endpoint:number`.
    pub id: String,
    /// The application at the other end.
    pub remote_app: String,
    /// The unit that leaves, where one does.
    pub departing_unit: Option<String>,
}

/// What a hook is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Environment {
    /// Why it runs.
    pub hook: Hook,
    /// Which unit runs it.
    pub unit: Unit,
    /// Name of the model, which is the namespace.
    pub model: String,
    /// UUID of the model.
    pub model_uuid: String,
    /// Version of Juju.
    pub juju_version: String,
    /// Where the charm is unpacked; the working directory where Juju does not say.
    pub charm_dir: PathBuf,
    /// The relation, in hooks of relations.
    pub relation: Option<RelationContext>,
    /// Key of the notice, in hooks of notices.
    pub notice_key: Option<String>,
    /// Name of the check, in hooks of checks.
    pub check: Option<String>,
    /// The run of an action.
    pub action_uuid: Option<String>,
}

impl Environment {
    /// Reads the environment.
    ///
    /// # Errors
    /// [`EnvironmentError::Missing`] names every variable that is missing at once.
    pub fn parse(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, EnvironmentError> {
        let missing: Vec<&str> = REQUIRED.into_iter().filter(|name| lookup(name).is_none()).collect();
        if !missing.is_empty() {
            return Err(EnvironmentError::Missing(missing));
        }
        let required = |name| lookup(name).unwrap_or_default();
        let given = |name| lookup(name).filter(|value| !value.is_empty());
        let unit = required("JUJU_UNIT_NAME");
        let parsed = unit.rsplit_once('/').and_then(|(application, number)| {
            let number = number.parse().ok()?;
            (!application.is_empty()).then(|| Unit { application: application.to_owned(), number })
        });
        let Some(parsed) = parsed else { return Err(EnvironmentError::Unit(unit)) };
        let relation = given("JUJU_RELATION_ID").map(|id| RelationContext {
            id,
            remote_app: required("JUJU_REMOTE_APP"),
            departing_unit: given("JUJU_DEPARTING_UNIT"),
        });
        let Ok(hook) = required("JUJU_DISPATCH_PATH").parse();
        Ok(Self {
            hook,
            unit: parsed,
            model: required("JUJU_MODEL_NAME"),
            model_uuid: required("JUJU_MODEL_UUID"),
            juju_version: required("JUJU_VERSION"),
            charm_dir: given("JUJU_CHARM_DIR").map_or_else(|| PathBuf::from("."), PathBuf::from),
            relation,
            notice_key: given("JUJU_NOTICE_KEY"),
            check: given("JUJU_PEBBLE_CHECK_NAME"),
            action_uuid: given("JUJU_ACTION_UUID"),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::hook::{Endpoint, RelationEvent};

    fn hook() -> BTreeMap<&'static str, &'static str> {
        BTreeMap::from([
            ("JUJU_DISPATCH_PATH", "hooks/metrics-endpoint-relation-departed"),
            ("JUJU_HOOK_NAME", "metrics-endpoint-relation-departed"),
            ("JUJU_UNIT_NAME", "my-trainer/3"),
            ("JUJU_MODEL_NAME", "kubeflow"),
            ("JUJU_MODEL_UUID", "0d1a0b1e-0000-4000-8000-000000000000"),
            ("JUJU_VERSION", "3.6.11"),
            ("JUJU_RELATION_ID", "metrics-endpoint:5"),
            ("JUJU_REMOTE_APP", "prometheus"),
            ("JUJU_DEPARTING_UNIT", "prometheus/0"),
        ])
    }

    fn parse(hook: &BTreeMap<&str, &str>) -> Result<Environment, EnvironmentError> {
        Environment::parse(|name| hook.get(name).map(ToString::to_string))
    }

    #[test]
    fn a_relation_hook_has_its_relation() {
        let parsed = parse(&hook()).unwrap();
        assert_eq!(parsed.hook, Hook::Relation(Endpoint::Metrics, RelationEvent::Departed));
        assert_eq!(parsed.unit.to_string(), "my-trainer/3");
        let relation = parsed.relation.unwrap();
        assert_eq!(
            (relation.id.as_str(), relation.remote_app.as_str()),
            ("metrics-endpoint:5", "prometheus")
        );
        assert_eq!(relation.departing_unit.as_deref(), Some("prometheus/0"));
        assert_eq!(parsed.charm_dir, PathBuf::from("."));
    }

    #[test]
    fn all_missing_variables_are_named_and_an_empty_one_is_set() {
        let mut action = hook();
        action.insert("JUJU_DISPATCH_PATH", "actions/status");
        action.insert("JUJU_HOOK_NAME", "");
        assert_eq!(parse(&action).unwrap().hook, Hook::Action("status".to_owned()));
        action.remove("JUJU_MODEL_NAME");
        action.remove("JUJU_VERSION");
        let error = parse(&action).unwrap_err().to_string();
        assert_eq!(error, "not run by Juju: JUJU_MODEL_NAME, JUJU_VERSION not set");
        for bad in ["trainer", "trainer/", "/0", "trainer/x"] {
            let mut hook = hook();
            hook.insert("JUJU_UNIT_NAME", bad);
            assert_eq!(parse(&hook).unwrap_err(), EnvironmentError::Unit(bad.to_owned()));
        }
    }
}
