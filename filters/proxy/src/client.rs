//! The client side: connections that tcp_proxy tunnels to the worker, and the requests on them.

use core::time::Duration;
use std::rc::Rc;

use meltemi_codecs::{Error, Failure, Frame, Kind, Peer, Sharing, Step};
use meltemi_sockets::{Accept, SocketId};

use crate::arena::Id;
use crate::call::CallId;
use crate::clock::{Instant, earliest};
use crate::inbox::{Inbox, Progress};
use crate::leaving::Stay;
use crate::peers::PeerId;
use crate::plan::Service;
use crate::source::Source;
use crate::telemetry::Metric;
use crate::upstream::ConnectionId;
use crate::worker::{FULL, Owner, Worker};

/// Names a client connection.
pub(crate) type ClientId = Id<Client>;

/// A client connection of a service that the plan knows.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) socket: SocketId,
    pub(crate) authority: Rc<str>,
    pub(crate) service: Rc<Service>,
    /// The cluster that Istio would have used: the default route.
    pub(crate) cluster: Option<Rc<str>>,
    /// The original destination, for clusters that go there.
    pub(crate) destination: Option<Rc<str>>,
    pub(crate) peer: Option<Rc<str>>,
    pub(crate) source: Source,
    /// Number of its identity in the metrics, where it has one.
    pub(crate) source_id: Option<PeerId>,
    inbox: Inbox,
    /// Received bytes whose window has not been given back.
    credit: usize,
    /// The calls without an answer.
    pub(crate) calls: Vec<CallId>,
    /// Bytes of the frames that those calls keep.
    pub(crate) held: usize,
    /// Requests are not read until calls end or answers leave.
    is_paused: bool,
    /// It is to be looked at when the event is handled.
    pub(crate) is_listed: bool,
    /// The client sends no more.
    has_ended: bool,
    pub(crate) stay: Stay,
    /// Upstream connections whose window waits until this client has read.
    pub(crate) blocked: Vec<ConnectionId>,
    /// When to see whether it has: so many bytes were unsent the last time.
    patience: Option<(Instant, usize)>,
    pub(crate) last_active: Instant,
}

/// Unsent answers of one client over which the upstream connections that feed it are not read either. Its requests are
/// not read from [`FULL`] on.
pub(crate) const STUCK: usize = 8 * FULL;

/// A client that keeps an upstream connection from being read, and in so long reads nothing itself, is given up: others
/// wait for their answers on that connection.
const PATIENCE: Duration = Duration::from_secs(5);

/// Bytes of frames kept for one client over which its requests are not read.
const MOST_HELD: usize = 4 * 1024 * 1024;

/// Bytes of frames kept for all clients over which only those are read for which none are.
const MOST_HELD_BY_ALL: usize = 128 * 1024 * 1024;

/// Bytes of incomplete requests of all clients over which one with a large one is closed.
const MOST_INCOMPLETE: usize = 256 * 1024 * 1024;

/// Bytes of an incomplete request that are looked at to answer it.
const MOST_HEAD: usize = 4096;

/// Header of the tunnel that names the original destination, for clusters of type ORIGINAL_DST.
pub(crate) const DESTINATION_HEADER: &str = "x-envoy-original-dst-host";

impl Client {
    /// Whether the end of one of its calls lets it go on, or go.
    pub(crate) fn awaits_end(&self) -> bool {
        self.is_paused || self.has_ended || matches!(self.stay, Stay::Leaving(_))
    }
}

impl Worker {
    /// A tunnel was opened: a client connection of a managed service, or one to pass through as it is.
    pub(crate) fn accepted(&mut self, socket: SocketId, accept: Accept) {
        self.sockets.accept(socket);
        let destination = accept.headers.iter().find(|(name, _)| name == DESTINATION_HEADER);
        let destination =
            destination.map(|(_, value)| value.as_str()).filter(|value| !matches!(*value, "" | "-"));
        let destination = destination.map(Rc::from);
        let Some(service) = self.plan.service(&accept.authority).cloned() else {
            self.relay(socket, &accept, destination.as_deref());
            return;
        };
        let source = Source::new(&accept);
        let most = self.plan.max_operations;
        let source_id = source.principal.as_deref().map(|principal| self.telemetry.source(principal, most));
        let key = self.clients.insert(Client {
            socket,
            authority: accept.authority.as_str().into(),
            service,
            cluster: accept.cluster.as_deref().map(Rc::from),
            destination,
            peer: accept.peer.as_deref().map(Rc::from),
            source,
            source_id,
            inbox: Inbox::default(),
            credit: 0,
            calls: Vec::new(),
            held: 0,
            is_paused: false,
            is_listed: false,
            has_ended: false,
            stay: Stay::Welcome,
            blocked: Vec::new(),
            patience: None,
            last_active: self.now,
        });
        self.own(socket, Owner::Client(key));
        self.telemetry.add_global(Metric::ClientConnections, 1);
        self.telemetry.add_global(Metric::ClientConnectionsActive, 1);
        self.note_arrival();
        self.ask_in_turn(key);
        let due = self.clients.get(key).and_then(|client| self.client_due(client));
        self.wake_at(due);
    }

    pub(crate) fn client_data(&mut self, key: ClientId, bytes: &[u8]) {
        let now = self.now;
        let Some(client) = self.clients.get_mut(key) else { return };
        client.credit = client.credit.saturating_add(bytes.len());
        client.last_active = now;
        if client.inbox.is_empty() && !client.is_paused {
            let progress = self.read_requests(key, bytes);
            if let Some(client) = self.clients.get_mut(key) {
                client.inbox.keep(bytes.get(progress.used..).unwrap_or_default(), progress.need);
            }
        } else {
            client.inbox.push(bytes);
            self.read_inbox(key);
        }
        self.check_incomplete(key);
        self.give_credit(key);
    }

    /// Gives a client up that has much of a frame here when all together have too much.
    fn check_incomplete(&mut self, key: ClientId) {
        let Some(client) = self.clients.get(key).filter(|client| client.inbox.len() > FULL) else { return };
        let all: usize = self.clients.values().map(|client| client.inbox.len()).sum();
        if all > MOST_INCOMPLETE {
            let head = client.inbox.front(MOST_HEAD).to_vec();
            self.refuse_client(key, Some(&head), Failure::Overloaded, "too many large requests at once");
        }
    }

    /// Reads on in what was kept.
    fn read_inbox(&mut self, key: ClientId) {
        let Some(client) = self.clients.get_mut(key) else { return };
        if client.is_paused {
            return;
        }
        let Some(taken) = client.inbox.take() else { return };
        let progress = self.read_requests(key, taken.unread());
        if let Some(client) = self.clients.get_mut(key) {
            client.inbox.restore(taken, progress.used, progress.need);
        }
    }

    /// Gives the window back for what was read, unless reading is paused.
    fn give_credit(&mut self, key: ClientId) {
        if let Some(client) = self.clients.get_mut(key)
            && !client.is_paused
        {
            self.sockets.consumed(client.socket, core::mem::take(&mut client.credit));
        }
    }

    /// Handles the complete frames at the front of `input`.
    fn read_requests(&mut self, key: ClientId, input: &[u8]) -> Progress {
        let mut progress = Progress::default();
        while let Some(rest) = input.get(progress.used..).filter(|rest| !rest.is_empty()) {
            if self.must_pause(key) {
                break;
            }
            let Some(client) = self.clients.get_mut(key) else { break };
            let service = &client.service;
            match service.codec.split(Peer::Client, rest, service.limits.max_frame_bytes) {
                Ok(Step::NeedMore { at_least }) => {
                    progress.need = at_least;
                    break;
                }
                Ok(Step::Frame(frame)) => {
                    let len = frame.len.clamp(1, rest.len());
                    self.read_frame(key, rest.get(..len).unwrap_or_default(), frame);
                    progress.used = progress.used.saturating_add(len);
                }
                Err(error) => {
                    self.unreadable_client(key, rest, &error);
                    break;
                }
            }
        }
        progress
    }

    fn read_frame(&mut self, key: ClientId, bytes: &[u8], frame: Frame) {
        match frame.kind {
            Kind::Request | Kind::OneWay => self.start_call(key, bytes, frame),
            Kind::HeartbeatRequest => {
                self.telemetry.add_global(Metric::Heartbeats, 1);
                if let Some(client) = self.clients.get(key)
                    && let Some(out) = self.sockets.write(client.socket)
                {
                    client.service.codec.heartbeat_reply(bytes, out);
                }
            }
            Kind::Response(_) => self.telemetry.add_global(Metric::UnmatchedResponses, 1),
            _ => {}
        }
    }

    /// Whether the client has to wait before its next request is read; notes it if so.
    fn must_pause(&mut self, key: ClientId) -> bool {
        let Some(client) = self.clients.get_mut(key) else { return true };
        let limits = &client.service.limits;
        let most_calls = match client.service.codec.sharing() {
            Sharing::Shared => limits.max_calls_per_connection,
            // Answers are known by their order.
            Sharing::Exclusive => 1,
        };
        let has_room = client.calls.len() < most_calls
            && client.held < MOST_HELD
            && (client.held == 0 || self.held < MOST_HELD_BY_ALL)
            && self.sockets.queued(client.socket) < FULL;
        client.is_paused = !has_room;
        client.is_paused
    }

    /// Reads on if the client was paused and need not be any more, and closes it if it is done.
    pub(crate) fn look_at_client(&mut self, key: ClientId) {
        let Some(client) = self.clients.get_mut(key) else { return };
        client.is_listed = false;
        if client.is_paused && !self.must_pause(key) {
            self.read_inbox(key);
            self.give_credit(key);
        }
        self.close_if_ended(key);
    }

    /// The client's bytes make no sense: answer if they still tell whom, then close.
    fn unreadable_client(&mut self, key: ClientId, rest: &[u8], error: &Error) {
        self.telemetry.add_global(Metric::DecodeErrors, 1);
        let request = matches!(error, Error::TooLarge { .. }).then_some(rest);
        self.refuse_client(key, request, Failure::BadRequest, &format!("bad request: {error}"));
    }

    /// Closes a client connection after an answer to its last request, if that is known.
    fn refuse_client(&mut self, key: ClientId, request: Option<&[u8]>, failure: Failure, detail: &str) {
        self.reply_unread(key, request, failure, detail);
        self.close_client(key);
    }

    pub(crate) fn client_ended(&mut self, key: ClientId) {
        if let Some(client) = self.clients.get_mut(key) {
            client.has_ended = true;
        }
        self.close_if_ended(key);
    }

    /// Closes a client connection that has ended, or is to leave, once its last answer is written.
    pub(crate) fn close_if_ended(&mut self, key: ClientId) {
        let now = self.now;
        if self.clients.get(key).is_some_and(|client| {
            let has_left = matches!(client.stay, Stay::Leaving(leaves_at) if leaves_at <= now);
            (client.has_ended || has_left) && client.calls.is_empty() && !client.is_paused
        }) {
            self.close_client(key);
        }
    }

    /// When this client next needs attention by time alone.
    pub(crate) fn client_due(&self, client: &Client) -> Option<Instant> {
        let patience = client.patience.map(|(until, _)| until);
        let is_idle = client.calls.is_empty();
        let turn = match client.stay {
            Stay::Welcome => None,
            Stay::Until(turn) => Some(turn),
            Stay::Leaving(leaves_at) => is_idle.then_some(leaves_at),
        };
        let idle = client.service.idle_timeout.filter(|_| is_idle);
        let idle = idle.map(|timeout| client.last_active.after(timeout));
        earliest(patience, earliest(idle, turn))
    }

    /// The time of this client has come.
    pub(crate) fn client_expired(&mut self, key: ClientId) {
        let now = self.now;
        let Some(client) = self.clients.get_mut(key) else { return };
        match client.patience {
            Some((until, unsent)) if until <= now => {
                if self.sockets.queued(client.socket) != unsent {
                    self.bear_with(key);
                } else {
                    // It would hold what is unsent for ever.
                    self.sockets.reset(client.socket);
                    self.drop_client(key);
                }
            }
            _ => match client.stay {
                Stay::Until(turn) if turn <= now => self.ask_to_leave(key),
                _ => self.close_client(key),
            },
        }
    }

    /// This client does not read the answers that `connection` brings: that is not read until the client has, and
    /// makes room for one that is.
    pub(crate) fn block(&mut self, key: ClientId, connection: ConnectionId) {
        let Some(feeding) = self.connections.get_mut(connection) else { return };
        let Some(client) = self.clients.get_mut(key) else { return };
        if !core::mem::replace(&mut feeding.is_blocked, true) {
            client.blocked.push(connection);
            self.bear_with(key);
            self.retire(connection);
        }
    }

    fn bear_with(&mut self, key: ClientId) {
        let until = self.now.after(PATIENCE);
        if let Some(client) = self.clients.get_mut(key) {
            client.patience = Some((until, self.sockets.queued(client.socket)));
            self.wake_at(Some(until));
        }
    }

    /// Answers of this client have left: read its requests again, and what feeds it.
    pub(crate) fn client_writable(&mut self, key: ClientId) {
        let Some(client) = self.clients.get_mut(key) else { return };
        client.patience = None;
        for connection in core::mem::take(&mut client.blocked) {
            self.unblock_connection(connection);
        }
        self.list_client(key);
    }

    /// Closes a client connection after what is queued for it.
    pub(crate) fn close_client(&mut self, key: ClientId) {
        if let Some(client) = self.clients.get(key) {
            let socket = client.socket;
            self.close_socket(socket);
            self.drop_client(key);
        }
    }

    /// Forgets a client whose socket is gone, and cancels its calls.
    pub(crate) fn drop_client(&mut self, key: ClientId) {
        let Some(client) = self.clients.remove(key) else { return };
        self.release(client.socket);
        self.telemetry.add_global(Metric::ClientConnectionsActive, -1);
        for call in client.calls {
            self.cancel_call(call);
        }
        for connection in client.blocked {
            self.unblock_connection(connection);
        }
    }
}
