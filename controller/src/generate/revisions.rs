//! What the mesh configuration of their own revision says to some proxies.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Namespace, Pod, Service};

use super::mesh::Told;
use super::report::Reports;
use super::scope::{has_ended, has_sidecar, may_be_gateway};
use super::service::{Labels, selects};
use super::sockets::Proxies;
use super::telemetries::Whose;
use crate::findings::ResourceRef;
use crate::world::World;

/// Of which revisions of Istio proxies are.
#[derive(Debug)]
pub(super) struct Revisions<'a> {
    root_namespace: &'a str,
    /// Those that the labels of namespaces name, or tags of which it is not known for which they stand.
    namespaces: BTreeMap<&'a str, &'a str>,
    /// The pods with proxies, by their namespaces.
    pods: BTreeMap<&'a str, Vec<Proxy<'a>>>,
}

/// A pod with a proxy.
#[derive(Debug)]
struct Proxy<'a> {
    labels: Option<&'a Labels>,
    kind: Proxies,
    /// The revision that it has by itself.
    own: Option<&'a str>,
}

/// Something that each revision has, and all of them together.
#[derive(Debug)]
pub(super) struct ByRevision<'a, T> {
    revisions: &'a Revisions<'a>,
    own: BTreeMap<&'a str, T>,
    all: T,
}

/// What names a revision, or a tag of one.
pub(super) const REVISION: &str = "istio.io/rev";
/// What names the tag that a Service of istiod stands for.
const TAG: &str = "istio.io/tag";
/// The name of that whose ConfigMap is without one.
pub(super) const DEFAULT: &str = "default";

impl<'a> Revisions<'a> {
    /// Those of a mesh with this root namespace, and istiod in that one.
    pub(super) fn new(world: &'a World, root_namespace: &'a str, istio_namespace: &str) -> Self {
        let tags = tags(world, istio_namespace);
        let namespaces = world.namespaces.iter().filter_map(|namespace| {
            Some((namespace.metadata.name.as_deref()?, untagged(&tags, of_namespace(namespace)?)))
        });
        let mut pods: BTreeMap<&str, Vec<_>> = BTreeMap::new();
        for pod in world.pods.iter().filter(|pod| !has_ended(pod)) {
            let own = of_pod(pod, &tags);
            let kind = match has_sidecar(pod) {
                true => Proxies::Sidecars,
                false if own.is_some() && may_be_gateway(pod) => Proxies::Gateways,
                false => continue,
            };
            let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
            let labels = pod.metadata.labels.as_ref();
            pods.entry(namespace).or_default().push(Proxy { labels, kind, own });
        }
        Self { root_namespace, namespaces: namespaces.collect(), pods }
    }

    /// Says which namespaces have proxies of none of the `known` revisions, since their labels are tags that no Service stands for.
    pub(super) fn report_unknown(
        &self,
        namespaces: &BTreeSet<&str>,
        known: &BTreeMap<String, Told>,
        reports: &mut Reports,
    ) {
        for (&namespace, &revision) in &self.namespaces {
            let mut sidecars = self.of_kind(namespace, Proxies::Sidecars);
            let is_told = known.contains_key(revision) || sidecars.any(|pod| pod.own.is_some());
            if is_told || !namespaces.contains(namespace) {
                continue;
            }
            let message = format!(
                "{revision:?} is neither a revision that has a ConfigMap nor a tag that a Service beside istiod stands for: until \
                 pods tell their revision, logs and traces are as all revisions have them together. Name a revision, or set the \
                 tag anew with an istioctl that makes its Service"
            );
            let origin = ResourceRef::new("Namespace", "", None, namespace);
            reports.warn(&origin, "metadata.labels", message);
        }
    }

    /// The pods of a namespace with such proxies.
    fn of_kind(&self, namespace: &str, kind: Proxies) -> impl Iterator<Item = &Proxy<'a>> {
        self.pods.get(namespace).into_iter().flatten().filter(move |pod| pod.kind == kind)
    }

    /// That of all of the proxies, if it is one and known.
    fn of(&self, Whose { namespace, labels, .. }: Whose<'_>, proxies: Proxies) -> Option<&'a str> {
        // What is written there is for gateways of all namespaces.
        if proxies == Proxies::Gateways && namespace == self.root_namespace {
            return None;
        }
        let of_namespace = self.namespaces.get(namespace).copied();
        let pods = self.of_kind(namespace, proxies);
        let meant = pods.filter(|pod| labels.is_none_or(|labels| selects(labels, pod.labels)));
        let of_pods: BTreeSet<Option<&str>> = meant.map(|pod| pod.own.or(of_namespace)).collect();
        match of_pods.len() {
            0 => of_namespace,
            1 => of_pods.into_iter().next().flatten(),
            _ => None,
        }
    }
}

impl<'a, T> ByRevision<'a, T> {
    /// What `all` revisions have together, and each its `own`, by their names.
    pub(super) fn new(revisions: &'a Revisions<'a>, all: T, own: Vec<(&'a str, T)>) -> Self {
        Self { revisions, own: own.into_iter().collect(), all }
    }

    /// That of some proxies: of their own revision, if they are of one, else of all.
    pub(super) fn of(&self, whose: Whose<'_>, proxies: Proxies) -> &T {
        if self.own.is_empty() {
            return &self.all;
        }
        let own = self.revisions.of(whose, proxies).and_then(|revision| self.own.get(revision));
        own.unwrap_or(&self.all)
    }
}

/// The revisions that tags stand for, as the Services in istiod's namespace say that come with tags.
fn tags<'a>(world: &'a World, istio_namespace: &str) -> BTreeMap<&'a str, &'a str> {
    let are_there = |service: &&Service| {
        service.metadata.namespace.as_deref().is_some_and(|name| name == istio_namespace)
    };
    let mut services: Vec<&Service> = world.services.iter().filter(are_there).collect();
    // Of several for one tag the first by name counts.
    services.sort_by_key(|service| Reverse(&service.metadata.name));
    let labels = services.into_iter().filter_map(|service| service.metadata.labels.as_ref());
    labels.filter_map(|labels| Some((&**labels.get(TAG)?, &**labels.get(REVISION)?))).collect()
}

/// The revision of a name that may be a tag.
fn untagged<'a>(tags: &BTreeMap<&str, &'a str>, name: &'a str) -> &'a str {
    tags.get(name).copied().unwrap_or(name)
}

/// The revision that injects the pods of a namespace, unless they say another themselves. It may be a tag, which stands for one.
fn of_namespace(namespace: &Namespace) -> Option<&str> {
    let labels = namespace.metadata.labels.as_ref()?;
    match labels.get("istio-injection") {
        Some(injection) => (injection == "enabled").then_some(DEFAULT),
        None => labels.get(REVISION).map(String::as_str),
    }
}

/// The revision that has injected a pod, or that it asks for, perhaps by a tag.
fn of_pod<'a>(pod: &'a Pod, tags: &BTreeMap<&str, &'a str>) -> Option<&'a str> {
    let named = |all: &'a Option<BTreeMap<String, String>>| all.as_ref()?.get(REVISION).map(String::as_str);
    let asked = || named(&pod.metadata.labels).map(|name| untagged(tags, name));
    named(&pod.metadata.annotations).or_else(asked)
}
