//! Steps about the workload container, its Pebble and the daemon in it.

use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::{Held, Stage, UNTIL, matches};
use crate::Error;
use crate::charm::Unit;

/// For a check to change: its threshold is reached after two periods of 10 seconds.
const CHECKED: Duration = Duration::from_mins(1);

impl Stage<'_> {
    /// Steps about the container; nothing where the step is none of them.
    pub(super) fn contain(&mut self, verb: &str, words: &[&str]) -> Result<Option<Held>, Error> {
        let held = match (verb, words) {
            ("container", []) => {
                self.unit.start_container()?;
                Ok(())
            }
            ("add-unit", []) => {
                let (application, number) = (self.unit.world.application.clone(), self.others.len() + 1);
                let mut unit = Unit::numbered(self.cluster, self.programs, &application, number)?;
                unit.world.share(&self.unit.world);
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
                self.cluster.wait_until("Pebble's check", CHECKED, is_so)?;
                Ok(())
            }
            ("notices", ["until", word, message @ ..]) => self.notices(word, &message.join(" "))?,
            ("kill-daemon", ["maybe"]) if self.unit.daemon_pid().is_none() => Ok(()),
            ("kill-daemon", [] | ["maybe"]) => self.signal(Signal::KILL),
            ("kill-daemon", ["after", ms]) => {
                std::thread::sleep(Duration::from_millis(ms.parse().unwrap_or_default()));
                // It may not be there at that instant.
                let _ = self.signal(Signal::KILL);
                Ok(())
            }
            ("freeze-daemon", []) => self.signal(Signal::STOP),
            ("thaw-daemon", []) => self.signal(Signal::CONT),
            ("old-daemon", [version]) => {
                self.unit.answer_for_daemon(version)?;
                Ok(())
            }
            _ => return Ok(None),
        };
        Ok(Some(held))
    }

    fn signal(&self, signal: Signal) -> Held {
        let pid = self.unit.daemon_pid().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
        match pid {
            Some(pid) => kill_process(pid, signal).map_err(|error| error.to_string()),
            None => Err("no daemon runs".to_owned()),
        }
    }

    /// Fires the hook each time that the daemon has posted its notice, as Juju does, and at no other time.
    fn notices(&mut self, word: &str, message: &str) -> Result<Held, Error> {
        let end = Instant::now() + UNTIL;
        loop {
            let told = self.unit.notice()?;
            if let Some(at) = told.filter(|at| *at != self.noticed) {
                self.noticed = at;
                let fired = self.notified()?;
                let (now, said) = self.unit.world.status("unit-status");
                if fired.is_err() || (now == word && matches(&said, message)) {
                    return Ok(fired);
                }
            }
            if Instant::now() > end {
                let (now, said) = self.unit.world.status("unit-status");
                return Ok(Err(format!("after {UNTIL:?} it shows {now} {said:?}")));
            }
            std::thread::sleep(Duration::from_millis(300));
        }
    }
}
