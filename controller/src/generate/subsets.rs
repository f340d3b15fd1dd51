//! The subsets of services: what DestinationRules say of them.

use std::collections::HashSet;

use super::draft::{Mirror, Target};
use super::exports::Exports;
use super::host::{self, ByHost};
use super::mesh::Mesh;
use super::report::Reports;
use super::router::Router;
use super::virtual_service::Routing;
use crate::findings::ResourceRef;
use crate::istio::DestinationRule;
use crate::world::World;

/// The subsets that DestinationRules define, by host.
#[derive(Debug)]
pub(super) struct Subsets<'a>(ByHost<Rule<'a>>);

/// A DestinationRule, and the namespaces that follow it.
#[derive(Debug)]
struct Rule<'a> {
    rule: &'a DestinationRule,
    /// The names of its subsets.
    subsets: HashSet<&'a str>,
    exports: Exports,
}

impl<'a> Subsets<'a> {
    pub(super) fn new(world: &'a World, domain: &str, mesh: &Mesh) -> Self {
        let in_full = |rule: &'a DestinationRule| {
            let namespace = rule.metadata.namespace.as_deref().unwrap_or_default();
            let exports = rule.spec.export_to.iter().map(String::as_str);
            let exports = Exports::new(exports, namespace, mesh.destination_rules);
            let subsets = rule.spec.subsets.iter().map(|subset| &*subset.name).collect();
            (host::in_full(&rule.spec.host, namespace, domain), Rule { rule, subsets, exports })
        };
        Self(ByHost::new(world.destination_rules.iter().map(in_full)))
    }

    /// Says which subsets a router names and nothing defines.
    pub(super) fn check(&self, router: &Router, port: u16, reports: &mut Reports) {
        for (at, draft) in router.routes.iter().enumerate() {
            for (to, target) in draft.destinations.iter().enumerate() {
                if let Some(message) = self.undefined(&router.namespace, target, port) {
                    let path = format!("spec.routes[{at}].route[{to}].destination.subset");
                    reports.warn(&router.origin, path, message);
                }
            }
            for Mirror { target, field, .. } in &draft.mirrors {
                if let Some(message) = self.undefined(&router.namespace, target, port) {
                    reports.warn(&router.origin, format!("spec.routes[{at}].{field}.subset"), message);
                }
            }
        }
    }

    /// Says which subsets a VirtualService names and nothing defines.
    pub(super) fn check_routing(&self, routing: &Routing<'_>, port: u16, reports: &mut Reports) {
        for (path, target) in routing.destinations() {
            if let Some(message) = self.undefined(routing.namespace, &target, port) {
                reports.warn(&routing.origin, format!("{path}.subset"), message);
            }
        }
    }

    fn undefined(&self, namespace: &str, target: &Target, port: u16) -> Option<String> {
        let subset = target.subset.as_ref()?;
        // Clients elsewhere may see less, but hardly more.
        let mut seen = self.0.of(&target.host).filter(|rule| rule.exports.reach(namespace));
        if seen.any(|rule| rule.subsets.contains(&**subset)) {
            return None;
        }
        Some(format!(
            "no DestinationRule defines the subset {subset:?} of {}: what is sent there fails: the cluster {} does not exist",
            target.host,
            target.cluster(port)
        ))
    }

    /// Says what of a managed host's rules cannot be honoured.
    pub(super) fn report(&self, host: &str, reports: &mut Reports) {
        for Rule { rule, .. } in self.0.of(host) {
            let policies = [("spec.trafficPolicy".to_owned(), rule.spec.traffic_policy.as_ref())];
            let of_subsets = rule.spec.subsets.iter().enumerate();
            let of_subsets = of_subsets.map(|(at, subset)| {
                (format!("spec.subsets[{at}].trafficPolicy"), subset.traffic_policy.as_ref())
            });
            for (path, policy) in policies.into_iter().chain(of_subsets) {
                let of_all = policy.and_then(|policy| policy.load_balancer.as_ref());
                let of_all = of_all.map(|balancer| (format!("{path}.loadBalancer"), balancer));
                let of_ports =
                    policy.into_iter().flat_map(|policy| policy.port_level_settings.iter().enumerate());
                let of_ports = of_ports.filter_map(|(at, settings)| {
                    let balancer = settings.load_balancer.as_ref()?;
                    Some((format!("{path}.portLevelSettings[{at}].loadBalancer"), balancer))
                });
                for (path, balancer) in of_all.into_iter().chain(of_ports) {
                    if balancer.consistent_hash.is_some() {
                        let message = "calls are not hashed yet: they go to any endpoint";
                        reports.not_honoured(
                            &ResourceRef::of(*rule),
                            format!("{path}.consistentHash"),
                            message,
                        );
                    }
                }
            }
        }
    }
}
