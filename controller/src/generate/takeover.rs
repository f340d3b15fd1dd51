//! Which ports are managed, for people who want to know that first.

use std::collections::BTreeSet;

use super::claims::Claims;
use super::mesh::Mesh;
use super::options::Options;
use super::protocol::{self, Protocol, Protocols};
use super::report::Reports;
use super::service;
use crate::world::World;

/// A port of a service that is managed, or that might be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Takeover {
    /// The namespace of the service.
    pub namespace: String,
    /// The host of the service, in full.
    pub host: String,
    /// The number of the port.
    pub port: u16,
    /// The protocol that its connections are read as.
    pub protocol: String,
    /// Whether they are. Where not, the port is called as one of Redis, and no resource asks for more.
    pub is_managed: bool,
}

/// The ports that are managed in a world, and those of Redis that are not, in order.
pub fn takeovers(world: &World, options: &Options) -> Vec<Takeover> {
    // What is wrong with resources, the generator says.
    let mut reports = Reports::default();
    let domain = &*options.cluster_domain;
    let protocols = Protocols::new(world, &options.codecs, &mut reports);
    let mut takeovers = BTreeSet::new();
    let mut managed = BTreeSet::new();
    let mesh = Mesh::new(world, &options.root_namespace, &mut reports);
    let services = service::all(world, domain, &mesh, &protocols, &mut reports);
    let (services, claims) = Claims::new(services, &mut reports);
    for service in services.iter().filter(|service| claims.owner(&services, service).id == service.id) {
        for port in &service.ports {
            managed.insert((service.host.clone(), port.number));
            takeovers.insert(Takeover {
                namespace: service.namespace.clone(),
                host: service.host.clone(),
                port: port.number,
                protocol: match &port.protocol {
                    Protocol::Codec(reader) => reader.protocol().to_owned(),
                    Protocol::Redis | Protocol::PerhapsRedis => REDIS.to_owned(),
                },
                is_managed: true,
            });
        }
    }
    let left = |namespace: &str, host: &str, port: u16| Takeover {
        namespace: namespace.to_owned(),
        host: host.to_owned(),
        port,
        protocol: REDIS.to_owned(),
        is_managed: false,
    };
    for service in &world.services {
        let (name, namespace) = (service.metadata.name.as_deref(), service.metadata.namespace.as_deref());
        let (Some(name), Some(namespace), Some(spec)) = (name, namespace, &service.spec) else { continue };
        let host = format!("{name}.{namespace}.svc.{domain}");
        let called = spec.ports.iter().flatten().filter(|port| {
            port.app_protocol.is_none() && port.name.as_deref().is_some_and(protocol::is_called_redis)
        });
        takeovers
            .extend(called.filter_map(|port| Some(left(namespace, &host, u16::try_from(port.port).ok()?))));
    }
    for entry in &world.service_entries {
        let namespace = entry.metadata.namespace.as_deref().unwrap_or_default();
        let called = entry.spec.ports.iter().filter(|port| protocol::is_called_redis(&port.name));
        takeovers.extend(
            called.flat_map(|port| entry.spec.hosts.iter().map(|host| left(namespace, host, port.number))),
        );
    }
    takeovers.retain(|port| port.is_managed || !managed.contains(&(port.host.clone(), port.port)));
    takeovers.into_iter().collect()
}

const REDIS: &str = "redis";
