/// Received bytes of a frame that is not complete, or that waits to be read.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    kept: Vec<u8>,
    /// Length at which another look at the bytes is of use.
    need: usize,
}

/// An emptied inbox that grew beyond this gives its memory back.
const MOST_CAPACITY: usize = 256 * 1024;

impl Inbox {
    pub(crate) fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.kept.len()
    }

    /// At most the first `most` bytes.
    pub(crate) fn front(&self, most: usize) -> &[u8] {
        self.kept.get(..most).unwrap_or(&self.kept)
    }

    /// Keeps `bytes` behind what is there.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.reserve(bytes.len());
        self.kept.extend_from_slice(bytes);
    }

    /// Keeps what a read of fresh bytes left over. A next look is of use at `need` bytes.
    pub(crate) fn keep(&mut self, rest: &[u8], need: usize) {
        self.need = need;
        self.reserve(rest.len());
        self.kept.extend_from_slice(rest);
    }

    /// Makes room for a large frame in few steps. What its header claims is believed only as far as what has come:
    /// a claim alone takes no memory.
    fn reserve(&mut self, more: usize) {
        let length = self.kept.len().saturating_add(more);
        if length > self.kept.capacity() && length < self.need {
            let room = self.need.min(length.saturating_mul(4));
            self.kept.reserve_exact(room.saturating_sub(self.kept.len()));
        }
    }

    /// Takes everything out to be read, if that is of use.
    pub(crate) fn take(&mut self) -> Option<Vec<u8>> {
        (!self.kept.is_empty() && self.kept.len() >= self.need).then(|| core::mem::take(&mut self.kept))
    }

    /// Puts back what was taken, less the `used` bytes at its front.
    pub(crate) fn restore(&mut self, mut taken: Vec<u8>, used: usize, need: usize) {
        taken.drain(..used.min(taken.len()));
        if !taken.is_empty() || taken.capacity() <= MOST_CAPACITY {
            self.kept = taken;
        }
        self.need = need;
    }
}

/// How far a read of frames came.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Progress {
    /// Bytes read.
    pub(crate) used: usize,
    /// Bytes that what is left must reach before it is worth another look; 0 = any time.
    pub(crate) need: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_in_pieces_is_looked_at_once_it_is_there() {
        let mut inbox = Inbox::default();
        inbox.keep(b"fra", 5);
        assert_eq!(inbox.take(), None);
        inbox.push(b"m");
        assert_eq!(inbox.take(), None);
        inbox.push(b"es");
        let taken = inbox.take().unwrap();
        assert_eq!(taken, b"frames");
        inbox.restore(taken, 5, 9);
        assert_eq!((inbox.len(), inbox.front(10)), (1, &b"s"[..]));
        assert_eq!(inbox.take(), None);
        inbox.push(b"12345678");
        assert_eq!(inbox.take().unwrap(), b"s12345678");
    }

    #[test]
    fn what_waits_to_be_read_needs_no_more_bytes() {
        let mut inbox = Inbox::default();
        inbox.keep(b"waits", 0);
        let taken = inbox.take().unwrap();
        inbox.restore(taken, 0, 0);
        assert_eq!(inbox.take().unwrap(), b"waits");
        assert_eq!(inbox.take(), None);
    }

    #[test]
    fn a_large_frame_takes_few_steps_and_a_claim_alone_no_memory() {
        let mut inbox = Inbox::default();
        inbox.keep(&[0; 16], 16 << 20);
        assert!(inbox.kept.capacity() <= 64);
        let mut steps = 0;
        while inbox.len() < 16 << 20 {
            let before = inbox.kept.capacity();
            inbox.push(&[0; 16_384]);
            steps += usize::from(inbox.kept.capacity() != before);
            assert!(inbox.kept.capacity() <= (inbox.len() * 4).max(1 << 16));
        }
        assert!(steps <= 8, "{steps} steps");
    }

    #[test]
    fn what_waits_grows_in_few_steps_too() {
        let mut inbox = Inbox::default();
        inbox.keep(&[0; 16], 0);
        let mut steps = 0;
        while inbox.len() < 1 << 20 {
            let before = inbox.kept.capacity();
            inbox.push(&[0; 1000]);
            steps += usize::from(inbox.kept.capacity() != before);
        }
        assert!(steps <= 20, "{steps} steps");
    }

    #[test]
    fn memory_of_a_large_frame_is_given_back() {
        let mut inbox = Inbox::default();
        inbox.keep(&[0; MOST_CAPACITY + 1], 0);
        let taken = inbox.take().unwrap();
        inbox.restore(taken, MOST_CAPACITY + 1, 0);
        assert_eq!(inbox.kept.capacity(), 0);
        inbox.keep(b"small", 0);
        let taken = inbox.take().unwrap();
        inbox.restore(taken, 5, 0);
        assert!(inbox.is_empty() && inbox.kept.capacity() > 0);
    }
}
