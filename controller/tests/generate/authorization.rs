use meltemi::generate::{IstioVersion, Options, generate};
use serde_json::json;

use crate::{findings, made, namespace, options, plan, service, spec, world};

pub(crate) const POLICIES: &str = "---
apiVersion: dubbo.aeraki.io/v1alpha1
kind: DubboAuthorizationPolicy
metadata: {name: readers, namespace: shop}
spec:
  action: ALLOW
  rules:
  - from: [{source: {namespaces: [web, 'web-*'], notPrincipals: [cluster.local/ns/web/sa/guest]}}]
    to: [{operation: {interfaces: [org.acme.Greeter], methods: ['get*'], notMethods: [getSecret, '*Internal']}}]
---
apiVersion: dubbo.aeraki.io/v1alpha1
kind: DubboAuthorizationPolicy
metadata: {name: strangers, namespace: shop}
spec:
  action: DENY
  rules:
  - from: [{source: {notPrincipals: ['*']}}]
";

#[test]
fn policies_guard_the_servers_of_their_namespace() {
    let output = made(&format!(
        "{}{}{}{}{POLICIES}",
        namespace("shop"),
        namespace("web"),
        service("shop", "greeter", "10.0.0.1"),
        service("web", "other", "10.0.0.2"),
    ));
    assert_eq!(findings(&output), Vec::<String>::new());
    let unwanted = json!({"regex": "getSecret|(?s:.*)(?:Internal)"});
    let alternatives = [
        ("method", json!({"method": {"prefix": "get"}})),
        ("genericMethod", json!({"method": {"exact": "$invoke"}, "genericMethod": {"prefix": "get"}})),
        ("genericMethod", json!({"method": {"exact": "$invokeAsync"}, "genericMethod": {"prefix": "get"}})),
    ];
    let alternatives = [json!({"exact": "web"}), json!({"prefix": "web-"})].map(|namespace| {
        alternatives.clone().map(|(named, mut attributes)| {
            attributes["source.namespace"] = namespace.clone();
            attributes["source.principal"] =
                json!({"exact": "cluster.local/ns/web/sa/guest", "invert": true});
            attributes["interface"] = json!({"exact": "org.acme.Greeter"});
            json!({"attributes": attributes, "notAttributes": {named: unwanted}})
        })
    });
    let mut alternatives = alternatives.concat();
    alternatives.sort_by_key(|alternative| alternative["attributes"]["method"].to_string());
    let denied = json!({"message": "RBAC: access denied"});
    let wanted = json!({
        "protocol": "dubbo",
        "routes": [
            {
                "name": "shop/strangers/0",
                "match": [{"attributes": {"source.principal": {"present": true, "invert": true}}}],
                "reject": denied,
            },
            {"name": "shop/readers/0", "match": alternatives},
        ],
        "defaultRoute": {"reject": denied},
    });
    let mut entry = plan(&output, "shop")["inbound.greeter.shop.svc.cluster.local:20880"].clone();
    let written = entry["routes"][1]["match"].as_array_mut().unwrap();
    written.sort_by_key(|alternative| alternative["attributes"]["method"].to_string());
    assert_eq!(entry, wanted);
    // Clients are not held up, and neither are servers elsewhere.
    assert_eq!(plan(&output, "shop")["greeter.shop.svc.cluster.local:20880"], json!({"protocol": "dubbo"}));
    assert_eq!(
        plan(&output, "web")["inbound.other.web.svc.cluster.local:20880"],
        json!({"protocol": "dubbo"})
    );
    // Without the module nothing may pass where policies are.
    assert_eq!(spec(&output, "WasmPlugin", "shop", "meltemi-server-greeter")["failStrategy"], "FAIL_CLOSE");
    for (namespace, name) in [("web", "meltemi"), ("web", "meltemi-server-other"), ("shop", "meltemi")] {
        assert_eq!(spec(&output, "WasmPlugin", namespace, name)["failStrategy"], "FAIL_OPEN");
    }
}

#[test]
fn policies_that_guard_nothing_are_told_of() {
    let plain = "---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {clusterIP: 10.0.0.1, selector: {app: web}, ports: [{name: http, port: 80}]}
";
    let told = |path: &str, message: &str| {
        ["readers", "strangers"]
            .map(|name| format!("NotHonoured DubboAuthorizationPolicy shop/{name}: {path}: {message}"))
    };
    let output = made(&format!("{}{plain}{POLICIES}", namespace("shop")));
    assert_eq!(findings(&output), told("spec", "the namespace has no managed Dubbo service"));
    assert_eq!(output.objects, []);

    let bare = "---\n{apiVersion: v1, kind: Namespace, metadata: {name: shop}}\n";
    let output = made(&format!("{bare}{plain}{POLICIES}"));
    assert_eq!(findings(&output), told("spec", "the namespace has no sidecars, which would enforce it"));

    let ingress = "---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: greeter, namespace: shop}
spec: {ingress: [{port: {number: 20880, protocol: TCP, name: dubbo}, defaultEndpoint: '127.0.0.1:20880'}]}
";
    let greeter = service("shop", "greeter", "10.0.0.1");
    let output = made(&format!("{}{greeter}{ingress}{POLICIES}", namespace("shop")));
    let message = "not enforced for port 20880 of greeter.shop.svc.cluster.local: no pods of the namespace are known to \
                   serve it, or a Sidecar says how they are called";
    assert_eq!(findings(&output), told("spec", message));
}

#[test]
fn a_policy_with_an_error_lets_nothing_pass() {
    let broken = POLICIES.replace("namespaces: [web, 'web-*']", "namespaces: ['']").replace("'*'", "'*x*'");
    let output = made(&format!("{}{}{broken}", namespace("shop"), service("shop", "greeter", "10.0.0.1")));
    let entry = &plan(&output, "shop")["inbound.greeter.shop.svc.cluster.local:20880"];
    let denied = json!({"message": "RBAC: access denied"});
    let wanted = json!({
        "protocol": "dubbo",
        "routes": [{"name": "shop/strangers/rules", "reject": denied}],
        "defaultRoute": {"reject": denied},
    });
    assert_eq!(*entry, wanted);
    assert!(findings(&output).iter().all(|finding| finding.starts_with("Error ")), "{:?}", findings(&output));
}

#[test]
fn rules_that_ask_who_calls_let_nobody_pass_where_that_is_not_known() {
    let world = world(&format!("{}{}{POLICIES}", namespace("shop"), service("shop", "greeter", "10.0.0.1")));
    let output = generate(&world, &Options { istio_version: IstioVersion(28), ..options("dubbo") });
    let entry = &plan(&output, "shop")["inbound.greeter.shop.svc.cluster.local:20880"];
    // The rule that allows is gone, the one that denies takes every call.
    let denied = json!({"message": "RBAC: access denied"});
    assert_eq!(entry["routes"], json!([{"name": "shop/strangers/0", "reject": denied}]));
    assert_eq!(entry["defaultRoute"], json!({"reject": denied}));
    let found = findings(&output);
    let starts = ["readers", "strangers"].map(|name| {
        format!("Error DubboAuthorizationPolicy shop/{name}: spec.rules: servers learn who calls from")
    });
    for start in starts {
        assert!(found.iter().any(|finding| finding.starts_with(&start)), "{found:#?}");
    }
    // Such an Envoy does not know the mode that waits for the handshake.
    assert!(!format!("{:?}", output.objects).contains("upstream_connect_mode"));
}

#[test]
fn sidecars_that_lag_behind_istiod_let_nobody_pass_where_a_rule_asks_who_calls() {
    let output = made(&format!("{}{}{POLICIES}", namespace("shop"), service("shop", "greeter", "10.0.0.1")));
    let authority = "unidentified.inbound.greeter.shop.svc.cluster.local:20880";
    let entry = &plan(&output, "shop")[authority];
    let denied = json!({"message": "RBAC: access denied"});
    assert_eq!(entry["routes"], json!([{"name": "shop/strangers/0", "reject": denied}]));
    assert_eq!(entry["defaultRoute"], json!({"reject": denied}));
    let inbound = spec(&output, "EnvoyFilter", "shop", "meltemi-inbound-greeter");
    let patches = &inbound["configPatches"];
    let versions =
        regex_lite::Regex::new(patches[1]["match"]["proxy"]["proxyVersion"].as_str().unwrap()).unwrap();
    for (version, lags) in
        [("1.28.3", true), ("1.28-dev", true), ("1.29.0", false), ("1.31.0", false), ("1.280", false)]
    {
        assert_eq!(versions.is_match(version), lags, "{version}");
    }
    let tunnel = &patches[1]["patch"]["value"]["typed_config"]["tunneling_config"];
    assert_eq!(*tunnel, json!({"hostname": authority}));

    // Rules that ask nobody who they are hold there as well.
    let open = POLICIES
        .replace("notPrincipals: ['*']", "")
        .replace("namespaces: [web, 'web-*'], notPrincipals: [cluster.local/ns/web/sa/guest]", "");
    let output = made(&format!("{}{}{open}", namespace("shop"), service("shop", "greeter", "10.0.0.1")));
    assert!(!format!("{:?}", output.objects).contains("unidentified"));
}
