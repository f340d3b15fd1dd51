use std::collections::HashMap;
use std::io::Read;
use std::net::SocketAddr;

use meltemi_codecs::Peer;
use serde::Serialize;

use super::packets::{self, Error};
use super::segment::{Content, Segment, content};
use super::stream::{Part, Stream};

/// The two ends of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub struct Pair {
    /// Who opened it; where that was not captured, whose port has the higher number.
    pub client: SocketAddr,
    /// The other one.
    pub server: SocketAddr,
}

/// What happens on a connection.
#[derive(Debug)]
pub enum Event<'a> {
    /// One side sends bytes.
    Bytes(&'a [u8]),
    /// One side sent so many bytes that were not captured.
    Gap(u64),
}

/// How a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum End {
    /// Both sides have said all.
    Closed,
    /// One side broke it.
    Reset,
    /// The capture ends before it.
    Open,
}

/// What has been seen of what one side sends.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Counts {
    /// Bytes, each counted once.
    pub bytes: u64,
    /// Bytes that came again.
    #[serde(skip_serializing_if = "is_zero")]
    pub retransmitted: u64,
    /// Segments that came before one that they follow.
    #[serde(skip_serializing_if = "is_zero")]
    pub out_of_order: u64,
    /// Bytes that were not captured.
    #[serde(skip_serializing_if = "is_zero")]
    pub missing: u64,
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// Listens to one connection.
pub trait Listener {
    /// One side does something at a time, in nanoseconds since 1970.
    fn hear(&mut self, from: Peer, time: u64, event: Event<'_>);
    /// Nothing more comes. The counts are those of what the client and the server sent.
    fn end(&mut self, end: End, client: Counts, server: Counts);
}

/// What of a capture could not be put together.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Told {
    /// Packets that were cut on their way, and are passed over.
    pub fragments: u64,
    /// Packets of a kind of link that is not known.
    pub unknown_links: u64,
}

/// The TCP connections of a capture.
pub struct Connections<L, M> {
    /// Makes who listens to a connection, of which the start was captured or not.
    listen: M,
    open: HashMap<Pair, Connection<L>>,
    /// In the order in which they were found.
    order: Vec<Pair>,
    told: Told,
}

struct Connection<L> {
    listener: L,
    client: Stream,
    server: Stream,
    /// When the last segment came.
    last: u64,
    has_ended: bool,
}

impl<L: Listener, M: FnMut(Pair, bool) -> L> Connections<L, M> {
    /// Nothing has been captured.
    pub fn new(listen: M) -> Self {
        Self { listen, open: HashMap::new(), order: Vec::new(), told: Told::default() }
    }

    /// Reads a capture, whose first bytes are in `start`, to its end.
    ///
    /// # Errors
    ///
    /// The capture is cut or broken. What came before was heard all the same.
    pub fn read(mut self, start: Vec<u8>, input: &mut impl Read) -> (Told, Result<(), Error>) {
        let outcome = packets::read(start, input, |packet| match content(&packet) {
            Content::Tcp(segment) => self.add(packet.time, &segment),
            Content::Fragment => self.told.fragments += 1,
            Content::UnknownLink => self.told.unknown_links += 1,
            Content::Other => {}
        });
        for pair in &self.order {
            if let Some(mut connection) = self.open.remove(pair) {
                connection.end(End::Open);
            }
        }
        (self.told, outcome)
    }

    fn add(&mut self, time: u64, segment: &Segment<'_>) {
        let one_way = Pair { client: segment.from, server: segment.to };
        let other_way = Pair { client: segment.to, server: segment.from };
        let opens = segment.is_syn && segment.waits_for.is_none();
        let mut pair = match self.open.contains_key(&other_way) {
            true => other_way,
            false => one_way,
        };
        if opens {
            // The addresses are used again.
            for old in [one_way, other_way] {
                if let Some(mut connection) = self.open.remove(&old) {
                    connection.end(End::Open);
                }
            }
            pair = one_way;
        }
        if !self.open.contains_key(&pair) {
            if !segment.is_syn && segment.payload.is_empty() {
                return;
            }
            let is_answer = segment.is_syn && segment.waits_for.is_some();
            if is_answer || !opens && segment.from.port() < segment.to.port() {
                pair = other_way;
            }
            let listener = (self.listen)(pair, segment.is_syn);
            let (client, server) = (Stream::default(), Stream::default());
            self.open.insert(pair, Connection { listener, client, server, last: time, has_ended: false });
            self.order.push(pair);
        }
        if let Some(connection) = self.open.get_mut(&pair) {
            let from = if segment.from == pair.client { Peer::Client } else { Peer::Server };
            connection.add(from, time, segment);
        }
    }
}

impl<L: Listener> Connection<L> {
    fn add(&mut self, from: Peer, time: u64, segment: &Segment<'_>) {
        let (own, other, from_other) = match from {
            Peer::Client => (&mut self.client, &mut self.server, Peer::Server),
            Peer::Server => (&mut self.server, &mut self.client, Peer::Client),
        };
        if self.has_ended {
            return;
        }
        self.last = time;
        if let Some(number) = segment.waits_for {
            other.has_arrived(number, |part| hear(&mut self.listener, from_other, time, &part));
        }
        let mut number = segment.number;
        if segment.is_syn {
            own.open(number);
            number = number.wrapping_add(1);
        }
        own.add(time, number, segment.payload, |part| hear(&mut self.listener, from, time, &part));
        if segment.is_fin {
            own.close(number.wrapping_add(u32::try_from(segment.payload.len()).unwrap_or(0)));
        }
        if segment.is_reset {
            self.end(End::Reset);
        } else if self.client.has_ended() && self.server.has_ended() {
            self.end(End::Closed);
        }
    }

    fn end(&mut self, end: End) {
        if core::mem::replace(&mut self.has_ended, true) {
            return;
        }
        self.client.finish(|part| hear(&mut self.listener, Peer::Client, self.last, &part));
        self.server.finish(|part| hear(&mut self.listener, Peer::Server, self.last, &part));
        self.listener.end(end, self.client.counts, self.server.counts);
    }
}

fn hear(listener: &mut impl Listener, from: Peer, now: u64, part: &Part<'_>) {
    match part {
        Part::Bytes(time, bytes) => listener.hear(from, *time, Event::Bytes(bytes)),
        Part::Gap(missing) => listener.hear(from, now, Event::Gap(*missing)),
    }
}
