//! How long a tap has gone on, where this machine may have slept meanwhile.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

/// Runs since a tap was begun.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    /// Does not run while the machine sleeps, on Linux and macOS.
    awake: Instant,
    /// Does, and may be set.
    wall: SystemTime,
}

/// Clocks differ by more if the machine has slept, or one of them was set.
const SLEPT: Duration = Duration::from_secs(2);

impl Clock {
    /// Begins now.
    pub(super) fn start() -> Self {
        Self { awake: Instant::now(), wall: SystemTime::now() }
    }

    /// How long the machine was awake since then.
    pub(super) fn awake(&self) -> Duration {
        self.awake.elapsed()
    }

    /// How long ago that is.
    pub(super) fn elapsed(&self) -> Duration {
        // A clock that was set back says less.
        self.wall.elapsed().unwrap_or_default().max(self.awake())
    }

    /// Whether the machine has slept, or its clock was set ahead.
    pub(super) fn has_slept(&self) -> bool {
        self.elapsed() > self.awake() + SLEPT
    }
}

#[cfg(test)]
impl Clock {
    /// One that was begun so long ago, most of which the machine slept, or before the clock was set back so far.
    pub(super) fn set(ahead: Duration, back: Duration) -> Self {
        let Self { awake, wall } = Self::start();
        Self { awake, wall: wall - ahead + back }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn what_a_machine_sleeps_counts() {
        let slept = Clock::set(HOUR, Duration::ZERO);
        assert!(slept.elapsed() >= HOUR && slept.has_slept());
        let set_back = Clock::set(Duration::ZERO, HOUR);
        assert!(set_back.elapsed() < HOUR && !set_back.has_slept());
    }
}
