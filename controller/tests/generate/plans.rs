//! Whatever the world, the filter takes each plan that is generated.

use meltemi::generate::{Output, generate};
use meltemi::place::{Step, steps};
use meltemi_codecs::Codecs;
use meltemi_proxy::plan::Plan;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::{findings, made, namespace, options, plan, plan_of, service, world};

fn virtual_service(routes: &str) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: demo, namespace: shop}}\n\
         spec:\n  hosts: [demo]\n  http:\n{routes}"
    )
}

/// Reads each plan as the filter does.
#[track_caller]
fn assert_taken(output: &Output, context: &dyn std::fmt::Debug) {
    for object in &output.objects {
        let services: serde_json::Map<String, Value> =
            plan_of(object).map(|(authority, entry)| (authority, entry.clone())).collect();
        let plan = json!({"services": services}).to_string();
        if let Err(error) = Plan::parse(plan.as_bytes(), &Codecs::all()) {
            panic!("{error}\n{plan:.2000}\n{context:#?}");
        }
    }
}

/// What is said of a field is said of one that the resource has, or that its parent lacks.
#[track_caller]
fn assert_places(output: &Output, objects: &[Value]) {
    for report in &output.reports {
        let is_it = |object: &&Value| {
            object["kind"] == report.resource.kind && object["metadata"]["name"] == report.resource.name
        };
        let Some(object) = objects.iter().find(is_it) else { continue };
        for finding in &report.findings {
            let mut place = object;
            for step in steps(&finding.path) {
                assert!(!place.is_null(), "{} of {object:#}", finding.path);
                place = match step {
                    Step::Key(key) => &place[key],
                    Step::Index(index) => &place[index],
                };
            }
        }
    }
}

/// What Istio takes and the filter has no plan for: what is written, where that is told, and what holds instead.
#[test]
fn what_only_istio_takes_is_told_and_takes_no_plan_down() {
    let mut otherwise = Vec::new();
    for (fields, told, holds) in [
        (
            "retries: {attempts: 2, retryOn: '5xx,503'}",
            "NotHonoured spec.http[0].retries.retryOn: \"503\" is a status of HTTP",
            json!({"retry": {"attempts": 2, "on": ["connect-failure", "reset"]}}),
        ),
        (
            "retries: {attempts: 2, retryOn: '503'}",
            "NotHonoured spec.http[0].retries.retryOn: \"503\" is a status of HTTP",
            json!({}),
        ),
        (
            "timeout: 1s, retries: {attempts: 2, perTryTimeout: 2s}",
            "Warning spec.http[0].retries.perTryTimeout: \"2s\" is longer than timeout",
            json!({"timeout": "1s", "retry": {"attempts": 2, "on": ["connect-failure"]}}),
        ),
        (
            "retries: {attempts: 50, perTryTimeout: 0s}",
            "Warning spec.http[0].retries.attempts: 50 is over the limit: 10 applies",
            json!({"retry": {"attempts": 10, "on": ["connect-failure"]}}),
        ),
        (
            "retries: {attempts: 1, backoff: 5s}",
            "NotHonoured spec.http[0].retries.backoff: does not apply to retries of RPC calls",
            json!({"retry": {"attempts": 1, "on": ["connect-failure"]}}),
        ),
        (
            "timeout: 2000h",
            "Warning spec.http[0].timeout: \"2000h\" is too long: 1000h applies",
            json!({"timeout": "1000h"}),
        ),
        (
            "timeout: 1500us",
            "Warning spec.http[0].timeout: \"1500us\" is finer than",
            json!({"timeout": "2ms"}),
        ),
        (
            "timeout: 500us",
            "Warning spec.http[0].timeout: \"500us\" is finer than",
            json!({"timeout": "1ms"}),
        ),
        ("timeout: soon", "NotHonoured spec.http[0].timeout: \"soon\" is not a duration", json!({})),
        ("name: \"a\\nb\"", "Warning spec.http[0].name: ", json!({})),
        (
            "headers: {request: {set: {a: b, '': c}, remove: [a, d]}}",
            "NotHonoured spec.http[0].headers.request: an attachment without a name",
            json!({"requestAttachments": {"set": {"a": "b"}, "remove": ["d"]}}),
        ),
        (
            "headers: {response: {set: {a: '%UPSTREAM_HOST%', b: c}, add: {b: d, x-t: '%START_TIME%', e: f}, remove: [e]}}",
            "NotHonoured spec.http[0].headers.response.add.x-t: no operator %START_TIME%; write one of %REQ(name)%, ",
            json!({"responseAttachments": {"set": {"a": "%UPSTREAM_HOST%", "b": "c,d", "e": "f"}}}),
        ),
        (
            "headers: {request: {set: {x.y: '100%'}, add: {via: '%REQ(source.principal)%'}}}",
            "NotHonoured spec.http[0].headers.request.set[\"x.y\"]: \"%\" opens an operator that does not end; ",
            json!({"requestAttachments": {"append": {"via": "%REQ(source.principal)%"}}}),
        ),
    ] {
        let routes = format!("  - {{route: [{{destination: {{host: demo}}}}], {fields}}}\n");
        let output = made(&(service("shop", "demo", "10.0.0.1") + &virtual_service(&routes)));
        assert_taken(&output, &fields);
        let found = findings(&output);
        let (severity, rest) = told.split_once(' ').unwrap();
        if !found
            .iter()
            .any(|finding| finding.starts_with(&format!("{severity} VirtualService shop/demo: {rest}")))
        {
            otherwise.push(format!("{told} is not in {found:?}"));
        }
        let mut route = plan(&output, "shop")["demo.shop.svc.cluster.local:20880"]["routes"][0].take();
        for field in ["name", "cluster"] {
            route.as_object_mut().unwrap().remove(field);
        }
        if route != holds {
            otherwise.push(format!("{fields}: {route}"));
        }
    }
    assert!(otherwise.is_empty(), "{}", otherwise.join("\n"));
}

/// A match that cannot be tried takes no call, as one that asks for a path takes none: the others stay.
#[test]
fn matches_that_the_filter_does_not_know_take_none() {
    let routes = |matches: &str| {
        format!(
            "  - {{name: some, match: [{matches}, {{method: {{exact: b}}}}], route: [{{destination: {{host: demo}}}}]}}\n"
        )
    };
    for (matches, told) in [
        (r"{method: {regex: '\pL+'}}", "match[0].method: not a regular expression"),
        (r"{headers: {a: {regex: '\pL+'}}}", "match[0].headers.a: not a regular expression"),
        (
            r"{withoutHeaders: {a.b: {regex: '('}}}",
            "match[0].withoutHeaders[\"a.b\"]: not a regular expression",
        ),
        (
            "{headers: {source.color: {exact: red}}}",
            "match[0].headers[\"source.color\"]: no attribute of the connection",
        ),
        // What no API server has seen.
        (
            "{headers: {tag: {exactt: gray}}}",
            "match[0].headers.tag.exactt: unknown; write exact, prefix or regex",
        ),
        ("{method: {exact: a, prefix: b}}", "match[0].method: says more than one thing"),
    ] {
        let output = made(&(service("shop", "demo", "10.0.0.1") + &virtual_service(&routes(matches))));
        assert_taken(&output, &matches);
        let start = format!("NotHonoured VirtualService shop/demo: spec.http[0].{told}");
        let found = findings(&output);
        assert!(
            found.len() == 1
                && found[0].starts_with(&start)
                && found[0].ends_with("; this match never applies"),
            "{found:?}"
        );
        let entry = &plan(&output, "shop")["demo.shop.svc.cluster.local:20880"];
        assert_eq!(entry["routes"][0]["match"], json!([{"attributes": {"method": {"exact": "b"}}}]));
    }
}

/// A route that nothing mends is left out, and the others are not.
#[test]
fn a_route_that_the_filter_would_refuse_is_left_out() {
    let long = "x".repeat(1100);
    let routes = format!(
        "  - {{match: [{{method: {{exact: a}}}}], route: [{{destination: {{host: demo, subset: {long}}}}}]}}
  - {{route: [{{destination: {{host: demo}}}}]}}\n"
    );
    let output = made(&(service("shop", "demo", "10.0.0.1") + &virtual_service(&routes)));
    assert_taken(&output, &"");
    let found = findings(&output);
    let start = "NotHonoured VirtualService shop/demo: spec.http[0].route: the route is left out";
    assert!(found.iter().any(|finding| finding.starts_with(start)), "{found:?}");
    let entry = &plan(&output, "shop")["demo.shop.svc.cluster.local:20880"];
    assert_eq!(entry["routes"].as_array().unwrap().len(), 1);
}

fn text() -> impl Strategy<Value = String> {
    const KNOWN: &[&str] = &[
        "",
        "a",
        "method",
        "source.principal",
        "source.color",
        "(",
        ".*",
        r"\pL",
        "(?x) a # b",
        " a",
        "a\nb",
        "default",
        "demo",
        "ä",
        "\u{1b}[0m",
        "[",
        "{",
        "*",
        "x{1,1000}{1000}",
    ];
    prop_oneof![8 => proptest::sample::select(KNOWN).prop_map(str::to_owned), 1 => ".{0,12}", 1 => "x{1000,1100}"]
}

fn duration() -> impl Strategy<Value = String> {
    const KNOWN: &[&str] = &[
        "0s",
        "1s",
        "2s",
        "500us",
        "1500us",
        "1ms",
        "1000h",
        "1000h1ns",
        "1000000h",
        "99999999999h",
        "soon",
        "",
        "-1s",
        "1.5s",
        "1ns",
        "0.0s",
    ];
    proptest::sample::select(KNOWN).prop_map(str::to_owned)
}

fn matcher() -> impl Strategy<Value = Value> {
    (proptest::sample::select(&["exact", "prefix", "regex", "suffix", "contains"][..]), text(), any::<bool>())
        .prop_map(
            |(kind, text, is_none)| if is_none && kind == "suffix" { json!({}) } else { json!({kind: text}) },
        )
}

fn matchers() -> impl Strategy<Value = Value> {
    proptest::collection::btree_map(text(), matcher(), 0..3).prop_map(|all| json!(all))
}

fn destination() -> impl Strategy<Value = Value> {
    let hosts = proptest::sample::select(&["demo", "other.far.svc.cluster.local", "*", " ", "", "a\tb"][..]);
    let subset = prop_oneof![Just("v1".to_owned()), Just(String::new()), text()];
    let weight = prop_oneof![Just(None), Just(Some(0)), Just(Some(100)), any::<u32>().prop_map(Some)];
    (hosts, subset, any::<u16>(), weight).prop_map(|(host, subset, port, weight)| {
        json!({"destination": {"host": host, "subset": subset, "port": {"number": port}}, "weight": weight.unwrap_or_default()})
    })
}

fn http_route() -> impl Strategy<Value = Value> {
    let retry_on = proptest::sample::select(
        &["5xx,503", "503", "", "reset,80,20", "gateway-error,unknown", " , ", "4294967296", "30"][..],
    );
    let matches = (matchers(), matchers(), proptest::option::of(matcher())).prop_map(
        |(headers, without, method)| json!({"headers": headers, "withoutHeaders": without, "method": method}),
    );
    let operations = (
        matchers(),
        proptest::collection::btree_map(text(), text(), 0..3),
        proptest::collection::vec(text(), 0..3),
    )
        .prop_map(|(_, set, remove)| json!({"set": set, "add": {"a": "b"}, "remove": remove}));
    (
        text(),
        proptest::collection::vec(matches, 0..3),
        proptest::collection::vec(destination(), 0..4),
        proptest::option::of(duration()),
        proptest::option::of((0_u32..20, proptest::option::of(duration()), proptest::option::of(retry_on))),
        proptest::option::of(operations),
        proptest::option::of(fault()),
    )
        .prop_map(|(name, matches, route, timeout, retries, operations, fault)| {
            let retries = retries.map(|(attempts, per_try, on)| json!({"attempts": attempts, "perTryTimeout": per_try, "retryOn": on}));
            json!({
                "name": name, "match": matches, "route": route, "timeout": timeout, "retries": retries, "fault": fault,
                "headers": {"request": operations, "response": operations},
            })
        })
}

fn fault() -> impl Strategy<Value = Value> {
    let percentage = prop_oneof![Just(0.0), Just(0.5), Just(100.0), Just(-1.0), Just(1e9)];
    let percentage = percentage.prop_map(|value| json!({"value": value}));
    (proptest::option::of(duration()), percentage, any::<bool>()).prop_map(|(delay, percentage, aborts)| {
        let mut fault = json!({});
        if let Some(delay) = delay {
            fault["delay"] = json!({"fixedDelay": delay, "percentage": percentage});
        }
        if aborts {
            fault["abort"] = json!({"percentage": percentage});
        }
        fault
    })
}

fn rate_limit() -> impl Strategy<Value = Value> {
    let bucket = || {
        (0_u32..3, 0_u32..3, duration()).prop_map(
        |(most, fill, interval)| json!({"maxTokens": most, "tokensPerFill": fill, "fillInterval": interval}),
    )
    };
    let condition = (matchers(), bucket())
        .prop_map(|(attributes, bucket)| json!({"match": {"attributes": attributes}, "tokenBucket": bucket}));
    (bucket(), proptest::collection::vec(condition, 0..3))
        .prop_map(|(bucket, conditions)| json!({"tokenBucket": bucket, "conditions": conditions}))
}

fn router_route() -> impl Strategy<Value = Value> {
    let statuses = proptest::collection::vec(
        proptest::sample::select(&["80", "SERVER_TIMEOUT", "503", "", "x"][..]),
        0..3,
    );
    let on = proptest::collection::vec(
        proptest::sample::select(&["connect-failure", "reset", "per-try-timeout", "status"][..]),
        0..3,
    );
    let mutations = proptest::collection::vec(
        (text(), text()).prop_map(|(key, value)| json!({"key": key, "value": value})),
        0..3,
    );
    (
        text(),
        proptest::option::of(matchers()),
        destination(),
        proptest::option::of(duration()),
        proptest::option::of((1_u32..12, on, statuses, proptest::option::of(duration()))),
        mutations,
        proptest::collection::vec(text(), 0..3),
        proptest::option::of(fault()),
        proptest::option::of(any::<bool>()),
    )
        .prop_map(|(name, matches, to, timeout, retries, set, remove, fault, propagate)| {
            let mut route = json!({"name": name, "route": [{"destination": to["destination"]}], "requestMutation": set, "requestRemove": remove});
            let mut add = |field: &str, value: Option<Value>| {
                if let Some(value) = value {
                    route[field] = value;
                }
            };
            add("match", matches.map(|attributes| json!({"attributes": attributes})));
            add("timeout", timeout.map(Value::from));
            add("fault", fault);
            add("propagateDeadline", propagate.map(Value::from));
            add("retries", retries.map(|(attempts, on, statuses, per_try)| {
                json!({"attempts": attempts, "retryOn": on, "statuses": statuses, "perTryTimeout": per_try})
            }));
            route
        })
}

fn object(version: &str, kind: &str, name: &str, spec: Value) -> Value {
    json!({"apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": "shop"}, "spec": spec})
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_the_world_each_plan_is_taken(
        http in proptest::collection::vec(http_route(), 0..4),
        tcp in proptest::collection::vec(destination(), 0..3),
        of_routers in proptest::collection::vec(proptest::collection::vec(router_route(), 1..3), 0..3),
        codec in proptest::sample::select(&["dubbo", "courier"][..]),
        methods in proptest::collection::vec(text(), 0..3),
        limit in proptest::option::of(rate_limit()),
    ) {
        let mut objects = vec![
            object("networking.istio.io/v1", "VirtualService", "demo", json!({"hosts": ["demo"], "http": http, "tcp": [{"route": tcp}]})),
            object("networking.istio.io/v1", "DestinationRule", "demo", json!({"host": "demo", "subsets": [{"name": "v1"}]})),
            object("dubbo.aeraki.io/v1alpha1", "DubboAuthorizationPolicy", "demo",
                json!({"action": "ALLOW", "rules": [{"to": [{"operation": {"methods": methods}}]}]})),
        ];
        for (at, routes) in of_routers.iter().enumerate() {
            let mut spec = json!({"hosts": ["demo"], "gateways": ["edge", "mesh"], "routes": routes});
            if let (0, Some(limit)) = (at, &limit) {
                spec["localRateLimit"] = limit.clone();
            }
            objects.push(object("meltemi.io/v1alpha1", "MetaRouter", &format!("r{at}"), spec));
        }
        let port = format!("tcp-metaprotocol-{codec}");
        objects.push(object("networking.istio.io/v1", "Gateway", "edge", json!({"selector": {"app": "edge"}, "servers": [
            {"port": {"number": 20880, "name": port, "protocol": "TCP"}, "hosts": ["*"]},
        ]})));
        let services = service("shop", "demo", "10.0.0.1").replace("tcp-metaprotocol-dubbo", &port);
        let mut world = world(&(namespace("shop") + &namespace("web") + &services));
        for object in &objects {
            // What cannot be read is reported, and not there.
            let _ = world.add(object);
        }
        let output = generate(&world, &options(codec));
        assert_places(&output, &objects);
        if codec == "dubbo" {
            assert_taken(&output, &objects);
        } else {
            // The codec is not at hand: what does not depend on it is tried with another.
            for object in &output.objects {
                for (authority, entry) in plan_of(object) {
                    let mut entry = entry.clone();
                    entry["protocol"] = "dubbo".into();
                    for route in entry.get_mut("routes").and_then(Value::as_array_mut).into_iter().flatten() {
                        if let Some(retry) = route.get_mut("retry").and_then(Value::as_object_mut) {
                            retry.remove("statuses");
                            retry.remove("on");
                        }
                    }
                    let plan = json!({"services": {authority: entry}}).to_string();
                    if let Err(error) = Plan::parse(plan.as_bytes(), &Codecs::all()) {
                        panic!("{error}\n{plan:.2000}\n{objects:#?}");
                    }
                }
            }
        }
    }
}
