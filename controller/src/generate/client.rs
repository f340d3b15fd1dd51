//! What the sidecars of a namespace see, as clients.

use std::collections::BTreeSet;

use super::claims::Claims;
use super::protocol::ManagedPort;
use super::service::{Labels, Service};
use super::visibility::{View, Visibility};

/// What the sidecars of a namespace see.
#[derive(Debug)]
pub(super) struct Clients<'a> {
    pub(super) namespace: &'a str,
    pub(super) seen: Vec<Seen<'a>>,
    /// Sidecars without a Sidecar of their own see something.
    is_everyone: bool,
    /// The labels of those that see something by a Sidecar of their own.
    selectors: BTreeSet<&'a Labels>,
    views: Vec<View<'a>>,
}

/// A port of a service that they see.
#[derive(Debug, Clone)]
pub(super) struct Seen<'a> {
    pub(super) service: &'a Service,
    pub(super) port: &'a ManagedPort,
    /// The names of the listeners that lead to it.
    pub(super) listeners: Vec<String>,
}

impl<'a> Clients<'a> {
    /// Looks at the ports that are `wanted`.
    pub(super) fn new(
        namespace: &'a str,
        services: &'a [Service],
        claims: &Claims,
        visibility: &Visibility<'a>,
        wanted: impl Fn(&Service, &ManagedPort) -> bool,
    ) -> Self {
        let everyone = visibility.of_namespace(namespace);
        let selected: Vec<_> = visibility.of_selected(namespace).collect();
        let views: Vec<View<'a>> =
            std::iter::once(everyone).chain(selected.iter().map(|(_, view)| *view)).collect();
        let mut seen = Vec::new();
        let mut is_everyone = false;
        let mut selectors = BTreeSet::new();
        for service in services {
            for port in service.ports.iter().filter(|port| wanted(service, port)) {
                let by_everyone = everyone.sees(service, port.number);
                let by_selected = selected.iter().filter(|(_, view)| view.sees(service, port.number));
                let by_selected: Vec<&Labels> = by_selected.map(|(labels, _)| *labels).collect();
                if !by_everyone && by_selected.is_empty()
                    || !claims.has_host(services, service, namespace, &views)
                {
                    continue;
                }
                // Of several services on one address and port, Istio listens for one.
                let listeners = claims.listeners(services, service, port.number, namespace, &views);
                if listeners.is_empty() {
                    continue;
                }
                seen.push(Seen { service, port, listeners });
                is_everyone |= by_everyone;
                selectors.extend(by_selected);
            }
        }
        Self { namespace, seen, is_everyone, selectors, views }
    }

    /// Whether they follow what a namespace exports for one of these hosts, as far as Sidecars say.
    pub(super) fn import<'h>(&self, namespace: &str, mut hosts: impl Iterator<Item = &'h String>) -> bool {
        hosts.any(|host| self.views.iter().any(|view| view.imports(namespace, host)))
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
