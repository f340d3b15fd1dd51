use std::rc::Rc;

use crate::alarms::Alarms;
use crate::arena::Arena;
use crate::budget::Share;
use crate::calls::{Calls, End};
use crate::client::{Client, ClientId};
use crate::clock::Instant;
use crate::deadlines::Deadlines;
use crate::files::Files;
use crate::inquiries::Inquiries;
use crate::leaving::Leave;
use crate::line_limit::Rare;
use crate::net::{Net, Owner};
use crate::plan::Plan;
use crate::policy::{Ledger, States};
use crate::pools::Pools;
use crate::relays::Relays;
use crate::reports::Reports;
use crate::room::Windows;
use crate::spans::Spans;
use crate::taps::Taps;
use crate::telemetry::{Names, Sink, Telemetry};
use crate::tracing::{Trace, Traces};
use crate::upstream::Connection;
use crate::waiting::Agenda;
use meltemi_codecs::Head;
use meltemi_sockets::{Event, Options, Side};

/// The proxy of one Envoy worker: every client connection that arrives through one tunnel connection, and the upstream
/// connections that they share.
///
/// The caller gives it what arrives with [`receive`](Worker::receive) and then takes what leaves with
/// [`transmit`](Worker::transmit), once a callback.
pub struct Worker {
    pub(crate) net: Net,
    pub(crate) plan: Rc<Plan>,
    pub(crate) clients: Arena<Client>,
    pub(crate) connections: Arena<Connection>,
    pub(crate) relays: Relays,
    pub(crate) calls: Calls,
    /// Memory of what clients and servers have sent and is not read.
    pub(crate) unread: usize,
    pub(crate) share: Share,
    pub(crate) windows: Windows,
    /// Clients that send a large request, which is passed on while it comes.
    pub(crate) uploads: Vec<ClientId>,
    /// While memory is short: the memory that the calls of one client may take.
    pub(crate) most_for_calls: Option<usize>,
    pub(crate) pools: Pools,
    pub(crate) agenda: Agenda,
    pub(crate) policies: States,
    pub(crate) inquiries: Inquiries,
    pub(crate) telemetry: Telemetry,
    pub(crate) reports: Reports,
    pub(crate) spans: Spans,
    pub(crate) taps: Taps,
    pub(crate) loggers: Rare,
    pub(crate) files: Files,
    pub(crate) random: fastrand::Rng,
    pub(crate) head: Head,
    pub(crate) traces: Traces,
    /// That of the request that was read last, until its record has it.
    pub(crate) trace: Option<Box<Trace>>,
    pub(crate) now: Instant,
    pub(crate) deadlines: Deadlines,
    pub(crate) alarms: Alarms,
    /// Whether clients are asked to connect again.
    pub(crate) leave: Leave,
    /// When the last client came.
    pub(crate) accepted_at: Instant,
}

impl Worker {
    /// A worker that follows `plan`. `seed` makes its random choices repeatable.
    /// `options` are those of its sockets; `write_high` and `write_low` are the worker's own to set.
    pub fn new(plan: Rc<Plan>, options: Options, seed: u64) -> Self {
        Self {
            net: Net::new(options),
            plan,
            clients: Arena::default(),
            connections: Arena::default(),
            relays: Relays::default(),
            calls: Calls::default(),
            unread: 0,
            share: Share::new(&Rc::default()),
            windows: Windows::default(),
            uploads: Vec::new(),
            most_for_calls: None,
            pools: Pools::default(),
            agenda: Agenda::default(),
            policies: States::default(),
            inquiries: Inquiries::default(),
            telemetry: Telemetry::default(),
            reports: Reports::default(),
            spans: Spans::default(),
            taps: Taps::default(),
            loggers: Rare::default(),
            files: Files::default(),
            random: fastrand::Rng::with_seed(seed),
            head: Head::new(),
            traces: Traces::default(),
            trace: None,
            now: Instant::default(),
            deadlines: Deadlines::default(),
            alarms: Alarms::default(),
            leave: Leave::No,
            accepted_at: Instant::default(),
        }
    }

    /// Shares the names of its metrics with other workers, before anything is counted.
    #[must_use]
    pub fn with_names(mut self, names: &Names) -> Self {
        self.telemetry.share(names);
        self
    }

    /// Shares what is counted for reports with other workers, before anything is counted.
    #[must_use]
    pub fn with_reports(mut self, reports: &Reports) -> Self {
        self.reports = reports.clone();
        self
    }

    /// Shares the token buckets of rate limits with other workers.
    #[must_use]
    pub fn with_ledger(mut self, ledger: Rc<dyn Ledger>) -> Self {
        self.policies.ledger = ledger;
        self
    }

    /// Follows another plan from the next request on. Connections and calls in flight go on.
    pub fn set_plan(&mut self, plan: Rc<Plan>) {
        if Rc::ptr_eq(&plan, &self.plan) {
            return;
        }
        self.send_lines();
        self.follow(&plan);
        self.pools.set_plan(&plan);
        self.tell_limits(false);
        self.policies.set_plan(&plan);
        plan.follow_latencies(&self.plan);
        self.send_all_spans();
        self.spans.forget_idle();
        self.inquiries.retain(|cluster| plan.asks(cluster), &mut self.net);
        self.plan = plan;
        self.follow_leftovers();
        self.alarms.wake_at(Some(self.now));
    }

    /// Handles `bytes`, which `side` sent, and every deadline that has passed at `now`.
    ///
    /// # Errors
    ///
    /// The peer broke HTTP/2: the connection is of no more use, and the caller should close it after transmitting.
    pub fn receive(&mut self, side: Side, bytes: &[u8], now: Instant) -> Result<(), meltemi_sockets::Error> {
        self.now = now;
        let mut input = bytes;
        while let Some(event) = self.net.receive(side, &mut input)? {
            self.handle(event);
            self.catch_up();
        }
        // What the last request said is needed no more, and may be large.
        self.head.clear();
        self.keep_budget();
        self.catch_up();
        self.count_dropped();
        self.keep_time();
        Ok(())
    }

    /// Appends what may be written to `side` in this callback.
    pub fn transmit(&mut self, side: Side, out: &mut Vec<u8>) {
        self.net.transmit(side, out);
    }

    /// Gives log lines to `sink`, and four times a second what was counted. To be called after each
    /// [`receive`](Worker::receive); an alarm brings one in time for the last counts.
    pub fn flush(&mut self, sink: &mut dyn Sink) {
        self.telemetry.flush(self.now, sink);
    }

    /// Ends every gauge and gives all counts to `sink`: the connection to which this worker belongs is gone, and all its
    /// calls with it.
    pub fn shut_down(&mut self, sink: &mut dyn Sink) {
        self.files.end();
        for client in self.clients.ids() {
            self.drop_client(client);
        }
        for connection in self.connections.ids() {
            self.drop_connection(connection);
        }
        for call in self.calls.ids() {
            self.finish(call, End::Cancelled);
        }
        self.send_lines();
        self.tell_limits(true);
        self.tell_left_out();
        self.end_spans();
        self.telemetry.flush(self.now, sink);
        self.telemetry.flush_counts(sink);
    }

    /// How many pools of upstream connections there are: one for each cluster, and one for each address in a cluster that
    /// clients address by themselves.
    pub fn pools(&self) -> usize {
        self.pools.len()
    }

    fn handle(&mut self, event: Event<'_>) {
        match event {
            Event::Accepted { id, accept } => self.accepted(id, accept),
            Event::Connected { id, endpoint, headers } => match self.net.owner(id) {
                Owner::Connection(key) => self.connected(key, endpoint.as_deref(), &headers),
                Owner::Relay(key, _) => self.relays.connected(key, self.now, &mut self.net),
                Owner::Channel(key) => self.inquiries.connected(key, &mut self.net),
                _ => self.net.close(id),
            },
            Event::Refused { id, status, endpoint, reason } => match self.net.release(id) {
                Owner::Connection(key) => self.refused(key, status, endpoint.as_deref(), &reason),
                Owner::Channel(key) => self.service_refused(key),
                Owner::Relay(key, _) => self.relays.close(key, &mut self.net),
                _ => {}
            },
            Event::Data { id, bytes } => match self.net.owner(id) {
                Owner::Client(key) => self.client_data(key, bytes),
                Owner::Connection(key) => self.connection_data(key, bytes),
                Owner::Channel(key) => self.service_data(key, bytes),
                Owner::Relay(key, side) => self.relay_data(key, side, bytes),
                Owner::Request(_) | Owner::Entry(..) | Owner::Nobody => self.net.consumed(id, bytes.len()),
            },
            Event::Ended { id } => match self.net.owner(id) {
                Owner::Client(key) => self.client_ended(key),
                Owner::Connection(key) => self.connection_lost(key, "the upstream closed the connection"),
                Owner::Channel(key) => {
                    self.net.close(id);
                    self.service_lost(key);
                }
                Owner::Relay(key, side) => self.relay_ended(key, side),
                Owner::Request(_) | Owner::Entry(..) | Owner::Nobody => self.net.close(id),
            },
            Event::Reset { id, .. } => match self.net.release(id) {
                Owner::Client(key) => self.drop_client(key),
                Owner::Connection(key) => self.connection_lost(key, "the upstream connection was reset"),
                Owner::Channel(key) => self.service_lost(key),
                Owner::Relay(key, _) => self.relays.close(key, &mut self.net),
                Owner::Entry(count, _) => self.entries_answered(0, count),
                Owner::Request(_) | Owner::Nobody => {}
            },
            Event::Writable { id } => match self.net.owner(id) {
                Owner::Client(key) => self.client_writable(key),
                Owner::Connection(key) => self.connection_writable(key),
                Owner::Relay(key, side) => self.relays.writable(key, side, &mut self.net),
                Owner::Channel(_) | Owner::Request(_) | Owner::Entry(..) | Owner::Nobody => {}
            },
            Event::Alarm => self.alarms.rang(self.now),
            Event::GoingAway { side: Side::Upstream } => self.leave(),
            Event::Response { id, status, body, .. } => match self.net.release(id) {
                Owner::Request(key) => self.responded(key, status, body),
                Owner::Entry(count, _) => self.entries_answered(status, count),
                _ => {}
            },
            Event::GoingAway { side: Side::Downstream } => {}
        }
    }
}
