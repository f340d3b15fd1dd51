//! Large messages of each protocol whose frames say at the front what they are: they pass while they come, and whoever
//! stops in the middle of one harms nobody else.

use std::rc::Rc;
use std::time::Duration;

use meltemi_proxy::Metric;
use serde_json::json;

use crate::heads::HeadFirst;
use crate::servers::{Policy, Reply, What};
use crate::world::{Ask, Setup, World};

const A: &str = "10.0.0.1:20880";

const MIB: usize = 1 << 20;
const MS: Duration = Duration::from_millis(1);

fn world(protocol: HeadFirst, delay: u64) -> World {
    let plan = protocol.plan(json!({"limits": {"cutThroughBytes": 4096}, "frameTimeout": "2s"}));
    let mut world = World::new(Setup { wire: Rc::new(protocol), plan, delay, ..Setup::default() });
    world.cluster("demo", &[A], Policy::RoundRobin);
    world.serve(|arrival, _| match arrival.method {
        "late" => What::Echo(0).after(1000 * MS),
        "large" => What::Echo(100_000).now(),
        "halting" => What::Halting(5).now(),
        "torn" => What::Torn(5).now(),
        _ => Reply::echo(),
    });
    world
}

/// A client that sends the first half of a large request; the call and the other half.
fn half(world: &mut World, client: usize) -> (usize, Vec<u8>) {
    let (call, mut bytes) = world.prepare(client, Ask::new("echo").size(MIB));
    let rest = bytes.split_off(bytes.len() / 2);
    world.write(client, &bytes);
    world.run_for(20 * MS);
    (call, rest)
}

#[test]
fn a_request_leaves_while_it_comes() {
    for protocol in HeadFirst::ALL {
        let mut world = world(protocol, 1000);
        let client = world.connect();
        let (call, rest) = half(&mut world, client);
        let received: usize = world.manager.connections.values().map(|upstream| upstream.received).sum();
        assert!(received >= MIB / 2, "{protocol:?}: {received} bytes have arrived");
        assert!(world.kept() < 64 << 10, "{protocol:?}: {} bytes are kept", world.kept());
        world.write(client, &rest);
        world.await_all(&[call]);
        assert_eq!(world.calls[call].endpoint(), Some(A), "{protocol:?}");
    }
}

#[test]
fn messages_in_pieces_arrive_whole_both_ways() {
    for protocol in HeadFirst::ALL {
        let mut world = world(protocol, 400_000);
        let clients = [(); 3].map(|()| world.connect());
        for round in 0..20 {
            let calls = clients.map(|client| {
                let sizes = [64, 3000 + round, 70_000, 16_300 + round];
                world.call_all(client, sizes.map(|size| Ask::new("large").size(size)))
            });
            world.await_all(&calls.concat());
        }
        assert!(world.calls.iter().all(|call| call.endpoint() == Some(A)), "{protocol:?}");
        assert_eq!(world.sum(Metric::InFlight), 0);
    }
}

#[test]
fn a_request_that_never_ends_costs_no_other_call() {
    for protocol in HeadFirst::ALL {
        let mut world = world(protocol, 1000);
        let [client, stalled, other] = [(); 3].map(|()| world.connect());
        let late = world.call(other, Ask::new("late"));
        world.run_for(20 * MS);
        let torn = [half(&mut world, client).0, half(&mut world, stalled).0];
        let mut calls = world.call_all(other, (0..20).map(|_| Ask::new("echo")));
        world.await_all(&calls);
        world.leave(client);
        calls.extend(world.call_all(other, (0..20).map(|_| Ask::new("echo").size(50_000))));
        world.await_all(&calls);
        world.await_all(&[late]);
        world.await_all(&torn[1..]);
        assert!(calls.iter().chain([&late]).all(|&call| world.calls[call].endpoint() == Some(A)));
        assert!(torn.iter().all(|&call| world.calls[call].deliveries.is_empty()), "{protocol:?}");
        assert_eq!(world.sum(Metric::ClientConnectionsGivenUp("incomplete_request")), 1);
        assert_eq!((world.proxy.clients[other].reset, world.sum(Metric::InFlight)), (None, 0));
    }
}

#[test]
fn a_torn_answer_resets_its_client_and_no_other() {
    for protocol in HeadFirst::ALL {
        let mut world = world(protocol, 1000);
        let [client, other] = [(); 2].map(|()| world.connect());
        let halting = world.call(other, Ask::new("halting"));
        world.await_all(&[halting]);
        let torn = world.call(client, Ask::new("torn"));
        world.run_until(|world| world.proxy.clients[client].reset.is_some());
        assert!(world.calls[torn].answer.is_none());
        assert_eq!(world.sum(Metric::ClientConnectionsGivenUp("torn_answer")), 1, "{protocol:?}");
        let calls = world.call_all(other, (0..20).map(|_| Ask::new("echo")));
        world.await_all(&calls);
        assert!(calls.iter().chain([&halting]).all(|&call| world.calls[call].endpoint() == Some(A)));
        assert_eq!(world.proxy.clients[other].reset, None);
    }
}
