//! What is counted, by which labels, and where it goes.

use core::hash::{Hash, Hasher};
use core::time::Duration;
use std::rc::Rc;

use meltemi_codecs::{Failure, Outcome};

use crate::calls::End;
use crate::taps::Tapped;

/// How a response ended its call, as a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// The call succeeded.
    Success,
    /// The service answered with an exception of its own.
    Exception,
    /// The framework of the server failed.
    Error,
}

impl Class {
    /// The label's value.
    pub fn name(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Exception => "exception",
            Self::Error => "error",
        }
    }
}

impl From<Outcome> for Class {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Success => Self::Success,
            Outcome::Exception => Self::Exception,
            Outcome::Error(_) => Self::Error,
        }
    }
}

/// What became of a copy of a call, as a label.
pub(crate) fn outcome(end: End) -> &'static str {
    match end {
        End::Answered(outcome) => Class::from(outcome).name(),
        End::Failed(failure) => reason(failure),
        End::Sent => "sent",
        End::Cancelled => "cancelled",
    }
}

/// Why a call is logged that authorization would deny which is tried out.
pub const DRY_RUN_DENIED: &str = "dry_run_denied";

/// The reason of a local reply, as a label.
pub(crate) fn reason(failure: Failure) -> &'static str {
    match failure {
        Failure::BadRequest => "bad_request",
        Failure::NoRoute => "no_route",
        Failure::NoEndpoint => "no_endpoint",
        Failure::ConnectionLost => "connection_lost",
        Failure::BadResponse => "bad_response",
        Failure::Timeout => "timeout",
        Failure::Overloaded => "overloaded",
        Failure::Denied => "denied",
        Failure::Fault => "fault",
        Failure::RateLimited => "rate_limited",
        _ => "other",
    }
}

/// What is counted or measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Metric {
    /// Counter: requests read from clients, one-way calls included.
    Requests,
    /// Counter: responses of upstreams passed to clients.
    Responses(Class),
    /// Counter: retries made.
    Retries,
    /// Counter: those of them that were made beside a try which had no answer yet.
    Hedges,
    /// Counter: calls that a fault has held back.
    Delays,
    /// Counter: tries and calls that ran out of time.
    Timeouts,
    /// Counter: tries lost with their upstream connection.
    Resets,
    /// Counter: calls that the proxy answered itself, by reason.
    LocalReplies(&'static str),
    /// Counter: calls that authorization would deny which is tried out.
    DryRunDenied,
    /// Counter: calls whose client left before the answer.
    Cancelled,
    /// Counter: copies of calls that mirrors were to get, by what became of them.
    Mirrored(&'static str),
    /// Counter: calls that a rate limit service was to be asked about, by what it said, or why it said nothing.
    RateLimitAnswers(&'static str),
    /// Counter: spans made for a collector, by what became of them. No operation.
    Spans(&'static str),
    /// Counter: calls that loggers of the connection manager were to be told of, by what became of that. No operation.
    LogEntries(&'static str),
    /// Gauge: calls without an answer as yet.
    InFlight,
    /// Counter: answers that took at most so many microseconds, of [`LATENCY_BUCKETS`]; `None` = any time.
    LatencyBucket(Option<u64>),
    /// Counter: sum of the times from request to answer, in microseconds.
    LatencySum,
    /// Counter: answers that were timed.
    LatencyCount,
    /// Counter: requests of clients with an identity, by that.
    SourceRequests,
    /// Counter: responses of servers whose workload or identity is known, by those.
    DestinationRequests,
    /// Counter: calls that a route took, by service and route.
    RouteRequests,
    /// Counter: client connections accepted. No operation.
    ClientConnections,
    /// Gauge: client connections open. No operation.
    ClientConnectionsActive,
    /// Counter: client connections closed for what they took from others, by reason. No operation.
    ClientConnectionsGivenUp(&'static str),
    /// Counter: client connections of which no protocol was known, by how that came. No operation.
    Undetected(&'static str),
    /// Counter: upstream connections opened. No operation.
    UpstreamConnections,
    /// Counter: upstream connections that could not be opened. No operation.
    UpstreamConnectFailures,
    /// Gauge: upstream connections open. No operation.
    UpstreamConnectionsActive,
    /// Counter: frames or heads that could not be read. No operation.
    DecodeErrors,
    /// Counter: responses that nobody waited for: late, or to a one-way call. No operation.
    UnmatchedResponses,
    /// Counter: frames passed on without the attachments that the plan would have set. No operation.
    EditsSkipped,
    /// Counter: endpoints left out for how their calls ended. No operation.
    OutlierEjections,
    /// Counter: calls and second tries not made as a cluster answers no more in good time. No operation.
    ConcurrencyBlocked,
    /// Gauge: calls that clusters take at a time, where that follows the times of their answers. No operation.
    ConcurrencyLimit,
    /// Counter: heartbeats answered. No operation.
    Heartbeats,
}

/// Upper bounds of the latency histogram's buckets, in microseconds, as Prometheus has them: each counts all below it.
pub const LATENCY_BUCKETS: [u64; 17] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    2_500_000, 5_000_000, 10_000_000, 30_000_000,
];

/// The service and method that a metric is about. At most the plan's `maxOperations` exist; the rest are `other`.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Label {
    /// The RPC service, such as a Dubbo interface.
    pub service: Rc<str>,
    /// The method.
    pub method: Rc<str>,
}

/// What a count is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Labels {
    /// A service and a method of it.
    Operation(Label),
    /// A service and who calls it.
    Source {
        /// The RPC service.
        service: Rc<str>,
        /// The client's identity, such as `cluster.local/ns/demo/sa/client`.
        principal: Rc<str>,
    },
    /// A service and who serves it.
    Destination {
        /// The RPC service.
        service: Rc<str>,
        /// The server's workload, such as the name of its Deployment.
        workload: Rc<str>,
        /// The server's identity, such as `cluster.local/ns/demo/sa/server`.
        principal: Rc<str>,
    },
    /// A managed service and a route of it.
    Route {
        /// The authority of the service's tunnels.
        authority: Rc<str>,
        /// The route's name.
        route: Rc<str>,
    },
}

impl Hash for Labels {
    fn hash<H: Hasher>(&self, state: &mut H) {
        core::mem::discriminant(self).hash(state);
        let values: [&str; 3] = match self {
            Self::Operation(Label { service, method }) => [service, method, ""],
            Self::Source { service, principal } => [service, principal, ""],
            Self::Destination { service, workload, principal } => [service, workload, principal],
            Self::Route { authority, route } => [authority, route, ""],
        };
        // A loop: hashing a text is long code, which would be there for each.
        values.iter().for_each(|value| value.hash(state));
    }
}

/// A line of the log: of a call that the proxy answered itself, or would have, or of any that is to be logged. Of spans that
/// were dropped, it has what is not about a call.
#[derive(Debug, Clone, Default)]
pub struct LocalReply {
    /// `local_reply`, `dry_run`, `call` of any that has ended, `tap` of one that is tapped, or `spans_dropped`.
    pub event: &'static str,
    /// Why, as the metric's label has it; of a call, how it ended.
    pub reason: &'static str,
    /// Why, in words; the client got the same. Of spans, what their collector says.
    pub detail: String,
    /// The managed service: the authority of the tunnel.
    pub authority: Rc<str>,
    /// The RPC service and method.
    pub operation: Label,
    /// The route that matched, if one did.
    pub route: Option<String>,
    /// The cluster that was chosen, if one was.
    pub cluster: Option<String>,
    /// The endpoint of the last try, if Envoy named it.
    pub endpoint: Option<String>,
    /// The request id that the client chose.
    pub request_id: u64,
    /// The client's address, if the tunnel reported it.
    pub peer: Option<Rc<str>>,
    /// The client's identity, if the tunnel reported it.
    pub principal: Option<Rc<str>>,
    /// The trace that the call belongs to, where calls are traced.
    pub trace_id: Option<String>,
    /// Tries made.
    pub tries: u32,
    /// The length of the request.
    pub request_bytes: usize,
    /// The length of the reply.
    pub response_bytes: usize,
    /// Time since the request was read.
    pub elapsed: Duration,
    /// All that is written, where the plan has a format for lines of calls; what else is here is nothing then.
    pub text: Option<String>,
    /// Replies for the same reason since the last line of it, or calls that are tapped, which are counted but have no line.
    pub suppressed: u64,
    /// What taps tell of it, where it is a line of theirs.
    pub tapped: Option<Box<Tapped>>,
}

/// Where telemetry goes: Envoy's metrics and log, or a test.
pub trait Sink {
    /// Adds `n` to a counter; 0 makes it be there.
    fn count(&mut self, metric: Metric, labels: Option<&Labels>, n: u64);
    /// Sets a gauge up or down by `change`.
    fn change(&mut self, metric: Metric, labels: Option<&Labels>, change: i64);
    /// Writes one log line.
    fn log(&mut self, reply: &LocalReply);
}
