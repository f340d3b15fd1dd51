//! The sockets of a worker, and who owns each.

use core::time::Duration;

use meltemi_sockets::{Error, Event, Options, Request, Side, SocketId, Sockets, Target, Unread};

use crate::client::ClientId;
use crate::inquiries::{ChannelId, InquiryId};
use crate::relays::RelayId;
use crate::room::Width;
use crate::upstream::ConnectionId;

/// Both HTTP/2 connections, as sockets with owners.
pub(crate) struct Net {
    sockets: Sockets,
    /// Who owns the socket of that index, and which socket that is.
    owners: Vec<Option<(SocketId, Owner)>>,
    reach: Reach,
    /// The receive windows of either side while there is room.
    windows: [u32; 2],
    /// How many requests tell loggers of calls, or have lines for files; a large one counts as several.
    entries: usize,
}

/// The owner of a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owner {
    Nobody,
    Client(ClientId),
    Connection(ConnectionId),
    /// A connection to a service that is asked.
    Channel(ChannelId),
    /// A request by HTTP, whose answer matters.
    Request(InquiryId),
    /// One that tells loggers of a call, or has so many lines for files, and counts as so many.
    Entry(usize, usize),
    /// A relay, for that side of it.
    Relay(RelayId, Side),
}

/// Whether streams can be opened: connections and alarms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    Open,
    /// One could not be, just now.
    Closing,
    /// None can be any more: there are the connections that are open, and time passes only with what comes on them.
    Closed,
}

/// Unsent bytes on a socket at which what feeds it has to wait, until [`Event::Writable`].
pub(crate) const HIGH_WATERMARK: usize = 1024 * 1024;

/// How many requests of a worker tell loggers at once. Each is answered at once; what comes in between is bounded.
const MOST_ENTRIES: usize = 1024;

/// One of more than so many bytes, which have room for a call and for a line, counts as several.
const ENTRY: usize = 20 << 10;

impl Net {
    /// No sockets yet. Its watermarks are not for `options` to set.
    pub(crate) fn new(options: Options) -> Self {
        let options = Options { write_high: HIGH_WATERMARK, write_low: HIGH_WATERMARK / 4, ..options };
        let windows = [options.receive_window_downstream, options.receive_window_upstream];
        Self { sockets: Sockets::new(options), owners: Vec::new(), reach: Reach::Open, windows, entries: 0 }
    }

    #[inline]
    pub(crate) fn receive<'a>(
        &mut self,
        side: Side,
        input: &mut &'a [u8],
    ) -> Result<Option<Event<'a>>, Error> {
        self.sockets.receive(side, input)
    }

    pub(crate) fn transmit(&mut self, side: Side, out: &mut Vec<u8>) {
        self.sockets.transmit(side, out);
    }

    /// Accepts a tunnel.
    pub(crate) fn accept(&mut self, id: SocketId) {
        self.sockets.accept(id);
    }

    /// Opens a connection, which is nobody's as yet. `None` when none can be opened here any more.
    pub(crate) fn connect(&mut self, target: &Target<'_>) -> Option<SocketId> {
        let socket = self.sockets.connect(target);
        self.note(socket.is_some());
        socket
    }

    /// Has an alarm ring after `delay`; whether it will.
    pub(crate) fn alarm(&mut self, delay: Duration) -> bool {
        let is_set = self.sockets.alarm(delay);
        self.note(is_set);
        is_set
    }

    /// Sends a request to the connection manager, whose answer matters to nobody as yet. `None` as for connections.
    pub(crate) fn request(&mut self, request: &Request<'_>) -> Option<SocketId> {
        let socket = self.sockets.request(request);
        self.note(socket.is_some());
        socket
    }

    /// Tells loggers of a call, or of the lines of so many, by a request, unless there are many of those on their way, or no more
    /// can be sent.
    pub(crate) fn log(&mut self, request: &Request<'_>, count: usize) -> bool {
        if self.entries >= MOST_ENTRIES || !self.is_open() {
            return false;
        }
        let bytes: usize = request.headers.iter().map(|(_, value)| value.len()).sum();
        let share = bytes.div_ceil(ENTRY);
        let Some(stream) = self.request(request) else { return false };
        self.own(stream, Owner::Entry(count, share));
        self.entries = self.entries.saturating_add(share);
        true
    }

    fn note(&mut self, is_open: bool) {
        if !is_open && self.reach == Reach::Open {
            self.reach = Reach::Closing;
        }
    }

    /// Whether connections and alarms can be had.
    pub(crate) fn is_open(&self) -> bool {
        self.reach == Reach::Open
    }

    /// Whether one could not be had just now, for the first time: there will be no more.
    pub(crate) fn take_closing(&mut self) -> bool {
        let is_news = self.reach == Reach::Closing;
        if is_news {
            self.reach = Reach::Closed;
        }
        is_news
    }

    /// Gives a socket to its owner: what is queued on it is counted from now on.
    pub(crate) fn own(&mut self, id: SocketId, owner: Owner) {
        let index = id.index();
        if index >= self.owners.len() {
            self.owners.resize(index.saturating_add(1), None);
        }
        if let Some(entry) = self.owners.get_mut(index) {
            *entry = Some((id, owner));
        }
        self.sockets.count(id);
    }

    #[inline]
    pub(crate) fn owner(&self, id: SocketId) -> Owner {
        match self.owners.get(id.index()) {
            Some(Some((socket, owner))) if *socket == id => *owner,
            _ => Owner::Nobody,
        }
    }

    /// Takes a socket from its owner, and says who that was.
    pub(crate) fn release(&mut self, id: SocketId) -> Owner {
        let owner = self.owner(id);
        if owner != Owner::Nobody
            && let Some(entry) = self.owners.get_mut(id.index())
        {
            *entry = None;
        }
        if let Owner::Entry(_, share) = owner {
            self.entries = self.entries.saturating_sub(share);
        }
        owner
    }

    /// Closes a socket after what is queued on it; nobody owns it then.
    pub(crate) fn close(&mut self, id: SocketId) {
        self.release(id);
        self.sockets.close(id);
    }

    /// How many closed clients were reset since the last call, as too much was left to be sent to all of them.
    pub(crate) fn take_dropped(&mut self) -> usize {
        self.sockets.take_dropped(Side::Downstream)
    }

    /// Closes a socket at once, and drops what is queued on it; nobody owns it then.
    pub(crate) fn reset(&mut self, id: SocketId) {
        self.release(id);
        self.sockets.reset(id);
    }

    /// Says that nothing more will be written to a socket.
    pub(crate) fn finish(&mut self, id: SocketId) {
        self.sockets.finish(id);
    }

    /// Where to append what is to be sent on a socket, if anything more can be.
    #[inline]
    pub(crate) fn write(&mut self, id: SocketId) -> Option<&mut Vec<u8>> {
        self.sockets.write(id)
    }

    /// Writes much, without a copy of what may leave at once; false if nothing more can be written.
    #[inline]
    pub(crate) fn pass(&mut self, id: SocketId, bytes: &[u8]) -> bool {
        self.sockets.pass(id, bytes)
    }

    /// What the connection manager sent, if it may pass without being read.
    pub(crate) fn unread(&mut self, bytes: &[u8], size: usize) -> Option<Unread> {
        self.sockets.unread(Side::Upstream, bytes, size)
    }

    /// Has it pass: the head to send it under, behind all that is transmitted before.
    pub(crate) fn pass_unread(&mut self, frame: Unread, to: SocketId) -> Option<[u8; 9]> {
        self.sockets.pass_unread(frame, to)
    }

    /// Gives back the window of so many bytes that came on a socket.
    #[inline]
    pub(crate) fn consumed(&mut self, id: SocketId, n: usize) {
        self.sockets.consumed(id, n);
    }

    /// Bytes that wait to be sent on a socket.
    #[inline]
    pub(crate) fn queued(&self, id: SocketId) -> usize {
        self.sockets.queued(id)
    }

    /// Bytes sent on a socket so far.
    #[inline]
    pub(crate) fn sent(&self, id: SocketId) -> u64 {
        self.sockets.sent(id)
    }

    /// The memory of what waits to be sent on a socket.
    pub(crate) fn memory(&self, id: SocketId) -> usize {
        self.sockets.memory(id)
    }

    /// That of all sockets that have owners.
    #[inline]
    pub(crate) fn counted(&mut self) -> usize {
        self.sockets.counted().saturating_add(self.sockets.counted_apart())
    }

    /// Has what is queued on a socket that has an owner be part of a sum of its own too.
    pub(crate) fn count_apart(&mut self, id: SocketId) {
        self.sockets.count_apart(id);
    }

    /// That sum.
    pub(crate) fn counted_apart(&mut self) -> usize {
        self.sockets.counted_apart()
    }

    /// Has [`Event::Writable`] come when half of what waits to be sent on a socket has left.
    pub(crate) fn await_writable(&mut self, id: SocketId) {
        self.sockets.await_writable(id);
    }

    /// Has everybody send into windows of that width. Peers hear of it one change at a time: to be called until it is so.
    #[inline]
    pub(crate) fn set_windows(&mut self, width: Width) {
        let [downstream, upstream] = self.windows.map(|wide| width.of(wide));
        self.sockets.set_receive_windows(downstream, upstream);
    }

    /// Receive windows of that width, of either side.
    pub(crate) fn windows(&self, width: Width) -> [usize; 2] {
        self.windows.map(|wide| width.of(wide) as usize)
    }

    /// Asks tcp_proxy to use another tunnel connection for new clients.
    pub(crate) fn drain(&mut self) {
        self.sockets.drain();
    }

    /// Whether tcp_proxy was asked to, or will be.
    pub(crate) fn is_draining(&self) -> bool {
        self.sockets.is_draining()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arena::Id;

    const SECOND: Duration = Duration::from_secs(1);

    fn connect(net: &mut Net) -> SocketId {
        net.connect(&Target { cluster: "demo", ..Target::default() }).unwrap()
    }

    #[test]
    fn a_socket_has_one_owner_until_it_is_released() {
        let mut net = Net::new(Options::default());
        let [first, second] = [(); 2].map(|()| connect(&mut net));
        assert_eq!(net.owner(first), Owner::Nobody);
        let owner = Owner::Connection(Id::new(7, 1));
        net.own(second, owner);
        assert_eq!((net.owner(first), net.owner(second)), (Owner::Nobody, owner));
        assert_eq!((net.release(first), net.release(second)), (Owner::Nobody, owner));
        assert_eq!(net.release(second), Owner::Nobody);
    }

    #[test]
    fn what_is_closed_is_nobodys_nor_is_what_takes_its_place() {
        let mut net = Net::new(Options::default());
        for end in [Net::close, Net::reset] {
            let old = connect(&mut net);
            net.own(old, Owner::Client(Id::new(1, 1)));
            end(&mut net, old);
            let new = connect(&mut net);
            assert_eq!((net.owner(old), net.owner(new)), (Owner::Nobody, Owner::Nobody));
        }
    }

    #[test]
    fn what_is_queued_counts_while_somebody_owns_the_socket() {
        let mut net = Net::new(Options::default());
        let socket = connect(&mut net);
        net.own(socket, Owner::Client(Id::new(1, 1)));
        net.write(socket).unwrap().extend_from_slice(&[0; 5000]);
        assert_eq!((net.queued(socket), net.counted()), (5000, net.memory(socket)));
        assert_eq!(net.counted_apart(), 0);
        net.count_apart(socket);
        assert_eq!((net.counted_apart(), net.counted()), (net.memory(socket), net.memory(socket)));
        net.reset(socket);
        assert_eq!(net.counted(), 0);
    }

    #[test]
    fn the_end_of_new_streams_is_told_once() {
        let mut net = Net::new(Options { max_sockets: 2, ..Options::default() });
        connect(&mut net);
        assert!(net.alarm(SECOND) && net.is_open() && !net.take_closing());
        assert!(!net.alarm(SECOND) && !net.is_open());
        assert!(net.take_closing() && !net.take_closing());
        assert!(net.connect(&Target::default()).is_none() && !net.is_open() && !net.take_closing());
    }
}
