//! Protocols with small request ids, and with none.

use std::rc::Rc;
use std::time::Duration;

use meltemi_proxy::Metric;
use serde_json::{Value, json};

use crate::servers::{Policy, Reply, What};
use crate::toy::{FAILED, NARROW, ORDERED, PIPELINED, REFUSED, Toy, WIDE};
use crate::wire::{Message, Response, Wire};
use crate::world::{Ask, Setup, World};

const A: &str = "10.0.0.1:20880";
const B: &str = "10.0.0.2:20880";

fn world(protocol: &'static Toy, service: Value) -> World {
    let mut service = service;
    service["protocol"] = json!(meltemi_codecs::Codec::name(protocol));
    let plan = json!({"services": {"demo": service}});
    let mut world = World::new(Setup { wire: Rc::new(protocol), plan, ..Setup::default() });
    world.cluster("demo", &[A], Policy::RoundRobin);
    world
}

#[test]
fn ids_of_32_bits_are_enough_for_every_call() {
    let mut world = world(&WIDE, json!({"upstream": {"maxCallsPerConnection": 100_000}}));
    world.serve(|_, random| What::Echo(0).after(Duration::from_millis(random.between(1..50))));
    let client = world.connect();
    for _ in 0..20 {
        let calls = world.call_all(client, (0..2000).map(|_| Ask::new("echo").size(8)));
        world.await_all(&calls);
        assert!(calls.iter().all(|&call| world.calls[call].error().is_none()));
    }
}

#[test]
fn calls_wait_when_all_ids_of_8_bits_are_in_use() {
    let mut world = world(&NARROW, json!({}));
    world.serve(|_, _| What::Echo(0).after(Duration::from_millis(20)));
    let clients = [world.connect(), world.connect(), world.connect(), world.connect()];
    world.call_and_wait(clients[0], Ask::new("echo"));
    let mut calls = Vec::new();
    for client in clients {
        calls.extend(world.call_all(client, (0..200).map(|_| Ask::new("echo"))));
    }
    world.await_all(&calls);
    assert!(calls.iter().all(|&call| world.calls[call].error().is_none()));
}

#[test]
fn a_late_answer_finds_nobody_however_few_ids_there_are() {
    let mut world = world(
        &NARROW,
        json!({"routes": [
            {"name": "late", "match": [{"attributes": {"method": {"exact": "late"}}}], "timeout": "20ms"},
        ]}),
    );
    world.serve(|arrival, _| match arrival.method {
        "late" => What::Echo(0).after(Duration::from_millis(300)),
        _ => Reply::echo(),
    });
    let client = world.connect();
    world.call_and_wait(client, Ask::new("echo"));
    let late = world.call_all(client, (0..40).map(|_| Ask::new("late")));
    world.await_all(&late);
    assert!(late.iter().all(|&call| world.calls[call].error() == Some(FAILED)));
    for _ in 0..20 {
        let calls = world.call_all(client, (0..100).map(|_| Ask::new("echo")));
        world.await_all(&calls);
        world.run_for(Duration::from_millis(15));
    }
    assert_eq!(world.sum(Metric::UnmatchedResponses), 40);
    assert_eq!(world.manager.open(), 1);
}

#[test]
fn without_ids_a_client_gets_its_answers_in_the_order_of_its_calls() {
    let mut world = world(&ORDERED, json!({}));
    world.cluster("demo", &[A, B], Policy::RoundRobin);
    world.serve(|_, random| What::Echo(0).after(Duration::from_millis(random.between(1..20))));
    let clients = [world.connect(), world.connect(), world.connect()];
    let mut calls = Vec::new();
    for client in clients {
        calls.extend(world.call_all(client, (0..30).map(|_| Ask::new("echo"))));
    }
    world.await_all(&calls);
    assert!(calls.iter().all(|&call| world.calls[call].error().is_none()));
}

#[test]
fn without_ids_a_connection_has_one_call_at_a_time() {
    let mut world = world(&ORDERED, json!({}));
    world.serve(|_, _| What::Echo(0).after(Duration::from_millis(20)));
    let clients: Vec<usize> = (0..30).map(|_| world.connect()).collect();
    for _ in 0..3 {
        let calls: Vec<usize> = clients.iter().map(|&client| world.call(client, Ask::new("echo"))).collect();
        for _ in 0..40 {
            world.run_for(Duration::from_millis(1));
            assert!(world.manager.connections.values().all(|upstream| upstream.in_flight <= 1));
        }
        world.await_all(&calls);
    }
    // As many connections as there were calls at a time, and no more: they are used again.
    assert_eq!(world.manager.open(), 30);
    assert_eq!(world.manager.asked.len(), 30);
}

#[test]
fn without_ids_a_connection_whose_call_was_given_up_is_closed() {
    let mut world = world(&ORDERED, json!({"defaultRoute": {"timeout": "50ms"}}));
    world.serve(|arrival, _| match arrival.method {
        "late" => What::Echo(0).after(Duration::from_millis(100)),
        _ => Reply::echo(),
    });
    let client = world.connect();
    let calls = world.call_all(client, ["late", "echo", "late", "echo"].map(Ask::new));
    world.await_all(&calls);
    let errors: Vec<_> = calls.iter().map(|&call| world.calls[call].error()).collect();
    assert_eq!(errors, [Some(FAILED), None, Some(FAILED), None]);
    world.run_for(Duration::from_millis(200));
    assert_eq!(world.sum(Metric::UnmatchedResponses), 0);
    assert_eq!(world.manager.open(), 1);
}

#[test]
fn calls_in_order_share_a_connection() {
    let mut world = world(&PIPELINED, json!({}));
    world.serve(|_, random| What::Echo(0).after(Duration::from_millis(random.between(20..30))));
    let first = world.connect();
    world.call_and_wait(first, Ask::new("echo"));
    let clients: Vec<usize> = (0..30).map(|_| world.connect()).collect();
    for _ in 0..10 {
        let calls: Vec<usize> = clients.iter().map(|&client| world.call(client, Ask::new("echo"))).collect();
        world.run_for(Duration::from_millis(15));
        assert_eq!(world.manager.connections.values().map(|upstream| upstream.in_flight).max(), Some(30));
        world.await_all(&calls);
        assert!(calls.iter().all(|&call| world.calls[call].error().is_none()));
    }
    assert_eq!(world.manager.open(), 1);
}

#[test]
fn no_call_comes_after_one_in_order_that_was_given_up() {
    let mut world = world(&PIPELINED, json!({"defaultRoute": {"timeout": "50ms"}}));
    world.serve(|arrival, _| match arrival.method {
        "late" => What::Echo(0).after(Duration::from_millis(80)),
        _ => What::Echo(0).after(Duration::from_millis(1)),
    });
    let [late, behind, after] = [world.connect(), world.connect(), world.connect()];
    world.call_and_wait(behind, Ask::new("echo"));
    let late = world.call(late, Ask::new("late"));
    world.run_for(Duration::from_millis(40));
    let behind = world.call(behind, Ask::new("echo"));
    world.await_all(&[late]);
    let after = world.call(after, Ask::new("echo"));
    world.await_all(&[behind, after]);
    let errors = [late, behind, after].map(|call| world.calls[call].error());
    assert_eq!(errors, [Some(FAILED), None, None]);
    assert_eq!(
        world.sum(Metric::UnmatchedResponses),
        1,
        "the late answer, before that of the call behind it"
    );
    world.run_for(Duration::from_millis(200));
    assert_eq!(world.manager.open(), 1, "the first was closed with its last answer");
}

#[test]
fn attachments_that_a_protocol_does_not_have_are_left_out() {
    let mut world = world(
        &WIDE,
        json!({"defaultRoute": {
            "requestAttachments": {"set": {"a": "b"}},
            "responseAttachments": {"set": {"a": "b"}},
        }}),
    );
    let client = world.connect();
    let call = world.call_and_wait(client, Ask::new("echo"));
    assert_eq!(world.calls[call].error(), None);
    assert_eq!(world.sum(Metric::EditsSkipped), 2);
}

#[test]
fn without_ids_an_answer_that_nobody_waits_for_ends_its_connection() {
    let bogus = Response { payload: b"bogus".to_vec(), ..Default::default() };
    let bogus = (&ORDERED).bytes(&Message::Response(bogus));
    // All of it before the next call, or a part.
    let counts = [bogus.len(), bogus.len() / 2, 1];
    for (protocol, count) in [&ORDERED, &PIPELINED].into_iter().flat_map(|toy| counts.map(|n| (toy, n))) {
        let mut world = world(protocol, json!({}));
        let [first, second] = [world.connect(), world.connect()];
        world.call_and_wait(first, Ask::new("echo"));
        let stream = world.manager.streams_to(A)[0];
        world.write_upstream(stream, &bogus[..count]);
        world.run_for(Duration::from_millis(1));
        world.serve(|_, _| What::Echo(0).after(Duration::from_millis(50)));
        let call = world.call(second, Ask::new("echo"));
        world.run_for(Duration::from_millis(10));
        if world.manager.connections.contains_key(&stream) {
            world.write_upstream(stream, &bogus[count..]);
        }
        world.await_all(&[call]);
        assert_eq!(world.calls[call].error(), None);
        assert_eq!(world.manager.open(), 1);
        assert!(!world.manager.connections.contains_key(&stream));
    }
}

#[test]
fn without_ids_a_connection_that_is_free_is_found_among_many_that_are_not() {
    let mut world = world(&ORDERED, json!({}));
    world.serve(|arrival, _| match arrival.method {
        "never" => What::Nothing.now(),
        _ => What::Echo(0).after(Duration::from_millis(50)),
    });
    for n in 0..80 {
        let client = world.connect();
        world.call(client, Ask::new(if n < 60 { "never" } else { "echo" }));
    }
    world.run_for(Duration::from_secs(1));
    let connections = world.manager.open();
    for _ in 0..200 {
        let client = world.connect();
        world.call_and_wait(client, Ask::new("echo"));
    }
    assert_eq!(world.manager.open(), connections);
}

#[test]
fn a_call_that_the_codec_cannot_carry_is_answered_and_others_go_on() {
    let mut world = world(&WIDE, json!({}));
    let client = world.connect();
    let calls = world.call_all(client, [Ask::new("echo"), Ask::new(REFUSED), Ask::new("echo")]);
    world.await_all(&calls);
    assert_eq!(
        calls.iter().map(|&call| world.calls[call].error()).collect::<Vec<_>>(),
        [None, Some(FAILED), None]
    );
    assert_eq!(world.served().get(A), Some(&2));
    assert_eq!(world.sum(Metric::Requests), 3);
}
