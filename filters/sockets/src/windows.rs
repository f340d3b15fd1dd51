//! The windows in which the peers may send.

use std::mem;

use crate::frame;
use crate::frame::MAX_31;
use crate::peer::Peer;

impl Peer<'_> {
    /// Window for so many bytes that need no memory any more is granted again, in steps of half a window.
    pub(crate) fn grant(&mut self, index: u32, count: u32) {
        let step = (self.link.stream_window >> 1).max(1);
        let Some(socket) = self.slab.at_mut(index) else { return };
        socket.credit = socket.credit.saturating_add(count);
        if socket.credit >= step && !socket.remote_ended && !socket.released {
            let credit = mem::take(&mut socket.credit);
            socket.receive_window = socket.receive_window.saturating_add(i64::from(credit));
            frame::put_window_update(&mut self.link.control, socket.stream, credit);
        }
    }

    /// Another receive window for all streams, RFC 9113 section 6.9.2. What a stream has sent beyond a narrower one has to
    /// be granted before it sends more.
    pub(crate) fn set_window(&mut self, window: u32) {
        let Some(gain) = self.link.announce_window(window.clamp(1, MAX_31)) else { return };
        if gain > 0 {
            let gain = i64::from(gain);
            return self.each_stream(|socket| {
                socket.receive_window = socket.receive_window.saturating_add(gain);
            });
        }
        // Half of the window is less than it was: what was not granted may be due.
        for index in self.slab.indices() {
            if self.socket(index).is_some_and(|socket| socket.stream != 0 && socket.credit > 0) {
                self.grant(index, 0);
            }
        }
    }
}
