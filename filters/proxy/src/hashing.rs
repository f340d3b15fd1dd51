//! Calls that are hashed: those with the same key go to the same endpoint, by whichever proxy they come.
//!
//! All proxies agree on the endpoint of a key only where one that knows all endpoints chooses it, and that is Envoy. A
//! connection is opened with the number of the key's bucket in a header that Envoy's route hashes, and where it leads, calls of
//! that bucket go, on connections which all buckets of that endpoint share.

use crate::dispatch::Choice;
use crate::endpoints::EndpointId;
use crate::matching::Matching;
use crate::plan::Route;
use crate::policy::Bucket;
use crate::pool::{Pool, PoolId};
use crate::upstream::{Connection, ConnectionId};
use crate::worker::Worker;

impl Worker {
    /// The bucket of the call whose head was read last, where its route or cluster has calls hashed.
    #[cold]
    #[inline(never)]
    pub(crate) fn bucket(&self, route: &Route, pool: PoolId) -> Option<Bucket> {
        let pool = self.pools.get(pool)?;
        let key = route.hash.as_ref().or_else(|| pool.hash_key())?;
        // An original destination leaves nothing to choose.
        let hash = key.of(&self.head).filter(|_| pool.destination().is_none())?;
        Some(Bucket::of(hash))
    }

    /// The connection that should take the next call of a bucket: one to the endpoint that the bucket leads to. If its request
    /// is there `in_part`, one without streams, to whichever endpoint.
    #[cold]
    #[inline(never)]
    pub(crate) fn choose_hashed(&mut self, pool_key: PoolId, bucket: Bucket, in_part: bool) -> Choice {
        let now = self.now;
        let Some(pool) = self.pools.get(pool_key) else { return Choice::Full };
        // What a client has for itself was opened for its first call. Where nobody can be asked, any will do.
        if pool.owner().is_some() || !self.net.is_open() {
            return self.choose(pool_key, None, in_part);
        }
        let needs_quiet = in_part && self.calls.has_streams();
        let known = pool.buckets().find(bucket, now);
        let Some((place, is_current)) = known else {
            self.seek(pool_key, bucket, true);
            return Choice::Hold;
        };
        if let Some(connection) = place.connection.filter(|key| self.room(pool, *key, needs_quiet).is_some())
        {
            if !is_current {
                self.seek(pool_key, bucket, false);
            }
            return Choice::Take(connection);
        }
        let of_endpoint = || {
            let is_meant = |key: &&ConnectionId| self.endpoint_of(**key) == place.endpoint;
            pool.open().iter().filter(is_meant).filter(|_| place.endpoint.is_some()).copied()
        };
        let best = of_endpoint()
            .filter_map(|key| Some((self.room(pool, key, needs_quiet)?, key)))
            .min_by_key(|(load, _)| *load);
        if let Some((_, connection)) = best {
            if let Some(pool) = self.pools.get_mut(pool_key) {
                pool.buckets_mut().share(bucket, connection);
            }
            if !is_current {
                self.seek(pool_key, bucket, false);
            }
            return Choice::Take(connection);
        }
        if of_endpoint().next().is_some() && needs_quiet {
            return self.choose(pool_key, None, in_part);
        }
        if of_endpoint().next().is_some() {
            // It is busy. One more connection helps where calls have one each, or all are being written large requests.
            let is_exclusive = !Matching::new(pool.service().sharing).needs_few_connections();
            if is_exclusive || self.writable(pool, place.endpoint) == 0 {
                self.seek(pool_key, bucket, true);
            }
            return Choice::Hold;
        }
        if place.endpoint.is_some() && !pool.endpoints().refuses(place.endpoint) {
            self.seek(pool_key, bucket, true);
            return Choice::Hold;
        }
        // Its endpoint takes none: its calls are balanced until it does, or Envoy names another.
        if place.endpoint.is_some() || !is_current {
            self.seek(pool_key, bucket, false);
        }
        self.choose(pool_key, None, in_part)
    }

    /// Opens a connection to where a bucket leads, unless enough others are asked about.
    fn seek(&mut self, pool_key: PoolId, bucket: Bucket, is_waited_for: bool) {
        if let Some(pool) = self.pools.get_mut(pool_key)
            && pool.buckets_mut().ask(bucket, is_waited_for)
            && !self.open(pool_key, None, Some(bucket))
            && let Some(pool) = self.pools.get_mut(pool_key)
        {
            pool.buckets_mut().ended(bucket);
        }
    }

    /// How many calls a connection has in flight, if it takes one more.
    fn room(&self, pool: &Pool, key: ConnectionId, needs_quiet: bool) -> Option<usize> {
        let connection = self.connections.get(key).filter(|connection| connection.is_open())?;
        let most = Matching::new(pool.service().sharing).connection_limit(pool.options());
        connection.room(most, &self.net, needs_quiet.then_some(&self.calls))
    }

    fn endpoint_of(&self, key: ConnectionId) -> Option<EndpointId> {
        self.connections.get(key).and_then(Connection::endpoint)
    }

    /// How many connections to an endpoint are not in the middle of a request.
    pub(crate) fn writable(&self, pool: &Pool, endpoint: Option<EndpointId>) -> usize {
        let open = pool.open().iter().filter_map(|key| self.connections.get(*key));
        open.filter(|connection| connection.endpoint() == endpoint && connection.can_write()).count()
    }
}
