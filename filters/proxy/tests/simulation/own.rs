//! Calls of the proxy's own: sent as those of clients are, and answered to nobody.

use std::time::Duration;

use meltemi_proxy::{Class, Metric};
use serde_json::json;

use crate::dubbo::THREADPOOL_EXHAUSTED;
use crate::servers::{Policy, Reply, What};
use crate::world::{Ask, Setup, World};

const A: &str = "10.0.0.1:20880";

/// A client that has made a call, and a request of its that it has not sent.
fn play() -> (World, usize, (usize, Vec<u8>)) {
    let retry = json!({"on": ["connect-failure", "status"], "statuses": [100], "attempts": 1});
    let mut world = World::new(Setup::demo(json!({"defaultRoute": {"timeout": "1s", "retry": retry}})));
    world.cluster("demo", &[A], Policy::RoundRobin);
    let client = world.connect();
    world.call_and_wait(client, Ask::new("echo"));
    let request = world.prepare(client, Ask::new("echo"));
    (world, client, request)
}

/// Has the worker called back, and all come to its end.
fn run(world: &mut World, client: usize) {
    world.heartbeat(client);
    world.run_for(Duration::from_secs(2));
}

#[test]
fn the_answer_is_counted_and_goes_to_no_client() {
    let (mut world, client, (call, request)) = play();
    assert!(world.send_own(&request));
    run(&mut world, client);
    assert_eq!((world.calls[call].deliveries.len(), &world.calls[call].answer.is_none()), (1, &true));
    assert_eq!((world.sum(Metric::Requests), world.sum(Metric::InFlight)), (2, 0));
    assert_eq!(world.sum(Metric::Responses(Class::Success)), 2);
    assert_eq!(world.sum(Metric::UnmatchedResponses), 0);
    // The client goes on as before.
    let next = world.call_and_wait(client, Ask::new("echo"));
    assert_eq!(world.calls[next].endpoint(), Some(A));
}

#[test]
fn it_waits_for_a_connection_and_is_tried_again_as_any_other() {
    let (mut world, client, (call, request)) = play();
    world.serve(|arrival, _| match arrival.times {
        1 => What::Error(THREADPOOL_EXHAUSTED).now(),
        _ => Reply::echo(),
    });
    let stream = world.manager.streams_to(A)[0];
    world.close_upstream(stream, true);
    run(&mut world, client);
    assert!(world.send_own(&request));
    run(&mut world, client);
    assert_eq!(world.calls[call].deliveries.len(), 2);
    assert_eq!((world.sum(Metric::Retries), world.sum(Metric::InFlight)), (1, 0));
    assert_eq!(world.sum(Metric::Responses(Class::Success)), 2);
}

#[test]
fn its_failure_is_a_line_without_a_peer() {
    let (mut world, client, (call, request)) = play();
    world.serve(|_, _| What::Nothing.now());
    assert!(world.send_own(&request));
    run(&mut world, client);
    assert_eq!((world.sum(Metric::LocalReplies("timeout")), world.sum(Metric::InFlight)), (1, 0));
    assert!(world.calls[call].answer.is_none());
    let reply = world.metrics.replies.last().unwrap();
    assert_eq!(
        (reply.cluster.as_deref(), reply.endpoint.as_deref(), reply.tries),
        (Some("demo"), Some(A), 1)
    );
    assert_eq!((reply.peer.as_deref(), reply.request_bytes), (None, request.len()));
}

#[test]
fn it_ends_with_the_worker() {
    let (mut world, client, (_, request)) = play();
    world.serve(|_, _| What::Nothing.now());
    assert!(world.send_own(&request));
    world.heartbeat(client);
    world.run_for(Duration::from_millis(300));
    world.shut_down();
    assert_eq!((world.metrics.sum(Metric::Cancelled), world.metrics.sum(Metric::InFlight)), (1, 0));
}

#[test]
fn only_whole_requests_of_services_are_sent() {
    let (mut world, client, (_, request)) = play();
    assert!(!world.send_own(&request[..request.len() - 1]));
    assert!(!world.send_own(&[&request[..], &request].concat()));
    assert!(!world.send_own(b"no frame at all"));
    world.set_plan(&json!({"services": {}}));
    assert!(!world.send_own(&request));
    run(&mut world, client);
    assert_eq!(world.sum(Metric::Requests), 1);
}
