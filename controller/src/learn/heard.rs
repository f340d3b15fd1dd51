use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::SocketAddr;

use meltemi_codecs::Peer;

use crate::capture::{Counts, End, Event, Listener, Pair};

/// The most bytes that are kept of one side of a connection.
pub const MOST_OF_A_SIDE: usize = 1 << 20;
/// The most bytes that are kept of a capture.
pub const MOST_BYTES: usize = 64 << 20;
/// The most connections that are kept.
pub const MOST_CONNECTIONS: usize = 4096;

/// What one side of a connection sent.
#[derive(Debug, Default)]
pub struct Side {
    /// From the first frame on, as far as it is kept.
    pub bytes: Vec<u8>,
    /// Where the side starts to speak after the other did, and the how manieth turn of the connection that is.
    pub turns: Vec<(usize, usize)>,
    /// It ends as the side ended it.
    pub is_whole: bool,
    /// Something is missing: what follows is not kept.
    is_cut: bool,
}

/// What both sides of a connection sent.
#[derive(Debug, Default)]
pub struct Talk {
    /// Who opened it.
    pub client: Side,
    /// The other one.
    pub server: Side,
}

impl Side {
    /// How many bytes it said each time, as far as they are kept.
    pub fn turn_lengths(&self) -> impl Iterator<Item = usize> {
        let starts = self.turns.iter().map(|(start, _)| *start);
        let ends = starts.clone().skip(1).chain([self.bytes.len()]);
        starts.zip(ends).map(|(start, end)| end - start)
    }
}

impl Talk {
    /// How many bytes are kept.
    pub fn len(&self) -> usize {
        self.client.bytes.len() + self.server.bytes.len()
    }

    /// Whether both sides have been heard.
    pub fn is_two_way(&self) -> bool {
        !self.client.bytes.is_empty() && !self.server.bytes.is_empty()
    }
}

/// What connections sent, whether it is kept or not.
#[derive(Debug, Default, Clone, Copy)]
pub struct Said {
    /// How many connections.
    pub connections: usize,
    /// How many bytes.
    pub bytes: u64,
}

/// The connections of a capture, by their servers.
#[derive(Debug, Default)]
pub struct Heard {
    /// Those that are kept, in the order in which they ended.
    pub servers: BTreeMap<SocketAddr, Vec<Talk>>,
    /// All that they sent.
    pub said: BTreeMap<SocketAddr, Said>,
    bytes: usize,
    connections: usize,
}

/// Keeps what is sent on one connection.
pub struct Ear<'a> {
    heard: &'a RefCell<Heard>,
    pair: Pair,
    talk: Talk,
    has_start: bool,
    speaker: Option<Peer>,
    turn: usize,
    said: u64,
}

impl<'a> Ear<'a> {
    /// Listens to a connection, of which the start was captured or not.
    pub fn new(heard: &'a RefCell<Heard>, pair: Pair, has_start: bool) -> Self {
        Self { heard, pair, talk: Talk::default(), has_start, speaker: None, turn: 0, said: 0 }
    }
}

impl Listener for Ear<'_> {
    fn hear(&mut self, from: Peer, _: u64, event: Event<'_>) {
        // Without the start, what a server says first may be the end of an answer.
        if !self.has_start && self.speaker.is_none() && from == Peer::Server {
            return;
        }
        if self.speaker != Some(from) {
            self.speaker = Some(from);
            self.turn += 1;
        }
        let (turn, mut heard) = (self.turn, self.heard.borrow_mut());
        let side = match from {
            Peer::Client => &mut self.talk.client,
            Peer::Server => &mut self.talk.server,
        };
        let Event::Bytes(bytes) = event else {
            side.is_cut = true;
            return;
        };
        self.said += bytes.len() as u64;
        if side.is_cut {
            return;
        }
        let room =
            MOST_OF_A_SIDE.saturating_sub(side.bytes.len()).min(MOST_BYTES.saturating_sub(heard.bytes));
        let kept = bytes.get(..room).unwrap_or(bytes);
        side.is_cut = kept.len() < bytes.len();
        if side.turns.last().is_none_or(|(_, last)| *last != turn) && !kept.is_empty() {
            side.turns.push((side.bytes.len(), turn));
        }
        side.bytes.extend_from_slice(kept);
        heard.bytes += kept.len();
    }

    fn end(&mut self, end: End, _: Counts, _: Counts) {
        let mut talk = core::mem::take(&mut self.talk);
        for side in [&mut talk.client, &mut talk.server] {
            side.is_whole = end == End::Closed && !side.is_cut;
        }
        let mut heard = self.heard.borrow_mut();
        if self.said > 0 {
            let said = heard.said.entry(self.pair.server).or_default();
            said.connections += 1;
            said.bytes += self.said;
        }
        if talk.len() > 0 && heard.connections < MOST_CONNECTIONS {
            heard.connections += 1;
            heard.servers.entry(self.pair.server).or_default().push(talk);
        } else {
            heard.bytes -= talk.len();
        }
    }
}
