//! Answers that still count.

use std::collections::HashMap;

use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::{Caching, Identity};

/// What a token is known by: its SHA-256.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Key([u8; 32]);

impl Key {
    pub(super) fn of(token: &str) -> Self {
        Self(Sha256::digest(token).into())
    }
}

/// An answer that is worth remembering.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Known(Identity),
    Bad,
    Forbidden(String),
}

/// Answers by token, bounded in time and in number.
pub(super) struct Cache {
    caching: Caching,
    answers: HashMap<Key, (Instant, Verdict)>,
}

impl Cache {
    pub(super) fn new(caching: Caching) -> Self {
        Self { caching, answers: HashMap::new() }
    }

    pub(super) fn get(&self, key: Key, now: Instant) -> Option<Verdict> {
        let (until, verdict) = self.answers.get(&key)?;
        (now < *until).then(|| verdict.clone())
    }

    /// Remembers an answer given at `asked`. When there is no room, what no longer counts goes first, then refusals,
    /// then what counts least long: whoever sends rubbish pushes out no good answer while there is rubbish left.
    pub(super) fn put(&mut self, key: Key, verdict: Verdict, asked: Instant) {
        if self.caching.entries == 0 {
            return;
        }
        if !self.answers.contains_key(&key) && self.answers.len() >= self.caching.entries {
            self.answers.retain(|_, (until, _)| asked < *until);
        }
        if !self.answers.contains_key(&key) && self.answers.len() >= self.caching.entries {
            let first = self
                .answers
                .iter()
                .min_by_key(|(_, (until, verdict))| (matches!(verdict, Verdict::Known(_)), *until));
            if let Some(first) = first.map(|(key, _)| *key) {
                self.answers.remove(&first);
            }
        }
        self.answers.insert(key, (asked + self.caching.time, verdict));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn known() -> Verdict {
        Verdict::Known(Identity { name: "admin".to_owned(), groups: Vec::new() })
    }

    #[test]
    fn cached_answers_expire() {
        let start = Instant::now();
        let second = Duration::from_secs(1);
        let mut cache = Cache::new(Caching { time: 10 * second, entries: 4 });
        cache.put(Key::of("a"), known(), start);
        assert_eq!(cache.get(Key::of("a"), start + 9 * second), Some(known()));
        assert_eq!(cache.get(Key::of("a"), start + 10 * second), None);
        assert_eq!(cache.get(Key::of("b"), start), None);
        cache.put(Key::of("a"), Verdict::Bad, start + 10 * second);
        assert_eq!(cache.get(Key::of("a"), start + 19 * second), Some(Verdict::Bad));
    }

    #[test]
    fn the_cache_is_bounded_and_evicts_positive_answers_last() {
        let start = Instant::now();
        let second = Duration::from_secs(1);
        let mut cache = Cache::new(Caching { time: 100 * second, entries: 3 });
        cache.put(Key::of("good"), known(), start);
        for (number, later) in (0..50_u32).map(|number| (number, start + second * (number + 1))) {
            cache.put(Key::of(&format!("bad {number}")), Verdict::Bad, later);
            assert!(cache.answers.len() <= 3);
            assert_eq!(cache.get(Key::of("good"), later), Some(known()), "after {number}");
            assert_eq!(cache.get(Key::of(&format!("bad {number}")), later), Some(Verdict::Bad));
        }
        cache.put(Key::of("late"), known(), start + 500 * second);
        assert_eq!(cache.answers.len(), 1, "what no longer counts makes room");
        Cache::new(Caching { time: second, entries: 0 }).put(Key::of("a"), known(), start);
    }
}
