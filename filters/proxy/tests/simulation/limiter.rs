//! A rate limit service behind the connection manager, or a collector of spans: gRPC over the HTTP/2 of the simulation, in a connection to an endpoint.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use meltemi_codecs::protobuf::{self, Fields};

use crate::collector::{self, Span};
use crate::http2::{Connection, Event, Habits, Role};
use crate::random::Random;
use crate::world::World;

/// The service: its endpoints, and what it says.
pub struct Limiter {
    /// Endpoints that are its own.
    pub endpoints: BTreeSet<String>,
    pub asked: Vec<Question>,
    /// Questions that were cancelled.
    pub cancelled: usize,
    judge: Box<Judge>,
    connections: BTreeMap<u32, Service>,
}

const PATH: &str = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit";

/// A PING frame of HTTP/2.
const PING: [u8; 17] = [0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];

type Judge = dyn FnMut(&Question, &mut Random) -> (Duration, Say);

struct Service {
    http2: Connection,
    /// Requests that are not complete: their fields and bodies.
    requests: BTreeMap<u32, (Names, Vec<u8>)>,
}

/// The fields of a head.
type Names = Vec<(String, String)>;

/// A question as it came.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Question {
    pub endpoint: String,
    pub at: u64,
    pub fields: Vec<(String, String)>,
    pub domain: String,
    /// Each descriptor's entries.
    pub descriptors: Vec<Vec<(String, String)>>,
    pub hits: u64,
    /// What a collector is given.
    pub spans: Vec<Span>,
}

/// What the service says.
#[derive(Debug, Clone)]
pub enum Say {
    Ok,
    /// Over the limit for so many seconds.
    Over(u64),
    /// Nothing, ever.
    Nothing,
    /// This body, prefix included, with a status of success.
    Body(Vec<u8>),
    /// An error of gRPC, without a body.
    Status(u32),
    /// An answer of HTTP.
    Http(u16),
    /// A reset of the question's stream.
    ResetStream,
    /// The end of the connection, cleanly or not.
    Close(bool),
    /// It goes away: nothing after this question is served.
    GoAway,
    /// It goes away: this question is the last that it serves, and it takes its time.
    Leave,
    /// Bytes that are no HTTP/2.
    Garbage,
}

impl Default for Limiter {
    fn default() -> Self {
        Self {
            endpoints: BTreeSet::new(),
            asked: Vec::new(),
            cancelled: 0,
            judge: Box::new(|_, _| (Duration::from_millis(1), Say::Ok)),
            connections: BTreeMap::new(),
        }
    }
}

/// An answer with a code, and a status for each descriptor that is over its limit for so many seconds.
pub fn body(code: u64, resets: &[u64]) -> Vec<u8> {
    let mut message = Vec::new();
    protobuf::write_number(1, code, &mut message);
    for reset in resets {
        let start = message.len();
        protobuf::write_number(1, 2, &mut message);
        let inner = message.len();
        protobuf::write_number(1, *reset, &mut message);
        protobuf::enclose(4, inner, &mut message);
        protobuf::enclose(2, start, &mut message);
    }
    framed(&message)
}

pub fn framed(message: &[u8]) -> Vec<u8> {
    [&[0][..], &(message.len() as u32).to_be_bytes(), message].concat()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text")
}

fn question(body: &[u8]) -> Question {
    let (prefix, message) = body.split_at(5);
    assert_eq!(prefix[0], 0, "not compressed");
    assert_eq!(prefix[1..], (message.len() as u32).to_be_bytes());
    let mut question = Question { hits: 1, ..Question::default() };
    for field in Fields::new(message).map(Result::unwrap) {
        match field.number {
            1 => question.domain = text(field.value.bytes().unwrap()),
            2 => {
                let entry = |(key, value): (&str, &[u8])| (key.to_owned(), text(value));
                let entries = field.fields().unwrap().map(|one| entry(one.unwrap().entry().unwrap()));
                question.descriptors.push(entries.collect());
            }
            3 => question.hits = field.value.varint().unwrap(),
            other => panic!("field {other}"),
        }
    }
    question
}

impl World {
    /// Makes a cluster of endpoints of the rate limit service.
    pub fn limiter_cluster(&mut self, name: &str, endpoints: &[&str]) {
        self.cluster(name, endpoints, crate::servers::Policy::RoundRobin);
        self.limiter.endpoints.extend(endpoints.iter().map(|endpoint| (*endpoint).to_owned()));
    }

    /// Says what the rate limit service says, and after what time.
    pub fn judge(&mut self, judge: impl FnMut(&Question, &mut Random) -> (Duration, Say) + 'static) {
        self.limiter.judge = Box::new(judge);
    }

    /// Bytes for the rate limit service.
    pub fn limiter_data(&mut self, stream: u32, endpoint: &str, bytes: &[u8]) {
        let new =
            || Service { http2: Connection::new(Role::Server, Habits::default()), requests: BTreeMap::new() };
        let service = self.limiter.connections.entry(stream).or_insert_with(new);
        let mut whole = Vec::new();
        for event in service.http2.receive(bytes) {
            match event {
                Event::Head { stream, fields } => {
                    let of =
                        |name: &str| fields.iter().find(|(key, _)| key == name).map(|(_, value)| &**value);
                    assert_eq!(of(":method"), Some("POST"));
                    assert!([Some(PATH), Some(collector::PATH)].contains(&of(":path")), "{fields:?}");
                    assert_eq!((of("te"), of("content-type")), (Some("trailers"), Some("application/grpc")));
                    service.requests.insert(stream, (fields, Vec::new()));
                }
                Event::Data { stream, bytes } => {
                    service.requests.get_mut(&stream).expect("a head").1.extend_from_slice(&bytes);
                }
                Event::End { stream } => {
                    let (fields, body) = service.requests.remove(&stream).expect("a head");
                    let is_spans = fields.contains(&(":path".to_owned(), collector::PATH.to_owned()));
                    let asked = if is_spans { collector::export(&body) } else { question(&body) };
                    whole.push((stream, fields, asked));
                }
                Event::Reset { .. } => self.limiter.cancelled += 1,
                Event::GoAway { .. } => {}
            }
        }
        for (inner, fields, asked) in whole {
            let asked = Question { endpoint: endpoint.to_owned(), at: self.now, fields, ..asked };
            self.limiter.asked.push(asked.clone());
            let (after, say) = (self.limiter.judge)(&asked, &mut self.random);
            self.tell(|| format!("{endpoint} is asked {asked:?}, will {say:?} after {after:?}"));
            self.after(after, move |world| world.limiter_says(stream, inner, say));
        }
        self.limiter_flush(stream);
    }

    fn limiter_says(&mut self, stream: u32, inner: u32, say: Say) {
        let is_there = self.manager.connections.contains_key(&stream);
        let Some(service) = self.limiter.connections.get_mut(&stream).filter(|_| is_there) else { return };
        let http2 = &mut service.http2;
        let is_open = http2.is_writable(inner);
        let mut answer = |status: &str, body: &[u8], more: &[(&str, &str)]| {
            let head = [(":status", status), ("content-type", "application/grpc")];
            if is_open && body.is_empty() {
                http2.head(inner, &[&head[..], more].concat());
                http2.end(inner);
            } else if is_open {
                http2.head(inner, &head);
                http2.write(inner, body);
                http2.trailers(inner, more);
            }
        };
        let ok = [("grpc-status", "0"), ("grpc-message", "")];
        match say {
            Say::Ok => answer("200", &body(1, &[]), &ok),
            Say::Over(reset) => answer("200", &body(2, &[reset]), &ok),
            Say::Body(body) => answer("200", &body, &ok),
            Say::Status(status) => answer("200", &[], &[("grpc-status", &status.to_string())]),
            Say::Http(status) => answer(&status.to_string(), &[], &[]),
            Say::Nothing => {}
            Say::ResetStream if is_open => http2.reset(inner, 7),
            Say::ResetStream => {}
            Say::GoAway => http2.go_away(inner.saturating_sub(2)),
            Say::Leave => http2.go_away(inner),
            Say::Garbage => http2.garbage(&[0xff; 64]),
            Say::Close(is_clean) => return self.close_upstream(stream, is_clean),
        }
        self.limiter_flush(stream);
    }

    /// The rate limit service sends pings on a connection.
    pub fn limiter_pings(&mut self, stream: u32, count: usize) {
        self.write_upstream(stream, &PING.repeat(count));
    }

    /// How many pings it got.
    pub fn limiter_pinged(&self) -> u64 {
        self.limiter.connections.values().map(|service| service.http2.guards().pings).sum()
    }

    fn limiter_flush(&mut self, stream: u32) {
        let Some(service) = self.limiter.connections.get_mut(&stream) else { return };
        let bytes = service.http2.flush(&mut self.random);
        if !bytes.is_empty() {
            self.write_upstream(stream, &bytes);
        }
    }
}
