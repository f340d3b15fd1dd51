//! Annotations that say how large the messages of a service may be, and how its calls share connections.

use serde_json::{Value, json};

use crate::{findings, made, namespace, object, plan, service};

/// The service of `shop`, with annotations.
fn annotated(annotations: &str) -> String {
    let name = "{name: demo, namespace: shop}";
    let with = format!("{{name: demo, namespace: shop, annotations: {{{annotations}}}}}");
    namespace("shop") + &namespace("web") + &service("shop", "demo", "10.0.0.1").replace(name, &with)
}

const LARGE: &str = "meltemi.io/max-frame-bytes: '33554432', meltemi.io/max-request-bytes: ' 16777216 '";

/// The limits of the service in the plans of its clients and of its servers.
fn limits(text: &str) -> [Value; 2] {
    let output = made(text);
    ["demo.shop.svc.cluster.local:20880", "inbound.demo.shop.svc.cluster.local:20880"].map(|authority| {
        let of_namespace = if authority.starts_with("inbound") { "shop" } else { "web" };
        plan(&output, of_namespace)[authority]["limits"].clone()
    })
}

#[test]
fn both_sides_take_messages_of_the_size_that_the_owner_says() {
    let wanted = json!({"maxFrameBytes": 33_554_432, "maxRequestBytes": 16_777_216});
    assert_eq!(limits(&annotated(LARGE)), [wanted.clone(), wanted.clone()]);
    assert_eq!(findings(&made(&annotated(LARGE))), [""; 0]);
    let only = |size: u32| annotated(&format!("meltemi.io/max-frame-bytes: '{size}'"));
    for (size, wanted) in [
        (1000, json!({"maxFrameBytes": 1000})),
        (8 << 20, Value::Null),
        (9 << 20, json!({"maxFrameBytes": 9 << 20})),
    ] {
        assert_eq!(limits(&only(size)), [wanted.clone(), wanted], "{size}");
    }
    let entry = "---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: demo, namespace: shop, annotations: {meltemi.io/max-request-bytes: '1000'}}
spec:
  hosts: [demo.shop.svc.cluster.local]
  addresses: [10.0.0.1]
  resolution: STATIC
  ports: [{number: 20880, name: tcp-metaprotocol-dubbo, protocol: TCP}]
  workloadSelector: {labels: {app: demo}}
";
    let wanted = json!({"maxRequestBytes": 1000});
    assert_eq!(limits(&(namespace("shop") + &namespace("web") + entry)), [wanted.clone(), wanted]);
    // Nobody but the owner has a say.
    let foreign = entry.replace("namespace: shop", "namespace: evil");
    assert_eq!(limits(&(annotated("") + &namespace("evil") + &foreign)), [Value::Null, Value::Null]);
}

#[test]
fn a_policy_and_the_size_of_messages_stand_side_by_side() {
    let policy = "---
apiVersion: dubbo.aeraki.io/v1alpha1
kind: DubboAuthorizationPolicy
metadata: {name: readers, namespace: shop}
spec: {action: ALLOW, rules: [{from: [{source: {namespaces: [web]}}]}]}
";
    let all = plan(&made(&(annotated(LARGE) + policy)), "shop");
    for authority in ["inbound.demo", "unidentified.inbound.demo"] {
        let entry = &all[format!("{authority}.shop.svc.cluster.local:20880")];
        assert_eq!(entry["limits"]["maxFrameBytes"], 33_554_432, "{authority}");
        assert_eq!(entry["defaultRoute"]["reject"]["message"], "RBAC: access denied", "{authority}");
    }
}

#[test]
fn sizes_that_make_no_sense_say_so_once() {
    for wrong in ["0", "15", "268435457", "4294967296", "-1", "16Mi", "", "1e6"] {
        for which in ["frame", "request"] {
            let text = annotated(&format!("meltemi.io/max-{which}-bytes: '{wrong}'"));
            assert_eq!(limits(&text), [Value::Null, Value::Null], "{wrong}");
            let found = findings(&made(&text));
            let wanted = format!(
                "NotHonoured Service shop/demo: metadata.annotations[\"meltemi.io/max-{which}-bytes\"]: {wrong:?} is not a number of \
                 bytes of 16 to 268435456: write one, such as 16777216"
            );
            assert_eq!(found, [wanted]);
        }
    }
    let text = annotated("meltemi.io/max-request-bytes: '16777216'");
    assert_eq!(limits(&text), [Value::Null, Value::Null]);
    let wanted = "NotHonoured Service shop/demo: metadata.annotations[\"meltemi.io/max-request-bytes\"]: 16777216 is more than \
                  meltemi.io/max-frame-bytes allows of any message, which is 8388608: write that annotation too, if all clients take \
                  responses of that size";
    assert_eq!(findings(&made(&text)), [wanted]);
    // Services of others are none of Meltemi's business.
    let plain = text.replace("tcp-metaprotocol-dubbo", "tcp");
    assert_eq!(findings(&made(&plain)), [""; 0]);
    // Who shares pods has to say the same.
    let wide = service("shop", "wide", "10.0.0.9").replace("app: wide", "app: demo");
    let narrow = annotated(LARGE).replace("selector: {app: demo}", "selector: {app: demo, version: v1}");
    let found = findings(&made(&(narrow + &wide)));
    let of_wide = |finding: &String| finding.contains("the pods are also those of Service shop/wide");
    assert!(found.len() == 2 && found.iter().all(of_wide), "{found:#?}");
}

/// What one service takes may be the end of another's connections.
#[test]
fn a_gateway_takes_what_all_services_behind_a_port_take() {
    let gateway = "---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge, namespace: shop}
spec:
  selector: {istio: edge}
  servers: [{port: {number: 20880, name: tcp-metaprotocol-dubbo, protocol: TCP}, hosts: ['*']}]
";
    let router = |name: &str| {
        format!(
            "---\napiVersion: meltemi.io/v1alpha1\nkind: MetaRouter\nmetadata: {{name: {name}, namespace: shop}}\n\
             spec:\n  hosts: [{name}]\n  gateways: [edge]\n  routes: [{{name: r, match: {{attributes: {{a: {{exact: {name}}}}}}}, \
             route: [{{destination: {{host: {name}}}}}]}}]\n"
        )
    };
    let limits = |text: &str| {
        let output = made(text);
        let plan = json!(object(&output, "WasmPlugin", "shop", "meltemi-gateway").spec);
        plan["pluginConfig"]["services"]["gateway.edge.shop:20880"]["limits"].clone()
    };
    let one = annotated(LARGE) + gateway + &router("demo");
    assert_eq!(limits(&one), json!({"maxFrameBytes": 33_554_432, "maxRequestBytes": 16_777_216}));
    let two = one + &service("shop", "other", "10.0.0.2") + &router("other");
    assert_eq!(limits(&two), Value::Null);
}

/// How calls share connections in the plans of the service's clients and of its servers.
fn sharing(text: &str) -> [Value; 2] {
    let output = made(text);
    ["demo.shop.svc.cluster.local:20880", "inbound.demo.shop.svc.cluster.local:20880"].map(|authority| {
        let of_namespace = if authority.starts_with("inbound") { "shop" } else { "web" };
        plan(&output, of_namespace)[authority]["upstream"]["sharing"].clone()
    })
}

#[test]
fn both_sides_share_connections_as_the_owner_says() {
    for way in ["shared", "in-order", "exclusive", "pinned"] {
        let text = annotated(&format!("meltemi.io/sharing: ' {way} '"));
        assert_eq!(sharing(&text), [json!(way), json!(way)]);
        assert_eq!(findings(&made(&text)), [""; 0]);
    }
    assert_eq!(sharing(&annotated("")), [Value::Null, Value::Null]);
    let text = annotated("meltemi.io/sharing: Pinned, meltemi.io/max-frame-bytes: '1000'");
    assert_eq!(sharing(&text), [Value::Null, Value::Null]);
    assert_eq!(limits(&text)[0], json!({"maxFrameBytes": 1000}), "the other counts");
    let [finding] = &findings(&made(&text))[..] else { panic!("one finding") };
    let told = r#"metadata.annotations["meltemi.io/sharing"]: "Pinned" is no way of sharing connections: write shared, in-order, exclusive, or pinned"#;
    assert!(finding.contains(told), "{finding}");
}
