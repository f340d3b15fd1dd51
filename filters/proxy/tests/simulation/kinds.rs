//! Each policy and each kind of call: heartbeats meet none, one-way calls all that others do, and a stream what its first
//! frame does.

use std::time::Duration;

use meltemi_codecs::Kind;
use meltemi_proxy::Metric;
use serde_json::{Value, json};

use crate::servers::Policy;
use crate::streams::{Scene, opened, opening, reset};
use crate::world::{Ask, Setup, World};

const A: &str = "10.0.0.1:20880";
const SHADOW: &str = "10.0.9.1:20880";

const CALLS: i64 = 10;

/// A policy, how many of ten one-way calls it lets arrive, what it counts of them, and how often.
fn policies() -> Vec<(Value, i64, Metric, i64)> {
    let once = json!({"tokenBucket": {"maxTokens": 4, "fillInterval": "1h"}});
    let breaker = json!({"circuitBreaker": {"maxWaitingCalls": 3}});
    let detection = json!({"outlierDetection": {"consecutiveFailures": 1}});
    let retry = json!({"on": ["reset"], "attempts": 3});
    let route = |policy: &str, value: Value| json!({"defaultRoute": {policy: value}});
    vec![
        (route("reject", json!({})), 0, Metric::LocalReplies("denied"), CALLS),
        (json!({"onNoMatch": "reject"}), 0, Metric::LocalReplies("no_route"), CALLS),
        (json!({"dryRun": {"denyOthers": true}}), CALLS, Metric::DryRunDenied, CALLS),
        (json!({"localRateLimit": once}), 4, Metric::LocalReplies("rate_limited"), 6),
        (route("fault", json!({"abort": {}})), 0, Metric::LocalReplies("fault"), CALLS),
        (route("fault", json!({"delay": {"duration": "1s"}})), CALLS, Metric::Delays, CALLS),
        (route("mirrors", json!([{"cluster": "shadow"}])), CALLS, Metric::Mirrored("sent"), CALLS),
        (json!({"upstream": breaker}), 3, Metric::LocalReplies("overloaded"), 7),
        // What has no answer cannot be judged, nor made again.
        (json!({"upstream": detection}), CALLS, Metric::OutlierEjections, 0),
        (route("retry", retry), CALLS, Metric::Retries, 0),
        (json!({"upstream": {"hashBy": ["method"]}}), CALLS, Metric::Requests, CALLS),
    ]
}

#[test]
fn one_way_calls_meet_each_policy_and_heartbeats_none() {
    for (service, arrive, metric, count) in policies() {
        let mut world = World::new(Setup::demo(service.clone()));
        world.cluster("demo", &[A], Policy::RoundRobin);
        world.cluster("shadow", &[SHADOW], Policy::RoundRobin);
        let client = world.connect();
        for _ in 0..CALLS {
            world.heartbeat(client);
        }
        world.run_for(Duration::from_secs(1));
        assert_eq!(world.proxy.clients[client].heartbeats_answered, CALLS as usize, "{service}");
        let sums = [Metric::Requests, metric, Metric::InFlight].map(|metric| world.sum(metric));
        assert_eq!((sums, world.manager.open()), ([0; 3], 0), "{service}");

        let calls: Vec<_> = (0..CALLS).map(|_| world.call(client, Ask::new("tell").one_way())).collect();
        world.run_for(Duration::from_secs(3));
        let got = |of: &str| {
            let deliveries = calls.iter().flat_map(|&call| &world.calls[call].deliveries);
            deliveries.filter(|delivery| delivery.endpoint == of).count() as i64
        };
        let copies = if matches!(metric, Metric::Mirrored(_)) { CALLS } else { 0 };
        assert_eq!((got(A), got(SHADOW)), (arrive, copies), "{service}");
        let sums = [metric, Metric::Requests, Metric::InFlight].map(|metric| world.sum(metric));
        assert_eq!(sums, [count, CALLS, 0], "{service}");
        assert!(calls.iter().all(|&call| world.calls[call].answer.is_none()), "{service}");
    }
}

#[test]
fn a_stream_meets_each_policy_by_its_first_frame() {
    const REFUSED: [(&str, i64); 5] =
        [("denied", 1), ("no_route", 1), ("rate_limited", 1), ("fault", 1), ("overloaded", 1)];
    let none = json!({"tokenBucket": {"maxTokens": 1, "fillInterval": "1h"}});
    let breaker = json!({"circuitBreaker": {"maxCalls": 1}, "connectionsPerEndpoint": 1});
    let route = |policy: &str, value: Value| json!({"defaultRoute": {policy: value}});
    for (service, reason) in [
        (route("reject", json!({})), "denied"),
        (json!({"onNoMatch": "reject"}), "no_route"),
        (json!({"localRateLimit": none}), "rate_limited"),
        (route("fault", json!({"abort": {}})), "fault"),
        (json!({"upstream": breaker}), "overloaded"),
    ] {
        let mut scene = Scene::new(json!({}));
        let client = scene.connect();
        // Each lets one pass that lets any.
        let own = scene.open(client, 1);
        scene.set_service(service.clone());
        if reason == "rate_limited" {
            scene.write(client, &opening(2));
            scene.server();
        }
        scene.write(client, &opening(3));
        assert_eq!(reset(&scene.client(client)).1, 3, "{service}");
        assert_eq!(scene.server(), [], "{service}");
        for (known, count) in REFUSED {
            let counted = scene.world.sum(Metric::LocalReplies(known));
            assert_eq!(counted, if known == reason { count } else { 0 }, "{service}: {known}");
        }
        // What was open goes on.
        scene.write(client, &Scene::data(1, "more"));
        assert_eq!(scene.server(), [(Kind::Continued, own, b"more".to_vec())], "{service}");
    }
}

#[test]
fn a_stream_is_held_back_tried_out_and_neither_copied_nor_tried_again() {
    let mut scene = Scene::new(json!({}));
    let client = scene.connect();
    scene.set_service(json!({
        "dryRun": {"denyOthers": true},
        "defaultRoute": {
            "fault": {"delay": {"duration": "100ms"}},
            "retry": {"on": ["reset", "per-try-timeout"], "perTryTimeout": "10ms"},
            "mirrors": [{"cluster": "shadow"}],
        },
    }));
    scene.world.cluster("shadow", &[SHADOW], Policy::First);
    scene.write(client, &[opening(1), Scene::data(1, "early")].concat());
    assert_eq!(scene.server(), []);
    scene.world.run_for(Duration::from_millis(150));
    let seen = scene.server();
    let own = seen[0].1;
    let kinds: Vec<_> = seen.iter().map(|(kind, id, _)| (*kind, *id)).collect();
    assert_eq!(kinds[0], (Kind::Opened, own));
    scene.answer(&opened(own));
    scene.world.run_for(Duration::from_secs(1));
    // There is still but one connection, and none to the shadow.
    let later = scene.server();
    assert!(seen.iter().chain(&later).any(|read| *read == (Kind::Continued, own, b"early".to_vec())));
    let sums = [Metric::DryRunDenied, Metric::Retries, Metric::Mirrored("sent"), Metric::InFlight];
    assert_eq!(sums.map(|metric| scene.world.sum(metric)), [1, 0, 0, 1]);
}
