//! Whose options rule the installation: this daemon's, or those of another source.

use std::sync::Arc;

use trainerd_engine::Standing;
use trainerd_engine::upkeep::RulerSeen;

use super::obstacle::{Stop, obstacle};
use super::{Declared, Keeper, Phase};
use crate::cli::context::other_source;

/// What is known of who rules.
#[derive(Debug)]
pub(super) struct Ruling {
    /// Whether our source shall rule in the place of another one: once, for whoever takes over later is the one meant.
    take_over: bool,
    /// The note that says who rules, by its uid.
    note: Option<String>,
    /// Those of another source do: what is installed is only looked at.
    held: bool,
}

impl Ruling {
    pub(super) fn new(take_over: bool) -> Self {
        Self { take_over, note: None, held: false }
    }

    /// It is decided anew.
    pub(super) fn begin(&mut self) {
        self.held = false;
    }

    /// What was read, or written.
    pub(super) fn know(&mut self, standing: &Standing) {
        self.note = standing.ruler.as_ref().map(|note| note.uid.clone());
    }

    /// Whether a watch tells another thing than is known.
    pub(super) fn is_news(&self, told: &RulerSeen) -> bool {
        match told {
            RulerSeen::Is(uid) => self.note.as_ref() != Some(uid),
            RulerSeen::Gone(uid) => self.note.as_ref() == Some(uid),
            RulerSeen::Nobody => self.note.is_some(),
        }
    }

    pub(super) fn is_held(&self) -> bool {
        self.held
    }
}

impl Keeper {
    /// Says whose options rule, once there is an installation to say it of and options that could. Where those of
    /// another source rule, nothing is done: two daemons would undo what the other does, for ever.
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
            let hint = "change the options there; or end that daemon, and start this one with --take-over";
            return Err(obstacle(Phase::Held, other_source(ruler).hint(hint), None));
        }
        // A source that was taken away, with the daemon that followed it, does not come back by itself.
        if !matches!(*self.declared.borrow(), Declared::Options(_)) {
            return Ok(());
        }
        match self.aside(engine.rule(&standing, &source)).await? {
            Ok(note) => {
                self.ruling.take_over = false;
                self.state = self.state.take().map(|state| state.ruled_by(note));
                if let Some(state) = &self.state {
                    self.ruling.know(state.standing());
                }
                Ok(())
            }
            Err(error) => Err(self.stopped(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_another_note_is_news() {
        let none = Ruling::new(false);
        let ours = Ruling { note: Some("a".to_owned()), ..Ruling::new(false) };
        let uid = |uid: &str| uid.to_owned();
        for (ruling, told, is_news) in [
            (&none, RulerSeen::Nobody, false),
            (&none, RulerSeen::Is(uid("a")), true),
            (&none, RulerSeen::Gone(uid("a")), false),
            (&ours, RulerSeen::Is(uid("a")), false),
            (&ours, RulerSeen::Is(uid("b")), true),
            (&ours, RulerSeen::Gone(uid("a")), true),
            // The one whose place ours has taken.
            (&ours, RulerSeen::Gone(uid("b")), false),
            (&ours, RulerSeen::Nobody, true),
        ] {
            assert_eq!(ruling.is_news(&told), is_news, "{ruling:?} {told:?}");
        }
    }
}
