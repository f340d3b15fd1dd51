//! Who has a host, or an address and port, that several services claim.
//!
//! As with Istio: a Service of Kubernetes before a ServiceEntry, for anybody may give a ServiceEntry any host; then one of the
//! client's own namespace; then the oldest. But addresses of Services count no less than their hosts, and services whose ports
//! are not managed as much as others: what Istio has on a listener is not for a tenant to take over.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::IpAddr;

use super::age::Age;
use super::report::Reports;
use super::service::{ANY, Service, Standing, listener};
use super::visibility::View;

/// The claims that contend with others.
#[derive(Debug)]
pub(super) struct Claims {
    /// The services by their host, the best claim first.
    hosts: HashMap<String, Vec<usize>>,
    /// The services by the addresses and ports of their listeners, the best claim first.
    listeners: HashMap<Socket, Vec<usize>>,
    /// The services that have such claims.
    contending: HashSet<usize>,
}

/// Where a listener listens.
type Socket = (IpAddr, u16);

fn socket(address: &str, port: u16) -> Option<Socket> {
    Some((address.parse::<IpAddr>().ok()?.to_canonical(), port))
}

fn sockets(service: &Service) -> impl Iterator<Item = Socket> {
    let addresses = service.addresses().chain(service.further_addresses.iter().map(String::as_str));
    addresses.flat_map(|address| service.numbers.iter().filter_map(move |&port| socket(address, port)))
}

impl Claims {
    /// Weighs the claims of all services. Returns those with managed ports and those that contend with them, in the order of
    /// their hosts. Says which have less than they claim.
    pub(super) fn new(mut services: Vec<Service>, reports: &mut Reports) -> (Vec<Service>, Self) {
        let managed: Vec<&Service> = services.iter().filter(|service| !service.ports.is_empty()).collect();
        let hosts: HashSet<String> = managed.iter().map(|service| service.host.clone()).collect();
        let of_managed: HashSet<Socket> = managed.iter().copied().flat_map(sockets).collect();
        services.retain(|service| {
            !service.ports.is_empty()
                || hosts.contains(&service.host)
                || sockets(service).any(|socket| of_managed.contains(&socket))
        });
        services.sort_by_cached_key(|service| (service.host.clone(), service.standing, service.age.clone()));
        let mut claims =
            Self { hosts: HashMap::new(), listeners: HashMap::new(), contending: HashSet::new() };
        for (id, service) in services.iter_mut().enumerate() {
            service.id = id;
            claims.hosts.entry(service.host.clone()).or_default().push(id);
            for socket in sockets(service).collect::<BTreeSet<_>>() {
                claims.listeners.entry(socket).or_default().push(id);
            }
        }
        claims.hosts.retain(|_, claimants| claimants.len() > 1);
        claims.listeners.retain(|_, claimants| claimants.len() > 1);
        let by_claim = |claimants: &mut Vec<usize>| claimants.sort_by_key(|&id| claim(&services, id));
        claims.hosts.values_mut().for_each(by_claim);
        claims.listeners.values_mut().for_each(by_claim);
        claims.contending =
            claims.hosts.values().chain(claims.listeners.values()).flatten().copied().collect();
        claims.report(&services, reports);
        (services, claims)
    }

    /// The owner of a service's host, for those who see all claimants.
    pub(super) fn owner<'a>(&self, services: &'a [Service], service: &'a Service) -> &'a Service {
        let first = self.hosts.get(&service.host).and_then(|claimants| claimants.first());
        first.and_then(|&id| services.get(id)).unwrap_or(service)
    }

    /// The namespaces of the owners of all hosts.
    pub(super) fn owners(&self, services: &[Service]) -> HashMap<String, String> {
        let owner = |service: &Service| self.owner(services, service).namespace.clone();
        services.iter().map(|service| (service.host.clone(), owner(service))).collect()
    }

    /// Whether a service has its host, for a client with these views.
    pub(super) fn has_host(
        &self,
        services: &[Service],
        service: &Service,
        client: &str,
        views: &[View<'_>],
    ) -> bool {
        if !self.contending.contains(&service.id) {
            return true;
        }
        let Some(claimants) = self.hosts.get(&service.host) else { return true };
        let is_seen = |other: &Service| views.iter().any(|view| view.sees_host(other));
        is_first(services, claimants, service, client, is_seen)
    }

    /// The names of the listeners that a service has for a port, for a client with these views.
    pub(super) fn listeners(
        &self,
        services: &[Service],
        service: &Service,
        port: u16,
        client: &str,
        views: &[View<'_>],
    ) -> Vec<String> {
        if !self.contending.contains(&service.id) {
            return service.listeners(port);
        }
        let is_seen = |other: &Service| {
            views.iter().any(|view| view.sees(other, port))
                && (other.id == service.id || self.has_host(services, other, client, views))
        };
        let has = |address: &&str| {
            let claimants = socket(address, port).and_then(|socket| self.listeners.get(&socket));
            claimants.is_none_or(|claimants| is_first(services, claimants, service, client, is_seen))
        };
        service.addresses().filter(has).map(|address| listener(address, port)).collect()
    }

    /// Says to the writers of services what they do not have, where clients see all claimants.
    fn report(&self, services: &[Service], reports: &mut Reports) {
        for service in services.iter().filter(|service| self.contending.contains(&service.id)) {
            if service.ports.is_empty() {
                continue;
            }
            let first = |claimants: &[usize]| {
                let first = claimants.first().and_then(|&id| services.get(id));
                first.filter(|first| first.origin != service.origin)
            };
            if let Some(owner) = self.hosts.get(&service.host).and_then(|claimants| first(claimants)) {
                let message = format!(
                    "{} is the host of {}{}: clients that see both mean that one",
                    service.host,
                    owner.origin,
                    spared(service, owner)
                );
                reports.warn(&service.origin, "spec.hosts", message);
                continue;
            }
            let path = match &*service.origin.kind {
                "Service" => "spec.clusterIP",
                _ => "spec.addresses",
            };
            for port in &service.ports {
                for address in service.addresses() {
                    // Clients whose sidecars answer their DNS queries have the other addresses.
                    if address == ANY && service.addresses().count() > 1 {
                        continue;
                    }
                    let claimants =
                        socket(address, port.number).and_then(|socket| self.listeners.get(&socket));
                    let Some(owner) = claimants.and_then(|claimants| first(claimants)) else { continue };
                    let message = format!(
                        "{address}, port {}, is that of {}{}: clients that see both get there",
                        port.number,
                        owner.origin,
                        spared(service, owner)
                    );
                    reports.warn(&service.origin, path, message);
                }
            }
        }
    }
}

/// What sets a claim before others, whoever asks.
fn claim(services: &[Service], id: usize) -> Option<(Standing, &Age, &str)> {
    let service = services.get(id)?;
    Some((service.standing, &service.age, &service.host))
}

/// Whether a service is the first of the claimants that a client sees.
fn is_first(
    services: &[Service],
    claimants: &[usize],
    service: &Service,
    client: &str,
    is_seen: impl Fn(&Service) -> bool,
) -> bool {
    let seen = claimants.iter().filter_map(|&id| services.get(id)).filter(|other| is_seen(other));
    // The first of equals, which are in the order of their claims.
    let first = seen.min_by_key(|other| (other.standing, other.namespace != client));
    first.is_some_and(|first| first.id == service.id)
}

/// Whom the owner of something spares: the clients of a ServiceEntry's own namespace.
fn spared(service: &Service, owner: &Service) -> String {
    match service.standing == owner.standing && owner.namespace != service.namespace {
        true => format!(", but for clients of {}", service.namespace),
        false => String::new(),
    }
}
