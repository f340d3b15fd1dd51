use serde_json::json;

use crate::{findings, made, names, namespace, plan, service, spec, tunnels};

#[test]
fn a_mesh_without_managed_services_gets_nothing() {
    let plain = "---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {clusterIP: 10.0.0.1, selector: {app: web}, ports: [{name: http, port: 80}, {name: tcp, port: 81}]}
";
    assert_eq!(names(&made(&(namespace("shop") + plain))), Vec::<String>::new());
}

#[test]
fn every_managed_port_has_a_tunnel_on_both_sides() {
    let output = made(
        "---
apiVersion: v1
kind: Service
metadata: {name: demo, namespace: shop}
spec:
  clusterIP: 10.0.0.1
  selector: {app: demo}
  ports:
  - {name: tcp-metaprotocol-dubbo, port: 20880, targetPort: 20881}
  - {name: tcp-dubbo-admin, port: 20990}
  - {name: other, appProtocol: meltemi.io/dubbo, port: 20770, targetPort: rpc}
  - {name: tcp, port: 9000}
  - {name: tcp-metaprotocol-dubbo-2, appProtocol: tcp, port: 9001}
---
apiVersion: v1
kind: Pod
metadata: {name: demo-1, namespace: shop, labels: {app: demo}}
spec: {containers: [{name: server, ports: [{name: rpc, containerPort: 7777}]}]}
",
    );
    let wanted = [
        "virtualInbound:20881",
        "virtualInbound:20990",
        "virtualInbound:7777",
        "10.0.0.1_20880",
        "10.0.0.1_20990",
        "10.0.0.1_20770",
    ];
    assert_eq!(tunnels(&output, "shop"), wanted);
    let plan = plan(&output, "shop");
    let authorities: Vec<&String> = plan.as_object().unwrap().keys().collect();
    let wanted = [
        "demo.shop.svc.cluster.local:20770",
        "demo.shop.svc.cluster.local:20880",
        "demo.shop.svc.cluster.local:20990",
        "inbound.demo.shop.svc.cluster.local:20881",
        "inbound.demo.shop.svc.cluster.local:20990",
        "inbound.demo.shop.svc.cluster.local:7777",
    ];
    assert_eq!(authorities, wanted);
}

#[test]
fn a_headless_service_has_a_listener_for_each_endpoint() {
    let output = made(
        "---
apiVersion: v1
kind: Service
metadata: {name: demo, namespace: shop}
spec: {clusterIP: None, selector: {app: demo}, ports: [{name: tcp-dubbo, port: 20880}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: demo-x, namespace: shop, labels: {kubernetes.io/service-name: demo}}
addressType: IPv4
endpoints: [{addresses: [10.1.0.2]}, {addresses: [10.1.0.1]}]
ports: [{port: 20880}]
",
    );
    assert_eq!(tunnels(&output, "shop"), ["virtualInbound:20880", "10.1.0.1_20880", "10.1.0.2_20880"]);
    let patches = &spec(&output, "EnvoyFilter", "shop", "meltemi-outbound-shop")["configPatches"];
    let headers = &patches[0]["patch"]["value"]["typed_config"]["tunneling_config"]["headers_to_add"];
    assert_eq!(headers[2]["header"]["key"], "x-envoy-original-dst-host");
    let clusters = json!({"service": "demo.shop.svc.cluster.local", "portNumber": 20880});
    assert_eq!(patches[2]["match"]["cluster"], clusters);
}

#[test]
fn service_entries_have_the_listeners_of_their_addresses() {
    let output = made(
        "---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: a, namespace: shop}
spec:
  hosts: [org.acme.a]
  addresses: [240.240.0.9, 10.9.0.0/16]
  resolution: STATIC
  ports: [{number: 20880, name: tcp-metaprotocol-dubbo, protocol: TCP, targetPort: 20881}]
  workloadSelector: {labels: {app: a}}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: b, namespace: shop}
spec: {hosts: [org.acme.b], resolution: STATIC, ports: [{number: 21880, name: tcp-metaprotocol-dubbo, protocol: TCP}]}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: c, namespace: shop}
spec: {hosts: [org.acme.c], resolution: DNS, ports: [{number: 22880, name: tcp-metaprotocol-dubbo, protocol: TCP}]}
status: {addresses: [{value: 240.240.7.7, host: org.acme.c}]}
",
    );
    let wanted =
        ["virtualInbound:20881", "240.240.0.9_20880", "0.0.0.0_21880", "240.240.7.7_22880", "0.0.0.0_22880"];
    assert_eq!(tunnels(&output, "shop"), wanted);
    assert_eq!(
        findings(&output),
        [
            "NotHonoured ServiceEntry shop/a: spec.addresses[1]: ranges of addresses stay plain TCP: list the addresses one by \
          one"
        ]
    );
}

#[test]
fn services_that_share_pods_and_port_have_one_tunnel_inbound() {
    let narrower = "---
apiVersion: v1
kind: Service
metadata: {name: a-v1, namespace: shop}
spec:
  clusterIP: 10.0.0.2
  selector: {app: demo, version: v1}
  ports: [{name: tcp-dubbo, port: 20880}]
";
    let output = made(&(service("shop", "demo", "10.0.0.1") + narrower));
    assert_eq!(tunnels(&output, "shop"), ["virtualInbound:20880", "10.0.0.2_20880", "10.0.0.1_20880"]);
    assert!(names(&output).contains(&"EnvoyFilter shop/meltemi-inbound-demo".to_owned()));
}

#[test]
fn a_protocol_without_a_codec_stays_plain() {
    let output = made(
        "---
apiVersion: v1
kind: Service
metadata: {name: demo, namespace: shop}
spec:
  clusterIP: 10.0.0.1
  ports: [{name: tcp-thrift, port: 1}, {name: tcp-metaprotocol-acme, port: 2}, {name: tcp-metaprotocol-mine, port: 3}]
---
apiVersion: metaprotocol.aeraki.io/v1alpha1
kind: ApplicationProtocol
metadata: {name: acme}
spec: {protocol: acme, codec: aeraki.meta_protocol.codec.acme}
---
apiVersion: metaprotocol.aeraki.io/v1alpha1
kind: ApplicationProtocol
metadata: {name: mine}
spec: {protocol: mine, codec: aeraki.meta_protocol.codec.dubbo}
",
    );
    assert_eq!(tunnels(&output, "shop"), ["10.0.0.1_3"]);
    let found = findings(&output);
    let starts = [
        "NotHonoured Service shop/demo: spec.ports[0]: no codec is known for the protocol thrift",
        "NotHonoured Service shop/demo: spec.ports[1]: the module has no codec for acme",
        "NotHonoured ApplicationProtocol acme: spec.codec: the module has no codec \"acme\", but dubbo",
    ];
    for start in starts {
        assert!(found.iter().any(|finding| finding.starts_with(start)), "{start} in {found:#?}");
    }
    assert_eq!(found.len(), starts.len());
}
