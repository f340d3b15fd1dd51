//! What the proxy reports of itself: counters by operation, latencies, and one record for each local reply.
//!
//! Increments are gathered and given to a [`Sink`] four times a second. Each host call costs a good part of what a whole
//! request does, so latencies are counted by bucket here instead of being recorded one by one there.

mod changes;
mod latencies;
mod metric;
mod names;
mod operations;
mod routes;
#[cfg(test)]
mod tests;

use core::time::Duration;

use meltemi_codecs::Outcome;

use self::changes::Changes;
pub use self::metric::{Class, DRY_RUN_DENIED, LATENCY_BUCKETS, Label, Labels, LocalReply, Metric, Sink};
pub(crate) use self::metric::{outcome, reason};
pub use self::names::Names;
pub(crate) use self::operations::OperationId;
use self::operations::{Operation, Operations};
use self::routes::Routes;
use crate::calls::{End, Record};
use crate::clock::Instant;
use crate::line_limit::LineLimit;
use crate::peers::{Peer, PeerId, Peers};

/// Gathers increments until they are flushed.
#[derive(Debug)]
pub(crate) struct Telemetry {
    names: Names,
    operations: Operations,
    dirty: Vec<OperationId>,
    global: Changes,
    sources: Peers,
    destinations: Peers,
    routes: Routes,
    replies: Vec<LocalReply>,
    line_limit: LineLimit,
    flushed_at: Instant,
}

impl Default for Telemetry {
    fn default() -> Self {
        Self {
            names: Names::default(),
            operations: Operations::default(),
            dirty: Vec::new(),
            global: Changes::default(),
            sources: Peers::new(Metric::SourceRequests, Peer { workload: None, principal: "other".into() }),
            destinations: Peers::new(
                Metric::DestinationRequests,
                Peer { workload: Some("other".into()), principal: "other".into() },
            ),
            routes: Routes::default(),
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
    /// Shares names with other workers.
    pub(crate) fn share(&mut self, names: &Names) {
        self.names = names.clone();
    }

    /// The names of an operation, as metrics have them.
    pub(crate) fn label_of(service: &str, method: &str) -> Label {
        Label { service: shorten(service).into(), method: shorten(method).into() }
    }

    /// The number of an operation for a request that becomes no call, `other`'s if the operation is not known. A route
    /// that names it (`is_named`) makes it known, unless `most` are.
    pub(crate) fn operation(
        &mut self,
        service: &str,
        method: &str,
        is_named: bool,
        most: usize,
    ) -> OperationId {
        self.find(service, method, is_named, most).unwrap_or(OperationId::OTHER)
    }

    /// The same for a call, of which `likely` is looked at first.
    #[inline]
    pub(crate) fn likely_operation(
        &mut self,
        likely: Option<OperationId>,
        service: &str,
        method: &str,
        is_named: bool,
        most: usize,
    ) -> OperationId {
        match likely.filter(|id| self.operations.is_known_as(*id, shorten(service), shorten(method))) {
            Some(id) => id,
            None => self.operation_of_call(service, method, is_named, most),
        }
    }

    /// The same for a call. An operation that is not known may become so while the call is in flight.
    pub(crate) fn operation_of_call(
        &mut self,
        service: &str,
        method: &str,
        is_named: bool,
        most: usize,
    ) -> OperationId {
        if let Some(id) = self.find(service, method, is_named, most) {
            return id;
        }
        let label = Self::label_of(service, method);
        match self.names.has_room(&Labels::from(&label), most) {
            true => self.operations.add(label, false),
            false => OperationId::OTHER,
        }
    }

    fn find(&mut self, service: &str, method: &str, is_named: bool, most: usize) -> Option<OperationId> {
        if let Some(id) = self.operations.find(shorten(service), shorten(method)) {
            if is_named {
                self.make_known(id, most);
            }
            return Some(id);
        }
        let label = Self::label_of(service, method);
        let labels = Labels::from(&label);
        let is_known = if is_named { self.names.admit(&labels, most) } else { self.names.has(&labels) };
        is_known.then(|| self.operations.add(label, true))
    }

    /// A server answered a call with success: there is such an operation.
    #[inline]
    fn make_known(&mut self, id: OperationId, most: usize) {
        if !id.was_known() {
            self.learn(id, most);
        }
    }

    fn learn(&mut self, id: OperationId, most: usize) {
        let Some(operation) = self.operations.get(id) else { return };
        if !self.names.admit(&Labels::from(&operation.label), most) {
            return;
        }
        let Some(unknown) = self.operations.make_known(id) else { return };
        let calls = i64::try_from(unknown.calls).unwrap_or(i64::MAX);
        self.add(OperationId::OTHER, Metric::InFlight, calls.saturating_neg());
        self.add(id, Metric::InFlight, calls);
        self.add(id, Metric::Requests, calls);
        for (source, n) in unknown.sources {
            self.add_source(id, source, n, most);
        }
    }

    /// How many operations have calls in flight and are not known.
    pub(crate) fn unknown_operations(&self) -> usize {
        self.operations.unknown()
    }

    /// The names of an operation.
    pub(crate) fn label(&self, id: OperationId) -> Label {
        match self.operations.get(id) {
            Some(operation) => operation.label.clone(),
            None => Self::label_of("other", "other"),
        }
    }

    /// Counts a request that becomes no call, but for its end.
    pub(crate) fn request(&mut self, record: &Record, most: usize) {
        self.routes.add(record, (&self.names, most));
        self.count_request(record.operation, record.source_id(), most);
    }

    fn count_request(&mut self, id: OperationId, source: Option<PeerId>, most: usize) {
        self.add(id, Metric::Requests, 1);
        if let Some(source) = source {
            self.add_source(id, source, 1, most);
        }
    }

    /// Counts a call that begins.
    pub(crate) fn begin(&mut self, id: OperationId, source: Option<PeerId>, most: usize) {
        if let Some(unknown) = self.unknown(id) {
            unknown.calls = unknown.calls.saturating_add(1);
            if let Some(source) = source {
                unknown.add(source);
            }
            self.add(OperationId::OTHER, Metric::InFlight, 1);
            return;
        }
        if let Some(operation) = self.touch(id) {
            operation.changes.add(Metric::InFlight, 1);
            operation.changes.add(Metric::Requests, 1);
        }
        if let Some(source) = source {
            self.add_source(id, source, 1, most);
        }
    }

    /// Counts a call that has ended.
    pub(crate) fn ended(&mut self, record: &Record, now: Instant, most: usize) {
        let id = record.operation;
        if matches!(record.end, Some(End::Answered(Outcome::Success))) {
            self.make_known(id, most);
        }
        self.answered_by(id, record.destination, most);
        self.routes.add(record, (&self.names, most));
        if let Some(operation) = self.touch(id) {
            let Operation { changes, latencies, .. } = operation;
            changes.add(Metric::InFlight, -1);
            match record.end {
                Some(End::Answered(outcome)) => {
                    changes.add(Metric::Responses(outcome.into()), 1);
                    latencies.record(now.since(record.started));
                }
                Some(End::Failed(_)) if !record.is_one_way => latencies.record(now.since(record.started)),
                Some(End::Cancelled) => changes.add(Metric::Cancelled, 1),
                _ => {}
            }
            if record.is_eventful() {
                changes.add_events(record);
            }
        }
        if !id.was_known() {
            self.end_unknown(id, record.source_id(), most);
        }
    }

    /// Notes a copy of a call, which may outlast the call.
    pub(crate) fn begin_copy(&mut self, id: OperationId) {
        if let Some(unknown) = self.unknown(id) {
            unknown.copies = unknown.copies.saturating_add(1);
        }
    }

    /// Counts a copy of a call that has ended.
    pub(crate) fn end_copy(&mut self, id: OperationId, outcome: &'static str) {
        self.add(id, Metric::Mirrored(outcome), 1);
        if let Some(unknown) = self.unknown(id) {
            unknown.copies = unknown.copies.saturating_sub(1);
            if unknown.is_over() {
                self.operations.remove(id);
            }
        }
    }

    /// Counts a copy of a call that was not made.
    pub(crate) fn drop_copy(&mut self, id: OperationId) {
        self.add(id, Metric::Mirrored("dropped"), 1);
    }

    /// Counts what a rate limit service said of a call.
    pub(crate) fn limited(&mut self, id: OperationId, answer: &'static str) {
        self.add(id, Metric::RateLimitAnswers(answer), 1);
    }

    /// Counts a second try that was made beside one without an answer.
    pub(crate) fn hedged(&mut self, id: OperationId) {
        self.add(id, Metric::Hedges, 1);
    }

    /// Counts a call of an operation that was not known, now that it has ended.
    fn end_unknown(&mut self, id: OperationId, source: Option<PeerId>, most: usize) {
        let Some(unknown) = self.unknown(id) else { return };
        unknown.calls = unknown.calls.saturating_sub(1);
        if let Some(source) = source {
            unknown.end(source);
        }
        let is_last = unknown.is_over();
        self.count_request(OperationId::OTHER, source, most);
        if is_last {
            self.operations.remove(id);
        }
    }

    fn unknown(&mut self, id: OperationId) -> Option<&mut operations::Unknown> {
        if id.was_known() {
            return None;
        }
        self.operations.get_mut(id)?.unknown.as_deref_mut()
    }

    /// Adds `n` (which may be negative for a gauge) to a metric of an operation.
    #[inline]
    fn add(&mut self, id: OperationId, metric: Metric, n: i64) {
        if let Some(operation) = self.touch(id) {
            operation.changes.add(metric, n);
        }
    }

    /// What counts for an operation, which is to be flushed.
    fn touch(&mut self, id: OperationId) -> Option<&mut Operation> {
        let id = if id.was_known() { id } else { self.operations.resolve(id) };
        let operation = self.operations.get_mut(id)?;
        if !core::mem::replace(&mut operation.is_dirty, true) {
            self.dirty.push(id);
        }
        Some(operation)
    }

    /// The number of a client's identity, once `most` are known that of `other`.
    pub(crate) fn source(&mut self, principal: &str, most: usize) -> PeerId {
        self.sources.peer(Peer { workload: None, principal: shorten(principal).into() }, most)
    }

    /// Counts requests of a client with an identity.
    fn add_source(&mut self, id: OperationId, source: PeerId, n: u64, most: usize) {
        let id = if id.was_known() { id } else { self.operations.resolve(id) };
        if let Some(operation) = self.operations.get(id) {
            let names = (&self.names, most);
            self.sources.add(operation.service, &operation.label.service, source, n, names);
        }
    }

    /// The number of a server's workload and identity, once `most` are known that of `other`.
    pub(crate) fn destination(&mut self, workload: &str, principal: &str, most: usize) -> PeerId {
        let workload = Some(shorten(workload).into());
        self.destinations.peer(Peer { workload, principal: shorten(principal).into() }, most)
    }

    /// Counts a response of a server, if its workload or identity is known.
    #[inline]
    pub(crate) fn answered_by(&mut self, id: OperationId, destination: Option<PeerId>, most: usize) {
        if let Some(destination) = destination {
            self.add_destination(id, destination, most);
        }
    }

    fn add_destination(&mut self, id: OperationId, destination: PeerId, most: usize) {
        let id = if id.was_known() { id } else { self.operations.resolve(id) };
        if let Some(operation) = self.operations.get(id) {
            let names = (&self.names, most);
            self.destinations.add(operation.service, &operation.label.service, destination, 1, names);
        }
    }

    /// Adds `n` (which may be negative for a gauge) to a metric that no operation owns.
    pub(crate) fn add_global(&mut self, metric: Metric, n: i64) {
        self.global.add(metric, n);
    }

    /// Counts a reply of the proxy's own, and notes it, unless there were many for its reason just now.
    pub(crate) fn reply(&mut self, id: OperationId, reply: LocalReply, now: Instant) {
        self.add(id, Metric::LocalReplies(reply.reason), 1);
        self.note(reply, now);
    }

    /// Counts a call that authorization would deny which is tried out, and notes it likewise.
    pub(crate) fn would_deny(&mut self, id: OperationId, reply: LocalReply, now: Instant) {
        self.add(id, Metric::DryRunDenied, 1);
        self.note(reply, now);
    }

    fn note(&mut self, reply: LocalReply, now: Instant) {
        if let Some(suppressed) = self.line_limit.admit(reply.reason, now) {
            self.replies.push(LocalReply { suppressed, ..reply });
        }
    }

    /// Notes the line of a call.
    #[inline(never)]
    pub(crate) fn log(&mut self, line: LocalReply) {
        self.replies.push(line);
    }

    /// When what has gathered is to be flushed, if anything has.
    pub(crate) fn due(&self) -> Option<Instant> {
        let is_dirty = !self.dirty.is_empty()
            || !self.global.is_empty()
            || self.sources.is_dirty()
            || self.destinations.is_dirty()
            || !self.routes.is_empty();
        is_dirty.then(|| self.flushed_at.after(FLUSH_INTERVAL))
    }

    /// Gives log lines to `sink` at once, and counts when they are due.
    pub(crate) fn flush(&mut self, now: Instant, sink: &mut dyn Sink) {
        if !self.replies.is_empty() {
            self.replies.drain(..).for_each(|reply| sink.log(&reply));
        }
        if self.due().is_some_and(|due| due <= now) {
            self.flush_counts(sink);
            self.flushed_at = now;
        }
    }

    /// Gives every count to `sink`.
    pub(crate) fn flush_counts(&mut self, sink: &mut dyn Sink) {
        self.global.flush(None, sink);
        for id in self.dirty.drain(..) {
            let Some(operation) = self.operations.get_mut(id) else { continue };
            operation.is_dirty = false;
            let labels = Labels::from(&operation.label);
            operation.changes.flush(Some(&labels), sink);
            operation.latencies.flush(&labels, sink);
        }
        self.sources.flush(sink);
        self.destinations.flush(sink);
        self.routes.flush(sink);
    }
}

/// `name` cut to [`LONGEST_NAME`] bytes, or a dash where there is none.
#[inline]
fn shorten(name: &str) -> &str {
    if (1..=LONGEST_NAME).contains(&name.len()) { name } else { cut(name) }
}

fn cut(name: &str) -> &str {
    let mut end = name.len().min(LONGEST_NAME);
    while !name.is_char_boundary(end) {
        end = end.saturating_sub(1);
    }
    match name.get(..end) {
        Some("") | None => "-",
        Some(name) => name,
    }
}
