//! Redis, which Envoy itself speaks: its own proxy in place of the tunnel, in the sidecars of the clients.
//!
//! Servers keep plain TCP. Passwords and faults are therefore those of clients with a sidecar; whoever has none meets the
//! server's own password.

mod auth;
mod destination;
mod filter;
mod hosts;

use std::collections::BTreeMap;
use std::sync::Arc;

use self::auth::Secrets;
use self::destination::{Destinations, Target};
use self::filter::Rules;
use self::hosts::Hosts;
use super::claims::Claims;
use super::client::{Clients, Seen};
use super::exports::Exports;
use super::group::{Group, Patch, Patches};
use super::host;
use super::mesh::Mesh;
use super::object::Object;
use super::options::Options;
use super::protocol::Protocol;
use super::report::Reports;
use super::service::Service;
use super::sockets::Proxies;
use super::tree::Part;
use super::visibility::Visibility;
use crate::api::aeraki::RedisService;
use crate::check;
use crate::findings::ResourceRef;
use crate::world::World;

/// What the clients of the Redis services get, by what the services are.
///
/// By service and port. Those that are not here stay plain TCP.
#[derive(Debug)]
pub(super) struct Redis(BTreeMap<(usize, u16), Proxy>);

/// A cluster that a proxy leads to.
#[derive(Debug)]
struct Cluster {
    name: Arc<str>,
    /// It is of the proxy's own service.
    is_own: bool,
    patch: Part,
    /// The namespaces that may see its host. The patch holds its password, which is nobody else's concern.
    exports: Exports,
}

/// The proxy of one port of a service.
#[derive(Debug)]
struct Proxy {
    /// The patches that put the filter in place of tcp_proxy, on each listener.
    patches: Patches,
    clusters: Vec<Cluster>,
}

impl Redis {
    /// Reads what there is on Redis.
    pub(super) fn new(
        world: &World,
        options: &Options,
        mesh: &Mesh,
        services: &[Service],
        reports: &mut Reports,
    ) -> Self {
        let domain = &*options.cluster_domain;
        let secrets = Secrets::new(world, options.any_secret);
        let hosts = Hosts::new(world, domain, mesh.services);
        let mut destinations = Destinations::new(world, domain, &hosts, &secrets, reports);
        let rules = rules(world, domain, services, &hosts, reports);
        let mut proxies = BTreeMap::new();
        for service in services {
            for port in service.ports.iter().filter(|port| port.protocol == Protocol::Redis) {
                let resource = match rules.get(&service.id) {
                    // What may ask for a password and cannot be honoured must not be passed over.
                    Some(None) => continue,
                    resource => resource.copied().flatten(),
                };
                let rules = Rules { resource, service, port: port.number, domain };
                let Some((filter, targets)) = rules.filter(&mut destinations, &hosts, &secrets, reports)
                else {
                    continue;
                };
                let listeners = service.listeners(port.number).into_iter();
                let patches = listeners.map(|listener| {
                    let patch = filter::on_listener(&listener, &filter).into();
                    Patch { about: listener.into(), shard: None, patch }
                });
                let cluster = |Target { host, name, patch, exports, .. }: Target| Cluster {
                    name: name.into(),
                    is_own: host == service.host,
                    patch: patch.into(),
                    exports,
                };
                let clusters = targets.into_iter().map(cluster).collect();
                proxies.insert((service.id, port.number), Proxy { patches: patches.collect(), clusters });
            }
        }
        destinations.report_unused(reports);
        Self(proxies)
    }

    /// The objects for the sidecars of a namespace: none if they see no Redis service.
    pub(super) fn objects<'a>(
        &self,
        namespace: &'a str,
        services: &'a [Service],
        claims: &Claims,
        visibility: &Visibility<'a>,
    ) -> Vec<Object> {
        let proxy = |service: &Service, port: u16| self.0.get(&(service.id, port));
        let clients = Clients::new(namespace, services, claims, visibility, |service, port| {
            port.protocol == Protocol::Redis && proxy(service, port.number).is_some()
        });
        let group = Group::new(namespace, Proxies::Sidecars, clients.scope(std::iter::empty()));
        let mut clusters: BTreeMap<&Arc<str>, &Cluster> = BTreeMap::new();
        // As with the tunnels, one EnvoyFilter for the services of each namespace.
        let mut patches: BTreeMap<&str, Patches> = BTreeMap::new();
        for Seen { service, port, listeners } in &clients.seen {
            let Some(proxy) = proxy(service, port.number) else { continue };
            for cluster in proxy.clusters.iter().filter(|cluster| cluster.exports.reach(namespace)) {
                let known = clusters.entry(&cluster.name).or_insert(cluster);
                // Others may mean another service by the host.
                if cluster.is_own {
                    *known = cluster;
                }
            }
            let on_own = |patch: &&Patch| listeners.iter().any(|own| **own == *patch.about);
            let on_own = proxy.patches.iter().filter(on_own).cloned();
            patches.entry(&service.namespace).or_default().extend(on_own);
        }
        let patch = |cluster: &Cluster| Patch {
            about: cluster.name.clone(),
            shard: None,
            patch: cluster.patch.clone(),
        };
        let clusters: Patches = clusters.into_values().map(patch).collect();
        let mut objects = group.tunnels("meltemi-redis", group.selector.as_ref(), clusters);
        for (of, patches) in patches {
            objects.extend(group.tunnels(&format!("meltemi-redis-{of}"), group.selector.as_ref(), patches));
        }
        objects
    }
}

/// The RedisService of each service: the first one of the service's own namespace; `None` if that is not in force.
fn rules<'a>(
    world: &'a World,
    domain: &str,
    services: &'a [Service],
    hosts: &Hosts<'_>,
    reports: &mut Reports,
) -> BTreeMap<usize, Option<&'a RedisService>> {
    let is_redis = |service: &&Service| service.ports.iter().any(|port| port.protocol == Protocol::Redis);
    let mut by_host: BTreeMap<&str, Vec<&Service>> = BTreeMap::new();
    for service in services.iter().filter(is_redis) {
        by_host.entry(&service.host).or_default().push(service);
    }
    let mut all: Vec<&RedisService> = world.redis_services.iter().collect();
    all.sort_by_key(|resource| (&resource.metadata.namespace, &resource.metadata.name));
    let mut rules = BTreeMap::new();
    let mut origins: BTreeMap<usize, ResourceRef> = BTreeMap::new();
    for resource in all {
        let origin = ResourceRef::of(resource);
        let is_in_force = reports.accepts(&origin, check::redis_service(resource));
        let namespace = resource.metadata.namespace.as_deref().unwrap_or_default();
        for (at, host) in resource.spec.host.iter().enumerate() {
            let path = format!("spec.host[{at}]");
            let in_full = host::in_full(host, namespace, domain);
            if let Some(own) = hosts.stranger(&in_full, namespace) {
                let message = format!("{in_full} belongs to namespace {own}; configure it there");
                reports.error(&origin, path, message);
                continue;
            }
            let of_host = by_host.get(&*in_full).map_or(&[][..], Vec::as_slice);
            let Some(service) = of_host.iter().find(|service| service.namespace == namespace) else {
                let message = format!(
                    "no service with a port of Redis has the host {host:?}: name one whose port is called tcp-redis or has \
                     the appProtocol meltemi.io/redis"
                );
                reports.error(&origin, path, message);
                continue;
            };
            if let Some(first) = origins.get(&service.id) {
                reports.warn(&origin, path, format!("{first} holds for {}", service.host));
            } else {
                origins.insert(service.id, origin.clone());
                rules.insert(service.id, is_in_force.then_some(resource));
            }
        }
    }
    rules
}
