//! What a lease object says.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Which tenure of which lease object: the number that fencing compares. Whoever knows the token of one tenure
/// and holds the lease in the next knows that nobody held it in between.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FencingToken {
    /// uid of the lease object: one that was deleted and created again counts from 0 again.
    pub lease: String,
    /// `leaseTransitions` during the tenure.
    pub transitions: u64,
}

impl FencingToken {
    /// The token of whoever holds a lease object now.
    pub(super) fn of(lease: &Value) -> Self {
        let uid = lease.pointer("/metadata/uid").and_then(Value::as_str);
        Self { lease: uid.unwrap_or_default().to_owned(), transitions: LeaseRecord::of(lease).transitions }
    }

    /// Whether this tenure came right after that one.
    pub fn follows(&self, earlier: &Self) -> bool {
        self.lease == earlier.lease && self.transitions == earlier.transitions + 1
    }
}

/// The holder of a lease that nobody holds: present and empty, so that a patch can ask for it.
const FREE: &str = "";

/// The fields of a lease that matter here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeaseRecord {
    /// Who holds it; `None` when it is free.
    pub holder: Option<String>,
    /// How long it is the holder's after a renewal; `None` when nobody said.
    pub duration: Option<Duration>,
    /// When it was last renewed, as the holder wrote it: compared for equality, never with a clock.
    pub renew_time: Option<String>,
    /// When the holder took it, as the holder wrote it.
    pub acquire_time: Option<String>,
    /// How often its holder changed.
    pub transitions: u64,
}

impl LeaseRecord {
    /// Reads a lease object. Absent and malformed fields are none.
    pub fn of(lease: &Value) -> Self {
        let spec = lease.get("spec").unwrap_or(&Value::Null);
        let text = |key: &str| spec.get(key)?.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
        Self {
            holder: text("holderIdentity"),
            duration: spec
                .get("leaseDurationSeconds")
                .and_then(Value::as_u64)
                .filter(|seconds| *seconds > 0)
                .map(Duration::from_secs),
            renew_time: text("renewTime"),
            acquire_time: text("acquireTime"),
            transitions: spec.get("leaseTransitions").and_then(Value::as_u64).unwrap_or_default(),
        }
    }

    /// Writes the fields into a lease object; whatever else it holds stays.
    pub(super) fn write_to(&self, lease: &mut Value) {
        let spec = json!({
            "holderIdentity": self.holder.as_deref().unwrap_or(FREE),
            "leaseDurationSeconds": self.duration.map(whole_seconds),
            "renewTime": self.renew_time,
            "acquireTime": self.acquire_time,
            "leaseTransitions": self.transitions,
        });
        match (lease.get_mut("spec"), spec) {
            (Some(Value::Object(old)), Value::Object(new)) => {
                for (key, value) in new {
                    if value.is_null() {
                        old.remove(&key)
                    } else {
                        old.insert(key, value)
                    };
                }
            }
            (_, spec) => lease["spec"] = spec,
        }
    }

    /// The record of `holder` after it takes the lease, or renews it when it is its own already, at `time`.
    pub(super) fn taken_by(&self, holder: &str, duration: Duration, time: jiff::Timestamp) -> Self {
        let time = micro_time(time);
        let ours = self.holder.as_deref() == Some(holder);
        Self {
            holder: Some(holder.to_owned()),
            duration: Some(duration),
            acquire_time: self.acquire_time.clone().filter(|_| ours).or_else(|| Some(time.clone())),
            renew_time: Some(time),
            // The first holder is no transition; after that every new one is.
            transitions: self.transitions + u64::from(!ours && self.renew_time.is_some()),
        }
    }

    /// The record after its holder gives it up. The times stay, so that the next one counts as a transition.
    pub(super) fn released(&self) -> Self {
        Self { holder: None, ..self.clone() }
    }

    /// A JSON patch (RFC 6902) by which `holder` takes a lease that was given up in the tenure of `earlier`, at
    /// `time`, and that fails if anybody took it since.
    pub(super) fn succession(
        earlier: &FencingToken,
        holder: &str,
        duration: Duration,
        time: jiff::Timestamp,
    ) -> Value {
        let time = micro_time(time);
        json!([
            {"op": "test", "path": "/metadata/uid", "value": earlier.lease},
            {"op": "test", "path": "/spec/leaseTransitions", "value": earlier.transitions},
            {"op": "test", "path": "/spec/holderIdentity", "value": FREE},
            {"op": "replace", "path": "/spec/holderIdentity", "value": holder},
            {"op": "replace", "path": "/spec/leaseTransitions", "value": earlier.transitions + 1},
            {"op": "add", "path": "/spec/leaseDurationSeconds", "value": whole_seconds(duration)},
            {"op": "add", "path": "/spec/acquireTime", "value": time},
            {"op": "add", "path": "/spec/renewTime", "value": time},
        ])
    }
}

/// Rounded up: others must not think a lease shorter than its holder does. The API server takes no zero.
fn whole_seconds(duration: Duration) -> u64 {
    (duration.as_secs() + u64::from(duration.subsec_nanos() > 0)).max(1)
}

/// Kubernetes' MicroTime: RFC 3339 with exactly six digits.
fn micro_time(time: jiff::Timestamp) -> String {
    format!("{time:.6}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(text: &str) -> jiff::Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn transitions_are_counted() {
        let duration = Duration::from_millis(14_500);
        let first = LeaseRecord::default().taken_by("a", duration, time("2026-01-02T03:04:05Z"));
        assert_eq!(first.transitions, 0);
        assert_eq!(first.renew_time.as_deref(), Some("2026-01-02T03:04:05.000000Z"));

        let renewed = first.taken_by("a", duration, time("2026-01-02T03:04:10.5Z"));
        assert_eq!(renewed.renew_time.as_deref(), Some("2026-01-02T03:04:10.500000Z"));
        assert_eq!((renewed.transitions, &renewed.acquire_time), (0, &first.acquire_time));

        let taken = renewed.taken_by("b", duration, time("2026-01-02T03:05:00Z"));
        assert_eq!(taken.transitions, 1);
        assert_eq!(taken.acquire_time.as_deref(), Some("2026-01-02T03:05:00.000000Z"));

        let again = taken.released().taken_by("b", duration, time("2026-01-02T03:06:00Z"));
        assert_eq!(again.transitions, 2);
        assert_eq!(again.acquire_time, again.renew_time);
    }

    #[test]
    fn unknown_fields_are_preserved() {
        let mut lease = json!({ "metadata": { "labels": { "a": "b" } }, "spec": { "strategy": "X" } });
        let record =
            LeaseRecord::default().taken_by("a", Duration::from_millis(14_500), time("2026-01-02T03:04:05Z"));
        record.write_to(&mut lease);
        assert_eq!(lease["spec"]["strategy"], "X");
        // Rounded up: others must not think it shorter than we do.
        assert_eq!(lease["spec"]["leaseDurationSeconds"], 15);
        let read = LeaseRecord::of(&lease);
        assert_eq!(read, LeaseRecord { duration: Some(Duration::from_secs(15)), ..record });

        read.released().write_to(&mut lease);
        assert_eq!(lease["spec"]["holderIdentity"], "");
        assert_eq!(LeaseRecord::of(&lease).holder, None);
    }

    #[test]
    fn a_tenure_follows_its_predecessor_only_on_the_same_lease() {
        let token = |lease: &str, transitions| FencingToken { lease: lease.to_owned(), transitions };
        let earlier = token("a", 3);
        assert!(token("a", 4).follows(&earlier));
        for other in [token("a", 3), token("a", 5), token("b", 4), token("b", 0)] {
            assert!(!other.follows(&earlier), "{other:?}");
        }
    }

    #[test]
    fn malformed_leases_read_as_free() {
        for lease in [
            json!({}),
            json!({ "spec": null }),
            json!({ "spec": { "holderIdentity": "", "leaseDurationSeconds": -1 } }),
        ] {
            assert_eq!(LeaseRecord::of(&lease), LeaseRecord::default(), "{lease}");
        }
    }
}
