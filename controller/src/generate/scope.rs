//! Which namespaces have sidecars.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Namespace, Pod};

use super::protocol::Protocol;
use super::report::Reports;
use super::service::{Labels, Service, selects};
use crate::world::World;

/// The namespaces that may have sidecars: those whose pods are injected, by their labels or as the pods show. A namespace
/// of which nothing is known is taken for one, since objects without a proxy to read them do no harm. The `root` namespace is
/// none of them: objects there would be for the sidecars of all namespaces, which have their own.
pub(super) fn with_sidecars<'a>(
    world: &'a World,
    root: &str,
    named: impl Iterator<Item = &'a str>,
) -> BTreeSet<&'a str> {
    let known: BTreeSet<&str> =
        world.namespaces.iter().filter_map(|known| known.metadata.name.as_deref()).collect();
    let injected = world.namespaces.iter().filter(|namespace| is_injected(namespace));
    let injected = injected.filter_map(|namespace| namespace.metadata.name.as_deref());
    let with_pods = world.pods.iter().filter(|pod| has_sidecar(pod));
    let with_pods = with_pods.filter_map(|pod| pod.metadata.namespace.as_deref());
    let all = injected.chain(with_pods).chain(named.filter(|named| !known.contains(named)));
    all.filter(|&namespace| namespace != root).collect()
}

/// Says which services of the root namespace have servers that are not managed.
pub(super) fn report_root(root: &str, services: &[Service], reports: &mut Reports) {
    let has_codec =
        |service: &Service| service.ports.iter().any(|port| matches!(port.protocol, Protocol::Codec(_)));
    let in_root = services.iter().filter(|service| service.namespace == root && service.selector.is_some());
    for service in in_root.filter(|service| has_codec(service)) {
        let message = "the sidecars of the root namespace are not managed, since an object there is for every proxy of the mesh: \
                       clients elsewhere follow its routes, but calls to and from its own pods stay plain TCP";
        reports.not_honoured(&service.origin, "metadata.namespace", message);
    }
}

/// The pods with these labels whose proxy may be a gateway.
pub(super) fn gateways<'a>(world: &'a World, labels: &Labels) -> impl Iterator<Item = &'a Pod> {
    let may_be = move |pod: &&Pod| selects(labels, pod.metadata.labels.as_ref()) && may_be_gateway(pod);
    world.pods.iter().filter(may_be)
}

/// Whether the proxy of a pod may be a gateway. Labels are anybody's to ask for: a pod with a sidecar, or without any proxy, is none.
pub(super) fn may_be_gateway(pod: &Pod) -> bool {
    let containers = pod.spec.as_ref().map_or(&[][..], |spec| &spec.containers);
    let has_proxy =
        containers.is_empty() || containers.iter().any(|container| container.name == "istio-proxy");
    has_proxy && !has_sidecar(pod)
}

/// Whether a pod will not run again, as that of a Job that is done.
pub(super) fn has_ended(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

fn is_injected(namespace: &Namespace) -> bool {
    let Some(labels) = &namespace.metadata.labels else { return false };
    match labels.get("istio-injection").map(String::as_str) {
        Some(injection) => injection == "enabled",
        None => labels.contains_key("istio.io/rev"),
    }
}

/// Whether the proxy of a pod is a sidecar.
pub(super) fn has_sidecar(pod: &Pod) -> bool {
    let label =
        |name: &str| pod.metadata.labels.as_ref().and_then(|labels| labels.get(name)).map(String::as_str);
    let annotated =
        pod.metadata.annotations.as_ref().is_some_and(|all| all.contains_key("sidecar.istio.io/status"));
    let injected = annotated
        || label("security.istio.io/tlsMode") == Some("istio")
        || label("sidecar.istio.io/inject") == Some("true");
    injected && !is_gateway(pod)
}

/// Whether the proxy of a pod is a gateway's: it was injected as one, or is all that the pod runs.
fn is_gateway(pod: &Pod) -> bool {
    let templates = pod.metadata.annotations.as_ref().and_then(|all| all.get("inject.istio.io/templates"));
    let as_one = templates.is_some_and(|templates| templates.split(',').any(|name| name.trim() == "gateway"));
    let containers = pod.spec.as_ref().map_or(&[][..], |spec| &spec.containers);
    let is_alone =
        !containers.is_empty() && containers.iter().all(|container| container.name == "istio-proxy");
    as_one || is_alone
}
