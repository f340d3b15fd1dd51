//! What the mesh configuration of their own revision says to some proxies.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Namespace, Pod};

use super::scope::has_sidecar;
use super::service::{Labels, selects};
use super::sockets::Proxies;
use super::telemetries::Whose;
use crate::world::World;

/// Of which revisions of Istio proxies are.
#[derive(Debug)]
pub(super) struct Revisions<'a> {
    root_namespace: &'a str,
    /// Those that the labels of namespaces name.
    namespaces: BTreeMap<&'a str, &'a str>,
    /// The pods with proxies, by their namespaces.
    pods: BTreeMap<&'a str, Vec<Proxy<'a>>>,
}

/// A pod with a proxy.
#[derive(Debug)]
struct Proxy<'a> {
    labels: Option<&'a Labels>,
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

/// What names a revision.
pub(super) const REVISION: &str = "istio.io/rev";
/// The name of that whose ConfigMap is without one.
pub(super) const DEFAULT: &str = "default";

impl<'a> Revisions<'a> {
    /// Those of a mesh with this root namespace.
    pub(super) fn new(world: &'a World, root_namespace: &'a str) -> Self {
        let namespaces = world
            .namespaces
            .iter()
            .filter_map(|namespace| Some((namespace.metadata.name.as_deref()?, of_namespace(namespace)?)));
        let mut pods: BTreeMap<&str, Vec<_>> = BTreeMap::new();
        for pod in &world.pods {
            let own = of_pod(pod);
            if own.is_some() || has_sidecar(pod) {
                let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
                pods.entry(namespace).or_default().push(Proxy { labels: pod.metadata.labels.as_ref(), own });
            }
        }
        Self { root_namespace, namespaces: namespaces.collect(), pods }
    }

    /// That of all of the proxies, if it is one and known.
    fn of(&self, Whose { namespace, labels, .. }: Whose<'_>, proxies: Proxies) -> Option<&'a str> {
        // What is written there is for gateways of all namespaces.
        if proxies == Proxies::Gateways && namespace == self.root_namespace {
            return None;
        }
        let of_namespace = self.namespaces.get(namespace).copied();
        let pods = self.pods.get(namespace).into_iter().flatten();
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

/// The revision that injects the pods of a namespace, unless they say another themselves. It may be a tag, which stands for one.
fn of_namespace(namespace: &Namespace) -> Option<&str> {
    let labels = namespace.metadata.labels.as_ref()?;
    match labels.get("istio-injection") {
        Some(injection) => (injection == "enabled").then_some(DEFAULT),
        None => labels.get(REVISION).map(String::as_str),
    }
}

/// The revision that has injected a pod, or that it asks for.
fn of_pod(pod: &Pod) -> Option<&str> {
    let [annotations, labels] = [&pod.metadata.annotations, &pod.metadata.labels];
    let named = |all: &'_ Option<BTreeMap<String, String>>| {
        all.as_ref().is_some_and(|all| all.contains_key(REVISION))
    };
    let from = if named(annotations) { annotations } else { labels };
    from.as_ref()?.get(REVISION).map(String::as_str)
}
