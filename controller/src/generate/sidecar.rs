//! What the sidecars of one namespace get.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use super::Options;
use super::group::{Group, Patches, Shards};
use super::object::Object;
use super::plan::{Entry, Planner};
use super::protocol::Protocol;
use super::report::Reports;
use super::service::{Labels, ManagedPort, Service};
use super::sockets::Proxies;
use super::tunnel::{Tunnel, original_destination};
use super::visibility::Visibility;

/// The objects for the sidecars of a namespace: none if they see no managed service and serve none.
pub(super) fn objects<'a>(
    namespace: &'a str,
    services: &'a [Service],
    visibility: &Visibility<'a>,
    planner: &mut Planner<'_>,
    options: &Options,
    reports: &mut Reports,
) -> Vec<Object> {
    let clients = Clients::new(namespace, services, visibility);
    let servers = servers(namespace, services, visibility);
    let mut group = Group::new(namespace, Proxies::Sidecars, scope(&clients, &servers));
    for (service, port) in &clients.seen {
        group.add(authority(service, port.number), planner.outbound(namespace, service, port, reports));
    }
    for (service, codec, target) in &servers {
        group.add(inbound_authority(service, *target), Entry::new(json!({"protocol": codec})));
    }
    if group.is_empty() {
        return Vec::new();
    }
    let shards = group.shards();
    let mut objects = group.objects(&shards, options);
    objects.extend(outbound(&group, &shards, &clients));
    objects.extend(inbound(&group, &shards, &servers));
    objects
}

/// The authority of the tunnels to a port of a service.
fn authority(service: &Service, port: u16) -> String {
    format!("{}:{port}", service.host)
}

/// The authority of the tunnels from clients of a service's pods.
fn inbound_authority(service: &Service, target: u16) -> String {
    format!("inbound.{}:{target}", service.host)
}

/// What the sidecars of a namespace see.
struct Clients<'a> {
    seen: Vec<(&'a Service, &'a ManagedPort)>,
    /// Sidecars without a Sidecar of their own see something.
    is_everyone: bool,
    /// The labels of those that see something by a Sidecar of their own.
    selectors: BTreeSet<&'a Labels>,
}

impl<'a> Clients<'a> {
    fn new(namespace: &'a str, services: &'a [Service], visibility: &Visibility<'a>) -> Self {
        let everyone = visibility.of_namespace(namespace);
        let selected: Vec<_> = visibility.of_selected(namespace).collect();
        let mut clients = Self { seen: Vec::new(), is_everyone: false, selectors: BTreeSet::new() };
        let mut listeners = BTreeSet::new();
        for service in services {
            for port in service.ports.iter().filter(|port| matches!(port.protocol, Protocol::Codec(_))) {
                let by_everyone = everyone.sees(service, port.number);
                let by_selected = selected.iter().filter(|(_, view)| view.sees(service, port.number));
                let by_selected: Vec<&Labels> = by_selected.map(|(labels, _)| *labels).collect();
                if !by_everyone && by_selected.is_empty() {
                    continue;
                }
                // Of several services on one address and port, Istio listens for one.
                let own = service.listeners(port.number);
                if own.is_empty() || own.iter().any(|listener| listeners.contains(listener)) {
                    continue;
                }
                listeners.extend(own);
                clients.seen.push((service, port));
                clients.is_everyone |= by_everyone;
                clients.selectors.extend(by_selected);
            }
        }
        clients
    }
}

type Server<'a> = (&'a Service, &'a str, u16);

/// The services whose pods are of a namespace, by the ports of the pods. Of services that share pods and port, the one
/// with the widest selector stands for all.
fn servers<'a>(namespace: &str, services: &'a [Service], visibility: &Visibility<'_>) -> Vec<Server<'a>> {
    let mut own: Vec<(&Service, &Labels)> = services
        .iter()
        .filter(|service| service.namespace == namespace)
        .filter_map(|service| Some((service, service.selector.as_ref()?)))
        .collect();
    own.sort_by_key(|(_, selector)| selector.len());
    let mut servers: Vec<Server<'a>> = Vec::new();
    for (service, selector) in own {
        for port in &service.ports {
            let Protocol::Codec(codec) = &port.protocol else { continue };
            for &target in &port.targets {
                let covers = |(other, _, of_other): &Server<'_>| {
                    let wider =
                        other.selector.iter().flatten().all(|(key, value)| selector.get(key) == Some(value));
                    *of_other == target && wider
                };
                if !servers.iter().any(covers) && !visibility.has_own_ingress(service, target) {
                    servers.push((service, codec, target));
                }
            }
        }
    }
    servers
}

/// The labels of the sidecars that have anything managed, if they have labels of their own: one selector says so.
/// Otherwise it is all of the namespace: selectors that select the same pod would give it the sockets twice.
fn scope(clients: &Clients<'_>, servers: &[Server<'_>]) -> Option<Labels> {
    if clients.is_everyone {
        return None;
    }
    let of_servers = servers.iter().filter_map(|(service, ..)| service.selector.as_ref());
    let mut selectors: BTreeSet<&Labels> = of_servers.chain(clients.selectors.iter().copied()).collect();
    let first = selectors.pop_first()?;
    selectors.is_empty().then(|| first.clone())
}

fn outbound(group: &Group<'_>, shards: &Shards, clients: &Clients<'_>) -> Vec<Object> {
    // One EnvoyFilter for the services of each namespace, so that a change of one leaves the others alone.
    let mut patches: BTreeMap<&str, Patches> = BTreeMap::new();
    for (service, port) in &clients.seen {
        let authority = authority(service, port.number);
        let shard = shards.of(&authority);
        let of_namespace = patches.entry(&service.namespace).or_default();
        let tunnel = Tunnel {
            authority: &authority,
            shard: &shard,
            cluster: &service.cluster(port.number, None),
            is_original_destination: service.is_original_destination,
            tells_identity: false,
        };
        for listener in service.listeners(port.number) {
            of_namespace.push((listener.clone(), tunnel.on_listener(Proxies::Sidecars, &listener)));
        }
        if service.is_original_destination {
            let clusters = json!({"service": service.host, "portNumber": port.number});
            of_namespace.push((authority.clone(), original_destination("SIDECAR_OUTBOUND", clusters)));
        }
    }
    let object = |(namespace, patches)| {
        let name = format!("{}-outbound-{namespace}", group.base());
        group.tunnels(&name, group.selector.as_ref(), patches)
    };
    patches.into_iter().flat_map(object).collect()
}

fn inbound(group: &Group<'_>, shards: &Shards, servers: &[Server<'_>]) -> Vec<Object> {
    let mut patches: BTreeMap<(String, Option<&Labels>), Patches> = BTreeMap::new();
    let mut clusters = BTreeSet::new();
    for (service, _, target) in servers {
        let authority = inbound_authority(service, *target);
        let cluster = format!("inbound|{target}||");
        let tunnel = Tunnel {
            authority: &authority,
            shard: &shards.of(&authority),
            cluster: &cluster,
            is_original_destination: true,
            tells_identity: true,
        };
        let kind = if service.origin.kind == "Service" { "" } else { "entry-" };
        let name = format!("{}-inbound-{kind}{}", group.base(), service.origin.name);
        let of_service = patches.entry((name, service.selector.as_ref())).or_default();
        of_service.push((authority.clone(), tunnel.on_inbound(*target)));
        if clusters.insert((service.selector.as_ref(), *target)) {
            of_service.push((authority, original_destination("SIDECAR_INBOUND", json!({"name": cluster}))));
        }
    }
    let object =
        |((name, selector), patches): ((String, Option<&Labels>), _)| group.tunnels(&name, selector, patches);
    patches.into_iter().flat_map(object).collect()
}
