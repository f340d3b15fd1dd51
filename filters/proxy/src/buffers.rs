/// Byte buffers for the frames of calls, reused so that a request allocates nothing in the steady state.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    spare: Vec<Vec<u8>>,
}

/// More spare buffers than this are given back to the allocator.
const MOST_SPARE: usize = 1024;

/// A buffer that grew beyond this is not kept: one large frame must not hold memory for ever.
const MOST_CAPACITY: usize = 16 * 1024;

impl Buffers {
    /// A buffer that holds a copy of `bytes`.
    pub(crate) fn copy(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut buffer = self.spare.pop().unwrap_or_default();
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
