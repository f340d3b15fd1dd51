//! Ends, full clients and full windows while large messages pass.

use std::time::Duration;

use meltemi_proxy::Metric;
use serde_json::{Value, json};

use crate::dubbo::SERVER_TIMEOUT;
use crate::servers::{Endpoint, Policy, Reply, What};
use crate::wire::{Message, Response};
use crate::world::{Ask, Setup, World};

const A: &str = "10.0.0.1:20880";

const MIB: usize = 1 << 20;
const MS: Duration = Duration::from_millis(1);

/// The service `demo` with one server.
fn world(service: Value) -> World {
    let mut world = World::new(Setup::demo(service));
    world.cluster("demo", &[A], Policy::RoundRobin);
    world
}

/// Limits under which messages over 4 KiB are passed on while they come.
fn limits() -> Value {
    json!({"cutThroughBytes": 4096})
}

#[test]
fn a_one_way_request_is_delivered_whole_though_its_client_has_ended() {
    for size in (1..10).map(|halves| halves * MIB / 2) {
        let mut world = world(json!({"limits": limits()}));
        let client = world.connect();
        world.call_and_wait(client, Ask::new("echo"));
        for stream in world.manager.streams_to(A) {
            world.set_server_reading(stream, false);
        }
        let (call, bytes) = world.prepare(client, Ask::new("notify").size(size).one_way());
        world.write(client, &bytes);
        world.half_close(client);
        world.run_for(500 * MS);
        for stream in world.manager.streams_to(A) {
            world.set_server_reading(stream, true);
        }
        world.run_until(|world| world.proxy.clients[client].closed_at.is_some());
        world.run_for(100 * MS);
        assert_eq!(world.calls[call].deliveries.len(), 1, "{size} bytes");
    }
}

#[test]
fn a_client_that_is_to_leave_may_end_its_request_first() {
    let mut world = world(json!({"limits": limits()}));
    let client = world.connect();
    world.call_and_wait(client, Ask::new("echo"));
    let (call, mut bytes) = world.prepare(client, Ask::new("notify").size(MIB).one_way());
    let rest = bytes.split_off(MIB / 2);
    world.write(client, &bytes);
    world.run_for(20 * MS);
    world.set_plan(&json!({"services": {}}));
    world.run_for(5000 * MS);
    assert_eq!(world.proxy.clients[client].read_only, 1);
    world.write(client, &rest);
    world.run_for(5000 * MS);
    assert_eq!(world.calls[call].deliveries.len(), 1);
    assert!(world.proxy.clients[client].closed_at.is_some());
}

#[test]
fn two_large_answers_at_once_reach_a_client_that_reads() {
    let limits = json!({"cutThroughBytes": 4096, "maxFrameBytes": 64 << 20});
    let mut world = world(json!({"limits": limits, "upstream": {"maxCallsPerConnection": 1}}));
    world.serve(|arrival, _| match arrival.method {
        "large" => What::Echo(24 * MIB).now(),
        "other" => What::Echo(12 * MIB).now(),
        _ => Reply::echo(),
    });
    let client = world.connect();
    let calls = world.call_all(client, ["large", "other"].map(Ask::new));
    world.await_all(&calls);
    assert!(calls.iter().all(|&call| world.calls[call].endpoint() == Some(A)));
    assert_eq!(world.sum(Metric::ClientConnectionsGivenUp("unread_answers")), 0);
}

/// Where the only request is that has come in part.
fn sent_in_part(world: &World) -> u32 {
    let part = world.manager.connections.iter().filter(|(_, upstream)| upstream.received > 0);
    *part.max_by_key(|(_, upstream)| upstream.part().len()).unwrap().0
}

#[test]
fn an_answer_may_come_before_the_request_has_ended() {
    let mut world = world(json!({"limits": limits()}));
    let client = world.connect();
    for more in [0, 10_000] {
        let (call, mut bytes) = world.prepare(client, Ask::new("echo").size(MIB));
        let rest = bytes.split_off(MIB / 2);
        world.write(client, &bytes);
        world.run_for(20 * MS);
        let upstream = sent_in_part(&world);
        let part = world.manager.connections[&upstream].part();
        let id = u64::from_be_bytes(part[4..12].try_into().unwrap());
        let early = Response { id, error: Some(70), payload: vec![b'x'; more + 10], ..Response::default() };
        let answer = world.wire.bytes(&Message::Response(early));
        let (front, end) = answer.split_at(answer.len() / 2);
        world.write_upstream(upstream, front);
        world.run_for(20 * MS);
        world.write_upstream(upstream, end);
        world.await_all(&[call]);
        assert_eq!(world.calls[call].error(), Some(70));
        world.write(client, &rest);
        let next = world.call_and_wait(client, Ask::new("echo"));
        assert_eq!(world.calls[next].endpoint(), Some(A));
        assert_eq!(world.calls[call].deliveries.len(), 1, "the server saw all of it");
        assert_eq!(world.sum(Metric::InFlight), 0);
    }
}

#[test]
fn a_server_that_drains_in_the_middle_of_a_request_gets_its_end() {
    let mut world = world(json!({"limits": limits()}));
    let [client, other] = [(); 2].map(|()| world.connect());
    let (call, mut bytes) = world.prepare(client, Ask::new("echo").size(MIB));
    let rest = bytes.split_off(MIB / 2);
    world.write(client, &bytes);
    world.run_for(20 * MS);
    let upstream = sent_in_part(&world);
    let signs = [Message::ReadOnly, Message::Heartbeat { id: 9 }].map(|sign| world.wire.bytes(&sign));
    world.write_upstream(upstream, &signs.concat());
    world.run_for(20 * MS);
    let calls = world.call_all(other, (0..5).map(|_| Ask::new("echo")));
    world.await_all(&calls);
    world.write(client, &rest);
    world.await_all(&[call]);
    assert_eq!(world.calls[call].endpoint(), Some(A));
    world.run_for(20 * MS);
    assert!(!world.manager.connections.contains_key(&upstream), "it was closed behind its last answer");
}

#[test]
fn a_large_request_that_never_gets_a_connection_is_swallowed() {
    let mut world = world(json!({"limits": limits(), "defaultRoute": {"timeout": "100ms"}}));
    world.set_endpoint(A, Endpoint::Silent);
    let client = world.connect();
    let (call, mut bytes) = world.prepare(client, Ask::new("echo").size(MIB));
    let rest = bytes.split_off(MIB / 2);
    world.write(client, &bytes);
    world.await_all(&[call]);
    assert_eq!(world.calls[call].error(), Some(SERVER_TIMEOUT));
    world.set_endpoint(A, Endpoint::Up);
    world.run_for(6000 * MS);
    world.write(client, &rest);
    let next = world.call_and_wait(client, Ask::new("echo"));
    assert_eq!(world.calls[next].endpoint(), Some(A));
    assert_eq!((world.calls[call].deliveries.len(), world.sum(Metric::InFlight)), (0, 0));
}
