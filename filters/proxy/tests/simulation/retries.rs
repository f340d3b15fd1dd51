//! Further tries: when, where, and how many.

use std::time::Duration;

use meltemi_proxy::Metric;
use serde_json::{Value, json};

use crate::dubbo::{SERVER_ERROR, SERVER_TIMEOUT, THREADPOOL_EXHAUSTED};
use crate::servers::{Endpoint, Policy, Reply, What};
use crate::world::{Ask, Setup, World};

const A: &str = "10.0.0.1:20880";
const B: &str = "10.0.0.2:20880";

fn world_with(service: Value) -> World {
    let mut world = World::new(Setup { plan: json!({"services": {"demo": service}}), ..Setup::default() });
    world.cluster("demo", &[A, B], Policy::RoundRobin);
    world
}

fn world(retry: Value) -> World {
    world_with(json!({"protocol": "dubbo", "defaultRoute": {"retry": retry}}))
}

/// A client whose pool knows both endpoints.
fn client(world: &mut World) -> usize {
    let client = world.connect();
    for _ in 0..4 {
        let call = world.call_and_wait(client, Ask::new("warm-up"));
        assert_eq!(world.calls[call].error(), None);
    }
    assert_eq!(world.manager.open(), 2);
    client
}

/// The endpoints that saw a call, in their order.
fn tries(world: &World, call: usize) -> Vec<&str> {
    world.calls[call].deliveries.iter().map(|delivery| delivery.endpoint.as_str()).collect()
}

#[test]
fn a_listed_status_is_tried_again_on_the_other_endpoint() {
    let mut world = world(json!({
        "on": ["status"], "statuses": ["SERVER_THREADPOOL_EXHAUSTED_ERROR"], "backoff": {"base": "10ms"},
    }));
    let client = client(&mut world);
    world.serve(|arrival, _| match arrival.times {
        1 => What::Error(THREADPOOL_EXHAUSTED).now(),
        _ => Reply::echo(),
    });
    for _ in 0..20 {
        let call = world.call_and_wait(client, Ask::new("echo"));
        assert_eq!(world.calls[call].error(), None);
        let tries = tries(&world, call);
        assert!(tries == [A, B] || tries == [B, A], "{tries:?}");
    }
    assert_eq!(world.sum(Metric::Retries), 20);
}

#[test]
fn a_status_that_is_not_listed_is_passed_on() {
    let mut world = world(json!({"on": ["status"], "statuses": [100], "attempts": 3}));
    let client = client(&mut world);
    world.serve(|_, _| What::Error(SERVER_ERROR).now());
    let call = world.call_and_wait(client, Ask::new("echo"));
    let (status, text) = world.calls[call].answer.as_ref().unwrap().result.clone().unwrap_err();
    assert_eq!((status, text.as_str()), (SERVER_ERROR, "overloaded"));
    assert_eq!(tries(&world, call).len(), 1);
}

#[test]
fn the_last_answer_is_passed_on_when_the_tries_are_used_up() {
    let mut world =
        world(json!({"on": ["status"], "statuses": [100], "attempts": 3, "backoff": {"base": "1ms"}}));
    let client = client(&mut world);
    world.serve(|_, _| What::Error(THREADPOOL_EXHAUSTED).now());
    let call = world.call_and_wait(client, Ask::new("echo"));
    assert_eq!(world.calls[call].error(), Some(THREADPOOL_EXHAUSTED));
    assert_eq!(tries(&world, call).len(), 4);
    assert_eq!(world.sum(Metric::Retries), 3);
}

#[test]
fn nothing_is_tried_again_unless_the_route_says_so() {
    let mut world = world_with(json!({"protocol": "dubbo"}));
    let client = client(&mut world);
    for what in [What::Close, What::Reset, What::Error(THREADPOOL_EXHAUSTED)] {
        world.serve(move |_, _| what.clone().now());
        let call = world.call_and_wait(client, Ask::new("echo"));
        assert!(world.calls[call].error().is_some());
        assert_eq!(tries(&world, call).len(), 1);
    }
    assert_eq!(world.sum(Metric::Retries), 0);
}

#[test]
fn a_call_whose_connection_is_lost_is_tried_again_on_the_other_endpoint() {
    for lost in [What::Close, What::Reset] {
        let mut world = world(json!({"on": ["reset"], "backoff": {"base": "1ms"}}));
        let client = client(&mut world);
        world.serve(move |arrival, _| match arrival.times {
            1 => lost.clone().now(),
            _ => Reply::echo(),
        });
        let call = world.call_and_wait(client, Ask::new("echo"));
        assert_eq!(world.calls[call].error(), None);
        let tries = tries(&world, call);
        assert!(tries == [A, B] || tries == [B, A], "{tries:?}");
        assert_eq!(world.sum(Metric::Resets), 1);
    }
}

#[test]
fn every_call_on_a_lost_connection_is_tried_again() {
    let mut world = world(json!({"on": ["reset"], "backoff": {"base": "1ms"}}));
    world.set_plan(&json!({"services": {"demo": {
        "protocol": "dubbo",
        "retryBudget": {"percent": 100},
        "defaultRoute": {"retry": {"on": ["reset"], "backoff": {"base": "1ms"}}},
    }}}));
    let client = client(&mut world);
    world.serve(|_, _| What::Echo(0).after(Duration::from_millis(50)));
    let calls = world.call_all(client, (0..60).map(|_| Ask::new("echo")));
    world.run_for(Duration::from_millis(20));
    world.kill(A);
    world.await_all(&calls);
    assert!(calls.iter().all(|&call| world.calls[call].endpoint() == Some(B)));
}

#[test]
fn no_more_retries_are_made_at_a_time_than_the_budget_allows() {
    let mut world = world_with(json!({
        "protocol": "dubbo",
        "retryBudget": {"percent": 0, "minRetries": 3},
        "defaultRoute": {"retry": {"on": ["reset"], "attempts": 2, "backoff": {"base": "1ms"}}},
    }));
    let client = client(&mut world);
    world.serve(|_, _| What::Echo(0).after(Duration::from_millis(50)));
    let calls = world.call_all(client, (0..40).map(|_| Ask::new("echo")));
    world.run_for(Duration::from_millis(20));
    world.kill(A);
    world.await_all(&calls);
    let repeated = calls.iter().filter(|&&call| tries(&world, call).len() > 1).count();
    let failed = calls.iter().filter(|&&call| world.calls[call].error() == Some(SERVER_ERROR)).count();
    assert_eq!((repeated, failed), (3, 17));
    // What was taken from the budget is given back.
    world.set_endpoint(A, Endpoint::Up);
    world.serve(|arrival, _| if arrival.times == 1 { What::Close.now() } else { Reply::echo() });
    let call = world.call_and_wait(client, Ask::new("echo"));
    assert_eq!(world.calls[call].error(), None);
}

#[test]
fn a_one_way_call_that_was_sent_is_never_tried_again() {
    let mut world =
        world(json!({"on": ["connect-failure", "reset"], "attempts": 3, "backoff": {"base": "1ms"}}));
    let client = client(&mut world);
    world.serve(|_, _| What::Close.now());
    let call = world.call(client, Ask::new("log").one_way());
    world.run_for(Duration::from_secs(1));
    assert_eq!(tries(&world, call).len(), 1);
}

#[test]
fn a_one_way_call_waits_for_a_connection_and_is_delivered_once() {
    let mut world = world(json!({"on": ["connect-failure"], "attempts": 2, "backoff": {"base": "1ms"}}));
    world.set_endpoint(A, Endpoint::Refusing);
    let client = world.connect();
    let calls = world.call_all(client, (0..20).map(|_| Ask::new("log").one_way()));
    world.run_for(Duration::from_secs(1));
    assert!(calls.iter().all(|&call| tries(&world, call) == [B]));
}

#[test]
fn waiting_one_way_calls_are_not_held_against_their_client_for_ever() {
    // Each round has a megabyte of them wait for a connection; 16 MiB may be kept for one client.
    let mut world = world_with(json!({"protocol": "dubbo", "upstream": {"maxConnectionAge": "1s"}}));
    world.cluster("demo", &[A], Policy::RoundRobin);
    let client = world.connect();
    for _ in 0..24 {
        let calls = world.call_all(client, (0..10).map(|_| Ask::new("log").size(100_000).one_way()));
        world.run_until(|world| calls.iter().all(|&call| world.calls[call].deliveries.len() == 1));
        world.run_out();
        assert_eq!(world.manager.open(), 0);
    }
    world.call_and_wait(client, Ask::new("echo"));
}

#[test]
fn a_request_that_could_not_be_sent_is_sent_once_an_endpoint_is_up() {
    let mut world = world(json!({
        "on": ["connect-failure"], "attempts": 10, "backoff": {"base": "100ms", "max": "100ms"},
    }));
    world.set_endpoint(A, Endpoint::Refusing);
    world.set_endpoint(B, Endpoint::Refusing);
    let client = world.connect();
    let call = world.call(client, Ask::new("echo").size(5000));
    world.run_for(Duration::from_millis(150));
    assert!(world.calls[call].answer.is_none());
    world.set_endpoint(A, Endpoint::Up);
    world.set_endpoint(B, Endpoint::Up);
    world.await_all(&[call]);
    assert_eq!(world.calls[call].error(), None);
    assert_eq!(tries(&world, call).len(), 1);
}

#[test]
fn a_try_that_takes_too_long_is_made_elsewhere_and_its_late_answer_dropped() {
    let mut world = world(json!({
        "on": ["per-try-timeout"], "perTryTimeout": "100ms", "attempts": 1, "backoff": {"base": "0s"},
    }));
    let client = client(&mut world);
    world.serve(|arrival, _| match arrival.times {
        1 => What::Echo(0).after(Duration::from_millis(150)),
        _ => What::Echo(0).after(Duration::from_millis(20)),
    });
    let call = world.call_and_wait(client, Ask::new("echo"));
    let first = tries(&world, call)[0].to_owned();
    assert_eq!(tries(&world, call).len(), 2);
    assert_ne!(world.calls[call].endpoint(), Some(first.as_str()));
    world.run_for(Duration::from_secs(1));
    assert_eq!(world.sum(Metric::UnmatchedResponses), 1);
    assert_eq!(world.manager.open(), 2);
}

#[test]
fn the_timeout_of_the_call_ends_its_tries() {
    let mut world = world_with(json!({"protocol": "dubbo", "defaultRoute": {"timeout": "250ms", "retry": {
        "on": ["per-try-timeout"], "perTryTimeout": "100ms", "attempts": 10, "backoff": {"base": "0s"},
    }}}));
    let client = client(&mut world);
    world.serve(|_, _| What::Nothing.now());
    let call = world.call_and_wait(client, Ask::new("echo"));
    assert_eq!(world.calls[call].error(), Some(SERVER_TIMEOUT));
    assert_eq!(tries(&world, call).len(), 3);
    let took = world.calls[call].answer.as_ref().unwrap().at - world.calls[call].sent_at;
    assert!((250_000_000..270_000_000).contains(&took), "{took}");
}

#[test]
fn a_retry_opens_a_connection_to_another_endpoint_if_there_is_none() {
    let mut world = world(json!({"on": ["status"], "statuses": [100], "backoff": {"base": "1ms"}}));
    let client = client(&mut world);
    // The connection to B is gone, B itself is not.
    for stream in world.manager.streams_to(B) {
        world.close_upstream(stream, true);
    }
    world.run_for(Duration::from_millis(5));
    assert_eq!(world.manager.open(), 1);
    world.serve(|arrival, _| match arrival.endpoint {
        A => What::Error(THREADPOOL_EXHAUSTED).now(),
        _ => Reply::echo(),
    });
    let call = world.call_and_wait(client, Ask::new("echo"));
    assert_eq!(tries(&world, call), [A, B]);
    assert_eq!(world.calls[call].endpoint(), Some(B));
}

#[test]
fn a_retry_goes_to_the_same_endpoint_if_there_is_no_other() {
    let mut world = world(json!({"on": ["status"], "statuses": [100], "backoff": {"base": "1ms"}}));
    world.cluster("demo", &[A], Policy::RoundRobin);
    world.serve(|arrival, _| match arrival.times {
        1 => What::Error(THREADPOOL_EXHAUSTED).now(),
        _ => Reply::echo(),
    });
    let client = world.connect();
    let call = world.call_and_wait(client, Ask::new("echo"));
    assert_eq!(tries(&world, call), [A, A]);
    assert_eq!(world.calls[call].error(), None);
}
