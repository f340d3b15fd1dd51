//! Spans as Zipkin takes them.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::dubbo::THREADPOOL_EXHAUSTED;
use crate::posts::Posted;
use crate::servers::What;
use crate::spans::{ID, PARENT, SECOND, count, lines, sampled, world};
use crate::world::{Ask, World, value};

/// A span as it came; what is there twice or more than this is refused.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Span {
    trace_id: String,
    id: String,
    #[serde(default)]
    parent_id: String,
    kind: String,
    name: String,
    timestamp: u64,
    duration: u64,
    local_endpoint: Endpoint,
    remote_endpoint: Option<Endpoint>,
    tags: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
struct Endpoint {
    service_name: String,
    ipv4: String,
    ipv6: String,
    port: u16,
}

/// A world whose spans go to Zipkin, with these tags.
fn zipkin(sampling: u32, tags: Value, mut service: Value) -> World {
    let tracing =
        json!({"sampling": sampling, "collector": "zipkin.example.org", "format": "zipkin", "tags": tags});
    service["tracing"] = tracing;
    world(service)
}

fn spans(posted: &Posted) -> Vec<Span> {
    let text = std::str::from_utf8(&posted.body).unwrap();
    let spans: Vec<Span> = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    for span in &spans {
        // No tag is there twice.
        let tags = span.tags.keys().map(|name| text.matches(&format!("{}:", json!(name))).count());
        assert!(tags.clone().all(|times| times <= spans.len()), "{text}");
    }
    spans
}

/// The requests after a call, once its spans have been sent.
fn posted(world: &mut World, ask: Ask) -> Vec<Posted> {
    let client = world.connect();
    world.call_and_wait(client, ask);
    world.run_for(2 * SECOND);
    world.manager.posted.clone()
}

#[test]
fn spans_go_to_zipkin_as_it_reads_them() {
    let retry = json!({"attempts": 1, "on": ["status"], "statuses": [THREADPOOL_EXHAUSTED]});
    let mut world = zipkin(0, json!({"zone": {"value": "eu"}}), json!({"defaultRoute": {"retry": retry}}));
    world.serve(|arrival, _| match arrival.times {
        1 => What::Error(THREADPOOL_EXHAUSTED).now(),
        _ => What::Echo(0).after(SECOND / 100),
    });
    let requests = posted(&mut world, sampled("find"));
    let [request] = &requests[..] else { panic!("{requests:?}") };
    for (name, value) in [
        (":path", "/api/v2/spans"),
        (":authority", "zipkin.example.org"),
        ("content-type", "application/json"),
        ("content-length", &request.body.len().to_string()),
    ] {
        assert!(request.fields.contains(&(name.to_owned(), value.to_owned())), "{name}: {request:?}");
    }
    let [failed, answered] = &spans(request)[..] else { panic!("two spans") };
    for span in [failed, answered] {
        assert_eq!((&*span.trace_id, &*span.parent_id, &*span.kind), (ID, PARENT, "CLIENT"));
        assert_eq!(span.local_endpoint.service_name, "meltemi");
        let tag = |name: &str| span.tags.get(name).map_or("", String::as_str);
        let remote = span.remote_endpoint.as_ref().unwrap();
        assert_eq!((&*remote.ipv4, &*remote.port.to_string()), (tag("server.address"), tag("server.port")));
        assert_eq!(format!("{}/find", tag("rpc.service")), span.name);
        assert_eq!((tag("rpc.system"), tag("upstream_cluster"), tag("zone")), ("apache_dubbo", "demo", "eu"));
    }
    let told = world.calls[0].deliveries.iter().map(|one| value(&one.attachments, "traceparent").unwrap());
    let told: Vec<_> = told.map(|parent| parent.split('-').nth(2).unwrap().to_owned()).collect();
    assert_eq!([&failed.id, &answered.id], [&told[0], &told[1]]);
    assert_eq!(failed.tags["error"], "error");
    assert_eq!(failed.tags["rpc.response.status_code"], "100");
    assert!(!answered.tags.contains_key("error") && answered.tags["meltemi.try"] == "2");
    assert!((10_000..11_000).contains(&answered.duration) && failed.duration >= 1, "{failed:?}");
    assert!(failed.timestamp <= answered.timestamp);
    world.respond(request.stream, "202", b"");
    assert_eq!((count(&mut world, "exported"), lines(&world).len()), (2, 0));
}

#[test]
fn a_trace_that_is_begun_is_written_as_b3() {
    let mut world = zipkin(100, json!({}), json!({}));
    let requests = posted(&mut world, Ask::new("find"));
    let [span] = &spans(&requests[0])[..] else { panic!("one span") };
    let got = &world.calls[0].deliveries[0].attachments;
    assert_eq!(value(got, "b3").unwrap(), format!("{}-{}-1", span.trace_id, span.id));
    assert_eq!((value(got, "traceparent"), &*span.parent_id), (None, ""));
    // One of 64 bits goes on as it is; Zipkin knows it by its last digits.
    let short = &ID[16..];
    let requests = posted(&mut world, Ask::new("find").with("b3", &format!("{short}-{PARENT}-1")));
    let [span] = &spans(&requests[1])[..] else { panic!("one span") };
    assert_eq!((span.trace_id.trim_start_matches('0'), &*span.parent_id), (short, PARENT));
}

#[test]
fn nothing_that_clients_write_breaks_out_of_a_value() {
    let tags = json!({"user": {"attribute": "user"}, "a\"b\\": {"value": "c\"d"}, "é\u{2028}": {"attribute": "user"}});
    let mut world = zipkin(0, tags, json!({}));
    let hostile = "\"},\"id\":\"1\\\u{202e}\r\n\0é";
    let long = format!("{hostile}{}", "\"".repeat(20_000));
    let requests = posted(&mut world, sampled("fi\"nd\\").with("user", &long));
    let [span] = &spans(&requests[0])[..] else { panic!("one span") };
    let user = &span.tags["user"];
    assert!(user.starts_with("\"},\"id\":\"1\\\u{202e}é\"") && user.len() == 256, "{user}");
    assert_eq!((&*span.tags["a\"b\\"], &span.tags["é\u{2028}"]), ("c\"d", user));
    assert!(span.name.ends_with("/fi\"nd\\") && span.trace_id == ID, "{span:?}");
}

#[test]
fn many_spans_go_in_batches_that_are_whole() {
    let names: Vec<String> = (0..32).map(|number| format!("t{number}")).collect();
    let tags = names.iter().map(|name| (name.clone(), json!({"attribute": "user"}))).collect();
    let mut world = zipkin(0, Value::Object(tags), json!({}));
    let client = world.connect();
    let mut sent = 0;
    let mut answered = 0;
    for _ in 0..100 {
        world.call_and_wait(client, sampled("find").with("user", &"\u{2028}".repeat(100)));
        for request in world.manager.posted.clone().split_off(answered) {
            assert!(request.body.len() < 80 << 10, "{}", request.body.len());
            sent += spans(&request).len();
            answered += 1;
            world.respond(request.stream, "202", b"");
        }
    }
    world.run_for(2 * SECOND);
    for request in world.manager.posted.clone().split_off(answered) {
        sent += spans(&request).len();
        world.respond(request.stream, "202", b"");
    }
    assert_eq!((sent, count(&mut world, "exported"), count(&mut world, "full")), (100, 100, 0));
}

#[test]
fn what_zipkin_does_not_take_is_counted() {
    // An answer with a body is of no format of ours, though OTLP would have it that two were rejected.
    for (status, body, outcome) in [("202", &b"\x0a\x02\x08\x02"[..], "exported"), ("400", b"bad", "error")] {
        let mut world = zipkin(0, json!({}), json!({}));
        let requests = posted(&mut world, sampled("find"));
        world.respond(requests[0].stream, status, body);
        assert_eq!((count(&mut world, outcome), count(&mut world, "rejected")), (1, 0), "{status}");
    }
    let mut world = zipkin(0, json!({}), json!({}));
    let requests = posted(&mut world, sampled("find"));
    world.run_for(15 * SECOND);
    assert_eq!(count(&mut world, "deadline"), 1);
    world.respond(requests[0].stream, "202", b"");
    assert_eq!(count(&mut world, "exported"), 0);
}
