//! Waiting for what happens in other processes.

use std::thread;
use std::time::{Duration, Instant};

/// How long anything may take before a test gives up on it. Far above what is normal, for busy machines.
pub const DEADLINE: Duration = Duration::from_secs(120);

const INTERVAL: Duration = Duration::from_millis(10);

/// Asks `condition` again and again until it gives something.
///
/// # Panics
///
/// When it gave nothing within [`DEADLINE`]; the message names `what` was waited for.
pub fn eventually<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(start.elapsed() < DEADLINE, "not within {DEADLINE:?}: {what}");
        thread::park_timeout(INTERVAL);
    }
}
