//! Whose options rule the installation: this daemon's, or those of another source.

use std::sync::Arc;

use trainerd_engine::State;
use trainerd_engine::upkeep::RulerSeen;

use super::obstacle::{Stop, obstacle};
use super::{Declared, Keeper, Phase};
use crate::cli::context::other_source;

/// How a daemon stands to whoever rules; who that is, the state tells.
#[derive(Debug)]
pub(super) struct Ruling {
    /// Whether our source shall rule in the place of another one: once, for whoever takes over later is the one meant.
    take_over: bool,
    /// Those of another source do: what is installed is only looked at.
    held: bool,
}

impl Ruling {
    pub(super) fn new(take_over: bool) -> Self {
        Self { take_over, held: false }
    }

    /// It is decided anew.
    pub(super) fn begin(&mut self) {
        self.held = false;
    }

    pub(super) fn is_held(&self) -> bool {
        self.held
    }
}

/// Whether a watch tells another thing of who rules than was read or written last.
pub(super) fn is_news(state: Option<&State>, told: &RulerSeen) -> bool {
    let note = state.and_then(|state| state.standing().ruler.as_ref());
    differs(note.map(|note| note.uid.as_str()), told)
}

/// Whether what is told contradicts the note that is known, by its uid.
fn differs(known: Option<&str>, told: &RulerSeen) -> bool {
    match told {
        RulerSeen::Is(uid) => known != Some(uid),
        RulerSeen::Gone(uid) => known == Some(uid),
        RulerSeen::Nobody => known.is_some(),
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
        let (none, ours) = (None, Some("a"));
        let uid = |uid: &str| uid.to_owned();
        for (known, told, is_news) in [
            (none, RulerSeen::Nobody, false),
            (none, RulerSeen::Is(uid("a")), true),
            (none, RulerSeen::Gone(uid("a")), false),
            (ours, RulerSeen::Is(uid("a")), false),
            (ours, RulerSeen::Is(uid("b")), true),
            (ours, RulerSeen::Gone(uid("a")), true),
            // The one whose place ours has taken.
            (ours, RulerSeen::Gone(uid("b")), false),
            (ours, RulerSeen::Nobody, true),
        ] {
            assert_eq!(differs(known, &told), is_news, "{known:?} {told:?}");
        }
    }
}
