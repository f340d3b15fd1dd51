//! A port that carries Dubbo, Thrift, and what nobody knows, over the mesh's mutual TLS.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;

use meltemi_codecs::thrift::{Protocol, Transport};
use meltemi_tests::{Backend, DEADLINE, at_last, thrift};
use serde_json::json;

use crate::protocols::{assert_called, called, serve};
use crate::stage::{self, SERVERS, Service, router, to};

const MIXED: Service = Service { name: "mixed", address: "10.96.7.24:9000", port: 9000, target: 9001 };

/// What a sidecar counts of clients that it did not understand.
const UNKNOWN: &str = "unknown_bytes.*client_connections_undetected";

/// Passes each connection to who understands its first byte; what nobody does comes back as it is.
fn answer(listener: &TcpListener, dubbo: SocketAddr, thrift: SocketAddr) {
    for stream in listener.incoming().map_while(Result::ok) {
        thread::spawn(move || {
            let mut first = [0];
            stream.peek(&mut first)?;
            let server = match first {
                [0xda] => TcpStream::connect(dubbo)?,
                [0] => TcpStream::connect(thrift)?,
                _ => stream.try_clone()?,
            };
            let (asked, answered) = (stream.try_clone()?, server.try_clone()?);
            if !matches!(first, [0xda | 0]) {
                return copy(asked, answered);
            }
            thread::spawn(move || copy(answered, stream));
            copy(asked, server)
        });
    }
}

fn copy(mut from: TcpStream, mut to: TcpStream) -> io::Result<()> {
    io::copy(&mut from, &mut to)?;
    to.shutdown(Shutdown::Write)
}

#[test]
fn one_port_carries_two_protocols_and_what_nobody_knows() {
    let mut stage = stage::take();
    serve(&mut stage, MIXED, "tcp-metaprotocol-auto");
    let _servers = SERVERS.map(|name| {
        let address = SocketAddr::from((stage.pod(name).address(), MIXED.target));
        stage.pod(name).enter(|| {
            let dubbo = Backend::start_at(name, SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
            let thrift = thrift::Server::start(name);
            let [of_dubbo, of_thrift] = [dubbo.address(), thrift.address()];
            let listener = TcpListener::bind(address).unwrap();
            thread::spawn(move || answer(&listener, of_dubbo, of_thrift));
            (dubbo, thrift)
        })
    });
    let before = called(&stage, "v1");
    let greets = json!({"attributes": {"method": {"exact": "greet"}}});
    let routes = json!([
        {"name": "greets", "match": greets, "route": [to(MIXED, "v1")]},
        {"name": "others", "route": [to(MIXED, "v2")]},
    ]);
    stage.route(MIXED, &router(MIXED, routes));
    let address: SocketAddr = MIXED.address.parse().unwrap();
    let wanted = ("v2".to_owned(), "v1".to_owned(), thrift::answer("v1", "x"));
    at_last("the calls of both protocols follow the routes", || {
        let mut dubbo = stage.connect(MIXED.address);
        let mut thrift = stage.pod("client").enter(|| thrift::Client::connect(address));
        (0..10).try_for_each(|id| {
            let greet = thrift::call((Transport::Framed, Protocol::Binary), id, "greet", "x");
            let found =
                (dubbo.try_ask("sayHello", "x")?, dubbo.try_ask("greet", "x")?, thrift.try_ask(&greet)?);
            (found == wanted).then_some(()).ok_or_else(|| io::Error::other(format!("{found:?}")))
        })
    });
    assert_called(&stage, "v1", before + 20);
    // The servers take nothing but mutual TLS: the sidecars speak it for these bytes as well.
    let unknown = || stage.pod("client").admin(|admin| admin.sum(UNKNOWN)).unwrap();
    let before = unknown();
    let mut plain = stage.pod("client").enter(|| TcpStream::connect(address)).unwrap();
    plain.set_read_timeout(Some(DEADLINE)).unwrap();
    for _ in 0..3 {
        plain.write_all(b"SELECT 1\r\n").unwrap();
        let mut echo = [0; 10];
        plain.read_exact(&mut echo).unwrap();
        assert_eq!(&echo, b"SELECT 1\r\n");
    }
    stage.pod("client").admin(|admin| admin.wait(UNKNOWN, DEADLINE, |count| count == before + 1)).unwrap();
}
