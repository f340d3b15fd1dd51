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

    /// Gives every count to `sink`.
    pub(super) fn flush(self, labels: &Labels, sink: &mut dyn Sink) {
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
