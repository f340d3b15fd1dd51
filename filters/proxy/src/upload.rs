//! Large requests, which are passed on while they come.
//!
//! Nothing else is written to an upstream connection while a request on it is not complete. A client that stops in the
//! middle of one costs its own call, and the connection: that takes no more calls, and ends with the last that it has.

use meltemi_codecs::{Kind, Peer};

use crate::calls::{CallId, End, Origin};
use crate::client::ClientId;
use crate::inbox::Progress;
use crate::net::HIGH_WATERMARK;
use crate::upstream::ConnectionId;
use crate::worker::Worker;

/// A request of which the front was read, and the rest is still to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Upload {
    /// Its call, which may have ended.
    call: Option<CallId>,
    outlet: Outlet,
    /// Bytes that are to come.
    left: usize,
    /// Bytes that have come since the front.
    passed: usize,
}

/// Where the rest of a request goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outlet {
    /// Its call waits for a connection, and the client with it.
    Waits,
    Open(ConnectionId),
    /// Nowhere: its call has ended.
    Lost,
}

impl Upload {
    pub(crate) fn new(call: Option<CallId>, outlet: Outlet, left: usize) -> Self {
        Self { call, outlet, left, passed: 0 }
    }

    pub(crate) fn call(&self) -> Option<CallId> {
        self.call
    }

    /// Whether a connection takes the rest.
    pub(crate) fn is_open(&self) -> bool {
        matches!(self.outlet, Outlet::Open(_))
    }

    /// Bytes that are to come and are wanted.
    pub(crate) fn left(&self) -> usize {
        if self.outlet == Outlet::Lost { 0 } else { self.left }
    }

    pub(crate) fn passed(&self) -> usize {
        self.passed
    }

    /// Notes that so many bytes more were taken.
    fn pass(&mut self, count: usize) {
        self.left = self.left.saturating_sub(count);
        self.passed = self.passed.saturating_add(count);
    }
}

/// Bytes of a large message that may be needed to know where it goes.
const MOST_FRONT: usize = 64 * 1024;

/// When to look again at a message whose front may be longer than `rest`, and which needs `at_least` bytes to be complete.
pub(crate) fn more_front(rest: &[u8], at_least: usize) -> Progress {
    let again = if rest.len() < MOST_FRONT { rest.len().saturating_mul(2) } else { at_least };
    Progress { used: 0, need: again.min(at_least) }
}

impl Worker {
    /// The frame at the front of `rest` needs at least so many bytes. Passes it on while it comes, if it is large and that
    /// can be; else says when to look at it again.
    pub(crate) fn begin_upload(&mut self, key: ClientId, rest: &[u8], at_least: usize) -> Progress {
        let stored = Progress { used: 0, need: at_least };
        let Some(client) = self.clients.get(key) else { return stored };
        let service = client.service().clone();
        let limits = &service.limits;
        // One that has as many calls as it may have is read for its streams alone, and refused what is whole.
        if at_least <= limits.cut_through_bytes || !service.is_told_by_front() || client.is_full() {
            return stored;
        }
        let front = service.codec.front(Peer::Client, rest, limits.max_request_bytes, &mut self.head);
        let Some(frame) = front else { return more_front(rest, at_least) };
        let left = frame.len.saturating_sub(rest.len());
        let is_call = matches!(frame.kind, Kind::Request | Kind::OneWay);
        if left == 0 || !is_call || !self.start_call(key, rest, frame) {
            return stored;
        }
        if let Some(client) = self.clients.get_mut(key) {
            self.uploads.push(key);
            if client.upload().is_none() {
                // It was answered already.
                client.set_upload(Some(Upload::new(None, Outlet::Lost, left)));
            }
        }
        Progress { used: rest.len(), need: 0 }
    }

    /// Passes on what `rest` has of a request that was begun: how many bytes that is. None if it has to wait.
    pub(crate) fn pass_upload(&mut self, key: ClientId, upload: Upload, rest: &[u8]) -> usize {
        let count = upload.left.min(rest.len());
        let bytes = rest.get(..count).unwrap_or_default();
        match upload.outlet {
            Outlet::Waits => return 0,
            Outlet::Lost => {}
            Outlet::Open(connection) => {
                let Some(socket) = self.connections.get(connection).map(|open| open.socket()) else {
                    return 0;
                };
                let queued = self.net.queued(socket);
                if queued >= HIGH_WATERMARK || self.is_much(queued) {
                    self.net.await_writable(socket);
                    return 0;
                }
                self.net.pass(socket, bytes);
            }
        }
        self.took(key, upload, count);
        count
    }

    /// Notes that `count` bytes more of a request were taken, and what follows when those were the last.
    fn took(&mut self, key: ClientId, mut upload: Upload, count: usize) {
        upload.pass(count);
        let Some(client) = self.clients.get_mut(key) else { return };
        client.set_upload((upload.left > 0).then_some(upload));
        if upload.left > 0 {
            return;
        }
        client.arrived();
        self.forget_upload(key);
        if let Some(call) = upload.call.and_then(|call| self.calls.get_mut(call)) {
            call.note_sent(Some(self.now));
        }
        if let Outlet::Open(key) = upload.outlet
            && let Some(connection) = self.connections.get_mut(key)
        {
            connection.set_upload(None);
            let pool = connection.pool();
            if let Some(pool) = self.pools.get_mut(pool) {
                pool.upload_ended();
            }
            self.close_if_retired(key);
            self.list_pool(pool);
        }
    }

    /// A call was made of the front of a request: the rest is not read before it is sent.
    pub(crate) fn await_upload(&mut self, origin: Origin, call: CallId, left: usize) {
        if let Some(client) = origin.client().and_then(|key| self.clients.get_mut(key)) {
            client.set_upload(Some(Upload::new(Some(call), Outlet::Waits, left)));
        }
    }

    /// The front of a request was written to a connection, and `left` bytes of it are to come from its client: that has the
    /// connection for itself until then.
    pub(crate) fn open_upload(
        &mut self,
        origin: Origin,
        call: CallId,
        connection_key: ConnectionId,
        left: usize,
    ) {
        let Some(key) = origin.client() else { return };
        let Some(connection) = self.connections.get_mut(connection_key) else { return };
        let Some(client) = self.clients.get_mut(key) else { return };
        connection.set_upload(Some(key));
        if let Some(pool) = self.pools.get_mut(connection.pool()) {
            pool.upload_began();
        }
        client.set_upload(Some(Upload::new(Some(call), Outlet::Open(connection_key), left)));
        self.list_client(key);
    }

    /// A call has ended: if its request waited to be sent, what comes of that goes nowhere.
    pub(crate) fn end_upload_of(&mut self, key: ClientId, call: CallId) {
        self.lose_upload(key, |upload| upload.outlet == Outlet::Waits && upload.call == Some(call));
    }

    /// A connection is gone: what still comes of the request that was being written there goes nowhere.
    pub(crate) fn lose_outlet(&mut self, key: ClientId, connection: ConnectionId) {
        self.lose_upload(key, |upload| upload.outlet == Outlet::Open(connection));
    }

    fn lose_upload(&mut self, key: ClientId, is_meant: impl Fn(&Upload) -> bool) {
        if let Some(client) = self.clients.get_mut(key)
            && let Some(upload) = client.upload().filter(is_meant)
        {
            client.set_upload(Some(Upload { outlet: Outlet::Lost, ..upload }));
            self.list_client(key);
        }
    }

    /// The client sends no more. If that is in the middle of a request, its call ends.
    pub(crate) fn cut_upload(&mut self, key: ClientId) {
        let Some(client) = self.clients.get_mut(key) else { return };
        let unread = client.intake().inbox().len();
        let Some(upload) = client.upload().filter(|upload| upload.left > unread) else { return };
        client.set_upload(Some(Upload { outlet: Outlet::Lost, ..upload }));
        self.tear(upload);
        if let Some(call) = upload.call {
            self.finish(call, End::Cancelled);
        }
    }

    /// Nothing more is to come of a client's large request.
    #[inline(never)]
    pub(crate) fn forget_upload(&mut self, key: ClientId) {
        self.uploads.retain(|&other| other != key);
    }

    /// A client is gone, or sends no more, in the middle of a request: the connection that has a part of it is not written
    /// to any more.
    pub(crate) fn tear(&mut self, upload: Upload) {
        if let Outlet::Open(key) = upload.outlet
            && let Some(connection) = self.connections.get_mut(key)
        {
            connection.tear();
            if let Some(pool) = self.pools.get_mut(connection.pool()) {
                pool.upload_ended();
            }
            self.retire(key);
        }
    }
}
