//! What it means how a service's calls share connections: the one place that tells the ways of sharing apart. Whom an
//! answer is for, the [slots](crate::slots) of its connection say.

use meltemi_codecs::Sharing;

use crate::plan::{Limits, UpstreamOptions};
use crate::pool::Pool;

/// Connections that one pool opens at once while looking for endpoints.
const MOST_EXPLORING: usize = 2;

/// Connections of one pool, for protocols with one call at a time.
const MOST_EXCLUSIVE: usize = 1024;

/// Connections that a pool opens at once because all that it has are being written large requests.
const MOST_GROWING: usize = 4;

/// How answers on a connection find their calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Matching(Sharing);

impl Matching {
    pub(crate) fn new(sharing: Sharing) -> Self {
        Self(sharing)
    }

    /// Whether an answer is known by when it comes. What a server says unasked is then taken for an answer, and a call
    /// without one holds up those after it.
    pub(crate) fn is_by_order(self) -> bool {
        match self.0 {
            Sharing::Shared => false,
            Sharing::InOrder | Sharing::Exclusive => true,
        }
    }

    /// Whether an answer must have the id of the call that it is for.
    pub(crate) fn needs_ids(self) -> bool {
        match self.0 {
            Sharing::Shared | Sharing::InOrder => true,
            // There is but one call.
            Sharing::Exclusive => false,
        }
    }

    /// How many calls one client connection may have in flight.
    pub(crate) fn client_limit(self, limits: &Limits) -> usize {
        match self.0 {
            Sharing::Shared | Sharing::InOrder => limits.max_calls_per_connection,
            Sharing::Exclusive => 1,
        }
    }

    /// Whether a client gets answers in the order of its requests: it knows them by that, and those of several connections
    /// come in any.
    pub(crate) fn has_turns(self) -> bool {
        match self.0 {
            Sharing::InOrder => true,
            // One that has one call at a time has its answers in order.
            Sharing::Shared | Sharing::Exclusive => false,
        }
    }

    /// How many calls one upstream connection takes.
    pub(crate) fn connection_limit(self, options: &UpstreamOptions) -> usize {
        match self.0 {
            Sharing::Shared | Sharing::InOrder => options.max_calls_per_connection,
            Sharing::Exclusive => 1,
        }
    }

    /// The most slots that a connection can have, with request ids up to `max_id`, of `most` that can be numbered.
    pub(crate) fn slots(self, max_id: u64, most: u64) -> u64 {
        match self.0 {
            // A slot's number plus one must fit the ids.
            Sharing::Shared => max_id.clamp(1, most),
            Sharing::InOrder => most,
            Sharing::Exclusive => 1,
        }
    }

    /// Whether as many connections to one endpoint are enough as the plan says, however many calls there are.
    pub(crate) fn needs_few_connections(self) -> bool {
        match self.0 {
            Sharing::Shared | Sharing::InOrder => true,
            Sharing::Exclusive => false,
        }
    }

    /// How many connections a pool should be opening: for calls that wait, but for so many that are `hashed`, and to find
    /// endpoints it does not know yet.
    pub(crate) fn connections_wanted(self, pool: &Pool, hashed: usize) -> usize {
        let waiting = pool.waiting().len().saturating_sub(hashed);
        if pool.owner().is_some() {
            return usize::from(pool.open().is_empty() && waiting > 0 && !pool.has_ended());
        }
        match self.needs_few_connections() {
            true if pool.is_exploring() && (pool.calls().active() > 0 || waiting > 0) => MOST_EXPLORING,
            // Those that are there may all have a request that is still coming.
            true => match pool.open().len() <= pool.uploads() && pool.open().len() < MOST_EXCLUSIVE {
                true => waiting.min(pool.uploads().clamp(1, MOST_GROWING)),
                false => usize::from(pool.lacks_quiet() && pool.open().len() < MOST_EXCLUSIVE),
            },
            false => waiting.min(MOST_EXCLUSIVE.saturating_sub(pool.open().len())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Instant;
    use crate::plan::Plan;
    use meltemi_codecs::Codecs;

    const ALL: [Sharing; 3] = [Sharing::Shared, Sharing::InOrder, Sharing::Exclusive];

    fn pool() -> Pool {
        let plan = br#"{"services": {"demo": {"protocol": "dubbo",
            "limits": {"maxCallsPerConnection": 7}, "upstream": {"maxCallsPerConnection": 9}}}}"#;
        let plan = Plan::parse(plan, &Codecs::all()).unwrap();
        Pool::new("c".into(), None, None, plan.service("demo").unwrap().clone(), Instant::default())
    }

    #[test]
    fn only_answers_with_ids_may_overtake_each_other() {
        let pool = pool();
        let service = pool.service();
        let of = |sharing| {
            let matching = Matching::new(sharing);
            let limits =
                (matching.client_limit(&service.limits), matching.connection_limit(&service.upstream));
            (matching.is_by_order(), matching.needs_ids(), limits)
        };
        assert_eq!(ALL.map(of), [(false, true, (7, 9)), (true, true, (7, 9)), (true, false, (1, 1))]);
    }

    #[test]
    fn ids_bound_the_slots_only_where_they_number_them() {
        let slots = |max_id| ALL.map(|sharing| Matching::new(sharing).slots(max_id, 1000));
        assert_eq!(slots(0), [1, 1000, 1]);
        assert_eq!(slots(255), [255, 1000, 1]);
        assert_eq!(slots(u64::MAX), [1000, 1000, 1]);
    }

    #[test]
    fn calls_that_wait_want_a_connection_each_only_where_none_is_shared() {
        let mut pool = pool();
        let wanted = |pool: &Pool| ALL.map(|sharing| Matching::new(sharing).connections_wanted(pool, 0));
        assert_eq!(wanted(&pool), [0, 0, 0]);
        *pool.calls_mut() = crate::calls::PoolCalls::of(1);
        assert_eq!(wanted(&pool), [2, 2, 0], "endpoints are looked for");
        for n in 0..5 {
            pool.waiting_mut().push(Some(crate::arena::Id::new(n, 1)), 0, crate::arena::Id::new(n, 1));
        }
        assert_eq!(wanted(&pool), [2, 2, 5]);
        while pool.is_exploring() {
            pool.refused(None, None, None, Instant::default());
        }
        assert_eq!(wanted(&pool), [1, 1, 5]);
        for n in 0..MOST_EXCLUSIVE as u32 - 2 {
            pool.connect(None);
            pool.connected(crate::arena::Id::new(n, 1), "", Instant::default());
        }
        assert_eq!(wanted(&pool), [0, 0, 2]);
    }
}
