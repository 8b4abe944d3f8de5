//! Contention: the same field and the same other manager, again and again. To keep repairing would only cause load.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::object::ObjectKey;

/// So many repairs within [`WINDOW`] make a field contended.
const REPAIRS: usize = 5;
const WINDOW: Duration = Duration::from_mins(1);
/// How long a contended field is left alone at first; twice as long each time that it is contended again.
const SHORTEST: Duration = Duration::from_mins(1);
const LONGEST: Duration = Duration::from_mins(30);

/// A field that another manager keeps changing back.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ContendedField {
    /// The object.
    pub object: ObjectKey,
    /// The field, as [`crate::ownership::FieldPath`] prints it; `.` where the object is deleted.
    pub path: String,
    /// The other manager.
    pub manager: String,
}

/// A contended field that is left alone for a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contended {
    /// The field.
    pub field: ContendedField,
    /// Until when it is left alone, on the caller's clock.
    pub until: Duration,
}

/// The contended fields that are known. Time is an argument: any clock that only goes forward.
#[derive(Clone, Debug, Default)]
pub struct Contention {
    histories: BTreeMap<ContendedField, History>,
}

#[derive(Clone, Debug, Default)]
struct History {
    /// When it was repaired, oldest first; no more than count.
    repairs: VecDeque<Duration>,
    /// The last pause, and its end.
    pause: Option<(Duration, Duration)>,
}

impl History {
    /// After a pause one more repair that does not last is enough.
    fn is_fight(&self, now: Duration) -> bool {
        let (most, window) = match self.pause {
            None => (REPAIRS, WINDOW),
            Some((pause, _)) => (1, pause.max(WINDOW)),
        };
        self.repairs.iter().filter(|at| now.saturating_sub(**at) < window).count() >= most
    }
}

impl Contention {
    /// The first of these fields that is to be left alone for now, if any is.
    pub fn check(&mut self, fields: &[ContendedField], now: Duration) -> Option<Contended> {
        self.forget(now);
        for field in fields {
            let Some(history) = self.histories.get_mut(field) else { continue };
            if history.pause.is_none_or(|(_, until)| until <= now) && history.is_fight(now) {
                let pause = history.pause.map_or(SHORTEST, |(pause, _)| (pause * 2).min(LONGEST));
                history.pause = Some((pause, now + pause));
                history.repairs.clear();
            }
            if let Some((_, until)) = history.pause.filter(|(_, until)| *until > now) {
                return Some(Contended { field: field.clone(), until });
            }
        }
        None
    }

    /// A repair was made.
    pub fn repaired(&mut self, fields: Vec<ContendedField>, now: Duration) {
        for field in fields {
            let repairs = &mut self.histories.entry(field).or_default().repairs;
            repairs.push_back(now);
            if repairs.len() > REPAIRS {
                repairs.pop_front();
            }
        }
    }

    /// Drops what was quiet for long enough.
    fn forget(&mut self, now: Duration) {
        self.histories.retain(|_, history| {
            let last = history.repairs.back().copied().unwrap_or_default();
            let (pause, until) = history.pause.unwrap_or((Duration::ZERO, Duration::ZERO));
            now.saturating_sub(last.max(until)) < pause.max(WINDOW)
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(manager: &str) -> Vec<ContendedField> {
        let object =
            ObjectKey { group: String::new(), kind: "ConfigMap".into(), namespace: None, name: "a".into() };
        vec![ContendedField { object, path: ".data.x".into(), manager: manager.into() }]
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// Repairs for as long as that is let happen; the second of the first refusal, and when it ends.
    fn fights_from(contention: &mut Contention, start: u64) -> (u64, Duration) {
        let mut second = start;
        loop {
            match contention.check(&field("x"), at(second)) {
                None => contention.repaired(field("x"), at(second)),
                Some(Contended { until, .. }) => return (second - start, until),
            }
            second += 1;
        }
    }

    #[test]
    fn five_changes_a_minute_start_a_growing_backoff() {
        let mut contention = Contention::default();
        assert_eq!(fights_from(&mut contention, 0), (5, at(65)));
        assert!(contention.check(&field("x"), at(64)).is_some());
        // Another manager, the same field: another field.
        assert_eq!(contention.check(&field("y"), at(10)), None);
        assert_eq!(fights_from(&mut contention, 65), (1, at(66 + 120)));
        assert_eq!(fights_from(&mut contention, 186), (1, at(187 + 240)));
        let mut start = 427;
        for _ in 0..10 {
            start = fights_from(&mut contention, start).1.as_secs();
        }
        assert_eq!(fights_from(&mut contention, start), (1, at(start + 1 + 1800)));
    }

    #[test]
    fn rare_changes_are_no_contention_and_quiet_fields_are_forgotten() {
        let mut contention = Contention::default();
        for round in 0..100 {
            assert_eq!(contention.check(&field("x"), at(round * 15)), None);
            contention.repaired(field("x"), at(round * 15));
        }
        let mut contention = Contention::default();
        fights_from(&mut contention, 0);
        assert_eq!(fights_from(&mut contention, 65 + 60).0, 5);
    }
}
