//! Deadlines, and the alarms that keep them.

use std::time::Duration;

use meltemi_proxy::Metric;
use serde_json::{Value, json};

use crate::dubbo::SERVER_TIMEOUT;
use crate::servers::{Policy, Reply, What};
use crate::world::{Ask, Setup, World};

const A: &str = "10.0.0.1:20880";

fn world(service: Value) -> World {
    let mut world = World::new(Setup::demo(service));
    world.cluster("demo", &[A], Policy::RoundRobin);
    world
}

fn slow_and_fast(world: &mut World, slow: What) {
    world.serve(move |arrival, _| match arrival.method {
        "slow" => slow.clone().after(Duration::from_millis(300)),
        _ => Reply::echo(),
    });
}

#[test]
fn a_call_out_of_time_is_answered_and_its_late_answer_dropped() {
    let mut world = world(json!({"defaultRoute": {"timeout": "200ms"}}));
    slow_and_fast(&mut world, What::Echo(0));
    let client = world.connect();
    world.call_and_wait(client, Ask::new("echo"));
    let call = world.call_and_wait(client, Ask::new("slow"));
    let answer = world.calls[call].answer.clone().unwrap();
    assert_eq!(answer.result, Err((SERVER_TIMEOUT, "meltemi: no answer within 200ms".to_owned())));
    let took = answer.at - world.calls[call].sent_at;
    assert!((200_000_000..210_000_000).contains(&took), "{took}");
    // The connection goes on, and the late answer reaches nobody.
    let calls: Vec<_> = (0..50).map(|_| world.call_and_wait(client, Ask::new("echo"))).collect();
    world.run_for(Duration::from_millis(500));
    assert!(calls.iter().all(|&call| world.calls[call].error().is_none()));
    assert_eq!(world.sum(Metric::UnmatchedResponses), 1);
    assert_eq!(world.sum(Metric::Timeouts), 1);
    assert_eq!(world.manager.asked.iter().filter(|asked| asked.chosen.is_some()).count(), 4);
}

#[test]
fn a_call_that_waits_for_a_connection_runs_out_of_time_too() {
    let mut world = world(json!({"defaultRoute": {"timeout": "100ms"}}));
    world.set_endpoint(A, crate::servers::Endpoint::Silent);
    let client = world.connect();
    let call = world.call_and_wait(client, Ask::new("echo"));
    assert_eq!(world.calls[call].error(), Some(SERVER_TIMEOUT));
    assert!(world.calls[call].deliveries.is_empty());
}

#[test]
fn a_call_that_gives_up_makes_room_for_one_that_waits() {
    let mut world = world(json!({
        "routes": [
            {"name": "slow", "match": [{"attributes": {"method": {"exact": "slow"}}}], "timeout": "100ms"},
        ],
        "upstream": {"maxCallsPerConnection": 1},
    }));
    slow_and_fast(&mut world, What::Nothing);
    let client = world.connect();
    world.call_and_wait(client, Ask::new("echo"));
    let slow = world.call(client, Ask::new("slow"));
    let next = world.call(client, Ask::new("echo"));
    world.await_all(&[slow, next]);
    assert_eq!(world.calls[slow].error(), Some(SERVER_TIMEOUT));
    assert_eq!(world.calls[next].error(), None);
}

#[test]
fn a_client_that_leaves_makes_room_for_a_call_that_waits() {
    let mut world = world(json!({"upstream": {"maxCallsPerConnection": 1}}));
    slow_and_fast(&mut world, What::Nothing);
    let clients = [world.connect(), world.connect()];
    world.call_and_wait(clients[0], Ask::new("echo"));
    world.call(clients[0], Ask::new("slow"));
    let next = world.call(clients[1], Ask::new("echo"));
    world.run_for(Duration::from_millis(50));
    assert!(world.calls[next].answer.is_none());
    world.leave(clients[0]);
    world.await_all(&[next]);
    assert_eq!(world.calls[next].error(), None);
}

#[test]
fn a_connection_whose_answers_never_come_is_renewed() {
    let mut world = world(json!({"defaultRoute": {"timeout": "50ms"}}));
    let client = world.connect();
    world.call_and_wait(client, Ask::new("echo"));
    let first = world.manager.streams_to(A);
    slow_and_fast(&mut world, What::Nothing);
    for _ in 0..10 {
        let calls = world.call_all(client, (0..30).map(|_| Ask::new("slow")));
        world.await_all(&calls);
    }
    let call = world.call_and_wait(client, Ask::new("echo"));
    assert_eq!(world.calls[call].error(), None);
    assert_ne!(world.manager.streams_to(A), first);
    assert_eq!(world.manager.open(), 1);
}

#[test]
fn many_deadlines_share_few_alarms() {
    let mut world = world(json!({"defaultRoute": {"timeout": "2s"}}));
    world.serve(|_, random| What::Echo(0).after(Duration::from_millis(random.between(1..50))));
    let client = world.connect();
    let mut calls = Vec::new();
    for _ in 0..4000 {
        calls.push(world.call(client, Ask::new("echo")));
        world.run_for(Duration::from_millis(5));
    }
    world.await_all(&calls);
    assert!(calls.iter().all(|&call| world.calls[call].error().is_none()));
    // Twenty seconds of deadlines two seconds away, and of counts that are reported four times a second.
    assert!(world.manager.alarms_set < 120, "{} alarms", world.manager.alarms_set);
}

#[test]
fn without_a_route_for_alarms_the_worker_does_not_spin() {
    let mut world = world(json!({"idleTimeout": "10s", "defaultRoute": {"timeout": "200ms"}}));
    world.manager.has_alarms = false;
    slow_and_fast(&mut world, What::Nothing);
    let client = world.connect();
    let slow = world.call(client, Ask::new("slow"));
    world.run_for(Duration::from_secs(3));
    assert!(world.manager.alarms_set < 10, "{} alarms", world.manager.alarms_set);
    // Deadlines are kept when something else happens.
    let call = world.call_and_wait(client, Ask::new("echo"));
    assert_eq!(world.calls[call].error(), None);
    assert_eq!(world.calls[slow].error(), Some(SERVER_TIMEOUT));
    for _ in 0..500 {
        world.call_and_wait(client, Ask::new("echo"));
        world.run_for(Duration::from_millis(5));
    }
    assert!(world.manager.alarms_set < 20, "{} alarms", world.manager.alarms_set);
}

#[test]
fn an_idle_client_is_closed_and_a_busy_one_is_not() {
    let mut world = world(json!({"idleTimeout": "1s"}));
    world.serve(|_, _| What::Echo(0).after(Duration::from_secs(3)));
    let clients = [world.connect(), world.connect()];
    let call = world.call(clients[0], Ask::new("slow"));
    world.run_for(Duration::from_millis(1100));
    assert!(world.proxy.clients[clients[1]].closed_at.is_some());
    world.await_all(&[call]);
    assert_eq!(world.calls[call].error(), None);
    assert!(world.proxy.clients[clients[0]].closed_at.is_none());
    world.run_until(|world| world.proxy.clients[clients[0]].closed_at.is_some());
    let answered = world.calls[call].answer.as_ref().unwrap().at;
    let idle = world.proxy.clients[clients[0]].closed_at.unwrap() - answered;
    assert!((1_000_000_000..1_020_000_000).contains(&idle), "{idle}");
}

#[test]
fn a_client_that_sends_heartbeats_is_not_idle() {
    let mut world = world(json!({"idleTimeout": "1s"}));
    let client = world.connect();
    for _ in 0..5 {
        world.run_for(Duration::from_millis(800));
        world.heartbeat(client);
    }
    world.run_for(Duration::from_millis(800));
    assert!(world.proxy.clients[client].closed_at.is_none());
    assert_eq!(world.proxy.clients[client].heartbeats_answered, 5);
    world.run_for(Duration::from_millis(300));
    assert!(world.proxy.clients[client].closed_at.is_some());
}

#[test]
fn a_connection_that_is_not_answered_in_time_is_given_up() {
    let mut world = world(json!({"upstream": {"connectTimeout": "300ms"}}));
    world.set_endpoint(A, crate::servers::Endpoint::Silent);
    let client = world.connect();
    let call = world.call_and_wait(client, Ask::new("echo"));
    let (_, text) = world.calls[call].answer.as_ref().unwrap().result.clone().unwrap_err();
    assert!(text.contains("the connect timeout has passed"), "{text}");
    world.run_for(Duration::from_secs(1));
    assert_eq!(world.sum(Metric::UpstreamConnectionsActive), 0);
}
