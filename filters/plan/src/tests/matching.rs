use serde_json::json;

use super::*;

#[test]
fn matchers_mean_what_they_say() {
    let (yes, no) = (true, false);
    for (matcher, cases) in [
        (
            json!({"exact": "a"}),
            vec![(Some("a"), yes), (Some("A"), no), (Some("ab"), no), (Some(""), no), (None, no)],
        ),
        (json!({"exact": ""}), vec![(Some(""), yes), (Some("a"), no), (None, no)]),
        (json!({"prefix": "ab"}), vec![(Some("ab"), yes), (Some("abc"), yes), (Some("a"), no), (None, no)]),
        (json!({"suffix": "bc"}), vec![(Some("bc"), yes), (Some("abc"), yes), (Some("bcd"), no), (None, no)]),
        (json!({"contains": "b"}), vec![(Some("abc"), yes), (Some("b"), yes), (Some("ac"), no), (None, no)]),
        // The whole value, whatever the expression says of its ends.
        (
            json!({"regex": "a|b+"}),
            vec![(Some("a"), yes), (Some("bb"), yes), (Some("ab"), no), (Some("xa"), no), (None, no)],
        ),
        (json!({"regex": "^a$"}), vec![(Some("a"), yes), (Some("a\n"), no), (Some("b\na"), no)]),
        (json!({"regex": "(?i)get.*"}), vec![(Some("GETTER"), yes), (Some("forget"), no)]),
        (json!({"regex": ""}), vec![(Some(""), yes), (Some("a"), no), (None, no)]),
        // A shorter alternative that comes first does not hide a longer one that fits.
        (json!({"regex": "a|ab"}), vec![(Some("ab"), yes)]),
        (
            json!({"range": {"start": -10, "end": 10}}),
            vec![
                (Some("-10"), yes),
                (Some("0"), yes),
                (Some("+9"), yes),
                (Some("007"), yes),
                (Some("10"), no),
                (Some("-11"), no),
                (Some("9.0"), no),
                (Some("0x1"), no),
                (Some(" 1"), no),
                (Some("1a"), no),
                (Some(""), no),
                (Some("99999999999999999999"), no),
                (None, no),
            ],
        ),
        (
            json!({"range": {"start": i64::MIN, "end": i64::MAX}}),
            vec![(Some("-9223372036854775808"), yes), (Some("9223372036854775807"), no)],
        ),
        (json!({"present": true}), vec![(Some(""), yes), (Some("a"), yes), (None, no)]),
        (json!({"present": false}), vec![(Some(""), no), (Some("a"), no), (None, yes)]),
    ] {
        for (value, expected) in cases {
            for invert in [false, true] {
                let mut matcher = matcher.clone();
                matcher.as_object_mut().unwrap().insert("invert".to_owned(), invert.into());
                let plan = parse(&route(json!({"match": [{"attributes": {"tag": matcher}}]}))).unwrap();
                let head = head(value.map(|value| ("tag", value)).as_slice());
                let matches = plan.service("demo").unwrap().route(&head).is_some();
                assert_eq!(matches, expected != invert, "{matcher} {value:?}");
            }
        }
    }
}

#[test]
fn alternatives_are_or_and_their_attributes_and() {
    let plan = parse(&route(json!({"match": [
        {"attributes": {"method": {"exact": "a"}, "tag": {"exact": "x"}}},
        {"attributes": {"method": {"exact": "b"}}}
    ]})))
    .unwrap();
    let service = plan.service("demo").unwrap();
    for (attributes, expected) in [
        (&[("method", "a"), ("tag", "x")][..], true),
        (&[("method", "a")], false),
        (&[("tag", "x")], false),
        (&[("method", "b")], true),
        (&[], false),
    ] {
        assert_eq!(service.route(&head(attributes)).is_some(), expected, "{attributes:?}");
    }
}

#[test]
fn the_first_route_that_matches_wins() {
    let exact = |name: &str, value: &str| json!({"name": name, "match": [{"attributes": {"method": {"exact": value}}}]});
    let plan = parse(&demo(json!({"routes": [
        exact("a", "a"),
        {"name": "prefix", "match": [{"attributes": {"method": {"prefix": "b"}}}]},
        exact("b", "b"),
        exact("a2", "a"),
        {"name": "all"},
        exact("c", "c")
    ]})))
    .unwrap();
    let service = plan.service("demo").unwrap();
    for (method, expected) in [("a", "a"), ("b", "prefix"), ("bb", "prefix"), ("c", "all"), ("d", "all")] {
        assert_eq!(service.route(&head(&[("method", method)])).unwrap().name, expected);
    }
    assert_eq!(service.route(&head(&[])).unwrap().name, "all");
}

#[test]
fn the_protocols_attributes_win_over_the_callers() {
    let plan = parse(&route(json!({"match": [{"attributes": {"method": {"exact": "a"}}}]}))).unwrap();
    let service = plan.service("demo").unwrap();
    let mut head = Head::new();
    head.push("method", "b");
    head.push_attachment("method", "a");
    assert!(service.route(&head).is_none());
}

#[test]
fn a_request_is_read_as_far_as_the_matchers_need() {
    let depths = [("method", Depth::Operation), ("version", Depth::Head), ("tag", Depth::Attachments)];
    for (attribute, depth) in depths {
        let plan = parse(&route(json!({"match": [{"attributes": {attribute: {"exact": "a"}}}]}))).unwrap();
        assert_eq!(plan.service("demo").unwrap().depth, depth);
    }
    // What is only edited need not be read to choose the route.
    let plan = parse(&route(json!({"requestAttachments": {"set": {"tag": "x"}}}))).unwrap();
    assert_eq!(plan.service("demo").unwrap().depth, Depth::Operation);
}

#[test]
fn attributes_of_the_connection_need_no_reading() {
    for (attributes, depth, asks_source) in [
        (json!({"source.principal": {"exact": "a"}, "method": {"exact": "b"}}), Depth::Operation, true),
        (json!({"source.namespace": {"exact": "a"}, "tag": {"exact": "b"}}), Depth::Attachments, true),
        (json!({"source": {"exact": "a"}}), Depth::Attachments, false),
    ] {
        let plan = parse(&route(json!({"match": [{"attributes": attributes}]}))).unwrap();
        let service = plan.service("demo").unwrap();
        assert_eq!((service.depth, service.asks_source), (depth, asks_source));
    }
}

#[test]
fn calls_that_are_denied_by_what_they_say_are_verified() {
    let routes = |attributes: Value, then: Value| {
        let mut plan = route(json!({"match": [{"attributes": attributes}]}));
        plan["services"]["demo"]["routes"][0]
            .as_object_mut()
            .unwrap()
            .extend(then.as_object().unwrap().clone());
        plan
    };
    let method = || json!({"method": {"exact": "a"}});
    let source = || json!({"source.ip": {"exact": "a"}});
    let mut by_default = routes(method(), json!({}));
    by_default["services"]["demo"]["defaultRoute"] = json!({"reject": {}});
    for (plan, depth) in [
        (routes(method(), json!({"reject": {}})), Depth::Verified),
        (by_default, Depth::Verified),
        (routes(method(), json!({"cluster": "v1"})), Depth::Operation),
        // Who calls is not what a call says.
        (routes(source(), json!({"reject": {}})), Depth::Operation),
    ] {
        assert_eq!(parse(&plan).unwrap().service("demo").unwrap().depth, depth, "{plan}");
    }
}

#[test]
fn explanations_say_why_routes_are_passed_over() {
    let plan = parse(&demo(json!({"routes": [
        {"name": "one", "match": [
            {"attributes": {"method": {"exact": "a"}}},
            {"attributes": {"tag": {"prefix": "x"}}}
        ]},
        {"name": "two", "match": [{"attributes": {
            "interface": {"regex": "org.*"}, "method": {"present": true, "invert": true}
        }}]},
        {"name": "three", "match": [
            {"attributes": {"id": {"range": {"start": 0, "end": 5}}}},
            {"attributes": {"method": {"suffix": "b", "invert": true}}},
            {"attributes": {"method": {"contains": "b"}}}
        ]},
        {"name": "four"}
    ]})))
    .unwrap();
    let service = plan.service("demo").unwrap();
    let explanation = service.explain(&head(&[("interface", "org.A"), ("method", "b")]));
    let passed_over: Vec<_> =
        explanation.passed_over.iter().map(|passed| (&*passed.route.name, passed.reasons.clone())).collect();
    assert_eq!(
        passed_over,
        [
            (
                "one",
                vec![
                    "method: \"b\" does not match exact \"a\"".to_owned(),
                    "tag: the call has none, which does not match prefix \"x\"".to_owned(),
                ]
            ),
            ("two", vec!["method: \"b\" does not match not present true".to_owned()]),
        ]
    );
    assert_eq!(explanation.matched.unwrap().name, "three");
}

#[test]
fn none_of_not_attributes_may_match() {
    let plan = parse(&route(json!({"match": [{
        "attributes": {"method": {"prefix": "get"}},
        "notAttributes": {"method": {"suffix": "Secret"}, "tag": {"exact": "x"}, "user": {"exact": "a", "invert": true}},
    }]})))
    .unwrap();
    let service = plan.service("demo").unwrap();
    for (attributes, expected) in [
        (&[("method", "getName"), ("user", "a")][..], true),
        (&[("method", "getName"), ("user", "a"), ("tag", "y")], true),
        (&[("method", "getName"), ("user", "a"), ("tag", "x")], false),
        (&[("method", "getSecret"), ("user", "a")], false),
        (&[("method", "setName"), ("user", "a")], false),
        (&[("method", "getName"), ("user", "b")], false),
        (&[("method", "getName")], false),
    ] {
        assert_eq!(service.route(&head(attributes)).is_some(), expected, "{attributes:?}");
        assert_eq!(service.explain(&head(attributes)).matched.is_some(), expected, "{attributes:?}");
    }
}

/// A value that would have to be read from end to end meets no such matcher when it is long, and leaves a call in doubt
/// where routes reject. Matchers that need not read it hold at any length.
#[test]
fn long_values_are_not_read() {
    let long = format!("a{}b", "x".repeat(511));
    for (matcher, is_read) in [
        (json!({"exact": long}), false),
        (json!({"prefix": "ax"}), false),
        (json!({"present": true}), false),
        (json!({"suffix": "b"}), true),
        (json!({"contains": "x"}), true),
        (json!({"regex": "a.*b"}), true),
        (json!({"range": {"start": 0, "end": 9}}), true),
    ] {
        for invert in [false, true] {
            let mut matcher = matcher.clone();
            matcher["invert"] = invert.into();
            let plan = parse(&route(json!({"match": [{"attributes": {"tag": matcher}}]}))).unwrap();
            let service = plan.service("demo").unwrap();
            let call = head(&[("tag", &long)]);
            assert_eq!(service.route(&call).is_some(), is_read == invert, "{matcher}");
            assert_eq!(service.doubt(&call), None);
            let reject = json!({"match": [{"attributes": {"tag": matcher}}], "reject": {}});
            let plan = parse(&route(reject)).unwrap();
            let doubt = plan.service("demo").unwrap().doubt(&call);
            assert_eq!(doubt.as_deref(), is_read.then_some("the attribute tag is too long"), "{matcher}");
        }
    }
    let suffix = route(json!({"match": [{"attributes": {"tag": {"suffix": "b"}}}], "reject": {}}));
    let plan = parse(&suffix).unwrap();
    let service = plan.service("demo").unwrap();
    let call = head(&[("tag", &long[1..])]);
    assert!(service.route(&call).is_some() && service.doubt(&call).is_none());
}
