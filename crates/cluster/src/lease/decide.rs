//! Whether a lease may be taken: a pure decision.

use std::time::Duration;

use super::record::LeaseRecord;

/// A lease as it has been seen so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Observation<'l> {
    /// The lease; `None` when there is none.
    pub lease: Option<&'l LeaseRecord>,
    /// How long it has been seen like this, on our own clock.
    pub unchanged_for: Duration,
    /// Whether a foreign holder renewed it, or took it, since we first looked.
    pub renewed: bool,
    /// Whether the holder is a process of this machine that is seen to have ended.
    pub holder_is_dead: bool,
}

/// What to do about a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// There is none: create it.
    Create,
    /// It is free, ours, or its holder is gone: write ourselves into it.
    Take,
    /// Its holder may be dead: look again, for at most this long, after which it is free.
    Wait(Duration),
    /// Its holder lives.
    Held,
}

/// Decides for the holder `me`. `default_duration` counts where a foreign lease says none.
pub fn decide(seen: &Observation<'_>, me: &str, default_duration: Duration) -> Decision {
    let Some(lease) = seen.lease else { return Decision::Create };
    let Some(holder) = &lease.holder else { return Decision::Take };
    if holder == me || seen.holder_is_dead {
        return Decision::Take;
    }
    let left = lease.duration.unwrap_or(default_duration).saturating_sub(seen.unchanged_for);
    if left.is_zero() {
        Decision::Take
    } else if seen.renewed {
        Decision::Held
    } else {
        Decision::Wait(left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_taken_over_only_if_its_holder_is_dead() {
        let second = Duration::from_secs(1);
        let held = LeaseRecord {
            holder: Some("other".to_owned()),
            duration: Some(15 * second),
            renew_time: Some("t".to_owned()),
            ..LeaseRecord::default()
        };
        let free = LeaseRecord { holder: None, ..held.clone() };
        let ours = LeaseRecord { holder: Some("me".to_owned()), ..held.clone() };
        let vague = LeaseRecord { duration: None, ..held.clone() };
        let new = Observation {
            lease: Some(&held),
            unchanged_for: Duration::ZERO,
            renewed: false,
            holder_is_dead: false,
        };
        let cases = [
            ("no lease", Observation { lease: None, ..new }, Decision::Create),
            ("free", Observation { lease: Some(&free), ..new }, Decision::Take),
            ("ours", Observation { lease: Some(&ours), ..new }, Decision::Take),
            ("ended process", Observation { holder_is_dead: true, ..new }, Decision::Take),
            ("first seen", new, Decision::Wait(15 * second)),
            ("seen a while", Observation { unchanged_for: 6 * second, ..new }, Decision::Wait(9 * second)),
            ("seen for its duration", Observation { unchanged_for: 15 * second, ..new }, Decision::Take),
            ("renewed", Observation { renewed: true, ..new }, Decision::Held),
            (
                "renewed, then silent",
                Observation { renewed: true, unchanged_for: 15 * second, ..new },
                Decision::Take,
            ),
            (
                "no duration",
                Observation { lease: Some(&vague), unchanged_for: second, ..new },
                Decision::Wait(9 * second),
            ),
        ];
        for (what, seen, expected) in cases {
            assert_eq!(decide(&seen, "me", 10 * second), expected, "{what}");
        }
    }
}
