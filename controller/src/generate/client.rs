//! What the sidecars of a namespace see, as clients.

use std::collections::BTreeSet;

use super::service::{Labels, ManagedPort, Service};
use super::visibility::Visibility;

/// What the sidecars of a namespace see.
#[derive(Debug)]
pub(super) struct Clients<'a> {
    pub(super) seen: Vec<(&'a Service, &'a ManagedPort)>,
    /// Sidecars without a Sidecar of their own see something.
    is_everyone: bool,
    /// The labels of those that see something by a Sidecar of their own.
    selectors: BTreeSet<&'a Labels>,
}

impl<'a> Clients<'a> {
    /// Looks at the ports that are `wanted`.
    pub(super) fn new(
        namespace: &'a str,
        services: &'a [Service],
        visibility: &Visibility<'a>,
        wanted: impl Fn(&Service, &ManagedPort) -> bool,
    ) -> Self {
        let everyone = visibility.of_namespace(namespace);
        let selected: Vec<_> = visibility.of_selected(namespace).collect();
        let mut clients = Self { seen: Vec::new(), is_everyone: false, selectors: BTreeSet::new() };
        let mut listeners = BTreeSet::new();
        for service in services {
            for port in service.ports.iter().filter(|port| wanted(service, port)) {
                let by_everyone = everyone.sees(service, port.number);
                let by_selected = selected.iter().filter(|(_, view)| view.sees(service, port.number));
                let by_selected: Vec<&Labels> = by_selected.map(|(labels, _)| *labels).collect();
                if !by_everyone && by_selected.is_empty() {
                    continue;
                }
                // Of several services on one address and port, Istio listens for one.
                let own = service.listeners(port.number);
                if own.is_empty() || own.iter().any(|listener| listeners.contains(listener)) {
                    continue;
                }
                listeners.extend(own);
                clients.seen.push((service, port));
                clients.is_everyone |= by_everyone;
                clients.selectors.extend(by_selected);
            }
        }
        clients
    }

    /// The labels of the sidecars that see something or are of `servers`, if they have labels of their own: one selector
    /// says so. Otherwise it is all of the namespace: selectors that select the same pod would give it objects twice.
    pub(super) fn scope(&self, servers: impl Iterator<Item = &'a Labels>) -> Option<Labels> {
        if self.is_everyone {
            return None;
        }
        let mut selectors: BTreeSet<&'a Labels> = servers.chain(self.selectors.iter().copied()).collect();
        let first = selectors.pop_first()?;
        selectors.is_empty().then(|| first.clone())
    }
}
