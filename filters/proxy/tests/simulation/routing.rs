//! Where calls go: routes, splits, attachments, and plans that change.

use std::time::Duration;

use meltemi_proxy::{Labels, Metric};
use serde_json::{Value, json};

use crate::dubbo::{SERVICE_ERROR, SERVICE_NOT_FOUND};
use crate::servers::{Policy, What};
use crate::world::{Ask, Setup, World};

const DEMO: &str = "10.0.0.1:20880";
const V1: &str = "10.0.1.1:20880";
const V2: &str = "10.0.2.1:20880";

fn plan(service: Value) -> Value {
    Setup::demo(service).plan
}

fn world(service: Value) -> World {
    let mut world = World::new(Setup::demo(service));
    world.cluster("demo", &[DEMO], Policy::RoundRobin);
    world.cluster("v1", &[V1], Policy::RoundRobin);
    world.cluster("v2", &[V2], Policy::RoundRobin);
    world
}

fn endpoint(world: &mut World, client: usize, ask: Ask) -> String {
    let call = world.call_and_wait(client, ask);
    world.calls[call].endpoint().expect("an answer of an endpoint").to_owned()
}

#[test]
fn the_first_route_that_matches_takes_the_call() {
    let mut world = world(json!({"routes": [
        {"name": "gray", "match": [{"attributes": {"tag": {"exact": "gray"}}}], "cluster": "v2"},
        {"name": "hello", "match": [{"attributes": {"method": {"prefix": "say"}}}], "cluster": "v1"},
    ]}));
    let client = world.connect();
    assert_eq!(endpoint(&mut world, client, Ask::new("sayHello")), V1);
    assert_eq!(endpoint(&mut world, client, Ask::new("sayHello").with("tag", "gray")), V2);
    assert_eq!(endpoint(&mut world, client, Ask::new("find").with("tag", "gray")), V2);
    assert_eq!(endpoint(&mut world, client, Ask::new("find").with("tag", "blue")), DEMO);
}

#[test]
fn calls_in_one_write_go_each_their_way() {
    let mut world = world(json!({"routes": [
        {"name": "one", "match": [{"attributes": {"method": {"exact": "one"}}}], "cluster": "v1"},
        {"name": "two", "match": [{"attributes": {"method": {"exact": "two"}}}], "cluster": "v2"},
    ]}));
    let client = world.connect();
    let calls = world.call_all(client, (0..40).map(|n| Ask::new(["one", "two", "three"][n % 3])));
    world.await_all(&calls);
    for call in calls {
        let wanted = [V1, V2, DEMO][call % 3];
        assert_eq!(world.calls[call].endpoint(), Some(wanted));
    }
}

#[test]
fn a_call_without_a_route_is_answered_if_the_plan_says_so() {
    let mut world = world(json!({"onNoMatch": "reject", "routes": [
        {"name": "hello", "match": [{"attributes": {"method": {"exact": "sayHello"}}}], "cluster": "v1"},
    ]}));
    let client = world.connect();
    let call = world.call_and_wait(client, Ask::new("other"));
    assert_eq!(world.calls[call].error(), Some(SERVICE_NOT_FOUND));
    assert_eq!(world.sum(Metric::LocalReplies("no_route")), 1);
    assert_eq!(world.metrics.replies[0].reason, "no_route");
    assert_eq!(endpoint(&mut world, client, Ask::new("sayHello")), V1);
    world.call(client, Ask::new("other").one_way());
    assert_eq!(endpoint(&mut world, client, Ask::new("sayHello")), V1);
}

#[test]
fn a_route_that_rejects_answers_its_calls_and_drops_those_that_want_no_answer() {
    let mut world = world(json!({"routes": [
        {"name": "closed", "match": [{"attributes": {"method": {"exact": "secret"}}}],
            "reject": {"message": "not for you"}},
    ]}));
    let client = world.connect();
    let mixed = world.call_all(client, ["echo", "secret", "echo"].map(Ask::new));
    world.await_all(&mixed);
    let answers: Vec<_> =
        mixed.iter().map(|&call| world.calls[call].answer.clone().unwrap().result).collect();
    let denied = Err((SERVICE_ERROR, "meltemi: not for you".to_owned()));
    assert_eq!(answers, [Ok(DEMO.to_owned()), denied, Ok(DEMO.to_owned())]);
    let dropped = world.call(client, Ask::new("secret").one_way());
    assert_eq!(endpoint(&mut world, client, Ask::new("echo")), DEMO);
    assert!(world.calls[dropped].deliveries.is_empty());
    assert_eq!(world.sum(Metric::LocalReplies("denied")), 2);
    assert_eq!(world.metrics.sum(Metric::InFlight), 0);
    let reply = &world.metrics.replies[0];
    assert_eq!(
        (reply.reason, reply.route.as_deref(), reply.cluster.as_deref()),
        ("denied", Some("closed"), None)
    );
}

#[test]
fn a_call_that_says_two_things_is_denied_where_calls_are_denied() {
    let routes = json!([{"name": "open", "match": [{"attributes": {"method": {"exact": "echo"}}}]}]);
    let mut world = world(json!({"routes": routes, "defaultRoute": {"reject": {}}}));
    let client = world.connect();
    let disguised = || Ask::new("echo").with("path", "org.Shut");
    let call = world.call_and_wait(client, disguised());
    assert_eq!(world.calls[call].error(), Some(SERVICE_ERROR));
    world.call(client, disguised().one_way());
    assert_eq!(endpoint(&mut world, client, Ask::new("echo").with("tag", "x")), DEMO);
    assert_eq!(world.sum(Metric::LocalReplies("denied")), 2);
    assert_eq!(world.metrics.sum(Metric::DecodeErrors), 2);
    assert!(world.metrics.replies[0].detail.starts_with("denied: unsupported attachment"));
    world.set_plan(&plan(json!({"routes": routes})));
    assert_eq!(endpoint(&mut world, client, disguised()), DEMO);
}

#[test]
fn a_call_whose_value_is_too_long_to_be_read_is_denied_where_calls_are_denied() {
    let closed =
        json!([{"name": "closed", "reject": {}, "match": [{"attributes": {"tag": {"suffix": "secret"}}}]}]);
    let mut world = world(json!({"routes": closed}));
    let client = world.connect();
    let long = format!("{}secret", "x".repeat(512));
    let call = world.call_and_wait(client, Ask::new("echo").with("tag", &long));
    assert_eq!(world.calls[call].error(), Some(SERVICE_ERROR));
    assert_eq!(world.metrics.replies[0].detail, "denied: the attribute tag is too long");
    assert_eq!(endpoint(&mut world, client, Ask::new("echo").with("other", &long)), DEMO);
}

/// What nobody has answered to has no name, and takes none from what somebody does.
#[test]
fn a_scan_of_names_leaves_operations_theirs() {
    let mut plan = plan(json!({"routes": [
        {"name": "closed", "match": [{"attributes": {"method": {"prefix": "scan"}}}], "reject": {}},
    ]}));
    plan["metrics"] = json!({"maxOperations": 2});
    let mut world = World::new(Setup { plan, ..Setup::default() });
    world.cluster("demo", &[DEMO], Policy::RoundRobin);
    let client = world.connect();
    let scan = world.call_all(client, (0..100).map(|number| Ask::new(&format!("scan{number}"))));
    world.await_all(&scan);
    let calls = world.call_all(client, ["echo", "find", "echo"].map(Ask::new));
    world.await_all(&calls);
    world.run_for(Duration::from_secs(1));
    let requests = world.metrics.counted(Metric::Requests);
    let method = |labels: &Labels| match labels {
        Labels::Operation(label) => label.method.to_string(),
        other => panic!("{other:?}"),
    };
    let mut requests: Vec<_> = requests.into_iter().map(|(labels, n)| (method(labels), n)).collect();
    requests.sort();
    assert_eq!(requests, [("echo", 2), ("find", 1), ("other", 100)].map(|(name, n)| (name.to_owned(), n)));
    assert_eq!(world.metrics.sum(Metric::InFlight), 0);
}

#[test]
fn many_replies_for_one_reason_have_few_lines() {
    let mut world = world(json!({"defaultRoute": {"reject": {}}}));
    let client = world.connect();
    let calls = world.call_all(client, (0..100).map(|_| Ask::new("echo")));
    world.await_all(&calls);
    assert_eq!(world.metrics.replies.len(), 10);
    world.run_for(Duration::from_secs(1));
    world.call_and_wait(client, Ask::new("echo"));
    let suppressed: Vec<_> = world.metrics.replies.iter().map(|reply| reply.suppressed).collect();
    assert_eq!(suppressed, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 90]);
    assert_eq!(world.sum(Metric::LocalReplies("denied")), 101);
}

#[test]
fn a_default_route_may_reject() {
    let mut world = world(json!({
        "routes": [{"name": "open", "match": [{"attributes": {"method": {"exact": "echo"}}}]}],
        "defaultRoute": {"reject": {}},
    }));
    let client = world.connect();
    assert_eq!(endpoint(&mut world, client, Ask::new("echo")), DEMO);
    let call = world.call_and_wait(client, Ask::new("other"));
    let why = "meltemi: denied by route \"default\"".to_owned();
    assert_eq!(world.calls[call].answer.clone().unwrap().result, Err((SERVICE_ERROR, why)));
}

#[test]
fn a_split_keeps_its_weights() {
    let weighted = json!([{"cluster": "v1", "weight": 90}, {"cluster": "v2", "weight": 10}]);
    let mut world = world(json!({"defaultRoute": {"weightedClusters": weighted}}));
    let client = world.connect();
    for _ in 0..20 {
        let calls = world.call_all(client, (0..100).map(|_| Ask::new("echo")));
        world.await_all(&calls);
    }
    // Four standard deviations of 2000 draws: 54.
    let served = world.served();
    assert!((1746..=1854).contains(&served[V1]), "{served:?}");
    assert_eq!(served[V1] + served[V2], 2000);
}

#[test]
fn attachments_are_set_and_removed_both_ways() {
    let mut world = world(json!({"defaultRoute": {
        "requestAttachments": {"set": {"lane": "blue", "tag": "new"}, "remove": ["secret"]},
        "responseAttachments": {"set": {"via": "meltemi"}, "remove": ["load"]},
    }}));
    world.serve(|_, _| {
        What::Attach(vec![("load".to_owned(), "7".to_owned()), ("a".to_owned(), "b".to_owned())]).now()
    });
    let client = world.connect();
    let ask = Ask::new("echo").with("tag", "old").with("secret", "x").with("kept", "k");
    let call = world.call_and_wait(client, ask);
    let mut got = world.calls[call].deliveries[0].attachments.clone();
    got.sort();
    let pairs = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    };
    assert_eq!(got, pairs(&[("kept", "k"), ("lane", "blue"), ("tag", "new")]));
    let mut got = world.calls[call].answer.clone().unwrap().attachments;
    got.sort();
    assert_eq!(got, pairs(&[("a", "b"), ("via", "meltemi")]));
}

#[test]
fn a_new_plan_routes_the_next_call_and_leaves_those_under_way() {
    let mut world = world(json!({"defaultRoute": {"cluster": "v1"}}));
    world.serve(|_, _| What::Echo(0).after(Duration::from_millis(100)));
    let client = world.connect();
    let early = world.call_all(client, (0..10).map(|_| Ask::new("echo")));
    world.run_for(Duration::from_millis(50));
    world.set_plan(&plan(json!({"defaultRoute": {"cluster": "v2"}})));
    let late = world.call_all(client, (0..10).map(|_| Ask::new("echo")));
    world.await_all(&early);
    world.await_all(&late);
    assert!(early.iter().all(|&call| world.calls[call].endpoint() == Some(V1)));
    assert!(late.iter().all(|&call| world.calls[call].endpoint() == Some(V2)));
    // A plan that no longer has the service leaves its connections as they are.
    world.set_plan(&json!({}));
    assert_eq!(endpoint(&mut world, client, Ask::new("echo")), V2);
}

#[test]
fn new_limits_of_a_plan_hold_for_connections_that_are_there() {
    let mut world = world(json!({}));
    let client = world.connect();
    assert_eq!(endpoint(&mut world, client, Ask::new("echo")), DEMO);
    world.set_plan(&plan(json!({"idleTimeout": "1s", "limits": {"maxFrameBytes": 1000}})));
    assert_eq!(endpoint(&mut world, client, Ask::new("echo").size(500)), DEMO);
    world.run_until(|world| world.proxy.clients[0].closed_at.is_some());
    let client = world.connect();
    world.call(client, Ask::new("echo").size(2000));
    world.run_until(move |world| world.proxy.clients[client].closed_at.is_some());
}

#[test]
fn a_request_with_the_id_of_another_under_way_is_answered_as_well() {
    let mut world = world(json!({}));
    world.serve(|_, _| What::Echo(0).after(Duration::from_millis(20)));
    let clients = [world.connect(), world.connect()];
    // Both clients count from the same number.
    let first = world.call_all(clients[0], (0..20).map(|_| Ask::new("echo")));
    world.proxy.clients[clients[1]].next_id = world.proxy.clients[clients[0]].next_id - 20;
    let second = world.call_all(clients[1], (0..20).map(|_| Ask::new("echo")));
    world.proxy.clients[clients[1]].next_id -= 20;
    let third = world.call_all(clients[1], (0..20).map(|_| Ask::new("echo")));
    for calls in [first, second, third] {
        world.await_all(&calls);
    }
}
