//! Which namespaces have sidecars.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Namespace, Pod};

use crate::world::World;

/// The namespaces that may have sidecars: those whose pods are injected, by their labels or as the pods show. A namespace
/// of which nothing is known is taken for one, since objects without a proxy to read them do no harm.
pub(super) fn with_sidecars<'a>(world: &'a World, named: impl Iterator<Item = &'a str>) -> BTreeSet<&'a str> {
    let known: BTreeSet<&str> =
        world.namespaces.iter().filter_map(|known| known.metadata.name.as_deref()).collect();
    let injected = world.namespaces.iter().filter(|namespace| is_injected(namespace));
    let injected = injected.filter_map(|namespace| namespace.metadata.name.as_deref());
    let with_pods = world.pods.iter().filter(|pod| has_sidecar(pod));
    let with_pods = with_pods.filter_map(|pod| pod.metadata.namespace.as_deref());
    injected.chain(with_pods).chain(named.filter(|named| !known.contains(named))).collect()
}

fn is_injected(namespace: &Namespace) -> bool {
    let Some(labels) = &namespace.metadata.labels else { return false };
    match labels.get("istio-injection").map(String::as_str) {
        Some(injection) => injection == "enabled",
        None => labels.contains_key("istio.io/rev"),
    }
}

fn has_sidecar(pod: &Pod) -> bool {
    let label =
        |name: &str| pod.metadata.labels.as_ref().and_then(|labels| labels.get(name)).map(String::as_str);
    let annotated =
        pod.metadata.annotations.as_ref().is_some_and(|all| all.contains_key("sidecar.istio.io/status"));
    annotated
        || label("security.istio.io/tlsMode") == Some("istio")
        || label("sidecar.istio.io/inject") == Some("true")
}
