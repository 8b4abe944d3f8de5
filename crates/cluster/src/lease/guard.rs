//! Holding a lease.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::{Mutex, watch};
use tokio::task::JoinHandle;

use super::acquire::{Acquired, write};
use super::record::{FencingToken, LeaseRecord};
use super::{LeaseConfig, clock};
use crate::builtin;
use crate::cluster::Cluster;
use crate::error::RequestError;
use crate::params::{CreateParams, DeleteParams};
use crate::retry::{RetryPolicy, with_retry};

/// Attempts to delete the lease: whoever deletes it leaves nothing else behind.
const ATTEMPTS: u32 = 5;

/// Why the lease is no longer ours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LeaseLost {
    /// Somebody else took it.
    #[error("the lease was taken by {holder}")]
    Taken {
        /// Its identity.
        holder: String,
    },
    /// The lease object was deleted, or its holder was removed from it.
    #[error("the lease was taken by another holder")]
    Removed,
    /// Its guard was released or dropped.
    #[error("the lease was given up")]
    Released,
    /// The lease says that somebody else is to have it. It is still ours until its guard is released.
    #[error("the lease is yielded to {to}")]
    Yielded {
        /// What he is called by those who say so.
        to: String,
    },
    /// It could not be renewed in time, or this machine slept.
    #[error("the lease could not be renewed in time{}", .last.as_ref().map(|last| format!(": {last}")).unwrap_or_default())]
    Expired {
        /// What the last attempt to renew was answered.
        last: Option<String>,
    },
}

/// Tells whether the lease is still ours. Cheap to clone; outlives the guard, after which the answer is no.
#[derive(Clone)]
pub struct Fence {
    shared: Arc<Shared>,
    token: Arc<FencingToken>,
    lost: watch::Receiver<Option<LeaseLost>>,
}

struct Shared {
    /// Until when the lease may be relied on, in nanoseconds of the lease's clock.
    valid_until: AtomicU64,
    lost: watch::Sender<Option<LeaseLost>>,
}

/// The lease, while it is ours. Dropped without [`Self::release`], it is no longer renewed, and others have to
/// wait until it runs out or this process has ended.
pub struct LeaseGuard {
    fence: Fence,
    renewal: Renewal,
    task: JoinHandle<()>,
}

/// Where a lease is.
#[derive(Clone)]
pub(super) struct LeaseRef {
    pub(super) namespace: String,
    pub(super) name: String,
}

/// What the background task and a release share.
#[derive(Clone)]
struct Renewal {
    cluster: Cluster,
    lease_ref: LeaseRef,
    config: LeaseConfig,
    me: String,
    /// The lease as last stored. Locked during a write, so that a release comes after a renewal in progress.
    lease: Arc<Mutex<Value>>,
    shared: Arc<Shared>,
}

impl Fence {
    /// Whether the lease is ours, now and for [`LeaseConfig::margin`]. No request is made.
    pub fn check(&self) -> Result<(), LeaseLost> {
        if let Some(lost) = self.lost.borrow().clone() {
            return Err(lost);
        }
        if self.shared.left().is_zero() { Err(LeaseLost::Expired { last: None }) } else { Ok(()) }
    }

    /// The token of this tenure.
    pub fn token(&self) -> &FencingToken {
        &self.token
    }

    /// Resolves when the lease is lost.
    pub async fn lost(&self) -> LeaseLost {
        let mut lost = self.lost.clone();
        match lost.wait_for(Option::is_some).await {
            Ok(lost) => lost.clone().unwrap_or(LeaseLost::Expired { last: None }),
            // The sender lives as long as any fence.
            Err(_) => LeaseLost::Released,
        }
    }
}

impl Shared {
    fn extend(&self, taken: &Acquired, config: &LeaseConfig) {
        let until = taken.sent + config.duration.saturating_sub(config.margin);
        self.valid_until.store(u64::try_from(until.as_nanos()).unwrap_or(u64::MAX), Ordering::Release);
    }

    fn left(&self) -> Duration {
        Duration::from_nanos(self.valid_until.load(Ordering::Acquire)).saturating_sub(clock::now())
    }

    /// The first reason stays.
    fn lose(&self, why: LeaseLost) {
        self.lost.send_if_modified(|lost| {
            let first = lost.is_none();
            if first {
                if why != LeaseLost::Released {
                    tracing::warn!(%why, "lost the lease");
                }
                *lost = Some(why);
            }
            first
        });
    }
}

impl LeaseGuard {
    pub(super) fn hold(
        cluster: &Cluster,
        lease_ref: LeaseRef,
        config: LeaseConfig,
        me: String,
        taken: Acquired,
    ) -> Self {
        let (sender, lost) = watch::channel(None);
        let shared = Arc::new(Shared { valid_until: AtomicU64::new(0), lost: sender });
        shared.extend(&taken, &config);
        // A renewal that hangs must leave time for another.
        let cluster = cluster.with_timeout(config.renew);
        let tenure = Arc::new(FencingToken::of(&taken.lease));
        let lease = Arc::new(Mutex::new(taken.lease));
        let renewal = Renewal { cluster, lease_ref, config, me, lease, shared: Arc::clone(&shared) };
        let task = tokio::spawn(renewal.clone().run());
        Self { fence: Fence { shared, token: tenure, lost }, renewal, task }
    }

    /// For those who write while the lease is held.
    pub fn fence(&self) -> Fence {
        self.fence.clone()
    }

    /// See [`Fence::check`].
    pub fn check(&self) -> Result<(), LeaseLost> {
        self.fence.check()
    }

    /// See [`Fence::lost`].
    pub async fn lost(&self) -> LeaseLost {
        self.fence.lost().await
    }

    /// Our identity, as the lease has it.
    pub fn holder(&self) -> &str {
        &self.renewal.me
    }

    /// Gives the lease up, so that the next one need not wait. A lease that is no longer ours is left alone.
    ///
    /// On an error the lease expires, or is taken over as soon as this process has ended.
    pub async fn release(mut self) -> Result<(), RequestError> {
        // A renewal that is cut short may still arrive; then the release meets a conflict and looks again.
        self.stopped().await;
        self.renewal.release().await
    }

    /// Gives the lease up and deletes it, as long as it is the one that was held and still ours. One that is
    /// absent or somebody else's is left alone.
    ///
    /// On an error the lease expires, as after [`Self::release`].
    pub async fn delete(mut self) -> Result<(), RequestError> {
        self.stopped().await;
        let policy = RetryPolicy { attempts: Some(ATTEMPTS), ..RetryPolicy::default() };
        with_retry(&policy, None, |_| {}, async |_| self.renewal.delete().await).await
    }

    /// Stops renewing, and waits until that is so. A renewal that panicked has ended nobody knows how: so does this.
    async fn stopped(&mut self) {
        self.stop();
        if let Err(error) = (&mut self.task).await
            && let Ok(cause) = error.try_into_panic()
        {
            std::panic::resume_unwind(cause);
        }
    }

    /// Stops renewing. What outlives the guard must not take the lease for held.
    fn stop(&self) {
        self.renewal.shared.valid_until.store(0, Ordering::Release);
        self.renewal.shared.lose(LeaseLost::Released);
        self.task.abort();
    }
}

impl Drop for LeaseGuard {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Renewal {
    async fn run(self) {
        let mut last = None;
        loop {
            let pause = if last.is_none() { self.config.renew } else { self.config.renew / 5 };
            tokio::time::sleep(pause.min(self.shared.left())).await;
            // No renewal once the lease has run out: somebody may have begun to count on that.
            if self.shared.left().is_zero() {
                self.shared.lose(LeaseLost::Expired { last });
                return;
            }
            match tokio::time::timeout(self.shared.left(), self.renew()).await {
                Ok(Ok(None)) => last = None,
                Ok(Ok(Some(why))) => {
                    self.shared.lose(why);
                    return;
                }
                Ok(Err(error)) => {
                    tracing::warn!(%error, "failed to renew the lease");
                    last = Some(error.to_string());
                }
                Err(_) => last = Some("no answer".to_owned()),
            }
        }
    }

    /// Renews, or finds the lease lost.
    async fn renew(&self) -> Result<Option<LeaseLost>, RequestError> {
        let mut lease = self.lease.lock().await;
        let mut again = true;
        loop {
            match write(&self.cluster, &mut lease.clone(), &self.config, &self.me).await {
                Ok(taken) => {
                    self.shared.extend(&taken, &self.config);
                    *lease = taken.lease;
                    return Ok(None);
                }
                // Somebody else may have labelled the lease, or an answer of ours got lost: a look tells.
                Err(RequestError::Conflict { .. }) if again => again = false,
                Err(RequestError::NotFound { .. }) => return Ok(Some(LeaseLost::Removed)),
                Err(error) => return Err(error),
            }
            match self.read().await? {
                Ok(current) => *lease = current,
                Err(lost) => return Ok(Some(lost)),
            }
            if let Some(to) = self.config.claim.other(&lease) {
                return Ok(Some(LeaseLost::Yielded { to }));
            }
        }
    }

    /// The lease as it is, if it is still ours.
    async fn read(&self) -> Result<Result<Value, LeaseLost>, RequestError> {
        match self.cluster.get(&builtin::lease(), Some(&self.lease_ref.namespace), &self.lease_ref.name).await
        {
            Ok(lease) => Ok(match LeaseRecord::of(&lease).holder {
                Some(holder) if holder == self.me => Ok(lease),
                Some(holder) => Err(LeaseLost::Taken { holder }),
                None => Err(LeaseLost::Removed),
            }),
            Err(RequestError::NotFound { .. }) => Ok(Err(LeaseLost::Removed)),
            Err(error) => Err(error),
        }
    }

    async fn release(&self) -> Result<(), RequestError> {
        let mut lease = self.lease.lock().await;
        let mut again = true;
        loop {
            LeaseRecord::of(&lease).released().write_to(&mut lease);
            match self.cluster.replace(&builtin::lease(), &lease, CreateParams::default()).await {
                Ok(_) | Err(RequestError::NotFound { .. }) => return Ok(()),
                Err(RequestError::Conflict { .. }) if again => again = false,
                Err(error) => return Err(error),
            }
            match self.read().await? {
                Ok(current) => *lease = current,
                Err(_) => return Ok(()),
            }
        }
    }

    async fn delete(&self) -> Result<(), RequestError> {
        let mut lease = self.lease.lock().await;
        let mut again = true;
        loop {
            let text = |pointer: &str| lease.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
            let params = DeleteParams {
                uid: text("/metadata/uid"),
                resource_version: text("/metadata/resourceVersion"),
                ..DeleteParams::default()
            };
            let (namespace, name) = (&self.lease_ref.namespace, &self.lease_ref.name);
            match self.cluster.delete(&builtin::lease(), Some(namespace), name, &params).await {
                Ok(_) | Err(RequestError::NotFound { .. }) => return Ok(()),
                // A renewal that was cut short arrived after all, or somebody labelled the lease.
                Err(RequestError::Conflict { .. }) if again => again = false,
                Err(error) => return Err(error),
            }
            match self.read().await? {
                Ok(current) => *lease = current,
                Err(_) => return Ok(()),
            }
        }
    }
}
