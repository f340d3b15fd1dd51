use core::time::Duration;

use super::{LATENCY_BUCKETS, Labels, Metric, Sink};

/// Times of answers, by bucket.
#[derive(Debug, Default)]
pub(super) struct Latencies {
    /// Answers in each bucket and in none of those before it.
    buckets: [u64; LATENCY_BUCKETS.len()],
    /// Answers over the last bucket.
    over: u64,
    /// Sum in microseconds.
    sum: u64,
    /// Every bucket was reported once.
    is_complete: bool,
}

impl Latencies {
    /// Counts one answer.
    pub(super) fn record(&mut self, elapsed: Duration) {
        let micros = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
        let bucket = LATENCY_BUCKETS.partition_point(|bound| *bound < micros);
        let count = self.buckets.get_mut(bucket).unwrap_or(&mut self.over);
        *count = count.saturating_add(1);
        self.sum = self.sum.saturating_add(micros);
    }

    /// Gives every count to `sink`. With the first come all buckets, the empty ones too: between buckets that are not
    /// there Prometheus would guess.
    pub(super) fn flush(&mut self, labels: &Labels, sink: &mut dyn Sink) {
        let Self { buckets, over, sum, is_complete } = core::mem::take(self);
        let count = buckets.iter().fold(over, |sum, n| sum.saturating_add(*n));
        self.is_complete = is_complete || count > 0;
        if count == 0 {
            return;
        }
        let mut below = 0_u64;
        for (bound, n) in LATENCY_BUCKETS.into_iter().zip(buckets) {
            below = below.saturating_add(n);
            if below > 0 || !is_complete {
                sink.count(Metric::LatencyBucket(Some(bound)), Some(labels), below);
            }
        }
        sink.count(Metric::LatencyBucket(None), Some(labels), count);
        sink.count(Metric::LatencyCount, Some(labels), count);
        if sum > 0 || !is_complete {
            sink.count(Metric::LatencySum, Some(labels), sum);
        }
    }
}
