//! Services of which the first bytes of a connection tell the protocol, on real Envoys.

use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;

use meltemi_codecs::thrift::{Protocol, Transport};
use meltemi_tests::{Backend, Client, DEADLINE, Frame, Proxy, Setup, each_envoy, eventually, thrift};
use serde_json::json;

/// A server that says `greeting` to each client, and then what the client says.
fn echo(greeting: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || {
                let mut chunk = [0; 4096];
                stream.write_all(greeting)?;
                loop {
                    match stream.read(&mut chunk)? {
                        0 => return Ok::<_, std::io::Error>(()),
                        read => stream.write_all(&chunk[..read])?,
                    }
                }
            });
        }
    });
    address
}

fn connect(proxy: &Proxy) -> TcpStream {
    let stream = TcpStream::connect(proxy.meltemi()).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream
}

fn read(stream: &mut TcpStream, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    stream.read_exact(&mut bytes).unwrap();
    bytes
}

fn undetected(proxy: &Proxy, reason: &str, count: u64) {
    let reason = format!("reason=\"{reason}\"");
    eventually("Envoy counts it", || {
        let counted = proxy.metric("meltemi_client_connections_undetected_total", &[&reason]);
        (counted == count).then_some(())
    });
}

#[test]
fn one_port_carries_dubbo_and_thrift() {
    each_envoy(|envoy| {
        let (v1, v2) = (Backend::start("v1"), Backend::start("v2"));
        let server = thrift::Server::start("greeter");
        let greet = json!([{"attributes": {"method": {"exact": "greet"}}}]);
        let service = json!({
            "protocol": "auto",
            "protocols": ["dubbo", "thrift"],
            "routes": [{"name": "greet", "match": greet, "cluster": "greeters"}],
        });
        let setup = Setup::new().servers(v1.address(), v2.address());
        let proxy = setup.cluster("greeters", &[server.address()]).service(&service).start(envoy);
        let mut dubbo = Client::connect(proxy.meltemi());
        let forms = [(Transport::Framed, Protocol::Binary), (Transport::Framed, Protocol::Compact)];
        for (number, form) in forms.into_iter().enumerate() {
            let mut client = thrift::Client::connect(proxy.meltemi());
            let id = u32::try_from(number).unwrap();
            assert_eq!(client.ask(&thrift::call(form, id, "greet", "x")), thrift::answer("greeter", "x"));
        }
        eventually("calls of one connection reach both servers", || {
            let servers: HashSet<String> = (0..20).map(|_| dubbo.ask("sayHello", "x")).collect();
            (servers.len() == 2).then_some(())
        });
        undetected(&proxy, "unknown_bytes", 0);
    });
}

#[test]
fn what_nobody_knows_passes_through() {
    each_envoy(|envoy| {
        let silent = echo(b"");
        let proxy = Setup::new().servers(silent, silent).service(&json!({"protocol": "auto"})).start(envoy);
        let mut client = connect(&proxy);
        for _ in 0..3 {
            client.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
            assert_eq!(read(&mut client, 18), b"GET / HTTP/1.1\r\n\r\n");
        }
        undetected(&proxy, "unknown_bytes", 1);
        // Too little to tell anything.
        let mut client = connect(&proxy);
        client.write_all(b"\xda").unwrap();
        assert_eq!(read(&mut client, 1), b"\xda");
        undetected(&proxy, "timeout", 1);
    });
}

#[test]
fn calls_are_known_after_a_servers_signs_of_life() {
    each_envoy(|envoy| {
        let servers = ["v1", "v2"].map(Backend::start);
        let [v1, v2] = servers.each_ref().map(Backend::address);
        let service = json!({"protocol": "auto", "defaultRoute": {"cluster": "v2"}});
        let proxy = Setup::new().servers(v1, v2).service(&service).start(envoy);
        let mut client = Client::connect(proxy.meltemi());
        let accepted = || servers.iter().map(Backend::accepted).sum::<u64>();
        eventually("a server is connected to", || (accepted() == 1).then_some(()));
        for id in [7, 8] {
            servers.iter().for_each(|server| server.send(&Frame::heartbeat(id).bytes()));
            assert_eq!(client.receive(), Frame::heartbeat(id));
        }
        client.send(&Frame::heartbeat_answer(7));
        assert!((0..20).all(|_| client.ask("sayHello", "x") == "v2"));
        undetected(&proxy, "server_first", 0);
    });
}

#[test]
fn a_client_that_waits_for_its_server_is_not_held_up() {
    each_envoy(|envoy| {
        let greeting = echo(b"220 ready\r\n");
        let proxy =
            Setup::new().servers(greeting, greeting).service(&json!({"protocol": "auto"})).start(envoy);
        let mut client = connect(&proxy);
        assert_eq!(read(&mut client, 11), b"220 ready\r\n");
        client.write_all(b"HELO me\r\n").unwrap();
        assert_eq!(read(&mut client, 9), b"HELO me\r\n");
        undetected(&proxy, "server_first", 1);
    });
}
