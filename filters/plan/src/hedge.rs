//! Second tries of calls whose first has no answer yet, and how long calls of a route take.

use core::cell::RefCell;
use core::time::Duration;
use std::rc::Rc;

use super::{Plan, Route};

/// When a second try is made beside the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hedge {
    /// So long after the first at least.
    pub after: Option<Duration>,
    /// After the time in which so many percent of the route's calls are answered, from 1 to 99.
    pub percentile: Option<usize>,
}

impl Hedge {
    /// How long after a try a second one follows, where calls of the route take as long as `latencies` say. `None` if it is
    /// not known.
    pub fn delay(&self, latencies: &Latencies) -> Option<Duration> {
        let percentile = self.percentile.and_then(|percent| latencies.percentile(percent));
        self.after.max(percentile)
    }
}

/// How long the calls of a route took: a histogram in which the last thousand or two count. It takes no memory before
/// the first call.
#[derive(Debug, Default)]
pub struct Latencies(RefCell<Option<Box<Histogram>>>);

#[derive(Debug, Clone)]
struct Histogram {
    buckets: [u16; BUCKETS],
    total: usize,
    /// The percentile that was asked for last, for how many calls, and what it was.
    known: (usize, usize, Duration),
}

/// Four for each doubling of the time.
const BUCKETS: usize = 96;

/// Times below this power of two, in microseconds, are one bucket. Over 17 minutes are another.
const LEAST: u32 = 6;

/// Calls before which a percentile says nothing.
const LEAST_CALLS: usize = 100;

/// Once so many are counted, all counts are halved.
const MOST_CALLS: usize = 2000;

/// A percentile is taken anew after so many calls.
const STEP: usize = 16;

impl Latencies {
    /// Notes that a call took so long.
    #[inline(never)]
    pub fn record(&self, time: Duration) {
        if let Ok(mut place) = self.0.try_borrow_mut() {
            place.get_or_insert_with(Default::default).record(time);
        }
    }

    /// The time in which so many percent of the calls were answered, to within a fifth. `None` before a hundred were.
    pub fn percentile(&self, percent: usize) -> Option<Duration> {
        self.0.try_borrow_mut().ok()?.as_mut()?.percentile(percent)
    }

    /// Goes on where others were, if it has nothing of its own.
    fn follow(&self, earlier: &Self) {
        if let (Ok(mut own), Ok(mut theirs)) = (self.0.try_borrow_mut(), earlier.0.try_borrow_mut())
            && own.is_none()
        {
            *own = theirs.take();
        }
    }
}

impl Plan {
    /// Takes over how long calls took from the routes of an earlier plan, by the names of service and route.
    pub fn follow_latencies(&self, earlier: &Self) {
        for service in self.services().flat_map(|service| self.candidates(&service.name)) {
            let asks = |route: &&Rc<Route>| {
                route
                    .retry
                    .as_ref()
                    .and_then(|retry| retry.hedge)
                    .is_some_and(|hedge| hedge.percentile.is_some())
            };
            for route in service.all_routes().filter(asks) {
                let same = earlier.service_like(&service.name, service);
                let same = same.and_then(|same| same.all_routes().find(|other| other.name == route.name));
                if let Some(same) = same {
                    route.latencies.follow(&same.latencies);
                }
            }
        }
    }
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: [0; BUCKETS], total: 0, known: (0, 0, Duration::ZERO) }
    }
}

impl Histogram {
    fn record(&mut self, time: Duration) {
        if self.total >= MOST_CALLS {
            self.buckets.iter_mut().for_each(|count| *count >>= 1);
            self.total = self.buckets.iter().map(|count| usize::from(*count)).sum();
            self.known = (0, 0, Duration::ZERO);
        }
        if let Some(count) = self.buckets.get_mut(bucket(time)) {
            *count = count.saturating_add(1);
            self.total = self.total.saturating_add(1);
        }
    }

    fn percentile(&mut self, percent: usize) -> Option<Duration> {
        if self.total < LEAST_CALLS {
            return None;
        }
        let (known, total, time) = self.known;
        if known == percent && self.total < total.saturating_add(STEP) {
            return Some(time);
        }
        let mut left = self.total.saturating_mul(percent).div_ceil(100);
        let place = self.buckets.iter().position(|count| {
            left = left.saturating_sub(usize::from(*count));
            left == 0
        });
        let time = bound(place.unwrap_or(BUCKETS));
        self.known = (percent, self.total, time);
        Some(time)
    }
}

/// The bucket of a time.
fn bucket(time: Duration) -> usize {
    let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    let Some(octave) = micros.checked_ilog2().and_then(|log| log.checked_sub(LEAST)) else { return 0 };
    let quarter = micros.checked_shr(octave.saturating_add(LEAST).saturating_sub(2)).unwrap_or(0) & 3;
    let place = octave.saturating_mul(4).saturating_add(quarter as u32).saturating_add(1);
    (place as usize).min(BUCKETS.saturating_sub(1))
}

/// The time that is over all of a bucket.
fn bound(place: usize) -> Duration {
    let octave = u32::try_from(place >> 2).unwrap_or(u32::MAX).saturating_add(LEAST);
    let quarter = (place & 3) as u64;
    let micros = quarter.saturating_add(4).checked_shl(octave.saturating_sub(2)).unwrap_or(u64::MAX);
    Duration::from_micros(micros)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_bucket_is_a_fifth_wide_and_holds_what_is_below_its_bound() {
        assert_eq!((bucket(Duration::ZERO), bound(0)), (0, Duration::from_micros(64)));
        assert_eq!((bucket(Duration::from_micros(63)), bucket(Duration::from_micros(64))), (0, 1));
        assert_eq!(bucket(Duration::MAX), BUCKETS - 1);
        for micros in (64..2_000_000).step_by(97) {
            let time = Duration::from_micros(micros);
            let bound = bound(bucket(time));
            assert!(time < bound && bound <= time.mul_f64(1.2501), "{time:?} {bound:?}");
            assert_eq!(bucket(bound), bucket(time) + 1);
        }
    }

    #[test]
    fn a_percentile_needs_a_hundred_calls_and_follows_the_last_ones() {
        let latencies = Latencies::default();
        let hedge = |after, percentile| Hedge { after, percentile };
        for n in 0..100 {
            assert_eq!(latencies.percentile(95), None);
            let wanted = [(None, Some(95)), (Some(50 * MS), Some(95)), (Some(50 * MS), None)];
            let delays = wanted.map(|(after, percentile)| hedge(after, percentile).delay(&latencies));
            assert_eq!(delays, [None, Some(50 * MS), Some(50 * MS)]);
            latencies.record(if n % 20 == 7 { 900 * MS } else { 10 * MS });
        }
        let about = |time: Duration, percent| {
            let found = latencies.percentile(percent).unwrap();
            assert!(time < found && found < time.mul_f64(1.26), "{time:?} {found:?}");
        };
        about(10 * MS, 50);
        about(10 * MS, 95);
        about(900 * MS, 96);
        let later = [(Some(MS), Some(50)), (Some(50 * MS), Some(50))];
        let delays = later.map(|(after, percentile)| hedge(after, percentile).delay(&latencies));
        assert_eq!(delays, [latencies.percentile(50), Some(50 * MS)], "the later of the two");
        (0..20_000).for_each(|_| latencies.record(100 * MS));
        about(100 * MS, 1);
        about(100 * MS, 99);
    }
}
