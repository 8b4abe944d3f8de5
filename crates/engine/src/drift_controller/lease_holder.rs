//! The lease of the drift controller: acquired for a write, kept for a while after the last one.

use std::future::Future;
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::time::Instant;
use trainerd_causes::one_line;
use trainerd_cluster::Cluster;
use trainerd_cluster::lease::{
    Claim, Fence, FencingToken, Identity, LeaseConfig, LeaseError, LeaseGuard, LeaseLost,
};
use trainerd_cluster::retry::Backoff;
use trainerd_plan::applyset;

use crate::engine::Engine;

/// How long the lease is kept after the last write, so that a burst acquires it once.
const LINGER: Duration = Duration::from_secs(10);

/// Longer than that time, so that the lease is not renewed and waiting processes see it expire.
const RENEW: Duration = Duration::from_secs(11);

/// Delay before the lease is requested again if another process holds it, which may be making the same repair.
const RESPECT: Duration = Duration::from_secs(1);

/// The answer to taking the lease.
pub(super) type Acquisition = Result<LeaseGuard, LeaseError>;

enum LeaseState {
    Free,
    Taking,
    Held {
        guard: Box<LeaseGuard>,
        used: Instant,
    },
    /// It is being given back.
    Releasing,
    /// Somebody else has it.
    Foreign {
        again: Instant,
    },
}

pub(super) struct LeaseHolder {
    cluster: Cluster,
    namespace: String,
    name: String,
    claim: Claim,
    state: LeaseState,
    /// The last tenure that is known of.
    last: Option<FencingToken>,
    /// The same, while the lease is being acquired.
    known: Option<FencingToken>,
    /// How often in a row another process held it.
    refused: u32,
    /// Waits between tries that fail for another reason.
    backoff: Backoff,
}

impl LeaseHolder {
    pub(super) fn new(engine: &Engine) -> Self {
        Self {
            cluster: engine.cluster().clone(),
            namespace: engine.installation().namespace.clone(),
            name: applyset::parent_name(engine.installation()),
            claim: engine.lease_claim().clone(),
            state: LeaseState::Free,
            last: None,
            known: None,
            refused: 0,
            backoff: Backoff::new(RESPECT, Duration::from_mins(1)),
        }
    }

    /// The tenure in which the record was written.
    pub(super) fn know(&mut self, token: Option<FencingToken>) {
        self.last.clone_from(&token);
        self.known = token;
    }

    pub(super) fn is_held(&self) -> bool {
        matches!(self.state, LeaseState::Held { .. })
    }

    /// The fence of the lease while it is ours.
    pub(super) fn fence(&mut self) -> Option<Fence> {
        let LeaseState::Held { guard, .. } = &self.state else { return None };
        let fence = guard.fence();
        if fence.check().is_err() {
            self.lose();
            return None;
        }
        Some(fence)
    }

    /// Whether another process claimed the lease, which is yielded once no write is in flight.
    pub(super) fn is_yielding(&self) -> bool {
        let LeaseState::Held { guard, .. } = &self.state else { return false };
        matches!(guard.check(), Err(LeaseLost::Yielded { .. }))
    }

    /// Starts acquiring the lease, unless that is in progress or another process is to keep it for now.
    pub(super) fn take(&mut self) -> Option<BoxFuture<'static, Acquisition>> {
        match self.state {
            LeaseState::Free => {}
            LeaseState::Foreign { again } if again <= Instant::now() => {}
            _ => return None,
        }
        self.state = LeaseState::Taking;
        let mut config = LeaseConfig {
            renew: RENEW,
            after: self.last.take(),
            claim: self.claim.clone(),
            ..LeaseConfig::new(Identity::of_this_process())
        };
        if self.refused == 0 {
            // Whoever has it is likely to repair what we see too: no need to stand in line.
            config.wait = Duration::ZERO;
        }
        let (cluster, namespace, name) = (self.cluster.clone(), self.namespace.clone(), self.name.clone());
        Some(Box::pin(async move { LeaseGuard::acquire(&cluster, &namespace, &name, config, |_| {}).await }))
    }

    /// Takes the answer in: whether the lease is ours in the very next tenure after the last one known, so that
    /// nobody has written in between; or why it is not ours.
    pub(super) fn taken(&mut self, taken: Acquisition) -> Result<bool, String> {
        match taken {
            Ok(guard) => {
                self.refused = 0;
                self.backoff.reset();
                let next = self.known.as_ref().is_some_and(|known| guard.fence().token().follows(known));
                self.last = Some(guard.fence().token().clone());
                self.known.clone_from(&self.last);
                self.state = LeaseState::Held { guard: Box::new(guard), used: Instant::now() };
                Ok(next)
            }
            Err(error) => {
                self.refused = self.refused.saturating_add(1);
                let wait = match &error {
                    LeaseError::Held { .. } => RESPECT,
                    LeaseError::Request { .. } => self.backoff.next_wait(),
                };
                self.state = LeaseState::Foreign { again: Instant::now() + wait };
                Err(one_line(&error))
            }
        }
    }

    /// A write under it was answered.
    pub(super) fn used(&mut self) {
        if let LeaseState::Held { used, .. } = &mut self.state {
            *used = Instant::now();
        }
    }

    /// It was found lost.
    pub(super) fn lose(&mut self) {
        // One that is yielded is given back.
        if self.is_held() && !self.is_yielding() {
            self.state = LeaseState::Free;
        }
    }

    /// When something is due: the release of an idle lease, or the next attempt to acquire it.
    pub(super) fn due(&self, idle: bool, wanted: bool) -> Option<Instant> {
        match &self.state {
            LeaseState::Held { .. } if idle && self.is_yielding() => Some(Instant::now()),
            LeaseState::Held { used, .. } if idle => Some(*used + LINGER),
            LeaseState::Foreign { again } if wanted => Some(*again),
            _ => None,
        }
    }

    /// Releases an idle lease after its time.
    pub(super) fn end(&mut self, now: Instant) -> Option<impl Future<Output = ()> + Send + use<>> {
        let LeaseState::Held { used, .. } = &self.state else { return None };
        if *used + LINGER > now && !self.is_yielding() {
            return None;
        }
        let LeaseState::Held { guard, .. } = std::mem::replace(&mut self.state, LeaseState::Releasing) else {
            return None;
        };
        Some(give_back(*guard))
    }

    /// What [`Self::end`] began is done.
    pub(super) fn released(&mut self) {
        if matches!(self.state, LeaseState::Releasing) {
            self.state = LeaseState::Free;
        }
    }

    /// Gives the lease back now.
    pub(super) async fn release(&mut self) {
        if let LeaseState::Held { guard, .. } = std::mem::replace(&mut self.state, LeaseState::Free) {
            give_back(*guard).await;
        }
    }
}

async fn give_back(guard: LeaseGuard) {
    // A lease that could not be given back expires.
    if let Err(error) = guard.release().await {
        tracing::warn!(error = %one_line(&error), "failed to release the lease; it will expire");
    }
}
