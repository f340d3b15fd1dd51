//! What DestinationRules say of calls.

use meltemi_codecs::Codecs;
use meltemi_proxy::plan::Plan;
use serde_json::{Value, json};

use crate::{findings, made, namespace, plan, service};

const HOST: &str = "demo.shop.svc.cluster.local";

/// A rule for `host` with this `spec`.
fn rule((namespace, name, host): (&str, &str, &str), spec: Value) -> String {
    let mut object = json!({
        "apiVersion": "networking.istio.io/v1",
        "kind": "DestinationRule",
        "metadata": {"namespace": namespace, "name": name},
        "spec": {"host": host},
    });
    object["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    format!("---\n{object}\n")
}

fn router(route: Value) -> String {
    let object = json!({
        "apiVersion": "meltemi.io/v1alpha1",
        "kind": "MetaRouter",
        "metadata": {"namespace": "shop", "name": "demo"},
        "spec": {"hosts": ["demo"], "routes": [route]},
    });
    format!("---\n{object}\n")
}

fn world() -> String {
    namespace("shop") + &namespace("web") + &namespace("far") + &service("shop", "demo", "10.0.0.1")
}

/// What the plan of a namespace's sidecars says of a service's clusters. It is one that the filter takes.
fn clusters(text: &str, client: &str) -> Value {
    let services = plan(&made(&(world() + text)), client);
    let plan = json!({"services": services}).to_string();
    Plan::parse(plan.as_bytes(), &Codecs::all()).unwrap();
    services[format!("{HOST}:20880")]["upstream"]["clusters"].clone()
}

fn cluster(subset: &str) -> String {
    format!("outbound|20880|{subset}|{HOST}")
}

fn hashed(name: &str) -> Value {
    json!({"loadBalancer": {"consistentHash": {"httpHeaderName": name}}})
}

#[test]
fn rules_say_what_holds_for_the_calls_of_each_cluster() {
    let text = rule(
        ("shop", "demo", "demo"),
        json!({
            "trafficPolicy": {
                "loadBalancer": {"consistentHash": {"httpHeaderName": "user", "ringHash": {"minimumRingSize": 2048}}},
                "connectionPool": {
                    "tcp": {"maxConnections": 7},
                    "http": {"http1MaxPendingRequests": 3, "http2MaxRequests": 9, "maxRetries": 2},
                },
                "outlierDetection": {
                    "consecutive5xxErrors": 7, "consecutiveGatewayErrors": 4, "interval": "5s", "baseEjectionTime": "1m30s",
                    "maxEjectionPercent": 50, "minHealthPercent": 40,
                },
            },
            "subsets": [
                {"name": "v1", "trafficPolicy": {"loadBalancer": {"simple": "RANDOM"}, "outlierDetection": {"consecutive5xxErrors": 0}}},
                {"name": "v2", "trafficPolicy": {"portLevelSettings": [
                    {"port": {"number": 1}, "loadBalancer": {"consistentHash": {"httpHeaderName": "other"}}},
                    {"port": {"number": 20880}, "loadBalancer": {"consistentHash": {"useSourceIp": true, "maglev": {"tableSize": 65537}}}},
                ]}},
            ],
        }),
    );
    let to = |subset: &str, weight: u32| json!({"destination": {"host": "demo", "subset": subset}, "weight": weight});
    let route = json!({"name": "both", "route": [to("v1", 40), to("v2", 60)], "mirror": {"host": "demo", "subset": "v3"}});
    let breaker = json!({"maxCalls": 9, "maxWaitingCalls": 3, "maxRetries": 2});
    let detection = json!({
        "consecutiveFailures": 4, "failurePercent": 0, "minCalls": 50, "interval": "5s", "baseEjectionTime": "90s",
        "maxEjectionTime": "5m", "maxEjectionPercent": 50, "minHealthPercent": 40,
    });
    let all = json!({"hashBy": ["user"], "circuitBreaker": breaker, "outlierDetection": detection});
    let found = clusters(&(text + &router(route)), "web");
    let wanted = json!({
        cluster(""): all,
        cluster("v1"): {"circuitBreaker": breaker},
        // The settings of a port are in the place of all others.
        cluster("v2"): {"hashBy": ["source.ip"]},
        cluster("v3"): all,
    });
    assert_eq!(found, wanted);
    assert_eq!(
        findings(&made(
            &(world() + &rule(("shop", "demo", "demo"), json!({"trafficPolicy": hashed("user")})))
        )),
        [""; 0]
    );
}

#[test]
fn clients_follow_one_rule_as_istio_has_it() {
    let of = |(namespace, name): (&str, &str), host: &str, more: Value| {
        let mut spec = json!({"trafficPolicy": hashed(name)});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        rule((namespace, name, host), spec)
    };
    let owners = of(("shop", "owner"), HOST, json!({}));
    let key = |text: &str, client: &str| clusters(text, client)[cluster("")]["hashBy"][0].clone();
    // A client's own comes first, that of the service's owner then; those of others are not followed.
    let all =
        owners.clone() + &of(("web", "client"), HOST, json!({})) + &of(("far", "stranger"), HOST, json!({}));
    assert_eq!(["shop", "web", "far"].map(|client| key(&all, client)), ["owner", "client", "stranger"]);
    let exported = of(("web", "client"), HOST, json!({"exportTo": ["*"]}));
    assert_eq!(key(&exported, "far"), Value::Null);
    let of_root = of(("istio-system", "root"), "*.local", json!({}));
    assert_eq!(key(&of_root, "web"), "root");
    assert_eq!(key(&(of_root.clone() + &owners), "web"), "owner");
    // One that says nothing of calls is followed no less.
    let plain = rule(("web", "plain", HOST), json!({"trafficPolicy": {"tls": {"mode": "ISTIO_MUTUAL"}}}));
    assert_eq!(key(&(owners.clone() + &plain), "web"), Value::Null);
    let private = of(("shop", "private"), HOST, json!({"exportTo": ["."]}));
    assert_eq!(["shop", "web"].map(|client| key(&private, client)), [json!("private"), Value::Null]);
    // Of one namespace the narrowest pattern counts, and rules of one host are taken together.
    let narrow = of(("shop", "wide"), "*.svc.cluster.local", json!({})) + &owners;
    assert_eq!(key(&narrow, "web"), "owner");
    let subsets = rule(("shop", "a", HOST), json!({"subsets": [{"name": "v1", "labels": {"a": "b"}}]}));
    assert_eq!(key(&(subsets + &owners), "web"), "owner");
    // What is for some workloads is for none of the calls.
    let selected = of(("web", "some"), HOST, json!({"workloadSelector": {"matchLabels": {"a": "b"}}}));
    assert_eq!(key(&(owners + &selected), "web"), "owner");
    let found = findings(&made(&(world() + &selected)));
    let start =
        "NotHonoured DestinationRule web/some: spec.workloadSelector: what it says of calls is not followed";
    assert!(found.len() == 1 && found[0].starts_with(start), "{found:#?}");
}

#[test]
fn what_calls_do_not_have_is_told() {
    let told = |policy: Value| {
        let text = rule(("shop", "demo", "demo"), json!({"trafficPolicy": policy}));
        let found = findings(&made(&(world() + &text)));
        assert_eq!(clusters(&text, "web").get(cluster("")), None, "{found:#?}");
        found
    };
    let start = "NotHonoured DestinationRule shop/demo: spec.trafficPolicy";
    let hash = |key: Value| json!({"loadBalancer": {"consistentHash": key}});
    let name = "name an attribute of theirs by httpHeaderName, or write useSourceIp";
    for (policy, path, message) in [
        (
            hash(json!({"httpCookie": {"name": "a", "ttl": "1s"}})),
            ".loadBalancer.consistentHash.httpCookie",
            format!("calls have no cookies: {name}"),
        ),
        (
            hash(json!({"httpQueryParameterName": "a"})),
            ".loadBalancer.consistentHash.httpQueryParameterName",
            format!("calls have no query: {name}"),
        ),
        (
            hash(json!({"httpHeaderName": "source.port"})),
            ".loadBalancer.consistentHash.httpHeaderName",
            "no attribute of the connection; write one of".to_owned(),
        ),
        (
            hash(json!({"httpHeaderName": "a".repeat(257)})),
            ".loadBalancer.consistentHash.httpHeaderName",
            "has 257 bytes, of which 256 are allowed".to_owned(),
        ),
        (
            json!({"connectionPool": {"http": {"maxRequestsPerConnection": 1}}}),
            ".connectionPool.http.maxRequestsPerConnection",
            "is of connections of HTTP".to_owned(),
        ),
        (
            json!({"retryBudget": {"percent": 10}}),
            ".retryBudget",
            "retries have the budget that all plans give".to_owned(),
        ),
    ] {
        let found = told(policy);
        assert!(found.len() == 1 && found[0].starts_with(&format!("{start}{path}: {message}")), "{found:#?}");
    }
    let split = json!({"outlierDetection": {
        "splitExternalLocalOriginErrors": true, "consecutiveLocalOriginFailures": 2, "interval": "soon", "consecutive5xxErrors": 3,
    }});
    let text = rule(("shop", "demo", "demo"), json!({"trafficPolicy": split}));
    let found = findings(&made(&(world() + &text)));
    let start = format!("{start}.outlierDetection.");
    let of_fields =
        ["splitExternalLocalOriginErrors: calls have one count", "interval: \"soon\" is not a duration"];
    assert!(
        of_fields.iter().all(|field| found.iter().any(|told| told.starts_with(&format!("{start}{field}")))),
        "{found:#?}"
    );
    assert_eq!(clusters(&text, "web")[cluster("")]["outlierDetection"]["consecutiveFailures"], 2);
    assert_eq!(clusters(&text, "web")[cluster("")]["outlierDetection"]["interval"], "10s");
}

#[test]
fn headless_services_hash_nothing() {
    let text = service("shop", "none", "None")
        + &rule(("shop", "none", "none"), json!({"trafficPolicy": hashed("user")}));
    let found = findings(&made(&(world() + &text)));
    let start = "NotHonoured DestinationRule shop/none: spec.trafficPolicy.loadBalancer.consistentHash: the service is headless";
    assert!(found.iter().any(|told| told.starts_with(start)), "{found:#?}");
}

#[test]
fn routers_hash_where_a_ring_leads() {
    let route =
        json!({"name": "all", "route": [{"destination": {"host": "demo"}}], "hashBy": ["user", "item"]});
    let text = router(route);
    let entry = plan(&made(&(world() + &text)), "web")[format!("{HOST}:20880")].clone();
    assert_eq!(entry["routes"][0]["hashBy"], json!(["user", "item"]));
    let found = findings(&made(&(world() + &text)));
    let start = "Warning MetaRouter shop/demo: spec.routes[0].hashBy: each proxy chooses endpoints of demo.shop.svc.cluster.local \
                 for itself: its cluster has no ring.";
    assert!(found.len() == 1 && found[0].starts_with(start), "{found:#?}");
    let ring = text + &rule(("shop", "demo", "demo"), json!({"trafficPolicy": hashed("user")}));
    assert_eq!(findings(&made(&(world() + &ring))), [""; 0]);
}

#[test]
fn weights_are_kept_where_localities_or_endpoints_have_some() {
    let distribute = json!([{"from": "a/*", "to": {"a/*": 80, "b/*": 20}}]);
    let policy = |setting: Value| json!({"trafficPolicy": {"loadBalancer": {"localityLbSetting": setting}}});
    let of_rule = |setting: Value| rule(("shop", "demo", "demo"), policy(setting));
    let kept = |text: &str| clusters(text, "web")[cluster("")]["keepWeights"].clone();
    let mut own = policy(json!({"distribute": distribute}));
    own["subsets"] = json!([
        {"name": "v1", "trafficPolicy": {"loadBalancer": {"simple": "RANDOM"}}},
        {"name": "v2", "trafficPolicy": {"outlierDetection": {"consecutive5xxErrors": 0}}},
    ]);
    let to = |subset: &str| json!({"destination": {"host": "demo", "subset": subset}, "weight": 50});
    let route = router(json!({"name": "both", "route": [to("v1"), to("v2")]}));
    let found = clusters(&(rule(("shop", "demo", "demo"), own) + &route), "web");
    assert_eq!(found, json!({cluster(""): {"keepWeights": true}, cluster("v2"): {"keepWeights": true}}));
    for setting in
        [json!({"distribute": distribute, "enabled": false}), json!({"failover": [{"from": "a", "to": "b"}]})]
    {
        assert_eq!(kept(&of_rule(setting)), Value::Null);
    }

    let mesh = format!(
        "---
apiVersion: v1
kind: ConfigMap
metadata: {{name: istio, namespace: istio-system}}
data: {{mesh: 'localityLbSetting: {{distribute: {distribute}}}'}}
"
    );
    assert_eq!(kept(&mesh), true, "all of the mesh");
    assert_eq!(kept(&(mesh + &of_rule(json!({"enabled": false})))), Value::Null, "a rule says otherwise");

    let entry = |weights: [u32; 2]| {
        let [a, b] = weights;
        format!(
            "---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: old, namespace: shop}}
spec:
  hosts: [old.example]
  addresses: [240.240.0.20]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{{number: 20880, name: tcp-metaprotocol-dubbo, protocol: TCP}}]
  endpoints: [{{address: 10.1.0.1, weight: {a}}}, {{address: 10.1.0.2, weight: {b}}}]
"
        )
    };
    let of_entry = |weights| {
        let services = plan(&made(&(world() + &entry(weights))), "web");
        services["old.example:20880"]["upstream"]["clusters"]["outbound|20880||old.example"].clone()
    };
    assert_eq!(of_entry([1, 3]), json!({"keepWeights": true}));
    assert_eq!([[3, 3], [0, 1]].map(of_entry), [Value::Null, Value::Null], "one as much as the other");
}

#[test]
fn what_clients_with_connections_for_themselves_do_without_is_reported() {
    let policy =
        json!({"connectionPool": {"http": {"maxRetries": 2}}, "outlierDetection": {"interval": "5s"}});
    let text = rule(("shop", "demo", "demo"), json!({"trafficPolicy": policy}))
        + &router(
            json!({"route": [{"destination": {"host": "demo"}}], "retries": {"hedge": {"after": "1s"}}}),
        )
        .replace(r#""routes""#, r#""adaptiveConcurrency":{},"routes""#);
    let pinned =
        (world() + &text).replace("name: demo", "name: demo, annotations: {meltemi.io/sharing: pinned}");
    let why = "clients have connections for themselves. Take the annotation meltemi.io/sharing off the service, or this out";
    let found = findings(&made(&pinned)).join("\n");
    for wanted in [
        format!("spec.trafficPolicy.connectionPool.http: counts the calls of each client by itself: {why}"),
        format!("spec.trafficPolicy.outlierDetection: is not in force for calls: {why}"),
        format!("spec.adaptiveConcurrency: is not in force: {why}"),
        format!("spec.routes[0].retries.hedge: is not in force: {why}"),
    ] {
        assert!(found.contains(&wanted), "{wanted} is not in {found}");
    }
    assert_eq!(findings(&made(&(world() + &text))), [""; 0]);
}
