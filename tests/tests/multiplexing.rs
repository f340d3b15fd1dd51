//! Many calls and many clients at once.

use std::collections::HashMap;
use std::io::Write;
use std::thread;

use meltemi_tests::dubbo::Frame;
use meltemi_tests::{Action, Backend, Client, Setup, each_envoy, eventually, server_of};
use serde_json::json;

/// Requests of a mebibyte to the server that does not read.
const PAUSED: u64 = 256;

/// What Envoy may keep of them and of the answers to the client that does not read, in bytes.
const MOST_BUFFERED: u64 = 128 << 20;

#[test]
fn answers_in_any_order_find_their_calls() {
    each_envoy(|envoy| {
        let (v1, v2) = (Backend::start("v1"), Backend::start("v2"));
        for backend in [&v1, &v2] {
            backend.on("hold", Action::Hold);
        }
        let proxy = Setup::new().servers(v1.address(), v2.address()).start(envoy);
        // Both clients use the same ids.
        let mut clients = [Client::connect(proxy.meltemi()), Client::connect(proxy.meltemi())];
        let calls = 50;
        for id in 0..calls {
            for (number, client) in clients.iter_mut().enumerate() {
                client.send(&Frame::request(id, "hold", format!("{number}-{id}")));
            }
        }
        eventually("all calls arrive", || {
            (v1.calls("hold") + v2.calls("hold") == 2 * calls as usize).then_some(())
        });
        for (number, client) in clients.iter_mut().enumerate() {
            assert!(!client.ask("sayHello", &format!("overtakes {number}")).is_empty());
        }
        v2.release_reversed();
        v1.release_reversed();
        for (number, client) in clients.iter_mut().enumerate() {
            let answers: HashMap<_, _> =
                (0..calls).map(|_| client.receive()).map(|answer| (answer.id, answer)).collect();
            for id in 0..calls {
                server_of(&answers[&id], &format!("{number}-{id}"));
            }
        }
    });
}

#[test]
fn frames_may_come_in_any_pieces() {
    each_envoy(|envoy| {
        let (v1, v2) = (Backend::start("v1"), Backend::start("v2"));
        let proxy = Setup::new().servers(v1.address(), v2.address()).start(envoy);
        let mut client = Client::connect(proxy.meltemi());
        let frame = Frame::request(1, "sayHello", "in pieces").bytes();
        for byte in &frame {
            client.send_bytes(&[*byte]);
        }
        server_of(&client.receive(), "in pieces");
        // One and a half frames, then the rest.
        let (half, rest) = frame.split_at(frame.len() / 2);
        client.send_bytes(&[&frame, half].concat());
        server_of(&client.receive(), "in pieces");
        client.send_bytes(rest);
        server_of(&client.receive(), "in pieces");
    });
}

#[test]
fn large_bodies_pass_whole_both_ways() {
    each_envoy(|envoy| {
        let (v1, v2) = (Backend::start("v1"), Backend::start("v2"));
        let service = json!({
            "protocol": "dubbo", "defaultRoute": {"cluster": "v1"}, "limits": {"maxFrameBytes": 16 << 20, "maxRequestBytes": 16 << 20},
        });
        let proxy = Setup::new().servers(v1.address(), v2.address()).service(&service).start(envoy);
        let mut client = Client::connect(proxy.meltemi());
        for mebibytes in [1, 8, 1, 8] {
            let bytes: Vec<u8> =
                (0..mebibytes << 20).map(|n: u32| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
            let answer = client.call("echoBytes", bytes.clone());
            assert!(answer.value() == Some(bytes.into()), "{mebibytes} MiB: {:?}", answer.message());
        }
    });
}

#[test]
fn five_hundred_clients_are_served_at_once() {
    each_envoy(|envoy| {
        let (v1, v2) = (Backend::start("v1"), Backend::start("v2"));
        for backend in [&v1, &v2] {
            backend.on("hold", Action::Hold);
        }
        let proxy = Setup::new().servers(v1.address(), v2.address()).start(envoy);
        let address = proxy.meltemi();
        let mut clients: Vec<_> = (0..500).map(|_| Client::connect(address)).collect();
        for (number, client) in clients.iter_mut().enumerate() {
            client.send(&Frame::request(1, "hold", format!("client {number}")));
        }
        eventually("every client's call arrives", || {
            (v1.calls("hold") + v2.calls("hold") == clients.len()).then_some(())
        });
        assert_eq!(proxy.clients(), 500);
        assert!(v1.connections() + v2.connections() <= 8, "upstream connections are shared");
        v1.release();
        v2.release_reversed();
        for (number, client) in clients.iter_mut().enumerate() {
            server_of(&client.receive(), &format!("client {number}"));
        }
    });
}

/// A client that does not read its answers, and a server that does not read its requests, hold up only themselves, and
/// Envoy does not buffer all that they leave unread.
#[test]
fn a_slow_peer_holds_up_only_itself() {
    each_envoy(|envoy| {
        let (v1, v2) = (Backend::start("v1"), Backend::start("v2"));
        let service = json!({
            "protocol": "dubbo",
            "routes": [{"name": "slow", "match": [{"attributes": {"method": {"exact": "paused"}}}], "cluster": "v1"}],
            "defaultRoute": {"cluster": "v2"},
        });
        let proxy = Setup::new().servers(v1.address(), v2.address()).service(&service).start(envoy);
        let mebibyte = vec![7; 1 << 20];

        let mut slow_client = Client::connect(proxy.meltemi());
        slow_client.limit_receive_buffer(16 << 10);
        for id in 0..6 {
            slow_client.send(&Frame::request(id, "echoBytes", mebibyte.clone()));
        }
        v1.pause();
        let memory = proxy.memory();
        let address = proxy.meltemi();
        let mut held_up = Client::connect(address);
        let sender = thread::spawn({
            let (mut stream, mebibyte) = (held_up.sender(), mebibyte.clone());
            move || {
                for id in 0..PAUSED {
                    stream.write_all(&Frame::request(id, "paused", mebibyte.clone()).bytes()).unwrap();
                }
            }
        });
        let mut client = Client::connect(address);
        for number in 0..200 {
            assert_eq!(client.ask("sayHello", &number.to_string()), "v2");
        }
        let received = || proxy.stat(r"^tcp\.demo\.downstream_cx_rx_bytes_total$");
        let mut last = received();
        eventually("Envoy reads no more", || {
            assert_eq!(client.ask("sayHello", "meanwhile"), "v2");
            let before = std::mem::replace(&mut last, received());
            (last - before < 1 << 20).then_some(())
        });
        assert!(!sender.is_finished(), "all was taken though nobody reads it");
        let growth = proxy.memory().saturating_sub(memory);
        assert!(growth < MOST_BUFFERED, "Envoy grew by {growth} bytes");

        v1.resume();
        let mut ids: Vec<_> = (0..PAUSED).map(|_| held_up.receive().id).collect();
        ids.sort_unstable();
        assert_eq!(ids, (0..PAUSED).collect::<Vec<_>>());
        sender.join().unwrap();
        for _ in 0..6 {
            assert!(slow_client.receive().value() == Some(mebibyte.clone().into()));
        }
    });
}
