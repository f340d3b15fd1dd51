//! When calls run out of time, in order: a call that ends before costs its deadline little more than the note of it.
//!
//! Notes of the same few milliseconds lie together, unsorted, until their time comes. A call that has ended, or has another
//! deadline by then, is recognised by its id and is dropped.

use std::collections::BTreeMap;

use crate::call::CallId;
use crate::clock::{Instant, earliest};

/// Deadlines of calls.
#[derive(Debug, Default)]
pub(crate) struct Deadlines {
    /// Those of this moment, the earliest last.
    near: Vec<(Instant, CallId)>,
    /// Those before this number of a bucket are near.
    first: u64,
    /// All others, by bucket.
    far: BTreeMap<u64, Bucket>,
}

#[derive(Debug)]
struct Bucket {
    earliest: Instant,
    notes: Vec<(Instant, CallId)>,
}

/// Bits of the nanoseconds of one bucket: some four milliseconds.
const BITS: u32 = 22;

impl Deadlines {
    /// Notes a deadline of a call. Earlier ones of it are looked at all the same.
    pub(crate) fn push(&mut self, at: Instant, call: CallId) {
        let number = at.as_nanos() >> BITS;
        if number < self.first {
            let place = self.near.partition_point(|(other, _)| *other > at);
            self.near.insert(place, (at, call));
            return;
        }
        let bucket = self.far.entry(number);
        let bucket = bucket.or_insert_with(|| Bucket { earliest: at, notes: Vec::new() });
        bucket.earliest = bucket.earliest.min(at);
        bucket.notes.push((at, call));
    }

    /// The earliest deadline. That of a call that has ended may be returned, but no later one in its stead.
    pub(crate) fn due(&self) -> Option<Instant> {
        let near = self.near.last().map(|(at, _)| *at);
        earliest(near, self.far.first_key_value().map(|(_, bucket)| bucket.earliest))
    }

    /// Takes out the calls whose deadline has passed by `now`. `is_due` says whether that is still a call's deadline.
    pub(crate) fn expire(&mut self, now: Instant, is_due: impl Fn(CallId, Instant) -> bool) -> Vec<CallId> {
        let number = now.as_nanos() >> BITS;
        while let Some(bucket) = self.far.first_entry().filter(|bucket| *bucket.key() <= number) {
            let notes = bucket.remove().notes;
            self.near.extend(notes.into_iter().filter(|(at, call)| is_due(*call, *at)));
        }
        if self.first <= number {
            self.first = number.saturating_add(1);
            self.near.sort_unstable_by_key(|(at, _)| core::cmp::Reverse(*at));
        }
        let mut expired = Vec::new();
        while let Some((at, call)) = self.near.pop_if(|(at, call)| *at <= now || !is_due(*call, *at)) {
            if at <= now && is_due(call, at) {
                expired.push(call);
            }
        }
        // The next time is to be that of a call that is still there: no alarm rings for those that have ended.
        while self.near.is_empty()
            && let Some(mut first) = self.far.first_entry()
        {
            let bucket = first.get_mut();
            bucket.notes.retain(|(at, call)| is_due(*call, *at));
            match bucket.notes.iter().map(|(at, _)| *at).min() {
                Some(at) => {
                    bucket.earliest = at;
                    break;
                }
                None => drop(first.remove()),
            }
        }
        expired
    }
}

#[cfg(test)]
mod tests {
    use core::cell::Cell;
    use core::time::Duration;

    use super::*;
    use crate::arena::Id;

    fn at(micros: u64) -> Instant {
        Instant::default().after(Duration::from_micros(micros))
    }

    #[test]
    fn deadlines_come_in_their_order_and_to_the_nanosecond() {
        let mut deadlines = Deadlines::default();
        let mut random = fastrand::Rng::with_seed(1);
        let mut times: Vec<u64> = (0..2000).map(|_| random.u64(0..1_000_000)).collect();
        for (number, time) in times.iter().enumerate() {
            deadlines.push(at(*time), Id::new(number as u32, 0));
        }
        let order = times.clone();
        times.sort_unstable();
        let mut seen = 0;
        while let Some(due) = deadlines.due() {
            assert_eq!(due, at(times[seen]));
            let expired = deadlines.expire(due, |_, _| true);
            assert!(!expired.is_empty());
            for _ in &expired {
                assert_eq!(at(times[seen]), due);
                seen += 1;
            }
            // Some come late, and for soon.
            if seen % 100 == 0 {
                deadlines.push(due, Id::new(0, 0));
                assert_eq!(deadlines.expire(due, |_, _| true).len(), 1);
            }
        }
        assert_eq!(seen, order.len());
    }

    #[test]
    fn what_has_ended_is_looked_at_twice_at_most_and_wakes_nobody() {
        let mut deadlines = Deadlines::default();
        let looks = Cell::new(0);
        let is_alive = |call: CallId, _| {
            looks.set(looks.get() + 1);
            call == Id::new(9999, 0)
        };
        // 5000 calls a second with three seconds each, of which one does not end.
        for number in 0..10_000_u32 {
            let now = at(u64::from(number) * 200);
            deadlines.push(now.after(Duration::from_secs(3)), Id::new(number, 0));
            if deadlines.due().is_some_and(|due| due <= now) {
                assert_eq!(deadlines.expire(now, is_alive), []);
            }
        }
        assert_eq!(deadlines.expire(at(3_000_000), is_alive), []);
        assert_eq!(deadlines.due(), Some(at(9999 * 200 + 3_000_000)));
        assert_eq!(deadlines.expire(at(5_000_000), is_alive), [Id::new(9999, 0)]);
        assert_eq!(deadlines.due(), None);
        assert!(looks.get() <= 20_100, "{} looks", looks.get());
    }
}
