//! What a service does next: a pure state machine.

use std::time::Duration;

use crate::policy::{OnExit, Policy};

/// A time, counted from any moment that stays the same for a machine.
pub type Moment = Duration;

/// State of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Never started.
    Initial,
    /// A process was spawned, and has to live until then.
    Starting {
        /// When the start is good.
        until: Moment,
    },
    /// The start was good.
    Running {
        /// When the row of restarts ends; `None` once it has.
        reset: Option<Moment>,
    },
    /// SIGTERM was sent.
    Terminating {
        /// When SIGKILL follows.
        until: Moment,
        /// What is done once it has ended.
        then: AfterStop,
    },
    /// SIGKILL was sent.
    Killing {
        /// When the stop has failed; `None` once it has.
        until: Option<Moment>,
        /// What is done once it has ended.
        then: AfterStop,
    },
    /// Stopped because that was asked for.
    Stopped,
    /// It ended, and is started again then.
    Backoff {
        /// When.
        until: Moment,
    },
    /// It ended, and is not started again.
    Exited,
}

/// What is done once a process that is being stopped has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterStop {
    /// Nothing.
    Stop,
    /// It is started again at once.
    Start,
    /// It is started again after a backoff.
    Backoff,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// It is to run.
    Start,
    /// It is to not run.
    Stop,
    /// It is to run again, as something that it is started with has changed.
    Restart,
    /// The process ended, or could not be spawned.
    Exited {
        /// With exit code 0.
        success: bool,
    },
    /// A check has failed as often as it may.
    CheckFailed,
    /// Time has gone by: [`Machine::deadline`] may be over.
    Due,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Spawn the process.
    Spawn,
    /// Send SIGTERM to its group.
    Terminate,
    /// Send SIGKILL to its group.
    Kill,
    /// Nothing: the start was good.
    Started,
    /// Nothing: the start failed.
    StartFailed,
    /// Nothing: it ended though nobody asked for it.
    Ended,
    /// Nothing: it has ended as was asked.
    Stopped,
    /// Nothing: it is still there after SIGKILL.
    StopFailed,
}

/// An event that cannot be in that state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("failed to take {event:?} in state {state:?}")]
pub struct IllegalTransition {
    /// The state.
    pub state: State,
    /// The event.
    pub event: Event,
}

/// The state of a service, and what follows on what.
#[derive(Clone, Debug, PartialEq)]
pub struct Machine {
    policy: Policy,
    state: State,
    /// Restarts in a row.
    restarts: u32,
}

impl Machine {
    /// A service that was never started.
    pub fn new(policy: Policy) -> Self {
        Self { policy, state: State::Initial, restarts: 0 }
    }

    /// Where it is.
    pub fn state(&self) -> State {
        self.state
    }

    /// When [`Event::Due`] is to be told at the latest; `None` while nothing waits for a time.
    pub fn deadline(&self) -> Option<Moment> {
        match self.state {
            State::Starting { until } | State::Terminating { until, .. } | State::Backoff { until } => {
                Some(until)
            }
            State::Running { reset } => reset,
            State::Killing { until, .. } => until,
            State::Initial | State::Stopped | State::Exited => None,
        }
    }

    /// Whether there is a process.
    pub fn has_process(&self) -> bool {
        matches!(
            self.state,
            State::Starting { .. }
                | State::Running { .. }
                | State::Terminating { .. }
                | State::Killing { .. }
        )
    }

    /// Takes an event. `random` is in 0..1, for the jitter of a wait.
    pub fn take(&mut self, event: Event, now: Moment, random: f64) -> Result<Vec<Action>, IllegalTransition> {
        match event {
            Event::Start => Ok(self.start(now)),
            Event::Stop => Ok(self.stop(now)),
            Event::Restart => Ok(self.restart(now)),
            Event::CheckFailed => Ok(self.check_failed(now)),
            Event::Due => Ok(self.due(now)),
            Event::Exited { success } => {
                let illegal = IllegalTransition { state: self.state, event };
                self.exited(success, now, random).ok_or(illegal)
            }
        }
    }

    fn start(&mut self, now: Moment) -> Vec<Action> {
        match self.state {
            State::Initial | State::Stopped | State::Exited => {
                self.restarts = 0;
                self.spawn(now)
            }
            State::Terminating { until, then: AfterStop::Stop } => {
                self.state = State::Terminating { until, then: AfterStop::Start };
                Vec::new()
            }
            State::Killing { until, then: AfterStop::Stop } => {
                self.state = State::Killing { until, then: AfterStop::Start };
                Vec::new()
            }
            // It runs, or will.
            _ => Vec::new(),
        }
    }

    fn stop(&mut self, now: Moment) -> Vec<Action> {
        match self.state {
            State::Initial | State::Exited | State::Backoff { .. } => {
                self.state = State::Stopped;
                vec![Action::Stopped]
            }
            State::Starting { .. } | State::Running { .. } => self.terminate(now, AfterStop::Stop),
            State::Terminating { until, .. } => {
                self.state = State::Terminating { until, then: AfterStop::Stop };
                Vec::new()
            }
            State::Killing { until, .. } => {
                self.state = State::Killing { until, then: AfterStop::Stop };
                Vec::new()
            }
            State::Stopped => Vec::new(),
        }
    }

    fn restart(&mut self, now: Moment) -> Vec<Action> {
        match self.state {
            State::Starting { .. } | State::Running { .. } => {
                self.restarts = 0;
                self.terminate(now, AfterStop::Start)
            }
            // What kept it from running may be what has changed.
            State::Backoff { .. } => {
                self.restarts = 0;
                self.spawn(now)
            }
            State::Terminating { until, then: AfterStop::Backoff } => {
                self.state = State::Terminating { until, then: AfterStop::Start };
                Vec::new()
            }
            State::Killing { until, then: AfterStop::Backoff } => {
                self.state = State::Killing { until, then: AfterStop::Start };
                Vec::new()
            }
            // Not running, or the next start is the one with the change.
            _ => Vec::new(),
        }
    }

    fn check_failed(&mut self, now: Moment) -> Vec<Action> {
        match self.state {
            State::Starting { .. } | State::Running { .. } => self.terminate(now, AfterStop::Backoff),
            // One in backoff is left alone, and one that is being stopped ends anyway.
            _ => Vec::new(),
        }
    }

    fn exited(&mut self, success: bool, now: Moment, random: f64) -> Option<Vec<Action>> {
        let (then, said) = match self.state {
            State::Starting { .. } => (None, Action::StartFailed),
            State::Running { .. } => (None, Action::Ended),
            State::Terminating { then, .. } | State::Killing { then, .. } => (Some(then), Action::Stopped),
            _ => return None,
        };
        let mut actions = vec![said];
        let on_exit = if success { self.policy.on_success } else { self.policy.on_failure };
        match (then, on_exit) {
            (Some(AfterStop::Stop), _) => self.state = State::Stopped,
            (Some(AfterStop::Start), _) => actions.extend(self.spawn(now)),
            (Some(AfterStop::Backoff), _) | (None, OnExit::Restart) => {
                self.restarts = self.restarts.saturating_add(1);
                self.state = State::Backoff { until: now + self.policy.wait(self.restarts, random) };
            }
            (None, OnExit::Ignore) => self.state = State::Exited,
        }
        Some(actions)
    }

    fn due(&mut self, now: Moment) -> Vec<Action> {
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return Vec::new();
        }
        match self.state {
            State::Starting { until } => {
                let began = until.saturating_sub(self.policy.start_delay);
                self.state = State::Running { reset: Some(began + self.policy.backoff_limit) };
                vec![Action::Started]
            }
            State::Running { .. } => {
                self.restarts = 0;
                self.state = State::Running { reset: None };
                Vec::new()
            }
            State::Terminating { then, .. } => {
                self.state = State::Killing { until: Some(now + self.policy.kill_bound), then };
                vec![Action::Kill]
            }
            State::Killing { then, .. } => {
                self.state = State::Killing { until: None, then };
                vec![Action::StopFailed]
            }
            State::Backoff { .. } => self.spawn(now),
            State::Initial | State::Stopped | State::Exited => Vec::new(),
        }
    }

    fn spawn(&mut self, now: Moment) -> Vec<Action> {
        self.state = State::Starting { until: now + self.policy.start_delay };
        vec![Action::Spawn]
    }

    fn terminate(&mut self, now: Moment, then: AfterStop) -> Vec<Action> {
        self.state = State::Terminating { until: now + self.policy.kill_delay, then };
        vec![Action::Terminate]
    }
}

#[cfg(test)]
mod tests {
    use super::Action::{Ended, Kill, Spawn, StartFailed, Started, StopFailed, Terminate};
    use super::Event::{CheckFailed, Due, Restart, Start, Stop};
    use super::*;

    const FAILS: Event = Event::Exited { success: false };
    const ENDS: Event = Event::Exited { success: true };

    fn at(millis: u64) -> Moment {
        Moment::from_millis(millis)
    }

    /// Runs a table of times, events and expected actions; returns the last state.
    fn run_table(policy: Policy, rows: &[(u64, Event, &[Action])]) -> State {
        let mut machine = Machine::new(policy);
        for (row, (millis, event, expected)) in rows.iter().enumerate() {
            let actions = machine.take(*event, at(*millis), 0.0);
            assert_eq!(actions.as_deref(), Ok(*expected), "row {row}: {event:?} at {millis}");
        }
        machine.state()
    }

    fn of_pebble(rows: &[(u64, Event, &[Action])]) -> State {
        run_table(Policy::default(), rows)
    }

    #[test]
    fn a_start_succeeds_after_one_second() {
        let rows: &[(u64, Event, &[Action])] =
            &[(0, Start, &[Spawn]), (999, Due, &[]), (1000, Due, &[Started]), (1001, Start, &[])];
        assert_eq!(of_pebble(rows), State::Running { reset: Some(at(30_000)) });
    }

    #[test]
    fn an_early_exit_fails_the_start_and_restarts() {
        let rows: &[(u64, Event, &[Action])] = &[(0, Start, &[Spawn]), (200, ENDS, &[StartFailed])];
        assert_eq!(of_pebble(rows), State::Backoff { until: at(700) });
    }

    #[test]
    fn backoff_grows_until_the_service_ran_for_the_limit() {
        let rows: &[(u64, Event, &[Action])] = &[
            (0, Start, &[Spawn]),
            (100, FAILS, &[StartFailed]),
            (600, Due, &[Spawn]),
            (1700, Due, &[Started]),
            (2000, FAILS, &[Ended]),
            (2999, Due, &[]),
            (3000, Due, &[Spawn]),
            (4000, Due, &[Started]),
            (5000, FAILS, &[Ended]),
        ];
        assert_eq!(of_pebble(rows), State::Backoff { until: at(7000) });
        let rows: &[(u64, Event, &[Action])] = &[
            (0, Start, &[Spawn]),
            (100, FAILS, &[StartFailed]),
            (600, Due, &[Spawn]),
            (1600, Due, &[Started]),
            (30_600, Due, &[]),
            (40_000, FAILS, &[Ended]),
        ];
        assert_eq!(of_pebble(rows), State::Backoff { until: at(40_500) });
    }

    #[test]
    fn a_stop_is_sigterm_then_sigkill_then_a_failure() {
        let stop: &[(u64, Event, &[Action])] =
            &[(0, Start, &[Spawn]), (1000, Due, &[Started]), (2000, Stop, &[Terminate])];
        let with = |more: &[(u64, Event, &[Action])]| of_pebble(&[stop, more].concat());
        assert_eq!(with(&[(2100, ENDS, &[Action::Stopped])]), State::Stopped);
        let killed: &[(u64, Event, &[Action])] = &[(6999, Due, &[]), (7000, Due, &[Kill])];
        let ended: &[(u64, Event, &[Action])] = &[(7010, FAILS, &[Action::Stopped])];
        assert_eq!(with(&[killed, ended].concat()), State::Stopped);
        let refuses: &[(u64, Event, &[Action])] = &[(12_000, Due, &[StopFailed]), (99_000, Due, &[])];
        let state = State::Killing { until: None, then: AfterStop::Stop };
        assert_eq!(with(&[killed, refuses].concat()), state);
        // It may end after all.
        assert_eq!(with(&[killed, refuses, &[(99_999, FAILS, &[Action::Stopped])]].concat()), State::Stopped);
    }

    #[test]
    fn a_failed_check_restarts_with_backoff() {
        let rows: &[(u64, Event, &[Action])] = &[
            (0, Start, &[Spawn]),
            (1000, Due, &[Started]),
            (31_000, Due, &[]),
            (40_000, CheckFailed, &[Terminate]),
            (40_001, CheckFailed, &[]),
            (45_000, Due, &[Kill]),
            (45_010, FAILS, &[Action::Stopped]),
            (45_020, CheckFailed, &[]),
        ];
        assert_eq!(of_pebble(rows), State::Backoff { until: at(45_510) });
    }

    #[test]
    fn the_last_request_counts_while_a_process_ends() {
        let stopping: &[(u64, Event, &[Action])] =
            &[(0, Start, &[Spawn]), (1000, Due, &[Started]), (2000, Stop, &[Terminate])];
        let with = |more: &[(u64, Event, &[Action])]| of_pebble(&[stopping, more].concat());
        let again: &[(u64, Event, &[Action])] =
            &[(2001, Start, &[]), (2100, ENDS, &[Action::Stopped, Spawn])];
        assert_eq!(with(again), State::Starting { until: at(3100) });
        let and_not: &[(u64, Event, &[Action])] = &[
            (2001, Start, &[]),
            (2002, Stop, &[]),
            (7000, Due, &[Kill]),
            (7001, Start, &[]),
            (7002, Stop, &[]),
        ];
        assert_eq!(with(&[and_not, &[(7003, FAILS, &[Action::Stopped])]].concat()), State::Stopped);
    }

    #[test]
    fn a_changed_command_line_restarts_at_once_and_resets_backoff() {
        let rows: &[(u64, Event, &[Action])] = &[
            (0, Start, &[Spawn]),
            (1000, Due, &[Started]),
            (2000, Restart, &[Terminate]),
            (2100, ENDS, &[Action::Stopped, Spawn]),
            (2200, FAILS, &[StartFailed]),
            (2700, Due, &[Spawn]),
            (2800, FAILS, &[StartFailed]),
            (2900, Restart, &[Spawn]),
            (3000, FAILS, &[StartFailed]),
        ];
        assert_eq!(of_pebble(rows), State::Backoff { until: at(3500) });
        // It does not start what is not wanted.
        assert_eq!(of_pebble(&[(0, Restart, &[])]), State::Initial);
        assert_eq!(of_pebble(&[(0, Stop, &[Action::Stopped]), (1, Restart, &[])]), State::Stopped);
    }

    #[test]
    fn an_exit_may_be_expected() {
        let policy = Policy { on_success: OnExit::Ignore, ..Policy::default() };
        let rows: &[(u64, Event, &[Action])] =
            &[(0, Start, &[Spawn]), (1000, Due, &[Started]), (2000, ENDS, &[Ended])];
        assert_eq!(run_table(policy.clone(), rows), State::Exited);
        let again: &[(u64, Event, &[Action])] = &[(3000, Start, &[Spawn]), (3100, FAILS, &[StartFailed])];
        assert_eq!(run_table(policy, &[rows, again].concat()), State::Backoff { until: at(3600) });
    }

    #[test]
    fn only_running_processes_end() {
        let mut machine = Machine::new(Policy::default());
        let refused = machine.take(ENDS, at(0), 0.0);
        assert_eq!(refused, Err(IllegalTransition { state: State::Initial, event: ENDS }));
        assert_eq!(machine.state(), State::Initial);
        machine.take(Start, at(0), 0.0).unwrap();
        machine.take(FAILS, at(1), 0.0).unwrap();
        assert!(machine.take(FAILS, at(2), 0.0).is_err(), "it ended twice");
    }

    /// Whatever comes in whatever order: a process is spawned only where there is none, and signalled only where there is
    /// one.
    #[test]
    fn at_most_one_process_runs() {
        let events = [Start, Stop, Restart, CheckFailed, Due, FAILS, ENDS];
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..2000 {
            let (mut machine, mut lives, mut now) = (Machine::new(Policy::default()), false, at(0));
            for _ in 0..60 {
                now += at(random.u64(0..6000));
                let event = events[random.usize(0..events.len())];
                let is_end = matches!(event, Event::Exited { .. });
                if is_end != lives && is_end {
                    assert!(machine.take(event, now, 0.5).is_err());
                    continue;
                }
                if is_end {
                    lives = false;
                }
                for action in machine.take(event, now, 0.5).unwrap() {
                    match action {
                        Spawn => {
                            assert!(!lives, "a second process");
                            lives = true;
                        }
                        Terminate | Kill => assert!(lives, "a signal to nobody"),
                        _ => {}
                    }
                }
                assert_eq!(machine.has_process(), lives, "{:?}", machine.state());
            }
        }
    }
}
