//! What the steps of a run wait for, and when that is worth a word.

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
    /// When it is told: what a step waits for next, after it has been told once, is told at once.
    due: Instant,
    told: bool,
}

impl Waits {
    /// Notes what a step waits for; `briefly`: it is worth a word only where it lasts.
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

    /// What is to be told now; it is told once.
    pub(crate) fn due_to_report(&mut self, now: Instant) -> Vec<(usize, WaitingOn)> {
        let mut due = Vec::new();
        for (step, wait) in self.0.iter_mut().filter(|(_, wait)| !wait.told && wait.due <= now) {
            wait.told = true;
            due.push((*step, wait.on.clone()));
        }
        due
    }

    /// When something is to be told next.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.0.values().filter(|wait| !wait.told).map(|wait| wait.due).min()
    }

    /// A step waits no more; whether it was told that it did.
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
    fn what_lasts_for_a_moment_only_is_not_told() {
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
    fn what_lasts_is_told_once_and_so_is_what_comes_next() {
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
