//! Streams: calls of many frames both ways, which follow their opening by its id. One ends when both sides have, or by a
//! reset; until then it has its slot on the upstream connection.

use core::time::Duration;

use meltemi_codecs::{Edit, Failure, Frame, Kind, Outcome};

use crate::calls::{self, CallId, End, Try};
use crate::client::{Client, ClientId};
use crate::clock::earliest;
use crate::net::HIGH_WATERMARK;
use crate::slots::Answered;
use crate::upstream::ConnectionId;
use crate::worker::Worker;

/// A stream whose server has ended waits so long for the client's end: not every client says that it is done.
const LINGER: Duration = Duration::from_secs(10);

/// From when a client is to leave until its streams are reset: as long as Envoy itself drains unless told otherwise.
const MOST_DRAINING: Duration = Duration::from_secs(10 * 60);

impl Worker {
    /// A client opens a stream.
    pub(crate) fn open_stream(&mut self, key: ClientId, bytes: &[u8], frame: Frame) {
        match self.stream_of(key, frame.id) {
            None => {
                self.start_call(key, bytes, frame);
            }
            Some(_) => {
                let why = "a stream with this id is open already";
                self.refuse_call(key, bytes, frame, Failure::BadRequest, why);
            }
        }
    }

    fn stream_of(&self, key: ClientId, id: u64) -> Option<CallId> {
        self.clients.get(key)?.stream(id)
    }

    /// Whether a frame of a client cannot be passed on yet: its stream has no connection so far, or the server does not
    /// read.
    pub(crate) fn must_hold(&self, key: ClientId, frame: &Frame) -> bool {
        if !matches!(frame.kind, Kind::Continued | Kind::Ended(_) | Kind::Reset(_)) {
            return false;
        }
        let call = self.stream_of(key, frame.id).and_then(|id| self.calls.get(id));
        call.is_some_and(|call| {
            let connection = call.open_try().and_then(|open| self.connections.get(open.connection));
            connection.is_none_or(|connection| self.net.queued(connection.socket()) >= HIGH_WATERMARK)
        })
    }

    /// A frame of a client's stream: passes it on. One of a stream that has ended is dropped.
    pub(crate) fn follow_client(&mut self, key: ClientId, bytes: &[u8], frame: Frame) {
        let Some(id) = self.stream_of(key, frame.id) else { return };
        let Some(call) = self.calls.get_mut(id) else { return };
        let Some(open) = call.open_try() else { return };
        let Some(connection) = self.connections.get(open.connection) else { return };
        let record = call.record_mut();
        record.request_bytes = record.request_bytes.saturating_add(calls::bytes(bytes.len()));
        if let Some(out) = self.net.write(connection.socket()) {
            let edit = Edit { id: connection.slots().id(open.slot), ..Edit::default() };
            // A change of the id alone never fails.
            let _ = record.service.codec.rewrite(bytes, &edit, out);
        }
        let Some(stream) = call.stream_mut() else { return };
        stream.active = stream.active.map(|_| self.now);
        match frame.kind {
            Kind::Ended(_) => {
                stream.client_has_ended = true;
                if let Some(outcome) = stream.server_end {
                    self.end_stream(id, outcome);
                }
            }
            Kind::Reset(_) => {
                stream.is_reset = true;
                self.finish(id, End::Cancelled);
            }
            _ => {}
        }
    }

    /// A frame of a stream from its server: passes it on.
    pub(crate) fn follow_server(&mut self, key: ConnectionId, bytes: &[u8], frame: Frame) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let found = connection.slots().find(frame.id);
        let Answered::Call(id) = found else {
            if matches!(frame.kind, Kind::Ended(_) | Kind::Reset(_)) {
                connection.slots_mut().answer(frame.id);
            }
            return;
        };
        let Some(call) = self.calls.get_mut(id) else { return };
        match (frame.kind, call.stream_mut()) {
            (Kind::Reset(outcome), _) | (Kind::Ended(outcome), None) => {
                connection.slots_mut().answer(frame.id);
                self.respond(id, key, bytes, outcome);
            }
            (Kind::Ended(outcome), Some(stream)) => {
                let is_over = stream.client_has_ended;
                stream.server_end = Some(outcome);
                call.set_deadline(Some(self.now.after(LINGER)));
                self.pass_back(id, key, bytes);
                if is_over {
                    self.end_stream(id, outcome);
                } else {
                    self.time_call(id);
                }
            }
            (_, Some(stream)) => {
                let is_opened = stream.active.replace(self.now).is_none();
                if is_opened && stream.server_end.is_none() {
                    // The time for its answer counts no more.
                    call.set_deadline(None);
                    self.bound_stream(id);
                }
                self.pass_back(id, key, bytes);
            }
            (_, None) => {}
        }
    }

    /// Writes a frame of a server to the client of the call.
    fn pass_back(&mut self, id: CallId, connection: ConnectionId, bytes: &[u8]) {
        let destination = self.connections.get(connection).and_then(|open| open.destination());
        let Some(call) = self.calls.get_mut(id) else { return };
        let Some(key) = call.origin().client() else { return };
        let Some(client) = self.clients.get_mut(key) else { return };
        let record = call.record_mut();
        record.destination = destination;
        record.response_bytes = record.response_bytes.saturating_add(calls::bytes(bytes.len()));
        if let Some(out) = client.write(&mut self.net) {
            let edit = Edit { id: Some(record.request_id), ..Edit::default() };
            let _ = record.service.codec.rewrite(bytes, &edit, out);
        }
        let queued = client.unsent(&self.net);
        self.watch_answers(key, queued);
        if self.is_much(queued) {
            self.block(key, connection);
        }
    }

    /// Sets the time by which an open stream is looked at: when it will have been silent for too long, or its client is to have
    /// left.
    fn bound_stream(&mut self, id: CallId) {
        let Some(call) = self.calls.get_mut(id) else { return };
        let idle = call.record().service.stream_idle_timeout;
        let active = call.stream().and_then(|stream| stream.active);
        let client = call.origin().client().and_then(|key| self.clients.get(key));
        let left = client.and_then(Client::leaves_at).map(|leaves_at| leaves_at.after(MOST_DRAINING));
        let silent = idle.and_then(|idle| Some(active?.after(idle)));
        if let Some(due) = earliest(silent, left) {
            call.set_deadline(Some(due));
            self.time_call(id);
        }
    }

    /// Ends a stream that is open for too long: silent, or with a client that is to have left. Whether there is nothing else to be
    /// done about the call.
    pub(crate) fn end_late_stream(&mut self, id: CallId) -> bool {
        let now = self.now;
        let Some(call) = self.calls.get(id) else { return false };
        let Some(stream) = call.stream().filter(|stream| stream.server_end.is_none()) else { return false };
        let client = call.origin().client().and_then(|key| self.clients.get(key));
        let left = client.and_then(Client::leaves_at).map(|leaves_at| leaves_at.after(MOST_DRAINING));
        if left.is_some_and(|left| left <= now) {
            let why = "the stream did not end within ten minutes of its client being asked to connect again";
            self.answer(id, Failure::ConnectionLost, why);
            return true;
        }
        let Some(active) = stream.active else { return false };
        let idle = call.record().service.stream_idle_timeout;
        if idle.is_some_and(|idle| active.after(idle) <= now) {
            let pool = call.pool();
            self.answer(id, Failure::Timeout, "no frame of the stream came within streamIdleTimeout");
            self.list_pool(pool);
        } else {
            self.bound_stream(id);
        }
        true
    }

    /// A client is to leave: its streams may hold it back for some time, but not for ever.
    pub(crate) fn bound_streams(&mut self, key: ClientId) {
        let Some(client) = self.clients.get(key) else { return };
        let Some(leaves_at) = client.leaves_at() else { return };
        for id in client.calls().ids().to_vec() {
            if let Some(call) = self.calls.get_mut(id).filter(|call| call.stream().is_some()) {
                call.bound(leaves_at.after(MOST_DRAINING));
                self.time_call(id);
            }
        }
    }

    /// Both sides of a stream have ended.
    pub(crate) fn end_stream(&mut self, id: CallId, outcome: Outcome) {
        let Some(call) = self.calls.get_mut(id) else { return };
        let (pool, open) = (call.pool(), call.take_tries());
        for open in open.into_iter().flatten() {
            if let Some(connection) = self.connections.get_mut(open.connection) {
                connection.slots_mut().release(open.slot);
            }
            self.close_if_retired(open.connection);
        }
        self.finish(id, End::Answered(outcome));
        self.list_pool(pool);
    }

    /// Tells a server that a stream of it is given up, unless it is through with it.
    pub(crate) fn reset_upstream(&mut self, id: CallId, open: Try) {
        let Some(call) = self.calls.get(id).filter(|call| call.needs_reset()) else { return };
        let Some(connection) = self.connections.get(open.connection) else { return };
        let Some(out) = self.net.write(connection.socket()) else { return };
        let codec = &call.record().service.codec;
        let mut reset = Vec::new();
        codec.reset(call.frame(), Failure::ConnectionLost, "meltemi: the stream was given up", &mut reset);
        let edit = Edit { id: connection.slots().id(open.slot), ..Edit::default() };
        let _ = codec.rewrite(&reset, &edit, out);
    }

    /// A server reads again: so are the clients whose streams waited for that.
    pub(crate) fn list_streams(&mut self, key: ConnectionId) {
        let Some(connection) = self.connections.get(key) else { return };
        let calls = connection.slots().calls().filter_map(|id| self.calls.get(id));
        let clients: Vec<_> =
            calls.filter(|call| call.stream().is_some()).filter_map(|call| call.origin().client()).collect();
        for client in clients {
            self.list_client(client);
        }
    }
}
