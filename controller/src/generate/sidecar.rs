//! What the sidecars of one namespace get.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use serde_json::json;

use super::Options;
use super::authorization::{self, Authorization, Policies};
use super::claims::Claims;
use super::client::{Clients, Seen};
use super::group::{Group, Patches, Shards};
use super::object::Object;
use super::plan::Planner;
use super::protocol::Protocol;
use super::report::Reports;
use super::service::{Labels, ManagedPort, Service};
use super::sockets::Proxies;
use super::tunnel::{self, TELLS_IDENTITY, Tunnel, original_destination};
use super::visibility::Visibility;

/// Makes the objects for sidecars.
#[derive(Debug)]
pub(super) struct Sidecars<'a> {
    services: &'a [Service],
    claims: &'a Claims,
    visibility: &'a Visibility<'a>,
    authorization: &'a Authorization<'a>,
    options: &'a Options,
    /// What leads clients to a port of a service: most namespaces have the same.
    ways: HashMap<Way, Patches>,
}

/// What a way depends on: the service, its port, the listeners and the shard.
type Way = (usize, u16, Vec<String>, String);

impl<'a> Sidecars<'a> {
    pub(super) fn new(
        services: &'a [Service],
        claims: &'a Claims,
        visibility: &'a Visibility<'a>,
        authorization: &'a Authorization<'a>,
        options: &'a Options,
    ) -> Self {
        Self { services, claims, visibility, authorization, options, ways: HashMap::new() }
    }

    /// The objects for the sidecars of a namespace: none if they see no managed service and serve none.
    pub(super) fn objects(
        &mut self,
        namespace: &'a str,
        planner: &mut Planner<'_>,
        reports: &mut Reports,
    ) -> Vec<Object> {
        let has_codec = |_: &Service, port: &ManagedPort| matches!(port.protocol, Protocol::Codec(_));
        let clients = Clients::new(namespace, self.services, self.claims, self.visibility, has_codec);
        let servers = servers(namespace, self.services, self.visibility);
        let scope = clients.scope(servers.iter().filter_map(|(service, ..)| service.selector.as_ref()));
        let mut group = Group::new(namespace, Proxies::Sidecars, scope);
        for Seen { service, port, .. } in &clients.seen {
            group.add(authority(service, port.number), planner.outbound(&clients, service, port, reports));
        }
        let policies = self.authorization.of(namespace);
        for (service, codec, target) in &servers {
            let entry = match policies {
                Some(policies) if *codec == authorization::CODEC => {
                    group.fails_closed = true;
                    if let Some(entry) = &policies.entry_without_identity {
                        group.add(unidentified_authority(service, *target), entry.clone());
                    }
                    policies.entry.clone()
                }
                _ => json!({"protocol": codec}).into(),
            };
            group.add(inbound_authority(service, *target), entry);
        }
        if let Some(policies) = policies {
            report_unguarded(policies, namespace, self.services, &servers, reports);
        }
        if group.is_empty() {
            return Vec::new();
        }
        let shards = group.shards();
        let mut objects = group.objects(&shards, self.options);
        objects.extend(self.outbound(&group, &shards, &clients));
        objects.extend(inbound(&group, &shards, &servers, policies, self.options));
        objects
    }

    fn outbound(&mut self, group: &Group<'_>, shards: &Shards, clients: &Clients<'_>) -> Vec<Object> {
        // One EnvoyFilter for the services of each namespace, so that a change of one leaves the others alone.
        let mut patches: BTreeMap<&str, Patches> = BTreeMap::new();
        for seen in &clients.seen {
            let Seen { service, port, listeners } = seen;
            let authority = authority(service, port.number);
            let shard = shards.of(&authority);
            let way = self.ways.entry((service.id, port.number, listeners.clone(), shard.clone()));
            let way = way.or_insert_with(|| way_to(seen, &authority, &shard));
            patches.entry(&service.namespace).or_default().extend(way.iter().cloned());
        }
        let object = |(namespace, patches)| {
            let name = format!("{}-outbound-{namespace}", group.base());
            group.tunnels(&name, group.selector.as_ref(), patches)
        };
        patches.into_iter().flat_map(object).collect()
    }
}

/// The patches that lead clients to a port of a service.
fn way_to(seen: &Seen<'_>, authority: &Arc<str>, shard: &str) -> Patches {
    let (service, port) = (seen.service, seen.port.number);
    let tunnel = Tunnel {
        authority,
        shard,
        cluster: &service.cluster(port, None),
        is_original_destination: service.is_original_destination,
        tells_identity: false,
    };
    let on_listener = |listener: &String| {
        let patch = tunnel.on_listener(Proxies::Sidecars, listener);
        (listener.as_str().into(), patch.into())
    };
    let mut patches: Patches = seen.listeners.iter().map(on_listener).collect();
    if service.is_original_destination {
        let clusters = json!({"service": service.host, "portNumber": port});
        patches.push((authority.clone(), original_destination("SIDECAR_OUTBOUND", clusters).into()));
    }
    patches
}

/// The authority of the tunnels to a port of a service.
fn authority(service: &Service, port: u16) -> Arc<str> {
    format!("{}:{port}", service.host).into()
}

/// The authority of the tunnels from clients of a service's pods.
fn inbound_authority(service: &Service, target: u16) -> Arc<str> {
    format!("inbound.{}:{target}", service.host).into()
}

/// The authority of those whose sidecars are too old to tell who calls.
fn unidentified_authority(service: &Service, target: u16) -> Arc<str> {
    format!("unidentified.{}", inbound_authority(service, target)).into()
}

type Server<'a> = (&'a Service, &'a str, u16);

/// The services whose pods are of a namespace, by the ports of the pods. Of services that share pods and port, the one
/// with the widest selector stands for all.
fn servers<'a>(namespace: &str, services: &'a [Service], visibility: &Visibility<'_>) -> Vec<Server<'a>> {
    let mut own: Vec<&Service> = services
        .iter()
        .filter(|service| service.namespace == namespace && service.selector.is_some())
        .collect();
    own.sort_by_key(|service| service.selector.as_ref().map(Labels::len));
    let mut servers: Vec<Server<'a>> = Vec::new();
    for service in own {
        for port in &service.ports {
            let Protocol::Codec(codec) = &port.protocol else { continue };
            for &target in &port.targets {
                let is_covered = servers.iter().any(|server| covers(server, service, target));
                if !is_covered && !visibility.has_own_ingress(service, target) {
                    servers.push((service, codec, target));
                }
            }
        }
    }
    servers
}

/// Says which Dubbo services of a namespace are called past its policies.
fn report_unguarded(
    policies: &Policies,
    namespace: &str,
    services: &[Service],
    servers: &[Server<'_>],
    reports: &mut Reports,
) {
    let mut any = false;
    for service in services.iter().filter(|service| service.namespace == namespace) {
        let is_dubbo =
            |protocol: &Protocol| matches!(protocol, Protocol::Codec(codec) if codec == authorization::CODEC);
        for port in service.ports.iter().filter(|port| is_dubbo(&port.protocol)) {
            any = true;
            let is_guarded = |target: &u16| servers.iter().any(|server| covers(server, service, *target));
            if port.targets.is_empty() || !port.targets.iter().all(is_guarded) {
                let message = format!(
                    "not enforced for port {} of {}: no pods of the namespace are known to serve it, or a Sidecar says \
                     how they are called",
                    port.number, service.host
                );
                policies.report(&message, reports);
            }
        }
    }
    if !any {
        policies.report("the namespace has no managed Dubbo service", reports);
    }
}

/// Whether the tunnel of a server is also that of another service's pods on a port.
fn covers((server, _, of_server): &Server<'_>, service: &Service, target: u16) -> bool {
    let (Some(wide), Some(narrow)) = (&server.selector, &service.selector) else { return false };
    *of_server == target && wide.iter().all(|(key, value)| narrow.get(key) == Some(value))
}

fn inbound(
    group: &Group<'_>,
    shards: &Shards,
    servers: &[Server<'_>],
    policies: Option<&Policies>,
    options: &Options,
) -> Vec<Object> {
    let ask_who = policies.is_some_and(|policies| policies.entry_without_identity.is_some());
    let mut patches: BTreeMap<(String, Option<&Labels>), Patches> = BTreeMap::new();
    let mut clusters = BTreeSet::new();
    for (service, codec, target) in servers {
        let authority = inbound_authority(service, *target);
        let cluster = format!("inbound|{target}||");
        let tunnel = Tunnel {
            authority: &authority,
            shard: &shards.of(&authority),
            cluster: &cluster,
            is_original_destination: true,
            tells_identity: options.istio_version >= TELLS_IDENTITY,
        };
        let kind = if service.origin.kind == "Service" { "" } else { "entry-" };
        let name = format!("{}-inbound-{kind}{}", group.base(), service.origin.name);
        let of_service = patches.entry((name, service.selector.as_ref())).or_default();
        of_service.push((authority.clone(), tunnel.on_inbound(*target).into()));
        if ask_who && *codec == authorization::CODEC {
            let unidentified = unidentified_authority(service, *target);
            let patch = tunnel::without_identity(*target, &unidentified, &shards.of(&unidentified));
            of_service.push((authority.clone(), patch.into()));
        }
        if clusters.insert((service.selector.as_ref(), *target)) {
            let clusters = json!({"name": cluster});
            of_service.push((authority, original_destination("SIDECAR_INBOUND", clusters).into()));
        }
    }
    let object =
        |((name, selector), patches): ((String, Option<&Labels>), _)| group.tunnels(&name, selector, patches);
    patches.into_iter().flat_map(object).collect()
}
