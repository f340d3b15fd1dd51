//! Adaptive concurrency: how many calls a cluster takes at a time, by how much longer its answers take than they can.
//!
//! Envoy's gradient controller. Now and then the least time is measured, while there are so few calls that none waits for
//! another. Between that, each window of time sets the limit anew: times the gradient, which is the least time and a buffer
//! over the time that answers take, and the root of that more, so that it grows where nothing speaks against it.

use crate::clock::Instant;
use crate::plan::AdaptiveConcurrency;

/// The limit of one cluster's calls in flight, and what it follows from.
#[derive(Debug)]
pub(crate) struct Concurrency {
    limit: usize,
    /// What the limit was before the least time began to be measured, while it is.
    before: Option<usize>,
    /// Since when no more calls are in flight than then may be: answers to what was sent before say nothing of it.
    began: Instant,
    /// When it was measured last, and a number of that time's by which it is measured again a little later.
    measured_at: Instant,
    random: u32,
    measures_at: Instant,
    updated_at: Instant,
    updates_at: Instant,
    /// The least time, in units of the samples.
    least: u64,
    /// How often in a row the limit was the least one.
    at_least: u32,
    samples: Samples,
}

/// How often the limit is the least one in a row until the least time is doubted.
const MOST_AT_LEAST: u32 = 5;

impl Concurrency {
    /// What begins with the least limit, to measure the least time.
    pub(crate) fn new(rule: &AdaptiveConcurrency, now: Instant) -> Self {
        Self {
            limit: rule.least,
            before: Some(rule.least),
            began: now,
            measured_at: now,
            random: 0,
            measures_at: now,
            updated_at: now,
            updates_at: now,
            least: 0,
            at_least: 0,
            samples: Samples::default(),
        }
    }

    /// Follows another rule, which may have other bounds and intervals.
    pub(crate) fn follow(&mut self, rule: &AdaptiveConcurrency) {
        let limit = if self.before.is_some() { rule.least } else { self.limit };
        self.limit = limit.clamp(rule.least, rule.most);
        self.set_times(rule);
    }

    /// Sets when something is done next.
    fn set_times(&mut self, rule: &AdaptiveConcurrency) {
        let percent = (self.random as usize).checked_rem(rule.jitter.saturating_add(1)).unwrap_or(0);
        let jitter = rule.measure_interval.saturating_mul(percent as u32).checked_div(100);
        self.measures_at = self.measured_at.after(rule.measure_interval).after(jitter.unwrap_or_default());
        self.updates_at = self.updated_at.after(rule.update_interval);
    }

    /// How many calls may be in flight.
    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    /// Does what time asks for. To be called before the limit is asked for.
    pub(crate) fn keep_time(&mut self, rule: &AdaptiveConcurrency, now: Instant) {
        if self.before.is_some() {
            return;
        }
        if self.measures_at <= now || self.at_least >= MOST_AT_LEAST {
            self.before = Some(self.limit);
            self.limit = rule.least;
            self.began = now;
            self.at_least = 0;
            self.samples.clear();
        } else if self.updates_at <= now {
            self.updated_at = now;
            self.updates_at = now.after(rule.update_interval);
            if let Some(time) = self.samples.take(rule.percentile) {
                self.update(time, rule);
            }
        }
    }

    /// Notes that an answer came, or that it `is_late` and was given up, to what was sent then; so many calls are still
    /// `in_flight`. `random` is any number.
    pub(crate) fn note(
        &mut self,
        sent: Instant,
        is_late: bool,
        in_flight: usize,
        rule: &AdaptiveConcurrency,
        now: Instant,
        random: u32,
    ) {
        self.keep_time(rule, now);
        let Some(before) = self.before else {
            // What was given up before it was slow says nothing.
            if !is_late || self.is_slow(units(sent, now), rule) {
                self.samples.add(sent, now);
            }
            return;
        };
        // Those that were let pass before may be sent only now, and others wait for them.
        if in_flight >= self.limit {
            self.began = now;
            return;
        }
        // What is late says only that the least time is not known yet.
        if sent < self.began || is_late {
            return;
        }
        self.samples.add(sent, now);
        if self.samples.total < rule.measured_calls {
            return;
        }
        self.least = self.samples.take(rule.percentile).unwrap_or_default();
        self.limit = before.clamp(rule.least, rule.most);
        self.before = None;
        (self.measured_at, self.updated_at, self.random) = (now, now, random);
        self.set_times(rule);
    }

    /// The least time and the buffer, in hundredths of a unit.
    fn buffered(&self, rule: &AdaptiveConcurrency) -> u64 {
        self.least.saturating_mul(rule.buffer.saturating_add(100) as u64)
    }

    /// Whether answers that take that `time` are a reason to let fewer calls pass.
    fn is_slow(&self, time: u64, rule: &AdaptiveConcurrency) -> bool {
        time.saturating_mul(100) >= self.buffered(rule)
    }

    /// Sets the limit anew, as answers take that `time`.
    fn update(&mut self, time: u64, rule: &AdaptiveConcurrency) {
        let buffered = self.buffered(rule).saturating_mul(self.limit as u64);
        let limit = buffered.checked_div(time.saturating_mul(100)).unwrap_or(0);
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let limit = limit.clamp(self.limit >> 1, self.limit.saturating_mul(2));
        let limit = limit.saturating_add(limit.isqrt()).clamp(rule.least, rule.most);
        let is_least = limit == rule.least && self.limit == rule.least;
        self.at_least = if is_least { self.at_least.saturating_add(1) } else { 0 };
        self.limit = limit;
    }
}

/// How long answers took: a histogram of buckets that are a sixteenth wide at most.
#[derive(Debug)]
struct Samples {
    buckets: Box<[u32; BUCKETS]>,
    total: usize,
}

/// A unit of time is this power of two in nanoseconds: near a microsecond.
const UNIT: u32 = 10;

/// Sixteen for each doubling of the time, up to a minute and more.
const BUCKETS: usize = 384;

/// The number of bits by which times are told apart.
const BITS: u32 = 4;

impl Default for Samples {
    fn default() -> Self {
        Self { buckets: Box::new([0; BUCKETS]), total: 0 }
    }
}

impl Samples {
    fn clear(&mut self) {
        self.buckets.fill(0);
        self.total = 0;
    }

    fn add(&mut self, sent: Instant, now: Instant) {
        if let Some(count) = self.buckets.get_mut(bucket(units(sent, now))) {
            *count = count.saturating_add(1);
            self.total = self.total.saturating_add(1);
        }
    }

    /// The time in which so many percent of the answers came, in units, one at least; forgets them all. `None` if there were
    /// none.
    fn take(&mut self, percent: usize) -> Option<u64> {
        if self.total == 0 {
            return None;
        }
        let mut left = self.total.saturating_mul(percent).div_ceil(100);
        let place = self.buckets.iter().position(|count| {
            left = left.saturating_sub(*count as usize);
            left == 0
        });
        self.clear();
        place.map(|place| middle(place).max(1))
    }
}

/// The time from the one to the other, in units.
fn units(from: Instant, to: Instant) -> u64 {
    to.as_nanos().saturating_sub(from.as_nanos()) >> UNIT
}

/// The bucket of a time in units.
fn bucket(units: u64) -> usize {
    let shift = units.checked_ilog2().unwrap_or(0).saturating_sub(BITS);
    let place = (units >> shift).saturating_add(u64::from(shift) << BITS);
    usize::try_from(place).unwrap_or(usize::MAX).min(BUCKETS.saturating_sub(1))
}

/// The time in the middle of a bucket, in units.
fn middle(place: usize) -> u64 {
    let shift = (place >> BITS).saturating_sub(1);
    let first = place.saturating_sub(shift << BITS) as u64;
    (first << shift).saturating_add((1 << shift) >> 1)
}

#[cfg(test)]
mod tests;
