//! Tells the loop that something changed, and lets it wait until the changes have settled.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

/// Changes often come in crowds, such as the pods of a roll-out: a pass waits until there was none for this long.
const QUIET: Duration = Duration::from_millis(100);
/// It waits no longer than this, however restless the cluster is.
const PATIENCE: Duration = Duration::from_secs(1);

/// What changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Something that the objects are made of: they have to be made anew.
    Input,
    /// Something that was written: it has to be compared.
    Output,
}

/// Counts changes.
#[derive(Debug, Default)]
pub struct Pulse {
    inputs: AtomicU64,
    beat: Notify,
}

impl Pulse {
    /// Tells of a change.
    pub fn tell(&self, change: Change) {
        if change == Change::Input {
            self.inputs.fetch_add(1, Ordering::Release);
        }
        self.beat.notify_one();
    }

    /// How many changes of inputs there were.
    pub fn inputs(&self) -> u64 {
        self.inputs.load(Ordering::Acquire)
    }

    /// Waits for a change. One that came while nobody waited counts.
    pub async fn changed(&self) {
        self.beat.notified().await;
    }

    /// Waits until there was no change for a while.
    pub async fn settled(&self) {
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end && timeout(QUIET, self.beat.notified()).await.is_ok() {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_crowd_of_changes_is_one() {
        let pulse = Pulse::default();
        pulse.tell(Change::Input);
        pulse.tell(Change::Output);
        pulse.changed().await;
        let start = Instant::now();
        pulse.settled().await;
        assert_eq!(start.elapsed(), QUIET);
        assert_eq!(pulse.inputs(), 1);
        assert!(timeout(PATIENCE, pulse.changed()).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn endless_changes_are_not_waited_for() {
        let pulse = Pulse::default();
        let start = Instant::now();
        let restless = async {
            loop {
                pulse.tell(Change::Input);
                tokio::time::sleep(QUIET / 2).await;
            }
        };
        tokio::select! {
            () = pulse.settled() => {}
            () = restless => {}
        }
        assert!(start.elapsed() >= PATIENCE && start.elapsed() < PATIENCE + QUIET, "{:?}", start.elapsed());
    }
}
