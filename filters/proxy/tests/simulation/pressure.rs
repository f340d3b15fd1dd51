//! Slow peers, and limits: memory stays bounded, and others go on.

use std::time::Duration;

use meltemi_proxy::Metric;
use meltemi_sockets::Options;
use serde_json::{Value, json};

use crate::http2::Habits;
use crate::servers::{Policy, Reply, What};
use crate::world::{Ask, Setup, World};

const A: &str = "10.0.0.1:20880";
const B: &str = "10.0.0.2:20880";

fn world(service: Value) -> World {
    let habits = Habits { window: 65_535, ..Habits::default() };
    let options = Options {
        receive_window_downstream: 1 << 20,
        receive_window_upstream: 1 << 20,
        ..Options::default()
    };
    let mut world =
        World::new(Setup { options, downstream: habits, upstream: habits, ..Setup::demo(service) });
    world.cluster("demo", &[A], Policy::RoundRobin);
    world
}

const MIB: u64 = 1 << 20;

#[test]
fn a_slow_client_is_read_no_further_and_gets_every_answer_in_the_end() {
    let mut world = world(json!({}));
    world.serve(|_, _| What::Echo(20_000).now());
    let client = world.connect();
    world.call_and_wait(client, Ask::new("warm-up"));
    world.set_client_reading(client, false);
    let calls: Vec<usize> = (0..60)
        .flat_map(|_| {
            let calls = world.call_all(client, (0..20).map(|_| Ask::new("echo").size(2000)));
            world.run_for(Duration::from_millis(2));
            calls
        })
        .collect();
    // 26 MB of answers to come; the worker holds a megabyte, and what was asked for before that was seen.
    assert!(world.held() < 6 * MIB, "{} bytes are held", world.held());
    assert!(calls.iter().any(|&call| world.calls[call].deliveries.is_empty()));
    world.set_client_reading(client, true);
    world.await_all(&calls);
    assert!(calls.iter().all(|&call| world.calls[call].error().is_none()));
}

#[test]
fn a_client_that_reads_nothing_does_not_keep_others_from_their_answers() {
    let mut world = world(json!({}));
    world.serve(|arrival, _| match arrival.method {
        // Too much for the window of the connection, and for what may be kept for one client.
        "large" => What::Echo(1_000_000).after(Duration::from_millis(50)),
        _ => Reply::echo(),
    });
    let (stuck, other) = (world.connect(), world.connect());
    world.call_and_wait(other, Ask::new("echo"));
    world.set_client_reading(stuck, false);
    world.call_all(stuck, (0..100).map(|_| Ask::new("large")));
    world.run_for(Duration::from_secs(1));
    assert!(world.held() < 100 * MIB);
    for _ in 0..20 {
        let call = world.call_and_wait(other, Ask::new("echo"));
        let took = world.calls[call].answer.as_ref().unwrap().at - world.calls[call].sent_at;
        assert!(took < 100_000_000, "{took} ns");
    }
    // It has not read for seconds: it is dropped, and all that is held for it.
    world.run_until(|world| world.proxy.clients[stuck].closed_at.is_some());
    assert!(world.proxy.clients[stuck].reset.is_some());
    world.run_for(Duration::from_secs(1));
    assert_eq!(world.sum(Metric::InFlight), 0);
    let call = world.call_and_wait(other, Ask::new("echo"));
    assert_eq!(world.calls[call].error(), None);
}

#[test]
fn a_client_that_reads_slowly_is_not_dropped() {
    let mut world = world(json!({}));
    world.serve(|_, _| What::Echo(1_000_000).now());
    let client = world.connect();
    world.set_client_reading(client, false);
    let calls = world.call_all(client, (0..30).map(|_| Ask::new("large")));
    // A window of 64 KiB every second.
    for _ in 0..40 {
        world.run_for(Duration::from_secs(1));
        world.set_client_reading(client, true);
        world.run_for(Duration::from_micros(1));
        world.set_client_reading(client, false);
    }
    assert_eq!(world.proxy.clients[client].closed_at, None);
    world.set_client_reading(client, true);
    world.await_all(&calls);
}

/// Clients that are to be closed, `end` says why, while they have more to read than is kept for those that are.
fn read_late(service: Value, end: impl FnOnce(&mut World, [usize; 3])) {
    let downstream = Habits { window: 65_535, ..Habits::default() };
    let mut service = service;
    // None keeps others waiting.
    service["limits"] = json!({"maxCallsPerConnection": 1});
    let mut world = World::new(Setup { downstream, ..Setup::demo(service) });
    world.cluster("demo", &[A], Policy::RoundRobin);
    world.serve(|_, _| What::Echo(5_000_000).now());
    let clients = [(); 3].map(|()| world.connect());
    let calls = clients.map(|client| {
        world.set_client_reading(client, false);
        world.call(client, Ask::new("large"))
    });
    world.run_for(Duration::from_millis(300));
    end(&mut world, clients);
    // A window of 64 KiB twice a second, and then all.
    for _ in 0..4 {
        world.run_for(Duration::from_millis(500));
        clients.into_iter().for_each(|client| world.set_client_reading(client, true));
        world.run_for(Duration::from_micros(1));
        clients.into_iter().for_each(|client| world.set_client_reading(client, false));
    }
    clients.into_iter().for_each(|client| world.set_client_reading(client, true));
    world.await_all(&calls);
    assert!(calls.iter().all(|&call| world.calls[call].error().is_none()));
    let is_closed =
        |world: &World| clients.iter().all(|&client| world.proxy.clients[client].closed_at.is_some());
    world.run_until(is_closed);
    assert!(clients.iter().all(|&client| world.proxy.clients[client].reset.is_none()));
}

#[test]
fn clients_that_end_first_get_large_answers_whole_as_long_as_they_read() {
    read_late(json!({}), |world, clients| clients.into_iter().for_each(|client| world.half_close(client)));
}

#[test]
fn clients_that_are_drained_get_large_answers_whole_as_long_as_they_read() {
    read_late(json!({}), |world, _| world.set_plan(&json!({"services": {}})));
}

#[test]
fn clients_that_are_drained_get_large_answers_whole_where_no_time_ends_them() {
    read_late(json!({"frameTimeout": "0s"}), |world, _| world.set_plan(&json!({"services": {}})));
}

/// Clients that were answered 7 MB each at once, which are more than clients may have to read while others go on.
fn stored(service: Value) -> (World, [usize; 5]) {
    let downstream = Habits { window: 65_535, ..Habits::default() };
    let mut service = service;
    service["limits"] = json!({"maxCallsPerConnection": 1, "cutThroughBytes": 64 * MIB});
    let mut world = World::new(Setup { downstream, ..Setup::demo(service) });
    world.cluster("demo", &[A], Policy::RoundRobin);
    world.serve(|_, _| What::Echo(7_000_000).now());
    let clients = [(); 5].map(|()| world.connect());
    for client in clients {
        world.set_client_reading(client, false);
        world.call(client, Ask::new("large"));
    }
    world.run_for(Duration::from_millis(300));
    (world, clients)
}

/// The client reads so many bytes of its answers at least, and no more.
fn read(world: &mut World, client: usize, bytes: usize) {
    while world.proxy.clients[client].received < bytes {
        world.set_client_reading(client, true);
        world.run_for(Duration::from_micros(1));
        world.set_client_reading(client, false);
        world.run_for(Duration::from_micros(50));
    }
}

#[test]
fn clients_that_are_drained_get_the_rest_of_large_answers_of_which_they_have_read_half() {
    let (mut world, clients) = stored(json!({}));
    world.set_plan(&json!({"services": {}}));
    clients.into_iter().for_each(|client| read(&mut world, client, 4_000_000));
    world.run_for(Duration::from_secs(2));
    assert!(clients.iter().all(|&client| world.proxy.clients[client].reset.is_none()));
    clients.into_iter().for_each(|client| world.set_client_reading(client, true));
    world.await_all(&[0, 1, 2, 3, 4]);
}

#[test]
fn clients_that_stop_reading_after_half_of_an_answer_are_given_up() {
    let (mut world, clients) = stored(json!({"frameTimeout": "5s"}));
    clients.into_iter().for_each(|client| world.half_close(client));
    clients.into_iter().for_each(|client| read(&mut world, client, 4_000_000));
    world.run_for(Duration::from_secs(12));
    assert_eq!(world.sum(Metric::ClientConnectionsGivenUp("unread_answers")), 5);
}

#[test]
fn a_client_that_is_drained_and_has_read_leaves_in_time() {
    let (mut world, clients) = stored(json!({}));
    world.set_plan(&json!({"services": {}}));
    clients.into_iter().for_each(|client| world.set_client_reading(client, true));
    world.await_all(&[0, 1, 2, 3, 4]);
    world.run_for(Duration::from_secs(2));
    assert!(clients.iter().all(|&client| world.proxy.clients[client].closed_at.is_some()));
}

#[test]
fn of_clients_that_are_closed_and_do_not_read_the_first_are_dropped_and_counted() {
    let mut world = world(json!({}));
    world.serve(|_, _| What::Echo(1_000_000).now());
    let clients: Vec<usize> = (0..12)
        .map(|_| {
            let client = world.connect();
            world.set_client_reading(client, false);
            world.call(client, Ask::new("large"));
            world.half_close(client);
            world.run_for(Duration::from_millis(20));
            client
        })
        .collect();
    // Eight megabytes are left of eight, and four were closed before them.
    let resets: Vec<_> = clients.iter().map(|&client| world.proxy.clients[client].reset).collect();
    assert_eq!(resets, [[Some(8); 4].as_slice(), &[None; 8]].concat());
    assert_eq!(world.sum(Metric::ClientConnectionsGivenUp("undelivered")), 4);
    clients.into_iter().for_each(|client| world.set_client_reading(client, true));
    world.run_until(|world| world.calls.iter().skip(4).all(|call| call.answer.is_some()));
}

#[test]
fn a_slow_server_slows_its_clients_and_no_memory_is_spent_on_it() {
    let mut world = world(json!({}));
    let client = world.connect();
    world.call_and_wait(client, Ask::new("warm-up"));
    let stream = world.manager.streams_to(A)[0];
    world.set_server_reading(stream, false);
    let mut calls = Vec::new();
    for _ in 0..200 {
        calls.extend(world.call_all(client, (0..2).map(|_| Ask::new("echo").size(50_000))));
        world.run_for(Duration::from_millis(1));
    }
    // 20 MB of requests: the rest has to wait in tcp_proxy.
    let queued = world.proxy.http2.queued(world.proxy.clients[client].stream) as u64;
    assert!(queued > 10 * MIB, "the worker took all but {queued} bytes");
    assert!(world.held() < 8 * MIB, "{} bytes are held", world.held());
    world.set_server_reading(stream, true);
    world.await_all(&calls);
    assert!(calls.iter().all(|&call| world.calls[call].error().is_none()));
}

#[test]
fn calls_go_around_a_slow_server() {
    let mut world = world(json!({}));
    world.cluster("demo", &[A, B], Policy::RoundRobin);
    let client = world.connect();
    for _ in 0..4 {
        world.call_and_wait(client, Ask::new("warm-up"));
    }
    for stream in world.manager.streams_to(A) {
        world.set_server_reading(stream, false);
    }
    let mut calls = Vec::new();
    for _ in 0..400 {
        calls.push(world.call(client, Ask::new("echo").size(20_000)));
        world.run_for(Duration::from_millis(2));
    }
    let answered = calls.iter().filter(|&&call| world.calls[call].endpoint() == Some(B)).count();
    assert!(answered >= 390, "{answered} answers");
}

#[test]
fn a_large_request_and_a_large_answer_pass_through_small_windows() {
    let mut world = world(json!({"limits": {"maxFrameBytes": 16 << 20}}));
    world.serve(|_, _| What::Echo(8_000_000).now());
    let client = world.connect();
    let call = world.call_and_wait(client, Ask::new("echo").size(8_000_000));
    assert_eq!(world.calls[call].error(), None);
    assert!(world.proxy.clients[client].received > 16_000_000);
}

#[test]
fn a_client_has_no_more_calls_under_way_than_its_limit() {
    let mut world = world(json!({"limits": {"maxCallsPerConnection": 5}}));
    world.serve(|_, _| What::Echo(0).after(Duration::from_millis(20)));
    let client = world.connect();
    world.call_and_wait(client, Ask::new("warm-up"));
    let calls = world.call_all(client, (0..23).map(|_| Ask::new("echo")));
    for _ in 0..100 {
        world.run_for(Duration::from_millis(1));
        assert!(world.manager.connections.values().map(|upstream| upstream.in_flight).sum::<usize>() <= 5);
    }
    world.await_all(&calls);
}

#[test]
fn calls_over_the_limit_of_a_connection_wait() {
    let mut world = world(json!({"upstream": {"maxCallsPerConnection": 3}}));
    world.serve(|_, _| What::Echo(0).after(Duration::from_millis(20)));
    let clients = [world.connect(), world.connect()];
    world.call_and_wait(clients[0], Ask::new("warm-up"));
    let mut calls = world.call_all(clients[0], (0..10).map(|_| Ask::new("echo")));
    calls.extend(world.call_all(clients[1], (0..10).map(|_| Ask::new("echo").one_way())));
    calls.extend(world.call_all(clients[1], (0..10).map(|_| Ask::new("echo"))));
    for _ in 0..200 {
        world.run_for(Duration::from_millis(1));
        let stream = world.manager.streams_to(A)[0];
        assert!(world.manager.connections[&stream].in_flight <= 3);
    }
    for call in calls {
        assert_eq!(world.calls[call].deliveries.len(), 1);
        assert!(world.calls[call].ask.is_one_way || world.calls[call].error().is_none());
    }
}

#[test]
fn a_thousand_clients_share_few_connections() {
    let mut world = world(json!({}));
    world.cluster("demo", &[A, B], Policy::RoundRobin);
    let clients: Vec<usize> = (0..1000).map(|_| world.connect()).collect();
    let calls: Vec<usize> = clients.iter().map(|&client| world.call(client, Ask::new("echo"))).collect();
    world.await_all(&calls);
    assert!(calls.iter().all(|&call| world.calls[call].error().is_none()));
    assert_eq!(world.manager.open(), 2);
    for client in clients {
        world.half_close(client);
    }
    world.run_out();
    assert_eq!(world.sum(Metric::ClientConnectionsActive), 0);
}
