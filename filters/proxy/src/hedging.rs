//! Second tries of calls whose first has no answer yet.
//!
//! A second try is one of the route's attempts, takes from the retry budget, and is made only where an endpoint is at hand
//! that can take it: it waits for nothing, for it would be late, and others would wait behind it. Whichever is answered first
//! ends the call. The answer to the other is dropped when it comes, as that of any try that was given up.

use crate::calls::{CallId, Cause, Try};
use crate::clock::Instant;
use crate::matching::Matching;
use crate::pool::{Pool, PoolId};
use crate::upstream::ConnectionId;
use crate::worker::Worker;

impl Worker {
    /// A call has no answer to the try that was `sent` then: makes a second one, if that can be.
    #[cold]
    #[inline(never)]
    pub(crate) fn hedge(&mut self, id: CallId, sent: Instant) {
        let Some(call) = self.calls.get_mut(id) else { return };
        call.expect_no_second(sent, false);
        let (pool_key, operation) = (call.pool(), call.record().operation);
        let Some(first) = call.open_try().filter(|_| call.retry(Cause::Slow).is_some()) else { return };
        let has_budget =
            call.record().retries > 0 || self.pools.get(pool_key).is_some_and(Pool::has_retry_budget);
        if !has_budget || self.overflow(pool_key).is_some() {
            return;
        }
        let Some(second) = self.choose_second(pool_key, first) else {
            self.connect_elsewhere(pool_key, first.endpoint);
            return;
        };
        let Some(pool) = self.pools.get_mut(pool_key) else { return };
        pool.calls_mut().hedged();
        self.calls.retry(id, Cause::Slow, pool.calls_mut());
        self.telemetry.hedged(operation);
        self.send(id, second, None);
        if let Some(call) = self.calls.get_mut(id) {
            call.expect_no_second(sent, true);
        } else if let Some(pool) = self.pools.get_mut(pool_key) {
            pool.calls_mut().unhedged();
        }
    }

    /// The least loaded connection to another endpoint than that of the `first` try; or to the same, if there is no other.
    fn choose_second(&mut self, pool_key: PoolId, first: Try) -> Option<ConnectionId> {
        let Self { pools, connections, net, .. } = self;
        let pool = pools.get_mut(pool_key)?;
        let most = Matching::new(pool.service().sharing).connection_limit(pool.options());
        let has_other = pool.endpoints().living(first.endpoint).is_some();
        let room = |key| {
            let connection = connections.get(key).filter(|_| key != first.connection)?;
            let is_elsewhere = connection.endpoint() != first.endpoint || !has_other;
            Some((connection.room(most, net, None).filter(|_| is_elsewhere)?, connection.endpoint()))
        };
        pool.choose(&|key| room(key).map(|(load, _)| load)).or_else(|| pool.choose_by_weight(&room))
    }
}
