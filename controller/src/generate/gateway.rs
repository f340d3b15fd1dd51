//! What gateways get: the ports of Istio's Gateways that are named like managed ports.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::json;

use super::Options;
use super::group::{Group, Patches};
use super::object::Object;
use super::plan::{GatewayPlan, Planner};
use super::protocol::{Protocol, Protocols};
use super::report::{Reports, ResourceRef};
use super::service::{Labels, Service, cluster, selects};
use super::sockets::Proxies;
use super::tunnel::{TELLS_IDENTITY, Tunnel};
use super::virtual_service::Routing;
use crate::istio::{Gateway, Server};
use crate::world::World;

/// A port of a Gateway that some router leads to services.
struct Entrance<'a> {
    gateway: &'a Gateway,
    /// `namespace/name`.
    name: String,
    server: &'a Server,
    plan: GatewayPlan,
}

impl Entrance<'_> {
    fn authority(&self) -> Arc<str> {
        let (namespace, name) = self.name.split_once('/').unwrap_or_default();
        format!("gateway.{name}.{namespace}:{}", self.server.port.number).into()
    }
}

/// The objects for all gateways.
pub(super) fn objects(
    world: &World,
    services: &[Service],
    protocols: &Protocols,
    planner: &mut Planner<'_>,
    routings: &[Routing<'_>],
    options: &Options,
    reports: &mut Reports,
) -> Vec<Object> {
    let entrances = entrances(world, services, protocols, planner, reports);
    let mut objects: Vec<Object> =
        entrances.iter().filter_map(|entrance| virtual_service(entrance, routings)).collect();

    let mut by_namespace: BTreeMap<&str, Vec<&Entrance<'_>>> = BTreeMap::new();
    for entrance in &entrances {
        for namespace in namespaces(world, entrance.gateway) {
            by_namespace.entry(namespace).or_default().push(entrance);
        }
    }
    for (namespace, entrances) in by_namespace {
        let selectors: BTreeSet<&Labels> =
            entrances.iter().map(|entrance| &entrance.gateway.spec.selector).collect();
        // Selectors that select the same pod would give it the sockets twice: several of them mean all gateways.
        let selector = match selectors.len() {
            1 => selectors.first().copied().cloned(),
            _ => None,
        };
        let mut group = Group::new(namespace, Proxies::Gateways, selector);
        for entrance in &entrances {
            group.add(entrance.authority(), entrance.plan.entry.clone());
        }
        let shards = group.shards();
        objects.extend(group.objects(&shards, options));
        let mut patches: BTreeMap<(String, &Labels), Patches> = BTreeMap::new();
        for entrance in entrances {
            let authority = entrance.authority();
            let tunnel = Tunnel {
                authority: &authority,
                shard: &shards.of(&authority),
                cluster: &cluster(&entrance.plan.host, entrance.plan.port, None),
                is_original_destination: false,
                tells_identity: entrance.server.tls.is_some() && options.istio_version >= TELLS_IDENTITY,
            };
            let listener = format!("0.0.0.0_{}", entrance.server.port.number);
            let name = format!("{}-tunnel-{}", group.base(), entrance.name.replace('/', "."));
            let patch = tunnel.on_listener(Proxies::Gateways, &listener);
            patches
                .entry((name, &entrance.gateway.spec.selector))
                .or_default()
                .push((authority, patch.into()));
        }
        for ((name, selector), patches) in patches {
            objects.extend(group.tunnels(&name, Some(selector), patches));
        }
    }
    objects
}

fn entrances<'a>(
    world: &'a World,
    services: &[Service],
    protocols: &Protocols,
    planner: &mut Planner<'_>,
    reports: &mut Reports,
) -> Vec<Entrance<'a>> {
    let mut entrances = Vec::new();
    for gateway in &world.gateways {
        let origin = ResourceRef::of(gateway);
        let name = format!("{}/{}", origin.namespace.as_deref().unwrap_or_default(), origin.name);
        for (at, server) in gateway.spec.servers.iter().enumerate() {
            let path = || format!("spec.servers[{at}].port");
            let protocol = protocols.of_port((Some(&server.port.name), None), &origin, path, reports);
            let Some(protocol @ Protocol::Codec(_)) = protocol else { continue };
            if let Some(mode @ ("PASSTHROUGH" | "AUTO_PASSTHROUGH")) = server.tls_mode() {
                reports.not_honoured(
                    &origin,
                    format!("spec.servers[{at}].tls.mode"),
                    format!("{mode} leaves calls encrypted, so that they cannot be told apart: the port is not managed"),
                );
                continue;
            }
            match planner.gateway(&name, services, &protocol, server.port.number, reports) {
                Some(plan) => entrances.push(Entrance { gateway, name: name.clone(), server, plan }),
                None => reports.warn(
                    &origin,
                    path(),
                    "no MetaRouter with a managed host names this gateway: it leads nowhere",
                ),
            }
        }
    }
    entrances.sort_by(|a, b| (&a.name, a.server.port.number).cmp(&(&b.name, b.server.port.number)));
    entrances
}

/// The namespaces of the gateway's pods; its own if none is known.
fn namespaces<'a>(world: &'a World, gateway: &'a Gateway) -> BTreeSet<&'a str> {
    let pods = world.pods.iter().filter(|pod| selects(&gateway.spec.selector, pod.metadata.labels.as_ref()));
    let mut namespaces: BTreeSet<&str> = pods.filter_map(|pod| pod.metadata.namespace.as_deref()).collect();
    if namespaces.is_empty() {
        namespaces.extend(gateway.metadata.namespace.as_deref());
    }
    namespaces
}

/// Istio makes a listener of a gateway's TCP port only if a VirtualService routes it: this one does where no other does.
fn virtual_service(entrance: &Entrance<'_>, routings: &[Routing<'_>]) -> Option<Object> {
    let port = entrance.server.port.number;
    if routings.iter().any(|routing| routing.routes_gateway(&entrance.name, port)) {
        return None;
    }
    let (namespace, name) = entrance.name.split_once('/')?;
    let hosts: Vec<&str> =
        entrance.server.hosts.iter().map(|host| host.rsplit('/').next().unwrap_or(host)).collect();
    let destination = json!({"host": entrance.plan.host, "port": {"number": entrance.plan.port}});
    let spec = json!({
        "hosts": hosts,
        "gateways": [entrance.name],
        "tcp": [{"match": [{"port": port}], "route": [{"destination": destination}]}],
    });
    Some(Object::virtual_service(namespace, format!("meltemi-gateway-{name}-{port}"), spec.into()))
}
