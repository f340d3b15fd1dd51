//! Messages that are larger than anything that Meltemi holds: they pass while they come, and whoever stops in the middle
//! of one harms nobody else.

use std::io::Write;
use std::net::TcpStream;
use std::thread;

use meltemi_tests::dubbo::{Argument, Frame};
use meltemi_tests::{Action, Backend, Client, Envoy, Proxy, Setup, each_envoy, eventually};
use serde_json::json;

const MIB: usize = 1 << 20;

/// A service whose messages may be as large as 80 MiB, in a VM that may take less than that.
fn start(envoy: &Envoy, server: &Backend) -> Proxy {
    let limits = json!({"maxFrameBytes": 80 * MIB, "maxRequestBytes": 80 * MIB});
    let service = json!({"protocol": "dubbo", "limits": limits, "frameTimeout": "2s",
        "defaultRoute": {"cluster": "v1"}});
    let plan = json!({"services": {"demo": service}, "memoryBudgetBytes": 48 * MIB});
    Setup::new().servers(server.address(), server.address()).plan(&plan).start(envoy)
}

/// Bytes that say where they are.
fn body(size: usize) -> Vec<u8> {
    (0..size as u32 / 4).flat_map(u32::to_be_bytes).collect()
}

fn given_up(proxy: &Proxy, reason: &str) -> u64 {
    proxy.metric("meltemi_client_connections_given_up_total", &[&format!("reason=\"{reason}\"")])
}

#[test]
fn messages_larger_than_the_memory_budget_pass_both_ways() {
    each_envoy(|envoy| {
        let server = Backend::start("v1");
        let proxy = start(envoy, &server);
        let mut client = Client::connect(proxy.meltemi());
        for size in [8 * MIB, 64 * MIB] {
            let sent = body(size);
            let answer = client.call("sayHello", Argument::Bytes(sent.clone()));
            assert!(answer.value() == Some(Argument::Bytes(sent)), "{size} bytes came back changed");
        }
        assert_eq!(given_up(&proxy, "memory"), 0);
    });
}

#[test]
fn a_client_that_dies_in_the_middle_of_a_request_takes_no_other_along() {
    each_envoy(|envoy| {
        let server = Backend::start("v1");
        server.on("slow", Action::Hold);
        let proxy = start(envoy, &server);
        let mut honest = Client::connect(proxy.meltemi());
        honest.send(&Frame::request(1, "slow", "held"));
        server.wait_for_calls("slow", 1);
        let whole = Frame::request(1, "sayHello", "x".repeat(8 * MIB).as_str()).bytes();
        for _ in 0..20 {
            let mut dying = TcpStream::connect(proxy.meltemi()).unwrap();
            dying.write_all(&whole[..4 * MIB]).unwrap();
            assert_eq!(honest.ask("sayHello", "beside it"), "v1");
            drop(dying);
            assert_eq!(honest.ask("sayHello", "after it"), "v1");
        }
        eventually("they are gone", || (proxy.clients() == 1).then_some(()));
        server.release();
        assert_eq!(honest.receive().id, 1, "its connection was shared with the first of them");
        assert_eq!(server.calls("sayHello"), 40);
    });
}

#[test]
fn a_server_that_dies_in_the_middle_of_an_answer_resets_that_client_alone() {
    each_envoy(|envoy| {
        let server = Backend::start("v1");
        let proxy = start(envoy, &server);
        // The id is the first that Meltemi gives on a connection.
        let whole = Frame::response(0x1_0001, &Argument::Bytes(body(8 * MIB))).bytes();
        server.on("dies", Action::Raw(whole[..MIB].to_vec()));
        let mut dying = Client::connect(proxy.meltemi());
        dying.send(&Frame::request(7, "dies", "x"));
        server.wait_for_calls("dies", 1);
        let mut honest = Client::connect(proxy.meltemi());
        eventually("the rest is given up", || (given_up(&proxy, "torn_answer") == 1).then_some(()));
        assert!(dying.try_receive().is_err(), "it looks as if the answer had ended");
        assert_eq!(honest.ask("sayHello", "after it"), "v1");
    });
}

#[test]
fn a_slow_reader_gets_all_of_a_large_answer() {
    each_envoy(|envoy| {
        let server = Backend::start("v1");
        let proxy = start(envoy, &server);
        let mut slow = Client::connect(proxy.meltemi());
        slow.limit_receive_buffer(64 << 10);
        let sent = body(12 * MIB);
        slow.send(&Frame::request(1, "sayHello", Argument::Bytes(sent.clone())));
        let mut honest = Client::connect(proxy.meltemi());
        for _ in 0..50 {
            assert_eq!(honest.ask("sayHello", "beside it"), "v1");
        }
        let answer = thread::spawn(move || slow.receive()).join().unwrap();
        assert!(answer.value() == Some(Argument::Bytes(sent)));
        assert_eq!(given_up(&proxy, "memory"), 0);
    });
}
