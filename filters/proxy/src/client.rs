//! The client side: connections that tcp_proxy tunnels to the worker, and the requests on them.

use core::time::Duration;
use std::rc::Rc;

use meltemi_codecs::{Error, Failure, Frame, Kind, Peer, Step};
use meltemi_sockets::{Accept, SocketId};

use crate::arena::Id;
use crate::calls::{ClientCalls, End};
use crate::clock::{Instant, earliest};
use crate::inbox::{Inbox, Progress};
use crate::leaving::Stay;
use crate::matching::Matching;
use crate::net::{HIGH_WATERMARK, Owner};
use crate::plan::{Service, UnknownAuthority};
use crate::pool::PoolId;
use crate::source::Source;
use crate::telemetry::{Metric, OperationId};
use crate::upstream::ConnectionId;
use crate::worker::Worker;

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
    pub(crate) source: Rc<Source>,
    pub(crate) inbox: Inbox,
    /// What the sum of unread bytes has of the inbox.
    pub(crate) unread: usize,
    /// The request that has come in part: since when no [`STEP`] more of it has, and its length then.
    pub(crate) arriving: Option<(Instant, usize)>,
    /// Received bytes whose window has not been given back.
    credit: usize,
    /// That of its last call, and mostly of the next.
    pub(crate) pool: Option<PoolId>,
    /// Likewise.
    pub(crate) operation: Option<OperationId>,
    /// The calls without an answer.
    pub(crate) calls: ClientCalls,
    /// Requests are not read until calls end or answers leave.
    is_paused: bool,
    /// It is to be looked at when the event is handled.
    pub(crate) is_listed: bool,
    /// The client sends no more.
    has_ended: bool,
    pub(crate) stay: Stay,
    /// Upstream connections whose window waits until this client has read.
    pub(crate) blocked: Vec<ConnectionId>,
    /// When to see whether it has: so many bytes of answers had been sent the last time.
    backpressure: Option<(Instant, u64)>,
    /// Since when no more bytes of answers were sent than these, as far as was seen.
    pub(crate) read: Option<(Instant, u64)>,
    pub(crate) last_active: Instant,
    /// When it is looked at, by then or before it is due.
    pub(crate) looked_at: Option<Instant>,
}

/// Unsent answers of one client over which the upstream connections that feed it are not read either. Its requests are
/// not read from [`HIGH_WATERMARK`] on.
pub(crate) const STUCK: usize = 8 * HIGH_WATERMARK;

/// A client that keeps an upstream connection from being read is given up after so long: if it has read nothing in it, or
/// if others wait for their answers on that connection.
const BACKPRESSURE_TIMEOUT: Duration = Duration::from_secs(1);

/// So much more of a request is progress.
const STEP: usize = 16 * 1024;

/// Bytes of frames kept for one client over which its requests are not read.
const MOST_HELD: usize = 4 * 1024 * 1024;

/// Bytes of an incomplete request that are looked at to answer it.
const MOST_HEAD: usize = 4096;

/// Header of the tunnel that names the original destination, for clusters of type ORIGINAL_DST.
pub(crate) const DESTINATION_HEADER: &str = "x-envoy-original-dst-host";

impl Client {
    /// Whether the end of one of its calls lets it go on, or go.
    pub(crate) fn awaits_end(&self) -> bool {
        self.is_paused || self.has_ended || matches!(self.stay, Stay::Draining(_))
    }

    /// When it next needs attention by time alone.
    pub(crate) fn due(&self) -> Option<Instant> {
        let backpressure = self.backpressure.map(|(until, _)| until);
        earliest(earliest(backpressure, self.arrival_due()), self.end_due())
    }

    /// When what has come of a request is no longer waited for.
    fn arrival_due(&self) -> Option<Instant> {
        let (since, _) = self.arriving?;
        self.service.frame_timeout.map(|timeout| since.after(timeout))
    }

    /// When it is to leave, or has been idle for too long.
    fn end_due(&self) -> Option<Instant> {
        let is_idle = self.calls.is_empty();
        let turn = match self.stay {
            Stay::Welcome => None,
            Stay::Until(turn) => Some(turn),
            Stay::Draining(leaves_at) => is_idle.then_some(leaves_at),
        };
        let idle = self.service.idle_timeout.filter(|_| is_idle);
        earliest(idle.map(|timeout| self.last_active.after(timeout)), turn)
    }
}

impl Worker {
    /// A tunnel was opened: a client connection of a managed service, or one to pass through as it is.
    pub(crate) fn accepted(&mut self, socket: SocketId, accept: Accept) {
        self.net.accept(socket);
        let destination = accept.headers.iter().find(|(name, _)| name == DESTINATION_HEADER);
        let destination =
            destination.map(|(_, value)| value.as_str()).filter(|value| !matches!(*value, "" | "-"));
        let destination = destination.map(Rc::from);
        let Some(service) = self.plan.service(&accept.authority).cloned() else {
            match self.plan.unknown_authority {
                UnknownAuthority::Relay => {
                    self.relays.open(socket, &accept, destination.as_deref(), self.now, &mut self.net);
                }
                UnknownAuthority::Refuse => self.net.close(socket),
            }
            return;
        };
        let mut source = Source::new(&accept);
        let most = self.plan.max_operations;
        source.id = source.principal.as_deref().map(|principal| self.telemetry.source(principal, most));
        let key = self.clients.insert(Client {
            socket,
            authority: accept.authority.as_str().into(),
            service,
            cluster: accept.cluster.as_deref().map(Rc::from),
            destination,
            source: Rc::new(source),
            inbox: Inbox::default(),
            unread: 0,
            arriving: None,
            credit: 0,
            pool: None,
            operation: None,
            calls: ClientCalls::default(),
            is_paused: false,
            is_listed: false,
            has_ended: false,
            stay: Stay::Welcome,
            blocked: Vec::new(),
            backpressure: None,
            read: None,
            last_active: self.now,
            looked_at: None,
        });
        self.net.own(socket, Owner::Client(key));
        self.telemetry.add_global(Metric::ClientConnections, 1);
        self.telemetry.add_global(Metric::ClientConnectionsActive, 1);
        self.note_arrival();
        self.drain_in_turn(key);
        self.time_client(key);
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
        self.settle_client(key);
    }

    /// After a read: notes what was not read and how long a request that has come in part takes, and gives the window
    /// back for the rest, unless reading is paused.
    fn settle_client(&mut self, key: ClientId) {
        let Some(client) = self.clients.get_mut(key) else { return };
        let len = client.inbox.len();
        if client.is_paused || len == 0 {
            client.arriving = None;
        } else if client.arriving.is_none_or(|(_, before)| len >= before.saturating_add(STEP)) {
            client.arriving = Some((self.now, len));
        }
        let memory = client.inbox.memory();
        let before = core::mem::replace(&mut client.unread, memory);
        self.unread = self.unread.saturating_sub(before).saturating_add(memory);
        if !client.is_paused {
            self.net.consumed(client.socket, core::mem::take(&mut client.credit));
        }
        self.time_client(key);
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

    /// Handles the complete frames at the front of `input`.
    fn read_requests(&mut self, key: ClientId, input: &[u8]) -> Progress {
        let mut progress = Progress::default();
        while let Some(rest) = input.get(progress.used..).filter(|rest| !rest.is_empty()) {
            if self.must_pause(key) {
                break;
            }
            let Some(client) = self.clients.get_mut(key) else { break };
            let service = &client.service;
            match service.codec.split(Peer::Client, rest, service.limits.max_request_bytes) {
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
        if progress.used > 0
            && let Some(client) = self.clients.get_mut(key)
        {
            client.arriving = None;
        }
        progress
    }

    fn read_frame(&mut self, key: ClientId, bytes: &[u8], frame: Frame) {
        match frame.kind {
            Kind::Request | Kind::OneWay => self.start_call(key, bytes, frame),
            Kind::Refused(why) => self.refuse_call(key, bytes, frame, why),
            Kind::Opened => self.refuse_call(key, bytes, frame, "streams are not supported"),
            Kind::HeartbeatRequest => {
                self.telemetry.add_global(Metric::Heartbeats, 1);
                if let Some(client) = self.clients.get(key)
                    && let Some(out) = self.net.write(client.socket)
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
        let Some(client) = self.clients.get(key) else { return true };
        let most_calls = Matching::new(client.service.sharing).client_limit(&client.service.limits);
        let queued = self.net.queued(client.socket);
        let has_room =
            client.calls.len() < most_calls && client.calls.held() < MOST_HELD && queued < HIGH_WATERMARK;
        let is_paused = !has_room || self.has_its_part(client);
        if queued >= HIGH_WATERMARK {
            self.watch_answers(key, queued);
        }
        if let Some(client) = self.clients.get_mut(key) {
            client.is_paused = is_paused;
        }
        is_paused
    }

    /// Reads on if the client was paused and need not be any more, and closes it if it is done.
    pub(crate) fn look_at_client(&mut self, key: ClientId) {
        let Some(client) = self.clients.get_mut(key) else { return };
        client.is_listed = false;
        if client.is_paused && !self.must_pause(key) {
            self.read_inbox(key);
            self.settle_client(key);
        }
        self.close_if_ended(key);
    }

    /// The client's bytes make no sense: answer if they still say whom, then close.
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
            let has_left = matches!(client.stay, Stay::Draining(leaves_at) if leaves_at <= now);
            (client.has_ended || has_left) && client.calls.is_empty() && !client.is_paused
        }) {
            self.close_client(key);
        }
    }

    /// The time of this client has come.
    pub(crate) fn client_expired(&mut self, key: ClientId) {
        let now = self.now;
        let Some(client) = self.clients.get(key) else { return };
        let has_come = |due: Option<Instant>| due.is_some_and(|due| due <= now);
        if let Some((until, sent)) = client.backpressure
            && until <= now
        {
            let has_read = self.net.sent(client.socket) != sent;
            if has_read && !self.keeps_others_waiting(key) {
                self.watch_backpressure(key);
            } else {
                self.give_up(
                    key,
                    "unread_answers",
                    Failure::Overloaded,
                    "the client does not read its answers",
                );
            }
        } else if has_come(client.arrival_due()) {
            let time = client.service.frame_timeout.unwrap_or_default();
            let detail = format!("incomplete request: no more of it arrived within {time:?}");
            self.give_up(key, "incomplete_request", Failure::Timeout, &detail);
        } else if has_come(client.end_due()) {
            match client.stay {
                Stay::Until(turn) if turn <= now => self.drain_client(key),
                _ => self.close_client(key),
            }
        }
    }

    /// Whether calls of others are on an upstream connection that is not read because of this client.
    fn keeps_others_waiting(&self, key: ClientId) -> bool {
        let Some(client) = self.clients.get(key) else { return false };
        let connections = client.blocked.iter().filter_map(|blocked| self.connections.get(*blocked));
        let mut calls = connections.flat_map(|connection| connection.slots().calls());
        calls.any(|call| self.calls.get(call).is_some_and(|call| call.origin.client() != Some(key)))
    }

    /// Closes a client that takes what others need. What it does not read is dropped.
    pub(crate) fn give_up(&mut self, key: ClientId, reason: &'static str, failure: Failure, detail: &str) {
        let Some(client) = self.clients.get(key) else { return };
        let (socket, head) = (client.socket, client.inbox.front(MOST_HEAD).to_vec());
        self.telemetry.add_global(Metric::ClientConnectionsGivenUp(reason), 1);
        let reads = self.net.queued(socket) == 0;
        self.reply_unread(key, (reads && !head.is_empty()).then_some(&head), failure, detail);
        if reads {
            self.close_client(key);
        } else {
            self.net.reset(socket);
            self.drop_client(key);
        }
    }

    /// This client does not read the answers that `connection` brings: that is not read until the client has, and
    /// makes room for one that is.
    pub(crate) fn block(&mut self, key: ClientId, connection: ConnectionId) {
        let Some(feeding) = self.connections.get_mut(connection) else { return };
        let Some(client) = self.clients.get_mut(key) else { return };
        if feeding.block() {
            client.blocked.push(connection);
            self.watch_backpressure(key);
            self.retire(connection);
        }
    }

    /// An answer was written: sees whether the client has read since the last one.
    pub(crate) fn watch_answers(&mut self, key: ClientId, queued: usize) {
        let Some(client) = self.clients.get_mut(key) else { return };
        let sent = self.net.sent(client.socket);
        if client.read.is_none_or(|(_, before)| before != sent) {
            client.read = Some((self.now, sent));
        }
        if queued >= HIGH_WATERMARK && client.backpressure.is_none() {
            self.watch_backpressure(key);
        }
    }

    /// Looks again some time later whether a client has read anything by then.
    fn watch_backpressure(&mut self, key: ClientId) {
        let Some(client) = self.clients.get_mut(key) else { return };
        let is_blocking = !client.blocked.is_empty();
        let time = if is_blocking { Some(BACKPRESSURE_TIMEOUT) } else { client.service.frame_timeout };
        client.backpressure = time.map(|time| (self.now.after(time), self.net.sent(client.socket)));
        self.time_client(key);
    }

    /// Answers of this client have left: read its requests again, and what feeds it.
    pub(crate) fn client_writable(&mut self, key: ClientId) {
        let Some(client) = self.clients.get_mut(key) else { return };
        client.backpressure = None;
        for connection in core::mem::take(&mut client.blocked) {
            self.unblock_connection(connection);
        }
        self.list_client(key);
    }

    /// Closes a client connection after what is queued for it.
    pub(crate) fn close_client(&mut self, key: ClientId) {
        if let Some(client) = self.clients.get(key) {
            let socket = client.socket;
            self.net.close(socket);
            self.drop_client(key);
        }
    }

    /// Forgets a client whose socket is gone, and cancels its calls.
    pub(crate) fn drop_client(&mut self, key: ClientId) {
        let Some(client) = self.clients.remove(key) else { return };
        self.unread = self.unread.saturating_sub(client.unread);
        self.net.release(client.socket);
        self.telemetry.add_global(Metric::ClientConnectionsActive, -1);
        for call in client.calls.into_ids() {
            self.finish(call, End::Cancelled);
        }
        for connection in client.blocked {
            self.unblock_connection(connection);
        }
    }
}
