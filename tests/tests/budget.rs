//! Thousands of clients that take what they can: memory stays within the plan's budget, and another client is served.

use std::io::{ErrorKind, Write};
use std::net::TcpStream;

use meltemi_tests::dubbo::Frame;
use meltemi_tests::{Backend, Client, Envoy, Proxy, Setup, each_envoy, eventually};
use serde_json::{Value, json};

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

/// An Envoy that a multitude of clients uses, and one that is honest.
struct Siege {
    proxy: Proxy,
    honest: Client,
    hostile: Vec<TcpStream>,
    /// Envoy's memory before they came, and the most since.
    before: u64,
    most: u64,
    _servers: [Backend; 2],
}

impl Siege {
    /// One half of the clients sends the beginning of a large request, the other asks for large answers and reads none.
    fn lay(envoy: &Envoy, clients: usize, service: &Value) -> Self {
        let servers = ["v1", "v2"].map(Backend::start);
        let plan = json!({"services": {"demo": service}, "memoryBudgetBytes": BUDGET});
        let proxy = Setup::new().servers(servers[0].address(), servers[1].address()).plan(&plan).start(envoy);
        let mut honest = Client::connect(proxy.meltemi());
        assert_eq!(honest.ask("sayHello", "first"), "v1");
        let before = proxy.memory();
        let mut siege = Self { proxy, honest, hostile: Vec::new(), before, most: before, _servers: servers };

        let whole = Frame::request(1, "sayHello", "x".repeat(7 << 20).as_str()).bytes();
        let incomplete = &whole[..200 << 10];
        let asks: Vec<u8> = (0..4)
            .flat_map(|id| Frame::request(id, "sayHello", "y".repeat(100 << 10).as_str()).bytes())
            .collect();
        for number in 0..clients {
            let stream = TcpStream::connect(siege.proxy.meltemi()).unwrap();
            stream.set_nonblocking(true).unwrap();
            push(&stream, if number % 2 == 0 { incomplete } else { &asks });
            siege.hostile.push(stream);
            if number % 200 == 0 {
                siege.look();
            }
        }
        siege
    }

    /// The honest client is served; notes what Envoy takes meanwhile.
    fn look(&mut self) {
        assert_eq!(self.honest.ask("sayHello", "beside them"), "v1");
        self.most = self.most.max(self.proxy.memory());
    }

    fn given_up(&self, reason: &str) -> u64 {
        let label = format!("reason=\"{reason}\"");
        self.proxy.metric("meltemi_client_connections_given_up_total", &[&label])
    }

    /// The siege is over: Envoy took no more than it may, and all is as before.
    fn lift(mut self) {
        let growth = self.most.saturating_sub(self.before);
        println!("{} MiB before, {} MiB at most", self.before / MIB, self.most / MIB);
        assert!(growth < BUDGET + OVERHEAD, "Envoy grew by {} MiB", growth / MIB);
        assert_eq!(self.honest.ask("sayHello", "last"), "v1");
        drop(self.hostile);
        let mut left = self.proxy.clients();
        while left > 1 {
            left =
                eventually("more of them are gone", || Some(self.proxy.clients()).filter(|now| *now < left));
        }
        assert_eq!(self.honest.ask("sayHello", "alone again"), "v1");
    }
}

#[test]
fn four_thousand_hostile_clients_stay_within_the_budget() {
    each_envoy(|envoy| {
        // Every message is stored first.
        let limits = json!({"cutThroughBytes": 8 * MIB});
        let service = json!({"protocol": "dubbo", "limits": limits, "defaultRoute": {"cluster": "v1"}});
        let mut siege = Siege::lay(envoy, HOSTILE, &service);
        eventually("the budget is kept by closing clients", || {
            siege.look();
            (siege.given_up("memory") > 0).then_some(())
        });
        assert!(siege.proxy.log().contains("memory budget of 64 MiB is used up"));
        siege.lift();
    });
}

#[test]
fn a_thousand_hostile_clients_whose_requests_are_passed_on_take_no_more() {
    each_envoy(|envoy| {
        let service = json!({"protocol": "dubbo", "frameTimeout": "10s", "defaultRoute": {"cluster": "v1"}});
        let mut siege = Siege::lay(envoy, HOSTILE / 4, &service);
        // Those that wait for their turn, or for themselves.
        eventually("they are given up", || {
            siege.look();
            (siege.given_up("incomplete_request") + siege.given_up("memory") > 0).then_some(())
        });
        siege.lift();
    });
}
