//! Steps about the workload container, its Pebble and the daemon in it.

use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::{Runner, StepResult, UNTIL_TIMEOUT, matches};
use crate::Error;
use crate::charm::Unit;

/// Time limit for a check to change: it takes two periods of 10 seconds.
const CHECK_TIMEOUT: Duration = Duration::from_mins(1);

impl Runner<'_> {
    /// Steps about the container; `None` for other steps.
    pub(super) fn container_step(&mut self, verb: &str, words: &[&str]) -> Result<Option<StepResult>, Error> {
        let result = match (verb, words) {
            ("container", []) => {
                self.unit.start_container()?;
                Ok(())
            }
            ("add-unit", []) => {
                let (application, number) = (self.unit.world.application.clone(), self.others.len() + 1);
                let mut unit = Unit::with_number(self.cluster, self.programs, &application, number)?;
                unit.world.copy_shared(&self.unit.world);
                self.unit.world.content["units"][format!("{application}/{number}")] = "active".into();
                self.others.push(unit);
                Ok(())
            }
            ("container", ["stops"]) => {
                self.unit.local()?.stop();
                Ok(())
            }
            ("container", ["none"]) => {
                self.unit.local()?.without_workload()?;
                Ok(())
            }
            ("check", [name, status]) => {
                let is_so = || Ok(self.unit.check(name)?.as_deref() == Some(*status));
                self.cluster.wait_until("Pebble's check", CHECK_TIMEOUT, is_so)?;
                Ok(())
            }
            ("notices", ["until", word, message @ ..]) => self.notices(word, &message.join(" "))?,
            ("kill-daemon", ["maybe"]) if self.unit.daemon_pid().is_none() => Ok(()),
            ("kill-daemon", [] | ["maybe"]) => self.signal(Signal::KILL),
            ("kill-daemon", ["after", ms]) => {
                std::thread::sleep(Duration::from_millis(ms.parse().unwrap_or_default()));
                // It may not run at that moment.
                let _ = self.signal(Signal::KILL);
                Ok(())
            }
            ("freeze-daemon", []) => self.signal(Signal::STOP),
            ("thaw-daemon", []) => self.signal(Signal::CONT),
            ("old-daemon", [version]) => {
                self.unit.fake_daemon(version)?;
                Ok(())
            }
            _ => return Ok(None),
        };
        Ok(Some(result))
    }

    fn signal(&self, signal: Signal) -> StepResult {
        let pid = self.unit.daemon_pid().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
        match pid {
            Some(pid) => kill_process(pid, signal).map_err(|error| error.to_string()),
            None => Err("no daemon runs".to_owned()),
        }
    }

    /// Fires the hook once per notice of the daemon, as Juju does.
    fn notices(&mut self, word: &str, message: &str) -> Result<StepResult, Error> {
        let end = Instant::now() + UNTIL_TIMEOUT;
        loop {
            let told = self.unit.notice()?;
            if let Some(at) = told.filter(|at| *at != self.noticed) {
                self.noticed = at;
                let fired = self.fire_notice()?;
                let (now, said) = self.unit.world.status("unit-status");
                if fired.is_err() || (now == word && matches(&said, message)) {
                    return Ok(fired);
                }
            }
            if Instant::now() > end {
                let (now, said) = self.unit.world.status("unit-status");
                return Ok(Err(format!("after {UNTIL_TIMEOUT:?} it shows {now} {said:?}")));
            }
            std::thread::sleep(Duration::from_millis(300));
        }
    }
}
