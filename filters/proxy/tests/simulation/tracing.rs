//! Traces: what is read of them, decided, and written into each try.

use std::collections::HashSet;
use std::rc::Rc;
use std::time::Duration;

use meltemi_proxy::Metric;
use meltemi_proxy::plan::TRACEPARENT;
use serde_json::{Value, json};

use crate::dubbo::THREADPOOL_EXHAUSTED;
use crate::heads::HeadFirst;
use crate::limiter::{Say, framed};
use crate::servers::{Policy, Reply, What};
use crate::spans::spans;
use crate::toy::{REFUSED, WIDE};
use crate::world::{Ask, Setup, World, value};

const A: &str = "10.0.0.1:20880";
const B: &str = "10.0.0.2:20880";
const SHADOW: &str = "10.0.1.1:20880";
const ID: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const SPAN: &str = "00f067aa0ba902b7";

fn world(service: &Value) -> World {
    let mut plan = Setup::demo(service.clone()).plan;
    plan["accessLog"] = json!({});
    let mut world = World::new(Setup { plan, ..Setup::default() });
    world.cluster("demo", &[A, B], Policy::RoundRobin);
    world.cluster("shadow", &[SHADOW], Policy::RoundRobin);
    world.serve(|_, _| Reply::echo());
    world
}

/// What the tries of a call said under a name.
fn said<'a>(world: &'a World, call: usize, name: &str) -> Vec<&'a str> {
    let deliveries = world.calls[call].deliveries.iter();
    deliveries.map(|delivery| value(&delivery.attachments, name).unwrap_or_default()).collect()
}

/// Trace, span and flags of a value in the W3C's format.
fn parts(text: &str) -> [&str; 3] {
    match text.split('-').collect::<Vec<_>>()[..] {
        ["00", id, span, flags] if id.len() == 32 && span.len() == 16 => [id, span, flags],
        _ => panic!("{text}"),
    }
}

#[test]
fn the_trace_of_the_caller_goes_on_whatever_the_share_is() {
    for (sampling, flags) in [(0, "01"), (100, "00")] {
        let mut world = world(&json!({"tracing": {"sampling": sampling}}));
        let client = world.connect();
        let parent = format!("00-{ID}-{SPAN}-{flags}");
        let ask =
            Ask::new("echo").with("traceparent", &parent).with("tracestate", "a=1").with("baggage", "b=2");
        let call = world.call_and_wait(client, ask);
        let [got] = said(&world, call, "traceparent")[..] else { panic!() };
        let [id, span, got_flags] = parts(got);
        assert_eq!((id, got_flags), (ID, flags));
        assert_ne!(span, SPAN);
        assert_eq!(said(&world, call, "tracestate"), ["a=1"]);
        assert_eq!(said(&world, call, "baggage"), ["b=2"]);
        assert_eq!(said(&world, call, "b3"), [""]);
        // The answer carries none.
        assert_eq!(value(&world.calls[call].answer.as_ref().unwrap().attachments, "traceparent"), None);
        let [line] = &world.metrics.replies[..] else { panic!("{:?}", world.metrics.replies) };
        assert_eq!(line.trace_id.as_deref(), Some(ID));
    }
}

#[test]
fn what_came_in_zipkins_format_goes_on_in_it() {
    let mut world = world(&json!({"tracing": {}}));
    let client = world.connect();
    let call = world.call_and_wait(client, Ask::new("echo").with("b3", &format!("{ID}-{SPAN}-1")));
    let [got] = said(&world, call, "b3")[..] else { panic!() };
    assert!(got.starts_with(&format!("{ID}-")) && got.ends_with(&format!("-1-{SPAN}")), "{got}");
    assert_eq!(said(&world, call, "traceparent"), [""]);

    let ask = Ask::new("echo").with("X-B3-TraceId", ID).with("X-B3-SpanId", SPAN).with("X-B3-Sampled", "0");
    let call = world.call_and_wait(client, ask);
    assert_eq!(said(&world, call, "X-B3-TraceId"), [ID]);
    assert_eq!(said(&world, call, "X-B3-ParentSpanId"), [SPAN]);
    assert_eq!(said(&world, call, "X-B3-Sampled"), ["0"]);
    assert_ne!(said(&world, call, "X-B3-SpanId"), [SPAN]);
}

/// Servers that read several formats prefer one or another.
#[test]
fn what_came_in_several_formats_goes_on_in_all_of_them() {
    let mut world = world(&json!({"tracing": {}}));
    let client = world.connect();
    let other = SPAN.replace('7', "8");
    let w3c = ("traceparent", format!("00-{ID}-{SPAN}-01"));
    let b3 = ("b3", format!("{ID}-{other}-0"));
    let fields = [("x-b3-traceid", ID.to_owned()), ("x-b3-spanid", other.clone())];
    for (is_w3c, says) in [
        (true, vec![w3c.clone(), b3.clone()]),
        (true, vec![b3.clone(), w3c.clone()]),
        (true, [fields.to_vec(), vec![b3.clone(), w3c.clone()]].concat()),
        (false, [fields.to_vec(), vec![b3.clone()]].concat()),
        // It says nothing that is valid.
        (true, vec![w3c.clone(), ("b3", "what".to_owned())]),
    ] {
        let ask = says.iter().fold(Ask::new("echo"), |ask, (name, value)| ask.with(name, value));
        let call = world.call_and_wait(client, ask);
        let said = |name| said(&world, call, name)[0];
        let got_b3 = said("b3");
        let [id, span, sampled, parent] = got_b3.split('-').collect::<Vec<_>>()[..] else {
            panic!("{got_b3}")
        };
        assert!(id == ID && span != SPAN && span != other, "{got_b3}");
        let wanted = if is_w3c { ("1", SPAN) } else { ("0", &*other) };
        assert_eq!((sampled, parent), wanted);
        if is_w3c {
            assert_eq!(parts(said("traceparent")), [ID, span, "01"]);
        } else {
            assert_eq!(said("traceparent"), "");
        }
        let names = ["x-b3-traceid", "x-b3-spanid", "x-b3-parentspanid", "x-b3-sampled"];
        let fields = names.map(said);
        match says.len() {
            2 => assert_eq!(fields, [""; 4]),
            _ => assert_eq!(fields, [ID, span, parent, sampled]),
        }
    }
}

#[test]
fn of_what_is_said_twice_the_first_counts_and_nothing_else_goes_on() {
    let mut world = world(&json!({"tracing": {}}));
    let client = world.connect();
    let other = format!("00-{}-{SPAN}-01", ID.replace('4', "5"));
    let no_trace = format!("00-{ID}-{SPAN}");
    for (first, last) in [(format!("00-{ID}-{SPAN}-01"), &other), (no_trace, &other)] {
        let ask = Ask::new("echo").with("traceparent", &first).with("key", "x").with("traceparent", last);
        // Another name.
        let call = world.call_and_wait(client, ask.with("Traceparent", last));
        let [got] = said(&world, call, "traceparent")[..] else { panic!() };
        let [id, span, _] = parts(got);
        assert!((id == ID) == first.ends_with("-01") && !other.contains(id) && span != SPAN, "{got}");
        assert_eq!(said(&world, call, "Traceparent"), [last]);
        let line = world.metrics.replies.last().expect("a line");
        assert_eq!(line.trace_id.as_deref(), Some(id));
    }
}

#[test]
fn a_call_without_a_trace_begins_one_and_a_share_is_sampled() {
    let mut world = world(&json!({"tracing": {"sampling": 25}}));
    let client = world.connect();
    let mut asks: Vec<_> = (0..1000).map(|_| Ask::new("echo")).collect();
    // What is no trace is as none.
    asks[0] = Ask::new("echo").with("traceparent", &format!("00-{ID}-{SPAN}"));
    let calls = world.call_all(client, asks);
    world.await_all(&calls);
    let traces = calls.iter().map(|call| parts(said(&world, *call, "traceparent")[0]));
    let sampled = traces.clone().filter(|[_, _, flags]| *flags == "01").count();
    assert!((180..320).contains(&sampled), "{sampled}");
    let ids: HashSet<_> = traces.map(|[id, ..]| id).collect();
    assert!(ids.len() == 1000 && !ids.contains(ID));
}

#[test]
fn each_try_is_a_span_of_its_own_and_so_is_a_copy() {
    let mut world = world(&json!({"tracing": {}, "defaultRoute": {
        "retry": {"on": ["status"], "statuses": [THREADPOOL_EXHAUSTED], "backoff": {"base": "10ms"}},
        "mirrors": [{"cluster": "shadow"}],
    }}));
    world.serve(|arrival, _| match (arrival.endpoint, arrival.times) {
        (SHADOW, _) => Reply::echo(),
        (_, 1 | 2) => What::Error(THREADPOOL_EXHAUSTED).now(),
        _ => Reply::echo(),
    });
    let client = world.connect();
    let ask = Ask::new("find").with("traceparent", &format!("00-{ID}-{SPAN}-01"));
    let call = world.call_and_wait(client, ask);
    let traces: Vec<_> = said(&world, call, "traceparent").into_iter().map(parts).collect();
    let spans: HashSet<_> = traces.iter().map(|[_, span, _]| *span).collect();
    assert!(traces.len() == 3 && spans.len() == 3 && !spans.contains(SPAN), "{traces:?}");
    assert!(traces.iter().all(|[id, _, flags]| (*id, *flags) == (ID, "01")));
}

#[test]
fn what_the_proxy_answers_has_its_trace_in_the_log() {
    let mut world = world(&json!({"tracing": {}, "onNoMatch": "reject"}));
    let client = world.connect();
    world.call_and_wait(client, Ask::new("find").with("traceparent", &format!("00-{ID}-{SPAN}-00")));
    let lines: Vec<_> =
        world.metrics.replies.iter().map(|line| (line.event, line.trace_id.as_deref())).collect();
    assert_eq!(lines, [("call", Some(ID)), ("local_reply", Some(ID))]);
}

#[test]
fn what_would_be_denied_has_its_trace_in_the_log() {
    let rules = json!([{"name": "no", "deny": true, "match": [{"attributes": {"method": {"exact": "no"}}}]}]);
    let mut world = world(&json!({"tracing": {}, "dryRun": {"rules": rules}}));
    let client = world.connect();
    world.call_and_wait(client, Ask::new("no").with("traceparent", &format!("00-{ID}-{SPAN}-00")));
    world.call_and_wait(client, Ask::new("no"));
    let lines: Vec<_> =
        world.metrics.replies.iter().map(|line| (line.event, line.trace_id.clone())).collect();
    let [(_, first), (_, second)] = [&lines[0], &lines[2]];
    assert_eq!(lines.iter().map(|(event, _)| *event).collect::<Vec<_>>(), ["dry_run", "call"].repeat(2));
    assert_eq!((first.as_deref(), second), (Some(ID), &lines[3].1));
    assert!(second.is_some() && lines[1].1 == *first);
}

/// A world whose calls have lines, with a service as `service` says of a layout whose requests say their trace where the method is,
/// and with one of a protocol that is wide.
fn world_of_layout(service: Value) -> World {
    let mut plan = HeadFirst::Declared.plan(service);
    plan["accessLog"] = json!({});
    plan["services"]["other"] = json!({"protocol": "wide"});
    let layout = plan["protocols"]["declared"].as_object_mut().unwrap();
    layout["parts"][0]["name"] = json!(TRACEPARENT);
    layout.insert("service".to_owned(), json!(TRACEPARENT));
    layout.insert("method".to_owned(), json!(TRACEPARENT));
    let wire = Rc::new(HeadFirst::Declared);
    let mut world = World::new(Setup { wire, plan, ..Setup::default() });
    world.cluster("demo", &[A], Policy::RoundRobin);
    world
}

#[test]
fn a_layout_says_the_trace_of_its_caller_and_passes_it_on() {
    let tracing = json!({"sampling": 0, "collector": "collector"});
    let mut world = world_of_layout(json!({"tracing": tracing}));
    world.limiter_cluster("collector", &["10.0.9.1:4317"]);
    world.judge(|_, _| (Duration::from_millis(1), Say::Body(framed(&[]))));
    world.serve(|_, _| Reply::echo());
    let client = world.connect();
    let parent = format!("00-{ID}-{SPAN}-01");
    let asks = [
        Ask::new(&parent),
        Ask::new(&format!("00-{ID}-{SPAN}-00")),
        Ask::new("none"),
        Ask::new(&parent).size(100_000),
    ];
    for ask in asks {
        let call = world.call_and_wait(client, ask);
        assert_eq!(world.calls[call].error(), None);
    }
    world.run_for(Duration::from_secs(2));
    let spans = spans(&world);
    assert_eq!(spans.len(), 2, "{spans:?}");
    for span in &spans {
        assert_eq!((&*span.trace, &*span.parent), (ID, SPAN));
        assert_ne!(span.id, SPAN);
    }
    // Servers are told what the caller says.
    assert_eq!(world.sum(Metric::EditsSkipped), 0);
    let lines: Vec<_> = world.metrics.replies.iter().filter(|line| line.event == "call").collect();
    let of_caller: Vec<_> = lines.iter().map(|line| line.trace_id.as_deref() == Some(ID)).collect();
    assert_eq!(of_caller, [true, true, false, true]);
}

/// The trace of a request that is stored before it goes on is of no other request that comes meanwhile.
#[test]
fn what_is_refused_while_another_request_comes_has_not_its_trace() {
    let retry = json!({"attempts": 1, "on": ["reset"]});
    let mut world = world_of_layout(json!({"tracing": {}, "defaultRoute": {"retry": retry}}));
    world.serve(|_, _| Reply::echo());
    let (client, other) = (world.connect(), world.connect_to("other", "other"));
    world.proxy.clients[other].wire = Rc::new(&WIDE);
    let parent = format!("00-{ID}-{SPAN}-01");
    let (call, mut bytes) = world.prepare(client, Ask::new(&parent).size(1 << 20));
    let rest = bytes.split_off(bytes.len() / 2);
    world.write(client, &bytes);
    world.run_for(Duration::from_millis(20));
    world.call_and_wait(other, Ask::new(REFUSED));
    world.write(client, &rest);
    world.await_all(&[call]);
    let lines: Vec<_> =
        world.metrics.replies.iter().map(|line| (line.event, line.trace_id.as_deref())).collect();
    assert_eq!(lines, [("call", None), ("local_reply", None), ("call", Some(ID))]);
}

#[test]
fn a_service_without_tracing_passes_on_what_it_got() {
    let mut world = world(&json!({}));
    let client = world.connect();
    let parent = format!("00-{ID}-{SPAN}-01");
    let call = world.call_and_wait(client, Ask::new("echo").with("traceparent", &parent));
    assert_eq!(said(&world, call, "traceparent"), [&*parent]);
    assert_eq!(world.metrics.replies[0].trace_id, None);
    assert_eq!(world.sum(Metric::EditsSkipped), 0);
}
