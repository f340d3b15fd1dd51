//! Which calls are told of one by one, and why they take their routes.
use meltemi_codecs::{Depth, Head};
use serde_json::{Value, json};

use super::{codecs, demo, head, parse};
use crate::{Parsing, raw};

/// A plan of the service `demo` with these taps.
fn tapped(taps: Value) -> Value {
    let mut plan = demo(json!({}));
    plan["taps"] = taps;
    plan
}

#[test]
fn taps_take_the_calls_that_they_match() {
    let matches = json!([{"attributes": {"method": {"exact": "get"}}}]);
    let plan = parse(&tapped(json!([
        {"name": "all", "until": 7},
        {"name": "get", "until": 7, "match": matches, "attributes": ["tenant", "source.ip"]},
        {"name": "none", "until": 7, "percent": 0},
    ])));
    let plan = plan.unwrap();
    let service = plan.service("demo").unwrap();
    let taps = service.taps.as_deref().unwrap();
    let takers = |head: Option<&Head>| {
        let takes = taps.iter().filter(|tap| tap.takes(head, 0));
        takes.map(|tap| tap.name.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(takers(Some(&head(&[("method", "get")]))), ["all", "get"]);
    assert_eq!(takers(Some(&head(&[("method", "put")]))), ["all"]);
    assert_eq!(takers(None), ["all"], "a request that is not read says nothing");
    assert_eq!(taps[0].until, 7_000_000_000);
    // What is told has to be read.
    assert_eq!((service.depth, service.asks_source), (Depth::Attachments, true));
}

#[test]
fn a_proxy_has_the_taps_for_its_pod() {
    let taps = json!([
        {"name": "all", "until": 1},
        {"name": "pod", "until": 1, "pods": ["cart-1", "cart-2"]},
        {"name": "app", "until": 1, "labels": {"app": "cart", "tier": "web"}, "attributes": ["tenant"]},
    ]);
    let text = tapped(taps).to_string();
    let taps_of = |has: fn(&raw::Tap) -> bool| {
        let (_, plan) = Parsing::of_proxy(text.clone().into_bytes(), codecs(), has).finish();
        let plan = plan.unwrap();
        let service = plan.service("demo").unwrap();
        let names: Vec<String> = service.taps.iter().flatten().map(|tap| tap.name.to_string()).collect();
        (names.join(" "), service.depth)
    };
    assert_eq!(taps_of(|tap| tap.selects("pay-1", &|_| None)), ("all".to_owned(), Depth::Operation));
    let of_cart = taps_of(|tap| tap.selects("cart-2", &|label| (label == "app").then(|| "cart".to_owned())));
    assert_eq!(of_cart.0, "all pod");
    let of_web = taps_of(|tap| {
        let labels = [("app", "cart"), ("tier", "web"), ("version", "2")];
        tap.selects("x", &|label| {
            labels.iter().find(|(known, _)| *known == label).map(|(_, value)| (*value).to_owned())
        })
    });
    assert_eq!(of_web, ("all app".to_owned(), Depth::Attachments));
}

#[test]
fn expressions_of_taps_take_no_room_of_services() {
    let of = |text: &str| json!({"attributes": {"a": {"regex": text}}});
    let service = json!({"protocol": "toy", "routes": [{"name": "one", "match": [of("(x|y).{20}")]}]});
    let bytes = |taps: Value| -> Vec<usize> {
        let plan = json!({"services": {"demo": service, "other": service}, "taps": taps});
        parse(&plan).unwrap().services().map(|service| service.pattern_bytes).collect()
    };
    let own = bytes(json!([]));
    assert!(own.len() == 2 && own[0] > 0, "{own:?}");
    assert_eq!(bytes(json!([{"name": "t", "until": 1, "match": [of("(a|b).{500}")]}])), own);
}

#[test]
fn the_reason_of_a_route_is_its_place() {
    let method = |name: &str| json!({"attributes": {"method": {"exact": name}}});
    let plan = parse(&demo(json!({"routes": [
        {"name": "one", "match": [method("a"), method("b")]},
        {"name": "two", "match": [method("b"), method("c"), method("d")]},
        {"name": "rest"},
    ]})));
    let plan = plan.unwrap();
    let service = plan.service("demo").unwrap();
    let reason = |method: &str| {
        let head = head(&[("method", method)]);
        service.reason(service.route(&head).unwrap(), &head)
    };
    assert_eq!(["b", "d", "x"].map(reason), ["routes[0].match[1]", "routes[1].match[2]", "routes[2]"]);
    assert_eq!(service.reason(&service.default_route, &head(&[])), "defaultRoute");
}

#[test]
fn faults_of_taps_are_refused() {
    let tap = |more: Value| {
        let mut tap = json!({"name": "t", "until": 1});
        tap.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!([tap])
    };
    let many: Vec<Value> = (0..17).map(|number| json!({"name": format!("t{number}"), "until": 1})).collect();
    let names: Vec<String> = (0..17).map(|number| format!("a{number}")).collect();
    for (taps, message) in [
        (json!([{"until": 1}]), "taps[0]: missing field `name`"),
        (json!([{"name": "t"}]), "taps[0]: missing field `until`"),
        (tap(json!({"name": ""})), "taps[0].name: "),
        (tap(json!({"until": -1})), "taps[0].until: expected an integer from 0 to 4294967295, found -1"),
        (tap(json!({"percent": 101})), "taps[0].percent: 101 is out of bounds; write 0 to 100"),
        (tap(json!({"match": []})), "taps[0].match: an empty list matches no call"),
        (tap(json!({"match": [{"attributes": {"a": {}}}]})), "taps[0].match[0].attributes.a: no matcher"),
        (tap(json!({"attributes": [""]})), "taps[0].attributes[0]: the name of an attribute is empty"),
        (tap(json!({"attributes": ["source.port"]})), "taps[0].attributes[0]: "),
        (tap(json!({"attributes": names})), "taps[0].attributes: 17 is out of bounds; write 0 to 16"),
        (json!(many), "taps: 17 is out of bounds; write 0 to 16"),
    ] {
        for services in [json!({}), json!({"demo": {"protocol": "toy"}})] {
            let refusal = parse(&json!({"services": services, "taps": taps})).unwrap_err().to_string();
            assert!(refusal.starts_with(message), "{refusal}");
        }
    }
}
