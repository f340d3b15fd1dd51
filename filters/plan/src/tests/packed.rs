use std::io::Write;

use base64::{Engine, prelude::BASE64_STANDARD};
use flate2::{Compression, GzBuilder};
use serde_json::{Value, json};

use super::*;
use crate::MOST_PACKED;

fn packed(text: &[u8]) -> String {
    named(text, None)
}

fn named(text: &[u8], name: Option<&str>) -> String {
    let builder = name.into_iter().fold(GzBuilder::new(), |builder, name| builder.filename(name));
    let mut writer = builder.write(Vec::new(), Compression::default());
    writer.write_all(text).unwrap();
    BASE64_STANDARD.encode(writer.finish().unwrap())
}

#[track_caller]
fn refused(service: &str) -> String {
    let error = parse(&json!({"services": {"demo": service}})).unwrap_err();
    assert_eq!(error.path, "services[\"demo\"]");
    error.message
}

#[test]
fn a_packed_service_is_the_same_service() {
    let route = |number: u32| {
        json!({
            "name": format!("route {number}"),
            "match": [{"attributes": {"method": {"exact": format!("method{number}")}}}],
            "cluster": format!("cluster{}", number % 3),
        })
    };
    let service = json!({"protocol": "toy", "routes": (0..10_000).map(route).collect::<Vec<_>>()});
    let plain = json!({"services": {"demo": service, "other": {"protocol": "toy"}}});
    let mut written = plain.clone();
    written["services"]["demo"] = packed(service.to_string().as_bytes()).into();
    assert!(written.to_string().len() * 10 < plain.to_string().len());
    let plans = [parse(&plain).unwrap(), parse(&written).unwrap()];
    for method in ["method0", "method9999", "another"] {
        let [plain, written] = plans.each_ref().map(|plan| {
            let route = plan.service("demo").unwrap().route(&head(&[("method", method)]));
            route.map(|route| (route.name.clone(), format!("{:?}", route.destination)))
        });
        assert_eq!(written, plain);
    }
    assert!(plans.iter().all(|plan| plan.service("other").is_some()));
}

#[test]
fn what_is_packed_is_held_to_the_same_rules() {
    let service = json!({"protocol": "toy", "routes": [{"name": "a", "clutser": "b"}]});
    let plan = json!({"services": {"demo": packed(service.to_string().as_bytes())}});
    assert_eq!(parse(&plan).unwrap_err().path, "services[\"demo\"].routes[0].clutser");
    let twice = Value::from(packed(b"{\"protocol\": \"toy\"}")).to_string();
    assert!(refused(&packed(twice.as_bytes())).contains("expected an object"));
}

#[test]
fn what_cannot_be_unpacked_is_refused() {
    assert!(refused("toy").contains("no Base64"));
    assert!(refused("").contains("not by gzip"));
    assert!(refused(&BASE64_STANDARD.encode("{}")).contains("not by gzip"));
    assert!(refused(&named(b"{}", Some("plan.json"))).contains("a name"));
    assert!(refused(&packed(b"{")).contains("no JSON"));
    let whole = BASE64_STANDARD.decode(packed(br#"{"protocol": "toy"}"#)).unwrap();
    for len in 10..whole.len() - 8 {
        assert!(refused(&BASE64_STANDARD.encode(&whole[..len])).contains("not all of it"), "{len}");
    }
}

/// A few kilobytes may not become gigabytes.
#[test]
fn what_unpacks_to_more_than_the_limit_is_refused() {
    let half = format!("{{\"protocol\": \"toy\"{}}}", " ".repeat(MOST_PACKED / 2));
    let half = packed(half.as_bytes());
    let plan = |count: u32| {
        json!({
            "services": (0..count).map(|n| (n.to_string(), half.clone().into())).collect::<serde_json::Map<_, Value>>()
        })
    };
    parse(&plan(1)).unwrap();
    let error = parse(&plan(2)).unwrap_err();
    assert!(error.message.contains("16777216 bytes"), "{error}");
    assert!(refused(&packed(&vec![b' '; MOST_PACKED + 1])).contains("16777216 bytes"));
}
