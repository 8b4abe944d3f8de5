//! Whose options rule the installation: this daemon's, or those of another source.

use std::sync::Arc;

use trainerd_engine::Standing;

use super::obstacle::{Stop, obstacle};
use super::{Keeper, Phase};
use crate::cli::context::other_source;

/// What is known of who rules.
#[derive(Debug)]
pub(super) struct Ruling {
    /// Whether our source shall rule in the place of another one: once, for whoever takes over later is the one meant.
    take_over: bool,
    /// Whether the options of some source rule.
    ruled: bool,
    /// Those of another source do: what is installed is only looked at.
    held: bool,
}

impl Ruling {
    pub(super) fn new(take_over: bool) -> Self {
        Self { take_over, ruled: false, held: false }
    }

    /// It is decided anew.
    pub(super) fn begin(&mut self) {
        self.held = false;
    }

    /// What was read.
    pub(super) fn know(&mut self, standing: &Standing) {
        self.ruled = standing.ruler.is_some();
    }

    /// Whether a watch tells another thing than is known.
    pub(super) fn is_news(&self, ruled: bool) -> bool {
        self.ruled != ruled
    }

    pub(super) fn is_held(&self) -> bool {
        self.held
    }
}

impl Keeper {
    /// Says whose options rule, once there is an installation to say it of. Where those of another source do, nothing is
    /// done: two daemons would undo what the other does, for ever.
    pub(super) async fn rule(&mut self) -> Result<(), Stop> {
        let Some(state) = self.state.as_ref().filter(|state| state.version().is_some()) else {
            return Ok(());
        };
        let (engine, standing) = (Arc::clone(&self.engine), state.standing().clone());
        let source = self.source.to_string();
        if let Some(ruler) = standing.other_ruler(&source)
            && !self.ruling.take_over
        {
            self.ruling.held = true;
            let hint =
                "change the options there; or end that daemon, and start this one once with --take-over";
            return Err(obstacle(Phase::Held, other_source(ruler).hint(hint), None));
        }
        match self.aside(engine.rule(&standing, &source)).await? {
            Ok(()) => {
                (self.ruling.take_over, self.ruling.ruled) = (false, true);
                Ok(())
            }
            Err(error) => Err(self.stopped(error)),
        }
    }
}
