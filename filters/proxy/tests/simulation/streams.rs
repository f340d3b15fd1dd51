//! Streams of tRPC through the worker, with ends that write and read frames as bytes.

use std::rc::Rc;
use std::time::Duration;

use meltemi_codecs::protobuf::{enclose, write_bytes, write_number};
use meltemi_codecs::{Codec, Kind, Outcome, Peer, Step, Trpc};
use meltemi_proxy::{Class, Metric};
use serde_json::{Value, json};

use crate::servers::Policy;
use crate::wire::{Message, Wire};
use crate::world::{Setup, World};

const A: &str = "10.0.0.1:8000";

const INIT: u8 = 1;
const DATA: u8 = 2;
const FEEDBACK: u8 = 3;
const CLOSE: u8 = 4;

/// tRPC, of which no end speaks more than bytes.
struct Bytes;

impl Wire for Bytes {
    fn codec(&self) -> Rc<dyn Codec> {
        Rc::new(Trpc)
    }

    fn put(&self, message: &Message, _: &mut Vec<u8>) {
        panic!("{message:?}");
    }

    fn take(&self, input: &[u8]) -> Option<(usize, Message)> {
        panic!("{input:?}");
    }
}

/// Ends that speak tRPC through a worker.
pub struct Scene {
    pub world: World,
    /// What each client and the server have read so far.
    read: Vec<usize>,
}

/// A frame as an end reads it: what it is, the stream's id, and what follows the header.
pub type Read = (Kind, u32, Vec<u8>);

fn frame(kind: u8, id: u32, message: &[u8]) -> Vec<u8> {
    let mut bytes = vec![9, 0x30, 1, kind];
    bytes.extend_from_slice(&u32::try_from(16 + message.len()).unwrap().to_be_bytes());
    bytes.extend_from_slice(&[0, 0]);
    bytes.extend_from_slice(&id.to_be_bytes());
    bytes.extend_from_slice(&[0, 0]);
    bytes.extend_from_slice(message);
    bytes
}

/// Opens a stream.
pub fn opening(id: u32) -> Vec<u8> {
    let mut message = Vec::new();
    write_bytes(3, b"/demo.Streams/Echo", &mut message);
    enclose(1, 0, &mut message);
    write_number(3, 65535, &mut message);
    frame(INIT, id, &message)
}

/// A server's word that a stream is open.
pub fn opened(id: u32) -> Vec<u8> {
    frame(INIT, id, &[0x12, 0])
}

fn frames(from: Peer, bytes: &[u8]) -> Vec<Read> {
    let mut rest = bytes;
    let mut frames = Vec::new();
    while !rest.is_empty() {
        let Ok(Step::Frame(frame)) = Trpc.split(from, rest, usize::MAX) else { panic!("{rest:?}") };
        let (bytes, after) = rest.split_at(frame.len);
        frames.push((frame.kind, u32::try_from(frame.id).unwrap(), bytes[16..].to_vec()));
        rest = after;
    }
    frames
}

fn data(id: u32, text: &str) -> Read {
    (Kind::Continued, id, text.as_bytes().to_vec())
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

impl Scene {
    pub fn new(service: Value) -> Self {
        let plan = Self::plan(service);
        let mut world = World::new(Setup { wire: Rc::new(Bytes), plan, ..Setup::default() });
        world.cluster("demo", &[A], Policy::First);
        world.manager.is_raw = true;
        let mut scene = Self { world, read: vec![0] };
        // The worker looks for endpoints, finds that there is but one, and keeps one connection.
        let client = scene.connect();
        scene.write(client, &opening(1));
        scene.world.run_for(ms(5000));
        scene.world.leave(client);
        scene.run();
        scene.server();
        scene
    }

    fn plan(mut service: Value) -> Value {
        service["protocol"] = json!("trpc");
        service["upstream"]["connectionsPerEndpoint"] = json!(1);
        json!({"services": {"demo": service}})
    }

    /// The plan says something else from now on.
    pub fn set_service(&mut self, service: Value) {
        self.world.set_plan(&Self::plan(service));
        self.run();
    }

    /// A message on a stream.
    pub fn data(id: u32, text: &str) -> Vec<u8> {
        frame(DATA, id, text.as_bytes())
    }

    pub fn connect(&mut self) -> usize {
        let client = self.world.connect();
        self.world.proxy.clients[client].raw = Some(Vec::new());
        self.read.push(0);
        client
    }

    pub fn run(&mut self) {
        self.world.run_for(ms(20));
    }

    /// What has come to a client since the last time.
    pub fn client(&mut self, client: usize) -> Vec<Read> {
        let raw = self.world.proxy.clients[client].raw.as_ref().unwrap();
        let before = std::mem::replace(&mut self.read[client + 1], raw.len());
        frames(Peer::Server, &raw[before..])
    }

    /// The connection to the server.
    fn upstream(&self) -> u32 {
        // The worker has closed the others, as far as it is about it.
        let open = self.world.manager.connections.iter().filter(|(_, upstream)| !upstream.has_ended);
        let streams: Vec<_> = open.map(|(stream, _)| *stream).collect();
        let [stream] = streams[..] else { panic!("{streams:?}") };
        stream
    }

    /// What has come to the server since the last time.
    pub fn server(&mut self) -> Vec<Read> {
        let raw = self.world.manager.connections[&self.upstream()].raw.as_ref().unwrap();
        let before = std::mem::replace(&mut self.read[0], raw.len());
        frames(Peer::Client, &raw[before..])
    }

    pub fn answer(&mut self, bytes: &[u8]) {
        let upstream = self.upstream();
        self.world.write_upstream(upstream, bytes);
        self.run();
    }

    pub fn write(&mut self, client: usize, bytes: &[u8]) {
        self.world.write(client, bytes);
        self.run();
    }

    /// Opens a stream, and has the server agree: the id that the server knows it by.
    pub fn open(&mut self, client: usize, id: u32) -> u32 {
        self.write(client, &opening(id));
        let seen = self.server();
        let [(Kind::Opened, own, _)] = seen[..] else { panic!("{seen:?}") };
        self.answer(&opened(own));
        assert_eq!(self.client(client), [(Kind::Continued, id, vec![0x12, 0])]);
        own
    }

    fn in_flight(&mut self) -> i64 {
        self.world.sum(Metric::InFlight)
    }
}

#[test]
fn frames_follow_their_stream_both_ways_until_both_sides_have_ended() {
    let mut scene = Scene::new(json!({}));
    let clients = [scene.connect(), scene.connect()];
    // Both clients count from the same number.
    let own = clients.map(|client| scene.open(client, 1));
    assert_ne!(own[0], own[1]);
    for (client, own) in clients.into_iter().zip(own) {
        let text = format!("from {client}");
        scene.write(client, &[frame(DATA, 1, text.as_bytes()), frame(FEEDBACK, 1, &[8, 7])].concat());
        assert_eq!(scene.server(), [data(own, &text), (Kind::Continued, own, vec![8, 7])]);
        scene.answer(&[frame(FEEDBACK, own, &[8, 9]), frame(DATA, own, text.as_bytes())].concat());
        assert_eq!(scene.client(client), [(Kind::Continued, 1, vec![8, 9]), data(1, &text)]);
    }
    scene.write(clients[0], &frame(CLOSE, 1, &[]));
    let ended = Kind::Ended(Outcome::Success);
    assert_eq!(scene.server(), [(ended, own[0], vec![])]);
    assert_eq!(scene.in_flight(), 2);
    scene.answer(&[frame(DATA, own[0], b"last"), frame(CLOSE, own[0], &[])].concat());
    assert_eq!(scene.client(clients[0]), [data(1, "last"), (ended, 1, vec![])]);
    assert_eq!(scene.in_flight(), 1);
    // The other goes on, and a new one may have the id.
    scene.answer(&frame(DATA, own[1], b"more"));
    assert_eq!(scene.client(clients[1]), [data(1, "more")]);
    scene.open(clients[0], 1);
    assert_eq!(scene.world.sum(Metric::Responses(Class::Success)), 1);
}

#[test]
fn frames_that_come_early_wait_for_the_opening() {
    let mut scene = Scene::new(json!({}));
    let client = scene.connect();
    let bytes = [opening(5), frame(DATA, 5, b"early"), frame(CLOSE, 5, &[])].concat();
    scene.write(client, &bytes);
    let seen = scene.server();
    let [(Kind::Opened, own, _), ..] = seen[..] else { panic!("{seen:?}") };
    assert_eq!(seen[1..], [data(own, "early"), (Kind::Ended(Outcome::Success), own, vec![])]);
}

#[test]
fn a_server_that_ends_first_may_still_be_written_to() {
    let mut scene = Scene::new(json!({}));
    let client = scene.connect();
    let own = scene.open(client, 1);
    scene.answer(&frame(CLOSE, own, &[]));
    scene.write(client, &[frame(DATA, 1, b"late"), frame(CLOSE, 1, &[])].concat());
    assert_eq!(scene.server(), [data(own, "late"), (Kind::Ended(Outcome::Success), own, vec![])]);
    assert_eq!(scene.in_flight(), 0);
    assert_eq!(scene.client(client), [(Kind::Ended(Outcome::Success), 1, vec![])]);
    // A client that never says that it is done holds nothing for long.
    let own = scene.open(client, 2);
    scene.answer(&frame(CLOSE, own, &[0x30, 5]));
    assert_eq!(scene.in_flight(), 1);
    scene.world.run_for(ms(11_000));
    assert_eq!((scene.in_flight(), scene.server()), (0, vec![]));
    assert_eq!(scene.client(client), [(Kind::Ended(Outcome::Exception), 2, vec![0x30, 5])]);
    assert_eq!(scene.world.sum(Metric::Responses(Class::Exception)), 1);
}

/// The code and the text of a reset.
pub fn reset(read: &[Read]) -> (u32, u32, String) {
    let [(Kind::Reset(Outcome::Error(code)), id, message)] = read else { panic!("{read:?}") };
    (*code, *id, String::from_utf8_lossy(message).into_owned())
}

#[test]
fn a_lost_server_resets_its_streams_in_the_clients_words() {
    let mut scene = Scene::new(json!({}));
    let client = scene.connect();
    scene.open(client, 3);
    let upstream = scene.upstream();
    scene.world.close_upstream(upstream, false);
    scene.run();
    let (code, id, text) = reset(&scene.client(client));
    assert_eq!((code, id), (141, 3));
    assert!(text.contains("meltemi: "), "{text}");
    // Late frames of it go nowhere.
    scene.write(client, &frame(DATA, 3, b"late"));
    assert_eq!((scene.client(client), scene.in_flight()), (vec![], 0));
}

#[test]
fn resets_end_both_sides() {
    let mut scene = Scene::new(json!({}));
    let client = scene.connect();
    let own = scene.open(client, 1);
    scene.write(client, &frame(CLOSE, 1, &[8, 1, 16, 9]));
    assert_eq!(scene.server(), [(Kind::Reset(Outcome::Error(9)), own, vec![8, 1, 16, 9])]);
    assert_eq!(scene.in_flight(), 0);
    // Its server's last words find nobody.
    scene.answer(&[frame(DATA, own, b"x"), frame(CLOSE, own, &[8, 1])].concat());
    assert_eq!(scene.client(client), []);
    let own = scene.open(client, 2);
    scene.answer(&frame(CLOSE, own, &[8, 1, 16, 12]));
    assert_eq!(scene.client(client), [(Kind::Reset(Outcome::Error(12)), 2, vec![8, 1, 16, 12])]);
    assert_eq!(scene.in_flight(), 0);
}

#[test]
fn a_client_that_leaves_resets_its_streams_at_the_server() {
    let mut scene = Scene::new(json!({}));
    let clients = [scene.connect(), scene.connect()];
    let own = clients.map(|client| scene.open(client, 1));
    scene.world.leave(clients[0]);
    scene.run();
    let (_, id, text) = reset(&scene.server());
    assert!(id == own[0] && text.contains("given up"), "{text}");
    scene.write(clients[1], &frame(DATA, 1, b"x"));
    assert_eq!(scene.server(), [data(own[1], "x")]);
}

#[test]
fn time_counts_until_a_stream_is_open() {
    let mut scene = Scene::new(json!({"defaultRoute": {"timeout": "100ms"}}));
    let client = scene.connect();
    scene.open(client, 1);
    scene.write(client, &opening(2));
    let seen = scene.server();
    let [(Kind::Opened, own, _)] = seen[..] else { panic!("{seen:?}") };
    scene.world.run_for(ms(200));
    let (code, id, _) = reset(&scene.client(client));
    assert_eq!((code, id), (101, 2));
    assert_eq!(reset(&scene.server()).1, own);
    assert_eq!(scene.in_flight(), 1, "the other is open, however long that takes");
}

#[test]
fn a_silent_stream_is_reset_on_both_sides() {
    let mut scene = Scene::new(json!({"streamIdleTimeout": "1s"}));
    let client = scene.connect();
    let own = scene.open(client, 1);
    let other = scene.open(client, 2);
    // Frames of either side keep it.
    for _ in 0..3 {
        scene.world.run_for(ms(700));
        scene.write(client, &frame(DATA, 1, b"x"));
        scene.world.run_for(ms(700));
        scene.answer(&frame(FEEDBACK, own, &[8, 1]));
    }
    let seen = scene.client(client);
    assert_eq!(seen.iter().filter(|(_, id, _)| *id == 1).count(), 3);
    let resets = |read: &[Read]| {
        let resets = read.iter().filter(|(kind, ..)| matches!(kind, Kind::Reset(_)));
        resets.cloned().collect::<Vec<_>>()
    };
    let (code, id, text) = reset(&resets(&seen));
    assert_eq!((code, id), (101, 2));
    assert!(text.contains("streamIdleTimeout"), "{text}");
    assert_eq!(reset(&resets(&scene.server())).1, other);
    scene.world.run_for(ms(1100));
    assert_eq!(reset(&scene.client(client)).1, 1);
    assert_eq!((reset(&scene.server()).1, scene.in_flight()), (own, 0));
    assert_eq!(scene.world.sum(Metric::LocalReplies("timeout")), 2);
}

#[test]
fn streams_hold_a_client_that_is_to_leave_for_ten_minutes() {
    let mut scene = Scene::new(json!({}));
    let client = scene.connect();
    scene.open(client, 1);
    // One that its server never answers, and has no time-out.
    scene.write(client, &opening(2));
    scene.world.set_plan(&json!({"services": {}}));
    for _ in 0..9 {
        scene.world.run_for(Duration::from_secs(60));
        scene.write(client, &frame(DATA, 1, b"x"));
    }
    assert_eq!((scene.client(client), scene.in_flight()), (vec![], 2));
    assert!(scene.world.proxy.clients[client].closed_at.is_none());
    scene.world.run_for(Duration::from_secs(62));
    let seen = scene.client(client);
    let mut ids: Vec<u32> = seen.iter().map(|read| reset(std::slice::from_ref(read)).1).collect();
    ids.sort_unstable();
    assert_eq!((ids, reset(&seen[..1]).0), (vec![1, 2], 141));
    assert_eq!(scene.in_flight(), 0);
    assert!(scene.world.proxy.clients[client].closed_at.is_some());
}

#[test]
fn a_request_has_no_more_time_than_its_client_gives_it() {
    let mut scene = Scene::new(json!({"defaultRoute": {"timeout": "10s"}}));
    let client = scene.connect();
    let mut message = Vec::new();
    write_number(3, 7, &mut message);
    write_number(4, 50, &mut message);
    write_bytes(7, b"/demo.Greeter/Hello", &mut message);
    let mut request = frame(0, 7, &message);
    request[2] = 0;
    request[9] = u8::try_from(message.len()).unwrap();
    scene.write(client, &request);
    assert_eq!(scene.client(client), []);
    scene.world.run_for(ms(40));
    let seen = scene.client(client);
    let [(Kind::Response(Outcome::Error(101)), 7, text)] = &seen[..] else { panic!("{seen:?}") };
    assert!(String::from_utf8_lossy(text).contains("the time that the client gave"));
}

#[test]
fn a_client_full_of_streams_is_read_all_the_same() {
    let mut scene = Scene::new(json!({"limits": {"maxCallsPerConnection": 2}}));
    let client = scene.connect();
    let own = [scene.open(client, 1), scene.open(client, 2)];
    scene.write(client, &opening(3));
    let (code, id, _) = reset(&scene.client(client));
    assert_eq!((code, id, scene.server()), (22, 3, vec![]));
    scene.write(client, &opening(2));
    assert_eq!(reset(&scene.client(client)).1, 2);
    scene.write(client, &frame(DATA, 2, b"x"));
    assert_eq!(scene.server(), [data(own[1], "x")]);
}

#[test]
fn a_server_that_does_not_read_holds_its_streams_up() {
    let mut scene = Scene::new(json!({}));
    let client = scene.connect();
    let own = scene.open(client, 1);
    let upstream = scene.upstream();
    scene.world.set_server_reading(upstream, false);
    let chunk = vec![7; 64 << 10];
    for _ in 0..64 {
        scene.write(client, &frame(DATA, 1, &chunk));
    }
    assert!(scene.world.held() < 3 << 20, "{}", scene.world.held());
    scene.world.set_server_reading(upstream, true);
    scene.world.run_for(ms(500));
    let seen = scene.server();
    assert_eq!(seen.len(), 64);
    assert!(seen.iter().all(|(_, id, bytes)| *id == own && *bytes == chunk));
}

/// A unary frame: a request, or the answer to one.
fn unary(id: u32, message: &[u8], size: usize) -> Vec<u8> {
    let mut head = Vec::new();
    write_number(3, id.into(), &mut head);
    head.extend_from_slice(message);
    let mut bytes = vec![9, 0x30, 0, 0];
    bytes.extend_from_slice(&u32::try_from(16 + head.len() + size).unwrap().to_be_bytes());
    bytes.extend_from_slice(&u16::try_from(head.len()).unwrap().to_be_bytes());
    bytes.extend_from_slice(&id.to_be_bytes());
    bytes.extend_from_slice(&[0, 0]);
    bytes.extend_from_slice(&head);
    bytes.resize(bytes.len() + size, 7);
    bytes
}

#[test]
fn large_messages_beside_a_stream_hold_it_up_no_more_than_they_must() {
    let mut scene = Scene::new(json!({"limits": {"cutThroughBytes": 4096}}));
    let client = scene.connect();
    let other = scene.connect();
    let own = scene.open(client, 1);
    let first = scene.upstream();
    // A request that stops in the middle leaves by a connection without streams.
    let mut func = Vec::new();
    write_bytes(7, b"/demo.Service/Put", &mut func);
    let request = unary(5, &func, 50_000);
    let (front, rest) = request.split_at(20_000);
    scene.write(other, front);
    scene.run();
    let open = scene.world.manager.connections.iter().filter(|(_, upstream)| !upstream.has_ended);
    let [second] = open.map(|(stream, _)| *stream).filter(|stream| *stream != first).collect::<Vec<_>>()[..]
    else {
        panic!("one more connection was expected")
    };
    let received = |scene: &Scene, stream: u32| scene.world.manager.connections[&stream].raw.clone().unwrap();
    assert!(received(&scene, second).len() > 15_000);
    let before = received(&scene, first).len();
    scene.write(client, &frame(DATA, 1, b"beside it"));
    assert_eq!(frames(Peer::Client, &received(&scene, first)[before..]), [data(own, "beside it")]);
    scene.write(other, rest);
    let whole = received(&scene, second);
    assert_eq!((frames(Peer::Client, &whole).len(), whole.ends_with(rest)), (1, true));
    // The client of the stream makes such a call too. The stream's frames wait behind an answer that it has in part.
    scene.write(client, &unary(9, &func, 50_000));
    let whole = received(&scene, second);
    let requests = frames(Peer::Client, &whole);
    let (Kind::Request, id, _) = requests[1] else { panic!("{:?}", requests[1].0) };
    let answer = unary(id, &[], 50_000);
    let (front, rest) = answer.split_at(20_000);
    scene.world.write_upstream(second, front);
    scene.run();
    scene.world.write_upstream(first, &frame(DATA, own, b"later"));
    scene.run();
    let came = scene.world.proxy.clients[client].raw.as_ref().unwrap().len() - scene.read[client + 1];
    assert!((15_000..=20_000).contains(&came), "{came} bytes of the answer came");
    scene.world.write_upstream(second, rest);
    scene.run();
    let seen = scene.client(client);
    assert_eq!((seen[0].0, seen[0].1), (Kind::Response(Outcome::Success), 9));
    assert_eq!(seen[1..], [data(1, "later")]);
}

#[test]
fn a_client_full_of_streams_makes_no_more_calls_by_large_requests() {
    let mut scene = Scene::new(json!({"limits": {"maxCallsPerConnection": 2, "cutThroughBytes": 4096}}));
    let client = scene.connect();
    let own = [scene.open(client, 1), scene.open(client, 2)];
    let mut func = Vec::new();
    write_bytes(7, b"/demo.Service/Put", &mut func);
    for id in 5..8 {
        let request = unary(id, &func, 50_000);
        let (front, rest) = request.split_at(20_000);
        scene.write(client, front);
        scene.write(client, rest);
        let seen = scene.client(client);
        let [(Kind::Response(Outcome::Error(22)), answered, text)] = &seen[..] else { panic!("{seen:?}") };
        assert_eq!(*answered, id);
        assert!(String::from_utf8_lossy(text).contains("too many calls in flight"));
    }
    assert_eq!(scene.in_flight(), 2);
    scene.write(client, &frame(DATA, 2, b"x"));
    assert_eq!(scene.server(), [data(own[1], "x")]);
}
