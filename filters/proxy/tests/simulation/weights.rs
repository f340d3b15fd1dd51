//! Balancing that keeps Envoy's weights.

use std::time::Duration;

use serde_json::{Value, json};

use crate::dubbo::SERVER_ERROR;
use crate::servers::{Endpoint, Policy, Reply, What};
use crate::toy;
use crate::world::{Ask, Setup, World};

const A: &str = "10.0.0.1:20880";
const B: &str = "10.0.0.2:20880";
const C: &str = "10.0.0.3:20880";

const ALL: [&str; 3] = [A, B, C];

fn service() -> Value {
    json!({"upstream": {"keepWeights": true}})
}

fn world_of(service: Value, policy: Policy, weights: [u64; 3], seed: u64) -> World {
    let mut world = World::new(Setup { seed, ..Setup::demo(service) });
    world.cluster("demo", &ALL, policy);
    weigh(&mut world, weights);
    world
}

fn weigh(world: &mut World, weights: [u64; 3]) {
    world.manager.weights = ALL.into_iter().zip(weights).collect();
}

/// Calls one after the other for so long.
fn call_for(world: &mut World, client: usize, time: Duration, every: Duration) {
    let end = world.now + u64::try_from(time.as_nanos()).unwrap();
    while world.now < end {
        world.call_and_wait(client, Ask::new("echo"));
        world.run_for(every);
    }
}

/// How many of so many calls go to each endpoint, `in_flight` of them at a time.
fn shares(world: &mut World, client: usize, count: usize, in_flight: usize) -> [usize; 3] {
    let before = world.served();
    for _ in 0..count / in_flight {
        let calls = world.call_all(client, (0..in_flight).map(|_| Ask::new("echo")));
        world.await_all(&calls);
        assert!(calls.iter().all(|call| world.calls[*call].error().is_none()));
    }
    let after = world.served();
    ALL.map(|endpoint| after[endpoint] - before.get(endpoint).copied().unwrap_or_default())
}

/// Whether shares of 10 000 are as the weights say, give or take so many.
#[track_caller]
fn assert_near(shares: [usize; 3], wanted: [usize; 3], margin: usize) {
    let is_near = |(share, wanted): (usize, usize)| share.abs_diff(wanted) <= margin;
    assert!(shares.into_iter().zip(wanted).all(is_near), "{shares:?}, and not {wanted:?}");
}

const LEARN: Duration = Duration::from_secs(150);
const OFTEN: Duration = Duration::from_millis(50);

#[test]
fn calls_follow_the_weights_whether_few_or_many_are_in_flight() {
    for (policy, margin) in [(Policy::Weighted, 300), (Policy::WeightedRandom, 800)] {
        for seed in 1..=2 {
            let mut world = world_of(service(), policy, [1, 2, 7], seed);
            let client = world.connect();
            call_for(&mut world, client, LEARN, OFTEN);
            for in_flight in [1, 2, 20, 100] {
                let shares = shares(&mut world, client, 10_000, in_flight);
                assert_near(shares, [1000, 2000, 7000], margin);
            }
        }
    }
}

#[test]
fn weights_that_change_are_followed() {
    for policy in [Policy::Weighted, Policy::WeightedRandom] {
        let mut world = world_of(service(), policy, [1, 2, 7], 1);
        let client = world.connect();
        call_for(&mut world, client, LEARN, OFTEN);
        weigh(&mut world, [7, 2, 1]);
        call_for(&mut world, client, Duration::from_secs(70), OFTEN);
        let shares_soon = shares(&mut world, client, 10_000, 10);
        assert!(shares_soon[0] > 5500 && shares_soon[2] < 2500, "{shares_soon:?}");
        weigh(&mut world, [1, 1, 1]);
        call_for(&mut world, client, 2 * LEARN, OFTEN);
        assert_near(shares(&mut world, client, 10_000, 10), [3333; 3], 20);
    }
}

#[test]
fn equals_get_the_same_however_envoy_chooses_them() {
    for policy in [Policy::RoundRobin, Policy::Random, Policy::LeastRequest, Policy::Weighted] {
        let mut world = world_of(service(), policy, [1, 1, 1], 3);
        let client = world.connect();
        for _ in 0..10 {
            call_for(&mut world, client, Duration::from_secs(60), OFTEN);
            for in_flight in [1, 10] {
                assert_near(shares(&mut world, client, 1000, in_flight), [333; 3], 5);
            }
        }
    }
}

#[test]
fn one_that_dies_leaves_its_calls_to_the_others_by_their_weights() {
    let mut world = world_of(service(), Policy::Weighted, [1, 2, 7], 1);
    let client = world.connect();
    call_for(&mut world, client, LEARN, OFTEN);
    world.kill(C);
    world.run_for(Duration::from_millis(10));
    let without = shares(&mut world, client, 10_000, 10);
    assert_near(without, [3333, 6667, 0], 800);
    world.set_endpoint(C, Endpoint::Up);
    // As it was, before Envoy has chosen often.
    call_for(&mut world, client, Duration::from_secs(10), OFTEN);
    assert_near(shares(&mut world, client, 10_000, 10), [1000, 2000, 7000], 800);
}

#[test]
fn one_that_hangs_gets_few_calls_whatever_its_weight() {
    let mut world = world_of(service(), Policy::Weighted, [1, 2, 7], 1);
    let client = world.connect();
    call_for(&mut world, client, LEARN, OFTEN);
    world.serve(|arrival, _| {
        What::Echo(0).after(Duration::from_millis(if arrival.endpoint == C { 10_000 } else { 2 }))
    });
    let before = world.served();
    let mut started = Vec::new();
    for _ in 0..1000 {
        started.push(world.call(client, Ask::new("echo")));
        world.run_for(Duration::from_millis(3));
    }
    world.await_all(&started);
    let of_c = world.served()[C] - before[C];
    assert!((1..=20).contains(&of_c), "{of_c} of 1000");
}

#[test]
fn what_is_seldom_called_asks_for_no_connection_more() {
    let asked = |service, every: Duration, count| {
        let mut world = world_of(service, Policy::Weighted, [1, 2, 7], 1);
        let client = world.connect();
        call_for(&mut world, client, every * count, every);
        world.manager.asked.len()
    };
    for every in [60, 5, 2].map(Duration::from_secs) {
        // Which of the connections are renewed is chance.
        let [with, without] = [service(), json!({})].map(|service| asked(service, every, 60));
        assert!(with <= without + without / 10, "every {every:?}: {with}, and {without} without");
    }
    let [with, without] = [service(), json!({})].map(|service| asked(service, OFTEN, 2400));
    // Two minutes: two in a second for the first 96, half of one then; those renew connections, too.
    assert!((160..=240).contains(&(with - without)), "{with}, and {without} without");
}

#[test]
fn where_connections_have_one_call_each_endpoints_get_calls_by_weight() {
    let plan = json!({"services": {"demo": {"protocol": "ordered", "upstream": {"keepWeights": true}}}});
    let wire = std::rc::Rc::new(&toy::ORDERED);
    let mut world = World::new(Setup { plan, wire, ..Setup::default() });
    world.cluster("demo", &ALL, Policy::WeightedRandom);
    weigh(&mut world, [1, 2, 7]);
    world.serve(|_, random| What::Echo(0).after(Duration::from_millis(random.between(1..5))));
    let clients: Vec<_> = (0..20).map(|_| world.connect()).collect();
    call_for(&mut world, clients[0], LEARN, OFTEN);
    let before = world.served();
    for _ in 0..500 {
        let calls: Vec<_> = clients.iter().map(|client| world.call(*client, Ask::new("echo"))).collect();
        world.await_all(&calls);
    }
    let after = world.served();
    assert_near(ALL.map(|endpoint| after[endpoint] - before[endpoint]), [1000, 2000, 7000], 1500);
}

#[test]
fn choices_that_are_asked_for_leave_few_connections_where_each_has_one_call() {
    let plan = json!({"services": {"demo": {"protocol": "ordered", "upstream": {"keepWeights": true}}}});
    let wire = std::rc::Rc::new(&toy::ORDERED);
    let mut world = World::new(Setup { plan, wire, ..Setup::default() });
    world.cluster("demo", &ALL, Policy::WeightedRandom);
    let client = world.connect();
    for _ in 0..10 {
        call_for(&mut world, client, LEARN / 10, OFTEN);
        // With those that are being replaced.
        assert!(world.manager.open() <= 12, "{} connections for one call at a time", world.manager.open());
    }
}

#[test]
fn weights_that_change_are_followed_while_an_endpoint_fails() {
    let detection = json!({"consecutiveFailures": 3, "baseEjectionTime": "1h", "maxEjectionTime": "1h"});
    for upstream in [json!({}), json!({"outlierDetection": detection})] {
        let is_left_out = !upstream["outlierDetection"].is_null();
        let mut upstream = upstream;
        upstream["keepWeights"] = json!(true);
        let service = json!({"upstream": upstream});
        let mut world = world_of(service, Policy::WeightedRandom, [1, 4, 5], 1);
        let client = world.connect();
        call_for(&mut world, client, 2 * LEARN, OFTEN);
        if is_left_out {
            world.serve(|arrival, _| match arrival.endpoint {
                C => What::Error(SERVER_ERROR).now(),
                _ => Reply::echo(),
            });
        }
        weigh(&mut world, [4, 1, 5]);
        for _ in 0..40 {
            if !is_left_out {
                world.kill(C);
                world.after(Duration::from_secs(2), |world| world.set_endpoint(C, Endpoint::Up));
            }
            call_for(&mut world, client, Duration::from_secs(8), OFTEN);
        }
        let before = world.served();
        call_for(&mut world, client, Duration::from_secs(30), OFTEN);
        let after = world.served();
        let [a, b] = [A, B].map(|endpoint| after[endpoint] - before[endpoint]);
        assert!(a > 2 * b, "{a} and {b}, left out: {is_left_out}");
    }
}

#[test]
fn many_endpoints_get_calls_by_weight() {
    let endpoints: Vec<String> = (0..100).map(|n| format!("10.0.1.{n}:20880")).collect();
    let endpoints: Vec<&'static str> = endpoints.into_iter().map(|name| &*name.leak()).collect();
    let mut world = World::new(Setup::demo(service()));
    world.cluster("demo", &endpoints, Policy::Weighted);
    world.manager.weights =
        endpoints.iter().enumerate().map(|(n, name)| (*name, if n % 2 == 0 { 1 } else { 4 })).collect();
    let client = world.connect();
    call_for(&mut world, client, Duration::from_secs(1000), OFTEN);
    let before = world.served();
    for _ in 0..1000 {
        let calls = world.call_all(client, (0..10).map(|_| Ask::new("echo")));
        world.await_all(&calls);
    }
    let after = world.served();
    let had: Vec<usize> = endpoints.iter().map(|name| after[*name] - before[*name]).collect();
    let heavy: usize = had.iter().skip(1).step_by(2).sum();
    assert!(heavy.abs_diff(8000) <= 400, "{heavy} of 10000");
    assert!(had.iter().all(|had| *had > 0), "{had:?}");
}

#[test]
fn a_plan_may_have_weights_kept_or_no_more() {
    let plan = |service: Value| json!({"services": {"demo": {"protocol": "dubbo", "upstream": service["upstream"]}}});
    let mut world = world_of(json!({}), Policy::Weighted, [1, 2, 7], 1);
    let client = world.connect();
    call_for(&mut world, client, Duration::from_secs(10), OFTEN);
    assert_near(shares(&mut world, client, 1000, 10), [333; 3], 5);
    world.set_plan(&plan(service()));
    call_for(&mut world, client, LEARN, OFTEN);
    assert_near(shares(&mut world, client, 10_000, 10), [1000, 2000, 7000], 300);
    world.set_plan(&plan(json!({"upstream": {}})));
    assert_near(shares(&mut world, client, 1000, 10), [333; 3], 5);
}
