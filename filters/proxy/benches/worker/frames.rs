//! What Envoy and the clients send: HTTP/2 frames, and Dubbo's requests in them.

use std::iter;

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const WINDOW_UPDATE: u8 = 8;

/// The head of a Dubbo frame.
pub const HEADER: usize = 16;

/// The flag of the last frame of a message, or of an answer to SETTINGS and PING.
pub const END_STREAM: u8 = 1;

/// The longest DATA frame, with its head.
pub const FRAME: usize = 16_384 + 9;

/// An HTTP/2 frame.
pub struct Frame<'a> {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: &'a [u8],
}

/// The frames of these bytes, which start with one or with the preface.
pub fn frames(bytes: &[u8]) -> impl Iterator<Item = Frame<'_>> {
    let mut rest = bytes.strip_prefix(PREFACE).unwrap_or(bytes);
    iter::from_fn(move || {
        let (&[a, b, c, kind, flags, s0, s1, s2, s3], after) = rest.split_first_chunk()?;
        let (payload, after) = after.split_at(usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c));
        rest = after;
        Some(Frame { kind, flags, stream: u32::from_be_bytes([s0, s1, s2, s3]), payload })
    })
}

/// Lets the worker send 2^31-1 bytes on each stream and on all of them together.
pub fn put_windows(out: &mut Vec<u8>) {
    put_frame(out, SETTINGS, 0, 0, &[0, 4, 0x7f, 0xff, 0xff, 0xff]);
    put_frame(out, WINDOW_UPDATE, 0, 0, &0x7fff_0000_u32.to_be_bytes());
}

/// A Dubbo request of so many bytes, or a few more, with those attachments beside others: names and values in turn.
pub fn request(id: u64, method: &str, size: usize, more: &[&str]) -> Vec<u8> {
    let mut body = Vec::new();
    let short = |body: &mut Vec<u8>, text: &str| {
        match text.len() {
            len @ 0..32 => body.push(len as u8),
            len => body.extend([0x30 + (len >> 8) as u8, len as u8]),
        }
        body.extend_from_slice(text.as_bytes());
    };
    for text in ["2.0.2", "org.meltemi.demo.Greeter", "1.0.0", method, "[B"] {
        short(&mut body, text);
    }
    let mut attachments = vec![b'H'];
    let all = ["path", "org.meltemi.demo.Greeter", "interface", "org.meltemi.demo.Greeter", "tag", "gray"];
    for text in all.iter().chain(more) {
        short(&mut attachments, text);
    }
    attachments.push(b'Z');
    let mut argument = size.saturating_sub(HEADER + body.len() + attachments.len() + 3);
    while argument > 0xffff {
        // A chunk that others follow.
        body.extend([b'A', 0xff, 0xff]);
        body.resize(body.len() + 0xffff, 7);
        argument -= 0xffff;
    }
    body.push(b'B');
    body.extend_from_slice(&(argument as u16).to_be_bytes());
    body.resize(body.len() + argument, 7);
    body.append(&mut attachments);
    let mut frame = vec![0xda, 0xbb, 0xc2, 0];
    frame.extend_from_slice(&id.to_be_bytes());
    frame.extend_from_slice(&(body.len() as u32).to_be_bytes());
    frame.append(&mut body);
    frame
}

pub fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        // A literal without indexing, RFC 7541 section 6.2.2.
        block.push(0);
        for text in [name, value] {
            block.push(text.len() as u8);
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

pub fn put_data(out: &mut Vec<u8>, stream: u32, bytes: &[u8]) {
    for chunk in bytes.chunks(16_384) {
        put_frame(out, DATA, 0, stream, chunk);
    }
}

pub fn put_frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    out.extend_from_slice(&(payload.len() as u32).to_be_bytes()[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}
