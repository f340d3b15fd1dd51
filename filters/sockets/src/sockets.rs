use std::time::Duration;

use crate::buffer::{Account, Spares};
use crate::drain::Drain;
use crate::link::Link;
use crate::notice::{Notice, Notices};
use crate::peer::Peer;
use crate::slab::Slab;
use crate::socket::LocalEnd;
use crate::{Code, Error, Event, Options, Request, Side, SocketId, Target};

/// Both HTTP/2 connections of one filter instance, as sockets.
///
/// Bytes come in by [`receive`](Self::receive) and leave by [`transmit`](Self::transmit). All other methods only change
/// state: nothing that they do leaves before the next `transmit` to that side.
pub struct Sockets {
    options: Options,
    downstream: Link,
    upstream: Link,
    pub(crate) slab: Slab,
    notices: Notices,
    spares: Spares,
    drain: Drain,
    /// The socket that was written to last: what was appended has yet to be counted.
    last_written: Option<u32>,
    /// The side that is heard, and how much of what it sent is not read: what goes to the other leaves with that.
    heard: Option<(Side, usize)>,
}

impl Sockets {
    /// Sockets of a new filter instance, before either peer has sent anything.
    pub fn new(options: Options) -> Self {
        Self {
            downstream: Link::new(Side::Downstream, &options),
            upstream: Link::new(Side::Upstream, &options),
            slab: Slab::default(),
            notices: Notices::new(),
            spares: Spares::default(),
            drain: Drain::Not,
            last_written: None,
            heard: None,
            options,
        }
    }

    /// Takes the next event out of what `side` sent.
    ///
    /// To be called until it returns `Ok(None)`; the input is empty then, since the beginning of an incomplete frame is
    /// kept inside. DATA payloads are not: they are reported as they come, borrowed from the input.
    ///
    /// Some events do not come from the input: [`Event::Writable`] arises when bytes are sent, one GOAWAY refuses many
    /// sockets. They wait inside and are returned first, by a call for either side, also with an empty input. When one
    /// waits after [`transmit`](Self::transmit), that has added a PING, so that a call is sure to come.
    ///
    /// # Errors
    ///
    /// The peer broke the protocol so that the connection cannot go on; a GOAWAY that says so is queued. Every later
    /// call for this side returns the same error.
    pub fn receive<'a>(&mut self, side: Side, input: &mut &'a [u8]) -> Result<Option<Event<'a>>, Error> {
        loop {
            self.heard = Some((side, input.len()));
            if let Some(event) = self.notice() {
                return Ok(Some(event));
            }
            let mut peer = self.peer(side);
            if let Some(error) = peer.link.failure {
                *input = &[];
                return Err(error);
            }
            let result = match peer.link.reader.next(input) {
                Ok(None) => return Ok(None),
                Ok(Some(piece)) => peer.piece(piece),
                Err(fault) => Err(fault),
            };
            match result {
                Ok(None) => {}
                Ok(Some(event)) => return Ok(Some(event)),
                Err(fault) => {
                    *input = &[];
                    return Err(peer.link.fail(side, fault));
                }
            }
        }
    }

    /// Answers a tunnel with `:status 200`. What was written before can leave now.
    pub fn accept(&mut self, id: SocketId) {
        if let Some((mut peer, index)) = self.find(id) {
            peer.accept(index);
        }
    }

    /// Answers a tunnel that was not accepted with a status (200 to 999) and the end. The id is stale at once.
    pub fn reject(&mut self, id: SocketId, status: u16) {
        if let Some((mut peer, index)) = self.find(id) {
            peer.reject(index, status);
        }
    }

    /// Opens a connection through the connection manager; [`Event::Connected`] or [`Event::Refused`] reports the
    /// outcome.
    ///
    /// What is written before leaves when it is open. If the connection manager allows no more streams at this time, it
    /// waits for one to end. `None` means that this HTTP/2 connection serves no more: stream ids are used up, GOAWAY
    /// came, there are [`Options::max_sockets`], or the connection failed.
    pub fn connect(&mut self, target: &Target<'_>) -> Option<SocketId> {
        self.peer(Side::Upstream).connect(target)
    }

    /// Sends a unary HTTP or gRPC request; [`Event::Response`] is the outcome. `None` as for [`connect`](Self::connect).
    pub fn request(&mut self, request: &Request<'_>) -> Option<SocketId> {
        self.peer(Side::Upstream).request(request)
    }

    /// Has [`Event::Alarm`] come after a delay, rounded up to milliseconds, at least one. False if it cannot be, as for
    /// [`connect`](Self::connect). Each alarm costs a stream and rings once.
    pub fn alarm(&mut self, delay: Duration) -> bool {
        self.peer(Side::Upstream).alarm(delay)
    }

    /// The send buffer of a socket, to append to; bytes that are there already must be left alone. `None` if nothing
    /// more can be written: the id is stale, or [`finish`](Self::finish) was called.
    pub fn write(&mut self, id: SocketId) -> Option<&mut Vec<u8>> {
        if self.slab.get(id)?.local != LocalEnd::Open {
            return None;
        }
        if self.last_written.is_some_and(|last| last != id.index) {
            self.count_written();
        }
        self.last_written = Some(id.index);
        let (mut peer, index) = self.find(id)?;
        peer.enqueue(index);
        Some(self.slab.at_mut(index)?.send.tail(&mut self.spares))
    }

    /// Writes `bytes` to a socket, as by [`write`](Self::write); false if nothing more can be written.
    ///
    /// For what is large: as far as it may be sent with the next [`transmit`](Self::transmit), it is not copied into the
    /// send buffer first.
    pub fn pass(&mut self, id: SocketId, bytes: &[u8]) -> bool {
        let heard = self.heard;
        let Some((mut peer, index)) = self.find(id) else { return false };
        let passed = match heard {
            // What goes to a side that is heard might wait for long, and count nowhere.
            Some((side, unread)) if side != peer.side => peer.pass(index, bytes, unread),
            _ => 0,
        };
        match bytes.get(passed..) {
            None | Some([]) => true,
            Some(rest) => self.write(id).map(|out| append(out, rest)).is_some(),
        }
    }

    /// Bytes written and not yet sent.
    pub fn queued(&self, id: SocketId) -> usize {
        self.slab.get(id).map_or(0, |socket| socket.send.len())
    }

    /// Bytes sent so far.
    pub fn sent(&self, id: SocketId) -> u64 {
        self.slab.get(id).map_or(0, |socket| socket.sent)
    }

    /// The memory that bytes written and not yet sent take.
    pub fn memory(&self, id: SocketId) -> usize {
        self.slab.get(id).map_or(0, |socket| socket.send.memory())
    }

    /// Makes [`memory`](Self::memory) of a socket part of [`counted`](Self::counted), until it is closed or gone.
    pub fn count(&mut self, id: SocketId) {
        if let Some(socket) = self.slab.get_mut(id) {
            socket.send.move_to(Account::Counted, &mut self.spares);
        }
    }

    /// The memory of all sockets that are to be counted.
    #[inline]
    pub fn counted(&mut self) -> usize {
        self.count_written();
        self.spares.counted
    }

    /// Makes [`memory`](Self::memory) of a socket part of [`counted_apart`](Self::counted_apart) in place of the other sum.
    pub fn count_apart(&mut self, id: SocketId) {
        if let Some(socket) = self.slab.get_mut(id) {
            socket.send.move_to(Account::Apart, &mut self.spares);
        }
    }

    /// The memory of all sockets that are to be counted apart.
    #[inline]
    pub fn counted_apart(&mut self) -> usize {
        self.count_written();
        self.spares.apart
    }

    fn count_written(&mut self) {
        if let Some(socket) = self.last_written.take().and_then(|index| self.slab.at_mut(index)) {
            socket.send.settle(&mut self.spares);
        }
    }

    /// Has [`Event::Writable`] come once less than half of what is queued is left, though that be little.
    pub fn await_writable(&mut self, id: SocketId) {
        if let Some(socket) = self.slab.get_mut(id)
            && socket.mark.is_none()
            && !socket.send.is_empty()
        {
            socket.mark = Some(socket.send.len().div_ceil(2));
        }
    }

    /// Half-close: END_STREAM follows what is queued. If the peer has ended too, the id becomes stale once it has left.
    pub fn finish(&mut self, id: SocketId) {
        if let Some((mut peer, index)) = self.find(id) {
            peer.finish(index);
        }
    }

    /// Closes in both directions; the id is stale at once.
    ///
    /// What is queued is still sent, then END_STREAM; what still comes is swallowed. Over [`Options::max_undelivered`] of
    /// what closed sockets have queued, that of the first is dropped. RST_STREAM, which Envoy counts
    /// against a connection, follows only if the peer goes on sending, or does not end while
    /// [`Options::max_lingering`] further sockets are closed. A connection that is not open yet is cancelled, a tunnel
    /// without an answer is rejected with 503.
    pub fn close(&mut self, id: SocketId) {
        if let Some((mut peer, index)) = self.find(id) {
            peer.close(index);
        }
    }

    /// How many closed sockets of a side were reset since the last call, as what all of them had queued was over
    /// [`Options::max_undelivered`].
    pub fn take_dropped(&mut self, side: Side) -> usize {
        std::mem::take(&mut self.peer(side).link.dropped)
    }

    /// Aborts with RST_STREAM(CANCEL) and drops what is queued. The id is stale at once.
    pub fn reset(&mut self, id: SocketId) {
        if let Some((mut peer, index)) = self.find(id) {
            peer.reset(index, Code::Cancel);
        }
    }

    /// Says that so many bytes of earlier [`Event::Data`] need no memory any more, so that the peer may send as many
    /// again. Told to it in steps of half a window. More than was delivered does not count.
    pub fn consumed(&mut self, id: SocketId, n: usize) {
        if let Some(socket) = self.slab.get_mut(id) {
            let count = n.min(socket.unconsumed);
            socket.unconsumed = socket.unconsumed.saturating_sub(count);
            let side = socket.side;
            self.peer(side).grant(id.index, u32::try_from(count).unwrap_or(u32::MAX));
        }
    }

    /// Changes the receive windows of all sockets, in place of [`Options::receive_window_downstream`] and
    /// [`Options::receive_window_upstream`]. Where a peer has yet to acknowledge an earlier change, nothing is changed: to be
    /// called again.
    pub fn set_receive_windows(&mut self, downstream: u32, upstream: u32) {
        self.peer(Side::Downstream).set_window(downstream);
        self.peer(Side::Upstream).set_window(upstream);
    }

    /// Asks tcp_proxy to use another HTTP/2 connection for new clients. Sockets live on, and so do those that it opens
    /// before it has heard.
    ///
    /// Done without being asked when stream ids run short on either side ([`Options::handover_stream_id`]), and when
    /// the connection manager sends GOAWAY.
    pub fn drain(&mut self) {
        if self.drain == Drain::Not {
            self.drain = Drain::Due;
        }
    }

    /// Appends what may be sent towards `side` now, up to a few megabytes.
    ///
    /// If there is more, or anything to be sent towards the other side, or an event waits to be delivered, a PING to this side
    /// is added: its acknowledgement brings the callback in which that can be done. At most one is out a side.
    pub fn transmit(&mut self, side: Side, out: &mut Vec<u8>) {
        self.heard = None;
        let is_cut = self.peer(side).flush(out);
        let due = is_cut || !self.notices.is_empty() || self.peer(side.other()).is_sendable();
        let link = self.peer(side).link;
        if due && link.ping.is_none() && link.failure.is_none() {
            link.ping(out);
        }
    }

    /// Whether tcp_proxy is, or is about to be, asked to open no more streams.
    pub fn is_draining(&self) -> bool {
        self.drain != Drain::Not
    }

    /// Whether there are no sockets: none that the caller knows, and none with something left to send or to swallow.
    /// Alarms do not count.
    pub fn is_idle(&self) -> bool {
        self.slab.is_idle()
    }

    pub(crate) fn peer(&mut self, side: Side) -> Peer<'_> {
        let link = match side {
            Side::Downstream => &mut self.downstream,
            Side::Upstream => &mut self.upstream,
        };
        Peer {
            side,
            link,
            slab: &mut self.slab,
            notices: &mut self.notices,
            spares: &mut self.spares,
            drain: &mut self.drain,
            options: &self.options,
        }
    }

    /// The side and index of a socket, if its id is not stale.
    pub(crate) fn find(&mut self, id: SocketId) -> Option<(Peer<'_>, u32)> {
        let side = self.slab.get(id)?.side;
        Some((self.peer(side), id.index))
    }

    /// The next event that waits and still matters.
    fn notice(&mut self) -> Option<Event<'static>> {
        loop {
            match self.notices.pop_front()? {
                Notice::Plain(event) => return Some(event),
                Notice::Live(id, event) if self.slab.get(id).is_some() => return Some(event),
                Notice::Last(id, event) => {
                    if let Some((mut peer, _)) = self.find(id) {
                        peer.retire(id);
                        return Some(event);
                    }
                }
                Notice::Live(..) => {}
            }
        }
    }
}

/// Appends to what is queued. Much of it grows by an eighth: no half of the memory lies idle.
fn append(out: &mut Vec<u8>, bytes: &[u8]) {
    let missing = bytes.len().saturating_sub(out.capacity().saturating_sub(out.len()));
    if missing > 0 && out.len() >= MUCH {
        out.reserve_exact(bytes.len().max(out.len() >> 3));
    }
    out.extend_from_slice(bytes);
}

/// Bytes queued from which on room is made for few more.
const MUCH: usize = 1 << 20;
