//! Upstream connections to one cluster, shared by all clients of a worker.
//!
//! Envoy chooses the endpoint of a connection, with its weights, locality and health; the pool then spreads requests
//! over the connections by least requests in flight. It opens connections until the endpoints repeat, so that one
//! client's requests reach every endpoint, and renews them by age, so that new endpoints take part.

use core::time::Duration;
use std::collections::VecDeque;
use std::rc::Rc;

use rustc_hash::FxHashMap;
use slab::Slab;

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
    /// All connections that name this pool, those that end with their last answer included.
    pub(crate) connections: usize,
    pub(crate) endpoints: Vec<Endpoint>,
    pub(crate) waiting: VecDeque<CallId>,
    /// Calls that this pool serves, and those of them that are retries: the retry budget's two sides.
    pub(crate) active: usize,
    pub(crate) retrying: usize,
    /// Endpoints seen again in a row while looking for new ones.
    repeats: u32,
    /// Searches that ended since one found an endpoint.
    searches: u32,
    /// When to look for new endpoints again.
    pub(crate) explore_at: Option<Instant>,
    pub(crate) last_call: Instant,
    /// Where the next search for the least loaded connection starts, so that ties rotate.
    next: usize,
}

/// So many repeats in a row end the search for endpoints.
const ENOUGH_REPEATS: u32 = 2;

/// Chance may repeat endpoints while there are others: so many searches more follow, the first after this pause and each
/// after twice the one before.
const MORE_SEARCHES: u32 = 3;
const SEARCH_PAUSE: Duration = Duration::from_secs(1);

/// Over more connections than this, the least loaded of so many neighbours is taken instead of the least of all.
const MOST_COMPARED: usize = 32;

/// Between the loss of an endpoint and the next search, where the plan sets no ejection time.
const EXPLORE_PAUSE: Duration = Duration::from_secs(5);

/// A pool without connections and calls is forgotten so long after its last call. Until then it remembers endpoints that
/// refused.
pub(crate) const UNUSED: Duration = Duration::from_secs(60);

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
            connections: 0,
            endpoints: Vec::new(),
            waiting: VecDeque::new(),
            active: 0,
            retrying: 0,
            repeats: 0,
            searches: 0,
            explore_at: None,
            last_call: now,
            next: 0,
        }
    }

    /// After how long without a call a connection is closed. Whatever the plan's age, this is some time where pools are
    /// as many as the addresses that clients think of.
    pub(crate) fn idle_time(&self) -> Option<Duration> {
        self.options().max_connection_age.or(self.destination.is_some().then_some(UNUSED))
    }

    /// When to forget this pool, if nothing belongs to it any more.
    fn forget_at(&self) -> Option<Instant> {
        (self.connections == 0 && self.active == 0).then(|| self.last_call.after(UNUSED))
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

    /// Notes a connection that the search for endpoints was good for.
    pub(crate) fn found(&mut self) {
        self.repeats = 0;
        self.searches = 0;
    }

    /// Notes a connection to an endpoint that has enough of them. Where that ends the search: when the next begins.
    pub(crate) fn repeated(&mut self, now: Instant) -> Option<Instant> {
        self.repeats = self.repeats.saturating_add(1);
        if self.repeats != ENOUGH_REPEATS || self.searches >= MORE_SEARCHES {
            return None;
        }
        let pause = SEARCH_PAUSE.saturating_mul(2_u32.saturating_pow(self.searches));
        self.searches = self.searches.saturating_add(1);
        self.explore_at = earliest(self.explore_at, Some(now.after(pause)));
        self.explore_at
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

    /// Notes an endpoint that refused while looking for new ones.
    pub(crate) fn missed(&mut self) {
        self.repeats = self.repeats.saturating_add(1);
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
    pools: Slab<Pool>,
    by_cluster: FxHashMap<Rc<str>, Keys>,
}

/// Keys of the pools of one cluster, one for each protocol.
#[derive(Debug, Default)]
struct Keys {
    /// Where Envoy chooses the endpoint.
    free: Vec<usize>,
    /// Where the client has, by the address.
    by_destination: FxHashMap<Rc<str>, Vec<usize>>,
}

impl Pools {
    /// Key of the pool of `service`'s protocol for `cluster`, made if need be. Calls with another `destination` have
    /// another pool: in a cluster that goes there, one to share would lead to a server that the client did not address.
    pub(crate) fn find(
        &mut self,
        service: &Rc<Service>,
        cluster: &str,
        destination: Option<&Rc<str>>,
        now: Instant,
    ) -> usize {
        let protocol = service.codec.name();
        let keys = self.by_cluster.get(cluster).and_then(|keys| match destination {
            None => Some(&keys.free),
            Some(destination) => keys.by_destination.get(destination),
        });
        let known = keys
            .into_iter()
            .flatten()
            .copied()
            .find(|&key| self.pools.get(key).is_some_and(|pool| pool.service.codec.name() == protocol));
        if let Some(key) = known {
            return key;
        }
        let cluster: Rc<str> = cluster.into();
        let pool = Pool::new(cluster.clone(), destination.cloned(), service.clone(), now);
        let key = self.pools.insert(pool);
        let keys = self.by_cluster.entry(cluster).or_default();
        match destination {
            None => keys.free.push(key),
            Some(destination) => keys.by_destination.entry(destination.clone()).or_default().push(key),
        }
        key
    }

    /// Forgets pools that nothing has belonged to for long; says when it will be so for another.
    pub(crate) fn forget_unused(&mut self, now: Instant) -> Option<Instant> {
        let mut next = None;
        self.pools.retain(|key, pool| match pool.forget_at() {
            Some(at) if at <= now => {
                if let Some(keys) = self.by_cluster.get_mut(&pool.cluster) {
                    keys.remove(key, pool.destination.as_deref());
                    if keys.free.is_empty() && keys.by_destination.is_empty() {
                        self.by_cluster.remove(&pool.cluster);
                    }
                }
                false
            }
            at => {
                next = earliest(next, at);
                true
            }
        });
        next
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

    /// The key of every pool.
    pub(crate) fn keys(&self) -> Vec<usize> {
        self.pools.iter().map(|(key, _)| key).collect()
    }

    /// Pools take limits and budgets from the service of the same name in `plan`.
    pub(crate) fn set_plan(&mut self, plan: &Plan) {
        for (_, pool) in &mut self.pools {
            if let Some(service) = plan.service(&pool.service.name)
                && service.codec.name() == pool.service.codec.name()
            {
                pool.service = service.clone();
            }
        }
    }
}

impl Keys {
    fn remove(&mut self, key: usize, destination: Option<&str>) {
        let Some(destination) = destination else {
            self.free.retain(|&other| other != key);
            return;
        };
        if let Some(keys) = self.by_destination.get_mut(destination) {
            keys.retain(|&other| other != key);
            if keys.is_empty() {
                self.by_destination.remove(destination);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLUSTER: &str = "outbound|20880||demo";

    fn at(millis: u64) -> Instant {
        Instant::default().after(Duration::from_millis(millis))
    }

    fn plan(service: &str) -> Plan {
        let plan = format!(r#"{{"services": {{"demo": {{"protocol": "dubbo", {service}}}}}}}"#);
        Plan::parse(plan.as_bytes(), &[&meltemi_codecs::Dubbo]).unwrap()
    }

    fn pool(service: &str) -> Pool {
        Pool::new(CLUSTER.into(), None, plan(service).service("demo").unwrap().clone(), at(0))
    }

    #[test]
    fn the_least_loaded_connection_is_chosen_and_equals_take_turns() {
        let mut pool = pool(r#""routes": []"#);
        assert_eq!(pool.choose(|_| Some(0)), None);
        pool.open = vec![10, 11, 12];
        let turns: Vec<_> = (0..6).map(|_| pool.choose(|_| Some(1)).unwrap()).collect();
        assert_eq!(turns, [10, 11, 12, 10, 11, 12]);
        for _ in 0..3 {
            assert_eq!(pool.choose(|key| Some(if key == 11 { 2 } else { 5 })), Some(11));
            assert_eq!(pool.choose(|key| (key == 12).then_some(9)), Some(12));
            assert_eq!(pool.choose(|_| None), None);
        }
    }

    #[test]
    fn of_many_connections_a_few_are_compared_and_all_come_to_their_turn() {
        let mut pool = pool(r#""routes": []"#);
        pool.open = (0..500).collect();
        let mut loads = vec![0_usize; 500];
        for _ in 0..5000 {
            let chosen = pool.choose(|key| loads.get(key).copied()).unwrap();
            loads[chosen] += 1;
        }
        assert!(loads.iter().all(|&load| load == 10), "{loads:?}");
    }

    #[test]
    fn an_endpoint_that_refuses_is_not_named_until_it_was_connected_to() {
        let mut pool = pool(r#""upstream": {"ejectionTime": "1s"}"#);
        let [a, b] = ["10.0.0.1:1", "10.0.0.2:1"].map(|address| pool.endpoint(address));
        assert_eq!(pool.endpoint("10.0.0.1:1"), a);
        pool.endpoint_mut(b).unwrap().connections = 1;
        assert_eq!(pool.living(None).as_deref(), Some("10.0.0.1:1"), "that with the fewest connections");
        assert_eq!(pool.living(a).as_deref(), Some("10.0.0.2:1"));
        assert!(pool.eject(a, at(0)));
        assert_eq!(pool.living(None).as_deref(), Some("10.0.0.2:1"));
        assert_eq!(pool.living(b), None);
        pool.endpoint_mut(a).unwrap().refusals = 0;
        assert_eq!(pool.living(b).as_deref(), Some("10.0.0.1:1"));
    }

    #[test]
    fn a_refusal_is_news_once_in_an_ejection() {
        let mut timed = pool(r#""upstream": {"ejectionTime": "1s"}"#);
        let a = timed.endpoint("10.0.0.1:1");
        // The second ejection is twice as long.
        let news = [0, 999, 1000, 2998, 2999, 3001].map(|millis| timed.eject(a, at(millis)));
        assert_eq!(news, [true, false, false, false, false, false]);
        assert!(timed.eject(a, at(100_000)));
        let mut untimed = pool(r#""upstream": {"ejectionTime": "0s"}"#);
        let a = untimed.endpoint("10.0.0.1:1");
        assert_eq!([0, 1, 100_000].map(|millis| untimed.eject(a, at(millis))), [true, false, false]);
        assert!(!untimed.eject(None, at(0)), "nobody knows which it was");
    }

    #[test]
    fn endpoints_that_are_long_gone_are_forgotten() {
        let mut pool = pool(r#""routes": []"#);
        for n in 0..MOST_ENDPOINTS {
            let id = pool.endpoint(&format!("10.0.0.1:{n}"));
            pool.endpoint_mut(id).unwrap().connections = usize::from(n != 7);
        }
        assert_eq!(pool.endpoint("10.0.0.2:1"), Some(EndpointId(7)));
        pool.endpoint_mut(Some(EndpointId(7))).unwrap().connections = 1;
        assert_eq!(pool.endpoint("10.0.0.3:1"), None);
        assert_eq!(pool.endpoints.len(), MOST_ENDPOINTS);
    }

    #[test]
    fn the_budget_is_a_share_of_the_calls_and_never_less_than_the_least() {
        let mut pool = pool(r#""retryBudget": {"percent": 20, "minRetries": 3}"#);
        let mut most = |active| {
            pool.active = active;
            (0..1000).find(|&retrying| {
                pool.retrying = retrying;
                !pool.has_retry_budget()
            })
        };
        assert_eq!([0, 10, 19, 20, 100].map(&mut most), [3, 3, 3, 4, 20].map(Some));
    }

    #[test]
    fn the_search_for_endpoints_ends_when_they_repeat_and_begins_again() {
        let mut pool = pool(r#""upstream": {"ejectionTime": "2s"}"#);
        assert!(pool.is_exploring());
        (0..ENOUGH_REPEATS).for_each(|_| pool.missed());
        assert!(!pool.is_exploring());
        assert_eq!(pool.explore_later(at(1000)), Some(at(3000)));
        assert_eq!(pool.explore_later(at(2000)), Some(at(3000)), "the first loss says when");
        pool.explore();
        assert!(pool.is_exploring());
        assert_eq!(pool.explore_at, None);
    }

    #[test]
    fn some_more_searches_follow_the_first_until_one_finds() {
        let mut pool = pool(r#""routes": []"#);
        let search = |pool: &mut Pool| {
            pool.explore();
            (0..=ENOUGH_REPEATS).filter_map(|_| pool.repeated(at(0))).collect::<Vec<_>>()
        };
        for seconds in [1, 2, 4] {
            assert_eq!(search(&mut pool), [at(seconds * 1000)]);
        }
        assert_eq!(search(&mut pool), []);
        pool.found();
        assert_eq!(search(&mut pool), [at(1000)]);
    }

    #[test]
    fn a_cluster_has_one_pool_for_each_protocol_and_destination() {
        let first = plan(r#""upstream": {"connectionsPerEndpoint": 1}"#);
        let service = first.service("demo").unwrap();
        let mut pools = Pools::default();
        let key = pools.find(service, CLUSTER, None, at(0));
        assert_eq!(pools.find(service, CLUSTER, None, at(1)), key);
        assert_ne!(pools.find(service, "other", None, at(0)), key);
        let destination = Rc::from("10.1.0.1:20880");
        let pinned = pools.find(service, CLUSTER, Some(&destination), at(0));
        assert_ne!(pinned, key);
        assert_eq!(pools.find(service, CLUSTER, Some(&destination), at(0)), pinned);
        assert_eq!(pools.len(), 3);
        pools.set_plan(&plan(r#""upstream": {"connectionsPerEndpoint": 4}"#));
        assert_eq!(pools.get(key).unwrap().options().connections_per_endpoint, 4);
        pools.set_plan(&Plan::parse(b"", &[]).unwrap());
        assert_eq!(pools.get(key).unwrap().options().connections_per_endpoint, 4, "what it had last");
    }

    #[test]
    fn a_pool_is_forgotten_once_nothing_has_belonged_to_it_for_long() {
        let plan = plan(r#""routes": []"#);
        let service = plan.service("demo").unwrap();
        let mut pools = Pools::default();
        let [a, b] = ["10.1.0.1:1", "10.1.0.2:1"].map(Rc::from);
        let [free, first, second] =
            [None, Some(&a), Some(&b)].map(|destination| pools.find(service, CLUSTER, destination, at(0)));
        pools.get_mut(free).unwrap().connections = 1;
        pools.get_mut(second).unwrap().active = 1;
        assert_eq!(pools.forget_unused(at(59_999)), Some(at(60_000)));
        assert_eq!(pools.forget_unused(at(60_000)), None);
        assert!(pools.get(first).is_none() && pools.get(second).is_some() && pools.get(free).is_some());
        assert_eq!(pools.find(service, CLUSTER, Some(&b), at(60_000)), second);
        let again = pools.find(service, CLUSTER, Some(&a), at(60_000));
        assert_eq!(pools.find(service, CLUSTER, Some(&a), at(60_000)), again);
        pools.get_mut(free).unwrap().connections = 0;
        pools.get_mut(second).unwrap().active = 0;
        assert_eq!(pools.forget_unused(at(120_000)), None);
        assert_eq!(pools.len(), 0);
        assert!(pools.by_cluster.is_empty());
    }

    #[test]
    fn connections_to_what_clients_address_are_closed_some_time() {
        let plan = plan(r#""upstream": {"maxConnectionAge": "0s"}"#);
        let service = plan.service("demo").unwrap();
        let pool = |destination| Pool::new(CLUSTER.into(), destination, service.clone(), at(0));
        assert_eq!(pool(None).idle_time(), None);
        assert_eq!(pool(Some("10.1.0.1:1".into())).idle_time(), Some(UNUSED));
    }
}
