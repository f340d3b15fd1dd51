//! What decides whether calls are denied: rules that are tried out, addresses, and what must not be in doubt.
use meltemi_codecs::Depth;
use serde_json::{Value, json};

use super::refusals::refuse;
use super::*;

fn denying(matches: Value) -> Value {
    demo(json!({"dryRun": {"rules": [
        {"name": "secret", "deny": true, "match": matches},
        {"name": "readers", "match": [{"attributes": {"method": {"prefix": "get"}}}]},
    ], "denyOthers": true}}))
}

#[test]
fn the_first_rule_that_matches_says_whether_a_call_would_be_denied() {
    let plan = parse(&denying(json!([{"attributes": {"tag": {"suffix": "x"}}}]))).unwrap();
    let service = plan.service("demo").unwrap();
    // What is tried out has no part in how calls are routed.
    assert_eq!((service.depth, service.asks_source, service.is_guarded), (Depth::Operation, false, false));
    let dry_run = service.dry_run.as_ref().unwrap();
    assert_eq!((dry_run.depth, dry_run.asks_source), (Depth::Verified, false));
    for (call, why) in [
        (vec![("method", "getName"), ("tag", "x")], Some("by rule secret")),
        (vec![("method", "getName")], None),
        (vec![("method", "setName")], Some("no rule allows it")),
        (
            vec![("method", "getName"), ("Tag", "y")],
            Some("the attribute Tag is called like tag but for its case"),
        ),
        (vec![("method", "getName"), ("tag", &"y".repeat(513))], Some("the attribute tag is too long")),
    ] {
        assert_eq!(dry_run.denies(&head(&call)).as_deref(), why, "{call:?}");
    }
    let by_source = parse(&demo(json!({"dryRun": {"rules": [
        {"name": "outside", "deny": true, "match": [{"attributes": {"source.namespace": {"exact": "x"}}}]},
    ]}})))
    .unwrap();
    let dry_run = by_source.service("demo").unwrap().dry_run.as_ref().unwrap();
    assert_eq!((dry_run.depth, dry_run.asks_source), (Depth::Operation, true));
    assert_eq!(dry_run.denies(&head(&[("method", "any")])), None);
}

#[test]
fn dry_runs_that_cannot_work_are_refused() {
    for (dry_run, message) in [
        (json!({}), ": denies nothing; write \"deny\" of a rule or \"denyOthers\", or leave it out"),
        (
            json!({"rules": [{"name": "a"}]}),
            ": denies nothing; write \"deny\" of a rule or \"denyOthers\", or leave it out",
        ),
        (
            json!({"rules": [{"name": "", "deny": true}]}),
            ".rules[0].name: the name of a rule is empty; give one",
        ),
        (
            json!({"rules": [{"name": "a", "deny": true, "match": []}]}),
            ".rules[0].match: an empty list matches no call; leave \"match\" out to match every call",
        ),
        (
            json!({"rules": [{"name": "a", "deny": true, "reject": {}}]}),
            ".rules[0].reject: unknown field `reject`, expected one of `name`, `match`, `deny`",
        ),
    ] {
        let plan = demo(json!({"dryRun": dry_run}));
        assert_eq!(refuse(&plan), format!("services[\"demo\"].dryRun{message}"));
    }
}

#[test]
fn addresses_are_matched_by_blocks() {
    let blocks = json!([{"attributes": {"source.ip": {"cidr": ["10.0.0.0/8", "fd00::/16", "192.0.2.1"]}}}]);
    let plan = parse(&route(json!({"match": blocks}))).unwrap();
    let service = plan.service("demo").unwrap();
    for (address, matches) in [
        ("10.1.2.3", true),
        ("11.1.2.3", false),
        ("192.0.2.1", true),
        ("192.0.2.10", false),
        ("fd00:0::1", true),
        ("fd01::1", false),
        ("unknown", false),
        ("", false),
    ] {
        assert_eq!(service.route(&head(&[("source.ip", address)])).is_some(), matches, "{address}");
    }
    assert!(service.route(&head(&[])).is_none());
    let explanation = service.explain(&head(&[("source.ip", "11.0.0.1")]));
    assert_eq!(
        explanation.passed_over[0].reasons,
        ["source.ip: \"11.0.0.1\" does not match cidr 10.0.0.0/8 fd00::/16 192.0.2.1/32"]
    );
}

#[test]
fn blocks_that_are_none_are_refused() {
    let path = "services[\"demo\"].routes[0].match[0].attributes";
    for (attributes, message) in [
        (
            json!({"source.ip": {"cidr": ["10.0.0.0/8", "10.0.0.0/33"]}}),
            "[\"source.ip\"].cidr[1]: \"10.0.0.0/33\" is no block of addresses; write one such as \"10.0.0.0/8\" or \"fd00::/8\"",
        ),
        (
            json!({"source.ip": {"cidr": ["::ffff:10.0.0.0/104"]}}),
            "[\"source.ip\"].cidr[0]: \"::ffff:10.0.0.0/104\" is no block of addresses; write one such as \"10.0.0.0/8\" or \"fd00::/8\"",
        ),
        (json!({"tag": {"cidr": ["10.0.0.0/8"]}}), ".tag.cidr: only source.ip is an address; write it there"),
        (
            json!({"source.ip": {"cidr": []}}),
            "[\"source.ip\"]: no matcher; write one of exact, prefix, suffix, contains, regex, range, cidr, present",
        ),
    ] {
        assert_eq!(
            refuse(&route(json!({"match": [{"attributes": attributes}]}))),
            format!("{path}{message}")
        );
    }
}

#[test]
fn a_name_like_one_that_is_denied_by_leaves_a_call_in_doubt() {
    let closed = json!({"match": [{"attributes": {"tenant": {"exact": "a"}, "source.ip": {"present": true}}}], "reject": {}});
    let plan = parse(&route(closed)).unwrap();
    let service = plan.service("demo").unwrap();
    assert!(service.is_guarded && service.depth == Depth::Verified);
    let doubt = |name: &str| service.doubt(&head(&[("method", "m"), (name, "a")]));
    assert_eq!(
        doubt("Tenant").as_deref(),
        Some("the attribute Tenant is called like tenant but for its case")
    );
    for name in ["tenant", "tenants", "tenan", "Source.ip", "lenant"] {
        assert_eq!(doubt(name), None, "{name}");
    }
    // Java and Go know four letters that are one of ASCII's in another case.
    let risk = json!({"match": [{"attributes": {"risk": {"exact": "a"}}}], "reject": {}});
    let plan = parse(&route(risk)).unwrap();
    let doubt = |name: &str| plan.service("demo").unwrap().doubt(&head(&[("method", "m"), (name, "a")]));
    for name in ["ri\u{17f}k", "ris\u{212a}", "R\u{130}sk", "r\u{131}\u{17f}\u{212a}"] {
        assert!(
            doubt(name).is_some_and(|why| why.ends_with("is called like risk but for its case")),
            "{name}"
        );
    }
    assert_eq!(["risk", "ri\u{df}k", "r\u{131}sks"].map(doubt), [None, None, None]);
    // Where nothing is rejected nothing is in doubt; where only who calls counts, it is no matter what a call says.
    let matches = json!([{"attributes": {"tenant": {"exact": "a"}}}]);
    let plan = parse(&route(json!({"match": matches}))).unwrap();
    assert_eq!(plan.service("demo").unwrap().doubt(&head(&[("Tenant", "a")])), None);
    let matches = json!([{"attributes": {"source.namespace": {"exact": "a"}}}]);
    let plan = parse(&route(json!({"match": matches, "reject": {}}))).unwrap();
    let service = plan.service("demo").unwrap();
    assert!(service.is_guarded && service.depth == Depth::Operation);
}
