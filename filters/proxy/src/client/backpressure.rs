//! Clients that do not read, or do not go on: what they hold up of others, and how they end.

use meltemi_codecs::Failure;

use super::{ClientId, Expiry};
use crate::download::Arrival;
use crate::net::HIGH_WATERMARK;
use crate::plan::Span;
use crate::telemetry::Metric;
use crate::upstream::ConnectionId;
use crate::worker::Worker;

/// Bytes of an incomplete request that are looked at to answer it.
const MOST_HEAD: usize = 4096;

impl Worker {
    /// The time of this client has come.
    pub(crate) fn client_expired(&mut self, key: ClientId) {
        let Some(client) = self.clients.get(key) else { return };
        match client.expiry(self.now) {
            None => {}
            Some(Expiry::Backpressure { sent }) => {
                let has_read = self.net.sent(client.socket()) != sent;
                if has_read && !self.keeps_others_waiting(key) {
                    self.watch_backpressure(key);
                } else {
                    let detail = "the client does not read its answers";
                    self.give_up(key, "unread_answers", Failure::Overloaded, detail);
                }
            }
            Some(Expiry::Incomplete(time)) => {
                let detail = format!("incomplete request: no more of it arrived within {}", Span::from(time));
                self.give_up(key, "incomplete_request", Failure::Timeout, &detail);
            }
            Some(Expiry::Torn) => self.answer_stands(key),
            Some(Expiry::Turn) => self.drain_client(key),
            Some(Expiry::Idle) => self.close_client(key),
        }
    }

    /// No more of an answer has come for long: the client is not to wait for the rest, unless it waits for itself.
    fn answer_stands(&mut self, key: ClientId) {
        let Some(client) = self.clients.get_mut(key) else { return };
        if !client.blocked().is_empty() {
            client.touch_arrival(self.now);
            return;
        }
        if let Some(from) = client.arrival().map(Arrival::from) {
            // What follows on it would wait as well.
            self.give_up_torn(key);
            self.retire(from);
        }
    }

    /// Resets a client that has a part of an answer of which the rest will not come.
    pub(crate) fn give_up_torn(&mut self, key: ClientId) {
        self.give_up(key, "torn_answer", Failure::ConnectionLost, "the rest of an answer does not come");
    }

    /// Whether calls of others are on an upstream connection that is not read because of this client.
    fn keeps_others_waiting(&self, key: ClientId) -> bool {
        let Some(client) = self.clients.get(key) else { return false };
        let connections = client.blocked().iter().filter_map(|blocked| self.connections.get(*blocked));
        let mut calls = connections.flat_map(|connection| connection.slots().calls());
        calls.any(|call| self.calls.get(call).is_some_and(|call| call.origin().client() != Some(key)))
    }

    /// Closes a client that takes what others need. What it does not read is dropped.
    pub(crate) fn give_up(&mut self, key: ClientId, reason: &'static str, failure: Failure, detail: &str) {
        let Some(client) = self.clients.get(key) else { return };
        let (socket, head) = (client.socket(), client.intake().inbox().front(MOST_HEAD).to_vec());
        self.telemetry.add_global(Metric::ClientConnectionsGivenUp(reason), 1);
        let reads = client.unsent(&self.net) == 0 && client.arrival().is_none();
        match client.upload().map(|upload| upload.call()) {
            Some(Some(call)) if reads => self.answer(call, failure, detail),
            Some(_) => self.reply_unread(key, None, failure, detail),
            None => self.reply_unread(key, (reads && !head.is_empty()).then_some(&head), failure, detail),
        }
        if reads {
            self.close_client(key);
        } else {
            self.net.reset(socket);
            self.drop_client(key);
        }
    }

    /// Counts clients that were dropped after they had been closed, as they did not read.
    pub(crate) fn count_dropped(&mut self) {
        let dropped = self.net.take_dropped();
        if dropped > 0 {
            let dropped = i64::try_from(dropped).unwrap_or(i64::MAX);
            self.telemetry.add_global(Metric::ClientConnectionsGivenUp("undelivered"), dropped);
        }
    }

    /// This client does not read the answers that `connection` brings: that is not read until the client has, and
    /// makes room for one that is.
    pub(crate) fn block(&mut self, key: ClientId, connection: ConnectionId) {
        let Some(feeding) = self.connections.get_mut(connection) else { return };
        let Some(client) = self.clients.get_mut(key) else { return };
        // One of which only answers wait that are behind another reads what there is.
        if self.net.queued(client.socket()) > 0 && feeding.block() {
            client.block(connection);
            self.net.await_writable(client.socket());
            let pool = feeding.pool();
            self.watch_backpressure(key);
            if self.pools.get(pool).is_some_and(|pool| pool.owner().is_none()) {
                self.retire(connection);
            }
        }
    }

    /// An answer was written, or has left: sees whether the client has read since the last one.
    pub(crate) fn watch_answers(&mut self, key: ClientId, queued: usize) {
        let Some(client) = self.clients.get_mut(key) else { return };
        client.note_sent(self.net.sent(client.socket()), self.now);
        client.count_behind(&mut self.unread);
        if queued >= HIGH_WATERMARK && !client.is_watched() {
            self.watch_backpressure(key);
        }
    }

    /// Looks again some time later whether a client has read anything by then.
    fn watch_backpressure(&mut self, key: ClientId) {
        let Some(client) = self.clients.get_mut(key) else { return };
        client.watch(self.net.sent(client.socket()), self.now);
        self.time_client(key);
    }

    /// Answers of this client have left: read its requests again, and what feeds it. There may still be much to read.
    pub(crate) fn client_writable(&mut self, key: ClientId) {
        let Some(client) = self.clients.get_mut(key) else { return };
        let queued = client.unsent(&self.net);
        for connection in client.unblock() {
            self.unblock_connection(connection);
        }
        self.watch_answers(key, queued);
        self.time_client(key);
        self.list_client(key);
    }
}
