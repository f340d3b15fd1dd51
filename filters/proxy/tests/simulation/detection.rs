//! Services of which the first bytes of a connection tell the protocol.

use std::time::Duration;

use meltemi_proxy::Metric;
use serde_json::{Value, json};

use crate::random::Random;
use crate::servers::{Endpoint, Policy};
use crate::toy::WIDE;
use crate::wire::{Message, Request, Wire};
use crate::world::{Ask, Setup, World};

const A: &str = "10.0.0.1:20880";
const B: &str = "10.0.0.2:20880";

/// A world whose service may speak Dubbo, or the toy protocol.
fn world(mut service: Value) -> World {
    service["protocol"] = json!("auto");
    let plan = json!({"services": {"demo": service}});
    let mut world = World::new(Setup { plan, ..Setup::default() });
    world.cluster("demo", &[A], Policy::RoundRobin);
    world.cluster("other", &[B], Policy::RoundRobin);
    world
}

/// One with servers that read nothing, and a client whose bytes are its own.
fn raw(service: Value) -> (World, usize) {
    let mut world = world(service);
    world.manager.is_raw = true;
    let client = world.connect();
    world.proxy.clients[client].raw = Some(Vec::new());
    (world, client)
}

fn received(world: &World) -> Vec<u8> {
    let connections = world.manager.connections.values();
    connections.flat_map(|upstream| upstream.raw.clone().unwrap_or_default()).collect()
}

fn answered(world: &World, client: usize) -> &[u8] {
    world.proxy.clients[client].raw.as_deref().unwrap_or_default()
}

fn toy(method: &str) -> Vec<u8> {
    let request = Request { id: 7, is_two_way: true, method: method.to_owned(), ..Request::default() };
    (&WIDE).bytes(&Message::Request(request))
}

#[test]
fn calls_of_a_known_protocol_are_routed_by_what_they_say() {
    let routes =
        json!([{"name": "b", "match": [{"attributes": {"method": {"exact": "b"}}}], "cluster": "other"}]);
    let mut world = world(json!({"routes": routes}));
    let client = world.connect();
    let calls = world.call_all(client, ["a", "b", "a", "b"].map(Ask::new));
    world.await_all(&calls);
    let endpoints: Vec<_> = calls.iter().map(|call| world.calls[*call].endpoint().unwrap()).collect();
    assert_eq!(endpoints, [A, B, A, B]);
    assert_eq!(world.sum(Metric::Undetected("unknown_bytes")), 0);
    // What was opened for the case that it is no call is closed: one connection to each server is left.
    world.run_for(Duration::from_millis(10));
    assert_eq!(world.manager.open(), 2);
}

#[test]
fn a_call_is_known_however_its_first_bytes_come() {
    let mut world = world(json!({}));
    for cut in 1..40 {
        let client = world.connect();
        let (call, bytes) = world.prepare(client, Ask::new("echo"));
        world.write(client, &bytes[..cut]);
        world.run_for(Duration::from_millis(200));
        world.write(client, &bytes[cut..]);
        world.await_all(&[call]);
        assert_eq!(world.calls[call].error(), None, "cut at {cut}");
    }
}

#[test]
fn a_client_may_be_silent_before_it_calls() {
    let mut world = world(json!({}));
    let client = world.connect();
    world.run_for(Duration::from_secs(3600));
    let call = world.call_and_wait(client, Ask::new("echo"));
    assert_eq!(world.calls[call].error(), None);
    assert_eq!(world.sum(Metric::Requests), 1);
}

#[test]
fn several_protocols_are_told_apart() {
    let (mut world, client) = raw(json!({}));
    world.write(client, &toy("method-of-toy"));
    world.run_for(Duration::from_millis(10));
    assert_eq!(world.sum(Metric::ClientConnections), 1);
    // It is a call: its id is the proxy's own.
    let sent = received(&world);
    assert!(sent.len() == toy("method-of-toy").len() && sent != toy("method-of-toy"), "{sent:?}");
    // One that cannot be of that protocol passes.
    let (mut world, client) = raw(json!({"protocols": ["dubbo"]}));
    world.write(client, &toy("method-of-toy"));
    world.run_for(Duration::from_millis(10));
    assert_eq!((received(&world), world.sum(Metric::Undetected("unknown_bytes"))), (toy("method-of-toy"), 1));
}

#[test]
fn what_nobody_knows_passes_through_both_ways() {
    let (mut world, client) = raw(json!({}));
    world.write(client, b"GET / HTTP/1.1\r\n\r\n");
    world.run_for(Duration::from_millis(10));
    assert_eq!(received(&world), b"GET / HTTP/1.1\r\n\r\n");
    let stream = *world.manager.connections.keys().next_back().unwrap();
    world.write_upstream(stream, b"HTTP/1.1 200 OK\r\n\r\n");
    world.write(client, &toy("in the middle"));
    world.run_for(Duration::from_millis(10));
    assert_eq!(answered(&world, client), b"HTTP/1.1 200 OK\r\n\r\n");
    assert!(received(&world).ends_with(&toy("in the middle")));
    assert_eq!((world.sum(Metric::Undetected("unknown_bytes")), world.sum(Metric::Requests)), (1, 0));
    // A plan that comes later leaves it alone.
    world.set_plan(&json!({"services": {"demo": {"protocol": "auto", "idleTimeout": "1s"}}}));
    world.run_for(Duration::from_secs(3600));
    assert_eq!(world.proxy.clients[client].closed_at, None);
}

#[test]
fn a_server_that_speaks_first_is_heard_at_once() {
    let (mut world, client) = raw(json!({}));
    world.run_until(|world| world.manager.open() == 1);
    let stream = *world.manager.connections.keys().next_back().unwrap();
    world.write_upstream(stream, b"220 mail");
    world.run_for(Duration::from_millis(1));
    assert_eq!(answered(&world, client), b"220 mail");
    world.write(client, &toy("looks like a call"));
    world.run_for(Duration::from_millis(1));
    assert_eq!(received(&world), toy("looks like a call"));
    assert_eq!(world.sum(Metric::Undetected("server_first")), 1);
}

/// A client that answers its server's signs of life has said what it speaks, and its calls are routed.
#[test]
fn a_server_that_wants_signs_of_life_is_heard_and_calls_are_known() {
    let signs = [Message::Heartbeat { id: 5 }, Message::HeartbeatAnswer { id: 5 }, Message::ReadOnly];
    for (sign, answers) in signs.into_iter().flat_map(|sign| [(sign.clone(), false), (sign, true)]) {
        let mut world = world(json!({"defaultRoute": {"cluster": "other"}}));
        let client = world.connect();
        world.proxy.clients[client].hears_server = answers;
        if matches!(sign, Message::Heartbeat { .. }) && !answers {
            world.proxy.clients[client].raw = Some(Vec::new());
        }
        world.run_until(|world| world.manager.open() == 1);
        let stream = *world.manager.connections.keys().next_back().unwrap();
        let bytes = world.wire.bytes(&sign);
        world.write_upstream(stream, &bytes.repeat(2));
        world.run_for(Duration::from_millis(1));
        assert_eq!(world.proxy.clients[client].received, 2 * bytes.len(), "{sign:?}");
        world.proxy.clients[client].raw = None;
        let call = world.call_and_wait(client, Ask::new("echo"));
        assert_eq!(world.calls[call].endpoint(), Some(B), "{sign:?}");
        assert_eq!(world.sum(Metric::Undetected("server_first")), 0);
    }
    // Of one protocol, which is then its client's.
    let (mut world, client) = raw(json!({}));
    world.run_until(|world| world.manager.open() == 1);
    let stream = *world.manager.connections.keys().next_back().unwrap();
    let sign = world.wire.bytes(&Message::Heartbeat { id: 5 });
    world.write_upstream(stream, &sign);
    world.run_for(Duration::from_millis(1));
    world.write(client, &toy("of another protocol"));
    world.run_for(Duration::from_millis(1));
    assert_eq!((answered(&world, client), received(&world)), (&*sign, toy("of another protocol")));
    // More than whole signs is nothing of the kind.
    for more in [&sign[..7], b"x"] {
        let (mut world, client) = raw(json!({}));
        world.run_until(|world| world.manager.open() == 1);
        let stream = *world.manager.connections.keys().next_back().unwrap();
        world.write_upstream(stream, &[&sign, more].concat());
        world.run_for(Duration::from_millis(1));
        assert_eq!(answered(&world, client), [&sign, more].concat());
        assert_eq!(world.sum(Metric::Undetected("server_first")), 1);
    }
}

#[test]
fn too_few_bytes_wait_a_second() {
    let (mut world, client) = raw(json!({}));
    world.write(client, &toy("cut")[..9]);
    world.run_for(Duration::from_millis(900));
    assert_eq!(received(&world), b"");
    world.run_for(Duration::from_millis(200));
    assert_eq!((received(&world), world.sum(Metric::Undetected("timeout"))), (toy("cut")[..9].to_vec(), 1));
    // Those of a client that says no more do not.
    let (mut world, client) = raw(json!({}));
    world.write(client, b"\xda");
    world.half_close(client);
    world.run_for(Duration::from_millis(10));
    assert_eq!((received(&world), world.sum(Metric::Undetected("ended"))), (b"\xda".to_vec(), 1));
}

#[test]
fn nothing_passes_unread_where_calls_are_denied() {
    // By what they say, or by who makes them.
    for by in [json!({"method": {"exact": "no"}}), json!({"source.namespace": {"exact": "no"}})] {
        let denied = json!({"name": "no", "match": [{"attributes": by}], "reject": {"message": "no"}});
        let service = json!({"protocols": ["dubbo"], "routes": [denied]});
        let (mut world, client) = raw(service.clone());
        world.write(client, b"unknown");
        world.run_for(Duration::from_millis(10));
        assert!(world.proxy.clients[client].closed_at.is_some() && received(&world).is_empty());
        // Nor where that comes to be while it is not known what a client speaks, or after it was not.
        for bytes in [&b"\xda"[..], b"unknown"] {
            let (mut world, client) = raw(json!({}));
            world.write(client, bytes);
            world.run_for(Duration::from_millis(10));
            let before = received(&world);
            let mut plan = service.clone();
            plan["protocol"] = json!("auto");
            world.set_plan(&json!({"services": {"demo": plan}}));
            world.write(client, b" more");
            world.run_for(Duration::from_millis(10));
            assert!(world.proxy.clients[client].closed_at.is_some(), "{bytes:?}");
            assert_eq!(received(&world), before);
        }
    }
}

#[test]
fn a_client_follows_its_protocol_from_plan_to_plan() {
    let mut world = world(json!({}));
    let client = world.connect();
    world.call_and_wait(client, Ask::new("echo"));
    let reject = json!({"protocol": "auto", "defaultRoute": {"cluster": "other"}});
    world.set_plan(&json!({"services": {"demo": reject}}));
    let call = world.call_and_wait(client, Ask::new("echo"));
    assert_eq!(world.calls[call].endpoint(), Some(B));
    // The service has that protocol alone now.
    world.set_plan(&json!({"services": {"demo": {"protocol": "dubbo"}}}));
    let call = world.call_and_wait(client, Ask::new("echo"));
    assert_eq!((world.calls[call].endpoint(), world.proxy.clients[client].closed_at), (Some(A), None));
}

/// Bytes that wait take memory, and no more than a limit's.
#[test]
fn bytes_that_tell_nothing_are_limited() {
    let (mut world, client) = raw(json!({}));
    // The one protocol left takes a frame that never ends, once there is enough of it.
    let endless = [&5_000_u32.to_be_bytes()[..], &[1]].concat();
    world.write(client, &endless);
    world.run_for(Duration::from_millis(10));
    assert!(world.kept() > 0 && world.sum(Metric::Undetected("unknown_bytes")) == 0);
    world.write(client, &[0; 20]);
    world.run_for(Duration::from_millis(10));
    assert_eq!(world.proxy.clients[client].closed_at, None);
}

/// Nothing of it is a call, but for its first bytes.
#[test]
fn what_begins_as_a_protocol_and_goes_on_otherwise_is_no_call() {
    let frame = toy("method-of-toy");
    for cut in 1..frame.len() {
        let (mut world, client) = raw(json!({}));
        let mut bytes = frame[..cut].to_vec();
        bytes.extend(b"\xff\xff\xff\xff\xff\xff\xff\xff");
        world.write(client, &bytes[..cut]);
        world.run_for(Duration::from_millis(10));
        world.write(client, &bytes[cut..]);
        world.half_close(client);
        world.run_for(Duration::from_secs(3));
        // It passes as it is, or its client is told that its call is broken.
        let passes = received(&world) == bytes;
        let is_a_call = world.sum(Metric::ClientConnections) == 1;
        assert!(passes != is_a_call, "cut at {cut}: {:?}", received(&world));
        world.leave(client);
        world.run_for(Duration::from_secs(1));
        assert_eq!((world.kept(), world.sum(Metric::InFlight)), (0, 0), "cut at {cut}");
    }
}

/// What a client speaks is unknown while its server comes and goes.
#[test]
fn a_server_that_goes_meanwhile_takes_no_call_with_it() {
    for state in [Endpoint::Refusing, Endpoint::Silent] {
        let mut world = world(json!({}));
        world.set_endpoint(A, state);
        let client = world.connect();
        let (call, bytes) = world.prepare(client, Ask::new("echo"));
        world.write(client, &bytes[..3]);
        world.run_for(Duration::from_millis(100));
        world.set_endpoint(A, Endpoint::Up);
        // As plain TCP would: the client is closed, or goes on.
        if world.proxy.clients[client].closed_at.is_none() {
            world.write(client, &bytes[3..]);
            world.await_all(&[call]);
            assert_eq!(world.calls[call].error(), None, "{state:?}");
        }
        assert_eq!(world.sum(Metric::InFlight), 0);
        world.half_close(client);
        world.run_out();
        assert_eq!((world.manager.open(), world.kept()), (0, 0), "{state:?}");
    }
}

/// Thousands of clients that say too little, or nothing.
#[test]
fn many_clients_of_which_nothing_is_known_take_little_and_leave_nothing() {
    let mut world = world(json!({}));
    world.manager.is_raw = true;
    let clients: Vec<usize> = (0..3000).map(|_| world.connect()).collect();
    for client in &clients {
        world.proxy.clients[*client].raw = Some(Vec::new());
        world.write(*client, b"\xda\xbb");
    }
    world.run_for(Duration::from_millis(500));
    let kept = world.kept();
    assert!(kept > 0 && kept < 64 * clients.len(), "{kept} bytes");
    assert_eq!(received(&world), b"");
    world.run_for(Duration::from_secs(1));
    assert_eq!(world.kept(), 0);
    assert_eq!(received(&world).len(), 2 * clients.len());
    assert_eq!(world.sum(Metric::Undetected("timeout")), 3000);
    clients.iter().for_each(|client| world.half_close(*client));
    world.run_for(Duration::from_secs(3));
    let streams: Vec<u32> = world.manager.connections.keys().copied().collect();
    streams.iter().for_each(|stream| world.close_upstream(*stream, true));
    world.run_out();
    assert_eq!(world.manager.open(), 0);
}

/// Whatever either side says, ends and breaks before and after it is known what a client speaks: bytes pass as they are and in
/// order, or are calls, and nothing is left.
#[test]
fn whatever_peers_do_nothing_is_lost_or_left() {
    let (mut calls, mut relays) = (0, 0);
    for seed in 0..2000 {
        let mut random = Random::new(seed);
        let plans = [json!({}), json!({"protocols": ["dubbo"]})];
        let (mut world, client) = raw(random.pick(&plans).clone());
        world.manager.connect_time = (50_000, *random.pick(&[60_000, 5_000_000]));
        let starts = [
            toy("one"),
            toy("two")[..4].to_vec(),
            toy("three")[..14].to_vec(),
            b"\xda\xbb".to_vec(),
            b"\xda\xbb\xc2\0\0\0\0\0\0\0\0\x01\0\0\0\x09".to_vec(),
            b"GET / HTTP/1.1\r\n".to_vec(),
            b"\0".to_vec(),
        ];
        let (mut sent, mut is_whole) = (Vec::new(), true);
        for _ in 0..2 + random.below(8) {
            let streams: Vec<u32> = world.manager.streams_to(A);
            let is_open = world.can_call(client);
            match random.below(12) {
                0..=5 if is_open => {
                    let bytes = random.pick(&starts).clone();
                    let cut = random.below(bytes.len() + 1);
                    world.write(client, &bytes[..cut]);
                    sent.extend_from_slice(&bytes[..cut]);
                }
                6 if is_open => {
                    world.half_close(client);
                    is_whole = false;
                }
                7 if is_open && random.chance(0.3) => {
                    world.leave(client);
                    is_whole = false;
                }
                8 if !streams.is_empty() => world.write_upstream(streams[0], b"220 ready\r\n"),
                9 if !streams.is_empty() && random.chance(0.3) => {
                    world.close_upstream(streams[0], random.chance(0.5));
                    is_whole = false;
                }
                10 if random.chance(0.3) => {
                    world.set_endpoint(A, *random.pick(&[Endpoint::Refusing, Endpoint::Up]));
                    is_whole = false;
                }
                _ => world.run_for(Duration::from_millis(random.between(1..1500))),
            }
            if !is_whole && !world.can_call(client) {
                break;
            }
        }
        world.run_for(Duration::from_secs(3));
        let found = world.sum(Metric::ClientConnections) == 1;
        calls += usize::from(found);
        if !found {
            relays += 1;
            let received = received(&world);
            assert!(sent.starts_with(&received), "seed {seed}: {sent:?} as {received:?}");
            assert!(!is_whole || received == sent, "seed {seed}: {sent:?} as {received:?}");
        }
        world.leave(client);
        world.run_for(Duration::from_secs(3));
        assert_eq!(world.failure, None, "seed {seed}");
        assert_eq!(world.kept(), 0, "seed {seed}");
        world.shut_down();
        for gauge in [Metric::InFlight, Metric::ClientConnectionsActive, Metric::UpstreamConnectionsActive] {
            assert_eq!(world.sum(gauge), 0, "seed {seed}: {gauge:?}");
        }
    }
    assert!(calls > 50 && relays > 500, "{calls} calls and {relays} relays");
}
