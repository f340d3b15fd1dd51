//! Entries for fuzzers: each takes bytes from anywhere and panics if a promise of this crate is broken.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a panic is how a fuzzer learns of a mistake; none of this runs on the data path"
)]

mod compression;
mod pair;
mod wire;

pub use compression::fuzz_compression;
pub use pair::fuzz_pair;
pub use wire::{fuzz_cuts, fuzz_sockets};

/// Choices, read off the fuzzer's bytes.
struct Choices<'a>(&'a [u8]);

impl<'a> Choices<'a> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn byte(&mut self) -> u8 {
        let (&first, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        first
    }

    /// A number below `limit`.
    fn below(&mut self, limit: usize) -> usize {
        usize::from(self.byte()) % limit.max(1)
    }

    fn bytes(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes that a fuzzer might try, the same in every run.
    fn each_input(runs: u64, mut entry: impl FnMut(&[u8])) {
        for seed in 0..runs {
            let mut state = (seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let length = 50 + (state >> 40) % 1500;
            let input: Vec<u8> = (0..length)
                .map(|_| {
                    state ^= state << 13;
                    state ^= state >> 7;
                    state ^= state << 17;
                    (state >> 32) as u8
                })
                .collect();
            entry(&input);
        }
    }

    #[test]
    fn two_of_our_own_understand_each_other() {
        each_input(400, fuzz_pair);
    }

    #[test]
    fn nothing_that_is_sent_or_called_breaks_a_promise() {
        each_input(1000, fuzz_sockets);
        each_input(300, fuzz_cuts);
    }

    #[test]
    fn compression_comes_round() {
        each_input(1000, fuzz_compression);
    }
}
