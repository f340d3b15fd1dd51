//! What is said to the clients of a gateway, by the routers that name it.

use std::collections::BTreeMap;

use meltemi_proxy::plan::raw;

use super::{Planner, traced};
use crate::generate::age::Age;
use crate::generate::claims::Claims;
use crate::generate::protocol::{ManagedPort, Protocol};
use crate::generate::report::Reports;
use crate::generate::room::Left;
use crate::generate::router::Router;
use crate::generate::routes::{self, Share};
use crate::generate::service::Service;
use crate::generate::tracing::Tracing;
use crate::generate::tree::Part;
use crate::generate::wishes::Wishes;
use crate::istio::Server;

/// A port of a Gateway.
#[derive(Debug, Clone, Copy)]
pub(in crate::generate) struct GatewayPort<'a> {
    /// The Gateway, as `namespace/name`.
    pub(in crate::generate) name: &'a str,
    pub(in crate::generate) namespace: &'a str,
    pub(in crate::generate) server: &'a Server,
    /// How its calls are traced.
    pub(in crate::generate) tracing: Option<&'a Tracing>,
}

/// What holds for the calls of a gateway's clients.
#[derive(Debug)]
pub(in crate::generate) struct GatewayPlan {
    pub(in crate::generate) entry: Part,
    /// The namespace of its first router.
    pub(in crate::generate) namespace: String,
    /// The service that connections go to when there is no module.
    pub(in crate::generate) host: String,
    pub(in crate::generate) port: u16,
}

/// The clients of gateways, as those whose plan has room for expressions.
const GATEWAYS: &str = "";

impl Planner<'_> {
    /// What holds for the calls of a gateway's clients, by the routers that name it and may. `None` if none does.
    pub(in crate::generate) fn gateway(
        &mut self,
        entrance: &GatewayPort<'_>,
        services: &[Service],
        claims: &Claims,
        protocol: &Protocol,
        reports: &mut Reports,
    ) -> Option<GatewayPlan> {
        let mut bound: Vec<(usize, &Service, &ManagedPort)> = Vec::new();
        for service in services {
            let Some(port) = gateway_port(service, protocol, entrance.server.port.number) else { continue };
            // Of several with one host it is the owner's.
            if claims.owner(services, service).id == service.id {
                let routers = self.bound_to(entrance, service, reports).into_iter();
                bound.extend(routers.map(|at| (at, service, port)));
            }
        }
        // The gateway's own namespace first, then who was there first.
        let mut since: BTreeMap<&str, &Age> = BTreeMap::new();
        for (at, ..) in &bound {
            let Router { namespace, age, .. } = &self.routers[*at];
            let first = since.entry(namespace).or_insert(age);
            *first = age.min(first);
        }
        bound.sort_by_cached_key(|(at, ..)| {
            let namespace = &*self.routers[*at].namespace;
            (namespace != entrance.namespace, since.get(namespace).copied().cloned())
        });
        let owner = self.routers[bound.first()?.0].namespace.clone();
        let mut left = Left::new();
        bound.retain(|&(at, _, port)| self.admits(at, port, GATEWAYS, &mut left, reports));
        let &(first, service, port) = bound.first()?;
        let sizes = bound.iter().map(|(_, service, _)| service.wishes);
        let wishes = Wishes::least(sizes);
        let mut namespaces: Vec<&str> = Vec::new();
        let share = |(at, ..): (usize, &Service, &ManagedPort)| {
            let router = &self.routers[at];
            if namespaces.last() != Some(&&*router.namespace) {
                namespaces.push(&router.namespace);
            }
            Share::of_router(router, namespaces.len(), router.namespace == owner)
        };
        let mut shares: Vec<Share<'_>> = bound.into_iter().map(share).collect();
        let about = format!("port {} of the Gateway {}", entrance.server.port.number, entrance.name);
        let traced = entrance.tracing.and_then(|tracing| traced(tracing, port, reports));
        let traced = traced.filter(|traced| traced.fits(&shares, &about, reports));
        let finish = |entry: &mut raw::Service| {
            if let Some(traced) = traced {
                traced.put(entry);
            }
            wishes.put(entry);
            self.subsets.put(entrance.namespace, (service, port.number), entry);
        };
        let entry = routes::entry(&mut shares, &[], &about, (port, &finish), reports);
        let namespace = self.routers[first].namespace.clone();
        let plan = GatewayPlan { entry, namespace, host: service.host.clone(), port: port.number };
        (!shares.is_empty()).then_some(plan)
    }

    /// The routers of a service that name a gateway, as far as that admits them.
    fn bound_to(&self, entrance: &GatewayPort<'_>, service: &Service, reports: &mut Reports) -> Vec<usize> {
        let GatewayPort { name, namespace, server, .. } = *entrance;
        let names_it = |router: &Router| router.gateways.iter().any(|named| named == name);
        for router in self.by_host.get(&service.host).into_iter().flatten().map(|&at| &self.routers[at]) {
            if names_it(router) && !server.admits(namespace, &router.namespace) {
                let message = format!(
                    "port {} of the Gateway {name} admits no router of {}: its hosts name other namespaces",
                    server.port.number, router.namespace
                );
                reports.warn(&router.origin, "spec.gateways", message);
            }
        }
        let is_bound = |router: &Router| names_it(router) && server.admits(namespace, &router.namespace);
        self.routers_of(namespace, service, is_bound)
    }
}

/// The port of a service that a gateway's clients are led to: the one with the server's number, else the first one of the
/// protocol.
fn gateway_port<'s>(service: &'s Service, protocol: &Protocol, server_port: u16) -> Option<&'s ManagedPort> {
    let mut ports = service.ports.iter().filter(|port| port.protocol == *protocol);
    ports.clone().find(|port| port.number == server_port).or_else(|| ports.next())
}
