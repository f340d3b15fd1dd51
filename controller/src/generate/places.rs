//! Where what people wrote is in force.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::ptr;
use std::sync::Arc;

use super::Output;
use super::entry::{Authority, Scope};
use crate::findings::ResourceRef;

/// How many places are named.
const NAMED: usize = 3;

/// The proxies that go by a resource.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Places {
    /// The namespaces of the sidecars that do for the calls of their clients.
    clients: BTreeSet<Arc<str>>,
    /// The namespaces of those that do for the calls to their servers.
    servers: BTreeSet<Arc<str>>,
    /// The gateways, as `namespace/name`.
    gateways: BTreeSet<Arc<str>>,
    /// The namespaces and shards whose objects these proxies go by: those of the proxies, and that of a Gateway, which may
    /// have its route.
    shards: BTreeSet<(Arc<str>, Arc<str>)>,
}

impl Output {
    /// Where each resource is in force of which routes or rules were made.
    pub fn places(&self) -> HashMap<ResourceRef, Places> {
        let mut all: HashMap<ResourceRef, Places> = HashMap::new();
        for object in self.objects.iter().filter(|object| !object.entries.is_empty()) {
            let namespace: Arc<str> = object.metadata.namespace.as_str().into();
            for entry in &object.entries {
                let Authority { scope, of, namespace: owner, .. } = &entry.authority;
                let of: Arc<str> = of.as_str().into();
                let gateway: Option<Arc<str>> = (*scope == Scope::Gateway).then(|| owner.as_str().into());
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
                    for shard in &object.shards {
                        for namespace in gateway.iter().chain([&namespace]) {
                            places.shards.insert((namespace.clone(), shard.clone()));
                        }
                    }
                    match scope {
                        Scope::Clients => places.clients.insert(namespace.clone()),
                        Scope::Servers | Scope::ServersWithoutIdentity => {
                            places.servers.insert(namespace.clone())
                        }
                        Scope::Gateway => places.gateways.insert(of.clone()),
                    };
                }
            }
        }
        all
    }
}

impl Places {
    /// Whether one of these proxies goes by the objects of a shard.
    pub fn go_by(&self, namespace: &Arc<str>, shard: &Arc<str>) -> bool {
        self.shards.contains(&(namespace.clone(), shard.clone()))
    }
}

impl fmt::Display for Places {
    /// Writes what comes after "in force".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds =
            [("for clients in", &self.clients), ("for servers in", &self.servers), ("on", &self.gateways)];
        let mut separator = "";
        for (kind, places) in kinds.into_iter().filter(|(_, places)| !places.is_empty()) {
            let named: Vec<&str> = places.iter().take(NAMED).map(|place| &**place).collect();
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
        let set = |names: &[&str]| names.iter().map(|&name| name.into()).collect();
        let mut places = Places { clients: set(&["shop"]), ..Places::default() };
        assert_eq!(places.to_string(), "for clients in shop");
        places.gateways = set(&["edge/main"]);
        places.clients = set(&["a", "b", "c", "d", "e"]);
        assert_eq!(places.to_string(), "for clients in a, b, c and 2 more; on edge/main");
    }
}
