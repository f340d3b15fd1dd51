//! Aeraki's demonstrations route calls in real Envoys: what the generator makes of each is the plan, and calls as the
//! demonstration's own client makes them must arrive where its router says. They lie beside a folder above this one, as
//! `shared/aeraki`; where there is no copy, nothing is tried.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;

use meltemi::generate::{IstioVersion, Options};
use meltemi::input::{self, Depth as Folders, Resources};
use meltemi::mesh;
use meltemi_codecs::protobuf::{write_bytes, write_entry, write_number};
use meltemi_codecs::thrift::{Content, Message, Protocol, Transport};
use meltemi_codecs::{Brpc, Codec, Depth, Dubbo, Edit, Frame, Head, Kind, Outcome, Peer, Step, Thrift, Trpc};
use meltemi_tests::{DEADLINE, Proxy, Setup, each_envoy, eventually, files};
use serde_json::{Value, json};

const LIMIT: usize = 1 << 20;
const MODULE: &str = "oci://registry.example.org/meltemi@sha256:6f0d0c2b0a8f4f2f9d6d3a9f0b1c2d3e4f5061728394a5b6c7d8e9f001122334";

/// A protocol of the demonstrations, and a call of their clients.
struct Wire {
    codec: Box<dyn Codec>,
    request: Vec<u8>,
    answer: Vec<u8>,
}

impl Wire {
    fn of(protocol: &str) -> Self {
        let (codec, request, answer): (Box<dyn Codec>, _, _) = match protocol {
            "thrift" => {
                let written = |content| {
                    let mut out = Vec::new();
                    let message = Message::new(Transport::THeader, Protocol::Binary, 1, "sayHello", content);
                    message.write(&mut out).unwrap();
                    out
                };
                let value = || b"x"[..].into();
                (Box::new(Thrift), written(Content::Call(value())), written(Content::Value(value())))
            }
            "dubbo" => (Box::new(Dubbo), dubbo_request(), dubbo(0x02, 20, b"\x94\x01x")),
            "trpc" => {
                let mut request = Vec::new();
                write_number(3, 1, &mut request);
                write_bytes(5, b"trpc.app.trpc-client.service", &mut request);
                write_bytes(6, b"trpc.test.helloworld", &mut request);
                write_bytes(7, b"/trpc.test.helloworld.Greeter/SayHello", &mut request);
                write_entry(9, "version", b"v2", &mut request);
                let mut answer = Vec::new();
                write_number(3, 1, &mut answer);
                (Box::new(Trpc), trpc(&request), trpc(&answer))
            }
            "brpc" => {
                let vector = |file: &str| {
                    fs::read(files::root().join("codecs/vectors/brpc/apache-brpc-1.17").join(file)).unwrap()
                };
                (Box::new(Brpc), vector("00-echo.req.bin"), vector("00-echo.resp.bin"))
            }
            other => panic!("{other}"),
        };
        Self { codec, request, answer }
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

fn dubbo(flag: u8, status: u8, body: &[u8]) -> Vec<u8> {
    let head = [0xda, 0xbb, flag, status, 0, 0, 0, 0, 0, 0, 0, 1];
    [&head[..], &(body.len() as u32).to_be_bytes(), body].concat()
}

/// `sayHello("x")` of the samples' DemoService with the attachment `foo`, as Hessian2 has it.
fn dubbo_request() -> Vec<u8> {
    const INTERFACE: &str = "org.apache.dubbo.samples.basic.api.DemoService";
    let text = |text: &str| [&[0x30, text.len() as u8][..], text.as_bytes()].concat();
    let texts = ["2.0.2", INTERFACE, "0.0.0", "sayHello", "Ljava/lang/String;", "x"];
    let entries = ["path", INTERFACE, "interface", INTERFACE, "foo", "bar"];
    let [texts, entries] = [&texts, &entries].map(|all| all.map(text).concat());
    dubbo(0xc2, 0, &[&texts[..], b"H", &entries, b"Z"].concat())
}

fn trpc(message: &[u8]) -> Vec<u8> {
    let len = (16 + message.len() as u32).to_be_bytes();
    let head = (message.len() as u16).to_be_bytes();
    [&[9, 0x30, 0, 0][..], &len, &head, &[0, 0, 0, 1, 0, 0], message].concat()
}

/// How often each server was called, and what the entry `foo` of the last call was.
type Seen = Arc<Mutex<(usize, Option<String>)>>;

fn serve(protocol: &'static str) -> (SocketAddr, Seen) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let seen = Seen::default();
    thread::spawn({
        let seen = Arc::clone(&seen);
        move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                let seen = Arc::clone(&seen);
                thread::spawn(move || {
                    let (wire, mut input, mut head) = (Wire::of(protocol), Vec::new(), Head::new());
                    while let Some((frame, bytes)) = wire.read(Peer::Client, &mut stream, &mut input) {
                        wire.codec.head(&bytes, Depth::Attachments, &mut head).unwrap();
                        let mut seen = seen.lock().unwrap();
                        *seen = (seen.0 + 1, head.get("foo").map(ToString::to_string));
                        drop(seen);
                        if stream.write_all(&wire.with_id(&wire.answer, frame.id)).is_err() {
                            return;
                        }
                    }
                });
            }
        }
    });
    (address, seen)
}

/// The services of the plan that is made of a demonstration, those of clients and those of servers.
fn services(demo: &Path) -> BTreeMap<String, Value> {
    let read = input::read(&[demo.to_owned()], Folders::Flat).unwrap();
    let options = Options::new(IstioVersion(30), mesh::module(MODULE).unwrap());
    let (output, _) = Resources::new(&read, "default").generate(&options);
    let mut services = BTreeMap::new();
    for object in &output.objects {
        let object = serde_json::to_value(object).unwrap();
        let plan = &object["spec"]["pluginConfig"];
        for (name, service) in plan["services"].as_object().into_iter().flatten() {
            services.insert(name.clone(), service.clone());
        }
    }
    services
}

/// A service whose clusters are those of this test: `outbound|9090|v1|host` is `v1`, one without a subset is `demo`.
fn placed(service: &Value) -> Value {
    let text = service.to_string();
    let mut parts = text.split('"').map(ToOwned::to_owned).collect::<Vec<_>>();
    for part in &mut parts {
        if let Some(rest) = part.strip_prefix("outbound|") {
            let subset = rest.split('|').nth(1).unwrap();
            *part = if subset.is_empty() { "demo".to_owned() } else { subset.to_owned() };
        }
    }
    serde_json::from_str(&parts.join("\"")).unwrap()
}

struct Client {
    wire: Wire,
    stream: TcpStream,
    input: Vec<u8>,
}

impl Client {
    fn connect(proxy: &Proxy, protocol: &str) -> Self {
        let stream = TcpStream::connect(proxy.meltemi()).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        Self { wire: Wire::of(protocol), stream, input: Vec::new() }
    }

    /// Whether each of so many calls succeeded.
    fn call(&mut self, count: u64) -> Vec<bool> {
        let one = |id| {
            self.stream.write_all(&self.wire.with_id(&self.wire.request, id)).unwrap();
            let (frame, _) = self.wire.read(Peer::Server, &mut self.stream, &mut self.input).unwrap();
            matches!(frame.kind, Kind::Response(Outcome::Success))
        };
        (1..=count).map(one).collect()
    }
}

/// The demonstrations whose names begin so.
fn demonstrations(start: &str) -> Vec<PathBuf> {
    let above = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
    let Some(copy) = above.map(|above| above.join("shared/aeraki/demos")).find(|copy| copy.is_dir()) else {
        eprintln!("nothing is tried: put Aeraki's YAML into a folder shared/aeraki beside the clone");
        return Vec::new();
    };
    let entries = fs::read_dir(copy).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<_> =
        entries.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with(start)).collect();
    found.sort();
    assert!(!found.is_empty(), "{start}");
    found
}

fn routes(start: &'static str, protocol: &'static str) {
    each_envoy(|envoy| {
        for demo in demonstrations(start) {
            let name = demo.file_stem().unwrap().to_str().unwrap();
            let variant = name.split_once("--").unwrap().1;
            let services = services(&demo);
            let service = |is_inbound: bool| {
                let of = |(name, _): &(&String, &Value)| name.starts_with("inbound.") == is_inbound;
                services.iter().find(of).map(|(_, service)| placed(service))
            };
            let (v1, v2) = (serve(protocol), serve(protocol));
            let start = |service: &Value| {
                let plan = json!({"services": {"demo": service}});
                Setup::new().servers(v1.0, v2.0).plan(&plan).start(envoy)
            };
            let called = || [&v1, &v2].map(|server| server.1.lock().unwrap().0);
            let is = |what: &str| variant.contains(what);
            if is("global-ratelimit") || is("hash-lb") || is("outlier") || is("rate-limit-server") {
                // No routes: what they ask for has tests of its own.
                continue;
            }
            if is("ratelimit") {
                let mut inbound = service(true).unwrap_or_else(|| panic!("{name}: no server"));
                inbound["defaultRoute"] = json!({"cluster": "v1"});
                let proxy = start(&inbound);
                let passed = Client::connect(&proxy, protocol).call(7);
                let passed = passed.into_iter().filter(|passed| *passed).count();
                assert_eq!((passed, called()[0]), (2, 2), "{name}");
            }
            let proxy = start(&service(false).unwrap_or_else(|| panic!("{name}: no client")));
            let before = called();
            let mut client = Client::connect(&proxy, protocol);
            assert!(client.call(60).iter().all(|passed| *passed), "{name}");
            let after = called();
            let [first, second] = [0, 1].map(|at| after[at] - before[at]);
            let held = match variant {
                _ if is("mirroring") => first == 60,
                _ if is("split") => (2..30).contains(&first) && first + second == 60,
                _ if is("mutation") => first > 0 && second > 0,
                _ if is("multi-route") || is("v2") => (first, second) == (0, 60),
                _ => (first, second) == (60, 0),
            };
            assert!(held, "{name}: {first} and {second}");
            if is("mirroring") {
                eventually("the mirror gets all", || (called()[1] == 60).then_some(()));
            }
            if is("mutation") {
                assert_eq!(v1.1.lock().unwrap().1.as_deref(), Some("bar"), "{name}");
            }
        }
    });
}

#[test]
fn those_of_thrift() {
    routes("metaprotocol-thrift--", "thrift");
    routes("thrift-plugin--", "thrift");
    routes("e2e-thrift--", "thrift");
}

#[test]
fn those_of_dubbo() {
    routes("metaprotocol-dubbo--", "dubbo");
    routes("metaprotocol-dubbo-app-level--", "dubbo");
}

#[test]
fn those_of_trpc_and_brpc() {
    routes("metaprotocol-trpc--", "trpc");
    routes("metaprotocol-brpc--traffic", "brpc");
}
