/// Received bytes of a frame that is not complete, or that waits to be read.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    kept: Vec<u8>,
    /// Bytes at the front of `kept` that were read already.
    read: usize,
    /// Length at which another look at the bytes is of use.
    need: usize,
}

/// An emptied inbox that grew beyond this gives its memory back.
const MOST_CAPACITY: usize = 1024;

/// Bytes taken out of an [`Inbox`] to be read.
#[derive(Debug)]
pub(crate) struct Taken {
    bytes: Vec<u8>,
    read: usize,
}

impl Taken {
    /// What is to be read.
    pub(crate) fn unread(&self) -> &[u8] {
        self.bytes.get(self.read..).unwrap_or_default()
    }
}

impl Inbox {
    pub(crate) fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.kept.len().saturating_sub(self.read)
    }

    /// The memory that it takes while it holds something.
    pub(crate) fn memory(&self) -> usize {
        if self.is_empty() { 0 } else { self.kept.capacity() }
    }

    /// At most the first `most` bytes.
    pub(crate) fn front(&self, most: usize) -> &[u8] {
        let unread = self.kept.get(self.read..).unwrap_or_default();
        unread.get(..most).unwrap_or(unread)
    }

    /// Keeps `bytes` behind what is there.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.reserve(bytes.len());
        self.kept.extend_from_slice(bytes);
    }

    /// Keeps what a read of fresh bytes left over. A next look is of use at `need` bytes.
    pub(crate) fn keep(&mut self, rest: &[u8], need: usize) {
        self.need = need;
        // Mostly nothing.
        if !rest.is_empty() {
            self.push(rest);
        }
    }

    /// Makes room for a large frame in few steps. What its header claims is believed only as far as what has come:
    /// a claim alone takes no memory.
    fn reserve(&mut self, more: usize) {
        let length = self.len().saturating_add(more);
        let room = self.need.min(length.saturating_mul(4)).saturating_add(self.read);
        if length.saturating_add(self.read) > self.kept.capacity() && length < self.need {
            self.kept.reserve_exact(room.saturating_sub(self.kept.len()));
        }
    }

    /// Takes everything out to be read, if that is of use.
    pub(crate) fn take(&mut self) -> Option<Taken> {
        (!self.is_empty() && self.len() >= self.need)
            .then(|| Taken { bytes: core::mem::take(&mut self.kept), read: core::mem::take(&mut self.read) })
    }

    /// Puts back what was taken, of which `used` bytes more were read.
    pub(crate) fn restore(&mut self, taken: Taken, used: usize, need: usize) {
        let Taken { mut bytes, read } = taken;
        let mut read = read.saturating_add(used).min(bytes.len());
        if read >= bytes.len() >> 1 {
            // No more is moved than was read since the last time: each byte once on average, however short the requests.
            bytes.drain(..read);
            read = 0;
        }
        if !bytes.is_empty() || bytes.capacity() <= MOST_CAPACITY {
            self.kept = bytes;
            self.read = read;
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
        assert!(inbox.take().is_none());
        inbox.push(b"m");
        assert!(inbox.take().is_none());
        inbox.push(b"es");
        let taken = inbox.take().unwrap();
        assert_eq!(taken.unread(), b"frames");
        inbox.restore(taken, 5, 9);
        assert_eq!((inbox.len(), inbox.front(10)), (1, &b"s"[..]));
        assert!(inbox.take().is_none());
        inbox.push(b"12345678");
        assert_eq!(inbox.take().unwrap().unread(), b"s12345678");
    }

    #[test]
    fn what_waits_to_be_read_needs_no_more_bytes() {
        let mut inbox = Inbox::default();
        inbox.keep(b"waits", 0);
        let taken = inbox.take().unwrap();
        inbox.restore(taken, 0, 0);
        assert_eq!(inbox.take().unwrap().unread(), b"waits");
        assert!(inbox.take().is_none());
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

    #[test]
    fn short_requests_of_a_long_backlog_are_read_without_moving_the_rest_each_time() {
        let mut inbox = Inbox::default();
        let backlog: Vec<u8> = (0..1_u32 << 18).flat_map(u32::to_be_bytes).collect();
        inbox.push(&backlog);
        let (mut moved, mut seen) = (0, Vec::new());
        while let Some(taken) = inbox.take() {
            let bytes = taken.bytes.len();
            seen.extend_from_slice(&taken.unread()[..64]);
            inbox.restore(taken, 64, 0);
            if inbox.kept.len() != bytes {
                moved += inbox.kept.len();
            }
        }
        assert!(moved <= backlog.len(), "{moved} bytes were moved");
        assert_eq!(seen, backlog);
    }
}
