//! Streams: calls of many frames both ways, which follow their opening by its id. One ends when both sides have, or by a
//! reset; until then it has its slot on the upstream connection.

use core::time::Duration;

use meltemi_codecs::{Edit, Failure, Frame, Kind, Outcome};

use crate::calls::{CallId, End, Try};
use crate::client::{ClientId, STUCK};
use crate::net::HIGH_WATERMARK;
use crate::slots::Answered;
use crate::upstream::ConnectionId;
use crate::worker::Worker;

/// A stream whose server has ended waits so long for the client's end: not every client says that it is done.
const LINGER: Duration = Duration::from_secs(10);

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
        record.request_bytes = record.request_bytes.saturating_add(bytes.len());
        if let Some(out) = self.net.write(connection.socket()) {
            let edit = Edit { id: connection.slots().id(open.slot), ..Edit::default() };
            // A change of the id alone never fails.
            let _ = record.service.codec.rewrite(bytes, &edit, out);
        }
        let Some(stream) = call.stream_mut() else { return };
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
                if stream.server_end.is_none() {
                    // It is open: the time for its answer counts no more.
                    call.set_deadline(None);
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
        record.response_bytes = record.response_bytes.saturating_add(bytes.len());
        if let Some(out) = client.write(&mut self.net) {
            let edit = Edit { id: Some(record.request_id), ..Edit::default() };
            let _ = record.service.codec.rewrite(bytes, &edit, out);
        }
        let queued = client.unsent(&self.net);
        self.watch_answers(key, queued);
        if queued > STUCK {
            self.block(key, connection);
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
        codec.error_reply(
            call.frame(),
            Failure::ConnectionLost,
            "meltemi: the stream was given up",
            &mut reset,
        );
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
