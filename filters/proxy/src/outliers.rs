//! Endpoints that are left out for how their calls end, and take part again when their time is over.

use core::time::Duration;

use meltemi_codecs::{Frame, Kind, Outcome};

use crate::calls::{CallId, Try};
use crate::clock::Instant;
use crate::endpoints::{EndpointId, Judged};
use crate::pool::{Pool, PoolId};
use crate::telemetry::Metric;
use crate::upstream::{Connection, ConnectionId};
use crate::worker::Worker;

/// Whether a frame of a server says that a call failed, if it says how one ended. A service's own exceptions are answers.
fn has_failed(kind: Kind) -> Option<bool> {
    match kind {
        Kind::Response(outcome) | Kind::Last(outcome) | Kind::Ended(outcome) => {
            Some(matches!(outcome, Outcome::Error(_)))
        }
        _ => None,
    }
}

/// How a call ends with a frame of its server.
pub(crate) struct Ended {
    pool: PoolId,
    endpoint: Option<EndpointId>,
    failed: bool,
    /// When what it answers was sent, if that says how fast the server is.
    sent: Option<Instant>,
}

impl Worker {
    /// What a frame says about the server that sent it, if a call ends with it. The frame is not handled yet.
    #[inline(never)]
    pub(crate) fn look_at_end(&self, key: ConnectionId, frame: &Frame) -> Option<Ended> {
        let failed = has_failed(frame.kind)?;
        let connection = self.connections.get(key)?;
        let is_timed = !failed && self.pools.get(connection.pool()).is_some_and(Pool::is_adaptive);
        let sent = match frame.kind {
            Kind::Response(_) | Kind::Last(_) if is_timed => connection.slots().answered_by(frame.id),
            _ => None,
        };
        let sent = sent.and_then(|id| self.calls.get(id)?.sent_on(key));
        Some(Ended { pool: connection.pool(), endpoint: connection.endpoint(), failed, sent })
    }

    /// Notes how and when a call has ended.
    #[inline(never)]
    pub(crate) fn note_end(&mut self, ended: Ended) {
        if let Some(sent) = ended.sent {
            self.time_answer(ended.pool, sent, false);
        }
        self.judge(ended.pool, ended.endpoint, ended.failed);
    }

    /// Notes how a call of a pool's endpoint ended.
    #[inline(never)]
    pub(crate) fn judge(&mut self, pool_key: PoolId, endpoint: Option<EndpointId>, failed: bool) {
        let Some(pool) = self.pools.get_mut(pool_key).filter(|pool| pool.is_judged()) else { return };
        let Judged { out, instead } = pool.judge(endpoint, failed, self.now);
        let instead = instead.filter(|_| pool.connecting() == 0 && pool.owner().is_none());
        for (endpoint, until) in out {
            self.leave_out(pool_key, endpoint, until);
        }
        if let Some(address) = instead.filter(|_| self.net.is_open()) {
            self.open_connection(pool_key, Some(&address));
        }
    }

    /// An endpoint is left out until then: its connections take no more calls.
    #[cold]
    fn leave_out(&mut self, pool_key: PoolId, endpoint: EndpointId, until: Instant) {
        let Some(pool) = self.pools.get(pool_key) else { return };
        self.telemetry.add_global(Metric::OutlierEjections, 1);
        self.alarms.wake_at(Some(until));
        let is_meant = |key: &ConnectionId| {
            self.connections.get(*key).is_some_and(|connection| connection.endpoint() == Some(endpoint))
        };
        let leaving: Vec<_> = pool.open().iter().copied().filter(is_meant).collect();
        for key in leaving {
            self.retire(key);
        }
        self.list_pool(pool_key);
    }

    /// A call was answered while another try of it was open, which nobody waits for any more.
    #[cold]
    #[inline(never)]
    pub(crate) fn judge_loser(&mut self, id: CallId) {
        if let Some(call) = self.calls.get(id)
            && let Some(open) = call.open_try()
        {
            self.judge_given_up(call.pool(), open, call.longest());
        }
    }

    /// A try was given up before its own time was over. Its endpoint has failed if it has answered nothing for as long as a call
    /// may take: what hangs would be asked first for ever, since no time-out tells.
    pub(crate) fn judge_given_up(&mut self, pool_key: PoolId, open: Try, longest: Duration) {
        if let Some(pool) = self.pools.get_mut(pool_key).filter(|pool| pool.is_judged())
            && pool.endpoints_mut().gave_up(open.endpoint, open.sent_at, longest, self.now)
        {
            self.judge(pool_key, open.endpoint, true);
        }
    }

    /// A connection has opened: retires it if its endpoint is left out. Where there is no other connection, the endpoint
    /// takes part again: any is better than none.
    pub(crate) fn is_left_out(&mut self, key: ConnectionId, endpoint: Option<EndpointId>) -> bool {
        let Some(pool_key) = self.connections.get(key).map(Connection::pool) else { return false };
        let Some(pool) = self.pools.get_mut(pool_key) else { return false };
        if !pool.endpoints().is_ejected(endpoint) {
            return false;
        }
        if pool.open().len() <= 1 {
            pool.endpoints_mut().readmit(endpoint);
            return false;
        }
        let explore_at = pool.repeated(self.now);
        self.alarms.wake_at(explore_at);
        self.retire(key);
        self.list_pool(pool_key);
        true
    }

    /// Opens a connection to each endpoint whose time is over, unless Envoy passes over it by now.
    pub(crate) fn readmit(&mut self, pool_key: PoolId) {
        let Some(pool) = self.pools.get_mut(pool_key) else { return };
        let (due, next) = pool.endpoints_mut().readmit_due(self.now);
        self.alarms.wake_at(next);
        if pool.is_idle(self.now) {
            return;
        }
        // By its weight, one may be chosen seldom.
        let (endpoints, has_weights) = (pool.endpoints(), pool.has_weights());
        let due = due.into_iter().map(Some).filter(|id| has_weights || !endpoints.is_passed_over(*id));
        let due: Vec<_> = due.filter_map(|id| endpoints.address(id).cloned()).collect();
        for address in due {
            self.open_connection(pool_key, Some(&address));
        }
    }
}
