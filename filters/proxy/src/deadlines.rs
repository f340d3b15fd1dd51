//! When calls, clients and connections need attention by time alone, in order: what needs none costs its deadline little more
//! than the note of it.
//!
//! Notes of the same few milliseconds lie together, unsorted, until their time comes. What has ended, or has another
//! deadline by then, is recognised by its id and is dropped.

use std::collections::BTreeMap;

use crate::calls::CallId;
use crate::client::ClientId;
use crate::clock::{Instant, earliest};
use crate::upstream::ConnectionId;

/// What has a deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Timed {
    Call(CallId),
    Client(ClientId),
    Connection(ConnectionId),
}

/// Deadlines, each of something that is there.
#[derive(Debug, Default)]
pub(crate) struct Deadlines {
    /// Those of this moment, the earliest last.
    near: Vec<(Instant, Timed)>,
    /// Those before this number of a bucket are near.
    first: u64,
    /// All others, by bucket.
    far: BTreeMap<u64, Bucket>,
    /// How many there are.
    len: usize,
}

#[derive(Debug)]
struct Bucket {
    earliest: Instant,
    notes: Vec<(Instant, Timed)>,
    /// Whether the earliest are last, and those of what has ended were dropped when they were put so.
    is_sorted: bool,
}

/// Bits of the nanoseconds of one bucket: some four milliseconds.
const BITS: u32 = 22;

/// Notes that are no matter.
const LEAST_TRIMMED: usize = 16 * 1024;

impl Deadlines {
    /// Notes a deadline. Earlier ones of the same thing are looked at all the same.
    pub(crate) fn push(&mut self, at: Instant, timed: Timed) {
        self.len = self.len.saturating_add(1);
        let number = at.as_nanos() >> BITS;
        if number < self.first {
            let place = self.near.partition_point(|(other, _)| *other > at);
            self.near.insert(place, (at, timed));
            return;
        }
        let bucket = self.far.entry(number);
        let bucket = bucket.or_insert_with(|| Bucket { earliest: at, notes: Vec::new(), is_sorted: false });
        bucket.is_sorted &= at <= bucket.earliest;
        bucket.earliest = bucket.earliest.min(at);
        bucket.notes.push((at, timed));
    }

    /// Whether few notes are of what has ended, where `count` things have not.
    pub(crate) fn is_trimmed(&self, count: usize) -> bool {
        self.len <= count.saturating_mul(2).saturating_add(LEAST_TRIMMED)
    }

    /// Drops the notes of what has ended: what a call costs is no more for the time that it might have taken.
    pub(crate) fn trim(&mut self, is_due: impl Fn(Timed, Instant) -> bool) {
        let trim = |notes: &mut Vec<(Instant, Timed)>| {
            notes.retain(|(at, timed)| is_due(*timed, *at));
            notes.shrink_to_fit();
            notes.len()
        };
        self.len = trim(&mut self.near);
        self.far.retain(|_, bucket| {
            let left = trim(&mut bucket.notes);
            self.len = self.len.saturating_add(left);
            left > 0
        });
    }

    /// The earliest deadline. That of what has ended may be returned, but no later one in its stead.
    pub(crate) fn due(&self) -> Option<Instant> {
        let near = self.near.last().map(|(at, _)| *at);
        earliest(near, self.far.first_key_value().map(|(_, bucket)| bucket.earliest))
    }

    /// Takes out what is due by `now`. `is_due` says whether that is still its deadline.
    pub(crate) fn expire(&mut self, now: Instant, is_due: impl Fn(Timed, Instant) -> bool) -> Vec<Timed> {
        let number = now.as_nanos() >> BITS;
        while let Some(bucket) = self.far.first_entry().filter(|bucket| *bucket.key() <= number) {
            let mut notes = bucket.remove().notes;
            self.len = self.len.saturating_sub(notes.len());
            notes.retain(|(at, timed)| is_due(*timed, *at));
            self.len = self.len.saturating_add(notes.len());
            self.near.append(&mut notes);
        }
        if self.first <= number {
            self.first = number.saturating_add(1);
            sort_descending(&mut self.near);
        }
        let mut expired = Vec::new();
        while let Some((at, timed)) = self.near.pop_if(|(at, timed)| *at <= now || !is_due(*timed, *at)) {
            self.len = self.len.saturating_sub(1);
            if at <= now && is_due(timed, at) {
                expired.push(timed);
            }
        }
        // The next time is to be that of something that is still there: no alarm rings for what has ended.
        while self.near.is_empty()
            && let Some(mut first) = self.far.first_entry()
        {
            let Bucket { earliest, notes, is_sorted } = first.get_mut();
            let before = notes.len();
            if !*is_sorted {
                notes.retain(|(at, timed)| is_due(*timed, *at));
                sort_descending(notes);
                *is_sorted = true;
            }
            while notes.pop_if(|(at, timed)| !is_due(*timed, *at)).is_some() {}
            self.len = self.len.saturating_sub(before.saturating_sub(notes.len()));
            match notes.last() {
                Some((at, _)) => {
                    *earliest = *at;
                    break;
                }
                None => drop(first.remove()),
            }
        }
        expired
    }
}

/// Puts the least last. All keys of one number and values of one size have one code in the module: sorting is long.
#[inline(never)]
pub(crate) fn sort_descending<K: Ord + Copy, V>(pairs: &mut [(K, V)]) {
    pairs.sort_unstable_by_key(|(key, _)| core::cmp::Reverse(*key));
}

#[cfg(test)]
mod tests {
    use core::cell::Cell;
    use core::time::Duration;
    use std::collections::HashSet;

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
            deadlines.push(at(*time), Timed::Call(Id::new(number as u32, 0)));
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
                deadlines.push(due, Timed::Call(Id::new(0, 0)));
                assert_eq!(deadlines.expire(due, |_, _| true).len(), 1);
            }
        }
        assert_eq!(seen, order.len());
    }

    #[test]
    fn of_thousands_only_those_are_looked_at_that_are_due() {
        let mut deadlines = Deadlines::default();
        let looks = Cell::new(0);
        let is_due = |_, _| {
            looks.set(looks.get() + 1);
            true
        };
        // Clients that came together and are idle together, and calls that take too long, one after the other.
        for client in 0..4000 {
            deadlines.push(at(20_000_000 + u64::from(client % 7)), Timed::Client(Id::new(client, 0)));
        }
        for call in 0..1000 {
            deadlines.push(at(u64::from(call) * 10_000), Timed::Call(Id::new(call, 0)));
        }
        for call in 0..1000 {
            let due = at(u64::from(call) * 10_000);
            assert_eq!(deadlines.due(), Some(due));
            assert_eq!(deadlines.expire(due, is_due), [Timed::Call(Id::new(call, 0))]);
        }
        assert!(looks.get() <= 4000 + 5 * 1000, "{} looks", looks.get());
        // One of them leaves at a time, the earliest first.
        let mut gone = HashSet::new();
        for call in 0..1000 {
            let due = at(10_000_000 + u64::from(call) * 5_000);
            deadlines.push(due, Timed::Call(Id::new(call, 0)));
            gone.insert(Id::new(call * 7 % 4000, 0));
            let expired = deadlines.expire(due, |timed, _| {
                looks.set(looks.get() + 1);
                !matches!(timed, Timed::Client(id) if gone.contains(&id))
            });
            assert_eq!(expired, [Timed::Call(Id::new(call, 0))]);
        }
        assert!(looks.get() <= 10_000 + 6 * 1000, "{} looks", looks.get());
    }

    #[test]
    fn long_deadlines_of_short_calls_take_no_memory() {
        let mut deadlines = Deadlines::default();
        let looks = Cell::new(0);
        // Some four milliseconds for a call, of an hour that it may take; the first of all takes longer.
        for number in 0..1_000_000_u32 {
            let now = at(u64::from(number) * 100);
            deadlines.push(now.after(Duration::from_secs(3600)), Timed::Call(Id::new(number, 0)));
            let is_due = |call, _| {
                looks.set(looks.get() + 1);
                call == Timed::Call(Id::new(0, 0))
                    || (number.saturating_sub(40)..=number).any(|n| call == Timed::Call(Id::new(n, 0)))
            };
            if !deadlines.is_trimmed(41) {
                deadlines.trim(is_due);
            }
            assert!(deadlines.len <= 2 * LEAST_TRIMMED);
        }
        let notes = deadlines.far.values().map(|bucket| bucket.notes.capacity()).sum::<usize>();
        assert!(notes <= 2 * LEAST_TRIMMED && deadlines.far.len() < 1000, "{notes} notes");
        assert!(looks.get() <= 1_100_000, "{} looks", looks.get());
        assert_eq!(deadlines.due(), Some(Instant::default().after(Duration::from_secs(3600))));
        let at_the_end = deadlines.expire(at(3_600_000_000), |call, _| call == Timed::Call(Id::new(0, 0)));
        assert_eq!((at_the_end, deadlines.len), (vec![Timed::Call(Id::new(0, 0))], 0));
    }

    #[test]
    fn what_has_ended_is_looked_at_twice_at_most_and_wakes_nobody() {
        let mut deadlines = Deadlines::default();
        let looks = Cell::new(0);
        let is_alive = |call: Timed, _| {
            looks.set(looks.get() + 1);
            call == Timed::Call(Id::new(9999, 0))
        };
        // 5000 calls a second with three seconds each, of which one does not end.
        for number in 0..10_000_u32 {
            let now = at(u64::from(number) * 200);
            deadlines.push(now.after(Duration::from_secs(3)), Timed::Call(Id::new(number, 0)));
            if deadlines.due().is_some_and(|due| due <= now) {
                assert_eq!(deadlines.expire(now, is_alive), []);
            }
        }
        assert_eq!(deadlines.expire(at(3_000_000), is_alive), []);
        assert_eq!(deadlines.due(), Some(at(9999 * 200 + 3_000_000)));
        assert_eq!(deadlines.expire(at(5_000_000), is_alive), [Timed::Call(Id::new(9999, 0))]);
        assert_eq!(deadlines.due(), None);
        assert!(looks.get() <= 20_100, "{} looks", looks.get());
    }
}
