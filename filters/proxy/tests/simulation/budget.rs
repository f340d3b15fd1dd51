//! What clients can take from others: memory, connections and time are bounded, and who takes least goes last.

use std::time::Duration;

use meltemi_proxy::Metric;
use serde_json::{Value, json};

use crate::http2::Habits;
use crate::servers::{Policy, Reply, What};
use crate::world::{Ask, Setup, World};

const A: &str = "10.0.0.1:20880";

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// The service `demo` in a VM whose clients may take 32 MiB.
fn world(service: Value) -> World {
    let mut service = service;
    service["protocol"] = json!("dubbo");
    let plan = json!({"services": {"demo": service}, "memoryBudgetBytes": 32 * MIB});
    let mut world = World::new(Setup {
        plan,
        downstream: Habits { window: 65_535, ..Habits::default() },
        ..Setup::default()
    });
    world.cluster("demo", &[A], Policy::RoundRobin);
    world
}

/// The first `count` bytes of a request of `length`.
fn part_of_a_request(length: usize, count: usize) -> Vec<u8> {
    let mut frame = vec![0xda, 0xbb, 0xc2, 0];
    frame.extend_from_slice(&77_u64.to_be_bytes());
    frame.extend_from_slice(&(length as u32 - 16).to_be_bytes());
    frame.resize(count, b'N');
    frame
}

/// Every message is stored before it is passed on.
fn stored() -> Value {
    json!({"limits": {"cutThroughBytes": 256 * MIB}})
}

fn open(world: &World, clients: &[usize]) -> usize {
    clients.iter().filter(|&&client| world.proxy.clients[client].closed_at.is_none()).count()
}

#[test]
fn requests_that_never_end_stay_within_the_budget_and_an_upload_gets_through() {
    let mut world = world(stored());
    let honest = world.connect();
    world.call_and_wait(honest, Ask::new("echo"));
    let hostile: Vec<usize> = (0..600)
        .map(|_| {
            let client = world.connect();
            world.proxy.clients[client].raw = Some(Vec::new());
            client
        })
        .collect();
    for &client in &hostile[..100] {
        world.write(client, &part_of_a_request(8 * MIB, 200 * KIB));
    }
    // They are idle by then, and stay as long as there is room for all.
    world.run_for(Duration::from_secs(3));
    let call = world.call(honest, Ask::new("echo").size(8_000_000));
    for &client in &hostile[100..] {
        world.write(client, &part_of_a_request(8 * MIB, 200 * KIB));
        world.run_for(Duration::from_millis(20));
        assert!(world.kept() <= 32 * MIB, "{} bytes are kept", world.kept());
    }
    world.await_all(&[call]);
    assert_eq!(world.calls[call].error(), None);
    assert_eq!(world.proxy.clients[honest].closed_at, None);
    let closed = hostile.len() - open(&world, &hostile);
    assert!(closed > 400, "{closed} were closed");
    let counted = world.sum(Metric::ClientConnectionsGivenUp("memory"));
    assert_eq!(counted as usize, closed);
    assert!(world.metrics.replies.iter().any(|reply| reply.detail.contains("memory budget of 32 MiB")));
}

#[test]
fn a_client_that_reads_goes_after_smaller_ones_that_stand_still() {
    let mut world = world(stored());
    world.serve(|_, _| What::Echo(8_000_000).now());
    let reader = world.connect();
    world.set_client_reading(reader, false);
    let call = world.call(reader, Ask::new("large"));
    world.half_close(reader);
    let read = |world: &mut World| {
        world.set_client_reading(reader, true);
        world.run_for(Duration::from_micros(1));
        world.set_client_reading(reader, false);
        world.run_for(Duration::from_millis(500));
    };
    read(&mut world);
    let send = |world: &mut World| {
        let client = world.connect();
        world.proxy.clients[client].raw = Some(Vec::new());
        world.write(client, &part_of_a_request(5 * MIB, 4 * MIB));
        world.run_for(Duration::from_millis(20));
    };
    (0..4).for_each(|_| send(&mut world));
    (0..6).for_each(|_| read(&mut world));
    assert_eq!(world.sum(Metric::ClientConnectionsGivenUp("memory")), 0);
    (0..3).for_each(|_| send(&mut world));
    assert!(world.sum(Metric::ClientConnectionsGivenUp("memory")) > 0);
    world.set_client_reading(reader, true);
    world.await_all(&[call]);
    assert_eq!(world.calls[call].error(), None);
}

#[test]
fn answers_that_nobody_reads_stay_within_the_budget() {
    let mut world = world(json!({}));
    world.serve(|arrival, _| match arrival.method {
        "large" => What::Echo(200_000).now(),
        _ => Reply::echo(),
    });
    let honest = world.connect();
    world.call_and_wait(honest, Ask::new("echo"));
    let hostile: Vec<usize> = (0..200).map(|_| world.connect()).collect();
    for &client in &hostile {
        world.set_client_reading(client, false);
        world.call_all(client, (0..4).map(|_| Ask::new("large")));
        world.run_for(Duration::from_millis(20));
        assert!(world.kept() <= 32 * MIB, "{} bytes are kept", world.kept());
        let call = world.call_and_wait(honest, Ask::new("echo"));
        assert_eq!(world.calls[call].error(), None);
    }
    // Who holds up the answers of others goes long before memory is short.
    assert_eq!(world.sum(Metric::ClientConnectionsGivenUp("memory")), 0);
    let taken = world.sum(Metric::ClientConnectionsGivenUp("unread_answers"));
    assert!(taken > 20, "{taken} were closed");
    assert_eq!(world.proxy.clients[honest].closed_at, None);
}

#[test]
fn calls_that_nobody_answers_stay_within_the_budget() {
    let mut world = world(json!({}));
    world.serve(|arrival, _| match arrival.method {
        "never" => What::Nothing.now(),
        _ => Reply::echo(),
    });
    let honest = world.connect();
    world.call_and_wait(honest, Ask::new("echo"));
    let hostile: Vec<usize> = (0..40).map(|_| world.connect()).collect();
    let calls: Vec<usize> = hostile
        .iter()
        .flat_map(|&client| world.call_all(client, (0..4000).map(|_| Ask::new("never"))))
        .collect();
    world.run_for(Duration::from_millis(100));
    // 160 000 calls; half of the budget has room for 32 768, and then each for its part.
    let sent = calls.iter().filter(|&&call| !world.calls[call].deliveries.is_empty()).count();
    assert!(sent < 60_000, "{sent} calls are in flight");
    assert!(world.kept() <= 32 * MIB, "{} bytes are kept", world.kept());
    let call = world.call_and_wait(honest, Ask::new("echo"));
    assert_eq!(world.calls[call].error(), None);
}

#[test]
fn a_request_that_makes_no_progress_is_given_up_and_a_slow_one_is_not() {
    let mut world = world(json!({}));
    let (idle, trickling, slow) = (world.connect(), world.connect(), world.connect());
    for client in [idle, trickling] {
        world.proxy.clients[client].raw = Some(Vec::new());
    }
    world.write(idle, &part_of_a_request(MIB, 10));
    world.write(trickling, &part_of_a_request(MIB, 5000));
    let call = world.calls.len();
    let (_, bytes) = world.prepare(slow, Ask::new("echo").size(600_000));
    for part in bytes.chunks(20_000) {
        world.write(slow, part);
        world.write(trickling, &[b'N'; 100]);
        world.run_for(Duration::from_secs(20));
    }
    assert_eq!(world.calls[call].error(), None);
    assert!(world.calls[call].answer.is_some(), "ten minutes for half a megabyte are enough");
    assert_eq!(open(&world, &[idle, trickling, slow]), 1);
    let closed_at = world.proxy.clients[idle].closed_at.unwrap();
    assert!((30..32).contains(&((closed_at - 1_000_000_000) / 1_000_000_000)), "{closed_at}");
    assert_eq!(world.sum(Metric::ClientConnectionsGivenUp("incomplete_request")), 2);
}

#[test]
fn a_reader_of_drops_does_not_hold_up_the_answers_of_others_for_long() {
    let mut world = world(json!({}));
    world.serve(|arrival, _| match arrival.method {
        "large" => What::Echo(1_000_000).after(Duration::from_millis(50)),
        _ => What::Echo(0).after(Duration::from_millis(60)),
    });
    let (stuck, other) = (world.connect(), world.connect());
    world.call_and_wait(other, Ask::new("echo"));
    world.set_client_reading(stuck, false);
    world.call_all(stuck, (0..40).map(|_| Ask::new("large")));
    let call = world.call(other, Ask::new("echo"));
    for _ in 0..100 {
        world.run_for(Duration::from_millis(100));
        world.set_client_reading(stuck, true);
        world.run_for(Duration::from_micros(1));
        world.set_client_reading(stuck, false);
    }
    let took = world.calls[call].answer.as_ref().unwrap().at - world.calls[call].sent_at;
    assert!(took < 1_500_000_000, "{took} ns");
}

#[test]
fn answers_below_a_megabyte_and_more_are_not_kept_for_ever() {
    let mut world = world(json!({"frameTimeout": "10s"}));
    world.serve(|_, _| What::Echo(1_500_000).now());
    let client = world.connect();
    world.set_client_reading(client, false);
    world.call_all(client, (0..2).map(|_| Ask::new("large")));
    world.run_until(|world| world.proxy.clients[client].closed_at.is_some());
    // Its window took some just after the first look.
    assert!(world.now < 22_000_000_000, "{}", world.now);
    assert_eq!(world.sum(Metric::ClientConnectionsGivenUp("unread_answers")), 1);
}

#[test]
fn a_frozen_server_gets_few_connections() {
    let mut world = world(json!({"defaultRoute": {"timeout": "1s"}}));
    let client = world.connect();
    world.call_and_wait(client, Ask::new("echo"));
    world.serve(|_, _| What::Nothing.now());
    for _ in 0..200 {
        // A server that reads nothing, and never ends its half of a connection either.
        for upstream in world.manager.connections.values_mut() {
            upstream.raw.get_or_insert_default();
        }
        world.call_all(client, (0..50).map(|_| Ask::new("echo")));
        world.run_for(Duration::from_millis(100));
        let connections = world.manager.open();
        assert!(connections <= 4, "{connections} connections after {} calls", world.calls.len());
    }
}

#[test]
fn a_server_that_says_again_and_again_that_it_drains_is_passed_on_once() {
    let mut world = world(json!({}));
    world.cluster("demo", &[A], Policy::OriginalDestination);
    world.serve(|arrival, _| match arrival.method {
        "slow" => What::Echo(0).after(Duration::from_secs(5)),
        _ => Reply::echo(),
    });
    let client = world.connect_with("demo", "demo", &[("x-envoy-original-dst-host", A)]);
    world.call_and_wait(client, Ask::new("echo"));
    let slow = world.call(client, Ask::new("slow"));
    world.run_for(Duration::from_millis(10));
    let stream = world.manager.streams_to(A)[0];
    let notice = world.wire.bytes(&crate::wire::Message::ReadOnly);
    for _ in 0..100 {
        world.write_upstream(stream, &notice);
        world.run_for(Duration::from_millis(1));
    }
    world.await_all(&[slow]);
    assert_eq!(world.proxy.clients[client].read_only, 1);
}

/// Twenty servers, each with a connection that is open.
fn with_servers(world: &mut World) -> Vec<String> {
    let servers: Vec<String> = (1..=20).map(|n| format!("10.0.0.{n}:20880")).collect();
    world.cluster("demo", &servers.iter().map(String::as_str).collect::<Vec<_>>(), Policy::RoundRobin);
    let client = world.connect();
    let calls = world.call_all(client, (0..200).map(|_| Ask::new("echo")));
    world.await_all(&calls);
    world.run_for(Duration::from_secs(2));
    servers
}

#[test]
fn requests_that_no_server_reads_stay_within_the_budget() {
    let mut world = world(stored());
    for server in with_servers(&mut world) {
        for stream in world.manager.streams_to(&server) {
            world.set_server_reading(stream, false);
        }
    }
    for _ in 0..20 {
        let client = world.connect();
        world.call(client, Ask::new("echo").size(8_000_000));
        for _ in 0..100 {
            world.run_for(Duration::from_millis(1));
            assert!(world.kept() <= 32 * MIB, "{} bytes are kept", world.kept());
        }
    }
    let given_up = world.metrics.replies.iter().filter(|reply| reply.detail.contains("server connection"));
    assert!(given_up.count() > 0);
    let honest = world.connect();
    let call = world.call_and_wait(honest, Ask::new("echo"));
    assert_eq!(world.calls[call].error(), None);
}

#[test]
fn answers_that_never_end_stay_within_the_budget() {
    let mut world = world(json!({}));
    with_servers(&mut world);
    let mut answer = vec![0xda, 0xbb, 2, 20];
    answer.extend_from_slice(&77_u64.to_be_bytes());
    answer.extend_from_slice(&16_000_000_u32.to_be_bytes());
    answer.resize(8 * MIB, b'N');
    world.serve(move |_, _| What::Raw(answer.clone()).now());
    let client = world.connect();
    for _ in 0..20 {
        world.call(client, Ask::new("echo"));
        for _ in 0..100 {
            world.run_for(Duration::from_millis(1));
            assert!(world.kept() <= 32 * MIB, "{} bytes are kept", world.kept());
        }
    }
    assert!(world.sum(Metric::Resets) > 10);
    assert_eq!(world.proxy.clients[client].closed_at, None);
}

#[test]
fn answers_of_the_proxy_that_nobody_reads_are_not_kept_for_ever() {
    let mut world = world(json!({"frameTimeout": "10s"}));
    let client = world.connect();
    world.call_and_wait(client, Ask::new("echo"));
    world.set_client_reading(client, false);
    let heartbeats = world.wire.bytes(&crate::wire::Message::Heartbeat { id: 1 }).repeat(80_000);
    world.write(client, &heartbeats);
    world.run_until(|world| world.proxy.clients[client].closed_at.is_some());
    assert!(world.now < 22_000_000_000, "{}", world.now);
    assert_eq!(world.sum(Metric::ClientConnectionsGivenUp("unread_answers")), 1);
    assert!(world.kept() < MIB);
}

#[test]
fn clients_that_hold_nothing_take_nothing_from_the_budget() {
    let mut world = world(json!({}));
    let honest = world.connect();
    for _ in 0..5000 {
        let client = world.connect();
        let (_, bytes) = world.prepare(client, Ask::new("echo").size(3900));
        let (part, rest) = bytes.split_at(3800);
        world.write(client, part);
        world.run_for(Duration::from_micros(10));
        world.write(client, rest);
        world.run_for(Duration::from_millis(2));
    }
    assert!(world.kept() < MIB, "{} bytes are kept", world.kept());
    let call = world.call_and_wait(honest, Ask::new("echo").size(8_000_000));
    assert_eq!(world.calls[call].error(), None);
}

#[test]
fn who_waited_for_memory_goes_on_when_there_is_some() {
    let mut world = world(json!({}));
    world.serve(|arrival, _| match arrival.method {
        "never" => What::Nothing.now(),
        "large" => What::Echo(400_000).now(),
        _ => Reply::echo(),
    });
    let client = world.connect();
    world.call_and_wait(client, Ask::new("echo"));
    world.call(client, Ask::new("never"));
    // So many clients that each has room for few calls.
    let idle: Vec<usize> = (0..6000).map(|_| world.connect()).collect();
    for &other in &idle[..50] {
        world.set_client_reading(other, false);
        world.call(other, Ask::new("large"));
    }
    world.run_for(Duration::from_millis(100));
    world.call_all(client, (0..8).map(|_| Ask::new("never")));
    let call = world.call(client, Ask::new("echo"));
    world.run_for(Duration::from_secs(1));
    assert!(world.calls[call].answer.is_none(), "it has more than its part in flight");
    for other in idle {
        world.leave(other);
    }
    world.await_all(&[call]);
}

#[test]
fn calls_of_which_many_are_given_up_get_few_connections() {
    let mut world = world(json!({}));
    world.serve(|arrival, _| match arrival.method {
        "never" => What::Nothing.now(),
        _ => Reply::echo(),
    });
    let patient = world.connect();
    world.call_and_wait(patient, Ask::new("echo"));
    for _ in 0..40 {
        world.call(patient, Ask::new("never"));
        let hasty = world.connect();
        world.call_all(hasty, (0..300).map(|_| Ask::new("never")));
        world.run_for(Duration::from_millis(10));
        world.leave(hasty);
        world.run_for(Duration::from_millis(10));
        let connections = world.manager.open();
        assert!(connections <= 10, "{connections} connections");
    }
    world.call_and_wait(patient, Ask::new("echo"));
}
