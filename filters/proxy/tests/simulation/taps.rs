//! Calls that are told of one by one, for a time.

use std::time::Duration;

use meltemi_proxy::{LocalReply, Told};
use serde_json::{Value, json};

use crate::servers::{Policy, Reply, What};
use crate::world::{Ask, Setup, World};

const A: &str = "10.0.0.1:20880";

/// A second that does not come in a test.
const LATER: u32 = u32::MAX;

fn plan(taps: &Value) -> Value {
    let service = json!({"protocol": "dubbo", "onNoMatch": "reject", "routes": [
        {"name": "late", "match": [{"attributes": {"method": {"exact": "late"}}}], "timeout": "100ms"},
        {"name": "denied", "match": [{"attributes": {"method": {"exact": "secret"}}}], "reject": {}},
        {"name": "rest", "match": [{"attributes": {"method": {"prefix": "e"}}}]},
    ]});
    json!({"services": {"demo": service}, "taps": taps})
}

fn world(taps: &Value) -> World {
    let mut world = World::new(Setup { plan: plan(taps), ..Setup::default() });
    world.cluster("demo", &[A], Policy::RoundRobin);
    world.serve(|arrival, _| match arrival.method {
        "late" => What::Nothing.now(),
        _ => Reply::echo(),
    });
    world
}

fn lines(world: &World) -> impl Iterator<Item = &LocalReply> {
    world.metrics.replies.iter().filter(|line| line.event == "tap")
}

/// What is told: the tap, the method, how the call ended, and why it took its route.
fn told(world: &World) -> Vec<String> {
    let of = |line: &LocalReply| {
        let tapped = line.tapped.as_ref().unwrap();
        let taps: Vec<&str> = tapped.taps.iter().map(|told| &*told.tap).collect();
        format!("{} {} {} {}", taps.join("+"), line.operation.method, line.reason, line.detail)
    };
    lines(world).map(of).collect()
}

#[test]
fn calls_are_told_however_they_end() {
    let mut world = world(&json!([{"name": "t", "until": LATER}]));
    let client = world.connect();
    for method in ["echo", "late", "secret", "lost"] {
        world.call_and_wait(client, Ask::new(method));
    }
    let told = told(&world);
    assert_eq!(told[..2], ["t echo success routes[2].match[0]", "t late timeout routes[0].match[0]"]);
    assert!(told[2].starts_with("t secret denied routes[1].match[0]; "), "{told:?}");
    assert!(told[3].starts_with("t lost no_route no route matches: "), "{told:?}");
    let first = lines(&world).next().unwrap();
    assert_eq!((first.cluster.as_deref(), first.endpoint.as_deref()), (Some("demo"), Some(A)));
}

#[test]
fn each_tap_tells_the_attributes_that_it_names_of_the_calls_that_it_matches() {
    let gray = json!([{"attributes": {"tag": {"exact": "gray"}}}]);
    let mut world = world(&json!([
        {"name": "all", "until": LATER, "attributes": ["tag", "none", "source.ip"]},
        {"name": "gray", "until": LATER, "match": gray},
    ]));
    let client = world.connect();
    world.call_and_wait(client, Ask::new("echo").with("tag", "gray").with("password", "s3cret"));
    let long = format!("\u{1b}{}", "ä".repeat(200));
    world.call_and_wait(client, Ask::new("echo").with("tag", &long));
    let taps: Vec<_> = lines(&world).map(|line| &line.tapped.as_ref().unwrap().taps).collect();
    let [both, one] = taps.as_slice() else { panic!("{taps:?}") };
    let attributes = |told: &Told| -> Vec<(String, String)> {
        told.attributes.iter().map(|(name, value)| (name.to_string(), value.clone())).collect()
    };
    let told = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(attributes(&both[0]), [told("tag", "gray"), told("source.ip", "192.0.2.1")]);
    assert_eq!((&*both[1].tap, attributes(&both[1]).len(), one.len()), ("gray", 0, 1));
    assert_eq!(one[0].attributes[0].1.len(), 255, "255 is a boundary of the characters, 256 is none");
    assert!(!format!("{:?}", world.metrics.replies).contains("s3cret"));
}

#[test]
fn taps_end_by_the_clock_of_the_proxy() {
    let mut world = world(&json!([]));
    let client = world.connect();
    world.call_and_wait(client, Ask::new("echo"));
    world.run_for(Duration::from_secs(5));
    let end = world.now / 1_000_000_000 + 60;
    world.set_plan(&plan(&json!([{"name": "t", "until": end}])));
    world.call_and_wait(client, Ask::new("echo"));
    assert_eq!(told(&world).len(), 1);
    // One that is under way when it ends is not told of any more.
    world.run_for(Duration::from_nanos(end * 1_000_000_000 - world.now - 50_000_000));
    world.call_and_wait(client, Ask::new("late"));
    assert_eq!(told(&world).len(), 1);
    // Who waits for calls is told why there are none, once.
    for _ in 0..3 {
        world.call_and_wait(client, Ask::new("echo"));
    }
    assert_eq!(told(&world)[1..], ["t  ended "]);
}

#[test]
fn a_tap_that_has_ended_before_it_began_says_so_when_calls_come() {
    let of_secrets = json!([{"attributes": {"method": {"exact": "secret"}}}]);
    let mut world = world(&json!([]));
    let client = world.connect();
    world.call_and_wait(client, Ask::new("echo"));
    world.run_for(Duration::from_secs(5));
    let past = world.now / 1_000_000_000 - 3;
    let later = world.now / 1_000_000_000 + 60;
    world.set_plan(&plan(
        &json!([{"name": "t", "until": past}, {"name": "of-secrets", "until": past, "match": of_secrets}]),
    ));
    for _ in 0..3 {
        world.call_and_wait(client, Ask::new("echo"));
    }
    assert_eq!(told(&world), ["t  ended "], "no call is of the other");
    // Another of the name.
    world.set_plan(&plan(&json!([{"name": "t", "until": later}])));
    world.call_and_wait(client, Ask::new("echo"));
    world.run_for(Duration::from_secs(61));
    world.call_and_wait(client, Ask::new("echo"));
    assert_eq!(told(&world)[1..], ["t echo success routes[2].match[0]", "t  ended "]);
}

#[test]
fn a_tap_tells_of_so_many_calls_a_second_and_how_many_it_left_out() {
    let mut world = world(&json!([{"name": "t", "until": LATER}]));
    let client = world.connect();
    let calls = world.call_all(client, (0..1000).map(|_| Ask::new("echo")));
    world.await_all(&calls);
    assert_eq!(told(&world).len(), 100);
    world.run_for(Duration::from_secs(2));
    assert_eq!(told(&world)[100..], ["t  left_out "], "it is told, though there are no more calls");
    assert_eq!(lines(&world).last().map(|line| line.suppressed), Some(900));
    world.call_and_wait(client, Ask::new("echo"));
    assert_eq!(lines(&world).last().map(|line| line.suppressed), Some(0));
    world.run_for(Duration::from_secs(10));
    assert_eq!(told(&world).len(), 102, "it is told once");
}

#[test]
fn a_wide_tap_leaves_lines_to_others() {
    let gray = json!([{"attributes": {"tag": {"exact": "gray"}}}]);
    let mut world = world(&json!([
        {"name": "all", "until": LATER},
        {"name": "gray", "until": LATER, "match": gray},
    ]));
    let client = world.connect();
    let calls = world.call_all(client, (0..500).map(|_| Ask::new("echo")));
    world.await_all(&calls);
    world.call_and_wait(client, Ask::new("echo").with("tag", "gray"));
    let told = told(&world);
    assert_eq!((told.len(), told[100].starts_with("gray echo ")), (101, true), "{:?}", told.last());
    assert_eq!(lines(&world).last().map(|line| line.suppressed), Some(0), "nothing of its own was left out");
}

/// How many calls each tap of a line left out.
fn left_out(line: &LocalReply) -> Vec<(&str, u64)> {
    let tapped = line.tapped.as_ref().unwrap();
    tapped.taps.iter().map(|told| (&*told.tap, told.suppressed)).collect()
}

/// How many calls the tap left out, by all lines.
fn left_out_of(world: &World, name: &str) -> u64 {
    lines(world).flat_map(left_out).filter(|(tap, _)| *tap == name).map(|(_, calls)| calls).sum()
}

#[test]
fn each_tap_says_what_it_left_out_itself() {
    let gray = json!([{"attributes": {"tag": {"exact": "gray"}}}]);
    let taps = json!([{"name": "all", "until": LATER}, {"name": "gray", "until": LATER, "match": gray}]);
    let mut world = world(&taps);
    let client = world.connect();
    let calls = world.call_all(client, (0..100).map(|_| Ask::new("echo")));
    world.await_all(&calls);
    world.run_for(Duration::from_millis(500));
    let calls = world.call_all(client, (0..50).map(|_| Ask::new("echo")));
    world.await_all(&calls);
    world.run_for(Duration::from_millis(600));
    world.call_and_wait(client, Ask::new("echo").with("tag", "gray"));
    let last = lines(&world).last().unwrap();
    assert_eq!(left_out(last), [("all", 50), ("gray", 0)]);
    assert!(last.line().contains(r#","suppressedByTap":{"all":50,"gray":0}"#), "{}", last.line());
    assert_eq!(last.suppressed, 50);
    // What both leave out is of both.
    let calls = world.call_all(client, (0..150).map(|_| Ask::new("echo").with("tag", "gray")));
    world.await_all(&calls);
    world.run_for(Duration::from_secs(2));
    world.call_and_wait(client, Ask::new("echo"));
    assert_eq!((left_out_of(&world, "all"), left_out_of(&world, "gray")), (50 + 51, 51));
}

#[test]
fn there_is_a_bound_for_all_taps_together() {
    let taps: Vec<_> = (0..8)
        .map(|tap| {
            let own = json!([{"attributes": {"tag": {"exact": tap.to_string()}}}]);
            json!({"name": format!("t{tap}"), "until": LATER, "match": own})
        })
        .collect();
    let mut world = world(&json!(taps));
    let client = world.connect();
    for tap in 0..8 {
        let ask = || Ask::new("echo").with("tag", &tap.to_string());
        let calls = world.call_all(client, (0..100).map(|_| ask()));
        world.await_all(&calls);
    }
    assert_eq!(told(&world).len(), 400);
    world.run_for(Duration::from_secs(3));
    let left_out: u64 = lines(&world).map(|line| line.suppressed).sum();
    assert_eq!(left_out, 400);
}

#[test]
fn what_a_tap_left_out_is_told_when_it_ends_and_not_after() {
    let mut world = world(&json!([]));
    let client = world.connect();
    world.run_for(Duration::from_secs(5));
    let end = world.now / 1_000_000_000 + 2;
    world.set_plan(&plan(&json!([{"name": "t", "until": end}])));
    world.run_for(Duration::from_nanos(end * 1_000_000_000 - world.now - 500_000_000));
    let calls = world.call_all(client, (0..150).map(|_| Ask::new("echo")));
    world.await_all(&calls);
    assert_eq!(told(&world).len(), 100);
    world.run_for(Duration::from_nanos(end * 1_000_000_000 - world.now + 50_000_000));
    assert_eq!(told(&world)[100..], ["t  left_out "]);
    assert_eq!(lines(&world).last().map(|line| line.suppressed), Some(50));
    world.run_for(Duration::from_secs(3));
    assert_eq!(told(&world).len(), 101);
}

#[test]
fn a_worker_that_ends_tells_what_was_left_out() {
    let mut world = world(&json!([{"name": "t", "until": LATER}]));
    let client = world.connect();
    let calls = world.call_all(client, (0..150).map(|_| Ask::new("echo")));
    world.await_all(&calls);
    world.shut_down();
    assert_eq!(lines(&world).last().map(|line| line.suppressed), Some(50));
}

#[test]
fn a_share_of_the_calls_is_told() {
    let mut world = world(&json!([{"name": "t", "until": LATER, "percent": 5}]));
    let client = world.connect();
    let calls = world.call_all(client, (0..1000).map(|_| Ask::new("echo")));
    world.await_all(&calls);
    assert!((20..=90).contains(&told(&world).len()), "{} lines", told(&world).len());
}

#[test]
fn copies_of_calls_are_not_told_but_calls_are() {
    let route = json!({"cluster": "demo", "mirrors": [{"cluster": "demo"}]});
    let plan = json!({"services": {"demo": {"protocol": "dubbo", "defaultRoute": route}},
        "taps": [{"name": "t", "until": LATER}]});
    let mut world = World::new(Setup { plan, ..Setup::default() });
    world.cluster("demo", &[A], Policy::RoundRobin);
    world.serve(|_, _| Reply::echo());
    let client = world.connect();
    world.call_and_wait(client, Ask::new("echo"));
    world.run_for(Duration::from_secs(1));
    assert_eq!(told(&world), ["t echo success defaultRoute"]);
    world.shut_down();
    assert_eq!(told(&world).len(), 1);
}

#[test]
fn no_more_calls_under_way_are_kept_in_mind_than_there_is_room_for() {
    let mut world = world(&json!([{"name": "t", "until": LATER}]));
    world.serve(|_, _| What::Nothing.now());
    let client = world.connect();
    for _ in 0..15 {
        world.call_all(client, (0..100).map(|_| Ask::new("ever")));
        world.run_for(Duration::from_secs(2));
    }
    assert_eq!(left_out_of(&world, "t"), 1500 - 250);
    world.shut_down();
    assert_eq!(lines(&world).filter(|line| line.reason == "cancelled").count(), 250);
}

#[test]
fn calls_under_way_of_a_wide_tap_leave_room_to_others() {
    let gray = json!([{"attributes": {"tag": {"exact": "gray"}}}]);
    let taps = json!([{"name": "all", "until": LATER}, {"name": "gray", "until": LATER, "match": gray}]);
    let mut world = world(&taps);
    world.serve(|arrival, _| if arrival.method == "ever" { What::Nothing.now() } else { Reply::echo() });
    let client = world.connect();
    for _ in 0..15 {
        world.call_all(client, (0..100).map(|_| Ask::new("ever")));
        world.run_for(Duration::from_secs(2));
    }
    for _ in 0..3 {
        let asks = (0..100).map(|_| Ask::new("echo").with("tag", "gray"));
        let calls = world.call_all(client, asks);
        world.await_all(&calls);
        world.run_for(Duration::from_secs(2));
    }
    // Those that have ended make room.
    let of_gray = lines(&world).filter(|line| line.reason == "success").map(left_out);
    assert_eq!(of_gray.collect::<Vec<_>>(), vec![[("gray", 0)]; 300]);
    assert_eq!(left_out_of(&world, "all"), 1500 - 250 + 300);
}

#[test]
fn a_line_has_no_tap_that_has_ended() {
    let mut world = world(&json!([]));
    let client = world.connect();
    world.run_for(Duration::from_secs(5));
    let end = world.now / 1_000_000_000 + 2;
    world.set_plan(&plan(&json!([{"name": "short", "until": end}, {"name": "long", "until": LATER}])));
    world.run_for(Duration::from_nanos(end * 1_000_000_000 - world.now - 50_000_000));
    world.call_and_wait(client, Ask::new("late"));
    assert_eq!(told(&world), ["long late timeout routes[0].match[0]"]);
}
