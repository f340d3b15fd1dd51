//! Circuit breakers, and endpoints that are left out for how their calls end.

use std::collections::BTreeMap;
use std::time::Duration;

use meltemi_proxy::Metric;
use serde_json::{Value, json};

use crate::dubbo::SERVER_ERROR;
use crate::servers::{Endpoint, Policy, Reply, What};
use crate::world::{Ask, Setup, World};

const A: &str = "10.0.0.1:20880";
const B: &str = "10.0.0.2:20880";
const C: &str = "10.0.0.3:20880";

fn world(upstream: Value, endpoints: &[&str]) -> World {
    let mut world = World::new(Setup::demo(json!({"upstream": upstream})));
    world.cluster("demo", endpoints, Policy::RoundRobin);
    world
}

/// A client, once the pool knows all endpoints.
fn client(world: &mut World) -> usize {
    let client = world.connect();
    for _ in 0..6 {
        let call = world.call_and_wait(client, Ask::new("warm-up"));
        assert_eq!(world.calls[call].error(), None);
    }
    client
}

/// How many calls of so many each endpoint gets from now on, one every 10 ms, however they end.
fn spread(world: &mut World, client: usize, count: usize) -> BTreeMap<String, usize> {
    let mut spread = BTreeMap::new();
    for _ in 0..count {
        let call = world.call_and_wait(client, Ask::new("echo"));
        for delivery in &world.calls[call].deliveries {
            *spread.entry(delivery.endpoint.clone()).or_default() += 1;
        }
        world.run_for(Duration::from_millis(10));
    }
    spread
}

/// From now on one endpoint does this with calls, and others answer.
fn a_does(world: &mut World, reply: Reply) {
    world.serve(move |arrival, _| if arrival.endpoint == A { reply.clone() } else { Reply::echo() });
}

/// The texts of the proxy's own answers.
fn told(world: &World) -> Vec<&str> {
    world.metrics.replies.iter().map(|reply| reply.detail.as_str()).collect()
}

#[test]
fn calls_over_the_limit_are_answered_at_once() {
    let mut world = world(json!({"circuitBreaker": {"maxCalls": 3}}), &[A]);
    let client = client(&mut world);
    world.serve(|_, _| What::Echo(0).after(Duration::from_millis(100)));
    let calls = world.call_all(client, (0..5).map(|_| Ask::new("echo")));
    world.run_for(Duration::from_millis(10));
    let errors = calls.iter().filter(|call| world.calls[**call].error().is_some()).count();
    assert_eq!(errors, 2, "before any other has an answer");
    world.await_all(&calls);
    let answered = calls.iter().filter(|call| world.calls[**call].error().is_none()).count();
    assert_eq!(answered, 3);
    let after = world.call_and_wait(client, Ask::new("echo"));
    assert_eq!(world.calls[after].error(), None);
    world.run_out();
    assert_eq!(told(&world)[0], "the circuit breaker of cluster demo is open: it has 3 calls in flight");
}

#[test]
fn calls_are_limited_in_every_protocol_of_a_port() {
    let service = json!({"protocol": "auto", "protocols": ["wide", "dubbo"],
        "upstream": {"circuitBreaker": {"maxCalls": 3}}});
    let plan = json!({"services": {"demo": service}});
    let mut world = World::new(Setup { plan, ..Setup::default() });
    world.cluster("demo", &[A], Policy::RoundRobin);
    let client = client(&mut world);
    world.serve(|_, _| What::Echo(0).after(Duration::from_millis(100)));
    let calls = world.call_all(client, (0..5).map(|_| Ask::new("echo")));
    world.await_all(&calls);
    let errors = calls.iter().filter(|call| world.calls[**call].error().is_some()).count();
    assert_eq!(errors, 2);
}

#[test]
fn only_so_many_calls_wait_for_a_connection() {
    let mut world = world(json!({"circuitBreaker": {"maxWaitingCalls": 2}}), &[A]);
    world.set_endpoint(A, Endpoint::Silent);
    let client = world.connect();
    let calls = world.call_all(client, (0..5).map(|_| Ask::new("echo")));
    world.run_for(Duration::from_millis(10));
    let refused = calls.iter().filter(|call| world.calls[**call].error().is_some()).count();
    assert_eq!(refused, 3);
    world.set_endpoint(A, Endpoint::Up);
    world.run_out();
    let told = told(&world);
    assert!(told.iter().any(|text| text.ends_with("it has 2 calls that wait for a connection")), "{told:?}");
}

#[test]
fn only_so_many_calls_are_on_a_retry() {
    let retry = json!({"on": ["status"], "statuses": ["SERVER_ERROR"], "backoff": {"base": "50ms"}});
    let service =
        json!({"upstream": {"circuitBreaker": {"maxRetries": 2}}, "defaultRoute": {"retry": retry}});
    let mut world = World::new(Setup::demo(service));
    world.cluster("demo", &[A], Policy::RoundRobin);
    let client = client(&mut world);
    world.serve(|arrival, _| match arrival.times {
        1 => What::Error(SERVER_ERROR).now(),
        _ => Reply::echo(),
    });
    let calls = world.call_all(client, (0..5).map(|_| Ask::new("echo")));
    world.await_all(&calls);
    assert_eq!(world.sum(Metric::Retries), 2);
    let answered = calls.iter().filter(|call| world.calls[**call].error().is_none()).count();
    assert_eq!(answered, 2);
}

#[test]
fn one_cluster_may_have_other_limits_and_the_worker_one_for_all() {
    let service = json!({"protocol": "dubbo",
        "upstream": {"circuitBreaker": {"maxCalls": 1}, "clusters": {"v2": {"circuitBreaker": {"maxCalls": 4}}}},
        "routes": [{"name": "two", "match": [{"attributes": {"method": {"exact": "two"}}}], "cluster": "v2"}]});
    let plan = json!({"maxCalls": 3, "services": {"demo": service}});
    let mut world = World::new(Setup { plan, ..Setup::default() });
    world.cluster("demo", &[A], Policy::RoundRobin);
    world.cluster("v2", &[B], Policy::RoundRobin);
    let client = world.connect();
    for method in ["one", "two"] {
        world.call_and_wait(client, Ask::new(method));
    }
    world.serve(|_, _| What::Echo(0).after(Duration::from_millis(100)));
    let calls = world.call_all(client, ["one", "one", "two", "two", "two"].map(Ask::new));
    world.await_all(&calls);
    let refused = calls.iter().map(|call| world.calls[*call].error().is_some());
    assert_eq!(refused.collect::<Vec<_>>(), [false, true, false, false, true]);
    world.run_out();
    let told = told(&world);
    assert_eq!(told[0], "the circuit breaker of cluster demo is open: it has 1 calls in flight");
    assert_eq!(told[1], "this worker has as many calls in flight as the plan allows: 3");
}

/// Whatever becomes of calls, each is counted until its end and no longer: with second tries, retries, limits of time, clients
/// that leave, and servers that die or hang.
#[test]
fn a_breaker_that_has_opened_closes_again() {
    const MOST: usize = 8;
    for seed in 1..=60 {
        let service = json!({
            "upstream": {
                "circuitBreaker": {"maxCalls": MOST, "maxWaitingCalls": MOST, "maxRetries": 2},
                "connectTimeout": "200ms", "maxConnectionAge": "2s",
            },
            "defaultRoute": {"timeout": "2s", "retry": {
                "attempts": 3, "on": ["status", "reset", "connect-failure"], "statuses": ["SERVER_ERROR"],
                "backoff": {"base": "5ms"}, "hedge": {"after": "20ms"},
            }},
        });
        let mut world = World::new(Setup { seed, ..Setup::demo(service) });
        world.cluster("demo", &[A, B, C], Policy::Random);
        world.serve(|_, random| match random.below(8) {
            0 => What::Nothing.now(),
            1 => What::Error(SERVER_ERROR).now(),
            2 | 3 => What::Echo(0).after(Duration::from_millis(random.between(1..100))),
            _ => Reply::echo(),
        });
        for round in 0..40 {
            let client = world.connect();
            world.call_all(
                client,
                (0..6).map(|n| if n == 0 { Ask::new("x").one_way() } else { Ask::new("x") }),
            );
            world.run_for(Duration::from_millis(20));
            let endpoint = [A, B, C][round % 3];
            match round % 5 {
                0 => world.leave(client),
                1 => world.kill(endpoint),
                2 => world.set_endpoint(endpoint, Endpoint::Silent),
                3 => world.cluster("demo", &[A, B, C], Policy::Random),
                _ => world.half_close(client),
            }
        }
        assert!(world.sum(Metric::LocalReplies("overloaded")) > 0, "seed {seed}: it has opened");
        world.cluster("demo", &[A, B, C], Policy::Random);
        world.serve(|_, _| What::Echo(0).after(Duration::from_millis(10)));
        world.run_for(Duration::from_secs(10));
        let client = world.connect();
        let calls = world.call_all(client, (0..MOST + 1).map(|_| Ask::new("x")));
        world.await_all(&calls);
        let refused = calls.iter().filter(|call| world.calls[**call].error().is_some()).count();
        assert_eq!(refused, 1, "seed {seed}");
    }
}

const DETECTION: &str = r#"{"outlierDetection": {"consecutiveFailures": 3, "baseEjectionTime": "30s"}}"#;

fn detecting(endpoints: &[&str]) -> World {
    world(serde_json::from_str(DETECTION).unwrap(), endpoints)
}

#[test]
fn an_endpoint_that_fails_in_a_row_is_left_out_for_a_time() {
    let mut world = detecting(&[A, B, C]);
    let client = client(&mut world);
    a_does(&mut world, What::Error(SERVER_ERROR).now());
    let spread_now = spread(&mut world, client, 60);
    assert_eq!(spread_now[A], 3, "{spread_now:?}");
    assert_eq!(world.sum(Metric::OutlierEjections), 1);
    world.run_for(Duration::from_secs(25));
    assert_eq!(spread(&mut world, client, 60).get(A), None, "nor do new connections lead there");
    world.serve(|_, _| Reply::echo());
    world.run_for(Duration::from_secs(5));
    let spread_later = spread(&mut world, client, 60);
    assert!(spread_later[A] >= 15, "it takes part again: {spread_later:?}");
}

#[test]
fn an_endpoint_that_fails_again_is_left_out_for_longer() {
    let mut world = detecting(&[A, B, C]);
    let client = client(&mut world);
    a_does(&mut world, What::Error(SERVER_ERROR).now());
    // Ejected at once; back after 30 s, and ejected for 60.
    for (second, ejections) in [(0, 1), (20, 1), (35, 2), (60, 2), (85, 2), (100, 3)] {
        let now = Duration::from_nanos(world.now);
        world.run_for(Duration::from_secs(second).saturating_sub(now));
        spread(&mut world, client, 30);
        assert_eq!(world.sum(Metric::OutlierEjections), ejections, "after {second} s");
    }
}

#[test]
fn exceptions_are_answers_and_a_success_forgives() {
    let mut world = detecting(&[A, B]);
    let client = client(&mut world);
    // Two failures in a row and a success.
    let mut number = 0;
    world.serve(move |arrival, _| {
        number += usize::from(arrival.endpoint == A);
        if arrival.endpoint == A && number % 3 != 0 { What::Error(SERVER_ERROR).now() } else { Reply::echo() }
    });
    let spread = spread(&mut world, client, 90);
    assert!(spread[A] >= 40, "{spread:?}");
    assert_eq!(world.sum(Metric::OutlierEjections), 0);
}

#[test]
fn an_endpoint_that_hangs_is_left_out_after_a_few_calls() {
    let mut service: Value = json!({"defaultRoute": {"timeout": "20ms"}});
    service["upstream"] = serde_json::from_str(DETECTION).unwrap();
    let mut world = World::new(Setup::demo(service));
    world.cluster("demo", &[A, B, C], Policy::RoundRobin);
    let client = client(&mut world);
    a_does(&mut world, What::Nothing.now());
    let spread = spread(&mut world, client, 60);
    assert_eq!(spread[A], 3, "{spread:?}");
}

#[test]
fn the_last_endpoint_is_never_left_out_and_few_are_at_a_time() {
    for (endpoints, most) in [(&[A][..], 0), (&[A, B][..], 1), (&[A, B, C][..], 1)] {
        let mut world = detecting(endpoints);
        let client = client(&mut world);
        world.serve(|_, _| What::Error(SERVER_ERROR).now());
        spread(&mut world, client, 60);
        assert_eq!(world.sum(Metric::OutlierEjections), most, "of {endpoints:?}");
    }
    for (least, most) in [(0, 2), (33, 2), (34, 1), (67, 0)] {
        let share = json!({"outlierDetection": {
            "consecutiveFailures": 3, "maxEjectionPercent": 67, "minHealthPercent": least,
        }});
        let mut world = world(share, &[A, B, C]);
        let client = client(&mut world);
        world.serve(|_, _| What::Error(SERVER_ERROR).now());
        spread(&mut world, client, 60);
        assert_eq!(world.sum(Metric::OutlierEjections), most, "{least} % are left in");
    }
}

#[test]
fn one_that_is_left_out_serves_where_no_other_can() {
    let mut world = detecting(&[A, B]);
    let client = client(&mut world);
    a_does(&mut world, What::Error(SERVER_ERROR).now());
    spread(&mut world, client, 20);
    assert_eq!(world.sum(Metric::OutlierEjections), 1);
    world.serve(|_, _| Reply::echo());
    world.set_endpoint(B, Endpoint::Refusing);
    world.kill(B);
    world.run_for(Duration::from_secs(1));
    let spread = spread(&mut world, client, 20);
    assert!(spread[A] >= 19, "{spread:?}");
}

#[test]
fn connections_that_are_lost_with_calls_count_once_each() {
    let mut world = detecting(&[A, B]);
    let client = client(&mut world);
    a_does(&mut world, What::Close.after(Duration::from_millis(5)));
    let calls = world.call_all(client, (0..20).map(|_| Ask::new("echo")));
    world.await_all(&calls);
    assert_eq!(world.sum(Metric::OutlierEjections), 0, "one connection");
    for _ in 0..6 {
        world.run_for(Duration::from_secs(10));
        spread(&mut world, client, 10);
    }
    assert_eq!(world.sum(Metric::OutlierEjections), 1);
}

#[test]
fn a_plan_that_asks_no_more_lets_all_take_part() {
    let mut world = detecting(&[A, B]);
    let client = client(&mut world);
    a_does(&mut world, What::Error(SERVER_ERROR).now());
    spread(&mut world, client, 20);
    assert_eq!(spread(&mut world, client, 20).get(A), None);
    world.set_plan(&json!({"services": {"demo": {"protocol": "dubbo"}}}));
    world.serve(|_, _| Reply::echo());
    world.run_for(Duration::from_secs(61));
    let spread = spread(&mut world, client, 40);
    assert!(spread[A] >= 10, "{spread:?}");
}

#[test]
fn an_endpoint_that_was_left_out_is_named_again_though_the_plan_asks_no_more() {
    let mut world = detecting(&[A, B]);
    let client = client(&mut world);
    a_does(&mut world, What::Error(SERVER_ERROR).now());
    spread(&mut world, client, 20);
    assert_eq!(world.sum(Metric::OutlierEjections), 1);
    // Envoy does not choose it any more.
    world.cluster("demo", &[B, A], Policy::First);
    world.set_plan(&json!({"services": {"demo": {"protocol": "dubbo"}}}));
    world.serve(|_, _| Reply::echo());
    world.run_for(Duration::from_secs(61));
    world.kill(B);
    let spread = spread(&mut world, client, 20);
    assert_eq!(spread.get(A), Some(&20), "{:?}", told(&world));
}
