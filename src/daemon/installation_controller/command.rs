//! Commands of people, and what is done about them while a plan runs.

use std::sync::Arc;

use tokio::sync::oneshot;
use trainerd_engine::{Engine, EngineError};

use super::Operation;
use crate::daemon::operations::OperationHandle;
use crate::daemon::recorder::Recorder;

/// A command of a person.
#[derive(Debug)]
pub(crate) enum Command {
    /// Start an operation, which a pass does.
    Start { operation: Operation, asked_by: Option<String>, handle: OperationHandle },
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
pub(super) async fn run_command(engine: Arc<Engine>, recorder: Recorder, command: Command) {
    let (what, who, done, answer) = match command {
        Command::Pause { reason, asked_by, answer } => {
            ("Paused", asked_by.clone(), engine.pause(reason, asked_by).await, answer)
        }
        Command::Resume { asked_by, answer } => ("Resumed", asked_by, engine.resume().await, answer),
        // Nothing has failed while a plan runs.
        Command::Retry { answer, .. } => return drop(answer.send(Ok(false))),
        // A plan is refused what may not be done.
        Command::Start { .. } | Command::LookAtRights => return,
    };
    if matches!(done, Ok(true)) {
        recorder.command(what, who.as_deref());
    }
    // The client may have gone.
    drop(answer.send(done));
}
