//! Time: one alarm (`alarms.rs`), shared by every deadline of the worker.
//!
//! Calls, clients and connections have their deadlines in order (`deadlines.rs`). Relays and pools ask to be looked at no later
//! than the earliest of theirs; one look at each of them then handles what is due and finds the next time.

use crate::calls::{
    Call, CallId,
    Stage::{Backoff, Held},
};
use crate::client::{Client, ClientId};
use crate::clock::Instant;
use crate::deadlines::Timed;
use crate::matching::Matching;
use crate::upstream::{Connection, ConnectionId, Stage};
use crate::worker::Worker;

impl Worker {
    /// Notes when a call is due next.
    pub(crate) fn time_call(&mut self, id: CallId) {
        if let Some(due) = self.calls.get(id).and_then(Call::due) {
            self.deadlines.push(due, Timed::Call(id));
        }
    }

    /// Notes when a connection is due next.
    pub(crate) fn time_connection(&mut self, id: ConnectionId) {
        if let Some(due) = self.connections.get(id).and_then(Connection::due) {
            self.deadlines.push(due, Timed::Connection(id));
        }
    }

    /// Notes when a client is due next, unless it is looked at before.
    pub(crate) fn time_client(&mut self, id: ClientId) {
        if let Some(client) = self.clients.get_mut(id)
            && let Some(due) = client.next_look()
        {
            self.deadlines.push(due, Timed::Client(id));
        }
    }

    /// Whether that is still the deadline of something.
    fn is_due(&self, timed: Timed, at: Instant) -> bool {
        let due = match timed {
            Timed::Call(id) => self.calls.get(id).and_then(Call::due),
            Timed::Client(id) => self.clients.get(id).and_then(Client::looked_at),
            Timed::Connection(id) => self.connections.get(id).and_then(Connection::due),
        };
        due == Some(at)
    }

    /// Handles what is due and arms the alarm for what is next.
    pub(crate) fn keep_time(&mut self) {
        self.trim_deadlines();
        if self.deadlines.due().is_some_and(|due| due <= self.now) {
            self.expire_timed();
            self.catch_up();
        }
        if self.alarms.take_due(self.now) {
            self.sweep();
            self.catch_up();
        }
        if let Some(due) = self.reports.due() {
            self.reports.flush(&mut self.net, self.now, self.plan.istio.as_ref());
            self.alarms.wake_at(self.reports.due().or(Some(due)).filter(|due| *due > self.now));
        }
        self.keep_lines();
        if let Some(due) = self.taps.due() {
            if due <= self.now {
                self.tell_left_out();
            }
            self.alarms.wake_at(self.taps.due());
        }
        // What is due already is flushed right after.
        let flush = self.telemetry.due().filter(|flush| *flush > self.now);
        self.alarms.wake_at(flush);
        self.alarms.arm(self.now, self.deadlines.due(), |delay| self.net.alarm(delay));
        self.hand_over();
        if self.net.take_closing() {
            self.leave();
            self.end_waits();
            self.catch_up();
        }
    }

    /// No alarm will ring any more: calls that wait for a time or a connection go to a connection that is open, or fail.
    fn end_waits(&mut self) {
        self.send_all_spans();
        for call in self.calls.ids() {
            match self.calls.get(call).map(Call::stage) {
                Some(Backoff { .. }) => self.wait(call),
                Some(Held { .. }) => self.release_call(call),
                _ => {}
            }
        }
        for pool in self.pools.ids() {
            self.list_pool(pool);
        }
    }

    fn sweep(&mut self) {
        self.end_detections();
        let next = self.relays.sweep(self.now, &mut self.net);
        self.alarms.wake_at(next);
        self.sweep_spans();
        let next = self.inquiries.sweep(self.now, &mut self.net);
        self.alarms.wake_at(next);
        self.sweep_pools();
    }

    /// Drops notes of what has ended.
    fn trim_deadlines(&mut self) {
        let count =
            self.calls.len().saturating_add(self.clients.len()).saturating_add(self.connections.len());
        if self.deadlines.is_trimmed(count) {
            return;
        }
        let mut deadlines = core::mem::take(&mut self.deadlines);
        deadlines.trim(|timed, at| self.is_due(timed, at));
        self.deadlines = deadlines;
    }

    fn expire_timed(&mut self) {
        let mut deadlines = core::mem::take(&mut self.deadlines);
        let expired = deadlines.expire(self.now, |timed, at| self.is_due(timed, at));
        self.deadlines = deadlines;
        for timed in expired {
            match timed {
                Timed::Call(id) => {
                    self.expire(id);
                    // A call that goes on has a deadline still.
                    self.time_call(id);
                }
                Timed::Connection(id) => self.connection_due(id),
                Timed::Client(id) => self.look_at_time_of(id),
            }
        }
    }

    /// Does what is due of a client. It may be due later than was noted, which was the earliest at that time.
    fn look_at_time_of(&mut self, id: ClientId) {
        let Some(client) = self.clients.get_mut(id) else { return };
        client.look();
        self.client_expired(id);
        self.time_client(id);
    }

    fn connection_due(&mut self, key: ConnectionId) {
        let now = self.now;
        let is_last = !self.net.is_open();
        let Some(connection) = self.connections.get_mut(key) else { return };
        let Some(pool) = self.pools.get_mut(connection.pool()) else { return };
        let (pool_key, socket) = (connection.pool(), connection.socket());
        let is_alone = pool.open().len() <= 1;
        let is_idle = pool.is_idle(now);
        // Since it was to be renewed.
        let is_unused =
            connection.slots().in_flight() == 0 && pool.is_unused_for(pool.options().connect_timeout, now);
        // Nobody asked for its own endpoint.
        let is_chosen_anew =
            !Matching::new(pool.service().sharing).needs_few_connections() && pool.leaves_renewal(None);
        match connection.stage() {
            Stage::Connecting { .. } => {
                self.net.close(socket);
                self.refused(key, 0, None, "the connect timeout has passed");
            }
            // Nothing is renewed that nobody uses.
            Stage::Open { .. } if is_idle && connection.slots().in_flight() == 0 => self.retire(key),
            // There were large requests for it.
            Stage::Open { .. }
                if connection.load(usize::MAX) == Some(0)
                    && !is_alone
                    && Matching::new(pool.service().sharing).needs_few_connections()
                    && pool.is_crowded(connection.endpoint()) =>
            {
                self.retire(key);
            }
            // It cannot be renewed.
            Stage::Open { .. } if is_last => connection.renew_at(None),
            // It need not be renewed, only closed when nobody uses it.
            Stage::Open { .. } if pool.options().max_connection_age.is_none() => {
                connection.renew_at(pool.renewal_time().map(|time| now.after(time)));
                self.time_connection(key);
            }
            // Its endpoint is gone from the cluster, or as good as.
            Stage::Open { is_overdue: true, .. } if !is_alone || is_unused => {
                if !is_chosen_anew {
                    self.eject_endpoint(key);
                }
                self.retire(key);
            }
            Stage::Open { is_overdue, .. } => {
                let own = pool.endpoints().address(connection.endpoint()).cloned();
                let own = own.filter(|address| !address.is_empty() && pool.destination().is_none());
                // Where that was of no use, or would tell nothing of others, Envoy chooses.
                let own = own.filter(|_| !is_overdue && !pool.leaves_renewal(connection.endpoint()));
                connection.overdue(now.after(pool.options().connect_timeout));
                pool.explore_anew(now);
                self.alarms.wake_at(pool.next_search());
                self.time_connection(key);
                self.open_connection(pool_key, own.as_deref());
                self.list_pool(pool_key);
            }
            Stage::Retiring => {}
        }
    }

    fn sweep_pools(&mut self) {
        // When the last call or connection leaves a pool, the next sweep is set.
        let next = self.pools.forget_unused(self.now);
        self.alarms.wake_at(next);
        self.tell_limits(false);
        for key in self.pools.ids() {
            self.readmit(key);
            let Some(pool) = self.pools.get_mut(key) else { continue };
            let is_due = pool.explore_if_due(self.now);
            self.alarms.wake_at(pool.next_search());
            if is_due {
                self.list_pool(key);
            }
        }
    }
}
