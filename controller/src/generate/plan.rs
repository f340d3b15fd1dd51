//! The plans: what is said of each service, put together for the proxies that see it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use meltemi_proxy::plan::Plan;
use serde_json::{Map, Value, json};

use super::host::{self, ByHost};
use super::protocol::Protocol;
use super::report::{Reports, ResourceRef};
use super::router::{Draft, Router, Target};
use super::service::{ManagedPort, Service};
use super::tree::Part;
use super::virtual_service::Routing;
use crate::istio::DestinationRule;
use crate::protocol::CODECS;
use crate::world::World;

/// Writes the plan's entry of each service.
#[derive(Debug)]
pub(super) struct Planner<'a> {
    routers: Vec<Router>,
    by_host: BTreeMap<String, Vec<usize>>,
    routings: &'a [Routing<'a>],
    subsets: Subsets<'a>,
    entries: HashMap<Key, Part>,
    routings_of: ByHost<usize>,
    checked: BTreeSet<(ResourceRef, u16)>,
    refused: BTreeSet<ResourceRef>,
}

/// All that an entry is made of, so that namespaces which see the same share it.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Key {
    host: String,
    port: u16,
    routers: Vec<usize>,
    routings: Vec<usize>,
    /// The namespace of the client, where a VirtualService may ask for it.
    client: Option<String>,
}

impl<'a> Planner<'a> {
    pub(super) fn new(
        world: &'a World,
        domain: &str,
        routers: Vec<Router>,
        routings: &'a [Routing<'a>],
    ) -> Self {
        let mut by_host: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (at, router) in routers.iter().enumerate() {
            by_host.entry(router.host.clone()).or_default().push(at);
        }
        let of_host = routings
            .iter()
            .enumerate()
            .map(|(at, routing)| routing.hosts().map(move |host| (host.clone(), at)));
        Self {
            routers,
            by_host,
            routings,
            subsets: Subsets::new(world, domain),
            entries: HashMap::new(),
            routings_of: ByHost::new(of_host.flatten()),
            checked: BTreeSet::new(),
            refused: BTreeSet::new(),
        }
    }

    /// The routers whose host no managed service has.
    pub(super) fn report_strangers(&self, services: &[Service], reports: &mut Reports) {
        let hosts: BTreeSet<&str> = services.iter().map(|service| &*service.host).collect();
        for router in self.routers.iter().filter(|router| !hosts.contains(&*router.host)) {
            let message = format!(
                "no managed service has the host {:?}: name one whose port is called tcp-metaprotocol-<protocol> or has \
                 the appProtocol meltemi.io/<protocol>",
                router.host
            );
            reports.error(&router.origin, "spec.hosts[0]", message);
        }
    }

    /// What holds for the calls of `client`'s sidecars to a port of a service.
    pub(super) fn outbound(
        &mut self,
        client: &str,
        service: &Service,
        port: &ManagedPort,
        reports: &mut Reports,
    ) -> Part {
        let routers = self.routers_of(client, service, |router| router.is_for_mesh);
        let all = self.routings;
        let of_host = self.routings_of.of(&service.host).copied();
        let mut routings: Vec<usize> = of_host.filter(|&at| all[at].exports.reach(client)).collect();
        routings.sort_unstable();
        let of_client = (!routings.is_empty()).then(|| client.to_owned());
        let key = Key {
            host: service.host.clone(),
            port: port.number,
            routers: routers.clone(),
            routings: routings.clone(),
            client: of_client,
        };
        if let Some(entry) = self.entries.get(&key) {
            return entry.clone();
        }
        let mut routes = Routes::default();
        self.add_routers(&routers, service, port, &mut routes, reports);
        for routing in routings.iter().map(|&at| &all[at]) {
            reports.seen(&routing.origin);
            for draft in routing.calls(client, port.number, reports) {
                routes.add(&routing.origin, draft, reports);
            }
            if routes.connections.is_empty() {
                routes.connections = routing.connections(client, port.number, reports);
            }
        }
        let entry = Part::from(entry(port, routes));
        self.entries.insert(key, entry.clone());
        entry
    }

    /// What holds for the calls of a gateway's clients, by the routers that name it. `None` if none does.
    pub(super) fn gateway(
        &mut self,
        gateway: &str,
        services: &[Service],
        protocol: &Protocol,
        server_port: u16,
        reports: &mut Reports,
    ) -> Option<GatewayPlan> {
        let namespace = gateway.split_once('/').map_or("", |(namespace, _)| namespace);
        let names_it = |router: &Router| router.gateways.iter().any(|named| named == gateway);
        let mut routes = Routes::default();
        let mut target = None;
        for service in services {
            let Some(port) = gateway_port(service, protocol, server_port) else { continue };
            let routers = self.routers_of(namespace, service, names_it);
            if routers.is_empty() {
                continue;
            }
            target.get_or_insert_with(|| (service.host.clone(), port.clone()));
            self.add_routers(&routers, service, port, &mut routes, reports);
        }
        let (host, port) = target?;
        let entry = Part::from(entry(&port, routes));
        Some(GatewayPlan { entry, host, port: port.number })
    }

    /// The routers of a service that reach a namespace: those of the service's own namespace first, then by namespace
    /// and name.
    fn routers_of(&self, client: &str, service: &Service, wanted: impl Fn(&Router) -> bool) -> Vec<usize> {
        let all = self.by_host.get(&service.host).into_iter().flatten().copied();
        let mut routers: Vec<usize> = all
            .filter(|&at| wanted(&self.routers[at]) && self.routers[at].exports.reach(client))
            .filter(|&at| !self.refused.contains(&self.routers[at].origin))
            .collect();
        routers.sort_by_key(|&at| self.routers[at].namespace != service.namespace);
        routers
    }

    fn add_routers(
        &mut self,
        routers: &[usize],
        service: &Service,
        port: &ManagedPort,
        routes: &mut Routes,
        reports: &mut Reports,
    ) {
        for &at in routers {
            let router = &self.routers[at];
            if self.checked.insert((router.origin.clone(), port.number)) {
                self.subsets.check(router, port.number, service, reports);
                if let Some((path, message)) = refusal(router, port) {
                    reports.error(&router.origin, path, message);
                    self.refused.insert(router.origin.clone());
                }
            }
            if self.refused.contains(&router.origin) {
                continue;
            }
            routes.rejects |= router.rejects;
            for draft in &router.routes {
                routes.add(&router.origin, draft.clone(), reports);
            }
        }
    }
}

/// What holds for the calls of a gateway's clients.
#[derive(Debug)]
pub(super) struct GatewayPlan {
    pub(super) entry: Part,
    /// The service that connections go to when there is no module.
    pub(super) host: String,
    pub(super) port: u16,
}

/// The port of a service that a gateway's clients are led to: the one with the server's number, else the first one of the
/// protocol.
fn gateway_port<'s>(service: &'s Service, protocol: &Protocol, server_port: u16) -> Option<&'s ManagedPort> {
    let mut ports = service.ports.iter().filter(|port| port.protocol == *protocol);
    ports.clone().find(|port| port.number == server_port).or_else(|| ports.next())
}

/// The routes of one service as they are gathered.
#[derive(Debug, Default)]
struct Routes {
    drafts: Vec<Draft>,
    /// The one that takes every call.
    last: Option<Draft>,
    /// Where Istio would have sent connections.
    connections: Vec<Target>,
    rejects: bool,
}

impl Routes {
    /// Adds a route. One that takes every call comes after all others, also after those of later resources; only the
    /// first such one is.
    fn add(&mut self, origin: &ResourceRef, mut draft: Draft, reports: &mut Reports) {
        let namespace = origin.namespace.as_deref().unwrap_or_default();
        let written = std::mem::take(&mut draft.name);
        draft.name = format!("{namespace}/{}/{written}", origin.name);
        if draft.alternatives.is_some() {
            self.drafts.push(draft);
        } else if let Some(last) = &self.last {
            let message = format!(
                "the route {written:?} takes no call: {} takes all that no other route does",
                last.name
            );
            reports.warn(origin, "spec", message);
        } else {
            self.last = Some(draft);
        }
    }
}

/// The plan's entry of a service, for calls that come by `port`.
fn entry(port: &ManagedPort, routes: Routes) -> Value {
    let Protocol::Codec(codec) = &port.protocol else { return Value::Null };
    let mut entry = Map::from_iter([("protocol".to_owned(), json!(codec))]);
    let takes_all = routes.last.is_some();
    let mut names = BTreeSet::new();
    let drafts = routes.drafts.into_iter().chain(routes.last);
    let written: Vec<Value> =
        drafts.map(|draft| draft.route(&unique(&draft.name, &mut names), port.number)).collect();
    if !written.is_empty() {
        entry.insert("routes".into(), written.into());
    }
    if routes.rejects && !takes_all {
        entry.insert("onNoMatch".into(), "reject".into());
    } else if !takes_all && !routes.connections.is_empty() {
        let default = Draft { destinations: routes.connections, ..Draft::default() };
        entry.insert("defaultRoute".into(), default.destination_and_policies(port.number).into());
    }
    entry.into()
}

fn unique(name: &str, names: &mut BTreeSet<String>) -> String {
    let numbered = (2_u32..).map(|number| format!("{name}-{number}"));
    let free = std::iter::once(name.to_owned()).chain(numbered).find(|name| !names.contains(name));
    let free = free.unwrap_or_default();
    names.insert(free.clone());
    free
}

/// Why the filter would refuse a router's routes: the path in the router, and the filter's own words.
fn refusal(router: &Router, port: &ManagedPort) -> Option<(String, String)> {
    let Protocol::Codec(codec) = &port.protocol else { return None };
    if !CODECS.iter().any(|known| known.name() == codec) {
        return None;
    }
    let route = |(at, draft): (usize, &Draft)| draft.route(&at.to_string(), port.number);
    let routes: Vec<Value> = router.routes.iter().enumerate().map(route).collect();
    let plan = json!({"services": {"s": {"protocol": codec, "routes": routes}}});
    let error = Plan::parse(plan.to_string().as_bytes(), &CODECS).err()?;
    let path = error.path.strip_prefix("services[\"s\"]").or_else(|| error.path.strip_prefix("services.s"));
    Some((format!("spec{}", path.unwrap_or(&error.path)), error.message))
}

/// The subsets that DestinationRules define, by host.
#[derive(Debug)]
struct Subsets<'a>(ByHost<&'a DestinationRule>);

impl<'a> Subsets<'a> {
    fn new(world: &'a World, domain: &str) -> Self {
        let in_full = |rule: &'a DestinationRule| {
            let namespace = rule.metadata.namespace.as_deref().unwrap_or_default();
            (host::in_full(&rule.spec.host, namespace, domain), rule)
        };
        Self(ByHost::new(world.destination_rules.iter().map(in_full)))
    }

    /// Says which subsets a router names and nothing defines, and what of the rules cannot be honoured.
    fn check(&self, router: &Router, port: u16, service: &Service, reports: &mut Reports) {
        for (at, draft) in router.routes.iter().enumerate() {
            for (to, target) in draft.destinations.iter().enumerate() {
                let Some(subset) = &target.subset else { continue };
                let defined = self
                    .0
                    .of(&target.host)
                    .any(|rule| rule.spec.subsets.iter().any(|of_rule| of_rule.name == *subset));
                if !defined {
                    let path = format!("spec.routes[{at}].route[{to}].destination.subset");
                    let message = format!(
                        "no DestinationRule defines the subset {subset:?} of {}: its calls fail for want of the cluster {}",
                        target.host,
                        target.cluster(port)
                    );
                    reports.warn(&router.origin, path, message);
                }
            }
        }
        for &rule in self.0.of(&service.host) {
            let policies = [("spec.trafficPolicy", rule.spec.traffic_policy.as_ref())];
            let of_subsets =
                rule.spec.subsets.iter().map(|subset| ("spec.subsets", subset.traffic_policy.as_ref()));
            for (path, policy) in policies.into_iter().chain(of_subsets) {
                let balancer = policy.and_then(|policy| policy.load_balancer.as_ref());
                if balancer.is_some_and(|balancer| balancer.consistent_hash.is_some()) {
                    let path = format!("{path}.loadBalancer.consistentHash");
                    let message = "calls are not hashed yet: they go to any endpoint";
                    reports.not_honoured(&ResourceRef::of(rule), path, message);
                }
            }
        }
    }
}
