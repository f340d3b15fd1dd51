//! Who may call what on the Dubbo services of a namespace: DubboAuthorizationPolicies as routes of the servers' sidecars.
//!
//! As with Istio's AuthorizationPolicy, what one policy denies is denied, and where policies allow, nothing else is allowed.

mod alternatives;
mod rules;

use std::collections::{BTreeMap, BTreeSet};

use super::entry::Made;
use super::report::Reports;
use crate::api::aeraki::{AuthorizationAction, DubboAuthorizationPolicy};
use crate::findings::ResourceRef;
use crate::world::World;
use rules::Rules;

pub(super) use rules::CODEC;

/// The policies of each namespace.
#[derive(Debug)]
pub(super) struct Authorization<'a>(BTreeMap<&'a str, Policies>);

/// The policies of a namespace, as the sidecars of its Dubbo servers have them.
#[derive(Debug)]
pub(super) struct Policies {
    origins: Vec<ResourceRef>,
    /// The plan's entry of each Dubbo service.
    pub(super) entry: Made,
    /// The one for sidecars that do not learn who calls although others do, if a rule asks for it.
    pub(super) entry_without_identity: Option<Made>,
}

impl<'a> Authorization<'a> {
    /// Reads the policies. One with an error, or that the filter would refuse, allows nothing, or denies everything; so does
    /// a rule that asks who calls, where servers do not learn that.
    pub(super) fn new(world: &'a World, tells_identity: bool, reports: &mut Reports) -> Self {
        let mut by_namespace: BTreeMap<&str, Vec<&DubboAuthorizationPolicy>> = BTreeMap::new();
        for policy in &world.dubbo_authorization_policies {
            let namespace = policy.metadata.namespace.as_deref().unwrap_or_default();
            by_namespace.entry(namespace).or_default().push(policy);
        }
        let policies = |(namespace, mut all): (&'a str, Vec<&DubboAuthorizationPolicy>)| {
            all.sort_by_key(|policy| {
                (policy.spec.action == AuthorizationAction::Allow, &policy.metadata.name)
            });
            (namespace, Policies::new(&all, tells_identity, reports))
        };
        Self(by_namespace.into_iter().map(policies).collect())
    }

    /// The policies of a namespace, if it has any.
    pub(super) fn of(&self, namespace: &str) -> Option<&Policies> {
        self.0.get(namespace)
    }

    /// The namespaces that have policies.
    pub(super) fn namespaces(&self) -> impl Iterator<Item = &'a str> {
        self.0.keys().copied()
    }

    /// Says which policies are of namespaces without sidecars.
    pub(super) fn report_bare(&self, with_sidecars: &BTreeSet<&str>, root: &str, reports: &mut Reports) {
        for (namespace, policies) in
            self.0.iter().filter(|(namespace, _)| !with_sidecars.contains(*namespace))
        {
            let message = match *namespace == root {
                true => {
                    "the sidecars of the root namespace, which would enforce it, are not managed: give the services a \
                         namespace of their own"
                }
                false => "the namespace has no sidecars, which would enforce it",
            };
            policies.report(message, reports);
        }
    }
}

impl Policies {
    /// `policies` are those that deny, then those that allow.
    fn new(policies: &[&DubboAuthorizationPolicy], tells_identity: bool, reports: &mut Reports) -> Self {
        let mut left = rules::MOST;
        let rules = policies.iter().map(|policy| Rules::new(policy, tells_identity, &mut left, reports));
        let mut all: Vec<Rules<'_>> = rules.collect();
        let allows = policies.iter().any(|policy| policy.spec.action == AuthorizationAction::Allow);
        let of_all = rules::entry(&mut all, allows, reports);
        let differs = all.iter().any(|rules| rules.routes != rules.without_identity);
        let without_identity = || rules::made(&all, |rules| &rules.without_identity, allows);
        Self {
            entry: of_all,
            entry_without_identity: differs.then(without_identity),
            origins: all.iter().map(|rules| rules.origin.clone()).collect(),
        }
    }

    /// Says of each of them that calls get past it.
    pub(super) fn report(&self, message: &str, reports: &mut Reports) {
        for origin in &self.origins {
            reports.not_honoured(origin, "spec", message);
        }
    }
}

#[cfg(test)]
mod tests;
