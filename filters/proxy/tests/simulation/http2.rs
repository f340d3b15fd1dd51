//! One end of an HTTP/2 connection, as far as Envoy's ends of the two connections go: written from RFC 9113 and independent of
//! the socket layer under test, whose every frame it holds to the rules.

mod receiving;

use std::collections::{BTreeMap, VecDeque};

use loona_hpack::Decoder;

use crate::random::Random;

/// Which end this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Opens streams: tcp_proxy.
    Client,
    /// Answers them: the connection manager.
    Server,
}

/// What the other end did to a stream, or to all of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A header list.
    Head { stream: u32, fields: Vec<(String, String)> },
    /// A DATA frame's payload, never empty.
    Data { stream: u32, bytes: Vec<u8> },
    /// END_STREAM.
    End { stream: u32 },
    /// RST_STREAM.
    Reset { stream: u32, code: u32 },
    /// GOAWAY.
    GoAway { last: u32, code: u32 },
}

/// How this end behaves where the protocol leaves a choice.
#[derive(Debug, Clone, Copy)]
pub struct Habits {
    /// Receive window of a stream.
    pub window: u32,
    /// Receive window of the connection.
    pub connection_window: u32,
    /// Whether frames are cut, padded and interleaved at random.
    pub is_erratic: bool,
}

impl Default for Habits {
    fn default() -> Self {
        Self { window: 1 << 20, connection_window: (1 << 31) - 1, is_erratic: false }
    }
}

/// One end of a connection.
pub struct Connection {
    role: Role,
    habits: Habits,
    input: Vec<u8>,
    output: Vec<u8>,
    decoder: Decoder<'static>,
    streams: BTreeMap<u32, Stream>,
    next_stream: u32,
    last_peer_stream: u32,
    awaits_preface: bool,
    send_window: i64,
    receive_window: i64,
    peer_window: i64,
    /// The other end has acknowledged our SETTINGS: until then it may use the window of the specification.
    is_acknowledged: bool,
    block: Option<Block>,
    guards: Guards,
}

#[derive(Debug)]
struct Block {
    stream: u32,
    is_end: bool,
    bytes: Vec<u8>,
}

#[derive(Debug)]
struct Stream {
    to_send: VecDeque<u8>,
    is_finishing: bool,
    has_sent_end: bool,
    has_peer_ended: bool,
    is_reading: bool,
    /// Received and not granted again.
    unread: u32,
    send_window: i64,
    receive_window: i64,
}

/// What Envoy's flood guards count.
#[derive(Debug, Default)]
pub struct Guards {
    /// Streams opened on this connection, by either end.
    pub opened: u32,
    /// RST_STREAM frames received.
    pub resets: u32,
    /// PING frames received that were no acknowledgement.
    pub pings: u64,
    /// Payload of DATA frames, both ways.
    pub bytes_sent: u64,
    pub bytes_received: u64,
    window_updates: u64,
    data_sent: u64,
    empty_data: u32,
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const MAX_FRAME: usize = 16_384;
const DEFAULT_WINDOW: u32 = 65_535;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;

impl Connection {
    pub fn new(role: Role, habits: Habits) -> Self {
        let mut connection = Self {
            role,
            habits,
            input: Vec::new(),
            output: Vec::new(),
            decoder: Decoder::new(),
            streams: BTreeMap::new(),
            next_stream: 1,
            last_peer_stream: 0,
            awaits_preface: role == Role::Server,
            send_window: i64::from(DEFAULT_WINDOW),
            receive_window: i64::from(DEFAULT_WINDOW.max(habits.connection_window)),
            peer_window: i64::from(DEFAULT_WINDOW),
            is_acknowledged: false,
            block: None,
            guards: Guards::default(),
        };
        if role == Role::Client {
            connection.output.extend_from_slice(PREFACE);
        }
        let mut settings = Vec::new();
        // Without push; with so many streams as Envoy's cluster and connection manager are told; the stream window.
        for (id, value) in [(2_u16, 0), (3, u32::MAX >> 1), (4, habits.window)] {
            if id != 2 || role == Role::Client {
                settings.extend_from_slice(&id.to_be_bytes());
                settings.extend_from_slice(&value.to_be_bytes());
            }
        }
        connection.frame(SETTINGS, 0, 0, &settings);
        if let Some(more @ 1..) = habits.connection_window.checked_sub(DEFAULT_WINDOW) {
            connection.frame(WINDOW_UPDATE, 0, 0, &more.to_be_bytes());
        }
        connection
    }

    pub fn guards(&self) -> &Guards {
        &self.guards
    }

    /// Opens a stream with this header list.
    pub fn open(&mut self, fields: &[(&str, &str)]) -> u32 {
        let stream = self.next_stream;
        self.next_stream += 2;
        self.guards.opened += 1;
        self.streams.insert(stream, self.new_stream());
        self.head(stream, fields);
        stream
    }

    /// Answers a stream with this header list.
    pub fn head(&mut self, stream: u32, fields: &[(&str, &str)]) {
        self.headers(stream, fields, 0);
    }

    fn headers(&mut self, stream: u32, fields: &[(&str, &str)], flags: u8) {
        let mut block = Vec::new();
        for (name, value) in fields {
            // Literals without indexing, RFC 7541 section 6.2.2, without Huffman.
            block.push(0);
            put_string(&mut block, name);
            put_string(&mut block, value);
        }
        self.frame(HEADERS, END_HEADERS | flags, stream, &block);
    }

    /// Ends a stream, whose peer has ended, with what is queued and a header list.
    pub fn trailers(&mut self, stream: u32, fields: &[(&str, &str)]) {
        let Some(mut ending) = self.streams.remove(&stream) else { return };
        assert!(ending.has_peer_ended);
        self.send_window -= ending.to_send.len() as i64;
        self.frame(DATA, 0, stream, ending.to_send.make_contiguous());
        self.headers(stream, fields, END_STREAM);
    }

    /// Whether the stream exists and may still be written to.
    pub fn is_writable(&self, stream: u32) -> bool {
        self.streams.get(&stream).is_some_and(|stream| !stream.is_finishing)
    }

    /// Queues bytes; they leave as the windows allow. Nothing if the stream is gone.
    pub fn write(&mut self, stream: u32, bytes: &[u8]) {
        if let Some(stream) = self.streams.get_mut(&stream).filter(|stream| !stream.is_finishing) {
            stream.to_send.extend(bytes);
        }
    }

    /// Bytes queued on a stream.
    pub fn queued(&self, stream: u32) -> usize {
        self.streams.get(&stream).map_or(0, |stream| stream.to_send.len())
    }

    /// END_STREAM after what is queued.
    pub fn end(&mut self, stream: u32) {
        if let Some(stream) = self.streams.get_mut(&stream) {
            stream.is_finishing = true;
        }
    }

    /// END_STREAM at once; what is queued is lost.
    pub fn end_now(&mut self, stream: u32) {
        if let Some(stream) = self.streams.get_mut(&stream) {
            stream.to_send.clear();
            stream.is_finishing = true;
        }
    }

    /// RST_STREAM, after END_STREAM if that is due.
    pub fn reset(&mut self, stream: u32, code: u32) {
        let Some(gone) = self.streams.remove(&stream) else { return };
        if gone.is_finishing && !gone.has_sent_end {
            self.frame(DATA, END_STREAM, stream, &[]);
        }
        self.frame(RST_STREAM, 0, stream, &code.to_be_bytes());
    }

    /// Reads a stream from now on, or not: what comes is taken but not granted again.
    pub fn set_reading(&mut self, stream: u32, is_reading: bool) {
        if let Some(stream) = self.streams.get_mut(&stream) {
            stream.is_reading = is_reading;
        }
        self.grant(stream);
    }

    /// GOAWAY: no streams over `last` will be served.
    pub fn go_away(&mut self, last: u32) {
        let mut payload = last.to_be_bytes().to_vec();
        payload.extend_from_slice(&[0; 4]);
        self.frame(GOAWAY, 0, 0, &payload);
    }

    /// The window of each stream that the other end opens to what is sent.
    pub fn peer_window(&self) -> i64 {
        self.peer_window
    }

    /// The highest stream that the other end opened.
    pub fn last_peer_stream(&self) -> u32 {
        self.last_peer_stream
    }

    /// Bytes that are no HTTP/2, as a broken peer sends them.
    pub fn garbage(&mut self, bytes: &[u8]) {
        self.output.extend_from_slice(bytes);
    }

    /// Takes what is to be sent now.
    pub fn flush(&mut self, random: &mut Random) -> Vec<u8> {
        let mut turn: Vec<u32> = self
            .streams
            .iter()
            .filter(|(_, stream)| !stream.has_sent_end && (stream.is_finishing || !stream.to_send.is_empty()))
            .map(|(id, _)| *id)
            .collect();
        while !turn.is_empty() {
            if self.habits.is_erratic {
                random.shuffle(&mut turn);
            }
            turn.retain(|&id| self.send_one(id, random));
        }
        std::mem::take(&mut self.output)
    }

    /// Sends one DATA frame of a stream. Whether there may be another.
    fn send_one(&mut self, id: u32, random: &mut Random) -> bool {
        let is_erratic = self.habits.is_erratic;
        let Some(stream) = self.streams.get_mut(&id) else { return false };
        let window = usize::try_from(stream.send_window.min(self.send_window)).unwrap_or(0);
        let mut count = stream.to_send.len().min(window).min(MAX_FRAME);
        if count == 0 && !(stream.to_send.is_empty() && stream.is_finishing) {
            return false;
        }
        let mut padding = 0;
        if is_erratic && count > 1 {
            count = random.size(count);
            if random.chance(0.1) && count < window && count < MAX_FRAME {
                padding = random.below(256.min(window - count).min(MAX_FRAME - count)) + 1;
            }
        }
        // An END_STREAM may ride on the last DATA frame or follow it.
        let is_end = stream.is_finishing
            && count == stream.to_send.len()
            && (count == 0 || !is_erratic || random.chance(0.5));
        let mut payload = Vec::with_capacity(count + padding);
        if padding > 0 {
            payload.push((padding - 1) as u8);
        }
        payload.extend(stream.to_send.drain(..count));
        payload.resize(count + padding, 0);
        self.guards.bytes_sent += count as u64;
        stream.send_window -= payload.len() as i64;
        stream.has_sent_end = is_end;
        let is_more = !is_end && (stream.is_finishing || !stream.to_send.is_empty());
        let is_over = is_end && stream.has_peer_ended;
        self.send_window -= payload.len() as i64;
        self.guards.data_sent += 1;
        let flags = if is_end { END_STREAM } else { 0 } | if padding > 0 { PADDED } else { 0 };
        self.frame(DATA, flags, id, &payload);
        if is_over {
            self.streams.remove(&id);
        }
        is_more
    }

    /// Grants again what a stream's reader has taken, in steps of half a window.
    fn grant(&mut self, id: u32) {
        let step = self.habits.window.div_ceil(2);
        let Some(stream) = self.streams.get_mut(&id) else { return };
        if stream.is_reading && stream.unread >= step && !stream.has_peer_ended {
            let count = std::mem::take(&mut stream.unread);
            stream.receive_window += i64::from(count);
            self.frame(WINDOW_UPDATE, 0, id, &count.to_be_bytes());
        }
    }

    /// A stream that is there, or was.
    fn check_known(&self, stream: u32) {
        let is_known = match self.role {
            Role::Client => stream < self.next_stream,
            Role::Server => stream <= self.last_peer_stream,
        };
        assert!(is_known && stream % 2 == 1, "a frame on stream {stream}, which was never opened");
    }

    fn new_stream(&self) -> Stream {
        Stream {
            to_send: VecDeque::new(),
            is_finishing: false,
            has_sent_end: false,
            has_peer_ended: false,
            is_reading: true,
            unread: 0,
            send_window: self.peer_window,
            receive_window: i64::from(match self.is_acknowledged {
                true => self.habits.window,
                false => self.habits.window.max(DEFAULT_WINDOW),
            }),
        }
    }

    fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        self.output.extend_from_slice(&(payload.len() as u32).to_be_bytes()[1..]);
        self.output.extend_from_slice(&[kind, flags]);
        self.output.extend_from_slice(&stream.to_be_bytes());
        self.output.extend_from_slice(payload);
    }
}

/// A string of HPACK, RFC 7541 section 5.2: a length with a prefix of 7 bits, and the bytes.
/// The length of what comes before the first large DATA frame of these; or, if it comes first, its own, and that it does.
pub fn up_to_large_data(frames: &[u8]) -> (usize, bool) {
    let mut at = 0;
    while let Some(&[l0, l1, l2, kind, ..]) = frames.get(at..) {
        let length = 9 + u32::from_be_bytes([0, l0, l1, l2]) as usize;
        if kind == DATA && length >= 4096 {
            return if at == 0 { (length.min(frames.len()), true) } else { (at, false) };
        }
        at = (at + length).min(frames.len());
    }
    (frames.len(), false)
}

fn put_string(out: &mut Vec<u8>, text: &str) {
    let mut rest = text.len();
    if rest < 127 {
        out.push(rest as u8);
    } else {
        out.push(127);
        rest -= 127;
        while rest >= 128 {
            out.push((rest % 128) as u8 | 128);
            rest /= 128;
        }
        out.push(rest as u8);
    }
    out.extend_from_slice(text.as_bytes());
}
