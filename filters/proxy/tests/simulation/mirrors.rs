//! Mirrors: copies of calls, and that nothing which becomes of them reaches a call.

use std::time::Duration;

use meltemi_proxy::{Class, Labels, Metric};
use serde_json::{Value, json};

use crate::dubbo::THREADPOOL_EXHAUSTED;
use crate::servers::{Arrival, Endpoint, Policy, Reply, What};
use crate::world::{Ask, Setup, World};

const A: &str = "10.0.0.1:20880";
const SHADOW: &str = "10.0.1.1:20880";
const OTHER: &str = "10.0.2.1:20880";
const SECOND: Duration = Duration::from_secs(1);
const MIB: usize = 1 << 20;

/// A route to `demo` whose calls go to a shadow as well, as `route` says; other memory than 32 MiB there is none.
fn world(route: Value) -> World {
    let mut world = World::new(Setup { plan: plan(json!({"defaultRoute": route})), ..Setup::default() });
    world.cluster("demo", &[A], Policy::RoundRobin);
    world.cluster("shadow", &[SHADOW], Policy::RoundRobin);
    world.cluster("other", &[OTHER], Policy::RoundRobin);
    world
}

fn plan(mut service: Value) -> Value {
    service["protocol"] = json!("dubbo");
    json!({"services": {"demo": service}, "memoryBudgetBytes": 32 * MIB})
}

fn to_shadow() -> World {
    world(json!({"mirrors": [{"cluster": "shadow"}]}))
}

/// Has the servers of the shadow do this, and all others answer.
fn shadow_serves(world: &mut World, mut serve: impl FnMut(&Arrival<'_>) -> Reply + 'static) {
    world.serve(move |arrival, _| match arrival.endpoint {
        A => Reply::echo(),
        _ => serve(arrival),
    });
}

/// How many requests an endpoint got.
fn got(world: &World, endpoint: &str) -> usize {
    let deliveries = world.calls.iter().flat_map(|call| &call.deliveries);
    deliveries.filter(|delivery| delivery.endpoint == endpoint).count()
}

fn mirrored(world: &mut World, outcome: &'static str) -> i64 {
    world.sum(Metric::Mirrored(outcome))
}

#[test]
fn every_mirror_gets_a_copy_and_none_counts_as_a_call() {
    let mirrors = json!([{"cluster": "shadow"}, {"cluster": "other"}]);
    let edit = json!({"set": {"lane": "blue"}, "remove": ["debug"]});
    let mut world = world(json!({"mirrors": mirrors, "requestAttachments": edit}));
    let client = world.connect();
    for _ in 0..10 {
        let call = world.call_and_wait(client, Ask::new("echo").with("debug", "1"));
        assert_eq!(world.calls[call].endpoint(), Some(A));
    }
    world.run_for(SECOND);
    assert_eq!([A, SHADOW, OTHER].map(|endpoint| got(&world, endpoint)), [10; 3]);
    for delivery in world.calls.iter().flat_map(|call| &call.deliveries) {
        let has = |name| delivery.attachments.iter().any(|(known, _)| known == name);
        assert!(has("lane") && !has("debug"), "{delivery:?}");
    }
    assert_eq!(mirrored(&mut world, "success"), 20);
    let sums = [Metric::Requests, Metric::Responses(Class::Success), Metric::LatencyCount, Metric::InFlight];
    assert_eq!(sums.map(|metric| world.sum(metric)), [10, 10, 10, 0]);
    assert_eq!((world.sum(Metric::UnmatchedResponses), world.kept()), (0, 0));
}

#[test]
fn shares_are_drawn_for_each_mirror() {
    let mirrors = json!([
        {"cluster": "shadow", "percent": 20}, {"cluster": "other", "percent": 0.5}, {"cluster": "demo", "percent": 0},
    ]);
    let mut world = world(json!({"mirrors": mirrors}));
    let client = world.connect();
    let calls = world.call_all(client, (0..4000).map(|_| Ask::new("echo")));
    world.await_all(&calls);
    world.run_for(SECOND);
    // Five standard deviations.
    assert!((673..=927).contains(&got(&world, SHADOW)), "{}", got(&world, SHADOW));
    assert!((1..=42).contains(&got(&world, OTHER)), "{}", got(&world, OTHER));
    assert_eq!(got(&world, A), 4000);
}

#[test]
fn one_way_calls_are_copied_and_heartbeats_are_not() {
    let mut world = to_shadow();
    let client = world.connect();
    for _ in 0..10 {
        world.call(client, Ask::new("tell").one_way());
        world.heartbeat(client);
        world.run_for(SECOND);
    }
    assert_eq!([A, SHADOW].map(|endpoint| got(&world, endpoint)), [10; 2]);
    assert_eq!((mirrored(&mut world, "sent"), world.sum(Metric::Heartbeats)), (10, 10));
}

#[test]
fn what_a_policy_answers_is_not_copied() {
    let mirrors = json!([{"cluster": "shadow"}]);
    let method = |name| json!([{"attributes": {"method": {"exact": name}}}]);
    let mut world = to_shadow();
    world.set_plan(&plan(json!({
        "routes": [
            {"name": "denied", "match": method("denied"), "reject": {}, "mirrors": mirrors},
            {"name": "aborted", "match": method("aborted"), "fault": {"abort": {}}, "mirrors": mirrors},
            {
                "name": "late", "match": method("late"), "mirrors": mirrors,
                "fault": {"delay": {"duration": "2s"}, "abort": {"percent": 50}},
            },
        ],
        "localRateLimit": {"conditions": [{
            "match": method("limited"), "tokenBucket": {"maxTokens": 3, "fillInterval": "1h"},
        }]},
        "defaultRoute": {"mirrors": mirrors},
    })));
    let client = world.connect();
    let call = |world: &mut World, method: &str| {
        let calls = world.call_all(client, (0..100).map(|_| Ask::new(method)));
        world.run_for(SECOND);
        let early = got(world, SHADOW);
        world.await_all(&calls);
        world.run_for(SECOND);
        (early, calls.iter().filter(|&&call| world.calls[call].error().is_none()).count())
    };
    assert_eq!((call(&mut world, "denied"), call(&mut world, "aborted")), ((0, 0), (0, 0)));
    assert_eq!((call(&mut world, "limited"), got(&world, SHADOW)), ((3, 3), 3));
    let (early, passed) = call(&mut world, "late");
    assert!(early == 3 && (25..=75).contains(&passed), "{early} {passed}");
    assert_eq!(got(&world, SHADOW), 3 + passed, "copied once they go on, but not those aborted then");
}

/// What a client gets and when, call by call, of a service with these mirrors whose shadow does `what`.
fn bytes_with(mirrors: Value, is_up: bool, what: &What) -> (Vec<u8>, Vec<u64>, World) {
    let mut world = world(json!({"timeout": "3s", "mirrors": mirrors}));
    let what = what.clone();
    shadow_serves(&mut world, move |_| what.clone().now());
    if !is_up {
        world.set_endpoint(SHADOW, Endpoint::Refusing);
        world.set_endpoint(OTHER, Endpoint::Silent);
    }
    let client = world.connect();
    world.proxy.clients[client].raw = Some(Vec::new());
    let mut times = Vec::new();
    for number in 0..200 {
        let before = world.proxy.clients[client].received;
        let sent_at = world.now;
        let call = world.call(client, Ask::new("echo").size(100 * number));
        world.run_until(|world| world.proxy.clients[client].received > before + 100 * number);
        times.push(world.now - sent_at);
        assert!(world.calls[call].deliveries.iter().any(|delivery| delivery.endpoint == A));
    }
    let bytes = world.proxy.clients[client].raw.clone().unwrap();
    (bytes, times, world)
}

#[test]
fn no_mirror_changes_or_delays_a_byte_of_an_answer() {
    let (wanted, on_time, _) = bytes_with(json!([]), true, &What::Nothing);
    let both = json!([{"cluster": "shadow"}, {"cluster": "other"}]);
    let garbage = What::Raw(b"no frame at all, and more than a header of one".to_vec());
    let twice = {
        let mut answer = vec![0xda, 0xbb, 2, 20];
        answer.extend_from_slice(&[0, 0, 0, 0, 0, 1, 0, 1]);
        answer.extend_from_slice(&[0, 0, 0, 2, 0x94, b'N']);
        What::Raw(answer.repeat(500))
    };
    for (is_up, what, outcome) in [
        (true, What::Echo(0), "success"),
        (true, What::Nothing, "timeout"),
        (true, What::Close, "connection_lost"),
        (true, What::Reset, "connection_lost"),
        (true, What::Error(THREADPOOL_EXHAUSTED), "error"),
        (true, garbage, "bad_response"),
        (true, What::Echo(200_000), "success"),
        (true, twice, "timeout"),
        (false, What::Nothing, "no_endpoint"),
    ] {
        let (bytes, times, mut world) = bytes_with(both.clone(), is_up, &what);
        assert!(bytes == wanted, "{what:?}: {} bytes, not {}", bytes.len(), wanted.len());
        assert_eq!(times, on_time, "{what:?}");
        world.run_for(20 * SECOND);
        assert!(mirrored(&mut world, outcome) > 0, "{what:?}: {:?}", world.metrics);
        let counts = [Metric::Requests, Metric::Responses(Class::Success), Metric::InFlight];
        assert_eq!(counts.map(|metric| world.sum(metric)), [200, 200, 0], "{what:?}");
        assert!(world.metrics.replies.is_empty(), "{what:?}");
        assert_eq!(world.kept(), 0, "{what:?}");
    }
}

#[test]
fn copies_to_the_cluster_of_the_calls_take_nothing_from_them() {
    let mut world = to_shadow();
    let matches = json!([{"attributes": {"method": {"exact": "echo"}}}]);
    let copied =
        json!({"name": "copied", "match": matches, "mirrors": [{"cluster": "demo"}], "timeout": "2s"});
    world.set_plan(&plan(json!({"routes": [copied], "upstream": {"maxCallsPerConnection": 4}})));
    let client = world.connect();
    world.call_and_wait(client, Ask::new("other"));
    let own = world.manager.streams_to(A);
    world.call_and_wait(client, Ask::new("echo"));
    world.run_for(SECOND);
    let copies = world.manager.streams_to(A).into_iter().find(|stream| !own.contains(stream)).unwrap();
    world.set_server_reading(copies, false);
    let calls = world.call_all(client, (0..100).map(|_| Ask::new("echo").size(30_000)));
    world.await_all(&calls);
    assert!(calls.iter().all(|&call| world.calls[call].error().is_none()));
    world.run_for(20 * SECOND);
    assert!(mirrored(&mut world, "timeout") > 50);
    world.set_server_reading(copies, true);
    world.run_for(SECOND);
    assert_eq!(world.kept(), 0);
}

#[test]
fn copies_take_a_part_of_the_memory_and_more_are_dropped() {
    let mut world = to_shadow();
    shadow_serves(&mut world, |_| What::Nothing.now());
    let client = world.connect();
    world.call_and_wait(client, Ask::new("echo"));
    world.run_for(SECOND);
    let stream = world.manager.streams_to(SHADOW)[0];
    world.set_server_reading(stream, false);
    for _ in 0..500 {
        let call = world.call_and_wait(client, Ask::new("echo").size(100_000));
        assert_eq!(world.calls[call].endpoint(), Some(A));
        // An eighth of the budget; a buffer may have grown for more than it holds.
        assert!(world.kept() <= 5 * MIB, "{} bytes are kept", world.kept());
    }
    assert!(world.kept() >= 2 * MIB, "{} bytes are kept", world.kept());
    let dropped = mirrored(&mut world, "dropped");
    assert!((300..500).contains(&dropped), "{dropped}");
    world.run_for(40 * SECOND);
    let unread = world.kept();
    assert!((1..=2 * MIB).contains(&unread), "{unread} bytes wait for a server that does not read");
    world.set_server_reading(stream, true);
    world.run_for(SECOND);
    assert_eq!(world.kept(), 0);
    let ended = mirrored(&mut world, "timeout");
    assert_eq!((ended + dropped, world.sum(Metric::InFlight)), (501, 0));
}

#[test]
fn many_small_copies_are_bounded_as_well() {
    let mut world = to_shadow();
    shadow_serves(&mut world, |_| What::Nothing.now());
    let client = world.connect();
    for _ in 0..20 {
        let calls = world.call_all(client, (0..1000).map(|_| Ask::new("echo")));
        world.await_all(&calls);
        assert!(world.kept() <= 5 * MIB, "{} bytes are kept", world.kept());
    }
    assert!(mirrored(&mut world, "dropped") > 10_000);
    world.run_for(40 * SECOND);
    assert_eq!((world.kept(), world.sum(Metric::InFlight)), (0, 0));
}

#[test]
fn answers_to_copies_that_never_end_take_no_more() {
    let mut world = to_shadow();
    // The beginning of an answer of 8 MiB.
    let mut part = vec![0xda, 0xbb, 2, 20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x7f, 0xff, 0xf0];
    part.resize(6 * MIB, b'N');
    shadow_serves(&mut world, move |_| What::Raw(part.clone()).now());
    let client = world.connect();
    for _ in 0..20 {
        let call = world.call_and_wait(client, Ask::new("echo"));
        assert_eq!(world.calls[call].endpoint(), Some(A));
        world.run_for(SECOND);
        assert!(world.kept() <= 5 * MIB, "{} bytes are kept", world.kept());
    }
    assert!(mirrored(&mut world, "overloaded") > 0);
    assert_eq!(world.proxy.clients[client].closed_at, None);
    world.run_for(40 * SECOND);
    assert_eq!(world.kept(), 0);
}

#[test]
fn a_copy_has_a_time_of_its_own_and_is_not_retried() {
    let retry = json!({"on": ["reset", "status"], "statuses": [THREADPOOL_EXHAUSTED], "attempts": 3});
    for (timeout, mirror, seconds) in [
        (json!("0s"), json!({"cluster": "shadow"}), 15),
        (json!("4s"), json!({"cluster": "shadow"}), 4),
        (json!("4s"), json!({"cluster": "shadow", "timeout": "9s"}), 9),
    ] {
        let mut world = world(json!({"timeout": timeout, "retry": retry, "mirrors": [mirror]}));
        shadow_serves(&mut world, |_| What::Nothing.now());
        let client = world.connect();
        world.call_and_wait(client, Ask::new("echo"));
        world.run_for(seconds * SECOND - SECOND);
        assert_eq!((mirrored(&mut world, "timeout"), got(&world, SHADOW)), (0, 1));
        world.run_for(SECOND);
        assert_eq!((mirrored(&mut world, "timeout"), got(&world, SHADOW)), (1, 1));
    }
    let mut world = world(json!({"retry": retry, "mirrors": [{"cluster": "shadow"}]}));
    shadow_serves(&mut world, |arrival| match arrival.method {
        "echo" => What::Reset.now(),
        _ => What::Error(THREADPOOL_EXHAUSTED).now(),
    });
    let client = world.connect();
    for method in ["echo", "error"] {
        world.call_and_wait(client, Ask::new(method));
        world.run_for(SECOND);
    }
    assert_eq!((got(&world, SHADOW), world.sum(Metric::Retries)), (2, 0));
}

#[test]
fn copies_end_with_the_worker_and_none_begin_when_it_drains() {
    let mut world = to_shadow();
    shadow_serves(&mut world, |_| What::Nothing.now());
    let client = world.connect();
    world.call_and_wait(client, Ask::new("echo"));
    world.run_for(SECOND);
    world.go_away();
    world.run_for(SECOND);
    world.call_and_wait(client, Ask::new("echo"));
    assert_eq!((mirrored(&mut world, "dropped"), got(&world, SHADOW)), (1, 1));
    world.shut_down();
    let ended = [Metric::Mirrored("cancelled"), Metric::Cancelled, Metric::InFlight];
    assert_eq!(ended.map(|metric| world.metrics.sum(metric)), [1, 0, 0]);
}

#[test]
fn a_client_that_leaves_and_a_new_plan_take_no_copy_along() {
    let mut world = to_shadow();
    shadow_serves(&mut world, |_| What::Echo(0).after(2 * SECOND));
    let client = world.connect();
    world.call_and_wait(client, Ask::new("echo"));
    world.leave(client);
    world.set_plan(&plan(json!({})));
    let stays = world.connect();
    world.call_and_wait(stays, Ask::new("echo"));
    world.run_for(3 * SECOND);
    assert_eq!((mirrored(&mut world, "success"), got(&world, SHADOW)), (1, 1));
}

#[test]
fn a_copy_that_ends_before_its_call_leaves_the_counts_right() {
    let upstream = json!({"maxCallsPerConnection": 1, "connectionsPerEndpoint": 1});
    let route = json!({"mirrors": [{"cluster": "shadow"}]});
    let plan = plan(json!({"defaultRoute": route, "upstream": upstream}));
    let mut world = World::new(Setup { plan, ..Setup::default() });
    world.cluster("demo", &[A], Policy::RoundRobin);
    world.cluster("shadow", &[SHADOW], Policy::RoundRobin);
    world.serve(|arrival, _| match arrival.endpoint {
        A => What::Echo(0).after(Duration::from_millis(100)),
        _ => Reply::echo(),
    });
    let client = world.connect();
    world.call_and_wait(client, Ask::new("linger"));
    world.run_for(SECOND);
    world.call_all(client, vec![Ask::new("linger"); 4]);
    world.run_for(Duration::from_millis(5));
    // A copy of the first is sent at once, which is its end, while the call waits; then the second comes, of another name.
    world.call_all(client, vec![Ask::new("gone").one_way(), Ask::new("found")]);
    world.run_for(SECOND * 2);
    let counted = world.metrics.counted(Metric::Requests);
    let of = |name: &str| {
        let named = counted
            .iter()
            .filter(|(labels, _)| matches!(labels, Labels::Operation(label) if &*label.method == name));
        named.map(|(_, n)| n).sum::<u64>()
    };
    assert_eq!(["linger", "found", "other"].map(of), [5, 1, 1]);
}
