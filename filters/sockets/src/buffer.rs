/// Bytes to be sent: appended at the end by the owner of the socket, taken from the front by `transmit`.
#[derive(Debug, Default)]
pub(crate) struct SendBuffer {
    bytes: Vec<u8>,
    sent: usize,
}

/// Buffers of sockets that have nothing to send, so that idle sockets hold none.
#[derive(Debug, Default)]
pub(crate) struct Spares {
    buffers: Vec<Vec<u8>>,
}

/// Spare buffers that are kept, and the capacity up to which one is worth keeping.
const MAX_SPARES: usize = 64;
const MAX_SPARE_CAPACITY: usize = 64 << 10;

/// Sent bytes at the front of a buffer from which on they are worth moving the rest.
const COMPACT_FROM: usize = 64 << 10;

impl SendBuffer {
    pub(crate) fn len(&self) -> usize {
        self.bytes.len().saturating_sub(self.sent)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The buffer to append to, with room from `spares` if it has none.
    pub(crate) fn tail(&mut self, spares: &mut Spares) -> &mut Vec<u8> {
        if self.bytes.capacity() == 0
            && let Some(buffer) = spares.buffers.pop()
        {
            self.bytes = buffer;
        }
        if self.sent >= COMPACT_FROM && self.sent >= self.bytes.len() >> 1 {
            // At least as much was sent as is moved, so each byte is moved once at most on average; and only when more
            // comes, so that what leaves in one go is not moved at all.
            self.bytes.drain(..self.sent);
            self.sent = 0;
        }
        &mut self.bytes
    }

    /// The first `count` unsent bytes.
    pub(crate) fn front(&self, count: usize) -> &[u8] {
        self.bytes.get(self.sent..self.sent.saturating_add(count)).unwrap_or_default()
    }

    /// Marks the first `count` unsent bytes as sent.
    pub(crate) fn advance(&mut self, count: usize, spares: &mut Spares) {
        self.sent = self.sent.saturating_add(count);
        if self.sent >= self.bytes.len() {
            self.clear(spares);
        }
    }

    /// Drops everything.
    pub(crate) fn clear(&mut self, spares: &mut Spares) {
        self.sent = 0;
        let mut buffer = std::mem::take(&mut self.bytes);
        let capacity = buffer.capacity();
        if capacity > 0 && capacity <= MAX_SPARE_CAPACITY && spares.buffers.len() < MAX_SPARES {
            buffer.clear();
            spares.buffers.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_bytes_in_order_over_partial_sends() {
        let mut spares = Spares::default();
        let mut buffer = SendBuffer::default();
        let all: Vec<u8> = (0..400_000_u32).map(|i| (i % 251) as u8).collect();
        let mut sent = Vec::new();
        for part in all.chunks(100_000) {
            buffer.tail(&mut spares).extend_from_slice(part);
            for step in [1, 16_384, 50_000] {
                sent.extend_from_slice(buffer.front(step));
                buffer.advance(step, &mut spares);
            }
        }
        assert_eq!(buffer.len(), all.len() - sent.len());
        let rest = buffer.len();
        sent.extend_from_slice(buffer.front(rest));
        buffer.advance(rest, &mut spares);
        assert!(buffer.is_empty());
        assert_eq!(sent, all);
    }

    #[test]
    fn gives_small_buffers_back_and_drops_large_ones() {
        let mut spares = Spares::default();
        let mut buffer = SendBuffer::default();
        buffer.tail(&mut spares).extend_from_slice(&[0; 100]);
        buffer.advance(100, &mut spares);
        assert_eq!((buffer.bytes.capacity(), spares.buffers.len()), (0, 1));
        buffer.tail(&mut spares).extend_from_slice(&vec![0; 8 << 20]);
        assert_eq!(spares.buffers.len(), 0);
        buffer.advance(8 << 20, &mut spares);
        assert_eq!((buffer.bytes.capacity(), spares.buffers.len()), (0, 0));
    }
}
