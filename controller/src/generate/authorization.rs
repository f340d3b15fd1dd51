//! Who may call what on the services of a namespace: policies as routes of the servers' sidecars.
//!
//! As with Istio's AuthorizationPolicy, what one policy denies is denied, and where policies allow, nothing else is allowed.
//! Istio's own is Istio's to enforce, connection by connection: of calls on TCP ports it knows nothing.

mod alternatives;
mod policy;
mod rules;

use std::collections::{BTreeMap, BTreeSet};

use super::entry::Made;
use super::protocol::Protocol;
use super::reader::Reader;
use super::report::Reports;
use super::service::Service;
use crate::findings::ResourceRef;
use crate::world::World;
use policy::Policy;
use rules::Rules;

/// The policies of each namespace.
#[derive(Debug)]
pub(super) struct Authorization<'a>(BTreeMap<&'a str, Namespace>);

/// The policies of a namespace.
#[derive(Debug)]
pub(super) struct Namespace {
    /// As the servers have them whose calls are read so.
    by_reader: Vec<(Reader, Policies)>,
    origins: Vec<ResourceRef>,
}

/// The policies that servers have, as their sidecars do.
#[derive(Debug)]
pub(super) struct Policies {
    pub(super) origins: Vec<ResourceRef>,
    /// Whether any is enforced.
    pub(super) guards: bool,
    /// The plan's entry of each service.
    pub(super) entry: Made,
    /// The one for sidecars that do not learn who calls although others do, if a rule asks for it.
    pub(super) entry_without_identity: Option<Made>,
}

impl<'a> Authorization<'a> {
    /// Reads the policies. One with an error, or that the filter would refuse, allows nothing, or denies everything; so does
    /// a rule that asks who calls, where servers do not learn that.
    pub(super) fn new(
        world: &'a World,
        services: &[Service],
        tells_identity: bool,
        reports: &mut Reports,
    ) -> Self {
        let dubbo = world.dubbo_authorization_policies.iter().map(Policy::Dubbo);
        let own = world.meltemi_authorization_policies.iter().map(Policy::Own);
        let mut by_namespace: BTreeMap<&str, Vec<Policy<'_>>> = BTreeMap::new();
        for policy in dubbo.chain(own) {
            by_namespace.entry(policy.namespace()).or_default().push(policy);
        }
        let policies = |(namespace, mut all): (&'a str, Vec<Policy<'_>>)| {
            all.sort_by_key(|policy| (!policy.denies(), policy.title()));
            (namespace, Namespace::new(&all, readers(namespace, services), tells_identity, reports))
        };
        Self(by_namespace.into_iter().map(policies).collect())
    }

    /// The policies of a namespace, if it has any.
    pub(super) fn of(&self, namespace: &str) -> Option<&Namespace> {
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
            report(&policies.origins, message, reports);
        }
    }
}

/// How the calls of a namespace's managed ports are read, each once.
fn readers(namespace: &str, services: &[Service]) -> Vec<Reader> {
    let mut readers = Vec::new();
    for service in services.iter().filter(|service| service.namespace == namespace) {
        for port in &service.ports {
            if let Protocol::Codec(reader) = &port.protocol
                && !readers.contains(reader)
            {
                readers.push(reader.clone());
            }
        }
    }
    readers
}

impl Namespace {
    /// `policies` are those that deny, then those that allow.
    fn new(
        policies: &[Policy<'_>],
        readers: Vec<Reader>,
        tells_identity: bool,
        reports: &mut Reports,
    ) -> Self {
        for policy in policies {
            // Also where it has no calls to be for.
            reports.accepts(&policy.origin(), policy.check());
        }
        let of = |reader: Reader| {
            let own: Vec<_> = policies.iter().copied().filter(|policy| policy.is_for(&reader)).collect();
            let made = (!own.is_empty()).then(|| Policies::new(&own, &reader, tells_identity, reports))?;
            Some((reader, made))
        };
        Self {
            by_reader: readers.into_iter().filter_map(of).collect(),
            origins: policies.iter().map(|policy| policy.origin()).collect(),
        }
    }

    /// Those that servers have whose calls are read so.
    pub(super) fn of(&self, reader: &Reader) -> Option<&Policies> {
        self.by_reader.iter().find(|(of, _)| of == reader).map(|(_, policies)| policies)
    }

    /// Says which of them are for no service of the namespace.
    pub(super) fn report_idle(&self, reports: &mut Reports) {
        for origin in &self.origins {
            if !self.by_reader.iter().any(|(_, policies)| policies.origins.contains(origin)) {
                let message = match &*origin.kind {
                    "DubboAuthorizationPolicy" => "the namespace has no managed Dubbo service",
                    _ => "the namespace has no managed service of its protocols",
                };
                report(std::slice::from_ref(origin), message, reports);
            }
        }
    }
}

impl Policies {
    fn new(policies: &[Policy<'_>], reader: &Reader, tells_identity: bool, reports: &mut Reports) -> Self {
        let mut left = rules::MOST;
        let rules =
            policies.iter().map(|policy| Rules::new(*policy, reader, tells_identity, &mut left, reports));
        let mut all: Vec<Rules<'_>> = rules.collect();
        let of_all = rules::entry(&mut all, reports);
        let differs = all.iter().any(|rules| rules.routes != rules.without_identity);
        let without_identity = || rules::made(&all, |rules| &rules.without_identity);
        Self {
            entry: of_all,
            entry_without_identity: differs.then(without_identity),
            guards: policies.iter().any(|policy| !policy.is_dry_run()),
            origins: all.iter().map(|rules| rules.origin.clone()).collect(),
        }
    }

    /// Says of each of them that calls get past it.
    pub(super) fn report(&self, message: &str, reports: &mut Reports) {
        report(&self.origins, message, reports);
    }
}

fn report(origins: &[ResourceRef], message: &str, reports: &mut Reports) {
    for origin in origins {
        reports.not_honoured(origin, "spec", message);
    }
}

#[cfg(test)]
mod tests;
