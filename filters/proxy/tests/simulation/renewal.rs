//! How pools keep their connections over time: few calls, many endpoints, services that share a cluster.

use std::collections::BTreeSet;
use std::time::Duration;

use meltemi_sockets::Options;
use serde_json::json;

use crate::servers::{Policy, Reply, What};
use crate::wire::Message;
use crate::world::{Ask, Setup, World};

const MINUTE: Duration = Duration::from_secs(60);

fn world(plan: serde_json::Value) -> World {
    World::new(Setup { plan, ..Setup::default() })
}

#[test]
fn a_client_that_calls_now_and_then_waits_for_no_connection() {
    for pace in [50, 61, 90, 240] {
        let pace = Duration::from_secs(pace);
        let mut world = world(json!({"services": {"demo": {"protocol": "dubbo"}}}));
        world.cluster("demo", &["10.0.0.1:20880", "10.0.0.2:20880"], Policy::LeastRequest);
        world.manager.connect_time = (200_000_000, 200_000_001);
        let client = world.connect();
        world.call_and_wait(client, Ask::new("echo"));
        for n in 1..60 {
            world.run_for(pace);
            let call = world.call_and_wait(client, Ask::new("echo"));
            let call = &world.calls[call];
            let time = Duration::from_nanos(call.answer.as_ref().unwrap().at - call.sent_at);
            assert!(time < Duration::from_millis(10), "call {n}, one in {pace:?}: {time:?}");
        }
        world.run_for(30 * MINUTE);
        assert_eq!(world.manager.open(), 0, "in the end nobody calls");
    }
}

#[test]
fn a_thousand_endpoints_keep_their_connections() {
    let endpoints: Vec<String> = (0..1000).map(|n| format!("10.0.{}.{}:20880", n / 250, n % 250)).collect();
    let names: Vec<&str> = endpoints.iter().map(String::as_str).collect();
    for policy in [Policy::Random, Policy::LeastRequest] {
        let mut world = World::new(Setup { options: Options::default(), ..Setup::default() });
        world.cluster("demo", &names, policy);
        let client = world.connect();
        let call = |world: &mut World| {
            world.call(client, Ask::new("echo"));
            world.run_for(Duration::from_millis(50));
        };
        let connected = |world: &World| {
            let open = world.manager.connections.values().filter(|upstream| upstream.is_open);
            open.map(|upstream| &upstream.endpoint).collect::<BTreeSet<_>>().len()
        };
        (0..20 * 120).for_each(|_| call(&mut world));
        let (mut least, mut asked) = (connected(&world), world.manager.asked.len());
        for _ in 0..180 {
            (0..20).for_each(|_| call(&mut world));
            least = least.min(connected(&world));
        }
        asked = world.manager.asked.len() - asked;
        assert!(least >= 970, "{policy:?}: {least} endpoints have a connection");
        // Each is renewed once a minute, and others are looked for.
        assert!(asked <= 3 * 1000 * 3 / 2, "{policy:?}: {asked} connections were opened");
    }
}

#[test]
fn endpoints_that_come_and_go_are_noticed_within_a_renewal() {
    const ENDPOINTS: [&str; 3] = ["10.0.0.1:20880", "10.0.0.2:20880", "10.0.0.3:20880"];
    for seed in 1..=40 {
        let mut world = World::new(Setup { seed, ..Setup::default() });
        world.cluster("demo", &ENDPOINTS[..2], Policy::LeastRequest);
        let client = world.connect();
        let calls = |world: &mut World, seconds: u64| {
            for _ in 0..seconds {
                world.call_and_wait(client, Ask::new("echo"));
                world.run_for(Duration::from_secs(1));
            }
        };
        calls(&mut world, 100 + 3 * seed);
        world.cluster("demo", &ENDPOINTS, Policy::LeastRequest);
        calls(&mut world, 80);
        assert!(!world.manager.streams_to(ENDPOINTS[2]).is_empty(), "seed {seed}: it is new");
        world.cluster("demo", &ENDPOINTS[1..], Policy::LeastRequest);
        calls(&mut world, 90);
        assert!(world.manager.streams_to(ENDPOINTS[0]).is_empty(), "seed {seed}: it is gone");
    }
}

#[test]
fn a_server_that_left_keeps_no_connection_that_nobody_uses() {
    let mut world = world(json!({"services": {"demo": {"protocol": "dubbo"}}}));
    world.cluster("demo", &["10.0.0.1:20880"], Policy::RoundRobin);
    let client = world.connect();
    world.call_and_wait(client, Ask::new("echo"));
    world.cluster("demo", &[], Policy::RoundRobin);
    world.run_for(Duration::from_secs(90));
    assert_eq!(world.manager.open(), 0, "the cluster has no endpoint any more");
}

#[test]
fn calls_go_on_at_a_server_that_no_connection_replaces() {
    let mut world = world(json!({"services": {"demo": {"protocol": "dubbo"}}}));
    world.cluster("demo", &["10.0.0.1:20880"], Policy::RoundRobin);
    let client = world.connect();
    world.call_and_wait(client, Ask::new("echo"));
    world.cluster("demo", &[], Policy::RoundRobin);
    for _ in 0..200 {
        let call = world.call_and_wait(client, Ask::new("echo"));
        assert!(world.calls[call].answer.is_some());
        world.run_for(Duration::from_secs(1));
    }
}

#[test]
fn services_that_share_a_cluster_keep_their_own_limits() {
    let service = |most: u32| json!({"protocol": "dubbo", "upstream": {"maxCallsPerConnection": most, "connectionsPerEndpoint": 1}});
    let mut world = world(json!({"services": {"demo": service(1), "other": service(100)}}));
    world.cluster("demo", &["10.0.0.1:20880"], Policy::RoundRobin);
    world.serve(|arrival, _| match arrival.method {
        "slow" => What::Echo(0).after(Duration::from_secs(1)),
        _ => Reply::echo(),
    });
    let (narrow, wide) = (world.connect(), world.connect_to("other", "demo"));
    world.call_all(narrow, (0..3).map(|_| Ask::new("slow")));
    let calls = world.call_all(wide, (0..50).map(|_| Ask::new("slow")));
    let start = world.now;
    world.await_all(&calls);
    assert!(world.now - start < 1_200_000_000, "calls of one wait for the limit of the other");
    let in_flight = world.calls.iter().filter(|call| call.client == narrow && call.answer.is_some()).count();
    assert_eq!(in_flight, 1, "and the limit of the first holds for it");
}

/// Where Envoy chooses by chance, a search may miss one that is there: others follow it.
#[test]
fn a_server_that_ended_its_connection_takes_part_again_within_seconds() {
    const ENDPOINTS: [&str; 2] = ["10.0.0.1:20880", "10.0.0.2:20880"];
    for (says_so, policy, seed) in [false, true].into_iter().flat_map(|says_so| {
        let policies = [Policy::LeastRequest, Policy::Random].into_iter();
        policies.flat_map(move |policy| (1..=100).map(move |seed| (says_so, policy, seed)))
    }) {
        let mut world = World::new(Setup { seed, ..Setup::default() });
        world.cluster("demo", &ENDPOINTS, policy);
        let client = world.connect();
        let calls = |world: &mut World, seconds: u64| {
            for _ in 0..seconds {
                let call = world.call_and_wait(client, Ask::new("echo"));
                assert_eq!(world.calls[call].error(), None);
                world.run_for(Duration::from_secs(1));
            }
        };
        calls(&mut world, 30);
        // Its own proxy has got another listener, say.
        let read_only = world.wire.bytes(&Message::ReadOnly);
        for stream in world.manager.streams_to(ENDPOINTS[1]) {
            match says_so {
                true => world.write_upstream(stream, &read_only),
                false => world.close_upstream(stream, true),
            }
        }
        calls(&mut world, 15);
        let back = world.manager.streams_to(ENDPOINTS[1]).len();
        assert_eq!(back, 1, "says so: {says_so}, {policy:?}, seed {seed}");
    }
}

/// One that asks for that, or has none of them, as soon as it is connected to costs a connection now and then.
#[test]
fn a_server_that_ends_each_connection_is_not_connected_to_on_and_on() {
    const AWAY: &str = "10.0.0.2:20880";
    for (says_so, policy) in [false, true].into_iter().flat_map(|says_so| {
        [Policy::LeastRequest, Policy::Random, Policy::RoundRobin].map(|policy| (says_so, policy))
    }) {
        let mut world = World::new(Setup::default());
        world.cluster("demo", &["10.0.0.1:20880", AWAY], policy);
        if says_so {
            let read_only = world.wire.bytes(&Message::ReadOnly);
            world.manager.greetings.insert(AWAY.to_owned(), read_only);
        }
        let client = world.connect();
        for _ in 0..600 {
            let call = world.call_and_wait(client, Ask::new("echo"));
            assert_eq!(world.calls[call].error(), None);
            for stream in world.manager.streams_to(AWAY).into_iter().filter(|_| !says_so) {
                world.close_upstream(stream, true);
            }
            world.run_for(Duration::from_millis(100));
        }
        let asked = world.manager.asked.len();
        assert!(asked < 100, "says so: {says_so}, {policy:?}: {asked} connections in a minute");
    }
}

/// As where all sidecars of a service get another listener.
#[test]
fn servers_that_all_end_their_connections_share_the_calls_at_once() {
    let endpoints: Vec<_> = (0..10).map(|n| format!("10.0.0.{n}:20880")).collect();
    let names: Vec<_> = endpoints.iter().map(String::as_str).collect();
    let mut world = World::new(Setup::default());
    world.cluster("demo", &names, Policy::RoundRobin);
    let client = world.connect();
    let calls = |world: &mut World| {
        for _ in 0..20 {
            let call = world.call_and_wait(client, Ask::new("echo"));
            assert_eq!(world.calls[call].error(), None);
            world.run_for(Duration::from_millis(100));
        }
    };
    calls(&mut world);
    for name in &names {
        for stream in world.manager.streams_to(name) {
            world.close_upstream(stream, true);
        }
    }
    calls(&mut world);
    let back = names.iter().filter(|name| !world.manager.streams_to(name).is_empty()).count();
    assert_eq!(back, names.len());
}
