//! Upstream connections that take no new calls, and end with the last that they have.

use crate::calls::Try;
use crate::pool::PoolId;
use crate::slots::Fate;
use crate::upstream::{ConnectionId, Farewell};
use crate::worker::Worker;

impl Worker {
    /// Takes a connection out of its pool: no new calls, and an end with the last answer.
    pub(crate) fn retire(&mut self, key: ConnectionId) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let (pool_key, endpoint) = (connection.pool(), connection.endpoint());
        if connection.retire()
            && let Some(pool) = self.pools.get_mut(pool_key)
        {
            pool.retired(key, endpoint, |other| self.connections.get(other)?.endpoint());
            self.unpin(pool_key);
        }
        self.close_if_retired(key);
    }

    /// Gives up the answer to a try.
    pub(crate) fn abandon(&mut self, Try { connection: key, slot, .. }: Try) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        match connection.slots_mut().abandon(slot) {
            Fate::Open => self.close_if_retired(key),
            Fate::Retire => self.retire(key),
            Fate::Unresponsive => {
                let is_news = connection.note_unresponsive();
                let pool = connection.pool();
                if connection.is_open() {
                    self.eject_endpoint(key);
                }
                self.retire(key);
                if is_news {
                    self.limit_unresponsive(pool, key);
                }
            }
        }
    }

    /// Notes a connection that is unresponsive, and gives up the first of them where there are too many.
    fn limit_unresponsive(&mut self, pool: PoolId, key: ConnectionId) {
        let Some(pool) = self.pools.get_mut(pool) else { return };
        if let Some(first) = pool.unresponsive(key, |other| self.connections.get(other).is_some()) {
            self.give_up_connection(first, "the upstream connection has too many calls without an answer");
        }
    }

    pub(crate) fn close_if_retired(&mut self, key: ConnectionId) {
        if let Some(connection) = self.connections.get(key)
            && let Some(farewell) = connection.farewell()
        {
            match farewell {
                Farewell::Close => self.net.close(connection.socket()),
                Farewell::Reset => self.net.reset(connection.socket()),
            }
            self.drop_connection(key);
        }
    }
}
