//! Running a plan: what may happen meanwhile, and what is written down of its end.

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

/// How long nothing has to move until newer options replace a plan: what moves may still come to its end, and what is
/// known to be wanted no more is not waited for as long as `progress-deadline` has it.
const GIVES_WAY: Duration = Duration::from_secs(30);

impl InstallationController {
    /// Runs a plan, with the watches going on, until it ends or is interrupted. `asked_by`: who asked for it.
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
        let written = Arc::clone(&self.written);
        let sink = move |event: Event| {
            if event.is_progress() {
                *last_move.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
            }
            recorder.event(&event);
            written.lock().unwrap_or_else(PoisonError::into_inner).see(&event);
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
                let stuck = stuck.then(|| *moved.lock().unwrap_or_else(PoisonError::into_inner) + GIVES_WAY);
                tokio::select! {
                    ended = &mut run => break ended,
                    // Looked at once more: it may have moved meanwhile.
                    () = at(stuck) => if stuck.is_some_and(|_| {
                        moved.lock().unwrap_or_else(PoisonError::into_inner).elapsed() >= GIVES_WAY
                    }) {
                        tracing::info!(quiet = ?GIVES_WAY, "the plan makes no progress, and there are newer options");
                        anew = true;
                        cancel.send_replace(true);
                    },
                    event = self.drift_controller.next() => match event {
                        DriftEvent::Paused(true) => {
                            anew = true;
                            cancel.send_replace(true);
                        }
                        // Others rule now, or somebody took back that we do: what runs is finished, and no more.
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
                                // Going back replaces what is in progress; everything else comes after it.
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
                // The word came when there was nothing left to break off.
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

    /// Writes down how a plan ended.
    fn record_end(&mut self, ended: &Result<State, EngineError>, asked_by: Option<&str>) {
        self.drift_controller.plan_ran();
        self.recorder.ran(ended.as_ref().err());
        let problem = ended.as_ref().err().map(|error| trainerd_causes::one_line(error));
        if let Some(plan) = self.status.view().plan.as_ref().filter(|plan| plan.ended.is_none()) {
            self.recorder.plan(plan.purpose, plan.revision, ended.as_ref().err(), asked_by);
        }
        // What failed is told as the reason; the plan that brought the revision before it back did not.
        let problem = problem.filter(|_| !matches!(ended, Err(EngineError::RolledBack { .. })));
        self.status.write(|view| {
            if let Some(plan) = view.plan.as_mut().filter(|plan| plan.ended.is_none()) {
                plan.ended = Some(jiff::Timestamp::now());
                plan.waiting.clear();
                plan.error = problem;
            }
        });
    }

    /// Reads where the installation is, after a plan that did not end well.
    pub(super) async fn reopen(&mut self) -> Result<(), Stop> {
        let engine = Arc::clone(&self.engine);
        if let Ok(state) = self.aside(engine.open_damaged()).await? {
            self.take(state);
        }
        Ok(())
    }
}
