//! Frames on the wire, RFC 9113 sections 4 and 6.

use crate::Code;

/// Bytes of a frame's head.
pub(crate) const HEAD: usize = 9;

/// What a client says first, section 3.4.
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The initial flow-control window of a connection and, until SETTINGS, of a stream (section 6.9.2).
pub(crate) const DEFAULT_WINDOW: u32 = 65_535;

/// The largest window (section 6.9.1), and stream id (section 5.1.1).
pub(crate) const MAX_31: u32 = 0x7fff_ffff;

/// The smallest and the largest SETTINGS_MAX_FRAME_SIZE.
pub(crate) const MIN_FRAME_SIZE: u32 = 16_384;
pub(crate) const MAX_FRAME_SIZE: u32 = 16_777_215;

pub(crate) mod kind {
    pub(crate) const DATA: u8 = 0x0;
    pub(crate) const HEADERS: u8 = 0x1;
    pub(crate) const PRIORITY: u8 = 0x2;
    pub(crate) const RST_STREAM: u8 = 0x3;
    pub(crate) const SETTINGS: u8 = 0x4;
    pub(crate) const PUSH_PROMISE: u8 = 0x5;
    pub(crate) const PING: u8 = 0x6;
    pub(crate) const GOAWAY: u8 = 0x7;
    pub(crate) const WINDOW_UPDATE: u8 = 0x8;
    pub(crate) const CONTINUATION: u8 = 0x9;
}

pub(crate) mod flag {
    pub(crate) const ACK: u8 = 0x1;
    pub(crate) const END_STREAM: u8 = 0x1;
    pub(crate) const END_HEADERS: u8 = 0x4;
    pub(crate) const PADDED: u8 = 0x8;
    pub(crate) const PRIORITY: u8 = 0x20;
}

pub(crate) mod setting {
    pub(crate) const HEADER_TABLE_SIZE: u16 = 0x1;
    pub(crate) const ENABLE_PUSH: u16 = 0x2;
    pub(crate) const MAX_CONCURRENT_STREAMS: u16 = 0x3;
    pub(crate) const INITIAL_WINDOW_SIZE: u16 = 0x4;
    pub(crate) const MAX_FRAME_SIZE: u16 = 0x5;
    pub(crate) const MAX_HEADER_LIST_SIZE: u16 = 0x6;
}

/// The head of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) length: u32,
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
}

impl Head {
    pub(crate) fn parse(bytes: [u8; HEAD]) -> Self {
        let [l0, l1, l2, kind, flags, s0, s1, s2, s3] = bytes;
        Self {
            length: u32::from_be_bytes([0, l0, l1, l2]),
            kind,
            flags,
            stream: u32::from_be_bytes([s0, s1, s2, s3]) & MAX_31,
        }
    }

    pub(crate) fn bytes(self) -> [u8; HEAD] {
        let [_, l0, l1, l2] = self.length.to_be_bytes();
        let [s0, s1, s2, s3] = self.stream.to_be_bytes();
        [l0, l1, l2, self.kind, self.flags, s0, s1, s2, s3]
    }

    pub(crate) fn put(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.bytes());
    }

    pub(crate) fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

pub(crate) fn put_settings(out: &mut Vec<u8>, settings: &[(u16, u32)]) {
    let length = u32::try_from(settings.len()).unwrap_or(0).saturating_mul(6);
    Head { length, kind: kind::SETTINGS, flags: 0, stream: 0 }.put(out);
    for (name, value) in settings {
        out.extend_from_slice(&name.to_be_bytes());
        out.extend_from_slice(&value.to_be_bytes());
    }
}

pub(crate) fn put_settings_ack(out: &mut Vec<u8>) {
    Head { length: 0, kind: kind::SETTINGS, flags: flag::ACK, stream: 0 }.put(out);
}

pub(crate) fn put_ping(out: &mut Vec<u8>, flags: u8, opaque: [u8; 8]) {
    Head { length: 8, kind: kind::PING, flags, stream: 0 }.put(out);
    out.extend_from_slice(&opaque);
}

pub(crate) fn put_goaway(out: &mut Vec<u8>, last_stream: u32, code: Code) {
    Head { length: 8, kind: kind::GOAWAY, flags: 0, stream: 0 }.put(out);
    out.extend_from_slice(&last_stream.to_be_bytes());
    out.extend_from_slice(&code.number().to_be_bytes());
}

pub(crate) fn put_rst_stream(out: &mut Vec<u8>, stream: u32, code: Code) {
    Head { length: 4, kind: kind::RST_STREAM, flags: 0, stream }.put(out);
    out.extend_from_slice(&code.number().to_be_bytes());
}

pub(crate) fn put_window_update(out: &mut Vec<u8>, stream: u32, increment: u32) {
    Head { length: 4, kind: kind::WINDOW_UPDATE, flags: 0, stream }.put(out);
    out.extend_from_slice(&increment.to_be_bytes());
}

/// A header block as HEADERS, and as many CONTINUATION as the peer's frame size makes it.
pub(crate) fn put_headers(out: &mut Vec<u8>, stream: u32, end_stream: bool, block: &[u8], frame_size: usize) {
    let mut kind = kind::HEADERS;
    let mut flags = if end_stream { flag::END_STREAM } else { 0 };
    let mut rest = block;
    loop {
        let (part, tail) = rest.split_at_checked(frame_size).unwrap_or((rest, &[]));
        if tail.is_empty() {
            flags |= flag::END_HEADERS;
        }
        let length = u32::try_from(part.len()).unwrap_or(0);
        Head { length, kind, flags, stream }.put(out);
        out.extend_from_slice(part);
        if tail.is_empty() {
            return;
        }
        (kind, flags, rest) = (kind::CONTINUATION, 0, tail);
    }
}

/// The first four bytes of a payload as a number.
pub(crate) fn number(payload: &[u8]) -> Option<u32> {
    payload.first_chunk().copied().map(u32::from_be_bytes)
}
