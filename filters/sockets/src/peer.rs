use std::mem;

use crate::buffer::{Account, Spares};
use crate::drain::Drain;
use crate::link::Link;
use crate::notice::{Notice, Notices};
use crate::slab::Slab;
use crate::socket::{Kind, LocalEnd, Socket};
use crate::{Code, Event, Options, Side, SocketId, frame};

/// One side with all that its frames and sockets touch.
pub(crate) struct Peer<'s> {
    pub(crate) side: Side,
    pub(crate) link: &'s mut Link,
    pub(crate) slab: &'s mut Slab,
    pub(crate) notices: &'s mut Notices,
    pub(crate) spares: &'s mut Spares,
    pub(crate) drain: &'s mut Drain,
    pub(crate) options: &'s Options,
}

impl Peer<'_> {
    /// The socket at an index, if it is one of this side.
    pub(crate) fn socket(&mut self, index: u32) -> Option<&mut Socket> {
        let side = self.side;
        self.slab.at_mut(index).filter(|socket| socket.side == side)
    }

    /// Puts a socket in the queues where it belongs.
    pub(crate) fn enqueue(&mut self, index: u32) {
        let Some(socket) = self.slab.at_mut(index) else { return };
        if socket.end_is_ready() {
            if !mem::replace(&mut socket.in_ends, true) {
                self.link.ends.push_back(index);
            }
        } else if !mem::replace(&mut socket.in_ready, true) {
            self.link.ready.push_back(index);
        }
    }

    /// END_STREAM is to follow what is queued.
    pub(crate) fn finish(&mut self, index: u32) {
        let Some(socket) = self.slab.at_mut(index) else { return };
        if socket.local != LocalEnd::Sent {
            socket.local = LocalEnd::Due;
            self.enqueue(index);
        }
    }

    /// The caller is done with a socket, whatever is queued or still comes.
    pub(crate) fn close(&mut self, index: u32) {
        self.slab.release(index);
        let Some(socket) = self.slab.at_mut(index) else { return };
        match socket.kind {
            // A tunnel without an answer needs one.
            Kind::Accepted if !socket.open => return self.reject(index, 503),
            Kind::Connecting | Kind::Unary(_) => {
                if socket.stream == 0 {
                    return self.remove(index);
                }
                socket.send.clear(self.spares);
                socket.open = true;
            }
            _ => {}
        }
        self.finish(index);
        self.settle(index);
        self.limit_undelivered(index);
    }

    /// Resets the sockets that were closed first when all that were closed have too much to send: nobody waits for them
    /// any more, and their peers may never read.
    fn limit_undelivered(&mut self, index: u32) {
        let Some(socket) = self.slab.at_mut(index).filter(|socket| !socket.send.is_empty()) else { return };
        socket.send.trim();
        socket.send.move_to(Account::Closed(self.side), self.spares);
        let stream = socket.stream;
        self.link.undelivered.push_back((index, stream));
        let most = self.options.max_lingering;
        if self.link.undelivered.len() > most.saturating_mul(2) {
            let mut undelivered = mem::take(&mut self.link.undelivered);
            undelivered.retain(|&(index, stream)| self.is_undelivered(index, stream));
            self.link.undelivered = undelivered;
        }
        let most_bytes = self.options.max_undelivered;
        while (self.spares.closed(self.side) > most_bytes || self.link.undelivered.len() > most)
            && let Some((index, stream)) = self.link.undelivered.pop_front()
        {
            if self.is_undelivered(index, stream) {
                self.link.dropped = self.link.dropped.saturating_add(1);
                self.reset(index, Code::Cancel);
            }
        }
    }

    fn is_undelivered(&mut self, index: u32, stream: u32) -> bool {
        self.socket(index)
            .is_some_and(|socket| socket.released && socket.stream == stream && !socket.send.is_empty())
    }

    /// Sends RST_STREAM and forgets the socket.
    pub(crate) fn reset(&mut self, index: u32, code: Code) {
        let Some(socket) = self.slab.at(index) else { return };
        if socket.stream != 0 && !socket.is_over() {
            frame::put_rst_stream(&mut self.link.control, socket.stream, code);
        }
        self.remove(index);
    }

    /// Removes a released socket once it is over, or has it linger until the peer ends too.
    pub(crate) fn settle(&mut self, index: u32) {
        let Some(socket) = self.slab.at(index) else { return };
        if !socket.released || socket.local != LocalEnd::Sent {
            return;
        }
        if socket.remote_ended {
            return self.remove(index);
        }
        let stream = socket.stream;
        self.link.lingering.push_back((index, stream));
        self.check_swallowed(index);
        if self.link.lingering.len() > self.options.max_lingering
            && let Some((index, stream)) = self.link.lingering.pop_front()
            && self.socket(index).is_some_and(|socket| socket.released && socket.stream == stream)
        {
            self.reset(index, self.lingering_code());
        }
    }

    /// Resets a closed socket whose peer goes on sending.
    pub(crate) fn check_swallowed(&mut self, index: u32) {
        let limit = self.link.stream_window >> 1;
        if self
            .slab
            .at(index)
            .is_some_and(|socket| socket.local == LocalEnd::Sent && socket.swallowed > limit)
        {
            self.reset(index, self.lingering_code());
        }
    }

    /// A server that needs no more of a request says so without error, RFC 9113 section 8.1.
    fn lingering_code(&self) -> Code {
        match self.side {
            Side::Downstream => Code::NoError,
            Side::Upstream => Code::Cancel,
        }
    }

    pub(crate) fn remove(&mut self, index: u32) {
        if let Some(mut socket) = self.slab.remove(index) {
            self.link.streams.remove(&socket.stream);
            socket.send.clear(self.spares);
        }
    }

    /// A stream error (RFC 9113 section 5.4.2): the peer and the caller are notified.
    pub(crate) fn stream_error(&mut self, index: u32, code: Code) {
        if let Some(socket) = self.slab.at(index)
            && socket.stream != 0
        {
            frame::put_rst_stream(self.link.answer(), socket.stream, code);
        }
        self.lost(index, code.number());
    }

    /// The stream is gone in both directions.
    pub(crate) fn lost(&mut self, index: u32, code: u32) {
        let id = self.slab.id(index);
        let Some(socket) = self.slab.at_mut(index) else { return };
        self.link.streams.remove(&socket.stream);
        if socket.released {
            return self.remove(index);
        }
        socket.local = LocalEnd::Sent;
        socket.remote_ended = true;
        socket.send.clear(self.spares);
        let event = match mem::replace(&mut socket.kind, Kind::Gone) {
            Kind::Accepted | Kind::Connected => Event::Reset { id, code },
            Kind::Connecting => Event::Refused { id, status: 0, endpoint: None, reason: String::new() },
            Kind::Refusing(refusal) => refusal.event(id),
            Kind::Unary(_) => {
                Event::Response { id, status: 0, headers: Vec::new(), body: Vec::new(), trailers: Vec::new() }
            }
            Kind::Alarm => Event::Alarm,
            Kind::Gone => return,
        };
        self.notices.push_back(Notice::Last(id, event));
    }

    /// The peer sent END_STREAM.
    pub(crate) fn ended(&mut self, index: u32) {
        let id = self.slab.id(index);
        let Some(socket) = self.slab.at_mut(index) else { return };
        socket.remote_ended = true;
        if socket.released {
            return self.settle(index);
        }
        let event = match &mut socket.kind {
            Kind::Accepted | Kind::Connected | Kind::Connecting => {
                let event = Event::Ended { id };
                let notice = if socket.is_over() { Notice::Last(id, event) } else { Notice::Live(id, event) };
                return self.notices.push_back(notice);
            }
            Kind::Refusing(refusal) => mem::take(refusal).event(id),
            Kind::Unary(answer) => mem::take(answer).event(id),
            Kind::Alarm => Event::Alarm,
            Kind::Gone => return,
        };
        socket.send.clear(self.spares);
        self.notices.push_back(Notice::Last(id, event));
        socket.open = true;
        self.finish(index);
    }

    /// Makes the id of a socket stale whose last event was delivered.
    pub(crate) fn retire(&mut self, id: SocketId) {
        self.slab.release(id.index);
        self.settle(id.index);
    }
}
