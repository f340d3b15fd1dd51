//! Where what people wrote is in force.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::ptr;

use super::Output;
use super::entry::Scope;
use crate::findings::ResourceRef;

/// How many places are named.
const NAMED: usize = 3;

/// The proxies that go by a resource.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Places {
    /// The namespaces of the sidecars that do for the calls of their clients.
    clients: BTreeSet<String>,
    /// The namespaces of those that do for the calls to their servers.
    servers: BTreeSet<String>,
    /// The gateways, as `namespace/name`.
    gateways: BTreeSet<String>,
    /// The namespaces of their pods.
    gateway_pods: BTreeSet<String>,
}

impl Output {
    /// Where each resource is in force of which routes or rules were made.
    pub fn places(&self) -> HashMap<ResourceRef, Places> {
        let mut all: HashMap<ResourceRef, Places> = HashMap::new();
        for (namespace, entry) in self.entries() {
            let mut last = ptr::null();
            for origin in entry.plan.origins() {
                // The routes of a resource follow each other, and may be many.
                if ptr::eq(&*origin.resource, last) {
                    continue;
                }
                last = &*origin.resource;
                let places = match all.get_mut(&*origin.resource) {
                    Some(places) => places,
                    None => all.entry((*origin.resource).clone()).or_default(),
                };
                match entry.authority.scope {
                    Scope::Clients => note(&mut places.clients, namespace),
                    Scope::Servers | Scope::ServersWithoutIdentity => note(&mut places.servers, namespace),
                    Scope::Gateway => {
                        note(&mut places.gateways, &entry.authority.of);
                        note(&mut places.gateway_pods, namespace);
                    }
                }
            }
        }
        all
    }
}

fn note(places: &mut BTreeSet<String>, place: &str) {
    if !places.contains(place) {
        places.insert(place.to_owned());
    }
}

impl Places {
    /// The namespaces whose objects these proxies go by: those of the proxies, and that of a Gateway, which may have its route.
    pub fn namespaces(&self) -> impl Iterator<Item = &str> {
        let gateways = self.gateways.iter().filter_map(|gateway| gateway.split('/').next());
        let proxies = self.clients.iter().chain(&self.servers).chain(&self.gateway_pods);
        proxies.map(String::as_str).chain(gateways)
    }
}

impl fmt::Display for Places {
    /// Writes what comes after "in force".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds =
            [("for clients in", &self.clients), ("for servers in", &self.servers), ("on", &self.gateways)];
        let mut separator = "";
        for (kind, places) in kinds.into_iter().filter(|(_, places)| !places.is_empty()) {
            let named: Vec<&str> = places.iter().take(NAMED).map(String::as_str).collect();
            write!(f, "{separator}{kind} {}", named.join(", "))?;
            if let Some(others @ 1..) = places.len().checked_sub(NAMED) {
                write!(f, " and {others} more")?;
            }
            separator = "; ";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_named_as_far_as_they_are_few() {
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let mut places = Places { clients: set(&["shop"]), ..Places::default() };
        assert_eq!(places.to_string(), "for clients in shop");
        places.gateways = set(&["edge/main"]);
        places.gateway_pods = set(&["ingress"]);
        places.clients = set(&["a", "b", "c", "d", "e"]);
        assert_eq!(places.to_string(), "for clients in a, b, c and 2 more; on edge/main");
        assert_eq!(Vec::from_iter(places.namespaces()), ["a", "b", "c", "d", "e", "ingress", "edge"]);
    }
}
