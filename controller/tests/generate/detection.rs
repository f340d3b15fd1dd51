//! Ports of several protocols, of which the first bytes of each connection tell one.

use meltemi::generate::{Output, generate};
use meltemi_codecs::Codecs;
use meltemi_proxy::plan::Plan;
use serde_json::{Value, json};

use crate::authorization::POLICIES;
use crate::{findings, namespace, options, plan, spec, world};

/// A service with a port of several protocols, which an annotation of its Service and of a Gateway may list.
fn orders(annotations: &str, routers: &str) -> String {
    let service = "---
apiVersion: v1
kind: Service
metadata: {name: orders, namespace: shop, annotations: {ANNOTATIONS}}
spec:
  clusterIP: 10.0.0.1
  selector: {app: orders}
  ports: [{name: tcp-metaprotocol-auto, port: 9000, targetPort: 9001}]
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge, namespace: shop, annotations: {ANNOTATIONS}}
spec:
  selector: {istio: ingress}
  servers: [{port: {number: 9000, name: tcp-metaprotocol-auto, protocol: TCP}, hosts: ['*']}]
"
    .replace("ANNOTATIONS", annotations);
    format!("{}{service}{routers}", namespace("shop"))
}

fn router(name: &str, gateways: &str, route: &str) -> String {
    format!(
        "---
apiVersion: meltemi.io/v1alpha1
kind: MetaRouter
metadata: {{name: {name}, namespace: shop}}
spec: {{hosts: [orders], gateways: [{gateways}], routes: [{{name: all, route: [{{destination: {{host: orders}}}}], {route}}}]}}
"
    )
}

fn made(text: &str) -> Output {
    generate(&world(text), &options("dubbo,thrift,brpc"))
}

/// What the sidecars of clients have.
fn outbound(output: &Output) -> Value {
    plan(output, "shop")["orders.shop.svc.cluster.local:9000"].clone()
}

/// What the sidecars of servers have.
fn inbound(output: &Output) -> Value {
    plan(output, "shop")["inbound.orders.shop.svc.cluster.local:9001"].clone()
}

/// What the gateway has.
fn at_gateway(output: &Output) -> Value {
    let module = spec(output, "WasmPlugin", "shop", "meltemi-gateway");
    module["pluginConfig"]["services"]["gateway.edge.shop:9000"].clone()
}

/// That the filter takes an entry.
fn assert_taken(entry: &Value) {
    let plan = json!({"services": {"orders": entry}}).to_string();
    Plan::parse(plan.as_bytes(), &Codecs::all()).unwrap();
}

#[test]
fn clients_servers_and_gateways_tell_the_protocols_that_are_listed() {
    let routers = router("inside", "mesh", "") + &router("edge", "edge", "");
    let listed = "meltemi.io/protocols: 'Thrift, dubbo,thrift'";
    for (annotations, wanted) in [(listed, vec!["thrift", "dubbo"]), ("", vec!["dubbo", "thrift", "brpc"])] {
        for name in ["tcp-metaprotocol-auto", "tcp-metaprotocol-auto-2"] {
            let output = made(&orders(annotations, &routers).replace("tcp-metaprotocol-auto", name));
            assert_eq!(findings(&output), [""; 0], "{annotations}");
            for entry in [outbound(&output), inbound(&output), at_gateway(&output)] {
                assert_eq!((&entry["protocol"], &entry["protocols"]), (&json!("auto"), &json!(wanted)));
                assert_taken(&entry);
            }
        }
    }
    let by_app_protocol = orders(listed, "").replacen(
        "name: tcp-metaprotocol-auto",
        "name: tcp, appProtocol: meltemi.io/auto",
        1,
    );
    assert_eq!(outbound(&made(&by_app_protocol))["protocol"], "auto");
}

#[test]
fn protocols_without_a_codec_are_left_out() {
    let protocols = |list: &str| {
        let output = made(&orders(&format!("meltemi.io/protocols: '{list}'"), ""));
        let said: Vec<String> =
            findings(&output).into_iter().filter(|finding| finding.contains(" Service ")).collect();
        (plan(&output, "shop"), said)
    };
    let (plan, said) = protocols("dubbo, redis");
    assert_eq!(plan["orders.shop.svc.cluster.local:9000"]["protocols"], json!(["dubbo"]));
    let message = "NotHonoured Service shop/orders: metadata.annotations[\"meltemi.io/protocols\"]: no codec is known for the \
                   protocol \"redis\", whose connections pass through as plain TCP: write some of brpc, dubbo, thrift, with commas \
                   between them";
    assert_eq!(said, [message]);
    let (plan, said) = protocols("");
    assert_eq!((plan, said.len()), (json!({}), 1));
}

#[test]
fn a_layout_is_one_of_several_where_it_is_named() {
    let layout = include_str!("../../../istio-samples/private-protocol/layout/protocol.yaml");
    let output = made(&(orders("meltemi.io/protocols: 'dubbo,courier'", "---\n") + layout));
    let module = json!(spec(&output, "WasmPlugin", "shop", "meltemi"));
    let plan = &module["pluginConfig"];
    assert!(plan["protocols"]["courier"].is_object(), "{plan}");
    Plan::parse(plan.to_string().as_bytes(), &Codecs::all()).unwrap();
    // Nobody's connections are tried by layouts of others.
    let output = made(&(orders("", "---\n") + layout));
    assert_eq!(outbound(&output)["protocols"], json!(["dubbo", "thrift", "brpc"]));
    let output = made(&(orders("", "---\n") + &layout.replace("protocol: courier", "protocol: auto")));
    let refused =
        "Error ApplicationProtocol courier: spec.protocol: stands for several protocols: choose another name";
    assert!(findings(&output).iter().any(|finding| finding == refused), "{:#?}", findings(&output));
}

#[test]
fn a_status_is_one_that_all_protocols_have() {
    let retries = |status: &str| {
        let route = format!("retries: {{attempts: 2, retryOn: [status], statuses: [{status}]}}");
        made(&orders("meltemi.io/protocols: 'dubbo,thrift'", &router("inside", "mesh", &route)))
    };
    let output = retries("SERVER_ERROR");
    let said = findings(&output);
    let place = "Error MetaRouter shop/inside: spec.routes[0].retries.statuses[0]: thrift has no status \"SERVER_ERROR\"";
    assert!(said.iter().any(|finding| finding.starts_with(place)), "{said:#?}");
    assert_eq!(outbound(&output)["routes"], Value::Null);

    let of_calls = |conditions: &str| {
        let service = format!(
            "---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: orders, namespace: shop}}
spec:
  hosts: [orders]
  http: [{{route: [{{destination: {{host: orders}}}}], retries: {{attempts: 2, retryOn: '{conditions}'}}}}]
"
        );
        made(&orders("meltemi.io/protocols: 'dubbo,thrift'", &service))
    };
    let output = of_calls("reset,SERVER_ERROR,INTERNAL_ERROR");
    assert_eq!(findings(&output).iter().filter(|finding| finding.contains("retryOn")).count(), 2);
    assert_eq!(outbound(&output)["routes"][0]["retry"]["on"], json!(["reset"]));
}

#[test]
fn policies_guard_what_may_be_dubbo() {
    let guarded = made(&orders("meltemi.io/protocols: 'thrift,dubbo'", POLICIES));
    let entry = inbound(&guarded);
    assert_eq!(entry["protocols"], json!(["thrift", "dubbo"]));
    let of_dubbo = inbound(&made(&(orders("", "").replace("protocol-auto", "protocol-dubbo") + POLICIES)));
    assert_eq!((&of_dubbo["protocol"], &entry["routes"]), (&json!("dubbo"), &of_dubbo["routes"]));
    assert!(entry["routes"].as_array().is_some_and(|routes| routes.len() > 1), "{entry}");
    assert_taken(&entry);

    let bare = made(&orders("meltemi.io/protocols: 'thrift,brpc'", POLICIES));
    assert_eq!(inbound(&bare)["routes"], Value::Null);
    let said = findings(&bare);
    assert!(said.iter().any(|finding| finding.contains("no managed Dubbo service")), "{said:#?}");
}

#[test]
fn a_gateway_leads_to_services_of_the_same_protocols() {
    let text = orders("meltemi.io/protocols: 'dubbo,thrift'", &router("edge", "edge", ""));
    assert_eq!(findings(&made(&text)), [""; 0]);
    let other = text.replacen("'dubbo,thrift'", "'dubbo,brpc'", 1);
    let said = findings(&made(&other));
    assert!(said.iter().any(|finding| finding.contains("names this gateway")), "{said:#?}");
}
