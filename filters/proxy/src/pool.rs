//! Upstream connections to one cluster, shared by all clients of a worker.
//!
//! Envoy chooses the endpoint of a connection, with its weights, locality and health; the pool then spreads requests
//! over the connections by least requests in flight. It opens connections until the endpoints repeat, so that one
//! client's requests reach every endpoint, and renews them by age, so that new endpoints take part.

use core::time::Duration;
use std::collections::VecDeque;
use std::rc::Rc;

use rustc_hash::FxHashMap;

use crate::call::CallId;
use crate::clock::{Instant, earliest};
use crate::plan::{Plan, Service, UpstreamOptions};

/// Number of an endpoint in its pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EndpointId(pub(crate) usize);

/// An endpoint that Envoy has chosen, or refused, at least once.
#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(crate) address: Rc<str>,
    /// Open connections that take calls.
    pub(crate) connections: usize,
    /// A refusal before then is no news.
    pub(crate) ejected_until: Option<Instant>,
    /// Signs since the last connection that it takes no more of them; with any, it is not named.
    pub(crate) refusals: u32,
}

/// The connections and waiting calls of one cluster.
#[derive(Debug)]
pub(crate) struct Pool {
    pub(crate) cluster: Rc<str>,
    /// The original destination, where the cluster is one that goes there (Istio's inbound clusters).
    pub(crate) destination: Option<Rc<str>>,
    /// The service that opened the pool: it sets protocol, limits and budget.
    pub(crate) service: Rc<Service>,
    /// Keys of the open connections that take calls.
    pub(crate) open: Vec<usize>,
    /// Connections being opened.
    pub(crate) connecting: usize,
    pub(crate) endpoints: Vec<Endpoint>,
    pub(crate) waiting: VecDeque<CallId>,
    /// Calls that this pool serves, and those of them that are retries: the retry budget's two sides.
    pub(crate) active: usize,
    pub(crate) retrying: usize,
    /// Endpoints seen again in a row while looking for new ones.
    pub(crate) repeats: u32,
    /// When to look for new endpoints again.
    pub(crate) explore_at: Option<Instant>,
    pub(crate) last_call: Instant,
    /// Where the next search for the least loaded connection starts, so that ties rotate.
    next: usize,
}

/// So many repeats in a row end the search for endpoints.
const ENOUGH_REPEATS: u32 = 2;

/// Over more connections than this, the least loaded of so many neighbours is taken instead of the least of all.
const MOST_COMPARED: usize = 32;

/// Between the loss of an endpoint and the next search, where the plan sets no ejection time.
const EXPLORE_PAUSE: Duration = Duration::from_secs(5);

/// Ejections grow with the refusals up to this many.
const MOST_REFUSALS: u32 = 8;

/// Endpoints remembered for a pool.
const MOST_ENDPOINTS: usize = 1024;

impl Pool {
    fn new(cluster: Rc<str>, destination: Option<Rc<str>>, service: Rc<Service>, now: Instant) -> Self {
        Self {
            cluster,
            destination,
            service,
            open: Vec::new(),
            connecting: 0,
            endpoints: Vec::new(),
            waiting: VecDeque::new(),
            active: 0,
            retrying: 0,
            repeats: 0,
            explore_at: None,
            last_call: now,
            next: 0,
        }
    }

    pub(crate) fn options(&self) -> &UpstreamOptions {
        &self.service.upstream
    }

    /// The connection with the least `load` (`None` = cannot take a call); the first of equals in rotation.
    pub(crate) fn choose(&mut self, load: impl Fn(usize) -> Option<usize>) -> Option<usize> {
        let count = self.open.len();
        let start = self.next.checked_rem(count)?;
        self.next = start.wrapping_add(1);
        let (before, after) = self.open.split_at_checked(start)?;
        let candidates = after.iter().chain(before).take(MOST_COMPARED);
        let mut best: Option<(usize, usize)> = None;
        for &connection in candidates {
            let Some(load) = load(connection) else { continue };
            if best.is_none_or(|(least, _)| load < least) {
                best = Some((load, connection));
                if load == 0 {
                    break;
                }
            }
        }
        best.map(|(_, connection)| connection)
    }

    /// The endpoint of that address, remembered from now on.
    pub(crate) fn endpoint(&mut self, address: &str) -> Option<EndpointId> {
        if let Some(known) = self.endpoints.iter().position(|endpoint| &*endpoint.address == address) {
            return Some(EndpointId(known));
        }
        let endpoint = Endpoint { address: address.into(), connections: 0, ejected_until: None, refusals: 0 };
        if self.endpoints.len() < MOST_ENDPOINTS {
            self.endpoints.push(endpoint);
            return Some(EndpointId(self.endpoints.len().saturating_sub(1)));
        }
        let unused = self.endpoints.iter().position(|endpoint| endpoint.connections == 0)?;
        *self.endpoints.get_mut(unused)? = endpoint;
        Some(EndpointId(unused))
    }

    pub(crate) fn endpoint_ref(&self, id: Option<EndpointId>) -> Option<&Endpoint> {
        self.endpoints.get(id?.0)
    }

    pub(crate) fn endpoint_mut(&mut self, id: Option<EndpointId>) -> Option<&mut Endpoint> {
        self.endpoints.get_mut(id?.0)
    }

    /// Whether connections should still be opened to find endpoints that are not known yet.
    pub(crate) fn is_exploring(&self) -> bool {
        self.repeats < ENOUGH_REPEATS
    }

    /// Starts looking for endpoints anew.
    pub(crate) fn explore(&mut self) {
        self.repeats = 0;
        self.explore_at = None;
    }

    /// Notes that an endpoint refused a connection, or is leaving: it is not named until Envoy has chosen it again.
    /// Whether that was news: it had not refused the last time, or long ago.
    pub(crate) fn eject(&mut self, id: Option<EndpointId>, now: Instant) -> bool {
        let time = self.options().ejection_time;
        let Some(endpoint) = self.endpoint_mut(id) else { return false };
        let is_news = endpoint.refusals == 0 || endpoint.ejected_until.is_some_and(|until| until <= now);
        endpoint.refusals = endpoint.refusals.saturating_add(1);
        endpoint.ejected_until =
            time.map(|time| now.after(time.saturating_mul(endpoint.refusals.min(MOST_REFUSALS))));
        is_news
    }

    /// An endpoint to name for a new connection: one that did not refuse the last time, with the fewest connections.
    pub(crate) fn living(&self, avoid: Option<EndpointId>) -> Option<Rc<str>> {
        self.endpoints
            .iter()
            .enumerate()
            .filter(|(index, endpoint)| {
                endpoint.refusals == 0 && !endpoint.address.is_empty() && avoid != Some(EndpointId(*index))
            })
            .map(|(_, endpoint)| endpoint)
            .min_by_key(|endpoint| endpoint.connections)
            .map(|endpoint| endpoint.address.clone())
    }

    /// Looks for endpoints again some time after one was lost: it may be back then.
    pub(crate) fn explore_later(&mut self, now: Instant) -> Option<Instant> {
        let at = now.after(self.options().ejection_time.unwrap_or(EXPLORE_PAUSE));
        self.explore_at = earliest(self.explore_at, Some(at));
        self.explore_at
    }

    /// Whether one more retry fits the budget.
    pub(crate) fn has_retry_budget(&self) -> bool {
        let budget = &self.service.retry_budget;
        let share = self.active.saturating_mul(budget.percent as usize).checked_div(100).unwrap_or(0);
        self.retrying < share.max(budget.min_retries as usize)
    }
}

/// All pools of a worker.
#[derive(Debug, Default)]
pub(crate) struct Pools {
    pools: Vec<Pool>,
    /// Keys by cluster; few pools share one.
    by_cluster: FxHashMap<Rc<str>, Vec<usize>>,
}

impl Pools {
    /// Key of the pool of `service`'s protocol for `cluster`, made if need be.
    pub(crate) fn find(
        &mut self,
        service: &Rc<Service>,
        cluster: &str,
        destination: Option<&Rc<str>>,
        now: Instant,
    ) -> usize {
        let protocol = service.codec.name();
        let known = self.by_cluster.get(cluster).into_iter().flatten().copied().find(|&key| {
            self.pools.get(key).is_some_and(|pool| {
                pool.service.codec.name() == protocol && pool.destination.as_ref() == destination
            })
        });
        if let Some(key) = known {
            return key;
        }
        let key = self.pools.len();
        let cluster: Rc<str> = cluster.into();
        self.pools.push(Pool::new(cluster.clone(), destination.cloned(), service.clone(), now));
        self.by_cluster.entry(cluster).or_default().push(key);
        key
    }

    pub(crate) fn get(&self, key: usize) -> Option<&Pool> {
        self.pools.get(key)
    }

    pub(crate) fn get_mut(&mut self, key: usize) -> Option<&mut Pool> {
        self.pools.get_mut(key)
    }

    pub(crate) fn len(&self) -> usize {
        self.pools.len()
    }

    /// Pools take limits and budgets from the service of the same name in `plan`.
    pub(crate) fn set_plan(&mut self, plan: &Plan) {
        for pool in &mut self.pools {
            if let Some(service) = plan.service(&pool.service.name)
                && service.codec.name() == pool.service.codec.name()
            {
                pool.service = service.clone();
            }
        }
    }
}
