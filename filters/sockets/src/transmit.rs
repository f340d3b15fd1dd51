//! What leaves, and in which order.

use crate::drain::Drain;
use crate::frame::{self, HEAD, Head, MAX_31, flag, kind};
use crate::notice::Notice;
use crate::peer::Peer;
use crate::socket::LocalEnd;
use crate::{Code, Event, Side};

/// Bytes of queued DATA that leave at a time, but for the last frame: what holds them all needs memory beside theirs.
const MOST_DATA: usize = 2 << 20;

/// Capacity that the buffer for frames other than DATA keeps.
const KEPT_CONTROL: usize = 16 << 10;

impl Peer<'_> {
    /// Appends what may be sent now. Whether that is not all.
    pub(crate) fn flush(&mut self, out: &mut Vec<u8>) -> bool {
        if self.side == Side::Upstream {
            self.open_waiting();
        }
        if self.drains() && *self.drain == Drain::Due {
            frame::put_goaway(&mut self.link.control, MAX_31, Code::NoError);
            *self.drain = Drain::Announced;
        }
        if out.is_empty() && self.link.control.len() > KEPT_CONTROL {
            core::mem::swap(out, &mut self.link.control);
        } else {
            out.append(&mut self.link.control);
        }
        self.link.answers = 0;
        self.link.control.shrink_to(KEPT_CONTROL);
        if self.link.failure.is_some() {
            return false;
        }
        if self.drains() && *self.drain == Drain::Announced && self.link.ping.is_none() {
            self.link.ping(out);
            *self.drain = Drain::Probing;
        }
        self.flush_ends(out);
        self.flush_data(out)
    }

    /// Whether there is anything that [`flush`](Self::flush) would append.
    pub(crate) fn is_sendable(&mut self) -> bool {
        if !self.link.control.is_empty() {
            return true;
        }
        if self.link.failure.is_some() {
            return false;
        }
        let announcing = match *self.drain {
            Drain::Due => true,
            Drain::Announced => self.link.ping.is_none(),
            Drain::Not | Drain::Probing | Drain::Done { .. } => false,
        };
        (self.drains() && announcing)
            || (self.side == Side::Upstream && self.may_open_waiting())
            || self.next_end().is_some()
            || (self.link.send_window > 0 && self.next_ready().is_some())
    }

    fn drains(&self) -> bool {
        self.side == Side::Downstream
    }

    /// The first socket of which END_STREAM can be sent by itself; those before it that cannot leave the queue.
    fn next_end(&mut self) -> Option<u32> {
        loop {
            let index = *self.link.ends.front()?;
            if let Some(socket) = self.socket(index)
                && socket.in_ends
            {
                if socket.end_is_ready() {
                    return Some(index);
                }
                socket.in_ends = false;
            }
            self.link.ends.pop_front();
        }
    }

    /// The first socket that has bytes to send as far as its own window goes; those before it that have none leave the
    /// queue, to come back with more bytes or more window.
    fn next_ready(&mut self) -> Option<u32> {
        let (high, low) = (self.options.write_high, self.options.write_low);
        loop {
            let index = *self.link.ready.front()?;
            if let Some(socket) = self.socket(index)
                && socket.in_ready
            {
                if socket.mark.is_none() && socket.send.len() >= high {
                    socket.mark = Some(low);
                }
                if socket.sendable() > 0 {
                    return Some(index);
                }
                socket.in_ready = false;
                if socket.end_is_ready() {
                    self.enqueue(index);
                }
            }
            self.link.ready.pop_front();
        }
    }

    fn flush_ends(&mut self, out: &mut Vec<u8>) {
        while let Some(index) = self.next_end() {
            self.link.ends.pop_front();
            if let Some(socket) = self.socket(index) {
                socket.in_ends = false;
                socket.local = LocalEnd::Sent;
                Head { length: 0, kind: kind::DATA, flags: flag::END_STREAM, stream: socket.stream }.put(out);
                self.over(index);
            }
        }
    }

    /// One frame of each socket in turn, until there is no more or the connection's window is used up, or until these are
    /// [`MOST_DATA`]: whether there are more then.
    fn flush_data(&mut self, out: &mut Vec<u8>) -> bool {
        let most = out.len().saturating_add(MOST_DATA);
        while self.link.send_window > 0
            && let Some(index) = self.next_ready()
        {
            if out.len() >= most {
                return true;
            }
            self.link.ready.pop_front();
            let limit = usize::try_from(self.link.send_window).unwrap_or(usize::MAX);
            let limit = limit.min(self.link.peer.max_frame_size);
            let Some(socket) = self.slab.at_mut(index) else { continue };
            let count = socket.sendable().min(limit);
            if socket.sendable() > limit {
                // A large message: room for all that may leave and its frames' heads, so that `out` does not grow in steps.
                let count = most.saturating_sub(out.len()).saturating_add(limit);
                out.reserve_exact(count.saturating_add(count >> 8));
            }
            let ends = socket.local == LocalEnd::Due && count == socket.send.len();
            let length = u32::try_from(count).unwrap_or(0);
            let flags = if ends { flag::END_STREAM } else { 0 };
            Head { length, kind: kind::DATA, flags, stream: socket.stream }.put(out);
            out.extend_from_slice(socket.send.front(count));
            socket.send.advance(count, self.spares);
            socket.sent = socket.sent.saturating_add(u64::from(length));
            socket.send_window = socket.send_window.saturating_sub(i64::from(length));
            self.link.send_window = self.link.send_window.saturating_sub(i64::from(length));
            let writable = socket.mark.is_some_and(|mark| socket.send.len() < mark) && !socket.released;
            if writable {
                socket.mark = None;
            }
            if socket.sendable() > 0 {
                self.link.ready.push_back(index);
            } else {
                socket.in_ready = false;
            }
            if ends {
                socket.local = LocalEnd::Sent;
            }
            if writable && !ends {
                let id = self.slab.id(index);
                self.notices.push_back(Notice::Live(id, Event::Writable { id }));
            }
            if ends {
                self.over(index);
            }
        }
        // Sockets that the loop found to have nothing but an end.
        self.flush_ends(out);
        false
    }

    /// Frames `bytes` for a socket at once, after what it has queued, as far as all that may be sent: so many of them.
    /// `unread` bytes may follow.
    pub(crate) fn pass(&mut self, index: u32, bytes: &[u8], unread: usize) -> usize {
        let Some(socket) = self.slab.at_mut(index) else { return 0 };
        let window = usize::try_from(socket.send_window.min(self.link.send_window)).unwrap_or(0);
        let queued = socket.send.len();
        if !socket.may_pass() || queued >= window || self.link.failure.is_some() {
            return 0;
        }
        let bytes = bytes.get(..window.saturating_sub(queued)).unwrap_or(bytes);
        let out = &mut self.link.control;
        let room = queued.saturating_add(bytes.len()).saturating_add(HEAD);
        if out.capacity().saturating_sub(out.len()) < room {
            // For all that may come, so that it does not grow in steps.
            out.reserve(room.saturating_add(unread).saturating_add(unread >> 8));
        }
        let most = self.link.peer.max_frame_size.max(1);
        for part in socket.send.front(queued).chunks(most).chain(bytes.chunks(most)) {
            let length = u32::try_from(part.len()).unwrap_or(0);
            Head { length, kind: kind::DATA, flags: 0, stream: socket.stream }.put(out);
            out.extend_from_slice(part);
        }
        socket.send.advance(queued, self.spares);
        let count = queued.saturating_add(bytes.len());
        socket.sent = socket.sent.saturating_add(u64::try_from(count).unwrap_or(0));
        let count = i64::try_from(count).unwrap_or(0);
        socket.send_window = socket.send_window.saturating_sub(count);
        self.link.send_window = self.link.send_window.saturating_sub(count);
        bytes.len()
    }

    /// END_STREAM of a socket has left.
    fn over(&mut self, index: u32) {
        let Some(socket) = self.slab.at(index) else { return };
        if socket.is_over() {
            self.remove(index);
        } else {
            self.settle(index);
        }
    }
}
