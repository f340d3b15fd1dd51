//! Clients that are asked to connect again: because this worker soon cannot open connections, because another worker
//! takes the new clients, or because the plan no longer has what they were accepted for.

use core::time::Duration;

use crate::client::{Change, ClientId};
use crate::clock::Instant;
use crate::plan::Plan;
use crate::worker::Worker;

/// Whether a client may stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stay {
    /// For as long as it likes.
    Welcome,
    /// It is to be drained at that time.
    Until(Instant),
    /// It is draining: it was asked to connect again. From that time on its connection is closed as soon as no call is
    /// in flight.
    Draining(Instant),
}

/// From asking a client to connect again until its connection may be closed: requests already on their way still
/// arrive.
const DRAIN_TIME: Duration = Duration::from_secs(1);

/// Where nothing is urgent, clients are asked one by one over so long: they do not all connect again at once.
const SPREAD: Duration = Duration::from_secs(20 * 60);

/// A worker that no client has come to for so long, while there is a newer one, takes no clients any more.
const SUPERSEDED: Duration = Duration::from_secs(10 * 60);

/// Why clients are drained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Leave {
    /// They are not.
    No,
    /// Another worker takes the new ones; this one lives on until the last has left.
    Superseded,
    /// Stream ids run short: new clients are sent to another worker.
    HandedOver,
    /// Connections can soon not be opened here any more.
    Urgent,
}

impl Worker {
    /// To be called, in any callback, while there is a newer worker that takes new clients in place of this one. The
    /// clients that stay here are asked to connect again, spread over half an hour, so that workers do not pile up.
    ///
    /// Envoy does not say that it has replaced a tunnel connection, and may have reasons to use two at a time: a worker
    /// that still gets clients ignores this.
    pub fn supersede(&mut self, now: Instant) {
        if self.leave == Leave::No && self.accepted_at.after(SUPERSEDED) <= now {
            self.now = now;
            self.leave = Leave::Superseded;
            self.drain_all();
        }
    }

    /// New upstream connections can soon not be opened here: asks every client to connect again.
    pub(crate) fn leave(&mut self) {
        if core::mem::replace(&mut self.leave, Leave::Urgent) != Leave::Urgent {
            self.net.drain();
            self.drain_all();
        }
    }

    /// Stream ids run short, and tcp_proxy was asked to open no more tunnels here: the clients that are here follow while
    /// there is time.
    pub(crate) fn hand_over(&mut self) {
        if self.leave < Leave::HandedOver && self.net.is_draining() {
            self.leave = Leave::HandedOver;
            self.drain_all();
        }
    }

    fn drain_all(&mut self) {
        for client in self.clients.ids() {
            self.drain_in_turn(client);
        }
    }

    /// Drains a client when its turn has come: at once, or at some time within [`SPREAD`].
    pub(crate) fn drain_in_turn(&mut self, key: ClientId) {
        match self.leave {
            Leave::No => {}
            Leave::Urgent => self.drain_client(key),
            Leave::Superseded | Leave::HandedOver => {
                let turn = self.now.after(SPREAD.mul_f64(self.random.f64()));
                if let Some(client) = self.clients.get_mut(key) {
                    client.stay_until(turn);
                    self.time_client(key);
                }
            }
        }
    }

    /// Drains a client: it is asked to connect again.
    pub(crate) fn drain_client(&mut self, key: ClientId) {
        let leaves_at = self.now.after(DRAIN_TIME);
        let Some(client) = self.clients.get_mut(key) else { return };
        if !client.drain(leaves_at) {
            return;
        }
        let codec = client.service().codec.clone();
        if let Some(out) = client.write(&mut self.net) {
            codec.drain_notice(out);
        }
        self.bound_streams(key);
        self.time_client(key);
    }

    /// A client came: whatever there is beside it, this worker is in use.
    pub(crate) fn note_arrival(&mut self) {
        self.accepted_at = self.now;
        if self.leave == Leave::Superseded {
            self.leave = Leave::No;
        }
    }

    /// Has what is connected follow `plan`: clients take their service's new form; those whose service left it, or
    /// changed its protocol, are asked to connect again, or closed at once where calls may be denied now; so are those of
    /// services that came with it.
    pub(crate) fn follow(&mut self, plan: &Plan) {
        let (mut outdated, mut barred) = (Vec::new(), Vec::new());
        for (key, client) in self.clients.iter_mut() {
            match client.follow(plan) {
                Change::Form => {}
                Change::Outdated => outdated.push(key),
                Change::Barred => barred.push(key),
            }
        }
        for key in barred {
            self.close_client(key);
        }
        for key in outdated {
            self.drain_client(key);
        }
        // What may take how long has changed.
        for key in self.clients.ids() {
            self.time_client(key);
        }
        self.relays.follow(plan, self.now, &mut self.net);
    }
}
