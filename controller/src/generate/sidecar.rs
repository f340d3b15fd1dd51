//! What the sidecars of one namespace get.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use serde_json::{Value, json};

use super::access_log::AccessLogs;
use super::authorization::{Authorization, Namespace, Policies};
use super::claims::Claims;
use super::client::{Clients, Seen};
use super::entry::{Authority, Made, Scope};
use super::group::{Group, Patch, Patches, Shards};
use super::object::Object;
use super::options::Options;
use super::plan::Planner;
use super::protocol::{Layouts, ManagedPort, Protocol};
use super::reader::Reader;
use super::report::Reports;
use super::revisions::ByRevision;
use super::service::{Labels, Service};
use super::sockets::Proxies;
use super::taps::Taps;
use super::telemetries::{Side, Whose};
use super::tracing::Traces;
use super::tunnel::{self, Opening, Tunnel, original_destination};
use super::visibility::Visibility;
use crate::check::AUTO;

/// Makes the objects for sidecars.
#[derive(Debug)]
pub(super) struct Sidecars<'a> {
    services: &'a [Service],
    claims: &'a Claims,
    visibility: &'a Visibility<'a>,
    authorization: &'a Authorization<'a>,
    logs: &'a ByRevision<'a, AccessLogs<'a>>,
    traces: &'a ByRevision<'a, Traces<'a>>,
    taps: &'a Taps,
    layouts: &'a Layouts,
    options: &'a Options,
    /// What leads clients to a port of a service: most namespaces have the same.
    ways: HashMap<Way, Patches>,
}

/// What a way depends on: the service, its port, the listeners and the shard.
type Way = (usize, u16, Vec<String>, Arc<str>);

impl<'a> Sidecars<'a> {
    pub(super) fn new(
        services: &'a [Service],
        claims: &'a Claims,
        visibility: &'a Visibility<'a>,
        authorization: &'a Authorization<'a>,
        (logs, traces, taps): (&'a ByRevision<'a, AccessLogs<'a>>, &'a ByRevision<'a, Traces<'a>>, &'a Taps),
        layouts: &'a Layouts,
        options: &'a Options,
    ) -> Self {
        let ways = HashMap::new();
        Self { services, claims, visibility, authorization, logs, traces, taps, layouts, options, ways }
    }

    /// The objects for the sidecars of a namespace: none if they see no managed service and serve none. What they have as
    /// clients shares no object with what they have as servers.
    pub(super) fn objects(
        &mut self,
        namespace: &'a str,
        planner: &mut Planner<'_>,
        reports: &mut Reports,
    ) -> Vec<Object> {
        let wanted = |_: &Service, port: &ManagedPort| has_codec(port);
        let clients = Clients::new(namespace, self.services, self.claims, self.visibility, wanted);
        let servers = servers(namespace, self.services, self.visibility);
        let policies = self.authorization.of(namespace);
        if let Some(policies) = policies {
            report_unguarded(policies, namespace, self.services, &servers, reports);
        }
        report_unenforced(namespace, self.services, &servers, planner, reports);
        let mut objects = self.inbound(namespace, &servers, policies, planner, reports);
        let scope = clients.scope(std::iter::empty());
        if !clients.seen.is_empty() {
            let whose = Whose { namespace, labels: scope.as_ref(), side: Side::Client };
            let tracing = self.traces.of(whose, Proxies::Sidecars).of(whose, Proxies::Sidecars, reports);
            let access_log = self.logs.of(whose, Proxies::Sidecars).of(whose, Proxies::Sidecars, reports);
            let taps = self.taps.of(namespace, scope.as_ref());
            let mut group = Group::new(namespace, Proxies::Sidecars, scope);
            group.access_log = access_log;
            group.taps = taps;
            for Seen { service, port, .. } in &clients.seen {
                let entry = planner.outbound(&clients, service, port, tracing.as_ref(), reports);
                group.add(authority(Scope::Clients, service, port.number), entry);
            }
            let shards = group.shards();
            objects.extend(group.objects(&shards, self.layouts, self.options));
            objects.extend(self.outbound(&group, &shards, &clients));
        }
        objects
    }

    /// Says which rate limits are for servers of namespaces without managed sidecars.
    pub(super) fn report_bare(
        &self,
        with_sidecars: &BTreeSet<&str>,
        planner: &Planner<'_>,
        reports: &mut Reports,
    ) {
        let has_codec = |service: &Service| service.ports.iter().any(has_codec);
        let is_bare = |service: &&Service| has_codec(service) && !with_sidecars.contains(&*service.namespace);
        for service in self.services.iter().filter(is_bare) {
            let why = "the namespace of the servers has no managed sidecars, which would count the calls";
            planner.report_unlimited(service, why, reports);
        }
    }

    fn outbound(&mut self, group: &Group<'_>, shards: &Shards, clients: &Clients<'_>) -> Vec<Object> {
        // One EnvoyFilter for the services of each namespace, so that a change of one leaves the others alone.
        let mut patches: BTreeMap<&str, Patches> = BTreeMap::new();
        for seen in &clients.seen {
            let Seen { service, port, listeners } = seen;
            let authority = authority(Scope::Clients, service, port.number).text();
            let shard = shards.of(&authority);
            let way = self.ways.entry((service.id, port.number, listeners.clone(), shard.clone()));
            let way = way.or_insert_with(|| way_to(seen, &authority, &shard, self.options));
            patches.entry(&service.namespace).or_default().extend(way.iter().cloned());
        }
        let object = |(namespace, patches)| {
            let name = format!("{}-outbound-{namespace}", group.base());
            group.tunnels(&name, group.selector.as_ref(), patches)
        };
        patches.into_iter().flat_map(object).collect()
    }

    /// The objects for the sidecars of servers: those of each service are for its pods, whatever else they serve or call.
    fn inbound(
        &self,
        namespace: &'a str,
        servers: &[Server<'a>],
        policies: Option<&Namespace>,
        planner: &mut Planner<'_>,
        reports: &mut Reports,
    ) -> Vec<Object> {
        let mut by_service: BTreeMap<String, Vec<&Server<'a>>> = BTreeMap::new();
        for server @ (service, ..) in servers {
            let kind = if service.origin.kind == "Service" { "" } else { "entry-" };
            by_service.entry(format!("{kind}{}", service.origin.name)).or_default().push(server);
        }
        let of_service = |(name, servers): (String, Vec<&Server<'a>>)| {
            let selector = servers.first().and_then(|(service, ..)| service.selector.clone());
            let whose = Whose { namespace, labels: selector.as_ref(), side: Side::Server };
            let tracing = self.traces.of(whose, Proxies::Sidecars).of(whose, Proxies::Sidecars, reports);
            let access_log = self.logs.of(whose, Proxies::Sidecars).of(whose, Proxies::Sidecars, reports);
            let taps = self.taps.of(namespace, selector.as_ref());
            let mut group = Group::of_servers(namespace, &name, selector);
            group.access_log = access_log;
            group.taps = taps;
            for (service, reader, target) in &servers {
                let traced = tracing.as_ref().and_then(|tracing| tracing.of(reader, reports));
                let mut add = |authority, entry| {
                    let entry = planner.inbound(service, (reader, *target), entry, traced, reports);
                    group.add(authority, entry);
                };
                let inbound = authority(Scope::Servers, service, *target);
                let Some(policies) = guard(reader, policies) else {
                    add(inbound, &Made::new(reader.entry(), Vec::new()));
                    continue;
                };
                add(inbound, &policies.entry);
                if let Some(entry) = &policies.entry_without_identity {
                    add(authority(Scope::ServersWithoutIdentity, service, *target), entry);
                }
                group.fails_closed |= policies.guards;
            }
            let shards = group.shards();
            let mut objects = group.objects(&shards, self.layouts, self.options);
            let patches =
                servers.iter().flat_map(|server| way_from(server, policies, &shards, self.options)).collect();
            objects.extend(group.tunnels(
                &format!("meltemi-inbound-{name}"),
                group.selector.as_ref(),
                patches,
            ));
            objects
        };
        by_service.into_iter().flat_map(of_service).collect()
    }
}

/// The patches that lead clients to a port of a service.
fn way_to(seen: &Seen<'_>, authority: &Arc<str>, shard: &Arc<str>, options: &Options) -> Patches {
    let (service, port) = (seen.service, seen.port.number);
    let tunnel = Tunnel {
        authority,
        shard,
        cluster: &service.cluster(port, None),
        is_original_destination: service.is_original_destination,
        opening: Opening::Connection,
        reports: options.istio_metrics,
    };
    let of_shard =
        |about: Arc<str>, patch: Value| Patch { about, shard: Some(shard.clone()), patch: patch.into() };
    let on_listener = |listener: &String| {
        let patches = tunnel.on_listener(Proxies::Sidecars, listener).into_iter();
        patches.map(|patch| of_shard(listener.as_str().into(), patch)).collect::<Patches>()
    };
    let mut patches: Patches = seen.listeners.iter().flat_map(on_listener).collect();
    if service.is_original_destination {
        let clusters = json!({"service": service.host, "portNumber": port});
        patches.push(of_shard(authority.clone(), original_destination("SIDECAR_OUTBOUND", clusters)));
    }
    patches
}

/// The calls to a port of a service, or of its pods.
fn authority(scope: Scope, service: &Service, port: u16) -> Authority {
    Authority { scope, of: service.host.clone(), namespace: service.namespace.clone(), port }
}

fn has_codec(port: &ManagedPort) -> bool {
    matches!(port.protocol, Protocol::Codec(_))
}

type Server<'a> = (&'a Service, &'a Reader, u16);

/// The services whose pods are of a namespace, by the ports of the pods. Of services that share pods and port, the one
/// with the widest selector represents all.
fn servers<'a>(namespace: &str, services: &'a [Service], visibility: &Visibility<'_>) -> Vec<Server<'a>> {
    let mut own: Vec<&Service> = services
        .iter()
        .filter(|service| service.namespace == namespace && service.selector.is_some())
        .collect();
    own.sort_by_key(|service| service.selector.as_ref().map(Labels::len));
    let mut servers: Vec<Server<'a>> = Vec::new();
    for service in own {
        for port in &service.ports {
            let Protocol::Codec(reader) = &port.protocol else { continue };
            for &target in &port.targets {
                let is_covered = servers.iter().any(|server| covers(server, service, target));
                if !is_covered && !visibility.has_own_ingress(service, target) {
                    servers.push((service, reader, target));
                }
            }
        }
    }
    servers
}

/// Says which services of a namespace are called past its policies.
fn report_unguarded(
    policies: &Namespace,
    namespace: &str,
    services: &[Service],
    servers: &[Server<'_>],
    reports: &mut Reports,
) {
    for service in services.iter().filter(|service| service.namespace == namespace) {
        for port in &service.ports {
            let Protocol::Codec(reader) = &port.protocol else { continue };
            let Some(policies) = policies.of(reader) else { continue };
            let is_guarded = |target: &u16| {
                servers.iter().any(|server| covers(server, service, *target) && server.1 == reader)
            };
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
    policies.report_idle(reports);
}

/// Whether the tunnel of a server is also that of another service's pods on a port.
fn covers((server, _, of_server): &Server<'_>, service: &Service, target: u16) -> bool {
    let (Some(wide), Some(narrow)) = (&server.selector, &service.selector) else { return false };
    *of_server == target && wide.iter().all(|(key, value)| narrow.get(key) == Some(value))
}

/// Says what of a namespace's services does not hold for their servers.
fn report_unenforced(
    namespace: &str,
    services: &[Service],
    servers: &[Server<'_>],
    planner: &Planner<'_>,
    reports: &mut Reports,
) {
    for service in services.iter().filter(|service| service.namespace == namespace) {
        for port in service.ports.iter().filter(|port| has_codec(port)) {
            let is_own = |target: u16| {
                servers.iter().any(|(server, _, own)| server.id == service.id && *own == target)
            };
            if port.targets.iter().any(|target| !is_own(*target)) || port.targets.is_empty() {
                let covers = |server: &&Server<'_>| {
                    port.targets.iter().any(|target| !is_own(*target) && covers(server, service, *target))
                };
                let why = match servers.iter().find(covers) {
                    Some((wide, ..)) => {
                        let size = service.wishes;
                        size.report_other(wide.wishes, &wide.origin, &service.origin, reports);
                        format!(
                            "the pods of {} are also those of {}, and their sidecars cannot tell the calls apart: write the limit for \
                         the latter",
                            service.host, wide.origin
                        )
                    }
                    None => format!(
                        "for port {} of {} no pods of the namespace are known to serve it, or a Sidecar says how they are called",
                        port.number, service.host
                    ),
                };
                planner.report_unlimited(service, &why, reports);
            }
        }
    }
}

/// The policies that hold for servers whose calls are read so.
fn guard<'p>(reader: &Reader, policies: Option<&'p Namespace>) -> Option<&'p Policies> {
    policies.and_then(|policies| policies.of(reader))
}

/// The patches that lead clients of a service's pods to its sockets there.
fn way_from(
    (service, reader, target): &Server<'_>,
    policies: Option<&Namespace>,
    shards: &Shards,
    options: &Options,
) -> Patches {
    let inbound = authority(Scope::Servers, service, *target).text();
    let cluster = format!("inbound|{target}||");
    let shard = shards.of(&inbound);
    let tunnel = Tunnel {
        authority: &inbound,
        shard: &shard,
        cluster: &cluster,
        is_original_destination: true,
        // Where the first bytes tell the protocol, servers may greet.
        opening: Opening::of_servers(reader.protocol() != AUTO, options),
        reports: options.istio_metrics,
    };
    let patch = |shard: &Arc<str>, patch: Value| Patch {
        about: inbound.clone(),
        shard: Some(shard.clone()),
        patch: patch.into(),
    };
    let tunnels = tunnel.on_inbound(*target).into_iter();
    let mut patches: Patches = tunnels.map(|tunnel| patch(&shard, tunnel)).collect();
    if guard(reader, policies).is_some_and(|policies| policies.entry_without_identity.is_some()) {
        let unidentified = authority(Scope::ServersWithoutIdentity, service, *target).text();
        let shard = shards.of(&unidentified);
        patches.push(patch(&shard, tunnel::without_identity(*target, &unidentified, &shard)));
    }
    patches.push(patch(&shard, original_destination("SIDECAR_INBOUND", json!({"name": cluster}))));
    patches
}
