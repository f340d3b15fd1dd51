//! Thousands of clients that take what they can: memory stays within the plan's budget, and another client is served.

use std::io::{ErrorKind, Write};
use std::net::TcpStream;

use meltemi_tests::dubbo::Frame;
use meltemi_tests::{Backend, Client, Setup, each_envoy, eventually};
use serde_json::json;

const MIB: u64 = 1 << 20;

/// What the plan allows.
const BUDGET: u64 = 64 * MIB;

/// What comes on top of it: the module and its code, 4000 connections in Envoy and their buffers, freed memory that is
/// not given back.
const OVERHEAD: u64 = 350 * MIB;

/// Hostile connections.
const HOSTILE: usize = 4000;

/// Writes as much as the connection takes at once; whether it is still open.
fn push(mut stream: &TcpStream, bytes: &[u8]) -> bool {
    let mut rest = bytes;
    while !rest.is_empty() {
        match stream.write(rest) {
            Ok(0) => return false,
            Ok(count) => rest = &rest[count..],
            Err(error) => return error.kind() == ErrorKind::WouldBlock,
        }
    }
    true
}

#[test]
fn four_thousand_hostile_clients_stay_within_the_budget() {
    each_envoy(|envoy| {
        let (v1, v2) = (Backend::start("v1"), Backend::start("v2"));
        let service = json!({"protocol": "dubbo", "defaultRoute": {"cluster": "v1"}});
        let plan = json!({"services": {"demo": service}, "memoryBudgetBytes": BUDGET});
        let proxy = Setup::new().servers(v1.address(), v2.address()).plan(&plan).start(envoy);
        let mut honest = Client::connect(proxy.meltemi());
        assert_eq!(honest.ask("sayHello", "first"), "v1");
        let before = proxy.memory();

        // One half sends the beginning of a large request, the other asks for large answers and reads none.
        let whole = Frame::request(1, "sayHello", "x".repeat(7 << 20).as_str()).bytes();
        let incomplete = &whole[..200 << 10];
        let asks: Vec<u8> = (0..4)
            .flat_map(|id| Frame::request(id, "sayHello", "y".repeat(100 << 10).as_str()).bytes())
            .collect();
        let mut hostile = Vec::new();
        let mut most = 0;
        for number in 0..HOSTILE {
            let stream = TcpStream::connect(proxy.meltemi()).unwrap();
            stream.set_nonblocking(true).unwrap();
            push(&stream, if number % 2 == 0 { incomplete } else { &asks });
            hostile.push(stream);
            if number % 200 == 0 {
                assert_eq!(honest.ask("sayHello", "beside them"), "v1");
                most = most.max(proxy.memory());
            }
        }
        eventually("the budget is kept by closing clients", || {
            assert_eq!(honest.ask("sayHello", "beside them"), "v1");
            most = most.max(proxy.memory());
            (proxy.metric("meltemi_client_connections_given_up_total", &["reason=\"memory\""]) > 0)
                .then_some(())
        });
        let growth = most.saturating_sub(before);
        println!("{} MiB before, {} MiB at most", before / MIB, most / MIB);
        assert!(growth < BUDGET + OVERHEAD, "Envoy grew by {} MiB", growth / MIB);
        assert!(proxy.log().contains("memory budget of 64 MiB is used up"));
        assert_eq!(honest.ask("sayHello", "last"), "v1");
        drop(hostile);
        let mut left = proxy.clients();
        while left > 1 {
            left = eventually("more of them are gone", || Some(proxy.clients()).filter(|now| *now < left));
        }
        assert_eq!(honest.ask("sayHello", "alone again"), "v1");
    });
}
