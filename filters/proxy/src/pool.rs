//! Upstream connections to one cluster, shared by all clients of a worker.
//!
//! Envoy chooses the endpoint of a connection, with its weights, locality and health; the pool then spreads requests
//! over the connections by least requests in flight. It opens connections until the endpoints repeat, so that one
//! client's requests reach every endpoint, and renews them by age, so that new endpoints take part.

mod exploring;
mod hashing;
mod limiting;
mod open;
mod weighing;

use core::time::Duration;
use std::collections::VecDeque;
use std::rc::Rc;

use crate::arena::Id;
use crate::calls::PoolCalls;
use crate::client::ClientId;
use crate::clock::Instant;
use crate::endpoints::{EndpointId, Endpoints, Judged, Weights};
use crate::exploration::Exploration;
use crate::plan::{ClusterPolicy, Plan, Service, UpstreamOptions};
use crate::policy::{Bucket, Buckets, Concurrency};
use crate::queue::Queue;
use crate::reports::PartyId;
use crate::upstream::ConnectionId;

use self::open::Open;

/// Names a pool.
pub(crate) type PoolId = Id<Pool>;

/// The connections and waiting calls of one cluster.
#[derive(Debug)]
pub(crate) struct Pool {
    cluster: Rc<str>,
    /// The original destination, where the cluster is one that goes there (Istio's inbound clusters).
    destination: Option<Rc<str>>,
    /// The client that has it for itself, with one connection.
    owner: Option<ClientId>,
    /// That client, or its connection, has ended: no more are opened.
    has_ended: bool,
    is_mirror: bool,
    /// The service that opened the pool: it sets protocol, limits and budget.
    service: Rc<Service>,
    /// What protects the cluster.
    policy: Option<Rc<ClusterPolicy>>,
    open: Open,
    /// Connections being opened.
    connecting: usize,
    /// All connections that name this pool, those that end with their last answer included.
    connections: usize,
    /// Those of them that were retired for calls without an answer, oldest first; some may be gone.
    unresponsive: VecDeque<ConnectionId>,
    endpoints: Endpoints,
    exploration: Exploration,
    /// Where calls go that are hashed.
    buckets: Buckets,
    /// How calls are spread, where Envoy's weights are kept.
    weights: Option<Box<Weights>>,
    /// How many calls it takes, where that follows the times of its answers; and what was reported of that last.
    concurrency: Option<Box<Concurrency>>,
    told_limit: usize,
    waiting: Queue,
    /// Connections that take no call for now: a request is being written to them which is still coming.
    uploads: usize,
    /// A request that is still coming waits for a connection without streams.
    lacks_quiet: bool,
    /// It is to be looked at when the event is handled.
    is_listed: bool,
    calls: PoolCalls,
    last_call: Instant,
}

/// A pool is idle after so many times the age at which connections are renewed. Until then they are, so that calls that
/// come now and then wait for none.
const IDLE_AGES: u32 = 10;

/// Between the loss of an endpoint and the next search, where the plan sets no ejection time.
const EXPLORE_PAUSE: Duration = Duration::from_secs(5);

/// A pool without connections and calls is forgotten so long after its last call. Until then it remembers endpoints that
/// refused.
const UNUSED: Duration = Duration::from_secs(60);

/// Connections that were retired for calls without an answer, and still have some.
const MOST_UNRESPONSIVE: usize = 8;

impl Pool {
    pub(crate) fn new(
        cluster: Rc<str>,
        destination: Option<Rc<str>>,
        owner: Option<ClientId>,
        service: Rc<Service>,
        now: Instant,
    ) -> Self {
        let policy = policy(&service, &cluster);
        let mut pool = Self {
            policy,
            cluster,
            destination,
            owner,
            has_ended: false,
            is_mirror: false,
            service,
            open: Open::default(),
            connecting: 0,
            connections: 0,
            unresponsive: VecDeque::new(),
            endpoints: Endpoints::default(),
            exploration: Exploration::new(now),
            buckets: Buckets::default(),
            weights: None,
            concurrency: None,
            told_limit: 0,
            waiting: Queue::default(),
            uploads: 0,
            lacks_quiet: false,
            is_listed: false,
            calls: PoolCalls::default(),
            last_call: now,
        };
        pool.weigh(now);
        pool.adapt(now);
        pool
    }

    #[inline]
    pub(crate) fn cluster(&self) -> &Rc<str> {
        &self.cluster
    }

    #[inline]
    pub(crate) fn destination(&self) -> Option<&Rc<str>> {
        self.destination.as_ref()
    }

    /// The client that has it for itself.
    #[inline]
    pub(crate) fn owner(&self) -> Option<ClientId> {
        self.owner
    }

    /// The client that has it for itself, or its connection, has ended.
    pub(crate) fn end(&mut self) {
        self.has_ended = true;
    }

    /// Whether no more connections are opened.
    pub(crate) fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// Whether nothing is left of a pool that has ended.
    pub(crate) fn is_over(&self) -> bool {
        self.has_ended && self.connections == 0 && self.calls.active() == 0
    }

    /// The same for copies of calls.
    pub(crate) fn for_copies(self) -> Self {
        Self { is_mirror: true, concurrency: None, ..self }
    }

    /// Whether it is for copies of calls.
    #[inline]
    pub(crate) fn is_mirror(&self) -> bool {
        self.is_mirror
    }

    #[inline]
    pub(crate) fn service(&self) -> &Rc<Service> {
        &self.service
    }

    pub(crate) fn options(&self) -> &UpstreamOptions {
        &self.service.upstream
    }

    /// Takes limits and budget from the service of the same name in `plan`.
    pub(crate) fn follow(&mut self, plan: &Plan) {
        if let Some(service) = plan.service_like(&self.service.name, &self.service)
            && service.shares_with(&self.service)
        {
            self.service = service.clone();
            self.policy = policy(service, &self.cluster);
            self.weigh(self.last_call);
            self.adapt(self.last_call);
        }
    }

    /// After how long without a call a connection is closed. Where pools are as many as the addresses that clients think
    /// of, it is soon, whatever the plan's age.
    fn idle_time(&self) -> Option<Duration> {
        match self.destination {
            Some(_) => self.renewal_time(),
            None => self.renewal_time().map(|age| age.saturating_mul(IDLE_AGES)),
        }
    }

    /// At which age a connection is renewed, or looked at whether anybody uses it. What a client has for itself is not.
    pub(crate) fn renewal_time(&self) -> Option<Duration> {
        if self.owner.is_some() {
            return None;
        }
        self.options().max_connection_age.or(self.destination.is_some().then_some(UNUSED))
    }

    /// Whether there was no call for so long that connections are not renewed.
    pub(crate) fn is_idle(&self, now: Instant) -> bool {
        self.idle_time().is_some_and(|time| self.is_unused_for(time, now))
    }

    /// Whether there was no call for so long.
    pub(crate) fn is_unused_for(&self, time: Duration, now: Instant) -> bool {
        self.last_call.after(time) <= now
    }

    /// When to forget this pool, if nothing belongs to it any more.
    pub(crate) fn forget_at(&self) -> Option<Instant> {
        (self.connections == 0 && self.calls.active() == 0).then(|| self.last_call.after(UNUSED))
    }

    /// The calls that this pool serves.
    #[inline]
    pub(crate) fn calls(&self) -> &PoolCalls {
        &self.calls
    }

    /// For the table of calls, which keeps it right.
    #[inline]
    pub(crate) fn calls_mut(&mut self) -> &mut PoolCalls {
        &mut self.calls
    }

    /// Notes that a call begins.
    #[inline]
    pub(crate) fn begin_call(&mut self, now: Instant) -> &mut PoolCalls {
        self.last_call = now;
        &mut self.calls
    }

    /// Whether one more retry fits the budget.
    pub(crate) fn has_retry_budget(&self) -> bool {
        let most = self.policy.as_ref().map_or(usize::MAX, |policy| policy.circuit_breaker.max_retries);
        self.calls.retrying() < most && self.calls.fits(&self.service.retry_budget)
    }

    /// Why it takes no more calls, where it has as many as it may.
    pub(crate) fn overflow(&self) -> Option<String> {
        let breaker = self.policy.as_ref()?.circuit_breaker;
        let cluster = &self.cluster;
        let (most, what) = if self.calls.tries() >= breaker.max_calls {
            (breaker.max_calls, "calls in flight")
        } else if self.waiting.len() >= breaker.max_waiting_calls {
            (breaker.max_waiting_calls, "calls that wait for a connection")
        } else {
            return None;
        };
        Some(format!("the circuit breaker of cluster {cluster} is open: it has {most} {what}"))
    }

    /// Whether it matters how calls end, or when.
    #[inline]
    pub(crate) fn is_watched(&self) -> bool {
        self.policy.as_ref().is_some_and(|policy| policy.is_watched) && self.owner.is_none()
    }

    /// Whether endpoints are left out for how calls end.
    #[inline]
    pub(crate) fn is_judged(&self) -> bool {
        self.policy.as_ref().is_some_and(|policy| policy.outlier_detection.is_some()) && self.owner.is_none()
    }

    /// Notes how a call of an endpoint ended.
    pub(crate) fn judge(&mut self, id: Option<EndpointId>, failed: bool, now: Instant) -> Judged {
        let rule = self.policy.as_ref().and_then(|policy| policy.outlier_detection.as_ref());
        rule.map(|rule| self.endpoints.judge(id, failed, rule, now)).unwrap_or_default()
    }

    /// The calls that wait for a connection.
    #[inline]
    pub(crate) fn waiting(&self) -> &Queue {
        &self.waiting
    }

    pub(crate) fn waiting_mut(&mut self) -> &mut Queue {
        &mut self.waiting
    }

    /// Whether it is to be listed now: something is to be done for it, and it was not listed yet.
    #[inline]
    pub(crate) fn enlist(&mut self) -> bool {
        (!self.waiting.is_empty() || self.is_exploring()) && !core::mem::replace(&mut self.is_listed, true)
    }

    /// It is looked at, and may be listed again.
    pub(crate) fn unlist(&mut self) {
        self.is_listed = false;
    }

    /// The open connections that take calls.
    #[inline]
    pub(crate) fn open(&self) -> &[ConnectionId] {
        self.open.all()
    }

    /// How many connections are being opened.
    #[inline]
    pub(crate) fn connecting(&self) -> usize {
        self.connecting
    }

    /// The connection with the least `load` (`None` = cannot take a call); a spare one if no other can.
    pub(crate) fn choose(&mut self, load: &dyn Fn(ConnectionId) -> Option<usize>) -> Option<ConnectionId> {
        self.open.choose(load)
    }

    /// Notes that a connection is being opened: to the endpoint of that address, or to one of Envoy's choice.
    pub(crate) fn connect(&mut self, address: Option<&str>) -> Option<EndpointId> {
        self.connecting = self.connecting.saturating_add(1);
        self.connections = self.connections.saturating_add(1);
        address.and_then(|address| self.endpoints.find(address))
    }

    /// Notes that it is open, and to which endpoint.
    pub(crate) fn connected(&mut self, key: ConnectionId, address: &str, now: Instant) -> Option<EndpointId> {
        self.connecting = self.connecting.saturating_sub(1);
        let endpoint = self.endpoints.find(address);
        self.endpoints.connected(endpoint);
        if self.endpoints.connections(endpoint) == Some(1) {
            self.buckets.change(now);
            self.joined(endpoint);
        }
        self.open.add(key);
        endpoint
    }

    /// Notes that an open connection takes calls only when no other can.
    pub(crate) fn set_aside(&mut self, key: ConnectionId) {
        self.open.set_aside(key);
    }

    /// Notes who an endpoint is.
    pub(crate) fn know(&mut self, endpoint: Option<EndpointId>, party: PartyId) {
        self.endpoints.know(endpoint, party);
    }

    /// Notes that it was given up before it was open.
    pub(crate) fn not_connected(&mut self) {
        self.connecting = self.connecting.saturating_sub(1);
    }

    /// Notes that an open connection takes no more calls. A spare one to the same endpoint takes its place, which
    /// `endpoint_of` tells.
    pub(crate) fn retired(
        &mut self,
        key: ConnectionId,
        endpoint: Option<EndpointId>,
        endpoint_of: impl Fn(ConnectionId) -> Option<EndpointId>,
    ) {
        self.open.remove(key, |other| endpoint_of(other) == endpoint);
        self.endpoints.left(endpoint);
    }

    /// Notes that a connection is written a request which is still coming, and takes no other until then.
    pub(crate) fn upload_began(&mut self) {
        self.uploads = self.uploads.saturating_add(1);
    }

    /// Notes that this is over.
    pub(crate) fn upload_ended(&mut self) {
        self.uploads = self.uploads.saturating_sub(1);
    }

    /// How many of its connections are being written requests that are still coming.
    #[inline]
    pub(crate) fn uploads(&self) -> usize {
        self.uploads
    }

    /// Notes whether a request that is still coming waits for a connection without streams.
    pub(crate) fn lack_quiet(&mut self, lacks_quiet: bool) {
        self.lacks_quiet = lacks_quiet;
    }

    /// Whether one does.
    pub(crate) fn lacks_quiet(&self) -> bool {
        self.lacks_quiet
    }

    /// Notes that a connection is gone, which takes no calls any more.
    pub(crate) fn gone(&mut self) {
        self.connections = self.connections.saturating_sub(1);
    }

    /// Notes a connection that was retired for calls without an answer, and says which to give up for it where there are
    /// too many: calls on them may never end.
    pub(crate) fn unresponsive(
        &mut self,
        key: ConnectionId,
        is_there: impl Fn(ConnectionId) -> bool,
    ) -> Option<ConnectionId> {
        self.unresponsive.retain(|&other| is_there(other));
        self.unresponsive.push_back(key);
        (self.unresponsive.len() > MOST_UNRESPONSIVE).then(|| self.unresponsive.pop_front()).flatten()
    }

    pub(crate) fn endpoints(&self) -> &Endpoints {
        &self.endpoints
    }

    /// Whether an endpoint has more connections than are wanted. One more than are remembered has, or the search for
    /// endpoints would have no end.
    pub(crate) fn is_crowded(&self, endpoint: Option<EndpointId>) -> bool {
        let most = self.options().connections_per_endpoint;
        self.endpoints.connections(endpoint).is_none_or(|connections| connections > most)
    }

    pub(crate) fn endpoints_mut(&mut self) -> &mut Endpoints {
        &mut self.endpoints
    }

    /// Notes that an endpoint refused a connection, or is leaving; whether that was news.
    pub(crate) fn eject(&mut self, id: Option<EndpointId>, now: Instant) -> bool {
        let time = self.options().ejection_time;
        self.endpoints.eject(id, time, now)
    }

    /// Notes that an endpoint refused a connection: that of `address`, or the one that was `named`. Says which it was, and
    /// whether that is news. A `bucket` led there.
    pub(crate) fn refused(
        &mut self,
        address: Option<&str>,
        named: Option<EndpointId>,
        bucket: Option<Bucket>,
        now: Instant,
    ) -> (Option<EndpointId>, bool) {
        let endpoint = address.and_then(|address| self.endpoints.find(address)).or(named);
        match bucket {
            Some(bucket) => self.lead(bucket, None, now),
            None => self.exploration.missed(),
        }
        (endpoint, self.eject(endpoint, now))
    }
}

/// What protects a cluster of a service.
fn policy(service: &Service, cluster: &str) -> Option<Rc<ClusterPolicy>> {
    Some(service.clusters.as_ref()?.of(cluster).clone())
}

#[cfg(test)]
mod tests;
