//! Who may bind to a Gateway, and whose a port of its pods is.

use super::{assert_told, base, explain, grab, made_with, own, router};
use crate::{findings, made, names, object, service, spec, tracing, tunnels};
use meltemi::generate::{ForeignRouters, Output};

const POD: &str = "---
{apiVersion: v1, kind: Pod, metadata: {name: gw, namespace: istio-ingress, labels: {istio: ingress}}}
";

fn gateway(namespace: &str, name: &str, created: &str, hosts: &str) -> String {
    format!(
        "---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: {name}, namespace: {namespace}, creationTimestamp: '{created}'}}
spec:
  selector: {{istio: ingress}}
  servers: [{{port: {{number: 20880, name: tcp-metaprotocol-dubbo, protocol: TCP}}, hosts: [{hosts}]}}]
"
    )
}

const FIRST: &str = "2021-01-01T00:00:00Z";
const LATER: &str = "2022-01-01T00:00:00Z";

/// A router that names a gateway.
fn bound(router: &str, gateway: &str) -> String {
    router.replace("  routes:", &format!("  gateways: [{gateway}]\n  routes:"))
}

/// What a gateway in `evil` of its own service would take.
fn sink() -> String {
    bound(
        &router("evil", "sink", "  routes: [{name: all, route: [{destination: {host: sink}}]}]\n")
            .replace("hosts: [pay.shop.svc.cluster.local]", "hosts: [sink.evil.svc.cluster.local]"),
        "istio-system/edge",
    )
}

fn by_edge(text: &str) -> Result<serde_json::Value, String> {
    explain(text, &["--gateway", "istio-system/edge", "--port", "20880"])
}

/// The routes of a gateway's port.
fn routes(output: &Output, authority: &str) -> Vec<String> {
    let module = spec(output, "WasmPlugin", "istio-ingress", "meltemi-gateway");
    let routes = module["pluginConfig"]["services"][authority]["routes"].clone();
    routes.as_array().unwrap().iter().map(|route| route["name"].as_str().unwrap().to_owned()).collect()
}

const EDGE: &str = "gateway.edge.istio-system:20880";

#[test]
fn the_hosts_of_a_gateway_say_who_may_bind() {
    let edge = gateway("istio-system", "edge", FIRST, "shop/*");
    let grab = bound(&grab(), "istio-system/edge");
    let text = base() + POD + &edge + &bound(&own(), "istio-system/edge") + &grab + &sink();
    for allowed in [ForeignRouters::OwnClients, ForeignRouters::All] {
        let output = made_with(&text, |options| options.foreign_routers = allowed);
        assert_eq!(routes(&output, EDGE), ["shop/pay/all"]);
        for router in ["evil/grab", "evil/sink"] {
            let resource = format!("Warning MetaRouter {router}");
            assert_told(&output, &resource, "spec.gateways", &["istio-system/edge", "evil"]);
        }
    }
    assert_eq!(by_edge(&text).unwrap()["route"], "shop/pay/all");
    // Nobody who may bind does.
    assert!(by_edge(&(base() + POD + &edge + &grab + &sink())).is_err());

    for (hosts, binds) in [
        ("evil/*", true),
        ("evil/*.example.org", true),
        ("*", true),
        ("'*/*.example.org'", true),
        ("example.org", true),
        ("./*", false),
        ("shop/*", false),
        ("'shop/*', 'web/a.example'", false),
        ("'shop/*', 'evil/a.example'", true),
    ] {
        let edge = gateway(
            "istio-system",
            "edge",
            FIRST,
            &hosts
                .replace("'", "")
                .split(", ")
                .map(|host| format!("'{host}'"))
                .collect::<Vec<_>>()
                .join(", "),
        );
        let output = made(&(base() + POD + &edge + &sink()));
        assert_eq!(tunnels(&output, "istio-ingress").len() == 1, binds, "{hosts}");
    }
    let own = gateway("evil", "edge", FIRST, "./*");
    let output = made(&(base() + POD + &own + &sink().replace("istio-system/edge", "edge")));
    assert_eq!(tunnels(&output, "istio-ingress"), ["0.0.0.0_20880"]);
}

#[test]
fn istio_lets_the_generated_route_bind_too() {
    let edge = gateway("istio-system", "edge", FIRST, "shop/*.example.org");
    let output = made(&(base() + POD + &edge + &bound(&own(), "istio-system/edge")));
    let generated: Vec<String> =
        names(&output).into_iter().filter(|name| name.starts_with("VirtualService")).collect();
    let [name] = &generated[..] else { panic!("{generated:?}") };
    let name = name.strip_prefix("VirtualService shop/").expect("it is of a namespace that may bind");
    let route = serde_json::json!(object(&output, "VirtualService", "shop", name).spec);
    assert_eq!(route["gateways"], serde_json::json!(["istio-system/edge"]));
    assert_eq!(route["exportTo"], serde_json::json!(["istio-ingress"]));
}

#[test]
fn routers_of_other_namespaces_do_not_take_an_open_gateways_calls() {
    let edge = gateway("istio-system", "edge", FIRST, "'*'");
    // A router for somebody else's host is for clients of its own namespace: not for those of this gateway.
    let text =
        base() + POD + &edge + &bound(&own(), "istio-system/edge") + &bound(&grab(), "istio-system/edge");
    assert_eq!(routes(&made(&text), EDGE), ["shop/pay/all"]);
    assert_eq!(by_edge(&text).unwrap()["route"], "shop/pay/all");
    // One for a host of its own comes after those that were there before, whatever their names are.
    let older = bound(&own(), "istio-system/edge").replace(
        "{name: pay, namespace: shop}",
        &format!("{{name: pay, namespace: shop, creationTimestamp: '{FIRST}'}}"),
    );
    let younger = sink()
        .replace(
            "{name: sink, namespace: evil}",
            &format!("{{name: sink, namespace: evil, creationTimestamp: '{LATER}'}}"),
        )
        .replace("sink.evil", "aaa.evil");
    let text = base() + &service("evil", "aaa", "10.96.0.67") + POD + &edge + &older + &younger;
    let output = made(&text);
    assert_eq!(routes(&output, EDGE), ["shop/pay/all"]);
    assert_told(&output, "Warning MetaRouter evil/sink", "spec", &["never matches", "shop/pay/all"]);
    let route = spec(&output, "VirtualService", "istio-system", "meltemi-gateway-edge-20880");
    assert_eq!(route["tcp"][0]["route"][0]["destination"]["host"], "pay.shop.svc.cluster.local");
    // The gateway's own namespace goes before both.
    let of_gateway = bound(
        &router(
            "istio-system",
            "first",
            "  routes: [{name: some, match: {attributes: {a: {exact: x}}}, route: [{destination: {host: pay.shop.svc.cluster.local}}]}]\n",
        ),
        "edge",
    );
    assert_eq!(routes(&made(&(text + &of_gateway)), EDGE), ["istio-system/first/some", "shop/pay/all"]);
}

#[test]
fn a_port_of_a_gateways_pods_is_the_oldest_gateways() {
    let edge = gateway("istio-system", "edge", FIRST, "'*'");
    let text = base() + POD + &edge + &bound(&own(), "istio-system/edge");
    let quiet = made(&text);
    let second = sink().replace("istio-system/edge", "edge2");
    let plain = edge.replace("tcp-metaprotocol-dubbo", "tcp");
    for selector in ["{istio: ingress}", "{app: gw}"] {
        let edge2 = gateway("evil", "edge2", LATER, "'*'").replace("{istio: ingress}", selector);
        let text = text
            .replace("{istio: ingress}", "{istio: ingress, app: gw}")
            .replace("selector: {istio: ingress, app: gw}", "selector: {istio: ingress}");
        let output = made(&(text.clone() + &edge2 + &second));
        assert_eq!(tunnels(&output, "istio-ingress"), tunnels(&quiet, "istio-ingress"), "{selector}");
        assert_eq!(
            spec(&output, "WasmPlugin", "istio-ingress", "meltemi-gateway"),
            spec(&quiet, "WasmPlugin", "istio-ingress", "meltemi-gateway"),
            "{selector}"
        );
        assert_told(
            &output,
            "Warning Gateway evil/edge2",
            "spec.servers[0].port",
            &["20880", "Gateway istio-system/edge"],
        );
        // A port that is not managed is not taken either.
        let output = made(&(text.replace(&edge, &plain) + &edge2 + &second));
        assert_eq!(tunnels(&output, "istio-ingress"), Vec::<String>::new(), "{selector}");
        // Other pods are others.
        let others = POD.replace("istio: ingress", "app: gw").replace("name: gw", "name: gw2");
        let output = made(
            &(base()
                + POD
                + &edge
                + &bound(&own(), "istio-system/edge")
                + &others
                + &edge2.replace("{istio: ingress}", "{app: gw}")
                + &second),
        );
        assert_eq!(tunnels(&output, "istio-ingress").len(), 2, "{:#?}", findings(&output));
    }
}

#[test]
fn a_gateway_without_a_selector_is_left_alone() {
    let edge = gateway("istio-system", "edge", FIRST, "'*'").replace("  selector: {istio: ingress}\n", "");
    let output = made(&(base() + &edge + &bound(&own(), "istio-system/edge")));
    assert!(!names(&output).iter().any(|name| name.contains("gateway")));
    assert_told(&output, "NotHonoured Gateway istio-system/edge", "spec.selector", &["every gateway"]);
}

#[test]
fn an_older_gateway_of_no_pods_keeps_no_port_from_others() {
    let edge = gateway("istio-system", "edge", LATER, "'*'");
    let text = base() + POD + &edge + &bound(&own(), "istio-system/edge");
    let quiet = made(&text);
    assert_eq!(tunnels(&quiet, "istio-ingress"), ["0.0.0.0_20880"]);
    let sidecar = "---
apiVersion: v1
kind: Pod
metadata: {name: pay, namespace: shop, labels: {app: pay, security.istio.io/tlsMode: istio}}
spec: {containers: [{name: pay}, {name: istio-proxy}]}
";
    for selector in ["{no: pod}", "{app: pay}"] {
        let squatter = gateway("evil", "squatter", FIRST, "'*'").replace("{istio: ingress}", selector);
        let squatter = squatter + &sink().replace("istio-system/edge", "squatter");
        let output = made(&(text.clone() + sidecar + &squatter));
        assert_eq!(tunnels(&output, "istio-ingress"), ["0.0.0.0_20880"], "{:#?}", findings(&output));
        assert_eq!(
            spec(&output, "WasmPlugin", "istio-ingress", "meltemi-gateway"),
            spec(&quiet, "WasmPlugin", "istio-ingress", "meltemi-gateway"),
        );
        // Nor does it put anything where others have their pods.
        assert!(!names(&output).iter().any(|name| name.contains(" shop/meltemi-gateway")), "{selector}");
    }
}

#[test]
fn pods_with_a_gateways_labels_say_for_themselves_alone_what_is_traced() {
    let text = base()
        + tracing::COLLECTOR
        + &tracing::mesh(tracing::OTEL, "defaultProviders: {tracing: [otel]}")
        + &gateway("istio-system", "edge", FIRST, "'*'")
        + &bound(&own(), "istio-system/edge")
        + &POD.replace("istio-ingress", "evil")
        + &tracing::telemetry("evil", "quiet", "", "{disableSpanReporting: true}");
    let traced = |output: &Output, namespace: &str| {
        let module = spec(output, "WasmPlugin", namespace, "meltemi-gateway");
        module["pluginConfig"]["services"][EDGE]["tracing"].clone()
    };
    let output = made(&(text.clone() + POD));
    assert_eq!(traced(&output, "istio-ingress"), tracing::sampled(1.0));
    assert_eq!(traced(&output, "evil"), serde_json::Value::Null);
    let routes = names(&output).into_iter().filter(|name| name.starts_with("VirtualService")).count();
    assert_eq!(routes, 1);
    // What is in the root namespace is for the pods of all.
    let output = made(&(text + &POD.replace("istio-ingress", "istio-system")));
    assert_eq!(traced(&output, "istio-system"), tracing::sampled(1.0));
}
