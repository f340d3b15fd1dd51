//! Spans of sampled calls, and collectors that take them or do not.

use std::time::Duration;

use meltemi_codecs::protobuf;
use meltemi_proxy::Metric;
use serde_json::{Value, json};

use crate::collector::Span;
use crate::dubbo::THREADPOOL_EXHAUSTED;
use crate::limiter::{Say, framed};
use crate::servers::{Endpoint, Policy, Reply, What};
use crate::world::{Ask, Setup, World, value};

const A: &str = "10.0.0.1:20880";
const B: &str = "10.0.0.2:20880";
const SHADOW: &str = "10.0.1.1:20880";
const COLLECTOR: &str = "10.0.9.1:4317";
pub const ID: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
pub const PARENT: &str = "00f067aa0ba902b7";
const MS: Duration = Duration::from_millis(1);
pub const SECOND: Duration = Duration::from_secs(1);

/// Kinds of spans.
const SERVER: u64 = 2;
const CLIENT: u64 = 3;

const ERROR: u64 = 2;

fn plan(mut service: Value) -> Value {
    service["protocol"] = json!("dubbo");
    if service["tracing"].is_null() {
        service["tracing"] = json!({"sampling": 0, "collector": "collector"});
    }
    json!({"services": {"demo": service}})
}

pub fn world(service: Value) -> World {
    let mut world = World::new(Setup { plan: plan(service), ..Setup::default() });
    world.cluster("demo", &[A, B], Policy::RoundRobin);
    world.cluster("shadow", &[SHADOW], Policy::RoundRobin);
    world.limiter_cluster("collector", &[COLLECTOR]);
    says(&mut world, taken());
    world.serve(|_, _| Reply::echo());
    world
}

/// What a collector says that has taken all.
fn taken() -> Say {
    Say::Body(framed(&[]))
}

fn says(world: &mut World, say: Say) {
    world.judge(move |_, _| (MS, say.clone()));
}

/// A call of a sampled trace.
pub fn sampled(method: &str) -> Ask {
    Ask::new(method).with("traceparent", &format!("00-{ID}-{PARENT}-01"))
}

/// All spans that the collector was given.
pub fn spans(world: &World) -> Vec<Span> {
    world.limiter.asked.iter().flat_map(|asked| asked.spans.clone()).collect()
}

/// The spans that servers were told of a call, in the order of its tries.
fn told(world: &World, call: usize) -> Vec<String> {
    let parents = world.calls[call].deliveries.iter().map(|one| value(&one.attachments, "traceparent"));
    parents.map(|parent| parent.unwrap().split('-').nth(2).unwrap().to_owned()).collect()
}

pub fn count(world: &mut World, outcome: &'static str) -> i64 {
    world.sum(Metric::Spans(outcome))
}

/// The lines of the log about spans: why they were dropped, what was said of that, and how many more were.
pub fn lines(world: &World) -> Vec<(&str, &str, u64)> {
    let lines = world.metrics.replies.iter().filter(|line| line.event == "spans_dropped");
    lines.map(|line| (line.reason, &*line.detail, line.suppressed)).collect()
}

#[test]
fn a_sampled_call_has_a_span_between_its_client_and_its_server() {
    let mut world = world(json!({"routes": [{"name": "all"}]}));
    world.serve(|_, _| What::Echo(0).after(7 * MS));
    let client = world.connect();
    let call = world.call_and_wait(client, sampled("find"));
    assert_eq!(world.limiter.asked, [], "it is not due");
    world.run_for(2 * SECOND);
    let [span] = &spans(&world)[..] else { panic!("{:?}", spans(&world)) };
    assert_eq!((&*span.trace, &*span.parent, vec![span.id.clone()]), (ID, PARENT, told(&world, call)));
    assert_eq!((span.kind, span.status), (CLIENT, 0));
    assert!(span.name.ends_with("/find") && span.name.len() > "/find".len(), "{}", span.name);
    let answered = world.calls[call].answer.as_ref().unwrap().at;
    assert!(world.calls[call].sent_at <= span.start && span.end <= answered, "{span:?}");
    assert!(span.end - span.start >= 7_000_000, "{span:?}");
    let endpoint = world.calls[call].endpoint().unwrap();
    assert_eq!(format!("{}:{}", span.of("server.address"), span.of("server.port")), endpoint);
    let wanted = [
        ("rpc.system", "apache_dubbo"),
        ("rpc.method", "find"),
        ("upstream_cluster", "demo"),
        ("meltemi.route", "all"),
        ("meltemi.try", "1"),
        ("error.type", ""),
        ("response_flags", ""),
    ];
    for (name, wanted) in wanted {
        assert_eq!(span.of(name), wanted, "{name}");
    }
    assert_eq!(format!("{}/find", span.of("rpc.service")), span.name);
    assert!(span.of("request_size").parse::<u64>().unwrap() > 0);
    assert_eq!(count(&mut world, "exported"), 1);
}

#[test]
fn what_is_not_sampled_has_none_nor_has_a_service_without_collector() {
    let mut world = world(json!({}));
    let client = world.connect();
    world.call_and_wait(client, Ask::new("find"));
    world.call_and_wait(client, Ask::new("find").with("traceparent", &format!("00-{ID}-{PARENT}-00")));
    world.set_plan(&plan(json!({"tracing": {"sampling": 100}})));
    world.call_and_wait(client, sampled("find"));
    world.run_for(2 * SECOND);
    assert_eq!(world.limiter.asked, []);
    assert!(world.manager.asked.iter().all(|asked| asked.cluster != "collector"));
}

#[test]
fn each_try_has_a_span_that_says_how_it_ended() {
    let retry = json!({
        "attempts": 5, "on": ["status", "reset", "per-try-timeout"], "statuses": [THREADPOOL_EXHAUSTED],
        "perTryTimeout": "30ms", "backoff": {"base": "1ms"},
    });
    let mut world = world(json!({"defaultRoute": {"retry": retry, "mirrors": [{"cluster": "shadow"}]}}));
    world.serve(|arrival, _| match (arrival.endpoint, arrival.times) {
        (SHADOW, _) => Reply::echo(),
        // The copy is the first.
        (_, 2) => What::Error(THREADPOOL_EXHAUSTED).now(),
        (_, 3) => What::Reset.now(),
        (_, 4) => What::Nothing.now(),
        _ => Reply::echo(),
    });
    let client = world.connect();
    let call = world.call_and_wait(client, sampled("find"));
    world.run_for(2 * SECOND);
    let (copies, tries): (Vec<_>, Vec<_>) =
        spans(&world).into_iter().partition(|span| span.of("meltemi.mirror") == "true");
    let ids: Vec<_> = tries.iter().map(|span| span.id.clone()).collect();
    let mut told = told(&world, call);
    let copied = world.calls[call].deliveries.iter().position(|one| one.endpoint == SHADOW).unwrap();
    let [copy] = &copies[..] else { panic!("{copies:?}") };
    assert_eq!((&copy.id, copy.of("upstream_cluster")), (&told.remove(copied), "shadow"));
    assert_eq!(ids, told);
    assert!(tries.iter().chain([copy]).all(|span| (&*span.trace, &*span.parent) == (ID, PARENT)));
    let ends: Vec<_> = tries
        .iter()
        .map(|span| {
            let names = ["meltemi.try", "error.type", "response_flags", "rpc.response.status_code"];
            (span.status, names.map(|name| span.of(name)))
        })
        .collect();
    let wanted = [
        (ERROR, ["1", "error", "", "100"]),
        (ERROR, ["2", "connection_lost", "UC", ""]),
        (ERROR, ["3", "timeout", "UT", ""]),
        (0, ["4", "", "", ""]),
    ];
    assert_eq!(ends, wanted);
    for pair in tries.windows(2) {
        assert!(pair[0].end <= pair[1].start && pair[0].start <= pair[0].end, "{pair:?}");
    }
    assert!((30_000_000..40_000_000).contains(&(tries[2].end - tries[2].start)), "{:?}", tries[2]);
}

#[test]
fn a_try_that_another_overtook_is_no_error() {
    let retry =
        json!({"attempts": 1, "on": ["reset"], "hedge": {"after": "20ms"}, "backoff": {"base": "0s"}});
    let mut world = world(json!({"defaultRoute": {"retry": retry}}));
    let client = world.connect();
    for _ in 0..4 {
        world.call_and_wait(client, Ask::new("warm-up"));
    }
    world.serve(|arrival, _| match arrival.times {
        1 => What::Echo(0).after(200 * MS),
        _ => What::Echo(0).after(10 * MS),
    });
    let call = world.call_and_wait(client, sampled("find"));
    world.run_for(2 * SECOND);
    let [first, second] = &spans(&world)[..] else { panic!("{:?}", spans(&world)) };
    assert_eq!([&first.id, &second.id], [&told(&world, call)[0], &told(&world, call)[1]]);
    assert_eq!((first.status, first.of("response_flags"), second.status), (0, "DC", 0));
    assert!(first.start < second.start && first.end == second.end, "{first:?} {second:?}");
    assert_ne!(first.of("server.address"), second.of("server.address"));
}

#[test]
fn a_call_that_is_not_tried_has_a_span_of_its_own() {
    let denied =
        json!([{"name": "denied", "match": [{"attributes": {"method": {"exact": "no"}}}], "reject": {}}]);
    let mut world = world(json!({"routes": denied, "defaultRoute": {"timeout": "50ms"}}));
    let client = world.connect();
    world.call_and_wait(client, sampled("no"));
    for endpoint in [A, B] {
        world.set_endpoint(endpoint, Endpoint::Refusing);
    }
    world.call_and_wait(client, sampled("find"));
    let one_way = world.call(client, sampled("tell").one_way());
    world.run_for(2 * SECOND);
    for endpoint in [A, B] {
        world.set_endpoint(endpoint, Endpoint::Silent);
    }
    world.call_and_wait(client, sampled("slow"));
    world.run_for(2 * SECOND);
    let found: Vec<_> = spans(&world)
        .iter()
        .map(|span| {
            assert_eq!((&*span.trace, &*span.parent, span.status), (ID, PARENT, ERROR), "{span:?}");
            let names = ["rpc.method", "meltemi.try", "error.type", "response_flags"];
            names.map(|name| span.of(name).to_owned()).join(" ")
        })
        .collect();
    let wanted = ["no 0 denied UAEX", "find 0 no_endpoint UH", "tell 0 no_endpoint UH", "slow 0 timeout UT"];
    assert_eq!(found, wanted);
    assert!(world.calls[one_way].deliveries.is_empty());
}

#[test]
fn a_one_way_call_has_a_span_and_the_end_of_a_call_is_that_of_its_last_try() {
    let mut world = world(json!({"defaultRoute": {"timeout": "50ms"}}));
    world.serve(|arrival, _| match arrival.method {
        "slow" => What::Nothing.now(),
        "broken" => What::Error(80).now(),
        _ => Reply::echo(),
    });
    let client = world.connect();
    let tell = world.call(client, sampled("tell").one_way());
    world.run_for(MS);
    for method in ["slow", "broken"] {
        world.call_and_wait(client, sampled(method));
    }
    let left = world.call(client, sampled("slow"));
    world.run_for(MS);
    world.leave(client);
    world.run_for(2 * SECOND);
    let found: Vec<_> = spans(&world)
        .iter()
        .map(|span| {
            let names =
                ["rpc.method", "meltemi.try", "error.type", "rpc.response.status_code", "response_flags"];
            (names.map(|name| span.of(name).to_owned()).join(" "), span.status, span.id.clone())
        })
        .collect();
    let wanted =
        [("tell 1   ", 0), ("slow 1 timeout  UT", ERROR), ("broken 1 error 80 ", ERROR), ("slow 1   DC", 0)];
    for ((found, status, _), wanted) in found.iter().zip(wanted) {
        assert_eq!((&**found, *status), wanted);
    }
    assert_eq!(found.len(), wanted.len());
    assert_eq!((&found[0].2, &found[3].2), (&told(&world, tell)[0], &told(&world, left)[0]));
}

#[test]
fn at_the_server_it_is_the_servers_span() {
    let mut world = world(json!({}));
    world.cluster("inbound|20880||", &[A], Policy::RoundRobin);
    let headers = [("x-forwarded-for", "10.1.2.3:4000")];
    let client = world.connect_with("demo", "inbound|20880||", &headers);
    world.call_and_wait(client, sampled("find"));
    world.run_for(2 * SECOND);
    let [span] = &spans(&world)[..] else { panic!("{:?}", spans(&world)) };
    assert_eq!((span.kind, span.of("upstream_cluster")), (SERVER, "inbound|20880||"));
}

#[test]
fn spans_are_sent_together_after_a_second_or_when_there_are_many() {
    let mut world = world(json!({}));
    let client = world.connect();
    let calls = world.call_all(client, (0..50).map(|_| sampled("find")));
    world.await_all(&calls);
    world.run_for(2 * SECOND);
    let sent: Vec<_> = world.limiter.asked.iter().map(|asked| asked.spans.len()).collect();
    assert_eq!(sent, [50]);
    let of = |name: &str| {
        let fields = &world.limiter.asked[0].fields;
        fields.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone())
    };
    assert_eq!(of("grpc-timeout").as_deref(), Some("10000m"));
    for _ in 0..10 {
        let calls = world.call_all(client, (0..100).map(|_| sampled("find")));
        world.await_all(&calls);
    }
    assert!(world.limiter.asked.len() > 2, "they do not wait");
    world.run_for(2 * SECOND);
    assert_eq!((spans(&world).len(), count(&mut world, "exported")), (1050, 1050));
    let opened = world.manager.asked.iter().filter(|asked| asked.cluster == "collector").count();
    assert_eq!(opened, 1);
}

#[test]
fn a_silent_collector_costs_bounded_memory_and_no_call_waits_for_it() {
    let mut world = world(json!({}));
    says(&mut world, Say::Nothing);
    let client = world.connect();
    let made = 6000;
    for _ in 0..made / 100 {
        let calls = world.call_all(client, (0..100).map(|_| sampled("find")));
        world.await_all(&calls);
        assert!(calls.iter().all(|&call| world.calls[call].error().is_none()));
    }
    assert_eq!(world.limiter.asked.len(), 2, "as many as may be without an answer");
    let (sent, full) = (spans(&world).len() as i64, count(&mut world, "full"));
    let kept = made - sent - full;
    assert!(full > 0 && (200..1500).contains(&kept), "{sent} sent, {full} dropped");
    world.run_for(60 * SECOND);
    let late = count(&mut world, "deadline");
    assert_eq!((late, count(&mut world, "exported")), (made - full, 0));
    assert!(world.limiter.cancelled >= 2);
    says(&mut world, taken());
    world.call_and_wait(client, sampled("find"));
    world.run_for(2 * SECOND);
    assert_eq!(count(&mut world, "exported"), 1, "another connection was opened");
}

#[test]
fn a_collector_that_reads_nothing_is_left() {
    let mut world = world(json!({}));
    let client = world.connect();
    world.call_and_wait(client, sampled("find"));
    world.run_for(2 * SECOND);
    let [stream] = world.manager.streams_to(COLLECTOR)[..] else { panic!("one connection") };
    says(&mut world, Say::Nothing);
    world.set_server_reading(stream, false);
    for _ in 0..60 {
        let calls = world.call_all(client, (0..100).map(|_| sampled("find")));
        world.await_all(&calls);
        world.run_for(SECOND);
    }
    world.run_for(20 * SECOND);
    assert!(!world.manager.streams_to(COLLECTOR).contains(&stream), "nothing of it waits to be sent");
    says(&mut world, taken());
    world.call_and_wait(client, sampled("find"));
    world.run_for(2 * SECOND);
    assert_eq!(count(&mut world, "exported"), 2);
}

#[test]
fn what_a_collector_does_not_take_is_counted_and_said_once_a_minute() {
    for (what, say, outcome, said) in [
        ("unimplemented", Say::Status(12), "error", "gRPC status 12 "),
        ("no gRPC", Say::Http(503), "error", "HTTP status 503 "),
        ("reset", Say::ResetStream, "reset", ""),
        ("closed", Say::Close(true), "reset", ""),
        ("garbage", Say::Garbage, "reset", ""),
    ] {
        let mut world = world(json!({}));
        says(&mut world, say);
        let client = world.connect();
        for _ in 0..3 {
            world.call_and_wait(client, sampled("find"));
            world.call_and_wait(client, sampled("find"));
            world.run_for(2 * SECOND);
        }
        assert_eq!((count(&mut world, outcome), count(&mut world, "exported")), (6, 0), "{what}");
        assert_eq!(lines(&world), [(outcome, said, 0)], "{what}");
        world.run_for(60 * SECOND);
        world.call_and_wait(client, sampled("find"));
        world.run_for(2 * SECOND);
        assert_eq!(lines(&world), [(outcome, said, 0), (outcome, said, 2)], "{what}");
        assert_eq!(world.metrics.replies[0].cluster.as_deref(), Some("collector"));
        says(&mut world, taken());
        world.call_and_wait(client, sampled("find"));
        world.run_for(2 * SECOND);
        let sum = ["exported", outcome].map(|outcome| count(&mut world, outcome));
        assert_eq!(sum.iter().sum::<i64>(), 8, "{what}: {sum:?}");
    }
}

#[test]
fn a_collector_that_cannot_be_reached_is_asked_again() {
    for (what, outcome) in
        [("no cluster", "no_connection"), ("refused", "no_connection"), ("silent", "deadline")]
    {
        let mut world = world(json!({}));
        match what {
            "no cluster" => _ = world.manager.clusters.remove("collector"),
            "refused" => world.set_endpoint(COLLECTOR, Endpoint::Refusing),
            _ => world.set_endpoint(COLLECTOR, Endpoint::Silent),
        }
        let client = world.connect();
        let call = world.call_and_wait(client, sampled("find"));
        assert_eq!(world.calls[call].error(), None);
        world.run_for(15 * SECOND);
        assert_eq!(count(&mut world, outcome), 1, "{what}");
        world.limiter_cluster("collector", &[COLLECTOR]);
        for _ in 0..3 {
            world.call_and_wait(client, sampled("find"));
            world.run_for(15 * SECOND);
        }
        assert!(count(&mut world, "exported") > 0, "{what}");
    }
}

#[test]
fn a_plan_without_the_collector_gets_what_has_gathered_out_and_closes_its_connection() {
    let mut world = world(json!({}));
    let client = world.connect();
    world.call_and_wait(client, sampled("find"));
    world.set_plan(&plan(json!({"tracing": {}})));
    world.call_and_wait(client, sampled("find"));
    world.run_for(100 * MS);
    assert_eq!((spans(&world).len(), count(&mut world, "exported")), (1, 1));
    assert!(world.manager.streams_to(COLLECTOR).is_empty());
    world.run_for(2 * SECOND);
    assert_eq!(world.limiter.asked.len(), 1);
}

#[test]
fn spans_do_not_wait_where_no_alarm_rings_any_more() {
    let mut world = world(json!({}));
    let client = world.connect();
    world.call_and_wait(client, sampled("find"));
    world.run_for(2 * SECOND);
    world.call_and_wait(client, sampled("find"));
    world.give_notice();
    world.go_away();
    world.call_and_wait(client, sampled("find"));
    world.call_and_wait(client, sampled("find"));
    world.run_for(100 * MS);
    assert_eq!((spans(&world).len(), count(&mut world, "exported")), (4, 4));
}

#[test]
fn spans_that_a_collector_rejects_are_not_exported() {
    let mut answer = Vec::new();
    protobuf::write_number(1, 1, &mut answer);
    protobuf::write_bytes(2, b"too old", &mut answer);
    protobuf::enclose(1, 0, &mut answer);
    let mut world = world(json!({}));
    says(&mut world, Say::Body(framed(&answer)));
    let client = world.connect();
    world.call_and_wait(client, sampled("find"));
    world.call_and_wait(client, sampled("find"));
    world.run_for(2 * SECOND);
    assert_eq!((count(&mut world, "rejected"), count(&mut world, "exported")), (1, 1));
    assert_eq!(lines(&world), [("rejected", "too old", 0)]);
}

#[test]
fn what_was_not_sent_when_the_worker_ends_is_counted() {
    let mut world = world(json!({}));
    says(&mut world, Say::Nothing);
    let client = world.connect();
    world.call_and_wait(client, sampled("find"));
    world.run_for(2 * SECOND);
    world.call_and_wait(client, sampled("find"));
    world.call_and_wait(client, sampled("find"));
    world.shut_down();
    assert_eq!((spans(&world).len(), count(&mut world, "reset")), (1, 3));
}
