//! The connection manager and the servers behind it: CONNECT streams to endpoints that it chooses as Envoy does, and
//! alarms.

mod reply;
mod upstream;

use std::collections::BTreeMap;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use meltemi_sockets::Side;

use crate::clients::call_of;
use crate::http2::{Connection, Habits, Role};
use crate::loggers::Logs;
use crate::posts::Posted;
use crate::random::Random;
use crate::wire::Message;
use crate::world::{Delivery, World};

pub use reply::{Arrival, Reply, What};
pub use upstream::{STRANGE, Upstream};

/// The end of the connection manager with its clusters.
pub struct ConnectionManager {
    pub http2: Connection,
    /// The worker has sent something: there is a connection.
    pub has_begun: bool,
    pub clusters: BTreeMap<String, Cluster>,
    pub endpoints: BTreeMap<String, Endpoint>,
    /// The weights of endpoints, 1 if there is none.
    pub weights: BTreeMap<&'static str, u64>,
    /// Fields that Envoy adds when it has connected to an endpoint.
    pub fields: BTreeMap<String, Vec<(&'static str, &'static str)>>,
    pub connections: BTreeMap<u32, Upstream>,
    /// What servers do with requests.
    pub serve: Box<Serve>,
    /// How long opening a connection takes, in nanoseconds, at least and at most.
    pub connect_time: (u64, u64),
    /// Servers keep what comes and answer nothing by themselves.
    pub is_raw: bool,
    /// What endpoints say first.
    pub greetings: BTreeMap<String, Vec<u8>>,
    /// There is a route for alarms.
    pub has_alarms: bool,
    pub alarms_set: usize,
    /// The fields of the reports that came.
    pub reports: Vec<Vec<(String, String)>>,
    pub alarms_out: usize,
    pub logs: Logs,
    /// Requests by HTTP.
    pub posted: Vec<Posted>,
    /// Connections that were asked for, in their order: cluster, and the endpoint if it was named.
    pub asked: Vec<Asked>,
}

/// How servers answer.
type Serve = dyn FnMut(&Arrival<'_>, &mut Random) -> Reply;

/// A connection that the worker asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    pub cluster: String,
    pub named: Option<String>,
    /// The original destination.
    pub destination: Option<String>,
    /// What a ring is to hash.
    pub hash: Option<String>,
    pub chosen: Option<String>,
}

/// A cluster and how Envoy balances it.
pub struct Cluster {
    pub endpoints: Vec<String>,
    pub policy: Policy,
    next: usize,
    /// What each endpoint has had for its weight.
    had: BTreeMap<String, f64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    RoundRobin,
    Random,
    /// By what is to be hashed, as by a ring; at random where nothing is.
    Ring,
    /// Of two endpoints chosen at random the one with fewer streams.
    LeastRequest,
    /// As often as their weights say, less often the more streams they have.
    Weighted,
    /// As often as their weights say, by chance.
    WeightedRandom,
    /// Always the first.
    First,
    /// One of the first two, at random: those after them are of another priority.
    FirstTwo,
    /// The original destination, whatever the cluster's endpoints.
    OriginalDestination,
}

/// A server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Endpoint {
    Up,
    /// Connections to it are refused.
    Refusing,
    /// Connections to it are not answered.
    Silent,
}

impl ConnectionManager {
    pub fn new(habits: Habits) -> Self {
        Self {
            http2: Connection::new(Role::Server, habits),
            has_begun: false,
            clusters: BTreeMap::new(),
            endpoints: BTreeMap::new(),
            weights: BTreeMap::new(),
            fields: BTreeMap::new(),
            connections: BTreeMap::new(),
            serve: Box::new(|_, _| Reply::echo()),
            connect_time: (200_000, 200_000),
            is_raw: false,
            greetings: BTreeMap::new(),
            has_alarms: true,
            alarms_set: 0,
            reports: Vec::new(),
            logs: Logs::default(),
            alarms_out: 0,
            posted: Vec::new(),
            asked: Vec::new(),
        }
    }

    /// Streams of open connections to an endpoint.
    pub fn streams_to(&self, endpoint: &str) -> Vec<u32> {
        let open =
            self.connections.iter().filter(|(_, upstream)| upstream.is_open && upstream.endpoint == endpoint);
        open.map(|(stream, _)| *stream).collect()
    }

    /// Open connections.
    pub fn open(&self) -> usize {
        self.connections.values().filter(|upstream| upstream.is_open).count()
    }

    fn choose(
        &mut self,
        cluster: &str,
        named: Option<&str>,
        destination: Option<&str>,
        hash: Option<&str>,
        random: &mut Random,
    ) -> Option<String> {
        let load = |endpoint: &String| {
            self.connections
                .values()
                .filter(|upstream| upstream.is_open && upstream.endpoint == *endpoint)
                .count()
        };
        let weight = |endpoint: &str| self.weights.get(endpoint).copied().unwrap_or(1);
        let cluster = self.clusters.get_mut(cluster)?;
        if cluster.policy == Policy::OriginalDestination {
            return destination.map(str::to_owned);
        }
        if let Some(named) = named {
            return cluster.endpoints.iter().find(|endpoint| *endpoint == named).cloned();
        }
        if cluster.endpoints.is_empty() {
            return None;
        }
        let chosen = match cluster.policy {
            Policy::RoundRobin => {
                cluster.next += 1;
                &cluster.endpoints[cluster.next % cluster.endpoints.len()]
            }
            Policy::First | Policy::OriginalDestination => &cluster.endpoints[0],
            Policy::Ring if let Some(key) = hash => cluster
                .endpoints
                .iter()
                .max_by_key(|endpoint| {
                    BuildHasherDefault::<DefaultHasher>::default().hash_one((endpoint, key))
                })
                .expect("an endpoint"),
            Policy::FirstTwo => random.pick(&cluster.endpoints[..2]),
            Policy::Random | Policy::Ring => random.pick(&cluster.endpoints),
            Policy::Weighted => {
                // Envoy's scheduler, where a weight is divided by the streams and one.
                let had = |endpoint: &String| cluster.had.get(endpoint).copied().unwrap_or_default();
                let price = |endpoint: &String| (load(endpoint) + 1) as f64 / weight(endpoint) as f64;
                let next = |endpoint: &&String| had(endpoint) + price(endpoint);
                let chosen = cluster.endpoints.iter().min_by(|a, b| next(a).total_cmp(&next(b)));
                let chosen = chosen.expect("an endpoint");
                let due = next(&chosen);
                cluster.had.insert(chosen.clone(), due);
                chosen
            }
            Policy::WeightedRandom => {
                let all: u64 = cluster.endpoints.iter().map(|endpoint| weight(endpoint)).sum();
                let mut left = random.between(0..all);
                let is_meant = |endpoint: &&String| {
                    let is_it = left < weight(endpoint);
                    left = left.saturating_sub(weight(endpoint));
                    is_it
                };
                cluster.endpoints.iter().find(is_meant).expect("an endpoint")
            }
            Policy::LeastRequest => {
                let (a, b) = (random.pick(&cluster.endpoints), random.pick(&cluster.endpoints));
                if load(b) < load(a) { b } else { a }
            }
        };
        Some(chosen.clone())
    }
}

impl World {
    /// Makes a cluster of endpoints that are up.
    pub fn cluster(&mut self, name: &str, endpoints: &[&str], policy: Policy) {
        for endpoint in endpoints {
            self.manager.endpoints.insert((*endpoint).to_owned(), Endpoint::Up);
        }
        let endpoints = endpoints.iter().map(|endpoint| (*endpoint).to_owned()).collect();
        self.manager
            .clusters
            .insert(name.to_owned(), Cluster { endpoints, policy, next: 0, had: BTreeMap::new() });
    }

    /// Says what servers do with requests.
    pub fn serve(&mut self, serve: impl FnMut(&Arrival<'_>, &mut Random) -> Reply + 'static) {
        self.manager.serve = Box::new(serve);
    }

    /// Changes what an endpoint does with new connections.
    pub fn set_endpoint(&mut self, endpoint: &str, state: Endpoint) {
        self.tell(|| format!("{endpoint} is {state:?}"));
        self.manager.endpoints.insert(endpoint.to_owned(), state);
    }

    /// An endpoint dies: its connections close, new ones are refused.
    pub fn kill(&mut self, endpoint: &str) {
        self.set_endpoint(endpoint, Endpoint::Refusing);
        for stream in self.manager.streams_to(endpoint) {
            self.close_upstream(stream, true);
        }
    }

    /// A server closes a connection, or resets it. What it had still to send is lost.
    pub fn close_upstream(&mut self, stream: u32, is_clean: bool) {
        if self.manager.connections.remove(&stream).is_none() {
            return;
        }
        self.tell(|| format!("connection {stream} is closed by the server, cleanly: {is_clean}"));
        if is_clean {
            self.manager.http2.end_now(stream);
            // Envoy: the answer is complete before the request is.
            self.manager.http2.reset(stream, 0);
        } else {
            self.manager.http2.reset(stream, 2);
        }
        self.flush(Side::Upstream);
    }

    /// Writes bytes to a connection from the server's end.
    pub fn write_upstream(&mut self, stream: u32, bytes: &[u8]) {
        match self.manager.connections.get_mut(&stream).and_then(|upstream| upstream.halted.as_mut()) {
            Some(behind) => behind.extend_from_slice(bytes),
            None => self.manager.http2.write(stream, bytes),
        }
        self.flush(Side::Upstream);
    }

    /// A server reads a connection from now on, or does not.
    pub fn set_server_reading(&mut self, stream: u32, is_reading: bool) {
        self.tell(|| format!("connection {stream} is read: {is_reading}"));
        self.manager.http2.set_reading(stream, is_reading);
        self.flush(Side::Upstream);
    }

    /// The connection manager is about to drain: a GOAWAY that refuses nothing yet.
    pub fn give_notice(&mut self) {
        self.tell(|| "the connection manager gives notice".to_owned());
        self.manager.http2.go_away(u32::MAX >> 1);
        self.flush(Side::Upstream);
    }

    /// The connection manager drains: GOAWAY, and what comes later is not served.
    pub fn go_away(&mut self) {
        let last = self.manager.http2.last_peer_stream();
        self.tell(|| format!("the connection manager goes away after stream {last}"));
        self.manager.http2.go_away(last);
        self.flush(Side::Upstream);
    }

    /// All connections over stream `last` are lost by one frame: a GOAWAY that refuses them.
    pub fn lose_streams_after(&mut self, last: u32) {
        self.tell(|| format!("the connection manager loses all streams after {last}"));
        self.manager.connections.retain(|stream, _| *stream <= last);
        self.manager.http2.go_away(last);
        self.flush(Side::Upstream);
    }

    pub fn manager_head(&mut self, stream: u32, fields: &[(String, String)]) {
        let field =
            |name: &str| fields.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
        match (field(":method"), field(":path")) {
            (Some("GET"), Some("/alarm")) => {
                let delay = field("x-envoy-fault-delay-request").expect("a delay").parse().expect("a number");
                self.set_alarm(stream, Duration::from_millis(delay));
            }
            (Some("GET"), Some("/report")) => {
                self.manager.reports.push(fields.to_vec());
                self.manager.http2.head(stream, &[(":status", "204")]);
                self.manager.http2.end(stream);
            }
            (Some("POST"), Some(_)) if field("x-meltemi-log").is_some() => self.log(stream, fields),
            (Some("POST"), Some("/lines")) => self.log(stream, fields),
            (Some("POST"), Some(_)) => self.manager.posted.push(Posted::new(stream, fields)),
            (Some("CONNECT"), None) => {
                assert_eq!(field(":authority"), Some("meltemi"));
                let cluster = field("x-meltemi-cluster").expect("a cluster").to_owned();
                let named = field("x-meltemi-session").map(|session| {
                    String::from_utf8(STANDARD.decode(session).expect("base64")).expect("an endpoint")
                });
                let destination = field("x-envoy-original-dst-host").map(str::to_owned);
                let hash = field("x-meltemi-hash").map(str::to_owned);
                self.open_upstream(stream, Asked { cluster, named, destination, hash, chosen: None });
            }
            _ => panic!("the connection manager has no route for {fields:?}"),
        }
    }

    fn set_alarm(&mut self, stream: u32, delay: Duration) {
        self.tell(|| format!("alarm {stream} is set to {delay:?}"));
        self.manager.alarms_set += 1;
        if !self.manager.has_alarms {
            self.manager.http2.head(stream, &[(":status", "404")]);
            self.manager.http2.end(stream);
            return;
        }
        self.manager.alarms_out += 1;
        self.after(delay, move |world| {
            world.manager.alarms_out -= 1;
            world.manager.http2.head(stream, &[(":status", "200")]);
            world.manager.http2.end(stream);
            world.flush(Side::Upstream);
        });
    }

    fn open_upstream(&mut self, stream: u32, asked: Asked) {
        let Asked { cluster, named, destination, hash, .. } = &asked;
        let [named, addressed, hash] = [named, destination, hash].map(Option::as_deref);
        let chosen = self.manager.choose(cluster, named, addressed, hash, &mut self.random);
        self.tell(|| format!("connection {stream} to {cluster} ({named:?}, {hash:?}): {chosen:?}"));
        self.manager.asked.push(Asked { chosen: chosen.clone(), ..asked });
        let Some(endpoint) = chosen else {
            self.refuse(stream, None, "no healthy upstream");
            return;
        };
        self.manager
            .connections
            .insert(stream, Upstream::new(endpoint, self.wire.clone(), self.manager.is_raw));
        let (least, most) = self.manager.connect_time;
        let delay = Duration::from_nanos(self.random.between(least..most));
        self.after(delay, move |world| world.upstream_connected(stream));
    }

    fn upstream_connected(&mut self, stream: u32) {
        let Some(upstream) = self.manager.connections.get_mut(&stream) else { return };
        let endpoint = upstream.endpoint.clone();
        match self.manager.endpoints[&endpoint] {
            Endpoint::Silent => {}
            Endpoint::Refusing => {
                self.manager.connections.remove(&stream);
                self.refuse(stream, Some(&endpoint), "upstream connect error: connection refused");
                self.flush(Side::Upstream);
            }
            Endpoint::Up => {
                upstream.is_open = true;
                let session = STANDARD.encode(&endpoint);
                let mut fields =
                    vec![(":status", "200"), ("x-meltemi-session", &session), ("x-meltemi-host", &endpoint)];
                fields.extend(self.manager.fields.get(&endpoint).into_iter().flatten());
                self.manager.http2.head(stream, &fields);
                if let Some(greeting) = self.manager.greetings.get(&endpoint) {
                    self.manager.http2.write(stream, greeting);
                }
                if self.manager.connections[&stream].has_ended {
                    self.manager.connections.remove(&stream);
                    self.manager.http2.end(stream);
                }
                self.flush(Side::Upstream);
            }
        }
    }

    fn refuse(&mut self, stream: u32, endpoint: Option<&str>, body: &str) {
        self.tell(|| format!("connection {stream} is refused"));
        let session = endpoint.map(|endpoint| STANDARD.encode(endpoint));
        let mut fields = vec![(":status", "503"), ("content-type", "text/plain")];
        fields.extend(session.as_deref().map(|session| ("x-meltemi-session", session)));
        self.manager.http2.head(stream, &fields);
        self.manager.http2.write(stream, body.as_bytes());
        self.manager.http2.end(stream);
    }

    pub fn upstream_data(&mut self, stream: u32, bytes: &[u8]) {
        if let Some(posted) = self.manager.posted.iter_mut().find(|posted| posted.stream == stream) {
            posted.body.extend_from_slice(bytes);
            return;
        }
        let Some(upstream) = self.manager.connections.get_mut(&stream) else { return };
        assert!(upstream.is_open, "DATA before the head on stream {stream}");
        upstream.received += bytes.len();
        if let Some(raw) = &mut upstream.raw {
            raw.extend_from_slice(bytes);
            return;
        }
        if upstream.received == bytes.len() {
            upstream.tell_apart(bytes);
        }
        if upstream.is_stranger {
            self.write_upstream(stream, bytes);
            return;
        }
        if self.limiter.endpoints.contains(&upstream.endpoint) {
            let endpoint = upstream.endpoint.clone();
            self.limiter_data(stream, &endpoint, bytes);
            return;
        }
        upstream.inbox.extend_from_slice(bytes);
        let (mut inbox, wire) = (std::mem::take(&mut upstream.inbox), upstream.wire.clone());
        let mut used = 0;
        while let Some((len, message)) = wire.take(&inbox[used..]) {
            used += len;
            match message {
                Message::Request(request) => self.arrived(stream, request),
                Message::HeartbeatAnswer { .. } => {
                    if let Some(upstream) = self.manager.connections.get_mut(&stream) {
                        upstream.heartbeats_answered += 1;
                    }
                }
                other => panic!("a server was sent {other:?}"),
            }
        }
        inbox.drain(..used);
        if let Some(upstream) = self.manager.connections.get_mut(&stream) {
            upstream.inbox = inbox;
        }
    }

    fn arrived(&mut self, stream: u32, request: crate::wire::Request) {
        let Some(upstream) = self.manager.connections.get_mut(&stream) else { return };
        let call = call_of(&self.calls, &request.payload);
        let endpoint = upstream.endpoint.clone();
        let record = &mut self.calls[call];
        assert_eq!(record.ask.method, request.method);
        assert_eq!(record.ask.is_one_way, !request.is_two_way);
        let (at, attachments) = (self.now, request.attachments);
        record.deliveries.push(Delivery { at, endpoint: endpoint.clone(), attachments });
        let times = record.deliveries.len();
        if request.is_two_way {
            upstream.in_flight += 1;
        }
        let arrival = Arrival { endpoint: &endpoint, method: &request.method, times, at };
        let Reply { mut after, what } = (self.manager.serve)(&arrival, &mut self.random);
        if upstream.wire.is_in_order() && request.is_two_way {
            let Some(until) = upstream.answers_until else { return };
            after = after.max(Duration::from_nanos(until.saturating_sub(self.now)));
            let until = self.now + after.as_nanos() as u64;
            upstream.answers_until = Some(until).filter(|_| !matches!(what, What::Nothing));
        }
        self.tell(|| {
            format!("{endpoint} is sent {call} on connection {stream}, will {what:?} after {after:?}")
        });
        let (id, payload) = (request.id, request.payload);
        if request.is_two_way || matches!(what, What::Close | What::Reset) {
            self.after(after, move |world| world.reply(stream, id, payload, what));
        }
    }

    /// The worker closes a connection: the server does so in turn.
    pub fn upstream_ended(&mut self, stream: u32) {
        let Some(upstream) = self.manager.connections.get_mut(&stream) else { return };
        upstream.has_ended = true;
        let is_open = upstream.is_open && upstream.raw.is_none();
        self.tell(|| format!("connection {stream} is closed by the worker"));
        if is_open {
            self.manager.connections.remove(&stream);
            self.manager.http2.end(stream);
        }
    }

    pub fn upstream_reset(&mut self, stream: u32) {
        self.tell(|| format!("connection {stream} is reset by the worker"));
        self.manager.connections.remove(&stream);
    }
}
