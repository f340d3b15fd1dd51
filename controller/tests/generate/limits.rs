//! Rate limits of routers, which the sidecars of servers enforce.

use meltemi::generate::ForeignRouters;
use serde_json::{Value, json};

use crate::tenants::{made_with, mesh_config};
use crate::{findings, made, namespace, plan, service};

/// A router of `host` with a limit.
fn router(namespace: &str, name: &str, host: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: meltemi.io/v1alpha1\nkind: MetaRouter\nmetadata: {{name: {name}, namespace: {namespace}}}\n\
         spec:\n  hosts: [{host}]\n{spec}\n"
    )
}

const ONE: &str = "  localRateLimit: {tokenBucket: {maxTokens: 1, tokensPerFill: 1, fillInterval: 1s}}";

fn base() -> String {
    namespace("shop") + &namespace("web") + &service("shop", "demo", "10.0.0.1")
}

/// What the plan of the servers says of limits, and what is said of routers.
fn limit(text: &str) -> (Value, Vec<String>) {
    let output = made(text);
    let limit = plan(&output, "shop")["inbound.demo.shop.svc.cluster.local:20880"]["localRateLimit"].clone();
    (limit, findings(&output))
}

#[test]
fn servers_limit_the_calls_and_clients_do_not() {
    let spec = "  localRateLimit:
    tokenBucket: {maxTokens: 4294967295, tokensPerFill: 100, fillInterval: 1m30s}
    conditions:
    - match: {attributes: {method: {prefix: get}, user: {exact: ''}, shard: {range: {start: 1, end: 9}, invert: true}}}
      tokenBucket: {maxTokens: 20, tokensPerFill: 10, fillInterval: 50ms}
    - match: {}
      tokenBucket: {maxTokens: 1, tokensPerFill: 1, fillInterval: 1000h}";
    let output = made(&(base() + &router("shop", "demo", "demo", spec)));
    let wanted = json!({
        "protocol": "dubbo",
        "localRateLimit": {
            "tokenBucket": {"maxTokens": 4_294_967_295_u32, "tokensPerFill": 100, "fillInterval": "90s"},
            "conditions": [
                {
                    "match": [{"attributes": {
                        "method": {"prefix": "get"},
                        "user": {"present": true},
                        "shard": {"range": {"start": 1, "end": 9}, "invert": true},
                    }}],
                    "tokenBucket": {"maxTokens": 20, "tokensPerFill": 10, "fillInterval": "50ms"},
                },
                {"tokenBucket": {"maxTokens": 1, "tokensPerFill": 1, "fillInterval": "1000h"}},
            ],
        },
    });
    assert_eq!(plan(&output, "shop")["inbound.demo.shop.svc.cluster.local:20880"], wanted);
    for client in ["shop", "web"] {
        let entry = &plan(&output, client)["demo.shop.svc.cluster.local:20880"];
        assert_eq!(*entry, json!({"protocol": "dubbo"}), "{client}");
    }
    let start =
        "Warning MetaRouter shop/demo: spec.localRateLimit.tokenBucket: limits no call: conditions[1]";
    let found = findings(&output);
    assert!(found.len() == 1 && found[0].starts_with(start), "{found:#?}");
}

#[test]
fn limits_of_aeraki_are_honoured_as_they_are() {
    let text = router(
        "shop",
        "demo",
        "demo.shop.svc.cluster.local",
        "  localRateLimit:
    conditions: [{match: {attributes: {method: {exact: sayHello}}}, tokenBucket: {maxTokens: 2, tokensPerFill: 2, fillInterval: 10s}}]",
    )
    .replace("meltemi.io", "metaprotocol.aeraki.io");
    let wanted = json!({"conditions": [{
        "match": [{"attributes": {"method": {"exact": "sayHello"}}}],
        "tokenBucket": {"maxTokens": 2, "tokensPerFill": 2, "fillInterval": "10s"},
    }]});
    assert_eq!(limit(&(base() + &text)), (wanted, Vec::new()));
}

#[test]
fn limits_of_several_routers_are_merged() {
    let condition = |method: &str| {
        format!(
            "{{match: {{attributes: {{method: {{exact: {method}}}}}}}, tokenBucket: {{maxTokens: 2, tokensPerFill: 2, fillInterval: 1s}}}}"
        )
    };
    let b = format!("  localRateLimit: {{conditions: [{}, {}]}}", condition("get"), condition("put"));
    let text = base()
        + &router("shop", "b", "demo", &b)
        + &router("shop", "a", "demo", ONE)
        + &router("shop", "c", "demo", &ONE.replace("maxTokens: 1", "maxTokens: 9"));
    let (limit, found) = limit(&text);
    assert_eq!(limit["tokenBucket"]["maxTokens"], 1);
    let methods: Vec<&Value> = limit["conditions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|condition| &condition["match"][0]["attributes"]["method"]["exact"])
        .collect();
    assert_eq!(methods, ["get", "put"]);
    let wanted = "NotHonoured MetaRouter shop/c: spec.localRateLimit.tokenBucket: calls that no condition matches are limited by \
                  MetaRouter shop/a: leave out one of the two";
    assert_eq!(found, [wanted]);
}

#[test]
fn a_foreign_router_limits_nobody() {
    let foreign = router("web", "grab", "demo.shop.svc.cluster.local", ONE);
    let unlimited = json!({"protocol": "dubbo"});
    let open = base().replace(
        "{name: demo, namespace: shop}",
        "{name: demo, namespace: shop, annotations: {meltemi.io/routers-from: '*'}}",
    );
    let output = made_with(&(open + &foreign), |options| options.foreign_routers = ForeignRouters::All);
    assert_eq!(plan(&output, "shop")["inbound.demo.shop.svc.cluster.local:20880"], unlimited);
    let start = "NotHonoured MetaRouter web/grab: spec.localRateLimit: not enforced: only routers of shop";
    assert!(findings(&output).iter().any(|finding| finding.starts_with(start)), "{:#?}", findings(&output));
    // A host of the same name is the tenant's own, and so are the pods that serve it.
    let mask = "---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: mask, namespace: web}
spec:
  hosts: [demo.shop.svc.cluster.local]
  addresses: [192.0.2.1]
  resolution: STATIC
  ports: [{number: 20880, name: tcp-metaprotocol-dubbo, protocol: TCP}]
  workloadSelector: {labels: {app: demo}}
";
    let output = made(&(base() + &foreign + mask));
    assert_eq!(plan(&output, "shop")["inbound.demo.shop.svc.cluster.local:20880"], unlimited);
    let own = &plan(&output, "web")["inbound.demo.shop.svc.cluster.local:20880"];
    assert_eq!(own["localRateLimit"]["tokenBucket"]["maxTokens"], 1);
}

#[test]
fn a_limit_that_nothing_enforces_says_so() {
    let told = |text: &str, words: &str| {
        let (limit, found) = limit(text);
        assert_eq!(limit, Value::Null, "{words}");
        let start = "NotHonoured MetaRouter shop/demo: spec.localRateLimit: not enforced: ";
        let is_told = |finding: &String| finding.starts_with(start) && finding.contains(words);
        assert_eq!(found.iter().filter(|finding| is_told(finding)).count(), 1, "{words}: {found:#?}");
    };
    let own = |more: &str| router("shop", "demo", "demo", &format!("{more}{ONE}"));
    told(&(base() + &own("  gateways: [edge]\n")), "name mesh in gateways");
    told(&(base() + &own("  exportTo: [web]\n")), "name . in exportTo");
    let bare = base().replace("istio-injection: enabled", "istio-injection: disabled");
    told(&(bare + &own("")), "no managed sidecars");
    told(&(base().replace("  selector: {app: demo}\n", "") + &own("")), "no pods");
    let named = base().replace("port: 20880", "port: 20880, targetPort: calls");
    told(&(named + &own("")), "no pods");
    let wide = service("shop", "wide", "10.0.0.9").replace("app: wide", "app: demo");
    let narrow = base().replace("selector: {app: demo}", "selector: {app: demo, version: v1}");
    told(&(narrow + &wide + &own("")), "Service shop/wide");
    let ingress = "---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: own, namespace: shop}
spec: {ingress: [{port: {number: 20880, protocol: TCP, name: tcp}, defaultEndpoint: '127.0.0.1:1'}]}
";
    told(&(base() + ingress + &own("")), "a Sidecar says how they are called");
    let root = mesh_config("rootNamespace: shop");
    told(&(base() + &root + &own("")), "no managed sidecars");
}

#[test]
fn a_limit_stands_beside_a_policy() {
    let policy = "---
apiVersion: dubbo.aeraki.io/v1alpha1
kind: DubboAuthorizationPolicy
metadata: {name: readers, namespace: shop}
spec: {action: ALLOW, rules: [{from: [{source: {namespaces: [web]}}]}]}
";
    let output = made(&(base() + policy + &router("shop", "demo", "demo", ONE)));
    let all = plan(&output, "shop");
    for authority in ["inbound.demo", "unidentified.inbound.demo"] {
        let entry = &all[format!("{authority}.shop.svc.cluster.local:20880")];
        assert_eq!(entry["localRateLimit"]["tokenBucket"]["maxTokens"], 1, "{authority}");
        assert_eq!(entry["defaultRoute"]["reject"]["message"], "RBAC: access denied", "{authority}");
    }
    let of_server = output.objects.iter().find(|object| object.metadata.name == "meltemi-server-demo");
    assert_eq!(json!(of_server.unwrap().spec)["pluginConfig"]["unknownAuthority"], "refuse");
}

/// A limit that proxies would refuse, or that leaves no room, leaves the servers' plan as it would be without it.
#[test]
fn a_limit_that_is_too_much_is_left_out() {
    let condition = |matcher: &str| {
        format!(
            "    - {{match: {{attributes: {{a: {matcher}}}}}, tokenBucket: {{maxTokens: 1, tokensPerFill: 1, fillInterval: 1s}}}}\n"
        )
    };
    let limits = |conditions: &str| format!("  localRateLimit:\n    conditions:\n{conditions}");
    // Each fits by itself, all of them do not: 128 KiB of texts that cannot be packed, in each of eight routers.
    let mut state = 1_u32;
    let mut noise = |length: usize| -> String {
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            char::from_digit((state >> 24) % 36, 36).unwrap()
        };
        (0..length).map(|_| next()).collect()
    };
    let mut large = String::new();
    for router_name in 0..8 {
        let conditions: String =
            (0..64).map(|_| condition(&format!("{{exact: x{}}}", noise(2000)))).collect();
        large += &router("shop", &format!("r{router_name}"), "demo", &limits(&conditions));
    }
    let (limit_of_all, found) = limit(&(base() + &large));
    let left_out = found.iter().filter(|finding| finding.contains("of the 512 KiB")).count();
    let conditions = limit_of_all["conditions"].as_array().unwrap().len();
    assert!((1..8).contains(&left_out) && conditions == 64 * (8 - left_out), "{left_out}, {conditions}");
    // Tables of regular expressions: so many of a namespace.
    let expressions: String = (0..8)
        .map(|at| condition(&format!("{{regex: '.*a.{{7}}(bcdefghijklmnopqrstuvwyzABCDEFG)?x{at}'}}")))
        .collect();
    let routers: String =
        (0..12).map(|at| router("shop", &format!("r{at:02}"), "demo", &limits(&expressions))).collect();
    let (limit_of_all, found) = limit(&(base() + &routers));
    let left_out = found.iter().filter(|finding| finding.contains("more than 4 MiB as tables")).count();
    let conditions = limit_of_all["conditions"].as_array().unwrap().len();
    assert!((1..12).contains(&left_out) && conditions == 8 * (12 - left_out), "{left_out}, {found:#?}");
    // One with a route that proxies would refuse is not in force, with its limit.
    let routes = "  routes: [{name: r, match: {attributes: {a: {exact: x}}}, route: [{destination: {host: demo}}], \
                  retries: {retryOn: [status], statuses: [nothing]}}]\n";
    let (limit_of_bad, found) = limit(&(base() + &router("shop", "demo", "demo", &format!("{routes}{ONE}"))));
    assert!(
        limit_of_bad.is_null() && found[0].starts_with("Error MetaRouter shop/demo: spec.routes[0].retries")
    );
}

#[test]
fn servers_ask_the_rate_limit_service_as_aeraki_documents_it() {
    let spec = "  globalRateLimit:
    domain: production
    match: {attributes: {method: {exact: sayHello}}}
    rateLimitService: outbound|8081||rls.shop.svc.cluster.local
    requestTimeout: 100ms
    denyOnFail: true
    descriptors: [{property: method, descriptorKey: m}, {property: user, descriptorKey: user}]";
    let other = "  globalRateLimit:
    domain: other
    rateLimitService: rls
    descriptors: [{property: source.namespace, descriptorKey: from}]
  localRateLimit: {tokenBucket: {maxTokens: 1, tokensPerFill: 1, fillInterval: 1s}}";
    let text = base() + &router("shop", "a", "demo", spec) + &router("shop", "b", "demo", other);
    let output = made(&text);
    assert_eq!(findings(&output), [""; 0]);
    let wanted = json!([
        {
            "match": [{"attributes": {"method": {"exact": "sayHello"}}}],
            "cluster": "outbound|8081||rls.shop.svc.cluster.local",
            "domain": "production",
            "descriptors": [[{"key": "m", "attribute": "method"}], [{"key": "user", "attribute": "user"}]],
            "hits": 1,
            "timeout": "100ms",
            "denyOnFailure": true,
        },
        {
            "cluster": "rls",
            "domain": "other",
            "descriptors": [[{"key": "from", "attribute": "source.namespace"}]],
            "hits": 1,
            "timeout": "20ms",
            "denyOnFailure": false,
        },
    ]);
    let entry = &plan(&output, "shop")["inbound.demo.shop.svc.cluster.local:20880"];
    assert_eq!(entry["globalRateLimits"], wanted);
    assert_eq!(entry["localRateLimit"]["tokenBucket"]["maxTokens"], 1);
    assert_eq!(plan(&output, "shop")["demo.shop.svc.cluster.local:20880"], json!({"protocol": "dubbo"}));

    let wrong =
        spec.replace("property: user", "property: source.nobody").replace("exact: sayHello", "regex: '('");
    let said = findings(&made(&(base() + &router("shop", "a", "demo", &wrong))));
    let [matcher, property] = &*said else { panic!("{said:?}") };
    assert!(matcher.contains("spec.globalRateLimit.match.attributes.method"), "{matcher}");
    let told = "spec.globalRateLimit.descriptors[1].property: no attribute of the connection";
    assert!(property.contains(told), "{property}");
    let foreign = findings(&made(&(base() + &router("web", "a", "demo.shop.svc.cluster.local", spec))));
    assert!(foreign.iter().any(|said| said.contains("spec.globalRateLimit: not enforced")), "{foreign:?}");
}

#[test]
fn servers_ask_of_one_descriptor_with_all_entries() {
    let spec = "  globalRateLimit:
    domain: production
    match: {attributes: {method: {suffix: Hello}}}
    rateLimitService: rls
    descriptors: [{property: method, descriptorKey: m}, {property: user, descriptorKey: user}]
    combined: true
    hits: 3";
    let output = made(&(base() + &router("shop", "a", "demo", spec)));
    assert_eq!(findings(&output), [""; 0]);
    let asked = &plan(&output, "shop")["inbound.demo.shop.svc.cluster.local:20880"]["globalRateLimits"];
    let entries = json!([[{"key": "m", "attribute": "method"}, {"key": "user", "attribute": "user"}]]);
    assert_eq!((&asked[0]["descriptors"], &asked[0]["hits"]), (&entries, &json!(3)));
    assert_eq!(asked[0]["match"], json!([{"attributes": {"method": {"suffix": "Hello"}}}]));

    let wrong = spec.replace("property: user", "property: source.nobody");
    let [said] = &*findings(&made(&(base() + &router("shop", "a", "demo", &wrong)))) else { panic!() };
    assert!(said.contains("spec.globalRateLimit.descriptors[1].property: "), "{said}");
}
