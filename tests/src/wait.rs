//! Waiting for what happens in other processes.

use std::fmt::Display;
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
    within(DEADLINE, what, || condition().ok_or("not yet"))
}

/// Makes `attempt` again and again until it succeeds, where failures are to be expected before: a connection is closed as
/// long as nothing is there to serve it.
///
/// # Panics
///
/// When it did not within [`DEADLINE`]; the message names `what` was waited for, and why the last attempt failed.
pub fn at_last<T, E: Display>(what: &str, attempt: impl FnMut() -> Result<T, E>) -> T {
    within(DEADLINE, what, attempt)
}

fn within<T, E: Display>(limit: Duration, what: &str, mut attempt: impl FnMut() -> Result<T, E>) -> T {
    let start = Instant::now();
    loop {
        match attempt() {
            Ok(value) => return value,
            Err(error) => assert!(start.elapsed() < limit, "not within {limit:?}: {what}; at last: {error}"),
        }
        thread::park_timeout(INTERVAL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_is_tried_again() {
        let mut left = 3;
        let attempt = || {
            left -= 1;
            (left == 0).then_some("served").ok_or("closed")
        };
        assert_eq!(at_last("it is served", attempt), "served");
    }

    #[test]
    #[should_panic(expected = "it is served; at last: closed")]
    fn the_last_failure_is_told() {
        within::<(), _>(Duration::ZERO, "it is served", || Err("closed"));
    }
}
