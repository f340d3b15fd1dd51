//! Many large messages at once: the memory of all together is bounded, and whoever stands still costs others nothing but that.

use std::time::Duration;

use meltemi_proxy::Metric;
use serde_json::json;

use crate::http2::Habits;
use crate::servers::{Policy, Reply, What};
use crate::world::{Ask, Setup, World};

const A: &str = "10.0.0.1:20880";
const B: &str = "10.0.0.2:20880";

const MIB: usize = 1 << 20;
const MS: Duration = Duration::from_millis(1);

/// What a crowd may take in a worker.
const MOST: usize = 20 * MIB;

/// Nearly as much as Dubbo takes by default.
const LARGE: usize = 8_000_000;

/// The service `demo` with Envoy's windows: calls of `slow` go to the server B, all others to A.
fn world() -> World {
    let slow =
        json!({"name": "slow", "match": [{"attributes": {"method": {"exact": "slow"}}}], "cluster": "slow"});
    let limits = json!({"maxFrameBytes": 16 * MIB});
    let service = json!({"routes": [slow], "defaultRoute": {"cluster": "demo"}, "limits": limits});
    let downstream = Habits { window: 256 << 10, ..Habits::default() };
    let mut world = World::new(Setup { downstream, ..Setup::demo(service) });
    world.cluster("demo", &[A], Policy::RoundRobin);
    world.cluster("slow", &[B], Policy::RoundRobin);
    world.serve(|arrival, _| match arrival.method {
        "large" => What::Echo(LARGE).now(),
        _ => Reply::echo(),
    });
    world
}

/// Has the server B read, or not.
fn set_reading(world: &mut World, is_reading: bool) {
    for stream in world.manager.streams_to(B) {
        world.set_server_reading(stream, is_reading);
    }
}

#[test]
fn requests_to_a_server_that_reads_slowly_take_little() {
    let mut world = world();
    let clients: Vec<usize> = (0..64).map(|_| world.connect()).collect();
    let (mut calls, mut most) = (Vec::new(), 0);
    for &client in &clients {
        calls.push(world.call(client, Ask::new("slow").size(LARGE)));
        // Envoy buffers no more than a megabyte on its way to the worker.
        world.run_for(MS / 10);
    }
    for round in 0..3000 {
        // A window of a megabyte at most every tenth of a second, at first.
        set_reading(&mut world, round % 100 == 0 || round > 1000);
        world.run_for(MS);
        most = most.max(world.kept());
        if calls.iter().all(|&call| world.calls[call].answer.is_some()) {
            break;
        }
    }
    assert!(most < MOST, "{} KiB were kept", most >> 10);
    assert!(calls.iter().all(|&call| world.calls[call].endpoint() == Some(B)));
    assert_eq!(world.sum(Metric::ClientConnectionsGivenUp("memory")), 0);
}

#[test]
fn answers_to_clients_that_read_slowly_take_little() {
    let mut world = world();
    let clients: Vec<usize> = (0..64).map(|_| world.connect()).collect();
    let calls: Vec<usize> = clients.iter().map(|&client| world.call(client, Ask::new("large"))).collect();
    let mut most = 0;
    for _ in 0..4000 {
        for &client in &clients {
            world.set_client_reading(client, true);
        }
        world.run_for(MS / 100);
        for &client in &clients {
            world.set_client_reading(client, false);
        }
        world.run_for(MS);
        most = most.max(world.kept());
        if calls.iter().all(|&call| world.calls[call].answer.is_some()) {
            break;
        }
    }
    assert!(most < MOST, "{} KiB were kept", most >> 10);
    assert!(calls.iter().all(|&call| world.calls[call].endpoint() == Some(A)));
    assert_eq!(world.sum(Metric::ClientConnectionsGivenUp("memory")), 0);
}

#[test]
fn clients_that_read_nothing_take_little_and_starve_nobody() {
    let mut world = world();
    let honest = world.connect();
    world.call_and_wait(honest, Ask::new("echo"));
    for count in [1, 63] {
        let stalled: Vec<usize> = (0..count).map(|_| world.connect()).collect();
        for &client in &stalled {
            world.set_client_reading(client, false);
            world.call(client, Ask::new("large"));
        }
        let mut most = 0;
        for _ in 0..20 {
            world.run_for(50 * MS);
            most = most.max(world.kept());
            let sent_at = world.now;
            let call = world.call_and_wait(honest, Ask::new("large").size(MIB));
            assert_eq!(world.calls[call].error(), None);
            let took = Duration::from_nanos(world.now - sent_at);
            assert!(took < 1500 * MS, "{took:?} beside {count}");
        }
        assert!(most < MOST, "{} KiB were kept beside {count}", most >> 10);
    }
    assert_eq!(world.sum(Metric::ClientConnectionsGivenUp("memory")), 0);
}

#[test]
fn requests_that_a_server_does_not_read_starve_no_others() {
    let mut world = world();
    let honest = world.connect();
    world.call_and_wait(honest, Ask::new("echo"));
    let stalled: Vec<usize> = (0..63).map(|_| world.connect()).collect();
    let mut calls = Vec::new();
    for &client in &stalled {
        calls.push(world.call(client, Ask::new("slow").size(LARGE)));
        world.run_for(MS);
        set_reading(&mut world, false);
    }
    world.run_for(50 * MS);
    assert!(world.kept() < MOST, "{} KiB are kept", world.kept() >> 10);
    for _ in 0..20 {
        let sent_at = world.now;
        let call = world.call_and_wait(honest, Ask::new("large").size(LARGE));
        assert_eq!(world.calls[call].error(), None);
        let took = Duration::from_nanos(world.now - sent_at);
        assert!(took < 1500 * MS, "{took:?}");
    }
    set_reading(&mut world, true);
    world.await_all(&calls);
    assert!(calls.iter().all(|&call| world.calls[call].endpoint() == Some(B)));
}

#[test]
fn what_a_crowd_took_is_given_back_and_windows_are_wide_again() {
    let mut world = world();
    let clients: Vec<usize> = (0..64).map(|_| world.connect()).collect();
    for &client in &clients {
        world.set_client_reading(client, false);
        world.call(client, Ask::new("large"));
    }
    world.run_for(100 * MS);
    for &client in &clients {
        world.set_client_reading(client, true);
    }
    world.run_for(1000 * MS);
    assert!(world.kept() < MIB / 4, "{} KiB are kept", world.kept() >> 10);
    // One alone has all the room that there is, as before.
    let alone = world.connect();
    world.call_and_wait(alone, Ask::new("echo"));
    world.set_client_reading(alone, false);
    world.call(alone, Ask::new("large"));
    world.run_for(20 * MS);
    assert!(world.kept() >= LARGE / 4 * 3, "{} KiB are kept", world.kept() >> 10);
}

/// What follows on their connections is for others, which do not wait for a client that does not read.
#[test]
fn second_answers_are_stored_until_the_first_was_read() {
    let mut world = world();
    let clients: Vec<usize> = (0..8).map(|_| world.connect()).collect();
    let mut calls = Vec::new();
    for most in [MOST, MOST + 7 * LARGE] {
        for &client in &clients {
            world.set_client_reading(client, false);
            calls.push(world.call(client, Ask::new("large")));
            world.run_for(5 * MS);
            assert!(world.kept() < most, "{} KiB were kept", world.kept() >> 10);
        }
    }
    for &client in &clients {
        world.set_client_reading(client, true);
    }
    world.await_all(&calls);
    assert!(calls.iter().all(|&call| world.calls[call].endpoint() == Some(A)));
    world.run_for(100 * MS);
    assert!(world.kept() < MIB / 4, "{} KiB are kept", world.kept() >> 10);
}
