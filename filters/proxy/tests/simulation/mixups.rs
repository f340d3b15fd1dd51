//! Calls that end while others do: the end of one never reaches another's, and none is forgotten.

use std::time::Duration;

use meltemi_proxy::Metric;
use serde_json::{Value, json};

use crate::servers::{Policy, Reply, What};
use crate::world::{Ask, Setup, World};

const A: &str = "10.0.0.1:20880";
const B: &str = "10.0.0.2:20880";

/// More than is kept of one client's requests before it is not read further.
const LARGE: usize = 4 << 20;

fn world(service: Value) -> World {
    let mut world = World::new(Setup::demo(service));
    world.cluster("demo", &[A], Policy::RoundRobin);
    world.serve(|arrival, _| match arrival.method {
        "hang" => What::Nothing.now(),
        "slow" => What::Echo(0).after(Duration::from_millis(100)),
        _ => Reply::echo(),
    });
    world
}

#[test]
fn a_lost_connection_takes_no_calls_that_start_meanwhile() {
    // Requests are kept whole for the sake of a retry.
    let retry = json!({"attempts": 1, "on": ["status"], "statuses": [80]});
    let mut world = world(json!({"defaultRoute": {"retry": retry}, "limits": {"maxCallsPerConnection": 3}}));
    let [first, second, third] = [world.connect(), world.connect(), world.connect()];
    world.call_and_wait(third, Ask::new("warm-up"));
    // On the connection to be lost: a call of the first client, one of the second, and two more of the first.
    world.call(first, Ask::new("hang"));
    world.run_for(Duration::from_millis(1));
    let large = world.call(second, Ask::new("hang").size(LARGE));
    world.run_for(Duration::from_millis(50));
    world.call_all(first, [Ask::new("hang"), Ask::new("hang")]);
    world.run_for(Duration::from_millis(1));
    assert_eq!(world.calls[large].deliveries.len(), 1);
    // Neither is read on: the first has all the calls that it may have, for the second enough is kept.
    world.write(first, b"GET / HTTP/1.1\r\nHost: demo\r\n\r\n");
    let calls = world.call_all(second, [Ask::new("slow"), Ask::new("slow")]);
    // A connection that stays is there.
    let lost = world.manager.streams_to(A);
    world.cluster("demo", &[B], Policy::RoundRobin);
    world.run_for(Duration::from_secs(10));
    assert_eq!((lost.len(), world.manager.streams_to(B).len()), (1, 1));
    assert!(calls.iter().all(|&call| world.calls[call].deliveries.is_empty()));

    world.close_upstream(lost[0], true);
    world.run_until(|world| calls.iter().all(|&call| !world.calls[call].deliveries.is_empty()));
    let more = world.call_all(third, [Ask::new("slow"), Ask::new("slow"), Ask::new("slow")]);
    world.await_all(&calls);
    world.await_all(&more);
    for call in [calls, more].concat() {
        assert_eq!(world.calls[call].error(), None);
    }
    assert!(world.proxy.clients[first].closed_at.is_some());
    assert_eq!(world.sum(Metric::InFlight), 0);
}

#[test]
fn a_client_that_leaves_cancels_its_own_calls_alone() {
    let mut world = world(json!({"upstream": {"maxCallsPerConnection": 1}}));
    let [leaver, other] = [world.connect(), world.connect()];
    world.call_and_wait(other, Ask::new("warm-up"));
    let hung = world.call(leaver, Ask::new("hang"));
    world.run_for(Duration::from_millis(1));
    let log = world.call(leaver, Ask::new("log").one_way());
    world.run_for(Duration::from_millis(1));
    // Waits as well, and so much of it that the calls behind it are not read.
    let large = world.call(other, Ask::new("log").one_way().size(LARGE));
    let calls = world.call_all(other, [Ask::new("slow"), Ask::new("slow")]);
    world.run_for(Duration::from_millis(50));
    let delivered = |world: &World, call: usize| world.calls[call].deliveries.len();
    assert_eq!([hung, log, large].map(|call| delivered(&world, call)), [1, 0, 0]);
    world.leave(leaver);
    world.await_all(&calls);
    assert!(calls.iter().all(|&call| world.calls[call].error().is_none()));
    assert_eq!([hung, log, large].map(|call| delivered(&world, call)), [1, 0, 1]);
    assert_eq!(world.sum(Metric::InFlight), 0);
}

#[test]
fn a_one_way_call_for_a_connection_that_is_lost_gives_up_no_other_call() {
    let mut world = world(json!({"limits": {"maxCallsPerConnection": 1}}));
    world.cluster("demo", &[A, B], Policy::RoundRobin);
    let [first, second] = [world.connect(), world.connect()];
    for _ in 0..4 {
        world.call_and_wait(second, Ask::new("warm-up"));
    }
    let streams = [world.manager.streams_to(A)[0], world.manager.streams_to(B)[0]];
    // A call on each connection; behind that of the first client wait calls without an answer.
    let calls = [world.call(first, Ask::new("hang")), world.call(second, Ask::new("hang"))];
    world.run_for(Duration::from_millis(1));
    assert!(streams.iter().all(|stream| world.manager.connections[stream].in_flight == 1));
    world.call_all(first, (0..3).map(|_| Ask::new("log").one_way()));
    world.call_all(second, (0..3).map(|_| Ask::new("log").one_way()));
    world.run_for(Duration::from_millis(1));
    world.lose_streams_after(*streams.iter().min().unwrap() - 1);
    world.await_all(&calls);
    assert!(calls.iter().all(|&call| world.calls[call].error().is_some()));
    assert_eq!(world.sum(Metric::InFlight), 0);
}
