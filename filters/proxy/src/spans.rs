//! Spans of calls that have ended, and their way to collectors.
//!
//! Each try is a span, as is a call that was never tried. Spans gather in a batch for each collector, which is sent when
//! there are enough of them or after a second. Nothing waits for a collector: what it does not take is dropped and counted.

mod zipkin;

use core::time::Duration;
use std::rc::Rc;

use meltemi_codecs::{Failure, Outcome};
use meltemi_otlp::{EXPORT, Span, rejected, request};

pub(crate) use self::zipkin::write_tag;

use crate::calls::{CallId, End, Origin, Record, TryEnd, TryFailure};
use crate::clock::{Instant, earliest};
use crate::inquiries::{AGE, Ask, Asker, InquiryId, Outcome as Answered};
use crate::leaving::Leave;
use crate::line_limit::Rare;
use crate::lines::cut;
use crate::plan::{Collector, SpanFormat};
use crate::policy::NoAnswer;
use crate::pools::Pools;
use crate::reports::{Reports, flags};
use crate::telemetry::{Label, LocalReply, Metric, outcome};
use crate::tracing::TracedTry;
use crate::worker::Worker;

/// The spans that gather, and those that collectors have not answered yet.
#[derive(Debug, Default)]
pub(crate) struct Spans {
    batches: Vec<Batch>,
    /// Those for which there was no room, until they are counted.
    full: u32,
}

/// What a collector is to get next.
#[derive(Debug, Default)]
struct Batch {
    collector: Rc<Collector>,
    /// The spans, each as its format has it among others.
    spans: Vec<u8>,
    count: u32,
    /// When they are to be sent, if there are any.
    due: Option<Instant>,
    /// The Unix time at which the worker's own began.
    epoch: u64,
    /// What was sent and is not answered: how long that is waited for, and how many spans it has.
    in_flight: Vec<(InquiryId, Instant, u32)>,
    /// The lines of what was dropped.
    lines: Rare,
}

/// Spans that a collector was sent.
#[derive(Debug)]
pub(crate) struct Sent {
    collector: Rc<Collector>,
    count: u32,
}

/// A call that has ended, and what its spans tell beside its record.
pub(crate) struct Told<'a> {
    pub(crate) record: &'a Record,
    pub(crate) label: &'a Label,
    pub(crate) end: End,
    pub(crate) is_copy: bool,
    pub(crate) now: Instant,
    pub(crate) pools: &'a Pools,
    pub(crate) reports: &'a Reports,
}

/// How long spans gather.
const INTERVAL: Duration = Duration::from_secs(1);

/// So many bytes of spans are sent at once: what a fresh connection takes without an answer.
const ENOUGH: usize = 48 << 10;

/// So many gather at the most, while others have no answer yet.
const MOST: usize = 256 << 10;

/// How long an answer is waited for, as exporters of OpenTelemetry do.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Batches to one collector that have no answer yet.
const MOST_IN_FLIGHT: usize = 2;

/// The log tells so many bytes of what a collector says.
const MOST_SAID: usize = 512;

impl Told<'_> {
    /// How a try ended: when, in the word of the metrics, and with which status of the protocol, if with any.
    fn end_of(&self, end: Option<TryEnd>, is_answered: bool) -> (Instant, &'static str, Option<u32>) {
        let (at, end) = match end {
            Some(TryEnd::Failed(failure, at)) => {
                let end = match failure {
                    TryFailure::Refused(status) => End::Answered(Outcome::Error(status)),
                    TryFailure::Lost => End::Failed(Failure::ConnectionLost),
                    TryFailure::TimedOut => End::Failed(Failure::Timeout),
                };
                (at, end)
            }
            // Another was answered before it.
            None | Some(TryEnd::GivenUp) if is_answered => (self.now, End::Cancelled),
            _ => (self.now, self.end),
        };
        let status = match end {
            End::Answered(Outcome::Error(status)) => Some(status),
            _ => None,
        };
        (at, outcome(end), status)
    }
}

impl Spans {
    /// Adds the spans of a call, if its trace is reported, and says to which batch. Those for which there is no room are
    /// counted.
    #[inline(never)]
    pub(crate) fn add(&mut self, told: &Told<'_>) -> Option<usize> {
        let record = told.record;
        let trace = record.trace.as_deref().filter(|trace| trace.is_reported())?;
        let at = self.find(record.service.tracing.as_ref()?.collector.as_ref()?);
        let batch = self.batches.get_mut(at)?;
        if batch.count == 0 {
            batch.due = Some(told.now.after(INTERVAL));
            batch.epoch = told.reports.wall_time(told.now).wrapping_sub(told.now.as_nanos());
        }
        let pool = record.pool.and_then(|pool| told.pools.get(pool));
        let source = record.source.as_deref();
        let untried = [TracedTry::untried(record.started)];
        let tries = if trace.tries().is_empty() { &untried } else { trace.tries() };
        // That of the first begins with the call: it has waited for what the call has.
        let mut started = Some(record.started);
        for one in tries {
            if batch.spans.len() >= MOST {
                self.full = self.full.saturating_add(1);
                continue;
            }
            let (ended, outcome, status) = told.end_of(one.end, trace.is_answered());
            let started = started.take().unwrap_or(one.started);
            let mut own = String::new();
            trace.write_span(one.number, &mut own);
            let endpoint = pool.and_then(|pool| pool.endpoints().address(one.endpoint));
            let status = status.map(|status| status.to_string());
            let span = Span {
                ids: [trace.id(), &own, trace.parent()],
                times: [started, ended].map(|time| time.as_nanos().wrapping_add(batch.epoch)),
                is_server: source.is_some_and(|source| told.reports.is_server(source.party)),
                protocol: record.service.codec.name(),
                service: &told.label.service,
                method: &told.label.method,
                outcome,
                flags: flags(outcome),
                status: status.as_deref().unwrap_or_default(),
                server: endpoint.map_or("", |address| address),
                client: source.and_then(|source| source.peer.as_deref()).unwrap_or_default(),
                cluster: pool.map_or("", |pool| pool.cluster()),
                route: record.route.as_ref().map_or("", |route| &route.name),
                is_copy: told.is_copy,
                number: one.number,
                sizes: [record.request_bytes as usize, record.response_bytes as usize],
                tags: trace.tags(),
            };
            match batch.collector.format {
                SpanFormat::Otlp => span.write(&mut batch.spans),
                SpanFormat::Zipkin => zipkin::write(&span, &told.reports.service(), &mut batch.spans),
            }
            batch.count = batch.count.saturating_add(1);
        }
        Some(at)
    }

    /// Forgets collectors that have been given all and have answered all.
    pub(crate) fn forget_idle(&mut self) {
        self.batches.retain(|batch| batch.count > 0 || !batch.in_flight.is_empty());
    }

    fn find(&mut self, collector: &Rc<Collector>) -> usize {
        let known = self.batches.iter().position(|batch| batch.collector == *collector);
        known.unwrap_or_else(|| {
            self.batches.push(Batch { collector: collector.clone(), ..Batch::default() });
            self.batches.len().saturating_sub(1)
        })
    }
}

impl Batch {
    fn has_room_in_flight(&self) -> bool {
        self.in_flight.len() < MOST_IN_FLIGHT
    }

    /// Whether it is to be sent.
    fn is_due(&self, now: Instant) -> bool {
        self.spans.len() >= ENOUGH || self.due.is_some_and(|due| due <= now)
    }
}

impl Worker {
    /// Makes the spans of a call that ends so, if its trace is reported.
    #[inline(never)]
    pub(crate) fn tell_call(&mut self, id: CallId, end: End) {
        let Some(call) = self.calls.get(id) else { return };
        let (record, is_copy) = (call.record(), call.origin() == Origin::Proxy);
        if !record.trace.as_ref().is_some_and(|trace| trace.is_reported()) {
            return;
        }
        let label = &self.telemetry.label(record.operation);
        let (now, pools, reports) = (self.now, &self.pools, &self.reports);
        let added = self.spans.add(&Told { record, label, end, is_copy, now, pools, reports });
        self.spans_added(added);
    }

    /// Spans were added to a batch, as far as there was room.
    #[inline(never)]
    pub(crate) fn spans_added(&mut self, added: Option<usize>) {
        let Some(at) = added else { return };
        let full = core::mem::take(&mut self.spans.full);
        if full > 0 {
            self.telemetry.add_global(Metric::Spans("full"), full.into());
        }
        let Some(batch) = self.spans.batches.get(at) else { return };
        // Where no alarm may ring again, or the last client leaves soon, they do not wait.
        if batch.is_due(self.now) || self.leave != Leave::No || !self.net.is_open() {
            self.send_spans(at);
        } else {
            self.alarms.wake_at(batch.due);
        }
    }

    /// Sends what has gathered for a collector, unless it has too much to answer.
    #[inline(never)]
    fn send_spans(&mut self, at: usize) {
        let Some(batch) = self.spans.batches.get_mut(at) else { return };
        if batch.count == 0 || !batch.has_room_in_flight() {
            return;
        }
        let collector = batch.collector.clone();
        let spans = core::mem::take(&mut batch.spans);
        let message = match collector.format {
            SpanFormat::Otlp => request(&self.reports.service(), &spans),
            SpanFormat::Zipkin => zipkin::request(spans),
        };
        batch.due = None;
        let count = core::mem::take(&mut batch.count);
        let sent = Sent { collector, count };
        let Some(inquiry) = self.give(sent, &message) else { return };
        let until = self.now.after(TIMEOUT);
        if let Some(batch) = self.spans.batches.get_mut(at) {
            batch.in_flight.push((inquiry, until, count));
        }
        self.alarms.wake_at(Some(until.min(self.now.after(AGE))));
    }

    /// Gives a collector a message with spans, which are dropped if that cannot be.
    fn give(&mut self, sent: Sent, message: &[u8]) -> Option<InquiryId> {
        let collector = sent.collector.clone();
        let Collector { cluster, path, format, headers } = &*collector;
        if let Some(path) = path {
            let to = (&**cluster, &**path);
            let content_type = match format {
                SpanFormat::Otlp => "application/x-protobuf",
                SpanFormat::Zipkin => "application/json",
            };
            match self.inquiries.post(to, content_type, headers, message, Asker::Spans(sent), &mut self.net) {
                Ok(inquiry) => return Some(inquiry),
                Err(asker) => self.answered(Answered::none(asker, NoAnswer::NoConnection)),
            }
            return None;
        }
        let ask = Ask { cluster, path: EXPORT, timeout: TIMEOUT, headers, message };
        let Some(asked) = self.inquiries.ask(&ask, self.now, &mut self.net) else {
            self.spans_dropped(&sent, NoAnswer::NoConnection.name(), sent.count, "");
            return None;
        };
        Some(self.inquiries.note(asked, Asker::Spans(sent), self.now, &mut self.net))
    }

    /// Sends what has gathered, whether it is due or not.
    pub(crate) fn send_all_spans(&mut self) {
        (0..self.spans.batches.len()).for_each(|at| self.send_spans(at));
    }

    /// Sends what is due, and gives up what has no answer.
    #[inline(never)]
    pub(crate) fn sweep_spans(&mut self) {
        for at in 0..self.spans.batches.len() {
            let Some(batch) = self.spans.batches.get_mut(at) else { break };
            // The one that was sent first.
            if let Some((inquiry, until, _)) = batch.in_flight.first().copied()
                && until <= self.now
                && let Some(asker) = self.inquiries.forget(inquiry, true, &mut self.net)
            {
                self.answered(Answered::none(asker, NoAnswer::Deadline));
            }
            if self.spans.batches.get(at).is_some_and(|batch| batch.is_due(self.now)) {
                self.send_spans(at);
            }
            let Some(batch) = self.spans.batches.get(at) else { break };
            let due = batch.due.filter(|_| batch.has_room_in_flight());
            let late = batch.in_flight.first().map(|(_, until, _)| *until);
            self.alarms.wake_at(earliest(due, late));
        }
    }

    /// A collector has answered, or does not.
    #[inline(never)]
    pub(crate) fn spans_answered(&mut self, sent: &Sent, answer: Result<Vec<u8>, NoAnswer>, said: &str) {
        match answer {
            Ok(answer) => {
                let (rejected, why) = match sent.collector.format {
                    SpanFormat::Otlp => rejected(&answer),
                    SpanFormat::Zipkin => (0, ""),
                };
                let rejected = u32::try_from(rejected).unwrap_or(u32::MAX).min(sent.count);
                let taken = sent.count.saturating_sub(rejected);
                self.telemetry.add_global(Metric::Spans("exported"), taken.into());
                if rejected > 0 {
                    self.spans_dropped(sent, "rejected", rejected, why);
                }
            }
            Err(why) => self.spans_dropped(sent, why.name(), sent.count, said),
        }
        let at = self.spans.find(&sent.collector);
        let Some(batch) = self.spans.batches.get_mut(at) else { return };
        batch.in_flight.retain(|(inquiry, ..)| self.inquiries.is_open(*inquiry));
        if batch.is_due(self.now) {
            self.send_spans(at);
        }
    }

    /// Counts spans that a collector did not take, and says so in the log.
    #[inline(never)]
    fn spans_dropped(&mut self, sent: &Sent, why: &'static str, count: u32, said: &str) {
        self.telemetry.add_global(Metric::Spans(why), count.into());
        let at = self.spans.find(&sent.collector);
        let Some(batch) = self.spans.batches.get_mut(at) else { return };
        let Some(suppressed) = batch.lines.admit(self.now) else { return };
        self.telemetry.log(LocalReply {
            event: "spans_dropped",
            reason: why,
            detail: cut(said, MOST_SAID).to_owned(),
            cluster: Some(sent.collector.cluster.to_string()),
            suppressed,
            ..LocalReply::default()
        });
    }

    /// The worker ends: what was not answered counts as lost.
    #[inline(never)]
    pub(crate) fn end_spans(&mut self) {
        for batch in &self.spans.batches {
            let in_flight = batch.in_flight.iter().map(|(.., count)| i64::from(*count));
            let count = in_flight.fold(i64::from(batch.count), i64::saturating_add);
            self.telemetry.add_global(Metric::Spans(NoAnswer::Reset.name()), count);
        }
    }
}
