//! Large messages are passed on while they come, and whoever stops in the middle of one harms nobody else.

use std::time::Duration;

use meltemi_proxy::Metric;
use serde_json::{Value, json};

use crate::dubbo::{SERVER_ERROR, SERVER_TIMEOUT};
use crate::servers::{Policy, Reply, What};
use crate::world::{Ask, Setup, World};

const A: &str = "10.0.0.1:20880";

const MIB: usize = 1 << 20;
const MS: Duration = Duration::from_millis(1);

/// The service `demo` with one server; "late" is answered after a second.
fn world(service: Value) -> World {
    let mut world = World::new(Setup::demo(service));
    world.cluster("demo", &[A], Policy::RoundRobin);
    world.serve(|arrival, _| match arrival.method {
        "late" => What::Echo(0).after(1000 * MS),
        "halting" => What::Halting(5).now(),
        "torn" => What::Torn(5).now(),
        _ => Reply::echo(),
    });
    world
}

/// Limits under which messages over 4 KiB are passed on while they come.
fn limits() -> Value {
    json!({"cutThroughBytes": 4096})
}

/// A client that sends the first half of a large request; the call and the other half.
fn half(world: &mut World, client: usize, size: usize) -> (usize, Vec<u8>) {
    let (call, mut bytes) = world.prepare(client, Ask::new("echo").size(size));
    let rest = bytes.split_off(bytes.len() / 2);
    world.write(client, &bytes);
    world.run_for(20 * MS);
    (call, rest)
}

fn received(world: &World) -> usize {
    world.manager.connections.values().map(|upstream| upstream.received).sum()
}

#[test]
fn a_request_leaves_while_it_comes() {
    let mut world = world(json!({"limits": limits()}));
    let client = world.connect();
    let (call, rest) = half(&mut world, client, MIB);
    assert!(received(&world) >= MIB / 2, "{} bytes have arrived", received(&world));
    assert!(world.kept() < 64 << 10, "{} bytes are kept", world.kept());
    world.write(client, &rest);
    world.await_all(&[call]);
    assert_eq!(world.calls[call].endpoint(), Some(A));
}

#[test]
fn what_is_to_be_sent_again_copied_or_changed_is_stored_first() {
    for route in [
        json!({"retry": {"attempts": 1, "on": ["reset"]}}),
        json!({"requestAttachments": {"set": {"via": "meltemi"}}}),
        json!({"mirrors": [{"cluster": "shadow"}]}),
    ] {
        let mut world = world(json!({"limits": limits(), "defaultRoute": route}));
        let client = world.connect();
        let (call, rest) = half(&mut world, client, MIB);
        assert_eq!(received(&world), 0);
        world.write(client, &rest);
        world.await_all(&[call]);
        assert_eq!(world.calls[call].endpoint(), Some(A));
    }
}

#[test]
fn others_go_elsewhere_while_a_request_comes_and_lose_nothing_when_it_never_ends() {
    let mut world = world(json!({"limits": limits()}));
    let [client, other] = [(); 2].map(|()| world.connect());
    let late = world.call(other, Ask::new("late"));
    world.run_for(20 * MS);
    let (torn, _) = half(&mut world, client, MIB);
    let shared = world.manager.streams_to(A);
    let calls = world.call_all(other, (0..20).map(|_| Ask::new("echo")));
    world.await_all(&calls);
    assert!(world.manager.streams_to(A).len() > shared.len(), "they had a connection of their own");
    world.leave(client);
    let calls = world.call_all(other, (0..20).map(|_| Ask::new("echo")));
    world.await_all(&calls);
    world.await_all(&[late]);
    assert!(world.calls.iter().skip(torn + 1).all(|call| call.error().is_none()));
    assert_eq!(world.calls[late].endpoint(), Some(A));
    assert!(world.calls[torn].deliveries.is_empty());
    assert_eq!(world.proxy.clients[other].reset, None);
    assert_eq!(world.sum(Metric::InFlight), 0);
}

#[test]
fn small_requests_share_one_connection_again_when_large_ones_have_come() {
    let mut world = world(json!({"limits": limits()}));
    let clients = [(); 4].map(|()| world.connect());
    let halves = clients.map(|client| half(&mut world, client, MIB));
    for (client, (call, rest)) in clients.into_iter().zip(halves) {
        world.write(client, &rest);
        world.await_all(&[call]);
    }
    assert!(world.manager.streams_to(A).len() >= 4, "each had a connection of its own");
    let received = |world: &World| -> Vec<usize> {
        world.manager.connections.values().map(|upstream| upstream.received).collect()
    };
    for _ in 0..3 {
        let before = received(&world);
        let calls = world.call_all(clients[0], (0..20).map(|_| Ask::new("echo")));
        world.await_all(&calls);
        let after = received(&world);
        assert_eq!(before.iter().zip(&after).filter(|(before, after)| after > before).count(), 1);
        // What took its place is used as it was.
        let first = before.iter().zip(&after).position(|(before, after)| after > before).unwrap();
        let streams: Vec<u32> = world.manager.connections.keys().copied().collect();
        world.close_upstream(streams[first], true);
        world.run_for(20 * MS);
    }
}

#[test]
fn a_client_that_ends_in_the_middle_of_a_request_gets_its_other_answers() {
    let mut world = world(json!({"limits": limits()}));
    let client = world.connect();
    let late = world.call(client, Ask::new("late"));
    half(&mut world, client, MIB);
    world.half_close(client);
    world.await_all(&[late]);
    assert_eq!(world.calls[late].endpoint(), Some(A));
    world.run_until(|world| world.proxy.clients[client].closed_at.is_some());
    assert_eq!(world.sum(Metric::InFlight), 0);
}

#[test]
fn a_client_that_stalls_in_the_middle_of_a_request_is_given_up() {
    let mut world = world(json!({"limits": limits(), "frameTimeout": "2s"}));
    let client = world.connect();
    let (call, _) = half(&mut world, client, MIB);
    world.await_all(&[call]);
    assert_eq!(world.calls[call].error(), Some(SERVER_TIMEOUT));
    assert_eq!(world.sum(Metric::ClientConnectionsGivenUp("incomplete_request")), 1);
    assert_eq!(world.manager.connections.values().filter(|upstream| upstream.in_flight > 0).count(), 0);
}

#[test]
fn a_request_that_comes_too_slowly_times_out_and_its_rest_goes_on() {
    let mut world = world(json!({"limits": limits(), "defaultRoute": {"timeout": "100ms"}}));
    let client = world.connect();
    let (call, rest) = half(&mut world, client, MIB);
    world.await_all(&[call]);
    assert_eq!(world.calls[call].error(), Some(SERVER_TIMEOUT));
    world.write(client, &rest);
    let next = world.call_and_wait(client, Ask::new("echo"));
    assert_eq!(world.calls[next].endpoint(), Some(A));
    assert_eq!(world.calls[call].deliveries.len(), 1, "the server saw all of it");
    assert_eq!(world.manager.streams_to(A).len(), world.manager.open(), "no connection was given up");
}

#[test]
fn what_still_comes_of_a_refused_request_is_swallowed() {
    let reject = json!({"limits": limits(), "defaultRoute": {"reject": {}}});
    let mut world = world(reject);
    let client = world.connect();
    let (call, rest) = half(&mut world, client, MIB);
    assert!(world.calls[call].error().is_some());
    world.write(client, &rest);
    world.set_plan(&json!({"services": {"demo": {"protocol": "dubbo"}}}));
    let next = world.call_and_wait(client, Ask::new("echo"));
    assert_eq!(world.calls[next].endpoint(), Some(A));
}

#[test]
fn a_server_that_dies_while_a_request_comes_fails_that_call_alone() {
    let mut world = world(json!({"limits": limits()}));
    let client = world.connect();
    let (call, rest) = half(&mut world, client, MIB);
    let stream =
        world.manager.streams_to(A).into_iter().find(|stream| world.manager.connections[stream].received > 0);
    world.close_upstream(stream.unwrap(), true);
    world.await_all(&[call]);
    assert!(world.calls[call].error().is_some());
    world.write(client, &rest);
    let next = world.call_and_wait(client, Ask::new("echo"));
    assert_eq!(world.calls[next].endpoint(), Some(A));
}

#[test]
fn other_answers_wait_behind_one_that_comes() {
    let mut world = world(json!({"limits": limits()}));
    let [client, other] = [(); 2].map(|()| world.connect());
    let large = world.call(client, Ask::new("halting"));
    world.run_until(|world| world.proxy.clients[client].received > 0);
    assert!(world.calls[large].answer.is_none(), "a part of it came");
    let small = world.call_and_wait(client, Ask::new("echo"));
    let at = |world: &World, call: usize| world.calls[call].answer.as_ref().unwrap().at;
    assert!(at(&world, large) <= at(&world, small));
    let calls = world.call_all(other, (0..20).map(|_| Ask::new("halting")));
    world.await_all(&calls);
    assert!(world.calls.iter().all(|call| call.error().is_none()));
}

#[test]
fn a_torn_answer_resets_its_client_and_no_other() {
    let mut world = world(json!({"limits": limits()}));
    let [client, other] = [(); 2].map(|()| world.connect());
    let late = world.call(other, Ask::new("late"));
    let torn = world.call(client, Ask::new("torn"));
    world.run_until(|world| world.proxy.clients[client].reset.is_some());
    assert!(world.calls[torn].answer.is_none());
    assert_eq!(world.sum(Metric::ClientConnectionsGivenUp("torn_answer")), 1);
    let calls = world.call_all(other, (0..20).map(|_| Ask::new("echo")));
    world.await_all(&calls);
    assert_eq!(world.proxy.clients[other].reset, None);
    // It was on the connection that was lost.
    world.await_all(&[late]);
}

#[test]
fn a_server_that_stalls_in_the_middle_of_an_answer_costs_its_client_alone() {
    let mut world = world(json!({"limits": limits(), "frameTimeout": "2s"}));
    world.serve(|arrival, _| match arrival.method {
        "stalls" => What::Raw(crate::dubbo::part_of_answer(0x1_0001, 100_000, 50_000)).now(),
        _ => Reply::echo(),
    });
    let client = world.connect();
    let call = world.call(client, Ask::new("stalls"));
    world.run_until(|world| world.proxy.clients[client].reset.is_some());
    assert!(world.calls[call].answer.is_none());
    assert_eq!(world.sum(Metric::ClientConnectionsGivenUp("torn_answer")), 1);
    // Its connection is not used any more: what followed would be taken for the rest of the answer.
    let other = world.connect();
    let calls = world.call_all(other, (0..20).map(|_| Ask::new("echo")));
    world.await_all(&calls);
}

#[test]
fn the_middle_of_an_answer_passes_unread() {
    let mut world = world(json!({"limits": limits()}));
    let [client, other] = [(); 2].map(|()| world.connect());
    let calls = [client, other].map(|client| world.call(client, Ask::new("echo").size(4 * MIB)));
    world.await_all(&calls);
    let frames = 2 * 4 * MIB / 16_384;
    assert!(world.passed_unread as usize > frames / 8, "{} of {frames} frames", world.passed_unread);
    world.call_and_wait(client, Ask::new("echo"));
    assert!(world.kept() < 1024, "{} bytes are kept", world.kept());
}

#[test]
fn errors_are_read_whole_for_they_may_be_retried() {
    let on = json!({"attempts": 1, "on": ["status"], "statuses": ["SERVER_ERROR"]});
    let mut world = world(json!({"limits": limits(), "defaultRoute": {"retry": on}}));
    world
        .serve(|arrival, _| if arrival.times == 1 { What::Error(SERVER_ERROR).now() } else { Reply::echo() });
    let client = world.connect();
    let call = world.call_and_wait(client, Ask::new("echo").size(MIB));
    assert_eq!((world.calls[call].endpoint(), world.calls[call].deliveries.len()), (Some(A), 2));
}

#[test]
fn large_messages_take_little_memory_and_connections_go_again() {
    let mut world = world(json!({"limits": limits(), "upstream": {"maxConnectionAge": "1s"}}));
    let clients: Vec<usize> = (0..16).map(|_| world.connect()).collect();
    let halves: Vec<_> = clients.iter().map(|&client| half(&mut world, client, 4 * MIB)).collect();
    assert_eq!(received(&world) / (2 * MIB), 16);
    assert!(world.manager.open() >= 16);
    assert!(world.kept() < 2 * MIB, "{} KiB are kept", world.kept() >> 10);
    let mut most = 0;
    for ((_, rest), &client) in halves.iter().zip(&clients) {
        world.write(client, rest);
        // The answers do not come all at the same moment.
        for _ in 0..10 {
            world.run_for(MS / 10);
            most = most.max(world.kept());
        }
    }
    while halves.iter().any(|&(call, _)| world.calls[call].answer.is_none()) {
        world.run_for(MS / 10);
        most = most.max(world.kept());
    }
    assert!(most < 24 * MIB, "{} KiB were kept", most >> 10);
    assert!(halves.iter().all(|&(call, _)| world.calls[call].endpoint() == Some(A)));
    for _ in 0..5 {
        world.call_and_wait(clients[0], Ask::new("echo"));
        world.run_for(1000 * MS);
    }
    assert!(world.manager.open() <= 2, "{} connections", world.manager.open());
}
