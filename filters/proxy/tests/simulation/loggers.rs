//! Calls that the connection manager's loggers are told of.

use std::time::Duration;

use meltemi_proxy::Metric;
use meltemi_sockets::Side;
use serde_json::{Value, json};

use crate::dubbo::INTERFACE;
use crate::servers::{Policy, Reply, What};
use crate::world::{Ask, Setup, World};

const A: &str = "10.0.0.1:20880";

/// What is under way at once of what loggers are told.
const MOST: usize = 1024;

/// What the connection manager's loggers were told.
pub struct Logs {
    /// The fields, call by call.
    pub entries: Vec<Vec<(String, String)>>,
    /// The status that it answers with at once, if it does.
    pub answer: Option<&'static str>,
    /// The streams that it has not answered.
    open: Vec<u32>,
}

impl Default for Logs {
    fn default() -> Self {
        Self { entries: Vec::new(), answer: Some("200"), open: Vec::new() }
    }
}

impl World {
    /// Its loggers are told of a call.
    pub fn log(&mut self, stream: u32, fields: &[(String, String)]) {
        self.manager.logs.entries.push(fields.to_vec());
        match self.manager.logs.answer {
            Some(status) => self.log_with(stream, status),
            None => self.manager.logs.open.push(stream),
        }
    }

    fn log_with(&mut self, stream: u32, status: &str) {
        self.manager.http2.head(stream, &[(":status", status)]);
        self.manager.http2.end(stream);
    }

    /// Answers what has no answer.
    pub fn log_all(&mut self) {
        for stream in std::mem::take(&mut self.manager.logs.open) {
            self.log_with(stream, "200");
        }
        self.flush(Side::Upstream);
    }
}

fn plan(rules: &Value) -> Value {
    let service = json!({"protocol": "dubbo", "onNoMatch": "reject", "routes": [
        {"name": "late", "match": [{"attributes": {"method": {"exact": "late"}}}], "timeout": "100ms"},
        {"name": "rest", "match": [{"attributes": {"method": {"prefix": "e"}}}]},
    ]});
    json!({"services": {"demo": service}, "accessLog": rules})
}

fn world(rules: &Value) -> World {
    let mut world = World::new(Setup { plan: plan(rules), ..Setup::default() });
    world.cluster("demo", &[A], Policy::RoundRobin);
    world.serve(|arrival, _| match arrival.method {
        "late" => What::Nothing.now(),
        _ => Reply::echo(),
    });
    world
}

/// A field of an entry.
fn field<'a>(entry: &'a [(String, String)], name: &str) -> Option<&'a str> {
    entry.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
}

fn count(world: &mut World, outcome: &'static str) -> i64 {
    world.sum(Metric::LogEntries(outcome))
}

/// The events and reasons of the lines about calls that loggers were not told of, and how many more such lines there would be.
pub fn dropped(world: &World) -> Vec<(&str, u64)> {
    let lines = world.metrics.replies.iter().filter(|line| line.event == "log_entries_dropped");
    lines.map(|line| (line.reason, line.suppressed)).collect()
}

#[test]
fn loggers_are_told_what_the_plan_says() {
    let mut world = world(&json!({"textFormat": "  %REQ(method)%\n%REQ(tag)% %RESPONSE_FLAGS%", "fields": {
        "x-call-line": "%LINE%", "x-tag": "%REQ(tag)%", "x-none": "%REQ(none)%", "x-took": "<%DURATION% ms>",
        "x-code": "%RESPONSE_CODE%", "x-cluster": "%UPSTREAM_CLUSTER%",
    }}));
    let client = world.connect();
    for (method, tag) in [("echo", "a\"b\r\n c"), ("late", "é"), ("lo st", "")] {
        world.call_and_wait(client, Ask::new(method).with("tag", tag));
    }
    world.run_for(Duration::from_millis(300));
    let names = ["x-meltemi-log", "x-call-line", "x-tag", "x-none", "x-took", "x-code", "x-cluster"];
    let told: Vec<_> =
        world.manager.logs.entries.iter().map(|entry| names.map(|name| field(entry, name))).collect();
    let (echo, tag) = ("echo a\\\"b\\u000d\\u000a c -", "a\\\"b\\u000d\\u000a c");
    assert_eq!(
        told,
        [
            ["call", echo, tag, "", "<1 ms>", "200", "demo"],
            ["call", "late é UT", "é", "", "<100 ms>", "200", "demo"],
            // What became no call has no cluster.
            ["call", "lo st  NR", "", "", "<0 ms>", "200", ""],
        ]
        .map(|entry| entry.map(|value| (!value.is_empty()).then_some(value)))
    );
    for (entry, method) in world.manager.logs.entries.iter().zip(["echo", "late", "lo%20st"]) {
        assert_eq!(field(entry, ":path"), Some(&*format!("/{INTERFACE}/{method}")));
        assert_eq!((field(entry, ":method"), field(entry, ":authority")), (Some("POST"), Some("demo")));
    }
    let lines = world.metrics.replies.iter().filter(|line| line.event == "call").count();
    assert_eq!((lines, count(&mut world, "logged")), (3, 3));
    assert_eq!(dropped(&world), []);
}

#[test]
fn the_line_may_be_for_loggers_alone_and_of_the_usual_form() {
    let mut world = world(&json!({"errors": true, "log": false, "fields": {"x-call-line": "%LINE%"}}));
    let client = world.connect();
    for method in ["echo", "lost", "late"] {
        world.call_and_wait(client, Ask::new(method));
    }
    world.run_for(Duration::from_secs(1));
    assert!(world.metrics.replies.iter().all(|line| line.event != "call"));
    let lines = world.manager.logs.entries.iter().map(|entry| field(entry, "x-call-line").unwrap());
    let lines: Vec<Value> = lines.map(|line| serde_json::from_str(line).unwrap()).collect();
    let told: Vec<_> = lines.iter().map(|line| (&line["event"], &line["method"], &line["reason"])).collect();
    let call = &json!("call");
    let wanted =
        [("lost", "no_route"), ("late", "timeout")].map(|(method, reason)| [method, reason].map(Value::from));
    assert_eq!(told, wanted.each_ref().map(|[method, reason]| (call, method, reason)));
}

#[test]
fn the_line_in_the_log_is_the_one_that_loggers_are_told() {
    for more in [json!({}), json!({"textFormat": "%REQ(method)% %DURATION%"})] {
        let mut rules = json!({"fields": {"x-call-line": "%LINE%"}});
        rules.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let mut world = world(&rules);
        let client = world.connect();
        world.call_and_wait(client, Ask::new("echo"));
        world.run_for(Duration::from_secs(1));
        let line = world.metrics.replies.iter().find(|line| line.event == "call").unwrap().line();
        assert_eq!(field(&world.manager.logs.entries[0], "x-call-line"), Some(&*line));
        assert!(line.contains("echo"), "{line}");
    }
}

#[test]
fn no_call_waits_for_loggers_and_what_they_do_not_take_is_bounded() {
    let mut world = world(&json!({"log": false, "fields": {"x-tag": "%REQ(tag)%"}}));
    world.manager.logs.answer = None;
    let client = world.connect();
    let calls = world.call_all(client, (0..MOST + 88).map(|_| Ask::new("echo").with("tag", "t")));
    world.await_all(&calls);
    world.run_for(Duration::from_secs(1));
    assert_eq!((world.manager.logs.entries.len(), count(&mut world, "full")), (MOST, 88));
    assert_eq!(dropped(&world), [("full", 0)], "one line in a minute");

    world.manager.logs.answer = Some("200");
    world.log_all();
    world.run_for(Duration::from_secs(61));
    world.call_and_wait(client, Ask::new("echo").with("tag", "t"));
    world.run_for(Duration::from_secs(1));
    assert_eq!((world.manager.logs.entries.len(), count(&mut world, "logged")), (MOST + 1, MOST as i64 + 1));

    // A connection manager without a route for them.
    world.manager.logs.answer = Some("404");
    for _ in 0..3 {
        world.call_and_wait(client, Ask::new("echo").with("tag", "t"));
    }
    world.run_for(Duration::from_secs(1));
    assert_eq!(count(&mut world, "refused"), 3);
    assert_eq!(dropped(&world), [("full", 0), ("refused", 87)]);
}

#[test]
fn what_a_client_says_takes_bounded_room_in_an_entry() {
    let fields: serde_json::Map<String, Value> =
        (0..64).map(|number| (format!("x-{number}"), json!("%REQ(tag)%"))).collect();
    let mut world = world(&json!({"fields": fields}));
    let client = world.connect();
    world.call_and_wait(client, Ask::new("echo").with("tag", &"\n".repeat(60_000)));
    world.run_for(Duration::from_secs(1));
    let [entry] = &world.manager.logs.entries[..] else {
        panic!("{} entries", world.manager.logs.entries.len())
    };
    let sizes: Vec<usize> =
        entry.iter().filter(|(name, _)| name.starts_with("x-")).map(|(_, value)| value.len()).collect();
    assert_eq!(sizes, ["call".len(), 6144, 6144, 4096]);
}

#[test]
fn what_a_client_says_hides_nothing_that_the_proxy_says_of_it() {
    let fields = json!({"a": "%REQ(a)%", "b": "%REQ(none?b)%", "c": "%REQ(c)%", "x-outcome": "%RESPONSE_CODE_DETAILS%"});
    let mut world = world(&json!({"fields": fields}));
    let client = world.connect();
    let long = "\n".repeat(2000);
    world.call_and_wait(client, Ask::new("echo").with("a", &long).with("b", &long).with("c", &long));
    world.run_for(Duration::from_secs(1));
    assert_eq!(field(&world.manager.logs.entries[0], "x-outcome"), Some("success"));
}

#[test]
fn a_call_under_way_is_told_of_where_loggers_take_the_place_of_lines() {
    let mut world = world(&json!({"textFormat": "%REQ(tag)%"}));
    world.serve(|_, _| What::Echo(0).after(Duration::from_millis(50)));
    let client = world.connect();
    let call = world.call(client, Ask::new("echo").with("tag", "gray"));
    world.run_for(Duration::from_millis(20));
    let rules = json!({"textFormat": "%REQ(tag)%", "log": false, "fields": {"x-call-line": "%LINE%"}});
    world.set_plan(&plan(&rules));
    world.await_all(&[call]);
    world.run_for(Duration::from_secs(1));
    let lines: Vec<_> = world.metrics.replies.iter().filter(|line| line.event == "call").collect();
    assert_eq!(lines.iter().map(|line| line.line()).collect::<Vec<_>>(), ["gray"]);
    assert!(world.manager.logs.entries.is_empty());
}

#[test]
fn a_call_under_way_is_told_of_as_the_plan_says_that_it_began_by() {
    let rules = |name: &str| json!({"log": false, "fields": {name: "%REQ(tag)%"}});
    let mut world = world(&rules("x-old"));
    world.serve(|_, _| What::Echo(0).after(Duration::from_millis(50)));
    let client = world.connect();
    let call = world.call(client, Ask::new("echo").with("tag", "gray"));
    world.run_for(Duration::from_millis(20));
    world.set_plan(&plan(&rules("x-new")));
    world.await_all(&[call]);
    world.call_and_wait(client, Ask::new("echo").with("tag", "blue"));
    world.run_for(Duration::from_secs(1));
    let told: Vec<_> = world
        .manager
        .logs
        .entries
        .iter()
        .map(|entry| (field(entry, "x-old"), field(entry, "x-new")))
        .collect();
    assert_eq!(told, [(Some("gray"), None), (None, Some("blue"))]);
}
