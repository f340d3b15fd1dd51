//! What Istio's VirtualServices say of the routes to managed hosts.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::age::Age;
use super::host;
use super::object::MANAGED_BY;
use super::report::{Reports, ResourceRef};
use super::router::{Draft, Target, attachments, duration};
use super::visibility::{Exports, Unsaid};
use crate::istio::{
    Destination, Headers, HttpMatch, HttpRetry, HttpRoute, L4Match, RouteDestination, StringMatch, TcpRoute,
    VirtualService,
};
use crate::world::World;

/// A VirtualService whose hosts are in full.
#[derive(Debug)]
pub(super) struct Routing<'a> {
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

/// The sidecars, as the name of a gateway.
const MESH: &str = "mesh";

/// Every VirtualService that a person wrote, the oldest first. `unsaid` tells for whom those are that do not.
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
    routings
}

impl<'a> Routing<'a> {
    fn new(service: &'a VirtualService, domain: &'a str, unsaid: Unsaid) -> Self {
        let origin = ResourceRef::of(service);
        let namespace = service.metadata.namespace.as_deref().unwrap_or_default();
        let spec = &service.spec;
        Self {
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
    pub(super) fn connections(&self, client: &str, port: u16, reports: &mut Reports) -> Vec<Target> {
        for (at, route) in self.tcp.iter().enumerate() {
            let path = format!("spec.tcp[{at}]");
            let mut alternatives = route.matches.iter().enumerate();
            let takes = |(at, matches): (usize, &L4Match)| {
                let path = format!("{path}.match[{at}]");
                matches.port.is_none_or(|only| only == port)
                    && matches.source_namespace.as_deref().is_none_or(|only| only == client)
                    && self.is_for(&matches.gateways, MESH)
                    && self.is_told_apart(matches, &path, reports)
            };
            if route.matches.is_empty() || alternatives.any(takes) {
                return self.targets(&route.route);
            }
        }
        Vec::new()
    }

    fn is_told_apart(&self, matches: &L4Match, path: &str, reports: &mut Reports) -> bool {
        let unknown = [
            ("sourceLabels", !matches.source_labels.is_empty()),
            ("destinationSubnets", !matches.destination_subnets.is_empty()),
        ];
        for (field, _) in unknown.iter().filter(|(_, is_there)| *is_there) {
            let message = "connections cannot be told by it: this match takes none";
            reports.not_honoured(&self.origin, format!("{path}.{field}"), message);
        }
        unknown.iter().all(|(_, is_there)| !is_there)
    }

    /// The routes of the calls from `client` to a port. Says what of them cannot be honoured.
    pub(super) fn calls(&self, client: &str, port: u16, reports: &mut Reports) -> Vec<Draft> {
        let mut drafts = Vec::new();
        for (at, route) in self.http.iter().enumerate() {
            let path = format!("spec.http[{at}]");
            let alternatives = match route.matches.is_empty() {
                true => None,
                false => {
                    let mut alternatives = Vec::new();
                    for (at, matches) in route.matches.iter().enumerate() {
                        let path = format!("{path}.match[{at}]");
                        let applies = matches.port.is_none_or(|only| only == port)
                            && matches.source_namespace.as_deref().is_none_or(|only| only == client)
                            && self.is_for(&matches.gateways, MESH);
                        if applies && self.is_understood(matches, &path, reports) {
                            alternatives.push(matchers(matches));
                        }
                    }
                    if alternatives.is_empty() {
                        continue;
                    }
                    // An alternative without conditions takes every call, as a route without matches does.
                    (!alternatives.iter().any(Map::is_empty)).then_some(alternatives)
                }
            };
            let takes_all = alternatives.is_none();
            let name = if route.name.is_empty() { at.to_string() } else { route.name.clone() };
            let policies = self.policies(route, &path, reports);
            drafts.push(Draft { name, alternatives, destinations: self.targets(&route.route), policies });
            if takes_all {
                break;
            }
        }
        drafts
    }

    fn is_understood(&self, matches: &HttpMatch, path: &str, reports: &mut Reports) -> bool {
        let mut unknown: Vec<String> = matches
            .others
            .keys()
            .filter(|field| !matches!(&***field, "statPrefix" | "ignoreUriCase"))
            .cloned()
            .collect();
        if !matches.source_labels.is_empty() {
            unknown.push("sourceLabels".to_owned());
        }
        for field in &unknown {
            let message = "calls of RPC protocols cannot be told by it: this match takes none";
            reports.not_honoured(&self.origin, format!("{path}.{field}"), message);
        }
        unknown.is_empty()
    }

    fn policies(&self, route: &HttpRoute, path: &str, reports: &mut Reports) -> Map<String, Value> {
        let mut policies = Map::new();
        let timeout = route.timeout.as_deref().and_then(duration);
        policies.extend(timeout.map(|timeout| ("timeout".to_owned(), timeout.into())));
        if let Some(retries) = route.retries.as_ref().filter(|retries| retries.attempts > 0) {
            policies.insert("retry".into(), self.retry(retries, path, reports));
        }
        let mut not_yet = |there: bool, field: &str, message: &str| {
            if there {
                reports.not_honoured(&self.origin, format!("{path}.{field}"), message);
            }
        };
        not_yet(route.mirror.is_some() || !route.mirrors.is_empty(), "mirror", "calls are not mirrored yet");
        not_yet(route.fault.is_some(), "fault", "faults are not injected yet");
        for (at, destination) in route.route.iter().enumerate() {
            let field = format!("route[{at}].headers");
            not_yet(
                destination.headers.is_some(),
                &field,
                "attachments are changed by the headers of the route alone",
            );
        }
        for field in route.others.keys() {
            not_yet(true, field, "calls of RPC protocols have nothing of the kind");
        }
        if let Some(headers) = &route.headers {
            policies.extend(edits(headers));
        }
        policies
    }

    fn retry(&self, retries: &HttpRetry, path: &str, reports: &mut Reports) -> Value {
        let mut retry = Map::from_iter([("attempts".to_owned(), json!(retries.attempts.min(10)))]);
        let mut on: Vec<&str> = Vec::new();
        let mut statuses = Vec::new();
        let written = retries.retry_on.as_deref().unwrap_or("connect-failure");
        for condition in written.split(',').map(str::trim).filter(|condition| !condition.is_empty()) {
            match (condition, condition.parse::<u32>()) {
                ("connect-failure" | "refused-stream" | "unavailable", _) => on.push("connect-failure"),
                ("reset" | "reset-before-request", _) => on.push("reset"),
                ("gateway-error" | "5xx", _) => on.extend(["connect-failure", "reset"]),
                (_, Ok(status)) => statuses.push(status),
                _ => {
                    let message =
                        format!("{condition:?} is a condition of HTTP and means nothing to RPC protocols");
                    reports.not_honoured(&self.origin, format!("{path}.retries.retryOn"), message);
                }
            }
        }
        let per_try = retries.per_try_timeout.as_deref().and_then(duration);
        if per_try.is_some() {
            on.push("per-try-timeout");
        }
        if !statuses.is_empty() {
            on.push("status");
            retry.insert("statuses".into(), json!(statuses));
        }
        on.sort_unstable();
        on.dedup();
        if !on.is_empty() {
            retry.insert("on".into(), json!(on));
        }
        retry.extend(per_try.map(|per_try| ("perTryTimeout".to_owned(), per_try.into())));
        retry.into()
    }

    fn targets(&self, destinations: &[RouteDestination]) -> Vec<Target> {
        let target = |to: &RouteDestination| {
            let Destination { host, subset, port } = &to.destination;
            Target {
                host: host::in_full(host, self.namespace, self.domain),
                subset: subset.clone().filter(|subset| !subset.is_empty()),
                port: port.map(|port| port.number).filter(|&port| port != 0),
                weight: to.weight.unwrap_or_default(),
            }
        };
        destinations.iter().map(target).collect()
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

fn matchers(matches: &HttpMatch) -> Map<String, Value> {
    let matcher = |matcher: &StringMatch, inverted: bool| {
        let mut fields = match matcher {
            StringMatch { exact: Some(exact), .. } if !exact.is_empty() => json!({"exact": exact}),
            StringMatch { prefix: Some(prefix), .. } => json!({"prefix": prefix}),
            StringMatch { regex: Some(regex), .. } => json!({"regex": regex}),
            _ => json!({"present": true}),
        };
        if inverted {
            fields["invert"] = json!(true);
        }
        fields
    };
    let of = |headers: &BTreeMap<String, StringMatch>, inverted| -> Vec<(String, Value)> {
        headers.iter().map(|(name, header)| (name.clone(), matcher(header, inverted))).collect()
    };
    let mut attributes = Map::from_iter(of(&matches.without_headers, true));
    attributes.extend(of(&matches.headers, false));
    attributes.extend(matches.method.as_ref().map(|method| ("method".to_owned(), matcher(method, false))));
    attributes
}

fn edits(headers: &Headers) -> impl Iterator<Item = (String, Value)> {
    let both = [("requestAttachments", &headers.request), ("responseAttachments", &headers.response)];
    both.into_iter().filter_map(|(name, operations)| {
        let operations = operations.as_ref()?;
        let set = operations.add.iter().chain(&operations.set);
        let set = set.map(|(name, value)| (name.clone(), value.clone().into())).collect();
        attachments(set, &operations.remove).map(|edit| (name.to_owned(), edit))
    })
}
