//! Whose the hosts are that Redis connections go to.

use std::collections::BTreeMap;

use crate::generate::age::Age;
use crate::generate::exports::{Exports, Unsaid};
use crate::generate::service::EXPORT_TO;
use crate::world::World;

/// Every host of the mesh that is known, with those who have it: a Service of Kubernetes alone, else ServiceEntries, the oldest
/// first.
#[derive(Debug)]
pub(super) struct Hosts<'a>(BTreeMap<String, Vec<Claimant<'a>>>);

/// Who has a host.
#[derive(Debug, Clone)]
pub(super) struct Claimant<'a> {
    pub(super) namespace: &'a str,
    /// The namespaces that may see the host.
    pub(super) exports: Exports,
    /// Its clusters connect to where the client meant to.
    pub(super) is_original_destination: bool,
}

impl<'a> Hosts<'a> {
    pub(super) fn new(world: &'a World, domain: &str, unsaid: Unsaid) -> Self {
        let mut hosts: BTreeMap<String, Vec<Claimant<'a>>> = BTreeMap::new();
        let mut entries: Vec<_> = world.service_entries.iter().collect();
        entries.sort_by_cached_key(|entry| Age::of(*entry));
        for entry in entries {
            let namespace = entry.metadata.namespace.as_deref().unwrap_or_default();
            let claimant = Claimant {
                namespace,
                exports: Exports::new(entry.spec.export_to.iter().map(String::as_str), namespace, unsaid),
                is_original_destination: matches!(entry.spec.resolution.as_str(), "" | "NONE"),
            };
            for host in &entry.spec.hosts {
                hosts.entry(host.clone()).or_default().push(claimant.clone());
            }
        }
        for service in &world.services {
            let (Some(name), Some(namespace)) =
                (service.metadata.name.as_deref(), service.metadata.namespace.as_deref())
            else {
                continue;
            };
            let exports = service.metadata.annotations.as_ref().and_then(|all| all.get(EXPORT_TO));
            let exports = exports.iter().flat_map(|list| list.split(','));
            let claimant = Claimant {
                namespace,
                exports: Exports::new(exports, namespace, unsaid),
                is_original_destination: service
                    .spec
                    .as_ref()
                    .is_some_and(|spec| spec.cluster_ip.as_deref() == Some("None")),
            };
            hosts.insert(format!("{name}.{namespace}.svc.{domain}"), vec![claimant]);
        }
        Self(hosts)
    }

    /// Who has a host for those of a namespace: that itself, else the first that it sees.
    pub(super) fn meant(&self, host: &str, namespace: &str) -> Option<&Claimant<'a>> {
        let all = self.0.get(host)?;
        let own = all.iter().find(|claimant| claimant.namespace == namespace);
        own.or_else(|| all.iter().find(|claimant| claimant.exports.reach(namespace)))
    }

    /// The namespace that has a host, if a namespace has no part in it.
    pub(super) fn stranger(&self, host: &str, namespace: &str) -> Option<&'a str> {
        let all = self.0.get(host)?;
        let has_part = all.iter().any(|claimant| claimant.namespace == namespace);
        all.first().filter(|_| !has_part).map(|first| first.namespace)
    }
}
