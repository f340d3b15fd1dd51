//! Clients of Thrift, brpc and tRPC that stall, flood, leave, and send what is no frame, and servers whose answers break off or
//! have a byte spoilt: another client's calls are answered meanwhile, and Envoy's memory stays within bounds. (Those of Dubbo
//! are in `budget` and `connections`.)

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use meltemi_codecs::thrift::{Content, Message, Protocol, Transport};
use meltemi_codecs::{Brpc, Codec, Edit, Frame, Kind, Outcome, Peer, Step, Thrift, Trpc};
use meltemi_tests::{DEADLINE, Setup, each_envoy, eventually, files};
use serde_json::json;
use socket2::SockRef;

const MIB: u64 = 1 << 20;

/// What the plan allows.
const BUDGET: u64 = 16 * MIB;

/// What comes on top of it: Envoy's own buffers, and freed memory that is not given back.
const OVERHEAD: u64 = 150 * MIB;

const HOSTILE: usize = 160;

/// A protocol, and frames of it.
struct Wire {
    codec: &'static dyn Codec,
    request: Vec<u8>,
    answer: Vec<u8>,
    /// A request of some megabytes.
    large: Vec<u8>,
    /// A request of another method, and that.
    other: (Vec<u8>, &'static str),
}

fn wires() -> [Wire; 3] {
    let vector = |file: &str| fs::read(files::root().join("codecs/vectors").join(file)).unwrap();
    let thrift = |method, content| {
        let mut frame = Vec::new();
        Message::new(Transport::Framed, Protocol::Binary, 1, method, content).write(&mut frame).unwrap();
        frame
    };
    let text = vec![b'x'; 4 << 20];
    // Both have their whole length, or the rest of it, in the second four bytes.
    let grown = |frame: &[u8]| {
        let len = u32::from_be_bytes(frame[4..8].try_into().unwrap()) + text.len() as u32;
        [&frame[..4], &len.to_be_bytes(), &frame[8..], &text].concat()
    };
    let coded = |codec, name: &str, other, method| {
        let [request, answer] = ["req", "resp"].map(|side| vector(&format!("{name}.{side}.bin")));
        Wire { codec, large: grown(&request), request, answer, other: (vector(other), method) }
    };
    [
        Wire {
            codec: &Thrift,
            request: thrift("echo", Content::Call(b"text".into())),
            answer: thrift("echo", Content::Value(b"text".into())),
            large: thrift("echo", Content::Call(text.as_slice().into())),
            other: (thrift("other", Content::Call(b"text".into())), "other"),
        },
        coded(&Brpc, "brpc/apache-brpc-1.17/00-echo", "brpc/apache-brpc-1.17/06-unimpl.req.bin", "Other"),
        coded(&Trpc, "trpc/trpc-go-1.0.3/conn-id1", "trpc/trpc-go-1.0.3/conn1-id10.req.bin", "NoSuch"),
    ]
}

impl Wire {
    fn with_id(&self, frame: &[u8], id: u64) -> Vec<u8> {
        let mut out = Vec::new();
        self.codec.rewrite(frame, &Edit { id: Some(id), ..Edit::default() }, &mut out).unwrap();
        out
    }

    /// The next frame of `from`; `None` at the end.
    fn read(&self, from: Peer, stream: &mut TcpStream, input: &mut Vec<u8>) -> Option<Frame> {
        loop {
            if let Step::Frame(frame) = self.codec.split(from, input, 8 << 20).unwrap() {
                input.drain(..frame.len);
                return Some(frame);
            }
            let mut chunk = vec![0; 64 << 10];
            let read = match stream.read(&mut chunk) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => panic!("nothing comes"),
                read => read.ok().filter(|read| *read > 0)?,
            };
            input.extend_from_slice(&chunk[..read]);
        }
    }

    /// Answers requests, and nothing else, until the connection ends.
    fn serve(&self, mut stream: TcpStream) {
        let mut input = Vec::new();
        while let Some(frame) = self.read(Peer::Client, &mut stream, &mut input) {
            let answer = self.with_id(&self.answer, frame.id);
            if frame.kind == Kind::Request && stream.write_all(&answer).is_err() {
                return;
            }
        }
    }

    /// Answers one request: the first with nothing, each later one with a byte more; once that is the whole answer, with each
    /// byte of it spoilt.
    fn serve_badly(&self, mut stream: TcpStream, answered: &AtomicUsize) {
        let Some(frame) = self.read(Peer::Client, &mut stream, &mut Vec::new()) else { return };
        let mut answer = self.with_id(&self.answer, frame.id);
        let number = answered.fetch_add(1, Ordering::SeqCst);
        match number.checked_sub(answer.len()) {
            None => answer.truncate(number),
            Some(at) => answer[at] ^= 0xff,
        }
        let _ = stream.write_all(&answer);
    }
}

fn server(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let serve = Arc::new(serve);
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let serve = Arc::clone(&serve);
            thread::spawn(move || serve(stream));
        }
    });
    address
}

fn good_server(number: usize) -> SocketAddr {
    server(move |stream| wires()[number].serve(stream))
}

/// A client with a connection of its own, on which it makes one call after the other.
struct Honest<'w> {
    wire: &'w Wire,
    stream: TcpStream,
    input: Vec<u8>,
    last: u64,
}

impl<'w> Honest<'w> {
    fn connect(wire: &'w Wire, proxy: SocketAddr) -> Self {
        let stream = TcpStream::connect(proxy).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        Self { wire, stream, input: Vec::new(), last: 0 }
    }

    fn call(&mut self) {
        let (name, kind) = (self.wire.codec.name(), self.make(&self.wire.request));
        assert_eq!(kind, Some(Kind::Response(Outcome::Success)), "{name}");
    }

    /// What kind of an answer a call has; `None` if the connection ends before it.
    fn make(&mut self, request: &[u8]) -> Option<Kind> {
        self.last += 1;
        self.stream.write_all(&self.wire.with_id(request, self.last)).unwrap();
        let answer = self.wire.read(Peer::Server, &mut self.stream, &mut self.input)?;
        assert_eq!(answer.id, self.last, "{}", self.wire.codec.name());
        Some(answer.kind)
    }
}

/// Does what a client must not, the one or the other by its number; its connection, if it stays.
fn misbehave(number: usize, wire: &Wire, proxy: SocketAddr) -> Option<TcpStream> {
    let mut stream = TcpStream::connect(proxy).unwrap();
    // It takes what is taken at once.
    stream.set_nonblocking(true).unwrap();
    let calls = wire.request.repeat(2000);
    match number % 4 {
        0 => drop(stream.write(&wire.large[..200 << 10])),
        1 => drop(stream.write(&calls)),
        2 => {
            let _ = stream.write(&calls[..wire.request.len() * 21 / 2]);
            let linger = (number % 8 == 2).then_some(Duration::ZERO);
            SockRef::from(&stream).set_linger(linger).unwrap();
            return None;
        }
        _ => {
            let mut frame = wire.request.clone();
            let at = number / 4 % frame.len();
            frame[at] ^= 0xff;
            let _ = stream.write(&frame.repeat(3));
        }
    }
    Some(stream)
}

#[test]
fn clients_that_misbehave_harm_nobody_else() {
    each_envoy(|envoy| {
        for (number, wire) in wires().iter().enumerate() {
            let name = wire.codec.name();
            let service = json!({"protocol": name, "defaultRoute": {"cluster": "demo"}});
            let plan = json!({"services": {"demo": service}, "memoryBudgetBytes": BUDGET});
            let servers = [(); 2].map(|()| good_server(number));
            let proxy = Setup::new().servers(servers[0], servers[1]).plan(&plan).start(envoy);
            let mut honest = Honest::connect(wire, proxy.meltemi());
            honest.call();
            let (before, mut most, mut hostile) = (proxy.memory(), 0, Vec::new());
            for number in 0..HOSTILE {
                hostile.extend(misbehave(number, wire, proxy.meltemi()));
                honest.call();
                if number % 16 == 0 {
                    most = most.max(proxy.memory());
                }
            }
            most = most.max(proxy.memory());
            let growth = most.saturating_sub(before);
            println!("{name}: {} MiB before, {} MiB at most", before / MIB, most / MIB);
            assert!(growth < BUDGET + OVERHEAD, "{name}: Envoy grew by {} MiB", growth / MIB);
            drop(hostile);
            eventually("they are gone", || (proxy.clients() == 1).then_some(()));
            honest.call();
            eventually("none of their calls is left", || {
                (proxy.metric("meltemi_in_flight", &[]) == 0).then_some(())
            });
        }
    });
}

#[test]
fn servers_whose_answers_break_off_or_are_spoilt_fail_their_own_calls_alone() {
    each_envoy(|envoy| {
        for (number, wire) in wires().iter().enumerate() {
            let name = wire.codec.name();
            let (other, method) = &wire.other;
            let matching = json!([{"attributes": {"method": {"exact": method}}}]);
            let service = json!({"protocol": name, "defaultRoute": {"cluster": "v1"},
                "routes": [{"name": "bad", "match": matching, "cluster": "v2"}]});
            let answered = AtomicUsize::new(0);
            let bad = server(move |stream| wires()[number].serve_badly(stream, &answered));
            let proxy = Setup::new().servers(good_server(number), bad).service(&service).start(envoy);
            let mut honest = Honest::connect(wire, proxy.meltemi());
            let mut unlucky = Honest::connect(wire, proxy.meltemi());
            let (len, mut torn) = (wire.with_id(&wire.answer, 1).len(), 0);
            for call in 0..2 * len {
                let kind = unlucky.make(other);
                let is_answered = match kind {
                    Some(Kind::Response(Outcome::Error(_))) => true,
                    // One that says it is large is passed on while it comes, and then is torn.
                    None => {
                        torn += 1;
                        unlucky = Honest::connect(wire, proxy.meltemi());
                        call >= len && torn <= 2
                    }
                    kind => call >= len && matches!(kind, Some(Kind::Response(_))),
                };
                assert!(is_answered, "{name} {call}: {kind:?}");
                if call % 8 == 0 {
                    honest.call();
                }
            }
            honest.call();
        }
    });
}
