//! What Istio's VirtualServices say of the routes to managed hosts.

mod faults;
mod matches;
mod mirrors;
mod policies;

use std::collections::BTreeMap;
use std::sync::Arc;

use meltemi_proxy::plan::raw;

use super::age::Age;
use super::draft::{Draft, Places, Target};
use super::exports::{Exports, Unsaid};
use super::host;
use super::object::MANAGED_BY;
use super::protocol::ManagedPort;
use super::report::{Remarks, Reports};
use super::trial::{self, Matchers, Refusal};
use crate::check::MOST_OF_NAMESPACE;
use crate::findings::ResourceRef;
use crate::istio::{Destination, HttpRoute, L4Match, RouteDestination, TcpRoute, VirtualService};
use crate::world::World;

/// A VirtualService whose hosts are in full.
#[derive(Debug)]
pub(super) struct Routing<'a> {
    /// Its place among all.
    pub(super) id: usize,
    pub(super) origin: ResourceRef,
    pub(super) namespace: &'a str,
    hosts: Vec<String>,
    pub(super) exports: Exports,
    age: Age,
    gateways: Vec<String>,
    http: &'a [HttpRoute],
    tcp: &'a [TcpRoute],
    domain: &'a str,
}

/// What a VirtualService says of calls.
#[derive(Debug, Default)]
pub(super) struct Calls {
    /// The routes, all of which the filter accepts.
    pub(super) drafts: Vec<Draft>,
    /// What the tables of their regular expressions take, in bytes.
    pub(super) tables: usize,
}

/// The sidecars, as the name of a gateway.
const MESH: &str = "mesh";

/// Every VirtualService that a person wrote, the oldest first. `unsaid` is for whom those are that do not.
pub(super) fn routings<'a>(world: &'a World, domain: &'a str, unsaid: Unsaid) -> Vec<Routing<'a>> {
    let is_own = |service: &&VirtualService| {
        service
            .metadata
            .labels
            .as_ref()
            .and_then(|labels| labels.get(MANAGED_BY.0))
            .is_some_and(|by| by == MANAGED_BY.1)
    };
    let written = world.virtual_services.iter().filter(|service| !is_own(service));
    let mut routings: Vec<Routing<'a>> =
        written.map(|service| Routing::new(service, domain, unsaid)).collect();
    routings.sort_by(|a, b| a.age.cmp(&b.age));
    routings.iter_mut().enumerate().for_each(|(id, routing)| routing.id = id);
    routings
}

impl<'a> Routing<'a> {
    fn new(service: &'a VirtualService, domain: &'a str, unsaid: Unsaid) -> Self {
        let origin = ResourceRef::of(service);
        let namespace = service.metadata.namespace.as_deref().unwrap_or_default();
        let spec = &service.spec;
        Self {
            id: 0,
            hosts: spec.hosts.iter().map(|host| host::in_full(host, namespace, domain)).collect(),
            exports: Exports::new(spec.export_to.iter().map(String::as_str), namespace, unsaid),
            age: Age::of(service),
            gateways: spec.gateways.iter().map(|gateway| qualified(gateway, namespace)).collect(),
            http: &spec.http,
            tcp: &spec.tcp,
            namespace,
            origin,
            domain,
        }
    }

    /// The hosts of the mesh, or patterns of them, that it is about for the sidecars.
    pub(super) fn hosts(&self) -> impl Iterator<Item = &String> {
        self.is_for(&self.gateways, MESH).then_some(&self.hosts).into_iter().flatten()
    }

    /// Whether it has routes of calls.
    pub(super) fn routes_calls(&self) -> bool {
        !self.http.is_empty()
    }

    /// How near it is to a client, the nearest first, as Istio looks: its namespace's own ones that others do not see, those
    /// that are exported to it by name, those that all see.
    pub(super) fn distance(&self, client: &str) -> u8 {
        match &self.exports {
            Exports::To(_) if self.namespace == client => 0,
            Exports::To(_) => 1,
            Exports::All => 2,
        }
    }

    /// How much the host that it has for `host` leaves open: nothing if it is the same.
    pub(super) fn breadth(&self, host: &str) -> usize {
        let matching = self.hosts.iter().filter(|own| host::matches(own, host));
        // A longer pattern leaves less open.
        let breadth = |own: &String| if own.starts_with('*') { usize::MAX - own.len() } else { 0 };
        matching.map(breadth).min().unwrap_or(usize::MAX)
    }

    /// Whether it routes the connections of a gateway's port.
    pub(super) fn routes_gateway(&self, gateway: &str, port: u16) -> bool {
        let takes = |route: &TcpRoute| {
            route.matches.is_empty()
                || route.matches.iter().any(|matches| {
                    matches.port.is_none_or(|only| only == port)
                        && (matches.gateways.is_empty()
                            || matches
                                .gateways
                                .iter()
                                .any(|of_match| qualified(of_match, self.namespace) == gateway))
                })
        };
        self.gateways.iter().any(|of_service| of_service == gateway) && self.tcp.iter().any(takes)
    }

    /// The weights of the connections from `client` to a port: the destinations that Istio would have chosen among. Says
    /// what of the matches cannot be honoured.
    pub(super) fn connections(&self, client: &str, port: &ManagedPort, reports: &mut Reports) -> Vec<Target> {
        for (at, route) in self.tcp.iter().enumerate() {
            let path = format!("spec.tcp[{at}]");
            let mut alternatives = route.matches.iter().enumerate();
            let takes = |(at, matches): (usize, &L4Match)| {
                let path = format!("{path}.match[{at}]");
                matches.port.is_none_or(|only| only == port.number)
                    && matches.source_namespace.as_deref().is_none_or(|only| only == client)
                    && self.is_for(&matches.gateways, MESH)
                    && self.is_told_apart(matches, &path, reports)
            };
            if route.matches.is_empty() || alternatives.any(takes) {
                let mut places = Places::new(path);
                places.note("cluster", "route");
                places.note("weightedClusters", "route");
                let destinations = self.targets(&route.route);
                let draft = Draft { destinations, places: Arc::new(places), ..Draft::default() };
                let Err(refusal) = trial::tables(&[&draft], port) else { return draft.destinations };
                self.leave_out(refusal, reports);
                return Vec::new();
            }
        }
        Vec::new()
    }

    /// Says that a route is left out.
    fn leave_out(&self, refusal: Refusal, reports: &mut Reports) {
        let message = format!("the route is left out, for proxies would refuse it: {}", refusal.message);
        reports.not_honoured(&self.origin, refusal.field, message);
    }

    fn is_told_apart(&self, matches: &L4Match, path: &str, reports: &mut Reports) -> bool {
        let unknown = [
            ("sourceLabels", !matches.source_labels.is_empty()),
            ("destinationSubnets", !matches.destination_subnets.is_empty()),
        ];
        for (field, _) in unknown.iter().filter(|(_, is_there)| *is_there) {
            let message = "not supported for plain TCP connections; this match never applies";
            reports.not_honoured(&self.origin, format!("{path}.{field}"), message);
        }
        unknown.iter().all(|(_, is_there)| !is_there)
    }

    /// Whether its routes of calls depend on the client's namespace.
    pub(super) fn asks_client(&self) -> bool {
        self.http.iter().flat_map(|route| &route.matches).any(|matches| matches.source_namespace.is_some())
    }

    /// The routes of the calls from `client` to a port. Says what of them cannot be honoured.
    pub(super) fn calls(&self, client: &str, port: &ManagedPort, reports: &mut Reports) -> Calls {
        let mut routes: Vec<Draft> = Vec::new();
        let mut tried = Matchers::default();
        for (at, route) in self.http.iter().enumerate() {
            let mut places = Places::new(format!("spec.http[{at}]"));
            let mut say = Remarks { origin: &self.origin, path: format!("spec.http[{at}]"), reports };
            let mut alternatives = Vec::new();
            for (at, matches) in route.matches.iter().enumerate() {
                let applies = matches.port.is_none_or(|only| only == port.number)
                    && matches.source_namespace.as_deref().is_none_or(|only| only == client)
                    && self.is_for(&matches.gateways, MESH);
                if tried.tables > MOST_OF_NAMESPACE {
                    // There is no room for it, whatever else it says.
                    return Calls { drafts: Vec::new(), tables: tried.tables };
                }
                let matchers =
                    applies.then(|| matches::matchers(matches, at, &mut tried, &mut say)).flatten();
                alternatives.extend(matchers.map(|matchers| (at, matchers)));
            }
            if alternatives.is_empty() && !route.matches.is_empty() {
                continue;
            }
            // An alternative without conditions takes every call, as a route without matches does.
            let takes_all =
                alternatives.is_empty() || alternatives.iter().any(|(_, matchers)| matchers.is_empty());
            for (alternative, (of_match, _)) in alternatives.iter().enumerate() {
                places.note(format!("match[{alternative}]"), format!("match[{of_match}]"));
            }
            let alternative = |(_, attributes): (usize, BTreeMap<String, raw::Matcher>)| {
                let attributes = attributes.into_iter().collect();
                raw::Match { attributes, ..raw::Match::default() }
            };
            let alternatives = alternatives.into_iter().map(alternative).collect();
            let mirrors = mirrors::mirrors(route, |to| self.target(to, 0), &mut say);
            for (number, mirror) in mirrors.iter().enumerate() {
                places.note(format!("mirrors[{number}]"), mirror.field.clone());
            }
            routes.push(Draft {
                name: policies::name(route, at, &mut say),
                alternatives: Some(alternatives).filter(|_| !takes_all),
                destinations: self.targets(&route.route),
                mirrors,
                policies: policies::policies(route, &port.protocol, &mut say, &mut places),
                places: Arc::new(places),
            });
            if takes_all {
                break;
            }
        }
        self.tried(routes, port, reports)
    }

    /// Leaves out the routes that the filter would refuse, and says why.
    fn tried(&self, drafts: Vec<Draft>, port: &ManagedPort, reports: &mut Reports) -> Calls {
        if let Ok(tables) = trial::tables(&drafts.iter().collect::<Vec<_>>(), port) {
            return Calls { drafts, tables };
        }
        let mut taken = Calls::default();
        for draft in drafts {
            match trial::tables(&[&draft], port) {
                Ok(tables) => {
                    taken.tables += tables;
                    taken.drafts.push(draft);
                }
                Err(refusal) => self.leave_out(refusal, reports),
            }
        }
        taken
    }

    /// Every destination with its path, those of copies too.
    pub(super) fn destinations(&self) -> impl Iterator<Item = (String, Target)> {
        let mirrors = self.http.iter().enumerate().flat_map(move |(at, route)| {
            let first = route.mirror.iter().map(|to| ("mirror".to_owned(), to));
            let others = route.mirrors.iter().enumerate();
            let others = others.map(|(at, one)| (format!("mirrors[{at}].destination"), &one.destination));
            first
                .chain(others)
                .map(move |(field, to)| (format!("spec.http[{at}].{field}"), self.target(to, 0)))
        });
        let http = self.http.iter().enumerate().map(|(at, route)| (format!("spec.http[{at}]"), &route.route));
        let tcp = self.tcp.iter().enumerate().map(|(at, route)| (format!("spec.tcp[{at}]"), &route.route));
        http.chain(tcp)
            .flat_map(|(path, route)| {
                let targets = self.targets(route).into_iter().enumerate();
                targets.map(move |(at, target)| (format!("{path}.route[{at}].destination"), target))
            })
            .chain(mirrors)
    }

    fn targets(&self, destinations: &[RouteDestination]) -> Vec<Target> {
        let target = |to: &RouteDestination| self.target(&to.destination, to.weight.unwrap_or_default());
        destinations.iter().map(target).collect()
    }

    fn target(&self, Destination { host, subset, port }: &Destination, weight: u32) -> Target {
        Target {
            host: host::in_full(host, self.namespace, self.domain),
            subset: subset.clone().filter(|subset| !subset.is_empty()),
            port: port.map(|port| port.number).filter(|&port| port != 0),
            weight,
        }
    }

    fn is_for(&self, gateways: &[String], wanted: &str) -> bool {
        gateways.is_empty() || gateways.iter().any(|gateway| gateway == wanted)
    }
}

fn qualified(gateway: &str, namespace: &str) -> String {
    match gateway == MESH || gateway.contains('/') {
        true => gateway.to_owned(),
        false => format!("{namespace}/{gateway}"),
    }
}
