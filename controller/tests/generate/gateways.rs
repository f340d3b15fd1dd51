use meltemi::findings::ResourceRef;
use meltemi::generate::Output;
use serde_json::json;

use crate::{findings, made, names, object, service, spec, tunnels};

const GATEWAY: &str = "---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge, namespace: shop}
spec:
  selector: {istio: ingress}
  servers:
  - {port: {number: 9000, name: tcp-metaprotocol-dubbo, protocol: TCP}, hosts: [shop/*.example.org]}
  - {port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}
";

const ROUTER: &str = "---
apiVersion: meltemi.io/v1alpha1
kind: MetaRouter
metadata: {name: demo, namespace: shop}
spec:
  hosts: [demo]
  gateways: [edge]
  routes: [{name: one, match: {attributes: {a: {exact: x}}}, route: [{destination: {host: demo}}]}]
";

#[test]
fn a_gateway_gets_a_route_a_tunnel_and_a_plan() {
    let pod = "---
{apiVersion: v1, kind: Pod, metadata: {name: gw, namespace: istio-ingress, labels: {istio: ingress}}}
";
    let output = made(&(service("shop", "demo", "10.0.0.1") + GATEWAY + ROUTER + pod));
    assert_eq!(tunnels(&output, "istio-ingress"), ["0.0.0.0_9000"]);
    let route = object(&output, "VirtualService", "shop", "meltemi-gateway-edge-9000");
    let wanted = json!({
        "hosts": ["*.example.org"],
        "gateways": ["shop/edge"],
        "exportTo": ["istio-ingress"],
        "tcp": [{
            "match": [{"port": 9000}],
            "route": [{"destination": {"host": "demo.shop.svc.cluster.local", "port": {"number": 20880}}}],
        }],
    });
    assert_eq!(json!(route.spec), wanted);
    let module = spec(&output, "WasmPlugin", "istio-ingress", "meltemi-gateway");
    let entry = &module["pluginConfig"]["services"]["gateway.edge.shop:9000"];
    assert_eq!(entry["routes"][0]["cluster"], "outbound|20880||demo.shop.svc.cluster.local");
    assert_eq!(module["selector"]["matchLabels"], json!({"istio": "ingress"}));
    // It is in force where all of these are written.
    let places = &output.places()[&ResourceRef::new("MetaRouter", "meltemi.io", Some("shop"), "demo")];
    assert_eq!(places.to_string(), "on shop/edge");
    let go_by = |namespace: &str| places.go_by(&namespace.into(), &"meltemi-gateway".into());
    assert_eq!(["istio-ingress", "shop", "web"].map(go_by), [true, true, false]);
}

#[test]
fn a_gateway_that_someone_routes_keeps_that_route() {
    let routed = "---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: edge, namespace: shop}
spec:
  hosts: ['*.example.org']
  gateways: [edge]
  tcp: [{match: [{port: 9000}], route: [{destination: {host: demo}}]}]
";
    let output = made(&(service("shop", "demo", "10.0.0.1") + GATEWAY + ROUTER + routed));
    assert!(!names(&output).iter().any(|name| name.starts_with("VirtualService")));
    // What was generated before is no reason not to generate it again.
    let own = routed
        .replace("namespace: shop}", "namespace: shop, labels: {app.kubernetes.io/managed-by: meltemi}}");
    let output = made(&(service("shop", "demo", "10.0.0.1") + GATEWAY + ROUTER + &own));
    assert!(names(&output).iter().any(|name| name.starts_with("VirtualService")));
}

#[test]
fn what_stays_encrypted_is_not_managed() {
    let with = |tls: &str| {
        let gateway = GATEWAY.replace("protocol: TCP}", &format!("protocol: TLS}}, tls: {{{tls}}}"));
        made(&(service("shop", "demo", "10.0.0.1") + &gateway + ROUTER))
    };
    let is_managed =
        |output: &Output| tunnels(output, "shop").iter().any(|listener| listener == "0.0.0.0_9000");
    assert!(is_managed(&with("mode: SIMPLE, credentialName: edge")));
    for mode in ["PASSTHROUGH", "AUTO_PASSTHROUGH"] {
        let output = with(&format!("mode: {mode}"));
        assert!(!is_managed(&output));
        let findings = findings(&output);
        let told = |finding: &String| finding.contains("spec.servers[0].tls.mode") && finding.contains(mode);
        assert!(findings.iter().any(told), "{findings:?}");
    }
}

#[test]
fn a_gateway_without_a_router_is_left_alone() {
    let output = made(&(service("shop", "demo", "10.0.0.1") + GATEWAY));
    assert!(!names(&output).iter().any(|name| name.contains("gateway")));
    assert_eq!(
        findings(&output),
        [
            "Warning Gateway shop/edge: spec.servers[0].port: no MetaRouter with a managed host names this gateway: it leads \
          nowhere"
        ]
    );
}
