//! Clients that address one server: inbound traffic, and headless services.

use std::time::Duration;

use meltemi_proxy::Metric;
use serde_json::{Value, json};

use crate::servers::{Endpoint, Policy, What};
use crate::wire::Message;
use crate::world::{Ask, Setup, World};

const A: &str = "10.0.0.1:20880";
const B: &str = "10.0.0.2:20880";
const V1: &str = "10.0.1.1:20880";

const DESTINATION: &str = "x-envoy-original-dst-host";

fn world(service: Value) -> World {
    let mut world = World::new(Setup::demo(service));
    world.cluster("demo", &[A, B], Policy::OriginalDestination);
    world.cluster("subset", &[A, B], Policy::OriginalDestination);
    world.cluster("v1", &[V1], Policy::RoundRobin);
    world
}

fn client_of(world: &mut World, address: &str) -> usize {
    world.connect_with("demo", "demo", &[(DESTINATION, address)])
}

#[test]
fn calls_go_to_the_server_that_the_client_addressed() {
    let mut world = world(json!({"routes": [
        {"name": "subset", "match": [{"attributes": {"method": {"exact": "subset"}}}], "cluster": "subset"},
        {"name": "v1", "match": [{"attributes": {"method": {"exact": "v1"}}}], "cluster": "v1"},
    ]}));
    let clients = [client_of(&mut world, A), client_of(&mut world, B), client_of(&mut world, A)];
    for _ in 0..5 {
        for (client, address) in clients.into_iter().zip([A, B, A]) {
            let calls = world.call_all(client, ["echo", "subset", "v1", "echo"].map(Ask::new));
            world.await_all(&calls);
            let served: Vec<_> = calls.iter().map(|&call| world.calls[call].endpoint().unwrap()).collect();
            assert_eq!(served, [address, address, V1, address]);
        }
        // Connections are renewed in between.
        world.run_for(Duration::from_secs(50));
    }
}

#[test]
fn a_retry_goes_to_no_other_server() {
    let retry = json!({"attempts": 3, "on": ["connect-failure", "reset"], "backoff": {"base": "1ms"}});
    let mut world = world(json!({"defaultRoute": {"retry": retry}}));
    let (first, second) = (client_of(&mut world, A), client_of(&mut world, B));
    let warm = [world.call(first, Ask::new("echo")), world.call(second, Ask::new("echo"))];
    world.await_all(&warm);
    world.serve(|_, _| What::Echo(0).after(Duration::from_millis(50)));
    let lost = world.call(first, Ask::new("echo"));
    world.run_for(Duration::from_millis(20));
    world.kill(A);
    world.await_all(&[lost]);
    assert!(world.calls[lost].error().is_some());
    assert!(world.calls[lost].deliveries.iter().all(|delivery| delivery.endpoint == A));
    let other = world.call_and_wait(second, Ask::new("echo"));
    assert_eq!(world.calls[other].endpoint(), Some(B));
    world.set_endpoint(A, Endpoint::Up);
    let again = world.call_and_wait(first, Ask::new("echo"));
    assert_eq!(world.calls[again].endpoint(), Some(A));
}

#[test]
fn clients_are_told_that_the_server_they_address_takes_no_more_calls() {
    let mut world = world(json!({"routes": [
        {"name": "v1", "match": [{"attributes": {"method": {"exact": "v1"}}}], "cluster": "v1"},
    ]}));
    let clients = [A, B, A].map(|address| client_of(&mut world, address));
    for client in clients {
        let calls = world.call_all(client, ["echo", "v1"].map(Ask::new));
        world.await_all(&calls);
    }
    let read_only = world.wire.bytes(&Message::ReadOnly);
    // Whether there is another server behind a cluster is not for them to know.
    for (address, told) in [(V1, [0, 0, 0]), (A, [1, 0, 1]), (B, [1, 1, 1])] {
        let stream = world.manager.streams_to(address)[0];
        world.write_upstream(stream, &read_only);
        world.run_for(Duration::from_millis(10));
        assert_eq!(clients.map(|client| world.proxy.clients[client].read_only), told, "{address}");
    }
    for (client, address) in clients.into_iter().zip([A, B, A]) {
        let call = world.call_and_wait(client, Ask::new("echo"));
        assert_eq!(world.calls[call].endpoint(), Some(address), "calls on their way are served");
    }
}

#[test]
fn a_tunnel_that_names_no_destination_asks_for_none() {
    let mut world = world(json!({"defaultRoute": {"cluster": "v1"}}));
    for destination in ["", "-"] {
        let client = client_of(&mut world, destination);
        let call = world.call_and_wait(client, Ask::new("echo"));
        assert_eq!(world.calls[call].endpoint(), Some(V1));
    }
    assert!(world.manager.asked.iter().all(|asked| asked.destination.is_none()));
}

/// An address that nobody addresses any more leaves nothing behind, whatever the plan says of the age of connections.
#[test]
fn servers_that_nobody_addresses_are_forgotten() {
    for age in ["5s", "0s"] {
        let mut world = world(json!({"upstream": {"maxConnectionAge": age}}));
        let lasting = client_of(&mut world, A);
        for n in 0..200 {
            let address = format!("10.9.0.{n}:20880");
            world.set_endpoint(&address, if n % 4 == 0 { Endpoint::Refusing } else { Endpoint::Up });
            let client = client_of(&mut world, &address);
            let call = world.call_and_wait(client, Ask::new("echo"));
            let wanted = (n % 4 != 0).then_some(&*address);
            assert_eq!(world.calls[call].endpoint(), wanted);
            world.leave(client);
        }
        assert_eq!(world.pools(), 200);
        for _ in 0..10 {
            world.run_for(Duration::from_secs(20));
            let call = world.call_and_wait(lasting, Ask::new("echo"));
            assert_eq!(world.calls[call].endpoint(), Some(A));
        }
        assert_eq!(world.pools(), 1, "{age}");
        assert_eq!(world.sum(Metric::UpstreamConnectionsActive), 1);
        world.leave(lasting);
        let took = world.run_out();
        assert_eq!((world.pools(), world.manager.open()), (0, 0), "{age} {took:?}");
    }
}
