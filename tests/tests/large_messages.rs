//! Messages that are larger than anything that Meltemi holds: they pass while they come, and whoever stops in the middle
//! of one harms nobody else.

use std::io::Write;
use std::net::TcpStream;
use std::thread;

use meltemi_codecs::protobuf::{enclose, write_bytes, write_number};
use meltemi_codecs::{Brpc, Codec, Trpc};
use meltemi_tests::dubbo::{Argument, Frame};
use meltemi_tests::{Action, Backend, Client, Envoy, Proxy, Setup, each_envoy, eventually, halves};
use serde_json::{Value, json};

const MIB: usize = 1 << 20;

/// A service whose messages may be as large as 80 MiB, in a VM that may take less than that; who makes no progress for
/// `frame_timeout` is given up.
fn start(envoy: &Envoy, server: &Backend, frame_timeout: &str) -> Proxy {
    let limits = json!({"maxFrameBytes": 80 * MIB, "maxRequestBytes": 80 * MIB});
    let service = json!({"protocol": "dubbo", "limits": limits, "frameTimeout": frame_timeout,
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
        let proxy = start(envoy, &server, "60s");
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
        let proxy = start(envoy, &server, "60s");
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
        let proxy = start(envoy, &server, "2s");
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
        let proxy = start(envoy, &server, "60s");
        let mut slow = Client::connect(proxy.meltemi());
        slow.limit_receive_buffer(64 << 10);
        // More than Envoy and the sockets hold, and less than what may hold up the answers behind it.
        let sent = body(4 * MIB);
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

/// A message of a protocol that has all that Meltemi asks for at its front: a request with that id, or an answer.
type Make = fn(is_request: bool, id: u64, body: &[u8]) -> Vec<u8>;

fn brpc(is_request: bool, id: u64, body: &[u8]) -> Vec<u8> {
    let mut meta = Vec::new();
    if is_request {
        write_bytes(1, b"demo.Echo", &mut meta);
        write_bytes(2, b"Echo", &mut meta);
    }
    enclose(if is_request { 1 } else { 2 }, 0, &mut meta);
    write_number(4, id, &mut meta);
    let lengths = [meta.len() + body.len(), meta.len()].map(|length| (length as u32).to_be_bytes());
    [b"PRPC", lengths.as_flattened(), &meta, body].concat()
}

fn trpc(is_request: bool, id: u64, body: &[u8]) -> Vec<u8> {
    let mut head = Vec::new();
    write_number(3, id, &mut head);
    if is_request {
        write_number(4, 20_000, &mut head);
        write_bytes(7, b"/demo.Echo/Echo", &mut head);
    }
    let length = (16 + head.len() + body.len()) as u32;
    let numbers = [&length.to_be_bytes()[..], &(head.len() as u16).to_be_bytes(), &(id as u32).to_be_bytes()];
    [&[9, 0x30, 0, 0][..], &numbers.concat(), &[0, 0], &head, body].concat()
}

fn declared(is_request: bool, id: u64, body: &[u8]) -> Vec<u8> {
    let method = if is_request { &b"\x04echo"[..] } else { b"" };
    let length = (method.len() + body.len()) as u32;
    [&[0x4c, u8::from(!is_request)][..], &(id as u32).to_be_bytes(), &length.to_be_bytes(), method, body]
        .concat()
}

fn layout() -> Value {
    json!({
        "magic": "4c", "length": {"at": 6, "as": "u32", "plus": 10}, "id": {"at": 2, "as": "u32"},
        "kind": {"at": 1, "as": "u8", "request": 0, "response": 1},
        "parts": [{"name": "method", "prefix": "u8", "form": "text"}], "service": "method", "method": "method",
    })
}

#[test]
fn messages_whose_fronts_say_all_pass_while_they_come() {
    each_envoy(|envoy| {
        let layout_codec =
            meltemi_plan::layout("declared", &serde_json::from_value(layout()).unwrap()).unwrap();
        let protocols: [(&str, &dyn Codec, Make); 3] =
            [("brpc", &Brpc, brpc), ("trpc", &Trpc, trpc), ("declared", &layout_codec, declared)];
        for (name, codec, make) in protocols {
            let server = halves::Server::start();
            let limits = json!({"maxFrameBytes": 80 * MIB, "maxRequestBytes": 80 * MIB});
            let service = json!({"protocol": name, "limits": limits, "defaultRoute": {"cluster": "v1"}});
            let plan = json!({"services": {"demo": service}, "protocols": {"declared": layout()},
                "memoryBudgetBytes": 48 * MIB});
            let proxy = Setup::new().servers(server.address, server.address).plan(&plan).start(envoy);
            let bodies = [body(4 * MIB), body(64 * MIB)];
            for _ in 0..3 {
                server.tear(proxy.meltemi(), &make(true, 3, &bodies[0]));
            }
            for (id, body) in [1, 70_000].into_iter().zip(&bodies) {
                let request = make(true, id, body);
                server.exchange(codec, proxy.meltemi(), &request, |id| make(false, id, body));
            }
            assert_eq!((given_up(&proxy, "memory"), given_up(&proxy, "torn_answer")), (0, 0), "{name}");
        }
    });
}
