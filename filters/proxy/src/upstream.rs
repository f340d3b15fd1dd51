//! The upstream side: how connections of the pools open, and what becomes of their calls when they end.

mod connection;
mod responses;

use meltemi_codecs::Failure;
use meltemi_sockets::Target;

use crate::calls::Cause;
use crate::endpoints::EndpointId;
use crate::matching::Matching;
use crate::net::Owner;
use crate::peers::PeerId;
use crate::policy::Bucket;
use crate::pool::{Pool, PoolId};
use crate::reports::Server;
use crate::slots::Slots;
use crate::source::principal;
use crate::telemetry::Metric;
use crate::worker::Worker;

pub(crate) use self::connection::{Connection, ConnectionId, Farewell, Stage};

/// Field of Envoy's answer that names the server's workload; more follows its name after a semicolon: namespace,
/// canonical service, revision, cluster.
const WORKLOAD_HEADER: &str = "x-meltemi-workload";

/// Field of Envoy's answer that names the server by its certificate.
const IDENTITY_HEADER: &str = "x-meltemi-identity";

/// Field of a stream that the route of Envoy's connections hashes: what it says decides where a cluster with a ring leads.
const HASH_HEADER: &str = "x-meltemi-hash";

impl Worker {
    /// Opens a connection for a pool: to `endpoint`, or to one of Envoy's choice.
    pub(crate) fn open_connection(&mut self, pool_key: PoolId, endpoint: Option<&str>) {
        if !self.open(pool_key, endpoint, None) {
            self.waiting_failed(pool_key, "this proxy is draining");
        }
    }

    /// The same, or to where a `bucket` leads; whether it can be.
    pub(crate) fn open(&mut self, pool_key: PoolId, endpoint: Option<&str>, bucket: Option<Bucket>) -> bool {
        let Some(pool) = self.pools.get_mut(pool_key) else { return true };
        let number = bucket.map(|bucket| bucket.number().to_string());
        let header = match (pool.destination(), &number) {
            (Some(address), _) => Some((crate::client::DESTINATION_HEADER, &**address)),
            (None, Some(number)) => Some((HASH_HEADER, &**number)),
            (None, None) => None,
        };
        let target = Target { cluster: pool.cluster(), endpoint, headers: header.as_slice() };
        let Some(socket) = self.net.connect(&target) else { return false };
        let endpoint = pool.connect(endpoint);
        let until = self.now.after(pool.options().connect_timeout);
        let slots = Slots::new(Matching::new(pool.service().sharing), pool.service().codec.max_id());
        let is_mirror = pool.is_mirror();
        let stage = Stage::Connecting { until, bucket };
        let connection = Connection::new(socket, pool_key, endpoint, slots, stage, self.now);
        let key = self.connections.insert(connection);
        self.net.own(socket, Owner::Connection(key));
        if is_mirror {
            self.net.count_apart(socket);
        }
        self.telemetry.add_global(Metric::UpstreamConnectionsActive, 1);
        self.time_connection(key);
        true
    }

    /// Envoy has connected: takes the connection into the pool, unless its endpoint has enough of them.
    pub(crate) fn connected(
        &mut self,
        key: ConnectionId,
        address: Option<&str>,
        headers: &[(String, String)],
    ) {
        let now = self.now;
        let destination = self.destination(headers);
        let jitter = self.random.u32(80..=120);
        let Some(connection) = self.connections.get_mut(key) else { return };
        let pool_key = connection.pool();
        let Some(pool) = self.pools.get_mut(pool_key) else { return };
        if !connection.is_connecting() {
            return;
        }
        if pool.has_ended() {
            self.net.close(connection.socket());
            self.drop_connection(key);
            return;
        }
        self.telemetry.add_global(Metric::UpstreamConnections, 1);
        let age = pool.options().max_connection_age;
        let renew_at = pool
            .renewal_time()
            .map(|age| now.after(age.saturating_mul(jitter).checked_div(100).unwrap_or(age)));
        let bucket = connection.bucket();
        let endpoint = pool.connected(key, address.unwrap_or_default(), now);
        let is_named = connection.endpoint().is_some();
        let is_spare = bucket.is_none() && connection.endpoint().is_none() && pool.chosen(endpoint);
        let server = Server { cluster: pool.cluster(), service: pool.service(), headers };
        let party = self.reports.destination(&server);
        pool.know(endpoint, party);
        if let Some(bucket) = bucket {
            pool.buckets_mut().ended(bucket);
            pool.lead(bucket, endpoint.map(|endpoint| (endpoint, key)), now);
        }
        connection.connected(endpoint, destination, renew_at);
        if pool.is_judged() && self.is_left_out(key, endpoint) {
            if let Some((bucket, pool)) = bucket.zip(self.pools.get_mut(pool_key)) {
                pool.lead(bucket, None, now);
            }
            return;
        }
        let Some(pool) = self.pools.get(pool_key) else { return };
        let is_needed = match bucket {
            Some(_) => pool.uploads() > 0 && self.writable(pool, endpoint) <= 1,
            None => pool.open().len() <= pool.uploads().saturating_add(1),
        };
        let needs_few = Matching::new(pool.service().sharing).needs_few_connections();
        let is_useless = is_spare && !needs_few && self.has_idle(pool, endpoint, key);
        let Some(pool) = self.pools.get_mut(pool_key) else { return };
        let is_crowded = pool.is_crowded(endpoint) && needs_few;
        if is_crowded {
            pool.set_aside(key);
        }
        if is_crowded && (is_needed || pool.lacks_quiet()) {
            // All others are being written requests that are still coming, or have streams.
        } else if is_crowded {
            let oldest = pool.open().iter().copied().filter(|&other| {
                self.connections.get(other).is_some_and(|connection| connection.endpoint() == endpoint)
            });
            let oldest = oldest.min_by_key(|&other| self.connections.get(other).map(Connection::opened));
            let half = age.and_then(|age| age.checked_div(2));
            let is_old = |other: &ConnectionId| {
                let connection = self.connections.get(*other);
                connection.zip(half).is_some_and(|(connection, half)| now.since(connection.opened()) > half)
            };
            match oldest.filter(is_old) {
                Some(old) => self.retire(old),
                None => {
                    // Where a bucket leads is no chance, and says nothing about how many endpoints there are.
                    let explore_at = if bucket.is_none() { pool.repeated(now) } else { None };
                    self.retire(key);
                    self.alarms.wake_at(explore_at);
                }
            }
        } else if is_useless {
            self.retire(key);
        } else {
            let chosen = endpoint.filter(|_| bucket.is_none() && !is_named);
            let explore_at = pool.found(chosen, now);
            self.alarms.wake_at(explore_at);
            let is_for_any = !is_named && bucket.is_none() && pool.leaves_renewal(None);
            if !needs_few && (is_named || is_for_any) {
                self.retire_overdue(pool_key, endpoint, is_for_any);
            }
        }
        self.time_connection(key);
        self.list_pool(pool_key);
    }

    /// A connection has opened, which takes the place of one that was to be renewed, if there is such a one: of one to its own
    /// endpoint, or of any, if Envoy has chosen where it leads.
    #[cold]
    fn retire_overdue(&mut self, pool_key: PoolId, endpoint: Option<EndpointId>, is_for_any: bool) {
        let Some(pool) = self.pools.get(pool_key) else { return };
        let is_replaced = |key: &ConnectionId| {
            let connection = self.connections.get(*key);
            let connection = connection.filter(|open| is_for_any || open.endpoint() == endpoint);
            connection.is_some_and(|open| matches!(open.stage(), Stage::Open { is_overdue: true, .. }))
        };
        if let Some(old) = pool.open().iter().copied().find(is_replaced) {
            self.retire(old);
        }
    }

    /// Whether an endpoint has a connection without calls, beside one that has just opened.
    #[cold]
    fn has_idle(&self, pool: &Pool, endpoint: Option<EndpointId>, new: ConnectionId) -> bool {
        let others =
            pool.open().iter().filter(|key| **key != new).filter_map(|key| self.connections.get(*key));
        others.filter(|other| other.endpoint() == endpoint).any(|other| other.load(usize::MAX) == Some(0))
    }

    /// The server that Envoy's answer names.
    fn destination(&mut self, headers: &[(String, String)]) -> Option<PeerId> {
        let value = |header| headers.iter().find(|(name, _)| name == header).map(|(_, value)| value.as_str());
        let workload = value(WORKLOAD_HEADER).and_then(|fields| fields.split(';').next());
        let workload = workload.filter(|workload| !matches!(*workload, "" | "-"));
        let principal = value(IDENTITY_HEADER).and_then(principal);
        if workload.is_none() && principal.is_none() {
            return None;
        }
        let most = self.plan.max_operations;
        Some(self.telemetry.destination(workload.unwrap_or_default(), principal.unwrap_or_default(), most))
    }

    /// Envoy could not connect. `address` is the endpoint that refused, if one was chosen.
    pub(crate) fn refused(&mut self, key: ConnectionId, status: u16, address: Option<&str>, reason: &str) {
        let now = self.now;
        let named = self.connections.get(key).and_then(Connection::endpoint);
        let bucket = self.connections.get(key).and_then(Connection::bucket);
        let Some(pool_key) = self.drop_connection(key) else { return };
        self.telemetry.add_global(Metric::UpstreamConnectFailures, 1);
        let Some(pool) = self.pools.get_mut(pool_key) else { return };
        let (endpoint, is_news) = pool.refused(address, named, bucket, now);
        self.alarms.wake_at(Some(pool.explore_later(now)));
        if !pool.open().is_empty() || pool.connecting() > 0 || pool.waiting().is_empty() {
            self.list_pool(pool_key);
            return;
        }
        let living = pool.endpoints().living(None).cloned();
        if is_news || living.is_some() {
            self.open_connection(pool_key, living.as_deref());
            return;
        }
        let endpoint = pool.endpoints().address(endpoint).map_or("no endpoint", |address| address);
        let detail =
            format!("cannot connect to cluster {}: {endpoint}, status {status}: {reason}", pool.cluster());
        self.waiting_failed(pool_key, &detail);
    }

    /// An upstream connection is gone: what was in flight on it is tried again or answered.
    pub(crate) fn connection_lost(&mut self, key: ConnectionId, why: &str) {
        self.connection_failed(key, Failure::ConnectionLost, why);
    }

    fn connection_failed(&mut self, key: ConnectionId, failure: Failure, why: &str) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        if connection.is_connecting() {
            self.refused(key, 0, None, why);
            return;
        }
        let calls = connection.slots_mut().drain();
        let (download, endpoint) = (connection.download(), connection.endpoint());
        self.net.close(connection.socket());
        let Some(pool_key) = self.drop_connection(key) else { return };
        if let Some(pool) = self.pools.get_mut(pool_key) {
            self.alarms.wake_at(Some(pool.lost(endpoint, self.now)));
        }
        self.unpin(pool_key);
        if !calls.is_empty() {
            self.judge(pool_key, endpoint, true);
        }
        for call in calls {
            if let Some(call) = self.calls.get_mut(call) {
                call.lost(key, self.now);
            }
            self.try_failed(call, Cause::Reset, failure, why);
        }
        self.tear_download(download);
        self.list_pool(pool_key);
    }

    /// Gives up a connection that takes memory which others need.
    pub(crate) fn give_up_connection(&mut self, key: ConnectionId, why: &str) {
        if let Some(connection) = self.connections.get(key) {
            self.net.reset(connection.socket());
            self.connection_failed(key, Failure::Overloaded, why);
        }
    }

    /// The endpoint of a connection takes no more calls, or is gone from its cluster: it is not named.
    pub(crate) fn eject_endpoint(&mut self, key: ConnectionId) {
        if let Some(connection) = self.connections.get(key)
            && let Some(pool) = self.pools.get_mut(connection.pool())
        {
            pool.eject(connection.endpoint(), self.now);
        }
    }

    /// After responses were read: gives the window back, closes a retiring connection.
    pub(crate) fn settle(&mut self, key: ConnectionId) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let before = self.unread;
        connection.intake_mut().count(&mut self.unread);
        self.net.consumed(connection.socket(), connection.take_credit());
        let is_mirror = self.pools.get(connection.pool()).is_some_and(Pool::is_mirror);
        if is_mirror {
            self.policies.mirrors.read(before, self.unread);
        }
        if connection.farewell().is_some() {
            self.close_if_retired(key);
        }
        if is_mirror {
            self.limit_mirror(key);
        }
    }

    /// The clients that this connection feeds have read: gives the window back.
    pub(crate) fn unblock_connection(&mut self, key: ConnectionId) {
        if let Some(connection) = self.connections.get_mut(key) {
            connection.unblock();
            self.net.consumed(connection.socket(), connection.take_credit());
        }
    }

    /// Requests have left: waiting calls may be written.
    pub(crate) fn connection_writable(&mut self, key: ConnectionId) {
        if let Some(connection) = self.connections.get(key) {
            let (pool, upload) = (connection.pool(), connection.upload());
            self.list_pool(pool);
            if let Some(client) = upload {
                self.list_client(client);
            }
            self.list_streams(key);
        }
    }

    /// Forgets a connection whose socket is gone or closed; says which pool it was of.
    pub(crate) fn drop_connection(&mut self, key: ConnectionId) -> Option<PoolId> {
        let connection = self.connections.remove(key)?;
        let before = self.unread;
        self.unread = self.unread.saturating_sub(connection.intake().counted());
        self.net.release(connection.socket());
        self.telemetry.add_global(Metric::UpstreamConnectionsActive, -1);
        if let Some(pool) = self.pools.get_mut(connection.pool()) {
            match connection.stage() {
                Stage::Connecting { bucket, .. } => {
                    pool.not_connected();
                    if let Some(bucket) = bucket {
                        pool.buckets_mut().ended(bucket);
                    }
                }
                Stage::Open { .. } => {
                    let endpoint_of = |other| self.connections.get(other)?.endpoint();
                    pool.retired(key, connection.endpoint(), endpoint_of);
                }
                Stage::Retiring => {}
            }
            if connection.upload().is_some() {
                pool.upload_ended();
            }
            pool.gone();
            if pool.is_mirror() {
                self.policies.mirrors.read(before, self.unread);
            }
            self.alarms.wake_at(pool.forget_at());
            self.pools.forget_if_over(connection.pool());
        }
        if let Some(client) = connection.upload() {
            self.lose_outlet(client, key);
        }
        Some(connection.pool())
    }
}
