//! Steps about options.

use serde_json::Value;

use super::{Runner, StepResult, check};
use crate::Error;

impl Runner<'_> {
    /// Sets an option.
    pub(super) fn config(&mut self, rest: &str) -> StepResult {
        let options = &mut self.unit.world.content["config"];
        match rest.split_once('=') {
            Some((name, value)) => {
                // As Juju stores them: by the type of the option.
                options[name] = match &options[name] {
                    Value::Bool(_) => Value::from(value == "true"),
                    Value::Number(_) => value.parse::<i64>().map_or(Value::Null, Value::from),
                    _ => value.into(),
                };
                Ok(())
            }
            None => Err("config NAME=VALUE".to_owned()),
        }
    }

    /// Sets an invalid value, checks that the unit shows the rule, and restores the option.
    pub(super) fn invalid(&mut self, rest: &str) -> Result<StepResult, Error> {
        let (set, rule) = rest.split_once(' ').unwrap_or((rest, ""));
        let option = set.split('=').next().unwrap_or_default();
        let before = self.unit.world.content["config"][option].clone();
        if before.is_null() {
            return Ok(Err(format!("there is no option {option}")));
        }
        if let Err(why) = self.config(set) {
            return Ok(Err(why));
        }
        let fired = self.hook("config-changed", &[])?;
        let shown = self.shows("unit-status", "blocked", &format!("Invalid config {option}: {rule}"));
        self.unit.world.content["config"][option] = before;
        let leader = self.unit.world.status("app-status");
        let same =
            check(leader == self.unit.world.status("unit-status"), || format!("the application: {leader:?}"));
        Ok(fired.and(shown).and(same))
    }
}
