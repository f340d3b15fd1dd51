//! Lines that go to files, several at a time.

use std::time::Duration;

use meltemi_proxy::{Leftovers, Metric};
use serde_json::{Value, json};

use crate::loggers::dropped;
use crate::servers::{Policy, Reply, What};
use crate::world::{Ask, Setup, World};

const A: &str = "10.0.0.1:20880";

/// How many lines are under way at once, if they are short.
const MOST: usize = 1024 * 16;

fn plan(rules: &Value) -> Value {
    let service = json!({"protocol": "dubbo", "onNoMatch": "reject", "routes": [
        {"name": "rest", "match": [{"attributes": {"method": {"prefix": "e"}}}]},
    ]});
    json!({"services": {"demo": service}, "accessLog": rules})
}

/// Lines that have the method and the attachment `tag`.
fn rules() -> Value {
    json!({"log": false, "files": true, "textFormat": "%REQ(method)% %REQ(tag)%"})
}

fn world(rules: &Value) -> World {
    start(Setup { plan: plan(rules), ..Setup::default() })
}

fn start(setup: Setup) -> World {
    let mut world = World::new(setup);
    world.cluster("demo", &[A], Policy::RoundRobin);
    world
}

/// Another worker of the same listener, with the same plan.
fn beside(world: &World, leftovers: &Leftovers) -> World {
    let (shared_plan, leftovers) = (Some(world.first_plan.clone()), leftovers.clone());
    start(Setup { shared_plan, leftovers, ..Setup::default() })
}

/// The lines of each request, as the loggers of the connection manager write them.
fn batches(world: &World) -> Vec<Vec<&str>> {
    let lines = |entry: &'_ [(String, String)]| -> Vec<usize> {
        let at = |name: &str| entry.iter().position(|(known, _)| known == name).expect(name);
        let count: usize = entry[at("x-meltemi-lines")].1.parse().unwrap();
        assert!([1, 4, 16].contains(&count), "there is no logger for {count} lines");
        assert_eq!(entry.iter().filter(|(name, _)| name.starts_with("x-")).count(), count + 1);
        assert_eq!(entry[at(":path")].1, "/lines");
        // Envoy takes 60 KiB.
        assert!(entry.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>() < 50 << 10);
        (1..=count).map(|number| at(&format!("x-call-line-{number}"))).collect()
    };
    let all = world.manager.logs.entries.iter();
    all.map(|entry| lines(entry).into_iter().map(|at| &*entry[at].1).collect()).collect()
}

/// The sizes of the requests, and the tags of all lines.
fn told(world: &World) -> (Vec<usize>, Vec<String>) {
    let batches = batches(world);
    let tag = |line: &&str| line.rsplit_once(' ').unwrap().1.to_owned();
    (batches.iter().map(Vec::len).collect(), batches.iter().flatten().map(tag).collect())
}

fn numbers(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

fn count(world: &mut World, outcome: &'static str) -> i64 {
    world.sum(Metric::LogEntries(outcome))
}

/// Calls of a client one by one, whose lines are numbered.
fn call(world: &mut World, client: usize, range: std::ops::Range<usize>) {
    for number in numbers(range) {
        world.call_and_wait(client, Ask::new("echo").with("tag", &number));
    }
}

#[test]
fn lines_go_together_when_there_are_enough_of_them() {
    let mut world = world(&rules());
    let client = world.connect();
    call(&mut world, client, 0..15);
    assert_eq!(told(&world), (vec![], vec![]));
    call(&mut world, client, 15..40);
    assert_eq!(told(&world), (vec![16, 16], numbers(0..32)));
    world.run_for(Duration::from_secs(1));
    assert_eq!(told(&world), (vec![16, 16, 4, 4], numbers(0..40)));
    call(&mut world, client, 40..53);
    world.run_for(Duration::from_secs(1));
    assert_eq!(told(&world), (vec![16, 16, 4, 4, 4, 4, 4, 1], numbers(0..53)));
    assert_eq!((count(&mut world, "logged"), dropped(&world)), (53, vec![]));
    assert!(world.metrics.replies.iter().all(|line| line.event != "call"));
}

#[test]
fn lines_wait_no_longer_than_a_moment() {
    let mut world = world(&rules());
    let client = world.connect();
    call(&mut world, client, 0..1);
    world.run_for(Duration::from_millis(150));
    call(&mut world, client, 1..2);
    assert_eq!(told(&world).1.len(), 0);
    // From the first of them on.
    world.run_for(Duration::from_millis(100));
    assert_eq!(told(&world), (vec![1, 1], numbers(0..2)));
}

#[test]
fn lines_of_the_last_client_go_before_its_connection_ends() {
    let mut world = world(&rules());
    let [first, last] = [(); 2].map(|()| world.connect());
    call(&mut world, first, 0..1);
    world.leave(first);
    world.run_for(Duration::from_millis(50));
    assert_eq!(told(&world).1.len(), 0);
    call(&mut world, last, 1..2);
    world.leave(last);
    world.run_for(Duration::from_millis(50));
    assert_eq!(told(&world).1, numbers(0..2));
}

#[test]
fn long_lines_are_cut_and_fewer_of_them_go_together() {
    let mut world =
        world(&json!({"log": false, "files": true, "textFormat": "\n%REQ(tag)%\n%REQ(tag)%\n\n".repeat(30)}));
    let client = world.connect();
    let calls = world.call_all(client, (0..7).map(|_| Ask::new("echo").with("tag", &"é".repeat(2000))));
    world.await_all(&calls);
    world.run_for(Duration::from_secs(1));
    let batches = batches(&world);
    assert_eq!(batches.iter().map(Vec::len).collect::<Vec<_>>(), [1; 7]);
    for line in batches.iter().flatten() {
        assert!((16_000..=16 << 10).contains(&line.len()) && line.starts_with("éé"), "{}", line.len());
        assert!(!line.contains('\n') && line.contains("é é"), "ends of lines are spaces");
    }
}

#[test]
fn a_line_of_nothing_is_a_dash() {
    let mut world = world(&json!({"log": false, "files": true, "textFormat": " \n "}));
    let client = world.connect();
    call(&mut world, client, 0..1);
    world.run_for(Duration::from_secs(1));
    assert_eq!(batches(&world), [["-"]]);
}

#[test]
fn lines_may_be_in_the_log_and_told_to_loggers_as_well() {
    for form in [json!({}), json!({"textFormat": "%REQ(method)% %DURATION%"})] {
        let mut rules = json!({"files": true, "fields": {"x-call-line": "%LINE%"}});
        rules.as_object_mut().unwrap().extend(form.as_object().unwrap().clone());
        let mut world = world(&rules);
        let client = world.connect();
        world.call_and_wait(client, Ask::new("echo"));
        world.run_for(Duration::from_secs(1));
        let line = world.metrics.replies.iter().find(|line| line.event == "call").unwrap().line();
        let [alone, lines] = &world.manager.logs.entries[..] else { panic!("an entry, and lines") };
        let has = |entry: &[(String, String)], name: &str| {
            entry.iter().any(|(known, value)| known == name && *value == line)
        };
        assert!(has(alone, "x-call-line") && has(lines, "x-call-line-1"), "{line}");
    }
}

#[test]
fn a_call_that_nothing_becomes_of_has_a_line_too() {
    let mut world = world(&json!({"errors": true, "log": false, "files": true}));
    let client = world.connect();
    for method in ["echo", "lost"] {
        world.call_and_wait(client, Ask::new(method));
    }
    world.run_for(Duration::from_secs(1));
    let lines: Vec<Value> =
        batches(&world).into_iter().flatten().map(|line| serde_json::from_str(line).unwrap()).collect();
    let told: Vec<_> = lines.iter().map(|line| (&line["event"], &line["method"], &line["reason"])).collect();
    assert_eq!(told, [(&json!("call"), &json!("lost"), &json!("no_route"))]);
}

#[test]
fn no_call_waits_for_files_and_what_they_do_not_take_is_bounded() {
    let mut world = world(&rules());
    world.manager.logs.answer = None;
    let client = world.connect();
    let ask = |number: usize| Ask::new("echo").with("tag", &number.to_string());
    let calls = world.call_all(client, (0..MOST + 90).map(ask));
    world.await_all(&calls);
    world.run_for(Duration::from_secs(1));
    let (sizes, tags) = told(&world);
    assert_eq!((sizes, tags.len(), count(&mut world, "full")), (vec![16; MOST / 16], MOST, 90));
    assert_eq!(dropped(&world), [("full", 0)], "one line in a minute");
    world.manager.logs.answer = Some("404");
    world.log_all();
    world.run_for(Duration::from_secs(61));
    assert_eq!(count(&mut world, "logged"), MOST as i64);

    // A connection manager without a route for them.
    call(&mut world, client, 0..5);
    world.run_for(Duration::from_secs(1));
    assert_eq!((count(&mut world, "refused"), dropped(&world)), (5, vec![("full", 0), ("refused", 89)]));
}

#[test]
fn lines_of_a_plan_go_before_the_next_is_in_force() {
    for next in [json!({}), rules(), json!({"log": false, "fields": {"x-tag": "%REQ(tag)%"}})] {
        let mut world = world(&rules());
        let client = world.connect();
        call(&mut world, client, 0..3);
        world.set_plan(&plan(&next));
        world.run_for(Duration::from_millis(20));
        assert_eq!(told(&world), (vec![1, 1, 1], numbers(0..3)));
    }
}

#[test]
fn a_call_under_way_has_its_line_where_the_plan_says_that_it_ends_by() {
    let mut world = world(&json!({"textFormat": "%REQ(tag)% old"}));
    world.serve(|_, _| What::Echo(0).after(Duration::from_millis(50)));
    let client = world.connect();
    let call = world.call(client, Ask::new("echo").with("tag", "gray"));
    world.run_for(Duration::from_millis(20));
    world.set_plan(&plan(&rules()));
    world.await_all(&[call]);
    world.run_for(Duration::from_secs(1));
    assert_eq!(batches(&world), [["gray old"]]);
    assert!(world.metrics.replies.iter().all(|line| line.event != "call"));
}

#[test]
fn what_a_worker_has_not_sent_another_of_the_same_listener_does() {
    let leftovers = Leftovers::default();
    let mut old = beside(&world(&rules()), &leftovers);
    old.serve(|arrival, _| match arrival.method {
        "ever" => What::Nothing.now(),
        _ => Reply::echo(),
    });
    let client = old.connect();
    call(&mut old, client, 0..2);
    old.call_all(client, (2..30).map(|number| Ask::new("ever").with("tag", &number.to_string())));
    old.run_for(Duration::from_millis(20));
    old.shut_down();
    assert_eq!((told(&old).1, count(&mut old, "full")), (vec![], 0));

    let mut new = beside(&old, &leftovers);
    let client = new.connect();
    call(&mut new, client, 30..31);
    new.run_for(Duration::from_secs(1));
    let (_, mut tags) = told(&new);
    tags.sort_by_key(|tag| tag.parse::<usize>().unwrap());
    assert_eq!((tags, count(&mut new, "logged")), (numbers(0..31), 31));
}

#[test]
fn what_a_worker_has_not_sent_goes_to_no_files_of_another_plan() {
    let leftovers = Leftovers::default();
    let dropped = |mut old: World| {
        old.shut_down();
        count(&mut old, "full")
    };
    let mut old = beside(&world(&rules()), &leftovers);
    let client = old.connect();
    call(&mut old, client, 0..3);
    assert_eq!(dropped(old), 0);
    // Who follows another plan has none of that, and counts it.
    let mut late = beside(&world(&rules()), &leftovers);
    let client = late.connect();
    call(&mut late, client, 3..6);
    let mut new = beside(&world(&rules()), &leftovers);
    let client = new.connect();
    call(&mut new, client, 6..9);
    let mut newer = beside(&new, &leftovers);
    assert_eq!(dropped(new), 0);
    // One that ends late with an older plan leaves what is there of the newer one.
    assert_eq!(dropped(late), 3 + 3);
    let client = newer.connect();
    call(&mut newer, client, 9..10);
    newer.run_for(Duration::from_secs(1));
    let (_, mut tags) = told(&newer);
    tags.sort();
    assert_eq!((tags, count(&mut newer, "full")), (numbers(6..10), 0));
}

#[test]
fn what_workers_leave_is_bounded() {
    let leftovers = Leftovers::default();
    let first = world(&json!({"log": false, "files": true, "textFormat": "%REQ(tag)%"}));
    let leave = |_| {
        let mut old = beside(&first, &leftovers);
        let client = old.connect();
        let calls = old.call_all(client, (0..15).map(|_| Ask::new("echo").with("tag", &"x".repeat(1000))));
        old.await_all(&calls);
        old
    };
    let all: Vec<World> = (0..10).map(leave).collect();
    let end = |mut old: World| {
        old.shut_down();
        count(&mut old, "full")
    };
    assert_eq!(all.into_iter().map(end).sum::<i64>(), 150 - 65);
}

/// What has gathered when the connection manager drains, and what comes later, is not lost.
#[test]
fn lines_that_can_be_sent_no_more_go_by_another_worker() {
    for gathered in [0, 3, 15] {
        let leftovers = Leftovers::default();
        let mut old = beside(&world(&rules()), &leftovers);
        let client = old.connect();
        call(&mut old, client, 0..gathered);
        old.go_away();
        call(&mut old, client, gathered..18);
        old.run_for(Duration::from_secs(1));
        assert_eq!((told(&old).1, count(&mut old, "full")), (vec![], 0), "{gathered} had gathered");

        let mut new = beside(&old, &leftovers);
        let client = new.connect();
        call(&mut new, client, 18..19);
        new.run_for(Duration::from_secs(1));
        // Those of the worker itself were there before.
        let (_, mut tags) = told(&new);
        tags.sort_by_key(|tag| tag.parse::<usize>().unwrap());
        assert_eq!((tags, count(&mut new, "logged")), (numbers(0..19), 19), "{gathered} had gathered");
    }
}

#[test]
fn calls_that_end_at_once_have_all_their_lines() {
    let mut world = world(&rules());
    let client = world.connect();
    let ask = |number: usize| Ask::new("lost").with("tag", &number.to_string());
    let calls = world.call_all(client, (0..5000).map(ask));
    world.await_all(&calls);
    world.run_for(Duration::from_secs(1));
    assert_eq!((told(&world).1, count(&mut world, "full")), (numbers(0..5000), 0));
}

/// The memory that they take is bounded, whatever their length.
#[test]
fn fewer_lines_are_under_way_if_they_are_long() {
    let mut world = world(&json!({"log": false, "files": true, "textFormat": "%REQ(tag)% ".repeat(16)}));
    world.manager.logs.answer = None;
    let client = world.connect();
    let tag = "x".repeat(1000);
    let calls = world.call_all(client, (0..1100).map(|_| Ask::new("echo").with("tag", &tag)));
    world.await_all(&calls);
    world.run_for(Duration::from_secs(1));
    assert_eq!((batches(&world).len(), count(&mut world, "full")), (1024, 76));
}

/// It may have another plan, that which was before.
#[test]
fn a_worker_without_lines_leaves_those_of_others() {
    let leftovers = Leftovers::default();
    let mut idle = beside(&world(&rules()), &leftovers);
    let mut old = beside(&world(&rules()), &leftovers);
    let client = old.connect();
    call(&mut old, client, 0..3);
    old.shut_down();
    idle.shut_down();
    let mut new = beside(&old, &leftovers);
    let client = new.connect();
    call(&mut new, client, 3..4);
    new.run_for(Duration::from_secs(1));
    assert_eq!(told(&new).1.len(), 4);
}
