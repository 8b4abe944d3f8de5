//! What the steps of a run wait for, and when that is reported.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;
use trainerd_plan::reason::WaitingOn;

/// How long a webhook is waited for before that is told: nearly every one answers at once, and endpoints and routes to
/// new pods follow within a moment.
const MOMENT: Duration = Duration::from_secs(2);

/// The waits of a run, by step.
#[derive(Default)]
pub(crate) struct Waits(BTreeMap<usize, Wait>);

struct Wait {
    on: WaitingOn,
    /// When it is reported: at once if an earlier wait of the step was reported.
    due: Instant,
    told: bool,
}

impl Waits {
    /// Records what a step waits for; `briefly`: it is reported only if it lasts.
    pub(crate) fn note(&mut self, step: usize, on: WaitingOn, briefly: bool, now: Instant) {
        match self.0.get_mut(&step) {
            Some(wait) if wait.on == on => {}
            Some(wait) => *wait = Wait { on, due: wait.due, told: false },
            None => {
                let due = if briefly { now + MOMENT } else { now };
                self.0.insert(step, Wait { on, due, told: false });
            }
        }
    }

    /// The waits to report now; each is reported once.
    pub(crate) fn due_to_report(&mut self, now: Instant) -> Vec<(usize, WaitingOn)> {
        let mut due = Vec::new();
        for (step, wait) in self.0.iter_mut().filter(|(_, wait)| !wait.told && wait.due <= now) {
            wait.told = true;
            due.push((*step, wait.on.clone()));
        }
        due
    }

    /// When the next report is due.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.0.values().filter(|wait| !wait.told).map(|wait| wait.due).min()
    }

    /// Ends the wait of a step; returns whether it was reported.
    pub(crate) fn end(&mut self, step: usize) -> bool {
        self.0.remove(&step).is_some_and(|wait| wait.told)
    }

    /// What the run waits for, in one line.
    pub(crate) fn text(&self) -> String {
        let reasons: Vec<_> = self.0.values().map(|wait| wait.on.to_string()).collect();
        if reasons.is_empty() { "an answer of the API server".to_owned() } else { reasons.join("; ") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint() -> WaitingOn {
        WaitingOn::WebhookEndpoint { service: "kf/hooks".to_owned() }
    }

    fn bundle() -> WaitingOn {
        WaitingOn::CrdEstablished { crd: "a".to_owned() }
    }

    #[test]
    fn short_waits_are_not_reported() {
        let start = Instant::now();
        let mut waits = Waits::default();
        waits.note(0, endpoint(), true, start);
        waits.note(1, bundle(), false, start);
        assert_eq!(waits.due_to_report(start), [(1, bundle())]);
        assert_eq!(waits.due(), Some(start + MOMENT));
        assert_eq!(waits.text(), format!("{}; {}", endpoint(), bundle()));
        assert!(!waits.end(0) && waits.end(1));
        assert_eq!((waits.due_to_report(start + MOMENT), waits.due()), (vec![], None));
    }

    #[test]
    fn a_long_wait_is_reported_once_per_reason() {
        let start = Instant::now();
        let mut waits = Waits::default();
        waits.note(0, endpoint(), true, start);
        let later = start + MOMENT;
        waits.note(0, endpoint(), true, later);
        assert_eq!(waits.due_to_report(later), [(0, endpoint())]);
        assert_eq!(waits.due_to_report(later), []);
        waits.note(0, bundle(), true, later);
        assert_eq!(waits.due(), Some(later), "at once");
        assert_eq!(waits.due_to_report(later), [(0, bundle())]);
        assert!(waits.end(0));
    }
}
