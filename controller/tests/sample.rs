//! The sample servers and client, without Envoy between them.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::process::{self, Command, Stdio};

use meltemi::sample::{Call, Client, Server};
use meltemi_codecs::dubbo::message::{Answer, Request, Value};

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
    // A port that no other test is given while nobody has it.
    let mut server = Server::start("v1", 17_000 + (process::id() % 1000) as u16).unwrap();
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

/// Clients of Python say a version of old, and read no attachments after the result, as Java's servers know.
#[test]
fn old_clients_are_answered_without_attachments() {
    let server = Server::start("v1", 0).unwrap();
    let mut request = Vec::new();
    let arguments = [Value::from("Ada")];
    let written = Request {
        id: 7,
        interface: "org.meltemi.demo.Greeter",
        method: "sayHello",
        arguments: &arguments,
        ..Request::default()
    };
    written.write(&mut request);
    let version = request.windows(5).position(|window| window == b"2.0.2").unwrap();
    for (says, tells_server) in [(b"2.0.2", true), (b"2.5.3", false), (b"2.7.9", true)] {
        request[version..version + 5].copy_from_slice(says);
        let mut stream = TcpStream::connect(server.address()).unwrap();
        stream.write_all(&request).unwrap();
        let mut header = [0; 16];
        stream.read_exact(&mut header).unwrap();
        let mut body = vec![0; u32::from_be_bytes(header[12..].try_into().unwrap()) as usize];
        stream.read_exact(&mut body).unwrap();
        let greeting = b"Hello Ada, this is v1";
        // A value alone, or one with attachments.
        assert_eq!(body[0], if tells_server { 0x94 } else { 0x91 });
        assert_eq!(body[2..].strip_prefix(greeting).unwrap().is_empty(), !tells_server);
    }
}

#[test]
fn a_taken_port_is_replaced() {
    let first = Server::start("v1", 0).unwrap();
    let second = Server::start("v2", first.address().port()).unwrap();
    assert_ne!(first.address(), second.address());
    assert_eq!(Client::connect(second.address()).unwrap().call(CALL).unwrap().server(), Some("v2"));
}

fn meltemi(args: &[&str]) -> (i32, String, String) {
    let output = Command::new(assert_cmd::cargo::cargo_bin!("meltemi")).args(args).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[test]
fn server_and_client_run_on_their_own() {
    let mut server = Command::new(assert_cmd::cargo::cargo_bin!("meltemi"))
        .args(["sample", "server", "--version", "v7", "--listen", "127.0.0.1:0"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(server.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let address = line.trim().strip_prefix("v7 serves org.meltemi.demo.Greeter on ").unwrap().to_owned();

    let client = ["sample", "client", "--address", &address, "--rate", "1000", "--connections", "2"];
    let calls = ["--calls", "30", "--method", "sayHello", "--method", "sayBye", "--attachment", "a=b"];
    let (code, output, error) = meltemi(&[&client[..], &calls].concat());
    assert_eq!((code, output, error), (0, "  30 calls: v7 30\n".to_owned(), String::new()));
    let (code, _, error) = meltemi(&["sample", "server", "--listen", &address]);
    assert_eq!(code, 1);
    assert!(
        error.contains(&format!("cannot listen on {address}: ")) && error.contains("--listen"),
        "{error}"
    );

    let ended = Command::new("kill").arg(server.id().to_string()).status().unwrap();
    assert!(ended.success());
    assert_eq!(server.wait().unwrap().code(), Some(0));
    let (code, output, error) = meltemi(&[&client[..], &["--calls", "3"]].concat());
    assert!(code == 1 && output.contains("refused"), "{output}");
    assert_eq!(error, "error: 3 of 3 calls failed\n");
    let (code, _, error) = meltemi(&["sample", "client", "--rate", "100000"]);
    assert!(code == 2 && error.contains("1..=1000"), "{error}");
}
