//! Which ports are proxied as Redis.

use std::collections::BTreeSet;

use crate::generate::host;
use crate::generate::protocol::Protocol;
use crate::generate::service::Service;
use crate::world::World;

/// The hosts that somebody wrote a RedisService or RedisDestination of, with the namespace of the resource.
///
/// Istio's naming rules suggest `tcp-redis` for any port of Redis, and a proxy that reads commands carries fewer of them than a
/// plain one: so a port's name alone asks for nothing.
#[derive(Debug)]
pub(in crate::generate) struct Asked(BTreeSet<(String, String)>);

impl Asked {
    pub(in crate::generate) fn new(world: &World, domain: &str) -> Self {
        let of_services = world.redis_services.iter().flat_map(|resource| {
            resource.spec.host.iter().map(move |host| (host, resource.metadata.namespace.as_deref()))
        });
        let of_destinations = world
            .redis_destinations
            .iter()
            .map(|resource| (&resource.spec.host, resource.metadata.namespace.as_deref()));
        let all = of_services.chain(of_destinations).map(|(host, namespace)| {
            let namespace = namespace.unwrap_or_default();
            (host::in_full(host, namespace, domain), namespace.to_owned())
        });
        Self(all.collect())
    }

    /// Decides on the ports of a service that are perhaps Redis.
    pub(in crate::generate) fn decide(&self, service: &mut Service) {
        let is_asked = self.0.contains(&(service.host.clone(), service.namespace.clone()));
        service.ports.retain_mut(|port| match port.protocol {
            Protocol::PerhapsRedis if is_asked => {
                port.protocol = Protocol::Redis;
                true
            }
            Protocol::PerhapsRedis => false,
            Protocol::Redis | Protocol::Codec(_) => true,
        });
    }
}
