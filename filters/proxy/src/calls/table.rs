use super::buffers::Buffers;
use super::{Call, CallId, Cause, Origin};
use crate::arena::Arena;
use crate::plan::RetryBudget;

/// Every call that is on its way, and what all of them keep.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    calls: Arena<Call>,
    /// Bytes of the frames that they keep.
    held: usize,
    /// How many are streams.
    streams: usize,
    /// The proxy's own.
    own: Own,
    buffers: Buffers,
}

/// The calls of the proxy itself.
#[derive(Debug, Default)]
struct Own {
    count: usize,
    /// Bytes of the frames that they keep.
    held: usize,
}

/// The calls of one client.
#[derive(Debug, Default)]
pub(crate) struct ClientCalls {
    /// Each call knows its place here.
    ids: Vec<CallId>,
    /// Those of them that are streams by the client's ids, in order.
    streams: Vec<(u64, CallId)>,
    /// Bytes of the frames that they keep.
    held: usize,
}

/// How many calls one pool serves: the retry budget's two sides.
#[derive(Debug, Default)]
pub(crate) struct PoolCalls {
    active: usize,
    /// Those of them that were tried again.
    retrying: usize,
    /// Those of them that are streams.
    streams: usize,
    /// Those of them that have had two tries at a time, until they are over.
    hedged: usize,
}

impl Calls {
    /// A copy of what a call is to keep of its request.
    #[inline]
    pub(crate) fn copy(&mut self, request: &[u8]) -> Vec<u8> {
        self.buffers.copy(request)
    }

    /// Adds a call; `client` is that of its origin, and `pool` is to serve it.
    #[inline]
    pub(crate) fn insert(
        &mut self,
        mut call: Call,
        client: Option<&mut ClientCalls>,
        pool: &mut PoolCalls,
    ) -> CallId {
        let kept = call.frame().capacity();
        self.held = self.held.saturating_add(kept);
        pool.active = pool.active.saturating_add(1);
        if let Some(client) = &client {
            call.move_to(client.ids.len());
        }
        let stream = call.record().is_stream.then_some(call.record().request_id);
        if stream.is_some() {
            self.streams = self.streams.saturating_add(1);
            pool.streams = pool.streams.saturating_add(1);
        }
        let is_own = call.origin() == Origin::Proxy;
        let id = self.calls.insert(call);
        if let Some(client) = client {
            if let Some(stream) = stream {
                let place = client.streams.partition_point(|(other, _)| *other < stream);
                client.streams.insert(place, (stream, id));
            }
            client.held = client.held.saturating_add(kept);
            client.ids.push(id);
        } else if is_own {
            self.own.count = self.own.count.saturating_add(1);
            self.own.held = self.own.held.saturating_add(kept);
        }
        id
    }

    /// Removes a call; `client` and `pool` are those that it was added with, as far as they are there.
    #[inline]
    pub(crate) fn remove(
        &mut self,
        id: CallId,
        client: Option<&mut ClientCalls>,
        mut pool: Option<&mut PoolCalls>,
    ) {
        let last = |call: &mut Call| {
            let record = call.record();
            (call.origin(), record.retries, record.is_stream, call.take_frame())
        };
        let Some((origin, retries, is_stream, frame)) = self.calls.discard(id, last) else { return };
        if is_stream {
            self.streams = self.streams.saturating_sub(1);
            if let Some(pool) = &mut pool {
                pool.streams = pool.streams.saturating_sub(1);
            }
        }
        let kept = frame.capacity();
        self.buffers.give(frame);
        self.held = self.held.saturating_sub(kept);
        if let Some(pool) = pool {
            pool.active = pool.active.saturating_sub(1);
            pool.retrying = pool.retrying.saturating_sub(usize::from(retries > 0));
        }
        let Origin::Client { position, .. } = origin else {
            self.own.count = self.own.count.saturating_sub(1);
            self.own.held = self.own.held.saturating_sub(kept);
            return;
        };
        if let Some(client) = client {
            client.streams.retain(|(_, other)| *other != id);
            let position = position as usize;
            client.held = client.held.saturating_sub(kept);
            if position < client.ids.len() {
                client.ids.swap_remove(position);
            }
            if let Some(&moved) = client.ids.get(position)
                && let Some(moved) = self.calls.get_mut(moved)
            {
                moved.move_to(position);
            }
        }
    }

    /// Notes that a call is tried again after `cause`, in its pool.
    pub(crate) fn retry(&mut self, id: CallId, cause: Cause, pool: &mut PoolCalls) {
        let Some(call) = self.calls.get_mut(id) else { return };
        let record = call.record_mut();
        pool.retrying = pool.retrying.saturating_add(usize::from(record.retries == 0));
        record.retries = record.retries.saturating_add(1);
        record.tries = record.tries.saturating_add(u32::from(cause == Cause::ConnectFailure));
    }

    #[inline]
    pub(crate) fn get(&self, id: CallId) -> Option<&Call> {
        self.calls.get(id)
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, id: CallId) -> Option<&mut Call> {
        self.calls.get_mut(id)
    }

    pub(crate) fn len(&self) -> usize {
        self.calls.len()
    }

    /// Whether any is a stream.
    pub(crate) fn has_streams(&self) -> bool {
        self.streams > 0
    }

    pub(crate) fn ids(&self) -> Vec<CallId> {
        self.calls.ids()
    }

    /// Bytes of the frames that calls keep.
    pub(crate) fn held(&self) -> usize {
        self.held
    }

    /// How many calls are the proxy's own.
    pub(crate) fn own(&self) -> usize {
        self.own.count
    }

    /// Bytes of the frames that those keep.
    pub(crate) fn own_held(&self) -> usize {
        self.own.held
    }
}

impl ClientCalls {
    pub(crate) fn len(&self) -> usize {
        self.ids.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// The stream with that id of the client's.
    pub(crate) fn stream(&self, id: u64) -> Option<CallId> {
        let place = self.streams.binary_search_by_key(&id, |(other, _)| *other).ok()?;
        self.streams.get(place).map(|(_, call)| *call)
    }

    /// Whether there are streams.
    #[inline]
    pub(crate) fn has_streams(&self) -> bool {
        !self.streams.is_empty()
    }

    /// Bytes of the frames that they keep.
    pub(crate) fn held(&self) -> usize {
        self.held
    }

    pub(crate) fn ids(&self) -> &[CallId] {
        &self.ids
    }

    pub(crate) fn into_ids(self) -> Vec<CallId> {
        self.ids
    }
}

impl PoolCalls {
    /// So many calls, none of which was tried again.
    #[cfg(test)]
    pub(crate) fn of(active: usize) -> Self {
        Self { active, ..Self::default() }
    }

    pub(crate) fn active(&self) -> usize {
        self.active
    }

    /// The tries that they have at a time.
    pub(crate) fn tries(&self) -> usize {
        self.active.saturating_add(self.hedged)
    }

    /// Those of them that are no streams: these are open for as long as their peers like.
    pub(crate) fn answered_soon(&self) -> usize {
        self.tries().saturating_sub(self.streams)
    }

    /// Notes that one has two.
    pub(crate) fn hedged(&mut self) {
        self.hedged = self.hedged.saturating_add(1);
    }

    /// Notes that both are over.
    pub(crate) fn unhedged(&mut self) {
        self.hedged = self.hedged.saturating_sub(1);
    }

    /// Those of them that were tried again.
    pub(crate) fn retrying(&self) -> usize {
        self.retrying
    }

    /// Whether one more that is tried again fits the budget.
    pub(crate) fn fits(&self, budget: &RetryBudget) -> bool {
        let share = self.active.saturating_mul(budget.percent as usize).checked_div(100).unwrap_or(0);
        self.retrying < share.max(budget.min_retries as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arena::Id;
    use crate::calls::call::tests::call_of;

    fn of(client: Option<usize>) -> Call {
        let origin = client.map_or(Origin::Proxy, |n| Origin::of(Id::new(n as u32, 1)));
        call_of(origin, "null")
    }

    #[test]
    fn every_sum_is_that_of_the_calls_that_are_there() {
        let mut random = fastrand::Rng::with_seed(3);
        let mut calls = Calls::default();
        let mut clients: [ClientCalls; 3] = Default::default();
        let mut pool = PoolCalls::default();
        for step in 0..5000 {
            let ids = calls.ids();
            match random.usize(..5) {
                0..2 => {
                    let client = Some(random.usize(..4)).filter(|n| *n < 3);
                    let request = vec![0; random.usize(1..2000)];
                    let call = of(client).keep(calls.copy(&request), true, None);
                    calls.insert(call, client.map(|n| &mut clients[n]), &mut pool);
                }
                2 if !ids.is_empty() => {
                    calls.retry(*random.choice(&ids).unwrap(), Cause::Reset, &mut pool);
                }
                _ if !ids.is_empty() => {
                    let id = *random.choice(&ids).unwrap();
                    let client = (0..3).find(|n| clients[*n].ids.contains(&id));
                    let client = client.map(|n| &mut clients[n]);
                    calls.remove(id, client, Some(&mut pool));
                }
                _ => {}
            }
            let all: Vec<_> = calls.ids().into_iter().map(|id| (id, calls.get(id).unwrap())).collect();
            let held =
                |calls: &[(CallId, &Call)]| calls.iter().map(|(_, call)| call.frame().capacity()).sum();
            let retried = all.iter().filter(|(_, call)| call.record().retries > 0).count();
            let sums = (calls.held, pool.active, pool.retrying);
            assert_eq!(sums, (held(&all), all.len(), retried), "step {step}");
            let own: Vec<_> =
                all.iter().copied().filter(|(_, call)| call.origin() == Origin::Proxy).collect();
            assert_eq!((calls.own_held(), calls.own()), (held(&own), own.len()), "step {step}");
            for (n, client) in clients.iter().enumerate() {
                let of = |call: &Call| call.origin().client() == Some(Id::new(n as u32, 1));
                let own: Vec<_> = all.iter().copied().filter(|(_, call)| of(call)).collect();
                assert_eq!((client.held, client.len()), (held(&own), own.len()), "step {step}");
                for (place, id) in client.ids.iter().enumerate() {
                    let call = calls.get(*id).unwrap();
                    assert!(
                        matches!(call.origin(), Origin::Client { position, .. } if position as usize == place)
                    );
                }
            }
        }
    }

    #[test]
    fn a_call_ends_without_its_client() {
        let (mut calls, mut client, mut pool) = <(Calls, ClientCalls, PoolCalls)>::default();
        let call = of(Some(0)).keep(calls.copy(b"request"), true, None);
        let id = calls.insert(call, Some(&mut client), &mut pool);
        assert_eq!(client.into_ids(), [id]);
        assert_eq!(calls.get(id).unwrap().frame(), b"request");
        let other = calls.insert(of(None), None, &mut pool);
        for _ in 0..2 {
            calls.remove(id, None, Some(&mut pool));
            assert_eq!((calls.ids(), pool.active()), (vec![other], 1));
        }
        calls.remove(other, None, None);
        assert_eq!((calls.len(), calls.held()), (0, 0));
    }

    #[test]
    fn the_budget_is_a_share_of_the_calls_and_never_less_than_the_least() {
        let budget = RetryBudget { percent: 20, min_retries: 3 };
        let most = |active| {
            (0..1000).find(|&retrying| !PoolCalls { active, retrying, ..PoolCalls::default() }.fits(&budget))
        };
        assert_eq!([0, 10, 19, 20, 100].map(most), [3, 3, 3, 4, 20].map(Some));
    }
}
