//! Increments of metrics with the same labels, until they are flushed.

use super::{Class, Labels, Metric, Sink};
use crate::calls::Record;

/// By how much each metric has changed. Those that every call changes are found without a search.
#[derive(Debug, Default)]
pub(super) struct Changes {
    requests: i64,
    in_flight: i64,
    successes: i64,
    others: Vec<(Metric, i64)>,
}

impl Changes {
    /// Adds `n` (which may be negative for a gauge) to a metric.
    #[inline]
    pub(super) fn add(&mut self, metric: Metric, n: i64) {
        let sum = match metric {
            Metric::Requests => &mut self.requests,
            Metric::InFlight => &mut self.in_flight,
            Metric::Responses(Class::Success) => &mut self.successes,
            _ => return self.add_other(metric, n),
        };
        *sum = sum.saturating_add(n);
    }

    #[inline(never)]
    fn add_other(&mut self, metric: Metric, n: i64) {
        match self.others.iter_mut().find(|(known, _)| *known == metric) {
            Some((_, sum)) => *sum = sum.saturating_add(n),
            None => self.others.push((metric, n)),
        }
    }

    /// Adds what came to pass on a call's way.
    #[inline(never)]
    pub(super) fn add_events(&mut self, record: &Record) {
        let delays = u32::from(record.is_delayed);
        for (metric, n) in [
            (Metric::Delays, delays),
            (Metric::Retries, record.retries),
            (Metric::Timeouts, record.timeouts.into()),
            (Metric::Resets, record.resets.into()),
        ] {
            if n > 0 {
                self.add(metric, i64::from(n));
            }
        }
    }

    /// Whether nothing was added.
    pub(super) fn is_empty(&self) -> bool {
        (self.requests, self.in_flight, self.successes) == (0, 0, 0) && self.others.is_empty()
    }

    /// Gives every change to `sink`.
    pub(super) fn flush(&mut self, labels: Option<&Labels>, sink: &mut dyn Sink) {
        emit(sink, Metric::Requests, labels, core::mem::take(&mut self.requests));
        emit(sink, Metric::InFlight, labels, core::mem::take(&mut self.in_flight));
        let successes = Metric::Responses(Class::Success);
        emit(sink, successes, labels, core::mem::take(&mut self.successes));
        for (metric, n) in self.others.drain(..) {
            emit(sink, metric, labels, n);
        }
    }
}

fn emit(sink: &mut dyn Sink, metric: Metric, labels: Option<&Labels>, n: i64) {
    match metric {
        Metric::InFlight
        | Metric::ClientConnectionsActive
        | Metric::UpstreamConnectionsActive
        | Metric::ConcurrencyLimit => {
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
