//! What the proxy tells of itself: counters by operation, latencies, and one record for each reply of its own.
//!
//! Increments are gathered and given to a [`Sink`] four times a second. Each host call costs a good part of what a whole
//! request does, so latencies are counted by bucket here instead of being recorded one by one there.

mod latencies;
mod metric;
#[cfg(test)]
mod tests;

use core::time::Duration;
use std::rc::Rc;

use rustc_hash::FxHashMap;

use self::latencies::Latencies;
pub(crate) use self::metric::reason;
pub use self::metric::{Class, LATENCY_BUCKETS, Label, Labels, LocalReply, Metric, Sink};
use crate::clock::Instant;
use crate::line_limit::LineLimit;
use crate::peers::{Peer, PeerId, Peers};

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

/// How long counts gather before they are flushed.
const FLUSH_INTERVAL: Duration = Duration::from_millis(250);

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
        if let Some(operation) = self.touch(id) {
            operation.latencies.record(elapsed);
        }
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
