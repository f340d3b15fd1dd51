//! MeltemiAuthorizationPolicies: who may call what in every protocol.

use meltemi::generate::{Output, generate};
use serde_json::{Value, json};

use crate::authorization::POLICIES;
use crate::{findings, namespace, options, plan, service, spec, world};

/// A Thrift service beside one of Dubbo.
fn services() -> String {
    let thrift = "---
apiVersion: v1
kind: Service
metadata: {name: orders, namespace: shop}
spec: {clusterIP: 10.0.0.9, selector: {app: orders}, ports: [{name: tcp-metaprotocol-thrift, port: 9090}]}
";
    format!("{}{}{thrift}", namespace("shop"), service("shop", "greeter", "10.0.0.1"))
}

fn policy(name: &str, spec: &Value) -> String {
    let policy = json!({
        "apiVersion": "meltemi.io/v1alpha1", "kind": "MeltemiAuthorizationPolicy",
        "metadata": {"name": name, "namespace": "shop"}, "spec": spec,
    });
    format!("---\n{policy}\n")
}

fn made(yaml: &str) -> Output {
    generate(&world(yaml), &options("dubbo,thrift"))
}

const THRIFT: &str = "inbound.orders.shop.svc.cluster.local:9090";
const DUBBO: &str = "inbound.greeter.shop.svc.cluster.local:20880";

#[test]
fn policies_guard_servers_of_every_protocol() {
    let readers = json!({"action": "ALLOW", "message": "ask us", "rules": [{
        "from": [{"source": {"namespaces": ["web"], "notIpBlocks": ["10.1.0.0/16"]}}],
        "when": [{"key": "method", "values": ["get*"], "notValues": ["getSecret"]}],
    }]});
    let outside = json!({"action": "DENY", "protocols": ["thrift"], "rules": [
        {"from": [{"source": {"ipBlocks": ["192.0.2.0/24"]}}]},
        {"when": [{"key": "tenant", "notValues": ["ours"]}]},
    ]});
    let output =
        made(&format!("{}{}{}", services(), policy("readers", &readers), policy("outside", &outside)));
    assert_eq!(findings(&output), Vec::<String>::new());
    let denied = |message: &str| json!({"message": message});
    let plan = plan(&output, "shop");
    let known = json!({"present": true});
    let caller = |attributes: Value| {
        let mut all = json!({"source.namespace": {"exact": "web"}, "source.ip": known});
        all.as_object_mut().unwrap().extend(attributes.as_object().unwrap().clone());
        all
    };
    let unwanted = json!({"source.ip": {"cidr": ["10.1.0.0/16"]}, "method": {"exact": "getSecret"}});
    assert_eq!(
        plan[THRIFT],
        json!({
            "protocol": "thrift",
            "routes": [
                // An address, or a tenant, that is not known is denied.
                {"name": "shop/meltemi/outside/0", "reject": denied("RBAC: access denied"), "match": [
                    {"attributes": {"source.ip": {"cidr": ["192.0.2.0/24"]}}},
                    {"attributes": {"source.ip": {"present": false}}},
                ]},
                {"name": "shop/meltemi/outside/1", "reject": denied("RBAC: access denied"), "match": [
                    {"attributes": {"tenant": known}, "notAttributes": {"tenant": {"exact": "ours"}}},
                    {"attributes": {"tenant": {"present": false}}},
                ]},
                {"name": "shop/meltemi/readers/0", "match": [
                    {"attributes": caller(json!({"method": {"prefix": "get"}})), "notAttributes": unwanted},
                ]},
            ],
            "defaultRoute": {"reject": denied("ask us")},
        })
    );
    // In Dubbo a generic call is the call of the method that it names.
    let dubbo = &plan[DUBBO];
    assert_eq!(dubbo["routes"].as_array().unwrap().len(), 1);
    let alternatives = dubbo["routes"][0]["match"].as_array().unwrap();
    let generic = json!({"method": {"exact": "$invoke"}, "genericMethod": {"prefix": "get"}});
    assert_eq!(alternatives.len(), 3);
    assert!(alternatives.iter().any(|one| one["attributes"] == caller(generic.clone())), "{alternatives:#?}");
    for name in ["meltemi-server-orders", "meltemi-server-greeter"] {
        assert_eq!(spec(&output, "WasmPlugin", "shop", name)["failStrategy"], "FAIL_CLOSE");
    }
}

#[test]
fn a_call_that_does_not_name_its_service_is_denied_by_a_rule_on_services() {
    let admin = json!({"action": "DENY", "rules": [{"when": [{"key": "service", "values": ["Admin"]}]}]});
    let output = made(&format!("{}{}", services(), policy("admin", &admin)));
    assert_eq!(findings(&output), Vec::<String>::new());
    let plan = plan(&output, "shop");
    let of = |service: &str| plan[service]["routes"][0]["match"].clone();
    let named = json!({"attributes": {"service": {"exact": "Admin"}}});
    // Kitex looks for the method in all its services.
    assert_eq!(of(THRIFT), json!([named, {"attributes": {"service": {"present": false}}}]));
    // In Dubbo that is but an attachment.
    assert_eq!(of(DUBBO), json!([named]));
}

#[test]
fn a_dry_run_denies_nothing_whatever_else_is_enforced() {
    let trial = json!({"dryRun": true, "rules": [{"when": [{"key": "method", "values": ["get"]}]}]});
    let output = made(&format!("{}{}", services(), policy("trial", &trial)));
    assert_eq!(findings(&output), Vec::<String>::new());
    let rule =
        json!({"name": "shop/meltemi/trial/0", "match": [{"attributes": {"method": {"exact": "get"}}}]});
    let wanted = json!({"protocol": "thrift", "dryRun": {"rules": [rule], "denyOthers": true}});
    assert_eq!(plan(&output, "shop")[THRIFT], wanted);
    assert_eq!(spec(&output, "WasmPlugin", "shop", "meltemi-server-orders")["failStrategy"], "FAIL_OPEN");
    // Beside what is enforced.
    let output = made(&format!("{}{}{POLICIES}", services(), policy("trial", &trial)));
    let dubbo = &plan(&output, "shop")[DUBBO];
    assert_eq!(dubbo["dryRun"]["denyOthers"], true);
    assert_eq!(dubbo["routes"][0]["name"], "shop/strangers/0");
    assert_eq!(dubbo["defaultRoute"], json!({"reject": {"message": "RBAC: access denied"}}));
}

#[test]
fn policies_of_one_name_and_two_kinds_hold_both() {
    let own = json!({"action": "DENY", "rules": [{"when": [{"key": "method", "values": ["drop"]}]}]});
    let output = made(&format!("{}{}{POLICIES}", services(), policy("readers", &own)));
    assert_eq!(findings(&output), Vec::<String>::new());
    let plan = plan(&output, "shop");
    let routes = plan[DUBBO]["routes"].as_array().unwrap();
    let names: Vec<&str> = routes.iter().map(|route| route["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["shop/meltemi/readers/0", "shop/strangers/0", "shop/readers/0"]);
    // Aeraki's are for Dubbo alone.
    assert_eq!(plan[THRIFT]["routes"].as_array().unwrap().len(), 1);
    assert_eq!(plan[THRIFT]["defaultRoute"], Value::Null);
}

#[test]
fn a_policy_with_an_error_lets_nothing_pass() {
    for (action, routes) in [("ALLOW", 0), ("DENY", 1)] {
        let broken = json!({"action": action, "rules": [{"when": [{"key": "source.ip", "values": ["a"]}]}]});
        let output = made(&format!("{}{}", services(), policy("broken", &broken)));
        assert!(
            findings(&output)[0]
                .starts_with("Error MeltemiAuthorizationPolicy shop/broken: spec.rules[0].when[0].key: ")
        );
        let entry = &plan(&output, "shop")[THRIFT];
        assert_eq!(entry["routes"].as_array().map_or(0, Vec::len), routes, "{entry}");
        let closed = if action == "ALLOW" { &entry["defaultRoute"] } else { &entry["routes"][0] };
        assert!(closed["match"].is_null() && closed["reject"].is_object(), "{entry}");
    }
}

#[test]
fn policies_that_guard_nothing_are_told_of() {
    let brpc = json!({"protocols": ["brpc"], "rules": [{}]});
    let output = made(&format!("{}{}", services(), policy("brpc", &brpc)));
    assert_eq!(
        findings(&output),
        [
            "NotHonoured MeltemiAuthorizationPolicy shop/brpc: spec: the namespace has no managed service of its protocols"
        ]
    );
    assert_eq!(plan(&output, "shop")[THRIFT], json!({"protocol": "thrift"}));
}
