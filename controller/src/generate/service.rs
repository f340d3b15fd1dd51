//! The services of the mesh that have managed ports.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::protocol::{Protocol, Protocols};
use super::redis::Asked;
use super::report::{Reports, ResourceRef};
use super::visibility::Exports;
use crate::istio::{Port, ServiceEntry};
use crate::world::World;

/// Labels, or a selector of those that have them.
pub(super) type Labels = BTreeMap<String, String>;

/// A service with at least one managed port.
#[derive(Debug, Clone)]
pub(super) struct Service {
    /// The host name, in full.
    pub(super) host: String,
    pub(super) namespace: String,
    /// The name of the object that it comes from.
    pub(super) origin: ResourceRef,
    /// The namespaces that may see it.
    pub(super) exports: Exports,
    /// What sidecars of clients listen on for it.
    pub(super) binding: Binding,
    /// Its clusters connect to where the client meant to: a headless service, or one without resolution.
    pub(super) is_original_destination: bool,
    /// The pods of its namespace that serve it.
    pub(super) selector: Option<Labels>,
    pub(super) ports: Vec<ManagedPort>,
}

/// What sidecars of clients listen on for a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Binding {
    /// These addresses: of the service, or of each endpoint of a headless one.
    Addresses(Vec<String>),
    /// Any address, by the port alone.
    Any,
}

/// The annotation of services that tells which namespaces may see them.
pub(super) const EXPORT_TO: &str = "networking.istio.io/exportTo";

/// Any address, in the name of a listener.
const ANY: &str = "0.0.0.0";

/// A port that Meltemi manages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ManagedPort {
    pub(super) number: u16,
    pub(super) protocol: Protocol,
    /// The ports of the pods.
    pub(super) targets: BTreeSet<u16>,
}

impl Service {
    /// The names of the listeners that sidecars of clients have for a port.
    pub(super) fn listeners(&self, port: u16) -> Vec<String> {
        match &self.binding {
            Binding::Addresses(addresses) => {
                addresses.iter().map(|address| format!("{address}_{port}")).collect()
            }
            Binding::Any => vec![format!("{ANY}_{port}")],
        }
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

/// What is said of a service that has no address yet, as those in files have not.
pub const NO_ADDRESS: &str = "the service has no address yet: its clients are not managed";

/// Finds the services with managed ports, in the order of their hosts.
pub(super) fn managed(
    world: &World,
    domain: &str,
    protocols: &Protocols,
    reports: &mut Reports,
) -> Vec<Service> {
    let mut services: Vec<Service> = Vec::new();
    let endpoints = Endpoints::new(world);
    services.extend(
        world
            .services
            .iter()
            .filter_map(|service| kubernetes(service, domain, protocols, &endpoints, reports)),
    );
    for entry in &world.service_entries {
        services.extend(istio(entry, protocols, reports));
    }
    let asked = Asked::new(world, domain);
    services.iter_mut().for_each(|service| asked.decide(service));
    services.retain(|service| !service.ports.is_empty());
    // Of several of one name, the one whose addresses are known: files have services without them.
    let key = |service: &Service| (service.host.clone(), service.has_no_address(), service.namespace.clone());
    services.sort_by_cached_key(key);
    services.dedup_by(|later, first| later.host == first.host);
    for service in
        services.iter().filter(|service| service.has_no_address() && !service.is_original_destination)
    {
        let path = match &*service.origin.kind {
            "Service" => "spec.clusterIP",
            _ => "spec.addresses",
        };
        reports.warn(&service.origin, path, NO_ADDRESS);
    }
    services
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

fn kubernetes(
    service: &core::Service,
    domain: &str,
    protocols: &Protocols,
    endpoints: &Endpoints<'_>,
    reports: &mut Reports,
) -> Option<Service> {
    let (name, namespace) = (service.metadata.name.as_deref()?, service.metadata.namespace.as_deref()?);
    let spec = service.spec.as_ref()?;
    let origin = ResourceRef::new("Service", "", Some(namespace), name);
    let selector = spec.selector.clone().filter(|selector| !selector.is_empty());
    let mut ports = Vec::new();
    for (at, port) in spec.ports.iter().flatten().enumerate() {
        let named = (port.name.as_deref(), port.app_protocol.as_deref());
        let path = || format!("spec.ports[{at}]");
        let Some(protocol) = protocols.of_port(named, &origin, path, reports) else { continue };
        let Ok(number) = u16::try_from(port.port) else { continue };
        let targets = match (&port.target_port, &selector) {
            (Some(IntOrString::Int(target)), _) => u16::try_from(*target).into_iter().collect(),
            (Some(IntOrString::String(name)), Some(selector)) => endpoints.named(namespace, selector, name),
            (Some(IntOrString::String(_)), None) => BTreeSet::new(),
            (None, _) => BTreeSet::from([number]),
        };
        ports.push(ManagedPort { number, protocol, targets });
    }
    if ports.is_empty() || spec.type_.as_deref() == Some("ExternalName") {
        return None;
    }
    let is_headless = spec.cluster_ip.as_deref() == Some("None");
    let addresses: Vec<String> = match is_headless {
        true => endpoints
            .addresses
            .get(&(namespace, name))
            .into_iter()
            .flatten()
            .copied()
            .map(str::to_owned)
            .collect(),
        false => spec.cluster_ip.iter().filter(|address| !address.is_empty()).cloned().collect(),
    };
    let exports = service.metadata.annotations.as_ref().and_then(|all| all.get(EXPORT_TO));
    Some(Service {
        host: format!("{name}.{namespace}.svc.{domain}"),
        namespace: namespace.to_owned(),
        exports: Exports::new(exports.iter().flat_map(|list| list.split(',')), namespace),
        binding: Binding::Addresses(addresses),
        is_original_destination: is_headless,
        selector,
        ports,
        origin,
    })
}

fn istio(entry: &ServiceEntry, protocols: &Protocols, reports: &mut Reports) -> Vec<Service> {
    let (Some(name), Some(namespace)) = (entry.metadata.name.as_deref(), entry.metadata.namespace.as_deref())
    else {
        return Vec::new();
    };
    let spec = &entry.spec;
    let origin = ResourceRef::new("ServiceEntry", "networking.istio.io", Some(namespace), name);
    let mut ports = Vec::new();
    for (at, port) in spec.ports.iter().enumerate() {
        let path = || format!("spec.ports[{at}]");
        let Some(protocol) = protocols.of_port((Some(&port.name), None), &origin, path, reports) else {
            continue;
        };
        let Port { number, target_port, .. } = *port;
        ports.push(ManagedPort {
            number,
            protocol,
            targets: BTreeSet::from([target_port.unwrap_or(number)]),
        });
    }
    if ports.is_empty() {
        return Vec::new();
    }
    for (at, address) in spec.addresses.iter().enumerate() {
        if address.parse::<IpAddr>().is_err() {
            let path = format!("spec.addresses[{at}]");
            reports.not_honoured(
                &origin,
                path,
                "ranges of addresses stay plain TCP: list the addresses one by one",
            );
        }
    }
    let own: Vec<String> =
        spec.addresses.iter().filter(|address| address.parse::<IpAddr>().is_ok()).cloned().collect();
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
    let service = |host: &String| Service {
        host: host.clone(),
        namespace: namespace.to_owned(),
        origin: origin.clone(),
        exports: Exports::new(spec.export_to.iter().map(String::as_str), namespace),
        binding: of_host(host),
        is_original_destination: matches!(spec.resolution.as_str(), "" | "NONE"),
        selector: spec.workload_selector.as_ref().map(|selector| selector.labels.clone()),
        ports: ports.clone(),
    };
    spec.hosts.iter().map(service).collect()
}
