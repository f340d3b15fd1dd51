//! Clients that know answers by their order, with many calls in flight.

use std::rc::Rc;
use std::time::Duration;

use meltemi_codecs::Codec;
use meltemi_proxy::Metric;
use serde_json::{Value, json};

use crate::dubbo::{BAD_RESPONSE, DubboWire, SERVER_TIMEOUT};
use crate::servers::{Policy, Reply, What};
use crate::wire::{Message, Response, Wire};
use crate::world::{Ask, Setup, World};

const A: &str = "10.0.0.1:20880";
const B: &str = "10.0.0.2:20880";

/// Dubbo of servers that answer in order.
struct Ordered;

impl Wire for Ordered {
    fn codec(&self) -> Rc<dyn Codec> {
        DubboWire.codec()
    }

    fn is_in_order(&self) -> bool {
        true
    }

    fn put(&self, message: &Message, out: &mut Vec<u8>) {
        DubboWire.put(message, out);
    }

    fn take(&self, input: &[u8]) -> Option<(usize, Message)> {
        DubboWire.take(input)
    }
}

/// Dubbo whose servers are said to answer in order, with what `service` says beside.
fn world(mut service: Value) -> World {
    service["upstream"]["sharing"] = json!("in-order");
    let mut world = World::new(Setup { wire: Rc::new(Ordered), ..Setup::demo(service) });
    world.cluster("demo", &[A, B], Policy::RoundRobin);
    let client = world.connect();
    // Both servers are found.
    (0..4).for_each(|_| {
        world.call_and_wait(client, Ask::new("echo"));
    });
    world
}

/// When each call was answered, if they were in the order in which they were made.
fn in_order(world: &World, calls: &[usize]) {
    let times: Vec<_> = calls.iter().map(|&call| world.calls[call].answer.as_ref().unwrap().at).collect();
    assert!(times.is_sorted(), "{times:?}");
}

fn errors(world: &World, calls: &[usize]) -> Vec<Option<u32>> {
    calls.iter().map(|&call| world.calls[call].error()).collect()
}

#[test]
fn answers_of_several_servers_come_in_the_order_of_requests() {
    let mut world = world(json!({}));
    let client = world.connect();
    world.serve(|arrival, _| match arrival.endpoint {
        A => What::Echo(0).after(Duration::from_millis(20)),
        _ => What::Echo(0).after(Duration::from_millis(1)),
    });
    for _ in 0..5 {
        let before = world.now;
        let calls = world.call_all(client, (0..32).map(|_| Ask::new("echo")));
        world.await_all(&calls);
        in_order(&world, &calls);
        assert!(world.now - before < 40_000_000, "they were in flight at a time");
        let served: Vec<_> = calls.iter().map(|&call| world.calls[call].endpoint().unwrap()).collect();
        assert!(served.contains(&A) && served.contains(&B), "{served:?}");
    }
    assert_eq!(world.sum(Metric::UnmatchedResponses), 0);
}

#[test]
fn what_the_proxy_answers_takes_its_turn() {
    let named = |name: &str| json!([{"attributes": {"method": {"exact": name}}}]);
    let mut world = world(json!({"routes": [
        {"name": "late", "match": named("late"), "timeout": "30ms"},
        {"name": "closed", "match": named("closed"), "reject": {}},
    ]}));
    let client = world.connect();
    world.serve(|arrival, _| match arrival.method {
        "slow" => What::Echo(0).after(Duration::from_millis(100)),
        "late" => What::Echo(0).after(Duration::from_millis(200)),
        _ => Reply::echo(),
    });
    let asks = ["slow", "closed", "late", "echo"].map(Ask::new);
    let mut asks: Vec<_> = asks.into_iter().collect();
    asks.insert(2, Ask::new("echo").one_way());
    let calls = world.call_all(client, asks);
    world.run_for(Duration::from_millis(90));
    assert!(calls.iter().all(|&call| world.calls[call].answer.is_none()));
    let calls = [calls[0], calls[1], calls[3], calls[4]];
    world.await_all(&calls);
    in_order(&world, &calls);
    let found = errors(&world, &calls);
    assert_eq!([found[0], found[2], found[3]], [None, Some(SERVER_TIMEOUT), None]);
    assert!(found[1].is_some());
}

#[test]
fn a_server_that_lies_costs_its_own_connection() {
    let forged = |id| {
        DubboWire.bytes(&Message::Response(Response { id, payload: b"forged".into(), ..Default::default() }))
    };
    // An answer to nobody, one that is there twice, and the answer to a later call.
    for lie in ["nobody", "twice", "swapped"] {
        let mut world = world(json!({}));
        let client = world.connect();
        world.serve(move |arrival, _| match (arrival.method, arrival.endpoint, lie) {
            ("lie", A, "nobody") => What::Raw(forged(77)).now(),
            ("lie", A, "twice") => What::Raw([forged(1 << 16 | 1), forged(1 << 16 | 1)].concat()).now(),
            ("lie", A, _) => What::Raw(forged(0xffff_0002)).now(),
            _ => What::Echo(0).after(Duration::from_millis(5)),
        });
        let calls = world.call_all(client, (0..16).map(|at| Ask::new(if at == 5 { "lie" } else { "echo" })));
        world.await_all(&calls);
        in_order(&world, &calls);
        assert!(errors(&world, &calls).into_iter().flatten().all(|error| error == BAD_RESPONSE), "{lie}");
        let calls = world.call_all(client, (0..16).map(|_| Ask::new("echo")));
        world.await_all(&calls);
        assert_eq!(errors(&world, &calls), [None; 16], "{lie}");
    }
}

#[test]
fn a_client_whose_answers_wait_is_not_read_on() {
    let mut world = world(json!({"routes": [
        {"name": "late", "match": [{"attributes": {"method": {"exact": "late"}}}], "timeout": "420ms"},
    ]}));
    let client = world.connect();
    world.serve(|arrival, _| match arrival.method {
        "late" => What::Echo(0).after(Duration::from_millis(450)),
        _ => Reply::echo(),
    });
    let first = world.call(client, Ask::new("late"));
    let calls = world.call_all(client, (0..50).map(|_| Ask::new("echo").size(60_000)));
    world.run_for(Duration::from_millis(200));
    let more = world.call_all(client, (0..50).map(|_| Ask::new("echo").size(60_000)));
    world.run_for(Duration::from_millis(200));
    let is_delivered = |call: &usize| !world.calls[*call].deliveries.is_empty();
    assert!(calls.iter().all(is_delivered) && !more.iter().any(is_delivered));
    let calls = [calls, more].concat();
    world.await_all(&calls);
    assert_eq!(world.calls[first].error(), Some(SERVER_TIMEOUT));
    in_order(&world, &calls);
    assert!(errors(&world, &calls).iter().all(Option::is_none));
}
