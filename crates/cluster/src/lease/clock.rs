//! Time that passes for a lease.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// `CLOCK_BOOTTIME` runs on while the machine sleeps, which `std::time::Instant` does not on Linux: a laptop
/// that wakes up would take its lease for fresh. Elsewhere the monotonic clock counts sleep by itself.
#[cfg(target_os = "linux")]
const CLOCK: ClockId = ClockId::Boottime;
#[cfg(not(target_os = "linux"))]
const CLOCK: ClockId = ClockId::Monotonic;

/// Time since the machine was started.
pub(super) fn now() -> Duration {
    // The time since boot is never negative.
    Duration::try_from(clock_gettime(CLOCK)).unwrap_or_default()
}
