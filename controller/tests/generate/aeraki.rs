use serde_json::{Value, json};

use crate::{findings, made, plan, service};

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
                "tag": {"present": true},
            }}],
            "weightedClusters": [
                {"cluster": "outbound|20880|v1|org.acme.greeter", "weight": 90},
                {"cluster": "outbound|20880|v2|org.acme.greeter", "weight": 10},
            ],
            "mirrors": [{"cluster": "outbound|20880|v2|org.acme.greeter", "percent": 50.0}],
            "requestAttachments": {"set": {"foo": "bar"}},
            "responseAttachments": {"set": {"foo": "baz"}},
        }],
    });
    let mut entry = plan(&output, "shop")["org.acme.greeter:20880"].clone();
    let upstream = entry.as_object_mut().unwrap().remove("upstream").unwrap();
    assert_eq!(entry, wanted);
    let hashed = ["", "v1", "v2"]
        .map(|subset| (format!("outbound|20880|{subset}|org.acme.greeter"), json!({"hashBy": ["method"]})));
    assert_eq!(upstream["clusters"], Value::Object(hashed.into_iter().collect()));
    assert_eq!(findings(&output), [""; 0]);
}

#[test]
fn a_service_without_a_router_goes_where_istio_says() {
    let output = made(SERVICE);
    let entry = &plan(&output, "shop")["org.acme.greeter:20880"];
    assert_eq!(entry.get("routes"), None);
    // What a rule asks for holds with or without routes.
    let hashed = json!({"outbound|20880||org.acme.greeter": {"hashBy": ["method"]}});
    assert_eq!(entry["upstream"]["clusters"], hashed);
    assert_eq!(findings(&output), [""; 0]);
}

/// Not the router is wrong: the module is another than the one that Aeraki's demonstrations ask for.
#[test]
fn a_missing_codec_is_named_as_such() {
    let thrift = SERVICE.replace("tcp-metaprotocol-dubbo", "tcp-metaprotocol-thrift");
    let found = findings(&made(&format!("{thrift}{ROUTER}")));
    assert!(found.iter().all(|finding| !finding.starts_with("Error")), "{found:#?}");
    let start = "NotHonoured MetaRouter shop/greeter: spec.hosts[0]: not in force: the module has no codec for thrift, which \
                 port 20880 speaks; its calls stay plain TCP.";
    assert!(found.iter().any(|finding| finding.starts_with(start)), "{found:#?}");
    let kubernetes = service("shop", "demo", "10.0.0.1").replace("-dubbo", "-thrift");
    let router = ROUTER.replace("hosts: [org.acme.greeter]", "hosts: [demo]");
    let found = findings(&made(&format!("{kubernetes}{router}")));
    assert!(found.iter().any(|finding| finding.starts_with(start)), "{found:#?}");
}

/// Subsets, and hashes of single ports, are found wherever they are.
#[test]
fn what_only_virtual_services_name_is_told_too() {
    let routing = "---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: greeter, namespace: shop}
spec:
  hosts: [org.acme.greeter]
  http:
  - {match: [{method: {exact: a}}], route: [{destination: {host: org.acme.greeter, subset: v1}}]}
  - {route: [{destination: {host: org.acme.greeter, subset: v9}}]}
";
    let hashed = SERVICE
        .replace("{loadBalancer: {consistentHash: {httpHeaderName: method}}}", "{}")
        .replace("{version: v2}", "{version: v2}, trafficPolicy: {portLevelSettings: [{port: {number: 20880}, loadBalancer: {consistentHash: {httpQueryParameterName: a}}}]}");
    let found = findings(&made(&format!("{hashed}{routing}")));
    let wanted = [
        "NotHonoured DestinationRule shop/greeter: spec.subsets[1].trafficPolicy.portLevelSettings[0].loadBalancer.consistentHash.httpQueryParameterName: ",
        "Warning VirtualService shop/greeter: spec.http[1].route[0].destination.subset: no DestinationRule defines the subset \"v9\"",
    ];
    assert_eq!(found.len(), wanted.len(), "{found:#?}");
    assert!(found.iter().zip(wanted).all(|(finding, start)| finding.starts_with(start)), "{found:#?}");
}
