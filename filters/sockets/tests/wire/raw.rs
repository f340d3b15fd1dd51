//! Frames by hand, and sockets that are told them.

use meltemi_sockets::{Code, Error, Event, Options, Side, SocketId, Sockets, Target};

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PUSH_PROMISE: u8 = 5;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 1;
pub const ACK: u8 = 1;
pub const END_HEADERS: u8 = 4;
pub const PADDED: u8 = 8;
pub const WITH_PRIORITY: u8 = 0x20;

pub fn frame(kind: u8, flags: u8, stream: u32, payload: impl AsRef<[u8]>) -> Vec<u8> {
    let payload = payload.as_ref();
    let mut out = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    out.extend([kind, flags]);
    out.extend(stream.to_be_bytes());
    out.extend(payload);
    out
}

pub fn settings(entries: &[(u16, u32)]) -> Vec<u8> {
    let payload: Vec<u8> = entries
        .iter()
        .flat_map(|(name, value)| [&name.to_be_bytes()[..], &value.to_be_bytes()].concat())
        .collect();
    frame(SETTINGS, 0, 0, payload)
}

pub fn number(kind: u8, stream: u32, number: u32) -> Vec<u8> {
    frame(kind, 0, stream, number.to_be_bytes())
}

/// A header block without compression.
pub fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in fields {
        out.push(0);
        for text in [name, value] {
            assert!(text.len() < 127);
            out.push(text.len() as u8);
            out.extend(text.as_bytes());
        }
    }
    out
}

pub const CONNECT: &[(&str, &str)] =
    &[(":method", "CONNECT"), (":authority", "demo"), ("x-meltemi-cluster", "v1")];
pub const OK: &[(&str, &str)] = &[(":status", "200")];

pub fn headers(flags: u8, stream: u32, fields: &[(&str, &str)]) -> Vec<u8> {
    frame(HEADERS, flags | END_HEADERS, stream, block(fields))
}

/// A frame that was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    pub fn number(&self) -> u32 {
        u32::from_be_bytes(self.payload[..4].try_into().unwrap())
    }
}

pub fn parse(mut bytes: &[u8]) -> Vec<Frame> {
    let mut frames = Vec::new();
    if let Some(rest) = bytes.strip_prefix(PREFACE) {
        bytes = rest;
    }
    while let [l0, l1, l2, kind, flags, s0, s1, s2, s3, rest @ ..] = bytes {
        let (payload, tail) = rest.split_at(u32::from_be_bytes([0, *l0, *l1, *l2]) as usize);
        let stream = u32::from_be_bytes([*s0, *s1, *s2, *s3]);
        frames.push(Frame { kind: *kind, flags: *flags, stream, payload: payload.to_vec() });
        bytes = tail;
    }
    assert!(bytes.is_empty());
    frames
}

/// Sockets whose peers have said hello.
pub struct Raw {
    pub sockets: Sockets,
}

impl Raw {
    pub fn new(options: Options) -> Self {
        let mut raw = Self { sockets: Sockets::new(options) };
        raw.ok(Side::Downstream, &[PREFACE, &settings(&[])].concat());
        raw.ok(Side::Upstream, &settings(&[]));
        raw.answer_pings();
        raw.ok(Side::Downstream, &frame(SETTINGS, ACK, 0, ""));
        raw.ok(Side::Upstream, &frame(SETTINGS, ACK, 0, ""));
        raw.answer_pings();
        raw
    }

    /// What an input leads to; DATA as (socket, bytes).
    pub fn feed<'a>(&mut self, side: Side, mut input: &'a [u8]) -> Result<Vec<Event<'a>>, Error> {
        let mut events = Vec::new();
        while let Some(event) = self.sockets.receive(side, &mut input)? {
            events.push(event);
        }
        assert!(input.is_empty());
        Ok(events)
    }

    pub fn ok<'a>(&mut self, side: Side, input: &'a [u8]) -> Vec<Event<'a>> {
        self.feed(side, input).unwrap()
    }

    /// The frames that leave for a side.
    pub fn sent(&mut self, side: Side) -> Vec<Frame> {
        let mut out = Vec::new();
        self.sockets.transmit(side, &mut out);
        parse(&out)
    }

    /// The same without PINGs, which are answered on the spot.
    pub fn sent_but_pings(&mut self, side: Side) -> Vec<Frame> {
        let mut frames = self.sent(side);
        let pings: Vec<Frame> =
            frames.extract_if(.., |frame| frame.kind == PING && frame.flags == 0).collect();
        for ping in pings {
            self.ok(side, &frame(PING, ACK, 0, ping.payload));
        }
        frames
    }

    /// Exchanges what there is until nobody has anything to say.
    pub fn answer_pings(&mut self) {
        for _ in 0..4 {
            self.sent_but_pings(Side::Downstream);
            self.sent_but_pings(Side::Upstream);
        }
    }

    /// A client connection on a stream, accepted.
    pub fn accepted(&mut self, stream: u32) -> SocketId {
        let id = self.arrived(stream);
        self.sockets.accept(id);
        self.answer_pings();
        id
    }

    pub fn arrived(&mut self, stream: u32) -> SocketId {
        match self.ok(Side::Downstream, &headers(0, stream, CONNECT)).pop() {
            Some(Event::Accepted { id, .. }) => id,
            other => panic!("{other:?}"),
        }
    }

    /// An upstream connection, open, and its stream.
    pub fn connected(&mut self) -> (SocketId, u32) {
        let (id, stream) = self.connecting();
        let head = headers(0, stream, OK);
        let events = self.ok(Side::Upstream, &head);
        assert!(matches!(events[..], [Event::Connected { .. }]), "{events:?}");
        (id, stream)
    }

    pub fn connecting(&mut self) -> (SocketId, u32) {
        let id = self.sockets.connect(&Target { cluster: "v1", ..Target::default() }).unwrap();
        let frames = self.sent_but_pings(Side::Upstream);
        let head = frames.iter().rfind(|frame| frame.kind == HEADERS).unwrap();
        (id, head.stream)
    }
}

/// Reset of a stream by a code, as a frame that is sent.
pub fn rst(stream: u32, code: Code) -> Frame {
    Frame { kind: RST_STREAM, flags: 0, stream, payload: code.number().to_be_bytes().to_vec() }
}
