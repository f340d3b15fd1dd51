//! The client side: connections that tcp_proxy tunnels to the worker, and the requests on them.

mod backpressure;
mod pinned;
mod state;
mod turns;

use std::rc::Rc;

use meltemi_codecs::{Error, Failure, Frame, Kind, Peer, Step};
use meltemi_sockets::{Accept, SocketId};

use crate::calls::{CallId, End};
use crate::inbox::Progress;
use crate::net::{HIGH_WATERMARK, Owner};
use crate::plan::{Service, UnknownAuthority};
use crate::source::Source;
use crate::telemetry::Metric;
use crate::worker::Worker;

pub(crate) use self::state::{Change, Client, ClientId, Expiry};

/// Header of the tunnel that names the original destination, for clusters of type ORIGINAL_DST.
pub(crate) const DESTINATION_HEADER: &str = "x-envoy-original-dst-host";

impl Worker {
    /// A tunnel was opened: a client connection of a managed service, or one to pass through as it is.
    pub(crate) fn accepted(&mut self, socket: SocketId, accept: Accept) {
        self.net.accept(socket);
        let destination = accept.headers.iter().find(|(name, _)| name == DESTINATION_HEADER);
        let destination =
            destination.map(|(_, value)| value.as_str()).filter(|value| !matches!(*value, "" | "-"));
        let destination = destination.map(Rc::from);
        match self.plan.service(&accept.authority).cloned() {
            Some(service) if service.others.is_some() => self.detect(socket, accept, destination),
            Some(service) => _ = self.admit(socket, &accept, service, destination),
            None => match self.plan.unknown_authority {
                UnknownAuthority::Relay => {
                    self.relays.open(socket, &accept, destination.as_deref(), self.now, &mut self.net);
                }
                UnknownAuthority::Refuse => self.net.close(socket),
            },
        }
    }

    /// A client of a service whose protocol is known.
    pub(crate) fn admit(
        &mut self,
        socket: SocketId,
        accept: &Accept,
        service: Rc<Service>,
        destination: Option<Rc<str>>,
    ) -> ClientId {
        let mut source = Source::new(accept);
        let most = self.plan.max_operations;
        source.id = source.principal.as_deref().map(|principal| self.telemetry.source(principal, most));
        source.party = self.reports.source(accept);
        let client = Client::new(socket, accept, service, destination, source, self.now);
        let key = self.clients.insert(client);
        self.net.own(socket, Owner::Client(key));
        self.telemetry.add_global(Metric::ClientConnections, 1);
        self.telemetry.add_global(Metric::ClientConnectionsActive, 1);
        self.note_arrival();
        self.drain_in_turn(key);
        self.time_client(key);
        key
    }

    pub(crate) fn client_data(&mut self, key: ClientId, bytes: &[u8]) {
        let Some(client) = self.clients.get_mut(key) else { return };
        if client.came(bytes.len(), self.now) {
            let progress = self.read_requests(key, bytes);
            if let Some(client) = self.clients.get_mut(key) {
                client
                    .intake_mut()
                    .inbox_mut()
                    .keep(bytes.get(progress.used..).unwrap_or_default(), progress.need);
            }
        } else {
            client.intake_mut().inbox_mut().push(bytes);
            self.read_inbox(key);
        }
        self.settle_client(key);
    }

    /// After a read: notes what was not read and how long a request that has come in part takes, and gives the window
    /// back for the rest, unless reading is paused.
    fn settle_client(&mut self, key: ClientId) {
        let Some(client) = self.clients.get_mut(key) else { return };
        client.note_arrival(self.now);
        client.intake_mut().count(&mut self.unread);
        self.net.consumed(client.socket(), client.take_credit());
        self.time_client(key);
    }

    /// Reads on in what was kept.
    fn read_inbox(&mut self, key: ClientId) {
        let Some(client) = self.clients.get_mut(key) else { return };
        if client.is_paused() {
            return;
        }
        let Some(taken) = client.intake_mut().inbox_mut().take() else { return };
        let progress = self.read_requests(key, taken.unread());
        if let Some(client) = self.clients.get_mut(key) {
            client.intake_mut().inbox_mut().restore(taken, progress.used, progress.need);
        }
    }

    /// Handles the complete frames at the front of `input`.
    fn read_requests(&mut self, key: ClientId, input: &[u8]) -> Progress {
        let mut progress = Progress::default();
        let mut has_read = false;
        while let Some(rest) = input.get(progress.used..).filter(|rest| !rest.is_empty()) {
            if let Some(upload) = self.clients.get(key).and_then(Client::upload) {
                let passed = self.pass_upload(key, upload, rest);
                progress.used = progress.used.saturating_add(passed);
                if passed == 0 {
                    break;
                }
                continue;
            }
            if self.must_pause(key) {
                break;
            }
            let Some(client) = self.clients.get_mut(key) else { break };
            let service = client.service();
            match service.codec.split(Peer::Client, rest, service.limits.max_request_bytes) {
                Ok(Step::NeedMore { at_least }) => {
                    let Progress { used, need } = self.begin_upload(key, rest, at_least);
                    progress = Progress { used: progress.used.saturating_add(used), need };
                    has_read |= used > 0;
                    if used == 0 {
                        break;
                    }
                }
                Ok(Step::Frame(frame)) if self.must_hold(key, &frame) => {
                    if let Some(client) = self.clients.get_mut(key) {
                        client.pause(true);
                    }
                    break;
                }
                Ok(Step::Frame(frame)) => {
                    has_read = true;
                    let len = frame.len.clamp(1, rest.len());
                    self.read_frame(key, rest.get(..len).unwrap_or_default(), frame);
                    progress.used = progress.used.saturating_add(len);
                }
                // What was asked for before that is answered first.
                Err(_) if self.clients.get(key).is_some_and(|client| client.turns().len() > 0) => {
                    if let Some(client) = self.clients.get_mut(key) {
                        client.pause(true);
                    }
                    break;
                }
                Err(error) => {
                    self.unreadable_client(key, rest, &error);
                    break;
                }
            }
        }
        if has_read && let Some(client) = self.clients.get_mut(key) {
            client.arrived();
        }
        progress
    }

    fn read_frame(&mut self, key: ClientId, bytes: &[u8], frame: Frame) {
        match frame.kind {
            Kind::Request | Kind::OneWay | Kind::Opened
                if self.clients.get(key).is_some_and(Client::is_full) =>
            {
                // A client with streams is read nonetheless.
                let why = "the client has too many calls in flight beside its streams";
                self.refuse_call(key, bytes, frame, Failure::Overloaded, why);
            }
            Kind::Request | Kind::OneWay => {
                self.start_call(key, bytes, frame);
            }
            Kind::Refused(why) => self.refuse_call(key, bytes, frame, Failure::BadRequest, why),
            Kind::Opened => self.open_stream(key, bytes, frame),
            Kind::Continued | Kind::Ended(_) | Kind::Reset(_) => self.follow_client(key, bytes, frame),
            Kind::HeartbeatRequest => {
                self.telemetry.add_global(Metric::Heartbeats, 1);
                if let Some(client) = self.clients.get_mut(key) {
                    let codec = client.service().codec.clone();
                    if let Some(out) = client.write(&mut self.net) {
                        codec.heartbeat_reply(bytes, out);
                    }
                }
            }
            Kind::Response(_) => self.telemetry.add_global(Metric::UnmatchedResponses, 1),
            _ => {}
        }
    }

    /// Whether the client has to wait before its next request is read; notes it if so.
    fn must_pause(&mut self, key: ClientId) -> bool {
        let Some(client) = self.clients.get(key) else { return true };
        let queued = client.unsent(&self.net);
        let is_paused =
            !client.has_room(queued.saturating_add(client.turns().held())) || self.has_its_part(client);
        if queued >= HIGH_WATERMARK {
            self.watch_answers(key, queued);
        }
        if let Some(client) = self.clients.get_mut(key) {
            client.pause(is_paused);
        }
        is_paused
    }

    /// A call of a client has ended: the answers follow that waited for its own.
    pub(crate) fn end_turn(&mut self, key: ClientId, call: CallId) {
        let Some(client) = self.clients.get_mut(key) else { return };
        if !client.turns_mut().end(call) {
            return;
        }
        while let Some(answer) = client.turns_mut().take() {
            if !answer.is_empty()
                && let Some(out) = client.write(&mut self.net)
            {
                out.extend_from_slice(&answer);
            }
        }
        let queued = client.unsent(&self.net);
        self.watch_answers(key, queued);
    }

    /// Reads on if the client was paused and need not be any more, and closes it if it is done.
    pub(crate) fn look_at_client(&mut self, key: ClientId) {
        let Some(client) = self.clients.get_mut(key) else { return };
        client.unlist();
        if client.is_over() {
            return self.end_pinned_client(key);
        }
        if client.upload().is_some() || (client.is_paused() && !self.must_pause(key)) {
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
            client.end();
        }
        self.cut_upload(key);
        self.close_if_ended(key);
    }

    /// Closes a client connection that has ended, or is to leave, once its last answer is written, and the most of it
    /// sent: of what closed ones have to read, no more is kept than has room.
    pub(crate) fn close_if_ended(&mut self, key: ClientId) {
        let is_done = |client: &Client| client.is_done(self.now) && client.unsent(&self.net) < HIGH_WATERMARK;
        if self.clients.get(key).is_some_and(is_done) {
            self.close_client(key);
        }
    }

    /// Closes a client connection after what is queued for it.
    pub(crate) fn close_client(&mut self, key: ClientId) {
        if let Some(client) = self.clients.get(key) {
            let socket = client.socket();
            match client.arrival() {
                None => self.net.close(socket),
                // It has a part of an answer, which is not to look like its end.
                Some(_) => self.net.reset(socket),
            }
            self.drop_client(key);
        }
    }

    /// Forgets a client whose socket is gone, and cancels its calls.
    pub(crate) fn drop_client(&mut self, key: ClientId) {
        let Some(client) = self.clients.remove(key) else { return };
        self.unread = self.unread.saturating_sub(client.counted());
        self.net.release(client.socket());
        if let Some(upload) = client.upload() {
            self.forget_upload(key);
            self.tear(upload);
        }
        if let Some(arrival) = client.arrival() {
            self.forget_download(arrival.from());
        }
        self.telemetry.add_global(Metric::ClientConnectionsActive, -1);
        for connection in client.blocked() {
            self.unblock_connection(*connection);
        }
        for call in client.into_calls() {
            self.finish(call, End::Cancelled);
        }
        self.end_pools_of(key);
    }
}
