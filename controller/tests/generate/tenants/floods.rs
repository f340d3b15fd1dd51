//! A few lines that would take hours, gigabytes, or the plans of everybody.

use meltemi_codecs::Codecs;
use meltemi_proxy::plan::Plan;
use serde_json::{Value, json};

use super::{POLICY, assert_told, base, router};
use crate::{findings, made, names, namespace, object, plan, service, tunnels};
use meltemi::generate::Output;

fn entry(spec: &Value) -> String {
    let metadata = json!({"name": "flood", "namespace": "evil"});
    let kind = ["networking.istio.io/v1", "ServiceEntry"];
    format!("---\n{}\n", json!({"apiVersion": kind[0], "kind": kind[1], "metadata": metadata, "spec": spec}))
}

/// Every plan is one that the filter takes.
#[track_caller]
fn assert_plans(output: &Output) -> usize {
    let plans = output.objects.iter().filter(|object| object.kind == "WasmPlugin");
    let bytes = plans.map(|object| {
        let name = format!("{}/{}", object.metadata.namespace, object.metadata.name);
        let plan = json!(object.spec)["pluginConfig"].to_string();
        let plan =
            Plan::parse(plan.as_bytes(), &Codecs::all()).unwrap_or_else(|error| panic!("{name}: {error}"));
        plan.services().map(|service| service.pattern_bytes).sum::<usize>()
    });
    bytes.max().unwrap()
}

#[test]
fn hosts_that_are_no_names_are_in_no_plan() {
    let quiet = made(&base());
    let long = "a".repeat(2000);
    for host in
        ["", "a\nb", "a b", " a", "a\u{0}b", "%REQ(x)%", "a:1", "a|b", "*", "ä", "a.", "\u{202e}a", &long]
    {
        let ports = json!([{"number": 20880, "name": "tcp-metaprotocol-dubbo", "protocol": "TCP"}]);
        let of_flood =
            json!({"hosts": [host], "addresses": ["192.0.2.1"], "resolution": "STATIC", "ports": ports});
        let output = made(&(base() + &entry(&of_flood)));
        assert_eq!(names(&output), names(&quiet), "{host:?}");
        assert_eq!(tunnels(&output, "web"), tunnels(&quiet, "web"), "{host:?}");
        assert_told(&output, "NotHonoured ServiceEntry evil/flood", "spec.hosts[0]", &["is not a host name"]);
        assert_plans(&output);
    }
}

#[test]
fn a_service_entry_of_millions_of_listeners_is_passed_over() {
    let many: Vec<usize> = (0..256).collect();
    let hosts = many.iter().map(|at| json!(format!("h{at}.example"))).collect::<Vec<_>>();
    // The address of another is among them: it is claimed no less by who asks for it alone.
    let addresses = many.iter().map(|at| json!(format!("10.96.0.{at}"))).collect::<Vec<_>>();
    for name in ["tcp-metaprotocol-dubbo", "tcp"] {
        let port =
            |at: &usize| json!({"number": 20700 + at, "name": format!("{name}-{at}"), "protocol": "TCP"});
        let ports = many.iter().map(port).collect::<Vec<_>>();
        let of_flood =
            json!({"hosts": hosts, "addresses": addresses, "resolution": "STATIC", "ports": ports});
        let output = made(&(base() + &entry(&of_flood)));
        assert_eq!(tunnels(&output, "web"), tunnels(&made(&base()), "web"));
        match name {
            "tcp" => assert_eq!(findings(&output), Vec::<String>::new()),
            _ => assert_told(&output, "Error ServiceEntry evil/flood", "spec", &["16777216 listeners"]),
        }
    }
}

/// A policy of `evil` whose rule has so many combinations of sources and operations.
fn policy(action: &str, sources: usize, operations: usize) -> String {
    let source = |at| json!({"source": {"namespaces": [format!("n{at}")]}});
    let interfaces: Vec<String> = (0..32).map(|at| format!("i{at}")).collect();
    let operation = |_| json!({"operation": {"interfaces": interfaces}});
    let rule = json!({
        "from": (0..sources).map(source).collect::<Vec<_>>(), "to": (0..operations).map(operation).collect::<Vec<_>>(),
    });
    let metadata = json!({"name": format!("flood-{sources}"), "namespace": "evil"});
    let kind = ["dubbo.aeraki.io/v1alpha1", "DubboAuthorizationPolicy"];
    let spec = json!({"action": action, "rules": [rule]});
    format!("---\n{}\n", json!({"apiVersion": kind[0], "kind": kind[1], "metadata": metadata, "spec": spec}))
}

#[test]
fn a_policy_of_millions_of_combinations_fails_closed() {
    let inbound = "inbound.sink.evil.svc.cluster.local:20880";
    let denied = json!({"message": "RBAC: access denied"});
    for (action, effect) in [("ALLOW", "allows nothing"), ("DENY", "denies everything")] {
        // As large as the definition of the kind allows.
        let output = made(&(base() + &policy(action, 128, 128)));
        let resource = "Error DubboAuthorizationPolicy evil/flood-128";
        assert_told(&output, resource, "spec.rules", &[effect, "10000 combinations"]);
        let entry = plan(&output, "evil")[inbound].clone();
        match action {
            "ALLOW" => assert_eq!(entry["defaultRoute"]["reject"], denied),
            _ => assert_eq!(entry["routes"], json!([{"name": "evil/flood-128/rules", "reject": denied}])),
        }
    }
    // What is too much is so for the namespace, and the others hold.
    let output = made(&(base() + &policy("DENY", 16, 16) + &policy("DENY", 17, 16) + POLICY));
    assert_told(
        &output,
        "Error DubboAuthorizationPolicy evil/flood-17",
        "spec.rules",
        &["denies everything"],
    );
    let routes = &plan(&output, "evil")[inbound]["routes"];
    assert_eq!(routes[0]["name"], "evil/flood-16/0");
    assert_eq!(routes[1], json!({"name": "evil/flood-17/rules", "reject": denied}));
    assert!(object(&output, "WasmPlugin", "shop", "meltemi-server-pay").spec.to_string().contains("RBAC"));
    assert_plans(&output);
}

/// A regular expression of 50 letters whose table takes about 3 MiB.
fn heavy(at: usize) -> String {
    format!(".*a.{{12}}(bcdefghijklmnopqrstuvwyzABCDEFG)?x{at}")
}

/// The most that tables of a namespace's expressions take in a plan.
const MOST: usize = 4 << 20;

#[test]
fn the_expressions_of_a_namespace_do_not_fill_the_proxies_of_others() {
    let route = |at: usize| {
        format!(
            "  - {{name: r{at}, match: {{attributes: {{a: {{regex: '{}'}}}}}}, route: [{{destination: {{host: sink}}}}]}}\n",
            heavy(at)
        )
    };
    let of = |name: &str, routes: std::ops::Range<usize>| {
        router("evil", name, &format!("  routes:\n{}", routes.map(route).collect::<String>()))
            .replace("pay.shop.svc.cluster.local", "sink")
    };
    // One resource alone.
    let output = made(&(base() + &of("all", 0..256)));
    assert_told(&output, "Error MetaRouter evil/all", "spec.routes[1].match.attributes.a.regex", &["4 MiB"]);
    assert!(assert_plans(&output) <= MOST);
    // Several together, for one service and for several.
    let own = |name: &str| of(name, 0..1).replace("hosts: [sink]", &format!("hosts: [{name}]"));
    let text = base() + &service("evil", "second", "10.96.0.67") + &own("sink") + &own("second");
    let output = made(&text);
    assert_told(&output, "Error MetaRouter evil/sink", "spec.routes", &["evil", "4 MiB"]);
    let bytes = assert_plans(&output);
    assert!(bytes > MOST / 2 && bytes <= MOST, "{bytes}");
    // Others have their own room.
    let of_shop = own("sink").replace("evil", "shop").replace("hosts: [sink]", "hosts: [pay]");
    let output = made(&(text + &of_shop));
    assert_eq!(
        plan(&output, "web")["pay.shop.svc.cluster.local:20880"]["routes"].as_array().unwrap().len(),
        1
    );
    assert!(assert_plans(&output) <= 2 * MOST);
}

#[test]
fn a_virtual_service_for_every_host_takes_no_more_room_than_one() {
    let pattern = |routes: usize| {
        let route = |at: usize| json!({"match": [{"headers": {"a": {"regex": heavy(at)}}}], "route": [{"destination": {"host": "sink"}}]});
        let spec = json!({"hosts": ["*.cluster.local"], "http": (0..routes).map(route).collect::<Vec<_>>()});
        let metadata = json!({"name": "flood", "namespace": "evil"});
        let kind = ["networking.istio.io/v1", "VirtualService"];
        format!(
            "---\n{}\n",
            json!({"apiVersion": kind[0], "kind": kind[1], "metadata": metadata, "spec": spec})
        )
    };
    for routes in [1, 1000] {
        let output = made(&(base() + &service("shop", "ship", "10.96.0.6") + &pattern(routes)));
        assert_told(&output, "NotHonoured VirtualService evil/flood", "spec.http", &["evil", "4 MiB"]);
        assert!(assert_plans(&output) <= MOST);
    }
}

#[test]
fn routes_of_one_name_are_told_apart() {
    let route = |at| json!({"name": "r", "match": [{"headers": {"a": {"exact": format!("x{at}")}}}], "route": [{"destination": {"host": "sink"}}]});
    let spec = json!({"hosts": ["sink"], "http": (0..3_000).map(route).collect::<Vec<_>>()});
    let metadata = json!({"name": "flood", "namespace": "evil"});
    let kind = ["networking.istio.io/v1", "VirtualService"];
    let text = json!({"apiVersion": kind[0], "kind": kind[1], "metadata": metadata, "spec": spec});
    let output = made(&format!(
        "{}{}{}---\n{text}\n",
        namespace("evil"),
        service("evil", "sink", "10.96.0.66"),
        service("evil", "a", "10.96.0.67")
    ));
    let routes = plan(&output, "evil")["sink.evil.svc.cluster.local:20880"]["routes"].clone();
    assert_eq!(routes.as_array().unwrap().len(), 3_000);
    assert_eq!([&routes[0]["name"], &routes[2_999]["name"]], ["evil/flood/r", "evil/flood/r-3000"]);
}
