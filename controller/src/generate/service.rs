//! The services of the mesh, and their managed ports.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::{Resource, ResourceExt};

use super::age::Age;
use super::asked::Asked;
use super::exports::{Exports, Unsaid};
use super::host;
use super::http2::Http2;
use super::mesh::Mesh;
use super::protocol::{ManagedPort, Protocol, Protocols};
use super::report::Reports;
use super::wishes::Wishes;
use crate::findings::ResourceRef;
use crate::istio::{Port, ServiceEntry};
use crate::world::World;

/// Labels, or a selector of those that have them.
pub(super) type Labels = BTreeMap<String, String>;

/// A service.
#[derive(Debug, Clone)]
pub(super) struct Service {
    /// Its place among the services that count, which have others beside those with managed ports.
    pub(super) id: usize,
    /// The host name, in full.
    pub(super) host: String,
    pub(super) namespace: String,
    /// The name of the object that it comes from.
    pub(super) origin: ResourceRef,
    /// The namespaces that may see it.
    pub(super) exports: Exports,
    /// By what right it has its host and addresses.
    pub(super) standing: Standing,
    pub(super) age: Age,
    /// Whose routers may hold for clients of other namespaces than theirs, by the owner's annotation.
    pub(super) routers_from: Vec<String>,
    /// What sidecars of clients listen on for it.
    pub(super) binding: Binding,
    /// Its addresses of the other family, which are on the same listeners.
    pub(super) further_addresses: Vec<String>,
    /// Its clusters connect to where the client meant to: a headless service, or one without resolution.
    pub(super) is_original_destination: bool,
    /// The pods of its namespace that serve it.
    pub(super) selector: Option<Labels>,
    /// The managed ports.
    pub(super) ports: Vec<ManagedPort>,
    /// The numbers of all ports.
    pub(super) numbers: BTreeSet<u16>,
    /// Those that Istio's clusters speak HTTP/2 to.
    pub(super) http2: Http2,
    /// What its owner says of messages and connections.
    pub(super) wishes: Wishes,
}

/// By what right a service has its host and addresses, the best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Standing {
    /// The API server gives each Service an address of its own.
    ClusterIp,
    /// Endpoints are addresses that EndpointSlices name.
    Headless,
    /// A ServiceEntry may have any host and any address.
    Entry,
}

/// What sidecars of clients listen on for a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Binding {
    /// These addresses: of the service, or of each endpoint of a headless one.
    Addresses(Vec<String>),
    /// Any address, by the port alone.
    Any,
}

/// The annotation of services that says which namespaces may see them.
pub(super) const EXPORT_TO: &str = "networking.istio.io/exportTo";

/// The most listeners that one ServiceEntry may ask for: a few lines can ask for millions, in the proxies of all who see it.
const MOST_LISTENERS: usize = 4096;

/// Any address, in the name of a listener.
pub(super) const ANY: &str = "0.0.0.0";

/// The annotation of a Service or ServiceEntry that names the namespaces, or `*`, whose routers hold for all clients.
const ROUTERS_FROM: &str = "meltemi.io/routers-from";

impl Service {
    /// Decides on the ports that are perhaps Redis.
    fn decide(&mut self, asked: &Asked) {
        let is_asked = asked.names(&self.host, &self.namespace);
        self.ports.retain_mut(|port| match port.protocol {
            Protocol::PerhapsRedis if is_asked => {
                port.protocol = Protocol::Redis;
                true
            }
            Protocol::PerhapsRedis => false,
            Protocol::Redis | Protocol::Codec(_) => true,
        });
    }

    /// The addresses that sidecars of clients listen on.
    pub(super) fn addresses(&self) -> impl Iterator<Item = &str> {
        let (own, any) = match &self.binding {
            Binding::Addresses(addresses) => (&**addresses, None),
            Binding::Any => (&[][..], Some(ANY)),
        };
        own.iter().map(String::as_str).chain(any)
    }

    /// The names of the listeners that sidecars of clients have for a port.
    pub(super) fn listeners(&self, port: u16) -> Vec<String> {
        self.addresses().map(|address| listener(address, port)).collect()
    }

    /// Whether its owner lets the routers of a namespace hold for all clients.
    pub(super) fn lets_route(&self, namespace: &str) -> bool {
        self.routers_from.iter().any(|named| named == "*" || named == namespace)
    }

    fn has_no_address(&self) -> bool {
        matches!(&self.binding, Binding::Addresses(addresses) if addresses.is_empty())
    }

    /// The name of Istio's cluster for a port, or for a subset's endpoints of it.
    pub(super) fn cluster(&self, port: u16, subset: Option<&str>) -> String {
        cluster(&self.host, port, subset)
    }
}

/// The name that Istio gives to the cluster of a host's port and subset.
pub(super) fn cluster(host: &str, port: u16, subset: Option<&str>) -> String {
    format!("outbound|{port}|{}|{host}", subset.unwrap_or_default())
}

/// The host, port and subset in the name of one of Istio's clusters.
pub(super) fn parts(cluster: &str) -> Option<(&str, u16, Option<&str>)> {
    let mut parts = cluster.strip_prefix("outbound|")?.splitn(3, '|');
    let (port, subset, host) = (parts.next()?, parts.next()?, parts.next()?);
    Some((host, port.parse().ok()?, Some(subset).filter(|subset| !subset.is_empty())))
}

/// What is said of a service that has no address yet, as those in files have not.
pub const NO_ADDRESS: &str = "the service has no address yet: its clients are not managed";

/// The name of the listener that Istio has for an address and port.
pub(super) fn listener(address: &str, port: u16) -> String {
    format!("{address}_{port}")
}

/// Reads every service, whether it has managed ports or not.
pub(super) fn all(
    world: &World,
    domain: &str,
    mesh: &Mesh,
    protocols: &Protocols,
    reports: &mut Reports,
) -> Vec<Service> {
    let endpoints = Endpoints::new(world);
    let reader =
        Reader { domain, unsaid: mesh.services, upgrades: mesh.upgrades == Some(true), protocols, endpoints };
    let mut services: Vec<Service> =
        world.services.iter().filter_map(|service| reader.kubernetes(service, reports)).collect();
    for entry in &world.service_entries {
        services.extend(reader.istio(entry, reports));
    }
    let asked = Asked::new(world, domain);
    services.iter_mut().for_each(|service| service.decide(&asked));
    // Of duplicates the one whose addresses are known counts: files have services without them.
    services.sort_by_cached_key(|service| {
        (service.origin.clone(), service.host.clone(), service.has_no_address())
    });
    services.dedup_by(|later, first| later.origin == first.origin && later.host == first.host);
    let is_managed = |service: &&Service| !service.ports.is_empty();
    let managed = services.iter().filter(is_managed);
    for service in managed.filter(|service| service.has_no_address() && !service.is_original_destination) {
        let path = match &*service.origin.kind {
            "Service" => "spec.clusterIP",
            _ => "spec.addresses",
        };
        reports.warn(&service.origin, path, NO_ADDRESS);
    }
    services
}

/// Reads services.
struct Reader<'a> {
    domain: &'a str,
    unsaid: Unsaid,
    /// Istio's clusters speak HTTP/2 to ports of HTTP.
    upgrades: bool,
    protocols: &'a Protocols,
    endpoints: Endpoints<'a>,
}

/// Addresses and named ports of pods, by what services look them up by.
struct Endpoints<'a> {
    addresses: BTreeMap<(&'a str, &'a str), BTreeSet<&'a str>>,
    pods: BTreeMap<&'a str, Vec<&'a core::Pod>>,
}

impl<'a> Endpoints<'a> {
    fn new(world: &'a World) -> Self {
        let mut addresses: BTreeMap<(&str, &str), BTreeSet<&str>> = BTreeMap::new();
        for slice in &world.endpoint_slices {
            let labels = slice.metadata.labels.as_ref();
            let service = labels.and_then(|labels| labels.get("kubernetes.io/service-name"));
            let (Some(namespace), Some(service)) = (&slice.metadata.namespace, service) else { continue };
            let of_service = addresses.entry((namespace, service)).or_default();
            of_service.extend(
                slice.endpoints.iter().flat_map(|endpoint| endpoint.addresses.iter()).map(String::as_str),
            );
        }
        let mut pods: BTreeMap<&str, Vec<&core::Pod>> = BTreeMap::new();
        for pod in &world.pods {
            pods.entry(pod.metadata.namespace.as_deref().unwrap_or_default()).or_default().push(pod);
        }
        Self { addresses, pods }
    }

    /// The addresses of a service's endpoints.
    fn of(&self, namespace: &str, service: &str) -> Vec<String> {
        let addresses = self.addresses.get(&(namespace, service)).into_iter().flatten();
        addresses.map(|&address| address.to_owned()).collect()
    }

    /// The port numbers that pods give to a named port.
    fn named(&self, namespace: &str, selector: &Labels, name: &str) -> BTreeSet<u16> {
        let pods = self.pods.get(namespace).into_iter().flatten();
        let selected = pods.filter(|pod| selects(selector, pod.metadata.labels.as_ref()));
        let containers = selected.filter_map(|pod| pod.spec.as_ref()).flat_map(|spec| &spec.containers);
        let ports = containers.flat_map(|container| container.ports.iter().flatten());
        let named = ports.filter(|port| port.name.as_deref() == Some(name));
        named.filter_map(|port| u16::try_from(port.container_port).ok()).collect()
    }
}

/// Whether a selector that is not empty selects what has these labels.
pub(super) fn selects(selector: &Labels, labels: Option<&Labels>) -> bool {
    let has = |(key, value): (&String, &String)| labels.is_some_and(|labels| labels.get(key) == Some(value));
    !selector.is_empty() && selector.iter().all(has)
}

/// The namespaces whose routers hold for all clients.
fn routers_from<T: Resource>(object: &T) -> Vec<String> {
    let list = object.annotations().get(ROUTERS_FROM);
    let named = list.into_iter().flat_map(|list| list.split(',')).map(str::trim);
    named.filter(|namespace| !namespace.is_empty()).map(str::to_owned).collect()
}

/// What the owner of an object wants of its ports, where some of them are of calls.
fn wishes<T: Resource>(
    object: &T,
    origin: &ResourceRef,
    ports: &[ManagedPort],
    reports: &mut Reports,
) -> Wishes {
    let are_calls = ports.iter().any(|port| matches!(port.protocol, Protocol::Codec(_)));
    if are_calls { Wishes::new(object, origin, ports, reports) } else { Wishes::default() }
}

impl Reader<'_> {
    fn kubernetes(&self, service: &core::Service, reports: &mut Reports) -> Option<Service> {
        let (name, namespace) = (service.metadata.name.as_deref()?, service.metadata.namespace.as_deref()?);
        let spec = service.spec.as_ref()?;
        let origin = ResourceRef::new("Service", "", Some(namespace), name);
        let selector = spec.selector.clone().filter(|selector| !selector.is_empty());
        let is_alias = spec.type_.as_deref() == Some("ExternalName");
        let mut ports = Vec::new();
        let (mut numbers, mut http2) = (BTreeSet::new(), Http2::default());
        for (at, port) in spec.ports.iter().flatten().enumerate().filter(|_| !is_alias) {
            let Some(number) = u16::try_from(port.port).ok().filter(|&number| number > 0) else {
                let message = format!("{} is not a port; write one of 1 to 65535", port.port);
                reports.error(&origin, format!("spec.ports[{at}].port"), message);
                continue;
            };
            numbers.insert(number);
            let named = (port.name.as_deref(), port.app_protocol.as_deref());
            http2.add(number, named.1.or(named.0).unwrap_or_default(), self.upgrades);
            let path = || format!("spec.ports[{at}]");
            let Some(protocol) = self.protocols.of_port(named, service.annotations(), &origin, path, reports)
            else {
                continue;
            };
            let targets = match (&port.target_port, &selector) {
                (Some(IntOrString::Int(target)), _) => u16::try_from(*target).into_iter().collect(),
                (Some(IntOrString::String(name)), Some(selector)) => {
                    self.endpoints.named(namespace, selector, name)
                }
                (Some(IntOrString::String(_)), None) => BTreeSet::new(),
                (None, _) => BTreeSet::from([number]),
            };
            ports.push(ManagedPort { number, protocol, targets });
        }
        let is_headless = spec.cluster_ip.as_deref() == Some("None");
        let given = spec.cluster_ip.iter().filter(|address| !address.is_empty() && !is_headless);
        let addresses: Vec<String> = match is_headless {
            true => self.endpoints.of(namespace, name),
            false => given.cloned().collect(),
        };
        let further = spec.cluster_ips.iter().flatten().skip(1).filter(|_| !is_headless);
        let exports = service.annotations().get(EXPORT_TO);
        let wishes = wishes(service, &origin, &ports, reports);
        Some(Service {
            id: 0,
            host: format!("{name}.{namespace}.svc.{}", self.domain),
            namespace: namespace.to_owned(),
            exports: Exports::new(exports.iter().flat_map(|list| list.split(',')), namespace, self.unsaid),
            standing: if is_headless { Standing::Headless } else { Standing::ClusterIp },
            age: Age::of(service),
            routers_from: routers_from(service),
            binding: Binding::Addresses(addresses),
            further_addresses: further.cloned().collect(),
            is_original_destination: is_headless,
            selector,
            ports,
            numbers,
            http2,
            wishes,
            origin,
        })
    }

    fn istio(&self, entry: &ServiceEntry, reports: &mut Reports) -> Vec<Service> {
        let (Some(name), Some(namespace)) =
            (entry.metadata.name.as_deref(), entry.metadata.namespace.as_deref())
        else {
            return Vec::new();
        };
        let spec = &entry.spec;
        let origin = ResourceRef::new("ServiceEntry", "networking.istio.io", Some(namespace), name);
        let mut ports = Vec::new();
        for (at, port) in spec.ports.iter().enumerate() {
            let path = || format!("spec.ports[{at}]");
            let named = (Some(&*port.name), None);
            let Some(protocol) = self.protocols.of_port(named, entry.annotations(), &origin, path, reports)
            else {
                continue;
            };
            let Port { number, target_port, .. } = *port;
            let targets = BTreeSet::from([target_port.unwrap_or(number)]);
            ports.push(ManagedPort { number, protocol, targets });
        }
        let is_address = |address: &str| address.parse::<IpAddr>().is_ok();
        let ranges = spec.addresses.iter().enumerate().filter(|(_, address)| !is_address(address));
        for (at, _) in ranges.filter(|_| !ports.is_empty()) {
            let message = "ranges of addresses stay plain TCP: list the addresses one by one";
            reports.not_honoured(&origin, format!("spec.addresses[{at}]"), message);
        }
        let own: Vec<String> = spec.addresses.iter().filter(|address| is_address(address)).cloned().collect();
        let given = entry.status.as_ref().map_or(&[][..], |status| &status.addresses);
        let of_host = |host: &String| {
            let given = given.iter().filter(|address| address.host == *host || address.host.is_empty());
            let given: Vec<String> = given.map(|address| address.value.clone()).collect();
            match (own.is_empty(), given.is_empty()) {
                (false, _) => Binding::Addresses(own.clone()),
                // A sidecar listens there only if it also answers the client's DNS queries; otherwise by the port alone.
                (true, false) => Binding::Addresses(given.into_iter().chain([ANY.to_owned()]).collect()),
                (true, true) if spec.addresses.is_empty() => Binding::Any,
                (true, true) => Binding::Addresses(Vec::new()),
            }
        };
        let is_managed = !ports.is_empty();
        for (at, host) in spec.hosts.iter().enumerate().filter(|(_, host)| is_managed && !host::is_name(host))
        {
            let message = format!("{host:?} is not a host name: the host stays plain TCP");
            reports.not_honoured(&origin, format!("spec.hosts[{at}]"), message);
        }
        let listeners =
            spec.hosts.len().saturating_mul(spec.addresses.len().max(1)).saturating_mul(spec.ports.len());
        if listeners > MOST_LISTENERS {
            let message = format!(
                "its hosts, addresses and ports make {listeners} listeners, of which {MOST_LISTENERS} are allowed: it is passed \
                 over, and stays plain TCP. Write several ServiceEntries"
            );
            if is_managed {
                reports.error(&origin, "spec", message);
            }
            return Vec::new();
        }
        let wishes = wishes(entry, &origin, &ports, reports);
        let mut http2 = Http2::default();
        spec.ports.iter().for_each(|port| http2.add(port.number, &port.protocol, self.upgrades));
        let service = |host: &String| Service {
            id: 0,
            host: host.clone(),
            namespace: namespace.to_owned(),
            origin: origin.clone(),
            exports: Exports::new(spec.export_to.iter().map(String::as_str), namespace, self.unsaid),
            standing: Standing::Entry,
            age: Age::of(entry),
            routers_from: routers_from(entry),
            binding: of_host(host),
            further_addresses: Vec::new(),
            is_original_destination: matches!(spec.resolution.as_str(), "" | "NONE"),
            selector: spec.workload_selector.as_ref().map(|selector| selector.labels.clone()),
            ports: if host::is_name(host) { ports.clone() } else { Vec::new() },
            numbers: spec.ports.iter().map(|port| port.number).collect(),
            http2: http2.clone(),
            wishes,
        };
        spec.hosts.iter().map(service).collect()
    }
}
