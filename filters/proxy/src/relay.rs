//! Connections of services that the plan does not know: passed through byte by byte, as tcp_proxy would.

use meltemi_sockets::{SocketId, Target};

use crate::client::DESTINATION_HEADER;
use crate::worker::{FULL, Owner, Worker};

/// A client connection and the upstream connection that belongs to it alone.
#[derive(Debug)]
pub(crate) struct Relay {
    client: End,
    upstream: End,
    /// What the client sent before the upstream connection was open; its window is not given back until then.
    early: Vec<u8>,
    is_open: bool,
}

/// One side of a relay.
#[derive(Debug)]
struct End {
    socket: SocketId,
    has_ended: bool,
    /// Bytes from this side whose window waits until the other side has sent them on.
    credit: usize,
}

impl End {
    fn new(socket: SocketId) -> Self {
        Self { socket, has_ended: false, credit: 0 }
    }
}

impl Worker {
    /// Passes a client connection through to `cluster`.
    pub(crate) fn relay(&mut self, client: SocketId, cluster: Option<&str>, destination: Option<&str>) {
        let header = destination.map(|address| [(DESTINATION_HEADER, address)]);
        let upstream = cluster.and_then(|cluster| {
            let headers = header.as_ref().map_or(&[][..], |header| header.as_slice());
            self.sockets.connect(&Target { cluster, endpoint: None, headers })
        });
        let Some(upstream) = upstream else {
            self.sockets.close(client);
            return;
        };
        let relay = Relay {
            client: End::new(client),
            upstream: End::new(upstream),
            early: Vec::new(),
            is_open: false,
        };
        let key = self.relays.insert(relay);
        self.own(client, Owner::RelayClient(key));
        self.own(upstream, Owner::RelayUpstream(key));
    }

    pub(crate) fn relay_connected(&mut self, key: usize) {
        let Some(relay) = self.relays.get_mut(key) else { return };
        relay.is_open = true;
        let early = core::mem::take(&mut relay.early);
        if !early.is_empty() {
            self.relay_client_data(key, &early);
            self.relay_upstream_writable(key);
        }
        if self.relays.get(key).is_some_and(|relay| relay.client.has_ended) {
            self.relay_client_ended(key);
        }
    }

    pub(crate) fn relay_client_data(&mut self, key: usize, bytes: &[u8]) {
        let Some(relay) = self.relays.get_mut(key) else { return };
        if !relay.is_open {
            relay.early.extend_from_slice(bytes);
            return;
        }
        let Relay { client, upstream, .. } = relay;
        pass(&mut self.sockets, client, upstream, bytes);
    }

    pub(crate) fn relay_upstream_data(&mut self, key: usize, bytes: &[u8]) {
        if let Some(Relay { client, upstream, .. }) = self.relays.get_mut(key) {
            pass(&mut self.sockets, upstream, client, bytes);
        }
    }

    pub(crate) fn relay_client_ended(&mut self, key: usize) {
        let Some(relay) = self.relays.get_mut(key) else { return };
        relay.client.has_ended = true;
        if relay.is_open {
            self.sockets.finish(relay.upstream.socket);
            self.relay_close_if_ended(key);
        }
    }

    pub(crate) fn relay_upstream_ended(&mut self, key: usize) {
        let Some(relay) = self.relays.get_mut(key) else { return };
        relay.upstream.has_ended = true;
        self.sockets.finish(relay.client.socket);
        self.relay_close_if_ended(key);
    }

    fn relay_close_if_ended(&mut self, key: usize) {
        if self.relays.get(key).is_some_and(|relay| relay.client.has_ended && relay.upstream.has_ended) {
            self.relay_lost(key);
        }
    }

    /// One side is gone: closes what is left.
    pub(crate) fn relay_lost(&mut self, key: usize) {
        if let Some(relay) = self.relays.try_remove(key) {
            self.close_socket(relay.client.socket);
            self.close_socket(relay.upstream.socket);
        }
    }

    pub(crate) fn relay_client_writable(&mut self, key: usize) {
        if let Some(relay) = self.relays.get_mut(key) {
            self.sockets.consumed(relay.upstream.socket, core::mem::take(&mut relay.upstream.credit));
        }
    }

    pub(crate) fn relay_upstream_writable(&mut self, key: usize) {
        if let Some(relay) = self.relays.get_mut(key) {
            self.sockets.consumed(relay.client.socket, core::mem::take(&mut relay.client.credit));
        }
    }
}

/// Writes to `to` what `from` sent, and gives the window back unless `to` is slow.
fn pass(sockets: &mut meltemi_sockets::Sockets, from: &mut End, to: &End, bytes: &[u8]) {
    let Some(out) = sockets.write(to.socket) else {
        sockets.consumed(from.socket, bytes.len());
        return;
    };
    out.extend_from_slice(bytes);
    from.credit = from.credit.saturating_add(bytes.len());
    if sockets.queued(to.socket) < FULL {
        sockets.consumed(from.socket, core::mem::take(&mut from.credit));
    }
}
