//! The subsets of services: what DestinationRules say of them.

use super::host::{self, ByHost};
use super::mesh::Mesh;
use super::report::{Reports, ResourceRef};
use super::router::Router;
use super::service::Service;
use super::visibility::Exports;
use crate::istio::DestinationRule;
use crate::world::World;

/// The subsets that DestinationRules define, by host.
#[derive(Debug)]
pub(super) struct Subsets<'a>(ByHost<Rule<'a>>);

/// A DestinationRule, and the namespaces that go by it.
#[derive(Debug)]
struct Rule<'a> {
    rule: &'a DestinationRule,
    exports: Exports,
}

impl<'a> Subsets<'a> {
    pub(super) fn new(world: &'a World, domain: &str, mesh: &Mesh) -> Self {
        let in_full = |rule: &'a DestinationRule| {
            let namespace = rule.metadata.namespace.as_deref().unwrap_or_default();
            let exports = rule.spec.export_to.iter().map(String::as_str);
            let exports = Exports::new(exports, namespace, mesh.destination_rules);
            (host::in_full(&rule.spec.host, namespace, domain), Rule { rule, exports })
        };
        Self(ByHost::new(world.destination_rules.iter().map(in_full)))
    }

    /// Says which subsets a router names and nothing defines, and what of the rules cannot be honoured.
    pub(super) fn check(&self, router: &Router, port: u16, service: &Service, reports: &mut Reports) {
        for (at, draft) in router.routes.iter().enumerate() {
            for (to, target) in draft.destinations.iter().enumerate() {
                let Some(subset) = &target.subset else { continue };
                // Clients elsewhere may see less, but hardly more.
                let seen = self.0.of(&target.host).filter(|rule| rule.exports.reach(&router.namespace));
                let mut subsets = seen.flat_map(|seen| &seen.rule.spec.subsets);
                let defined = subsets.any(|of_rule| of_rule.name == *subset);
                if !defined {
                    let path = format!("spec.routes[{at}].route[{to}].destination.subset");
                    let message = format!(
                        "no DestinationRule defines the subset {subset:?} of {}: its calls fail for want of the cluster {}",
                        target.host,
                        target.cluster(port)
                    );
                    reports.warn(&router.origin, path, message);
                }
            }
        }
        for Rule { rule, .. } in self.0.of(&service.host) {
            let policies = [("spec.trafficPolicy", rule.spec.traffic_policy.as_ref())];
            let of_subsets =
                rule.spec.subsets.iter().map(|subset| ("spec.subsets", subset.traffic_policy.as_ref()));
            for (path, policy) in policies.into_iter().chain(of_subsets) {
                let balancer = policy.and_then(|policy| policy.load_balancer.as_ref());
                if balancer.is_some_and(|balancer| balancer.consistent_hash.is_some()) {
                    let path = format!("{path}.loadBalancer.consistentHash");
                    let message = "calls are not hashed yet: they go to any endpoint";
                    reports.not_honoured(&ResourceRef::of(*rule), path, message);
                }
            }
        }
    }
}
