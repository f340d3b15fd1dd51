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
        if length > self.kept.capacity() {
            let room = self.need.min(length.saturating_mul(4)).max(length);
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
