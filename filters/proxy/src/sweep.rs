//! Time: one alarm, shared by every deadline of the worker.
//!
//! Calls have their deadlines in order (`deadlines.rs`). Of all else, `due` is never later than the earliest; when it has
//! passed, one look at everything handles what is due and finds the next time.

use core::time::Duration;

use crate::call::{
    Call, CallId,
    Stage::{Backoff, Held},
};
use crate::clock::{Instant, earliest};
use crate::upstream::{ConnectionId, Stage};
use crate::worker::{Reach, Worker};

/// Alarms closer together than this are rung as one.
const GRAIN: Duration = Duration::from_millis(5);

/// So many alarms in a row that ring in the first half of their time were not set: Envoy has no route for them. One or
/// two may be early, since Envoy counts from when it last looked at its clock.
const MOST_EARLY: u32 = 3;

/// An alarm that has not rung so long after its time is not waited for.
const LOST: Duration = Duration::from_secs(1);

/// An alarm that Envoy was asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Alarm {
    set_at: Instant,
    rings_at: Instant,
}

impl Worker {
    /// Makes sure that deadlines are looked at by `time`.
    pub(crate) fn wake_at(&mut self, time: Option<Instant>) {
        self.due = earliest(self.due, time);
    }

    /// Notes when a call is due next.
    pub(crate) fn time_call(&mut self, id: CallId) {
        if let Some(due) = self.calls.get(id).and_then(Call::due) {
            self.deadlines.push(due, id);
        }
    }

    /// Handles what is due and arms the alarm for what is next.
    pub(crate) fn keep_time(&mut self) {
        let calls = &self.calls;
        self.deadlines.trim(calls.len(), |id, at| calls.get(id).and_then(Call::due) == Some(at));
        if self.deadlines.due().is_some_and(|due| due <= self.now) {
            self.expire_calls();
            self.catch_up();
        }
        if self.due.is_some_and(|due| due <= self.now) {
            self.sweep();
            self.catch_up();
        }
        // What is due already is flushed right after.
        let flush = self.telemetry.due().filter(|flush| *flush > self.now);
        self.wake_at(flush);
        while self.alarms.last().is_some_and(|alarm| alarm.rings_at.after(LOST) <= self.now) {
            self.alarms.pop();
        }
        if let Some(due) = earliest(self.due, self.deadlines.due())
            && self.silent_until <= self.now
            && self.alarms.last().is_none_or(|alarm| due.after(GRAIN) <= alarm.rings_at)
        {
            let delay = due.since(self.now).max(GRAIN);
            if self.sockets.alarm(delay) {
                self.alarms.push(Alarm { set_at: self.now, rings_at: self.now.after(delay) });
            } else if self.reach == Reach::Open {
                self.reach = Reach::Closing;
            }
        }
        self.hand_over();
        if self.reach == Reach::Closing {
            self.reach = Reach::Closed;
            self.leave();
            self.end_waits();
            self.catch_up();
        }
    }

    /// No alarm will ring any more: calls that wait for a time or a connection go to a connection that is open, or fail.
    fn end_waits(&mut self) {
        for call in self.calls.ids() {
            match self.calls.get(call).map(|call| call.stage) {
                Some(Backoff { .. }) => self.wait(call),
                Some(Held { .. }) => self.release_call(call),
                _ => {}
            }
        }
        for pool in self.pools.ids() {
            self.list_pool(pool);
        }
    }

    /// An alarm has rung.
    pub(crate) fn alarm_rang(&mut self) {
        let Some(alarm) = self.alarms.pop() else { return };
        if self.now.since(alarm.set_at) >= alarm.rings_at.since(self.now) {
            self.early_alarms = 0;
            return;
        }
        self.early_alarms = self.early_alarms.saturating_add(1);
        if self.early_alarms >= MOST_EARLY {
            // Asking again and again would only burn time.
            self.early_alarms = 0;
            self.silent_until = self.now.after(LOST);
        }
    }

    fn sweep(&mut self) {
        self.due = None;
        self.sweep_connections();
        self.sweep_clients();
        self.sweep_relays();
        self.sweep_pools();
    }

    fn expire_calls(&mut self) {
        let calls = &self.calls;
        let is_due = |id, at| calls.get(id).and_then(Call::due) == Some(at);
        for id in self.deadlines.expire(self.now, is_due) {
            self.expire(id);
            // A call that goes on has a deadline still.
            self.time_call(id);
        }
    }

    fn sweep_connections(&mut self) {
        let mut expired = Vec::new();
        let mut next = None;
        for (key, connection) in self.connections.iter() {
            match connection.due() {
                Some(due) if due <= self.now => expired.push(key),
                due => next = earliest(next, due),
            }
        }
        self.wake_at(next);
        for key in expired {
            self.connection_due(key);
        }
    }

    fn connection_due(&mut self, key: ConnectionId) {
        let now = self.now;
        let is_last = self.reach != Reach::Open;
        let Some(connection) = self.connections.get_mut(key) else { return };
        let Some(pool) = self.pools.get_mut(connection.pool) else { return };
        let (pool_key, socket) = (connection.pool, connection.socket);
        let is_alone = pool.open.len() <= 1;
        let is_idle = pool.idle_time().is_some_and(|time| pool.last_call.after(time) <= now);
        // Since it was to be renewed.
        let is_unused =
            connection.slots.in_flight() == 0 && pool.last_call.after(pool.options().connect_timeout) <= now;
        match connection.stage {
            Stage::Connecting { .. } => {
                self.close_socket(socket);
                self.refused(key, 0, None, "the connect timeout has passed");
            }
            // Nothing is renewed that nobody uses.
            Stage::Open { .. } if is_idle && connection.slots.in_flight() == 0 => self.retire(key),
            // It cannot be renewed.
            Stage::Open { .. } if is_last => {
                connection.stage = Stage::Open { renew_at: None, is_overdue: false };
            }
            // It need not be renewed, only closed when nobody uses it.
            Stage::Open { .. } if pool.options().max_connection_age.is_none() => {
                let renew_at = pool.renewal_time().map(|time| now.after(time));
                connection.stage = Stage::Open { renew_at, is_overdue: false };
                self.wake_at(renew_at);
            }
            // Its endpoint is gone from the cluster, or as good as.
            Stage::Open { is_overdue: true, .. } if !is_alone || is_unused => {
                self.eject_endpoint(key);
                self.retire(key);
            }
            Stage::Open { is_overdue, .. } => {
                let renew_at = now.after(pool.options().connect_timeout);
                let own = pool.endpoint_ref(connection.endpoint).map(|endpoint| endpoint.address.clone());
                let own = own.filter(|address| !address.is_empty() && pool.destination.is_none());
                // Where that was of no use, Envoy chooses.
                let own = own.filter(|_| !is_overdue);
                connection.stage = Stage::Open { renew_at: Some(renew_at), is_overdue: true };
                if !pool.has_explored(now) {
                    pool.explore_anew(now);
                }
                self.wake_at(Some(renew_at));
                self.open_connection(pool_key, own.as_deref());
                self.list_pool(pool_key);
            }
            Stage::Retiring => {}
        }
    }

    fn sweep_clients(&mut self) {
        let mut expired = Vec::new();
        let mut next = None;
        for (key, client) in self.clients.iter() {
            match self.client_due(client) {
                Some(due) if due <= self.now => expired.push(key),
                due => next = earliest(next, due),
            }
        }
        self.wake_at(next);
        for key in expired {
            self.client_expired(key);
        }
    }

    fn sweep_pools(&mut self) {
        // Whatever leaves a pool is counted, and the flush of the counts brings the next sweep.
        let next = self.pools.forget_unused(self.now);
        self.wake_at(next);
        for key in self.pools.ids() {
            let Some(pool) = self.pools.get_mut(key) else { continue };
            match pool.explore_at {
                Some(at) if at <= self.now => {
                    pool.explore(self.now);
                    self.list_pool(key);
                }
                at => self.wake_at(at),
            }
        }
    }
}
