//! What is passed on without being read: the middle of a large answer, which stays in Envoy's buffer.

use meltemi_sockets::{Side, SocketId, Unread};

use crate::clock::Instant;
use crate::download::Download;
use crate::net::Owner;
use crate::upstream::ConnectionId;
use crate::worker::Worker;

/// The fewest bytes of a callback for which it is worth asking whether they can pass unread.
pub const LEAST_UNREAD: usize = 4096;

/// Part of an answer that is under way, and where it goes.
struct Passing {
    frame: Unread,
    connection: ConnectionId,
    client: SocketId,
    download: Download,
}

impl Worker {
    /// Handles `size` bytes that the connection manager sent, without reading more than the first of them, `bytes`: the head
    /// of an HTTP/2 frame. If all are the middle of an answer that is passed on, `out` is what is to take the place of the
    /// head, and the others stay. If not, this is false, and they have to be [received](Self::receive); what is in `out` is
    /// to be sent before what that brings.
    pub fn pass_unread(&mut self, bytes: &[u8], size: usize, now: Instant, out: &mut Vec<u8>) -> bool {
        // Whatever is due may change where they go.
        if self.find_passing(bytes, size).is_none() || self.receive(Side::Upstream, &[], now).is_err() {
            return false;
        }
        let Some(Passing { frame, connection: key, client, download }) = self.find_passing(bytes, size)
        else {
            return false;
        };
        let Some(head) = self.net.pass_unread(frame, client) else { return false };
        if let Some(connection) = self.connections.get_mut(key) {
            connection.intake_mut().came(frame.length);
        }
        self.go_on_with_download(key, download, frame.length);
        self.settle(key);
        self.transmit(Side::Downstream, out);
        out.extend_from_slice(&head);
        true
    }

    fn find_passing(&mut self, bytes: &[u8], size: usize) -> Option<Passing> {
        let frame = self.net.unread(bytes, size)?;
        let Owner::Connection(key) = self.net.owner(frame.id) else { return None };
        let connection = self.connections.get(key).filter(|open| open.intake().inbox().is_empty())?;
        // The last part ends the answer: what waits behind it follows.
        let download = connection.download().filter(|download| download.without(frame.length).is_some())?;
        let client = self.clients.get(download.client()?)?.socket();
        Some(Passing { frame, connection: key, client, download })
    }
}
