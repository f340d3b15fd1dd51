//! How connections end, on either side, and what becomes of their calls.

use std::time::Duration;

use meltemi_proxy::Metric;
use meltemi_sockets::Side;
use serde_json::{Value, json};

use crate::dubbo::{SERVER_ERROR, SERVER_TIMEOUT};
use crate::servers::{Policy, Reply, What};
use crate::wire::Message;
use crate::world::{Ask, Setup, World};

const A: &str = "10.0.0.1:20880";
const B: &str = "10.0.0.2:20880";

fn world(service: Value) -> World {
    let mut world = World::new(Setup::demo(service));
    world.cluster("demo", &[A], Policy::RoundRobin);
    world.serve(|arrival, _| match arrival.method {
        "slow" => What::Echo(0).after(Duration::from_millis(200)),
        _ => Reply::echo(),
    });
    world
}

fn is_closed(world: &World, client: usize) -> bool {
    world.proxy.clients[client].closed_at.is_some()
}

#[test]
fn a_client_that_half_closes_still_gets_its_answers() {
    let mut world = world(json!({}));
    let client = world.connect();
    let calls = world.call_all(client, (0..10).map(|_| Ask::new("slow")));
    world.half_close(client);
    world.run_until(|world| is_closed(world, client));
    assert!(calls.iter().all(|&call| world.calls[call].endpoint() == Some(A)));
    assert_eq!(world.sum(Metric::ClientConnectionsActive), 0);
}

#[test]
fn requests_that_wait_to_be_read_outlive_a_half_close() {
    let mut world = world(json!({"limits": {"maxCallsPerConnection": 1}}));
    let client = world.connect();
    let asks = ["slow", "log", "echo", "log", "log", "slow", "echo"];
    let calls = world.call_all(
        client,
        asks.map(|method| match method {
            "log" => Ask::new(method).one_way(),
            _ => Ask::new(method),
        }),
    );
    world.half_close(client);
    world.run_until(|world| is_closed(world, client));
    for call in calls {
        assert_eq!(world.calls[call].deliveries.len(), 1);
        assert!(world.calls[call].ask.is_one_way || world.calls[call].endpoint() == Some(A));
    }
}

#[test]
fn a_client_that_ends_within_a_request_is_closed() {
    let mut world = world(json!({}));
    let client = world.connect();
    world.call_and_wait(client, Ask::new("echo"));
    world.write(client, &[0xda, 0xbb, 0xc2, 0, 0]);
    world.half_close(client);
    world.run_until(|world| is_closed(world, client));
}

#[test]
fn a_client_that_leaves_takes_nothing_from_the_others() {
    let mut world = world(json!({}));
    let clients = [world.connect(), world.connect()];
    world.call_and_wait(clients[0], Ask::new("echo"));
    let upstream = world.manager.streams_to(A);
    let lost = world.call_all(clients[0], (0..20).map(|_| Ask::new("slow")));
    let kept = world.call_all(clients[1], (0..20).map(|_| Ask::new("slow")));
    world.run_for(Duration::from_millis(100));
    world.leave(clients[0]);
    world.await_all(&kept);
    assert!(kept.iter().all(|&call| world.calls[call].error().is_none()));
    assert!(lost.iter().all(|&call| world.calls[call].answer.is_none()));
    assert_eq!(world.sum(Metric::Cancelled), 20);
    world.run_for(Duration::from_secs(1));
    assert_eq!(world.sum(Metric::UnmatchedResponses), 20);
    assert_eq!(world.sum(Metric::InFlight), 0);
    assert_eq!(world.manager.streams_to(A), upstream, "the shared connection is healthy");
}

#[test]
fn calls_of_a_lost_upstream_are_answered() {
    for is_clean in [true, false] {
        let mut world = world(json!({}));
        let client = world.connect();
        world.call_and_wait(client, Ask::new("echo"));
        let calls = world.call_all(client, (0..10).map(|_| Ask::new("slow")));
        world.run_for(Duration::from_millis(100));
        let stream = world.manager.streams_to(A)[0];
        world.close_upstream(stream, is_clean);
        world.await_all(&calls);
        assert!(calls.iter().all(|&call| world.calls[call].error() == Some(SERVER_ERROR)));
        let call = world.call_and_wait(client, Ask::new("echo"));
        assert_eq!(world.calls[call].error(), None);
    }
}

#[test]
fn an_upstream_that_closes_within_a_response_harms_nobody_else() {
    let mut world = world(json!({}));
    let client = world.connect();
    world.call_and_wait(client, Ask::new("echo"));
    world.serve(|arrival, _| match arrival.method {
        "cut" => What::Raw(vec![0xda, 0xbb, 2, 20, 0, 0, 0, 0]).now(),
        _ => What::Close.after(Duration::from_millis(20)),
    });
    let calls = [world.call(client, Ask::new("cut")), world.call(client, Ask::new("close"))];
    world.await_all(&calls);
    assert!(calls.iter().all(|&call| world.calls[call].error() == Some(SERVER_ERROR)));
    world.serve(|_, _| Reply::echo());
    let call = world.call_and_wait(client, Ask::new("echo"));
    assert_eq!(world.calls[call].error(), None);
}

#[test]
fn an_idle_upstream_that_closes_is_replaced() {
    let mut world = world(json!({}));
    let client = world.connect();
    for _ in 0..5 {
        let call = world.call_and_wait(client, Ask::new("echo"));
        assert_eq!(world.calls[call].error(), None);
        for stream in world.manager.streams_to(A) {
            world.close_upstream(stream, true);
        }
        world.run_for(Duration::from_millis(50));
        assert_eq!(world.sum(Metric::UpstreamConnectionsActive), 0);
    }
}

#[test]
fn an_upstream_that_only_ends_its_half_is_closed() {
    let mut world = world(json!({}));
    let client = world.connect();
    world.call_and_wait(client, Ask::new("echo"));
    let stream = world.manager.streams_to(A)[0];
    world.manager.http2.end(stream);
    world.flush(Side::Upstream);
    world.run_for(Duration::from_millis(10));
    assert!(!world.manager.http2.is_writable(stream));
    assert_eq!(world.manager.connections.len(), 0, "the worker ends its half too");
}

#[test]
fn an_upstream_that_says_read_only_gets_no_new_calls() {
    let mut world = world(json!({}));
    world.cluster("demo", &[A, B], Policy::RoundRobin);
    let client = world.connect();
    for _ in 0..6 {
        world.call_and_wait(client, Ask::new("echo"));
    }
    let stream = world.manager.streams_to(A)[0];
    let slow = world.call_all(client, (0..6).map(|_| Ask::new("slow")));
    world.run_for(Duration::from_millis(50));
    // A drains: Envoy no longer chooses it.
    world.cluster("demo", &[B], Policy::RoundRobin);
    let read_only = world.wire.bytes(&Message::ReadOnly);
    world.write_upstream(stream, &read_only);
    world.run_for(Duration::from_millis(5));
    let before = world.calls.len();
    for _ in 0..10 {
        world.call_and_wait(client, Ask::new("echo"));
    }
    assert!(world.calls[before..].iter().all(|call| call.endpoint() == Some(B)));
    world.await_all(&slow);
    assert!(slow.iter().all(|&call| world.calls[call].error().is_none()));
    world.run_for(Duration::from_millis(10));
    assert!(world.manager.streams_to(A).is_empty(), "closed with its last answer");
}

#[test]
fn heartbeats_are_answered_on_both_sides() {
    let mut world = world(json!({}));
    let client = world.connect();
    world.heartbeat(client);
    world.call_and_wait(client, Ask::new("echo"));
    world.heartbeat(client);
    let stream = world.manager.streams_to(A)[0];
    let heartbeat = world.wire.bytes(&Message::Heartbeat { id: 9 });
    world.write_upstream(stream, &heartbeat);
    world.run_for(Duration::from_millis(10));
    assert_eq!(world.proxy.clients[client].heartbeats_answered, 2);
    assert_eq!(world.manager.connections[&stream].heartbeats_answered, 1);
    assert_eq!(world.sum(Metric::Heartbeats), 3);
}

#[test]
fn a_draining_connection_manager_moves_clients_elsewhere() {
    let mut world = world(json!({}));
    let clients = [world.connect(), world.connect()];
    world.call_and_wait(clients[0], Ask::new("echo"));
    let slow = world.call(clients[0], Ask::new("slow"));
    world.run_for(Duration::from_millis(50));
    world.go_away();
    world.run_for(Duration::from_millis(10));
    assert!(world.proxy.is_refused, "tcp_proxy opens no more tunnels here");
    assert_eq!(clients.map(|client| world.proxy.clients[client].read_only), [1, 1]);
    // What is there still serves.
    let call = world.call_and_wait(clients[1], Ask::new("echo"));
    assert_eq!(world.calls[call].error(), None);
    world.await_all(&[slow]);
    assert_eq!(world.calls[slow].error(), None);
    assert!(!clients.iter().any(|&client| is_closed(&world, client)));
    // Once they had the time to go, clients are closed with their last answer.
    world.run_for(Duration::from_secs(2));
    let last = world.call_and_wait(clients[0], Ask::new("echo"));
    assert_eq!(world.calls[last].error(), None);
    world.run_until(|world| is_closed(world, clients[0]));
}

#[test]
fn a_call_that_needs_a_new_connection_while_draining_is_answered() {
    let mut world = world(json!({"defaultRoute": {"retry": {
        "on": ["reset", "connect-failure"], "attempts": 3, "backoff": {"base": "50ms"},
    }}}));
    let client = world.connect();
    world.call_and_wait(client, Ask::new("echo"));
    let slow = world.call(client, Ask::new("slow"));
    world.run_for(Duration::from_millis(50));
    world.go_away();
    world.run_for(Duration::from_millis(10));
    let stream = world.manager.streams_to(A)[0];
    world.close_upstream(stream, true);
    world.await_all(&[slow]);
    assert_eq!(world.calls[slow].error(), Some(SERVER_ERROR));
    let call = world.call_and_wait(client, Ask::new("echo"));
    let (status, text) = world.calls[call].answer.as_ref().unwrap().result.clone().unwrap_err();
    assert_eq!((status, text.as_str()), (SERVER_ERROR, "meltemi: this proxy is draining"));
}

#[test]
fn a_notice_of_draining_leaves_time_for_everything() {
    let mut world = world(json!({"defaultRoute": {"timeout": "400ms", "retry": {
        "on": ["reset", "connect-failure"], "attempts": 3, "backoff": {"base": "50ms"},
    }}}));
    let clients = [world.connect(), world.connect()];
    world.call_and_wait(clients[0], Ask::new("echo"));
    let slow = world.call(clients[0], Ask::new("slow"));
    world.run_for(Duration::from_millis(50));
    world.give_notice();
    world.run_for(Duration::from_millis(10));
    assert!(world.proxy.is_refused, "tcp_proxy opens no more tunnels here");
    // A retry finds a new connection.
    let stream = world.manager.streams_to(A)[0];
    world.close_upstream(stream, true);
    world.await_all(&[slow]);
    assert_eq!(world.calls[slow].error(), None);
    // Deadlines are kept.
    world.serve(|_, _| What::Nothing.now());
    let lost = world.call(clients[0], Ask::new("echo"));
    world.await_all(&[lost]);
    assert_eq!(world.calls[lost].error(), Some(SERVER_TIMEOUT));
    // Clients are closed without being heard of again.
    world.run_until(|world| clients.iter().all(|&client| is_closed(world, client)));
}

#[test]
fn calls_that_wait_when_no_stream_can_be_opened_any_more_are_answered() {
    let mut world = world(json!({"defaultRoute": {"retry": {
        "on": ["reset", "connect-failure"], "attempts": 1, "backoff": {"base": "10s", "max": "10s"},
    }}}));
    world.serve(|_, _| What::Close.now());
    let client = world.connect();
    let paused = world.call(client, Ask::new("echo"));
    world.run_for(Duration::from_millis(10));
    world.kill(A);
    world.set_endpoint(A, crate::servers::Endpoint::Silent);
    let waiting = world.call(client, Ask::new("echo"));
    world.run_for(Duration::from_millis(10));
    assert!([paused, waiting].iter().all(|&call| world.calls[call].answer.is_none()));
    world.go_away();
    world.await_all(&[paused, waiting]);
    assert!([paused, waiting].iter().all(|&call| world.calls[call].error() == Some(SERVER_ERROR)));
}

#[test]
fn a_client_that_comes_while_draining_is_asked_to_leave_too() {
    let mut world = world(json!({}));
    let first = world.connect();
    world.call_and_wait(first, Ask::new("echo"));
    world.go_away();
    // The worker knows, and tcp_proxy does not yet.
    world.run_for(Duration::from_nanos(1500));
    assert!(!world.proxy.is_refused);
    let late = world.connect();
    let call = world.call_and_wait(late, Ask::new("echo"));
    assert_eq!(world.calls[call].error(), None);
    assert_eq!(world.proxy.clients[late].read_only, 1);
    world.run_for(Duration::from_secs(2));
    world.call_and_wait(late, Ask::new("echo"));
    world.run_until(|world| is_closed(world, late));
}

#[test]
fn clients_of_a_service_that_left_the_plan_or_changed_its_protocol_connect_again() {
    for later in [json!({}), json!({"demo": {"protocol": "wide"}})] {
        let mut world = world(json!({}));
        let client = world.connect();
        let slow = world.call(client, Ask::new("slow"));
        world.run_for(Duration::from_millis(50));
        world.set_plan(&json!({"services": later}));
        world.await_all(&[slow]);
        assert_eq!(world.calls[slow].error(), None, "{later}");
        assert_eq!(world.proxy.clients[client].read_only, 1, "{later}");
        world.run_for(Duration::from_secs(2));
        assert!(is_closed(&world, client), "{later}");
    }
}

#[test]
fn a_client_that_rules_come_to_in_another_protocol_makes_no_more_calls_by_the_old_ones() {
    let guarded = json!({"demo": {
        "protocol": "wide",
        "routes": [{"name": "no", "match": [{"attributes": {"method": {"exact": "secret"}}}], "reject": {}}],
    }});
    for later in [json!({"services": guarded}), json!({"services": {}, "unknownAuthority": "refuse"})] {
        let mut world = world(json!({}));
        world.serve(|_, _| What::Nothing.now());
        let client = world.connect();
        world.call(client, Ask::new("slow"));
        world.run_for(Duration::from_millis(50));
        world.set_plan(&later);
        let call = world.call(client, Ask::new("secret"));
        world.run_for(Duration::from_secs(2));
        assert_eq!(world.calls[call].deliveries.len(), 0, "{later}");
        assert!(is_closed(&world, client), "{later}");
    }
}

#[test]
fn the_end_of_the_tunnel_ends_every_gauge() {
    let mut world = world(json!({}));
    let clients = [world.connect(), world.connect()];
    world.serve(|_, _| What::Nothing.now());
    for client in clients {
        world.call_all(client, (0..5).map(|_| Ask::new("echo")));
    }
    let gauges = [Metric::InFlight, Metric::ClientConnectionsActive, Metric::UpstreamConnectionsActive];
    assert_eq!(gauges.map(|gauge| world.sum(gauge)), [10, 2, 1]);
    world.shut_down();
    assert_eq!(gauges.map(|gauge| world.metrics.sum(gauge)), [0, 0, 0]);
}
