//! Endpoints that are left out as fewer of their calls succeed than of others'.

use std::collections::BTreeMap;
use std::time::Duration;

use meltemi_proxy::Metric;
use serde_json::{Value, json};

use crate::dubbo::SERVER_ERROR;
use crate::servers::{Policy, Reply, What};
use crate::world::{Ask, Setup, World};

const ENDPOINTS: [&str; 6] = [
    "10.0.0.1:20880",
    "10.0.0.2:20880",
    "10.0.0.3:20880",
    "10.0.0.4:20880",
    "10.0.0.5:20880",
    "10.0.0.6:20880",
];
const A: &str = ENDPOINTS[0];

const SECOND: Duration = Duration::from_secs(1);

/// Endpoints of which so many calls in a hundred fail, the first first, and a client.
fn world(mut more: Value, failing: &'static [usize]) -> (World, usize) {
    let rule = json!({
        "consecutiveFailures": 0, "successRateStdevFactor": 1900, "successRateRequestVolume": 20,
        "interval": "1s", "baseEjectionTime": "5s",
    });
    let mut rule = rule.as_object().unwrap().clone();
    rule.append(more.as_object_mut().unwrap());
    let mut world = World::new(Setup::demo(json!({"upstream": {"outlierDetection": rule}})));
    world.cluster("demo", &ENDPOINTS[..failing.len()], Policy::RoundRobin);
    let mut calls: BTreeMap<String, usize> = BTreeMap::new();
    world.serve(move |arrival, _| {
        let number = ENDPOINTS.iter().position(|endpoint| *endpoint == arrival.endpoint).unwrap();
        let call = calls.entry(arrival.endpoint.to_owned()).or_default();
        *call += 1;
        // Spread, so that no failure follows another: sevens are prime to a hundred.
        match *call * 7 % 100 < failing[number] {
            true => What::Error(SERVER_ERROR).now(),
            false => Reply::echo(),
        }
    });
    let client = world.connect();
    (world, client)
}

/// The calls that each endpoint gets in so long, five hundred in a second.
fn spread(world: &mut World, client: usize, time: Duration) -> BTreeMap<String, usize> {
    let mut spread = BTreeMap::new();
    for _ in 0..time.as_millis() / 2 {
        let call = world.call(client, Ask::new("echo"));
        world.run_for(Duration::from_millis(2));
        let delivery = &world.calls[call].deliveries[0];
        *spread.entry(delivery.endpoint.clone()).or_default() += 1;
    }
    spread
}

#[test]
fn one_that_fails_more_than_others_is_left_out_and_comes_back() {
    let (mut world, client) = world(json!({}), &[30, 2, 2, 2, 2, 2]);
    spread(&mut world, client, 3 * SECOND);
    assert_eq!(world.sum(Metric::OutlierEjections), 1);
    let without = spread(&mut world, client, SECOND);
    assert_eq!((without.get(A), without.len()), (None, 5), "{without:?}");
    world.serve(|_, _| Reply::echo());
    spread(&mut world, client, 4 * SECOND);
    let with = spread(&mut world, client, SECOND);
    assert!(with[A] >= 50, "{with:?}");
    assert_eq!(world.sum(Metric::OutlierEjections), 1);
}

#[test]
fn equals_are_left_in() {
    for failing in [&[0; 6], &[100; 6]] {
        let (mut world, client) = world(json!({}), failing);
        spread(&mut world, client, 4 * SECOND);
        assert_eq!(world.sum(Metric::OutlierEjections), 0, "{failing:?}");
    }
}

#[test]
fn too_few_endpoints_or_calls_tell_nothing() {
    let few: &[usize] = &[30, 2, 2, 2];
    for (more, failing, ejections) in [
        (json!({}), few, 0),
        (json!({"successRateMinimumHosts": 4, "successRateStdevFactor": 1500}), few, 1),
        (json!({"successRateRequestVolume": 1000}), &[30, 2, 2, 2, 2, 2], 0),
        (json!({"successRateStdevFactor": 3000}), &[30, 2, 2, 2, 2, 2], 0),
        (json!({"maxEjectionPercent": 34, "successRateStdevFactor": 1000}), &[40, 40, 2, 2, 2, 2], 2),
        (json!({"successRateStdevFactor": 1000}), &[40, 40, 2, 2, 2, 2], 1),
    ] {
        let (mut world, client) = world(more.clone(), failing);
        spread(&mut world, client, 4 * SECOND);
        assert_eq!(world.sum(Metric::OutlierEjections), ejections, "{more} {failing:?}");
    }
}
