//! The options from Juju, checked by the same rules as those from any other source.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use trainerd_catalog::{Catalog, InvalidOptions, Options, Raw, ResolveError};
use trainerd_juju::status::Reason;

/// Options that are valid, each and together.
pub(super) struct Valid {
    /// Their values, by name.
    pub(super) values: BTreeMap<String, Value>,
    /// Parsed.
    pub(super) options: Options,
}

/// Validates the options. Checks that depend on what is installed are the daemon's.
pub(super) fn validate(config: &Map<String, Value>) -> Result<Valid, Reason> {
    let broken = |error: &dyn std::error::Error| Reason::Failed { cause: error.to_string() };
    let catalog = Catalog::builtin().map_err(|error| broken(&error))?;
    let values: BTreeMap<String, Value> =
        config.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
    let given: BTreeMap<String, Raw> =
        values.iter().map(|(name, value)| (name.clone(), Raw::Typed(value.clone()))).collect();
    let options = catalog.parse_options(&given).map_err(|invalid| invalid_config(&invalid))?;
    match catalog.resolve(&options, None) {
        Ok(_) => Ok(Valid { values, options }),
        Err(ResolveError::Options(invalid)) => Err(invalid_config(&invalid)),
        Err(error) => Err(Reason::Refused { cause: error.to_string() }),
    }
}

fn invalid_config(invalid: &InvalidOptions) -> Reason {
    let errors = invalid.errors();
    match errors.first() {
        Some(first) => Reason::InvalidConfig {
            option: first.option.clone(),
            rule: first.rule.to_string(),
            more: errors.len() - 1,
        },
        // `InvalidOptions` always has an error.
        None => Reason::Panic,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn shown(config: &Value) -> Option<String> {
        let config = config.as_object().unwrap();
        validate(config).err().map(|reason| reason.message("a"))
    }

    #[test]
    fn an_invalid_option_is_shown_with_its_rule_and_the_number_of_other_errors() {
        for (config, message) in [
            (json!({}), None),
            (json!({"settle": 301}), Some("Invalid config settle: must be 0 to 300 seconds")),
            (
                json!({"settle": 301, "conflicts": "x"}),
                Some("Invalid config conflicts: must be force, refuse or yield (+1 more)"),
            ),
            (json!({"hook-wait": 0}), Some("Invalid config hook-wait: must be 1 to 30 seconds")),
            (
                json!({"trainer-version": "9.9.9"}),
                Some("Invalid config trainer-version: unknown version 9.9.9; known: 2.2.1, 2.3.0"),
            ),
            (
                json!({"jobset-image": "a.io/j:v0.11.1"}),
                Some("Invalid config jobset-image: tag v0.11.1 does not match jobset 0.12.0"),
            ),
        ] {
            assert_eq!(shown(&config).as_deref(), message, "{config}");
        }
    }
}
