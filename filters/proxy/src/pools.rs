//! Every pool of a worker, by what it is for.

use std::rc::Rc;

use meltemi_codecs::are_same;
use rustc_hash::FxHashMap;

use crate::arena::Arena;
use crate::client::ClientId;
use crate::clock::{Instant, earliest};
use crate::plan::{Plan, Service};
use crate::pool::{Pool, PoolId};

/// All pools of a worker.
#[derive(Debug, Default)]
pub(crate) struct Pools {
    pools: Arena<Pool>,
    // In boxes, as in other maps by name or by client: those of one kind are the same code.
    by_cluster: FxHashMap<Rc<str>, Box<OfCluster>>,
    /// Those that clients have for themselves.
    by_owner: FxHashMap<Option<ClientId>, Box<Listed>>,
    /// By how much limits have changed that are gone with their pools.
    gone_limits: i64,
}

/// The pools of one cluster, one for each service: limits, budget and time-outs are those of the service.
#[derive(Debug, Default)]
struct OfCluster {
    /// Where Envoy chooses the endpoint.
    free: Vec<PoolId>,
    /// Where the client has, by the address.
    by_destination: FxHashMap<Rc<str>, Box<Listed>>,
    /// For copies of calls.
    mirrors: Vec<PoolId>,
}

/// Some pools.
#[derive(Debug, Default)]
struct Listed(Vec<PoolId>);

impl Pools {
    /// The pool of `service` for `cluster`, made if need be. Calls with another `destination` have
    /// another pool: in a cluster that goes there, one to share would lead to a server that the client did not address.
    /// So have those of an `owner`, which shares it with nobody. `likely` is looked at first.
    pub(crate) fn find(
        &mut self,
        likely: Option<PoolId>,
        service: &Rc<Service>,
        cluster: &str,
        destination: Option<&Rc<str>>,
        owner: Option<ClientId>,
        now: Instant,
    ) -> PoolId {
        let is_own = |pool: &Pool| {
            let own = pool.service();
            Rc::ptr_eq(own, service) || (own.name == service.name && own.shares_with(service))
        };
        let is_meant = |pool: &Pool| {
            let is_at =
                are_same(pool.cluster().as_bytes(), cluster.as_bytes()) && pool.destination() == destination;
            is_own(pool) && is_at && pool.owner() == owner
        };
        if let Some(id) = likely.filter(|&id| self.pools.get(id).is_some_and(is_meant)) {
            return id;
        }
        if owner.is_some() {
            let known = self.by_owner.get(&owner).into_iter().flat_map(|own| &own.0).copied();
            let known = known.into_iter().find(|&id| self.pools.get(id).is_some_and(is_meant));
            return known.unwrap_or_else(|| {
                let pool = Pool::new(cluster.into(), destination.cloned(), owner, service.clone(), now);
                let id = self.pools.insert(pool);
                self.by_owner.entry(owner).or_default().0.push(id);
                id
            });
        }
        let pools = self.by_cluster.get(cluster).and_then(|pools| match destination {
            None => Some(&pools.free),
            Some(destination) => pools.by_destination.get(destination).map(|pools| &pools.0),
        });
        let known = pools.into_iter().flatten().copied().find(|&id| self.pools.get(id).is_some_and(is_own));
        if let Some(id) = known {
            return id;
        }
        let cluster: Rc<str> = cluster.into();
        let pool = Pool::new(cluster.clone(), destination.cloned(), None, service.clone(), now);
        let id = self.pools.insert(pool);
        let pools = self.by_cluster.entry(cluster).or_default();
        match destination {
            None => pools.free.push(id),
            Some(destination) => pools.by_destination.entry(destination.clone()).or_default().0.push(id),
        }
        id
    }

    /// The pool for copies of the calls of `service` that go to `cluster`, made if need be: they share nothing with calls.
    pub(crate) fn find_mirror(&mut self, service: &Rc<Service>, cluster: &str, now: Instant) -> PoolId {
        let is_own = |pool: &Pool| pool.service().name == service.name && pool.service().shares_with(service);
        let pools = self.by_cluster.get(cluster).map_or(&[][..], |pools| &pools.mirrors);
        let known = pools.iter().copied().find(|&id| self.pools.get(id).is_some_and(is_own));
        if let Some(id) = known {
            return id;
        }
        let cluster: Rc<str> = cluster.into();
        let pool = Pool::new(cluster.clone(), None, None, service.clone(), now).for_copies();
        let id = self.pools.insert(pool);
        self.by_cluster.entry(cluster).or_default().mirrors.push(id);
        id
    }

    /// Forgets pools that nothing has belonged to for long; says when it will be so for another.
    pub(crate) fn forget_unused(&mut self, now: Instant) -> Option<Instant> {
        let mut next = None;
        self.pools.retain(|id, pool| match pool.forget_at() {
            Some(at) if at <= now => {
                self.gone_limits = self.gone_limits.saturating_sub(pool.told_limit());
                if pool.owner().is_some() {
                    disown(&mut self.by_owner, pool.owner(), id);
                } else if let Some(pools) = self.by_cluster.get_mut(pool.cluster()) {
                    pools.remove(id, pool.destination().map(|address| &**address));
                    if pools.is_empty() {
                        self.by_cluster.remove(pool.cluster());
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

    /// Those that a client has for itself.
    pub(crate) fn of(&self, owner: ClientId) -> Vec<PoolId> {
        self.by_owner.get(&Some(owner)).map(|own| own.0.clone()).unwrap_or_default()
    }

    /// Forgets a pool if it was a client's own and nothing is left of it.
    pub(crate) fn forget_if_over(&mut self, id: PoolId) {
        if let Some(pool) = self.pools.get(id)
            && pool.is_over()
            && pool.owner().is_some()
        {
            disown(&mut self.by_owner, pool.owner(), id);
            self.pools.remove(id);
        }
    }

    pub(crate) fn get(&self, id: PoolId) -> Option<&Pool> {
        self.pools.get(id)
    }

    pub(crate) fn get_mut(&mut self, id: PoolId) -> Option<&mut Pool> {
        self.pools.get_mut(id)
    }

    pub(crate) fn len(&self) -> usize {
        self.pools.len()
    }

    pub(crate) fn ids(&self) -> Vec<PoolId> {
        self.pools.ids()
    }

    /// By how much the limits have changed since the last time that follow the times of answers; they end if it `is_over`.
    pub(crate) fn limit_change(&mut self, is_over: bool) -> i64 {
        let mut sum = core::mem::take(&mut self.gone_limits);
        for (_, pool) in self.pools.iter_mut() {
            if is_over {
                pool.end_limit();
            }
            sum = sum.saturating_add(pool.limit_change());
        }
        sum
    }

    /// Pools take limits and budgets from the service of the same name in `plan`.
    pub(crate) fn set_plan(&mut self, plan: &Plan) {
        for (_, pool) in self.pools.iter_mut() {
            pool.follow(plan);
        }
    }
}

fn disown(by_owner: &mut FxHashMap<Option<ClientId>, Box<Listed>>, owner: Option<ClientId>, id: PoolId) {
    if let Some(own) = by_owner.get_mut(&owner) {
        own.0.retain(|&other| other != id);
        if own.0.is_empty() {
            by_owner.remove(&owner);
        }
    }
}

impl OfCluster {
    fn is_empty(&self) -> bool {
        self.free.is_empty() && self.by_destination.is_empty() && self.mirrors.is_empty()
    }

    fn remove(&mut self, id: PoolId, destination: Option<&str>) {
        let Some(destination) = destination else {
            self.free.retain(|&other| other != id);
            self.mirrors.retain(|&other| other != id);
            return;
        };
        if let Some(pools) = self.by_destination.get_mut(destination) {
            pools.0.retain(|&other| other != id);
            if pools.0.is_empty() {
                self.by_destination.remove(destination);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use meltemi_codecs::Codecs;

    use super::*;
    use crate::calls::PoolCalls;

    const CLUSTER: &str = "outbound|20880||demo";

    fn at(millis: u64) -> Instant {
        Instant::default().after(Duration::from_millis(millis))
    }

    fn plan(service: &str, codecs: &Codecs) -> Plan {
        let plan = format!(r#"{{"services": {{"demo": {{"protocol": "dubbo", {service}}}}}}}"#);
        Plan::parse(plan.as_bytes(), codecs).unwrap()
    }

    #[test]
    fn a_cluster_has_one_pool_for_each_service_and_destination() {
        let codecs = Codecs::all();
        let first = plan(r#""upstream": {"connectionsPerEndpoint": 1}"#, &codecs);
        let service = first.service("demo").unwrap();
        let mut pools = Pools::default();
        let key = pools.find(None, service, CLUSTER, None, None, at(0));
        assert_eq!(pools.find(None, service, CLUSTER, None, None, at(1)), key);
        assert_ne!(pools.find(None, service, "other", None, None, at(0)), key);
        let destination = Rc::from("10.1.0.1:20880");
        let pinned = pools.find(None, service, CLUSTER, Some(&destination), None, at(0));
        assert_ne!(pinned, key);
        assert_eq!(pools.find(None, service, CLUSTER, Some(&destination), None, at(0)), pinned);
        assert_eq!(pools.len(), 3);
        pools.set_plan(&plan(r#""upstream": {"connectionsPerEndpoint": 4}"#, &codecs));
        assert_eq!(pools.get(key).unwrap().options().connections_per_endpoint, 4);
        pools.set_plan(&Plan::parse(b"", &codecs).unwrap());
        assert_eq!(pools.get(key).unwrap().options().connections_per_endpoint, 4, "what it had last");
    }

    #[test]
    fn copies_of_calls_have_pools_of_their_own() {
        let plan = plan(r#""routes": []"#, &Codecs::all());
        let service = plan.service("demo").unwrap();
        let mut pools = Pools::default();
        let mirror = pools.find_mirror(service, CLUSTER, at(0));
        let calls = pools.find(None, service, CLUSTER, None, None, at(0));
        assert_ne!(mirror, calls);
        assert_eq!(pools.find_mirror(service, CLUSTER, at(1)), mirror);
        assert_eq!([calls, mirror].map(|id| pools.get(id).unwrap().is_mirror()), [false, true]);
        pools.forget_unused(at(60_000));
        assert!(pools.len() == 0 && pools.by_cluster.is_empty());
    }

    #[test]
    fn a_protocol_of_the_same_name_is_another() {
        let [first, second] = [1, 4].map(|most| {
            plan(&format!(r#""upstream": {{"connectionsPerEndpoint": {most}}}"#), &Codecs::all())
        });
        let mut pools = Pools::default();
        let key = pools.find(None, first.service("demo").unwrap(), CLUSTER, None, None, at(0));
        pools.set_plan(&second);
        assert_eq!(pools.get(key).unwrap().options().connections_per_endpoint, 1);
        assert_ne!(pools.find(Some(key), second.service("demo").unwrap(), CLUSTER, None, None, at(0)), key);
        assert_eq!(pools.find(None, first.service("demo").unwrap(), CLUSTER, None, None, at(0)), key);
    }

    #[test]
    fn a_pool_is_forgotten_once_nothing_has_belonged_to_it_for_long() {
        let plan = plan(r#""routes": []"#, &Codecs::all());
        let service = plan.service("demo").unwrap();
        let mut pools = Pools::default();
        let [a, b] = ["10.1.0.1:1", "10.1.0.2:1"].map(Rc::from);
        let [free, first, second] = [None, Some(&a), Some(&b)]
            .map(|destination| pools.find(None, service, CLUSTER, destination, None, at(0)));
        pools.get_mut(free).unwrap().connect(None);
        *pools.get_mut(second).unwrap().calls_mut() = PoolCalls::of(1);
        assert_eq!(pools.forget_unused(at(59_999)), Some(at(60_000)));
        assert_eq!(pools.forget_unused(at(60_000)), None);
        assert!(pools.get(first).is_none() && pools.get(second).is_some() && pools.get(free).is_some());
        assert_eq!(pools.find(None, service, CLUSTER, Some(&b), None, at(60_000)), second);
        let again = pools.find(None, service, CLUSTER, Some(&a), None, at(60_000));
        assert_eq!(pools.find(None, service, CLUSTER, Some(&a), None, at(60_000)), again);
        pools.get_mut(free).unwrap().gone();
        *pools.get_mut(second).unwrap().calls_mut() = PoolCalls::default();
        assert_eq!(pools.forget_unused(at(120_000)), None);
        assert_eq!(pools.len(), 0);
        assert!(pools.by_cluster.is_empty());
    }
}
