//! Large answers, which are passed on while they come.
//!
//! Other answers to the same client wait behind one. A server that stops in the middle of it costs its client.

use meltemi_codecs::{Edit, Frame, Kind, Outcome, Peer};

use crate::calls::{End, bytes};
use crate::client::ClientId;
use crate::clock::Instant;
use crate::inbox::Progress;
use crate::upload::more_front;
use crate::upstream::ConnectionId;
use crate::worker::Worker;

/// What a connection has still to bring of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Download {
    /// Whose it is; nobody's once that client is gone.
    to: Option<ClientId>,
    /// Bytes that are to come.
    left: usize,
    /// Bytes of the whole answer.
    whole: usize,
}

/// An answer that a client has in part.
#[derive(Debug)]
pub(crate) struct Arrival {
    /// Where the rest comes from.
    from: ConnectionId,
    /// When the last of it came.
    at: Instant,
    /// Other answers, which follow it.
    behind: Vec<u8>,
    /// What the sum of unread bytes has of them.
    counted: usize,
}

impl Download {
    /// Nobody waits for it any more.
    pub(crate) fn forget(&mut self) {
        self.to = None;
    }

    /// What is left of it behind so many bytes, if that is anything.
    pub(crate) fn without(self, count: usize) -> Option<Self> {
        let left = self.left.checked_sub(count).filter(|left| *left > 0)?;
        Some(Self { left, ..self })
    }

    /// Whose it is.
    pub(crate) fn client(self) -> Option<ClientId> {
        self.to
    }

    /// Bytes that are to come and are wanted, if as many answers as large follow.
    pub(crate) fn coming(self, followers: usize) -> usize {
        if self.is_for_nobody() { 0 } else { self.left.saturating_add(self.whole.saturating_mul(followers)) }
    }

    /// Whether its client is gone.
    pub(crate) fn is_for_nobody(self) -> bool {
        self.to.is_none()
    }
}

impl Arrival {
    pub(crate) fn from(&self) -> ConnectionId {
        self.from
    }

    pub(crate) fn at(&self) -> Instant {
        self.at
    }

    pub(crate) fn touch(&mut self, now: Instant) {
        self.at = now;
    }

    pub(crate) fn behind(&self) -> &Vec<u8> {
        &self.behind
    }

    pub(crate) fn behind_mut(&mut self) -> &mut Vec<u8> {
        &mut self.behind
    }

    /// Corrects the sum of unread bytes.
    pub(crate) fn count(&mut self, sum: &mut usize) {
        let before = core::mem::replace(&mut self.counted, self.behind.capacity());
        *sum = sum.saturating_sub(before).saturating_add(self.counted);
    }

    pub(crate) fn counted(&self) -> usize {
        self.counted
    }
}

impl Worker {
    /// The frame at the front of `rest` needs at least so many bytes. Passes it on while it comes, if it is a large answer
    /// and that can be; else says when to look at it again.
    pub(crate) fn begin_download(&mut self, key: ConnectionId, rest: &[u8], at_least: usize) -> Progress {
        let stored = Progress { used: 0, need: at_least };
        let Some(connection) = self.connections.get(key) else { return stored };
        let Some(pool) = self.pools.get(connection.pool()) else { return stored };
        let (codec, limits) = (&pool.service().codec, &pool.service().limits);
        if at_least <= limits.cut_through_bytes || pool.service().is_pinned {
            return stored;
        }
        let front = codec.front(Peer::Server, rest, limits.max_frame_bytes, &mut self.head);
        let Some(Frame { len, kind: Kind::Response(outcome), id, .. }) = front else {
            return more_front(rest, at_least);
        };
        let Some(left) = len.checked_sub(rest.len()).filter(|left| *left > 0) else { return stored };
        // An error may be one to retry.
        let call = connection.slots().answered_by(id).filter(|_| !matches!(outcome, Outcome::Error(_)));
        let Some((call, waiting)) = call.and_then(|id| Some((id, self.calls.get_mut(id)?))) else {
            return stored;
        };
        let client_key = waiting.origin().client();
        let Some((client_key, client)) = client_key.and_then(|key| Some((key, self.clients.get_mut(key)?)))
        else {
            return stored;
        };
        if client.arrival().is_some()
            || client.turns().must_wait(call)
            || !waiting.route().response_edit.is_empty()
        {
            return stored;
        }
        let edit = Edit { id: Some(waiting.record().request_id), ..Edit::default() };
        let Some(out) = self.net.write(client.socket()) else { return stored };
        if codec.rewrite(rest, &edit, out).is_err() {
            return stored;
        }
        let arrival = Arrival { from: key, at: self.now, behind: Vec::new(), counted: 0 };
        client.set_arrival(Some(arrival));
        let sent = if pool.is_watched() { waiting.sent_on(key) } else { None };
        waiting.answered(key, None, self.now);
        waiting.record_mut().response_bytes = bytes(len);
        let mut judged = None;
        if let Some(connection) = self.connections.get_mut(key) {
            judged = Some((connection.pool(), connection.endpoint()));
            waiting.record_mut().destination = connection.destination();
            connection.slots_mut().answer(id);
            connection.set_download(Some(Download { to: Some(client_key), left, whole: len }));
        }
        self.time_client(client_key);
        self.watch_download(client_key, key);
        self.finish(call, End::Answered(outcome));
        if let Some((pool, endpoint)) = judged {
            if let Some(sent) = sent {
                self.time_answer(pool, sent, false);
            }
            self.judge(pool, endpoint, false);
        }
        Progress { used: rest.len(), need: 0 }
    }

    /// Passes on what `rest` has of the answer that a connection brings: how many bytes that is.
    pub(crate) fn pass_download(&mut self, key: ConnectionId, download: Download, rest: &[u8]) -> usize {
        let count = download.left.min(rest.len());
        if let Some(client) = download.to.and_then(|key| self.clients.get(key)) {
            self.net.pass(client.socket(), rest.get(..count).unwrap_or_default());
        }
        self.go_on_with_download(key, download, count);
        count
    }

    /// So many bytes of an answer were passed on.
    pub(crate) fn go_on_with_download(&mut self, key: ConnectionId, download: Download, count: usize) {
        let rest = download.without(count);
        if let Some(connection) = self.connections.get_mut(key) {
            connection.set_download(rest);
        }
        let Some(client_key) = download.to else { return };
        let Some(client) = self.clients.get_mut(client_key) else { return };
        client.touch_arrival(self.now);
        if rest.is_none() {
            self.end_download(client_key);
        }
        self.watch_download(client_key, key);
    }

    /// The last of an answer was written: what waited behind it follows.
    fn end_download(&mut self, key: ClientId) {
        let Some(client) = self.clients.get_mut(key) else { return };
        if let Some(arrival) = client.set_arrival(None) {
            self.unread = self.unread.saturating_sub(arrival.counted());
            if !arrival.behind().is_empty()
                && let Some(out) = self.net.write(client.socket())
            {
                out.extend_from_slice(arrival.behind());
            }
        }
        client.end_call(self.now);
        self.time_client(key);
        self.list_client(key);
    }

    /// Bytes of answers were written for a client: sees whether it reads them.
    fn watch_download(&mut self, key: ClientId, connection: ConnectionId) {
        let Some(client) = self.clients.get(key) else { return };
        let unsent = client.unsent(&self.net);
        self.watch_answers(key, unsent);
        if self.is_much(unsent) {
            self.block(key, connection);
        }
    }

    /// The rest of an answer will not come: its client cannot make sense of anything that follows.
    pub(crate) fn tear_download(&mut self, download: Option<Download>) {
        if let Some(key) = download.and_then(|download| download.to) {
            self.give_up_torn(key);
        }
    }

    /// A client is gone: the rest of an answer to it is for nobody.
    pub(crate) fn forget_download(&mut self, connection: ConnectionId) {
        if let Some(connection) = self.connections.get_mut(connection) {
            connection.forget_download();
        }
    }
}
