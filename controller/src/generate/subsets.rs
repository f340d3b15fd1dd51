//! What DestinationRules say: the subsets of services, and what holds for the calls to them.

use std::collections::{BTreeSet, HashMap, HashSet};

use kube::ResourceExt;
use meltemi_proxy::plan::raw;

use super::age::Age;
use super::call_policy::{self, CallPolicy};
use super::draft::{Mirror, Target};
use super::exports::Exports;
use super::host::{self, ByHost};
use super::mesh::Mesh;
use super::report::Reports;
use super::router::Router;
use super::service::{Service, parts};
use super::virtual_service::Routing;
use crate::findings::ResourceRef;
use crate::istio::{DestinationRule, ServiceEntry, TrafficPolicy};
use crate::world::World;

/// The DestinationRules, by host.
#[derive(Debug)]
pub(super) struct Subsets<'a> {
    rules: ByHost<Rule<'a>>,
    /// The namespace that has the host of a service.
    owners: HashMap<String, String>,
    root_namespace: String,
    /// Some rule says something of calls.
    speak_of_calls: bool,
    /// Endpoints have weights by where they are, where no rule says it.
    distributes: bool,
    /// The hosts whose endpoints have weights of their own.
    weighted: HashSet<&'a str>,
}

/// A DestinationRule, and the namespaces that follow it.
#[derive(Debug)]
struct Rule<'a> {
    /// Its place among all.
    id: usize,
    rule: &'a DestinationRule,
    /// Its host in full.
    host: String,
    namespace: String,
    age: Age,
    /// The names of its subsets.
    subsets: HashSet<&'a str>,
    exports: Exports,
}

impl<'a> Subsets<'a> {
    /// Reads the rules. `owners` are the namespaces of services by their hosts.
    pub(super) fn new(world: &'a World, domain: &str, mesh: &Mesh, owners: HashMap<String, String>) -> Self {
        let in_full = |(id, rule): (usize, &'a DestinationRule)| {
            let namespace = rule.namespace().unwrap_or_default();
            let exports = rule.spec.export_to.iter().map(String::as_str);
            let exports = Exports::new(exports, &namespace, mesh.destination_rules);
            let subsets = rule.spec.subsets.iter().map(|subset| &*subset.name).collect();
            let host = host::in_full(&rule.spec.host, &namespace, domain);
            (host.clone(), Rule { id, rule, host, namespace, age: Age::of(rule), subsets, exports })
        };
        let speaks = |rule| policies(rule).any(|(_, policy)| call_policy::speaks(policy));
        Self {
            speak_of_calls: world.destination_rules.iter().any(speaks),
            distributes: mesh.distributes,
            weighted: world.service_entries.iter().flat_map(weighted).map(String::as_str).collect(),
            rules: ByHost::new(world.destination_rules.iter().enumerate().map(in_full)),
            owners,
            root_namespace: mesh.root_namespace.clone(),
        }
    }

    /// The rules that the clients of a namespace follow for a host, the oldest first. As Istio has it, those are of one namespace
    /// and for one pattern: of the client's own namespace, else of the service's, else of the root namespace.
    fn followed(&self, client: &str, host: &str, owner: Option<&str>) -> Vec<&Rule<'a>> {
        let is_seen =
            |rule: &&Rule<'_>| rule.rule.spec.workload_selector.is_none() && rule.exports.reach(client);
        let seen: Vec<&Rule<'_>> = self.rules.of(host).filter(is_seen).collect();
        let owner = owner.or_else(|| self.owners.get(host).map(String::as_str));
        let of_namespace = |namespace: &str| {
            let own = seen.iter().filter(|rule| rule.namespace == namespace);
            let narrowest = own.clone().max_by_key(|rule| (!rule.host.starts_with('*'), rule.host.len()))?;
            let mut own: Vec<&Rule<'_>> = own.filter(|rule| rule.host == narrowest.host).copied().collect();
            own.sort_by_key(|rule| &rule.age);
            Some(own)
        };
        let tiers = [Some(client), owner, Some(&*self.root_namespace)];
        tiers.into_iter().flatten().find_map(of_namespace).unwrap_or_default()
    }

    /// Which rules the clients of a namespace follow for the calls to a service that go to these hosts.
    pub(super) fn of_calls<'h>(
        &self,
        client: &str,
        service: &'h Service,
        hosts: impl Iterator<Item = &'h String>,
    ) -> Vec<usize> {
        if !self.speak_of_calls {
            return Vec::new();
        }
        let hosts: BTreeSet<&String> = hosts.chain([&service.host]).collect();
        let followed = hosts.into_iter().flat_map(|host| self.followed(client, host, owner(service, host)));
        followed.map(|rule| rule.id).collect()
    }

    /// Puts what holds for the calls of a namespace's clients into the plan's entry of a service, for each cluster that they may
    /// go to.
    pub(super) fn put(&self, client: &str, (service, port): (&Service, u16), entry: &mut raw::Service) {
        if !self.speak_of_calls && !self.distributes && self.weighted.is_empty() {
            return;
        }
        let mut by_host: HashMap<String, Vec<&Rule<'_>>> = HashMap::new();
        let mut clusters = clusters(entry);
        clusters.insert(service.cluster(port, None));
        let policy = |name: String| {
            let (host, port, subset) = parts(&name)?;
            let rules = by_host
                .entry(host.to_owned())
                .or_insert_with(|| self.followed(client, host, owner(service, host)));
            let cluster =
                policy(rules, subset, port).cluster(self.weighted.contains(host), self.distributes)?;
            Some((name, cluster))
        };
        entry.upstream.clusters = clusters.into_iter().filter_map(policy).collect();
    }

    /// Whether Istio's clusters speak HTTP/2 to a port by the rules that a namespace's clients follow; `None` where these do not
    /// say it.
    pub(super) fn upgrades(&self, client: &str, service: &Service, port: u16) -> Option<bool> {
        policy(&self.followed(client, &service.host, Some(&service.namespace)), None, port).upgrades()
    }

    /// Says which subsets a router names and nothing defines, and where it hashes calls that no ring leads.
    pub(super) fn check(&self, router: &Router, port: u16, reports: &mut Reports) {
        for (at, draft) in router.routes.iter().enumerate() {
            for (to, target) in draft.destinations.iter().enumerate() {
                if let Some(message) = self.undefined(&router.namespace, target, port) {
                    let path = format!("spec.routes[{at}].route[{to}].destination.subset");
                    reports.warn(&router.origin, path, message);
                }
                let is_hashed = draft.policies.hash_by.as_ref().is_some_and(|names| !names.is_empty());
                if is_hashed && !self.has_ring(&router.namespace, target, port) {
                    let message = format!(
                        "each proxy chooses endpoints of {} for itself: its cluster has no ring. Write \
                         trafficPolicy.loadBalancer.consistentHash in its DestinationRule",
                        target.host
                    );
                    reports.warn(&router.origin, format!("spec.routes[{at}].hashBy"), message);
                }
            }
            for Mirror { target, field, .. } in &draft.mirrors {
                if let Some(message) = self.undefined(&router.namespace, target, port) {
                    reports.warn(&router.origin, format!("spec.routes[{at}].{field}.subset"), message);
                }
            }
        }
    }

    fn has_ring(&self, client: &str, target: &Target, port: u16) -> bool {
        let rules = self.followed(client, &target.host, None);
        policy(&rules, target.subset.as_deref(), target.port.unwrap_or(port)).has_ring()
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
        let mut seen = self.rules.of(&target.host).filter(|rule| rule.exports.reach(namespace));
        if seen.any(|rule| rule.subsets.contains(&**subset)) {
            return None;
        }
        Some(format!(
            "no DestinationRule defines the subset {subset:?} of {}: what is sent there fails: the cluster {} does not exist",
            target.host,
            target.cluster(port)
        ))
    }

    /// Says what of a managed service's rules cannot be honoured.
    pub(super) fn report(&self, service: &Service, reports: &mut Reports) {
        for Rule { rule, .. } in self.rules.of(&service.host) {
            let origin = ResourceRef::of(*rule);
            let is_for_some = rule.spec.workload_selector.is_some();
            for (path, policy) in policies(rule) {
                if is_for_some && call_policy::speaks(policy) {
                    let message = "what it says of calls is not followed, since it is for some workloads alone: write a rule without";
                    reports.not_honoured(&origin, "spec.workloadSelector", message);
                }
                call_policy::report(&origin, &path, policy, service, reports);
            }
        }
    }
}

/// The hosts of an entry whose endpoints have different weights.
fn weighted(entry: &ServiceEntry) -> &[String] {
    let mut weights = entry.spec.endpoints.iter().map(|endpoint| endpoint.weight.max(1));
    let first = weights.next();
    if weights.all(|weight| Some(weight) == first) { &[] } else { &entry.spec.hosts }
}

/// The policies of a rule, each with its path.
fn policies(rule: &DestinationRule) -> impl Iterator<Item = (String, &TrafficPolicy)> {
    let of_all = rule.spec.traffic_policy.iter().map(|policy| ("spec.trafficPolicy".to_owned(), policy));
    let of_subsets = rule.spec.subsets.iter().enumerate();
    of_all.chain(of_subsets.filter_map(|(at, subset)| {
        Some((format!("spec.subsets[{at}].trafficPolicy"), subset.traffic_policy.as_ref()?))
    }))
}

/// What the rules that clients follow say of the calls to a port of a service, or to a subset of it.
fn policy<'a>(rules: &[&Rule<'a>], subset: Option<&str>, port: u16) -> CallPolicy<'a> {
    let of_all = rules.iter().find_map(|rule| rule.rule.spec.traffic_policy.as_ref());
    let mut subsets = rules.iter().flat_map(|rule| &rule.rule.spec.subsets);
    let of_subset = subset.and_then(|name| subsets.find(|subset| subset.name == name));
    CallPolicy::new(of_all, of_subset.and_then(|subset| subset.traffic_policy.as_ref()), port)
}

/// The namespace of a service, if the host is its own.
fn owner<'s>(service: &'s Service, host: &str) -> Option<&'s str> {
    (service.host == host).then_some(&*service.namespace)
}

/// The clusters that an entry names.
fn clusters(entry: &raw::Service) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let routes = entry.routes.iter().map(|route| &route.actions);
    for actions in routes.chain([&entry.default_route]) {
        names.extend(actions.cluster.clone());
        names.extend(actions.weighted_clusters.iter().flatten().map(|weighted| weighted.cluster.clone()));
        names.extend(actions.mirrors.iter().map(|mirror| mirror.cluster.clone()));
    }
    names
}
