//! Upstream connections to one cluster, shared by all clients of a worker.
//!
//! Envoy chooses the endpoint of a connection, with its weights, locality and health; the pool then spreads requests
//! over the connections by least requests in flight. It opens connections until the endpoints repeat, so that one
//! client's requests reach every endpoint, and renews them by age, so that new endpoints take part.

use core::time::Duration;
use std::collections::VecDeque;
use std::rc::Rc;

use crate::arena::Id;
use crate::calls::PoolCalls;
use crate::clock::{Instant, earliest};
use crate::endpoints::{EndpointId, Endpoints};
use crate::plan::{Service, UpstreamOptions};
use crate::queue::Queue;
use crate::upstream::ConnectionId;

/// Names a pool.
pub(crate) type PoolId = Id<Pool>;

/// The connections and waiting calls of one cluster.
#[derive(Debug)]
pub(crate) struct Pool {
    pub(crate) cluster: Rc<str>,
    /// The original destination, where the cluster is one that goes there (Istio's inbound clusters).
    pub(crate) destination: Option<Rc<str>>,
    /// The service that opened the pool: it sets protocol, limits and budget.
    pub(crate) service: Rc<Service>,
    /// The open connections that take calls.
    pub(crate) open: Vec<ConnectionId>,
    /// Connections being opened.
    pub(crate) connecting: usize,
    /// All connections that name this pool, those that end with their last answer included.
    pub(crate) connections: usize,
    /// Those of them that were retired for calls without an answer, oldest first; some may be gone.
    pub(crate) unresponsive: VecDeque<ConnectionId>,
    pub(crate) endpoints: Endpoints,
    pub(crate) waiting: Queue,
    /// It is to be looked at when the event is handled.
    pub(crate) is_listed: bool,
    /// Calls that this pool serves.
    pub(crate) calls: PoolCalls,
    /// Endpoints seen again in a row while looking for new ones.
    repeats: u32,
    /// Searches that ended since one found an endpoint.
    searches: u32,
    /// When to look for new endpoints again.
    pub(crate) explore_at: Option<Instant>,
    /// When that began the last time.
    explored_at: Instant,
    pub(crate) last_call: Instant,
    /// Where the next search for the least loaded connection starts, so that ties rotate.
    next: usize,
}

/// So many repeats in a row end the search for endpoints: this share of those that are known, and two at least. The
/// longer the search, the more likely a repeat while others are not found yet.
const ENOUGH_REPEATS: usize = 12;
const LEAST_REPEATS: u32 = 2;

/// A pool is idle after so many times the age at which connections are renewed. Until then they are, so that calls that
/// come now and then wait for none.
const IDLE_AGES: u32 = 10;

/// Chance may repeat endpoints while there are others: so many searches more follow, the first after this pause and each
/// after twice the one before.
const MORE_SEARCHES: u32 = 3;
const SEARCH_PAUSE: Duration = Duration::from_secs(1);

/// Over more connections than this, the least loaded of so many neighbours is taken instead of the least of all; or the
/// first that can take a call, where those cannot.
const MOST_COMPARED: usize = 32;

/// Between the loss of an endpoint and the next search, where the plan sets no ejection time.
const EXPLORE_PAUSE: Duration = Duration::from_secs(5);

/// A pool without connections and calls is forgotten so long after its last call. Until then it remembers endpoints that
/// refused.
pub(crate) const UNUSED: Duration = Duration::from_secs(60);

impl Pool {
    pub(crate) fn new(
        cluster: Rc<str>,
        destination: Option<Rc<str>>,
        service: Rc<Service>,
        now: Instant,
    ) -> Self {
        Self {
            cluster,
            destination,
            service,
            open: Vec::new(),
            connecting: 0,
            connections: 0,
            unresponsive: VecDeque::new(),
            endpoints: Endpoints::default(),
            waiting: Queue::default(),
            is_listed: false,
            calls: PoolCalls::default(),
            repeats: 0,
            searches: 0,
            explore_at: None,
            explored_at: now,
            last_call: now,
            next: 0,
        }
    }

    /// After how long without a call a connection is closed. Where pools are as many as the addresses that clients think
    /// of, it is soon, whatever the plan's age.
    pub(crate) fn idle_time(&self) -> Option<Duration> {
        match self.destination {
            Some(_) => self.renewal_time(),
            None => self.renewal_time().map(|age| age.saturating_mul(IDLE_AGES)),
        }
    }

    /// At which age a connection is renewed, or looked at whether anybody uses it.
    pub(crate) fn renewal_time(&self) -> Option<Duration> {
        self.options().max_connection_age.or(self.destination.is_some().then_some(UNUSED))
    }

    /// When to forget this pool, if nothing belongs to it any more.
    pub(crate) fn forget_at(&self) -> Option<Instant> {
        (self.connections == 0 && self.calls.active() == 0).then(|| self.last_call.after(UNUSED))
    }

    pub(crate) fn options(&self) -> &UpstreamOptions {
        &self.service.upstream
    }

    /// The connection with the least `load` (`None` = cannot take a call); the first of equals in rotation.
    pub(crate) fn choose(&mut self, load: impl Fn(ConnectionId) -> Option<usize>) -> Option<ConnectionId> {
        let count = self.open.len();
        let start = self.next.checked_rem(count)?;
        self.next = start.wrapping_add(1);
        let (before, after) = self.open.split_at_checked(start)?;
        let mut best: Option<(usize, ConnectionId)> = None;
        for (compared, &connection) in after.iter().chain(before).enumerate() {
            if compared >= MOST_COMPARED && best.is_some() {
                break;
            }
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

    /// Whether connections should still be opened to find endpoints that are not known yet.
    pub(crate) fn is_exploring(&self) -> bool {
        self.repeats < self.enough_repeats()
    }

    fn enough_repeats(&self) -> u32 {
        let share = self.endpoints.len().checked_div(ENOUGH_REPEATS).unwrap_or(0);
        u32::try_from(share).unwrap_or(u32::MAX).max(LEAST_REPEATS)
    }

    /// Notes a connection that the search for endpoints was good for.
    pub(crate) fn found(&mut self) {
        self.repeats = 0;
        self.searches = 0;
    }

    /// Notes a connection to an endpoint that has enough of them. Where that ends the search: when the next begins.
    pub(crate) fn repeated(&mut self, now: Instant) -> Option<Instant> {
        self.repeats = self.repeats.saturating_add(1);
        if self.repeats != self.enough_repeats() || self.searches >= MORE_SEARCHES {
            return None;
        }
        let pause = SEARCH_PAUSE.saturating_mul(2_u32.saturating_pow(self.searches));
        self.searches = self.searches.saturating_add(1);
        self.explore_at = earliest(self.explore_at, Some(now.after(pause)));
        self.explore_at
    }

    /// Starts looking for endpoints anew.
    pub(crate) fn explore(&mut self, now: Instant) {
        self.repeats = 0;
        self.explore_at = None;
        self.explored_at = now;
    }

    /// Looks for endpoints that are new, when connections are renewed. Where a search is short, two more follow.
    pub(crate) fn explore_anew(&mut self, now: Instant) {
        self.explore(now);
        if self.enough_repeats() <= LEAST_REPEATS {
            self.searches = self.searches.min(MORE_SEARCHES.saturating_sub(2));
        }
    }

    /// Whether new endpoints were looked for just now, by the measure of how often connections are renewed: they are to
    /// take part within one renewal of any connection.
    pub(crate) fn has_explored(&self, now: Instant) -> bool {
        let time = self.renewal_time().and_then(|time| time.checked_div(2));
        time.is_some_and(|time| now < self.explored_at.after(time))
    }

    /// Notes that an endpoint refused a connection, or is leaving; whether that was news.
    pub(crate) fn eject(&mut self, id: Option<EndpointId>, now: Instant) -> bool {
        let time = self.options().ejection_time;
        self.endpoints.eject(id, time, now)
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
        self.calls.fits(&self.service.retry_budget)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Plan;

    const CLUSTER: &str = "outbound|20880||demo";

    fn at(millis: u64) -> Instant {
        Instant::default().after(Duration::from_millis(millis))
    }

    fn plan(service: &str) -> Plan {
        let plan = format!(r#"{{"services": {{"demo": {{"protocol": "dubbo", {service}}}}}}}"#);
        Plan::parse(plan.as_bytes(), &meltemi_codecs::Codecs::all()).unwrap()
    }

    fn pool(service: &str) -> Pool {
        Pool::new(CLUSTER.into(), None, plan(service).service("demo").unwrap().clone(), at(0))
    }

    #[test]
    fn the_least_loaded_connection_is_chosen_and_equals_take_turns() {
        let mut pool = pool(r#""routes": []"#);
        assert_eq!(pool.choose(|_| Some(0)), None);
        let [a, b, c] = [10, 11, 12].map(|n| Id::new(n, 1));
        pool.open = vec![a, b, c];
        let turns: Vec<_> = (0..6).map(|_| pool.choose(|_| Some(1)).unwrap()).collect();
        assert_eq!(turns, [a, b, c, a, b, c]);
        for _ in 0..3 {
            assert_eq!(pool.choose(|id| Some(if id == b { 2 } else { 5 })), Some(b));
            assert_eq!(pool.choose(|id| (id == c).then_some(9)), Some(c));
            assert_eq!(pool.choose(|_| None), None);
        }
    }

    #[test]
    fn of_many_connections_a_few_are_compared_and_all_come_to_their_turn() {
        let mut pool = pool(r#""routes": []"#);
        pool.open = (0..500).map(|n| Id::new(n, 1)).collect();
        let mut loads = vec![0_usize; 500];
        let place = |id| (0..500).position(|n| id == Id::new(n, 1)).unwrap();
        for _ in 0..5000 {
            let chosen = pool.choose(|id| loads.get(place(id)).copied()).unwrap();
            loads[place(chosen)] += 1;
        }
        assert!(loads.iter().all(|&load| load == 10), "{loads:?}");
    }

    #[test]
    fn the_search_for_endpoints_ends_when_they_repeat_and_begins_again() {
        let mut pool = pool(r#""upstream": {"ejectionTime": "2s"}"#);
        assert!(pool.is_exploring());
        (0..ENOUGH_REPEATS).for_each(|_| pool.missed());
        assert!(!pool.is_exploring());
        assert_eq!(pool.explore_later(at(1000)), Some(at(3000)));
        assert_eq!(pool.explore_later(at(2000)), Some(at(3000)), "the first loss says when");
        pool.explore(at(0));
        assert!(pool.is_exploring());
        assert_eq!(pool.explore_at, None);
    }

    #[test]
    fn some_more_searches_follow_the_first_until_one_finds() {
        let mut pool = pool(r#""routes": []"#);
        let search = |pool: &mut Pool| {
            pool.explore(at(0));
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
    fn connections_to_what_clients_address_are_closed_some_time() {
        let plan = plan(r#""upstream": {"maxConnectionAge": "0s"}"#);
        let service = plan.service("demo").unwrap();
        let pool = |destination| Pool::new(CLUSTER.into(), destination, service.clone(), at(0));
        assert_eq!(pool(None).idle_time(), None);
        assert_eq!(pool(Some("10.1.0.1:1".into())).idle_time(), Some(UNUSED));
    }
}
