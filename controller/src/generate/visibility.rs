//! Who sees what, by Istio's Sidecar.

use std::collections::BTreeMap;

use super::host;
use super::protocol::Protocol;
use super::service::{Labels, Service};
use super::sockets::Proxies;
use super::telemetries::{Side, Whose};
use crate::findings::ResourceRef;
use crate::istio::{EgressListener, Sidecar};
use crate::world::World;

/// What the sidecars of each namespace see.
#[derive(Debug)]
pub(super) struct Visibility<'a> {
    root_namespace: &'a str,
    sidecars: BTreeMap<&'a str, Vec<&'a Sidecar>>,
}

/// What some sidecars of one namespace see.
#[derive(Debug, Clone, Copy)]
pub(super) struct View<'a> {
    namespace: &'a str,
    /// The listeners of the Sidecar; without one everything that is exported is seen.
    egress: Option<&'a [EgressListener]>,
}

impl<'a> Visibility<'a> {
    pub(super) fn new(world: &'a World, root_namespace: &'a str) -> Self {
        let mut sidecars: BTreeMap<&str, Vec<&Sidecar>> = BTreeMap::new();
        for sidecar in &world.sidecars {
            sidecars
                .entry(sidecar.metadata.namespace.as_deref().unwrap_or_default())
                .or_default()
                .push(sidecar);
        }
        for of_namespace in sidecars.values_mut() {
            of_namespace.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
        }
        Self { root_namespace, sidecars }
    }

    /// What a namespace's sidecars see, but for those that a Sidecar selects.
    pub(super) fn of_namespace(&self, namespace: &'a str) -> View<'a> {
        let default = |namespace: &str| self.of(namespace).find(|sidecar| selector(sidecar).is_none());
        let sidecar = default(namespace).filter(|sidecar| !sidecar.spec.egress.is_empty());
        let sidecar = sidecar.or_else(|| default(self.root_namespace));
        let egress = sidecar.map(|sidecar| &*sidecar.spec.egress).filter(|egress| !egress.is_empty());
        View { namespace, egress }
    }

    /// What the sidecars see that a namespace's Sidecars select, each with its selector.
    pub(super) fn of_selected(&self, namespace: &'a str) -> impl Iterator<Item = (&'a Labels, View<'a>)> {
        self.selecting(namespace).map(|(_, labels, view)| (labels, view))
    }

    /// The Sidecars of a namespace that select some of its workloads, with their selectors, and what those see.
    fn selecting(&self, namespace: &'a str) -> impl Iterator<Item = (&'a Sidecar, &'a Labels, View<'a>)> {
        self.of(namespace).filter_map(move |sidecar| {
            let egress = &*sidecar.spec.egress;
            let view = match egress.is_empty() {
                true => self.of_namespace(namespace),
                false => View { namespace, egress: Some(egress) },
            };
            Some((sidecar, selector(sidecar)?, view))
        })
    }

    /// The cluster that leads proxies of a namespace to a port of a service: those with these labels, or some of them.
    ///
    /// # Errors
    ///
    /// They have none: why, as the rest of a sentence about who names the service.
    pub(super) fn cluster(
        &self,
        service: &Service,
        port: u16,
        (whose, proxies): (Whose<'a>, Proxies),
    ) -> Result<String, String> {
        let namespace = whose.namespace;
        let is_seen = match proxies {
            Proxies::Sidecars => self.views(whose).iter().any(|(_, view)| view.sees(service, port)),
            Proxies::Gateways => service.exports.reach(namespace),
        };
        let host = &service.host;
        match is_seen {
            true => Ok(service.cluster(port, None)),
            false => {
                Err(format!("names {host}, which {namespace} does not see, by its exportTo or by a Sidecar"))
            }
        }
    }

    /// Which of the sidecars with these labels do not see a port of a service, where others may, as a part of a sentence. Those of
    /// clients are some that see one of the `services` with calls.
    pub(super) fn unseen(
        &self,
        service: &Service,
        port: u16,
        whose: Whose<'a>,
        services: &[Service],
    ) -> Vec<String> {
        let calls = |view: &View<'_>| {
            let mut ports =
                services.iter().flat_map(|service| service.ports.iter().map(move |port| (service, port)));
            ports.any(|(service, port)| {
                matches!(port.protocol, Protocol::Codec(_)) && view.sees(service, port.number)
            })
        };
        let views = self.views(whose).into_iter().filter(|(_, view)| !view.sees(service, port));
        let unseen = views.filter(|(_, view)| whose.side == Side::Server || calls(view));
        let said = |(sidecar, _): (Option<&Sidecar>, _)| match sidecar {
            Some(sidecar) => format!("the workloads that {} selects", ResourceRef::of(sidecar)),
            None => format!("the workloads of {} that no Sidecar selects", whose.namespace),
        };
        unseen.map(said).collect()
    }

    /// What the sidecars of a namespace may see that have some labels, perhaps among others, with the Sidecar that selects them.
    fn views(&self, whose: Whose<'a>) -> Vec<(Option<&'a Sidecar>, View<'a>)> {
        let own = |key| whose.labels.and_then(|labels| labels.get(key));
        let mut views = Vec::new();
        let mut is_for_all = false;
        for (sidecar, labels, view) in self.selecting(whose.namespace) {
            let differs = |(key, value)| own(key).is_some_and(|own| own != value);
            if !labels.iter().any(differs) {
                is_for_all |= labels.iter().all(|(key, value)| own(key) == Some(value));
                views.push((Some(sidecar), view));
            }
        }
        if !is_for_all {
            views.push((None, self.of_namespace(whose.namespace)));
        }
        views
    }

    /// Whether the workloads that a service selects are called by what a Sidecar says, not by what the service does.
    pub(super) fn has_own_ingress(&self, service: &Service, target: u16) -> bool {
        self.of(&service.namespace).any(|sidecar| {
            let applies = match (selector(sidecar), &service.selector) {
                (Some(labels), Some(selected)) => {
                    labels.iter().all(|(key, value)| selected.get(key) == Some(value))
                }
                (None, _) => true,
                (Some(_), None) => false,
            };
            applies && sidecar.spec.ingress.iter().any(|listener| listener.port.number == target)
        })
    }

    fn of(&self, namespace: &str) -> impl Iterator<Item = &'a Sidecar> {
        self.sidecars.get(namespace).into_iter().flatten().copied()
    }
}

fn selector(sidecar: &Sidecar) -> Option<&Labels> {
    sidecar
        .spec
        .workload_selector
        .as_ref()
        .map(|selector| &selector.labels)
        .filter(|labels| !labels.is_empty())
}

impl View<'_> {
    /// Whether a port of a service is seen, on the listener that the service itself has.
    pub(super) fn sees(&self, service: &Service, port: u16) -> bool {
        let listens = |listener: &EgressListener| {
            let port = listener.port.as_ref().is_none_or(|only| only.number == port);
            let named = |entry: &String| self.names(entry, &service.namespace, &service.host);
            port && listener.bind.is_empty() && listener.hosts.iter().any(named)
        };
        service.exports.reach(self.namespace) && self.egress.is_none_or(|egress| egress.iter().any(listens))
    }

    /// Whether a service is seen at all.
    pub(super) fn sees_host(&self, service: &Service) -> bool {
        service.exports.reach(self.namespace) && self.imports(&service.namespace, &service.host)
    }

    /// Whether what a namespace exports for a host, or a pattern of hosts, is imported.
    pub(super) fn imports(&self, namespace: &str, host: &str) -> bool {
        let hosts =
            |listener: &EgressListener| listener.hosts.iter().any(|entry| self.names(entry, namespace, host));
        self.egress.is_none_or(|egress| egress.iter().any(hosts))
    }

    /// Whether an entry of a Sidecar means a host of a namespace.
    fn names(&self, entry: &str, namespace: &str, host: &str) -> bool {
        let (of, pattern) = entry.split_once('/').unwrap_or(("*", entry));
        let in_namespace = match of {
            "*" => true,
            "." => namespace == self.namespace,
            of => namespace == of,
        };
        in_namespace && host::overlaps(pattern, host)
    }
}
