use serde_json::{Value, json};

use crate::{findings, made, namespace, plan, service};

fn router(namespace: &str, name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: meltemi.io/v1alpha1\nkind: MetaRouter\nmetadata: {{name: {name}, namespace: {namespace}}}\n\
         spec:\n  hosts: [demo.shop.svc.cluster.local]\n{spec}"
    )
}

fn virtual_service(spec: &str) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: demo, namespace: shop}}\n\
         spec:\n  hosts: [demo]\n{spec}"
    )
}

fn routes(text: &str, client: &str) -> Value {
    let world = namespace("shop") + &namespace("web") + &service("shop", "demo", "10.0.0.1") + text;
    plan(&made(&world), client)["demo.shop.svc.cluster.local:20880"].clone()
}

fn route_names(entry: &Value) -> Vec<&str> {
    entry["routes"].as_array().into_iter().flatten().map(|route| route["name"].as_str().unwrap()).collect()
}

const ONE: &str =
    "  routes: [{name: one, match: {attributes: {a: {exact: x}}}, route: [{destination: {host: demo}}]}]\n";

#[test]
fn routers_of_one_host_merge_in_a_defined_order() {
    let all = "  routes: [{name: all, route: [{destination: {host: demo}}]}]\n";
    let both = "  routes:
  - {name: two, match: {attributes: {a: {prefix: z}}}, route: [{destination: {host: demo.shop.svc.cluster.local}}]}
  - {name: rest, route: [{destination: {host: demo.shop.svc.cluster.local, subset: v1, port: {number: 7}}}]}
";
    let text = router("shop", "z", both) + &router("shop", "b", ONE) + &router("shop", "a", all);
    let entry = routes(&text, "web");
    // By name, but what takes every call comes last.
    assert_eq!(route_names(&entry), ["shop/b/one", "shop/z/two", "shop/a/all"]);
    let world = namespace("shop") + &service("shop", "demo", "10.0.0.1") + &text;
    let found = findings(&made(&world));
    assert!(
        found.iter().any(|finding| finding.contains("never matches: shop/a/all already is the catch-all")),
        "{found:#?}"
    );
    assert!(
        found.iter().any(|finding| finding.contains("no DestinationRule defines the subset \"v1\"")),
        "{found:#?}"
    );
}

#[test]
fn routers_reach_the_namespaces_that_they_are_exported_to() {
    let own = router("shop", "a", &format!("  exportTo: [\".\"]\n{ONE}"));
    assert_eq!(route_names(&routes(&own, "shop")), ["shop/a/one"]);
    assert_eq!(route_names(&routes(&own, "web")), Vec::<&str>::new());
}

#[test]
fn a_router_for_gateways_is_not_for_the_mesh() {
    let gateway = router("shop", "a", &format!("  gateways: [edge]\n{ONE}"));
    assert_eq!(routes(&gateway, "shop"), json!({"protocol": "dubbo"}));
    let both = router("shop", "a", &format!("  gateways: [edge, mesh]\n{ONE}"));
    assert_eq!(route_names(&routes(&both, "shop")), ["shop/a/one"]);
}

#[test]
fn every_field_of_a_route_reaches_the_plan() {
    let spec = "  onNoMatch: reject
  routes:
  - name: all
    match:
      attributes:
        a: {exact: ''}
        b: {suffix: s, invert: true}
        c: {range: {start: 1, end: 9}}
        d: {regex: 'x.*'}
        e: {contains: z}
        f: {present: false}
    route:
    - {destination: {host: demo, subset: v1}, weight: 80}
    - {destination: {host: other.far.svc.cluster.local, port: {number: 9}}, weight: 20}
    requestMutation: [{key: k, value: v}]
    responseMutation: [{key: l, value: w}]
    requestRemove: [m]
    responseRemove: [o]
    timeout: 1m30s
    propagateDeadline: true
    retries: {attempts: 3, retryOn: [reset, status], statuses: [SERVER_TIMEOUT, '80'], perTryTimeout: 100ms, hedge: {after: 50ms, percentile: 95}}
    fault: {delay: {percentage: {value: 12.5}, fixedDelay: 1.5s}, abort: {percentage: {value: 1}, message: try again}}
";
    let wanted = json!({
        "protocol": "dubbo",
        "onNoMatch": "reject",
        "routes": [{
            "name": "shop/a/all",
            "match": [{"attributes": {
                "a": {"present": true},
                "b": {"suffix": "s", "invert": true},
                "c": {"range": {"start": 1, "end": 9}},
                "d": {"regex": "x.*"},
                "e": {"contains": "z"},
                "f": {"present": false},
            }}],
            "weightedClusters": [
                {"cluster": "outbound|20880|v1|demo.shop.svc.cluster.local", "weight": 80},
                {"cluster": "outbound|9||other.far.svc.cluster.local", "weight": 20},
            ],
            "requestAttachments": {"set": {"k": "v"}, "remove": ["m"]},
            "responseAttachments": {"set": {"l": "w"}, "remove": ["o"]},
            "timeout": "90s",
            "propagateDeadline": true,
            "retry": {
                "attempts": 3, "on": ["reset", "status"], "statuses": ["SERVER_TIMEOUT", 80], "perTryTimeout": "100ms",
                "hedge": {"after": "50ms", "percentile": 95},
            },
            "fault": {
                "delay": {"duration": "1500ms", "percent": 12.5},
                "abort": {"percent": 1.0, "message": "try again"},
            },
        }],
    });
    assert_eq!(routes(&router("shop", "a", spec), "shop"), wanted);
}

#[test]
fn adaptive_concurrency_is_that_of_the_first_router_of_the_services_namespace() {
    let adaptive = |fields: &str| format!("  adaptiveConcurrency: {fields}\n");
    let fields = "{sampleAggregatePercentile: 90, concurrencyUpdateInterval: 1s, minRttCalcInterval: 30s, \
        minRttCalcRequestCount: 20, jitter: 10, minConcurrency: 5, buffer: 50, maxConcurrencyLimit: 80}";
    let text = router("shop", "a", &adaptive(fields))
        + &router("shop", "b", &adaptive("{}"))
        + &router("web", "c", &adaptive("{minConcurrency: 9}"));
    let wanted = json!({
        "sampleAggregatePercentile": 90, "concurrencyUpdateInterval": "1s", "minRttCalcInterval": "30s",
        "minRttCalcRequestCount": 20, "jitter": 10, "minConcurrency": 5, "buffer": 50, "maxConcurrencyLimit": 80,
    });
    for client in ["shop", "web"] {
        assert_eq!(routes(&text, client)["upstream"]["adaptiveConcurrency"], wanted);
    }
    let default = routes(&router("shop", "b", &adaptive("{}")), "web");
    assert_eq!(default["upstream"]["adaptiveConcurrency"]["maxConcurrencyLimit"], 1000);
    let world = namespace("shop") + &namespace("web") + &service("shop", "demo", "10.0.0.1") + &text;
    let found = findings(&made(&world));
    for part in ["that of MetaRouter shop/a is, which comes first", "only routers of shop say how many calls"]
    {
        assert!(found.iter().any(|finding| finding.contains(part)), "{part}: {found:#?}");
    }
}

#[test]
fn faults_for_no_call_are_none() {
    let spec = "  routes:
  - name: r
    route: [{destination: {host: demo}}]
    fault: {delay: {percentage: {value: 0}, fixedDelay: 1s}, abort: {percentage: {value: 0}}}
";
    let route = &routes(&router("shop", "a", spec), "shop")["routes"][0];
    assert!(route["name"] == "shop/a/r" && route["fault"].is_null(), "{route}");
    // What the API server counts in characters, proxies count in bytes.
    let long = spec.replace(
        "abort: {percentage: {value: 0}}",
        &format!("abort: {{percentage: {{value: 1}}, message: {}}}", "é".repeat(600)),
    );
    let found = findings(&made(&(service("shop", "demo", "10.0.0.1") + &router("shop", "a", &long))));
    let wanted = "Error MetaRouter shop/a: spec.routes[0].fault.abort.message: has 1200 bytes; at most 1024 are allowed";
    assert_eq!(found, [wanted]);
}

#[test]
fn a_router_that_the_filter_would_refuse_holds_up_no_other() {
    let bad = "  routes: [{name: bad, match: {attributes: {a: {regex: '('}}}, route: [{destination: {host: demo}}]}]\n";
    let text = router("shop", "bad", bad) + &router("shop", "good", ONE);
    assert_eq!(route_names(&routes(&text, "shop")), ["shop/good/one"]);
    let found = findings(&made(&(service("shop", "demo", "10.0.0.1") + &text)));
    let start = "Error MetaRouter shop/bad: spec.routes[0].match.attributes.a.regex: ";
    assert!(found.iter().any(|finding| finding.starts_with(start)), "{found:#?}");
}

#[test]
fn what_is_not_honoured_is_said() {
    let spec = "  exportTo: [web]
  globalRateLimit:
    domain: d
    rateLimitService: outbound|8081||limits.shop.svc.cluster.local
    requestTimeout: 20ms
    descriptors: [{property: method, descriptorKey: method}]
  routes: [{name: one, route: [{destination: {host: demo}}]}]
";
    let found = findings(&made(&(service("shop", "demo", "10.0.0.1") + &router("shop", "a", spec))));
    let wanted = "NotHonoured MetaRouter shop/a: spec.globalRateLimit: not enforced: sidecars of servers count the calls, \
                  and it is not for them: name . in exportTo";
    assert_eq!(found, [wanted]);
}

#[test]
fn a_router_for_nobody_says_so() {
    let found = findings(&made(&router("shop", "a", ONE)));
    assert!(
        found[0].starts_with("Error MetaRouter shop/a: spec.hosts[0]: no managed service has the host"),
        "{found:#?}"
    );
}

#[test]
fn virtual_services_route_calls() {
    let spec = "  http:
  - name: canary
    match:
    - {method: {exact: sayHello}, headers: {tag: {prefix: c}, any: {}}, withoutHeaders: {x: {exact: z}}}
    - {uri: {prefix: /}, method: {exact: never}}
    - {method: {exact: elsewhere}, sourceNamespace: web}
    route: [{destination: {host: demo, subset: v2}}]
    timeout: 2s
    retries: {attempts: 2, perTryTimeout: 500ms, retryOn: 'connect-failure,5xx,retriable-4xx,80'}
    headers: {request: {set: {a: b}, add: {c: d}, remove: [e]}}
    mirror: {host: demo}
    fault: {abort: {}}
  - route: [{destination: {host: demo, subset: v1}}]
";
    let entry = routes(&virtual_service(spec), "shop");
    let wanted = json!([
        {
            "name": "shop/demo/canary",
            "match": [{"attributes": {
                "method": {"exact": "sayHello"},
                "tag": {"prefix": "c"},
                "any": {"present": true},
                "x": {"exact": "z", "invert": true},
            }}],
            "cluster": "outbound|20880|v2|demo.shop.svc.cluster.local",
            "timeout": "2s",
            "retry": {
                "attempts": 2, "on": ["connect-failure", "per-try-timeout", "reset", "status"], "statuses": [80],
                "perTryTimeout": "500ms",
            },
            "mirrors": [{"cluster": "outbound|20880||demo.shop.svc.cluster.local", "percent": 100.0}],
            "requestAttachments": {"set": {"a": "b"}, "append": {"c": "d"}, "remove": ["e"]},
        },
        {"name": "shop/demo/1", "cluster": "outbound|20880|v1|demo.shop.svc.cluster.local"},
    ]);
    assert_eq!(entry["routes"], wanted);
    let found = findings(&made(&(service("shop", "demo", "10.0.0.1") + &virtual_service(spec))));
    let places: Vec<&str> = found.iter().map(|finding| finding.split(": ").nth(1).unwrap()).collect();
    let wanted = [
        "spec.http[0].route[0].destination.subset",
        "spec.http[1].route[0].destination.subset",
        "spec.http[0].match[1].uri",
        "spec.http[0].retries.retryOn",
        "spec.http[0].fault.abort",
    ];
    assert_eq!(places, wanted, "{found:#?}");
    // The client's namespace decides where a match asks for it.
    let entry = routes(&virtual_service(spec), "web");
    assert_eq!(entry["routes"][0]["match"].as_array().unwrap().len(), 2);
}

#[test]
fn faults_of_virtual_services_are_injected() {
    let of_fault = |fault: &str| {
        let spec = format!("  http:\n  - route: [{{destination: {{host: demo}}}}]\n    fault: {fault}\n");
        let world = service("shop", "demo", "10.0.0.1") + &virtual_service(&spec);
        let fault = routes(&virtual_service(&spec), "shop")["routes"][0]["fault"].clone();
        (fault, findings(&made(&world)).into_iter().filter(|finding| finding.contains(".fault")).collect())
    };
    let all = "{delay: {percentage: {value: 0.1}, fixedDelay: 5s}, abort: {percent: 50, httpStatus: 500}}";
    let (fault, found): (_, Vec<String>) = of_fault(all);
    assert_eq!(fault, json!({"delay": {"percent": 0.1, "duration": "5s"}, "abort": {"percent": 50.0}}));
    let wanted = "spec.http[0].fault.abort.httpStatus: RPC clients get their protocol's own error instead";
    assert!(found.len() == 1 && found[0].ends_with(wanted), "{found:#?}");
    for (fault, found) in [
        ("{abort: {httpStatus: 500}}", "fault.abort: names no percentage: no call is affected"),
        ("{delay: {percentage: {value: 100.5}, fixedDelay: 1s}}", "100.5 is no share: write 0 to 100"),
        ("{delay: {percent: 5, fixedDelay: soon}}", "\"soon\" is not a duration"),
        ("{delay: {percent: 5, exponentialDelay: 1s}}", "calls are delayed by fixedDelay alone"),
    ] {
        let (made, findings): (Value, Vec<String>) = of_fault(fault);
        assert_eq!(made, Value::Null, "{fault}");
        assert!(findings.iter().any(|finding| finding.contains(found)), "{findings:#?}");
    }
    let (none, found): (_, Vec<String>) = of_fault("{delay: {percentage: {value: 0}, fixedDelay: 1s}}");
    assert_eq!((none, found.len()), (Value::Null, 0));
}

#[test]
fn mirrors_of_virtual_services_get_copies() {
    let of_mirror = |mirror: &str| {
        let spec = format!("  http:\n  - {{route: [{{destination: {{host: demo}}}}], {mirror}}}\n");
        let world = service("shop", "demo", "10.0.0.1") + &virtual_service(&spec);
        let mirrors = routes(&virtual_service(&spec), "shop")["routes"][0]["mirrors"].clone();
        (mirrors, findings(&made(&world)))
    };
    let copies = |cluster: &str, percent: f64| json!({"cluster": cluster, "percent": percent});
    let (own, other) = ("outbound|20880||demo.shop.svc.cluster.local", "outbound|7||tap.web");
    for (mirror, wanted) in [
        ("mirror: {host: demo}", json!([copies(own, 100.0)])),
        (
            "mirror: {host: tap.web, port: {number: 7}}, mirrorPercentage: {value: 0.5}, mirrorPercent: 9",
            json!([copies(other, 0.5)]),
        ),
        ("mirror: {host: demo}, mirrorPercent: 9", json!([copies(own, 9.0)])),
        (
            "mirrors: [{destination: {host: demo}, percentage: {value: 20}}, \
             {destination: {host: tap.web, port: {number: 7}}}]",
            json!([copies(own, 20.0), copies(other, 100.0)]),
        ),
        ("mirror: {host: demo}, mirrorPercentage: {value: 0}", Value::Null),
        ("mirrors: [{destination: {host: demo}, percentage: {}}]", Value::Null),
    ] {
        assert_eq!(of_mirror(mirror), (wanted, vec![]), "{mirror}");
    }
    let refused = [
        ("mirror: {host: demo}, mirrorPercent: 101", "mirrorPercent: 101 is no share: write 0 to 100"),
        (
            "mirrors: [{destination: {host: demo}, percentage: {value: -1}}]",
            "mirrors[0].percentage.value: -1 is no share: write 0 to 100",
        ),
    ];
    for (mirror, found) in refused {
        let (mirrors, findings) = of_mirror(mirror);
        assert_eq!(mirrors, Value::Null, "{mirror}");
        assert_eq!(findings, [format!("NotHonoured VirtualService shop/demo: spec.http[0].{found}")]);
    }
    let start = "Warning VirtualService shop/demo: spec.http[0].mirrors[0].destination.subset: no DestinationRule defines";
    let (_, findings) = of_mirror("mirrors: [{destination: {host: demo, subset: v9}}]");
    assert!(findings.len() == 1 && findings[0].starts_with(start), "{findings:#?}");
}

#[test]
fn mirrors_of_routers_are_for_clients_alone() {
    let spec = "  routes: [{name: one, route: [{destination: {host: demo}}], mirror: {host: demo, subset: v9}, mirrorPercentage: {value: 7}}]
  localRateLimit: {tokenBucket: {maxTokens: 1, tokensPerFill: 1, fillInterval: 1s}}
";
    let text = router("shop", "a", spec);
    let mirrors = json!([{"cluster": "outbound|20880|v9|demo.shop.svc.cluster.local", "percent": 7.0}]);
    assert_eq!(routes(&text, "web")["routes"][0]["mirrors"], mirrors);
    let output = made(&(namespace("shop") + &service("shop", "demo", "10.0.0.1") + &text));
    let servers = &plan(&output, "shop")["inbound.demo.shop.svc.cluster.local:20880"];
    assert!(servers["localRateLimit"].is_object() && !servers.to_string().contains("mirrors"), "{servers}");
    let start = "Warning MetaRouter shop/a: spec.routes[0].mirror.subset: no DestinationRule defines the subset \"v9\"";
    let found = findings(&output);
    assert!(found.iter().any(|finding| finding.starts_with(start)), "{found:#?}");
}

#[test]
fn connections_that_only_istio_can_tell_apart_are_told_of() {
    let spec = "  tcp:
  - match: [{port: 1, sourceLabels: {app: other port}}, {sourceLabels: {app: web}}, {destinationSubnets: [10.0.0.0/8]}]
    route: [{destination: {host: demo, subset: v1}}]
  - route: [{destination: {host: demo, subset: v2}}]
";
    let world = service("shop", "demo", "10.0.0.1") + &virtual_service(spec);
    let found = findings(&made(&world));
    let places: Vec<&str> = found.iter().map(|finding| finding.split(": ").nth(1).unwrap()).collect();
    let wanted = [
        "spec.tcp[0].route[0].destination.subset",
        "spec.tcp[1].route[0].destination.subset",
        "spec.tcp[0].match[1].sourceLabels",
        "spec.tcp[0].match[2].destinationSubnets",
    ];
    assert_eq!(places, wanted, "{found:#?}");
    let default = &routes(&virtual_service(spec), "shop")["defaultRoute"];
    assert_eq!(default["cluster"], "outbound|20880|v2|demo.shop.svc.cluster.local");
}

#[test]
fn weights_of_connections_become_the_default_route() {
    let spec = "  tcp:
  - match: [{port: 1}]
    route: [{destination: {host: demo, subset: v1}}]
  - match: [{port: 20880}]
    route:
    - {destination: {host: demo, subset: v1}, weight: 90}
    - {destination: {host: demo, subset: v2}, weight: 10}
";
    let default = json!({"weightedClusters": [
        {"cluster": "outbound|20880|v1|demo.shop.svc.cluster.local", "weight": 90},
        {"cluster": "outbound|20880|v2|demo.shop.svc.cluster.local", "weight": 10},
    ]});
    assert_eq!(routes(&virtual_service(spec), "shop")["defaultRoute"], default);
    // Calls that a router's routes leave over take it too.
    let entry = routes(&(virtual_service(spec) + &router("shop", "a", ONE)), "shop");
    assert_eq!(route_names(&entry), ["shop/a/one"]);
    assert_eq!(entry["defaultRoute"], default);
}
