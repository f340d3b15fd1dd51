//! Zones that step in for others, as Envoy's priorities have it: it may be asked for any endpoint of the cluster by name, and
//! chooses those of one zone by itself.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Value, json};

use crate::dubbo::THREADPOOL_EXHAUSTED;
use crate::servers::{Endpoint, Policy, Reply, What};
use crate::toy;
use crate::world::{Ask, Setup, World};

const NEAR: [&str; 2] = ["10.0.0.1:20880", "10.0.0.2:20880"];
const FAR: [&str; 2] = ["10.1.0.1:20880", "10.1.0.2:20880"];
const ALL: [&str; 4] = [NEAR[0], NEAR[1], FAR[0], FAR[1]];

/// Calls, one in a while, for so many seconds: where they went.
fn calls(world: &mut World, client: usize, seconds: u64) -> BTreeSet<String> {
    let mut endpoints = BTreeSet::new();
    for _ in 0..10 * seconds {
        let call = world.call_and_wait(client, Ask::new("echo"));
        assert_eq!(world.calls[call].error(), None);
        endpoints.insert(world.calls[call].endpoint().unwrap().to_owned());
        world.run_for(Duration::from_millis(100));
    }
    endpoints
}

#[test]
fn another_zone_gets_the_calls_while_the_own_is_away_and_no_longer() {
    let of = |zone: [&str; 2]| BTreeSet::from(zone.map(str::to_owned));
    for seed in 1..=20 {
        let mut world = World::new(Setup { seed, ..Setup::default() });
        world.cluster("demo", &ALL, Policy::FirstTwo);
        let client = world.connect();
        assert_eq!(calls(&mut world, client, 100), of(NEAR), "seed {seed}");
        world.cluster("demo", &FAR, Policy::Random);
        NEAR.iter().for_each(|endpoint| world.kill(endpoint));
        assert_eq!(calls(&mut world, client, 200), of(FAR), "seed {seed}");
        world.cluster("demo", &ALL, Policy::FirstTwo);
        // Within a renewal the own zone takes part, and some renewals later the other does not any more.
        let is_left = |world: &World| FAR.iter().all(|far| world.manager.streams_to(far).is_empty());
        let seconds = (0..720).find(|_| {
            calls(&mut world, client, 1);
            is_left(&world)
        });
        assert!(seconds.is_some(), "seed {seed}");
        assert_eq!(calls(&mut world, client, 200), of(NEAR), "seed {seed}");
    }
}

/// A world in which one endpoint of the other zone stepped in, ended its connections once the own one was back, and was not
/// chosen for a quarter of an hour.
fn long_left(seed: u64) -> (World, usize) {
    long_left_by(json!({}), seed)
}

/// The same with an upstream as `upstream` says.
fn long_left_by(upstream: Value, seed: u64) -> (World, usize) {
    let retry = json!({"on": ["status", "reset", "connect-failure"], "statuses": [THREADPOOL_EXHAUSTED]});
    let setup = Setup::demo(json!({"defaultRoute": {"retry": retry}, "upstream": upstream}));
    let mut world = World::new(Setup { seed, ..setup });
    world.cluster("demo", &FAR[..1], Policy::First);
    let client = world.connect();
    calls(&mut world, client, 10);
    world.cluster("demo", &[NEAR[0], FAR[0]], Policy::First);
    calls(&mut world, client, 100);
    for stream in world.manager.streams_to(FAR[0]) {
        world.close_upstream(stream, true);
    }
    assert_eq!(calls(&mut world, client, 900), BTreeSet::from([NEAR[0].to_owned()]), "seed {seed}");
    (world, client)
}

#[test]
fn a_retry_names_no_endpoint_of_a_zone_that_was_left() {
    for seed in 1..=5 {
        let (mut world, client) = long_left(seed);
        world.serve(|arrival, _| match (arrival.method, arrival.times) {
            ("again", 1) => What::Error(THREADPOOL_EXHAUSTED).now(),
            _ => Reply::echo(),
        });
        let again = world.call_and_wait(client, Ask::new("again"));
        let tries = Vec::from_iter(world.calls[again].deliveries.iter().map(|delivery| &*delivery.endpoint));
        assert_eq!(tries, [NEAR[0]; 2], "seed {seed}");
        assert_eq!(calls(&mut world, client, 10), BTreeSet::from([NEAR[0].to_owned()]), "seed {seed}");
    }
}

/// Where nothing else takes calls, any endpoint is better than none.
#[test]
fn an_endpoint_of_a_zone_that_was_left_is_named_where_all_others_refuse() {
    for seed in 1..=5 {
        let (mut world, client) = long_left(seed);
        world.kill(NEAR[0]);
        assert_eq!(calls(&mut world, client, 10), BTreeSet::from([FAR[0].to_owned()]), "seed {seed}");
        world.set_endpoint(NEAR[0], Endpoint::Up);
        calls(&mut world, client, 150);
        assert_eq!(calls(&mut world, client, 10), BTreeSet::from([NEAR[0].to_owned()]), "seed {seed}");
    }
}

/// One that answers, but only with failures, is left out for another that could answer, though Envoy passes over that one.
#[test]
fn an_endpoint_of_a_zone_that_was_left_is_found_where_all_others_fail() {
    for seed in 1..=5 {
        let detection = json!({"consecutiveFailures": 3, "baseEjectionTime": "30s"});
        let (mut world, client) = long_left_by(json!({"outlierDetection": detection}), seed);
        world.serve(|arrival, _| match arrival.endpoint == NEAR[0] {
            true => What::Error(THREADPOOL_EXHAUSTED).now(),
            false => Reply::echo(),
        });
        let mut failed = 0;
        for _ in 0..200 {
            let call = world.call_and_wait(client, Ask::new("echo"));
            failed += usize::from(world.calls[call].error().is_some());
            world.run_for(Duration::from_secs(1));
        }
        assert!(failed <= 50, "seed {seed}: {failed} of 200 failed");
    }
}

/// By their weights, endpoints that Envoy does not choose any more get next to no calls, though connections to them stay.
#[test]
fn another_zone_gets_few_calls_by_weight_once_the_own_is_back() {
    for seed in 1..=5 {
        let mut world = World::new(Setup { seed, ..Setup::demo(json!({"upstream": {"keepWeights": true}})) });
        world.cluster("demo", &FAR, Policy::Random);
        let client = world.connect();
        calls(&mut world, client, 200);
        world.cluster("demo", &ALL, Policy::FirstTwo);
        calls(&mut world, client, 300);
        let of_far = |world: &World| FAR.into_iter().map(|far| world.served()[far]).sum::<usize>();
        let before = of_far(&world);
        calls(&mut world, client, 100);
        let far = of_far(&world) - before;
        assert!(far < 100, "seed {seed}: {far} of 1000 calls");
    }
}

/// Where connections have one call each, no others are opened to find endpoints: those that are renewed find them.
#[test]
fn connections_of_one_call_each_follow_the_choices_of_envoy() {
    let plan = json!({"services": {"demo": {"protocol": "ordered"}}});
    let wire = std::rc::Rc::new(&toy::ORDERED);
    let mut world = World::new(Setup { plan, wire, ..Setup::default() });
    world.cluster("demo", &FAR, Policy::RoundRobin);
    world.serve(|_, _| What::Echo(0).after(Duration::from_millis(20)));
    let clients: Vec<usize> = (0..8).map(|_| world.connect()).collect();
    let crowd = |world: &mut World, seconds: u64| {
        let before = world.served();
        for _ in 0..10 * seconds {
            let calls = Vec::from_iter(clients.iter().map(|client| world.call(*client, Ask::new("echo"))));
            world.await_all(&calls);
            assert!(calls.iter().all(|call| world.calls[*call].error().is_none()));
            world.run_for(Duration::from_millis(80));
        }
        let now = world.served();
        let of = |served: &BTreeMap<String, usize>, endpoint| served.get(endpoint).copied().unwrap_or(0);
        ALL.map(|endpoint| of(&now, endpoint) - of(&before, endpoint))
    };
    assert!(crowd(&mut world, 100)[2..].iter().all(|calls| *calls > 0));
    // Endpoints that are new take part within a renewal.
    world.cluster("demo", &ALL, Policy::RoundRobin);
    crowd(&mut world, 100);
    let shares = crowd(&mut world, 100);
    assert!(shares.iter().all(|calls| *calls >= 1000), "{shares:?}");
    // Those that are not chosen any more do not.
    world.cluster("demo", &ALL, Policy::FirstTwo);
    crowd(&mut world, 100);
    assert_eq!(crowd(&mut world, 100)[2..], [0, 0]);
    assert!(world.manager.open() <= 10, "{} connections", world.manager.open());
}
