//! Spans that go by HTTP, which is the connection manager's to speak.

use meltemi_sockets::Side;
use serde_json::{Value, json};

use crate::collector;
use crate::spans::{ID, PARENT, SECOND, count, lines, sampled, world};
use crate::world::World;

/// A request by HTTP, as far as it has come.
#[derive(Debug, Clone)]
pub struct Posted {
    pub stream: u32,
    pub fields: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Posted {
    pub fn new(stream: u32, fields: &[(String, String)]) -> Self {
        Self { stream, fields: fields.to_vec(), body: Vec::new() }
    }
}

impl World {
    /// Answers a request by HTTP.
    pub fn respond(&mut self, stream: u32, status: &str, body: &[u8]) {
        self.manager.http2.head(stream, &[(":status", status)]);
        self.manager.http2.write(stream, body);
        self.manager.http2.end(stream);
        self.flush(Side::Upstream);
    }
}

/// A world whose collector takes spans by HTTP with these headers, in which a call was made and its span sent.
pub fn posted(headers: Value) -> World {
    let collector = "outbound|4318||otel.example.org";
    let tracing = json!({"sampling": 0, "collector": collector, "path": "/v1/traces", "headers": headers});
    let mut world = world(json!({"tracing": tracing}));
    let client = world.connect();
    let call = world.call_and_wait(client, sampled("find"));
    assert_eq!(world.calls[call].error(), None);
    world.run_for(2 * SECOND);
    world
}

#[test]
fn spans_go_by_http_where_the_plan_has_a_path() {
    let mut world = posted(json!({}));
    let [Posted { stream, fields, body }] = &world.manager.posted[..] else { panic!("one request") };
    let (stream, length) = (*stream, body.len().to_string());
    for (name, value) in [
        (":authority", "otel.example.org"),
        (":path", "/v1/traces"),
        ("x-meltemi-cluster", "outbound|4318||otel.example.org"),
        ("content-type", "application/x-protobuf"),
        ("content-length", &length),
    ] {
        assert!(fields.contains(&(name.to_owned(), value.to_owned())), "{name}: {fields:?}");
    }
    let [span] = &collector::spans(body)[..] else { panic!("one span") };
    assert_eq!((&*span.trace, &*span.parent), (ID, PARENT));
    assert!(world.limiter.asked.is_empty());
    world.respond(stream, "200", b"");
    assert_eq!(count(&mut world, "exported"), 1);
    assert_eq!(lines(&world), []);
}

#[test]
fn what_is_not_taken_by_http_is_counted() {
    let mut world = posted(json!({}));
    let stream = world.manager.posted[0].stream;
    world.respond(stream, "503", b"no healthy upstream");
    assert_eq!((count(&mut world, "error"), count(&mut world, "exported")), (1, 0));
    assert_eq!(lines(&world), [("error", "HTTP status 503 no healthy upstream", 0)]);
    // The log has no more of it than a line's worth.
    let mut world = posted(json!({}));
    let stream = world.manager.posted[0].stream;
    world.respond(stream, "500", "é".repeat(8_000).as_bytes());
    world.run_for(SECOND);
    let [("error", detail, 0)] = lines(&world)[..] else { panic!("{:?}", lines(&world)) };
    assert!(
        detail.starts_with("HTTP status 500 é") && (511..=512).contains(&detail.len()),
        "{}",
        detail.len()
    );
    // What is no answer of OTLP's has all spans taken.
    let mut world = posted(json!({}));
    let stream = world.manager.posted[0].stream;
    world.respond(stream, "200", &[0xff; 1000]);
    assert_eq!((count(&mut world, "exported"), lines(&world).len()), (1, 0));
    // One that never answers is given up, and what it says after that is nobody's.
    let mut world = posted(json!({}));
    let stream = world.manager.posted[0].stream;
    world.run_for(15 * SECOND);
    assert_eq!(count(&mut world, "deadline"), 1);
    world.respond(stream, "200", b"");
    assert_eq!(count(&mut world, "exported"), 0);
}
