//! How much peers may send at a time: as much as there is room for.

use std::time::Duration;

use meltemi_proxy::Metric;
use serde_json::json;

use crate::http2::Habits;
use crate::servers::{Policy, Reply, What};
use crate::wire::{Message, Response};
use crate::world::{Ask, Setup, World};

const A: &str = "10.0.0.1:20880";
const SLOW: [&str; 6] =
    ["10.1.1.1:80", "10.1.1.2:80", "10.1.1.3:80", "10.1.1.4:80", "10.1.1.5:80", "10.1.1.6:80"];
const RAW: &str = "10.0.0.9:3306";

const MIB: usize = 1 << 20;
const MS: Duration = Duration::from_millis(1);

/// Those to clients and to servers while there is room for whatever comes.
const WIDE: [usize; 2] = [MIB, 16 * MIB];

/// What a crowd may take in a worker.
const MOST: usize = 20 * MIB;

/// Nearly as much as Dubbo takes by default.
const LARGE: usize = 8_000_000;

/// The service `demo` with Envoy's windows, whose calls of `silent` are not answered, and connections of `mysql` that are
/// passed on as they are.
fn world() -> World {
    let limits = json!({"maxFrameBytes": 64 * MIB});
    let is_silent = json!([{"attributes": {"method": {"exact": "silent"}}}]);
    let service = json!({
        "routes": [{"name": "silent", "match": is_silent, "cluster": "slow"}],
        "defaultRoute": {"cluster": "demo"},
        "limits": limits,
        "upstream": {"maxCallsPerConnection": 1},
    });
    let downstream = Habits { window: 256 << 10, ..Habits::default() };
    let mut world = World::new(Setup { downstream, ..Setup::demo(service) });
    world.cluster("demo", &[A], Policy::RoundRobin);
    world.cluster("slow", &SLOW, Policy::RoundRobin);
    world.cluster("mysql", &[RAW], Policy::RoundRobin);
    world.serve(|arrival, _| match arrival.method {
        "large" => What::Echo(LARGE).now(),
        "silent" => What::Nothing.now(),
        _ => Reply::echo(),
    });
    world
}

/// Those that were announced.
fn windows(world: &World) -> [usize; 2] {
    [&world.proxy.http2, &world.manager.http2].map(|http2| http2.peer_window() as usize)
}

fn set_reading(world: &mut World, clients: &[usize], is_reading: bool) {
    for &client in clients {
        world.set_client_reading(client, is_reading);
    }
}

/// Many clients at once that each call for a large answer and do not read it.
fn gather(world: &mut World) -> (Vec<usize>, Vec<usize>) {
    let clients: Vec<usize> = (0..64).map(|_| world.connect()).collect();
    set_reading(world, &clients, false);
    let calls = clients.iter().map(|&client| world.call(client, Ask::new("large"))).collect();
    world.run_for(50 * MS);
    (clients, calls)
}

/// They read, and have it.
fn disperse(world: &mut World, (clients, calls): &(Vec<usize>, Vec<usize>)) {
    set_reading(world, clients, true);
    world.await_all(calls);
    world.run_for(100 * MS);
    world.call_and_wait(clients[0], Ask::new("echo"));
    world.run_for(MS);
}

/// A connection that is relayed; its stream to the server.
fn relay(world: &mut World) -> (usize, u32) {
    world.manager.is_raw = true;
    let client = world.connect_to("mysql", "mysql");
    world.proxy.clients[client].raw = Some(Vec::new());
    world.run_for(MS);
    world.manager.is_raw = false;
    (client, *world.manager.connections.keys().next_back().expect("a connection"))
}

/// A client calls; where its call is, and an answer of that size, which has not come.
fn ask(world: &mut World, client: usize, size: usize) -> (u32, Vec<u8>) {
    let (_, mut bytes) = world.prepare(client, Ask::new("silent").size(MIB));
    let rest = bytes.split_off(MIB / 2);
    world.write(client, &bytes);
    world.run_for(MS);
    let has_part = |stream: &&u32| !world.manager.connections[stream].part().is_empty();
    let stream = *world.manager.connections.keys().find(has_part).expect("a request in part");
    let front = world.manager.connections[&stream].part();
    let id = u64::from_be_bytes(front[4..12].try_into().unwrap());
    world.write(client, &rest);
    world.run_for(MS);
    let response = Response { id, payload: vec![0; size], ..Response::default() };
    (stream, world.wire.bytes(&Message::Response(response)))
}

/// A server writes: Envoy brings a megabyte at a time.
fn write_all(world: &mut World, stream: u32, bytes: &[u8]) {
    for part in bytes.chunks(MIB) {
        world.write_upstream(stream, part);
        world.run_for(MS);
    }
}

#[test]
fn a_few_messages_of_a_megabyte_leave_windows_wide() {
    let mut world = world();
    let clients: Vec<usize> = (0..6).map(|_| world.connect()).collect();
    for _ in 0..20 {
        set_reading(&mut world, &clients, false);
        let calls: Vec<usize> =
            clients.iter().map(|&client| world.call(client, Ask::new("echo").size(MIB))).collect();
        world.run_for(10 * MS);
        assert!(world.kept() > 5 * MIB, "{} KiB are kept", world.kept() >> 10);
        assert_eq!(windows(&world), WIDE);
        set_reading(&mut world, &clients, true);
        world.await_all(&calls);
        assert_eq!(windows(&world), WIDE);
    }
}

#[test]
fn a_crowd_has_narrow_windows_until_it_has_left() {
    let mut world = world();
    let crowd = gather(&mut world);
    assert!(windows(&world).into_iter().all(|window| window < MIB / 8), "{:?}", windows(&world));
    disperse(&mut world, &crowd);
    assert_eq!(windows(&world), WIDE);
}

#[test]
fn a_client_that_stands_still_leaves_windows_wide_for_others() {
    for (size, least) in [(LARGE, WIDE), (24 * MIB, [MIB, MIB])] {
        let mut world = world();
        let slow = world.connect();
        set_reading(&mut world, &[slow], false);
        let (stream, answer) = ask(&mut world, slow, size);
        write_all(&mut world, stream, &answer);
        for _ in 0..2 {
            assert!(world.kept() > 3 * MIB, "{} KiB are kept", world.kept() >> 10);
            assert!(windows(&world) >= least, "{:?} beside {size} bytes", windows(&world));
            let crowd = gather(&mut world);
            assert!(world.kept() < MOST, "{} KiB are kept", world.kept() >> 10);
            disperse(&mut world, &crowd);
        }
    }
}

#[test]
fn a_relay_that_stands_still_leaves_windows_wide_for_others() {
    const SIZE: usize = 24 * MIB;
    let mut world = world();
    let (slow, stream) = relay(&mut world);
    set_reading(&mut world, &[slow], false);
    write_all(&mut world, stream, &vec![0; SIZE]);
    for _ in 0..2 {
        assert!(world.kept() > 2 * MIB, "{} KiB are kept", world.kept() >> 10);
        assert!(windows(&world) >= [MIB, MIB], "{:?}", windows(&world));
        let crowd = gather(&mut world);
        assert!(world.kept() < MOST, "{} KiB are kept", world.kept() >> 10);
        disperse(&mut world, &crowd);
    }
    set_reading(&mut world, &[slow], true);
    world.run_for(1000 * MS);
    assert_eq!(world.proxy.clients[slow].raw.as_ref().map(Vec::len), Some(SIZE));
    assert_eq!(windows(&world), WIDE);
}

#[test]
fn many_relays_that_stand_still_take_little() {
    let mut world = world();
    let relays: Vec<(usize, u32)> = (0..64).map(|_| relay(&mut world)).collect();
    for &(client, stream) in &relays {
        set_reading(&mut world, &[client], false);
        world.write_upstream(stream, &vec![0; LARGE]);
        world.run_for(MS);
    }
    world.run_for(50 * MS);
    assert!(world.kept() < MOST, "{} KiB are kept", world.kept() >> 10);
    for &(client, _) in &relays {
        set_reading(&mut world, &[client], true);
    }
    world.run_for(1000 * MS);
    let received = |&(client, _): &(usize, u32)| world.proxy.clients[client].raw.as_ref().map(Vec::len);
    assert!(relays.iter().all(|relay| received(relay) == Some(LARGE)));
    assert_eq!(world.sum(Metric::ClientConnectionsGivenUp("memory")), 0);
}

#[test]
fn answers_for_nobody_leave_windows_wide_for_others() {
    let mut world = world();
    let clients: Vec<usize> = SLOW.iter().map(|_| world.connect()).collect();
    let asked: Vec<_> = clients.iter().map(|&client| ask(&mut world, client, LARGE)).collect();
    for (stream, answer) in asked {
        write_all(&mut world, stream, &answer[..MIB]);
    }
    for client in clients {
        assert!(world.proxy.clients[client].received > MIB / 2);
        world.leave(client);
    }
    let crowd = gather(&mut world);
    disperse(&mut world, &crowd);
    assert_eq!(windows(&world), WIDE);
}

/// Clients of a database that read nothing for a while have what little they could have beside a crowd.
#[test]
fn relays_that_hold_little_leave_windows_wide_when_a_crowd_has_left() {
    for count in [1, 5, 6, 12] {
        let mut world = world();
        let relays: Vec<(usize, u32)> = (0..count).map(|_| relay(&mut world)).collect();
        let slow: Vec<usize> = relays.iter().map(|&(client, _)| client).collect();
        set_reading(&mut world, &slow, false);
        let crowd = gather(&mut world);
        for &(_, stream) in &relays {
            world.write_upstream(stream, &vec![0; 300 << 10]);
            world.run_for(MS);
        }
        disperse(&mut world, &crowd);
        // What they had queued meanwhile has come, and they stand still.
        world.run_for(100 * MS);
        let other = world.connect();
        for _ in 0..3 {
            world.call_and_wait(other, Ask::new("echo"));
            world.run_for(100 * MS);
        }
        assert!(windows(&world) >= [MIB, MIB], "{:?} beside {count} relays", windows(&world));
    }
}
