/// Byte buffers for the frames of calls, reused so that a request allocates nothing in the steady state.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    spare: Vec<Vec<u8>>,
}

/// More spare buffers than this are given back to the allocator.
const MOST_SPARE: usize = 1024;

/// A buffer of this size suits any frame.
const SMALL: usize = 256;

/// A buffer that grew beyond this is not kept: one large frame must not hold memory for ever.
const MOST_CAPACITY: usize = 16 * 1024;

impl Buffers {
    /// A buffer that holds a copy of `bytes`.
    pub(crate) fn copy(&mut self, bytes: &[u8]) -> Vec<u8> {
        // A short frame may be kept for long: it takes no large buffer.
        let most = bytes.len().saturating_mul(2).max(SMALL);
        let mut buffer = self.spare.pop_if(|spare| spare.capacity() <= most).unwrap_or_default();
        buffer.extend_from_slice(bytes);
        buffer
    }

    /// Takes a buffer back.
    pub(crate) fn give(&mut self, mut buffer: Vec<u8>) {
        if self.spare.len() < MOST_SPARE && buffer.capacity() <= MOST_CAPACITY && buffer.capacity() > 0 {
            buffer.clear();
            self.spare.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_frame_takes_no_large_buffer() {
        let mut buffers = Buffers::default();
        let large = buffers.copy(&[0; MOST_CAPACITY]);
        buffers.give(large);
        let short = buffers.copy(b"short");
        assert!(short.capacity() <= SMALL);
        buffers.give(short);
        assert_eq!(buffers.copy(b"other").capacity(), b"short".len().max(8));
        assert!(buffers.copy(&[0; MOST_CAPACITY]).capacity() <= 2 * MOST_CAPACITY);
    }
}
