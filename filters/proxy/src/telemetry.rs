//! What the proxy tells of itself: counters by operation, latencies, and one record for each reply of its own.
//!
//! Increments are gathered and given to a [`Sink`] four times a second. Each host call costs a good part of what a whole
//! request does, so latencies are counted by bucket here instead of being recorded one by one there.

use core::time::Duration;
use std::rc::Rc;

use meltemi_codecs::{Failure, Outcome};
use rustc_hash::FxHashMap;

use crate::clock::Instant;
use crate::line_limit::LineLimit;
use crate::peers::{Peer, PeerId, Peers};

/// How a response ended its call, as a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
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
        _ => "other",
    }
}

/// What is counted or measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Metric {
    /// Counter: requests read from clients, one-way calls included.
    Requests,
    /// Counter: responses of upstreams passed to clients.
    Responses(Class),
    /// Counter: retries made.
    Retries,
    /// Counter: tries and calls that ran out of time.
    Timeouts,
    /// Counter: tries lost with their upstream connection.
    Resets,
    /// Counter: calls that the proxy answered itself, by reason.
    LocalReplies(&'static str),
    /// Counter: calls whose client left before the answer.
    Cancelled,
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
    /// Counter: client connections accepted. No operation.
    ClientConnections,
    /// Gauge: client connections open. No operation.
    ClientConnectionsActive,
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
    /// Counter: heartbeats answered. No operation.
    Heartbeats,
}

/// Upper bounds of the latency histogram's buckets, in microseconds, as Prometheus has them: each counts all below it.
pub const LATENCY_BUCKETS: [u64; 17] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    2_500_000, 5_000_000, 10_000_000, 30_000_000,
];

/// How long counts gather before they are flushed.
const FLUSH_INTERVAL: Duration = Duration::from_millis(250);

/// The service and method that a metric is about. At most the plan's `maxOperations` exist; the rest are `other`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Label {
    /// The RPC service, such as a Dubbo interface.
    pub service: Rc<str>,
    /// The method.
    pub method: Rc<str>,
}

/// What a count is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
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
}

/// A call that the proxy answered itself: one log line.
#[derive(Debug, Clone)]
pub struct LocalReply {
    /// Why, as the metric's label has it.
    pub reason: &'static str,
    /// Why, in words; the client was told the same.
    pub detail: String,
    /// The managed service: the authority of the tunnel.
    pub authority: Rc<str>,
    /// The RPC service and method.
    pub operation: Label,
    /// The route that matched, if one did.
    pub route: Option<String>,
    /// The cluster that was chosen, if one was.
    pub cluster: Option<String>,
    /// The request id that the client chose.
    pub request_id: u64,
    /// The client's address, if the tunnel told it.
    pub peer: Option<Rc<str>>,
    /// The client's identity, if the tunnel told it.
    pub principal: Option<Rc<str>>,
    /// Tries made.
    pub tries: u32,
    /// Time since the request was read.
    pub elapsed: Duration,
    /// Replies for the same reason since the last line of it, which are counted but have no line.
    pub suppressed: u64,
}

/// Where telemetry goes: Envoy's metrics and log, or a test.
pub trait Sink {
    /// Adds `n` to a counter.
    fn count(&mut self, metric: Metric, labels: Option<&Labels>, n: u64);
    /// Sets a gauge up or down by `change`.
    fn change(&mut self, metric: Metric, labels: Option<&Labels>, change: i64);
    /// Writes one log line.
    fn log(&mut self, reply: &LocalReply);
}

/// Number of an operation in [`Telemetry`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct OperationId(u32);

type ByName<T> = FxHashMap<Rc<str>, T>;

/// Gathers increments until they are flushed.
#[derive(Debug)]
pub(crate) struct Telemetry {
    operations: Vec<Operation>,
    by_name: ByName<ByName<OperationId>>,
    dirty: Vec<OperationId>,
    global: Vec<(Metric, i64)>,
    sources: Peers,
    destinations: Peers,
    replies: Vec<LocalReply>,
    line_limit: LineLimit,
    flushed_at: Instant,
}

#[derive(Debug)]
struct Operation {
    label: Label,
    /// The same for all operations of a service.
    service: u32,
    is_dirty: bool,
    changes: Vec<(Metric, i64)>,
    latencies: Latencies,
}

/// Times of answers, by bucket.
#[derive(Debug, Default)]
struct Latencies {
    /// Answers in each bucket and in none of those before it.
    buckets: [u64; LATENCY_BUCKETS.len()],
    /// Answers over the last bucket.
    over: u64,
    /// Sum in microseconds.
    sum: u64,
}

impl Default for Telemetry {
    fn default() -> Self {
        Self {
            operations: Vec::new(),
            by_name: FxHashMap::default(),
            dirty: Vec::new(),
            global: Vec::new(),
            sources: Peers::new(Metric::SourceRequests, Peer { workload: None, principal: "other".into() }),
            destinations: Peers::new(
                Metric::DestinationRequests,
                Peer { workload: Some("other".into()), principal: "other".into() },
            ),
            replies: Vec::new(),
            line_limit: LineLimit::default(),
            flushed_at: Instant::default(),
        }
    }
}

/// A name in a label is cut to this many bytes: it comes from the wire.
const LONGEST_NAME: usize = 128;

impl Telemetry {
    /// The number of an operation; once `most` are known, unknown ones are all counted as `other`.
    pub(crate) fn operation(&mut self, service: &str, method: &str, most: usize) -> OperationId {
        let (service, method) = (shorten(service), shorten(method));
        if let Some(id) = self.find(service, method) {
            return id;
        }
        let (service, method) =
            if self.operations.len() < most { (service, method) } else { ("other", "other") };
        if let Some(id) = self.find(service, method) {
            return id;
        }
        let label = Label { service: service.into(), method: method.into() };
        let id = OperationId(u32::try_from(self.operations.len()).unwrap_or(u32::MAX));
        let methods = self.by_name.entry(label.service.clone()).or_default();
        let service = methods.values().copied().min().unwrap_or(id);
        methods.insert(label.method.clone(), id);
        self.operations.push(Operation {
            label,
            service: service.0,
            is_dirty: false,
            changes: Vec::new(),
            latencies: Latencies::default(),
        });
        id
    }

    fn find(&self, service: &str, method: &str) -> Option<OperationId> {
        self.by_name.get(service)?.get(method).copied()
    }

    /// The names of an operation.
    pub(crate) fn label(&self, id: OperationId) -> Label {
        match self.operations.get(id.0 as usize) {
            Some(operation) => operation.label.clone(),
            None => Label { service: "other".into(), method: "other".into() },
        }
    }

    /// Adds `n` (which may be negative for a gauge) to a metric of an operation.
    pub(crate) fn add(&mut self, id: OperationId, metric: Metric, n: i64) {
        if let Some(operation) = self.touch(id) {
            add(&mut operation.changes, metric, n);
        }
    }

    /// An operation that is to be flushed.
    fn touch(&mut self, id: OperationId) -> Option<&mut Operation> {
        let operation = self.operations.get_mut(id.0 as usize)?;
        if !core::mem::replace(&mut operation.is_dirty, true) {
            self.dirty.push(id);
        }
        Some(operation)
    }

    /// The number of a client's identity, once `most` are known that of `other`.
    pub(crate) fn source(&mut self, principal: &str, most: usize) -> PeerId {
        self.sources.peer(Peer { workload: None, principal: shorten(principal).into() }, most)
    }

    /// Counts a request of a client with an identity.
    pub(crate) fn add_source(&mut self, id: OperationId, source: PeerId, most: usize) {
        if let Some(operation) = self.operations.get(id.0 as usize) {
            self.sources.add(operation.service, &operation.label.service, source, most);
        }
    }

    /// The number of a server's workload and identity, once `most` are known that of `other`.
    pub(crate) fn destination(&mut self, workload: &str, principal: &str, most: usize) -> PeerId {
        let workload = Some(shorten(workload).into());
        self.destinations.peer(Peer { workload, principal: shorten(principal).into() }, most)
    }

    /// Counts a response of a server whose workload or identity is known.
    pub(crate) fn add_destination(&mut self, id: OperationId, destination: PeerId, most: usize) {
        if let Some(operation) = self.operations.get(id.0 as usize) {
            self.destinations.add(operation.service, &operation.label.service, destination, most);
        }
    }

    /// Adds `n` (which may be negative for a gauge) to a metric that no operation owns.
    pub(crate) fn add_global(&mut self, metric: Metric, n: i64) {
        add(&mut self.global, metric, n);
    }

    /// Records how long a call took.
    pub(crate) fn latency(&mut self, id: OperationId, elapsed: Duration) {
        let micros = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
        let bucket = LATENCY_BUCKETS.partition_point(|bound| *bound < micros);
        let Some(Operation { latencies, .. }) = self.touch(id) else { return };
        let count = latencies.buckets.get_mut(bucket).unwrap_or(&mut latencies.over);
        *count = count.saturating_add(1);
        latencies.sum = latencies.sum.saturating_add(micros);
    }

    /// Notes a reply of the proxy's own, unless there were many for its reason just now.
    pub(crate) fn reply(&mut self, reply: LocalReply, now: Instant) {
        if let Some(suppressed) = self.line_limit.admit(reply.reason, now) {
            self.replies.push(LocalReply { suppressed, ..reply });
        }
    }

    /// When what has gathered is to be flushed, if anything has.
    pub(crate) fn due(&self) -> Option<Instant> {
        let is_dirty = !self.dirty.is_empty()
            || !self.global.is_empty()
            || self.sources.is_dirty()
            || self.destinations.is_dirty();
        is_dirty.then(|| self.flushed_at.after(FLUSH_INTERVAL))
    }

    /// Gives log lines to `sink` at once, and counts when they are due.
    pub(crate) fn flush(&mut self, now: Instant, sink: &mut dyn Sink) {
        for reply in self.replies.drain(..) {
            sink.log(&reply);
        }
        if self.due().is_some_and(|due| due <= now) {
            self.flush_counts(sink);
            self.flushed_at = now;
        }
    }

    /// Gives every count to `sink`.
    pub(crate) fn flush_counts(&mut self, sink: &mut dyn Sink) {
        for (metric, n) in self.global.drain(..) {
            emit(sink, metric, None, n);
        }
        for id in self.dirty.drain(..) {
            let Some(operation) = self.operations.get_mut(id.0 as usize) else { continue };
            operation.is_dirty = false;
            let labels = Labels::Operation(operation.label.clone());
            for (metric, n) in operation.changes.drain(..) {
                emit(sink, metric, Some(&labels), n);
            }
            core::mem::take(&mut operation.latencies).flush(&labels, sink);
        }
        self.sources.flush(sink);
        self.destinations.flush(sink);
    }
}

impl Latencies {
    fn flush(self, labels: &Labels, sink: &mut dyn Sink) {
        let mut count = 0_u64;
        for (bound, n) in LATENCY_BUCKETS.into_iter().zip(self.buckets) {
            count = count.saturating_add(n);
            if count > 0 {
                sink.count(Metric::LatencyBucket(Some(bound)), Some(labels), count);
            }
        }
        count = count.saturating_add(self.over);
        if count > 0 {
            sink.count(Metric::LatencyBucket(None), Some(labels), count);
            sink.count(Metric::LatencyCount, Some(labels), count);
            if self.sum > 0 {
                sink.count(Metric::LatencySum, Some(labels), self.sum);
            }
        }
    }
}

fn add(changes: &mut Vec<(Metric, i64)>, metric: Metric, n: i64) {
    match changes.iter_mut().find(|(known, _)| *known == metric) {
        Some((_, sum)) => *sum = sum.saturating_add(n),
        None => changes.push((metric, n)),
    }
}

fn emit(sink: &mut dyn Sink, metric: Metric, labels: Option<&Labels>, n: i64) {
    match metric {
        Metric::InFlight | Metric::ClientConnectionsActive | Metric::UpstreamConnectionsActive => {
            if n != 0 {
                sink.change(metric, labels, n);
            }
        }
        _ => {
            if let Ok(n @ 1..) = u64::try_from(n) {
                sink.count(metric, labels, n);
            }
        }
    }
}

/// `name` cut to [`LONGEST_NAME`] bytes, or a dash where there is none.
fn shorten(name: &str) -> &str {
    let mut end = name.len().min(LONGEST_NAME);
    while !name.is_char_boundary(end) {
        end = end.saturating_sub(1);
    }
    match name.get(..end) {
        Some("") | None => "-",
        Some(name) => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn at(millis: u64) -> Instant {
        Instant::default().after(Duration::from_millis(millis))
    }

    /// What was told, in its order.
    #[derive(Default)]
    struct Told(Vec<String>);

    impl Told {
        fn tell(&mut self, metric: Metric, labels: Option<&Labels>, n: impl core::fmt::Display) {
            let name = match labels {
                None => String::new(),
                Some(Labels::Operation(label)) => format!("{}.{} ", label.service, label.method),
                Some(Labels::Source { service, principal }) => format!("{principal} to {service} "),
                Some(Labels::Destination { service, workload, principal }) => {
                    format!("{service} of {workload} as {principal} ")
                }
            };
            self.0.push(format!("{name}{metric:?} {n}"));
        }
    }

    impl Sink for Told {
        fn count(&mut self, metric: Metric, labels: Option<&Labels>, n: u64) {
            self.tell(metric, labels, n);
        }

        fn change(&mut self, metric: Metric, labels: Option<&Labels>, change: i64) {
            self.tell(metric, labels, format!("{change:+}"));
        }

        fn log(&mut self, reply: &LocalReply) {
            self.0.push(reply.detail.clone());
        }
    }

    #[test]
    fn operations_beyond_the_most_are_counted_as_other() {
        let mut telemetry = Telemetry::default();
        let known = [telemetry.operation("A", "a", 2), telemetry.operation("A", "b", 2)];
        let other = telemetry.operation("A", "c", 2);
        assert_eq!([telemetry.operation("A", "a", 2), telemetry.operation("A", "b", 2)], known);
        assert_eq!(telemetry.operation("B", "a", 2), other);
        assert_eq!(telemetry.label(other), Label { service: "other".into(), method: "other".into() });
        assert_eq!(telemetry.operations.len(), 3);
        // A new plan may allow more.
        assert_ne!(telemetry.operation("B", "a", 9), other);
    }

    #[test]
    fn names_from_the_wire_are_cut_and_never_empty() {
        let mut telemetry = Telemetry::default();
        let long = "é".repeat(100);
        let id = telemetry.operation(&long, "", 10);
        let label = telemetry.label(id);
        assert_eq!((&*label.service, &*label.method), (&*"é".repeat(64), "-"));
        assert_eq!(telemetry.operation(&"é".repeat(65), "-", 10), id);
    }

    #[test]
    fn counts_gather_until_they_are_due() {
        let (mut telemetry, mut told) = (Telemetry::default(), Told::default());
        let id = telemetry.operation("A", "a", 10);
        assert_eq!(telemetry.due(), None);
        telemetry.flush(at(1000), &mut told);
        telemetry.add(id, Metric::Requests, 1);
        telemetry.add_global(Metric::Heartbeats, 1);
        telemetry.flush(at(1000), &mut told);
        assert_eq!(told.0, ["Heartbeats 1", "A.a Requests 1"], "nothing was told for long");
        told.0.clear();
        telemetry.add(id, Metric::Requests, 1);
        telemetry.add(id, Metric::Requests, 1);
        assert_eq!(telemetry.due(), Some(at(1250)));
        telemetry.flush(at(1249), &mut told);
        assert!(told.0.is_empty());
        telemetry.flush(at(1250), &mut told);
        assert_eq!(told.0, ["A.a Requests 2"]);
        assert_eq!(telemetry.due(), None);
    }

    #[test]
    fn requests_are_counted_by_service_and_identity() {
        let (mut telemetry, mut told) = (Telemetry::default(), Told::default());
        let operations = [("A", "a"), ("A", "b"), ("B", "a")];
        let [a, other_a, b] = operations.map(|(service, method)| telemetry.operation(service, method, 10));
        let [x, y, again] = ["x", "y", "x"].map(|principal| telemetry.source(principal, 10));
        assert_eq!(x, again);
        for (operation, source) in [(a, x), (other_a, x), (a, y), (b, x), (a, x)] {
            telemetry.add_source(operation, source, 10);
        }
        assert!(telemetry.due().is_some());
        telemetry.flush_counts(&mut told);
        let counted = ["x to A SourceRequests 3", "y to A SourceRequests 1", "x to B SourceRequests 1"];
        assert_eq!(told.0, counted);
        assert_eq!(telemetry.due(), None);
        telemetry.add_source(b, x, 10);
        telemetry.flush_counts(&mut told);
        assert_eq!(told.0[3..], ["x to B SourceRequests 1"]);
    }

    #[test]
    fn responses_are_counted_by_service_workload_and_identity() {
        let (mut telemetry, mut told) = (Telemetry::default(), Told::default());
        let a = telemetry.operation("A", "a", 10);
        let known = [("v1", "x"), ("v2", "x"), ("", "x")];
        let peers = known.map(|(workload, principal)| telemetry.destination(workload, principal, 3));
        let late = telemetry.destination("v3", "y", 3);
        for peer in peers.into_iter().chain([late, late]) {
            telemetry.add_destination(a, peer, 3);
        }
        telemetry.flush_counts(&mut told);
        let counted = ["A of v1 as x", "A of v2 as x", "A of - as x", "other of other as other"];
        let counted: Vec<_> = counted.iter().map(|name| format!("{name} DestinationRequests")).collect();
        let expected: Vec<_> =
            counted.iter().zip([1, 1, 1, 2]).map(|(name, n)| format!("{name} {n}")).collect();
        assert_eq!(told.0, expected);
        assert_eq!(telemetry.due(), None);
    }

    #[test]
    fn identities_beyond_the_most_are_counted_as_other() {
        let (mut telemetry, mut told) = (Telemetry::default(), Told::default());
        let [a, b] = ["A", "B"].map(|service| telemetry.operation(service, "m", 10));
        let [x, y, z] = ["x", "y", "z"].map(|principal| telemetry.source(principal, 2));
        for operation in [a, b] {
            for source in [x, y, z] {
                telemetry.add_source(operation, source, 3);
            }
        }
        telemetry.flush_counts(&mut told);
        let counted =
            ["x to A", "y to A", "other to other", "x to B"].map(|pair| format!("{pair} SourceRequests"));
        let counts = [1, 1, 3, 1];
        let counted: Vec<_> = counted.iter().zip(counts).map(|(pair, n)| format!("{pair} {n}")).collect();
        assert_eq!(told.0, counted);
    }

    #[test]
    fn a_gauge_that_came_back_is_not_told() {
        let (mut telemetry, mut told) = (Telemetry::default(), Told::default());
        let id = telemetry.operation("A", "a", 10);
        telemetry.add(id, Metric::InFlight, 1);
        telemetry.add(id, Metric::InFlight, -1);
        telemetry.flush_counts(&mut told);
        telemetry.add(id, Metric::InFlight, 2);
        telemetry.flush_counts(&mut told);
        telemetry.add(id, Metric::InFlight, -2);
        telemetry.flush_counts(&mut told);
        assert_eq!(told.0, ["A.a InFlight +2", "A.a InFlight -2"]);
    }

    #[test]
    fn a_bucket_counts_all_that_took_no_longer() {
        let (mut telemetry, mut told) = (Telemetry::default(), Told::default());
        let id = telemetry.operation("A", "a", 10);
        for took in [10 * MS, 10 * MS + MS / 1000, 60_000 * MS] {
            telemetry.latency(id, took);
        }
        telemetry.flush_counts(&mut told);
        let buckets: Vec<_> = told.0.iter().map(|line| line.trim_start_matches("A.a Latency")).collect();
        let all = LATENCY_BUCKETS.len();
        assert_eq!(buckets[..2], ["Bucket(Some(10000)) 1", "Bucket(Some(25000)) 2"]);
        assert_eq!(
            buckets[all - 7..],
            ["Bucket(Some(30000000)) 2", "Bucket(None) 3", "Count 3", "Sum 60020001"]
        );
        told.0.clear();
        telemetry.flush_counts(&mut told);
        assert!(told.0.is_empty());
    }
}
