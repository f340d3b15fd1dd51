//! The root namespace: what stands there without a selector holds for every proxy of the mesh.

use serde_json::json;

use super::{POLICY, assert_told, base, mesh_config, own};
use crate::{made, names, service, spec, tunnels};
use meltemi::generate::Output;

/// Whether all that is in the root namespace is for the proxies that a selector names.
#[track_caller]
fn assert_selects(output: &Output, root: &str) {
    for object in output.objects.iter().filter(|object| object.metadata.namespace == root) {
        let spec = json!(object.spec);
        let selectors = [&spec["selector"]["matchLabels"], &spec["workloadSelector"]["labels"]];
        let selects =
            selectors.iter().any(|labels| labels.as_object().is_some_and(|labels| !labels.is_empty()));
        assert!(selects || object.kind == "VirtualService", "{} {}", object.kind, object.metadata.name);
    }
}

fn has_none(output: &Output, root: &str) -> bool {
    !names(output).iter().any(|name| name.contains(&format!(" {root}/")))
}

#[test]
fn managed_ports_of_the_root_namespace_are_clients_business() {
    let in_root = service("istio-system", "limits", "10.96.0.77");
    let policy = POLICY.replace("namespace: shop", "namespace: istio-system");
    let output = made(&(base() + &in_root + &policy));
    assert!(has_none(&output, "istio-system"), "{:#?}", names(&output));
    assert!(tunnels(&output, "web").contains(&"10.96.0.77_20880".to_owned()));
    assert_told(
        &output,
        "NotHonoured Service istio-system/limits",
        "metadata.namespace",
        &["root namespace", "every proxy"],
    );
    assert_told(
        &output,
        "NotHonoured DubboAuthorizationPolicy istio-system/nobody",
        "spec",
        &["root namespace"],
    );
}

#[test]
fn a_gateways_pods_have_no_sidecars() {
    let injected = "---
apiVersion: v1
kind: Pod
metadata:
  name: edge-1
  namespace: NAMESPACE
  labels: {istio: ingress, sidecar.istio.io/inject: 'true', security.istio.io/tlsMode: istio}
  annotations: {inject.istio.io/templates: gateway, sidecar.istio.io/status: '{}'}
spec: {containers: [{name: istio-proxy}]}
";
    for namespace in ["istio-system", "edge"] {
        let pod = injected.replace("NAMESPACE", namespace);
        let known = format!("---\n{{apiVersion: v1, kind: Namespace, metadata: {{name: {namespace}}}}}\n");
        let output = made(&(base() + &known + &pod));
        assert!(has_none(&output, namespace), "{:#?}", names(&output));
        // By its only container, too.
        let bare = pod.replace("inject.istio.io/templates: gateway, ", "");
        assert!(has_none(&made(&(base() + &known + &bare)), namespace));
        // Beside an application it is a sidecar.
        let beside = bare.replace("[{name: istio-proxy}]", "[{name: app}, {name: istio-proxy}]");
        assert_eq!(has_none(&made(&(base() + &known + &beside)), namespace), namespace == "istio-system");
    }
}

const EDGE: &str = "---
apiVersion: v1
kind: Pod
metadata: {name: edge-1, namespace: istio-system, labels: {istio: ingress, app: edge}}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge, namespace: istio-system, creationTimestamp: '2021-01-01T00:00:00Z'}
spec:
  selector: {istio: ingress}
  servers: [{port: {number: 20880, name: tcp-metaprotocol-dubbo, protocol: TCP}, hosts: ['*']}]
";

fn routed(gateways: &str) -> String {
    own().replace("  routes:", &format!("  gateways: [{gateways}]\n  routes:"))
}

#[test]
fn gateways_of_the_root_namespace_are_named_by_their_labels() {
    let output = made(&(base() + EDGE + &routed("istio-system/edge")));
    assert_selects(&output, "istio-system");
    assert_eq!(tunnels(&output, "istio-system"), ["0.0.0.0_20880"]);
    assert_eq!(
        spec(&output, "WasmPlugin", "istio-system", "meltemi-gateway")["selector"]["matchLabels"],
        json!({"istio": "ingress"})
    );

    // What is there applies to pods elsewhere that have the labels: they get it once.
    let elsewhere =
        "---\n{apiVersion: v1, kind: Pod, metadata: {name: gw, namespace: web, labels: {istio: ingress}}}\n";
    let output = made(&(base() + EDGE + elsewhere + &routed("istio-system/edge")));
    assert!(!names(&output).iter().any(|name| name.starts_with("WasmPlugin web/meltemi-gateway")));

    // Two selectors would need an object without one.
    let second = "---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: second, namespace: shop, creationTimestamp: '2022-01-01T00:00:00Z'}
spec:
  selector: {app: edge}
  servers: [{port: {number: 20881, name: tcp-metaprotocol-dubbo, protocol: TCP}, hosts: ['*']}]
";
    let output = made(&(base() + EDGE + second + &routed("istio-system/edge, second")));
    assert_selects(&output, "istio-system");
    assert_eq!(tunnels(&output, "istio-system"), ["0.0.0.0_20880"]);
    assert_told(
        &output,
        "NotHonoured Gateway shop/second",
        "spec.selector",
        &["root namespace", "Gateway istio-system/edge"],
    );
}

#[test]
fn the_mesh_says_which_namespace_is_the_root() {
    let text = base() + &service("shop", "other", "10.96.0.6") + &mesh_config("rootNamespace: shop");
    let output = made(&text);
    assert!(has_none(&output, "shop"), "{:#?}", names(&output));
    assert!(!has_none(&output, "web"));
}

#[test]
fn pods_without_a_gateways_proxy_take_none_from_the_gateways_of_the_root_namespace() {
    let istiod = "---
apiVersion: v1
kind: Pod
metadata: {name: istiod, namespace: istio-system, labels: {app: istiod}}
spec: {containers: [{name: discovery}]}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: first, namespace: evil, creationTimestamp: '2000-01-01T00:00:00Z'}
spec:
  selector: {app: istiod}
  servers: [{port: {number: 20881, name: tcp-metaprotocol-dubbo, protocol: TCP}, hosts: ['*']}]
";
    let output = made(&(base() + EDGE + istiod + &routed("istio-system/edge, evil/first")));
    assert_selects(&output, "istio-system");
    assert_eq!(tunnels(&output, "istio-system"), ["0.0.0.0_20880"]);
    assert_eq!(
        spec(&output, "WasmPlugin", "istio-system", "meltemi-gateway")["selector"]["matchLabels"],
        json!({"istio": "ingress"})
    );
}
