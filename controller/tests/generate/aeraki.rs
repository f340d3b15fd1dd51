use serde_json::json;

use crate::{findings, made, plan};

/// The shape of Aeraki's own demonstration: a ServiceEntry, and a router that names it.
const SERVICE: &str = "---
apiVersion: networking.istio.io/v1alpha3
kind: ServiceEntry
metadata: {name: greeter, namespace: shop}
spec:
  hosts: [org.acme.greeter]
  addresses: [240.240.0.20]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{number: 20880, name: tcp-metaprotocol-dubbo, protocol: TCP}]
  workloadSelector: {labels: {app: greeter}}
---
apiVersion: networking.istio.io/v1alpha3
kind: DestinationRule
metadata: {name: greeter, namespace: shop}
spec:
  host: org.acme.greeter
  trafficPolicy: {loadBalancer: {consistentHash: {httpHeaderName: method}}}
  subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]
";

const ROUTER: &str = "---
apiVersion: metaprotocol.aeraki.io/v1alpha1
kind: MetaRouter
metadata: {name: greeter, namespace: shop}
spec:
  hosts: [org.acme.greeter]
  routes:
  - name: canary
    match: {attributes: {method: {exact: sayHello}, user: {regex: 't.*'}, tag: {exact: ''}}}
    route:
    - {destination: {host: org.acme.greeter, subset: v1}, weight: 90}
    - {destination: {host: org.acme.greeter, subset: v2}, weight: 10}
    mirror: {host: org.acme.greeter, subset: v2}
    mirrorPercentage: {value: 50}
    requestMutation: [{key: foo, value: bar}]
    responseMutation: [{key: foo, value: baz}]
";

#[test]
fn a_router_of_aeraki_is_honoured_as_it_is() {
    let output = made(&format!("{SERVICE}{ROUTER}"));
    let wanted = json!({
        "protocol": "dubbo",
        // As in Aeraki, routes leave nothing over.
        "onNoMatch": "reject",
        "routes": [{
            "name": "shop/greeter/canary",
            "match": [{"attributes": {
                "method": {"exact": "sayHello"},
                "user": {"regex": "t.*"},
                "tag": {"present": true, "invert": false},
            }}],
            "weightedClusters": [
                {"cluster": "outbound|20880|v1|org.acme.greeter", "weight": 90},
                {"cluster": "outbound|20880|v2|org.acme.greeter", "weight": 10},
            ],
            "requestAttachments": {"set": {"foo": "bar"}},
            "responseAttachments": {"set": {"foo": "baz"}},
        }],
    });
    assert_eq!(plan(&output, "shop")["org.acme.greeter:20880"], wanted);
    let wanted = [
        "NotHonoured DestinationRule shop/greeter: spec.trafficPolicy.loadBalancer.consistentHash: calls are not hashed yet: \
         they go to any endpoint",
        "NotHonoured MetaRouter shop/greeter: spec.routes[0].mirror: calls are not mirrored yet",
    ];
    assert_eq!(findings(&output), wanted);
}

#[test]
fn a_service_without_a_router_goes_where_istio_says() {
    let output = made(SERVICE);
    assert_eq!(plan(&output, "shop")["org.acme.greeter:20880"], json!({"protocol": "dubbo"}));
}
