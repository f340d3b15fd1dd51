//! The protocols of the demonstrations, as their own clients and servers speak them.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use meltemi_codecs::protobuf::{write_bytes, write_entry, write_number};
use meltemi_codecs::thrift::{Content, Message, Protocol, Transport};
use meltemi_codecs::{Brpc, Codec, Depth, Dubbo, Edit, Frame, Head, Kind, Outcome, Peer, Step, Thrift, Trpc};
use meltemi_tests::{DEADLINE, files};
use serde_json::Value;

const LIMIT: usize = 1 << 20;

/// A protocol and the answers of its servers.
pub struct Wire {
    codec: Box<dyn Codec>,
    answer: Vec<u8>,
    /// What a broken server says.
    failure: Vec<u8>,
}

impl Wire {
    pub fn of(protocol: &str) -> Self {
        let (codec, answer): (Box<dyn Codec>, _) = match protocol {
            "thrift" => (Box::new(Thrift), thrift("", Content::Value(b"x"[..].into()))),
            "dubbo" => (Box::new(Dubbo), dubbo(0x02, 20, b"\x94\x01x")),
            "trpc" => {
                let mut answer = Vec::new();
                write_number(3, 1, &mut answer);
                (Box::new(Trpc), trpc(&answer))
            }
            "brpc" => (Box::new(Brpc), brpc("00-echo.resp.bin")),
            own => {
                let raw = serde_json::from_value(layout(own)).unwrap();
                (Box::new(meltemi_plan::layout(own, &raw).unwrap()), private(own, true))
            }
        };
        let failure = match protocol {
            "thrift" => thrift("", Content::Error { status: 6, text: "broken".into() }),
            _ => Vec::new(),
        };
        Self { codec, answer, failure }
    }

    fn with_id(&self, frame: &[u8], id: u64) -> Vec<u8> {
        let mut out = Vec::new();
        self.codec.rewrite(frame, &Edit { id: Some(id), ..Edit::default() }, &mut out).unwrap();
        out
    }

    /// The next frame that `from` sends.
    fn read(&self, from: Peer, stream: &mut TcpStream, input: &mut Vec<u8>) -> Option<(Frame, Vec<u8>)> {
        loop {
            if let Step::Frame(frame) = self.codec.split(from, input, LIMIT).unwrap() {
                return Some((frame, input.drain(..frame.len).collect()));
            }
            let mut chunk = [0; 4096];
            let read = stream.read(&mut chunk).ok().filter(|read| *read > 0)?;
            input.extend_from_slice(&chunk[..read]);
        }
    }
}

/// A call as the demonstration's client makes it, of a method; of tRPC the one of that version.
fn request(protocol: &str, method: &str) -> Vec<u8> {
    match protocol {
        "thrift" => thrift(method, Content::Call(b"x"[..].into())),
        "dubbo" => dubbo_request(method),
        "trpc" => {
            let mut request = Vec::new();
            write_number(3, 1, &mut request);
            write_bytes(5, b"trpc.app.trpc-client.service", &mut request);
            write_bytes(6, b"trpc.test.helloworld", &mut request);
            write_bytes(7, b"/trpc.test.helloworld.Greeter/SayHello", &mut request);
            write_entry(9, "version", method.as_bytes(), &mut request);
            trpc(&request)
        }
        "brpc" => brpc("00-echo.req.bin"),
        own => private(own, false),
    }
}

fn thrift(method: &str, content: Content<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    Message::new(Transport::THeader, Protocol::Binary, 1, method, content).write(&mut out).unwrap();
    out
}

fn dubbo(flag: u8, status: u8, body: &[u8]) -> Vec<u8> {
    let head = [0xda, 0xbb, flag, status, 0, 0, 0, 0, 0, 0, 0, 1];
    [&head[..], &(body.len() as u32).to_be_bytes(), body].concat()
}

/// A call of the samples' DemoService with the attachments that routers ask for, as Hessian2 has it.
fn dubbo_request(method: &str) -> Vec<u8> {
    const INTERFACE: &str = "org.apache.dubbo.samples.basic.api.DemoService";
    // Hessian2 has a length of 32 and more in two bytes.
    let text = |text: &str| [&[0x30, text.len() as u8][..], text.as_bytes()].concat();
    let texts = ["2.0.2", INTERFACE, "0.0.0", method, "Ljava/lang/String;", "x"];
    let entries = ["path", INTERFACE, "interface", INTERFACE, "foo", "bar", "batchJob", "false"];
    let [texts, entries] = [&texts[..], &entries].map(|all| all.iter().flat_map(|one| text(one)).collect());
    let [texts, entries]: [Vec<u8>; 2] = [texts, entries];
    dubbo(0xc2, 0, &[&texts[..], b"H", &entries, b"Z"].concat())
}

fn trpc(message: &[u8]) -> Vec<u8> {
    let len = (16 + message.len() as u32).to_be_bytes();
    let head = (message.len() as u16).to_be_bytes();
    [&[9, 0x30, 0, 0][..], &len, &head, &[0, 0, 0, 1, 0, 0], message].concat()
}

fn brpc(file: &str) -> Vec<u8> {
    fs::read(files::root().join("codecs/vectors/brpc/apache-brpc-1.17").join(file)).unwrap()
}

/// The layout that stands in for a codec that nobody but its owners has.
pub fn layout(protocol: &str) -> Value {
    let file = files::root().join(format!("examples/layouts/{protocol}.yaml"));
    serde_saphyr::from_str(&fs::read_to_string(file).unwrap()).unwrap()
}

/// A frame of such a protocol: of qza the command 153 with the sub-command 2, of videopacket the command 1.
fn private(protocol: &str, is_answer: bool) -> Vec<u8> {
    let with_length = |bytes: &[u8]| [&[bytes.len() as u8][..], bytes].concat();
    match protocol {
        "qza" => {
            let tags = [8, 0, 1, 2, 153, 0, 2, 2, 2, 0];
            let rest = [&[7, 0, 0, 0, 0, 0][..], &tags].concat();
            [b"qZA", &[1 + u8::from(is_answer), rest.len() as u8, 0, 0, 0][..], &rest].concat()
        }
        "videopacket" => {
            let head =
                [&[0, 0, 0, 0, 0, 0, 0, 7, 0x10 << u8::from(is_answer), 0, 0][..], &with_length(b"cmd=1")];
            [b"VP", &with_length(&head.concat())[..]].concat()
        }
        other => panic!("{other}"),
    }
}

/// How often a server was called, and the entry `foo1` of the last call.
#[derive(Debug, Default)]
pub struct Seen {
    pub calls: usize,
    pub foo1: Option<String>,
}

/// A server that answers all calls, or fails all.
pub struct Server {
    pub address: SocketAddr,
    seen: Arc<Mutex<Seen>>,
}

impl Server {
    pub fn start(protocol: &'static str, is_broken: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Self { address: listener.local_addr().unwrap(), seen: Arc::default() };
        let seen = Arc::clone(&server.seen);
        thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                let seen = Arc::clone(&seen);
                thread::spawn(move || {
                    let (wire, mut input, mut head) = (Wire::of(protocol), Vec::new(), Head::new());
                    while let Some((frame, bytes)) = wire.read(Peer::Client, &mut stream, &mut input) {
                        wire.codec.head(&bytes, Depth::Attachments, &mut head).unwrap();
                        let mut seen = seen.lock().unwrap();
                        seen.calls += 1;
                        seen.foo1 = head.get("foo1").map(ToString::to_string);
                        drop(seen);
                        let answer = if is_broken { &wire.failure } else { &wire.answer };
                        if stream.write_all(&wire.with_id(answer, frame.id)).is_err() {
                            return;
                        }
                    }
                });
            }
        });
        server
    }

    pub fn calls(&self) -> usize {
        self.seen.lock().unwrap().calls
    }

    pub fn foo1(&self) -> Option<String> {
        self.seen.lock().unwrap().foo1.clone()
    }
}

/// A client with one connection.
pub struct Client {
    protocol: &'static str,
    wire: Wire,
    stream: TcpStream,
    input: Vec<u8>,
    last: u64,
}

impl Client {
    pub fn connect(address: SocketAddr, protocol: &'static str) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        Self { protocol, wire: Wire::of(protocol), stream, input: Vec::new(), last: 0 }
    }

    /// Makes a call; how it failed, if it did: the answer's bytes.
    pub fn call(&mut self, method: &str) -> Result<(), String> {
        self.last += 1;
        let request = self.wire.with_id(&request(self.protocol, method), self.last);
        self.stream.write_all(&request).unwrap();
        let (frame, bytes) = self.wire.read(Peer::Server, &mut self.stream, &mut self.input).unwrap();
        assert_eq!(frame.id, self.last);
        match frame.kind {
            Kind::Response(Outcome::Success) => Ok(()),
            _ => Err(String::from_utf8_lossy(&bytes).into_owned()),
        }
    }

    /// How many of so many calls are answered.
    pub fn passed(&mut self, method: &str, count: usize) -> usize {
        (0..count).filter(|_| self.call(method).is_ok()).count()
    }
}
