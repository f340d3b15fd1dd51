//! Token buckets that the workers of a proxy share.

use core::cell::RefCell;
use std::rc::Rc;

use rustc_hash::FxHashMap;

use crate::clock::Instant;
use crate::plan::TokenBucket;

/// Where the workers of a proxy keep what their buckets hold. All read the same clock.
pub trait Ledger {
    /// Takes up to `wanted` tokens of a bucket, by [`Level::take`]. A bucket that is not known is full.
    fn take(&self, bucket: &TokenBucket, wanted: u32, now: Instant) -> Grant;
}

/// Tokens that were taken of a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant {
    /// How many; fewer than were wanted only when the bucket is empty.
    pub tokens: u32,
    /// When the bucket is filled next.
    pub until: Instant,
}

/// What a bucket holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Level {
    tokens: u32,
    fills_at: Instant,
}

impl Level {
    /// Bytes of a level.
    pub const SIZE: usize = 12;

    /// A bucket that is full.
    pub fn full(bucket: &TokenBucket, now: Instant) -> Self {
        Self { tokens: bucket.max_tokens, fills_at: now.after(bucket.fill_interval) }
    }

    /// Fills the bucket as `now` asks for, and takes up to `wanted` tokens.
    pub fn take(&mut self, bucket: &TokenBucket, wanted: u32, now: Instant) -> Grant {
        let late = now.as_nanos().checked_sub(self.fills_at.as_nanos());
        let interval = u64::try_from(bucket.fill_interval.as_nanos()).unwrap_or(u64::MAX);
        if let Some(late) = late
            && let Some(more) = late.checked_div(interval)
        {
            let fills = more.saturating_add(1);
            let added = fills.saturating_mul(u64::from(bucket.tokens_per_fill));
            let tokens = u64::from(self.tokens).saturating_add(added).min(u64::from(bucket.max_tokens));
            self.tokens = u32::try_from(tokens).unwrap_or(u32::MAX);
            let passed = fills.saturating_mul(interval);
            self.fills_at = Instant::from_nanos(self.fills_at.as_nanos().saturating_add(passed));
        }
        if self.tokens >= bucket.max_tokens {
            *self = Self::full(bucket, now);
        }
        let tokens = self.tokens.min(wanted);
        self.tokens = self.tokens.saturating_sub(tokens);
        Grant { tokens, until: self.fills_at }
    }

    /// As bytes that [`from_bytes`](Self::from_bytes) reads.
    pub fn to_bytes(self) -> [u8; Self::SIZE] {
        let mut bytes = [0; Self::SIZE];
        let parts = self.fills_at.as_nanos().to_le_bytes().into_iter().chain(self.tokens.to_le_bytes());
        bytes.iter_mut().zip(parts).for_each(|(byte, part)| *byte = part);
        bytes
    }

    /// The level in these bytes, if there is one.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (fills_at, tokens) = bytes.split_first_chunk()?;
        let tokens = u32::from_le_bytes(tokens.try_into().ok()?);
        Some(Self { tokens, fills_at: Instant::from_nanos(u64::from_le_bytes(*fills_at)) })
    }
}

/// The ledger of workers that run in one thread.
#[derive(Debug, Default)]
pub struct OwnLedger(RefCell<FxHashMap<Rc<str>, Box<Level>>>);

impl Ledger for OwnLedger {
    fn take(&self, bucket: &TokenBucket, wanted: u32, now: Instant) -> Grant {
        let mut levels = self.0.borrow_mut();
        let level = levels.entry(bucket.name.clone()).or_insert_with(|| Box::new(Level::full(bucket, now)));
        level.take(bucket, wanted, now)
    }
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::default().after(Duration::from_millis(millis))
    }

    fn bucket(max_tokens: u32, tokens_per_fill: u32) -> TokenBucket {
        let fill_interval = Duration::from_millis(100);
        TokenBucket { name: "".into(), max_tokens, tokens_per_fill, fill_interval, refusal: "".into() }
    }

    #[test]
    fn a_bucket_holds_so_many_and_is_filled_by_so_many() {
        let bucket = bucket(5, 2);
        let mut level = Level::full(&bucket, at(0));
        let mut take = |wanted, millis| {
            let grant = level.take(&bucket, wanted, at(millis));
            (grant.tokens, grant.until)
        };
        assert_eq!(take(1, 1000), (1, at(1100)), "it was full until then");
        assert_eq!(take(9, 1099), (4, at(1100)));
        assert_eq!(take(9, 1100), (2, at(1200)));
        assert_eq!(take(9, 1199), (0, at(1200)));
        assert_eq!(take(9, 1450), (5, at(1550)), "three fills, and no more than it holds");
        assert_eq!(take(1, 1751), (1, at(1851)), "full once more: the interval begins anew");
    }

    #[test]
    fn a_level_comes_back_from_its_bytes() {
        let mut level = Level::full(&bucket(7, 1), at(9));
        level.take(&bucket(7, 1), 3, at(9));
        assert_eq!(Level::from_bytes(&level.to_bytes()), Some(level));
        for len in (0..30).filter(|len| *len != Level::SIZE) {
            assert_eq!(Level::from_bytes(&vec![1; len]), None, "{len}");
        }
    }

    #[test]
    fn no_time_and_no_size_breaks_it() {
        let times = [0, 1, u64::MAX - 1, u64::MAX].map(Instant::from_nanos);
        for (max, fill) in [(1, 1), (1, u32::MAX), (u32::MAX, 1), (u32::MAX, u32::MAX)] {
            let bucket = bucket(max, fill);
            for start in times {
                let mut level = Level::full(&bucket, start);
                for now in times {
                    assert!(level.take(&bucket, u32::MAX, now).tokens <= max);
                }
            }
        }
    }
}
