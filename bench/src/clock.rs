//! Wall time, and the time that this process itself spent on the CPU.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// What something took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Took {
    pub(crate) wall: Duration,
    /// User and system time of all threads of this process.
    pub(crate) cpu: Duration,
}

/// A running measurement.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    begun: Instant,
    cpu: Duration,
}

impl Clock {
    /// Starts.
    pub(crate) fn start() -> Self {
        Self { begun: Instant::now(), cpu: cpu() }
    }

    /// What was taken since the start.
    pub(crate) fn took(&self) -> Took {
        Took { wall: self.begun.elapsed(), cpu: cpu().saturating_sub(self.cpu) }
    }
}

fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    let seconds = Duration::from_secs(time.tv_sec.try_into().unwrap_or_default());
    seconds + Duration::from_nanos(time.tv_nsec.try_into().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Other tests of this process may use CPU meanwhile: there is no upper bound of what is counted.
    #[test]
    fn sleeping_takes_wall_time_and_working_takes_cpu_time() {
        let clock = Clock::start();
        std::thread::sleep(Duration::from_millis(100));
        assert!(clock.took().wall >= Duration::from_millis(100));
        let clock = Clock::start();
        while clock.took().cpu < Duration::from_millis(10) {
            assert!(clock.took().wall < Duration::from_mins(1), "no CPU time is counted");
        }
    }
}
