//! Connections of services that the plan does not know: bytes that pass through.

use std::time::Duration;

use meltemi_sockets::{Options, Side};
use serde_json::json;

use crate::http2::Habits;
use crate::servers::{Endpoint, Policy};
use crate::world::{Setup, World};

const A: &str = "10.0.0.9:3306";

fn world() -> World {
    let habits = Habits { window: 65_535, ..Habits::default() };
    let options = Options {
        receive_window_downstream: 1 << 20,
        receive_window_upstream: 1 << 20,
        ..Options::default()
    };
    let mut world = World::new(Setup { options, downstream: habits, upstream: habits, ..Setup::default() });
    world.cluster("mysql", &[A], Policy::RoundRobin);
    world.manager.is_raw = true;
    world
}

fn connect(world: &mut World) -> usize {
    let client = world.connect_to("mysql", "mysql");
    world.proxy.clients[client].raw = Some(Vec::new());
    client
}

fn upstream(world: &World) -> u32 {
    *world.manager.connections.keys().next_back().expect("a connection")
}

fn received(world: &World, stream: u32) -> &[u8] {
    world.manager.connections[&stream].raw.as_deref().unwrap_or_default()
}

fn noise(len: usize) -> Vec<u8> {
    (0..len).map(|n| (n * n % 251) as u8).collect()
}

#[test]
fn bytes_pass_both_ways_as_they_are() {
    let mut world = world();
    let client = connect(&mut world);
    // The first of them leave before the connection is open.
    let (request, answer) = (noise(300_000), noise(200_000));
    world.write(client, &request);
    world.run_until(|world| world.manager.open() == 1);
    let stream = upstream(&world);
    world.write_upstream(stream, &answer);
    world.run_for(Duration::from_millis(100));
    assert!(received(&world, stream) == request);
    assert!(world.proxy.clients[client].raw.as_deref() == Some(answer.as_slice()));
}

#[test]
fn a_half_close_of_the_client_reaches_the_server() {
    let mut world = world();
    let client = connect(&mut world);
    world.write(client, b"the last words");
    world.half_close(client);
    world.run_until(|world| world.manager.connections.values().any(|upstream| upstream.has_ended));
    let stream = upstream(&world);
    assert_eq!(received(&world, stream), b"the last words");
    world.write_upstream(stream, &noise(100_000));
    world.manager.http2.end(stream);
    world.flush(Side::Upstream);
    world.run_until(|world| world.proxy.clients[client].closed_at.is_some());
    assert!(world.proxy.clients[client].raw == Some(noise(100_000)));
    assert_eq!(world.proxy.clients[client].reset, None);
}

#[test]
fn a_server_that_closes_closes_the_client_after_its_last_bytes() {
    let mut world = world();
    let client = connect(&mut world);
    world.run_until(|world| world.manager.open() == 1);
    let stream = upstream(&world);
    world.manager.http2.write(stream, b"bye");
    world.flush(Side::Upstream);
    world.close_upstream(stream, true);
    world.run_until(|world| world.proxy.clients[client].closed_at.is_some());
    assert_eq!(world.proxy.clients[client].raw.as_deref(), Some(&b"bye"[..]));
}

#[test]
fn a_client_that_leaves_closes_its_server() {
    let mut world = world();
    let client = connect(&mut world);
    world.run_until(|world| world.manager.open() == 1);
    world.leave(client);
    world.run_for(Duration::from_millis(10));
    assert!(world.manager.connections.values().all(|upstream| upstream.has_ended));
}

#[test]
fn a_server_that_refuses_closes_the_client() {
    let mut world = world();
    world.set_endpoint(A, Endpoint::Refusing);
    let client = connect(&mut world);
    world.write(client, b"hello");
    world.run_until(|world| world.proxy.clients[client].closed_at.is_some());
}

#[test]
fn a_tunnel_without_a_cluster_that_exists_is_closed() {
    let mut world = world();
    let client = world.connect_to("redis", "redis");
    world.proxy.clients[client].raw = Some(Vec::new());
    world.run_until(|world| world.proxy.clients[client].closed_at.is_some());
}

#[test]
fn a_slow_reader_on_either_side_slows_the_other() {
    let mut world = world();
    let client = connect(&mut world);
    world.run_until(|world| world.manager.open() == 1);
    let stream = upstream(&world);
    let much = noise(20_000_000);
    world.set_server_reading(stream, false);
    world.write(client, &much);
    world.run_for(Duration::from_millis(200));
    assert!(world.held() < 4 << 20, "{} bytes are held", world.held());
    world.set_server_reading(stream, true);
    world.run_for(Duration::from_secs(2));
    assert!(received(&world, stream) == much);
    world.set_client_reading(client, false);
    world.write_upstream(stream, &much);
    world.run_for(Duration::from_millis(200));
    assert!(world.held() < 4 << 20, "{} bytes are held", world.held());
    world.set_client_reading(client, true);
    world.run_for(Duration::from_secs(2));
    assert!(world.proxy.clients[client].raw.as_ref() == Some(&much));
}

#[test]
fn what_comes_before_the_connection_is_open_is_bounded_by_the_window() {
    let mut world = world();
    world.set_endpoint(A, Endpoint::Silent);
    let client = connect(&mut world);
    world.write(client, &noise(10_000_000));
    world.run_for(Duration::from_millis(200));
    assert!(world.held() <= 1 << 20, "{} bytes are held", world.held());
}

/// A plan that knows `mysql`.
fn knowing(policy: &str, value: serde_json::Value) -> serde_json::Value {
    serde_json::json!({"services": {"mysql": {
        "protocol": "dubbo",
        "routes": [{"name": "policy", "match": [{"attributes": {"method": {"exact": "drop"}}}], policy: value}],
    }}})
}

#[test]
fn a_relay_ends_at_a_quiet_moment_once_the_plan_knows_its_service() {
    let mut world = world();
    let client = connect(&mut world);
    world.write(client, b"select");
    world.run_for(Duration::from_millis(100));
    world.set_plan(&knowing("cluster", "other".into()));
    for _ in 0..50 {
        world.write(client, b"select");
        world.run_for(Duration::from_millis(500));
        assert_eq!(world.proxy.clients[client].closed_at, None, "bytes pass");
    }
    world.run_for(Duration::from_secs(2));
    assert!(world.proxy.clients[client].closed_at.is_some());
    let stream = upstream(&world);
    assert_eq!(received(&world, stream).len(), 51 * 6);
}

#[test]
fn a_relay_ends_in_time_though_it_is_never_quiet() {
    let mut world = world();
    let client = connect(&mut world);
    world.write(client, b"select");
    world.run_for(Duration::from_millis(100));
    world.set_plan(&knowing("cluster", "other".into()));
    let start = world.now;
    while world.proxy.clients[client].closed_at.is_none() {
        world.write(client, b"select");
        world.run_for(Duration::from_millis(500));
        assert!(world.now - start < 302_000_000_000, "it is still there");
    }
}

#[test]
fn a_relay_stays_if_the_service_leaves_the_plan_again() {
    let mut world = world();
    let client = connect(&mut world);
    world.write(client, b"select");
    world.run_for(Duration::from_millis(100));
    world.set_plan(&knowing("cluster", "other".into()));
    world.set_plan(&serde_json::json!({"services": {}}));
    world.run_for(Duration::from_secs(3600));
    assert_eq!(world.proxy.clients[client].closed_at, None);
}

#[test]
fn a_relay_ends_at_once_where_calls_are_denied() {
    let mut world = world();
    let client = connect(&mut world);
    world.write(client, b"select");
    world.run_for(Duration::from_millis(100));
    world.set_plan(&knowing("reject", serde_json::json!({"message": "no"})));
    world.write(client, b"drop");
    world.run_for(Duration::from_millis(5));
    assert!(world.proxy.clients[client].closed_at.is_some());
    let stream = upstream(&world);
    assert_eq!(received(&world, stream), b"select");
}
#[test]
fn a_plan_that_refuses_carries_nothing_for_whom_it_does_not_know() {
    let mut world = world();
    let mut plan = json!({"services": {"demo": {"protocol": "dubbo"}}, "unknownAuthority": "refuse"});
    world.set_plan(&plan);
    let client = connect(&mut world);
    world.write(client, b"unread");
    world.run_until(|world| world.proxy.clients[client].closed_at.is_some());
    assert_eq!(world.manager.connections.len(), 0);
    // The next plan carries it again.
    plan["unknownAuthority"] = "relay".into();
    world.set_plan(&plan);
    let client = connect(&mut world);
    world.write(client, b"passed on");
    world.run_until(|world| world.manager.open() == 1);
    world.run_for(Duration::from_millis(100));
    assert_eq!(received(&world, upstream(&world)), b"passed on");
    assert_eq!(world.proxy.clients[client].closed_at, None);
    // And one that refuses ends what is relayed.
    plan["unknownAuthority"] = "refuse".into();
    world.set_plan(&plan);
    world.write(client, b"unread");
    world.run_for(Duration::from_millis(5));
    assert!(world.proxy.clients[client].closed_at.is_some());
    assert_eq!(received(&world, upstream(&world)), b"passed on");
}
