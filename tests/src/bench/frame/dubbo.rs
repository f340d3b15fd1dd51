//! Dubbo's frames: made once and patched per request, and read no further than their front.

use super::{Seen, Template, Token, Unknown};
use crate::bench::Protocol;

/// Length of a Dubbo header.
const HEADER: usize = 16;

/// The interface that is called.
pub const INTERFACE: &str = "org.apache.dubbo.demo.DemoService";

/// The method that is called, with one string.
pub const METHOD: &str = "sayHello";

const MAGIC: [u8; 2] = [0xda, 0xbb];
const HESSIAN2: u8 = 2;
const REQUEST: u8 = 0x80;
const TWO_WAY: u8 = 0x40;
const EVENT: u8 = 0x20;
const OK: u8 = 20;
/// Response flag: a value, with attachments.
const VALUE_WITH_ATTACHMENTS: u8 = 0x94;
/// Chunk length of long strings, as Apache Dubbo's Hessian library writes them.
const CHUNK: usize = 0x8000;

/// Where the string of a request starts within its frame.
fn request_string() -> usize {
    HEADER + preamble().len()
}

/// Where the string of a response starts within its frame.
const RESPONSE_STRING: usize = HEADER + 1;

/// A call of [`METHOD`] with a string of `body` bytes.
pub(super) fn request(body: usize) -> Template {
    let mut content = preamble();
    let at = content.len();
    string(&"x".repeat(body), &mut content);
    content.push(b'H');
    for (name, value) in [
        ("path", INTERFACE),
        ("interface", INTERFACE),
        ("version", "0.0.0"),
        ("remote.application", "bench"),
        ("timeout", "5000"),
    ] {
        string(name, &mut content);
        string(value, &mut content);
    }
    content.push(b'Z');
    template(REQUEST | TWO_WAY | HESSIAN2, 0, &content, Some(at))
}

/// The successful answer to such a call: a string of `body` bytes.
pub(super) fn response(body: usize) -> Template {
    let mut content = vec![VALUE_WITH_ATTACHMENTS];
    string(&"y".repeat(body), &mut content);
    content.push(b'H');
    string("dubbo", &mut content);
    string("2.0.2", &mut content);
    content.push(b'Z');
    template(HESSIAN2, OK, &content, Some(1))
}

/// The answer to a heartbeat.
pub(super) fn heartbeat_reply() -> Template {
    template(EVENT | HESSIAN2, OK, b"N", None)
}

fn template(flags: u8, status: u8, content: &[u8], string: Option<usize>) -> Template {
    let mut frame = Vec::with_capacity(HEADER + content.len());
    frame.extend_from_slice(&MAGIC);
    frame.extend_from_slice(&[flags, status]);
    frame.extend_from_slice(&[0; 8]);
    frame.extend_from_slice(&u32::try_from(content.len()).expect("a short body").to_be_bytes());
    frame.extend_from_slice(content);
    let token = string.map(|at| HEADER + at).map(|at| at + string_header(frame[at]));
    let end = token.map_or(HEADER, |at| at + size_of::<Token>());
    Template::new(Protocol::Dubbo, frame, token, end, content.len())
}

/// Writes the id into a frame.
pub(super) fn set_id(frame: &mut [u8], id: u64) {
    frame[4..12].copy_from_slice(&id.to_be_bytes());
}

/// A request's body up to its arguments.
fn preamble() -> Vec<u8> {
    let mut out = Vec::new();
    for text in ["2.0.2", INTERFACE, "0.0.0", METHOD, "Ljava/lang/String;"] {
        string(text, &mut out);
    }
    out
}

/// Appends a Hessian2 string of ASCII text in the form that Apache Dubbo picks for its length.
fn string(text: &str, out: &mut Vec<u8>) {
    let mut rest = text.as_bytes();
    while rest.len() > CHUNK {
        let (chunk, more) = rest.split_at(CHUNK);
        out.push(b'R');
        out.extend_from_slice(&(CHUNK as u16).to_be_bytes());
        out.extend_from_slice(chunk);
        rest = more;
    }
    let len = (rest.len() as u16).to_be_bytes();
    match rest.len() {
        0..32 => out.push(len[1]),
        32..1024 => out.extend_from_slice(&[0x30 | len[0], len[1]]),
        _ => out.extend_from_slice(&[b'S', len[0], len[1]]),
    }
    out.extend_from_slice(rest);
}

/// Length of what precedes the text of a string that starts with the byte `first`.
fn string_header(first: u8) -> usize {
    match first {
        0..32 => 1,
        0x30..=0x33 => 2,
        _ => 3,
    }
}

/// Reads the front of the frame at the start of `bytes`, if it is there: the frame, its length, and the front's.
pub(super) fn look(bytes: &[u8]) -> Result<Option<(Seen, usize, usize)>, Unknown> {
    let Some((header, _)) = bytes.split_first_chunk::<HEADER>() else {
        return Ok(None);
    };
    if header[..2] != MAGIC {
        return Err(Unknown(Protocol::Dubbo.name()));
    }
    let flags = header[2];
    let request = flags & REQUEST != 0;
    let body_len = u32::from_be_bytes([header[12], header[13], header[14], header[15]]) as usize;
    let len = HEADER + body_len;
    let string = if request { request_string() } else { RESPONSE_STRING };
    let front = (string + 3 + size_of::<Token>()).min(len);
    let Some(front_bytes) = bytes.get(..front) else {
        return Ok(None);
    };
    let token = front_bytes
        .get(string)
        .map(|&first| string + string_header(first))
        .and_then(|at| front_bytes.get(at..at + size_of::<Token>()))
        .and_then(|token| token.try_into().ok())
        .unwrap_or_default();
    let seen = Seen {
        request,
        event: flags & EVENT != 0,
        two_way: flags & TWO_WAY != 0,
        ok: !request && header[3] == OK && front_bytes.get(HEADER) == Some(&VALUE_WITH_ATTACHMENTS),
        id: u64::from_be_bytes(std::array::from_fn(|i| header[4 + i])),
        token,
        body_len,
    };
    Ok(Some((seen, len, front)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_strings_are_written_in_chunks() {
        let mut out = Vec::new();
        string(&"z".repeat(70_000), &mut out);
        assert_eq!(out[..3], [b'R', 0x80, 0]);
        assert_eq!(out[3 + CHUNK..6 + CHUNK], [b'R', 0x80, 0]);
        let rest = (70_000u32 - 2 * 0x8000) as u16;
        assert_eq!(out[6 + 2 * CHUNK], b'S');
        assert_eq!(out[7 + 2 * CHUNK..9 + 2 * CHUNK], rest.to_be_bytes());
        assert_eq!(out.len(), 70_000 + 9);
    }
}
