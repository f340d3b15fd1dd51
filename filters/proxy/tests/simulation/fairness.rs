//! Whose call is next when there are more than servers take.

use std::time::Duration;

use meltemi_proxy::Metric;
use serde_json::{Value, json};

use crate::dubbo::DubboWire;
use crate::servers::{Policy, What};
use crate::toy::ORDERED;
use crate::wire::Wire;
use crate::world::{Ask, Setup, World};

const A: &str = "10.0.0.1:20880";

const MS: u64 = 1_000_000;

/// A service whose calls take ten milliseconds.
fn world(wire: impl Wire + 'static, service: Value) -> World {
    let mut service = service;
    service["protocol"] = json!(wire.codec().name());
    let plan = json!({"services": {"demo": service}});
    let mut world = World::new(Setup { plan, wire: std::rc::Rc::new(wire), ..Setup::default() });
    world.cluster("demo", &[A], Policy::RoundRobin);
    world.serve(|_, _| What::Echo(0).after(Duration::from_millis(10)));
    let client = world.connect();
    world.call_and_wait(client, Ask::new("warm-up"));
    world
}

fn took(world: &World, call: usize) -> u64 {
    world.calls[call].answer.as_ref().expect("an answer").at - world.calls[call].sent_at
}

/// How many of these calls a server got after `since`.
fn delivered_since(world: &World, calls: &[usize], since: u64) -> usize {
    let deliveries = calls.iter().flat_map(|&call| &world.calls[call].deliveries);
    deliveries.filter(|delivery| delivery.at > since).count()
}

#[test]
fn a_call_beside_a_client_that_saturates_the_servers_waits_its_turn_and_no_more() {
    let mut world = world(DubboWire, json!({}));
    let (heavy, light) = (world.connect(), world.connect());
    let calls = world.call_all(heavy, (0..12_000).map(|_| Ask::new("echo").size(8)));
    world.run_for(Duration::from_millis(5));
    for _ in 0..5 {
        let call = world.call_and_wait(light, Ask::new("echo"));
        assert!(took(&world, call) < 60 * MS, "{} ns", took(&world, call));
    }
    assert!(calls.iter().any(|&call| world.calls[call].answer.is_none()), "it saturated them all the time");
    world.await_all(&calls);
}

#[test]
fn a_call_beside_clients_that_saturate_the_servers_one_call_at_a_time_waits_its_turn() {
    let mut world = world(&ORDERED, json!({}));
    let heavy: Vec<usize> = (0..1500).map(|_| world.connect()).collect();
    let light = world.connect();
    for &client in &heavy {
        world.call_all(client, (0..12).map(|_| Ask::new("echo").size(8)));
    }
    world.run_for(Duration::from_millis(5));
    for _ in 0..5 {
        let call = world.call_and_wait(light, Ask::new("echo"));
        assert!(took(&world, call) < 60 * MS, "{} ns", took(&world, call));
    }
    assert!(world.calls.iter().any(|call| call.answer.is_none()), "they saturated them all the time");
}

#[test]
fn waiting_calls_are_taken_by_client_in_turn_and_in_their_order() {
    let mut world = world(DubboWire, json!({"upstream": {"maxCallsPerConnection": 1}}));
    let clients = [world.connect(), world.connect(), world.connect()];
    world.call(clients[0], Ask::new("first"));
    world.run_for(Duration::from_millis(1));
    let counts = [5, 2, 3];
    let calls: Vec<Vec<usize>> = clients
        .iter()
        .zip(counts)
        .map(|(&client, count)| {
            let calls = world.call_all(client, (0..count).map(|_| Ask::new("echo")));
            world.run_for(Duration::from_micros(100));
            calls
        })
        .collect();
    world.await_all(&calls.concat());
    let mut order = calls.concat();
    order.sort_by_key(|&call| world.calls[call].deliveries[0].at);
    let turns: Vec<usize> =
        order.iter().map(|&call| calls.iter().position(|calls| calls.contains(&call)).unwrap()).collect();
    assert_eq!(turns, [0, 1, 2, 0, 1, 2, 0, 2, 0, 0]);
    for calls in calls {
        let of_client: Vec<usize> = order.iter().copied().filter(|call| calls.contains(call)).collect();
        assert_eq!(of_client, calls);
    }
}

#[test]
fn a_client_with_a_backlog_overtakes_nobody_that_waits() {
    let limits = json!({"maxCallsPerConnection": 4});
    let mut world = world(DubboWire, json!({"limits": limits, "upstream": {"maxCallsPerConnection": 2}}));
    let (heavy, light) = (world.connect(), world.connect());
    let calls = world.call_all(heavy, (0..40).map(|_| Ask::new("echo")));
    world.run_for(Duration::from_millis(1));
    let call = world.call_and_wait(light, Ask::new("echo"));
    // What was in flight, and its turn.
    assert!(took(&world, call) < 25 * MS, "{} ns", took(&world, call));
    let overtook = delivered_since(&world, &calls, world.calls[call].sent_at);
    assert!(overtook <= 6, "{overtook} calls overtook it or came after it");
    world.await_all(&calls);
}

#[test]
fn nothing_of_a_client_that_left_is_carried_out_later() {
    let mut world = world(DubboWire, json!({"upstream": {"maxCallsPerConnection": 1}}));
    let client = world.connect();
    let calls = world.call_all(
        client,
        (0..200).map(|n| match n % 3 {
            1 => Ask::new("log").one_way(),
            _ => Ask::new("echo"),
        }),
    );
    world.run_for(Duration::from_millis(5));
    assert_eq!(delivered_since(&world, &calls, 0), 1);
    world.leave(client);
    world.run_for(Duration::from_secs(1));
    assert_eq!(delivered_since(&world, &calls, 0), 1);
    assert_eq!(world.sum(Metric::Cancelled), 200);
    let other = world.connect();
    let call = world.call_and_wait(other, Ask::new("echo"));
    assert_eq!(world.calls[call].error(), None);
    assert_eq!(world.sum(Metric::InFlight), 0);
}

#[test]
fn calls_that_ran_out_of_time_waiting_take_no_turns() {
    let service = json!({"upstream": {"maxCallsPerConnection": 1}, "defaultRoute": {"timeout": "30ms"}});
    let mut world = world(DubboWire, service);
    let (heavy, light) = (world.connect(), world.connect());
    let calls = world.call_all(heavy, (0..100).map(|_| Ask::new("echo")));
    world.run_for(Duration::from_millis(100));
    let answered = calls.iter().filter(|&&call| world.calls[call].error().is_none()).count();
    assert!((2..=4).contains(&answered), "{answered} were carried out in time");
    assert_eq!(delivered_since(&world, &calls, 0), answered + 1);
    // The one whose answer nobody waits for any more has left its place.
    for client in [light, heavy] {
        let call = world.call_and_wait(client, Ask::new("echo"));
        assert_eq!(world.calls[call].error(), None);
        assert!(took(&world, call) < 15 * MS);
    }
}
