//! What gateways get: the ports of Istio's Gateways that are named like managed ports.

use std::collections::{BTreeMap, BTreeSet};

use kube::ResourceExt;
use serde_json::json;

use super::access_log::AccessLogs;
use super::age::Age;
use super::claims::Claims;
use super::entry::{Authority, Scope};
use super::group::{Group, Patch, Patches};
use super::mesh::Mesh;
use super::object::Object;
use super::options::Options;
use super::plan::{GatewayPlan, GatewayPort, Planner};
use super::protocol::{Protocol, Protocols};
use super::report::Reports;
use super::revisions::ByRevision;
use super::scope;
use super::service::{Labels, Service, cluster, selects};
use super::sockets::Proxies;
use super::taps::Taps;
use super::telemetries::{Side, Whose};
use super::tracing::Traces;
use super::tunnel::{Opening, TELLS_IDENTITY, Tunnel};
use super::virtual_service::Routing;
use crate::findings::ResourceRef;
use crate::istio::{Gateway, Server};
use crate::world::World;

/// A port of a Gateway that some router leads to services, as some of its pods have it.
struct Entrance<'a> {
    gateway: &'a Gateway,
    /// `namespace/name`.
    name: String,
    server: &'a Server,
    /// The namespace that has what is made for these pods.
    home: &'a str,
    plan: GatewayPlan,
}

impl Entrance<'_> {
    fn authority(&self) -> Authority {
        let (namespace, _) = self.name.split_once('/').unwrap_or_default();
        Authority {
            scope: Scope::Gateway,
            of: self.name.clone(),
            namespace: namespace.to_owned(),
            port: self.server.port.number,
        }
    }
}

/// What gateways are made of.
pub(super) struct Gateways<'a> {
    pub(super) world: &'a World,
    pub(super) mesh: &'a Mesh,
    pub(super) logs: &'a ByRevision<'a, AccessLogs<'a>>,
    pub(super) traces: &'a ByRevision<'a, Traces<'a>>,
    pub(super) taps: &'a Taps,
    pub(super) services: &'a [Service],
    pub(super) claims: &'a Claims,
    pub(super) protocols: &'a Protocols,
    pub(super) routings: &'a [Routing<'a>],
}

/// The objects for all gateways.
pub(super) fn objects(
    gateways: &Gateways<'_>,
    planner: &mut Planner<'_>,
    options: &Options,
    reports: &mut Reports,
) -> Vec<Object> {
    let mut entrances = gateways.entrances(planner, reports);
    let mut objects = Vec::new();
    let mut placed = BTreeMap::new();
    let mut by_namespace: BTreeMap<&str, Vec<&Entrance<'_>>> = BTreeMap::new();
    for entrance in &entrances {
        by_namespace.entry(entrance.home).or_default().push(entrance);
    }
    for (namespace, mut entrances) in by_namespace {
        if namespace == gateways.mesh.root_namespace {
            keep_one_selector(&mut entrances, reports);
        }
        let selectors: BTreeSet<&Labels> =
            entrances.iter().map(|entrance| &entrance.gateway.spec.selector).collect();
        // Selectors that select the same pod would give it the sockets twice: several of them mean all gateways.
        let selector = match selectors.len() {
            1 => selectors.first().copied().cloned(),
            _ => None,
        };
        let whose = Whose { namespace, labels: selector.as_ref(), side: Side::Client };
        let access_log = gateways.logs.of(whose, Proxies::Gateways).of(whose, Proxies::Gateways, reports);
        let mut group = Group::new(namespace, Proxies::Gateways, selector);
        group.access_log = access_log;
        group.taps = gateways.taps.of(namespace, group.selector.as_ref());
        for entrance in &entrances {
            group.add(entrance.authority(), entrance.plan.entry.clone());
        }
        let shards = group.shards();
        objects.extend(group.objects(&shards, gateways.protocols.layouts(), options));
        let mut patches: BTreeMap<(String, &Labels), Patches> = BTreeMap::new();
        for entrance in entrances {
            let authority = entrance.authority().text();
            let shard = shards.of(&authority);
            placed.insert((namespace, authority.clone()), shard.clone());
            let tunnel = Tunnel {
                authority: &authority,
                shard: &shard,
                cluster: &cluster(&entrance.plan.host, entrance.plan.port, None),
                is_original_destination: false,
                opening: match entrance.server.tls.is_some() && options.istio_version >= TELLS_IDENTITY {
                    true => Opening::Handshake,
                    false => Opening::Connection,
                },
                reports: options.istio_metrics,
            };
            let listener = format!("0.0.0.0_{}", entrance.server.port.number);
            let name = format!("{}-tunnel-{}", group.base(), entrance.name.replace('/', "."));
            let patches = patches.entry((name, &entrance.gateway.spec.selector)).or_default();
            patches.extend(tunnel.on_listener(Proxies::Gateways, &listener).into_iter().map(|patch| Patch {
                about: authority.clone(),
                shard: Some(shard.clone()),
                patch: patch.into(),
            }));
        }
        for ((name, selector), patches) in patches {
            objects.extend(group.tunnels(&name, Some(selector), patches));
        }
    }
    // The listener comes with its tunnel, not before. One route is for the pods of all namespaces.
    entrances.dedup_by(|one, other| {
        (&one.name, one.server.port.number) == (&other.name, other.server.port.number)
    });
    objects.extend(entrances.iter().filter_map(|entrance| {
        let route = virtual_service(gateways.world, entrance, gateways.routings)?;
        let shard = placed.get(&(&*route.metadata.namespace, entrance.authority().text())).cloned();
        Some(route.of_shards(shard))
    }));
    objects
}

impl<'a> Gateways<'a> {
    /// The managed ports, by the names of the Gateways.
    fn entrances(&self, planner: &mut Planner<'_>, reports: &mut Reports) -> Vec<Entrance<'a>> {
        let mut entrances: Vec<Entrance<'a>> = Vec::new();
        for gateway in &self.world.gateways {
            let origin = ResourceRef::of(gateway);
            let namespace = origin.namespace.as_deref().unwrap_or_default();
            let name = format!("{namespace}/{}", origin.name);
            for (at, server) in gateway.spec.servers.iter().enumerate() {
                let path = || format!("spec.servers[{at}].port");
                let named = (Some(&*server.port.name), None);
                let protocol = self.protocols.of_port(named, gateway.annotations(), &origin, path, reports);
                let Some(protocol @ Protocol::Codec(_)) = protocol else { continue };
                let may_be = self.may_be_managed(gateway, at, server, &origin, reports);
                let is_known = |known: &Entrance<'_>| {
                    known.name == name && known.server.port.number == server.port.number
                };
                if !may_be || entrances.iter().any(is_known) {
                    continue;
                }
                for home in self.homes(gateway) {
                    let labels = Some(&gateway.spec.selector);
                    let whose = Whose { namespace: home, labels, side: Side::Client };
                    let tracing =
                        self.traces.of(whose, Proxies::Gateways).of(whose, Proxies::Gateways, reports);
                    let port = GatewayPort { name: &name, namespace, server, tracing: tracing.as_ref() };
                    match planner.gateway(&port, self.services, self.claims, &protocol, reports) {
                        Some(plan) => {
                            entrances.push(Entrance { gateway, name: name.clone(), server, home, plan });
                        }
                        None => reports.warn(
                            &origin,
                            path(),
                            "no MetaRouter with a managed host names this gateway: it leads nowhere",
                        ),
                    }
                }
            }
        }
        entrances.sort_by(|a, b| (&a.name, a.server.port.number).cmp(&(&b.name, b.server.port.number)));
        entrances
    }

    /// The namespaces that have what is made for a gateway's pods: theirs, or the root namespace alone, if it is one of them, as
    /// what is written there holds for the pods of the others too.
    fn homes(&self, gateway: &'a Gateway) -> BTreeSet<&'a str> {
        let mut namespaces = namespaces(self.world, gateway);
        match namespaces.take(&*self.mesh.root_namespace) {
            Some(root) => BTreeSet::from([root]),
            None => namespaces,
        }
    }

    /// Whether a port can be managed, and is the Gateway's to manage.
    fn may_be_managed(
        &self,
        gateway: &Gateway,
        at: usize,
        server: &Server,
        origin: &ResourceRef,
        reports: &mut Reports,
    ) -> bool {
        if gateway.spec.selector.is_empty() {
            let message =
                "without labels the Gateway is for every gateway of the mesh: its ports are not managed";
            reports.not_honoured(origin, "spec.selector", message);
            return false;
        }
        if let Some(mode @ ("PASSTHROUGH" | "AUTO_PASSTHROUGH")) = server.tls_mode() {
            reports.not_honoured(
                origin,
                format!("spec.servers[{at}].tls.mode"),
                format!("{mode} leaves calls encrypted, so they cannot be routed: the port is not managed"),
            );
            return false;
        }
        let Some(owner) = self.owner(gateway, server) else { return true };
        let owner = ResourceRef::of(owner);
        let message = format!("port {} of the same pods is that of the older {owner}", server.port.number);
        reports.warn(origin, format!("spec.servers[{at}].port"), message);
        false
    }

    /// The oldest Gateway that has a port of pods that a younger one selects too, if that is another.
    fn owner(&self, gateway: &Gateway, server: &Server) -> Option<&'a Gateway> {
        let age = Age::of(gateway);
        let has_port = |of: &Server| of.port.number == server.port.number && of.takes_connections();
        let others = self.world.gateways.iter().filter(|other| {
            Age::of(*other) < age
                && other.spec.servers.iter().any(has_port)
                && self.share_pods(&gateway.spec.selector, &other.spec.selector)
        });
        others.min_by_key(|other| Age::of(*other))
    }

    /// Whether two selectors select the same pod; where the pods of the first are not known, whether they may.
    fn share_pods(&self, one: &Labels, other: &Labels) -> bool {
        if other.is_empty() || one == other {
            return true;
        }
        let mut of_one = scope::gateways(self.world, one).peekable();
        match of_one.peek().is_none() {
            true => one.iter().all(|(key, value)| other.get(key).is_none_or(|of_other| of_other == value)),
            false => of_one.any(|pod| selects(other, pod.metadata.labels.as_ref())),
        }
    }
}

/// Leaves those with the selector of the oldest: an object for several would be for every gateway of the mesh.
fn keep_one_selector(entrances: &mut Vec<&Entrance<'_>>, reports: &mut Reports) {
    let Some(oldest) =
        entrances.iter().map(|entrance| entrance.gateway).min_by_key(|gateway| Age::of(*gateway))
    else {
        return;
    };
    entrances.retain(|entrance| {
        let is_same = entrance.gateway.spec.selector == oldest.spec.selector;
        if !is_same {
            let message = format!(
                "its pods are in the root namespace, where one selector is honoured, that of {}: take the same labels, or give \
                 the pods a namespace of their own",
                ResourceRef::of(oldest)
            );
            reports.not_honoured(&ResourceRef::of(entrance.gateway), "spec.selector", message);
        }
        is_same
    });
}

/// The namespaces of the gateway's pods; its own if none is known.
fn namespaces<'a>(world: &'a World, gateway: &'a Gateway) -> BTreeSet<&'a str> {
    let pods = scope::gateways(world, &gateway.spec.selector);
    let mut namespaces: BTreeSet<&str> = pods.filter_map(|pod| pod.metadata.namespace.as_deref()).collect();
    if namespaces.is_empty() {
        namespaces.extend(gateway.metadata.namespace.as_deref());
    }
    namespaces
}

/// Istio makes a listener of a gateway's TCP port only if a VirtualService routes it: this one does where no other does. It is of
/// a namespace that the Gateway admits, its own if it is one, and for the gateway's pods alone.
fn virtual_service(world: &World, entrance: &Entrance<'_>, routings: &[Routing<'_>]) -> Option<Object> {
    let port = entrance.server.port.number;
    if routings.iter().any(|routing| routing.routes_gateway(&entrance.name, port)) {
        return None;
    }
    let (namespace, name) = entrance.name.split_once('/')?;
    let (namespace, name) = match entrance.server.admits(namespace, namespace) {
        true => (namespace, format!("meltemi-gateway-{name}-{port}")),
        false => (&*entrance.plan.namespace, format!("meltemi-gateway-{name}.{namespace}-{port}")),
    };
    let hosts: Vec<&str> =
        entrance.server.hosts.iter().map(|host| host.rsplit('/').next().unwrap_or(host)).collect();
    let destination = json!({"host": entrance.plan.host, "port": {"number": entrance.plan.port}});
    let spec = json!({
        "hosts": hosts,
        "gateways": [entrance.name],
        "exportTo": namespaces(world, entrance.gateway),
        "tcp": [{"match": [{"port": port}], "route": [{"destination": destination}]}],
    });
    Some(Object::virtual_service(namespace, name, spec.into()))
}
