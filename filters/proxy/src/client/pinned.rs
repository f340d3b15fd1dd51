//! Clients that have upstream connections for themselves: a client and such a connection end together.
//!
//! Each has a pool of its own for each cluster that its calls go to, with one connection, which is neither renewed nor
//! replaced. A call that got no connection may be tried again; one whose connection is lost is not, as another would lead
//! to a server, or to a state, that the client does not know.

use meltemi_codecs::Failure;

use super::ClientId;
use crate::pool::{Pool, PoolId};
use crate::upstream::{Connection, ConnectionId};
use crate::worker::Worker;

impl Worker {
    /// The connection of that pool takes no more calls: where a client has the pool for itself, it ends when the event is
    /// handled.
    pub(crate) fn unpin(&mut self, pool: PoolId) {
        let Some(pool) = self.pools.get_mut(pool) else { return };
        let Some(owner) = pool.owner() else { return };
        pool.end();
        if let Some(client) = self.clients.get_mut(owner) {
            client.lose();
            self.list_client(owner);
        }
    }

    /// The server of a connection wants no more calls on it: a client that has it for itself gets the answers that it waits for,
    /// and leaves. Whether there is such a client.
    #[cold]
    pub(crate) fn leave_pinned(&mut self, key: ConnectionId) -> bool {
        let pool = self.connections.get(key).map(Connection::pool);
        let Some(owner) = pool.and_then(|pool| self.pools.get(pool)).and_then(Pool::owner) else {
            return false;
        };
        self.eject_endpoint(key);
        self.drain_client(owner);
        true
    }

    /// Ends a client with its connection: what it still waits for is answered.
    pub(super) fn end_pinned_client(&mut self, key: ClientId) {
        let Some(client) = self.clients.get(key) else { return };
        for call in client.calls().ids().to_vec() {
            self.answer(call, Failure::ConnectionLost, "the upstream connection of this client has ended");
        }
        self.close_client(key);
    }

    /// A client has ended, and with it the connections that it had for itself.
    pub(super) fn end_pools_of(&mut self, key: ClientId) {
        for id in self.pools.of(key) {
            let Some(pool) = self.pools.get_mut(id) else { continue };
            pool.end();
            for connection in pool.open().to_vec() {
                self.retire(connection);
            }
            // One that is being opened is closed when it is open.
            self.pools.forget_if_over(id);
        }
    }
}
