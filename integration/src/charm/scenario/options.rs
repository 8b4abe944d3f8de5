//! Steps about options.

use serde_json::Value;

use super::{Held, Stage, held};
use crate::Error;

impl Stage<'_> {
    /// Sets an option.
    pub(super) fn config(&mut self, rest: &str) -> Held {
        let options = &mut self.unit.world.content["config"];
        match rest.split_once('=') {
            Some((name, value)) => {
                // As Juju keeps them: each by the type of the option.
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

    /// An option with a value that it cannot have: the hook that tells of it shows the rule. It is put back after that.
    pub(super) fn invalid(&mut self, rest: &str) -> Result<Held, Error> {
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
            held(leader == self.unit.world.status("unit-status"), || format!("the application: {leader:?}"));
        Ok(fired.and(shown).and(same))
    }
}
