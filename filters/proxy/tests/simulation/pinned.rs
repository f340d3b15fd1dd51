//! Clients that have an upstream connection for themselves.

use std::rc::Rc;
use std::time::Duration;

use meltemi_proxy::Metric;
use serde_json::{Value, json};

use crate::dubbo::{SERVER_ERROR, SERVER_TIMEOUT};
use crate::servers::{Endpoint, Policy, Reply, What};
use crate::toy::{FAILED, ORDERED, Toy};
use crate::wire::Message;
use crate::world::{Ask, Setup, World};

const A: &str = "10.0.0.1:20880";
const B: &str = "10.0.0.2:20880";

fn pinned(mut service: Value) -> Value {
    service["upstream"] = json!({"sharing": "pinned"});
    service
}

fn world(service: Value) -> World {
    served(World::new(Setup::demo(pinned(service))))
}

/// A world in which a protocol without ids is spoken.
fn ordered(service: Value) -> World {
    let protocol: &'static Toy = &ORDERED;
    let mut service = pinned(service);
    service["protocol"] = json!("ordered");
    let plan = json!({"services": {"demo": service}});
    served(World::new(Setup { wire: Rc::new(protocol), plan, ..Setup::default() }))
}

fn served(mut world: World) -> World {
    world.cluster("demo", &[A, B], Policy::RoundRobin);
    world.serve(|arrival, _| match arrival.method {
        "slow" => What::Echo(0).after(Duration::from_millis(200)),
        "never" => What::Nothing.now(),
        "close" => What::Close.now(),
        _ => Reply::echo(),
    });
    world
}

fn is_closed(world: &World, client: usize) -> bool {
    world.proxy.clients[client].closed_at.is_some()
}

fn errors(world: &World, calls: &[usize]) -> Vec<Option<u32>> {
    calls.iter().map(|&call| world.calls[call].error()).collect()
}

#[test]
fn a_client_has_one_connection_for_all_its_calls() {
    let mut world = world(json!({}));
    let clients: Vec<usize> = (0..10).map(|_| world.connect()).collect();
    for _ in 0..5 {
        let calls: Vec<Vec<usize>> =
            clients.iter().map(|&client| world.call_all(client, (0..20).map(|_| Ask::new("echo")))).collect();
        world.await_all(&calls.concat());
        for calls in calls {
            let endpoints = calls.iter().map(|&call| world.calls[call].endpoint().expect("an answer"));
            assert_eq!(endpoints.collect::<std::collections::BTreeSet<_>>().len(), 1);
        }
        // They are not renewed either.
        world.run_for(Duration::from_secs(40));
    }
    assert_eq!((world.manager.open(), world.manager.asked.len()), (10, 10));
    assert_eq!([A, B].map(|endpoint| world.manager.streams_to(endpoint).len()), [5, 5]);
}

#[test]
fn a_client_that_ends_takes_its_connection_along() {
    let mut world = world(json!({}));
    let clients = [world.connect(), world.connect()];
    for client in clients {
        world.call_and_wait(client, Ask::new("echo"));
    }
    let calls = world.call_all(clients[0], [Ask::new("slow"), Ask::new("slow")]);
    world.half_close(clients[0]);
    world.run_until(|world| is_closed(world, clients[0]));
    assert_eq!(errors(&world, &calls), [None, None], "it gets its answers first");
    world.run_for(Duration::from_millis(10));
    assert_eq!((world.manager.open(), world.pools()), (1, 1));
    world.call_and_wait(clients[1], Ask::new("echo"));
    assert_eq!(world.manager.asked.len(), 2);
}

#[test]
fn a_connection_that_ends_takes_its_client_along() {
    let mut world = world(json!({"defaultRoute": {"retry": {"on": ["reset"], "attempts": 3}}}));
    let [first, second] = [world.connect(), world.connect()];
    for client in [first, second] {
        world.call_and_wait(client, Ask::new("echo"));
    }
    let calls = world.call_all(first, ["slow", "slow", "close"].map(Ask::new));
    world.run_until(|world| is_closed(world, first));
    assert_eq!(errors(&world, &calls), [Some(SERVER_ERROR); 3], "none is tried again");
    assert_eq!(world.sum(Metric::Retries), 0);
    assert_eq!((world.manager.open(), world.manager.asked.len(), world.pools()), (1, 2, 1));
    let call = world.call_and_wait(second, Ask::new("echo"));
    assert!(world.calls[call].endpoint().is_some());
}

#[test]
fn a_connection_that_ends_idle_takes_its_client_along() {
    let mut world = world(json!({}));
    let client = world.connect();
    world.call_and_wait(client, Ask::new("echo"));
    let stream = *world.manager.connections.keys().next().unwrap();
    world.close_upstream(stream, true);
    world.run_until(|world| is_closed(world, client));
    assert_eq!((world.pools(), world.kept()), (0, 0));
}

#[test]
fn who_cannot_connect_is_tried_elsewhere() {
    let mut world = world(json!({"defaultRoute": {"retry": {"on": ["connect-failure"], "attempts": 3}}}));
    world.set_endpoint(A, Endpoint::Refusing);
    let clients: Vec<usize> = (0..6).map(|_| world.connect()).collect();
    for &client in &clients {
        let call = world.call_and_wait(client, Ask::new("echo"));
        assert_eq!(world.calls[call].endpoint(), Some(B));
    }
    world.set_endpoint(B, Endpoint::Refusing);
    let late = world.connect();
    let call = world.call_and_wait(late, Ask::new("echo"));
    assert!(world.calls[call].error().is_some() && !is_closed(&world, late), "it had none that ended");
    world.set_endpoint(B, Endpoint::Up);
    let call = world.call_and_wait(late, Ask::new("echo"));
    assert_eq!(world.calls[call].endpoint(), Some(B));
}

#[test]
fn a_client_that_leaves_while_its_connection_opens_leaves_nothing_behind() {
    let mut world = world(json!({}));
    for endpoint in [A, B] {
        world.set_endpoint(endpoint, Endpoint::Silent);
    }
    let client = world.connect();
    world.call(client, Ask::new("echo").one_way());
    world.run_for(Duration::from_millis(100));
    assert_eq!(world.pools(), 1);
    world.leave(client);
    world.run_for(Duration::from_secs(10));
    assert_eq!((world.pools(), world.manager.open(), world.kept()), (0, 0, 0));
    assert_eq!(world.sum(Metric::UpstreamConnectionsActive), 0);
}

#[test]
fn a_time_out_ends_both_only_where_answers_are_known_by_order() {
    let mut world = world(json!({"defaultRoute": {"timeout": "50ms"}}));
    let client = world.connect();
    let calls = world.call_all(client, ["never", "echo"].map(Ask::new));
    world.await_all(&calls);
    assert_eq!(errors(&world, &calls), [Some(SERVER_TIMEOUT), None]);
    let call = world.call_and_wait(client, Ask::new("echo"));
    assert!(world.calls[call].endpoint().is_some());
    assert_eq!(world.manager.asked.len(), 1);

    let mut world = ordered(json!({"defaultRoute": {"timeout": "50ms"}}));
    let client = world.connect();
    world.call_and_wait(client, Ask::new("echo"));
    let call = world.call(client, Ask::new("never"));
    world.run_until(|world| is_closed(world, client));
    assert_eq!(world.calls[call].error(), Some(FAILED));
    world.run_for(Duration::from_millis(10));
    assert_eq!((world.manager.open(), world.manager.asked.len(), world.pools()), (0, 1, 0));
}

#[test]
fn a_status_is_tried_again_on_the_same_connection() {
    let retry = json!({"on": ["status"], "statuses": [80], "attempts": 3, "backoff": {"base": "1ms"}});
    let mut world = world(json!({"defaultRoute": {"retry": retry}}));
    world.serve(|arrival, _| match arrival.times {
        1 => What::Error(SERVER_ERROR).now(),
        _ => Reply::echo(),
    });
    let client = world.connect();
    for _ in 0..5 {
        let call = world.call_and_wait(client, Ask::new("echo"));
        assert!(world.calls[call].endpoint().is_some());
    }
    assert_eq!((world.sum(Metric::Retries), world.manager.asked.len()), (5, 1));
}

#[test]
fn a_server_that_drains_has_its_clients_leave() {
    let mut world = world(json!({}));
    let client = world.connect();
    world.call_and_wait(client, Ask::new("echo"));
    let call = world.call(client, Ask::new("slow"));
    world.run_for(Duration::from_millis(20));
    let (stream, notice) =
        (*world.manager.connections.keys().next().unwrap(), world.wire.bytes(&Message::ReadOnly));
    world.write_upstream(stream, &notice);
    world.run_until(|world| is_closed(world, client));
    assert!(world.calls[call].endpoint().is_some());
    assert_eq!(world.proxy.clients[client].read_only, 1);
    world.run_for(Duration::from_millis(10));
    assert_eq!((world.manager.open(), world.pools()), (0, 0));
}

#[test]
fn each_cluster_has_a_connection_and_one_that_ends_ends_all() {
    let routes = json!([{"name": "other", "match": [{"attributes": {"method": {"exact": "other"}}}], "cluster": "other"}]);
    let mut world = world(json!({"routes": routes}));
    world.cluster("other", &[B], Policy::RoundRobin);
    let client = world.connect();
    for method in ["echo", "other", "echo", "other"] {
        let call = world.call_and_wait(client, Ask::new(method));
        assert!(world.calls[call].endpoint().is_some());
    }
    assert_eq!((world.manager.asked.len(), world.pools()), (2, 2));
    world.call(client, Ask::new("close"));
    world.run_until(|world| is_closed(world, client));
    world.run_for(Duration::from_millis(10));
    assert_eq!((world.manager.open(), world.pools()), (0, 0));
}

#[test]
fn a_plan_changes_the_sharing_of_later_calls() {
    let mut world = served(World::new(Setup::demo(json!({}))));
    let clients: Vec<usize> = (0..5).map(|_| world.connect()).collect();
    for &client in &clients {
        world.call_and_wait(client, Ask::new("echo"));
    }
    assert_eq!(world.pools(), 1);
    let service = Setup::demo(pinned(json!({}))).plan;
    world.set_plan(&service);
    for &client in &clients {
        let call = world.call_and_wait(client, Ask::new("echo"));
        assert!(world.calls[call].endpoint().is_some());
    }
    assert_eq!(world.pools(), 6);
    world.set_plan(&Setup::demo(json!({})).plan);
    for &client in &clients {
        world.call_and_wait(client, Ask::new("echo"));
        world.half_close(client);
    }
    world.run_for(Duration::from_secs(1));
    assert_eq!(world.pools(), 1);
}

#[test]
fn what_has_no_ids_is_not_shared() {
    let codecs = meltemi_codecs::Codecs::new([Rc::new(ORDERED) as Rc<dyn meltemi_codecs::Codec>]);
    let parse = |sharing: &str| {
        let plan = json!({"services": {"demo": {"protocol": "ordered", "upstream": {"sharing": sharing}}}});
        meltemi_proxy::plan::Plan::parse(plan.to_string().as_bytes(), &codecs)
    };
    for sharing in ["in-order", "exclusive", "pinned"] {
        assert!(parse(sharing).is_ok());
    }
    assert_eq!(
        parse("shared").err().unwrap().to_string(),
        "services[\"demo\"].upstream.sharing: ordered has no request ids; write in-order, exclusive, or pinned"
    );
}

#[test]
fn a_plan_may_want_answers_of_a_protocol_with_ids_in_order() {
    let mut world = World::new(Setup::demo(json!({"upstream": {"sharing": "exclusive"}})));
    world.cluster("demo", &[A], Policy::RoundRobin);
    world.serve(|_, _| What::Echo(0).after(Duration::from_millis(20)));
    let clients: Vec<usize> = (0..5).map(|_| world.connect()).collect();
    let calls: Vec<usize> = clients.iter().map(|&client| world.call(client, Ask::new("echo"))).collect();
    for _ in 0..30 {
        world.run_for(Duration::from_millis(1));
        assert!(world.manager.connections.values().all(|upstream| upstream.in_flight <= 1));
    }
    world.await_all(&calls);
    assert_eq!(errors(&world, &calls), [None; 5]);
    assert_eq!(world.manager.asked.len(), 5);
}
