//! How requests spread over endpoints, and how connections to them come and go.

use std::time::Duration;

use meltemi_proxy::Metric;
use serde_json::json;

use crate::servers::{Endpoint, Policy, Reply, What};
use crate::world::{Ask, Setup, World};

const A: &str = "10.0.0.1:20880";
const B: &str = "10.0.0.2:20880";
const C: &str = "10.0.0.3:20880";
const D: &str = "10.0.0.4:20880";

fn world(upstream: serde_json::Value) -> World {
    seeded_world(upstream, Setup::default().seed)
}

fn seeded_world(upstream: serde_json::Value, seed: u64) -> World {
    let retry = json!({"attempts": 3, "on": ["connect-failure", "reset"], "backoff": {"base": "1ms"}});
    let service = json!({"protocol": "dubbo", "upstream": upstream, "defaultRoute": {"retry": retry}});
    World::new(Setup { plan: json!({"services": {"demo": service}}), seed, ..Setup::default() })
}

/// One call after the other, each a while after the last.
fn calls(world: &mut World, client: usize, count: usize, every: Duration) {
    for _ in 0..count {
        let call = world.call_and_wait(client, Ask::new("echo"));
        assert_eq!(world.calls[call].error(), None);
        world.run_for(every);
    }
}

#[test]
fn requests_of_one_client_reach_every_endpoint() {
    let mut world = world(json!({}));
    world.cluster("demo", &[A, B, C], Policy::RoundRobin);
    let client = world.connect();
    calls(&mut world, client, 31, Duration::ZERO);
    for (endpoint, count) in world.served() {
        assert!((9..=12).contains(&count), "{endpoint} served {count}");
    }
    assert_eq!(world.manager.open(), 3);
}

#[test]
fn endpoints_that_chance_hid_are_found_within_seconds() {
    for (policy, seed) in [Policy::LeastRequest, Policy::Random]
        .into_iter()
        .flat_map(|policy| (1..=100).map(move |seed| (policy, seed)))
    {
        let mut world = seeded_world(json!({}), seed);
        world.cluster("demo", &[A, B], policy);
        let client = world.connect();
        calls(&mut world, client, 20, Duration::from_secs(1));
        assert_eq!(world.manager.open(), 2, "{policy:?}, seed {seed}");
        let asked = world.manager.asked.len();
        assert!(asked <= 26, "{policy:?}, seed {seed}: {asked} connections were opened");
    }
}

#[test]
fn the_endpoint_with_the_least_calls_in_flight_gets_the_next() {
    let mut world = world(json!({}));
    world.cluster("demo", &[A, B], Policy::RoundRobin);
    world.serve(|arrival, _| {
        What::Echo(0).after(Duration::from_millis(if arrival.endpoint == A { 500 } else { 2 }))
    });
    let client = world.connect();
    calls(&mut world, client, 4, Duration::ZERO);
    let mut started = Vec::new();
    for _ in 0..100 {
        started.push(world.call(client, Ask::new("echo")));
        world.run_for(Duration::from_millis(3));
    }
    world.await_all(&started);
    let served = world.served();
    assert!(served[A] <= 4 && served[B] >= 100, "{served:?}");
}

#[test]
fn a_second_connection_to_each_endpoint_is_kept_if_the_plan_says_so() {
    let mut world = world(json!({"connectionsPerEndpoint": 2}));
    world.cluster("demo", &[A, B], Policy::RoundRobin);
    let client = world.connect();
    calls(&mut world, client, 20, Duration::from_millis(1));
    assert_eq!((world.manager.streams_to(A).len(), world.manager.streams_to(B).len()), (2, 2));
}

#[test]
fn a_new_endpoint_takes_part_once_connections_are_renewed() {
    let mut world = world(json!({"maxConnectionAge": "2s"}));
    world.cluster("demo", &[A, B], Policy::RoundRobin);
    let client = world.connect();
    calls(&mut world, client, 10, Duration::from_millis(10));
    world.cluster("demo", &[A, B, C], Policy::RoundRobin);
    calls(&mut world, client, 60, Duration::from_millis(50));
    let before = world.served();
    calls(&mut world, client, 30, Duration::from_millis(10));
    let after = world.served();
    for endpoint in [A, B, C] {
        assert!(after[endpoint] - before[endpoint] >= 8, "{endpoint}: {before:?} {after:?}");
    }
}

#[test]
fn an_endpoint_that_was_removed_is_left() {
    let mut world = world(json!({"maxConnectionAge": "2s", "connectTimeout": "1s"}));
    world.cluster("demo", &[A, B], Policy::RoundRobin);
    let client = world.connect();
    calls(&mut world, client, 10, Duration::from_millis(10));
    world.cluster("demo", &[B], Policy::RoundRobin);
    calls(&mut world, client, 80, Duration::from_millis(50));
    assert!(world.manager.streams_to(A).is_empty());
    let before = world.served();
    calls(&mut world, client, 10, Duration::ZERO);
    assert_eq!(world.served()[A], before[A]);
}

#[test]
fn connections_are_renewed_while_calls_are_under_way() {
    let mut world = world(json!({"maxConnectionAge": "1s"}));
    world.cluster("demo", &[A], Policy::RoundRobin);
    world.serve(|_, random| What::Echo(0).after(Duration::from_millis(random.between(1..100))));
    let client = world.connect();
    let mut started = Vec::new();
    for _ in 0..1000 {
        started.push(world.call(client, Ask::new("echo")));
        world.run_for(Duration::from_millis(5));
    }
    world.await_all(&started);
    assert!(
        started
            .iter()
            .all(|&call| world.calls[call].deliveries.len() == 1 && world.calls[call].error().is_none())
    );
    let asked = world.manager.asked.len();
    assert!((8..30).contains(&asked), "{asked} connections were opened in five seconds");
}

#[test]
fn an_idle_pool_closes_its_connections_and_sets_no_more_alarms() {
    let mut world = world(json!({"maxConnectionAge": "5s"}));
    world.cluster("demo", &[A, B], Policy::RoundRobin);
    let client = world.connect();
    calls(&mut world, client, 10, Duration::ZERO);
    assert_eq!(world.sum(Metric::UpstreamConnectionsActive), 2);
    let took = world.run_out();
    assert!(took < Duration::from_secs(75), "{took:?}");
    assert_eq!(world.sum(Metric::UpstreamConnectionsActive), 0);
    assert_eq!(world.manager.open(), 0);
    calls(&mut world, client, 1, Duration::ZERO);
}

#[test]
fn one_dead_endpoint_of_four_fails_no_call() {
    for policy in [Policy::RoundRobin, Policy::Random, Policy::LeastRequest] {
        let mut world = world(json!({}));
        world.cluster("demo", &[A, B, C, D], policy);
        world.set_endpoint(A, Endpoint::Refusing);
        let client = world.connect();
        calls(&mut world, client, 50, Duration::from_millis(1));
        assert!(world.calls.iter().all(|call| call.deliveries.len() == 1), "{policy:?}");
    }
}

#[test]
fn the_living_endpoints_are_found_although_envoy_prefers_the_dead_one() {
    // Envoy's LEAST_REQUEST counts open streams: an endpoint that refuses looks idle.
    let mut world = world(json!({"ejectionTime": "1s"}));
    world.cluster("demo", &[A, B, C, D], Policy::LeastRequest);
    world.set_endpoint(A, Endpoint::Refusing);
    let client = world.connect();
    calls(&mut world, client, 500, Duration::from_millis(20));
    let before = world.served();
    calls(&mut world, client, 90, Duration::ZERO);
    let served = world.served();
    for endpoint in [B, C, D] {
        assert!(served[endpoint] - before[endpoint] >= 25, "{endpoint}: {before:?} {served:?}");
    }
}

#[test]
fn a_known_living_endpoint_is_named_when_envoy_chooses_none_but_dead_ones() {
    let mut world = world(json!({}));
    world.cluster("demo", &[A, B, C], Policy::RoundRobin);
    let client = world.connect();
    calls(&mut world, client, 6, Duration::from_millis(1));
    // From now on Envoy chooses A by itself, and A is dead; the others lost their connections.
    world.cluster("demo", &[A, B, C], Policy::First);
    for endpoint in [A, B, C] {
        world.kill(endpoint);
    }
    world.set_endpoint(B, Endpoint::Up);
    world.set_endpoint(C, Endpoint::Up);
    calls(&mut world, client, 20, Duration::from_millis(1));
    let named = world.manager.asked.iter().filter(|asked| asked.named.is_some());
    assert!(named.clone().count() >= 1 && named.into_iter().all(|asked| asked.named.as_deref() != Some(A)));
}

#[test]
fn an_endpoint_that_refused_is_tried_again_after_a_while() {
    let mut world = world(json!({"ejectionTime": "1s"}));
    world.cluster("demo", &[A, B], Policy::RoundRobin);
    world.set_endpoint(A, Endpoint::Refusing);
    let client = world.connect();
    calls(&mut world, client, 20, Duration::from_millis(5));
    assert_eq!(world.served()[A], 0);
    let asked = world.manager.asked.len();
    assert!(asked < 10, "{asked} connections were asked for");
    world.set_endpoint(A, Endpoint::Up);
    calls(&mut world, client, 30, Duration::from_millis(100));
    let served = world.served();
    assert!(served[A] > 5, "{served:?}");
}

#[test]
fn a_cluster_of_dead_endpoints_is_not_tried_without_end() {
    for ejection in ["0s", "5s"] {
        let mut world = world(json!({"ejectionTime": ejection}));
        world.cluster("demo", &[A, B], Policy::RoundRobin);
        world.set_endpoint(A, Endpoint::Refusing);
        world.set_endpoint(B, Endpoint::Refusing);
        let client = world.connect();
        let call = world.call_and_wait(client, Ask::new("echo"));
        assert_eq!(world.calls[call].error(), Some(crate::dubbo::SERVER_ERROR));
        let asked = world.manager.asked.len();
        assert!(asked <= 20, "{asked} connections were asked for with an ejection of {ejection}");
    }
}

#[test]
fn an_endpoint_that_hangs_when_it_is_named_is_given_up() {
    let mut world = world(json!({"connectTimeout": "200ms"}));
    world.cluster("demo", &[A, B], Policy::RoundRobin);
    let client = world.connect();
    calls(&mut world, client, 4, Duration::from_millis(1));
    for endpoint in [A, B] {
        world.kill(endpoint);
        world.set_endpoint(endpoint, Endpoint::Silent);
    }
    let call = world.call_and_wait(client, Ask::new("echo"));
    assert_eq!(world.calls[call].error(), Some(crate::dubbo::SERVER_ERROR));
    world.set_endpoint(A, Endpoint::Up);
    world.set_endpoint(B, Endpoint::Up);
    world.run_for(Duration::from_secs(6));
    calls(&mut world, client, 4, Duration::from_millis(1));
}

#[test]
fn a_cluster_that_does_not_exist_is_told_to_the_client() {
    let mut world = world(json!({}));
    let client = world.connect();
    let call = world.call_and_wait(client, Ask::new("echo"));
    let (status, text) = world.calls[call].answer.as_ref().unwrap().result.clone().unwrap_err();
    assert_eq!(status, crate::dubbo::SERVER_ERROR);
    assert!(
        text.contains("cannot connect to cluster demo: no endpoint, status 503: no healthy upstream"),
        "{text}"
    );
}

#[test]
fn a_slow_answer_does_not_hold_up_the_others() {
    let mut world = world(json!({}));
    world.cluster("demo", &[A], Policy::RoundRobin);
    world.serve(|arrival, _| match arrival.method {
        "slow" => What::Echo(0).after(Duration::from_secs(2)),
        _ => Reply::echo(),
    });
    let client = world.connect();
    let slow = world.call(client, Ask::new("slow"));
    calls(&mut world, client, 10, Duration::ZERO);
    assert!(world.calls[slow].answer.is_none());
    world.await_all(&[slow]);
}

#[test]
fn more_endpoints_than_are_remembered_do_not_keep_the_search_going() {
    let mut world = world(json!({}));
    let endpoints: Vec<String> = (0..1200).map(|n| format!("10.0.{}.{}:20880", n / 200, n % 200)).collect();
    world.cluster("demo", &endpoints.iter().map(String::as_str).collect::<Vec<_>>(), Policy::Random);
    let client = world.connect();
    for _ in 0..1000 {
        world.call_and_wait(client, Ask::new("echo"));
        world.run_for(Duration::from_millis(30));
    }
    assert!(world.manager.open() <= 1024, "{} connections", world.manager.open());
    let asked = world.manager.asked.len();
    assert!(asked < 10_000, "{asked} connections were asked for");
}
