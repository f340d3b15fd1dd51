//! The plans: what is said of each service, put together for the proxies that see it.

mod gateways;
mod servers;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;

use meltemi_proxy::plan::raw;

use super::claims::Claims;
use super::client::Clients;
use super::draft::Draft;
use super::host::{self, ByHost};
use super::lacking::Lacking;
use super::mesh::Mesh;
use super::options::ForeignRouters;
use super::protocol::{ManagedPort, Protocol};
use super::report::Reports;
use super::room::{self, Left, Room};
use super::router::{Rejects, Router};
use super::routes::{self, Share};
use super::service::Service;
use super::subsets::Subsets;
use super::tier::Tier;
use super::tracing::{Traced, Tracing};
use super::tree::Part;
use super::trial;
use super::virtual_service::{Calls, Routing};
use crate::findings::ResourceRef;
use crate::world::World;

pub(super) use self::gateways::{GatewayPlan, GatewayPort};

/// Writes the plan's entry of each service.
#[derive(Debug)]
pub(super) struct Planner<'a> {
    routers: Vec<Router>,
    by_host: BTreeMap<String, Vec<usize>>,
    routings: &'a [Routing<'a>],
    foreign_routers: ForeignRouters,
    subsets: Subsets<'a>,
    entries: HashMap<Key, Part>,
    routings_of: ByHost<usize>,
    /// The hosts that each router leads to.
    hosts_of_routers: Vec<BTreeSet<String>>,
    /// Those of each VirtualService.
    hosts_of_routings: Vec<BTreeSet<String>>,
    checked: BTreeSet<(ResourceRef, u16)>,
    refused: BTreeSet<ResourceRef>,
    /// What the expressions of each router take, for each port that it was tried for.
    tables: HashMap<(usize, u16), usize>,
    room: Room,
    /// What the VirtualServices say of calls, as far as that is the same for several services.
    calls: HashMap<CallsKey, Rc<Calls>>,
}

/// What the routes of a VirtualService are made of: which one it is, the port and its protocol, and the namespace of the client
/// where it asks for that.
type CallsKey = (usize, u16, Protocol, Option<String>);

/// All that an entry is made of, so that namespaces which see the same share it.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Key {
    service: usize,
    port: u16,
    routers: Vec<usize>,
    routings: Vec<usize>,
    /// The namespace of the client, where a VirtualService may ask for it.
    client: Option<String>,
    /// The DestinationRules that it follows for the calls.
    rules: Vec<usize>,
    traced: Option<Traced>,
}

impl<'a> Planner<'a> {
    pub(super) fn new(
        world: &'a World,
        domain: &str,
        mesh: &Mesh,
        (routers, routings): (Vec<Router>, &'a [Routing<'a>]),
        owners: HashMap<String, String>,
        foreign_routers: ForeignRouters,
    ) -> Self {
        let mut by_host: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (at, router) in routers.iter().enumerate() {
            by_host.entry(router.host.clone()).or_default().push(at);
        }
        let of_host = routings
            .iter()
            .enumerate()
            .map(|(at, routing)| routing.hosts().map(move |host| (host.clone(), at)));
        let of_routings = routings.iter().map(|routing| routing.destinations());
        Self {
            hosts_of_routers: routers.iter().map(|router| router.targets().cloned().collect()).collect(),
            hosts_of_routings: of_routings.map(|all| all.map(|(_, target)| target.host).collect()).collect(),
            routers,
            by_host,
            routings,
            foreign_routers,
            subsets: Subsets::new(world, domain, mesh, owners),
            entries: HashMap::new(),
            routings_of: ByHost::new(of_host.flatten()),
            checked: BTreeSet::new(),
            refused: BTreeSet::new(),
            tables: HashMap::new(),
            room: Room::default(),
            calls: HashMap::new(),
        }
    }

    /// The routers whose host no managed service has, or one of another namespace; and what of the DestinationRules of managed
    /// hosts is not honoured.
    pub(super) fn report_strangers(
        &self,
        services: &[Service],
        claims: &Claims,
        lacking: &Lacking,
        reports: &mut Reports,
    ) {
        let mut by_host: HashMap<&str, Vec<&Service>> = HashMap::new();
        for service in services.iter().filter(|service| !service.ports.is_empty()) {
            by_host.entry(&service.host).or_default().push(service);
        }
        by_host.values().flatten().for_each(|service| self.subsets.report(service, reports));
        for router in &self.routers {
            let of_host = by_host.get(&*router.host).map_or(&[][..], Vec::as_slice);
            let Some(owner) = of_host.first().map(|service| claims.owner(services, service)) else {
                if let Some(protocol) = lacking.of(&router.host) {
                    let message = format!(
                        "not in force: the module has no codec for {protocol}; its calls stay plain TCP. A module that has it \
                         is named by --module and --codecs"
                    );
                    reports.not_honoured(&router.origin, "spec.hosts[0]", message);
                    continue;
                }
                let message = format!(
                    "no managed service has the host {:?}: name one whose port is called tcp-metaprotocol-<protocol> or has \
                     the appProtocol meltemi.io/<protocol>",
                    router.host
                );
                reports.error(&router.origin, "spec.hosts[0]", message);
                continue;
            };
            if let Some(limit) = &router.limit
                && !of_host.iter().any(|service| service.namespace == router.namespace)
            {
                let message = format!(
                    "not enforced: only routers of {}, whose servers would count the calls, limit them",
                    owner.namespace
                );
                reports.not_honoured(&router.origin, limit.field(), message);
            }
            // Clients of the namespace that has a ServiceEntry mean that one.
            let is_own = |service: &&Service| {
                service.namespace == router.namespace && service.standing == owner.standing
            };
            if !of_host.iter().any(is_own) {
                self.report_foreigner(router, owner, reports);
            }
        }
    }

    /// Says for whom a router holds whose host is of another namespace.
    fn report_foreigner(&self, router: &Router, owner: &Service, reports: &mut Reports) {
        let Router { host, namespace, .. } = router;
        let whom = match self.is_let(router, owner) {
            true => format!(
                "for other clients than those of {namespace}, after the routers of {}",
                owner.namespace
            ),
            false => format!(
                "for clients of {namespace} alone. The annotation meltemi.io/routers-from of {}, or the operator by \
                 --foreign-routers, allows more",
                owner.origin
            ),
        };
        let message = format!("{host} is of another namespace, {}: the router holds {whom}", owner.namespace);
        reports.warn(&router.origin, "spec.hosts[0]", message);
        if router.rejects == Rejects::Said {
            let message = format!(
                "only routers of {} say what happens to calls that no route matches",
                owner.namespace
            );
            reports.not_honoured(&router.origin, "spec.onNoMatch", message);
        }
        if router.adaptive.is_some() {
            let message =
                format!("only routers of {} say how many calls are made at a time", owner.namespace);
            reports.not_honoured(&router.origin, "spec.adaptiveConcurrency", message);
        }
    }

    /// Whether a router of another namespace than a service's may route the calls of all clients.
    fn is_let(&self, router: &Router, service: &Service) -> bool {
        self.foreign_routers == ForeignRouters::All || service.lets_route(&router.namespace)
    }

    /// What holds for the calls of some clients to a port of a service that they see.
    pub(super) fn outbound(
        &mut self,
        clients: &Clients<'_>,
        service: &Service,
        port: &ManagedPort,
        tracing: Option<&Tracing>,
        reports: &mut Reports,
    ) -> Part {
        let client = clients.namespace;
        let mut left = Left::new();
        let mut routers = self.routers_of(client, service, |router| router.is_for_mesh);
        routers.retain(|&at| self.admits(at, port, client, &mut left, reports));
        let routings = self.routings_to(clients, service);
        let traced = tracing.and_then(|tracing| traced(tracing, port, reports));
        let of_client = (!routings.is_empty()).then(|| client.to_owned());
        let of_routers = routers.iter().filter_map(|&at| self.hosts_of_routers.get(at));
        let of_routings = routings.iter().filter_map(|&at| self.hosts_of_routings.get(at));
        let key = Key {
            service: service.id,
            port: port.number,
            routers: routers.clone(),
            routings: routings.clone(),
            client: of_client,
            rules: self.subsets.of_calls(client, service, of_routers.chain(of_routings).flatten()),
            traced: traced.cloned(),
        };
        if let Some(entry) = self.entries.get(&key) {
            return entry.clone();
        }
        let all = self.routings;
        let routings: Vec<&'a Routing<'a>> = routings.iter().filter_map(|&at| all.get(at)).collect();
        for routing in &routings {
            if self.checked.insert((routing.origin.clone(), port.number)) {
                self.subsets.check_routing(routing, port.number, reports);
            }
        }
        let of_calls = routing_of_calls(&service.host, &routings, reports)
            .map(|routing| (routing, self.calls(routing, client, port, reports)));
        let of_calls = of_calls.filter(|(routing, calls)| {
            let has_room = self.room.take(client, routing.namespace, calls.tables, &mut left);
            if !has_room {
                reports.not_honoured(&routing.origin, "spec.http", room::full(routing.namespace));
            }
            has_room
        });
        let tier = |namespace: &str| Tier::of(namespace, client, service);
        let of_router = |&at: &usize| {
            let router = &self.routers[at];
            let tier = tier(&router.namespace);
            Share::of_router(router, tier.rank(), tier == Tier::Owner)
        };
        let mut shares: Vec<Share<'_>> = routers.iter().map(of_router).collect();
        shares.extend(of_calls.iter().map(|(routing, calls)| Share {
            origin: &routing.origin,
            field: "spec.http",
            routes: &calls.drafts,
            rejects: false,
            adaptive: None,
            rank: tier(routing.namespace).rank(),
        }));
        shares.sort_by_cached_key(|share| {
            let namespace = share.origin.namespace.as_deref().unwrap_or_default();
            (tier(namespace), namespace.to_owned())
        });
        let mut connections = routings.iter().map(|routing| routing.connections(client, port, reports));
        let connections = connections.find(|targets| !targets.is_empty()).unwrap_or_default();
        let about = format!("{}:{}", service.host, port.number);
        let traced = traced.filter(|traced| traced.fits(&shares, &about, reports));
        let finish = |entry: &mut raw::Service| {
            if let Some(traced) = traced {
                traced.put(entry);
            }
            service.wishes.put(entry);
            self.subsets.put(client, (service, port.number), entry);
        };
        let entry = routes::entry(&mut shares, &connections, &about, (port, &finish), reports);
        self.entries.insert(key, entry.clone());
        entry
    }

    /// The VirtualServices that clients follow for a service, the first in Istio's order first.
    fn routings_to(&self, clients: &Clients<'_>, service: &Service) -> Vec<usize> {
        let all = self.routings;
        let of_host = self.routings_of.of(&service.host).copied();
        let is_theirs = |routing: &Routing<'_>| {
            let mut hosts = routing.hosts().filter(|own| host::matches(own, &service.host));
            routing.exports.reach(clients.namespace) && clients.import(routing.namespace, &mut hosts)
        };
        let mut routings: Vec<usize> = of_host.filter(|&at| is_theirs(&all[at])).collect();
        routings.sort_unstable();
        routings.dedup();
        routings.sort_by_key(|&at| all[at].distance(clients.namespace));
        routings
    }

    /// The routers of a service that hold for the clients of a namespace: those of the clients' namespace first, then those of
    /// the service's; by namespace and name.
    fn routers_of(&self, client: &str, service: &Service, wanted: impl Fn(&Router) -> bool) -> Vec<usize> {
        let all = self.by_host.get(&service.host).into_iter().flatten().copied();
        let tier = |router: &Router| Tier::of(&router.namespace, client, service);
        let holds = |router: &Router| {
            let is_theirs = tier(router) != Tier::Other || self.is_let(router, service);
            is_theirs && router.exports.reach(client) && wanted(router)
        };
        let mut routers: Vec<usize> = all
            .filter(|&at| holds(&self.routers[at]) && !self.refused.contains(&self.routers[at].origin))
            .collect();
        routers.sort_by_key(|&at| tier(&self.routers[at]));
        routers
    }

    /// Whether a router is in force for the calls of some clients to a port.
    fn admits(
        &mut self,
        at: usize,
        port: &ManagedPort,
        clients: &str,
        left: &mut Left,
        reports: &mut Reports,
    ) -> bool {
        if self.is_refused(at, port, reports) {
            return false;
        }
        let router = &self.routers[at];
        let bytes = self.tables.get(&(at, port.number)).copied().unwrap_or_default();
        let has_room = self.room.take(clients, &router.namespace, bytes, left);
        if !has_room {
            reports.error(&router.origin, "spec.routes", room::full(&router.namespace));
        }
        has_room
    }

    /// Whether the filter would refuse a router, for calls that come by `port` or for others that were tried.
    fn is_refused(&mut self, at: usize, port: &ManagedPort, reports: &mut Reports) -> bool {
        let router = &self.routers[at];
        if self.checked.insert((router.origin.clone(), port.number)) {
            self.subsets.check(router, port.number, reports);
            let routes: Vec<&Draft> = router.routes.iter().collect();
            match trial::tables(&routes, port) {
                Ok(bytes) => _ = self.tables.insert((at, port.number), bytes),
                Err(refusal) => {
                    reports.error(&router.origin, refusal.field, refusal.message);
                    self.refused.insert(router.origin.clone());
                }
            }
        }
        self.refused.contains(&router.origin)
    }

    /// What a VirtualService says of the calls of a client to a port.
    fn calls(
        &mut self,
        routing: &Routing<'_>,
        client: &str,
        port: &ManagedPort,
        reports: &mut Reports,
    ) -> Rc<Calls> {
        let client_asked = routing.asks_client().then(|| client.to_owned());
        let key = (routing.id, port.number, port.protocol.clone(), client_asked);
        let calls = self.calls.entry(key);
        calls.or_insert_with(|| Rc::new(routing.calls(client, port, reports))).clone()
    }
}

/// How calls that come by a port are traced.
fn traced<'t>(tracing: &'t Tracing, port: &ManagedPort, reports: &mut Reports) -> Option<&'t Traced> {
    let Protocol::Codec(reader) = &port.protocol else { return None };
    tracing.of(reader, reports)
}

/// The VirtualService that calls follow: of several, Istio's sidecars take one.
fn routing_of_calls<'a>(
    host: &str,
    routings: &[&'a Routing<'a>],
    reports: &mut Reports,
) -> Option<&'a Routing<'a>> {
    for routing in routings {
        reports.seen(&routing.origin);
    }
    let mut of_calls: Vec<&Routing<'_>> =
        routings.iter().copied().filter(|routing| routing.routes_calls()).collect();
    of_calls.sort_by_key(|routing| routing.breadth(host));
    let (&first, others) = of_calls.split_first()?;
    for other in others {
        let message = format!(
            "for clients that see both, calls to {host} follow {}: of several, sidecars use one",
            first.origin
        );
        reports.warn(&other.origin, "spec.hosts", message);
    }
    Some(first)
}
