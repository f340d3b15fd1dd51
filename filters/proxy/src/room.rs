//! How much may be on its way at once, all together: large messages that pass take the memory of what could not be sent yet.
//!
//! What one may have queued depends on what all others have: twice what is left of the room. So one alone has much of it,
//! many have little each, and however many stand still there is some left for who comes next.

use crate::net::HIGH_WATERMARK;
use crate::upstream::Connection;
use crate::worker::Worker;

/// What may wait to be read or sent, all together, before nobody may add to it but in small parts.
const ROOM: usize = 10 * 1024 * 1024;

/// What one may have queued however little room there is.
const LEAST: usize = 32 * 1024;

/// What one may have queued however much room there is.
const MOST: usize = 8 * HIGH_WATERMARK;

/// What waits when windows become narrow: before there is no room left, for what may be sent into the wide ones comes too.
const NARROW_FROM: usize = ROOM / 3;

/// What waits when they become wide again.
const WIDE_BELOW: usize = NARROW_FROM / 2;

/// Large messages on their way while which they do: Envoy holds what did not fit into the windows of each, and sends all of
/// that at once.
const FEW: usize = 4;

impl Worker {
    /// Memory of what has come and is not passed on, and of what was written and has not left.
    pub(crate) fn carried(&mut self) -> usize {
        self.unread.saturating_add(self.relays.unread()).saturating_add(self.net.counted())
    }

    /// Whether so much queued on one socket, beside all others, is more than that may have.
    #[inline]
    pub(crate) fn is_much(&mut self, queued: usize) -> bool {
        queued > LEAST && queued > self.part()
    }

    /// What one socket may have queued.
    fn part(&mut self) -> usize {
        ROOM.saturating_sub(self.carried()).saturating_mul(2).clamp(LEAST, MOST)
    }

    /// Has peers send no more at a time than there is room for.
    #[inline]
    pub(crate) fn fit_windows(&mut self, carried: usize) {
        self.is_narrow = match self.is_narrow {
            false => carried > NARROW_FROM,
            true => carried > WIDE_BELOW || self.passing() > FEW,
        };
        self.net.narrow(self.is_narrow);
    }

    /// How many messages are passed on while they come.
    fn passing(&self) -> usize {
        let passes = |open: &Connection| open.upload().is_some() || open.download().is_some();
        self.connections.iter().filter(|(_, connection)| passes(connection)).count()
    }
}
