//! What people ask for beside options, and what is done about it while a plan runs.

use std::sync::Arc;

use tokio::sync::oneshot;
use trainerd_engine::{Engine, EngineError};

use super::Asked;
use crate::daemon::operations::Ticket;
use crate::daemon::recorder::Recorder;

/// What a person may ask for beside options.
#[derive(Debug)]
pub(crate) enum Command {
    /// Something that a pass does.
    Ask { asked: Asked, asked_by: Option<String>, ticket: Ticket },
    /// See [`Engine::pause`].
    Pause { reason: String, asked_by: Option<String>, answer: oneshot::Sender<Result<bool, EngineError>> },
    /// See [`Engine::resume`].
    Resume { asked_by: Option<String>, answer: oneshot::Sender<Result<bool, EngineError>> },
    /// Look whether everything may still be done that keeps the installation as it is.
    LookAtRights,
    /// Try again what failed and was rolled back; whether anything was.
    Retry { asked_by: Option<String>, answer: oneshot::Sender<Result<bool, EngineError>> },
}

/// Pauses or resumes; what takes a pass was handed to one.
pub(super) async fn obey(engine: Arc<Engine>, recorder: Recorder, command: Command) {
    let (what, who, done, answer) = match command {
        Command::Pause { reason, asked_by, answer } => {
            ("Paused", asked_by.clone(), engine.pause(reason, asked_by).await, answer)
        }
        Command::Resume { asked_by, answer } => ("Resumed", asked_by, engine.resume().await, answer),
        // Nothing has failed while a plan runs.
        Command::Retry { answer, .. } => return drop(answer.send(Ok(false))),
        // A plan is refused what may not be done.
        Command::Ask { .. } | Command::LookAtRights => return,
    };
    if matches!(done, Ok(true)) {
        recorder.asked(what, who.as_deref());
    }
    // Whoever asked may have gone.
    drop(answer.send(done));
}
