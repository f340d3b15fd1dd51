//! Protocols that are declared by a layout alone, on the module as it is and a stock Envoy: the layouts of
//! `examples/layouts`, with frames of real programs where there are some.

#[path = "../../../controller/tests/packets/mod.rs"]
mod packets;
mod protocols;

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use courier::serve;
use meltemi::envoy::{Config, Envoy as Process, Launch, PlanFile};
use meltemi::learn::{self, Wish};
use meltemi_codecs::{Codec, Depth, Frame, Head, Kind, Layout, Outcome, Peer, Step};
use meltemi_tests::{DEADLINE, Envoy, each_envoy, eventually, files};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::protocols::{MIB, Protocol, grown, one_way, protocols};

const LIMIT: usize = 2 * MIB;

/// The next frame on a connection.
fn read_frame(
    layout: &Layout,
    from: Peer,
    stream: &mut TcpStream,
    input: &mut Vec<u8>,
) -> Option<(Frame, Vec<u8>)> {
    loop {
        match layout.split(from, input, LIMIT).unwrap() {
            Step::Frame(frame) => return Some((frame, input.drain(..frame.len).collect())),
            Step::NeedMore { .. } => {
                let mut chunk = [0; 4096];
                let read = stream.read(&mut chunk).unwrap_or(0);
                if read == 0 {
                    return None;
                }
                input.extend_from_slice(&chunk[..read]);
            }
        }
    }
}

/// What a server does with the requests that it gets.
#[derive(Clone, Copy, PartialEq)]
enum Ways {
    Answer,
    /// It closes the connection of the first request it gets, and answers all others.
    CloseOnce,
    Ignore,
    /// It takes requests that are whole with a mebibyte more, and answers with as much more.
    Grown,
}

/// A server that counts the requests that it gets, by the value of the attribute.
struct Server {
    address: SocketAddr,
    seen: [Arc<AtomicUsize>; 2],
}

fn server(name: &str, ways: Ways) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let seen: [Arc<AtomicUsize>; 2] = Default::default();
    let (counts, name) = (seen.clone(), name.to_owned());
    let total = Arc::new(AtomicUsize::new(0));
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, counts, name, total) =
                (stream.unwrap(), counts.clone(), name.clone(), total.clone());
            thread::spawn(move || {
                let protocol = protocols().into_iter().find(|protocol| protocol.name == name).unwrap();
                let (mut input, mut head) = (Vec::new(), Head::new());
                while let Some((frame, bytes)) =
                    read_frame(&protocol.layout, Peer::Client, &mut stream, &mut input)
                {
                    assert!(matches!(frame.kind, Kind::Request | Kind::OneWay), "{frame:?}");
                    protocol.layout.head(&bytes, Depth::Head, &mut head).unwrap();
                    let value = head.get(protocol.attribute).unwrap();
                    let place = protocol.values.iter().position(|known| *known == value).unwrap();
                    counts[place].fetch_add(1, Ordering::SeqCst);
                    let is_first = total.fetch_add(1, Ordering::SeqCst) == 0;
                    match ways {
                        Ways::CloseOnce if is_first => return,
                        Ways::Ignore => {}
                        _ if frame.kind == Kind::OneWay => {}
                        _ => {
                            let mut answer = protocol.with_id(&protocol.answer, frame.id);
                            if ways == Ways::Grown {
                                let request = protocol.with_id(&protocol.requests[place], frame.id);
                                assert!(bytes == grown(&name, Peer::Client, &request), "{name}");
                                answer = grown(&name, Peer::Server, &answer);
                            }
                            if stream.write_all(&answer).is_err() {
                                return;
                            }
                        }
                    }
                }
            });
        }
    });
    Server { address, seen }
}

impl Server {
    fn seen(&self) -> [usize; 2] {
        self.seen.each_ref().map(|seen| seen.load(Ordering::SeqCst))
    }
}

struct Proxy {
    process: Process,
    plan: PlanFile,
    _folder: TempDir,
}

/// Envoy with the files of the example, but the module as it is.
fn start(envoy: &Envoy, plan: &Value, north: u16, south: u16) -> Proxy {
    let example = files::root().join("examples/courier");
    let parse = |file: &str| Config::parse(file, &fs::read_to_string(example.join(file)).unwrap()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut discovery = parse("plan.yaml");
    assert_eq!(discovery.move_file("courier.wasm", files::module()), 1);
    let mut file = PlanFile::new(&folder.path().join("plan.yaml"), discovery).unwrap();
    file.write(&plan.to_string()).unwrap();
    let mut bootstrap = parse("envoy.yaml");
    assert_eq!(bootstrap.move_file("./plan.yaml", file.path()), 1);
    bootstrap.leave_all_ports();
    bootstrap.move_ports(&BTreeMap::from([(7701, north), (7702, south)]));
    let config = folder.path().join("envoy.yaml");
    bootstrap.write(&config).unwrap();
    let args = ["--concurrency", "1", "-l", "warning"].map(Into::into).to_vec();
    let launch = Launch { binary: envoy.binary.clone(), config, folder: folder.path().to_owned(), args };
    Proxy { process: Process::start(&launch).unwrap(), plan: file, _folder: folder }
}

/// A plan whose calls go as `route` and `default` say. The protocol has a name that no codec of the module has.
fn plan(protocol: &Protocol, route: Value, default: Value) -> Value {
    let mut service = json!({"protocol": format!("own-{}", protocol.name), "defaultRoute": default});
    if !route.is_null() {
        let exact = json!({protocol.attribute: {"exact": protocol.values[1]}});
        let mut named = json!({"name": "second", "match": [{"attributes": exact}]});
        named.as_object_mut().unwrap().extend(route.as_object().unwrap().clone());
        service["routes"] = json!([named]);
    }
    json!({"protocols": {format!("own-{}", protocol.name): protocol.text}, "services": {"parcels": service}})
}

/// A client with one connection.
struct Client<'p> {
    protocol: &'p Protocol,
    stream: TcpStream,
    input: Vec<u8>,
    last: u64,
}

impl<'p> Client<'p> {
    fn connect(proxy: &Proxy, protocol: &'p Protocol) -> Self {
        let stream = TcpStream::connect(proxy.process.listener("parcels").unwrap()).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        Self { protocol, stream, input: Vec::new(), last: 100 }
    }

    /// Sends so many requests of both kinds at once; how each was answered, by the frame that came.
    fn call(&mut self, count: usize) -> Vec<(Kind, Vec<u8>)> {
        let (mut open, mut bytes) = (BTreeMap::new(), Vec::new());
        for number in 0..count {
            self.last += 1;
            bytes.extend(self.protocol.with_id(&self.protocol.requests[number % 2], self.last));
            open.insert(self.last, number);
        }
        self.stream.write_all(&bytes).unwrap();
        let mut answers = vec![None; count];
        for _ in 0..count {
            let (frame, bytes) = self.receive();
            let number = open.remove(&frame.id).expect("an answer to a request that is open");
            answers[number] = Some((frame.kind, self.protocol.with_id(&bytes, 7)));
        }
        answers.into_iter().map(Option::unwrap).collect()
    }

    fn receive(&mut self) -> (Frame, Vec<u8>) {
        read_frame(&self.protocol.layout, Peer::Server, &mut self.stream, &mut self.input).expect("an answer")
    }
}

fn is_error(kind: &Kind) -> bool {
    matches!(kind, Kind::Response(Outcome::Error(_)))
}

#[test]
fn calls_are_routed_by_attribute_and_split_and_every_answer_is_its_requests_own() {
    each_envoy(|envoy| {
        for protocol in protocols() {
            let [north, south] = [(); 2].map(|()| server(protocol.name, Ways::Answer));
            let text = plan(&protocol, json!({"cluster": "south"}), json!({"cluster": "north"}));
            let mut proxy = start(envoy, &text, north.address.port(), south.address.port());
            let mut client = Client::connect(&proxy, &protocol);
            let expected = (Kind::Response(Outcome::Success), protocol.with_id(&protocol.answer, 7));
            assert!(client.call(40).iter().all(|answer| *answer == expected), "{}", protocol.name);
            assert_eq!((north.seen(), south.seen()), ([20, 0], [0, 20]), "{}", protocol.name);

            let weights = json!([{"cluster": "north", "weight": 50}, {"cluster": "south", "weight": 50}]);
            let split = plan(&protocol, Value::Null, json!({"weightedClusters": weights}));
            proxy.plan.write(&split.to_string()).unwrap();
            eventually("the calls are split", || {
                assert!(client.call(20).iter().all(|answer| *answer == expected));
                (north.seen()[1] > 5 && south.seen()[0] > 5).then_some(())
            });
        }
    });
}

/// Nobody writes a line: a capture of calls becomes a layout, and the layout routes.
#[test]
fn protocols_that_were_learnt_from_captures_are_routed() {
    each_envoy(|envoy| {
        let names = ["courier", "brpc", "trpc"];
        for mut protocol in protocols().into_iter().filter(|protocol| names.contains(&protocol.name)) {
            let mut capture = packets::Capture::new();
            let mut connection = capture.connect(40001, 7701);
            for id in 1..=12 {
                capture.ask(&mut connection, &protocol.with_id(&protocol.requests[id as usize % 2], id));
                capture.answer(&mut connection, &protocol.with_id(&protocol.answer, id));
            }
            capture.close(connection);
            let (text, error) = learn::learn(capture.bytes(), &Wish::default());
            let text = text.unwrap_or_else(|| panic!("{}: {error:?}", protocol.name));
            protocol.text = serde_saphyr::from_str(&text).unwrap();
            // What numbers of commands are called is in nobody's frames.
            protocol.attribute = "method";
            if protocol.name == "courier" {
                protocol.values = ["0", "1"];
            }
            let [north, south] = [(); 2].map(|()| server(protocol.name, Ways::Answer));
            let plan = plan(&protocol, json!({"cluster": "south"}), json!({"cluster": "north"}));
            let proxy = start(envoy, &plan, north.address.port(), south.address.port());
            let mut client = Client::connect(&proxy, &protocol);
            let expected = (Kind::Response(Outcome::Success), protocol.with_id(&protocol.answer, 7));
            assert!(client.call(40).iter().all(|answer| *answer == expected), "{}: {text}", protocol.name);
            assert_eq!((north.seen(), south.seen()), ([20, 0], [0, 20]), "{}: {text}", protocol.name);
        }
    });
}

#[test]
fn failures_are_retried_and_answered_in_the_protocols_own_form() {
    each_envoy(|envoy| {
        for protocol in protocols() {
            let [north, south] = [Ways::CloseOnce, Ways::Ignore].map(|ways| server(protocol.name, ways));
            let retry =
                json!({"cluster": "north", "retry": {"attempts": 2, "on": ["reset", "connect-failure"]}});
            // A busy machine connects within it.
            let text = plan(&protocol, json!({"cluster": "south", "timeout": "2s"}), retry);
            let proxy = start(envoy, &text, north.address.port(), south.address.port());
            let mut client = Client::connect(&proxy, &protocol);
            let answers = client.call(2);
            let expected = (Kind::Response(Outcome::Success), protocol.with_id(&protocol.answer, 7));
            assert_eq!(answers[0], expected, "{}", protocol.name);
            assert_eq!(north.seen(), [2, 0], "{}: once, and once more", protocol.name);
            assert!(is_error(&answers[1].0), "{}: {answers:?}", protocol.name);
            let text = String::from_utf8_lossy(&answers[1].1).into_owned();
            assert!(text.contains("meltemi: "), "{}: {text}", protocol.name);
            assert_eq!(south.seen(), [0, 1]);
        }
    });
}

#[test]
fn bodies_of_a_mebibyte_pass_whole_both_ways() {
    each_envoy(|envoy| {
        for mut protocol in protocols() {
            let north = server(protocol.name, Ways::Grown);
            let mut text = plan(&protocol, Value::Null, json!({"cluster": "north"}));
            text["services"]["parcels"]["limits"] = json!({"maxFrameBytes": LIMIT, "maxRequestBytes": LIMIT});
            let proxy = start(envoy, &text, north.address.port(), north.address.port());
            let name = protocol.name;
            let answer = grown(name, Peer::Server, &protocol.answer);
            protocol.requests = protocol.requests.map(|frame| grown(name, Peer::Client, &frame));
            let expected = (Kind::Response(Outcome::Success), protocol.with_id(&answer, 7));
            let answers = Client::connect(&proxy, &protocol).call(4);
            assert!(answers.iter().all(|answer| *answer == expected), "{name}");
            assert_eq!(north.seen(), [2, 2], "{name}");
        }
    });
}

#[test]
fn heartbeats_are_answered_by_the_proxy() {
    each_envoy(|envoy| {
        for protocol in protocols() {
            let Some(heartbeat) = &protocol.heartbeat else { continue };
            let north = server(protocol.name, Ways::Answer);
            let text = plan(&protocol, Value::Null, json!({"cluster": "north"}));
            let proxy = start(envoy, &text, north.address.port(), north.address.port());
            let mut client = Client::connect(&proxy, &protocol);
            client.stream.write_all(heartbeat).unwrap();
            let (frame, _) = client.receive();
            assert_eq!((frame.kind, frame.id), (Kind::HeartbeatResponse, 7), "{}", protocol.name);
            assert_eq!(client.call(2).len(), 2);
            assert_eq!(north.seen(), [1, 1]);
        }
    });
}

#[test]
fn one_way_calls_are_routed_and_not_answered() {
    each_envoy(|envoy| {
        let mut tried = Vec::new();
        for protocol in protocols() {
            let Some(frame) = one_way(&protocol) else { continue };
            tried.push(protocol.name);
            let [north, south] = [(); 2].map(|()| server(protocol.name, Ways::Answer));
            let text = plan(&protocol, json!({"cluster": "south"}), json!({"cluster": "north"}));
            let proxy = start(envoy, &text, north.address.port(), south.address.port());
            let mut client = Client::connect(&proxy, &protocol);
            let expected = (Kind::Response(Outcome::Success), protocol.with_id(&protocol.answer, 7));
            for round in 0..5 {
                client.stream.write_all(&protocol.with_id(&frame, 50 + round)).unwrap();
                // Any answer to the one before would come first, and be of no request that is open.
                assert!(client.call(2).iter().all(|answer| *answer == expected), "{}", protocol.name);
            }
            eventually("both kinds of calls arrive", || {
                ((north.seen(), south.seen()) == ([5, 0], [0, 10])).then_some(())
            });
            // A client that leaves at once has them delivered all the same.
            drop(client);
            let mut other = TcpStream::connect(proxy.process.listener("parcels").unwrap()).unwrap();
            other.write_all(&protocol.with_id(&frame, 9)).unwrap();
            other.shutdown(Shutdown::Write).unwrap();
            eventually(&format!("the last of {} arrives", protocol.name), || {
                (south.seen() == [0, 11]).then_some(())
            });
            assert_eq!(other.read(&mut [0; 64]).unwrap(), 0, "{}", protocol.name);
        }
        assert_eq!(tried, ["courier", "trpc", "bolt", "qza"]);
    });
}

#[test]
fn another_layout_is_taken_over_live() {
    each_envoy(|envoy| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let depot = listener.local_addr().unwrap();
        thread::spawn(move || serve(&listener, "north", |_| {}));
        let protocols = protocols();
        let protocol = &protocols[0];
        let mut text = plan(protocol, json!({"reject": {"message": "no"}}), json!({"cluster": "north"}));
        let mut proxy = start(envoy, &text, depot.port(), depot.port());
        let mut old = Client::connect(&proxy, protocol);
        let refused =
            |client: &mut Client| client.call(2).iter().map(|(kind, _)| is_error(kind)).collect::<Vec<_>>();
        assert_eq!(refused(&mut old), [false, true]);
        // The numbers of the commands are another's names: what was refused passes, and the other way round.
        text["protocols"]["own-courier"]["attributes"]["command"]["names"] =
            json!({"deliver": 0, "track": 1, "notify": 2});
        proxy.plan.write(&text.to_string()).unwrap();
        eventually("new connections go by the new layout", || {
            let mut client = Client::connect(&proxy, protocol);
            (refused(&mut client) == [true, false]).then_some(())
        });
    });
}
