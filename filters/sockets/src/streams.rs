use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// From stream ids of one connection to indices in the slab.
pub(crate) type Streams = HashMap<u32, u32, BuildHasherDefault<IdHasher>>;

/// Spreads stream ids, which are odd and grow, over the table; far cheaper than a hash for arbitrary keys.
#[derive(Default)]
pub(crate) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u32(u32::from(byte));
        }
    }

    fn write_u32(&mut self, id: u32) {
        // Fibonacci hashing; the table takes its bucket from the low bits and its tag from the high ones.
        let product = (self.0 ^ u64::from(id)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = product ^ (product >> 32);
    }
}
