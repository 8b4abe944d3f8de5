//! One leader among all managers, ours and others', by a Lease as client-go uses it.

use std::time::Duration;

use trainerd_cluster::Cluster;
use trainerd_cluster::lease::{Identity, LeaseConfig, LeaseError, LeaseGuard};

/// Where the election is held, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Election {
    pub(crate) namespace: String,
    pub(crate) name: String,
    /// How long the lease is the leader's after a renewal.
    pub(crate) lease_duration: Duration,
    /// How long the leader continues without a renewal.
    pub(crate) renew_deadline: Duration,
    /// Time between tries.
    pub(crate) retry_period: Duration,
    /// As whom; a new name for each process where none is given.
    pub(crate) holder: Option<String>,
}

/// Why there is no election.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ElectionError {
    /// No name.
    #[error("LeaderElectionID must be configured")]
    NoName,
    /// Some other kind of lock.
    #[error("unknown resource lock {0:?}: leases is the one that there is")]
    Lock(String),
    /// Times that do not fit together.
    #[error("{0}")]
    Times(&'static str),
}

impl Election {
    /// Checks the times, as client-go does.
    pub(crate) fn check(&self) -> Result<(), ElectionError> {
        if self.name.is_empty() {
            return Err(ElectionError::NoName);
        }
        let times = if self.lease_duration <= self.renew_deadline {
            "leaseDuration must be greater than renewDeadline"
        } else if self.renew_deadline <= self.retry_period.mul_f64(1.2) {
            // client-go's jitter.
            "renewDeadline must be greater than retryPeriod*JitterFactor"
        } else if self.retry_period.is_zero() {
            "retryPeriod must be greater than zero"
        } else {
            return Ok(());
        };
        Err(ElectionError::Times(times))
    }

    /// Waits until this process leads: whoever holds the lease is let be for as long as it renews.
    pub(crate) async fn win(&self, cluster: &Cluster) -> LeaseGuard {
        let holder = self.holder.clone().unwrap_or_else(holder);
        let config = LeaseConfig {
            duration: self.lease_duration,
            renew: self.retry_period,
            // From the deadline on nobody here writes, while the lease still keeps the others away.
            margin: self.lease_duration.saturating_sub(self.renew_deadline),
            wait: self.lease_duration * 2,
            holder: Some(holder),
            ..LeaseConfig::new(Identity::of_this_process())
        };
        let mut told = None;
        loop {
            match LeaseGuard::acquire(cluster, &self.namespace, &self.name, config.clone(), |_| {}).await {
                Ok(guard) => {
                    tracing::info!(lease = self.name, holder = guard.holder(), "became the leader");
                    return guard;
                }
                Err(LeaseError::Held { holder, .. }) => {
                    if told.as_ref() != Some(&holder) {
                        tracing::info!(lease = self.name, holder, "another replica leads");
                        told = Some(holder);
                    }
                }
                Err(error) => {
                    tracing::error!(error = trainerd_causes::one_line(&error), "failed to take the lease");
                }
            }
            tokio::time::sleep(self.retry_period).await;
        }
    }
}

/// `<hostname>_<uuid>`, another one for each process.
fn holder() -> String {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    // Version 4, variant 1 (RFC 9562).
    let random = fastrand::u128(..) & !(0xf << 76 | 0x3 << 62) | (0x4 << 76 | 0x2 << 62);
    let hex = format!("{random:032x}");
    format!("{host}_{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn election() -> Election {
        Election {
            namespace: "ns".to_owned(),
            name: "trainer.kubeflow.org".to_owned(),
            lease_duration: 15 * SECOND,
            renew_deadline: 10 * SECOND,
            retry_period: 2 * SECOND,
            holder: None,
        }
    }

    #[test]
    fn lease_durations_must_be_consistent() {
        assert_eq!(election().check(), Ok(()));
        let zero = Duration::ZERO;
        let cases = [
            Election { name: String::new(), ..election() },
            Election { lease_duration: 10 * SECOND, ..election() },
            Election { renew_deadline: 2 * SECOND, ..election() },
            Election { retry_period: zero, ..election() },
            Election { lease_duration: zero, renew_deadline: zero, retry_period: zero, ..election() },
        ];
        for case in cases {
            assert!(case.check().is_err(), "{case:?}");
        }
        let unnamed = Election { name: String::new(), ..election() };
        assert_eq!(unnamed.check().unwrap_err().to_string(), "LeaderElectionID must be configured");
    }

    #[test]
    fn the_holder_identity_is_host_and_uuid() {
        let holder = holder();
        let (_, uuid) = holder.rsplit_once('_').unwrap();
        let parts: Vec<&str> = uuid.split('-').collect();
        assert_eq!(parts.iter().map(|part| part.len()).collect::<Vec<_>>(), [8, 4, 4, 4, 12]);
        assert!(parts[2].starts_with('4') && parts[3].starts_with(['8', '9', 'a', 'b']), "{uuid}");
        assert_ne!(holder, super::holder());
    }
}
