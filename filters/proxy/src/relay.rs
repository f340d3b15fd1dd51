//! Connections of services that the plan does not know: passed through byte by byte, as tcp_proxy would.

use core::time::Duration;
use std::rc::Rc;

use meltemi_codecs::Depth;
use meltemi_sockets::{Accept, SocketId, Sockets, Target};

use crate::arena::Id;
use crate::client::DESTINATION_HEADER;
use crate::clock::{Instant, earliest};
use crate::plan::{Plan, UnknownAuthority};
use crate::worker::{HIGH_WATERMARK, Owner, Worker};

/// Names a relay.
pub(crate) type RelayId = Id<Relay>;

/// A client connection and the upstream connection that belongs to it alone.
#[derive(Debug)]
pub(crate) struct Relay {
    /// The service that the plan did not know.
    authority: Rc<str>,
    client: End,
    upstream: End,
    /// What the client sent before the upstream connection was open; its window is not given back until then.
    early: Vec<u8>,
    is_open: bool,
    pub(crate) last_active: Instant,
    /// The plan knows the service now: closed by then, or when nothing has passed for a while.
    ends_at: Option<Instant>,
}

/// A relay that is to end waits for its client and server to have said nothing for so long.
const QUIET: Duration = Duration::from_secs(1);

/// It does not wait longer than this.
const LONGEST_END: Duration = Duration::from_secs(5 * 60);

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

impl Relay {
    /// The memory that it takes.
    pub(crate) fn memory(&self, sockets: &Sockets) -> usize {
        let unsent = sockets.memory(self.client.socket).saturating_add(sockets.memory(self.upstream.socket));
        unsent.saturating_add(self.early.capacity())
    }
}

impl Worker {
    /// Passes a client connection through to the cluster that Envoy would have used.
    pub(crate) fn relay(&mut self, client: SocketId, accept: &Accept, destination: Option<&str>) {
        let header = destination.map(|address| [(DESTINATION_HEADER, address)]);
        let upstream = accept.cluster.as_deref().and_then(|cluster| {
            let headers = header.as_ref().map_or(&[][..], |header| header.as_slice());
            self.sockets.connect(&Target { cluster, endpoint: None, headers })
        });
        let Some(upstream) = upstream else {
            self.sockets.close(client);
            return;
        };
        let relay = Relay {
            authority: accept.authority.as_str().into(),
            client: End::new(client),
            upstream: End::new(upstream),
            early: Vec::new(),
            is_open: false,
            last_active: self.now,
            ends_at: None,
        };
        let key = self.relays.insert(relay);
        self.own(client, Owner::RelayClient(key));
        self.own(upstream, Owner::RelayUpstream(key));
        self.sockets.count(client);
        self.sockets.count(upstream);
    }

    pub(crate) fn relay_connected(&mut self, key: RelayId) {
        let Some(relay) = self.relays.get_mut(key) else { return };
        relay.is_open = true;
        let early = core::mem::take(&mut relay.early);
        self.unread = self.unread.saturating_sub(early.capacity());
        if !early.is_empty() {
            self.relay_client_data(key, &early);
            self.relay_upstream_writable(key);
        }
        if self.relays.get(key).is_some_and(|relay| relay.client.has_ended) {
            self.relay_client_ended(key);
        }
    }

    pub(crate) fn relay_client_data(&mut self, key: RelayId, bytes: &[u8]) {
        let now = self.now;
        let Some(relay) = self.relays.get_mut(key) else { return };
        relay.last_active = now;
        if !relay.is_open {
            let before = relay.early.capacity();
            relay.early.extend_from_slice(bytes);
            self.unread = self.unread.saturating_sub(before).saturating_add(relay.early.capacity());
            return;
        }
        let Relay { client, upstream, .. } = relay;
        pass(&mut self.sockets, client, upstream, bytes);
    }

    pub(crate) fn relay_upstream_data(&mut self, key: RelayId, bytes: &[u8]) {
        let now = self.now;
        if let Some(Relay { client, upstream, last_active, .. }) = self.relays.get_mut(key) {
            *last_active = now;
            pass(&mut self.sockets, upstream, client, bytes);
        }
    }

    pub(crate) fn relay_client_ended(&mut self, key: RelayId) {
        let Some(relay) = self.relays.get_mut(key) else { return };
        relay.client.has_ended = true;
        if relay.is_open {
            self.sockets.finish(relay.upstream.socket);
            self.relay_close_if_ended(key);
        }
    }

    pub(crate) fn relay_upstream_ended(&mut self, key: RelayId) {
        let Some(relay) = self.relays.get_mut(key) else { return };
        relay.upstream.has_ended = true;
        self.sockets.finish(relay.client.socket);
        self.relay_close_if_ended(key);
    }

    fn relay_close_if_ended(&mut self, key: RelayId) {
        if self.relays.get(key).is_some_and(|relay| relay.client.has_ended && relay.upstream.has_ended) {
            self.relay_lost(key);
        }
    }

    /// One side is gone: closes what is left.
    pub(crate) fn relay_lost(&mut self, key: RelayId) {
        if let Some(relay) = self.relays.remove(key) {
            self.unread = self.unread.saturating_sub(relay.early.capacity());
            self.close_socket(relay.client.socket);
            self.close_socket(relay.upstream.socket);
        }
    }

    /// Ends a relay, and drops what is on its way.
    pub(crate) fn reset_relay(&mut self, key: RelayId) {
        if let Some(relay) = self.relays.get(key) {
            self.sockets.reset(relay.client.socket);
            self.sockets.reset(relay.upstream.socket);
            self.relay_lost(key);
        }
    }

    /// Ends the relays whose service `plan` knows, so that their clients connect again and are treated as it says: at
    /// once where calls may be denied, else at a quiet moment. Where it refuses whom it does not know, it ends all of them.
    pub(crate) fn end_relays(&mut self, plan: &Plan) {
        let latest = self.now.after(LONGEST_END);
        let mut guarded = Vec::new();
        for (key, relay) in self.relays.iter_mut() {
            match plan.service(&relay.authority) {
                _ if plan.unknown_authority == UnknownAuthority::Refuse => guarded.push(key),
                Some(service) if service.depth == Depth::Verified => guarded.push(key),
                Some(_) => relay.ends_at = relay.ends_at.or(Some(latest)),
                None => relay.ends_at = None,
            }
        }
        for key in guarded {
            self.relay_lost(key);
        }
    }

    /// Closes the relays whose time has come.
    pub(crate) fn sweep_relays(&mut self) {
        let mut over = Vec::new();
        let mut next = None;
        for (key, relay) in self.relays.iter() {
            match relay.due() {
                Some(due) if due <= self.now => over.push(key),
                due => next = earliest(next, due),
            }
        }
        self.wake_at(next);
        for key in over {
            self.relay_lost(key);
        }
    }

    pub(crate) fn relay_client_writable(&mut self, key: RelayId) {
        if let Some(relay) = self.relays.get_mut(key) {
            self.sockets.consumed(relay.upstream.socket, core::mem::take(&mut relay.upstream.credit));
        }
    }

    pub(crate) fn relay_upstream_writable(&mut self, key: RelayId) {
        if let Some(relay) = self.relays.get_mut(key) {
            self.sockets.consumed(relay.client.socket, core::mem::take(&mut relay.client.credit));
        }
    }
}

impl Relay {
    /// When to look whether it can end.
    fn due(&self) -> Option<Instant> {
        self.ends_at.map(|ends_at| ends_at.min(self.last_active.after(QUIET)))
    }
}

/// Writes to `to` what `from` sent, and gives the window back unless `to` is slow.
fn pass(sockets: &mut Sockets, from: &mut End, to: &End, bytes: &[u8]) {
    let Some(out) = sockets.write(to.socket) else {
        sockets.consumed(from.socket, bytes.len());
        return;
    };
    out.extend_from_slice(bytes);
    from.credit = from.credit.saturating_add(bytes.len());
    if sockets.queued(to.socket) < HIGH_WATERMARK {
        sockets.consumed(from.socket, core::mem::take(&mut from.credit));
    }
}
