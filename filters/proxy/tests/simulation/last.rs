//! Answers that say that they are the last on their connection.

use std::rc::Rc;
use std::time::Duration;

use meltemi_proxy::Metric;
use serde_json::json;

use crate::servers::{Policy, What};
use crate::toy::{NARROW, ORDERED, PIPELINED, Toy, WIDE};
use crate::world::{Ask, Setup, World};

const A: &str = "10.0.0.1:20880";

const MS: Duration = Duration::from_millis(1);

fn world(name: &str, toy: &'static Toy) -> World {
    let retry = json!({"on": ["per-try-timeout"], "perTryTimeout": "100ms", "attempts": 1});
    let plan = json!({"services": {"demo": {"protocol": name, "defaultRoute": {"retry": retry}}}});
    let mut world = World::new(Setup { plan, wire: Rc::new(toy), ..Setup::default() });
    world.cluster("demo", &[A], Policy::RoundRobin);
    world
}

#[test]
fn calls_that_are_on_the_connection_are_answered_and_the_next_go_to_another() {
    for (name, toy) in
        [("wide", &WIDE), ("narrow", &NARROW), ("pipelined", &PIPELINED), ("ordered", &ORDERED)]
    {
        let mut world = world(name, toy);
        let client = world.connect();
        for _ in 0..3 {
            world.call_and_wait(client, Ask::new("warm-up"));
        }
        let old = world.manager.streams_to(A)[0];
        world.serve(|arrival, _| match arrival.method {
            "last" => What::Last(None).after(10 * MS),
            _ => What::Echo(0).after(30 * MS),
        });
        // Each says that it is the last.
        let on_it = world.call_all(client, ["last", "last", "slow"].map(Ask::new));
        world.await_all(&on_it[..1]);
        let next = world.call(client, Ask::new("next"));
        world.await_all(&on_it);
        world.await_all(&[next]);
        for call in on_it.iter().chain([&next]) {
            assert_eq!(
                (world.calls[*call].error(), world.calls[*call].deliveries.len()),
                (None, 1),
                "{name}"
            );
        }
        world.run_for(100 * MS);
        assert!(!world.manager.streams_to(A).contains(&old), "{name}");
        assert_eq!([Metric::InFlight, Metric::UnmatchedResponses].map(|metric| world.sum(metric)), [0, 0]);
    }
}

#[test]
fn a_client_that_has_the_connection_for_itself_gets_its_answers_and_leaves() {
    for (name, toy) in [("wide", &WIDE), ("narrow", &NARROW), ("pipelined", &PIPELINED)] {
        let mut world = world(name, toy);
        let service = json!({"protocol": name, "upstream": {"sharing": "pinned"}});
        world.set_plan(&json!({"services": {"demo": service}}));
        let client = world.connect();
        world.call_and_wait(client, Ask::new("warm-up"));
        world.serve(|arrival, _| match arrival.method {
            "last" => What::Last(None).after(10 * MS),
            _ => What::Echo(0).after(300 * MS),
        });
        let calls = world.call_all(client, ["last", "slow", "slow"].map(Ask::new));
        world.await_all(&calls);
        assert_eq!([0, 1, 2].map(|call| world.calls[calls[call]].error()), [None; 3], "{name}");
        world.run_until(|world| world.proxy.clients[client].closed_at.is_some());
        world.run_for(100 * MS);
        assert_eq!((world.manager.open(), world.manager.asked.len(), world.pools()), (0, 1, 0), "{name}");
    }
}

#[test]
fn one_that_comes_too_late_is_counted_as_any_other() {
    for what in [What::Echo(0), What::Last(None)] {
        let mut world = world("wide", &WIDE);
        let client = world.connect();
        world.call_and_wait(client, Ask::new("warm-up"));
        world.serve(move |arrival, _| match arrival.times {
            1 => what.clone().after(150 * MS),
            _ => What::Echo(0).after(90 * MS),
        });
        let call = world.call_and_wait(client, Ask::new("echo"));
        assert_eq!((world.calls[call].error(), world.sum(Metric::UnmatchedResponses)), (None, 1));
        let next = world.call_and_wait(client, Ask::new("echo"));
        assert_eq!(world.calls[next].error(), None);
    }
}
