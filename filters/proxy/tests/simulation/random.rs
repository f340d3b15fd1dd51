//! Random choices of a run, all from its seed.

use std::ops::Range;

/// A generator with the choices that a simulation makes.
pub struct Random(fastrand::Rng);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(fastrand::Rng::with_seed(seed))
    }

    pub fn number(&mut self) -> u64 {
        self.0.u64(..)
    }

    /// One of `0..end`; 0 if that is empty.
    pub fn below(&mut self, end: usize) -> usize {
        if end == 0 { 0 } else { self.0.usize(..end) }
    }

    pub fn between(&mut self, range: Range<u64>) -> u64 {
        if range.is_empty() { range.start } else { self.0.u64(range) }
    }

    /// Whether something happens that does so in `share` of all cases.
    pub fn chance(&mut self, share: f64) -> bool {
        self.0.f64() < share
    }

    /// A size of `1..=most`, small ones as likely as large ones.
    pub fn size(&mut self, most: usize) -> usize {
        let bits = usize::BITS - most.max(1).leading_zeros();
        let span = 1 << self.0.u32(1..=bits);
        1 + self.below(span.min(most.max(1)))
    }

    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }

    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        self.0.shuffle(items);
    }
}
