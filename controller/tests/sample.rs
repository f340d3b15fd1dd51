//! The demo's servers and client, without Envoy between them.

use std::io::ErrorKind;

use meltemi::sample::{Call, Client, Server};
use meltemi_codecs::dubbo::message::{Answer, Value};

const CALL: Call<'_> = Call::new("sayHello", "Ada");

#[test]
fn calls_are_answered_in_their_order() {
    let server = Server::start("v1", 0).unwrap();
    let mut client = Client::connect(server.address()).unwrap();
    let names: Vec<String> = (0..100).map(|number| format!("Ada {number}")).collect();
    let replies = client.call_many(100, 8, |index| Call::new("sayHello", &names[index])).unwrap();
    for (name, reply) in names.iter().zip(&replies) {
        let greeting = format!("Hello {name}, this is v1");
        assert_eq!(reply.answer, Answer::Value(Value::from(&*greeting)));
        assert_eq!(reply.server(), Some("v1"));
    }
    assert_eq!((replies.len(), server.answered()), (100, 100));
}

#[test]
fn a_killed_server_takes_its_calls_with_it_and_can_be_revived() {
    let mut server = Server::start("v1", 0).unwrap();
    let address = server.address();
    let mut client = Client::connect(address).unwrap();
    assert_eq!(client.call(CALL).unwrap().server(), Some("v1"));

    server.hang();
    let waiting = std::thread::spawn(move || client.call_many(3, 3, |_| CALL));
    while server.swallowed() < 3 {
        std::thread::yield_now();
    }
    server.kill();
    let error = waiting.join().unwrap().unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset), "{error}");
    assert_eq!(Client::connect(address).unwrap_err().kind(), ErrorKind::ConnectionRefused);

    server.revive().unwrap();
    assert_eq!(server.address(), address);
    assert_eq!(Client::connect(address).unwrap().call(CALL).unwrap().server(), Some("v1"));
}

#[test]
fn a_taken_port_is_replaced() {
    let first = Server::start("v1", 0).unwrap();
    let second = Server::start("v2", first.address().port()).unwrap();
    assert_ne!(first.address(), second.address());
    assert_eq!(Client::connect(second.address()).unwrap().call(CALL).unwrap().server(), Some("v2"));
}
