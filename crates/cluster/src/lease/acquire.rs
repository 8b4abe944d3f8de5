//! Taking a lease.

use std::time::Duration;

use serde_json::{Value, json};

use super::clock;
use super::decide::{Decision, Observation, decide};
use super::guard::{LeaseGuard, LeaseRef};
use super::identity::Identity;
use super::record::{FencingToken, LeaseRecord};
use super::{LeaseConfig, LeaseError};
use crate::builtin;
use crate::cluster::Cluster;
use crate::error::RequestError;
use crate::params::CreateParams;
use crate::retry::Backoff;

/// Pause before another look at a lease that somebody else wrote at the same time.
const RACED: Duration = Duration::from_millis(20);

/// A lease that we wrote ourselves into.
pub(super) struct Acquired {
    /// As stored.
    pub(super) lease: Value,
    /// When the write was sent, on the lease's clock.
    pub(super) sent: Duration,
}

/// What has been seen of a lease so far.
#[derive(Default)]
struct History {
    /// The holder and its renewal, and when they were first seen.
    last: Option<(LeaseRecord, Duration)>,
    renewed: bool,
}

impl History {
    fn see(&mut self, record: &LeaseRecord, now: Duration) -> Duration {
        let key =
            |record: &LeaseRecord| (record.holder.clone(), record.renew_time.clone(), record.transitions);
        match &self.last {
            Some((last, first_seen)) if key(last) == key(record) => now.saturating_sub(*first_seen),
            last => {
                self.renewed = last.is_some();
                self.last = Some((record.clone(), now));
                Duration::ZERO
            }
        }
    }
}

impl LeaseGuard {
    /// Takes the lease `namespace/name`, creating it where it does not exist, and keeps renewing it in the
    /// background until the guard is released or dropped.
    ///
    /// A holder that may be dead is waited for, and named to `waiting` at each look; as soon as it is seen to
    /// renew, or when [`LeaseConfig::wait`] is over, the error says who holds the lease. The namespace must
    /// exist.
    pub async fn acquire(
        cluster: &Cluster,
        namespace: &str,
        name: &str,
        config: LeaseConfig,
        mut waiting: impl FnMut(&str),
    ) -> Result<Self, LeaseError> {
        let me = config.holder.clone().unwrap_or_else(|| config.identity.to_string());
        let deadline = clock::now() + config.wait;
        // Often enough to notice a renewal soon, seldom enough not to be a burden.
        let poll = (config.renew / 5).max(Duration::from_millis(20));
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));
        let mut history = History::default();
        let failed =
            |source| LeaseError::Request { namespace: namespace.to_owned(), name: name.to_owned(), source };
        let hold = |taken| {
            let lease_ref = LeaseRef { namespace: namespace.to_owned(), name: name.to_owned() };
            Self::hold(cluster, lease_ref, config.clone(), me.clone(), taken)
        };
        if let Some(earlier) = &config.after {
            match succeed(cluster, namespace, name, &config, &me, earlier).await {
                Ok(taken) => return Ok(hold(taken)),
                // Whatever stood against it, a look tells; an answer that got lost shows as ours.
                Err(error) => tracing::debug!(%error, "the lease is not as it was left"),
            }
        }
        loop {
            let wait = match attempt(cluster, namespace, name, &config, &me, &mut history).await {
                Ok(Attempt::Taken(taken)) => return Ok(hold(taken)),
                Ok(Attempt::Raced) => RACED,
                Ok(Attempt::Foreign { record, decision }) => {
                    let holder = record.holder.unwrap_or_default();
                    let left = match decision {
                        Decision::Wait(left) if clock::now() < deadline => left,
                        _ => {
                            return Err(LeaseError::Held {
                                namespace: namespace.to_owned(),
                                name: name.to_owned(),
                                holder,
                                since: record.acquire_time.and_then(|time| time.parse().ok()),
                            });
                        }
                    };
                    waiting(&holder);
                    left.min(poll).min(deadline.saturating_sub(clock::now()))
                }
                Err(error) => match error.retry() {
                    Some(retry) => {
                        let wait = retry.after.unwrap_or_default() + backoff.next_wait();
                        if clock::now() + wait >= deadline {
                            return Err(failed(error));
                        }
                        wait
                    }
                    None => return Err(failed(error)),
                },
            };
            tokio::time::sleep(wait).await;
        }
    }
}

enum Attempt {
    Taken(Acquired),
    /// Somebody else wrote in between: look again.
    Raced,
    Foreign {
        record: LeaseRecord,
        decision: Decision,
    },
}

async fn attempt(
    cluster: &Cluster,
    namespace: &str,
    name: &str,
    config: &LeaseConfig,
    me: &str,
    history: &mut History,
) -> Result<Attempt, RequestError> {
    let found = match cluster.get(&builtin::lease(), Some(namespace), name).await {
        Ok(lease) => Some(lease),
        Err(RequestError::NotFound { .. }) => None,
        Err(error) => return Err(error),
    };
    let record = found.as_ref().map(LeaseRecord::of);
    let unchanged_for = record.as_ref().map_or(Duration::ZERO, |record| history.see(record, clock::now()));
    let holder = record.as_ref().and_then(|record| record.holder.clone());
    if let Some(other) = found.as_ref().and_then(|lease| config.claim.other(lease)) {
        let record = LeaseRecord { holder: Some(other), ..record.unwrap_or_default() };
        return Ok(Attempt::Foreign { record, decision: Decision::Held });
    }
    let holder_is_dead =
        holder.as_deref().and_then(|holder| holder.parse::<Identity>().ok()).is_some_and(|it| it.is_dead());
    let sighting =
        Observation { lease: record.as_ref(), unchanged_for, renewed: history.renewed, holder_is_dead };
    let decision = decide(&sighting, me, config.duration);
    if matches!(decision, Decision::Wait(_) | Decision::Held) {
        return Ok(Attempt::Foreign { record: record.unwrap_or_default(), decision });
    }

    if let Some(holder) = holder.filter(|holder| holder != me) {
        tracing::info!(namespace, name, holder, holder_is_dead, "taking over the lease");
    }
    let mut lease = found.unwrap_or_else(|| {
        json!({
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": { "name": name, "namespace": namespace },
        })
    });
    match write(cluster, &mut lease, config, me).await {
        Ok(taken) => Ok(Attempt::Taken(taken)),
        Err(RequestError::Conflict { .. } | RequestError::AlreadyExists { .. }) => Ok(Attempt::Raced),
        // Deleted since it was read, or its namespace is missing: the next look tells, by the create.
        Err(RequestError::NotFound { resource, .. }) if resource == "leases" => Ok(Attempt::Raced),
        Err(error) => Err(error),
    }
}

/// Takes the lease if it is as its holder in the tenure of `earlier` left it when it gave it up.
async fn succeed(
    cluster: &Cluster,
    namespace: &str,
    name: &str,
    config: &LeaseConfig,
    me: &str,
    earlier: &FencingToken,
) -> Result<Acquired, RequestError> {
    let patch = LeaseRecord::succession(earlier, me, config.duration, jiff::Timestamp::now());
    let sent = clock::now();
    let lease = cluster.patch_json(&builtin::lease(), Some(namespace), name, &patch).await?;
    Ok(Acquired { lease, sent })
}

/// Writes `me` into a lease: a new one, or one as it was read, at its resourceVersion.
pub(super) async fn write(
    cluster: &Cluster,
    lease: &mut Value,
    config: &LeaseConfig,
    me: &str,
) -> Result<Acquired, RequestError> {
    LeaseRecord::of(lease).taken_by(me, config.duration, jiff::Timestamp::now()).write_to(lease);
    let sent = clock::now();
    let lease = if lease.pointer("/metadata/resourceVersion").is_some() {
        cluster.replace(&builtin::lease(), lease, CreateParams::default()).await?
    } else {
        cluster.create(&builtin::lease(), lease, CreateParams::default()).await?
    };
    Ok(Acquired { lease, sent })
}
