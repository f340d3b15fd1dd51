//! Time-outs of clients that bound their calls, and what servers are told of what is left.

use std::time::Duration;

use meltemi_proxy::Metric;
use serde_json::{Value, json};

use crate::dubbo::SERVER_TIMEOUT;
use crate::servers::{Policy, Reply, What};
use crate::world::{Ask, Call, Setup, World};

const A: &str = "10.0.0.1:20880";
const B: &str = "10.0.0.2:20880";
const MS: u64 = 1_000_000;

fn world(route: Value) -> World {
    let mut world = World::new(Setup::demo(json!({"defaultRoute": route})));
    world.cluster("demo", &[A, B], Policy::RoundRobin);
    world
}

/// What each server was told of the time.
fn told(call: &Call) -> Vec<Option<u64>> {
    let time = |attachments: &[(String, String)]| {
        let (_, value) = attachments.iter().find(|(name, _)| name == "timeout")?;
        value.parse().ok()
    };
    call.deliveries.iter().map(|delivery| time(&delivery.attachments)).collect()
}

fn took(call: &Call) -> u64 {
    (call.answer.as_ref().unwrap().at - call.sent_at) / MS
}

#[test]
fn the_shorter_of_two_times_bounds_a_call_where_the_route_says_so() {
    for (route, millis) in [
        (json!({"propagateDeadline": true}), 100),
        (json!({"propagateDeadline": true, "timeout": "1s"}), 100),
        (json!({"propagateDeadline": true, "timeout": "60ms"}), 60),
        (json!({"propagateDeadline": false, "timeout": "1s"}), 1000),
        (json!({"timeout": "1s"}), 1000),
    ] {
        let mut world = world(route.clone());
        world.serve(|_, _| What::Nothing.now());
        let client = world.connect();
        let call = world.call_and_wait(client, Ask::new("echo").with("timeout", "100"));
        let call = &world.calls[call];
        assert_eq!(call.error(), Some(SERVER_TIMEOUT), "{route}");
        assert!((millis..millis + 10).contains(&took(call)), "{route}: {}", took(call));
    }
}

#[test]
fn servers_are_told_what_waiting_and_earlier_tries_have_left() {
    let mut world = world(json!({
        "propagateDeadline": true,
        "retry": {"on": ["reset"], "attempts": 2, "backoff": {"base": "0s"}},
    }));
    world.manager.connect_time = (40 * MS, 40 * MS);
    world.serve(|arrival, _| match arrival.times {
        1 => What::Reset.after(Duration::from_millis(100)),
        _ => Reply::echo(),
    });
    let client = world.connect();
    let call = world.call_and_wait(client, Ask::new("echo").with("timeout", "500").with("x", "y"));
    let call = &world.calls[call];
    assert_eq!(call.error(), None);
    let told = told(call);
    // One connection was opened, and then a hundred milliseconds were spent in vain.
    let [Some(first), Some(second)] = told[..] else { panic!("{told:?}") };
    assert!((450..=460).contains(&first), "{told:?}");
    assert!(second <= first - 100 && second >= first - 150, "{told:?}");
    assert!(call.deliveries.iter().all(|delivery| delivery.attachments.contains(&("x".into(), "y".into()))));
}

#[test]
fn a_call_that_goes_at_once_says_what_its_client_said() {
    let mut world = world(json!({"propagateDeadline": true}));
    let client = world.connect();
    world.call_and_wait(client, Ask::new("echo"));
    let asks =
        [Ask::new("echo").with("timeout", "300"), Ask::new("echo"), Ask::new("echo").with("timeout", "soon")];
    let calls = asks.map(|ask| world.call_and_wait(client, ask));
    assert_eq!(told(&world.calls[calls[0]]), [Some(300)]);
    assert_eq!(told(&world.calls[calls[1]]), [None]);
    assert_eq!(world.calls[calls[2]].deliveries[0].attachments, [("timeout".to_owned(), "soon".to_owned())]);
    world.run_for(Duration::from_secs(1));
    assert_eq!(world.sum(Metric::EditsSkipped), 0);
}

#[test]
fn the_time_of_the_route_or_of_a_try_is_passed_on_where_it_is_shorter() {
    for (route, millis) in [
        (json!({"propagateDeadline": true, "timeout": "200ms"}), 200),
        (
            json!({"propagateDeadline": true, "retry": {"on": ["per-try-timeout"], "perTryTimeout": "80ms"}}),
            80,
        ),
    ] {
        let mut world = world(route);
        let client = world.connect();
        world.call_and_wait(client, Ask::new("echo"));
        let call = world.call_and_wait(client, Ask::new("echo").with("timeout", "500"));
        assert_eq!(told(&world.calls[call]), [Some(millis)]);
        assert_eq!(world.calls[call].error(), None);
    }
}

#[test]
fn an_injected_delay_is_taken_from_the_time_of_the_client() {
    let mut world = world(json!({"propagateDeadline": true, "fault": {"delay": {"duration": "70ms"}}}));
    let client = world.connect();
    let calls = ["400", "30"].map(|time| world.call_and_wait(client, Ask::new("echo").with("timeout", time)));
    let told = told(&world.calls[calls[0]]);
    assert!(told[0].is_some_and(|left| (310..=330).contains(&left)), "{told:?}");
    assert_eq!(world.calls[calls[1]].error(), Some(SERVER_TIMEOUT));
    assert!(world.calls[calls[1]].deliveries.is_empty());
    assert!((30..40).contains(&took(&world.calls[calls[1]])));
}

#[test]
fn a_mirror_is_told_the_time_of_its_own_copy() {
    let mut world = World::new(Setup::demo(json!({"defaultRoute": {
        "propagateDeadline": true,
        "mirrors": [{"cluster": "shadow", "timeout": "50ms"}],
    }})));
    world.cluster("demo", &[A], Policy::RoundRobin);
    world.cluster("shadow", &[B], Policy::RoundRobin);
    let client = world.connect();
    world.call_and_wait(client, Ask::new("echo"));
    world.run_for(Duration::from_millis(100));
    let call = world.call_and_wait(client, Ask::new("echo").with("timeout", "500"));
    world.run_for(Duration::from_millis(100));
    let call = &world.calls[call];
    let mut told: Vec<_> =
        call.deliveries.iter().zip(told(call)).map(|(to, time)| (&*to.endpoint, time)).collect();
    told.sort_unstable();
    assert_eq!(told, [(A, Some(500)), (B, Some(50))]);
}

#[test]
fn a_large_request_is_read_to_its_end_for_its_time() {
    let mut world = world(json!({"propagateDeadline": true, "timeout": "300ms"}));
    let client = world.connect();
    world.call_and_wait(client, Ask::new("echo"));
    let call = world.call_and_wait(client, Ask::new("echo").size(200_000).with("timeout", "500"));
    assert_eq!(told(&world.calls[call]), [Some(300)]);
    assert_eq!(world.calls[call].error(), None);
}
