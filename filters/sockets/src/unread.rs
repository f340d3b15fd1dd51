//! DATA that goes from one side to the other without being read.

use crate::frame::{HEAD, Head, kind};
use crate::socket::Kind;
use crate::{Side, SocketId, Sockets};

/// A frame of DATA whose payload stays where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unread {
    /// The socket that it came on.
    pub id: SocketId,
    /// The length of its payload.
    pub length: usize,
    head: Head,
}

impl Sockets {
    /// What `side` sent, if it need not be read: `size` bytes of which `bytes` are the first, and which are one whole frame
    /// of DATA on an open connection. `None` where that is not sure; it has to be [received](Self::receive) then.
    pub fn unread(&mut self, side: Side, bytes: &[u8], size: usize) -> Option<Unread> {
        let head = Head::parse(*bytes.first_chunk()?);
        let length = usize::try_from(head.length).ok()?;
        let mut peer = self.peer(side);
        let is_whole = length.checked_add(HEAD) == Some(size) && head.kind == kind::DATA && head.flags == 0;
        if !is_whole || !peer.link.may_arrive(head.length) {
            return None;
        }
        let index = *peer.link.streams.get(&head.stream)?;
        let socket = peer.socket(index)?;
        let passes = matches!(socket.kind, Kind::Connected)
            && !socket.released
            && !socket.remote_ended
            && i64::from(head.length) <= socket.receive_window;
        passes.then(|| Unread { id: peer.slab.id(index), length, head })
    }

    /// Counts an unread frame as received, and as sent on a socket of the other side: what is to take the place of its head
    /// behind the next [`transmit`](Self::transmit) to that side, before which nothing may be written to that socket. `None`
    /// if it cannot be sent as it is, and has to be received.
    pub fn pass_unread(&mut self, frame: Unread, to: SocketId) -> Option<[u8; HEAD]> {
        let side = self.slab.get(frame.id)?.side;
        let (peer, index) = self.find(to).filter(|(peer, _)| peer.side != side)?;
        let Head { length, .. } = frame.head;
        let count = i64::from(length);
        let socket = peer.slab.at_mut(index)?;
        let is_free = socket.may_pass() && socket.send.is_empty() && peer.link.failure.is_none();
        let most = socket.send_window.min(peer.link.send_window);
        if !is_free || count > most || frame.length > peer.link.peer.max_frame_size {
            return None;
        }
        socket.send_window = socket.send_window.saturating_sub(count);
        socket.sent = socket.sent.saturating_add(u64::from(length));
        peer.link.send_window = peer.link.send_window.saturating_sub(count);
        let head = Head { stream: socket.stream, ..frame.head };
        self.peer(side).data_begin(frame.head, 0).ok()?;
        let from = self.slab.get_mut(frame.id)?;
        from.unconsumed = from.unconsumed.saturating_add(frame.length);
        Some(head.bytes())
    }
}
