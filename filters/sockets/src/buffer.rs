use crate::Side;

/// Bytes to be sent: appended at the end by the owner of the socket, taken from the front by `transmit`.
#[derive(Debug, Default)]
pub(crate) struct SendBuffer {
    bytes: Vec<u8>,
    sent: usize,
    account: Account,
    /// What the account has of its memory.
    counted: usize,
}

/// Which sum the memory of a buffer is part of, while it has something to send.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Account {
    #[default]
    None,
    /// That of the sockets that the caller wants counted.
    Counted,
    /// That of the sockets that the caller wants counted apart from those.
    Apart,
    /// That of the sockets of a side that were closed.
    Closed(Side),
}

/// Buffers of sockets that have nothing to send, so that idle sockets hold none; and the memory of those that have.
#[derive(Debug, Default)]
pub(crate) struct Spares {
    buffers: Vec<Vec<u8>>,
    /// Their memory.
    kept: usize,
    pub(crate) counted: usize,
    pub(crate) apart: usize,
    closed: [usize; 2],
}

impl Spares {
    /// The memory of the closed sockets of a side.
    pub(crate) fn closed(&self, side: Side) -> usize {
        let [downstream, upstream] = self.closed;
        if side == Side::Downstream { downstream } else { upstream }
    }

    fn change(&mut self, account: Account, from: usize, to: usize) {
        let sum = match account {
            Account::None => return,
            Account::Counted => &mut self.counted,
            Account::Apart => &mut self.apart,
            Account::Closed(side) => {
                let [downstream, upstream] = &mut self.closed;
                if side == Side::Downstream { downstream } else { upstream }
            }
        };
        *sum = sum.saturating_sub(from).saturating_add(to);
    }
}

/// Memory of the spare buffers that are kept, and the capacity up to which one is worth keeping.
const MAX_KEPT: usize = 4 << 20;
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

    /// The memory that it takes while it has something to send.
    pub(crate) fn memory(&self) -> usize {
        if self.is_empty() { 0 } else { self.bytes.capacity() }
    }

    /// Updates its account to what it takes by now. To be called after bytes were appended.
    pub(crate) fn settle(&mut self, spares: &mut Spares) {
        let memory = self.memory();
        spares.change(self.account, self.counted, memory);
        self.counted = memory;
    }

    /// Frees the memory of what was sent, where that is much: no more is appended.
    pub(crate) fn trim(&mut self) {
        if self.bytes.capacity() > MAX_SPARE_CAPACITY {
            self.bytes.drain(..self.sent.min(self.bytes.len()));
            self.sent = 0;
            self.bytes.shrink_to_fit();
        }
    }

    /// Counts it in another sum.
    pub(crate) fn move_to(&mut self, account: Account, spares: &mut Spares) {
        spares.change(self.account, self.counted, 0);
        self.account = account;
        self.counted = 0;
        self.settle(spares);
    }

    /// The buffer to append to, with room from `spares` if it has none.
    pub(crate) fn tail(&mut self, spares: &mut Spares) -> &mut Vec<u8> {
        if self.bytes.capacity() == 0
            && let Some(buffer) = spares.buffers.pop()
        {
            spares.kept = spares.kept.saturating_sub(buffer.capacity());
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
    #[inline]
    pub(crate) fn clear(&mut self, spares: &mut Spares) {
        self.sent = 0;
        let mut buffer = std::mem::take(&mut self.bytes);
        spares.change(self.account, self.counted, 0);
        self.counted = 0;
        let capacity = buffer.capacity();
        let kept = spares.kept.saturating_add(capacity);
        if capacity > 0 && capacity <= MAX_SPARE_CAPACITY && kept <= MAX_KEPT {
            buffer.clear();
            spares.kept = kept;
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

    #[test]
    fn spares_are_as_many_as_their_memory_allows() {
        for (size, most) in [(1 << 10, 4096), (64 << 10, 64)] {
            let mut spares = Spares::default();
            let mut buffers: Vec<_> = (0..5000).map(|_| SendBuffer::default()).collect();
            for _ in 0..2 {
                for buffer in &mut buffers {
                    buffer.tail(&mut spares).reserve_exact(size);
                    buffer.tail(&mut spares).resize(size, 0);
                }
                assert_eq!((spares.buffers.len(), spares.kept), (0, 0));
                buffers.iter_mut().for_each(|buffer| buffer.advance(size, &mut spares));
                assert_eq!((spares.buffers.len(), spares.kept), (most, MAX_KEPT));
            }
        }
    }

    #[test]
    fn what_was_sent_takes_no_memory_once_trimmed() {
        let mut spares = Spares::default();
        let mut buffer = SendBuffer::default();
        buffer.tail(&mut spares).extend((0..4_000_000_u32).map(|at| at as u8));
        buffer.advance(3_900_000, &mut spares);
        assert!(buffer.memory() >= 4_000_000);
        buffer.trim();
        assert_eq!((buffer.len(), buffer.memory()), (100_000, 100_000));
        assert_eq!(buffer.front(2), &[3_900_000_u32 as u8, 3_900_001_u32 as u8]);
    }

    #[test]
    fn memory_is_counted_where_it_belongs_until_all_is_sent() {
        let mut spares = Spares::default();
        let mut buffer = SendBuffer::default();
        buffer.tail(&mut spares).extend_from_slice(&[0; 100_000]);
        buffer.settle(&mut spares);
        assert_eq!((spares.counted, spares.closed(Side::Downstream)), (0, 0));
        buffer.move_to(Account::Counted, &mut spares);
        assert!(spares.counted >= 100_000);
        buffer.advance(99_999, &mut spares);
        buffer.tail(&mut spares).extend_from_slice(&[0; 100_000]);
        buffer.settle(&mut spares);
        assert_eq!((spares.counted, spares.closed(Side::Downstream)), (buffer.memory(), 0));
        buffer.move_to(Account::Apart, &mut spares);
        assert_eq!((spares.counted, spares.apart), (0, buffer.memory()));
        buffer.move_to(Account::Closed(Side::Downstream), &mut spares);
        assert_eq!((spares.apart, spares.closed(Side::Downstream)), (0, buffer.memory()));
        assert_eq!(spares.closed(Side::Upstream), 0);
        buffer.advance(100_001, &mut spares);
        assert_eq!((spares.counted, spares.closed(Side::Downstream)), (0, 0));
    }
}
