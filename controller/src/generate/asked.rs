//! Which services are asked to be proxied as Redis.

use std::collections::BTreeSet;

use super::host;
use crate::world::World;

/// The hosts that somebody wrote a RedisService or RedisDestination of, with the namespace of the resource.
///
/// Istio's naming rules suggest `tcp-redis` for any port of Redis, and a proxy that reads commands carries fewer of them than a
/// plain one: so a port's name alone asks for nothing.
#[derive(Debug)]
pub(super) struct Asked(BTreeSet<(String, String)>);

impl Asked {
    pub(super) fn new(world: &World, domain: &str) -> Self {
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

    /// Whether they have the host of a namespace's service.
    pub(super) fn names(&self, host: &str, namespace: &str) -> bool {
        self.0.contains(&(host.to_owned(), namespace.to_owned()))
    }
}
