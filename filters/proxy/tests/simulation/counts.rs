//! Counts that have to agree when all is over, and copies of calls.

use meltemi_proxy::{Class, Metric};

use crate::world::{Call, World};

/// Where copies go.
pub const SHADOWS: [&str; 2] = ["10.0.4.1:20880", "10.0.4.2:20880"];

/// Whether copies go there.
pub fn is_copy(endpoint: &str) -> bool {
    SHADOWS.contains(&endpoint)
}

/// How often a call was copied, which is once at most. Nobody is answered by a copy.
pub fn check_copies(number: usize, call: &Call) -> usize {
    assert!(!call.endpoint().is_some_and(is_copy), "call {number} got the answer to a copy");
    let copies = call.deliveries.iter().filter(|delivery| is_copy(&delivery.endpoint)).count();
    assert!(copies <= 1, "call {number} was copied {copies} times");
    copies
}

/// What began has ended, in one way each, and has its line.
pub fn check_counts(world: &World) {
    let lines: Vec<_> = world.metrics.replies.iter().filter(|line| line.event == "call").collect();
    let sum = |reason| lines.iter().filter(|line| line.reason == reason).count() as i64;
    // What could not be read is no call.
    let read = lines.iter().filter(|line| line.request_bytes > 0).count() as i64;
    assert_eq!(read, world.metrics.sum(Metric::Requests), "calls and their lines");
    let all = [
        ("success", Metric::Responses(Class::Success)),
        ("exception", Metric::Responses(Class::Exception)),
        ("error", Metric::Responses(Class::Error)),
        ("cancelled", Metric::Cancelled),
    ];
    let failures = [
        "bad_request",
        "no_route",
        "no_endpoint",
        "connection_lost",
        "bad_response",
        "timeout",
        "overloaded",
        "denied",
        "fault",
        "rate_limited",
    ];
    let failures = failures.map(|reason| (reason, Metric::LocalReplies(reason)));
    for (reason, metric) in all.into_iter().chain(failures) {
        assert_eq!(sum(reason), world.metrics.sum(metric), "lines and counts of {reason}");
    }
}
