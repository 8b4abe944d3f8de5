//! Runs a plan, handles events meanwhile, and records its outcome.

use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt as _;
use tokio::sync::watch;
use tokio::time::Instant;
use trainerd_engine::drift_controller::DriftEvent;
use trainerd_engine::{EngineError, Event, RunOptions, State};

use super::blocked::Stop;
use super::command::run_command;
use super::ownership::is_news;
use super::{Command, InstallationController, Operation, at};
use crate::daemon::status_store::Phase;

/// Time without progress after which newer options replace a plan: a plan with progress may still succeed, and one that
/// is outdated does not get the whole `progress-deadline`.
const GIVES_WAY: Duration = Duration::from_secs(30);

impl InstallationController {
    /// Runs a plan, with the watches active, until it ends or is interrupted. `asked_by`: who started it.
    pub(super) async fn drive(
        &mut self,
        asked_by: Option<String>,
        run: impl AsyncFnOnce(&mut RunOptions<'_>) -> Result<State, EngineError>,
    ) -> Result<(), Stop> {
        if self.is_relieved() {
            return Err(Stop::Requeue);
        }
        let (cancel, cancelled) = watch::channel(false);
        let status = self.status.clone();
        let recorder = self.recorder.clone();
        let moved = Arc::new(Mutex::new(Instant::now()));
        let last_move = Arc::clone(&moved);
        let moved_at = || *moved.lock().unwrap_or_else(PoisonError::into_inner);
        let written = Arc::clone(&self.written);
        let sink = move |event: Event| {
            if event.is_progress() {
                *last_move.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
            }
            recorder.event(&event);
            if let Event::Done { object, verb, .. } = &event {
                written.lock().unwrap_or_else(PoisonError::into_inner).add(object.clone(), verb);
            }
            status.event(event);
        };
        self.status.write(|view| (view.phase, view.reason, view.settled) = (Phase::Running, None, false));
        let mut options = RunOptions::new(None, &sink, cancelled);
        options.asked_by.clone_from(&asked_by);
        let (mut shutting_down, mut anew, mut told) = (false, false, false);
        let mut came = None;
        let ended = {
            let mut run = pin!(run(&mut options));
            loop {
                let stuck = told && !anew;
                let stuck = stuck.then(|| moved_at() + GIVES_WAY);
                tokio::select! {
                    ended = &mut run => break ended,
                    // Checked once more: there may have been progress meanwhile.
                    () = at(stuck) => if stuck.is_some_and(|_| moved_at().elapsed() >= GIVES_WAY) {
                        tracing::info!(quiet = ?GIVES_WAY, "the plan makes no progress, and there are newer options");
                        anew = true;
                        cancel.send_replace(true);
                    },
                    event = self.drift_controller.next() => match event {
                        DriftEvent::Paused(true) => {
                            anew = true;
                            cancel.send_replace(true);
                        }
                        // Another source owns the options now: the running plan is finished, and nothing else starts.
                        DriftEvent::Owner(owner) if is_news(self.state.as_ref(), &owner) => anew = true,
                        DriftEvent::Changed => {
                            let snapshot = self.drift_controller.snapshot();
                            self.status.write(|view| view.snapshot = snapshot);
                        }
                        _ => {}
                    },
                    Some(command) = self.commands.recv() => {
                        match command {
                            Command::Start { operation, asked_by, handle } => {
                                // A rollback replaces the running plan; everything else waits for it.
                                if matches!(operation, Operation::Rollback { .. }) {
                                    anew = true;
                                    cancel.send_replace(true);
                                }
                                came = Some((operation, asked_by, handle));
                            }
                            command => self.commands_running.push(Box::pin(run_command(Arc::clone(&self.engine), self.recorder.clone(), command))),
                        }
                    }
                    Some(()) = self.commands_running.next(), if !self.commands_running.is_empty() => {}
                    // Other options wait for the end of the plan, or until nothing moves; a standby writes nothing from
                    // now on, whatever was declared before that.
                    Ok(()) = self.declared.changed() => {
                        told = true;
                        let newer = self.declared.borrow().generation().map(str::to_owned);
                        self.status.write(|view| (view.declared, view.newer) = (newer.clone(), newer));
                        if self.declared.borrow_and_update().is_standby() {
                            anew = true;
                            cancel.send_replace(true);
                        }
                    }
                    _ = self.shutdown.wait_for(|shutdown| *shutdown), if !shutting_down => {
                        shutting_down = true;
                        cancel.send_replace(true);
                    }
                }
            }
        };
        if told {
            self.declared.mark_changed();
        }
        if let Some((operation, asked_by, handle)) = came {
            self.start_operation(operation, asked_by, handle);
        }
        self.record_end(&ended, asked_by.as_deref());
        match ended {
            Ok(state) => {
                self.take(state);
                // It arrived when the plan had already ended.
                if anew { Err(Stop::Requeue) } else { Ok(()) }
            }
            Err(EngineError::Interrupted) if shutting_down => Err(Stop::Shutdown),
            Err(EngineError::Interrupted) if anew => Err(Stop::Requeue),
            Err(error) => {
                let stopped = self.stopped(error);
                self.reopen().await?;
                Err(stopped)
            }
        }
    }

    /// Records the outcome of a plan.
    fn record_end(&mut self, ended: &Result<State, EngineError>, asked_by: Option<&str>) {
        self.drift_controller.plan_ran();
        self.recorder.ran(ended.as_ref().err());
        let problem = ended.as_ref().err().map(|error| trainerd_causes::one_line(error));
        if let Some(plan) = self.status.view().plan.as_ref().filter(|plan| plan.ended.is_none()) {
            self.recorder.plan(plan.purpose, plan.revision, ended.as_ref().err(), asked_by);
        }
        // The reason is the failed plan, not its successful rollback.
        let problem = problem.filter(|_| !matches!(ended, Err(EngineError::RolledBack { .. })));
        self.status.write(|view| {
            if let Some(plan) = view.plan.as_mut().filter(|plan| plan.ended.is_none()) {
                plan.ended = Some(jiff::Timestamp::now());
                plan.waiting.clear();
                plan.error = problem;
            }
        });
    }

    /// Reads the installation's state after a failed plan.
    pub(super) async fn reopen(&mut self) -> Result<(), Stop> {
        let engine = Arc::clone(&self.engine);
        if let Ok(state) = self.aside(engine.open_damaged()).await? {
            self.take(state);
        }
        Ok(())
    }
}
