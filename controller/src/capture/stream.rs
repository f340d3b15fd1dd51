use std::collections::VecDeque;

use super::Counts;

/// The most bytes that wait for a segment that is missing.
const MOST_WAITING: usize = 1 << 20;
/// The most segments that do.
const MOST_SEGMENTS: usize = 4096;

/// What one side of a connection sends: segments put in order.
#[derive(Debug, Default)]
pub struct Stream {
    /// The number of the byte that comes next.
    next: Option<u32>,
    /// Segments that came before one that they follow, in order.
    waiting: VecDeque<(u32, u64, Vec<u8>)>,
    waiting_bytes: usize,
    /// What has been seen.
    pub counts: Counts,
    /// The number that follows the last byte.
    end: Option<u32>,
}

/// What a stream goes on with.
pub enum Part<'a> {
    /// Bytes, and when they were sent.
    Bytes(u64, &'a [u8]),
    /// So many bytes were not captured.
    Gap(u64),
}

impl Stream {
    /// The first byte has the number that follows that of the SYN.
    pub fn open(&mut self, number: u32) {
        self.next = Some(number.wrapping_add(1));
    }

    /// The last byte has the number before that one.
    pub fn close(&mut self, number: u32) {
        self.end = Some(number);
    }

    /// Whether all has been handed on.
    pub fn has_ended(&self) -> bool {
        self.end.is_some() && self.end == self.next
    }

    /// Adds a segment that was sent at `time`.
    pub fn add(&mut self, time: u64, number: u32, payload: &[u8], mut take: impl FnMut(Part<'_>)) {
        let next = *self.next.get_or_insert(number);
        let ahead = ahead(number, next);
        if payload.is_empty() {
            return;
        }
        if ahead > 0 {
            self.counts.out_of_order += 1;
            let place = self.waiting.partition_point(|(other, ..)| self::ahead(*other, next) <= ahead);
            self.waiting.insert(place, (number, time, payload.to_vec()));
            self.waiting_bytes += payload.len();
            if self.waiting_bytes > MOST_WAITING || self.waiting.len() > MOST_SEGMENTS {
                self.skip(&mut take);
            }
            return;
        }
        self.deliver(time, number, payload, &mut take);
        self.deliver_waiting(&mut take);
    }

    /// The other side has everything before that number: what is missing was sent, but not captured.
    pub fn has_arrived(&mut self, number: u32, mut take: impl FnMut(Part<'_>)) {
        while let (Some(next), Some((first, ..))) = (self.next, self.waiting.front())
            && ahead(*first, next) < ahead(number, next)
        {
            self.skip(&mut take);
        }
    }

    /// Nothing more is captured.
    pub fn finish(&mut self, mut take: impl FnMut(Part<'_>)) {
        while !self.waiting.is_empty() {
            self.skip(&mut take);
        }
    }

    /// Gives up waiting for what is missing before the first segment that waits.
    fn skip(&mut self, take: &mut impl FnMut(Part<'_>)) {
        let (Some(next), Some((first, ..))) = (self.next, self.waiting.front()) else { return };
        let missing = first.wrapping_sub(next);
        self.next = Some(*first);
        self.counts.missing += u64::from(missing);
        take(Part::Gap(missing.into()));
        self.deliver_waiting(take);
    }

    fn deliver_waiting(&mut self, take: &mut impl FnMut(Part<'_>)) {
        while let (Some(next), Some((first, ..))) = (self.next, self.waiting.front())
            && ahead(*first, next) <= 0
            && let Some((number, time, payload)) = self.waiting.pop_front()
        {
            self.waiting_bytes -= payload.len();
            self.deliver(time, number, &payload, take);
        }
    }

    /// Hands on what of a segment, which does not start after what comes next, has not been handed on.
    fn deliver(&mut self, time: u64, number: u32, payload: &[u8], take: &mut impl FnMut(Part<'_>)) {
        let next = self.next.unwrap_or(number);
        let known = (next.wrapping_sub(number) as usize).min(payload.len());
        self.counts.retransmitted += known as u64;
        let new = payload.get(known..).unwrap_or_default();
        if !new.is_empty() {
            self.next = Some(next.wrapping_add(u32::try_from(new.len()).unwrap_or(0)));
            self.counts.bytes += new.len() as u64;
            take(Part::Bytes(time, new));
        }
    }
}

/// How far `number` is ahead of `next`, on the circle of the numbers.
fn ahead(number: u32, next: u32) -> i32 {
    number.wrapping_sub(next).cast_signed()
}
