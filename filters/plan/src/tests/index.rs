use std::rc::Rc;

use meltemi_codecs::Head;
use proptest::{collection::vec, option, prelude::*, sample::select};
use serde_json::{Map, Value, json};

use super::*;
use crate::{fuzz_plan, service::Service};

/// More names than a node has tables before it keeps a directory of them.
const NAMES: [&str; 14] =
    ["interface", "method", "version", "a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k"];

const VALUES: [&str; 14] = ["", "a", "ab", "abc", "abd", "b", "ba", "bab", "c", "é", "éa", "1", "5", "12"];

fn value() -> impl Strategy<Value = &'static str> {
    select(&VALUES[..])
}

/// Mostly what the index can use.
fn matcher() -> impl Strategy<Value = Value> {
    let other = prop_oneof![
        value().prop_map(|value| json!({"suffix": format!("{value}b")})),
        value().prop_map(|value| json!({"contains": format!("{value}a")})),
        value().prop_map(|value| json!({"regex": format!("{value}.*")})),
        (-5_i64..20, 1_i64..20)
            .prop_map(|(start, size)| json!({"range": {"start": start, "end": start + size}})),
        any::<bool>().prop_map(|present| json!({"present": present})),
    ];
    let kind = prop_oneof![
        6 => value().prop_map(|value| json!({"exact": value})),
        3 => select(&VALUES[1..]).prop_map(|value| json!({"prefix": value})),
        1 => other,
    ];
    (kind, prop::bool::weighted(0.1)).prop_map(|(mut matcher, invert)| {
        matcher["invert"] = invert.into();
        matcher
    })
}

fn alternative() -> impl Strategy<Value = Value> {
    // The first names are the common ones, as in real plans.
    let name = prop_oneof![select(&NAMES[..3]), select(&NAMES[..])];
    vec((name, matcher()), 1..4).prop_map(|matchers| {
        let attributes: Map<_, _> =
            matchers.into_iter().map(|(name, matcher)| (name.to_owned(), matcher)).collect();
        json!({"attributes": attributes})
    })
}

fn routes() -> impl Strategy<Value = Value> {
    let matches = option::weighted(0.98, vec(alternative(), 1..3));
    vec(matches, 0..80).prop_map(|matches| {
        let routes = matches.into_iter().enumerate().map(|(number, matches)| match matches {
            Some(matches) => json!({"name": number.to_string(), "match": matches}),
            None => json!({"name": number.to_string()}),
        });
        demo(json!({"routes": routes.collect::<Vec<_>>()}))
    })
}

fn call() -> impl Strategy<Value = Head> {
    let value = (value(), value()).prop_map(|(one, two)| format!("{one}{two}"));
    vec((select(&NAMES[..]), value, any::<bool>()), 0..16).prop_map(|attributes| {
        let mut head = Head::new();
        for (name, value, attachment) in attributes {
            if attachment { head.push_attachment(name, &value) } else { head.push(name, &value) }
        }
        head
    })
}

fn check(service: &Service, head: &Head) {
    let indexed = service.route(head).map(|route| &route.name);
    let explanation = service.explain(head);
    assert_eq!(indexed, explanation.matched.map(|route| &route.name), "{head:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    /// The index finds the route that trying every rule in order finds.
    #[test]
    fn indexed_and_linear_search_agree(plan in routes(), calls in vec(call(), 1..40)) {
        let plan = parse(&plan).unwrap();
        let service = plan.service("demo").unwrap();
        for head in &calls {
            check(service, head);
        }
    }
}

/// The fuzz target holds for the plans of the documentation, from which its corpus starts.
#[test]
fn documented_plans_hold_in_the_fuzz_target() {
    let reference = include_str!("../../../../docs/plan.md").replace("\"dubbo\"", "\"toy\"");
    for sample in reference.split("```json\n").skip(1).filter_map(|rest| rest.split("```").next()) {
        fuzz_plan(sample.as_bytes(), &codecs());
    }
}

fn keyed(routes: usize, attributes: impl Fn(usize) -> Value) -> Rc<Service> {
    let routes: Vec<_> = (0..routes)
        .map(|number| json!({"name": number.to_string(), "match": [{"attributes": attributes(number)}]}))
        .collect();
    let plan = parse(&demo(json!({"routes": routes}))).unwrap();
    Rc::clone(plan.service("demo").unwrap())
}

/// Each route of a large plan gets its calls, whatever the routes are keyed on.
#[test]
fn large_plans_find_every_route() {
    let exact = |value: String| json!({"exact": value});
    let service = keyed(
        10_000,
        |n| json!({"interface": exact(format!("org.I{}", n / 100)), "method": exact(format!("m{}", n % 100))}),
    );
    for n in 0..10_000 {
        let call = head(&[("interface", &format!("org.I{}", n / 100)), ("method", &format!("m{}", n % 100))]);
        assert_eq!(service.route(&call).unwrap().name, n.to_string());
    }
    let service = keyed(10_000, |n| json!({format!("tag{n}"): exact("x".to_owned())}));
    for n in 0..10_000 {
        assert_eq!(
            service.route(&head(&[("method", "m"), (&format!("tag{n}"), "x")])).unwrap().name,
            n.to_string()
        );
    }
    let service = keyed(10_000, |n| json!({"interface": {"prefix": format!("org.I{n}.")}}));
    for n in 0..10_000 {
        assert_eq!(
            service.route(&head(&[("interface", &format!("org.I{n}.Api"))])).unwrap().name,
            n.to_string()
        );
    }
    // Each prefix within the next: the calls of all match the first route.
    let service = keyed(2000, |n| json!({"interface": {"prefix": "a".repeat(n + 1)}}));
    assert_eq!(service.route(&head(&[("interface", &"a".repeat(3000))])).unwrap().name, "0");
}

/// A route that tests more attributes than fit a word of bits is still found, and only by its own calls.
#[test]
fn routes_with_many_attributes_are_found() {
    let service = keyed(10, |n| {
        let attributes = (0..100).map(|a| {
            (format!("a{a}"), json!({"exact": if a == 99 { n.to_string() } else { "x".to_owned() }}))
        });
        attributes.collect::<Map<_, _>>().into()
    });
    let mut call = Head::new();
    (0..99).for_each(|a| call.push(&format!("a{a}"), "x"));
    assert!(service.route(&call).is_none());
    call.push("a99", "7");
    assert_eq!(service.route(&call).unwrap().name, "7");
}
