//! Calls that are hashed: those with the same key go to the same endpoint.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use meltemi_proxy::Metric;
use serde_json::{Value, json};

use crate::dubbo::SERVER_ERROR;
use crate::servers::{Endpoint, Policy, Reply, What};
use crate::toy;
use crate::world::{Ask, Setup, World};

const A: &str = "10.0.0.1:20880";
const B: &str = "10.0.0.2:20880";
const C: &str = "10.0.0.3:20880";
const D: &str = "10.0.0.4:20880";

fn service() -> Value {
    json!({"upstream": {"hashBy": ["user"]}})
}

fn world_of(service: Value, endpoints: &[&str], seed: u64) -> World {
    let mut world = World::new(Setup { seed, ..Setup::demo(service) });
    world.cluster("demo", endpoints, Policy::Ring);
    world
}

fn world(endpoints: &[&str]) -> World {
    world_of(service(), endpoints, 1)
}

fn of_user(user: usize) -> Ask {
    Ask::new("echo").with("user", &format!("user-{user}"))
}

/// Where a call of each user goes.
#[track_caller]
fn places(world: &mut World, client: usize, users: usize) -> Vec<String> {
    let calls = world.call_all(client, (0..users).map(of_user));
    world.await_all(&calls);
    calls.iter().map(|call| world.calls[*call].endpoint().expect("an answer").to_owned()).collect()
}

fn moved(before: &[String], after: &[String]) -> usize {
    before.iter().zip(after).filter(|(before, after)| before != after).count()
}

#[test]
fn calls_with_the_same_key_go_to_one_endpoint_by_whichever_proxy() {
    let of = |seed| {
        let mut world = world_of(service(), &[A, B, C], seed);
        let client = world.connect();
        let first = places(&mut world, client, 300);
        for _ in 0..3 {
            let other = world.connect();
            assert_eq!(moved(&first, &places(&mut world, other, 300)), 0);
            world.run_for(Duration::from_secs(40));
        }
        first
    };
    let places = of(1);
    assert_eq!(moved(&of(2), &places), 0, "another proxy");
    for endpoint in [A, B, C] {
        let share = places.iter().filter(|place| *place == endpoint).count();
        assert!((60..=140).contains(&share), "{endpoint}: {share} of 300");
    }
}

#[test]
fn all_that_lead_to_an_endpoint_share_its_connections() {
    let mut world = world(&[A, B, C]);
    let client = world.connect();
    // Some are looked at again, since endpoints were found after they were asked about.
    for _ in 0..50 {
        places(&mut world, client, 300);
        world.run_for(Duration::from_millis(100));
    }
    world.run_for(Duration::from_secs(5));
    assert_eq!(world.manager.open(), 3);
    let asked = |world: &World| world.manager.asked.iter().filter(|asked| asked.hash.is_some()).count();
    let before = asked(&world);
    for _ in 0..4 {
        places(&mut world, client, 300);
    }
    assert_eq!(asked(&world), before, "what is known is not asked again");
    assert_eq!(world.sum(Metric::UpstreamConnectionsActive), 3);
}

#[test]
fn few_buckets_are_asked_about_at_a_time_and_each_once() {
    let mut world = world(&[A, B, C]);
    world.manager.connect_time = (5_000_000, 5_000_000);
    let client = world.connect();
    let calls = world.call_all(client, (0..2000).map(|call| of_user(call % 500)));
    world.run_for(Duration::from_millis(4));
    let asked = world.manager.asked.iter().filter(|asked| asked.hash.is_some()).count();
    assert_eq!(asked, 64);
    world.await_all(&calls);
    world.run_for(Duration::from_secs(2));
    let mut times: BTreeMap<&str, usize> = BTreeMap::new();
    world
        .manager
        .asked
        .iter()
        .filter_map(|asked| asked.hash.as_deref())
        .for_each(|hash| *times.entry(hash).or_default() += 1);
    // Those before the last endpoint was found may be looked at again.
    assert!(times.values().all(|times| *times <= 2), "{times:?}");
}

#[test]
fn few_keys_move_when_an_endpoint_comes_or_goes() {
    let mut world = world(&[A, B, C, D]);
    let client = world.connect();
    let all = places(&mut world, client, 400);
    world.cluster("demo", &[A, B, C], Policy::Ring);
    world.kill(D);
    world.run_for(Duration::from_millis(10));
    let without = places(&mut world, client, 400);
    let is_of_d = |place: &&String| *place == D;
    assert_eq!(
        moved(&all, &without),
        all.iter().filter(is_of_d).count(),
        "only those of the one that is gone"
    );
    assert!(moved(&all, &without) <= 150);
    // It comes back, is found when connections are renewed, and gets its own.
    world.cluster("demo", &[A, B, C, D], Policy::Ring);
    for _ in 0..150 {
        places(&mut world, client, 400);
        world.run_for(Duration::from_secs(1));
    }
    assert_eq!(moved(&all, &places(&mut world, client, 400)), 0);
}

#[test]
fn what_has_no_key_is_balanced() {
    let mut world = world(&[A, B, C]);
    let client = world.connect();
    places(&mut world, client, 10);
    world.run_for(Duration::from_secs(5));
    let calls = world.call_all(client, (0..90).map(|_| Ask::new("echo")));
    world.await_all(&calls);
    for endpoint in [A, B, C] {
        let share = calls.iter().filter(|call| world.calls[**call].endpoint() == Some(endpoint)).count();
        assert!((25..=35).contains(&share), "{endpoint}: {share} of 90");
    }
}

#[test]
fn several_attributes_make_one_key_and_a_route_may_have_its_own() {
    let service = json!({
        "upstream": {"hashBy": ["user", "item"], "clusters": {"other": {"hashBy": []}}},
        "routes": [
            {"name": "by-item", "match": [{"attributes": {"method": {"exact": "by-item"}}}], "hashBy": ["item"]},
            {"name": "other", "match": [{"attributes": {"method": {"exact": "other"}}}], "cluster": "other"},
        ],
    });
    let mut world = world_of(service, &[A, B, C], 1);
    world.cluster("other", &[A, B, C], Policy::Ring);
    let client = world.connect();
    let mut endpoints = |method: &str, keys: &[(&str, &str)]| {
        let calls: Vec<usize> = keys
            .iter()
            .map(|(user, item)| {
                let ask = Ask::new(method).with("user", user).with("item", item);
                world.call_and_wait(client, ask)
            })
            .collect();
        calls.iter().map(|call| world.calls[*call].endpoint().unwrap().to_owned()).collect::<BTreeSet<_>>()
    };
    let users: Vec<String> = (0..20).map(|n| n.to_string()).collect();
    let same_item: Vec<_> = users.iter().map(|user| (user.as_str(), "i")).collect();
    assert_eq!(endpoints("echo", &same_item).len(), 3);
    assert_eq!(endpoints("by-item", &same_item).len(), 1);
    assert_eq!(endpoints("echo", &[("u", "i"); 20]).len(), 1);
    assert_eq!(endpoints("other", &[("u", "i"); 20]).len(), 3, "that cluster's are balanced");
}

#[test]
fn a_client_s_address_can_be_the_key() {
    let mut world = world_of(json!({"upstream": {"hashBy": ["source.ip"]}}), &[A, B, C], 1);
    let mut all = BTreeSet::new();
    for client in 0..20 {
        let address = format!("10.1.0.{client}:4000");
        let client = world.connect_with("demo", "demo", &[("x-meltemi-peer", &address)]);
        let calls = world.call_all(client, (0..5).map(|_| Ask::new("echo")));
        world.await_all(&calls);
        let endpoints: BTreeSet<_> =
            calls.iter().map(|call| world.calls[*call].endpoint().unwrap().to_owned()).collect();
        assert_eq!(endpoints.len(), 1);
        all.extend(endpoints);
    }
    assert_eq!(all.len(), 3);
}

#[test]
fn keys_of_an_endpoint_that_refuses_are_balanced_until_it_is_back() {
    let mut world = world(&[A, B, C]);
    let client = world.connect();
    let all = places(&mut world, client, 200);
    world.kill(C);
    world.run_for(Duration::from_millis(10));
    // Envoy has not noticed, and leads there still.
    let without = places(&mut world, client, 200);
    assert!(!without.contains(&C.to_owned()));
    let of_c = all.iter().filter(|place| *place == C).count();
    assert_eq!(moved(&all, &without), of_c);
    world.set_endpoint(C, Endpoint::Up);
    for _ in 0..30 {
        world.run_for(Duration::from_secs(1));
        places(&mut world, client, 200);
    }
    assert_eq!(moved(&all, &places(&mut world, client, 200)), 0);
}

#[test]
fn an_endpoint_that_never_answers_holds_up_its_first_calls_alone() {
    let mut world = world(&[A, B, C]);
    let client = world.connect();
    let all = places(&mut world, client, 200);
    world.kill(C);
    world.set_endpoint(C, Endpoint::Silent);
    world.run_for(Duration::from_millis(10));
    places(&mut world, client, 200);
    let start = world.now;
    let without = places(&mut world, client, 200);
    assert!(!without.contains(&C.to_owned()) && moved(&all, &without) > 0);
    assert!(Duration::from_nanos(world.now - start) < Duration::from_millis(10), "known to be of no use");
}

#[test]
fn one_that_is_ejected_gets_its_keys_when_it_takes_part_again() {
    let mut service = service();
    service["upstream"]["outlierDetection"] = json!({"consecutiveFailures": 3, "baseEjectionTime": "10s"});
    let mut world = world_of(service, &[A, B, C], 1);
    let client = world.connect();
    let all = places(&mut world, client, 200);
    world.serve(
        |arrival, _| if arrival.endpoint == C { What::Error(SERVER_ERROR).now() } else { Reply::echo() },
    );
    for call in (0..200).map(of_user) {
        world.call_and_wait(client, call);
    }
    assert_eq!(world.sum(Metric::OutlierEjections), 1);
    world.serve(|_, _| Reply::echo());
    let asked = world.manager.asked.len();
    assert!(!places(&mut world, client, 200).contains(&C.to_owned()));
    assert!(world.manager.asked.len() - asked <= 200, "nobody asks again and again");
    for _ in 0..60 {
        world.run_for(Duration::from_secs(1));
        places(&mut world, client, 200);
    }
    assert_eq!(moved(&all, &places(&mut world, client, 200)), 0);
}

#[test]
fn a_retry_goes_elsewhere_and_the_next_call_where_its_key_leads() {
    let mut service = service();
    service["defaultRoute"] = json!({"retry": {"on": ["status"], "statuses": ["SERVER_ERROR"]}});
    let mut world = world_of(service, &[A, B], 1);
    let client = world.connect();
    let all = places(&mut world, client, 50);
    let first = all[0].clone();
    let failing = first.clone();
    world.serve(
        move |arrival, _| {
            if arrival.endpoint == failing { What::Error(SERVER_ERROR).now() } else { Reply::echo() }
        },
    );
    let call = world.call_and_wait(client, of_user(0));
    assert!(world.calls[call].endpoint().is_some_and(|endpoint| endpoint != first));
    world.serve(|_, _| Reply::echo());
    assert_eq!(moved(&all, &places(&mut world, client, 50)), 0);
}

#[test]
fn where_connections_have_one_call_each_there_are_as_many_as_calls() {
    let plan = json!({"services": {"demo": {"protocol": "ordered", "upstream": {"hashBy": ["method"]}}}});
    let wire = std::rc::Rc::new(&toy::ORDERED);
    let mut world = World::new(Setup { plan, wire, ..Setup::default() });
    world.cluster("demo", &[A, B, C], Policy::Ring);
    world.serve(|_, _| What::Echo(0).after(Duration::from_millis(20)));
    let calls: Vec<usize> = (0..30)
        .map(|_| {
            let client = world.connect();
            world.call(client, Ask::new("echo"))
        })
        .collect();
    world.await_all(&calls);
    let endpoints: BTreeSet<_> = calls.iter().map(|call| world.calls[*call].endpoint().unwrap()).collect();
    assert_eq!(endpoints.len(), 1);
    assert!(world.manager.asked.len() <= 64, "{}", world.manager.asked.len());
}

#[test]
fn a_pinned_client_s_connection_leads_where_its_first_call_s_key_does() {
    let mut service = service();
    let expected = {
        let mut world = world(&[A, B, C]);
        let client = world.connect();
        places(&mut world, client, 20)
    };
    service["upstream"]["sharing"] = json!("pinned");
    let mut world = world_of(service, &[A, B, C], 3);
    for (user, place) in expected.iter().enumerate() {
        let client = world.connect();
        for _ in 0..3 {
            let call = world.call_and_wait(client, of_user(user));
            assert_eq!(world.calls[call].endpoint(), Some(place.as_str()));
        }
    }
}

#[test]
fn nothing_is_asked_once_streams_are_refused() {
    let mut world = world(&[A, B, C]);
    let client = world.connect();
    places(&mut world, client, 20);
    world.go_away();
    world.run_for(Duration::from_millis(10));
    let calls = world.call_all(client, (0..100).map(of_user));
    world.run_out();
    let answered = calls.iter().filter(|call| world.calls[**call].endpoint().is_some()).count();
    assert_eq!(answered, 100, "on what is open");
}

#[test]
fn calls_that_wait_for_a_busy_endpoint_are_not_looked_at_one_by_one() {
    let mut service = service();
    service["upstream"]["maxCallsPerConnection"] = json!(1);
    service["upstream"]["connectionsPerEndpoint"] = json!(1);
    // In a debug build, a look at each waiting call for each answer takes half a minute.
    let mut world = world_of(service, &[A, B], 1);
    let clients: Vec<_> = (0..4).map(|_| world.connect()).collect();
    let ask = |n: usize| of_user(n % 100);
    let calls: Vec<_> =
        clients.iter().flat_map(|&client| world.call_all(client, (0..4000).map(ask))).collect();
    world.await_all(&calls);
    let mut places: BTreeMap<usize, BTreeSet<&str>> = BTreeMap::new();
    for (n, call) in calls.iter().enumerate() {
        places.entry(n % 100).or_default().insert(world.calls[*call].endpoint().unwrap());
    }
    assert!(places.values().all(|places| places.len() == 1));
}
